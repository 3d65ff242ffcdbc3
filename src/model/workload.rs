//! What one pod is.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::{Addresses, ClusterId, Labels, Locality, Name, NetworkId, ServiceKey, Set, WorkloadId};

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

/// What the pods of one deployment have in common. Shared: a thousand pods of one deployment have one of these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct WorkloadProfile {
    /// The cluster it runs in.
    pub cluster: ClusterId,
    /// Its namespace.
    pub namespace: Name,
    /// The network it is on (R2.1); empty when not known.
    pub network: NetworkId,
    /// Whether it terminates mesh mTLS (R5.8).
    pub tls_mode: TlsMode,
    /// Whether its node takes HBONE for it: annotation `ambient.istio.io/redirection` (R4.16).
    pub redirected: bool,
    /// Its identity (R5.9); bare addresses have none.
    pub account: Option<SpiffeId>,
    /// Canonical revision (R4.14); `latest` is written as empty.
    pub canonical_revision: Name,
    // What would be the pod's own name is `None`, so that pods that differ in nothing else share this.
    pub(crate) workload_name: Option<Name>,
    pub(crate) canonical_name: Option<Name>,
    /// `spec.hostname` and `spec.subdomain` (R5.12).
    pub(crate) pod_dns: Option<(Option<Name>, Name)>,
    /// The pod's own labels. Rules look at [`Workload::label`], which knows the topology labels too (R5.20).
    pub(crate) own_labels: Labels,
}

/// Where the pods of one node run. Shared by all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct NodePlace {
    /// The node; empty when not known.
    pub node: Name,
    /// Its region, zone and subzone, or what the pod says instead (R5.11).
    pub locality: Locality,
}

/// Everything a workload is made of, in the open: what conversion fills in and tests spell out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct WorkloadParts {
    /// The cluster it runs in.
    pub cluster: ClusterId,
    /// Its namespace.
    pub namespace: Name,
    /// The pod's name; empty for a bare address.
    pub name: Name,
    /// The pod's addresses; the first is its identity.
    pub addresses: Addresses,
    /// The network it is on (R2.1); empty when not known.
    pub network: NetworkId,
    /// Where it runs (R5.11).
    pub locality: Locality,
    /// The node it runs on; empty when not known.
    pub node: Name,
    /// Whether it terminates mesh mTLS (R5.8).
    pub tls_mode: TlsMode,
    /// Whether its node takes HBONE for it (R4.16).
    pub redirected: bool,
    /// Its identity (R5.9); bare addresses have none.
    pub account: Option<SpiffeId>,
    /// The workload's name, such as the Deployment's (R5.10).
    pub workload_name: Name,
    /// Canonical name (R4.14).
    pub canonical_name: Name,
    /// Canonical revision (R4.14); `latest` is written as empty.
    pub canonical_revision: Name,
    /// The pod's own labels; the topology labels come by themselves (R5.20).
    pub labels: Labels,
    /// Host name and subdomain for per-pod DNS names (R5.12).
    pub pod_dns: Option<(Name, Name)>,
}

/// What a pod (or a bare address) is: everything its endpoints share, and who its proxy is (D12).
///
/// Small, because there is one per pod: what other pods have too is behind shared pointers and reads as if
/// it were here. Made [from its parts](WorkloadParts); [`Shared`](super::Shared) tables unite equal profiles
/// and places. A bare endpoint address without a pod has an empty `name` (R5.5).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    /// The pod's name; empty for a bare address.
    pub name: Name,
    /// The pod's addresses; the first is its identity.
    pub addresses: Addresses,
    /// What it shares with the pods of its deployment.
    pub profile: Arc<WorkloadProfile>,
    /// What it shares with the pods of its node.
    pub place: Arc<NodePlace>,
}

impl Deref for Workload {
    type Target = WorkloadProfile;

    fn deref(&self) -> &WorkloadProfile {
        &self.profile
    }
}

