//! `tombolo clusters`.

use std::process::ExitCode;

use serde_json::Value;

use super::client::{self, ServerArgs, rows, text};
use super::table::{self, Output};

/// Arguments of `tombolo clusters`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    server: ServerArgs,
    /// Form of the answer
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

/// Runs the command.
pub async fn run(args: Args) -> ExitCode {
    client::finish(show(&args).await)
}

async fn show(args: &Args) -> anyhow::Result<()> {
    let answer = client::fetch(&args.server, "/debug/clusters").await?;
    table::show(args.output, &answer, short, wide)
}

fn short(answer: &Value) -> String {
    let line = |row: &Value| {
        let mut cells = ["id", "role", "syncStatus"].map(|key| text(row, key)).to_vec();
        cells.push(health(row));
        cells.extend(ages(row));
        cells.extend(["network", "source"].map(|key| text(row, key)));
        cells
    };
    let header =
        ["NAME", "ROLE", "STATUS", "HEALTH", "SINCE", "LAST-EVENT", "LAST-CONTACT", "NETWORK", "SOURCE"];
    table::columns(&header, rows(&answer["clusters"]).iter().map(line)) + &problems(answer)
}

/// The state, and what its endpoints are worth if that is less than others': `stale,demoted`.
fn health(row: &Value) -> String {
    let (health, standing) = (text(row, "health"), text(row, "standing"));
    if standing.is_empty() || standing == "regular" { health } else { format!("{health},{standing}") }
}

fn ages(row: &Value) -> [String; 3] {
    ["sinceSeconds", "lastEventSeconds", "lastContactSeconds"].map(|key| age(&row[key]))
}

fn wide(answer: &Value) -> String {
    let clusters = rows(&answer["clusters"]);
    let header = [
        "NAME",
        "ROLE",
        "STATUS",
        "HEALTH",
        "DETAIL",
        "SINCE",
        "LAST-EVENT",
        "LAST-CONTACT",
        "STALE",
        "STANDING",
        "NETWORK",
        "OBJECTS",
        "LISTS",
        "QUARANTINED",
        "PENDING-PODS",
        "HELD",
        "BYTES-IN",
        "MEMORY",
        "API",
        "UID",
        "START",
        "IF-STALE",
        "CREDENTIALS",
        "EXPIRES",
        "SOURCE",
    ];
    table::columns(&header, clusters.iter().map(full))
        + &sources(clusters)
        + &quarantined(clusters)
        + &problems(answer)
}

fn full(row: &Value) -> Vec<String> {
    let mut cells = ["id", "role", "syncStatus", "health", "detail"].map(|key| text(row, key)).to_vec();
    cells.extend(ages(row));
    cells.extend([
        age(&row["staleSeconds"]),
        text(row, "standing"),
        text(row, "network"),
        counts(&row["objects"]),
        counts(&row["lists"]),
    ]);
    cells.extend(["quarantinedObjects", "pendingPods", "massDeleteHolds"].map(|key| text(row, key)));
    cells.extend([bytes(&row["bytesIn"]), bytes(&row["memoryBytes"]), api(&row["api"])]);
    cells.extend(["uid", "start", "stalePolicy"].map(|key| text(row, key)));
    cells.extend([credentials(row), text(row, "credentialsExpire"), text(row, "source")]);
    cells
}

/// How much time they have left, and whether others can be had: `within-7d,failing`.
fn credentials(row: &Value) -> String {
    let state = text(row, "credentials");
    if row["credentialsProblem"].is_string() { format!("{state},failing") } else { state }
}

/// Encoding and how lists come: `protobuf,streams`.
fn api(api: &Value) -> String {
    let lists = match api["streamingLists"].as_bool() {
        Some(true) => "streams",
        Some(false) => "pages",
        None => "",
    };
    let parts = [text(api, "encoding"), lists.to_owned()];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(",")
}

/// `a=1,b=2`.
fn counts(value: &Value) -> String {
    let pairs = value.as_object().into_iter().flatten();
    pairs.map(|(key, count)| format!("{key}={count}")).collect::<Vec<_>>().join(",")
}

fn sources(clusters: &[Value]) -> String {
    let lines = clusters.iter().flat_map(|cluster| {
        rows(&cluster["sources"]).iter().map(move |row| {
            let mut cells = vec![text(cluster, "id"), text(row, "kind"), text(row, "state")];
            cells.extend(ages(row));
            cells.extend([
                text(row, "objects"),
                counts(&row["lists"]),
                text(row, "failures"),
                bytes(&row["bytesIn"]),
            ]);
            cells.extend([age(&row["retryAfterSeconds"]), text(row, "detail")]);
            cells
        })
    });
    let header = [
        "CLUSTER",
        "KIND",
        "STATE",
        "SINCE",
        "LAST-EVENT",
        "LAST-CONTACT",
        "OBJECTS",
        "LISTS",
        "FAILURES",
        "BYTES-IN",
        "RETRY-AFTER",
        "DETAIL",
    ];
    section(&header, lines.collect())
}

