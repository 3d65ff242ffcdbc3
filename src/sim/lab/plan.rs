//! Who lives where: clusters, pods, addresses. Pure; the same input gives the same lab.

use std::net::Ipv4Addr;

use super::Mode;

/// Namespace of the lab's workloads.
pub const NAMESPACE: &str = "sample";
/// Namespace of the gateways and remote secrets.
pub const SYSTEM_NAMESPACE: &str = "istio-system";
/// The most `helloworld` pods a cluster runs.
pub const MAX_HELLOWORLD: u8 = 3;
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

/// One Service of the lab's application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppService {
    /// Service name in [`NAMESPACE`].
    pub name: &'static str,
    /// Name of its one port, which tells the protocol.
    pub port_name: &'static str,
    /// The Service's port and its target port.
    pub port: u16,
    /// Last octet of its VIP.
    vip: u8,
}

/// One Service per protocol, all in front of the same pods.
pub const SERVICES: [AppService; 3] = [HELLOWORLD, GREETER, ECHO];
/// HTTP/1.1.
pub const HELLOWORLD: AppService = AppService { name: "helloworld", port_name: "http", port: 5000, vip: 10 };
/// HTTP/2.
pub const GREETER: AppService = AppService { name: "greeter", port_name: "http2", port: 7000, vip: 11 };
/// Opaque TCP.
pub const ECHO: AppService = AppService { name: "echo", port_name: "tcp", port: 9000, vip: 12 };

impl AppService {
    /// The fully qualified name.
    pub fn host(&self) -> String {
        format!("{}.{NAMESPACE}.svc.cluster.local", self.name)
    }

    /// Name of Envoy's cluster for it.
    pub fn envoy_cluster(&self) -> String {
        format!("outbound|{}||{}", self.port, self.host())
    }
}

/// What a pod is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The client.
    Sleep,
    /// The n-th replica of the application, from 1.
    Helloworld(u8),
    /// The east-west gateway.
    Gateway,
}

/// One pod with its Envoy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodPlan {
    /// Pod name.
    pub name: String,
    /// Cluster name.
    pub cluster: &'static str,
    /// What it is.
    pub role: Role,
    /// The pod's address in its network.
    pub address: Ipv4Addr,
    /// Loopback mode: where its Envoy's outbound listeners bind.
    pub outbound: Ipv4Addr,
    /// Loopback mode: where its application listens.
    pub app: Ipv4Addr,
}

impl PodPlan {
    /// The Kubernetes namespace.
    pub fn namespace(&self) -> &'static str {
        if self.role == Role::Gateway { SYSTEM_NAMESPACE } else { NAMESPACE }
    }

    /// The value of the label `app`.
    pub fn app_label(&self) -> &'static str {
        match self.role {
            Role::Sleep => "sleep",
            Role::Helloworld(_) => "helloworld",
            Role::Gateway => "istio-eastwestgateway",
        }
    }

    /// The service account; named like the application.
    pub fn service_account(&self) -> &'static str {
        self.app_label()
    }

    /// `cluster/pod`, as in the exec script and in file names.
    pub fn path(&self) -> String {
        format!("{}/{}", self.cluster, self.name)
    }
}

/// How an Envoy talks to its control plane; both protocols run in one lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Delta ADS.
    Delta,
    /// State-of-the-world ADS.
    Sotw,
}

/// One cluster, alone on its network, with its own control plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterPlan {
    /// Cluster id.
    pub name: &'static str,
    /// The other cluster's id.
    pub peer: &'static str,
    /// Network id.
    pub network: &'static str,
    /// Version its `helloworld` answers with.
    pub version: &'static str,
    /// Node label `topology.kubernetes.io/region`.
    pub region: &'static str,
    /// Node label `topology.kubernetes.io/zone`.
    pub zone: &'static str,
    /// What its sidecars speak.
    pub protocol: Protocol,
    /// Where control planes and the host reach the API server.
    pub api: Ipv4Addr,
    /// Where the host reaches the control plane's pages.
    pub management: Ipv4Addr,
    /// Where its own pods reach the control plane.
    pub xds: Ipv4Addr,
    /// The pod network's router (namespaces mode).
    pub router: Ipv4Addr,
    /// The router's address outside of the pod network (namespaces mode).
    pub router_wan: Ipv4Addr,
    /// The gateway's address as the other network sees it.
    pub gateway_wan: Ipv4Addr,
    /// The gateway pod.
    pub gateway: PodPlan,
    /// The client pod.
    pub client: PodPlan,
    /// The application's pods, first to last; how many run is the controller's matter.
    pub helloworld: Vec<PodPlan>,
    vip_base: [u8; 3],
}

