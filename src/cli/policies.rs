//! `tombolo policies`.

use std::process::ExitCode;

use serde_json::Value;

use super::client::{self, ServerArgs, encode, rows, text};
use super::clusters::age;
use super::table::{self, Output};

/// Arguments of `tombolo policies`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 ok; 1 no answer, or with --lint a finding that is a warning; 2 usage."
)]
pub struct Args {
    /// Show what has no effect across objects instead: unknown hosts, subsets and gateways, selectors that select
    /// nothing, objects that others take the place of
    #[arg(long)]
    lint: bool,
    /// Only objects of this kind
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// Only objects of this namespace
    #[arg(long, short, value_name = "NS")]
    namespace: Option<String>,
    /// Only objects of this name
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Only objects that cannot be read
    #[arg(long, conflicts_with = "lint")]
    invalid: bool,
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
    let answer = client::fetch(&args.server, &format!("/debug/policies?{}", query(args))).await?;
    if !args.lint {
        return table::show(args.output, &answer, short, wide);
    }
    table::show(args.output, &answer, findings, findings)?;
    match verdict(&answer) {
        Some(warnings) => Err(anyhow::anyhow!(warnings)),
        None => Ok(()),
    }
}

fn query(args: &Args) -> String {
    let given = [("kind", &args.kind), ("namespace", &args.namespace), ("name", &args.name)];
    let given =
        given.into_iter().filter_map(|(key, value)| Some(format!("{key}={}", encode(value.as_ref()?))));
    let flags = [("lint", args.lint), ("invalid", args.invalid)];
    let flags = flags.into_iter().filter(|(_, is_set)| *is_set).map(|(key, _)| key.to_owned());
    given.chain(flags).collect::<Vec<_>>().join("&")
}

/// Every object with its kind.
fn objects(answer: &Value) -> impl Iterator<Item = (&String, &Value)> {
    let kinds = answer["kinds"].as_object().into_iter().flatten();
    kinds.flat_map(|(kind, row)| rows(&row["objects"]).iter().map(move |object| (kind, object)))
}

fn short(answer: &Value) -> String {
    let line = |(kind, row): (&String, &Value)| {
        let problems = said(row).len();
        let problems = if problems == 0 { String::new() } else { problems.to_string() };
        let name = ["namespace", "name"].map(|key| text(row, key));
        [
            vec![kind.clone()],
            name.to_vec(),
            vec![age(&row["ageSeconds"]), text(row, "state"), in_use(row), problems],
        ]
        .concat()
    };
    let header = ["KIND", "NAMESPACE", "NAME", "AGE", "STATE", "IN-USE", "PROBLEMS"];
    table::columns(&header, objects(answer).map(line)) + &failing(answer)
}

fn wide(answer: &Value) -> String {
    let line = |(kind, row): (&String, &Value)| {
        let scopes: Vec<_> = rows(&row["scopes"]).iter().filter_map(Value::as_str).collect();
        let name = ["namespace", "name"].map(|key| text(row, key));
        let versions = ["resourceVersion", "resourceVersionInUse"].map(|key| text(row, key));
        let state = vec![age(&row["ageSeconds"]), text(row, "state"), in_use(row)];
        let rest = vec![scopes.join(","), said(row).join("; ")];
        [vec![kind.clone()], name.to_vec(), state, versions.to_vec(), rest].concat()
    };
    let header = [
        "KIND",
        "NAMESPACE",
        "NAME",
        "AGE",
        "STATE",
        "IN-USE",
        "VERSION",
        "VERSION-IN-USE",
        "SCOPES",
        "PROBLEMS",
    ];
    table::columns(&header, objects(answer).map(line)) + &failing(answer)
}

fn in_use(row: &Value) -> String {
    if row["inUse"] == true { "yes".to_owned() } else { "no".to_owned() }
}

