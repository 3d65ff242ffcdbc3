//! The columns `kubectl get` prints, per kind; those of priority 1 only with `-o wide`.

mod built_in;

use serde_json::{Value, json};

pub(super) use self::built_in::*;
use super::age::age;
use super::json_path::JsonPath;

/// One column of the table form.
#[derive(Clone)]
pub struct Column {
    /// Heading.
    pub name: String,
    /// JSON type of the cells: `string` or `integer`; `date` for those of definitions.
    pub cell_type: String,
    /// Further type information; `name` marks the column of names.
    pub format: String,
    /// What the column says, where a definition brings it.
    pub description: String,
    /// Shown by default when 0.
    pub priority: i64,
    /// Where cells come from.
    pub cell: Cell,
}

/// How a cell is read from an object.
#[derive(Clone)]
pub enum Cell {
    /// By code.
    Code(fn(&Value) -> Value),
    /// By the path a CustomResourceDefinition gives.
    Path(JsonPath),
}

impl Column {
    /// The cell of `object`.
    pub fn cell(&self, object: &Value) -> Value {
        let path = match &self.cell {
            Cell::Code(read) => return read(object),
            Cell::Path(path) => path,
        };
        let found = path.first(object);
        match (self.cell_type.as_str(), found) {
            (_, None) => Value::Null,
            ("date", Some(time)) => json!(age(time)),
            ("string", Some(value)) => json!(plain_text(value)),
            (_, Some(value)) => value.clone(),
        }
    }

    fn wide(mut self) -> Self {
        self.priority = 1;
        self
    }
}

/// A value as a string cell shows it.
fn plain_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn column(name: &str, cell_type: &str, format: &str, cell: Cell) -> Column {
    let (name, cell_type, format) = (name.into(), cell_type.into(), format.into());
    Column { name, cell_type, format, description: String::new(), priority: 0, cell }
}

fn text(name: &str, cell: fn(&Value) -> Value) -> Column {
    column(name, "string", "", Cell::Code(cell))
}

fn number(name: &str, cell: fn(&Value) -> Value) -> Column {
    column(name, "integer", "", Cell::Code(cell))
}

fn wide(name: &str, cell: fn(&Value) -> Value) -> Column {
    text(name, cell).wide()
}

fn name() -> Column {
    column("Name", "string", "name", Cell::Code(|o| o["metadata"]["name"].clone()))
}

fn created() -> Column {
    text("Age", |o| json!(age(&o["metadata"]["creationTimestamp"])))
}

/// Name and age.
pub(super) fn plain() -> Vec<Column> {
    vec![name(), created()]
}

/// The columns a CustomResourceDefinition's version gives, after the name; without any, the age.
pub(super) fn of_definition(version: &Value) -> Vec<Column> {
    let given = list(&version["additionalPrinterColumns"]);
    let read = |c: &Value| Column {
        name: c["name"].as_str().unwrap_or_default().into(),
        cell_type: c["type"].as_str().unwrap_or("string").into(),
        format: c["format"].as_str().unwrap_or_default().into(),
        description: c["description"].as_str().unwrap_or_default().into(),
        priority: c["priority"].as_i64().unwrap_or(0),
        cell: Cell::Path(JsonPath::parse(c["jsonPath"].as_str().unwrap_or_default())),
    };
    let rest = if given.is_empty() { vec![created()] } else { given.iter().map(read).collect() };
    std::iter::once(name()).chain(rest).collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
