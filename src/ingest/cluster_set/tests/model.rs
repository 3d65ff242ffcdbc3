//! Whatever happens to three clusters, the registry says what a naive model says (K-49, R1.21, D7, D10).

mod naive;

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use self::naive::{Cluster, Found, Record, expected};
use super::*;

const CLUSTERS: [&str; 3] = ["c1", "c2", "c3"];
const SERVICES: [&str; 4] = ["s0", "s1", "s2", "s3"];
const NETWORKS: [&str; 2] = ["n1", "n2"];

/// Where gateways are reached; clusters do not have them to themselves.
const ENTRANCES: [&str; 3] = ["192.0.2.1", "192.0.2.10", "gw.example"];

/// What may be selected, and whether the services are in it.
const SELECTIONS: [(&[(&str, &str)], bool); 3] =
    [(&[], true), (&[("namespaces", "a")], true), (&[("namespaces", "b")], false)];

/// The ports that a Service may have.
const PORTS: [&[(u16, &str)]; 3] =
    [&[(80, "http")], &[(80, "web"), (90, "tcp-x")], &[(70, "grpc"), (90, "tcp-y")]];

/// One API server of a cluster: both are the same cluster, and have what they have each for itself.
type Place = (usize, usize);

/// One thing that happens.
#[derive(Clone, Debug)]
enum Step {
    /// The operator adds a cluster, or gives it new credentials, of the same API server or of the other one.
    Run(Place),
    /// New credentials that are not accepted, or of a server that is not heard.
    RunDead(usize),
    /// The operator removes it; the grace goes by or not.
    Remove(usize, bool),
    /// Credentials, while services get that many endpoints, with so many turns of other tasks after each.
    RunUnderLoad(Place, Vec<(usize, usize)>, usize),
    /// The operator selects the namespace with the services, another one, or all.
    Select(usize, usize),
    /// A pod of a service is on the other node now: its deletion was told of, or it is only there again.
    Move(Place, usize, bool),
    /// A service appears, gets that many endpoints or other ports.
    Apply(Place, usize, usize, usize),
    /// A service goes.
    Delete(Place, usize),
    /// The system namespace has this label, or none.
    Label(Place, Option<usize>),
    /// The gateway is for this network and reached there, which may be nowhere; or there is none.
    Gateway(Place, Option<(usize, Vec<usize>)>),
    /// Everything is listed anew.
    Relist(Place),
    /// A list breaks in the middle.
    BreakList(Place),
    /// The API server is not heard.
    Down(Place),
    /// It is heard again.
    Up(Place),
    /// Time goes by.
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (cluster, service) = (0..CLUSTERS.len(), 0..SERVICES.len());
    let place = || (0..CLUSTERS.len(), 0..2_usize);
    let network = 0..NETWORKS.len();
    let entrances = prop::sample::subsequence((0..ENTRANCES.len()).collect::<Vec<_>>(), 0..=2);
    let step = prop_oneof![
        5 => place().prop_map(Step::Run),
        1 => cluster.clone().prop_map(Step::RunDead),
        2 => (place(), prop::collection::vec((service.clone(), 0..4_usize), 1..5), 0..4_usize)
            .prop_map(|(place, load, turns)| Step::RunUnderLoad(place, load, turns)),
        2 => (cluster.clone(), 0..SELECTIONS.len()).prop_map(|(cluster, one)| Step::Select(cluster, one)),
        2 => (cluster, any::<bool>()).prop_map(|(cluster, over)| Step::Remove(cluster, over)),
        6 => (place(), service.clone(), 0..4_usize, 0..PORTS.len())
            .prop_map(|(place, s, n, form)| Step::Apply(place, s, n, form)),
        3 => (place(), service.clone()).prop_map(|(place, s)| Step::Delete(place, s)),
        3 => (place(), service, any::<bool>()).prop_map(|(place, s, told)| Step::Move(place, s, told)),
        4 => (place(), prop::option::weighted(0.8, network.clone()))
            .prop_map(|(place, network)| Step::Label(place, network)),
        4 => (place(), prop::option::weighted(0.8, (network, entrances)))
            .prop_map(|(place, gateway)| Step::Gateway(place, gateway)),
        1 => place().prop_map(Step::Relist),
        1 => place().prop_map(Step::BreakList),
        2 => place().prop_map(Step::Down),
        2 => place().prop_map(Step::Up),
        1 => (0..90_u64).prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 25..50)
}

fn vip(cluster: usize, form: usize) -> String {
    format!("10.{}.0.{}", 100 + cluster, 1 + form)
}