/// What is said of an object: why it cannot be read, and what of it has no effect.
fn said(row: &Value) -> Vec<String> {
    let error = row["error"].as_str();
    let problems = rows(&row["problems"]).iter().filter_map(Value::as_str);
    error.into_iter().chain(problems).map(str::to_owned).collect()
}

/// Kinds that are not watched, below the objects.
fn failing(answer: &Value) -> String {
    let kinds = answer["kinds"].as_object().into_iter().flatten();
    let failing = kinds.filter(|(_, row)| row["source"].is_string() && row["source"] != "watched");
    let lines: Vec<_> = failing.map(|(kind, row)| vec![kind.clone(), text(row, "source")]).collect();
    if lines.is_empty() {
        return String::new();
    }
    format!("\n{}", table::columns(&["KIND", "SOURCE"], lines))
}

fn findings(answer: &Value) -> String {
    let keys = ["severity", "code", "kind", "namespace", "name", "field", "message"];
    let line = |row: &Value| keys.map(|key| text(row, key)).to_vec();
    let header = ["SEVERITY", "CODE", "KIND", "NAMESPACE", "NAME", "FIELD", "MESSAGE"];
    let table = table::columns(&header, rows(&answer["findings"]).iter().map(line));
    let notes: Vec<_> = rows(&answer["incomplete"]).iter().filter_map(Value::as_str).collect();
    let notes = notes.iter().map(|note| vec![(*note).to_owned()]);
    let left_off = answer["leftOff"].as_u64().filter(|count| *count > 0);
    let left_off =
        left_off.map(|count| vec![format!("{count} more findings are left off; restrict by --kind or -n")]);
    let notes: Vec<_> = left_off.into_iter().chain(notes).collect();
    if notes.is_empty() { table } else { format!("{table}\n{}", table::columns(&["NOTE"], notes)) }
}

/// Why the check failed: warnings; infos alone are none.
fn verdict(answer: &Value) -> Option<String> {
    let count = |severity: &str| answer["counts"][severity].as_u64().unwrap_or_default();
    let (warnings, infos) = (count("warning"), count("info"));
    let plural = if warnings == 1 { "" } else { "s" };
    (warnings > 0).then(|| format!("{warnings} warning{plural} and {infos} of severity info"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn objects_say_how_many_problems_they_have_and_kinds_why_they_are_not_watched() {
        let object = json!({"namespace": "shop", "name": "x", "ageSeconds": 75, "scopes": ["a.b"], "state": "invalid",
            "error": "host: needed", "problems": ["a", "b"], "resourceVersion": 3, "inUse": true,
            "resourceVersionInUse": 2});
        let answer = json!({"kinds": {
            "DestinationRule": {"source": "watched", "objects": [object]},
            "Gateway": {"source": "failing: 403", "objects": []},
        }});
        assert_eq!(
            short(&answer),
            "KIND             NAMESPACE  NAME  AGE    STATE    IN-USE  PROBLEMS\n\
             DestinationRule  shop       x     1m15s  invalid  yes     3\n\nKIND     SOURCE\nGateway  failing: 403\n"
        );
        let wide = wide(&answer);
        assert!(wide.contains("3        2               a.b     host: needed; a; b"), "{wide}");
    }

    #[test]
    fn warnings_fail_and_what_is_left_off_is_told() {
        let finding = json!({"severity": "warning", "code": "unknown-host", "kind": "VirtualService",
            "namespace": "shop", "name": "x", "field": "spec.http[0].route", "message": "no Service"});
        let answer = json!({"findings": [finding], "counts": {"warning": 2, "info": 1}, "leftOff": 2,
            "incomplete": ["cluster west is not read completely yet"]});
        let table = findings(&answer);
        for words in
            ["warning   unknown-host  VirtualService  shop", "2 more findings are left off", "cluster west"]
        {
            assert!(table.contains(words), "{table}");
        }
        assert_eq!(verdict(&answer).as_deref(), Some("2 warnings and 1 of severity info"));
        assert_eq!(verdict(&json!({"counts": {"warning": 0, "info": 3}})), None);
    }
}
