//! Who sees what: tests from a proxy's point of view.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use proptest::prelude::*;

use super::{
    AssignedEndpoint, Assignment, Decision, EdsKey, EdsName, Inputs, MeshRules, Origin, Role, Target, told,
    waypoint,
};
use crate::model::{
    ClusterRole, Endpoint, EndpointShard, Health, IpFamilies, Locality, NetworkGateway, PortProtocol,
    RequestedView, Service, ServiceKey, ServicePort, Shared, TlsMode, Transport, WorkloadParts,
    WorkloadProfile,
};
use crate::registry::{
    ClusterWriter, NetworkSnapshot, PolicySnapshot, Registry, ServiceSnapshot, StandingSnapshot,
};

mod behind;
mod explained;
mod hbone;
mod labels;
mod places;
mod preferences;
mod properties;
mod quirks;
mod resolved;
mod rules;
mod shares;
mod siblings;
mod standing;
mod tunnels;
mod waypoints;

pub(super) const HOST: &str = "helloworld.sample.svc.cluster.local";

/// An endpoint in a few words.
#[derive(Clone, Debug)]
pub(super) struct Pod {
    pub(super) address: &'static str,
    pub(super) health: Health,
    pub(super) mtls: bool,
    pub(super) locality: &'static str,
    pub(super) weight: u32,
    pub(super) network: Option<&'static str>,
    pub(super) labels: Vec<(&'static str, &'static str)>,
    pub(super) node: &'static str,
    pub(super) redirected: bool,
}

pub(super) fn pod(address: &'static str) -> Pod {
    Pod {
        address,
        health: Health::Healthy,
        mtls: true,
        locality: "",
        weight: 1,
        network: None,
        labels: Vec::new(),
        node: "",
        redirected: false,
    }
}

/// A world of clusters, each on a network, all with `helloworld:5000`.
pub(super) struct World {
    registry: Arc<Registry>,
    writers: BTreeMap<&'static str, (ClusterWriter, &'static str, Vec<NetworkGateway>)>,
    mesh: MeshRules,
    policies: PolicySnapshot,
    port_name: BTreeMap<&'static str, &'static str>,
    service: Service,
}

impl World {
    pub(super) fn new(clusters: &[(&'static str, &'static str)]) -> Self {
        let registry = Registry::new();
        let role = |index| if index == 0 { ClusterRole::Config } else { ClusterRole::Remote };
        let writers = clusters.iter().enumerate().map(|(index, &(cluster, network))| {
            let mut writer = registry.writer(cluster.into(), role(index)).expect("one writer each");
            writer.set_networks((!network.is_empty()).then(|| network.into()), Vec::new());
            (cluster, (writer, network, Vec::new()))
        });
        let writers = writers.collect();
        Self {
            registry,
            writers,
            mesh: MeshRules::default(),
            policies: PolicySnapshot::default(),
            port_name: BTreeMap::new(),
            service: Service { key: ServiceKey::new("sample", HOST), ..Service::default() },
        }
    }

    pub(super) fn gateway(mut self, cluster: &'static str, network: &str, address: &str, port: u16) -> Self {
        let (writer, own, gateways) = self.writers.get_mut(cluster).expect("known cluster");
        gateways.push(NetworkGateway {
            network: network.into(),
            cluster: cluster.into(),
            address: address.parse().expect("address"),
            port,
            hbone_port: 0,
        });
        writer.set_networks(Some((*own).into()), gateways.clone());
        self
    }

    pub(super) fn pods(mut self, cluster: &'static str, pods: &[Pod]) -> Self {
        let name = self.port_name.get(cluster).copied().unwrap_or("http");
        let (writer, network, _) = self.writers.get_mut(cluster).expect("known cluster");
        let port = ServicePort {
            number: 5000,
            name: name.into(),
            transport: Transport::Tcp,
            protocol: PortProtocol::Http,
        };
        let service = Service { ports: vec![port], ..self.service.clone() };
        let mut profiles = Shared::<WorkloadProfile>::default();
        let endpoints = pods.iter().map(|pod| {
            let mut endpoint = endpoint(cluster, network, name, pod);
            profiles.unify(&mut Arc::make_mut(&mut endpoint.workload).profile);
            endpoint
        });
        let endpoints = endpoints.collect();
        let shard = EndpointShard::new(cluster.into(), Some(Arc::new(service)), endpoints);
        writer.set(self.service.key.clone(), shard);
        self
    }

