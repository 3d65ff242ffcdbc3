//! Random worlds: what a proxy is sent follows from the snapshots and its projection alone.
//!
//! The number of steps is `TOMBOLO_RANDOM_STEPS` (default 3 000). For a long run:
//! `TOMBOLO_RANDOM_STEPS=100000 cargo test --lib xds::assignments::tests::random`.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use steps::{Aside, CLUSTERS, Mode, NAMES, Step};

use super::client::{Client, push};
use super::*;
use crate::model::policy::PolicyKind;
use crate::model::{Features, Quirks};
use crate::registry::{PolicyObject, PolicyWrite};
use crate::view::{Assignment, Decision, Origin, Tally};
use crate::xds::Limits;
use crate::xds::hub::{Hub, Settings};

mod steps;

/// Steps of one world.
const STEPS: u32 = 100;

fn worlds() -> u32 {
    let steps = std::env::var("TOMBOLO_RANDOM_STEPS").ok();
    steps.map_or(3000, |steps| steps.parse().expect("a number of steps")) / STEPS
}

/// Clusters, policies and proxies; the hub pushes when it is told to.
struct World {
    registry: Arc<Registry>,
    rules: MeshRules,
    hub: Arc<Hub>,
    writers: Vec<ClusterWriter>,
    clients: BTreeMap<usize, Client>,
}

