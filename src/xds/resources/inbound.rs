//! Inbound listeners and Envoy clusters of one workload (control-plane-surface §3.4).

use std::collections::{BTreeMap, BTreeSet, btree_map};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::TrafficDirection;
use envoy_types::pb::envoy::config::listener::v3 as lds;

use super::cluster::Version;
use super::inbound_chains::{self, Guards, Shape, Target};
use super::inbound_cluster::{self, Application};
use super::parts::{address, entry, flag, number, time, wildcard};
use super::{BLACK_HOLE, INBOUND_PORT, OUTBOUND_PORT, filters, listener, rbac, tls};
use crate::model::policy::{AuthorizationPolicy, ConnectionPool, MtlsMode, PathNormalization};
use crate::model::{InterceptionMode, IpFamilies, Name, PortProtocol, ProxyKind, ServiceKey};
use crate::view::{WorkloadKey, WorkloadMtls};
use crate::xds::resource::{Entry, ResourceType};

/// Where captured connections to ports of no service go.
const INBOUND_PASSTHROUGH: &str = "InboundPassthroughCluster";

/// One inbound port of a workload.
#[derive(Clone, Debug, PartialEq)]
pub struct InboundPort {
    /// The service it belongs to; `None` for one that a Sidecar tells.
    pub service: Option<ServiceKey>,
    /// The port clients use.
    pub service_port: u16,
    /// The port the workload listens on.
    pub target_port: u16,
    /// What is spoken on it.
    pub protocol: PortProtocol,
    /// Where it listens without capture; `None` for the workload's addresses.
    pub bind: Option<IpAddr>,
    /// Where the application is; `None` for the usual place.
    pub application: Option<Application>,
    /// Limits of its own.
    pub pool: Option<ConnectionPool>,
}

/// What policies say about the inbound side of a workload.
#[derive(Clone, Debug, Default)]
pub struct InboundPolicy {
    /// The trust domain of the mesh, then its aliases.
    pub trust_domains: Vec<Name>,
    /// The trust domain of the workload's own cluster, where that is another one (D34).
    pub own_trust_domain: Option<Name>,
    /// Which mTLS is asked for.
    pub mtls: WorkloadMtls,
    /// Who may ask for what, in the order of their namespaces and ages.
    pub authorization: Vec<Arc<AuthorizationPolicy>>,
    /// Limits of every port that has none of its own.
    pub pool: Option<ConnectionPool>,
    /// How long is waited for the first bytes of a client; `None` for Envoy's own limit.
    pub detection_timeout: Option<Duration>,
    /// What is made of the paths of requests before they are looked at.
    pub paths: PathNormalization,
}

/// What a workload's proxy gets for its inbound side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InboundResources {
    /// Envoy clusters towards the application.
    pub clusters: Vec<Entry>,
    /// Listeners.
    pub listeners: Vec<Entry>,
}

/// The inbound side of `key` for `ports`, ordered oldest service first: the first wins a target port. Mesh
/// clients of the trust domains are authenticated; whether plain clients are let in is the mode of the port.
/// Routers have none.
pub fn inbound(ports: &[InboundPort], key: &WorkloadKey, policy: &InboundPolicy) -> InboundResources {
    if key.kind != ProxyKind::Sidecar {
        return InboundResources::default();
    }
    let accepted = policy.trust_domains.iter().chain(&policy.own_trust_domain);
    let side = Side {
        key,
        policy,
        guards: Guards {
            mtls: tls::server(accepted),
            rbac: rbac::filters(&policy.authorization, &policy.trust_domains),
            paths: policy.paths,
        },
    };
    let ports = distinct(ports);
    if key.mode == InterceptionMode::None { side.bound(&ports) } else { side.captured(&ports) }
}

/// The first of each target port, without what Envoy cannot carry and the capture ports themselves.
fn distinct(ports: &[InboundPort]) -> Vec<&InboundPort> {
    let mut seen = BTreeSet::from([0, OUTBOUND_PORT, INBOUND_PORT]);
    let tcp = ports.iter().filter(|port| port.protocol != PortProtocol::Udp);
    let mut distinct: Vec<_> = tcp.filter(|port| seen.insert(port.target_port)).collect();
    distinct.sort_by_key(|port| port.target_port);
    distinct
}

/// The inbound side of one workload.
struct Side<'a> {
    key: &'a WorkloadKey,
    policy: &'a InboundPolicy,
    guards: Guards,
}

