//! What stands behind a service that no EndpointSlice tells of: WorkloadEntries, endpoints of ServiceEntries, Pods
//! (R5.24, R5.34, R5.35).

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use super::super::workload::{canonical_name, canonical_revision, label_locality};
use super::super::{ClusterContext, ClusterNetwork};
use crate::ingest::objects::{EntryPort, Labels, NETWORK_LABEL, ObjectKey, PortObject, WorkloadEntryObject};
use crate::model::{
    Addresses, Discoverability, Endpoint, Health, InlineAddress, InlineEndpoint, Locality, Name, NetworkId,
    SpiffeId, TlsMode, Workload, WorkloadParts,
};

/// What Unix sockets begin with.
const UNIX: &str = "unix://";

/// Something that stands behind the ports of a service: a WorkloadEntry, an endpoint of a ServiceEntry, a Pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Where it is.
    pub address: InlineAddress,
    /// What it is.
    pub workload: Arc<Workload>,
    /// What it says of ports and its weight; a Pod says nothing.
    pub entry: Option<Arc<WorkloadEntryObject>>,
}

impl Member {
    /// A Pod, at its first address; `None` while it has none.
    pub fn of_pod(workload: &Arc<Workload>) -> Option<Self> {
        let address = InlineAddress::Ip(*workload.addresses.first()?);
        Some(Self { address, workload: Arc::clone(workload), entry: None })
    }

    /// R5.35: a WorkloadEntry of this key; an endpoint of a ServiceEntry has an empty name.
    ///
    /// # Errors
    /// Why its address cannot be used.
    pub fn of_entry(
        context: &ClusterContext,
        of_cluster: &ClusterNetwork,
        key: &ObjectKey,
        object: Arc<WorkloadEntryObject>,
    ) -> Result<Self, String> {
        let address = located(context, &object)?;
        let workload = entry_workload(context, of_cluster, key, &object, &address);
        Ok(Self { address, workload: Arc::new(workload), entry: Some(object) })
    }

    /// Whether it stands behind services: not while its health is probed and not good.
    pub fn is_ready(&self) -> bool {
        self.entry.as_ref().is_none_or(|entry| !entry.unready)
    }

    /// R5.34.
    pub(super) fn port(&self, port: &EntryPort) -> u16 {
        let number = |number: i64| u16::try_from(number).ok().filter(|number| *number != 0);
        let own = self.entry.as_ref().and_then(|entry| entry.port(&port.name));
        match self.address {
            InlineAddress::Unix(_) => 0,
            _ => own.or_else(|| number(port.target_port)).or_else(|| number(port.number)).unwrap_or_default(),
        }
    }

    /// The port behind one of a Kubernetes Service (R5.24): a port of that name before a number; `None` where an
    /// explicit name is missing.
    fn service_port(&self, port: &PortObject) -> Option<u16> {
        let own = |name: &str| self.entry.as_ref().and_then(|entry| entry.port(name));
        match port.target_port.parse::<u16>() {
            Ok(number) => own(&port.name).or(Some(number)),
            Err(_) if port.target_port.is_empty() => own(&port.name).or_else(|| port.port.try_into().ok()),
            Err(_) => own(&port.target_port),
        }
    }

    fn weight(&self) -> Option<NonZeroU32> {
        let weight = self.entry.as_ref().map_or(0, |entry| entry.weight);
        NonZeroU32::new(u32::try_from(weight.max(0)).unwrap_or(u32::MAX))
    }

    /// The addresses that EDS tells; `None` for what only Envoy can find.
    pub(super) fn addresses(&self, context: &ClusterContext) -> Option<Addresses> {
        match &self.address {
            // R5.15.
            InlineAddress::Ip(_) if context.dual_stack => Some(self.workload.addresses.clone()),
            InlineAddress::Ip(address) => Some((*address).into()),
            InlineAddress::Absent => Some(Addresses::default()),
            InlineAddress::Host(_) | InlineAddress::Unix(_) => None,
        }
    }