    pub(super) fn from(&self, place: &str) -> Viewer<'_> {
        let (network, cluster) = place.split_once('/').expect("network/cluster");
        let registry = &self.registry;
        let service = registry.host(HOST).first().expect("service").load();
        let waypoint = service.service.as_ref().and_then(|service| service.ingress_waypoint.clone());
        Viewer {
            world: self,
            key: EdsKey::plain(cluster, network, &self.service.key),
            service,
            waypoint: waypoint.and_then(|waypoint| registry.service(&waypoint)).map(|cell| cell.load()),
            networks: registry.networks(),
            standings: registry.standings(),
        }
    }
}

fn endpoint(cluster: &str, network: &str, port_name: &str, pod: &Pod) -> Endpoint {
    let address: IpAddr = pod.address.parse().expect("address");
    let workload = WorkloadParts {
        cluster: cluster.into(),
        namespace: "sample".into(),
        name: pod.address.into(),
        addresses: address.into(),
        network: pod.network.unwrap_or(network).into(),
        locality: Locality::parse(pod.locality),
        tls_mode: if pod.mtls { TlsMode::Istio } else { TlsMode::Disabled },
        labels: pod.labels.iter().map(|&(key, value)| (key.into(), value.into())).collect(),
        node: pod.node.into(),
        redirected: pod.redirected,
        ..WorkloadParts::default()
    };
    Endpoint {
        health: pod.health,
        weight: std::num::NonZeroU32::new(pod.weight),
        ..Endpoint::new(address, 5000, port_name, workload)
    }
}

/// Where an endpoint leads.
fn shown(endpoint: &AssignedEndpoint<'_>) -> String {
    match endpoint.target {
        Target::Named { host, .. } => host.to_owned(),
        _ => endpoint.address().map(|address| address.to_string()).unwrap_or_default(),
    }
}

pub(super) struct Viewer<'a> {
    world: &'a World,
    key: EdsKey,
    service: Arc<ServiceSnapshot>,
    /// The waypoint that the service names, where there is one.
    waypoint: Option<Arc<ServiceSnapshot>>,
    networks: Arc<NetworkSnapshot>,
    standings: Arc<StandingSnapshot>,
}

impl Viewer<'_> {
    pub(super) fn with(mut self, change: impl FnOnce(&mut EdsKey)) -> Self {
        change(&mut self.key);
        self
    }

    fn inputs(&self, name: &EdsName) -> Inputs<'_> {
        let (service, mesh) = (&*self.service, &self.world.mesh);
        let led = service.service.as_ref().and_then(|service| waypoint(service, name, &self.key, mesh));
        Inputs {
            service,
            waypoint: led.and(self.waypoint.as_deref()),
            networks: &self.networks,
            mesh,
            standings: &self.standings,
            policies: &self.world.policies,
        }
    }

    fn assignment(&self, name: &EdsName) -> (Assignment<'_>, Vec<(Endpoint, Decision)>) {
        let (inputs, mut decisions) = (self.inputs(name), Vec::new());
        let assignment = told(inputs, name, &self.key, &mut decisions);
        assert_eq!(assignment, told(inputs, name, &self.key, &mut ()), "recording changes nothing");
        (assignment, decisions)
    }

    /// The explanation of the whole service.
    pub(super) fn explains(&self) -> super::explain::Explanation {
        self.explains_as(&whole())
    }

    /// The explanation of an assignment.
    pub(super) fn explains_as(&self, name: &EdsName) -> super::explain::Explanation {
        super::explain::explain(self.inputs(name), name, &self.key, None)
    }

    /// `address*weight`, localities separated by `|`.
    fn sees(&self, expected: &[&str]) {
        self.sees_as(&whole(), expected);
    }

    fn sees_as(&self, name: &EdsName, expected: &[&str]) {
        let (assignment, _) = self.assignment(name);
        let group = |group: &super::LocalityGroup<'_>| -> Vec<String> {
            let all = group.endpoints.iter();
            all.map(|e| format!("{}:{}*{}", shown(e), e.port(), e.weight).replace(":5000", "")).collect()
        };
        let seen: Vec<_> = assignment.groups.iter().map(group).collect();
        assert_eq!(seen.iter().map(|group| group.join(" ")).collect::<Vec<_>>(), expected);
    }

    fn decides(&self, address: &str) -> Decision {
        let (_, decisions) = self.assignment(&whole());
        let of = decisions.iter().find(|(endpoint, _)| endpoint.addresses[0].to_string() == address);
        of.unwrap_or_else(|| panic!("{address} was not decided")).1
    }
}

