//! A scenario's timeline for people: at most 120 columns wide, row by row as the seconds pass. Pure.

use std::collections::BTreeMap;

use crate::cli::table::plain;
use crate::sim::lab::scenario::Report;
use crate::sim::lab::timeline::{ClientRow, Row, Weights};

/// Width of each column and the blank columns after it.
const COLUMNS: [(&str, usize); 9] = [
    ("T", 4),
    ("CLIENT", 7),
    ("OK", 4),
    ("FAIL", 5),
    ("ANSWERED BY", 23),
    ("WEIGHTS OF HELLOWORLD", 42),
    ("CDS", 4),
    ("EDS", 4),
    ("CLUSTERS, IT IS TOLD", 27),
];
const BOLD: &str = "\u{1b}[1m";
const RED: &str = "\u{1b}[31m";
const GREEN: &str = "\u{1b}[32m";
const PLAIN: &str = "\u{1b}[0m";

/// Whether text may be coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    Plain,
    Coloured,
}

impl Look {
    /// Colours on a terminal, unless `NO_COLOR` says otherwise.
    pub(super) fn of(terminal: bool) -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if terminal && !refused { Self::Coloured } else { Self::Plain }
    }

    fn paint(self, colour: &str, text: &str) -> String {
        match self {
            Self::Plain => text.to_owned(),
            Self::Coloured => format!("{colour}{text}{PLAIN}"),
        }
    }
}

/// The headings.
pub(super) fn head(look: Look) -> String {
    let line = line(&COLUMNS.map(|(name, _)| name.to_owned()));
    look.paint(BOLD, line.trim_end()) + "\n"
}

/// One second: what was done, then a line or more per client.
pub(super) fn row(row: &Row, look: Look) -> String {
    let mut text = String::new();
    for mark in &row.marks {
        let seconds = std::time::Duration::from_millis(mark.at_ms).as_secs_f64();
        let line = format!("  > {seconds:.1} s: {}", plain(&mark.what));
        text += &(look.paint(BOLD, &line) + "\n");
    }
    let mut planes = row.control_planes.iter();
    for (at, (name, client)) in row.clients.iter().enumerate() {
        // Where one control plane serves several clusters, or one of none, it is shown where there is room.
        let own = row.control_planes.get(name);
        let plane = if row.control_planes.len() == row.clients.len() && own.is_some() {
            own.map(|health| (name, health))
        } else {
            planes.next()
        };
        let seconds = if at == 0 { row.t.to_string() } else { String::new() };
        let health = plane.map(|(plane, health)| states(name, plane, health)).unwrap_or_default();
        text += &client_lines(seconds, name, client, health, look);
    }
    text
}

fn client_lines(seconds: String, name: &str, client: &ClientRow, health: Vec<String>, look: Look) -> String {
    let by: Vec<String> =
        client.requests.by.iter().map(|(who, count)| format!("{} {count}", plain(who))).collect();
    let errors = client.requests.errors.iter().map(|(why, count)| format!("{count} x {}", plain(why)));
    let lists: [Vec<String>; 9] = [
        vec![seconds],
        vec![plain(name)],
        vec![client.requests.ok.to_string()],
        vec![client.requests.failed.to_string()],
        pack(&by, COLUMNS[4].1 - 1),
        pack(&grouped(&client.weights), COLUMNS[5].1 - 1),
        vec![client.updates.cds.to_string()],
        vec![client.updates.eds.to_string()],
        health,
    ];
    let height = lists.iter().map(Vec::len).max().unwrap_or(1);
    let mut text = String::new();
    for at in 0..height {
        let cells = lists.each_ref().map(|list| list.get(at).cloned().unwrap_or_default());
        text += line(&cells).trim_end();
        text += "\n";
    }
    if client.requests.failed > 0 {
        text = look.paint(RED, text.trim_end()) + "\n";
    }
    for error in errors {
        text += &(look.paint(RED, &format!("           {error}")) + "\n");
    }
    text
}

fn line(cells: &[String; 9]) -> String {
    let padded = cells.iter().zip(COLUMNS).map(|(cell, (_, width))| format!("{cell:width$}"));
    padded.collect()
}

/// `east live`, one each; of a control plane called otherwise than its client `external: east live`.
fn states(client: &str, plane: &str, health: &BTreeMap<String, String>) -> Vec<String> {
    let prefix = if client == plane { String::new() } else { format!("{}: ", plain(plane)) };
    if health.is_empty() {
        return vec![format!("{prefix}does not answer")];
    }
    let words = health.iter().map(|(cluster, word)| format!("{} {}", plain(cluster), plain(word)));
    pack(&words.collect::<Vec<_>>(), COLUMNS[8].1 - prefix.len())
        .into_iter()
        .map(|line| format!("{prefix}{line}"))
        .collect()
}

/// Joins `parts` by commas into lines of at most `width`, never breaking a part.
fn pack(parts: &[String], width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for part in parts {
        match lines.last_mut() {
            Some(line) if line.len() + 2 + part.len() <= width => {
                line.push_str(", ");
                line.push_str(part);
            }
            _ => lines.push(part.clone()),
        }
    }
    lines
}

/// `address:port wN` each; neighbours that differ in their last number only are one: `10.10.2.{1,2}:5000 w1`.
fn grouped(weights: &Weights) -> Vec<String> {
    if weights.is_empty() {
        return vec!["none".to_owned()];
    }
    let mut groups: Vec<(String, Vec<u16>, String)> = Vec::new();
    for (host, weight) in weights {
        let (start, last, port) = parts(host);
        let rest = format!("{port} w{weight}");
        match (groups.iter_mut().find(|(s, l, r)| *s == start && *r == rest && !l.is_empty()), last) {
            (Some((_, numbers, _)), Some(last)) => numbers.push(last),
            (_, last) => groups.push((start, last.into_iter().collect(), rest)),
        }
    }
    groups
        .into_iter()
        .map(|(start, mut numbers, rest)| {
            numbers.sort_unstable();
            let text: Vec<String> = numbers.iter().map(ToString::to_string).collect();
            match text.len() {
                0 | 1 => format!("{start}{}{rest}", text.concat()),
                2..=4 => format!("{start}{{{}}}{rest}", text.join(",")),
                count => format!("{start}{{{count} hosts}}{rest}"),
            }
        })
        .collect()
}

/// `10.10.2.1:5000` → `10.10.2.`, 1, `:5000`; what is no such address stays whole.
fn parts(host: &str) -> (String, Option<u16>, String) {
    let split = host.rsplit_once(':').and_then(|(address, port)| {
        let (start, last) = address.rsplit_once('.')?;
        Some((format!("{start}."), last.parse().ok()?, format!(":{port}")))
    });
    match split {
        Some((start, last, port)) => (start, Some(last), port),
        None => (plain(host), None, String::new()),
    }
}

/// The expectations, one line each, and the sum.
pub(super) fn verdict(report: &Report, look: Look) -> String {
    let width = report.checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    let mut text = String::from("\n");
    for check in &report.checks {
        let word = if check.ok { look.paint(GREEN, "ok    ") } else { look.paint(RED, "FAILED") };
        text += &format!("{:width$}  {word}  {}\n", check.name, plain(&check.detail));
    }
    let held = report.checks.iter().filter(|check| check.ok).count();
    text += &format!("\n{held} of {} expectations hold", report.checks.len());
    if let Some(kept) = &report.kept {
        text += &format!("; kept as {}", kept.display());
    }
    text + "\n"
}

#[cfg(test)]
mod tests;
