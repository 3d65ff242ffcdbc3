//! ServiceEntry → service records; ServiceEntries, WorkloadEntries and Pods → endpoints (R5.24, R5.33–R5.37).

mod member;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

pub use member::{Member, selects, service_member};

use super::{ClusterContext, ClusterNetwork, protocol, service, waypoint};
use crate::ingest::objects::{
    EntryPort, EntryResolution, NamespaceObject, ObjectKey, ServiceEntryObject, WorkloadEntryObject,
};
use crate::model::{
    ClusterId, Discoverability, Endpoint, EntryFacts, Hostname, InlineAddress, Name, Resolution, Service,
    ServiceKey, ServicePort, Set, SpiffeId, Transport, WorkloadParts,
};

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
    /// Its Namespace in this cluster.
    pub namespace: Option<&'a NamespaceObject>,
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
    let mut skipped = object.remarks();
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

impl EntryShare {
    /// It under the names that `ports` have for the numbers of its own ports: objects of one service may call a number
    /// by different names, and endpoints are found by those of the record (D7). What `ports` lacks is left out: its name
    /// may be that of another number there.
    pub fn named_by(mut self, ports: &[ServicePort]) -> Self {
        let (mut names, mut skipped) = (BTreeMap::new(), Vec::new());
        self.service.ports.retain_mut(|own| match ports.iter().find(|port| is_same(port, own)) {
            Some(port) => {
                names.insert(std::mem::replace(&mut own.name, port.name.clone()), &port.name);
                true
            }
            None => {
                let ServicePort { number, name, .. } = own;
                skipped.push(format!("port {number} `{name}`: the Service of this host has no such port"));
                false
            }
        });
        let rename = |name: &mut Name| names.get(name).inspect(|other| name.clone_from(other)).is_some();
        self.endpoints.retain_mut(|endpoint| rename(&mut endpoint.port_name));
        if let Some(facts) = &mut self.service.entry {
            Arc::make_mut(facts).inline.retain_mut(|endpoint| rename(&mut endpoint.port_name));
        }
        self.skipped.extend(skipped);
        self
    }
}

fn is_same(a: &ServicePort, b: &ServicePort) -> bool {
    (a.transport, a.number) == (b.transport, b.number)
}

/// Adds a port to those of a service under a name that no other number has: endpoints are found by it.
fn add(ports: &mut Vec<ServicePort>, mut port: ServicePort) {
    if ports.iter().any(|own| is_same(own, &port)) {
        return;
    }
    // Ends: each round's name is longer, and there are finitely many.
    while ports.iter().any(|own| own.name == port.name) {
        port.name = format!("{}-{}", port.name, port.number).into();
    }
    ports.push(port);
}

/// Several entries of one host in one namespace, the oldest first: it says everything but ports, addresses and
/// endpoints, which are those of all; a port has the name that the oldest gives it. `None` for none.
pub fn united(shares: impl IntoIterator<Item = EntryShare>) -> Option<EntryShare> {
    shares.into_iter().reduce(|mut all, more| {
        more.service.ports.iter().for_each(|port| add(&mut all.service.ports, port.clone()));
        all.service.ports.sort_by_key(|port| (port.transport, port.number));
        let more = more.named_by(&all.service.ports);
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
    let member = |(index, object): (usize, &WorkloadEntryObject)| {
        // R4.14: they are told apart by where they stand.
        let key = ObjectKey::new(key.namespace.clone(), format!("{}-{index}", key.name).as_str());
        let member = Member::of_entry(context, of_cluster, &key, Arc::new(object.clone()));
        member.map_err(|reason| skipped.push(reason)).ok()
    };
    object.endpoints.iter().enumerate().filter_map(member).collect()
}

fn record(input: EntryInput<'_>, host: &str, skipped: &mut Vec<String>) -> Service {
    let EntryInput { context, namespace, key, object, .. } = input;
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
        namespace_labels: context.labels_of(namespace),
        export_to: service::exported(object.export_to.iter().map(|name| &**name), &key.namespace),
        created: object.created,
        traffic_distribution: service::traffic_distribution("", object.traffic_distribution.as_deref(), ""),
        ingress_waypoint: waypoint::of_ingress(context, &key.namespace, &object.labels, namespace),
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

/// Reads the spec of a ServiceEntry of `sample`, as it is read when it is told: a record for each of its hosts.
///
/// # Errors
/// What is wrong with it.
#[cfg(test)]
pub(crate) fn read_entry(spec: &serde_json::Value) -> Result<Vec<Service>, String> {
    let key = ObjectKey::new("sample", "e");
    let document = serde_json::json!({"metadata": {"namespace": "sample", "name": "e"}, "spec": spec});
    let object: ServiceEntryObject = serde_json::from_value(document).map_err(|error| error.to_string())?;
    let (context, of_cluster) = (super::test_context(), ClusterNetwork::new("n1".into(), Arc::default()));
    let input = EntryInput {
        context: &context,
        of_cluster: &of_cluster,
        key: &key,
        object: &object,
        selected: &[],
        is_home: true,
        namespace: None,
    };
    Ok(object.hosts.iter().map(|host| entry_share(input, host).service).collect())
}

#[cfg(test)]
mod tests;
