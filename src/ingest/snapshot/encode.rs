//! Model → message, piece by piece: the whole is never in memory twice.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use prost::Message as _;

use super::Snapshot;
use super::terms::Written;
use crate::ingest::options::StalePolicy;
use crate::model::{
    Discoverability, Endpoint, EndpointShard, EntryFacts, ExportTo, GatewayHost, Health, Import,
    InlineAddress, InlineEndpoint, Labels, NetworkGateway, NodePlace, PortProtocol, Resolution, Service,
    ServiceKey, ServicePort, Set, SpiffeId, TlsMode, TrafficDistribution, Transport, Workload,
    WorkloadProfile,
};
use crate::proto::snapshot as proto;

/// Appends the message of a snapshot; stops soon after `limit`. Equal snapshots give equal bytes.
pub(super) fn encode(snapshot: &Snapshot, into: &mut Vec<u8>, limit: usize) {
    let mut encoder = Encoder {
        into,
        texts: HashMap::new(),
        workloads: HashMap::new(),
        profiles: HashMap::new(),
        places: HashMap::new(),
    };
    let state = &snapshot.state;
    let since = snapshot.confirmed.duration_since(UNIX_EPOCH).unwrap_or_default();
    let networks = &state.networks;
    let network = networks.network.as_ref().map_or(0, |network| encoder.text(network));
    let gateways = networks.gateways.iter().map(|gateway| encoder.gateway(gateway)).collect();
    let gateway_hosts = networks.hosts.iter().map(|gateway| encoder.gateway_host(gateway)).collect();
    let trusted_networks = snapshot.terms.trusted.iter().map(|network| encoder.text(network)).collect();
    let host_addresses = snapshot.addresses.iter().map(|(host, addresses)| proto::HostAddresses {
        host: encoder.text(host),
        addresses: addresses.iter().map(bytes).collect(),
    });
    let host_addresses = host_addresses.collect();
    let gateway_address = snapshot.terms.advertised.as_ref();
    let (stale, stale_after) = match snapshot.terms.stale {
        StalePolicy::Hold => (0, Duration::ZERO),
        StalePolicy::Demote(after) => (1, after),
        StalePolicy::Drop(after) => (2, after),
    };
    encoder.piece(&proto::Snapshot {
        cluster: snapshot.cluster.to_string(),
        server: snapshot.pin.server.clone(),
        ca: snapshot.pin.ca.map(Vec::from).unwrap_or_default(),
        uid: snapshot.uid.to_string(),
        confirmed_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
        network,
        gateways,
        gateway_hosts,
        trusted_networks,
        gateway_address: gateway_address.map(|all| Written(all).to_string()).unwrap_or_default(),
        host_addresses,
        mesh_networks: snapshot.mesh_networks.as_deref().map(str::to_owned),
        mesh_config: snapshot.mesh_config.as_deref().map(str::to_owned),
        policies: snapshot.policies.as_deref().map(str::to_owned),
        stale,
        trust_domain: snapshot.terms.trust_domain.to_string(),
        stale_after_ns: u64::try_from(stale_after.as_nanos()).unwrap_or(u64::MAX),
        ..proto::Snapshot::default()
    });
    for pod in &state.workloads {
        if encoder.into.len() > limit {
            return;
        }
        let workload = encoder.workload(&pod.workload);
        let services = encoder.keys(&pod.services);
        encoder.piece(&proto::Snapshot {
            pods: vec![proto::Pod { workload, services }],
            ..proto::Snapshot::default()
        });
    }
    for (key, shard) in &state.shards {
        if encoder.into.len() > limit {
            return;
        }
        let shards = vec![encoder.shard(key, shard)];
        encoder.piece(&proto::Snapshot { shards, ..proto::Snapshot::default() });
    }
}

struct Encoder<'a> {
    into: &'a mut Vec<u8>,
    texts: HashMap<String, u32>,
    /// By identity: what is shared is written once.
    workloads: HashMap<*const Workload, u32>,
    profiles: HashMap<*const WorkloadProfile, u32>,
    places: HashMap<*const NodePlace, u32>,
}

/// Places are 32-bit: a file of the largest size has fewer.
const FITS: &str = "a snapshot has fewer than 2^32 texts and workloads";

