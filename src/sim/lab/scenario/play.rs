//! Plays a scenario: watchers on, steps, everything undone, verdict.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio_util::sync::CancellationToken;

use super::super::client::Client;
use super::super::control::{Refusal, Replies, Reply, Request};
use super::super::plan::{ClusterPlan, HELLOWORLD, Plan};
use super::super::timeline::Row;
use super::super::truth::{Truth, truth};
use super::super::wait::{until, until_every};
use super::super::{Lab, LabError};
use super::record::summary;
use super::stage::{PATIENCE, Stage};
use super::watch::Watch;
use super::{
    Expectation, LONGEST, MOST_REPLICAS, MOST_TIMES, Needs, Report, SCENARIOS, Scenario, Seen, Subject, wrong,
};

/// Answers each client gets before the first step and after the last.
const SOME: u64 = 10;
/// Between two looks at all Envoy clusters.
const LOOK: Duration = Duration::from_millis(100);
/// How long what was just deleted may stay.
const QUIET: Duration = Duration::from_secs(10);
/// All ServiceEntries.
const ENTRIES: &str = "/apis/networking.istio.io/v1/serviceentries";
/// The expectation that the lab is as it was.
const RESTORED: &str = "restored";
/// How many reports of one scenario a run directory may hold.
const MOST_REPORTS: u32 = 10_000;

/// Plays what `request` asks for; cut short, and undone, once `cancel` is cancelled. The last line for the asker.
pub async fn play(lab: Arc<Lab>, request: Request, replies: Replies, cancel: CancellationToken) -> Reply {
    let refuse = |why| Reply::Refused(Refusal { why, usage: true });
    let (scenario, stage) = match prepare(&lab, &request, &replies) {
        Ok(prepared) => prepared,
        Err(why) => return refuse(why),
    };
    match cordoned(&lab, &stage.cluster.name).await {
        Ok(None) => {}
        Ok(Some(why)) => return refuse(why),
        Err(error) => return Reply::Refused(Refusal { why: error.in_full(), usage: false }),
    }
    let started_at = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
    let what = format!("scenario {} on {}", scenario.name, stage.cluster.name);
    lab.say(&format!("{what} begins"));
    let checks = perform(scenario, &stage, &replies, &cancel).await;
    // Here too: the asker may be gone.
    lab.say(&verdict(&what, &checks, cancel.is_cancelled()));
    let mut report = Report {
        scenario: scenario.name.to_owned(),
        ok: checks.iter().all(|check| check.ok),
        cluster: stage.cluster.name.clone(),
        mode: lab.plan().mode().as_str().to_owned(),
        started_at,
        checks,
        rows: stage.record.rows(),
        kept: None,
    };
    keep(lab.run_dir(), &mut report, |problem| stage.say(problem));
    Reply::Report(Box::new(report))
}

/// What the lab's own terminal says at the end.
fn verdict(what: &str, checks: &[Expectation], interrupted: bool) -> String {
    let failed: Vec<&str> =
        checks.iter().filter(|check| !check.ok).map(|check| check.name.as_str()).collect();
    match failed[..] {
        [] => format!("{what}: ok"),
        _ if interrupted && !failed.contains(&RESTORED) => {
            format!("{what}: interrupted; the lab is as it was")
        }
        _ if failed.contains(&RESTORED) => {
            format!("{what}: failed ({}); the lab is not as it was, start it anew", failed.join(", "))
        }
        _ => format!("{what}: failed ({}); the lab is as it was", failed.join(", ")),
    }
}

/// Why no pod may find a place: a node that somebody cordoned. A scenario would wait for its pods in vain, or uncordon
/// what it did not cordon.
async fn cordoned(lab: &Lab, cluster: &str) -> Result<Option<String>, LabError> {
    let nodes = lab.cluster(cluster)?.api().list(("Node", "", "")).await?;
    let closed = nodes.iter().filter(|node| node["spec"]["unschedulable"] == true);
    let names: Vec<&str> = closed.filter_map(|node| node["metadata"]["name"].as_str()).collect();
    let why = || {
        let names = names.join(" ");
        format!(
            "{names} of {cluster} is cordoned, so pods may find no place: `kubectl uncordon {names}` first"
        )
    };
    Ok((!names.is_empty()).then(why))
}

