//! The Kubernetes objects we read, reduced to the fields we use.
//!
//! Equality of two values here means: nothing that matters to us differs. A node's heartbeat or a pod's
//! changed annotation therefore costs no conversion. Unknown fields are skipped and missing ones default;
//! an object that still cannot be read is told of with a reason, never as a broken stream (contract 9).

mod custom;
mod entry;
mod kind;
mod object;
mod raw;
mod slice;
pub mod wire;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

pub use custom::{CustomKind, CustomObject, Document};
pub use entry::{EntryPort, EntryResolution, ServiceEntryObject, WorkloadEntryObject};
pub(in crate::ingest) use kind::plural;
pub use kind::{ObjectKey, ObjectKind};
pub use object::Object;
pub use slice::{PodName, SliceAddresses, SliceEndpoint, SliceObject, SlicePort};

pub use crate::model::Labels;
use crate::model::{Locality, Name};

/// Label with the network of a namespace, pod or Service (R2.1, R3.1).
pub const NETWORK_LABEL: &str = "topology.istio.io/network";

/// Annotation with where the gateways of a Service or Gateway are reached instead.
pub const GATEWAY_ADDRESS_ANNOTATION: &str = "tombolo.dev/gateway-address";

/// Annotation with how the traffic to a Service, or to those of a namespace, is distributed (R4.30).
pub const TRAFFIC_DISTRIBUTION_ANNOTATION: &str = "networking.istio.io/traffic-distribution";

/// A Namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamespaceObject {
    /// Label `topology.istio.io/network`; empty when absent.
    pub network: Name,
    /// Annotation `networking.istio.io/traffic-distribution`; empty when absent.
    pub traffic_distribution: Name,
    /// Its labels.
    pub labels: Labels,
    /// Its uid; that of `kube-system` says which cluster it is (K-20).
    pub uid: Name,
}

/// A Node: where it stands (R5.11), and what NodePort gateways need of it (R3.4).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeObject {
    /// From its topology labels.
    pub locality: Locality,
    /// Its first address of type `ExternalIP`.
    pub external_ip: Option<IpAddr>,
    /// Its labels; empty for a node without an ExternalIP, which is never a gateway.
    pub labels: Labels,
}

/// Who made a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Controller {
    /// `ReplicaSet`, `Job`, …
    pub kind: Name,
    /// Its name.
    pub name: Name,
}

/// A Pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodObject {
    /// Its labels.
    pub labels: Labels,
    /// Whether its name was generated (R5.10).
    pub generated: bool,
    /// Its controller, if it has one.
    pub controller: Option<Controller>,
    /// `spec.serviceAccountName`.
    pub service_account: Name,
    /// `spec.nodeName`; empty until scheduled.
    pub node: Name,
    /// `spec.hostname`.
    pub hostname: Name,
    /// `spec.subdomain`.
    pub subdomain: Name,
    /// Whether annotation `ambient.istio.io/redirection` says that its node takes HBONE for it (R4.16).
    pub redirected: bool,
    /// Whether `status.phase` is `Failed`: such a pod counts as absent (R5.3).
    pub failed: bool,
    /// Ready, neither failed nor succeeded, not being deleted: it may lend its metadata to its IP (R5.7).
    pub lends: bool,
    /// Its addresses, the primary one first.
    pub addresses: Vec<IpAddr>,
}

/// What kind of Service it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ServiceType {
    /// ClusterIP or NodePort.
    #[default]
    Internal,
    /// LoadBalancer.
    LoadBalancer,
    /// ExternalName with its target.
    ExternalName(Name),
}

