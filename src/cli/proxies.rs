//! `tombolo proxies`.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;

use super::client::{self, ServerArgs, encode, rows, text};
use super::table::{self, Output};

/// The types, in the order of the columns.
const TYPES: [&str; 5] = ["cds", "lds", "eds", "rds", "sds"];
/// How much of a version is shown: enough to compare two proxies.
const VERSION: usize = 8;
/// How much of a rejection's text is shown.
const REASON: usize = 40;

/// Arguments of `tombolo proxies`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    server: ServerArgs,
    /// Only proxies of this namespace
    #[arg(long, short, value_name = "NS")]
    namespace: Option<String>,
    /// Form of the answer
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

/// Runs the command.
pub async fn run(args: Args) -> ExitCode {
    client::finish(show(&args).await)
}

async fn show(args: &Args) -> anyhow::Result<()> {
    let namespace = args.namespace.as_deref().map(encode);
    let query = namespace.map(|namespace| format!("?namespace={namespace}"));
    let answer = client::fetch(&args.server, &format!("/debug/proxies{}", query.unwrap_or_default())).await?;
    table::show(args.output, &answer, short, wide)
}

fn short(answer: &Value) -> String {
    let line = |row: &Value| {
        let mut cells = ["proxy", "cluster", "network", "type", "version"].map(|key| text(row, key)).to_vec();
        cells.push(status(row).to_owned());
        cells.push(subscribed(row));
        cells
    };
    let header = ["NAME", "CLUSTER", "NETWORK", "TYPE", "VERSION", "STATUS", "SUBSCRIBED"];
    table::columns(&header, rows(answer).iter().map(line))
}

/// The state of the type that needs most attention: a rejection, then an answer that is not accepted yet.
fn status(row: &Value) -> &'static str {
    let any = |word: &str| TYPES.iter().any(|kind| row["types"][*kind]["status"] == word);
    ["ERROR", "STALE"].into_iter().find(|word| any(word)).unwrap_or("SYNCED")
}

/// `4 (CDS,LDS,EDS,RDS)`, as istioctl counts.
fn subscribed(row: &Value) -> String {
    let types: Vec<_> = TYPES
        .iter()
        .filter(|kind| row["types"].get(**kind).is_some())
        .map(|kind| kind.to_uppercase())
        .collect();
    format!("{} ({})", types.len(), types.join(","))
}

/// A line for each type of each proxy, narrow enough for 120 characters; the rest is in the documents.
fn wide(answer: &Value) -> String {
    let header = ["NAME", "CLUSTER", "TYPE", "STATUS", "SENT", "AGE", "ACKED", "LAG", "NACKED"];
    table::columns(&header, rows(answer).iter().flat_map(lines))
}

fn lines(row: &Value) -> Vec<Vec<String>> {
    let of_proxy = ["proxy", "cluster"].map(|key| text(row, key));
    let line = |cells: Vec<String>| of_proxy.iter().cloned().chain(cells).collect::<Vec<_>>();
    let asked = TYPES.iter().filter_map(|kind| Some((kind, row["types"].get(*kind)?)));
    let lines: Vec<_> = asked.map(|(kind, state)| line(cells(kind, state))).collect();
    // A proxy that has asked for nothing is connected all the same.
    if lines.is_empty() { vec![line(vec![String::new(); 7])] } else { lines }
}

fn cells(kind: &str, state: &Value) -> Vec<String> {
    let nonce = text(state, "sentNonce");
    let version: String = text(state, "version").chars().take(VERSION).collect();
    let age = |key: &str| state[key].as_u64().map(ago).unwrap_or_default();
    vec![
        kind.to_uppercase(),
        text(state, "status"),
        format!("{nonce} {version}").trim().to_owned(),
        age("sentAgeMs"),
        text(state, "ackedNonce"),
        age("lagMs"),
        shortened(&text(state, "lastError")),
    ]
}