impl WorkloadProfile {
    /// The profile of the pod `name`: names that are its own are left out, so that equal pods have equal profiles.
    pub fn of_pod(profile: &Arc<Self>, name: &Name) -> Arc<Self> {
        let own = |other: &Option<Name>| other.as_ref() == Some(name);
        let hostname = profile.pod_dns.as_ref().is_some_and(|(hostname, _)| own(hostname));
        if !own(&profile.workload_name) && !own(&profile.canonical_name) && !hostname {
            return Arc::clone(profile);
        }
        let other = |other: &Option<Name>| other.clone().filter(|other| other != name);
        Arc::new(Self {
            workload_name: other(&profile.workload_name),
            canonical_name: other(&profile.canonical_name),
            pod_dns: profile.pod_dns.as_ref().map(|(host, domain)| (other(host), domain.clone())),
            ..Self::clone(profile)
        })
    }
}

impl WorkloadParts {
    /// A pod of which only the name is known.
    pub fn of(id: &WorkloadId) -> Self {
        Self {
            cluster: id.cluster.clone(),
            namespace: id.namespace.clone(),
            name: id.name.clone(),
            ..Self::default()
        }
    }
}

impl From<WorkloadParts> for Arc<Workload> {
    fn from(parts: WorkloadParts) -> Self {
        Self::new(parts.into())
    }
}

impl From<WorkloadParts> for Workload {
    fn from(parts: WorkloadParts) -> Self {
        let profile = Arc::new(WorkloadProfile {
            cluster: parts.cluster,
            namespace: parts.namespace,
            network: parts.network,
            tls_mode: parts.tls_mode,
            redirected: parts.redirected,
            account: parts.account,
            canonical_revision: parts.canonical_revision,
            workload_name: Some(parts.workload_name),
            canonical_name: Some(parts.canonical_name),
            pod_dns: parts.pod_dns.map(|(hostname, subdomain)| (Some(hostname), subdomain)),
            own_labels: parts.labels,
        });
        let profile = WorkloadProfile::of_pod(&profile, &parts.name);
        let place = NodePlace { node: parts.node, locality: parts.locality };
        Self { name: parts.name, addresses: parts.addresses, profile, place: place.into() }
    }
}

/// Label with the network of a namespace, pod or Service (R2.1, R3.1).
const NETWORK_LABEL: &str = "topology.istio.io/network";
/// Label with the TLS mode of a pod (R5.8).
const TLS_MODE_LABEL: &str = "security.istio.io/tlsMode";

impl Workload {
    /// Where it runs (R5.11).
    pub fn locality(&self) -> &Locality {
        &self.place.locality
    }

    /// The node it runs on; empty when not known.
    pub fn node(&self) -> &Name {
        &self.place.node
    }

    /// The same workload on another network: one of its addresses may lie elsewhere than the others (R2.1).
    pub fn on_network(&self, network: NetworkId) -> Self {
        let profile = WorkloadProfile { network, ..WorkloadProfile::clone(&self.profile) };
        Self { profile: Arc::new(profile), ..self.clone() }
    }

    /// The mode that its label names (R5.8): `istio`, `disabled`, or whatever it says, which is no mTLS. It is
    /// the text that filter metadata carries (R4.13).
    pub fn tls_mode_text(&self) -> &str {
        match self.own_labels.get(TLS_MODE_LABEL) {
            Some(mode) => mode,
            None if self.tls_mode == TlsMode::Istio => "istio",
            None => "disabled",
        }
    }

