//! What one pod is.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use serde::Serialize;

use super::{ClusterId, Locality, Name, NetworkId, ServiceKey};

/// Whether a workload terminates mesh mTLS: label `security.istio.io/tlsMode` (R5.8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TlsMode {
    /// A sidecar terminates mTLS.
    Istio,
    /// No sidecar.
    #[default]
    Disabled,
}

/// A SPIFFE identity, `spiffe://<trust domain>/ns/<namespace>/sa/<account>` (R5.9).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct SpiffeId {
    /// The trust domain.
    pub trust_domain: Name,
    /// The namespace of the service account.
    pub namespace: Name,
    /// The service account.
    pub service_account: Name,
}

impl SpiffeId {
    /// Reads the exact form; anything else is `None`: another scheme, other path segments, parts with other
    /// characters than letters, digits, `.`, `-`, `_`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix("spiffe://")?.split('/');
        let (domain, ns, namespace, sa, account) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let exact = ns == "ns" && sa == "sa" && parts.next().is_none();
        (exact && [domain, namespace, account].into_iter().all(is_plain)).then(|| Self {
            trust_domain: domain.into(),
            namespace: namespace.into(),
            service_account: account.into(),
        })
    }
}

/// One segment of a SPIFFE id (SPIFFE-ID 2.2), and not a dot segment.
fn is_plain(part: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    !matches!(part, "" | "." | "..") && part.bytes().all(plain)
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/ns/{}/sa/{}", self.trust_domain, self.namespace, self.service_account)
    }
}

/// What a pod (or a bare address) is: everything its endpoints share, and who its proxy is (D12).
///
/// A bare endpoint address without a pod has an empty `name` (R5.5).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Workload {
    /// The cluster it runs in.
    pub cluster: ClusterId,
    /// Its namespace.
    pub namespace: Name,
    /// The pod's name; empty for a bare address.
    pub name: Name,
    /// The pod's addresses; the first is its identity.
    pub addresses: Vec<IpAddr>,
    /// The network it is on (R2.1); empty when not known.
    pub network: NetworkId,
    /// Where it runs (R5.11).
    pub locality: Locality,
    /// The node it runs on; empty when not known.
    pub node: Name,
    /// Whether it terminates mesh mTLS (R5.8).
    pub tls_mode: TlsMode,
    /// Its identity (R5.9); bare addresses have none.
    pub account: Option<SpiffeId>,
    /// The workload's name, such as the Deployment's (R5.10).
    pub workload_name: Name,
    /// Canonical name (R4.14).
    pub canonical_name: Name,
    /// Canonical revision (R4.14); `latest` is written as empty.
    pub canonical_revision: Name,
    /// Pod labels and the synthetic topology labels (R5.20).
    pub labels: BTreeMap<Name, Name>,
    /// `hostname` and `subdomain` for per-pod DNS names (R5.12).
    pub pod_dns: Option<(Name, Name)>,
    /// The Services whose EndpointSlices name this pod: its inbound listeners come from these.
    pub services: BTreeSet<ServiceKey>,
}

impl Workload {
    /// The telemetry text of R4.14: `workload;namespace;canonical name;canonical revision;cluster`.
    pub fn telemetry(&self) -> String {
        format!(
            "{};{};{};{};{}",
            self.workload_name, self.namespace, self.canonical_name, self.canonical_revision, self.cluster
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spiffe_ids_are_read_exactly() {
        let text = "spiffe://cluster.local/ns/sample/sa/sleep";
        assert_eq!(SpiffeId::parse(text).map(|id| id.to_string()).as_deref(), Some(text));
        for wrong in [
            "spiffe://cluster.local/ns/sample/sa/",
            "spiffe://cluster.local/ns/sample/sa/sleep/x",
            "spiffe://cluster.local/sa/sleep/ns/sample",
            "https://cluster.local/ns/sample/sa/sleep",
            "spiffe:///ns/sample/sa/sleep",
            "spiffe://cluster.local/ns/../sa/sleep",
            "spiffe://cluster.local/ns/sample/sa/sleep?x",
            "spiffe://cluster.local/ns/sam ple/sa/sleep",
            "",
        ] {
            assert_eq!(SpiffeId::parse(wrong), None, "{wrong}");
        }
    }
}