impl ClusterPlan {
    /// The VIP of `service` in this cluster.
    pub fn vip(&self, service: &AppService) -> Ipv4Addr {
        let [a, b, c] = self.vip_base;
        Ipv4Addr::new(a, b, c, service.vip)
    }

    /// The VIP of the gateway's Service in this cluster.
    pub fn gateway_vip(&self) -> Ipv4Addr {
        let [a, b, c] = self.vip_base;
        Ipv4Addr::new(a, b, c, 20)
    }

    /// All pods that may run.
    pub fn pods(&self) -> impl Iterator<Item = &PodPlan> {
        [&self.gateway, &self.client].into_iter().chain(&self.helloworld)
    }

    /// `https://…` of the API server.
    pub fn api_url(&self) -> String {
        format!("https://{}:{API_PORT}", self.api)
    }

    /// `http://…` of the control plane's readiness and debug pages.
    pub fn http_url(&self) -> String {
        format!("http://{}:{HTTP_PORT}", self.management)
    }
}

/// The range a lab takes from its host, so that several can run side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    /// Namespaces mode: a /28 between the host and the lab. The host has the first address.
    HostLink(Ipv4Addr),
    /// Loopback mode: 127.`n`.0.0/16.
    Loopback(u8),
}

impl Range {
    /// The mode such a range belongs to.
    pub fn mode(&self) -> Mode {
        match self {
            Range::HostLink(_) => Mode::Namespaces,
            Range::Loopback(_) => Mode::Loopback,
        }
    }
}

/// A whole lab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What it took from the host.
    pub range: Range,
    /// East, then west.
    pub clusters: [ClusterPlan; 2],
}

impl Plan {
    /// Lays out a lab in `range`.
    pub fn new(range: Range) -> Self {
        let east = ClusterPlan::new(&Seed {
            index: 1,
            name: "east",
            peer: "west",
            network: "net-east",
            version: "v1",
            region: "region-east",
            zone: "zone-east-1",
            protocol: Protocol::Delta,
            range,
        });
        let west = ClusterPlan::new(&Seed {
            index: 2,
            name: "west",
            peer: "east",
            network: "net-west",
            version: "v2",
            region: "region-west",
            zone: "zone-west-1",
            protocol: Protocol::Sotw,
            range,
        });
        Self { range, clusters: [east, west] }
    }

    /// Namespaces or loopback.
    pub fn mode(&self) -> Mode {
        self.range.mode()
    }

    /// The cluster called `name`.
    pub fn cluster(&self, name: &str) -> Option<&ClusterPlan> {
        self.clusters.iter().find(|cluster| cluster.name == name)
    }

    /// All pods that may run, of both clusters.
    pub fn pods(&self) -> impl Iterator<Item = &PodPlan> {
        self.clusters.iter().flat_map(ClusterPlan::pods)
    }
}

struct Seed {
    index: u8,
    name: &'static str,
    peer: &'static str,
    network: &'static str,
    version: &'static str,
    region: &'static str,
    zone: &'static str,
    protocol: Protocol,
    range: Range,
}

impl Seed {
    /// The address of a pod. In namespaces mode it does not depend on the cluster: both networks use the same
    /// range, as separately built clusters do.
    fn pod_address(&self, third: u8, last: u8) -> Ipv4Addr {
        match self.range {
            Range::HostLink(_) => Ipv4Addr::new(10, 10, third, last),
            Range::Loopback(n) => Ipv4Addr::new(127, n, self.index, third * 20 + last),
        }
    }