/// The name of the whole service.
fn whole() -> EdsName {
    EdsName::outbound(5000, &HOST.into())
}

fn two_networks() -> World {
    World::new(&[("east", "net-east"), ("west", "net-west")])
        .gateway("east", "net-east", "172.30.0.1", 15443)
        .gateway("west", "net-west", "172.30.0.2", 15443)
}

#[test]
fn r4_25_own_network_is_direct_and_the_other_is_its_gateway_with_the_sum() {
    let world =
        two_networks().pods("east", &[pod("10.10.0.1")]).pods("west", &[pod("10.10.0.1"), pod("10.10.0.2")]);
    world.from("net-east/east").sees(&["10.10.0.1*1 172.30.0.2:15443*2"]);
    world.from("net-west/west").sees(&["10.10.0.1*1 10.10.0.2*1 172.30.0.1:15443*1"]);
}

#[test]
fn r4_25_a_cluster_of_the_same_network_is_direct() {
    let world = World::new(&[("c1", "n1"), ("c2", "n1")])
        .pods("c1", &[pod("10.0.0.1")])
        .pods("c2", &[pod("10.1.0.1")]);
    world.from("n1/c1").sees(&["10.0.0.1*1 10.1.0.1*1"]);
}

#[test]
fn d02_a_foreign_network_without_gateway_is_hidden() {
    let world = World::new(&[("c1", "n1"), ("c2", "n2")])
        .pods("c1", &[pod("10.0.0.1")])
        .pods("c2", &[pod("10.0.0.2")]);
    world.from("n1/c1").sees(&["10.0.0.1*1"]);
    assert_eq!(world.from("n1/c1").decides("10.0.0.2"), Decision::NoGateway);
}

#[test]
fn d02_reachable_pairs_and_unknown_networks_are_direct() {
    let mut world = World::new(&[("c1", "n1"), ("c2", "n2"), ("c3", "")])
        .pods("c2", &[pod("10.0.0.2")])
        .pods("c3", &[pod("10.0.0.3")]);
    world.from("n1/c1").sees(&["10.0.0.3*1"]);
    world.mesh = MeshRules::new("cluster.local", "istio-system", [("n2".into(), "n1".into())]);
    world.from("n1/c1").sees(&["10.0.0.2*1 10.0.0.3*1"]);
}

#[test]
fn r4_25_a_proxy_without_network_goes_through_gateways_where_there_are_any() {
    let world = two_networks().pods("west", &[pod("10.10.0.1")]);
    world.from("/c9").sees(&["172.30.0.2:15443*1"]);
    let bare = World::new(&[("c1", "n1")]).pods("c1", &[pod("10.0.0.1")]);
    bare.from("/c9").sees(&["10.0.0.1*1"]);
}

#[test]
fn q12_a_gateway_without_mtls_port_is_none() {
    let world = World::new(&[("c1", "n1"), ("c2", "n2")])
        .gateway("c2", "n2", "172.30.0.2", 0)
        .pods("c2", &[pod("10.0.0.2")]);
    world.from("n1/c1").sees(&[]);
    assert_eq!(world.from("n1/c1").decides("10.0.0.2"), Decision::NoGateway);
}

