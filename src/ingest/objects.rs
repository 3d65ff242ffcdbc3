//! The Kubernetes objects we read, reduced to the fields we use.
//!
//! Equality of two values here means: nothing that matters to us differs. A node's heartbeat or a pod's
//! changed annotation therefore costs no conversion. Unknown fields are skipped and missing ones default;
//! an object that still cannot be read becomes a [`Decoded`] with a reason, never a broken stream (contract 9).

mod decoded;
mod raw;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use serde::Deserialize;

pub use decoded::{Decoded, Object, ObjectKey, ObjectKind};

use crate::model::{Locality, Name};

/// Labels or annotations.
pub type Labels = BTreeMap<Name, Name>;

/// Label with the network of a namespace, pod or Service (R2.1, R3.1).
pub const NETWORK_LABEL: &str = "topology.istio.io/network";

/// A Namespace: only the label that says where its cluster belongs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "raw::Namespace")]
pub struct NamespaceObject {
    /// Label `topology.istio.io/network`; empty when absent.
    pub network: Name,
    /// Its labels.
    pub labels: Labels,
    /// Its uid; that of `kube-system` says which cluster it is (K-20).
    pub uid: Name,
}

/// A Node: only where it stands (R5.11).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "raw::Node")]
pub struct NodeObject {
    /// From its topology labels.
    pub locality: Locality,
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "raw::Pod")]
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "raw::Service")]
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
}

/// An EndpointSlice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "raw::EndpointSlice")]
pub struct SliceObject {
    /// The Service it belongs to, when it is one we read (R5.1).
    pub service: Option<Name>,
    /// Its endpoints.
    pub endpoints: Vec<SliceEndpoint>,
    /// Its ports.
    pub ports: Vec<SlicePort>,
}

/// One entry of a slice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SliceEndpoint {
    /// Addresses, as the object spells them.
    pub addresses: Vec<Name>,
    /// The pod it names, if it names one (R5.3).
    pub pod: Option<ObjectKey>,
    /// `conditions.ready`.
    pub ready: Option<bool>,
    /// `conditions.serving`.
    pub serving: Option<bool>,
    /// `conditions.terminating`.
    pub terminating: Option<bool>,
}

/// One port of a slice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlicePort {
    /// Its name; empty when unnamed (R5.2).
    pub name: Name,
    /// Its number, as written; 0 when missing.
    pub port: i64,
}

/// A Secret with kubeconfigs of remote clusters (R1.1, R1.2). Its content is never shown.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "raw::Secret")]
pub struct SecretObject {
    /// Creation time, seconds since the epoch.
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
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn missing_and_null_fields_default() {
        let service: ServiceObject = serde_json::from_value(json!({
            "metadata": {"name": "a", "labels": null, "annotations": null},
            "spec": {"ports": null, "clusterIPs": null, "somethingNew": {"x": 1}},
            "status": null,
        }))
        .unwrap();
        assert_eq!(service, ServiceObject::default());
        assert_eq!(serde_json::from_value::<PodObject>(json!({})).unwrap(), PodObject::default());
        assert_eq!(
            serde_json::from_value::<SliceObject>(json!({"endpoints": [{"conditions": null}]}))
                .unwrap()
                .endpoints,
            vec![SliceEndpoint::default()]
        );
    }

    #[test]
    fn r5_1_slices_of_other_kinds_belong_to_no_service() {
        let service = |labels: serde_json::Value, address_type: &str| {
            serde_json::from_value::<SliceObject>(
                json!({"metadata": {"labels": labels}, "addressType": address_type}),
            )
            .unwrap()
            .service
        };
        assert_eq!(service(json!({"kubernetes.io/service-name": "s"}), "IPv4"), Some("s".into()));
        assert_eq!(service(json!({"kubernetes.io/service-name": "s"}), "FQDN"), None);
        assert_eq!(
            service(
                json!({"kubernetes.io/service-name": "s", "multicluster.kubernetes.io/service-name": "s"}),
                "IPv4"
            ),
            None
        );
        assert_eq!(service(json!({}), "IPv4"), None);
    }

    #[test]
    fn r5_7_a_pod_lends_its_metadata_only_while_ready_running_and_not_leaving() {
        let pod = |phase: &str, ready: &str, leaving: bool| -> PodObject {
            let mut meta = json!({"name": "p"});
            if leaving {
                meta["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            }
            serde_json::from_value(json!({"metadata": meta, "status": {
                "phase": phase, "podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": ready}]}}))
            .unwrap()
        };
        assert!(pod("Running", "True", false).lends);
        assert!(!pod("Running", "False", false).lends);
        assert!(!pod("Succeeded", "True", false).lends);
        assert!(!pod("Failed", "True", false).lends);
        assert!(!pod("Running", "True", true).lends);
        assert!(pod("Failed", "True", false).failed);
    }

    #[test]
    fn a_secret_never_shows_its_values() {
        let secret: SecretObject =
            serde_json::from_value(json!({"data": {"west": "Y2FuYXJ5", "bad": "***"}})).unwrap();
        assert_eq!(secret.data["west"].as_deref(), Some(&b"canary"[..]));
        assert_eq!(secret.data["bad"], None);
        let shown = format!("{secret:?}");
        assert!(shown.contains("west") && !shown.contains("canary") && !shown.contains("99"));
    }
}
