//! Listeners that several services without an address of their own share: hosts told apart by server name, blocks of
//! addresses, pods of headless services.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use envoy_types::pb::envoy::config::listener::v3 as lds;
use envoy_types::pb::google::protobuf::Any;
use ipnet::IpNet;
use prost::Message;

use super::{FILTER_CHAINS, chain, chains, finish, on, own_filter, tcp_routes, unknown};
use crate::model::policy::VirtualService;
use crate::model::{InterceptionMode, PortProtocol};
use crate::view::Client;
use crate::xds::resource::{Encoded, Entry, ResourceType};
use crate::xds::resources::RESERVED_PORTS;
use crate::xds::resources::cluster::Port;
use crate::xds::resources::destination::{Reads, Surroundings};
use crate::xds::resources::filters;
use crate::xds::resources::parts::{put_bytes, put_field, wildcard};

/// Tag of `Listener.listener_filters`.
const LISTENER_FILTERS: u32 = 9;

/// A chain of the listener for all addresses of one port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedChain {
    /// The port.
    pub port: u16,
    /// Whether it asks for a server name.
    by_name: bool,
    /// Its encoded match: Envoy refuses a listener in which one occurs twice.
    matched: Bytes,
    chain: Bytes,
}

impl SharedChain {
    fn new(port: u16, chain: &lds::FilterChain) -> Self {
        let matched = chain.filter_chain_match.as_ref();
        Self {
            port,
            by_name: matched.is_some_and(|matched| !matched.server_names.is_empty()),
            matched: matched.map(Message::encode_to_vec).unwrap_or_default().into(),
            chain: chain.encode_to_vec().into(),
        }
    }
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
        vec![port.service.key.hostname.to_string()]
    } else {
        Vec::new()
    };
    let own = chains::matching(names, &entry.blocks);
    let told = tcp_routes(port, around);
    let mut all = told.map(|told| chains::of(told, number, around, reads).all).unwrap_or_default();
    // Of a route for every connection only those to this service are meant.
    for chain in all.iter_mut().filter(|chain| chain.filter_chain_match.is_none()) {
        chain.filter_chain_match = own.clone();
    }
    if !all.iter().any(|chain| chain.filter_chain_match == own) {
        all.push(chain("", own, own_filter(port)));
    }
    all.iter().map(|chain| SharedChain::new(number, chain)).collect()
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
    let matched = chains::matching(Vec::new(), &blocks);
    let chain = matched.is_some().then(|| chain("", matched, own_filter(port)));
    chain.iter().map(|chain| SharedChain::new(number, chain)).collect()
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
        let chains = chains::of(&only_tls, port, around, reads).all;
        let named = chains.iter().filter(|chain| chain.filter_chain_match.is_some());
        all.extend(named.map(|chain| SharedChain::new(port, chain)));
    }
    all
}

/// The listener for all addresses of a port: that of its HTTP services, if there are any, and these chains. Of two
/// with one match the first stays.
pub fn shared<'a>(
    port: u16,
    http: Option<&Entry>,
    chains: impl IntoIterator<Item = &'a SharedChain>,
    client: &Client<'_>,
) -> Entry {
    let mut base = on(wildcard(client.key().families), port);
    base.default_filter_chain = Some(chain("PassthroughFilterChain", None, filters::tcp(unknown(client))));
    let http = http.and_then(|entry| Any::decode(entry.encoded.any.clone()).ok());
    let mut message = http.map_or_else(|| base.encode_to_vec(), |any| any.value);
    let (mut taken, mut by_name) = (BTreeSet::new(), false);
    for one in chains {
        if taken.insert(&one.matched) {
            put_bytes(FILTER_CHAINS, &one.chain, &mut message);
            by_name |= one.by_name;
        }
    }
    if by_name {
        put_field(LISTENER_FILTERS, &filters::tls_inspector(), &mut message);
    }
    let encoded = Encoded::new(ResourceType::Listener, &base.name, &message);
    Entry { name: finish(&base).name, encoded: Arc::new(encoded) }
}