fn bytes(address: &IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

impl Encoder<'_> {
    /// Pieces of one message are the message.
    fn piece(&mut self, piece: &proto::Snapshot) {
        self.into.reserve(piece.encoded_len());
        piece.encode_raw(self.into);
    }

    fn text(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        if let Some(place) = self.texts.get(text) {
            return *place;
        }
        let place = u32::try_from(self.texts.len() + 1).expect(FITS);
        self.texts.insert(text.to_owned(), place);
        self.piece(&proto::Snapshot { texts: vec![text.to_owned()], ..proto::Snapshot::default() });
        place
    }

    fn map(&mut self, map: &Labels) -> Vec<u32> {
        map.iter().flat_map(|(name, value)| [self.text(name), self.text(value)]).collect()
    }

    fn gateway(&mut self, gateway: &NetworkGateway) -> proto::Gateway {
        proto::Gateway {
            network: self.text(&gateway.network),
            address: bytes(&gateway.address),
            port: gateway.port.into(),
            hbone_port: gateway.hbone_port.into(),
        }
    }

    fn gateway_host(&mut self, gateway: &GatewayHost) -> proto::GatewayHost {
        proto::GatewayHost {
            network: self.text(&gateway.network),
            host: self.text(&gateway.host),
            port: gateway.port.into(),
            hbone_port: gateway.hbone_port.into(),
        }
    }

    fn key(&mut self, key: &ServiceKey) -> proto::Key {
        proto::Key { namespace: self.text(&key.namespace), hostname: self.text(&key.hostname) }
    }

    fn keys(&mut self, keys: &Set<ServiceKey>) -> Vec<proto::Key> {
        keys.iter().map(|key| self.key(key)).collect()
    }

    fn account(&mut self, account: &SpiffeId) -> proto::Account {
        proto::Account {
            trust_domain: self.text(&account.trust_domain),
            namespace: self.text(&account.namespace),
            service_account: self.text(&account.service_account),
        }
    }

    fn accounts(&mut self, accounts: &Set<SpiffeId>) -> Vec<proto::Account> {
        accounts.iter().map(|account| self.account(account)).collect()
    }

    /// The place of a workload, which is written before anything names it.
    fn workload(&mut self, workload: &Arc<Workload>) -> u32 {
        let identity = Arc::as_ptr(workload);
        if let Some(place) = self.workloads.get(&identity) {
            return *place;
        }
        let message = self.workload_message(workload);
        self.piece(&proto::Snapshot { workloads: vec![message], ..proto::Snapshot::default() });
        let place = u32::try_from(self.workloads.len()).expect(FITS);
        self.workloads.insert(identity, place);
        place
    }

    fn workload_message(&mut self, workload: &Workload) -> proto::Workload {
        proto::Workload {
            name: self.text(&workload.name),
            addresses: workload.addresses.iter().map(bytes).collect(),
            profile: self.profile(&workload.profile),
            place: self.place(&workload.place),
        }
    }

    fn profile(&mut self, profile: &Arc<WorkloadProfile>) -> u32 {
        let identity = Arc::as_ptr(profile);
        if let Some(place) = self.profiles.get(&identity) {
            return *place;
        }
        let message = proto::Profile {
            namespace: self.text(&profile.namespace),
            network: self.text(&profile.network),
            mtls: profile.tls_mode == TlsMode::Istio,
            redirected: profile.redirected,
            account: profile.account.as_ref().map(|account| self.account(account)),
            workload_name: profile.workload_name.as_ref().map(|name| self.text(name)),
            canonical_name: profile.canonical_name.as_ref().map(|name| self.text(name)),
            canonical_revision: self.text(&profile.canonical_revision),
            labels: self.map(&profile.own_labels),
            pod_dns: profile.pod_dns.as_ref().map(|(hostname, subdomain)| proto::PodDns {
                hostname: hostname.as_ref().map(|name| self.text(name)),
                subdomain: self.text(subdomain),
            }),
        };
        self.piece(&proto::Snapshot { profiles: vec![message], ..proto::Snapshot::default() });
        let place = u32::try_from(self.profiles.len()).expect(FITS);
        self.profiles.insert(identity, place);
        place
    }

    fn place(&mut self, node: &Arc<NodePlace>) -> u32 {
        let identity = Arc::as_ptr(node);
        if let Some(place) = self.places.get(&identity) {
            return *place;
        }
        let message = proto::Place {
            node: self.text(&node.node),
            region: self.text(&node.locality.region),
            zone: self.text(&node.locality.zone),
            subzone: self.text(&node.locality.subzone),
        };
        self.piece(&proto::Snapshot { places: vec![message], ..proto::Snapshot::default() });
        let place = u32::try_from(self.places.len()).expect(FITS);
        self.places.insert(identity, place);
        place
    }

    fn shard(&mut self, key: &ServiceKey, shard: &EndpointShard) -> proto::Shard {
        proto::Shard {
            key: Some(self.key(key)),
            service: shard.service.as_ref().map(|service| self.service(service)),
            endpoints: shard.endpoints.iter().map(|endpoint| self.endpoint(endpoint)).collect(),
            accounts: self.accounts(&shard.accounts),
        }
    }

    fn endpoint(&mut self, endpoint: &Endpoint) -> proto::Endpoint {
        let health = match endpoint.health {
            Health::Healthy => proto::Health::Healthy,
            Health::Unhealthy => proto::Health::Unhealthy,
            Health::Draining => proto::Health::Draining,
            Health::Terminating => proto::Health::Terminating,
        };
        proto::Endpoint {
            addresses: endpoint.addresses.iter().map(bytes).collect(),
            port: endpoint.port.into(),
            port_name: self.text(&endpoint.port_name),
            health: health.into(),
            weight: endpoint.weight.map_or(0, NonZeroU32::get),
            workload: self.workload(&endpoint.workload),
            same_cluster: endpoint.exposure.discoverability() == Discoverability::SameCluster,
            hide_unhealthy: !endpoint.exposure.sends_unhealthy(),
        }
    }

    fn service(&mut self, service: &Service) -> proto::Service {
        let Service {
            key: _,
            ports,
            vips,
            resolution,
            labels,
            export_to,
            node_local,
            publish_not_ready,
            created,
            traffic_distribution,
            import,
            ingress_waypoint,
            accounts,
            entry,
        } = service;
        let traffic_distribution = match traffic_distribution {
            TrafficDistribution::Any => proto::TrafficDistribution::Any,
            TrafficDistribution::PreferSameZone => proto::TrafficDistribution::PreferSameZone,
            TrafficDistribution::PreferSameNode => proto::TrafficDistribution::PreferSameNode,
        };
        let import = match import {
            Import::No => proto::Import::No,
            Import::Offered => proto::Import::Offered,
            Import::Own => proto::Import::Own,
            Import::Foreign => proto::Import::Foreign,
        };
        let (resolution, alias) = match resolution {
            Resolution::ClientSide => (proto::Resolution::ClientSide, 0),
            Resolution::Passthrough => (proto::Resolution::Passthrough, 0),
            Resolution::Alias(host) => (proto::Resolution::Alias, self.text(host)),
            Resolution::Dns => (proto::Resolution::Dns, 0),
            Resolution::DnsRoundRobin => (proto::Resolution::DnsRoundRobin, 0),
        };
        let (export_to, export_namespaces) = match export_to {
            ExportTo::Everywhere => (proto::ExportTo::ExportEverywhere, Vec::new()),
            ExportTo::Nowhere => (proto::ExportTo::ExportNowhere, Vec::new()),
            ExportTo::Unset => (proto::ExportTo::ExportUnset, Vec::new()),
            ExportTo::Namespaces(names) => {
                (proto::ExportTo::ExportNamespaces, names.iter().map(|name| self.text(name)).collect())
            }
        };
        proto::Service {
            ports: ports.iter().map(|port| self.port(port)).collect(),
            vips: vips
                .iter()
                .map(|(cluster, addresses)| proto::Vips {
                    cluster: self.text(cluster),
                    addresses: addresses.iter().map(bytes).collect(),
                })
                .collect(),
            resolution: resolution.into(),
            alias,
            labels: self.map(labels),
            export_to: export_to.into(),
            export_namespaces,
            node_local: *node_local,
            publish_not_ready: *publish_not_ready,
            created: *created,
            accounts: self.accounts(accounts),
            traffic_distribution: traffic_distribution.into(),
            import: import.into(),
            entry: entry.as_ref().map(|facts| self.entry(facts)),
            ingress_waypoint: ingress_waypoint.as_ref().map(|waypoint| self.key(waypoint)),
        }
    }

    fn entry(&mut self, facts: &EntryFacts) -> proto::Entry {
        let EntryFacts { mesh_external, blocks, alt_names, inline } = facts;
        proto::Entry {
            mesh_external: *mesh_external,
            blocks: blocks.iter().map(|block| self.text(&block.to_string())).collect(),
            alt_names: alt_names.iter().map(|name| self.text(name)).collect(),
            inline: inline.iter().map(|endpoint| self.inline(endpoint)).collect(),
        }
    }

    fn inline(&mut self, endpoint: &InlineEndpoint) -> proto::InlineEndpoint {
        use proto::inline_endpoint::Address;
        let InlineEndpoint { address, port, port_name, weight, workload } = endpoint;
        proto::InlineEndpoint {
            address: match address {
                InlineAddress::Ip(ip) => Some(Address::Ip(bytes(ip))),
                InlineAddress::Host(host) => Some(Address::Host(self.text(host))),
                InlineAddress::Unix(path) => Some(Address::Unix(self.text(path))),
                InlineAddress::Absent => None,
            },
            port: (*port).into(),
            port_name: self.text(port_name),
            weight: weight.map_or(0, NonZeroU32::get),
            workload: self.workload(workload),
        }
    }

    fn port(&mut self, port: &ServicePort) -> proto::Port {
        let transport = match port.transport {
            Transport::Tcp => proto::Transport::Tcp,
            Transport::Udp => proto::Transport::Udp,
            Transport::Sctp => proto::Transport::Sctp,
        };
        let protocol = match port.protocol {
            PortProtocol::Auto => proto::Protocol::Auto,
            PortProtocol::Http => proto::Protocol::Http,
            PortProtocol::Http2 => proto::Protocol::Http2,
            PortProtocol::Grpc => proto::Protocol::Grpc,
            PortProtocol::GrpcWeb => proto::Protocol::GrpcWeb,
            PortProtocol::Https => proto::Protocol::Https,
            PortProtocol::Tls => proto::Protocol::Tls,
            PortProtocol::Tcp => proto::Protocol::Tcp,
            PortProtocol::Udp => proto::Protocol::Udp,
        };
        proto::Port {
            number: port.number.into(),
            name: self.text(&port.name),
            transport: transport.into(),
            protocol: protocol.into(),
        }
    }
}
