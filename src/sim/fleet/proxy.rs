//! Who the proxies say they are: sidecars of the pods of generated worlds.

use std::net::Ipv4Addr;

use prost_types::value::Kind as ValueKind;

use super::behaviour::Behaviour;
use crate::proto::discovery::Node;
use crate::sim::world::{GENERATED_NAMESPACE, Generate, generated_pod};

/// What a proxy subscribes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subscription {
    /// Everything, in Envoy's order.
    Everything,
    /// The assignments of the fleet's list of names.
    Assignments,
}

/// One proxy of a fleet.
#[derive(Debug, Clone, PartialEq)]
pub struct Proxy {
    /// Who it says it is.
    pub node: Node,
    /// What it does.
    pub behaviour: Behaviour,
    /// What it asks for.
    pub subscription: Subscription,
}

/// A cluster and its network, as proxies name them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    /// Cluster id.
    pub cluster: String,
    /// Network id.
    pub network: String,
}

/// Sidecar `number` of a fleet over `homes`, each with a world of the size `size`: in turn one of each cluster, its
/// pods in order. Beyond the last pod come pods nobody knows, with names and addresses of their own.
pub fn sidecar(homes: &[Home], size: Generate, number: usize) -> Node {
    let (home, index) = (&homes[number % homes.len()], number / homes.len());
    let known = generated_pod(size, index);
    let (name, app, ip) = known.unwrap_or_else(|| {
        let ip = Ipv4Addr::from_bits(0x0a40_0000 | (index as u32 & 0x003f_ffff)).to_string();
        (format!("further-{index}"), "further".to_owned(), ip)
    });
    let labels = [("app", app.clone()), ("pod-template-hash", format!("{number:x}"))];
    let metadata = [
        ("CLUSTER_ID", text(&home.cluster)),
        ("NETWORK", text(&home.network)),
        ("NAMESPACE", text(GENERATED_NAMESPACE)),
        ("SERVICE_ACCOUNT", text(&app)),
        ("INSTANCE_IPS", text(&ip)),
        ("LABELS", structure(labels.map(|(key, value)| (key, text(&value))))),
        ("ISTIO_VERSION", text("1.29.4")),
    ];
    let Some(ValueKind::StructValue(metadata)) = structure(metadata).kind else {
        unreachable!("made as a structure")
    };
    Node {
        id: format!("sidecar~{ip}~{name}.{GENERATED_NAMESPACE}~{GENERATED_NAMESPACE}.svc.cluster.local"),
        cluster: format!("{app}.{GENERATED_NAMESPACE}"),
        metadata: Some(metadata),
        ..Node::default()
    }
}

/// The names of the assignments of all services of a generated world.
pub fn assignments(size: Generate) -> Vec<String> {
    (0..size.services)
        .map(|service| format!("outbound|80||svc-{service}.{GENERATED_NAMESPACE}.svc.cluster.local"))
        .collect()
}

fn text(text: &str) -> prost_types::Value {
    prost_types::Value { kind: Some(ValueKind::StringValue(text.to_owned())) }
}

fn structure<const N: usize>(fields: [(&str, prost_types::Value); N]) -> prost_types::Value {
    let fields = fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    prost_types::Value { kind: Some(ValueKind::StructValue(prost_types::Struct { fields })) }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::sim::world::generate;

    fn homes() -> Vec<Home> {
        ["c1", "c2", "c3"].map(|id| Home { cluster: id.into(), network: format!("net-{id}") }).to_vec()
    }

    #[test]
    fn sidecars_are_pods_of_their_cluster_and_no_two_are_alike() {
        let size: Generate = "services=3,endpoints=20".parse().unwrap();
        let pods: HashSet<String> = generate(size)
            .filter(|object| object["kind"] == "Pod")
            .map(|pod| {
                format!(
                    "sidecar~{}~{}.bench~bench.svc.cluster.local",
                    pod["status"]["podIP"].as_str().unwrap(),
                    pod["metadata"]["name"].as_str().unwrap()
                )
            })
            .collect();
        let nodes: Vec<Node> = (0..60).map(|number| sidecar(&homes(), size, number)).collect();
        assert!(nodes.iter().all(|node| pods.contains(&node.id)));
        let who = |node: &Node| {
            let metadata = &node.metadata.as_ref().unwrap().fields;
            format!("{} {:?}", node.id, metadata["CLUSTER_ID"])
        };
        assert_eq!(nodes.iter().map(who).collect::<HashSet<_>>().len(), 60);
        let further = sidecar(&homes(), size, 60);
        assert!(!pods.contains(&further.id) && further.id.contains("further-20"));
    }

    #[test]
    fn assignments_are_those_of_the_world() {
        let size: Generate = "services=2,endpoints=2".parse().unwrap();
        assert_eq!(
            assignments(size),
            ["outbound|80||svc-0.bench.svc.cluster.local", "outbound|80||svc-1.bench.svc.cluster.local"]
        );
    }
}