fn service_of(cluster: usize, s: usize, form: usize) -> Value {
    let mut object = service(SERVICES[s]);
    let ports = PORTS[form].iter().map(|(number, name)| json!({"name": name, "port": number}));
    object["spec"] = json!({"clusterIP": vip(cluster, form), "ports": ports.collect::<Vec<_>>()});
    object
}

fn gateway_at(network: usize, entrances: &[usize]) -> Value {
    let mut object = gateway(NETWORKS[network], "");
    let at = entrances.iter().map(|at| match ENTRANCES[*at] {
        host if host.ends_with("example") => json!({"hostname": host}),
        address => json!({"ip": address}),
    });
    object["status"]["loadBalancer"]["ingress"] = at.collect();
    object
}

struct World {
    plane: Plane,
    servers: Vec<[FakeServer; 2]>,
    dead: FakeServer,
    clusters: Vec<Cluster>,
}

impl World {
    fn new() -> Self {
        let server = |n: usize| {
            let home = [namespace("kube-system", "", &format!("u{n}")), service("kubernetes")];
            FakeServer::with(home.into_iter().chain(nodes()))
        };
        let servers = (0..CLUSTERS.len()).map(|n| [server(n), server(n)]);
        let dead = FakeServer::default();
        dead.go_down();
        let clusters = vec![Cluster::default(); CLUSTERS.len()];
        Self { plane: Plane::new(), servers: servers.collect(), dead, clusters }
    }

    /// Every cluster serves a Service; two share a network. With nothing there at first, few sequences get to where
    /// clusters have something in common.
    async fn populated() -> Self {
        let mut world = Self::new();
        for (c, side) in (0..CLUSTERS.len()).flat_map(|c| [(c, 0), (c, 1)]) {
            world.tell(&Step::Label((c, side), Some(c % NETWORKS.len())));
            world.tell(&Step::Gateway((c, side), Some((c % NETWORKS.len(), vec![c]))));
            world.tell(&Step::Apply((c, side), 0, 1 + side, c));
        }
        for c in 0..CLUSTERS.len() {
            world.take(&Step::Run((c, 0))).await;
        }
        world
    }

    async fn take(&mut self, step: &Step) {
        match step {
            Step::Run(place) => self.run(*place),
            Step::RunDead(c) => {
                self.plane.run_with(CLUSTERS[*c], &self.dead, SELECTIONS[self.clusters[*c].selection].0);
                self.clusters[*c].run(None);
            }
            Step::RunUnderLoad(place, load, turns) => {
                self.run(*place);
                for (s, n) in load {
                    self.apply(*place, *s, *n, 0);
                    for _ in 0..*turns {
                        tokio::task::yield_now().await;
                    }
                }
            }
            Step::Select(c, selection) => self.select(*c, *selection),
            Step::Remove(c, over) => {
                if self.clusters[*c].configured {
                    self.plane.remove(CLUSTERS[*c]);
                    self.clusters[*c].removal.get_or_insert(5);
                }
                if *over {
                    self.pass(6).await;
                }
            }
            Step::Pass(seconds) => self.pass(*seconds).await,
            told => self.tell(told),
        }
        self.plane.settle().await;
        self.clusters.iter_mut().for_each(Cluster::hear);
    }

    /// What happens at an API server.
    fn tell(&mut self, step: &Step) {
        match step {
            Step::Apply(place, s, n, form) => self.apply(*place, *s, *n, *form),
            Step::Move(place, s, told) => self.move_pod(*place, *s, *told),
            Step::Delete((c, side), s) => {
                let server = &self.servers[*c][*side];
                server.delete(&service(SERVICES[*s]));
                server.serve(SERVICES[*s], &[]);
                server.delete(&slice(SERVICES[*s], &[]));
                self.clusters[*c].sides[*side].truth.services.remove(s);
            }
            Step::Label((c, side), network) => {
                let label = network.map_or("", |network| NETWORKS[network]);
                self.servers[*c][*side].apply(namespace("istio-system", label, "s"));
                self.clusters[*c].sides[*side].truth.network = *network;
            }
            Step::Gateway((c, side), told) => {
                match told {
                    Some((network, at)) => self.servers[*c][*side].apply(gateway_at(*network, at)),
                    None => self.servers[*c][*side].delete(&gateway("", "")),
                }
                self.clusters[*c].sides[*side].truth.gateway.clone_from(told);
            }
            Step::Relist((c, side)) => self.servers[*c][*side].relist(),
            Step::BreakList((c, side)) => {
                let server = &self.servers[*c][*side];
                ObjectKind::BUILT_IN.into_iter().for_each(|kind| server.break_list(kind));
            }
            Step::Down((c, side)) => {
                self.servers[*c][*side].go_down();
                self.clusters[*c].sides[*side].up = false;
            }
            Step::Up((c, side)) => {
                self.servers[*c][*side].come_up();
                self.clusters[*c].sides[*side].up = true;
            }
            other => unreachable!("{other:?} is the operator's"),
        }
    }