/// A Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceObject {
    /// Its labels.
    pub labels: Labels,
    /// Annotation `networking.istio.io/exportTo`.
    pub export_to: Option<Name>,
    /// Annotation `alpha.istio.io/canonical-serviceaccounts` (R5.23).
    pub canonical_accounts: Option<Name>,
    /// Annotation `alpha.istio.io/kubernetes-serviceaccounts` (R5.23).
    pub kubernetes_accounts: Option<Name>,
    /// Creation time, seconds since the epoch; 0 when not known.
    pub created: i64,
    /// `spec.type`.
    pub service_type: ServiceType,
    /// `clusterIP: None`.
    pub headless: bool,
    /// Virtual addresses, as the object spells them.
    pub cluster_ips: Vec<Name>,
    /// Ports.
    pub ports: Vec<PortObject>,
    /// `spec.externalIPs`.
    pub external_ips: Vec<Name>,
    /// `status.loadBalancer.ingress`: each entry's IP, else its host name.
    pub ingress: Vec<Name>,
    /// `internalTrafficPolicy: Local`.
    pub node_local: bool,
    /// `publishNotReadyAddresses`.
    pub publish_not_ready: bool,
    /// Whether `spec.type` is `NodePort`.
    pub node_port_type: bool,
    /// Annotation `traffic.istio.io/nodeSelector` (R3.4).
    pub node_selector: Option<Name>,
    /// Annotation `tombolo.dev/gateway-address`: where its gateways are reached instead.
    pub gateway_address: Option<Name>,
    /// `externalTrafficPolicy: Local`.
    pub external_traffic_local: bool,
    /// `spec.trafficDistribution`, whatever it says; empty when absent (R4.30).
    pub traffic_distribution_spec: Name,
    /// Annotation `networking.istio.io/traffic-distribution` (R4.30).
    pub traffic_distribution: Option<Name>,
    /// `spec.selector`.
    pub selector: Labels,
}

/// One port of a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortObject {
    /// Its name; empty when unnamed.
    pub name: Name,
    /// Its number, as written.
    pub port: i64,
    /// `TCP`, `UDP` or `SCTP`; empty counts as TCP.
    pub protocol: Name,
    /// `appProtocol`.
    pub app_protocol: Name,
    /// Its port on every node; 0 when it has none.
    pub node_port: i64,
    /// `targetPort`: a number in digits, or a name; empty when not said.
    pub target_port: Name,
}

/// A Gateway of the Gateway API, as far as it tells of east-west gateways (R3.9–R3.11).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GatewayObject {
    /// Its labels.
    pub labels: Labels,
    /// `spec.gatewayClassName`.
    pub class: Name,
    /// `spec.addresses`: type (`IPAddress` when not said) and value.
    pub addresses: Vec<(Name, Name)>,
    /// `spec.listeners`.
    pub listeners: Vec<ListenerObject>,
    /// Annotation `gateway.istio.io/service-account` (R3.11).
    pub service_account: Option<Name>,
    /// Annotation `tombolo.dev/gateway-address`.
    pub gateway_address: Option<Name>,
}

/// One listener of a Gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListenerObject {
    /// Its port, as written.
    pub port: i64,
    /// `TLS`, `HBONE`, …
    pub protocol: Name,
    /// `tls.options`; `None` without `tls`.
    pub tls_options: Option<Labels>,
}

/// A ServiceExport: that there is one is all it says (R4.38).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceExportObject {}

/// A ServiceImport (R4.39).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceImportObject {
    /// `spec.ips`: its virtual addresses.
    pub ips: Vec<Name>,
}

/// The mesh ConfigMap: only what we read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigMapObject {
    /// Key `meshNetworks`.
    pub data: BTreeMap<Name, Arc<str>>,
}

/// A Secret with kubeconfigs of remote clusters (R1.1, R1.2). Its content is never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SecretObject {
    /// Creation time, seconds since the epoch; the end of all time when not known.
    pub created: i64,
    /// Annotations under `tombolo.dev/`: they say how its clusters are treated (D35).
    pub annotations: Labels,
    /// Decoded values by key; `None` when the value is not base64.
    pub data: BTreeMap<String, Option<Vec<u8>>>,
}

impl fmt::Debug for SecretObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretObject")
            .field("created", &self.created)
            .field("keys", &self.data.keys())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
