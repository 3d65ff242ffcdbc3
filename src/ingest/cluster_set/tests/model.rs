//! Whatever happens to three clusters, the registry says what a naive model says (K-49, R1.21).

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const CLUSTERS: [&str; 3] = ["c1", "c2", "c3"];
const SERVICES: [&str; 4] = ["s0", "s1", "s2", "s3"];

/// What may be selected, and whether the services are in it.
const SELECTIONS: [(&[(&str, &str)], bool); 3] =
    [(&[], true), (&[("namespaces", "a")], true), (&[("namespaces", "b")], false)];

/// One thing that happens.
#[derive(Clone, Debug)]
enum Step {
    /// The operator adds a cluster, or gives it new credentials of the same cluster.
    Run(usize),
    /// New credentials that are not accepted, or of a server that is not heard.
    RunDead(usize),
    /// The operator removes it; the grace goes by or not.
    Remove(usize, bool),
    /// The same, while services get that many endpoints, with so many turns of other tasks after each.
    RunUnderLoad(usize, Vec<(usize, usize)>, usize),
    /// The operator selects the namespace with the services, another one, or all.
    Select(usize, usize),
    /// A pod of a service is on the other node now: its deletion was told of, or it is only there again.
    Move(usize, usize, bool),
    /// A service appears or gets that many endpoints.
    Apply(usize, usize, usize),
    /// A service goes.
    Delete(usize, usize),
    /// Everything is listed anew.
    Relist(usize),
    /// A list breaks in the middle.
    BreakList(usize),
    /// The API server is not heard.
    Down(usize),
    /// It is heard again.
    Up(usize),
    /// Time goes by.
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (cluster, service) = (0..CLUSTERS.len(), 0..SERVICES.len());
    let step = prop_oneof![
        3 => cluster.clone().prop_map(Step::Run),
        1 => cluster.clone().prop_map(Step::RunDead),
        2 => (cluster.clone(), prop::collection::vec((service.clone(), 0..4_usize), 1..5), 0..4_usize)
            .prop_map(|(cluster, load, turns)| Step::RunUnderLoad(cluster, load, turns)),
        2 => (cluster.clone(), 0..SELECTIONS.len()).prop_map(|(cluster, one)| Step::Select(cluster, one)),
        2 => (cluster.clone(), any::<bool>()).prop_map(|(cluster, over)| Step::Remove(cluster, over)),
        6 => (cluster.clone(), service.clone(), 0..4_usize).prop_map(|(c, s, n)| Step::Apply(c, s, n)),
        3 => (cluster.clone(), service.clone()).prop_map(|(c, s)| Step::Delete(c, s)),
        3 => (cluster.clone(), service, any::<bool>()).prop_map(|(c, s, told)| Step::Move(c, s, told)),
        1 => cluster.clone().prop_map(Step::Relist),
        1 => cluster.clone().prop_map(Step::BreakList),
        2 => cluster.clone().prop_map(Step::Down),
        2 => cluster.prop_map(Step::Up),
        1 => (0..90_u64).prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 20..40)
}

/// What is known of a cluster: service → addresses and the zones that their pods are in.
type Told = BTreeMap<usize, BTreeMap<String, String>>;

/// One cluster as the model sees it.
#[derive(Clone, Debug, Default)]
struct Cluster {
    /// What its API server has.
    truth: Told,
    up: bool,
    configured: bool,
    /// What was last heard of it; `None` while nothing is served.
    served: Option<Told>,
    /// Which of [`SELECTIONS`] holds for it.
    selection: usize,
    /// The credentials that came last lead to nothing yet.
    dead: bool,
    /// Seconds after which a removal counts.
    removal: Option<u64>,
}

impl Cluster {
    /// Whoever serves hears the truth while the API server is up.
    fn hear(&mut self) {
        let reads = self.configured && self.up && (self.served.is_some() || !self.dead);
        if reads {
            let selected = SELECTIONS[self.selection].1;
            self.served = Some(if selected { self.truth.clone() } else { Told::default() });
        }
    }
}

struct World {
    plane: Plane,
    servers: Vec<FakeServer>,
    dead: FakeServer,
    clusters: Vec<Cluster>,
}

impl World {
    fn new() -> Self {
        let servers = CLUSTERS.iter().enumerate();
        let servers = servers.map(|(n, _)| {
            let home = [namespace("kube-system", "", &format!("u{n}")), service("kubernetes")];
            FakeServer::with(home.into_iter().chain(nodes()))
        });
        let dead = FakeServer::default();
        dead.go_down();
        let clusters = vec![Cluster { up: true, ..Cluster::default() }; CLUSTERS.len()];
        Self { plane: Plane::new(), servers: servers.collect(), dead, clusters }
    }