impl World {
    fn new(mode: Mode) -> Self {
        let quirks = if mode.peer { Quirks::peer() } else { Quirks::OURS };
        let registry = Registry::with_quirks(quirks);
        let features = Features {
            ambient: mode.ambient,
            multi_network: mode.ambient,
            dual_stack: mode.dual_stack,
            ..Features::default()
        };
        let rules = MeshRules::new("cluster.local", "istio-system", [("n1".into(), "n3".into())])
            .with_quirks(quirks)
            .with_features(features.effective())
            .with_config_cluster(Some(CLUSTERS[0].into()));
        let cache_bytes = if mode.cramped { 1_000 } else { u64::MAX };
        let limits = Limits { cache_bytes, ..Limits::default() };
        let settings = Settings { mesh: rules.clone(), limits, ..Settings::default() };
        let hub = Arc::new(Hub::new(Arc::clone(&registry), settings, None));
        let writers = (0..CLUSTERS.len()).map(|at| writer(&registry, at)).collect();
        Self { registry, rules, hub, writers, clients: BTreeMap::new() }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Shard(at, key, record, endpoints) => {
                let shard = steps::shard(CLUSTERS[at], &key, record, endpoints);
                self.writers[at].set(key, shard);
            }
            Step::NoShard(at, key) => self.writers[at].remove(&key),
            Step::Networks(at, network, gateways) => self.writers[at].set_networks(network, gateways),
            Step::Standing(at, standing) => _ = self.writers[at].set_standing(standing),
            Step::Detour(at, aside) => self.detour(at, aside),
            Step::Withdraw(at) => {
                self.writers.remove(at).withdraw();
                self.writers.insert(at, writer(&self.registry, at));
            }
            Step::Pod(id, cell) => {
                let at = CLUSTERS.iter().position(|cluster| *cluster == &*id.cluster).expect("one of them");
                self.writers[at].apply([(id, cell.map(|cell| *cell))], []);
            }
            Step::Policy(object) => self.registry.write_policies([PolicyWrite::set(object)]),
            Step::NoPolicy(kind, id) => self.registry.write_policies([PolicyWrite::remove(kind, id)]),
            Step::Mesh(mesh) => self.registry.write_mesh_config(*mesh),
            Step::Join(slot, node) => {
                // Its place is empty first: the last watcher of a cell may be the next one's predecessor.
                drop(self.clients.remove(&slot));
                self.clients.insert(slot, Client::new(&self.hub, *node));
            }
            Step::Leave(slot) => drop(self.clients.remove(&slot)),
            Step::Watch(slot, name) => self.with(slot, |client, hub| client.watch(hub, &NAMES[name].into())),
            Step::Unwatch(slot, name) => self.with(slot, |client, _| client.unwatch(&NAMES[name].into())),
            Step::Ask(slot) => self.ask(slot),
            Step::Listen(slot) => self.with(slot, |client, hub| _ = client.listen(hub)),
            Step::Push => self.push(),
        }
    }

    fn with(&mut self, slot: usize, work: impl FnOnce(&mut Client, &Hub)) {
        if let Some(client) = self.clients.get_mut(&slot) {
            work(client, &self.hub);
        }
    }

    fn detour(&mut self, at: usize, aside: Aside) {
        self.push();
        let cluster = CLUSTERS[at].into();
        match aside {
            Aside::Standing(standing) => {
                let before = self.registry.standings().part(&cluster).standing;
                self.writers[at].set_standing(standing);
                self.ask_all();
                self.writers[at].set_standing(before);
            }
            Aside::Nothing(key) => {
                let found = self.registry.service(&key).map(|cell| cell.load());
                let Some(shard) = found.as_ref().and_then(|found| found.shard(&cluster)) else { return };
                self.writers[at].remove(&key);
                self.ask_all();
                self.writers[at].set(key, EndpointShard::clone(shard));
            }
        }
        self.push();
    }

    fn ask_all(&mut self) {
        let slots: Vec<_> = self.clients.keys().copied().collect();
        slots.into_iter().for_each(|slot| self.ask(slot));
    }

    /// What is sent between a change and its push is as new as what is pushed (contract 1).
    fn ask(&mut self, slot: usize) {
        let Some(client) = self.clients.get(&slot) else { return };
        let names: Vec<Name> = client.names().cloned().collect();
        for name in names {
            let key = self.clients[&slot].cell(&name).key().clone();
            let (fresh, _) = self.fresh(&name, &key);
            self.with(slot, |client, hub| {
                assert_eq!(client.read(hub, &name).any, fresh.any, "{name} {key:?}")
            });
        }
    }

    fn push(&mut self) {
        push(&self.hub);
        let mut built: BTreeMap<(Name, EdsKey), (u128, Tally)> = BTreeMap::new();
        self.clients.values_mut().for_each(|client| _ = client.listen(&self.hub));
        for client in self.clients.values() {
            assert_eq!(*client.view(), self.hub.view(client.node()), "what is known of the proxy");
            for (name, held) in &client.held {
                let cell = client.cell(name);
                assert_eq!(*cell.key(), self.key(client, name), "{name}");
                let (fresh, tally) = self.fresh(name, cell.key());
                assert_eq!(self.hub.assignments.current(cell).any, fresh.any, "{name} {:?}", cell.key());
                assert_eq!(*held, fresh.hash, "it was told: {name} {:?}", cell.key());
                let same = built.insert((name.clone(), cell.key().clone()), (fresh.hash, tally));
                assert!(same.is_none_or(|(hash, _)| hash == fresh.hash), "one key, one answer");
            }
        }
        self.tallies(built.into_values().map(|(_, tally)| tally));
    }

    /// The endpoints by decision are those of the assignments that are watched.
    fn tallies(&self, all: impl Iterator<Item = Tally>) {
        let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
        let counts: Vec<(Decision, u32)> = all.flat_map(|tally| tally.counts().collect::<Vec<_>>()).collect();
        counts
            .iter()
            .for_each(|(decision, count)| *sums.entry(decision.code()).or_default() += u64::from(*count));
        let counted = self.hub.counts.decided.all().filter(|(_, count)| *count > 0);
        sums.retain(|_, count| *count > 0);
        assert_eq!(
            counted.map(|(decision, count)| (decision.code(), count)).collect::<BTreeMap<_, _>>(),
            sums
        );
    }

    fn key(&self, client: &Client, name: &str) -> EdsKey {
        let view = self.hub.view(client.node());
        if name == LOCAL_CLUSTER {
            let own = view.workload.iter().flat_map(|pod| pod.services.iter());
            let own = own.filter_map(|key| self.registry.service(key)).map(|cell| cell.load());
            return EdsKey::of_siblings(&view, &own.collect::<Vec<_>>(), &self.rules);
        }
        let nothing = EdsName::outbound(0, &Hostname::default());
        let name = EdsName::parse(name).unwrap_or(nothing);
        let candidates: Vec<_> = self.registry.host(&name.host).iter().map(|cell| cell.load()).collect();
        EdsKey::of(&view, &name, &candidates, &self.registry.policies(), &self.rules)
    }

    /// An assignment built without any cache.
    fn fresh(&self, name: &Name, key: &EdsKey) -> (Encoded, Tally) {
        let (registry, mut tally) = (&self.registry, Tally::default());
        let found = key.meant(name).and_then(|name| {
            let service = ServiceKey::new(key.namespace.as_ref()?, name.host.clone());
            Some((name, registry.service(&service)?.load()))
        });
        let Some((parsed, service)) = found else {
            return (resources::empty_assignment(name), tally);
        };
        let (networks, standings, policies) =
            (registry.networks(), registry.standings(), registry.policies());
        let record = service.service.as_deref();
        let waypoint = record.and_then(|record| view::waypoint(record, &parsed, key, &self.rules));
        let waypoint = waypoint.and_then(|key| registry.service(key)).map(|cell| cell.load());
        let inputs = Inputs {
            service: &service,
            waypoint: waypoint.as_deref(),
            networks: &networks,
            mesh: &self.rules,
            standings: &standings,
            policies: &policies,
        };
        let assignment = view::assign(inputs, &parsed, key, &mut tally);
        self.check(name, key, &assignment);
        (resources::assignment(name, &assignment), tally)
    }

    /// No address twice, and no address of a network that the proxy does not reach (D2, D3).
    fn check(&self, name: &Name, key: &EdsKey, assignment: &Assignment<'_>) {
        if self.rules.quirks() == Quirks::peer() {
            return;
        }
        let siblings = key.siblings.is_some();
        assert!(!siblings || assignment.groups.iter().all(|group| group.priority == 0), "{key:?}");
        let mut seen = BTreeSet::new();
        for endpoint in assignment.endpoints() {
            let place = endpoint.address().map(|address| (address, endpoint.port()));
            assert!(place.is_none_or(|place| seen.insert(place)), "{place:?} is there twice: {name} {key:?}");
            let Origin::Direct(workload) = &endpoint.origin else { continue };
            let (own, network) = (&key.network, &workload.network);
            let near = own == network || own.is_empty() || network.is_empty();
            assert!(near || self.rules.reachable(own, network), "{place:?} is of {network}: {name} {key:?}");
        }
    }
}

fn writer(registry: &Arc<Registry>, at: usize) -> ClusterWriter {
    let role = if at == 0 { ClusterRole::Config } else { ClusterRole::Remote };
    registry.writer(CLUSTERS[at].into(), role).expect("one writer each")
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: worlds(),
        max_shrink_iters: 4000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]
    #[test]
    fn what_is_sent_depends_on_the_snapshots_and_the_projection_alone(
        mode in steps::mode(),
        start in steps::start(),
        steps in prop::collection::vec(steps::step(), STEPS as usize),
    ) {
        let mut world = World::new(mode);
        for step in start.into_iter().chain(steps) {
            world.step(step);
        }
        world.push();
        world.clients.clear();
        let assignments = &world.hub.assignments;
        prop_assert!(assignments.topics.is_empty() && assignments.readers.is_empty(), "nothing is left");
        prop_assert!(world.hub.siblings.is_empty(), "nobody is left");
        let held = world.hub.cached(ResourceType::Endpoint);
        prop_assert_eq!((held.bytes, held.entries), (0, 0), "no bytes are left");
    }
}
