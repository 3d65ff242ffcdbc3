//! Random histories of a client and of its world, over TCP: whatever is asked, answered, rejected or changed, and however
//! the two sides' words pass each other on their way, nothing is told that nobody may want to know, and in the end the
//! client holds what the world has. Aggregated streams, and those of assignments alone (X-E01).
//!
//! The model beside the sessions (`src/xds/session/tests/random.rs`) knows at each moment what may be said next; here a
//! client allows whatever may still be on its way.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3 as peer;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use prost::Message as _;
use tombolo::proto::discovery::DeltaDiscoveryRequest;
use tombolo::xds::resource::ResourceType::{self, Cluster, Endpoint};

use super::client::{DEADLINE, Delta, Protocol, Resource, Sotw, Stream, Told, sidecar, strings};
use super::plane::Plane;
use super::world::{eds, endpoints, rule, service, slice};

/// Services that come and go.
const SERVICES: usize = 4;
/// The longest history.
const LONGEST: usize = 60;
/// How long a client that reads waits for something to read.
const MOMENT: Duration = Duration::from_millis(5);

#[derive(Clone, Debug)]
enum Step {
    /// A service has so many endpoints.
    Endpoints(usize, usize),
    /// Its Envoy cluster has a connect timeout of so many seconds.
    Timeout(usize, u32),
    /// It comes, or goes.
    Exists(usize, bool),
    Ask(ResourceType, usize),
    Leave(ResourceType, usize),
    /// All Envoy clusters, or only those that are named.
    Star(bool),
    /// Takes a response, if one is there.
    Read,
    /// Answers the oldest response; `true` rejects it.
    Answer(bool),
    /// Takes and accepts responses until everything is answered.
    Catch,
    Reconnect,
}

fn step() -> impl Strategy<Value = Step> {
    let asked = (prop_oneof![Just(Cluster), Just(Endpoint)], 0..SERVICES);
    prop_oneof![
        6 => (0..SERVICES, 1..4usize).prop_map(|(n, count)| Step::Endpoints(n, count)),
        2 => (0..SERVICES, 1..4u32).prop_map(|(n, seconds)| Step::Timeout(n, seconds)),
        3 => (0..SERVICES, prop::bool::ANY).prop_map(|(n, exists)| Step::Exists(n, exists)),
        8 => asked.clone().prop_map(|(kind, n)| Step::Ask(kind, n)),
        4 => asked.prop_map(|(kind, n)| Step::Leave(kind, n)),
        2 => prop::bool::ANY.prop_map(Step::Star),
        6 => Just(Step::Read),
        6 => prop::bool::weighted(0.2).prop_map(Step::Answer),
        2 => Just(Step::Catch),
        1 => Just(Step::Reconnect),
    ]
}

/// The same histories in every run, of about one step in fifty of `TOMBOLO_RANDOM_STEPS` (20 000 without it), which is for
/// those that need no network.
fn histories() -> impl Iterator<Item = Vec<Step>> {
    let wished = std::env::var("TOMBOLO_RANDOM_STEPS").ok();
    let steps: usize = wished.map_or(20_000, |text| text.parse().expect("TOMBOLO_RANDOM_STEPS is a number"));
    let mut runner = TestRunner::deterministic();
    let history = prop::collection::vec(step(), 1..LONGEST);
    (0..2 * steps / 50 / LONGEST).map(move |_| history.new_tree(&mut runner).expect("a history").current())
}

/// One service, as the cluster has it.
#[derive(Clone, Copy, Debug)]
struct State {
    exists: bool,
    endpoints: usize,
    /// Seconds.
    timeout: i64,
}

/// What the cluster behind the server has.
struct World<'a> {
    plane: &'a Plane,
    services: [State; SERVICES],
}

impl World<'_> {
    fn change(&mut self, step: &Step) {
        match *step {
            Step::Endpoints(n, count) => {
                self.services[n].endpoints = count;
                self.plane.apply(slice(n, count));
            }
            Step::Timeout(n, seconds) => {
                self.services[n].timeout = seconds.into();
                self.plane.apply(rule(n, seconds));
            }
            Step::Exists(n, exists) if exists != self.services[n].exists => {
                self.services[n].exists = exists;
                if exists {
                    self.plane.apply(service(n));
                } else {
                    self.plane.delete(&service(n));
                }
            }
            _ => {}
        }
    }
}

/// A type and a name.
type Key = (ResourceType, String);

