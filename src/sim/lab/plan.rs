//! Who lives where: clusters, networks, control planes, addresses. Pure; the same input gives the same lab.
//!
//! What runs in a cluster is not planned here: that is said by the objects its API server holds.

mod address;
mod service;
mod shape;

use std::net::Ipv4Addr;

pub use self::address::{MANAGEMENT_PREFIX, Range};
pub use self::service::{AppService, ECHO, GREETER, HELLOWORLD, SERVICES};
pub use self::shape::{MAX_CLUSTERS, Shape, Sidecars, Topology};
use super::Mode;

/// Namespace of the lab's workloads.
pub const NAMESPACE: &str = "sample";
/// Namespace of the gateways and remote secrets.
pub const SYSTEM_NAMESPACE: &str = "istio-system";
/// Where a gateway listens for other networks.
pub const GATEWAY_PORT: u16 = 15443;
/// Plain xDS of a control plane.
pub const XDS_PORT: u16 = 15010;
/// Readiness and debug pages of a control plane.
pub const HTTP_PORT: u16 = 8080;
/// Metrics of a control plane.
pub const MONITORING_PORT: u16 = 15014;
/// The Kubernetes API of a cluster.
pub const API_PORT: u16 = 6443;
/// Admin pages of an Envoy, on its pod's own loopback (or its pod's address in loopback mode).
pub const ADMIN_PORT: u16 = 15000;

/// How an Envoy talks to its control plane; both protocols run in one lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Delta ADS.
    Delta,
    /// State-of-the-world ADS.
    Sotw,
}

/// One cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterPlan {
    /// Cluster id.
    pub name: String,
    /// Network id.
    pub network: String,
    /// Version its `helloworld` answers with.
    pub version: String,
    /// Node label `topology.kubernetes.io/region`.
    pub region: String,
    /// Node label `topology.kubernetes.io/zone`.
    pub zone: String,
    /// What its sidecars speak.
    pub protocol: Protocol,
    /// Name of the control plane that serves its sidecars.
    pub control_plane: String,
    /// Where control planes and the host reach the API server.
    pub api: Ipv4Addr,
    /// Where its own pods reach their control plane.
    pub xds: Ipv4Addr,
    /// Its network's way out (namespaces mode).
    pub router: Ipv4Addr,
    range: Range,
    /// From 1, in the lab.
    index: u8,
    /// From 0, in its network.
    place: u8,
}

impl ClusterPlan {
    /// Name of its one node.
    pub fn node_name(&self) -> String {
        format!("{}-node-1", self.name)
    }

    /// Address of its one node.
    pub fn node_address(&self) -> Ipv4Addr {
        self.range.infrastructure(self.index, address::NODE)
    }

    /// The address of its `n`-th pod, from 0; none beyond the range. Disjoint from the ranges of other clusters
    /// of its network; in namespaces mode other networks use the same addresses.
    pub fn pod_address(&self, n: u16) -> Option<Ipv4Addr> {
        self.range.pod(self.index, self.place, n)
    }

    /// The address at which other networks reach its `n`-th gateway pod, from 0, whose own address is `pod`.
    pub fn outer_address(&self, n: u8, pod: Ipv4Addr) -> Option<Ipv4Addr> {
        self.range.outer(self.index, n, pod)
    }

    /// The VIP of `service`.
    pub fn vip(&self, service: &AppService) -> Ipv4Addr {
        self.virtual_address(service.vip)
    }

    /// The VIP of the gateway's Service.
    pub fn gateway_vip(&self) -> Ipv4Addr {
        self.virtual_address(20)
    }

    /// The VIP of an ingress gateway's Service.
    pub fn ingress_vip(&self) -> Ipv4Addr {
        self.virtual_address(21)
    }

    fn virtual_address(&self, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 96 + self.index, 100, last)
    }

    /// Where its Services get their addresses from, as a CIDR.
    pub fn service_range(&self) -> String {
        format!("10.{}.0.0/16", 96 + self.index)
    }

    /// `https://…` of the API server.
    pub fn api_url(&self) -> String {
        format!("https://{}:{API_PORT}", self.api)
    }
}