/// The beginning of what a proxy says; all of it is in the documents.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(REASON) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Two units at most; less than a second in milliseconds.
fn ago(millis: u64) -> String {
    if (1..1000).contains(&millis) {
        return format!("{millis}ms");
    }
    let text = humantime::format_duration(Duration::from_secs(millis / 1000)).to_string();
    text.split(' ').take(2).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn answer() -> Value {
        let error =
            "Error adding/updating listener(s) 0.0.0.0_80: Proto constraint validation failed\u{1b}[2J";
        let of = |status: &str,
                  nonce: &str,
                  acked: &str,
                  sent: u64,
                  lag: Option<u64>,
                  error: Option<&str>| {
            json!({"status": status, "sentNonce": nonce, "ackedNonce": acked, "sentAgeMs": sent, "lagMs": lag,
                "version": "0123456789abcdef0123456789abcdef", "lastError": error})
        };
        let types = json!({
            "cds": of("SYNCED", "21", "21", 3_725_000, None, None),
            "eds": of("STALE", "34", "31", 40, Some(12_000), None),
            "lds": of("ERROR", "30", "22", 61_000, None, Some(error)),
            "rds": {"status": "NOT_SENT", "sentNonce": "", "ackedNonce": "", "sentAgeMs": null, "version": ""},
        });
        let proxy = |name: &str, types: Value| {
            json!({"proxy": name, "cluster": "east", "network": "net-east", "type": "sidecar", "version": "1.40.0",
                "protocol": "delta", "connectedMs": 4_000_000, "peer": "10.0.0.1:1", "types": types})
        };
        json!([proxy("productpage-v1-6b746f74dc-9rlmh.bookinfo", types), proxy("sleep.sample", json!({}))])
    }

    #[test]
    fn the_table_has_a_line_for_each_proxy() {
        let wanted = "\
NAME                                      CLUSTER  NETWORK   TYPE     VERSION  STATUS  SUBSCRIBED
productpage-v1-6b746f74dc-9rlmh.bookinfo  east     net-east  sidecar  1.40.0   ERROR   4 (CDS,LDS,EDS,RDS)
sleep.sample                              east     net-east  sidecar  1.40.0   SYNCED  0 ()
";
        assert_eq!(short(&answer()), wanted);
    }

    #[test]
    fn the_wide_table_has_a_line_for_each_type_and_fits_on_a_screen() {
        let wanted = "\
NAME                                      CLUSTER  TYPE  STATUS    SENT         AGE   ACKED  LAG  NACKED
productpage-v1-6b746f74dc-9rlmh.bookinfo  east     CDS   SYNCED    21 01234567  1h2m  21     -    -
productpage-v1-6b746f74dc-9rlmh.bookinfo  east     LDS   ERROR     30 01234567  1m1s  22     -    Error adding/updating listener(s) 0.0.0.…
productpage-v1-6b746f74dc-9rlmh.bookinfo  east     EDS   STALE     34 01234567  40ms  31     12s  -
productpage-v1-6b746f74dc-9rlmh.bookinfo  east     RDS   NOT_SENT  -            -     -      -    -
sleep.sample                              east     -     -         -            -     -      -    -
";
        assert_eq!(wide(&answer()), wanted);
    }

    #[test]
    fn on_a_terminal_of_120_characters_only_the_text_of_a_rejection_wraps() {
        let header = ["NAME", "CLUSTER", "TYPE", "STATUS", "SENT", "AGE", "ACKED", "LAG", "NACKED"];
        let text = table::fitted(&header, rows(&answer()).iter().flat_map(lines), Some(120));
        assert!(text.lines().all(|line| line.chars().count() <= 120), "{text}");
        assert!(text.lines().filter(|line| line.starts_with("productpage")).count() == 4, "{text}");
    }

    #[test]
    fn the_worst_type_is_the_proxys_state() {
        let of = |cds: &str, eds: &str| {
            status(&json!({"types": {"cds": {"status": cds}, "eds": {"status": eds}}}))
        };
        assert_eq!(of("SYNCED", "NOT_SENT"), "SYNCED");
        assert_eq!(of("SYNCED", "STALE"), "STALE");
        assert_eq!(of("ERROR", "STALE"), "ERROR");
    }
}
