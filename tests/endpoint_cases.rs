//! Runs a file of acceptance cases, one line each: `ENDPOINT_CASES=path cargo test --test endpoint_cases`.
//!
//! Every case runs with the peer's answers first, where it must be equal (`ok`), then with ours. Where ours
//! differ, the smallest set of flags that restores the peer's answer is named (`deviation`); if there is none,
//! that is a `FAIL`. `later` are kinds that nothing here runs yet, `scenario` names the test of a case in
//! words, `unsupported` is a case of a shape that is not known.
#![allow(missing_docs, clippy::print_stdout)]

#[path = "endpoint_cases/convert.rs"]
mod convert;
#[path = "endpoint_cases/flags.rs"]
mod flags;
#[path = "endpoint_cases/gateways.rs"]
mod gateways;
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
use std::process::ExitCode;

use flags::Flags;
use serde_json::Value;
use shape::Answer;

const DEFAULT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/endpoint_cases/cases.json");

/// Kinds that belong to what proxies see, which has no runner yet.
const LATER: [&str; 7] = ["eds", "lb", "mesh", "effectiveLb", "headlessPush", "clusterLocal", "proxyView"];

/// What became of one case.
enum Line {
    Ok,
    Deviation(String),
    Fail(String),
    Unsupported(String),
    Later,
    Scenario(&'static str, String),
}

impl Line {
    fn word(&self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Deviation(_) => "deviation",
            Self::Fail(_) => "FAIL",
            Self::Unsupported(_) => "unsupported",
            Self::Later => "later",
            Self::Scenario(word, _) => word,
        }
    }

    fn text(&self) -> &str {
        match self {
            Self::Ok | Self::Later => "",
            Self::Deviation(text) | Self::Fail(text) | Self::Unsupported(text) | Self::Scenario(_, text) => {
                text
            }
        }
    }
}

fn main() -> ExitCode {
    let path = std::env::var_os("ENDPOINT_CASES").unwrap_or_else(|| DEFAULT.into());
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => return refuse(&format!("cannot read {}: {error}", path.display())),
    };
    let file: Value = match serde_json::from_str(&text) {
        Ok(file) => file,
        Err(error) => return refuse(&format!("{} is not JSON: {error}", path.display())),
    };
    let Some(cases) = file["cases"].as_array().filter(|cases| !cases.is_empty()) else {
        return refuse(&format!("{} has no `cases`", path.display()));
    };
    let tests = scenarios::names();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for case in cases {
        let line = run(case, &tests);
        *counts.entry(line.word()).or_default() += 1;
        println!("{}", format!("{} {} {}", line.word(), shape::id(case), line.text()).trim_end());
    }
    let shown: Vec<_> = counts.iter().map(|(word, count)| format!("{count} {word}")).collect();
    println!("{} cases: {} (`later`: what proxies see, run by no test yet)", cases.len(), shown.join(", "));
    let bad = ["FAIL", "unsupported"].iter().any(|word| counts.contains_key(word));
    if bad { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn refuse(why: &str) -> ExitCode {
    println!("{why}; name a file of cases by ENDPOINT_CASES");
    ExitCode::from(2)
}

fn run(case: &Value, tests: &scenarios::Names) -> Line {
    let kind = case["kind"].as_str().unwrap_or_default();
    if case["narrative"] == true {
        return match tests.of(shape::id(case)) {
            Some(name) => Line::Scenario("scenario", name.to_owned()),
            None => {
                Line::Unsupported(format!("a case in words, and no test is named {}_…", tests.prefix(case)))
            }
        };
    }
    let check: fn(&Value, &Flags) -> Answer = match kind {
        "convert" => convert::check,
        "gateways" => gateways::check,
        "push" => registry::push,
        "serviceAccounts" => registry::service_accounts,
        "aggregate" => registry::aggregate,
        "remoteSecrets" => secrets::remote_secrets,
        "kubeconfigPolicy" => secrets::kubeconfig_policy,
        "trafficDistribution" => tables::traffic_distribution,
        kind if LATER.contains(&kind) => return Line::Later,
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
        Answer::Later => return Line::Later,
    }
    let how = match check(&Flags::ours()) {
        Answer::Equal => return Line::Ok,
        Answer::Differs(how) => how,
        Answer::Unknown(what) => return Line::Unsupported(format!("as we answer: {what}")),
        Answer::Later => return Line::Later,
    };
    match flags::smallest(|flags| matches!(check(flags), Answer::Equal)) {
        Some(flags) => Line::Deviation(flags.to_string()),
        None => Line::Fail(format!("as we answer: {how}")),
    }
}
