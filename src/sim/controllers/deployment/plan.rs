//! What to do about a Deployment, given what is there: a function of values.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::ObjectMeta;
use kube::core::{Selector, SelectorExt as _};

use super::super::names::template_hash;
use super::super::pods;
use super::placement::Placement;
use super::rollout::Limits;
use super::status::{self, Counts, Observed, Trouble};
use super::victims::ranked;

/// The label that tells the pods of one template from those of another.
pub(super) const TEMPLATE_HASH: &str = "pod-template-hash";
/// Finished pods that are kept to be looked at; older ones are deleted.
const FINISHED_KEPT: usize = 10;

/// Everything a decision depends on.
#[derive(Debug)]
pub(super) struct Input<'a> {
    pub(super) deployment: &'a Deployment,
    /// The pods this Deployment controls.
    pub(super) pods: &'a [Arc<Pod>],
    /// Uids of pods whose deletion was asked for, whether the pods show it yet or not.
    pub(super) leaving: &'a HashSet<String>,
    pub(super) nodes: &'a [Arc<Node>],
    /// Why the last attempt to create a pod failed, if it did.
    pub(super) failure: Option<&'a Trouble>,
    /// In whole seconds, as the API keeps times.
    pub(super) now: Timestamp,
}

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Action {
    /// Create this pod under a name made from its `generateName`.
    Create(Box<Pod>),
    /// Delete this pod gracefully.
    Delete(Arc<Pod>),
    /// Stop controlling this pod: its labels no longer match.
    Release(Arc<Pod>),
    /// The Deployment may go now: remove this finalizer.
    Finish(&'static str),
}

/// The decision.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) actions: Vec<Action>,
    /// What the status should say; none if it is not to be touched.
    pub(super) status: Option<DeploymentStatus>,
    /// Look again after this time even if nothing changes.
    pub(super) again: Option<Duration>,
}

/// Decides what to do.
///
/// New pods get a node at once, since no scheduler runs. While no node may take them they are held back and the
/// condition ReplicaFailure says so: binding later needs a subresource that not every server has.
pub(super) fn reconcile(input: &Input<'_>) -> Plan {
    if pods::is_terminating(input.deployment) {
        return leave(input);
    }
    let selector = match selector(input.deployment) {
        Ok(selector) => selector,
        Err(trouble) => {
            let status = status::refused(input.deployment, &trouble, input.now);
            return Plan { actions: Vec::new(), status: Some(status), again: None };
        }
    };
    let hash = template_hash(&input.deployment.spec.template);
    let sorted = Sorted::new(input, &selector, &hash);
    let limits = Limits::of(input.deployment);
    let mut actions: Vec<Action> = sorted.strays.iter().map(|pod| Action::Release(Arc::clone(pod))).collect();
    actions.extend(sorted.overdue().map(Action::Delete));
    let creations = creations(input, &sorted, limits);
    let created = create(input, &sorted, creations, &hash);
    let trouble = match &created {
        Ok(_) => input.failure.filter(|_| creations > 0),
        Err(trouble) => Some(trouble),
    };
    let template = format!("{}-{hash}", name(input.deployment));
    let counts = sorted.counts();
    let observed = Observed {
        deployment: input.deployment,
        limits,
        counts,
        template: &template,
        trouble,
        now: input.now,
    };
    let (status, deadline) = status::status(&observed);
    actions.extend(created.iter().flatten().cloned());
    actions.extend(deletions(input, &sorted, limits).into_iter().map(Action::Delete));
    let again = [deadline, sorted.next_available].into_iter().flatten().min();
    Plan { actions, status: Some(status), again }
}

fn name(deployment: &Deployment) -> &str {
    deployment.metadata.name.as_deref().unwrap_or_default()
}

/// A Deployment that waits for its pods: takes them along, or leaves them behind, as its finalizer says.
fn leave(input: &Input<'_>) -> Plan {
    let has = |finalizer: &str| {
        input.deployment.metadata.finalizers.iter().flatten().any(|held| held.as_str() == finalizer)
    };
    let mut actions = Vec::new();
    if has("orphan") {
        actions.extend(input.pods.iter().cloned().map(Action::Release));
        actions.push(Action::Finish("orphan"));
    } else if has("foregroundDeletion") {
        let going = |pod: &Pod| pods::is_terminating(pod) || input.leaving.contains(pods::uid(pod));
        actions.extend(input.pods.iter().filter(|pod| !going(pod)).cloned().map(Action::Delete));
        if input.pods.is_empty() {
            actions.push(Action::Finish("foregroundDeletion"));
        }
    }
    Plan { actions, status: None, again: None }
}

