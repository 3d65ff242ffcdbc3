//! How answers are printed: columns like kubectl's, JSON or YAML.

use std::io::Write as _;

use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

/// The form of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// Columns.
    #[default]
    Table,
    /// More columns.
    Wide,
    /// JSON, indented.
    Json,
    /// YAML.
    Yaml,
}

/// Prints `answer` in the form asked for; `short` and `wide` make the columns.
///
/// # Errors
/// The answer cannot be written as a document.
pub(super) fn show(
    output: Output,
    answer: &serde_json::Value,
    short: impl FnOnce(&serde_json::Value) -> String,
    wide: impl FnOnce(&serde_json::Value) -> String,
) -> anyhow::Result<()> {
    let text = match output {
        Output::Table => short(answer),
        Output::Wide => wide(answer),
        form => document(form, answer)?,
    };
    print(&text);
    Ok(())
}

/// Columns without borders, two spaces apart. An empty cell is a dash, so that columns can be counted. Control
/// characters in cells are escaped: peers choose many of the texts.
pub(super) fn columns(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(header);
    for row in rows {
        table.add_row(row.iter().map(|cell| if cell.is_empty() { "-".to_owned() } else { plain(cell) }));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines = table.lines().map(|line| line.trim_end().to_owned() + "\n");
    lines.collect()
}

/// `text` with control characters escaped.
pub(super) fn plain(text: &str) -> String {
    let escape =
        |c: char| -> String { if c.is_control() { c.escape_default().collect() } else { c.to_string() } };
    text.chars().map(escape).collect()
}

/// JSON or YAML of `value`, ending in a newline.
pub(super) fn document(output: Output, value: &impl Serialize) -> anyhow::Result<String> {
    let text = match output {
        Output::Yaml => serde_saphyr::to_string(value)?,
        _ => serde_json::to_string_pretty(value)?,
    };
    Ok(text.trim_end().to_owned() + "\n")
}

/// Writes data to stdout. A reader that went away wants nothing more.
pub(super) fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_have_no_borders_no_trailing_blanks_and_no_holes() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        let text = columns(&["NAME", "STATUS"], [row(["a-long-name", "x\u{1b}[2J"]), row(["", "b"])]);
        assert_eq!(text, "NAME         STATUS\na-long-name  x\\u{1b}[2J\n-            b\n");
    }
}
