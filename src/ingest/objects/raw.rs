//! The wire form of the objects: everything optional, reduced at once.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer};

use super::{
    Controller, Labels, NETWORK_LABEL, NamespaceObject, NodeObject, ObjectKey, PodObject, PortObject,
    SecretObject, ServiceObject, ServiceType, SliceEndpoint, SliceObject, SlicePort,
};
use crate::model::{Locality, Name};

/// `null` counts as missing, as it does for the API server.
fn lenient<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

macro_rules! wire {
    ($($name:ident { $($field:ident: $type:ty,)* })*) => {
        $(
            #[derive(Default, Deserialize)]
            #[serde(rename_all = "camelCase")]
            pub(super) struct $name {
                $(#[serde(default, deserialize_with = "lenient")] $field: $type,)*
            }
        )*
    };
}

wire! {
    Meta {
        namespace: Name, uid: Name, labels: Labels, annotations: Labels, generate_name: Name,
        creation_timestamp: Option<jiff::Timestamp>, deletion_timestamp: Option<String>,
        owner_references: Vec<Owner>,
    }
    Owner { kind: Name, name: Name, controller: bool, }
    Namespace { metadata: Meta, }
    Node { metadata: Meta, }
    Pod { metadata: Meta, spec: PodSpec, status: PodStatus, }
    PodSpec { service_account_name: Name, node_name: Name, hostname: Name, subdomain: Name, }
    Condition { r#type: Name, status: Name, }
    PodIp { ip: String, }
    Service { metadata: Meta, spec: ServiceSpec, status: ServiceStatus, }
    ServicePort { name: Name, port: i64, protocol: Name, app_protocol: Name, }
    ServiceStatus { load_balancer: LoadBalancer, }
    LoadBalancer { ingress: Vec<Ingress>, }
    Ingress { ip: Name, hostname: Name, }
    EndpointSlice {
        metadata: Meta, address_type: Name, endpoints: Vec<Endpoint>, ports: Vec<EndpointPort>,
    }
    Endpoint { addresses: Vec<Name>, conditions: Conditions, target_ref: Option<TargetRef>, }
    Conditions { ready: Option<bool>, serving: Option<bool>, terminating: Option<bool>, }
    TargetRef { kind: Name, namespace: Name, name: Name, }
    EndpointPort { name: Name, port: i64, }
    Secret { metadata: Meta, data: BTreeMap<String, String>, }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PodStatus {
    #[serde(default, deserialize_with = "lenient")]
    phase: Name,
    #[serde(default, rename = "podIP", deserialize_with = "lenient")]
    pod_ip: String,
    #[serde(default, rename = "podIPs", deserialize_with = "lenient")]
    pod_ips: Vec<PodIp>,
    #[serde(default, deserialize_with = "lenient")]
    conditions: Vec<Condition>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ServiceSpec {
    #[serde(default, deserialize_with = "lenient")]
    r#type: Name,
    #[serde(default, rename = "clusterIP", deserialize_with = "lenient")]
    cluster_ip: Name,
    #[serde(default, rename = "clusterIPs", deserialize_with = "lenient")]
    cluster_ips: Vec<Name>,
    #[serde(default, deserialize_with = "lenient")]
    external_name: Name,
    #[serde(default, rename = "externalIPs", deserialize_with = "lenient")]
    external_ips: Vec<Name>,
    #[serde(default, deserialize_with = "lenient")]
    ports: Vec<ServicePort>,
    #[serde(default, deserialize_with = "lenient")]
    internal_traffic_policy: Name,
    #[serde(default, deserialize_with = "lenient")]
    publish_not_ready_addresses: bool,
}

impl Meta {
    fn label(&self, name: &str) -> Name {
        self.labels.get(name).cloned().unwrap_or_default()
    }

    fn created(&self) -> i64 {
        self.creation_timestamp.map_or(0, jiff::Timestamp::as_second)
    }
}

impl From<Namespace> for NamespaceObject {
    fn from(raw: Namespace) -> Self {
        let network = raw.metadata.label(NETWORK_LABEL);
        Self { network, labels: raw.metadata.labels, uid: raw.metadata.uid }
    }
}

impl From<Node> for NodeObject {
    /// R5.11: the current label names before the old ones.
    fn from(raw: Node) -> Self {
        let first = |names: [&str; 2]| {
            let mut found = names.iter().map(|name| raw.metadata.label(name));
            found.find(|value| !value.is_empty()).unwrap_or_default()
        };
        Self {
            locality: Locality {
                region: first(["topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region"]),
                zone: first(["topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"]),
                subzone: raw.metadata.label("topology.istio.io/subzone"),
            },
        }
    }
}

impl From<Pod> for PodObject {
    fn from(raw: Pod) -> Self {
        let ready = raw.status.conditions.iter().any(|c| &*c.r#type == "Ready" && &*c.status == "True");
        let (failed, succeeded) = (&*raw.status.phase == "Failed", &*raw.status.phase == "Succeeded");
        let leaving = raw.metadata.deletion_timestamp.is_some();
        let listed = raw.status.pod_ips.into_iter().map(|ip| ip.ip);
        let mut addresses = Vec::new();
        for text in std::iter::once(raw.status.pod_ip).chain(listed) {
            if let Ok(address) = text.parse()
                && !addresses.contains(&address)
            {
                addresses.push(address);
            }
        }
        let controller = raw.metadata.owner_references.into_iter().find(|owner| owner.controller);
        Self {
            labels: raw.metadata.labels,
            generated: !raw.metadata.generate_name.is_empty(),
            controller: controller.map(|owner| Controller { kind: owner.kind, name: owner.name }),
            service_account: raw.spec.service_account_name,
            node: raw.spec.node_name,
            hostname: raw.spec.hostname,
            subdomain: raw.spec.subdomain,
            failed,
            lends: ready && !failed && !succeeded && !leaving && !addresses.is_empty(),
            addresses,
        }
    }
}

impl From<Service> for ServiceObject {
    fn from(raw: Service) -> Self {
        let created = raw.metadata.created();
        let mut annotations = raw.metadata.annotations;
        let mut annotation = |name: &str| annotations.remove(name);
        let spec = raw.spec;
        let filled =
            |names: Vec<Name>| -> Vec<Name> { names.into_iter().filter(|name| !name.is_empty()).collect() };
        let headless = &*spec.cluster_ip == "None";
        let cluster_ips = match filled(spec.cluster_ips) {
            several if several.len() > 1 => several,
            _ => filled(vec![spec.cluster_ip]),
        };
        let ingress = raw.status.load_balancer.ingress.into_iter();
        Self {
            labels: raw.metadata.labels,
            export_to: annotation("networking.istio.io/exportTo"),
            canonical_accounts: annotation("alpha.istio.io/canonical-serviceaccounts"),
            kubernetes_accounts: annotation("alpha.istio.io/kubernetes-serviceaccounts"),
            created,
            service_type: match &*spec.r#type {
                "LoadBalancer" => ServiceType::LoadBalancer,
                "ExternalName" => ServiceType::ExternalName(spec.external_name),
                _ => ServiceType::Internal,
            },
            headless,
            cluster_ips: if headless { Vec::new() } else { cluster_ips },
            ports: spec
                .ports
                .into_iter()
                .map(|port| PortObject {
                    name: port.name,
                    port: port.port,
                    protocol: port.protocol,
                    app_protocol: port.app_protocol,
                })
                .collect(),
            external_ips: filled(spec.external_ips),
            ingress: filled(ingress.map(|i| if i.ip.is_empty() { i.hostname } else { i.ip }).collect()),
            node_local: &*spec.internal_traffic_policy == "Local",
            publish_not_ready: spec.publish_not_ready_addresses,
        }
    }
}

impl From<EndpointSlice> for SliceObject {
    /// R5.1: slices without a Service, of other clusters' Services, or of host names belong to no service.
    fn from(raw: EndpointSlice) -> Self {
        let service = raw.metadata.label("kubernetes.io/service-name");
        let foreign = !raw.metadata.label("multicluster.kubernetes.io/service-name").is_empty();
        let usable = !service.is_empty() && !foreign && &*raw.address_type != "FQDN";
        let namespace = raw.metadata.namespace;
        let endpoint = |raw: Endpoint| SliceEndpoint {
            addresses: raw.addresses,
            pod: raw.target_ref.filter(|target| &*target.kind == "Pod").map(|target| {
                let own = target.namespace.is_empty();
                ObjectKey {
                    namespace: if own { namespace.clone() } else { target.namespace },
                    name: target.name,
                }
            }),
            ready: raw.conditions.ready,
            serving: raw.conditions.serving,
            terminating: raw.conditions.terminating,
        };
        Self {
            service: usable.then_some(service),
            endpoints: raw.endpoints.into_iter().map(endpoint).collect(),
            ports: raw.ports.into_iter().map(|port| SlicePort { name: port.name, port: port.port }).collect(),
        }
    }
}

impl From<Secret> for SecretObject {
    fn from(raw: Secret) -> Self {
        let decoded = raw.data.into_iter().map(|(key, text)| (key, STANDARD.decode(text.trim()).ok()));
        let created = raw.metadata.created();
        let mut annotations = raw.metadata.annotations;
        annotations.retain(|key, _| key.starts_with("tombolo.dev/"));
        Self { created, annotations, data: decoded.collect() }
    }
}