/// The selector, if it selects the template's own pods and not everything.
fn selector(deployment: &Deployment) -> Result<Selector, Trouble> {
    let wrong = |why: &str| Trouble {
        reason: "InvalidSelector",
        message: format!(
            "spec.selector of Deployment {}: {why}; no pods are made or removed",
            name(deployment)
        ),
    };
    let given = &deployment.spec.selector;
    let empty = given.match_labels.as_ref().is_none_or(|labels| labels.is_empty())
        && given.match_expressions.as_ref().is_none_or(Vec::is_empty);
    if empty {
        return Err(wrong("it is empty and would select every pod"));
    }
    let selector = Selector::try_from(given.clone()).map_err(|error| wrong(&error.to_string()))?;
    let labels = deployment.spec.template.metadata.as_ref().and_then(|metadata| metadata.labels.clone());
    if !selector.matches(&labels.unwrap_or_default()) {
        return Err(wrong("it does not match the labels of spec.template"));
    }
    Ok(selector)
}

/// The Deployment's pods by what they are good for.
struct Sorted<'a> {
    new: Vec<&'a Arc<Pod>>,
    old: Vec<&'a Arc<Pod>>,
    finished: Vec<&'a Arc<Pod>>,
    terminating: usize,
    strays: Vec<Arc<Pod>>,
    available: HashSet<&'a str>,
    /// When a ready pod will have been so for long enough.
    next_available: Option<Duration>,
}

impl<'a> Sorted<'a> {
    fn new(input: &Input<'a>, selector: &Selector, hash: &str) -> Self {
        let (new, old, finished) = (Vec::new(), Vec::new(), Vec::new());
        let (strays, available) = (Vec::new(), HashSet::new());
        let mut sorted = Self { new, old, finished, terminating: 0, strays, available, next_available: None };
        let least_ready = i64::from(input.deployment.spec.min_ready_seconds.unwrap_or(0));
        let nothing = Default::default();
        for pod in input.pods {
            let labels = pod.metadata.labels.as_ref().unwrap_or(&nothing);
            if pods::is_terminating(pod.as_ref()) || input.leaving.contains(pods::uid(pod.as_ref())) {
                sorted.terminating += 1;
            } else if !selector.matches(labels) {
                sorted.strays.push(Arc::clone(pod));
            } else if pods::is_finished(pod) {
                sorted.finished.push(pod);
            } else {
                let updated = labels.get(TEMPLATE_HASH).map(String::as_str) == Some(hash);
                if updated {
                    sorted.new.push(pod)
                } else {
                    sorted.old.push(pod)
                }
                sorted.judge(pod, least_ready, input.now);
            }
        }
        sorted
    }

    /// Whether a pod has been ready for long enough, or when it will have been.
    fn judge(&mut self, pod: &'a Arc<Pod>, least_ready: i64, now: Timestamp) {
        if !pods::is_ready(pod) {
            return;
        }
        let since = pods::ready_since(pod).unwrap_or(now);
        let left = if least_ready == 0 { 0 } else { least_ready - now.duration_since(since).as_secs() };
        match u64::try_from(left) {
            Ok(left) if left > 0 => {
                let left = Duration::from_secs(left);
                self.next_available = Some(self.next_available.map_or(left, |next| next.min(left)));
            }
            _ => drop(self.available.insert(pods::uid(pod.as_ref()))),
        }
    }

    fn is_available(&self, pod: &Pod) -> bool {
        self.available.contains(pods::uid(pod))
    }

    fn total(&self) -> usize {
        self.new.len() + self.old.len()
    }

    fn counts(&self) -> Counts {
        let ready = self.new.iter().chain(&self.old).filter(|pod| pods::is_ready(pod)).count();
        Counts { total: self.total(), updated: self.new.len(), ready, available: self.available.len() }
    }

    /// Finished pods beyond those kept, oldest first.
    fn overdue(&self) -> impl Iterator<Item = Arc<Pod>> {
        let mut finished: Vec<&Arc<Pod>> = self.finished.clone();
        finished.sort_by_key(|pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0));
        let beyond = finished.len().saturating_sub(FINISHED_KEPT);
        finished.into_iter().take(beyond).cloned().collect::<Vec<_>>().into_iter()
    }
}

/// How many pods of the template to create now.
fn creations(input: &Input<'_>, sorted: &Sorted<'_>, limits: Limits) -> usize {
    let missing = limits.wanted.saturating_sub(sorted.new.len());
    if sorted.old.is_empty() && !(limits.recreate && sorted.terminating > 0 && sorted.new.is_empty()) {
        return missing;
    }
    // Paused: the old template is no longer on record, the new one must wait.
    if limits.recreate || input.deployment.spec.paused == Some(true) {
        return 0;
    }
    missing.min((limits.wanted + limits.surge).saturating_sub(sorted.total()))
}