/// A client that keeps what it is told.
struct Client<'a> {
    plane: &'a Plane,
    protocol: Protocol,
    /// Its streams are of assignments alone.
    alone: bool,
    stream: Stream,
    names: BTreeMap<ResourceType, BTreeSet<String>>,
    cache: BTreeMap<Key, Resource>,
    unanswered: Vec<Told>,
    /// How often each may come on this stream although it is the same: it was asked for, or its Envoy cluster came.
    again: BTreeMap<Key, usize>,
    /// How often each came so.
    same: BTreeMap<Key, usize>,
    /// How often all Envoy clusters may, and in the state of the world the same set of them.
    stars: usize,
    sets: usize,
    /// Types of which something was told on this stream.
    told: BTreeSet<ResourceType>,
    /// Ever wanted on this stream.
    wanted: BTreeSet<Key>,
    /// Asked for and not told since.
    asked: BTreeSet<Key>,
    marks: usize,
}

impl<'a> Client<'a> {
    async fn new(plane: &'a Plane, protocol: Protocol, alone: bool) -> Self {
        Self {
            plane,
            protocol,
            alone,
            stream: Self::open(plane, protocol, alone).await,
            names: BTreeMap::new(),
            cache: BTreeMap::new(),
            unanswered: Vec::new(),
            again: BTreeMap::new(),
            same: BTreeMap::new(),
            stars: 0,
            sets: 0,
            told: BTreeSet::new(),
            wanted: BTreeSet::new(),
            asked: BTreeSet::new(),
            marks: 0,
        }
    }

    async fn open(plane: &Plane, protocol: Protocol, alone: bool) -> Stream {
        let node = sidecar("histories", "east", "net-east");
        match alone {
            true => Stream::open_eds(plane.address(), protocol, node).await,
            false => Stream::open(plane.address(), protocol, node).await,
        }
    }

    fn wants(&self, kind: ResourceType, name: &str) -> bool {
        self.names.get(&kind).is_some_and(|names| names.contains(name) || names.contains("*"))
    }

    async fn take(&mut self, step: &Step) {
        match *step {
            Step::Ask(kind, n) => self.change(kind, |names| _ = names.insert(eds(n))),
            Step::Leave(kind, n) => self.change(kind, |names| _ = names.remove(&eds(n))),
            Step::Star(true) => self.change(Cluster, |names| _ = names.insert("*".to_owned())),
            Step::Star(false) => self.change(Cluster, |names| _ = names.remove("*")),
            Step::Read => {
                if let Some(told) = self.stream.within(MOMENT).await {
                    self.heard(told);
                }
            }
            Step::Answer(reject) => self.answer(reject),
            Step::Catch => self.catch().await,
            Step::Reconnect => self.reconnect().await,
            Step::Endpoints(..) | Step::Timeout(..) | Step::Exists(..) => {}
        }
    }

    /// Changes what it wants of a type, and says so.
    fn change(&mut self, kind: ResourceType, change: impl FnOnce(&mut BTreeSet<String>)) {
        let before = self.names.get(&kind).cloned();
        let mut names = before.clone().unwrap_or_default();
        change(&mut names);
        // Without any name the first request would be for everything (X-S05, X-D01).
        if (self.alone && kind == Cluster) || (names.is_empty() && before.is_none()) {
            return;
        }
        self.stream.ask(kind, &strings(&names.iter().collect::<Vec<_>>()));
        self.may_come(kind, &names, &before.unwrap_or_default());
        self.names.insert(kind, names);
    }

    /// Notes what a request may be answered with.
    fn may_come(&mut self, kind: ResourceType, names: &BTreeSet<String>, before: &BTreeSet<String>) {
        self.sets += usize::from(kind == Cluster);
        let mut due: BTreeSet<_> = names.difference(before).cloned().collect();
        self.asked.extend(due.iter().filter(|name| *name != "*").map(|name| (kind, name.clone())));
        if due.contains("*") {
            self.stars += 1;
        }
        if names.contains("*") {
            // What is no longer named is told as one of all (X-D05).
            due.extend(before.difference(names).cloned());
        }
        if self.protocol == Sotw && !self.told.contains(&kind) {
            // Without a nonce a request asks for all of them anew.
            due.extend(names.iter().cloned());
        }
        self.wanted.extend(due.iter().map(|name| (kind, name.clone())));
        for name in due {
            *self.again.entry((kind, name)).or_default() += 1;
        }
        self.asked.retain(|(k, name)| *k != kind || names.contains(name));
    }