    /// Which pod it is.
    pub fn id(&self) -> WorkloadId {
        WorkloadId {
            cluster: self.cluster.clone(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
        }
    }

    /// `hostname` and `subdomain` for per-pod DNS names (R5.12).
    pub fn pod_dns(&self) -> Option<(Name, Name)> {
        let (hostname, subdomain) = self.profile.pod_dns.as_ref()?;
        Some((hostname.as_ref().unwrap_or(&self.name).clone(), subdomain.clone()))
    }

    /// Whether its profile alone says its telemetry text: nothing in it is the pod's own name.
    pub fn is_told_by_profile(&self) -> bool {
        self.profile.workload_name.is_some() && self.profile.canonical_name.is_some()
    }

    /// The workload's name, such as the Deployment's (R5.10).
    pub fn workload_name(&self) -> &Name {
        self.profile.workload_name.as_ref().unwrap_or(&self.name)
    }

    /// Canonical name (R4.14).
    pub fn canonical_name(&self) -> &Name {
        self.profile.canonical_name.as_ref().unwrap_or(&self.name)
    }

    /// One label: the topology labels that have a value (R5.20), then the pod's own. The network label is
    /// there even without a network, and a pod's own network label stays as it is spelled.
    pub fn label(&self, label: &str) -> Option<&str> {
        let topology = self.topology().into_iter().find(|(name, value)| *name == label && !value.is_empty());
        let own = || self.own_labels.get(label).map(Name::as_str);
        let network = || (label == NETWORK_LABEL).then(|| self.network.as_str());
        topology.map(|(_, value)| value).or_else(own).or_else(network)
    }

    /// Whether a label tells where a pod runs: what it is may differ among pods of one profile.
    pub fn is_of_place(label: &str) -> bool {
        let places =
            ["topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone"];
        places.contains(&label) || label == "kubernetes.io/hostname"
    }

    /// Every label as [`label`](Self::label) tells it, by name. Makes them up: for operators.
    pub fn labels(&self) -> BTreeMap<Name, Name> {
        let mut labels = BTreeMap::from(&self.own_labels);
        let topology = self.topology().into_iter().filter(|(_, value)| !value.is_empty());
        labels.extend(topology.map(|(name, value)| (Name::from(name), Name::from(value))));
        labels.entry(NETWORK_LABEL.into()).or_insert_with(|| (&self.network).into());
        labels
    }

    /// R5.20 without the network.
    fn topology(&self) -> [(&'static str, &str); 5] {
        let Locality { region, zone, subzone } = &self.place.locality;
        [
            ("topology.kubernetes.io/region", region),
            ("topology.kubernetes.io/zone", zone),
            ("topology.istio.io/subzone", subzone),
            ("topology.istio.io/cluster", &self.cluster),
            ("kubernetes.io/hostname", &self.place.node),
        ]
    }

    /// The telemetry text of R4.14: `workload;namespace;canonical name;canonical revision;cluster`.
    pub fn telemetry(&self) -> String {
        format!(
            "{};{};{};{};{}",
            self.workload_name(),
            self.namespace,
            self.canonical_name(),
            self.canonical_revision,
            self.cluster
        )
    }
}

/// What is known of a pod: what it is, and which Services it belongs to (D12). Reads as its workload.
///
/// The services stand beside the workload because endpoints share that: which other Services name the pod
/// must not make their assignments differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkloadCell {
    /// What the pod is.
    pub workload: Arc<Workload>,
    /// The Services whose EndpointSlices name this pod: its inbound listeners come from these. Shared by the
    /// pods of a deployment.
    pub services: Set<ServiceKey>,
}

impl Deref for WorkloadCell {
    type Target = Workload;

    fn deref(&self) -> &Workload {
        &self.workload
    }
}

impl From<WorkloadParts> for WorkloadCell {
    /// A pod that no Service names.
    fn from(parts: WorkloadParts) -> Self {
        Self { workload: Arc::new(parts.into()), services: Set::default() }
    }
}

impl From<&Workload> for WorkloadParts {
    /// Every label is in it, the topology labels too.
    fn from(workload: &Workload) -> Self {
        let profile = WorkloadProfile::clone(&workload.profile);
        Self {
            name: workload.name.clone(),
            addresses: workload.addresses.clone(),
            locality: workload.locality().clone(),
            node: workload.node().clone(),
            labels: workload.labels().into_iter().collect(),
            pod_dns: workload.pod_dns(),
            cluster: profile.cluster,
            namespace: profile.namespace,
            network: profile.network,
            tls_mode: profile.tls_mode,
            redirected: profile.redirected,
            account: profile.account,
            workload_name: workload.workload_name().clone(),
            canonical_name: workload.canonical_name().clone(),
            canonical_revision: profile.canonical_revision,
        }
    }
}

impl Serialize for Workload {
    /// As its parts, flat.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        WorkloadParts::from(self).serialize(serializer)
    }
}

impl Serialize for WorkloadCell {
    /// As its workload, with `services`.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Flat<'a> {
            #[serde(flatten)]
            parts: WorkloadParts,
            services: &'a Set<ServiceKey>,
        }
        Flat { parts: (&**self).into(), services: &self.services }.serialize(serializer)
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
