//! On which node a new pod goes: the work of a scheduler, as far as a lab needs it.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod, PodSpec};
use xxhash_rust::xxh3::xxh3_64;

/// Gives out nodes, each in turn, those with fewer pods of the Deployment first.
#[derive(Debug)]
pub(super) struct Placement {
    /// Name and number of pods, in the order of turns.
    nodes: Vec<(String, usize)>,
}

impl Placement {
    /// The nodes that may take pods of `template`, with the pods of `there` counted. Turns of different
    /// Deployments (`whose`) begin at different nodes.
    pub(super) fn new(nodes: &[Arc<Node>], template: &PodSpec, there: &[&Pod], whose: &str) -> Self {
        let names =
            nodes.iter().filter(|node| accepts(node, template)).filter_map(|node| node.metadata.name.clone());
        let mut names: Vec<String> = names.collect();
        names.sort_unstable();
        if !names.is_empty() {
            let turn = xxh3_64(whose.as_bytes()) % names.len() as u64;
            names.rotate_left(usize::try_from(turn).expect("less than the number of nodes"));
        }
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for name in there.iter().filter_map(|pod| pod.spec.as_ref()?.node_name.as_deref()) {
            *counts.entry(name).or_default() += 1;
        }
        let nodes = names.into_iter().map(|name| {
            let count = counts.get(name.as_str()).copied().unwrap_or(0);
            (name, count)
        });
        Self { nodes: nodes.collect() }
    }

    /// The node of the next pod; none if no node may take it.
    pub(super) fn next(&mut self) -> Option<String> {
        let (name, count) = self.nodes.iter_mut().min_by_key(|(_, count)| *count)?;
        *count += 1;
        Some(name.clone())
    }
}

/// Whether `node` may take such pods: not cordoned, not known to be unready, and with the labels the template
/// asks for. Taints do not count: nobody would lift those a real API server puts on new nodes.
fn accepts(node: &Node, template: &PodSpec) -> bool {
    let cordoned = node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false);
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let unready =
        conditions.filter(|condition| condition.type_ == "Ready").any(|ready| ready.status != "True");
    let label = |key: &str| node.metadata.labels.as_ref().and_then(|labels| labels.get(key));
    let labelled = template.node_selector.iter().flatten().all(|(key, value)| label(key) == Some(value));
    !cordoned && !unready && labelled && node.metadata.deletion_timestamp.is_none()
}

/// Whether two states of a node differ in what placement looks at.
pub(in super::super) fn differ(old: &Node, new: &Node) -> bool {
    let any = PodSpec::default();
    accepts(old, &any) != accepts(new, &any) || old.metadata.labels != new.metadata.labels
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn node(name: &str, rest: Value) -> Arc<Node> {
        let mut value = json!({"metadata": {"name": name, "labels": {"disk": name}}});
        for (key, part) in rest.as_object().unwrap() {
            value[key] = part.clone();
        }
        Arc::new(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn pods_take_turns_over_the_nodes_that_accept_them() {
        let nodes = [
            node("a", json!({})),
            node("b", json!({"spec": {"unschedulable": true}})),
            node("c", json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}})),
            node("d", json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}})),
        ];
        let there: Pod =
            serde_json::from_value(json!({"spec": {"nodeName": "a", "containers": []}})).unwrap();
        let mut placement = Placement::new(&nodes, &PodSpec::default(), &[&there], "n/web");
        let mut got: Vec<_> = (0..3).map(|_| placement.next().unwrap()).collect();
        assert_eq!(got[0], "c");
        got.sort();
        assert_eq!(got, ["a", "c", "c"]);
    }

    #[test]
    fn a_node_selector_is_respected_and_nothing_may_fit() {
        let nodes = [node("a", json!({})), node("b", json!({}))];
        let wants = |disk: &str| PodSpec {
            node_selector: Some([("disk".to_owned(), disk.to_owned())].into()),
            ..PodSpec::default()
        };
        assert_eq!(Placement::new(&nodes, &wants("b"), &[], "x").next().as_deref(), Some("b"));
        assert_eq!(Placement::new(&nodes, &wants("z"), &[], "x").next(), None);
    }
}
