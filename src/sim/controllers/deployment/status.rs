//! What a Deployment's status says: counts, and the conditions clients wait for.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::rollout::Limits;

/// How long a rollout may stand still before it counts as stuck, where the Deployment does not say.
const PROGRESS_DEADLINE_SECONDS: i32 = 600;

/// What was counted of a Deployment's pods that are neither finished nor being deleted.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) total: usize,
    pub(super) updated: usize,
    pub(super) ready: usize,
    pub(super) available: usize,
}

/// Why pods cannot be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    /// The machine's word.
    pub(super) reason: &'static str,
    /// What happened, on what, and what helps.
    pub(super) message: String,
}

/// What a status is made from.
#[derive(Debug)]
pub(super) struct Observed<'a> {
    pub(super) deployment: &'a Deployment,
    pub(super) limits: Limits,
    pub(super) counts: Counts,
    /// `<deployment>-<template hash>`.
    pub(super) template: &'a str,
    pub(super) trouble: Option<&'a Trouble>,
    pub(super) now: Timestamp,
}

/// The status, and after which time it changes although nothing else does.
pub(super) fn status(observed: &Observed<'_>) -> (DeploymentStatus, Option<Duration>) {
    let Counts { total, updated, ready, available } = observed.counts;
    let missing = observed.limits.wanted.max(total) - available.min(total);
    let (progressing, wake) = progressing(observed);
    let mut conditions = vec![available_condition(observed)];
    conditions.extend(progressing);
    conditions.extend(
        observed.trouble.map(|trouble| {
            settle(observed, "ReplicaFailure", "True", trouble.reason, trouble.message.clone())
        }),
    );
    let known = ["Available", "Progressing", "ReplicaFailure"];
    let foreign = previous(observed.deployment).filter(|condition| !known.contains(&kind(condition)));
    conditions.extend(foreign.cloned());
    let status = DeploymentStatus {
        observed_generation: observed.deployment.metadata.generation,
        replicas: count(total),
        updated_replicas: count(updated),
        ready_replicas: count(ready),
        available_replicas: count(available),
        unavailable_replicas: count(missing),
        collision_count: observed.deployment.status.as_ref().and_then(|status| status.collision_count),
        terminating_replicas: observed
            .deployment
            .status
            .as_ref()
            .and_then(|status| status.terminating_replicas),
        conditions: Some(conditions),
    };
    (status, wake)
}

/// A count as the API writes it: zero is absent.
fn count(number: usize) -> Option<i32> {
    i32::try_from(number).ok().filter(|number| *number != 0)
}

fn kind(condition: &DeploymentCondition) -> &str {
    let kind: Option<&str> = condition.type_.as_deref();
    kind.unwrap_or_default()
}

fn previous(deployment: &Deployment) -> impl Iterator<Item = &DeploymentCondition> {
    deployment.status.iter().flat_map(|status| status.conditions.iter().flatten())
}

fn held<'a>(observed: &Observed<'a>, wanted: &str) -> Option<&'a DeploymentCondition> {
    previous(observed.deployment).find(|condition| kind(condition) == wanted)
}

/// A condition that keeps its times as long as it says the same.
fn settle(
    observed: &Observed<'_>,
    what: &str,
    status: &str,
    reason: &str,
    message: String,
) -> DeploymentCondition {
    let now = Some(Time(observed.now));
    let before = held(observed, what);
    let same_status = before.filter(|before| before.status.as_deref() == Some(status));
    let same = same_status.filter(|before| {
        before.reason.as_deref() == Some(reason) && before.message.as_deref() == Some(&message)
    });
    DeploymentCondition {
        last_transition_time: same_status.map_or(now.clone(), |before| before.last_transition_time.clone()),
        last_update_time: same.map_or(now, |before| before.last_update_time.clone()),
        message: Some(message),
        reason: Some(reason.to_owned()),
        status: Some(status.to_owned()),
        type_: Some(what.to_owned()),
    }
}