impl Side<'_> {
    fn captured(&self, ports: &[&InboundPort]) -> InboundResources {
        let families = IpFamilies::of(&self.key.addresses);
        let source = Some(source(families));
        let ip = wildcard(families);
        let through = |name: &str, port: Option<&InboundPort>| {
            let application = port.and_then(|port| port.application.as_ref());
            let version = port.map_or(Version::AsReceived, |port| version(port.protocol));
            let application = application.unwrap_or(&Application::Original);
            let pool = port.and_then(|port| self.pool(port));
            inbound_cluster::inbound(name, application, source, version, pool)
        };
        let mut clusters = vec![through(INBOUND_PASSTHROUGH, None)];
        let mut chains = vec![loop_guard()];
        let mut shapes = BTreeMap::new();
        for port in ports {
            clusters.push(through(&cluster_name(port), Some(port)));
            let name = format!("{ip}_{}", port.target_port);
            let target = self.target(port, &name, Some(port.target_port));
            shapes.insert(port.target_port, target.shape);
            chains.extend(inbound_chains::chains(&target, &self.guards));
        }
        for &(port, mode) in self.policy.mtls.ports().iter().filter(|(port, _)| *port != INBOUND_PORT) {
            if let btree_map::Entry::Vacant(free) = shapes.entry(port) {
                let target = passthrough(Some(port), mode);
                free.insert(target.shape);
                chains.extend(inbound_chains::chains(&target, &self.guards));
            }
        }
        let otherwise = passthrough(None, self.policy.mtls.mode());
        chains.extend(inbound_chains::chains(&otherwise, &self.guards));
        let inspectors = inbound_chains::inspectors(&shapes, Some(otherwise.shape));
        let listener = lds::Listener {
            name: "virtualInbound".to_owned(),
            address: address(ip, INBOUND_PORT),
            transparent: (self.key.mode == InterceptionMode::Tproxy).then(|| flag(true)).flatten(),
            listener_filters: std::iter::once(filters::original_dst()).chain(inspectors).collect(),
            ..self.listening(chains)
        };
        InboundResources { clusters, listeners: vec![finish(&listener)] }
    }

    /// Without capture: every port bound where it says, or on every address of the workload.
    fn bound(&self, ports: &[&InboundPort]) -> InboundResources {
        let mut resources = InboundResources::default();
        for port in ports {
            let usual = Application::At(self.key.app_address, port.target_port);
            resources.clusters.push(inbound_cluster::inbound(
                &cluster_name(port),
                port.application.as_ref().unwrap_or(&usual),
                None,
                version(port.protocol),
                self.pool(port),
            ));
            for &ip in port.bind.as_ref().map_or(&*self.key.addresses, std::slice::from_ref) {
                let name = format!("{ip}_{}", port.target_port);
                let target = self.target(port, &name, None);
                let shapes = BTreeMap::from([(port.target_port, target.shape)]);
                let listener = lds::Listener {
                    address: address(ip, port.target_port),
                    listener_filters: inbound_chains::inspectors(&shapes, None),
                    ..self.listening(inbound_chains::chains(&target, &self.guards))
                };
                resources.listeners.push(finish(&lds::Listener { name, ..listener }));
            }
        }
        resources
    }

    fn pool<'p>(&'p self, port: &'p InboundPort) -> Option<&'p ConnectionPool> {
        port.pool.as_ref().or(self.policy.pool.as_ref())
    }

    /// A port's chains lead to its Envoy cluster.
    fn target(&self, port: &InboundPort, name: &str, destination_port: Option<u16>) -> Target {
        let service = port.service.as_ref();
        Target {
            name: name.to_owned(),
            http_name: name.to_owned(),
            cluster: cluster_name(port),
            destination_port,
            service_port: port.service_port,
            decorator: service.map(|service| format!("{}:{}", service.hostname, port.service_port)),
            shape: Shape { protocol: port.protocol, mode: self.policy.mtls.on_port(port.target_port) },
        }
    }

    fn listening(&self, filter_chains: Vec<lds::FilterChain>) -> lds::Listener {
        lds::Listener {
            filter_chains,
            traffic_direction: TrafficDirection::Inbound.into(),
            listener_filters_timeout: self.policy.detection_timeout.and_then(time),
            continue_on_listener_filters_timeout: true,
            ..Default::default()
        }
    }
}

/// Connections to the capture port itself end.
fn loop_guard() -> lds::FilterChain {
    let loops = lds::FilterChainMatch { destination_port: number(INBOUND_PORT.into()), ..Default::default() };
    listener::chain("virtualInbound-blackhole", Some(loops), filters::tcp(BLACK_HOLE))
}

/// The chains of ports that belong to no service.
fn passthrough(destination_port: Option<u16>, mode: MtlsMode) -> Target {
    Target {
        name: "virtualInbound".to_owned(),
        http_name: "virtualInbound-catchall-http".to_owned(),
        cluster: INBOUND_PASSTHROUGH.to_owned(),
        destination_port,
        service_port: 0,
        decorator: None,
        shape: Shape { protocol: PortProtocol::Auto, mode },
    }
}

fn cluster_name(port: &InboundPort) -> String {
    format!("inbound|{}||", port.target_port)
}

fn version(protocol: PortProtocol) -> Version {
    match protocol {
        PortProtocol::Http2 | PortProtocol::Grpc => Version::Two,
        PortProtocol::Auto => Version::AsReceived,
        _ => Version::One,
    }
}

/// The source address of connections to the application: capture does not touch them.
fn source(families: IpFamilies) -> IpAddr {
    match families {
        IpFamilies::V6 => Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6).into(),
        IpFamilies::V4 | IpFamilies::Dual => Ipv4Addr::new(127, 0, 0, 6).into(),
    }
}

fn finish(listener: &lds::Listener) -> Entry {
    entry(ResourceType::Listener, &listener.name, listener)
}
