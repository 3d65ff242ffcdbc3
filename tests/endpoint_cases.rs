//! Runs a file of acceptance cases, one line each: `ENDPOINT_CASES=path cargo test --test endpoint_cases`.
//!
//! Every case runs with the peer's answers first, where it must be equal (`ok`), then with ours. Where ours
//! differ, the smallest set of flags that restores the peer's answer is named (`deviation`); if there is none,
//! that is a `FAIL`. `scenario` names the test of a case in words, `unsupported` is a case of a kind, a shape or
//! a field that nothing here reads: it fails the run. Without `ENDPOINT_CASES` the files kept here are run.
#![allow(missing_docs, clippy::print_stdout)]

#[path = "endpoint_cases/aggregate.rs"]
mod aggregate;
#[path = "endpoint_cases/convert.rs"]
mod convert;
#[path = "endpoint_cases/eds.rs"]
mod eds;
#[path = "endpoint_cases/features.rs"]
mod features;
#[path = "endpoint_cases/flags.rs"]
mod flags;
#[path = "endpoint_cases/gateways.rs"]
mod gateways;
#[path = "endpoint_cases/headless.rs"]
mod headless;
#[path = "endpoint_cases/lb.rs"]
mod lb;
#[path = "endpoint_cases/mesh.rs"]
mod mesh;
#[path = "endpoint_cases/policies.rs"]
mod policies;
#[path = "endpoint_cases/proxy.rs"]
mod proxy;
#[path = "endpoint_cases/registry.rs"]
mod registry;
#[path = "endpoint_cases/scenarios.rs"]
mod scenarios;
#[path = "endpoint_cases/secrets.rs"]
mod secrets;
#[path = "endpoint_cases/shape.rs"]
mod shape;
#[path = "endpoint_cases/tables.rs"]
mod tables;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use flags::Flags;
use serde_json::Value;
use shape::{Answer, only};

const DEFAULT: [&str; 2] = [
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/endpoint_cases/cases.json"),
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/endpoint_cases/further.json"),
];

/// What a case may say. `peerQuirk` and `note` are words for readers: what differs is found out by running it;
/// what only unit tests can reach (`unitOnly`) is reached here.
const FIELDS: [&str; 11] = [
    "id",
    "kind",
    "title",
    "source",
    "note",
    "tier",
    "input",
    "expect",
    "peerQuirk",
    "unitOnly",
    "narrative",
];

/// What became of one case.
enum Line {
    Ok,
    Deviation(String),
    Fail(String),
    Unsupported(String),
    Scenario(&'static str, String),
}

impl Line {
    fn word(&self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Deviation(_) => "deviation",
            Self::Fail(_) => "FAIL",
            Self::Unsupported(_) => "unsupported",
            Self::Scenario(word, _) => word,
        }
    }

    fn text(&self) -> &str {
        match self {
            Self::Ok => "",
            Self::Deviation(text) | Self::Fail(text) | Self::Unsupported(text) | Self::Scenario(_, text) => {
                text
            }
        }
    }
}

fn main() -> ExitCode {
    let given = std::env::var_os("ENDPOINT_CASES").map(PathBuf::from);
    let paths = given.as_ref().map_or_else(|| DEFAULT.map(PathBuf::from).to_vec(), |path| vec![path.clone()]);
    let mut cases = Vec::new();
    for path in paths {
        match read(&path) {
            Ok(more) => cases.extend(more),
            Err(why) => return refuse(&why),
        }
    }
    let tests = scenarios::names();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for case in &cases {
        let line = run(case, &tests);
        *counts.entry(line.word()).or_default() += 1;
        println!("{}", format!("{} {} {}", line.word(), shape::id(case), line.text()).trim_end());
    }
    let shown: Vec<_> = counts.iter().map(|(word, count)| format!("{count} {word}")).collect();
    println!("{} cases: {}", cases.len(), shown.join(", "));
    let bad = ["FAIL", "unsupported"].iter().any(|word| counts.contains_key(word));
    if bad { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// The cases of a file.
fn read(path: &Path) -> Result<Vec<Value>, String> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {shown}: {error}"))?;
    let file: Value = serde_json::from_str(&text).map_err(|error| format!("{shown} is not JSON: {error}"))?;
    let cases = file["cases"].as_array().filter(|cases| !cases.is_empty());
    let cases = cases.ok_or_else(|| format!("{shown} has no `cases`"))?;
    Ok(cases.iter().map(|case| placed(case.clone(), &file["topologies"])).collect())
}

/// A case with what the topology it names says of gateways, services and endpoints, unless it says so itself.
fn placed(mut case: Value, topologies: &Value) -> Value {
    let topology = case["input"]["topology"].as_str().map(|name| topologies[name].clone());
    let Some(Value::Object(topology)) = topology else { return case };
    let Some(input) = case["input"].as_object_mut() else { return case };
    input.remove("topology");
    for field in ["gateways", "services", "endpoints"] {
        if let (false, Some(value)) = (input.contains_key(field), topology.get(field)) {
            input.insert(field.to_owned(), value.clone());
        }
    }
    case
}

fn kind(case: &Value) -> &str {
    case["kind"].as_str().unwrap_or_default()
}

fn refuse(why: &str) -> ExitCode {
    println!("{why}; name a file of cases by ENDPOINT_CASES");
    ExitCode::from(2)
}

fn run(case: &Value, tests: &scenarios::Names) -> Line {
    if let Err(why) = only("a case", case, &FIELDS) {
        return Line::Unsupported(why);
    }
    if case["narrative"] == true {
        return match tests.of(shape::id(case)) {
            Some(name) => Line::Scenario("scenario", name.to_owned()),
            None => {
                Line::Unsupported(format!("a case in words, and no test is named {}_…", tests.prefix(case)))
            }
        };
    }
    let check: fn(&Value, &Flags) -> Answer = match kind(case) {
        "convert" => convert::check,
        "gateways" => gateways::check,
        "push" => registry::push,
        "serviceAccounts" => registry::service_accounts,
        "aggregate" => aggregate::check,
        "remoteSecrets" => secrets::remote_secrets,
        "kubeconfigPolicy" => secrets::kubeconfig_policy,
        "trafficDistribution" => tables::traffic_distribution,
        "eds" => eds::check,
        "lb" => lb::check,
        "mesh" => mesh::check,
        "effectiveLb" => lb::effective,
        "headlessPush" => headless::check,
        "clusterLocal" => lb::cluster_local,
        "proxyView" => lb::proxy_view,
        kind => return Line::Unsupported(format!("kind {kind:?} is not known")),
    };
    judge(|flags| check(case, flags))
}

/// D1: the peer's answers first, then ours, then the fewest flags that make up the difference.
fn judge(check: impl Fn(&Flags) -> Answer) -> Line {
    match check(&Flags::peer()) {
        Answer::Equal => {}
        Answer::Differs(how) => return Line::Fail(format!("as the peer: {how}")),
        Answer::Unknown(what) => return Line::Unsupported(what),
    }
    let how = match check(&Flags::ours()) {
        Answer::Equal => return Line::Ok,
        Answer::Differs(how) => how,
        Answer::Unknown(what) => return Line::Unsupported(format!("as we answer: {what}")),
    };
    match flags::smallest(|flags| matches!(check(flags), Answer::Equal)) {
        Some(flags) => Line::Deviation(flags.to_string()),
        None => Line::Fail(format!("as we answer: {how}")),
    }
}
