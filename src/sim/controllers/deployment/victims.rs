//! Which pods go first when there are too many.

use std::cmp::Reverse;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::super::pods;

/// The annotation by which users say which pods to spare: lower goes first.
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// The order of going: without a node, pending, of unknown phase, not ready, cheaper, ready for a shorter
/// time, restarted more often, newer. Names settle what is left. (The real controller also prefers pods that share
/// their node with others; pods here are spread anyway.)
type Rank<'a> = (bool, u8, bool, i32, Reverse<Timestamp>, Reverse<i32>, Reverse<Timestamp>, &'a str);

/// `candidates`, those that should go first in front.
pub(super) fn ranked(mut candidates: Vec<&Pod>) -> Vec<&Pod> {
    candidates.sort_by(|a, b| rank(a).cmp(&rank(b)));
    candidates
}

fn rank(pod: &Pod) -> Rank<'_> {
    let assigned =
        pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).is_some_and(|name| !name.is_empty());
    let phase = match pods::phase(pod) {
        "" | "Pending" => 0,
        "Unknown" => 1,
        _ => 2,
    };
    let created = pod.metadata.creation_timestamp.as_ref().map_or(Timestamp::MAX, |time| time.0);
    let since = pods::ready_since(pod).unwrap_or(Timestamp::MAX);
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    (
        assigned,
        phase,
        pods::is_ready(pod),
        cost(pod),
        Reverse(since),
        Reverse(restarts(pod)),
        Reverse(created),
        name,
    )
}

fn cost(pod: &Pod) -> i32 {
    let annotation = pod.metadata.annotations.as_ref().and_then(|map| map.get(DELETION_COST));
    annotation.and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    statuses.map(|status| status.restart_count).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(name: &str, patch: Value) -> Pod {
        let mut value = json!({
            "metadata": {"name": name, "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"nodeName": "n1", "containers": []},
            "status": {"phase": "Running", "conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:10Z"}]},
        });
        for (key, part) in patch.as_object().unwrap() {
            for (field, new) in part.as_object().unwrap() {
                value[key][field] = new.clone();
            }
        }
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_least_useful_goes_first_and_among_equals_the_newest() {
        let pods = [
            pod("old", json!({})),
            pod("new", json!({"metadata": {"creationTimestamp": "2026-01-01T00:00:05Z"}})),
            pod("spared", json!({"metadata": {"annotations": {DELETION_COST: "10"}}})),
            pod("unready", json!({"status": {"conditions": []}})),
            pod("pending", json!({"status": {"phase": "Pending", "conditions": []}})),
            pod(
                "homeless",
                json!({"spec": {"nodeName": null}, "status": {"phase": "Pending", "conditions": []}}),
            ),
        ];
        let order: Vec<_> =
            ranked(pods.iter().collect()).iter().map(|pod| pod.metadata.name.as_deref().unwrap()).collect();
        assert_eq!(order, ["homeless", "pending", "unready", "new", "old", "spared"]);
    }
}