#[test]
fn d04_only_ready_endpoints_give_a_gateway_weight() {
    let sick = Pod { health: Health::Unhealthy, ..pod("10.10.0.2") };
    let world = two_networks().pods("west", &[pod("10.10.0.1"), sick.clone()]);
    world.from("net-east/east").sees(&["172.30.0.2:15443*1"]);
    assert_eq!(world.from("net-east/east").decides("10.10.0.2"), Decision::NotReadyBehindGateway);
    // Direct ones are sent as unhealthy (R4.10); a network with none ready has no gateway.
    world.from("net-west/west").sees(&["10.10.0.1*1 10.10.0.2*1"]);
    two_networks().pods("west", &[sick]).from("net-east/east").sees(&[]);
}

#[test]
fn r4_21_plaintext_endpoints_stay_on_their_network() {
    let world = two_networks().pods("west", &[Pod { mtls: false, ..pod("10.10.0.1") }]);
    world.from("net-east/east").sees(&[]);
    assert_eq!(world.from("net-east/east").decides("10.10.0.1"), Decision::MtlsRequired);
    world.from("net-west/west").sees(&["10.10.0.1*1"]);
}

#[test]
fn d05_weight_is_shared_out_exactly_over_several_gateways() {
    let world = two_networks()
        .gateway("west", "net-west", "172.30.0.3", 15443)
        .pods("east", &[pod("10.10.0.1")])
        .pods("west", &[pod("10.10.0.1"), pod("10.10.0.2"), pod("10.10.0.3")]);
    // Scale 2: every weight doubles, 3 endpoints behind 2 gateways are 3 each.
    world.from("net-east/east").sees(&["10.10.0.1*2 172.30.0.2:15443*3 172.30.0.3:15443*3"]);
    // The scale is that of the gateways in use (Q29): none here.
    world.from("net-west/west").sees(&["10.10.0.1*1 10.10.0.2*1 10.10.0.3*1 172.30.0.1:15443*1"]);
}

#[test]
fn r3_17_gateways_come_in_the_order_of_their_addresses_as_text() {
    let world = two_networks()
        .gateway("west", "net-west", "172.30.0.10", 15443)
        .pods("west", &[pod("10.10.0.1")])
        .pods("east", &[pod("10.10.0.1")]);
    world.from("net-east/east").sees(&["10.10.0.1*2 172.30.0.10:15443*1 172.30.0.2:15443*1"]);
    let networks = world.registry.networks();
    let part = networks.part(&"net-west".into());
    let order: Vec<_> = part.gateways.iter().map(|gateway| gateway.address.to_string()).collect();
    assert_eq!(order, ["172.30.0.10", "172.30.0.2"]);
}

#[test]
fn r4_21_gateways_of_the_endpoints_own_cluster_come_first() {
    let world = World::new(&[("c1", "n1"), ("c2", "n2"), ("c3", "n2")])
        .gateway("c2", "n2", "172.30.0.2", 15443)
        .gateway("c3", "n2", "172.30.0.3", 15443)
        .pods("c2", &[pod("10.0.0.2")])
        .pods("c3", &[pod("10.0.0.3"), pod("10.0.0.4")]);
    world.from("n1/c1").sees(&["172.30.0.2:15443*1 172.30.0.3:15443*2"]);
}

#[test]
fn d03_a_gateway_is_sent_once_in_the_first_locality() {
    let at = |address, locality| Pod { locality, ..pod(address) };
    let world = two_networks()
        .pods("east", &[at("10.10.0.1", "r2")])
        .pods("west", &[at("10.10.0.1", "r1/z1"), at("10.10.0.2", "r1/z2"), at("10.10.0.3", "r1/z2")]);
    // Once in r1/z1 with the sum; r1/z2 had nothing else and is gone.
    world.from("net-east/east").sees(&["172.30.0.2:15443*3", "10.10.0.1*1"]);
}

