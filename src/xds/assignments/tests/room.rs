//! With room for next to nothing everything is served as with room for all, and changes are told as often.

use std::time::Instant;

use super::client::{Client, node};
use super::*;
use crate::xds::Limits;
use crate::xds::hub::{Hub, Settings};

const SERVICES: u16 = 20;
const PROXIES: u16 = 4;
/// Room for a few of the assignments.
const ROOM: u64 = 2_000;

fn key(service: u16) -> ServiceKey {
    ServiceKey::new("ns", format!("s{service}.ns.svc.cluster.local"))
}

fn name(service: u16) -> Name {
    format!("outbound|80||s{service}.ns.svc.cluster.local").into()
}

/// One registry, served twice: with little room and with plenty.
struct Mesh {
    registry: Arc<Registry>,
    writer: ClusterWriter,
    hubs: [Arc<Hub>; 2],
    clients: [Vec<Client>; 2],
}

impl Mesh {
    fn new() -> Self {
        let registry = Registry::new();
        let mut writer = registry.writer("c1".into(), ClusterRole::Config).expect("the first writer");
        (0..SERVICES).for_each(|service| writer.set(key(service), shard(service, 1, 0)));
        registry.changes().take();
        let hubs = [ROOM, u64::MAX].map(|cache_bytes| {
            let settings =
                Settings { limits: Limits { cache_bytes, ..Limits::default() }, ..Settings::default() };
            Arc::new(Hub::new(Arc::clone(&registry), settings, None))
        });
        let clients = [0, 1].map(|at: usize| {
            let connect = |proxy| {
                let mut client = Client::new(&hubs[at], node("c1", "ns", &format!("p{proxy}")));
                (0..SERVICES).for_each(|service| client.watch(&hubs[at], &name(service)));
                client
            };
            (0..PROXIES).map(connect).collect::<Vec<_>>()
        });
        Self { registry, writer, hubs, clients }
    }

    /// Pushes what is written at both, has every proxy do what it was woken for, and says which services it was sent:
    /// the same everywhere.
    fn told(&mut self) -> Vec<Name> {
        let changes = self.registry.changes().take();
        self.hubs.iter().for_each(|hub| hub.push(&changes, Instant::now()));
        let mut told = Vec::new();
        for (hub, clients) in self.hubs.iter().zip(&mut self.clients) {
            told.extend(clients.iter_mut().map(|client| client.listen(hub)));
        }
        assert!(told.windows(2).all(|two| two[0] == two[1]), "{told:?}");
        let (little, plenty) = (&self.clients[0], &self.clients[1]);
        assert!(little.iter().zip(plenty).all(|(one, other)| one.held == other.held));
        let held = self.hubs[0].cached(ResourceType::Endpoint);
        assert!(held.bytes <= ROOM && held.entries < u64::from(SERVICES), "{held:?}");
        told.pop().into_iter().flatten().collect()
    }
}

fn shard(service: u16, endpoints: u8, created: i64) -> EndpointShard {
    let mut shard = shard_of("c1", "", endpoints);
    let record = shard.service.as_deref().cloned().expect("a record");
    shard.service = Some(Arc::new(Service { key: key(service), created, ..record }));
    shard
}

#[test]
fn d18_without_room_changes_reach_everybody_once_and_unchanged_content_nobody() {
    let mut mesh = Mesh::new();
    for round in 0..10_u16 {
        let changed = [round % SERVICES, (round * 7 + 3) % SERVICES];
        for service in changed {
            mesh.writer.set(key(service), shard(service, 2 + u8::try_from(round).expect("small"), 0));
        }
        let mut wanted: Vec<_> = changed.into_iter().map(name).collect();
        wanted.sort();
        wanted.dedup();
        assert_eq!(mesh.told(), wanted);
        assert!(mesh.told().is_empty(), "once");
        // Other records with the same endpoints, of all: everything is looked at, nothing is sent.
        for service in 0..SERVICES {
            let now = mesh.registry.service(&key(service)).expect("known").load();
            let endpoints = u8::try_from(now.shards[0].endpoints.len()).expect("few");
            mesh.writer.set(key(service), shard(service, endpoints, i64::from(round) + 1));
        }
        assert!(mesh.told().is_empty(), "nothing differs");
    }
    let [little, plenty] = mesh.hubs.each_ref().map(|hub| hub.cached(ResourceType::Endpoint));
    assert!(little.evictions > 0 && little.misses > plenty.misses, "{little:?}");
    assert_eq!((plenty.evictions, plenty.entries), (0, u64::from(SERVICES)));
    assert_eq!(
        plenty.misses,
        u64::from(SERVICES),
        "every other read finds what the push or the first one built"
    );
    assert_eq!(plenty.hits, u64::from(SERVICES * (PROXIES - 1)) + 20 * u64::from(PROXIES));
}

#[test]
fn d18_what_was_dropped_is_built_again_for_who_asks_and_is_the_same() {
    let mut mesh = Mesh::new();
    let before = mesh.clients[0][0].held.clone();
    let hub = Arc::clone(&mesh.hubs[0]);
    for service in 0..SERVICES {
        let encoded = mesh.clients[0][1].read(&hub, &name(service));
        assert_eq!(encoded.hash, before[&name(service)]);
    }
    assert!(mesh.told().is_empty(), "nobody is told of that");
    // A proxy that comes finds what the others have.
    let mut late = Client::new(&hub, node("c1", "ns", "late"));
    (0..SERVICES).for_each(|service| late.watch(&hub, &name(service)));
    assert_eq!(late.held, before);
    drop(late);
    mesh.clients.iter_mut().for_each(Vec::clear);
    let left = hub.cached(ResourceType::Endpoint);
    assert_eq!((left.bytes, left.entries), (0, 0), "cells nobody watches hold nothing");
}
