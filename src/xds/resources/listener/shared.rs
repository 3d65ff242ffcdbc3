//! Listeners that several services without an address of their own share: hosts told apart by server name, blocks of
//! addresses, pods of headless services.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use envoy_types::pb::google::protobuf::Any;
use ipnet::IpNet;
use prost::Message;

use super::chains::{self, Chain};
use super::matches::{Matches, Taken};
use super::{FILTER_CHAINS, chain, on, own_filter, tcp_routes, unknown};
use crate::model::policy::{ClientTlsMode, VirtualService};
use crate::model::{InterceptionMode, Name, PortProtocol};
use crate::view::Client;
use crate::xds::resource::{Encoded, Entry, ResourceType};
use crate::xds::resources::cluster::Port;
use crate::xds::resources::destination::{Reads, Surroundings};
use crate::xds::resources::filters;
use crate::xds::resources::parts::{put_bytes, put_field, wildcard};
use crate::xds::resources::{RESERVED_PORTS, is_original_dst};

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

/// The chain of a headless service, by the addresses of its pods; none where unknown destinations pass anyway, unless
/// TLS is spoken to it: those pass as they are.
pub(super) fn of_pods(port: &Port<'_>, around: &Surroundings<'_>, reads: &mut Reads) -> Vec<SharedChain> {
    let number = port.port.number;
    if RESERVED_PORTS.contains(&number) || (around.client.passes_unknown() && !is_secured(port, reads)) {
        return Vec::new();
    }
    let addresses = port.behind(reads).addresses.iter();
    let blocks: BTreeSet<IpNet> = addresses.copied().map(IpNet::from).collect();
    let blocks: Vec<_> = blocks.into_iter().collect();
    let matches = Matches::new(Vec::new(), &blocks);
    let chain = (!blocks.is_empty()).then(|| Chain { matches, filter: own_filter(port) });
    chain.into_iter().map(|chain| SharedChain::new(number, chain)).collect()
}

/// Whether TLS is spoken to a headless service.
fn is_secured(port: &Port<'_>, reads: &mut Reads) -> bool {
    let settings = port.rule.map(|rule| rule.settings(port.port.number, "")).unwrap_or_default();
    match &settings.tls {
        Some(told) => told.mode != ClientTlsMode::Disable,
        None => is_original_dst(port.service, port.client) && port.picks_mtls(&settings, reads),
    }
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

/// Something that two chains of a shared listener match.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Collision<O> {
    /// The port.
    pub port: u16,
    /// The server name; `None` for any.
    pub name: Option<Name>,
    /// The block of destinations; `None` for any.
    pub block: Option<IpNet>,
    /// Whose chain has it.
    pub kept: O,
    /// Whose chain would have led it elsewhere.
    pub left_out: O,
}

/// A chain and whose it is. Equal chains lead to one place, whoever owns them.
#[derive(Clone)]
struct Owned<'a, O>(O, &'a Bytes);

impl<O> PartialEq for Owned<'_, O> {
    fn eq(&self, other: &Self) -> bool {
        self.1 == other.1
    }
}

/// What is left out of the shared listeners of these chains, those that come first before others: what
/// [`SharedListener::conflicts`] counts, one by one. For operators.
pub fn collisions<'a, O: Clone>(chains: impl IntoIterator<Item = (O, &'a SharedChain)>) -> Vec<Collision<O>> {
    let mut ports: BTreeMap<u16, Taken<Owned<'a, O>>> = BTreeMap::new();
    let mut lost = Vec::new();
    for (owner, one) in chains {
        let taken = ports.entry(one.port).or_default();
        taken.take_or(&one.matches, &Owned(owner.clone(), &one.chain), |(name, block), holder| {
            lost.push(Collision {
                port: one.port,
                name: name.clone(),
                block: *block,
                kept: holder.0.clone(),
                left_out: owner.clone(),
            });
        });
    }
    lost
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
