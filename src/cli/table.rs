//! How answers are printed: columns like kubectl's, JSON or YAML.

use std::io::IsTerminal as _;

use clap::ValueEnum;
use comfy_table::{ColumnConstraint, ContentArrangement, Table, Width, presets};
use serde::Serialize;

use super::printing;

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
    if text.lines().count() == 1 && matches!(output, Output::Table | Output::Wide) {
        printing::note(&"nothing to show");
    }
    printing::data(&text);
    Ok(())
}

/// Columns without borders, two spaces apart. An empty cell is a dash, so that columns can be counted. Control
/// characters in cells are escaped: peers choose many of the texts. On a terminal the last columns wrap.
pub(super) fn columns(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let width = std::io::stdout().is_terminal().then(|| Table::new().width()).flatten();
    fitted(header, rows, width)
}

/// The columns, in so many characters if they can be.
pub(super) fn fitted(
    header: &[&str],
    rows: impl IntoIterator<Item = Vec<String>>,
    width: Option<u16>,
) -> String {
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
    if let Some(width) = width {
        narrow(&mut table, header, width);
    }
    let lines = table.lines().map(|line| line.trim_end().to_owned() + "\n");
    lines.collect()
}

/// What a column is not narrower than, unless its content is.
const LEAST: u16 = 10;

/// Narrows the last columns until all fit into `width`; nothing if they never do, as with many columns.
fn narrow(table: &mut Table, header: &[&str], width: u16) {
    let natural = table.column_max_content_widths();
    let total: u16 = natural.iter().map(|width| width.saturating_add(2)).fold(0, u16::saturating_add);
    // Nothing comes after the last column.
    let mut over = total.saturating_sub(2).saturating_sub(width);
    let mut narrower = natural.clone();
    for (index, wide) in narrower.iter_mut().enumerate().rev() {
        let title = header.get(index).map_or(0, |title| u16::try_from(title.len()).unwrap_or(u16::MAX));
        let least = title.max(LEAST).min(*wide);
        let less = over.min(*wide - least);
        *wide -= less;
        over -= less;
    }
    if over > 0 {
        return;
    }
    for (index, (before, now)) in natural.iter().zip(&narrower).enumerate() {
        if let Some(column) = table.column_mut(index).filter(|_| now < before) {
            column.set_constraint(ColumnConstraint::Absolute(Width::Fixed(now + 2)));
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_have_no_borders_no_trailing_blanks_and_no_holes() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        let text = columns(&["NAME", "STATUS"], [row(["a-long-name", "x\u{1b}[2J"]), row(["", "b"])]);
        assert_eq!(text, "NAME         STATUS\na-long-name  x\\u{1b}[2J\n-            b\n");
    }

    #[test]
    fn on_a_terminal_the_last_columns_wrap_and_no_line_is_too_long() {
        let row = || {
            vec![
                "a-name".to_owned(),
                "live".to_owned(),
                "secret istio-system/remote-west, key west".to_owned(),
            ]
        };
        let text = fitted(&["NAME", "HEALTH", "SOURCE"], [row()], Some(40));
        assert!(text.lines().all(|line| line.len() <= 40), "{text}");
        let words = |text: &str| text.split_whitespace().collect::<String>();
        assert_eq!(
            words(&text),
            words(&fitted(&["NAME", "HEALTH", "SOURCE"], [row()], None)),
            "nothing is lost"
        );
        assert_eq!(fitted(&["NAME", "HEALTH", "SOURCE"], [row()], Some(8)).lines().count(), 2, "in vain");
    }
}
