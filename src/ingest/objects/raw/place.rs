//! Namespaces, Nodes and Pods.

use super::{Namespace, Node, Pod};
use crate::ingest::objects::{
    Controller, Labels, NETWORK_LABEL, NamespaceObject, NodeObject, PodObject,
    TRAFFIC_DISTRIBUTION_ANNOTATION,
};
use crate::model::Locality;

/// Entries of `status.podIPs` that are read; Kubernetes permits one of each family.
const MAX_POD_IPS: usize = 16;
/// Annotation of a pod whose traffic its node takes (R4.16, R5.16).
const REDIRECTION_ANNOTATION: &str = "ambient.istio.io/redirection";

impl From<Namespace<'_>> for NamespaceObject {
    fn from(raw: Namespace<'_>) -> Self {
        let meta = raw.metadata;
        Self {
            network: meta.label(NETWORK_LABEL).into(),
            traffic_distribution: meta.annotation(TRAFFIC_DISTRIBUTION_ANNOTATION).unwrap_or_default(),
            uid: meta.uid.name(),
            labels: meta.labels.into_labels(),
        }
    }
}

impl From<Node<'_>> for NodeObject {
    /// R5.11: the current label names before the old ones.
    fn from(raw: Node<'_>) -> Self {
        let meta = raw.metadata;
        let first = |names: [&str; 2]| {
            let mut found = names.iter().map(|name| meta.label(name));
            found.find(|value| !value.is_empty()).unwrap_or_default()
        };
        let locality = Locality {
            region: first(["topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region"])
                .into(),
            zone: first(["topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"]).into(),
            subzone: meta.label("topology.istio.io/subzone").into(),
        };
        let mut external = raw.status.addresses.iter().filter(|address| &*address.r#type == "ExternalIP");
        let external_ip = external.find_map(|address| address.address.parse().ok());
        let labels = if external_ip.is_some() { meta.labels.into_labels() } else { Labels::new() };
        Self { locality, external_ip, labels }
    }
}

impl From<Pod<'_>> for PodObject {
    fn from(raw: Pod<'_>) -> Self {
        let (meta, status) = (raw.metadata, raw.status);
        let ready = status.conditions.iter().any(|c| &*c.r#type == "Ready" && &*c.status == "True");
        let (failed, succeeded) = (&*status.phase == "Failed", &*status.phase == "Succeeded");
        let leaving = meta.deletion_timestamp.is_there();
        let listed = status.pod_ips.iter().take(MAX_POD_IPS).map(|ip| &*ip.ip);
        let mut addresses = Vec::new();
        for text in std::iter::once(&*status.pod_ip).chain(listed) {
            if let Ok(address) = text.parse()
                && !addresses.contains(&address)
            {
                addresses.push(address);
            }
        }
        let controller = meta.owner_references.iter().find(|owner| owner.controller);
        Self {
            generated: !meta.generate_name.is_empty(),
            controller: controller
                .map(|owner| Controller { kind: owner.kind.common(), name: owner.name.common() }),
            labels: meta.labels.into_labels(),
            service_account: raw.spec.service_account_name.common(),
            node: raw.spec.node_name.common(),
            hostname: raw.spec.hostname.name(),
            subdomain: raw.spec.subdomain.name(),
            redirected: meta
                .annotations
                .get(REDIRECTION_ANNOTATION)
                .is_some_and(|value| &**value == "enabled"),
            failed,
            lends: ready && !failed && !succeeded && !leaving && !addresses.is_empty(),
            addresses,
        }
    }
}