    fn heard(&mut self, told: Told) {
        let kind = if told.is(Cluster) { Cluster } else { Endpoint };
        self.told.insert(kind);
        assert!(told.is(kind) && self.names.contains_key(&kind), "{} was not asked for", told.url);
        if self.protocol == Sotw && kind == Cluster {
            self.heard_set(&told);
        } else {
            told.resources.iter().for_each(|resource| self.heard_one(kind, resource));
        }
        for name in &told.removed {
            let key = (kind, name.clone());
            let known = self.asked.remove(&key) | self.cache.remove(&key).is_some();
            assert!(known || self.again.contains_key(&key), "{key:?} is removed and was not there");
        }
        if kind == Cluster {
            // Envoy warms each that is told, and waits for its assignment (X-O02).
            for resource in &told.resources {
                *self.again.entry((Endpoint, resource.name.clone())).or_default() += 1;
            }
        }
        self.unanswered.push(told);
    }

    fn heard_one(&mut self, kind: ResourceType, resource: &Resource) {
        let key = (kind, resource.name.clone());
        let everything = self.wanted.contains(&(kind, "*".to_owned()));
        assert!(everything || self.wanted.contains(&key), "{key:?} is not subscribed");
        self.asked.remove(&key);
        if self.cache.insert(key.clone(), resource.clone()).is_some_and(|old| old.value == resource.value) {
            let same = self.same.entry(key.clone()).or_default();
            *same += 1;
            let all = if kind == Cluster { self.stars } else { 0 };
            let again = self.again.get(&key).copied().unwrap_or_default() + all;
            assert!(*same <= again, "{key:?} is sent again and nobody asked");
        }
    }

    fn heard_set(&mut self, told: &Told) {
        let set = told.resources.iter().map(|resource| ((Cluster, resource.name.clone()), resource.clone()));
        let set: BTreeMap<_, _> = set.collect();
        let (before, rest) =
            std::mem::take(&mut self.cache).into_iter().partition(|((k, _), _)| *k == Cluster);
        if set == before {
            assert!(self.sets > 0, "the set is sent again and nobody asked");
            self.sets -= 1;
        }
        self.asked.retain(|(kind, _)| *kind != Cluster);
        self.cache = rest;
        self.cache.extend(set);
    }

    fn answer(&mut self, reject: bool) {
        if self.unanswered.is_empty() {
            return;
        }
        let told = self.unanswered.remove(0);
        match reject {
            true => self.stream.nack(&told, "a history says no"),
            false => self.stream.ack(&told),
        }
    }

    /// Accepts everything, and takes what comes until a name that nobody else says is answered.
    async fn catch(&mut self) {
        self.marks += 1;
        let mark = format!("outbound|80||mark{}.sample.svc.cluster.local", self.marks);
        self.change(Endpoint, |names| {
            names.retain(|name| !name.contains("mark"));
            names.insert(mark.clone());
        });
        while self.asked.contains(&(Endpoint, mark.clone())) {
            self.accept_all();
            let told = self.stream.next().await.expect("a response");
            self.heard(told);
        }
        self.accept_all();
        // In the state of the world a request about Envoy clusters may have passed a response, and was said again with
        // its answer only now.
        let answered = |kind: ResourceType| kind == Endpoint || self.protocol == Delta;
        if self.protocol == Sotw {
            // So it may never have heard that one was given up meanwhile, which is no new one then.
            self.asked.retain(|key| !self.cache.contains_key(key));
        }
        let open: Vec<_> = self.asked.iter().filter(|(kind, _)| answered(*kind)).collect();
        assert!(open.is_empty(), "not answered: {open:?}");
        // What is answered may not come once more, nor what is given up.
        let names = &self.names;
        self.wanted.retain(|(kind, name)| {
            !answered(*kind) || names.get(kind).is_some_and(|names| names.contains(name))
        });
        self.again.retain(|(kind, _), _| !answered(*kind));
        self.same.retain(|(kind, _), _| !answered(*kind));
        if answered(Cluster) {
            self.stars = 0;
        }
    }

    fn accept_all(&mut self) {
        while !self.unanswered.is_empty() {
            self.answer(false);
        }
    }

