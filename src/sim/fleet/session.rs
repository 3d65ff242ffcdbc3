//! What one proxy says and remembers: pure, messages in, messages out.
//!
//! The order is Envoy's: Envoy clusters, then the assignments they name, then listeners, then the routes they name.
//! A stream that follows another asks for everything at once, and under delta says what is already there.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use prost::Message as _;

use super::behaviour::{Manner, Protocol};
use super::fields::Malformed;
use super::frames::frame;
use super::message::{Kind, Response, assignment_of, routes_of};
use super::names::{NameId, NameList, Names, put_name};
use crate::proto::discovery::{DeltaDiscoveryRequest, DiscoveryRequest, Node, Status};

/// What a rejecting proxy says.
const REJECTION: &str = "rejected by the fleet, as it was told to";
/// gRPC's INVALID_ARGUMENT.
const INVALID: i32 = 3;

/// What a proxy asks for.
#[derive(Debug, Clone)]
pub(super) enum Wanted {
    /// Everything, as Envoy does.
    Everything,
    /// These assignments and nothing else.
    Assignments(NameList),
}

/// What a response was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Received {
    pub(super) kind: Option<Kind>,
    pub(super) resources: usize,
    pub(super) removed: usize,
}

/// A resource as a proxy remembers it.
#[derive(Debug, Default)]
struct Held {
    version: String,
    /// What it has the proxy ask for.
    refers: Vec<NameId>,
}

/// One type.
#[derive(Debug, Default)]
struct Typed {
    asked: bool,
    answered: bool,
    /// Empty for what is asked for without names.
    names: NameList,
    held: HashMap<NameId, Held>,
    /// Of the last response.
    version: String,
}

impl Typed {
    fn is_complete(&self, kind: Kind) -> bool {
        match kind {
            Kind::Cluster | Kind::Listener => self.answered,
            Kind::Endpoint | Kind::Route => self.held.len() >= self.names.ids.len(),
        }
    }
}

/// The state of one proxy over all of its streams.
#[derive(Debug)]
pub(super) struct Session {
    protocol: Protocol,
    rejects: bool,
    everything: bool,
    names: Arc<Names>,
    /// Encoded; it goes with the first request of a stream.
    node: Bytes,
    introduced: bool,
    types: [Typed; 4],
}

impl Session {
    pub(super) fn new(
        protocol: Protocol,
        manner: Manner,
        node: &Node,
        wanted: Wanted,
        names: Arc<Names>,
    ) -> Self {
        let mut types = <[Typed; 4]>::default();
        let everything = match wanted {
            Wanted::Everything => {
                types[Kind::Cluster as usize].asked = true;
                true
            }
            Wanted::Assignments(list) => {
                let assignments = &mut types[Kind::Endpoint as usize];
                (assignments.asked, assignments.names) = (true, list);
                false
            }
        };
        let node = node.encode_to_vec().into();
        let rejects = manner == Manner::Nack;
        Self { protocol, rejects, everything, names, node, introduced: false, types }
    }

    /// The first requests of a new stream.
    pub(super) fn open(&mut self) -> Vec<Bytes> {
        self.introduced = false;
        let asked = Kind::ALL.into_iter().filter(|kind| self.types[*kind as usize].asked);
        asked.collect::<Vec<_>>().into_iter().map(|kind| self.first(kind)).collect()
    }

    /// Whether all that was asked for has come at least once.
    pub(super) fn is_complete(&self) -> bool {
        let all = !self.everything || Kind::ALL.into_iter().all(|kind| self.types[kind as usize].asked);
        all && self.types.iter().zip(Kind::ALL).all(|(typed, kind)| !typed.asked || typed.is_complete(kind))
    }

    /// Takes a response: tells `seen` each name in it and returns what to say, oldest first.
    ///
    /// # Errors
    /// [`Malformed`].
    pub(super) fn receive(
        &mut self,
        message: &[u8],
        mut seen: impl FnMut(NameId),
    ) -> Result<(Received, Vec<Bytes>), Malformed> {
        let response = Response::parse(self.protocol, message)?;
        let Some(kind) = response.kind.filter(|kind| self.types[*kind as usize].asked) else {
            return Ok((Received { kind: None, resources: 0, removed: 0 }, Vec::new()));
        };
        let (received, changed) = self.store(kind, response, &mut seen);
        let mut requests = vec![self.answer(kind, response.nonce)];
        if self.everything {
            self.follow(kind, changed, &mut requests);
        }
        Ok((received, requests))
    }

    /// Remembers what came; says whether another list of names follows from it.
    fn store(
        &mut self,
        kind: Kind,
        response: Response<'_>,
        seen: &mut impl FnMut(NameId),
    ) -> (Received, bool) {
        let typed = &mut self.types[kind as usize];
        let (mut changed, mut count) = (!typed.answered, 0);
        typed.answered = true;
        typed.version.clear();
        typed.version.push_str(response.version);
        let whole = self.protocol == Protocol::Sotw && matches!(kind, Kind::Cluster | Kind::Listener);
        let mut gone = if whole { std::mem::take(&mut typed.held) } else { HashMap::new() };
        for resource in response.resources() {
            count += 1;
            let id = self.names.id(resource.name);
            seen(id);
            let mut held = gone.remove(&id).or_else(|| typed.held.remove(&id)).unwrap_or_default();
            held.version.clear();
            held.version.push_str(resource.version);
            let refers: Vec<NameId> = match kind {
                Kind::Cluster => {
                    assignment_of(resource.body).map(|name| self.names.id(name)).into_iter().collect()
                }
                Kind::Listener => routes_of(resource.body).map(|name| self.names.id(name)).collect(),
                Kind::Endpoint | Kind::Route => Vec::new(),
            };
            changed |= held.refers != refers;
            held.refers = refers;
            typed.held.insert(id, held);
        }
        let removed: Vec<NameId> = response.removed().map(|name| self.names.id(name)).collect();
        for id in &removed {
            changed |= typed.held.remove(id).is_some();
        }
        changed |= !gone.is_empty();
        (Received { kind: Some(kind), resources: count, removed: removed.len() }, changed)
    }

