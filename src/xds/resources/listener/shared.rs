//! Listeners that several services without an address of their own share: hosts told apart by server name, blocks of
//! addresses, pods of headless services.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use envoy_types::pb::google::protobuf::Any;
use ipnet::IpNet;
use prost::Message;

use super::chains::{self, Chain};
use super::matches::{Matches, Taken};
use super::{FILTER_CHAINS, chain, on, own_filter, tcp_routes, unknown};
use crate::model::policy::VirtualService;
use crate::model::{InterceptionMode, PortProtocol};
use crate::view::Client;
use crate::xds::resource::{Encoded, Entry, ResourceType};
use crate::xds::resources::RESERVED_PORTS;
use crate::xds::resources::cluster::Port;
use crate::xds::resources::destination::{Reads, Surroundings};
use crate::xds::resources::filters;
use crate::xds::resources::parts::{put_bytes, put_field, wildcard};

/// Tag of `FilterChain.filter_chain_match`.
const MATCH: u32 = 1;
/// Tag of `Listener.listener_filters`.
const LISTENER_FILTERS: u32 = 9;

/// A chain of the listener for all addresses of one port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedChain {
    /// The port.
    pub port: u16,
    matches: Matches,
    /// The chain without its match.
    chain: Bytes,
}

impl SharedChain {
    fn new(port: u16, told: Chain) -> Self {
        let bare = chain("", None, told.filter);
        Self { port, matches: told.matches, chain: bare.encode_to_vec().into() }
    }
}

/// A listener that services share.
#[derive(Clone, Debug)]
pub struct SharedListener {
    /// The listener.
    pub entry: Entry,
    /// Server names and blocks that were left out: an older service leads them elsewhere.
    pub conflicts: usize,
}

/// The chains of a ServiceEntry without an address: by its blocks, by its host name where the connection tells one,
/// else every connection to the port.
pub(super) fn of_entry(port: &Port<'_>, around: &Surroundings<'_>, reads: &mut Reads) -> Vec<SharedChain> {
    let number = port.port.number;
    let Some(entry) = port.service.entry.as_ref().filter(|_| !RESERVED_PORTS.contains(&number)) else {
        return Vec::new();
    };
    let named = matches!(port.port.protocol, PortProtocol::Tls | PortProtocol::Https);
    let names = if named && entry.blocks.is_empty() {
        vec![port.service.key.hostname.as_str().into()]
    } else {
        Vec::new()
    };
    let own = Matches::new(names, &entry.blocks);
    let told = tcp_routes(port, around);
    let mut all = told.map(|told| chains::of(told, number, around, reads)).unwrap_or_default();
    // Of a route for every connection only those to this service are meant.
    for chain in all.iter_mut().filter(|chain| chain.matches.is_everything()) {
        chain.matches = own.clone();
    }
    all.push(Chain { matches: own, filter: own_filter(port) });
    let (mut taken, mut made) = (Taken::default(), Vec::new());
    for Chain { matches, filter } in all {
        let free = taken.take(&matches, &());
        made.extend(free.into_iter().map(|matches| Chain { matches, filter: filter.clone() }));
    }
    made.into_iter().map(|chain| SharedChain::new(number, chain)).collect()
}

/// The chain of a headless service, by the addresses of its pods; none where unknown destinations pass anyway.
pub(super) fn of_pods(port: &Port<'_>, around: &Surroundings<'_>, reads: &mut Reads) -> Vec<SharedChain> {
    let number = port.port.number;
    if around.client.passes_unknown() || RESERVED_PORTS.contains(&number) {
        return Vec::new();
    }
    reads.addresses = true;
    let addresses = (around.addresses)(&port.service.key, &port.port.name);
    let blocks: BTreeSet<IpNet> = addresses.into_iter().map(IpNet::from).collect();
    let blocks: Vec<_> = blocks.into_iter().collect();
    let matches = Matches::new(Vec::new(), &blocks);
    let chain = (!blocks.is_empty()).then(|| Chain { matches, filter: own_filter(port) });
    chain.into_iter().map(|chain| SharedChain::new(number, chain)).collect()
}

/// The chains of a VirtualService for a host that is no service: its TLS routes that name a port, else for 443.
pub(in crate::xds::resources) fn of_names(
    told: &VirtualService,
    around: &Surroundings<'_>,
    reads: &mut Reads,
) -> Vec<SharedChain> {
    if around.client.key().mode == InterceptionMode::None || told.tls.is_empty() {
        return Vec::new();
    }
    let matches = told.tls.iter().flat_map(|route| &route.matches);
    let ports: BTreeSet<u16> = matches.map(|one| one.sources.port.unwrap_or(443)).collect();
    let only_tls = VirtualService { tcp: Vec::new(), ..told.clone() };
    let mut all = Vec::new();
    for port in ports.into_iter().filter(|port| !RESERVED_PORTS.contains(port)) {
        let chains = chains::of(&only_tls, port, around, reads);
        let named = chains.into_iter().filter(|chain| !chain.matches.is_everything());
        all.extend(named.map(|chain| SharedChain::new(port, chain)));
    }
    all
}

/// The listener for all addresses of a port: that of its HTTP services, if there are any, and these chains. What two
/// of them match stays with the first: Envoy refuses a listener whose chains overlap.
pub fn shared<'a>(
    port: u16,
    http: Option<&Entry>,
    chains: impl IntoIterator<Item = &'a SharedChain>,
    client: &Client<'_>,
) -> SharedListener {
    let mut base = on(wildcard(client.key().families), port);
    base.default_filter_chain = Some(chain("PassthroughFilterChain", None, filters::tcp(unknown(client))));
    let http = http.and_then(|entry| Any::decode(entry.encoded.any.clone()).ok());
    let mut message = http.map_or_else(|| base.encode_to_vec(), |any| any.value);
    let (mut taken, mut by_name) = (Taken::default(), false);
    for one in chains {
        for matches in taken.take(&one.matches, &&one.chain) {
            let mut whole = Vec::with_capacity(one.chain.len());
            if let Some(matched) = matches.message() {
                put_field(MATCH, &matched, &mut whole);
            }
            whole.extend_from_slice(&one.chain);
            put_bytes(FILTER_CHAINS, &whole, &mut message);
            by_name |= !matches.names.is_empty();
        }
    }
    if by_name {
        put_field(LISTENER_FILTERS, &filters::tls_inspector(), &mut message);
    }
    let encoded = Encoded::new(ResourceType::Listener, &base.name, &message);
    let entry = Entry { name: base.name.as_str().into(), encoded: Arc::new(encoded) };
    SharedListener { entry, conflicts: taken.conflicts }
}