    fn run(&mut self, (c, side): Place) {
        let selection = SELECTIONS[self.clusters[c].selection].0;
        self.plane.run_with(CLUSTERS[c], &self.servers[c][side], selection);
        self.clusters[c].run(Some(side));
    }

    fn select(&mut self, c: usize, selection: usize) {
        if self.clusters[c].removal.is_none() {
            self.clusters[c].selection = selection;
            self.plane.tell(CLUSTERS[c], SELECTIONS[selection].0);
        }
    }

    fn apply(&mut self, (c, side): Place, s: usize, n: usize, form: usize) {
        let server = &self.servers[c][side];
        server.apply(service_of(c, s, form));
        let addresses = addresses((10 * c + s) as u8, n);
        server.serve(SERVICES[s], &addresses);
        let told = self.clusters[c].sides[side].truth.services.entry(s).or_default();
        let before = std::mem::take(&mut told.pods);
        let zone =
            |address: &String| before.get(address).cloned().unwrap_or_else(|| zone(home(address)).to_owned());
        told.form = form;
        told.pods = addresses.iter().map(|address| (address.clone(), zone(address))).collect();
    }

    fn move_pod(&mut self, (c, side): Place, s: usize, told: bool) {
        let service = self.clusters[c].sides[side].truth.services.get_mut(&s);
        let Some((address, place)) = service.and_then(|service| service.pods.iter_mut().next()) else {
            return;
        };
        let (node, elsewhere) = NODES.iter().find(|(_, zone)| zone != place).expect("there are two");
        *place = (*elsewhere).to_owned();
        let moved = pod(SERVICES[s], address, node);
        let server = &self.servers[c][side];
        if told {
            server.delete(&moved);
        }
        server.apply(moved);
    }

    async fn pass(&mut self, seconds: u64) {
        self.plane.pass(Duration::from_secs(seconds)).await;
        self.clusters.iter_mut().for_each(|cluster| cluster.pass(seconds));
    }

    fn found(&self) -> Found {
        let networks = self.plane.set.registry.networks();
        let addressed = networks.gateways().map(|one| (&one.network, &one.cluster, one.address.to_string()));
        let named = networks.gateway_hosts().map(|one| (&one.network, &one.cluster, one.host.to_string()));
        let gateways = addressed.chain(named);
        let mut found = Found {
            pods: CLUSTERS.map(|id| self.plane.workloads(id)).to_vec(),
            networks: CLUSTERS.map(|id| networks.of_cluster(&id.into()).to_string()).to_vec(),
            gateways: gateways
                .map(|(network, cluster, at)| (network.to_string(), cluster.to_string(), at))
                .collect(),
            ..Found::default()
        };
        for name in SERVICES {
            let Some(snapshot) = self.plane.snapshot(name) else { continue };
            for shard in &snapshot.shards {
                let cluster = CLUSTERS.iter().find(|id| **id == &*shard.cluster).unwrap();
                let all = shard.endpoints.iter().map(|one| (address(one), placed(one)));
                found.endpoints.insert((name, *cluster), all.collect());
            }
            found.services.extend(snapshot.service.as_ref().map(|service| (name, record(service))));
        }
        found
    }
}

fn placed(endpoint: &Endpoint) -> (String, String) {
    (endpoint.workload.locality().zone.to_string(), endpoint.workload.network.to_string())
}

fn record(service: &crate::model::Service) -> Record {
    let ports: BTreeMap<_, _> =
        service.ports.iter().map(|port| (port.number, port.name.to_string())).collect();
    let vips = service.vips.iter();
    let vips = vips.flat_map(|(cluster, vips)| vips.iter().map(|vip| (cluster.to_string(), vip.to_string())));
    Record { ports, vips: vips.collect() }
}

#[tokio::test(start_paused = true)]
async fn k31_without_the_gateway_api_a_gateway_service_that_is_gone_holds_nothing_back() {
    let mut world = World::populated().await;
    for step in [Step::Gateway((2, 1), None), Step::Run((2, 1))] {
        world.take(&step).await;
        assert_eq!(world.found(), expected(&world.clusters), "after {step:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_leaves_the_registry_equal_to_a_naive_model(populated: bool, steps in steps()) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut world = if populated { World::populated().await } else { World::new() };
            for (at, step) in steps.iter().enumerate() {
                world.take(step).await;
                let expected = expected(&world.clusters);
                prop_assert_eq!(world.found(), expected, "{} after step {} of {:?}", populated, at, &steps[..=at]);
            }
            Ok(())
        })?;
    }
}