#[test]
fn r4_21_a_gateway_of_another_family_is_out_of_reach() {
    let world = World::new(&[("c1", "n1"), ("c2", "n2")])
        .gateway("c2", "n2", "fd00::2", 15443)
        .pods("c2", &[pod("10.0.0.2")]);
    world.from("n1/c1").sees(&[]);
    assert_eq!(world.from("n1/c1").decides("10.0.0.2"), Decision::GatewayFamily);
    world.from("n1/c1").with(|key| key.families = IpFamilies::Dual).sees(&["fd00::2:15443*1"]);
}

#[test]
fn r2_8_and_r7_4_a_gateway_sees_its_own_network_only_and_only_mtls() {
    let plain = Pod { mtls: false, ..pod("10.10.0.9") };
    let world = two_networks().pods("east", &[pod("10.10.0.1")]).pods("west", &[pod("10.10.0.1"), plain]);
    let gateway = || {
        world.from("net-west/west").with(|key| {
            key.role = Role::Router;
            key.requested_view = RequestedView::new(vec!["net-west".into()]);
        })
    };
    gateway().sees_as(&EdsName::sni_dnat(5000, &HOST.into()), &["10.10.0.1*1"]);
    gateway().sees(&["10.10.0.1*1 10.10.0.9*1"]);
}

#[test]
fn d07_ports_match_by_number_through_the_own_clusters_table() {
    let mut world = two_networks();
    world.port_name.insert("west", "web");
    let world = world.pods("east", &[pod("10.10.0.1")]).pods("west", &[pod("10.10.0.1")]);
    world.from("net-east/east").sees(&["10.10.0.1*1 172.30.0.2:15443*1"]);
    world.from("net-east/east").sees_as(&EdsName::outbound(5001, &HOST.into()), &[]);
}

#[test]
fn q30_the_peer_matches_by_the_name_of_the_merged_port() {
    let mut world = two_networks();
    world.mesh = MeshRules::default().with_quirks(crate::model::Quirks::peer());
    world.port_name.insert("west", "web");
    let world = world.pods("east", &[pod("10.10.0.1")]).pods("west", &[pod("10.10.0.1")]);
    world.from("net-east/east").sees(&["10.10.0.1*1"]);
}

#[test]
fn r4_38_an_endpoint_that_is_not_exported_is_seen_in_its_own_cluster_only() {
    let world = two_networks().pods("east", &[pod("10.10.0.1")]);
    let cell = world.registry.host(HOST).remove(0);
    let mut shard = (*cell.load().shards[0]).clone();
    let mut endpoints = shard.endpoints.to_vec();
    endpoints[0].exposure = crate::model::Discoverability::SameCluster.into();
    shard.endpoints = endpoints.into();
    let mut world = world;
    world.writers.get_mut("east").expect("known").0.set(cell.key().clone(), shard);
    world.from("net-east/east").sees(&["10.10.0.1*1"]);
    world.from("net-west/west").sees(&[]);
}

#[test]
fn r4_9_leaving_endpoints_are_not_sent() {
    let gone = Pod { health: Health::Terminating, ..pod("10.10.0.2") };
    let draining = Pod { health: Health::Draining, ..pod("10.10.0.3") };
    let labelled = Pod { labels: vec![("istio.io/draining", "yes")], ..pod("10.10.0.4") };
    let world =
        two_networks().pods("east", &[pod("10.10.0.1"), gone.clone(), draining.clone(), labelled.clone()]);
    world.from("net-east/east").sees(&["10.10.0.1*1"]);
    let mut sticky = two_networks();
    sticky.service.labels.insert("istio.io/persistent-session".into(), "cookie".into());
    let sticky = sticky.pods("east", &[pod("10.10.0.1"), gone, draining, labelled]);
    sticky.from("net-east/east").sees(&["10.10.0.1*1 10.10.0.3*1 10.10.0.4*1"]);
}

#[test]
fn r4_9_node_local_services_are_served_from_the_own_node() {
    let mut world = World::new(&[("c1", "n1")]);
    world.service.node_local = true;
    let world =
        world.pods("c1", &[Pod { node: "a", ..pod("10.0.0.1") }, Pod { node: "b", ..pod("10.0.0.2") }]);
    world.from("n1/c1").with(|key| key.node = Some("b".into())).sees(&["10.0.0.2*1"]);
}

