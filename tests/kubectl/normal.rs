//! Takes out of answers what no two servers have in common: identifiers, versions, times, addresses.

use serde_json::Value;

/// What differs by nature between the two servers.
#[derive(Debug, Clone)]
pub(super) struct Own {
    /// The server's URL.
    pub(super) url: String,
    /// The directory the commands run in.
    pub(super) directory: String,
}

/// After these the two servers explain in their own words.
const EXPLANATIONS: [&str; 3] = ["Invalid value:", "unable to parse requirement:", "json:"];

/// A message on stderr: what happened to which field of which object, without the explanation.
pub(super) fn message(printed: &str, own: &Own) -> String {
    let short = |line: &str| {
        let end = EXPLANATIONS.iter().filter_map(|word| Some(line.find(word)? + word.len())).min();
        line[..end.unwrap_or(line.len())].to_owned()
    };
    text(printed, own).lines().map(short).collect::<Vec<_>>().join("\n")
}

/// Text a command printed, word by word.
pub(super) fn text(printed: &str, own: &Own) -> String {
    let printed = printed.replace(&own.url, "<server>").replace(&own.directory, "<dir>");
    let printed = without_colours(&printed);
    match serde_json::from_str::<Value>(&printed) {
        // A raw document: its layout does not matter.
        Ok(document @ Value::Object(_)) => without_identity(document).to_string(),
        _ => without_repairs(printed.lines().map(line).collect()).join("\n"),
    }
}

/// Writes these events: a real server's loop that may look between a Service and the record of its address.
const REPAIRER: &str = "ipallocator-repair-controller";

/// A description without the events of the repairer, which come or do not come as its loop falls.
fn without_repairs(mut lines: Vec<String>) -> Vec<String> {
    let before = lines.len();
    lines.retain(|line| !line.contains(REPAIRER));
    let header = lines.iter().position(|line| line == "Events:");
    // A heading and a rule, and no row below them.
    if let Some(at) = header.filter(|at| lines.len() < before && at + 3 == lines.len()) {
        lines.truncate(at);
        lines.push("Events: <none>".to_owned());
    }
    lines
}

fn without_colours(text: &str) -> String {
    let mut out = String::new();
    let mut parts = text.split('\u{1b}');
    out.push_str(parts.next().unwrap_or_default());
    for part in parts {
        out.push_str(part.split_once('m').map_or("", |(_, rest)| rest));
    }
    out
}

fn line(line: &str) -> String {
    if let Some((label, _)) = line.split_once("CreationTimestamp:") {
        return format!("{label}CreationTimestamp: <time>");
    }
    let indent = line.len() - line.trim_start().len();
    let mut words: Vec<String> = Vec::new();
    for token in line.split_whitespace() {
        let label = words.last().map(String::as_str).unwrap_or_default();
        words.push(word(token, label));
    }
    // Columns are as wide as their widest cell.
    format!("{}{}", " ".repeat(indent), words.join(" "))
}

fn word(token: &str, label: &str) -> String {
    let bare = token.trim_matches(|c: char| matches!(c, '"' | ',' | '\'' | '{' | '}' | ';'));
    let what = match label.trim_matches(|c: char| matches!(c, '"' | ',')) {
        "resourceVersion:" => Some("<version>"),
        _ => identity(bare),
    };
    match what {
        Some(what) if !bare.is_empty() => token.replace(bare, what),
        _ => token.to_owned(),
    }
}

/// The word for a value that is different everywhere.
fn identity(text: &str) -> Option<&'static str> {
    if is_uid(text) {
        Some("<uid>")
    } else if text.starts_with("eyJ") && text.matches('.').count() == 2 {
        Some("<token>")
    } else if text.len() >= 20 && text.parse::<jiff::Timestamp>().is_ok() {
        Some("<time>")
    } else if is_age(text) {
        Some("<age>")
    } else if is_service_address(text) {
        Some("<service-address>")
    } else {
        None
    }
}

fn is_uid(text: &str) -> bool {
    text.len() == 36
        && text.char_indices().all(|(at, c)| match at {
            8 | 13 | 18 | 23 => c == '-',
            _ => c.is_ascii_hexdigit(),
        })
}

/// `0s`, `12s`, `3m4s`: only small ones, times in specifications are larger.
fn is_age(text: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    match text.strip_suffix('s') {
        Some(seconds) => match seconds.split_once('m') {
            None => number(seconds) && seconds.len() <= 3,
            Some((minutes, seconds)) => number(minutes) && number(seconds),
        },
        None => false,
    }
}

fn is_service_address(text: &str) -> bool {
    text.parse::<std::net::Ipv4Addr>().is_ok_and(|address| {
        let [a, b, ..] = address.octets();
        a == 10 && (96..112).contains(&b)
    })
}

/// An object without what the server alone decides.
pub(super) fn object(mut object: Value) -> Value {
    // Known from where it was read; a real server leaves it out of most lists.
    if let Some(map) = object.as_object_mut() {
        map.remove("apiVersion");
        map.remove("kind");
    }
    without_identity(object)
}

fn without_identity(mut object: Value) -> Value {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
        if metadata.contains_key("resourceVersion") {
            metadata.insert("resourceVersion".into(), "<version>".into());
        }
    }
    replace(&mut object);
    object
}

fn replace(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Some(what) = identity(text).filter(|what| *what != "<age>") {
                *text = what.to_owned();
            }
        }
        Value::Array(list) => list.iter_mut().for_each(replace),
        Value::Object(map) => map.values_mut().for_each(replace),
        _ => {}
    }
}

#[test]
fn events_of_the_repairer_are_left_out_and_others_stay() {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let head = "Name: web\nEvents:\n  Type Reason Age From Message\n  ---- ------ ---- ---- -------\n";
    let repair = "  Warning ClusterIPNotAllocated <age> ipallocator-repair-controller repairing\n";
    let other = "  Warning Failed <age> kubelet no such image\n";
    assert_eq!(without_repairs(lines(&format!("{head}{repair}"))), lines("Name: web\nEvents: <none>"));
    assert_eq!(without_repairs(lines(&format!("{head}{repair}{other}"))), lines(&format!("{head}{other}")));
    assert_eq!(without_repairs(lines(&format!("{head}{other}"))), lines(&format!("{head}{other}")));
}
