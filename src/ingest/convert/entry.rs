//! ServiceEntry → service records; ServiceEntries, WorkloadEntries and Pods → endpoints (R5.24, R5.33–R5.37).

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use ipnet::IpNet;

use super::workload::{canonical_name, canonical_revision, label_locality};
use super::{ClusterContext, ClusterNetwork, protocol, service};
use crate::ingest::objects::{
    EntryPort, EntryResolution, Labels, NETWORK_LABEL, ObjectKey, PortObject, ServiceEntryObject,
    WorkloadEntryObject,
};
use crate::model::{
    Addresses, ClusterId, Discoverability, Endpoint, EntryFacts, Health, Hostname, InlineAddress,
    InlineEndpoint, Locality, Name, NetworkId, Resolution, Service, ServiceKey, ServicePort, Set, SpiffeId,
    TlsMode, Transport, Workload, WorkloadParts,
};

/// What Unix sockets begin with.
const UNIX: &str = "unix://";

/// Who selects whom. Everything is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryOptions {
    /// `PILOT_ENABLE_CROSS_CLUSTER_WORKLOAD_ENTRY`: WorkloadEntries of remote clusters are read (R1.16).
    pub cross_cluster: bool,
    /// `PILOT_ENABLE_K8S_SELECT_WORKLOAD_ENTRIES`: Services select WorkloadEntries (R5.24).
    pub services_select: bool,
    /// `PILOT_ENABLE_SERVICEENTRY_SELECT_PODS`: ServiceEntries select Pods (R5.37).
    pub select_pods: bool,
}