#[test]
fn r4_2_unknown_ports_and_subsets_are_empty() {
    let world = two_networks().pods("east", &[pod("10.10.0.1")]);
    let subset = EdsName { subset: "v1".into(), ..EdsName::outbound(5000, &HOST.into()) };
    world.from("net-east/east").sees_as(&subset, &[]);
}

#[test]
fn contract_3_endpoints_wait_for_their_clusters_service() {
    let mut world = two_networks().pods("east", &[pod("10.10.0.1")]);
    let (writer, network, _) = world.writers.get_mut("west").expect("west");
    let early = endpoint("west", network, "http", &pod("10.10.0.7"));
    writer.set(world.service.key.clone(), EndpointShard::new("west".into(), None, vec![early]));
    world.from("net-east/east").sees(&["10.10.0.1*1"]);
}

#[test]
fn d05_huge_weights_are_scaled_down_together() {
    let heavy = |address| Pod { weight: u32::MAX, ..pod(address) };
    let world =
        World::new(&[("c1", "n1")]).pods("c1", &[heavy("10.0.0.1"), heavy("10.0.0.2"), pod("10.0.0.3")]);
    let viewer = world.from("n1/c1");
    let (assignment, _) = viewer.assignment(&whole());
    let weights: Vec<_> = assignment.endpoints().map(|e| e.weight).collect();
    assert_eq!(weights[0], weights[1]);
    assert_eq!(weights[2], 1);
    assert!(weights.iter().map(|&w| u64::from(w)).sum::<u64>() <= u64::from(u32::MAX));
}

#[test]
fn d14_an_assignment_names_the_networks_it_read() {
    let world = two_networks().pods("east", &[pod("10.10.0.1")]).pods("west", &[pod("10.10.0.1")]);
    let viewer = world.from("net-east/east");
    let (assignment, _) = viewer.assignment(&whole());
    let version = world.registry.networks().part(&"net-west".into()).version;
    assert_eq!(assignment.networks_read, [("net-west".into(), version)]);
}

proptest! {
    /// Whatever the number of gateways and endpoints: the remote share of the weight is exact, and no address
    /// comes twice.
    #[test]
    fn weight_is_conserved_through_gateways(gateways in 1..5usize, local in 0..4usize, remote in proptest::collection::vec(1..50u32, 0..6)) {
        const LOCAL: [&str; 4] = ["10.10.0.1", "10.10.0.2", "10.10.0.3", "10.10.0.4"];
        const REMOTE: [&str; 6] = ["10.10.0.1", "10.10.0.2", "10.10.0.3", "10.10.0.4", "10.10.0.5", "10.10.0.6"];
        let mut world = World::new(&[("east", "net-east"), ("west", "net-west")]);
        for index in 0..gateways {
            world = world.gateway("west", "net-west", &format!("172.30.0.{}", index + 2), 15443);
        }
        let east: Vec<_> = LOCAL[..local].iter().map(|address| pod(address)).collect();
        let west: Vec<_> =
            remote.iter().zip(REMOTE).map(|(&weight, address)| Pod { weight, ..pod(address) }).collect();
        let world = world.pods("east", &east).pods("west", &west);
        let viewer = world.from("net-east/east");
        let (assignment, _) = viewer.assignment(&whole());
        let sum = |gateway: bool| -> u64 {
            let of = |e: &&super::AssignedEndpoint<'_>| matches!(e.origin, Origin::Gateway { .. }) == gateway;
            assignment.endpoints().filter(of).map(|e| u64::from(e.weight)).sum()
        };
        let scale = if remote.is_empty() { 1 } else { gateways as u64 };
        prop_assert_eq!(sum(false), local as u64 * scale);
        prop_assert_eq!(sum(true), remote.iter().map(|&w| u64::from(w)).sum::<u64>() * scale);
        let addresses: Vec<_> = assignment.endpoints().map(|e| (e.address(), e.port())).collect();
        let distinct: std::collections::BTreeSet<_> = addresses.iter().collect();
        prop_assert_eq!(distinct.len(), addresses.len());
    }
}
