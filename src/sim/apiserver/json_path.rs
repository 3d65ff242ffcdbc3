//! The part of JSONPath that CustomResourceDefinitions use: `.spec.replicas`, `.status.ports[0].name`,
//! `.status.conditions[?(@.type=="Ready")].status`, `.metadata.annotations['a/b']`, `[*]`.

use serde_json::Value;

/// A parsed path. One that cannot be read finds nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonPath(Option<Vec<Step>>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Field(String),
    Index(i64),
    All,
    /// Elements whose field, found by these names, has this text.
    Where(Vec<String>, String),
}

impl JsonPath {
    /// Reads a path as definitions write it, with or without braces and a leading `$`.
    pub(super) fn parse(text: &str) -> Self {
        let text = text.trim();
        let text = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')).unwrap_or(text);
        Self(parse_steps(text.strip_prefix('$').unwrap_or(text)))
    }

    /// The names on the way, when the path is made of nothing else.
    pub(super) fn fields(&self) -> Option<Vec<&str>> {
        let steps = self.0.as_ref()?.iter();
        steps.map(|step| if let Step::Field(name) = step { Some(name.as_str()) } else { None }).collect()
    }

    /// The first value the path finds.
    pub(super) fn first<'a>(&self, value: &'a Value) -> Option<&'a Value> {
        let mut found = vec![value];
        for step in self.0.as_ref()? {
            found = found.into_iter().flat_map(|value| step.of(value)).collect();
        }
        found.into_iter().find(|value| !value.is_null())
    }
}

impl Step {
    fn of<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        let items = || value.as_array().map_or(&[][..], Vec::as_slice);
        match self {
            Self::Field(name) => value.get(name).into_iter().collect(),
            Self::Index(at) => {
                let at = if *at < 0 { items().len() as i64 + at } else { *at };
                usize::try_from(at).ok().and_then(|at| items().get(at)).into_iter().collect()
            }
            Self::All => items().iter().collect(),
            Self::Where(fields, wanted) => {
                let same = |item: &&Value| match fields.iter().try_fold(*item, |value, name| value.get(name))
                {
                    Some(Value::String(text)) => text == wanted,
                    Some(other) => *wanted == format!("{other}"),
                    None => false,
                };
                items().iter().filter(same).collect()
            }
        }
    }
}

fn parse_steps(mut rest: &str) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('[') {
            let end = closing(after)?;
            steps.push(parse_bracket(after[..end].trim())?);
            rest = &after[end + 1..];
            continue;
        }
        rest = rest.strip_prefix('.').unwrap_or(rest);
        if rest.starts_with('[') {
            continue;
        }
        let (name, after) = take_name(rest);
        if name.is_empty() {
            return if after.is_empty() { Some(steps) } else { None };
        }
        steps.push(if name == "*" { Step::All } else { Step::Field(name) });
        rest = after;
    }
    Some(steps)
}

/// Where the bracket that was opened before `text` closes, quotes respected.
fn closing(text: &str) -> Option<usize> {
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (None, ']') => return Some(at),
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            _ => {}
        }
    }
    None
}

/// A field name up to the next dot or bracket; a backslash takes the next character as it is.
fn take_name(text: &str) -> (String, &str) {
    let mut name = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '.' | '[' => return (name, &text[at..]),
            '\\' => name.extend(chars.next().map(|(_, c)| c)),
            c => name.push(c),
        }
    }
    (name, "")
}

fn unquoted(text: &str) -> Option<&str> {
    let text = text.trim();
    ['\'', '"'].iter().find_map(|quote| text.strip_prefix(*quote)?.strip_suffix(*quote))
}

fn parse_bracket(inside: &str) -> Option<Step> {
    if inside == "*" {
        return Some(Step::All);
    }
    if let Some(name) = unquoted(inside) {
        return Some(Step::Field(name.to_owned()));
    }
    if let Some(condition) = inside.strip_prefix("?(").and_then(|rest| rest.strip_suffix(')')) {
        let (field, wanted) = condition.split_once("==")?;
        let field = field.trim().strip_prefix("@.")?;
        let wanted = unquoted(wanted).unwrap_or(wanted.trim());
        return Some(Step::Where(field.split('.').map(str::to_owned).collect(), wanted.to_owned()));
    }
    inside.parse().ok().map(Step::Index)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_of_printer_columns_are_followed() {
        let object = json!({
            "metadata": {"annotations": {"a.b/c": "noted"}},
            "spec": {"replicas": 3, "ports": [{"name": "x"}, {"name": "y"}]},
            "status": {"conditions": [{"type": "Synced", "status": "False"}, {"type": "Ready", "status": "True"}]},
        });
        for (path, want) in [
            (".spec.replicas", json!(3)),
            ("{.spec.replicas}", json!(3)),
            (".spec.ports[1].name", json!("y")),
            (".spec.ports[-1].name", json!("y")),
            (".spec.ports[*].name", json!("x")),
            (r#".status.conditions[?(@.type=="Ready")].status"#, json!("True")),
            (".metadata.annotations['a.b/c']", json!("noted")),
            (r".metadata.annotations.a\.b/c", json!("noted")),
        ] {
            assert_eq!(JsonPath::parse(path).first(&object), Some(&want), "{path}");
        }
        for absent in [".spec.none", ".spec.ports[7]", ".spec[", ".spec..x"] {
            assert_eq!(JsonPath::parse(absent).first(&object), None, "{absent}");
        }
    }
}