    /// The same client on a new stream: it says what it wants and, in delta, what it has.
    async fn reconnect(&mut self) {
        let fresh = Self::new(self.plane, self.protocol, self.alone).await;
        let old = std::mem::replace(self, fresh);
        self.marks = old.marks;
        for (kind, names) in old.names.into_iter().filter(|(_, names)| !names.is_empty()) {
            let wanted = |(k, name): &Key| *k == kind && (names.contains(name) || names.contains("*"));
            let held = old.cache.iter().filter(|(key, _)| wanted(key));
            let held: BTreeMap<_, _> = held.map(|(key, resource)| (key.clone(), resource.clone())).collect();
            self.may_come(kind, &names, &BTreeSet::new());
            if self.protocol == Delta {
                for key in held.keys() {
                    // Said to be held, so it comes only if it differs (D20).
                    self.asked.remove(key);
                    self.again.remove(key);
                }
                self.stars = 0;
                let version = |(key, resource): (&Key, &Resource)| (key.1.clone(), resource.version.clone());
                self.stream.delta(DeltaDiscoveryRequest {
                    type_url: kind.url().to_owned(),
                    resource_names_subscribe: names.iter().cloned().collect(),
                    initial_resource_versions: held.iter().map(version).collect(),
                    ..DeltaDiscoveryRequest::default()
                });
                self.cache.extend(held);
            } else {
                self.stream.ask(kind, &strings(&names.iter().collect::<Vec<_>>()));
            }
            self.names.insert(kind, names);
        }
    }

    /// Takes what comes until it holds what the world has.
    async fn settle(&mut self, world: &World<'_>) {
        self.catch().await;
        while let Some(difference) = self.difference(world) {
            self.hear_why(&difference).await;
        }
    }

    /// Takes what comes until it holds no Envoy cluster of a service that is gone: these go later than their endpoints.
    async fn forget(&mut self, world: &World<'_>) {
        let gone = |n: &usize| !world.services[*n].exists;
        while let Some(n) = (0..SERVICES).filter(gone).find(|n| self.cache.contains_key(&(Cluster, eds(*n))))
        {
            self.hear_why(&format!("{} is still there", eds(n))).await;
        }
    }

    async fn hear_why(&mut self, difference: &str) {
        let Some(told) = self.stream.within(DEADLINE).await else {
            panic!("nothing more is told, but {difference}");
        };
        self.heard(told);
        self.accept_all();
    }

    /// What it holds that is not as in the world.
    fn difference(&self, world: &World<'_>) -> Option<String> {
        (0..SERVICES).find_map(|n| {
            let (name, state) = (eds(n), world.services[n]);
            let held = |kind| self.cache.get(&(kind, name.clone())).map(|resource| &resource.value[..]);
            let assignment = held(Endpoint).map(|value| endpoints(value).len());
            // Nothing at all is said of one whose Envoy cluster is gone (delta).
            let nothing = if self.protocol == Delta && assignment.is_none() { None } else { Some(0) };
            let expected = if state.exists { Some(state.endpoints) } else { nothing };
            if self.wants(Endpoint, &name) && assignment != expected {
                return Some(format!("{name} has {assignment:?} endpoints, not {expected:?}"));
            }
            let timeout = held(Cluster).map(|value| {
                let cluster = peer::Cluster::decode(value).expect("a cluster");
                cluster.connect_timeout.expect("a timeout").seconds
            });
            // One whose service is gone goes later.
            let differs = state.exists && timeout != Some(state.timeout);
            (self.wants(Cluster, &name) && differs).then(|| format!("{name} is {timeout:?}, not {state:?}"))
        })
    }
}

/// Says which history it was that failed.
struct Playing<'a>(usize, &'a [Step]);

impl Drop for Playing<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("history {}: {:?}", self.0, self.1);
        }
    }
}

async fn play(protocol: Protocol, alone: bool) {
    let plane = Plane::start(SERVICES).await;
    let state = State { exists: true, endpoints: 1, timeout: 10 };
    let mut world = World { plane: &plane, services: [state; SERVICES] };
    for (number, history) in histories().enumerate() {
        let _playing = Playing(number, &history);
        let mut client = Client::new(&plane, protocol, alone).await;
        for step in &history {
            world.change(step);
            client.take(step).await;
        }
        client.settle(&world).await;
    }
    let mut client = Client::new(&plane, protocol, alone).await;
    for step in [Step::Star(true), Step::Ask(Endpoint, 0), Step::Catch, Step::Exists(0, false)] {
        world.change(&step);
        client.take(&step).await;
    }
    client.settle(&world).await;
    client.forget(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn xs_random_histories_end_with_the_world() {
    play(Sotw, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn xd_random_histories_end_with_the_world() {
    play(Delta, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn xe01_random_histories_of_assignments_alone_sotw() {
    play(Sotw, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn xe01_random_histories_of_assignments_alone_delta() {
    play(Delta, true).await;
}
