//! Inbound listeners and Envoy clusters of one workload (control-plane-surface §3.4).

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use envoy_types::pb::envoy::config::core::v3::TrafficDirection;
use envoy_types::pb::envoy::config::listener::v3 as lds;

use super::cluster::{self, Version};
use super::inbound_chains::{self, Target};
use super::parts::{address, entry, flag, number, wildcard};
use super::{BLACK_HOLE, INBOUND_PORT, OUTBOUND_PORT, filters, listener};
use crate::model::{InterceptionMode, IpFamilies, PortProtocol, ProxyKind, ServiceKey};
use crate::view::WorkloadKey;
use crate::xds::resource::{Entry, ResourceType};

/// Where captured connections to ports of no service go.
const INBOUND_PASSTHROUGH: &str = "InboundPassthroughCluster";

/// One inbound port of a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboundPort {
    /// The service it belongs to.
    pub service: ServiceKey,
    /// The port clients use.
    pub service_port: u16,
    /// The port the workload listens on.
    pub target_port: u16,
    /// What is spoken on it.
    pub protocol: PortProtocol,
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
/// clients of `trust_domains` are authenticated, plain clients are let in. Routers have none.
pub fn inbound(ports: &[InboundPort], key: &WorkloadKey, trust_domains: &[&str]) -> InboundResources {
    if key.kind != ProxyKind::Sidecar {
        return InboundResources::default();
    }
    let ports = distinct(ports);
    if key.mode == InterceptionMode::None {
        bound(&ports, key, trust_domains)
    } else {
        captured(&ports, key, trust_domains)
    }
}

/// The first of each target port, without what Envoy cannot carry and the capture ports themselves.
fn distinct(ports: &[InboundPort]) -> Vec<&InboundPort> {
    let mut seen = BTreeSet::from([0, OUTBOUND_PORT, INBOUND_PORT]);
    let tcp = ports.iter().filter(|port| port.protocol != PortProtocol::Udp);
    let mut distinct: Vec<_> = tcp.filter(|port| seen.insert(port.target_port)).collect();
    distinct.sort_by_key(|port| port.target_port);
    distinct
}

fn captured(ports: &[&InboundPort], key: &WorkloadKey, trust_domains: &[&str]) -> InboundResources {
    let families = IpFamilies::of(&key.addresses);
    let source = source(families);
    let ip = wildcard(families);
    let mut clusters = vec![cluster::inbound_captured(INBOUND_PASSTHROUGH, source, Version::AsReceived)];
    let loops = lds::FilterChainMatch { destination_port: number(INBOUND_PORT.into()), ..Default::default() };
    let blackhole = filters::tcp(BLACK_HOLE);
    let mut chains = vec![listener::chain("virtualInbound-blackhole", Some(loops), blackhole)];
    for port in ports {
        clusters.push(cluster::inbound_captured(&cluster_name(port), source, version(port.protocol)));
        let name = format!("{ip}_{}", port.target_port);
        let target = target(port, &name, Some(port.target_port));
        chains.extend(inbound_chains::chains(&target, trust_domains));
    }
    chains.extend(inbound_chains::chains(&passthrough(), trust_domains));
    let listener = lds::Listener {
        name: "virtualInbound".to_owned(),
        address: address(ip, INBOUND_PORT),
        transparent: (key.mode == InterceptionMode::Tproxy).then(|| flag(true)).flatten(),
        listener_filters: vec![
            filters::original_dst(),
            filters::tls_inspector(),
            inbound_chains::http_inspector(ports),
        ],
        ..listening(chains)
    };
    let listeners = vec![finish(&listener)];
    InboundResources { clusters, listeners }
}

/// Without capture: every port bound on every address of the workload.
fn bound(ports: &[&InboundPort], key: &WorkloadKey, trust_domains: &[&str]) -> InboundResources {
    let mut resources = InboundResources::default();
    for port in ports {
        resources.clusters.push(cluster::inbound_static(
            &cluster_name(port),
            key.app_address,
            port.target_port,
            version(port.protocol),
        ));
        for &ip in &key.addresses {
            let name = format!("{ip}_{}", port.target_port);
            let listener = lds::Listener {
                address: address(ip, port.target_port),
                listener_filters: vec![filters::tls_inspector(), inbound_chains::http_inspector(&[port])],
                ..listening(inbound_chains::chains(&target(port, &name, None), trust_domains))
            };
            resources.listeners.push(finish(&lds::Listener { name, ..listener }));
        }
    }
    resources
}

/// A port's chains lead to its Envoy cluster.
fn target(port: &InboundPort, name: &str, destination_port: Option<u16>) -> Target {
    Target {
        name: name.to_owned(),
        http_name: name.to_owned(),
        cluster: cluster_name(port),
        destination_port,
        service_port: port.service_port,
        decorator: Some(format!("{}:{}", port.service.hostname, port.service_port)),
        protocol: port.protocol,
    }
}

/// The chains of ports that belong to no service.
fn passthrough() -> Target {
    Target {
        name: "virtualInbound".to_owned(),
        http_name: "virtualInbound-catchall-http".to_owned(),
        cluster: INBOUND_PASSTHROUGH.to_owned(),
        destination_port: None,
        service_port: 0,
        decorator: None,
        protocol: PortProtocol::Auto,
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

fn listening(filter_chains: Vec<lds::FilterChain>) -> lds::Listener {
    lds::Listener {
        filter_chains,
        traffic_direction: TrafficDirection::Inbound.into(),
        continue_on_listener_filters_timeout: true,
        ..Default::default()
    }
}

fn finish(listener: &lds::Listener) -> Entry {
    entry(ResourceType::Listener, &listener.name, listener)
}
