//! Plays a scenario: watchers on, steps, everything undone, verdict.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio_util::sync::CancellationToken;

use super::super::control::{Refusal, Replies, Reply, Request};
use super::super::plan::{ClusterPlan, Plan};
use super::super::{Lab, LabError};
use super::record::summary;
use super::stage::{PATIENCE, Stage};
use super::truth::{self, Truth};
use super::watch::Watch;
use super::{
    Expectation, LONGEST, MOST_REPLICAS, MOST_TIMES, Report, SCENARIOS, Scenario, Seen, Subject, wrong,
};

/// Answers each client gets before the first step and after the last.
const SOME: u64 = 10;
/// How many reports of one scenario a run directory may hold.
const MOST_REPORTS: u32 = 10_000;

/// Plays what `request` asks for; cut short, and undone, once `cancel` is cancelled. The last line for the asker.
pub async fn play(lab: Arc<Lab>, request: Request, replies: Replies, cancel: CancellationToken) -> Reply {
    let refuse = |why| Reply::Refused(Refusal { why, usage: true });
    let (scenario, stage) = match prepare(&lab, &request, &replies) {
        Ok(prepared) => prepared,
        Err(why) => return refuse(why),
    };
    let started_at = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
    let checks = perform(scenario, &stage, &replies, &cancel).await;
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

/// The scenario and its stage; else what is wrong with the request.
fn prepare(lab: &Arc<Lab>, request: &Request, replies: &Replies) -> Result<(&'static Scenario, Stage), String> {
    let scenario = SCENARIOS.iter().find(|scenario| scenario.name == request.scenario);
    let scenario = scenario.ok_or_else(|| format!("this lab knows no scenario {:?}", request.scenario))?;
    check_options(scenario, request)?;
    let cluster = subject(lab.plan(), scenario, request.cluster.as_deref())?;
    let mut stage = Stage::new(Arc::clone(lab), cluster, replies.clone());
    if let Some(ms) = request.for_ms {
        stage.lasts = Duration::from_millis(ms);
    }
    stage.to = request.to.clone().unwrap_or(stage.to);
    stage.times = request.times.unwrap_or(stage.times);
    Ok((scenario, stage))
}

fn check_options(scenario: &Scenario, request: &Request) -> Result<(), String> {
    let given =
        [("--for", request.for_ms.is_some()), ("--to", request.to.is_some()), ("--times", request.times.is_some())];
    if let Some((option, _)) = given.iter().find(|(option, given)| *given && !scenario.takes.contains(option)) {
        return Err(format!("scenario {} takes no {option}", scenario.name));
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
        format!("the lab has no cluster {:?}; its clusters are {}", asked.unwrap_or_default(), names.join(", "))
    })
}

/// Everything that had to hold, in the order of the scenario's description.
async fn perform(
    scenario: &Scenario,
    stage: &Stage,
    replies: &Replies,
    cancel: &CancellationToken,
) -> Vec<Expectation> {
    let mut ended = Ok(());
    let mut restored = Err(wrong("the lab is as it was", "nothing was tried"));
    let watch = Watch::start(&stage.lab, &stage.record, replies);
    match truth::read(&stage.lab).await {
        Err(error) => ended = Err(error),
        Ok(before) => {
            // Unbiased: a scenario that is cut short at its very end may be complete.
            let steps = tokio::select! {
                steps = take_steps(scenario, stage) => steps,
                () = cancel.cancelled() => Err(wrong("the scenario runs to its end", "it was cut short")),
            };
            if let Err(error) = &steps {
                stage.done(error.to_string());
            }
            ended = steps;
            let undone = stage.back().await;
            restored = is_restored(stage, &before, undone).await;
        }
    }
    let loads = match watch {
        Ok(watch) => watch.end().await,
        Err(error) => Err(error),
    };
    for row in stage.record.closed(0).into_iter().skip(sent(stage)) {
        replies.send(Reply::Row(row));
    }
    stage.expect("no-request-fails", no_request_fails(stage, loads));
    stage.expect("no-foreign-address", no_foreign_address(stage));
    stage.expect("nothing-refused", nothing_refused(stage));
    stage.expect("restored", restored);
    complete(scenario, stage.expectations(), ended)
}

async fn take_steps(scenario: &Scenario, stage: &Stage) -> Result<(), LabError> {
    stage.answered(SOME).await?;
    (scenario.steps)(stage).await
}