impl Default for EntryOptions {
    fn default() -> Self {
        Self { cross_cluster: true, services_select: true, select_pods: true }
    }
}

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
    fn port(&self, port: &EntryPort) -> u16 {
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
    fn addresses(&self, context: &ClusterContext) -> Option<Addresses> {
        match &self.address {
            // R5.15.
            InlineAddress::Ip(_) if context.dual_stack => Some(self.workload.addresses.clone()),
            InlineAddress::Ip(address) => Some((*address).into()),
            InlineAddress::Absent => Some(Addresses::default()),
            InlineAddress::Host(_) | InlineAddress::Unix(_) => None,
        }
    }

    fn endpoint(&self, addresses: Addresses, port: u16, name: &Name, who: Discoverability) -> Endpoint {
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

    fn inline(&self, port: u16, name: &Name) -> InlineEndpoint {
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

/// What one ServiceEntry makes of one of its hosts in one cluster.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EntryShare {
    /// The record, with the inline endpoints.
    pub service: Service,
    /// The other endpoints.
    pub endpoints: Vec<Endpoint>,
    /// What is not used, and why.
    pub skipped: Vec<String>,
}

/// What the share of a ServiceEntry's host depends on.
#[derive(Clone, Copy, Debug)]
pub struct EntryInput<'a> {
    /// The cluster.
    pub context: &'a ClusterContext,
    /// Where its addresses belong.
    pub of_cluster: &'a ClusterNetwork,
    /// The key of the ServiceEntry.
    pub key: &'a ObjectKey,
    /// The ServiceEntry.
    pub object: &'a ServiceEntryObject,
    /// What its selector picks, in order.
    pub selected: &'a [Member],
    /// Whether the endpoints that it spells out belong to this cluster: the one it is read from.
    pub is_home: bool,
}

/// R5.33–R5.37 for one host. Of a selector's picks and of inline endpoints alike; never both.
pub fn entry_share(input: EntryInput<'_>, host: &str) -> EntryShare {
    let EntryInput { context, object, .. } = input;
    let mut skipped = Vec::new();
    let spelled;
    let members = match (&object.selector, input.is_home) {
        (Some(_), _) => input.selected,
        (None, false) => &[],
        (None, true) => {
            spelled = spelled_out(input, host, &mut skipped);
            &spelled[..]
        }
    };
    let mut share = EntryShare { service: record(input, host, &mut skipped), ..EntryShare::default() };
    let mut facts = facts(object, &mut skipped);
    let dns = share.service.resolution.is_dns();
    let ports: Vec<_> = object.ports.iter().filter(|port| transport(port) == Transport::Tcp).collect();
    for member in members {
        let addresses = member.addresses(context).filter(|_| !dns);
        if let (InlineAddress::Host(name), false) = (&member.address, dns) {
            skipped.push(format!("`{name}` is a host name, and the resolution is not DNS"));
            continue;
        }
        for port in &ports {
            let number = member.port(port);
            match &addresses {
                Some(addresses) => share.endpoints.push(member.endpoint(
                    addresses.clone(),
                    number,
                    &port.name,
                    Discoverability::Always,
                )),
                None => facts.inline.push(member.inline(number, &port.name)),
            }
        }
    }
    let behind = facts.accounts();
    share.service.accounts = Set::union([&share.service.accounts, &behind]);
    share.service.entry = Some(Arc::new(facts));
    share.skipped = skipped;
    share
}

/// Several entries of one host in one namespace, the oldest first: it says everything but ports, addresses and
/// endpoints, which are those of all. `None` for none.
pub fn united(shares: impl IntoIterator<Item = EntryShare>) -> Option<EntryShare> {
    shares.into_iter().reduce(|mut all, more| {
        for port in more.service.ports {
            let same = |own: &ServicePort| (own.transport, own.number) == (port.transport, port.number);
            if !all.service.ports.iter().any(same) {
                all.service.ports.push(port);
            }
        }
        all.service.ports.sort_by_key(|port| (port.transport, port.number));
        for (cluster, vips) in more.service.vips {
            match all.service.vips.first_mut() {
                Some((_, own)) => {
                    own.extend(vips.into_iter().filter(|vip| !own.contains(vip)).collect::<Vec<_>>())
                }
                None => all.service.vips.push((cluster, vips)),
            }
        }
        if let (Some(own), Some(facts)) = (&mut all.service.entry, more.service.entry) {
            let own = Arc::make_mut(own);
            own.blocks.extend(
                facts.blocks.iter().filter(|block| !own.blocks.contains(block)).copied().collect::<Vec<_>>(),
            );
            own.alt_names = Set::union([&own.alt_names, &facts.alt_names]);
            own.inline.extend(facts.inline.iter().cloned());
        }
        all.service.accounts = Set::union([&all.service.accounts, &more.service.accounts]);
        all.endpoints.extend(more.endpoints);
        all.skipped.extend(more.skipped);
        all
    })
}

/// R5.36: without endpoints, what DNS resolves is the host itself.
fn spelled_out(input: EntryInput<'_>, host: &str, skipped: &mut Vec<String>) -> Vec<Member> {
    let EntryInput { context, of_cluster, key, object, .. } = input;
    let dns = matches!(object.resolution, EntryResolution::Dns | EntryResolution::DnsRoundRobin);
    if object.endpoints.is_empty() && dns {
        let workload = WorkloadParts {
            cluster: context.cluster.clone(),
            namespace: key.namespace.clone(),
            ..Default::default()
        };
        return vec![Member {
            address: InlineAddress::Host(host.into()),
            workload: workload.into(),
            entry: None,
        }];
    }
    let nameless = ObjectKey { namespace: key.namespace.clone(), name: Name::default() };
    let member = |object: &WorkloadEntryObject| {
        let member = Member::of_entry(context, of_cluster, &nameless, Arc::new(object.clone()));
        member.map_err(|reason| skipped.push(reason)).ok()
    };
    object.endpoints.iter().filter_map(member).collect()
}

fn record(input: EntryInput<'_>, host: &str, skipped: &mut Vec<String>) -> Service {
    let EntryInput { context, key, object, .. } = input;
    let vips = vips(object, host, skipped);
    let accounts = object.alt_names.iter().filter_map(|name| SpiffeId::parse(name)).collect();
    let mut ports: Vec<ServicePort> = Vec::new();
    for port in &object.ports {
        let port = service_port(port);
        if !ports.iter().any(|own| (own.transport, own.number) == (port.transport, port.number)) {
            ports.push(port);
        }
    }
    ports.sort_by_key(|port| (port.transport, port.number));
    Service {
        key: entry_key(key, host),
        ports,
        vips: if vips.is_empty() { Vec::new() } else { vec![(ClusterId::clone(&context.cluster), vips)] },
        resolution: match object.resolution {
            EntryResolution::None => Resolution::Passthrough,
            EntryResolution::Static => Resolution::ClientSide,
            EntryResolution::Dns => Resolution::Dns,
            EntryResolution::DnsRoundRobin => Resolution::DnsRoundRobin,
        },
        labels: object.labels.clone(),
        export_to: service::exported(object.export_to.iter().map(|name| &**name), &key.namespace),
        created: object.created,
        traffic_distribution: service::traffic_distribution("", object.traffic_distribution.as_deref(), ""),
        accounts,
        ..Service::default()
    }
}

/// The service that a ServiceEntry makes of a host.
pub fn entry_key(key: &ObjectKey, host: &str) -> ServiceKey {
    ServiceKey { namespace: key.namespace.clone(), hostname: Hostname::from(host) }
}

fn facts(object: &ServiceEntryObject, skipped: &mut Vec<String>) -> EntryFacts {
    let blocks = object.addresses.iter().filter_map(|text| match address(text) {
        Some(Ok(_)) => None,
        Some(Err(block)) => Some(block),
        None => {
            skipped.push(format!("`{text}` is neither an address nor a block of addresses"));
            None
        }
    });
    let others = object.alt_names.iter().filter(|name| SpiffeId::parse(name).is_none());
    EntryFacts {
        mesh_external: object.mesh_external,
        blocks: blocks.collect::<BTreeSet<_>>().into_iter().collect(),
        alt_names: others.cloned().collect(),
        inline: Vec::new(),
    }
}

/// An address, or a block of several; a block of one is an address (R5.33).
fn address(text: &str) -> Option<Result<IpAddr, IpNet>> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(Ok(address.to_canonical()));
    }
    let block: IpNet = text.parse().ok()?;
    Some(if block.prefix_len() == block.max_prefix_len() { Ok(block.addr()) } else { Err(block.trunc()) })
}