fn available_condition(observed: &Observed<'_>) -> DeploymentCondition {
    let (least, available) = (observed.limits.least_available(), observed.counts.available);
    let (status, reason) = if available >= least {
        ("True", "MinimumReplicasAvailable")
    } else {
        ("False", "MinimumReplicasUnavailable")
    };
    let needed = format!("at least {least} must be available");
    settle(observed, "Available", status, reason, needed)
}

/// How the rollout of the template goes. Once a template is rolled out, scaling it says nothing new.
fn progressing(observed: &Observed<'_>) -> (Option<DeploymentCondition>, Option<Duration>) {
    let spec = &observed.deployment.spec;
    let before = held(observed, "Progressing");
    let reason_before = before.and_then(|before| before.reason.as_deref()).unwrap_or_default();
    let about = |text: &str| format!("template {} {text}", observed.template);
    let of_template = before
        .and_then(|before| before.message.as_deref())
        .is_some_and(|text| text.split(' ').nth(1) == Some(observed.template));
    let say = |status, reason, text| Some(settle(observed, "Progressing", status, reason, about(text)));
    if spec.paused == Some(true) {
        return (say("Unknown", "DeploymentPaused", "is paused"), None);
    }
    let Counts { total, updated, available, .. } = observed.counts;
    let wanted = observed.limits.wanted;
    if updated == wanted && total == wanted && available == wanted {
        return (say("True", "NewReplicaSetAvailable", "is rolled out"), None);
    }
    if of_template && reason_before == "NewReplicaSetAvailable" && total == updated {
        return (before.cloned(), None);
    }
    let deadline = i64::from(spec.progress_deadline_seconds.unwrap_or(PROGRESS_DEADLINE_SECONDS));
    let fresh = !of_template || reason_before == "DeploymentPaused" || has_progressed(observed);
    let moved = if fresh { None } else { before.and_then(|before| before.last_update_time.as_ref()) };
    let moved = moved.map_or(observed.now, |time| time.0);
    let left = deadline - observed.now.duration_since(moved).as_secs();
    if left <= 0 || (reason_before == "ProgressDeadlineExceeded" && !fresh) {
        return (say("False", "ProgressDeadlineExceeded", "stands still"), None);
    }
    let reason = if updated == 0 { "NewReplicaSetCreated" } else { "ReplicaSetUpdated" };
    let mut condition = settle(observed, "Progressing", "True", reason, about("is being rolled out"));
    condition.last_update_time = Some(Time(moved));
    (Some(condition), u64::try_from(left).ok().map(Duration::from_secs))
}

/// Whether more is done than the status on record says.
fn has_progressed(observed: &Observed<'_>) -> bool {
    let Some(status) = &observed.deployment.status else { return true };
    let number = |count: Option<i32>| usize::try_from(count.unwrap_or(0)).unwrap_or(0);
    let Counts { total, updated, ready, available } = observed.counts;
    let old_before = number(status.replicas).saturating_sub(number(status.updated_replicas));
    updated > number(status.updated_replicas)
        || ready > number(status.ready_replicas)
        || available > number(status.available_replicas)
        || total.saturating_sub(updated) < old_before
}

/// The status of a Deployment whose spec cannot be followed: what it said before, and why.
pub(super) fn refused(deployment: &Deployment, trouble: &Trouble, now: Timestamp) -> DeploymentStatus {
    let observed = Observed {
        deployment,
        limits: Limits::of(deployment),
        counts: Counts::default(),
        template: "",
        trouble: None,
        now,
    };
    let failure = settle(&observed, "ReplicaFailure", "True", trouble.reason, trouble.message.clone());
    let mut status = deployment.status.clone().unwrap_or_default();
    status.observed_generation = deployment.metadata.generation;
    let kept = previous(deployment).filter(|condition| kind(condition) != "ReplicaFailure");
    status.conditions = Some(kept.cloned().chain([failure]).collect());
    status
}