/// One control plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlPlanePlan {
    /// Its name: its home cluster's, or `external`.
    pub name: String,
    /// The cluster it runs in and reads its remote secrets from; none when it is outside of all.
    pub home: Option<String>,
    /// The clusters it watches besides its home.
    pub remotes: Vec<String>,
    /// Where the host reaches its pages.
    pub management: Ipv4Addr,
    /// Its address in each network whose sidecars it serves.
    pub feet: Vec<Foot>,
}

/// A control plane's address in one network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foot {
    /// Network id.
    pub network: String,
    /// The address.
    pub address: Ipv4Addr,
}

impl ControlPlanePlan {
    /// `http://…` of its readiness and debug pages.
    pub fn http_url(&self) -> String {
        format!("http://{}:{HTTP_PORT}", self.management)
    }
}

/// One network: a router between its pods and everybody's gateways (namespaces mode).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkPlan {
    /// Network id.
    pub name: String,
    /// Its bridge's name; device names are short.
    pub bridge: String,
    /// The router's address within.
    pub router: Ipv4Addr,
    /// The router's address outside.
    pub router_wan: Ipv4Addr,
}

/// A whole lab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What was asked for.
    pub shape: Shape,
    /// What it took from the host.
    pub range: Range,
    /// In the order of their names' list; the first is `east`.
    pub clusters: Vec<ClusterPlan>,
    /// One, or one per cluster.
    pub control_planes: Vec<ControlPlanePlan>,
    /// In the order of their first clusters.
    pub networks: Vec<NetworkPlan>,
}

impl Plan {
    /// Lays out a lab of `shape` in `range`.
    pub fn new(shape: Shape, range: Range) -> Self {
        let networks: Vec<NetworkPlan> = (0..shape.networks()).map(|at| network(range, at)).collect();
        let clusters: Vec<ClusterPlan> =
            (0..shape.clusters()).map(|at| cluster(shape, range, &networks, at)).collect();
        let control_planes = control_planes(shape, range, &clusters, &networks);
        Self { shape, range, clusters, control_planes, networks }
    }

    /// Namespaces or loopback.
    pub fn mode(&self) -> Mode {
        self.range.mode()
    }

    /// The cluster called `name`.
    pub fn cluster(&self, name: &str) -> Option<&ClusterPlan> {
        self.clusters.iter().find(|cluster| cluster.name == name)
    }

    /// The network called `name`.
    pub fn network(&self, name: &str) -> Option<&NetworkPlan> {
        self.networks.iter().find(|network| network.name == name)
    }

    /// Names of all clusters.
    pub fn cluster_names(&self) -> Vec<String> {
        self.clusters.iter().map(|cluster| cluster.name.clone()).collect()
    }
}

fn network(range: Range, at: u8) -> NetworkPlan {
    NetworkPlan {
        name: format!("net-{}", shape::cluster_name(at)),
        bridge: format!("net{}", at + 1),
        router: range.infrastructure(at + 1, address::ROUTER),
        router_wan: Ipv4Addr::new(172, 30, 0, at + 1),
    }
}

fn cluster(shape: Shape, range: Range, networks: &[NetworkPlan], at: u8) -> ClusterPlan {
    let name = shape::cluster_name(at);
    let network_at = at % shape.networks();
    let network = &networks[usize::from(network_at)];
    let server = match shape.topology {
        Topology::MultiPrimary => at,
        Topology::PrimaryRemote => 0,
        Topology::External => shape.clusters(),
    };
    ClusterPlan {
        region: format!("region-{name}"),
        zone: format!("zone-{name}-1"),
        network: network.name.clone(),
        version: format!("v{}", at + 1),
        protocol: if at.is_multiple_of(2) { Protocol::Delta } else { Protocol::Sotw },
        control_plane: control_plane_name(shape, server),
        api: range.api(at + 1),
        xds: range.control_plane(server + 1, network_at),
        router: network.router,
        range,
        index: at + 1,
        place: at / shape.networks(),
        name,
    }
}

fn control_plane_name(shape: Shape, at: u8) -> String {
    if at < shape.clusters() { shape::cluster_name(at) } else { "external".to_owned() }
}