/// R5.33: single addresses; without any, those that were allocated for the host.
fn vips(object: &ServiceEntryObject, host: &str, skipped: &mut Vec<String>) -> Vec<IpAddr> {
    let mut vips = Vec::new();
    let mut add = |address: IpAddr| {
        if !address.is_unspecified() && !vips.contains(&address) {
            vips.push(address);
        }
    };
    if object.addresses.is_empty() {
        let own = object.allocated.iter().filter(|(of, _)| of.is_empty() || **of == *host);
        for (_, text) in own {
            match text.parse() {
                Ok(address) => add(address),
                Err(_) => skipped.push(format!("`{text}` in the status is no address")),
            }
        }
    }
    object.addresses.iter().filter_map(|text| address(text)?.ok()).for_each(add);
    vips
}

fn transport(port: &EntryPort) -> Transport {
    if port.protocol.eq_ignore_ascii_case("udp") { Transport::Udp } else { Transport::Tcp }
}

fn service_port(port: &EntryPort) -> ServicePort {
    // Reading has seen to it that it is one.
    let number = u16::try_from(port.number).unwrap_or_default();
    let transport = transport(port);
    let protocol = protocol::protocol(transport, number, "", &port.protocol.to_ascii_lowercase());
    ServicePort { number, name: port.name.clone(), transport, protocol }
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

#[cfg(test)]
mod tests;