/// The scenario and its stage; else what is wrong with the request.
fn prepare(
    lab: &Arc<Lab>,
    request: &Request,
    replies: &Replies,
) -> Result<(&'static Scenario, Stage), String> {
    let scenario = SCENARIOS.iter().find(|scenario| scenario.name == request.scenario);
    let scenario = scenario.ok_or_else(|| format!("this lab knows no scenario {:?}", request.scenario))?;
    check_options(scenario, request)?;
    let cluster = subject(lab.plan(), scenario, request.cluster.as_deref())?;
    check_needs(lab.plan(), scenario, &cluster)?;
    let mut stage = Stage::new(Arc::clone(lab), cluster, replies.clone());
    if let Some(ms) = request.for_ms {
        stage.lasts = Duration::from_millis(ms);
    }
    stage.to = request.to.clone().unwrap_or(stage.to);
    stage.times = request.times.unwrap_or(stage.times);
    Ok((scenario, stage))
}

fn check_options(scenario: &Scenario, request: &Request) -> Result<(), String> {
    let given = [
        ("--for", request.for_ms.is_some()),
        ("--to", request.to.is_some()),
        ("--times", request.times.is_some()),
    ];
    if let Some((option, _)) = given.iter().find(|(option, given)| *given && !scenario.takes.contains(option))
    {
        return Err(format!("scenario {} takes no {option}", scenario.name));
    }
    if request.for_ms == Some(0) {
        return Err("--for is longer than 0s".to_owned());
    }
    if request.for_ms.is_some_and(|ms| Duration::from_millis(ms) > LONGEST) {
        return Err(format!("--for is at most {}", humantime::format_duration(LONGEST)));
    }
    let to = request.to.as_deref().unwrap_or(&[1]);
    if to.is_empty() || to.iter().any(|count| *count > MOST_REPLICAS) {
        return Err(format!("--to is a list of 0 to {MOST_REPLICAS}"));
    }
    if request.times.is_some_and(|times| times == 0 || times > MOST_TIMES) {
        return Err(format!("--times is 1 to {MOST_TIMES}"));
    }
    Ok(())
}

fn subject(plan: &Plan, scenario: &Scenario, asked: Option<&str>) -> Result<ClusterPlan, String> {
    let found = match (asked, scenario.subject) {
        (Some(name), _) => plan.cluster(name),
        (None, Subject::First) => plan.clusters.first(),
        (None, Subject::Last) => plan.clusters.last(),
    };
    found.cloned().ok_or_else(|| {
        let names: Vec<&str> = plan.clusters.iter().map(|cluster| cluster.name.as_str()).collect();
        format!(
            "the lab has no cluster {:?}; its clusters are {}",
            asked.unwrap_or_default(),
            names.join(", ")
        )
    })
}

/// What a scenario on `cluster` lacks in such a lab, and how to start one that has it.
fn check_needs(plan: &Plan, scenario: &Scenario, cluster: &ClusterPlan) -> Result<(), String> {
    let others = || plan.clusters.iter().filter(|other| other.name != cluster.name);
    let (met, lack) = match scenario.needs {
        Needs::Nothing => (true, ""),
        Needs::OtherCluster => {
            (others().next().is_some(), "another cluster: start the lab with --clusters 2")
        }
        Needs::OtherNetwork => (
            others().any(|other| other.network != cluster.network),
            "a cluster in another network: start the lab with --networks 2",
        ),
        Needs::Secret => (
            plan.control_planes.iter().any(|one| one.home.is_some() && one.remotes.contains(&cluster.name)),
            "a control plane that knows it by a remote Secret: name another --cluster or start the lab with \
             another --topology",
        ),
        Needs::Policies => (
            others().next().is_some() && plan.control_planes.iter().any(|one| one.home.is_some()),
            "another cluster, and a control plane that reads policies from its home: start the lab with \
             --clusters 2 and without --topology external",
        ),
    };
    if met { Ok(()) } else { Err(format!("scenario {} on {} needs {lack}", scenario.name, cluster.name)) }
}