fn create(input: &Input<'_>, sorted: &Sorted<'_>, count: usize, hash: &str) -> Result<Vec<Action>, Trouble> {
    let pod = template_pod(input.deployment, hash);
    let spec = pod.spec.clone().unwrap_or_default();
    if spec.node_name.as_deref().is_some_and(|name| !name.is_empty()) {
        return Ok((0..count).map(|_| Action::Create(Box::new(pod.clone()))).collect());
    }
    let there: Vec<&Pod> = sorted.new.iter().chain(&sorted.old).map(|pod| pod.as_ref()).collect();
    let namespace = input.deployment.metadata.namespace.as_deref().unwrap_or_default();
    let whose = format!("{namespace}/{}", name(input.deployment));
    let mut placement = Placement::new(input.nodes, &spec, &there, &whose);
    (0..count)
        .map(|_| {
            let node = placement.next().ok_or_else(|| nowhere(input, count))?;
            let mut pod = pod.clone();
            pod.spec.get_or_insert_default().node_name = Some(node);
            Ok(Action::Create(Box::new(pod)))
        })
        .collect()
}

fn nowhere(input: &Input<'_>, count: usize) -> Trouble {
    let nodes = input.nodes.len();
    Trouble {
        reason: "Unschedulable",
        message: format!("{count} pods wait: of {nodes} nodes none is schedulable; uncordon or add one"),
    }
}

/// A pod of the Deployment's template, without name and node.
fn template_pod(deployment: &Deployment, hash: &str) -> Pod {
    let template = deployment.spec.template.clone();
    let given = template.metadata.unwrap_or_default();
    let mut labels = given.labels.unwrap_or_default();
    labels.insert(TEMPLATE_HASH.to_owned(), hash.to_owned());
    let owner = OwnerReference {
        api_version: "apps/v1".to_owned(),
        kind: "Deployment".to_owned(),
        name: name(deployment).to_owned(),
        uid: pods::uid(deployment).to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    };
    let metadata = ObjectMeta {
        generate_name: Some(format!("{}-{hash}-", name(deployment))),
        namespace: deployment.metadata.namespace.clone(),
        labels: Some(labels),
        annotations: given.annotations,
        finalizers: given.finalizers,
        owner_references: Some(vec![owner]),
        ..ObjectMeta::default()
    };
    Pod { metadata, spec: template.spec, status: None }
}

/// Which pods to delete now: new ones beyond those wanted; old ones that serve nobody, then as many old ones as
/// may become unavailable.
fn deletions(input: &Input<'_>, sorted: &Sorted<'_>, limits: Limits) -> Vec<Arc<Pod>> {
    let first = |pods: &[&Arc<Pod>], count: usize| -> Vec<Arc<Pod>> {
        let order: Vec<&str> = ranked(pods.iter().map(|pod| pod.as_ref()).collect())
            .iter()
            .take(count)
            .map(|pod| pods::uid(*pod))
            .collect();
        order
            .iter()
            .filter_map(|uid| pods.iter().find(|pod| pods::uid(pod.as_ref()) == *uid))
            .map(|pod| Arc::clone(pod))
            .collect()
    };
    let mut going = first(&sorted.new, sorted.new.len().saturating_sub(limits.wanted));
    if input.deployment.spec.paused == Some(true) {
        going.extend(first(&sorted.old, (sorted.total() - going.len()).saturating_sub(limits.wanted)));
        return going;
    }
    if limits.recreate {
        going.extend(sorted.old.iter().map(|pod| Arc::clone(pod)));
        return going;
    }
    let least = limits.least_available();
    let staying = |pod: &&&Arc<Pod>| !going.iter().any(|gone| Arc::ptr_eq(gone, pod));
    let new_unavailable = sorted.new.iter().filter(staying).filter(|pod| !sorted.is_available(pod)).count();
    let budget = sorted.total().saturating_sub(least + new_unavailable + going.len());
    let (serving, idle): (Vec<&Arc<Pod>>, Vec<&Arc<Pod>>) =
        sorted.old.iter().partition(|pod| sorted.is_available(pod));
    let idle_going = first(&idle, budget);
    let spare = sorted.available.len().saturating_sub(least).min(budget - idle_going.len());
    going.extend(idle_going);
    going.extend(first(&serving, spare));
    going
}

#[cfg(test)]
mod tests;