fn quarantined(clusters: &[Value]) -> String {
    let lines = clusters.iter().flat_map(|cluster| {
        let objects = rows(&cluster["quarantined"]).iter().filter_map(Value::as_str);
        objects.map(move |object| vec![text(cluster, "id"), object.to_owned()])
    });
    section(&["CLUSTER", "QUARANTINED"], lines.collect())
}

fn problems(answer: &Value) -> String {
    let line = |row: &Value| vec![text(row, "subject"), text(row, "text")];
    section(&["ABOUT", "PROBLEM"], rows(&answer["problems"]).iter().map(line).collect())
}

/// Further columns below the others; nothing when there are no rows.
fn section(header: &[&str], lines: Vec<Vec<String>>) -> String {
    if lines.is_empty() { String::new() } else { format!("\n{}", table::columns(header, lines)) }
}

/// Seconds as `3.2s`, `1m15s`, `3h2m`, `5d4h`; empty when there are none.
pub(super) fn age(seconds: &Value) -> String {
    let Some(seconds) = seconds.as_f64() else {
        return String::new();
    };
    // Ages are not negative, and far below the largest whole number.
    let whole = seconds as u64;
    match whole {
        0..60 => format!("{seconds:.1}s"),
        60..3600 => format!("{}m{}s", whole / 60, whole % 60),
        3600..86400 => format!("{}h{}m", whole / 3600, whole % 3600 / 60),
        _ => format!("{}d{}h", whole / 86400, whole % 86400 / 3600),
    }
}

/// `1.5MiB`.
fn bytes(value: &Value) -> String {
    let Some(mut amount) = value.as_f64() else {
        return String::new();
    };
    let mut units = ["B", "KiB", "MiB", "GiB", "TiB"].into_iter().peekable();
    while let Some(unit) = units.next() {
        if amount < 1024.0 || units.peek().is_none() {
            let digits = usize::from(unit != "B" && amount < 100.0);
            return format!("{amount:.digits$}{unit}");
        }
        amount /= 1024.0;
    }
    String::new()
}

#[cfg(test)]
mod served;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ages_and_sizes_are_short() {
        for (seconds, text) in
            [(0.04, "0.0s"), (3.21, "3.2s"), (75.9, "1m15s"), (10_920.0, "3h2m"), (446_400.0, "5d4h")]
        {
            assert_eq!(age(&json!(seconds)), text);
        }
        assert_eq!(age(&Value::Null), "");
        for (amount, text) in
            [(0_u64, "0B"), (1023, "1023B"), (1536, "1.5KiB"), (300 << 20, "300MiB"), (5 << 40, "5.0TiB")]
        {
            assert_eq!(bytes(&json!(amount)), text);
        }
    }

    #[test]
    fn a_stale_cluster_says_since_when_why_and_what_cannot_be_read() {
        let answer = json!({
            "clusters": [{
                "id": "west", "role": "remote", "syncStatus": "synced", "health": "stale",
                "detail": "unreachable: Pod: connection refused", "sinceSeconds": 75, "staleSeconds": 75,
                "lastEventSeconds": 80, "lastContactSeconds": 76, "network": "net-west", "objects": {"Pod": 3},
                "lists": {"first": 5, "expired": 1}, "quarantinedObjects": 1, "pendingPods": 2, "massDeleteHolds": 0,
                "bytesIn": 2048, "memoryBytes": null, "uid": "u-1", "start": "optional", "stalePolicy": "hold",
                "api": {"encoding": "protobuf", "streamingLists": true},
                "credentials": "within-7d", "credentialsProblem": "exec plugin x: failed",
                "credentialsExpire": "2027-01-01T00:00:00Z", "source": "secret a/b", "standing": "dropped",
                "quarantined": ["Service sample/bad: no port"],
                "sources": [{"kind": "Pod", "state": "stale", "detail": "connection refused", "objects": 3}]
            }],
            "problems": [{"subject": "cluster west", "text": "Pods: connection refused"}]
        });
        let table = short(&answer);
        let line = "west  remote  synced  stale,dropped  1m15s  1m20s       1m16s";
        assert!(table.contains(line), "{table}");
        assert!(table.contains("cluster west  Pods: connection refused"), "{table}");
        let table = wide(&answer);
        for words in [
            "1m15s  dropped   net-west",
            "protobuf,streams",
            "expired=1,first=5",
            "2.0KiB",
            "within-7d,failing  2027-01-01",
            "west     Pod   stale",
            "Service sample/bad: no port",
            "unreachable: Pod: connection refused",
        ] {
            assert!(table.contains(words), "{words}: {table}");
        }
    }
}