/// Everything that had to hold, in the order of the scenario's description.
async fn perform(
    scenario: &Scenario,
    stage: &Stage,
    replies: &Replies,
    cancel: &CancellationToken,
) -> Vec<Expectation> {
    let watch = Watch::start(stage, replies);
    let before = Before::look(stage).await;
    let ended = match &before {
        // Unbiased: a scenario that is cut short at its very end may be complete.
        Ok(_) => tokio::select! {
            steps = take_steps(scenario, stage) => steps,
            () = cancel.cancelled() => Err(wrong("the scenario runs to its end", "it was cut short")),
        },
        Err(_) => Err(wrong("the API servers answer before the scenario", "they do not")),
    };
    if let Err(error) = &ended {
        stage.done(error.to_string());
    }
    let undone = stage.back().await;
    let restored = match before {
        Ok(before) => is_restored(stage, &before, undone).await,
        Err(error) => Err(error),
    };
    let loads = match watch {
        Ok(watch) => watch.end(replies).await,
        Err(error) => Err(error),
    };
    stage.expect("no-request-fails", no_request_fails(stage, loads));
    stage.expect("no-foreign-address", no_foreign_address(stage));
    stage.expect("nothing-refused", nothing_refused(stage));
    stage.expect(RESTORED, restored);
    complete(scenario, stage.expectations(), ended)
}

async fn take_steps(scenario: &Scenario, stage: &Stage) -> Result<(), LabError> {
    stage.answered(SOME).await?;
    (scenario.steps)(stage).await
}

/// What the lab was like before the first step.
struct Before {
    truth: Truth,
    /// Outbound Envoy clusters by client, in the order of the stage's.
    clusters: Vec<BTreeSet<String>>,
}

impl Before {
    async fn look(stage: &Stage) -> Result<Self, LabError> {
        forgotten(stage).await?;
        let mut clusters = Vec::new();
        for client in &stage.clients {
            clusters.push(outbound(client).await?);
        }
        Ok(Self { truth: truth(&stage.lab, &HELLOWORLD).await?, clusters })
    }
}

/// Waits until no client has an Envoy cluster of a Service or ServiceEntry that was deleted just now: those stay for a
/// few seconds (D25), and would be missed afterwards.
async fn forgotten(stage: &Stage) -> Result<(), LabError> {
    let hosts = hosts(&stage.lab).await?;
    for client in &stage.clients {
        let quiet = until_every("clients have Services that exist only", QUIET, LOOK, async || {
            let now = outbound(client).await.map_err(|error| error.to_string())?;
            let odd: Vec<String> = now.into_iter().filter(|name| !hosts.contains(host(name))).collect();
            if odd.is_empty() { Ok(()) } else { Err(odd.join(", ")) }
        });
        // Envoy may also have what is neither; whether that stays is seen at the end.
        if let Err(error) = quiet.await {
            stage.say(error.to_string());
        }
    }
    Ok(())
}

/// The host in `outbound|PORT|SUBSET|HOST`.
fn host(envoy_cluster: &str) -> &str {
    envoy_cluster.rsplit('|').next().unwrap_or(envoy_cluster)
}

/// The hosts of all Services and ServiceEntries.
async fn hosts(lab: &Lab) -> Result<BTreeSet<String>, LabError> {
    let mut hosts = BTreeSet::new();
    for cluster in lab.clusters() {
        for service in cluster.api().list(("Service", "", "")).await? {
            let text = |key: &str| service["metadata"][key].as_str().unwrap_or_default().to_owned();
            hosts.insert(format!("{}.{}.svc.cluster.local", text("name"), text("namespace")));
        }
        // Where the kind is not installed, there are none.
        for entry in cluster.api().list(ENTRIES).await.unwrap_or_default() {
            let named = entry["spec"]["hosts"].as_array().into_iter().flatten();
            hosts.extend(named.filter_map(|host| host.as_str().map(str::to_owned)));
        }
    }
    Ok(hosts)
}

async fn outbound(client: &Client) -> Result<BTreeSet<String>, LabError> {
    let names = client.pod.admin().clusters().await?.into_keys();
    Ok(names.filter(|name| name.starts_with("outbound|")).collect())
}