    async fn take(&mut self, step: &Step) {
        match *step {
            Step::Run(c) => self.run(c, false),
            Step::RunDead(c) => self.run(c, true),
            Step::RunUnderLoad(c, ref load, turns) => {
                self.run(c, false);
                for (s, n) in load {
                    self.apply(c, *s, *n);
                    for _ in 0..turns {
                        tokio::task::yield_now().await;
                    }
                }
            }
            Step::Select(c, selection) => {
                if self.clusters[c].removal.is_none() {
                    self.clusters[c].selection = selection;
                    self.plane.tell(CLUSTERS[c], SELECTIONS[selection].0);
                }
            }
            Step::Remove(c, over) => {
                if self.clusters[c].configured {
                    self.plane.remove(CLUSTERS[c]);
                    self.clusters[c].removal.get_or_insert(5);
                }
                if over {
                    self.pass(6).await;
                }
            }
            Step::Apply(c, s, n) => self.apply(c, s, n),
            Step::Move(c, s, told) => self.move_pod(c, s, told),
            Step::Delete(c, s) => {
                self.servers[c].delete(&service(SERVICES[s]));
                self.servers[c].serve(SERVICES[s], &[]);
                self.servers[c].delete(&slice(SERVICES[s], &[]));
                self.clusters[c].truth.remove(&s);
            }
            Step::Relist(c) => self.servers[c].relist(),
            Step::BreakList(c) => {
                ObjectKind::BUILT_IN.into_iter().for_each(|kind| self.servers[c].break_list(kind))
            }
            Step::Down(c) => {
                self.servers[c].go_down();
                self.clusters[c].up = false;
            }
            Step::Up(c) => {
                self.servers[c].come_up();
                self.clusters[c].up = true;
            }
            Step::Pass(seconds) => self.pass(seconds).await,
        }
        self.plane.settle().await;
        self.clusters.iter_mut().for_each(Cluster::hear);
    }

    fn run(&mut self, c: usize, dead: bool) {
        let server = if dead { &self.dead } else { &self.servers[c] };
        self.plane.run_with(CLUSTERS[c], server, SELECTIONS[self.clusters[c].selection].0);
        let cluster = &mut self.clusters[c];
        (cluster.configured, cluster.dead, cluster.removal) = (true, dead, None);
    }

    fn apply(&mut self, c: usize, s: usize, n: usize) {
        self.servers[c].apply(service(SERVICES[s]));
        let subnet = (10 * c + s) as u8;
        let addresses = addresses(subnet, n);
        self.servers[c].serve(SERVICES[s], &addresses);
        let before = self.clusters[c].truth.remove(&s).unwrap_or_default();
        let zone =
            |address: &String| before.get(address).cloned().unwrap_or_else(|| zone(home(address)).to_owned());
        let now = addresses.iter().map(|address| (address.clone(), zone(address)));
        self.clusters[c].truth.insert(s, now.collect());
    }

    fn move_pod(&mut self, c: usize, s: usize, told: bool) {
        let pods = self.clusters[c].truth.get_mut(&s);
        let Some((address, place)) = pods.and_then(|pods| pods.iter_mut().next()) else {
            return;
        };
        let (node, elsewhere) = NODES.iter().find(|(_, zone)| zone != place).expect("there are two");
        *place = (*elsewhere).to_owned();
        let moved = pod(SERVICES[s], address, node);
        if told {
            self.servers[c].delete(&moved);
        }
        self.servers[c].apply(moved);
    }

    async fn pass(&mut self, seconds: u64) {
        self.plane.pass(Duration::from_secs(seconds)).await;
        for cluster in &mut self.clusters {
            cluster.removal = cluster.removal.map(|left| left.saturating_sub(seconds));
            if cluster.removal == Some(0) && seconds > 0 {
                let before = std::mem::take(cluster);
                let (truth, up, selection) = (before.truth, before.up, before.selection);
                *cluster = Cluster { truth, up, selection, ..Cluster::default() };
            }
        }
    }

    fn expected(&self) -> Found {
        let served =
            self.clusters.iter().enumerate().filter_map(|(c, cluster)| Some((c, cluster.served.as_ref()?)));
        let endpoints = |(c, told): (usize, &Told)| {
            told.iter().map(move |(s, all)| ((SERVICES[*s], CLUSTERS[c]), all.clone())).collect::<Vec<_>>()
        };
        let pods = self.clusters.iter().map(|cluster| {
            let served = cluster.served.iter().flat_map(BTreeMap::values);
            served.map(BTreeMap::len).sum()
        });
        Found { pods: pods.collect(), endpoints: served.flat_map(endpoints).collect() }
    }

    fn found(&self) -> Found {
        let mut endpoints = BTreeMap::new();
        for name in SERVICES {
            for shard in self.plane.snapshot(name).iter().flat_map(|snapshot| snapshot.shards.iter()) {
                let cluster = CLUSTERS.iter().find(|id| **id == &*shard.cluster).unwrap();
                let all = shard.endpoints.iter();
                let all = all.map(|one| (address(one), one.workload.locality().zone.to_string()));
                endpoints.insert((name, *cluster), all.collect());
            }
        }
        Found { endpoints, pods: CLUSTERS.map(|id| self.plane.workloads(id)).to_vec() }
    }
}

/// Everything that is served.
#[derive(Debug, PartialEq)]
struct Found {
    /// Addresses and zones, by service and cluster.
    endpoints: BTreeMap<(&'static str, &'static str), BTreeMap<String, String>>,
    /// How many pods each cluster told of.
    pods: Vec<usize>,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_leaves_the_registry_equal_to_a_naive_model(steps in steps()) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut world = World::new();
            for (at, step) in steps.iter().enumerate() {
                world.take(step).await;
                prop_assert_eq!(world.found(), world.expected(), "after step {} of {:?}", at, &steps[..=at]);
            }
            Ok(())
        })?;
    }
}