fn control_planes(
    shape: Shape,
    range: Range,
    clusters: &[ClusterPlan],
    networks: &[NetworkPlan],
) -> Vec<ControlPlanePlan> {
    let which = match shape.topology {
        Topology::MultiPrimary => 0..shape.clusters(),
        Topology::PrimaryRemote => 0..1,
        Topology::External => shape.clusters()..shape.clusters() + 1,
    };
    which
        .map(|at| {
            let name = control_plane_name(shape, at);
            let home = clusters.get(usize::from(at)).map(|cluster| cluster.name.clone());
            let served = |network: &NetworkPlan| {
                clusters.iter().any(|c| c.control_plane == name && c.network == network.name)
            };
            let foot = |(network_at, network): (u8, &NetworkPlan)| Foot {
                network: network.name.clone(),
                address: range.control_plane(at + 1, network_at),
            };
            let feet = (0..).zip(networks).filter(|(_, network)| served(network)).map(foot).collect();
            let others = clusters.iter().map(|c| &c.name).filter(|other| Some(*other) != home.as_ref());
            let remotes = others.cloned().collect();
            ControlPlanePlan { remotes, management: range.management(at + 1), feet, home, name }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const LINK: Range = Range::HostLink(Ipv4Addr::new(172, 31, 240, 32));

    fn pods(cluster: &ClusterPlan) -> Vec<Ipv4Addr> {
        (0..4).filter_map(|n| cluster.pod_address(n)).collect()
    }

    #[test]
    fn networks_share_their_pod_addresses_in_namespaces() {
        let plan = Plan::new(Shape::default(), LINK);
        let [east, west] = &plan.clusters[..] else { panic!("two clusters") };
        assert_eq!((east.name.as_str(), east.network.as_str()), ("east", "net-east"));
        assert_eq!((west.name.as_str(), west.network.as_str()), ("west", "net-west"));
        assert_eq!(pods(east), pods(west));
        let outer = |cluster: &ClusterPlan| cluster.outer_address(0, Ipv4Addr::LOCALHOST);
        assert_ne!(outer(east), outer(west));
        assert_ne!(east.vip(&HELLOWORLD), west.vip(&HELLOWORLD));
    }

    #[test]
    fn clusters_of_one_network_have_disjoint_pod_ranges() {
        let plan = Plan::new(Shape::new(3, 2, Topology::MultiPrimary, Sidecars::Captured).unwrap(), LINK);
        let [east, west, north] = &plan.clusters[..] else { panic!("three clusters") };
        assert_eq!(east.network, north.network);
        assert_ne!(east.network, west.network);
        assert!(pods(east).iter().all(|address| !pods(north).contains(address)));
        assert_ne!(east.xds, north.xds);
    }

    #[test]
    fn every_address_of_the_host_link_and_of_loopback_is_used_once() {
        for range in [LINK, Range::Loopback(77)] {
            let plan =
                Plan::new(Shape::new(8, 8, Topology::MultiPrimary, Sidecars::Captured).unwrap(), range);
            let apis = plan.clusters.iter().map(|cluster| cluster.api);
            let mut all: Vec<Ipv4Addr> =
                apis.chain(plan.control_planes.iter().map(|c| c.management)).collect();
            if range.mode() == Mode::Loopback {
                all.extend(plan.clusters.iter().flat_map(pods));
                assert!(all.iter().all(|address| address.octets()[..2] == [127, 77]));
            } else {
                assert!(
                    all.iter().all(|a| u32::from(*a) >> 5 == u32::from(Ipv4Addr::new(172, 31, 240, 32)) >> 5)
                );
            }
            assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "{all:?}");
        }
    }

    #[test]
    fn a_primary_serves_the_remote_clusters_too() {
        let plan = Plan::new(Shape::new(2, 2, Topology::PrimaryRemote, Sidecars::Captured).unwrap(), LINK);
        let [primary] = &plan.control_planes[..] else { panic!("one control plane") };
        assert_eq!((primary.home.as_deref(), &primary.remotes[..]), (Some("east"), &["west".to_owned()][..]));
        assert_eq!(primary.feet.len(), 2);
        assert_eq!(plan.clusters[1].xds, primary.feet[1].address);
    }

    #[test]
    fn an_external_control_plane_is_at_home_nowhere() {
        let plan = Plan::new(Shape::new(2, 1, Topology::External, Sidecars::Captured).unwrap(), LINK);
        let [external] = &plan.control_planes[..] else { panic!("one control plane") };
        assert_eq!((external.name.as_str(), &external.home), ("external", &None));
        assert_eq!(external.remotes, ["east", "west"]);
        assert_eq!(external.feet.len(), 1);
        assert!(plan.clusters.iter().all(|cluster| cluster.xds == external.feet[0].address));
    }
}