    fn pod(&self, name: String, role: Role, third: u8, last: u8) -> PodPlan {
        let address = self.pod_address(third, last);
        let beside = |offset: u8| match self.range {
            Range::HostLink(_) => address,
            Range::Loopback(_) => {
                let [a, b, c, d] = address.octets();
                Ipv4Addr::new(a, b, c + offset, d)
            }
        };
        PodPlan { name, cluster: self.name, role, address, outbound: beside(100), app: beside(200) }
    }
}

impl ClusterPlan {
    fn new(seed: &Seed) -> Self {
        let index = seed.index;
        let gateway = seed.pod("istio-eastwestgateway-1".to_owned(), Role::Gateway, 0, 3);
        let (api, management, gateway_wan) = match seed.range {
            Range::HostLink(net) => {
                let [a, b, c, d] = net.octets();
                let link = |last: u8| Ipv4Addr::new(a, b, c, d + last + index);
                (link(7), link(3), Ipv4Addr::new(172, 30, 0, 10 + index))
            }
            Range::Loopback(_) => (seed.pod_address(0, 4), seed.pod_address(0, 2), gateway.address),
        };
        let helloworld = (1..=MAX_HELLOWORLD)
            .map(|n| seed.pod(format!("helloworld-{}-{n}", seed.version), Role::Helloworld(n), 2, n))
            .collect();
        Self {
            name: seed.name,
            peer: seed.peer,
            network: seed.network,
            version: seed.version,
            region: seed.region,
            zone: seed.zone,
            protocol: seed.protocol,
            api,
            management,
            xds: seed.pod_address(0, 2),
            router: seed.pod_address(0, 1),
            router_wan: Ipv4Addr::new(172, 30, 0, index),
            gateway_wan,
            gateway,
            client: seed.pod("sleep".to_owned(), Role::Sleep, 1, 1),
            helloworld,
            vip_base: [10, 95 + index, 0],
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn addresses(plan: &Plan) -> Vec<Ipv4Addr> {
        plan.pods().map(|pod| pod.address).collect()
    }

    #[test]
    fn networks_share_their_pod_addresses_in_namespaces() {
        let plan = Plan::new(Range::HostLink(Ipv4Addr::new(172, 31, 240, 16)));
        let [east, west] = &plan.clusters;
        let of = |cluster: &ClusterPlan| cluster.pods().map(|pod| pod.address).collect::<Vec<_>>();
        assert_eq!(of(east), of(west));
        assert_ne!(east.gateway_wan, west.gateway_wan);
        assert_ne!(east.vip(&HELLOWORLD), west.vip(&HELLOWORLD));
        assert_eq!(east.management, Ipv4Addr::new(172, 31, 240, 20));
        assert_eq!(west.api, Ipv4Addr::new(172, 31, 240, 25));
    }

    #[test]
    fn every_loopback_address_is_used_once() {
        let plan = Plan::new(Range::Loopback(77));
        let all: Vec<Ipv4Addr> = plan
            .pods()
            .flat_map(|pod| [pod.address, pod.outbound, pod.app])
            .chain(plan.clusters.iter().flat_map(|cluster| [cluster.management, cluster.api]))
            .collect();
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
        assert!(all.iter().all(|address| address.octets()[..2] == [127, 77]));
        assert_eq!(plan.clusters[0].gateway_wan, plan.clusters[0].gateway.address);
    }

    #[test]
    fn two_labs_do_not_meet() {
        let one = addresses(&Plan::new(Range::Loopback(70)));
        let two = addresses(&Plan::new(Range::Loopback(71)));
        assert!(one.iter().all(|address| !two.contains(address)));
    }

    #[test]
    fn envoy_cluster_names_are_istios() {
        assert_eq!(HELLOWORLD.envoy_cluster(), "outbound|5000||helloworld.sample.svc.cluster.local");
    }
}