    pub(super) fn endpoint(
        &self,
        addresses: Addresses,
        port: u16,
        name: &Name,
        who: Discoverability,
    ) -> Endpoint {
        Endpoint {
            addresses,
            port,
            port_name: name.clone(),
            health: Health::Healthy,
            weight: self.weight(),
            exposure: who.into(),
            workload: Arc::clone(&self.workload),
        }
    }

    pub(super) fn inline(&self, port: u16, name: &Name) -> InlineEndpoint {
        InlineEndpoint {
            address: self.address.clone(),
            port,
            port_name: name.clone(),
            weight: self.weight(),
            workload: Arc::clone(&self.workload),
        }
    }
}

/// Whether a selector picks something with these labels (R5.24, R5.37): all of its own, of which there are some.
pub fn selects(selector: &Labels, labels: &Labels) -> bool {
    !selector.is_empty() && selector.iter().all(|(label, value)| labels.get(label) == Some(value))
}

/// The endpoints that a selected WorkloadEntry gives a Kubernetes Service (R5.24), one per TCP port.
pub fn service_member(
    context: &ClusterContext,
    ports: &[PortObject],
    member: &Member,
    discoverability: Discoverability,
) -> Vec<Endpoint> {
    let Some(addresses) = member.addresses(context) else {
        return Vec::new();
    };
    let carried = ports.iter().filter(|port| &*port.protocol != "UDP" && &*port.protocol != "SCTP");
    let behind = carried.filter_map(|port| Some((port, member.service_port(port)?)));
    let endpoint = |(port, number): (&PortObject, u16)| {
        member.endpoint(addresses.clone(), number, &port.name, discoverability)
    };
    behind.map(endpoint).collect()
}

/// Where a WorkloadEntry is.
fn located(context: &ClusterContext, object: &WorkloadEntryObject) -> Result<InlineAddress, String> {
    let text = &object.address;
    if let Some(path) = text.strip_prefix(UNIX) {
        return match path.is_empty() {
            true => Err("a Unix socket without a path".to_owned()),
            false => Ok(InlineAddress::Unix(path.into())),
        };
    }
    if text.is_empty() {
        return match object.network.is_empty() {
            true => Err("it has neither an address nor a network".to_owned()),
            false => Ok(InlineAddress::Absent),
        };
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return context.usable(address).map(InlineAddress::Ip);
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    match text.len() <= 253 && text.bytes().all(plain) {
        true => Ok(InlineAddress::Host(text.clone())),
        false => Err("its address is neither an IP address nor a host name".to_owned()),
    }
}

/// R5.35.
fn entry_workload(
    context: &ClusterContext,
    of_cluster: &ClusterNetwork,
    key: &ObjectKey,
    object: &WorkloadEntryObject,
    address: &InlineAddress,
) -> Workload {
    let addresses: Addresses = match address {
        InlineAddress::Ip(address) => (*address).into(),
        _ => Addresses::default(),
    };
    let network = match object.network.is_empty() {
        false => NetworkId::from(&*object.network),
        true => of_cluster.of(object.labels.get(NETWORK_LABEL), &addresses),
    };
    let account = (!object.service_account.is_empty()).then(|| SpiffeId {
        trust_domain: context.trust_domain.clone(),
        namespace: key.namespace.clone(),
        service_account: object.service_account.clone(),
    });
    let tls_mode = match object.labels.get("security.istio.io/tlsMode") {
        Some(mode) if &**mode == "istio" => TlsMode::Istio,
        None if account.is_some() => TlsMode::Istio,
        _ => TlsMode::Disabled,
    };
    let said = (!object.locality.is_empty()).then(|| Locality::parse(&object.locality));
    WorkloadParts {
        cluster: context.cluster.clone(),
        namespace: key.namespace.clone(),
        name: key.name.clone(),
        addresses,
        network,
        locality: said.or_else(|| label_locality(&object.labels)).unwrap_or_default(),
        tls_mode,
        account,
        workload_name: key.name.clone(),
        canonical_name: canonical_name(&object.labels).unwrap_or_else(|| key.name.clone()),
        canonical_revision: canonical_revision(&object.labels),
        labels: object.labels.clone(),
        ..WorkloadParts::default()
    }
    .into()
}