    /// Asks for what follows from a response: names that it refers to, and the type whose turn it is now.
    fn follow(&mut self, kind: Kind, changed: bool, requests: &mut Vec<Bytes>) {
        match kind {
            Kind::Cluster if changed => self.refer(Kind::Cluster, Kind::Endpoint, requests),
            Kind::Listener if changed => self.refer(Kind::Listener, Kind::Route, requests),
            _ => {}
        }
        // Envoy asks for listeners once all of its clusters are warm.
        let warm = [Kind::Cluster, Kind::Endpoint].iter().all(|kind| {
            let typed = &self.types[*kind as usize];
            typed.asked && typed.is_complete(*kind)
        });
        let listeners = &mut self.types[Kind::Listener as usize];
        if warm && !listeners.asked {
            listeners.asked = true;
            requests.push(self.first(Kind::Listener));
        }
    }

    /// Asks for exactly the names that what is held of `from` refers to.
    fn refer(&mut self, from: Kind, to: Kind, requests: &mut Vec<Bytes>) {
        let wanted =
            self.types[from as usize].held.values().flat_map(|held| held.refers.iter().copied()).collect();
        let list = NameList::new(&self.names, wanted);
        let typed = &mut self.types[to as usize];
        let before = std::mem::replace(&mut typed.names, list);
        typed.held.retain(|id, _| typed.names.contains(*id));
        let added: Vec<NameId> = typed.names.ids.iter().copied().filter(|id| !before.contains(*id)).collect();
        let dropped: Vec<NameId> =
            before.ids.iter().copied().filter(|id| !typed.names.contains(*id)).collect();
        if !typed.asked {
            typed.asked = true;
            if !typed.names.ids.is_empty() {
                requests.push(self.first(to));
            }
        } else if !(added.is_empty() && dropped.is_empty()) {
            requests.push(self.change(to, added, &dropped));
        }
    }

    /// The first request of a type on a stream.
    fn first(&mut self, kind: Kind) -> Bytes {
        let typed = &self.types[kind as usize];
        match self.protocol {
            Protocol::Delta => {
                let versions = typed
                    .held
                    .iter()
                    .map(|(id, held)| (self.names.text(*id).to_string(), held.version.clone()));
                let request = DeltaDiscoveryRequest {
                    initial_resource_versions: versions.collect::<BTreeMap<_, _>>(),
                    ..delta(kind)
                };
                let names = typed.names.encoded.clone();
                self.send(|out| {
                    put(&request, out);
                    out.put(names);
                })
            }
            Protocol::Sotw => self.whole(kind, "", None),
        }
    }

    /// The answer to a response.
    fn answer(&mut self, kind: Kind, nonce: &str) -> Bytes {
        let error_detail = self.rejects.then(|| Status { code: INVALID, message: REJECTION.to_owned() });
        match self.protocol {
            Protocol::Delta => {
                let request =
                    DeltaDiscoveryRequest { response_nonce: nonce.to_owned(), error_detail, ..delta(kind) };
                self.send(|out| put(&request, out))
            }
            Protocol::Sotw => self.whole(kind, nonce, error_detail),
        }
    }

    /// A change of the names of a type that was asked for before.
    fn change(&mut self, kind: Kind, added: Vec<NameId>, dropped: &[NameId]) -> Bytes {
        match self.protocol {
            Protocol::Delta => {
                let added = NameList::new(&self.names, added).encoded;
                let dropped: Vec<_> = dropped.iter().map(|id| self.names.text(*id)).collect();
                self.send(|out| {
                    put(&delta(kind), out);
                    out.put(added);
                    dropped.iter().for_each(|name| put_name(4, name, out));
                })
            }
            // Spontaneous, with the last version: the nonce is of no use once it has been answered.
            Protocol::Sotw => self.whole(kind, "", None),
        }
    }

    /// Any request in state of the world: it has all names each time.
    fn whole(&mut self, kind: Kind, nonce: &str, error_detail: Option<Status>) -> Bytes {
        let typed = &self.types[kind as usize];
        let request = DiscoveryRequest {
            version_info: typed.version.clone(),
            type_url: kind.url().to_owned(),
            response_nonce: nonce.to_owned(),
            error_detail,
            ..DiscoveryRequest::default()
        };
        let names = typed.names.encoded.clone();
        self.send(|out| {
            put(&request, out);
            out.put(names);
        })
    }

    /// A frame; the first one of a stream says who speaks.
    fn send(&mut self, write: impl FnOnce(&mut BytesMut)) -> Bytes {
        let node = if std::mem::replace(&mut self.introduced, true) { None } else { Some(self.node.clone()) };
        let number = if self.protocol == Protocol::Delta { 1 } else { 2 };
        frame(|out| {
            if let Some(node) = node {
                prost::encoding::bytes::encode(number, &node, out);
            }
            write(out);
        })
    }
}

fn delta(kind: Kind) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest { type_url: kind.url().to_owned(), ..DeltaDiscoveryRequest::default() }
}

fn put(message: &impl prost::Message, out: &mut BytesMut) {
    message.encode(out).expect("a buffer that grows");
}

#[cfg(test)]
mod tests;