/// Whether every client has the Services it had before, as many endpoints of each cluster, and answers.
async fn is_restored(stage: &Stage, before: &Before, undone: Result<(), LabError>) -> Seen {
    undone?;
    for (client, wanted) in stage.clients.iter().zip(&before.clusters) {
        // Those of a deleted Service stay for a few seconds (D25).
        until_every("clients have the Services they had before", PATIENCE, LOOK, async || {
            let now = outbound(client).await.map_err(|error| error.to_string())?;
            let odd: Vec<&str> = now.symmetric_difference(wanted).map(String::as_str).collect();
            if odd.is_empty() { Ok(()) } else { Err(format!("{}: {}", client.pod.path(), odd.join(", "))) }
        })
        .await?;
    }
    let as_before = async || {
        let now = truth(&stage.lab, &HELLOWORLD).await.map_err(|error| error.to_string())?;
        let differs =
            stage.lab.plan().clusters.iter().find(|of| now.count(&of.name) != before.truth.count(&of.name));
        differs.map_or(Ok(()), |of| {
            let (now, then) = (now.count(&of.name), before.truth.count(&of.name));
            Err(format!("{} has {now} ready endpoints instead of {then}", of.name))
        })
    };
    until("the API servers say what they said before", PATIENCE, as_before).await?;
    stage.follow(&stage.clients, PATIENCE).await?;
    stage.answered(SOME).await?;
    let clients = stage.clients.iter().map(|client| client.cluster.name.as_str()).collect::<Vec<_>>();
    Ok(format!("{} have what the API servers say, which is as much as before", clients.join(", ")))
}

fn no_request_fails(stage: &Stage, loads: Result<(), LabError>) -> Seen {
    loads?;
    let totals = stage.record.totals();
    let text = summary(&totals);
    let unserved =
        stage.clients.iter().any(|client| totals.get(&client.cluster.name).is_none_or(|sum| sum.ok == 0));
    if unserved || totals.iter().any(|(name, sum)| sum.failed > stage.excused(name)) {
        return Err(wrong("every request is answered", text));
    }
    let failed: u64 = totals.values().map(|sum| sum.failed).sum();
    let cut_off = if failed > 0 { "; those that failed were under way in what was killed" } else { "" };
    Ok(format!("{text}{cut_off}"))
}

fn no_foreign_address(stage: &Stage) -> Seen {
    let violations = stage.record.violations();
    if !violations.is_empty() {
        return Err(wrong("hosts are pods of the client's network or gateways", violations.join("; ")));
    }
    Ok(format!("looked each second for {} s", stage.record.rows().len()))
}

fn nothing_refused(stage: &Stage) -> Seen {
    let rows = stage.record.rows();
    let refused = |row: &Row| -> BTreeMap<String, u64> {
        row.clients.iter().map(|(name, client)| (name.clone(), client.updates.rejected)).collect()
    };
    let (first, last) =
        (rows.first().map(refused).unwrap_or_default(), rows.last().map(refused).unwrap_or_default());
    if last.is_empty() {
        return Err(wrong("clients' counters are read", "they were not"));
    }
    match last.iter().find(|(name, count)| **count > first.get(*name).copied().unwrap_or(0)) {
        Some((name, count)) => {
            Err(wrong("no client refuses configuration", format!("{name} refused {count}")))
        }
        None => Ok("no client refused configuration".to_owned()),
    }
}

/// All that had to hold, in the order of the description. What was not reached did not hold.
fn complete(scenario: &Scenario, found: Vec<Expectation>, ended: Result<(), LabError>) -> Vec<Expectation> {
    let why = ended.err().map_or_else(|| "it was not looked at".to_owned(), |error| error.to_string());
    let one = |name: &'static str| {
        let seen = found.iter().find(|found| found.name == name).cloned();
        seen.unwrap_or_else(|| Expectation {
            name: name.to_owned(),
            ok: false,
            detail: format!("not reached: {why}"),
        })
    };
    scenario.expects().map(|expected| one(expected.name)).collect()
}

/// Writes the report to the run directory, which others may read as they may read its logs.
fn keep(run_dir: &Path, report: &mut Report, complain: impl Fn(String)) {
    let dir = run_dir.join("scenarios");
    let written = std::fs::create_dir_all(&dir).and_then(|()| {
        let path = free_name(&dir, &report.scenario);
        report.kept = Some(path.clone());
        let mut text = serde_json::to_string_pretty(report)?;
        text.push('\n');
        std::fs::write(path, text)
    });
    if let Err(error) = written {
        report.kept = None;
        complain(format!("cannot keep the report in {}: {error}", dir.display()));
    }
}

/// `NAME-N.json` with the first free N. One scenario plays at a time.
fn free_name(dir: &Path, scenario: &str) -> PathBuf {
    let path = |n: u32| dir.join(format!("{scenario}-{n}.json"));
    (1..MOST_REPORTS).map(path).find(|path| !path.exists()).unwrap_or_else(|| path(MOST_REPORTS))
}

#[cfg(test)]
mod tests;
