//! Message → model. Every place and number is checked: no bytes make it panic.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use prost::Message as _;

use super::{Addresses, Pin, Snapshot, Terms};
use crate::ingest::convert::Advertised;
use crate::ingest::options::StalePolicy;
use crate::model::{
    ClusterId, Discoverability, Endpoint, EndpointShard, EntryFacts, ExportTo, Exposure, GatewayHost, Health,
    Hostname, Import, InlineAddress, InlineEndpoint, Labels, Locality, Name, NetworkGateway, NetworkId,
    NodePlace, PortProtocol, Resolution, Service, ServiceKey, ServicePort, Set, Shared, SpiffeId, TlsMode,
    TrafficDistribution, Transport, Workload, WorkloadCell, WorkloadProfile,
};
use crate::proto::snapshot as proto;
use crate::registry::{ClusterState, NetworkClaim};

type Decoded<T> = Result<T, String>;

/// Reads the message of a snapshot.
///
/// # Errors
/// The first thing that makes no sense.
pub(super) fn decode(body: &[u8]) -> Decoded<Snapshot> {
    let message = proto::Snapshot::decode(body).map_err(|error| error.to_string())?;
    let cluster = ClusterId::from(message.cluster);
    let texts = std::iter::once(Name::default()).chain(message.texts.into_iter().map(Name::from)).collect();
    let mut decoder = Decoder {
        cluster: cluster.clone(),
        texts,
        profiles: Vec::new(),
        places: Vec::new(),
        workloads: Vec::new(),
    };
    let confirmed = UNIX_EPOCH.checked_add(Duration::from_millis(message.confirmed_ms));
    decoder.profiles =
        message.profiles.into_iter().map(|profile| decoder.profile(profile)).collect::<Decoded<_>>()?;
    decoder.places = message.places.iter().map(|place| decoder.place(place)).collect::<Decoded<_>>()?;
    decoder.workloads =
        message.workloads.iter().map(|workload| decoder.workload(workload)).collect::<Decoded<_>>()?;
    let network = decoder.network(message.network)?;
    let trusted = message.trusted_networks.iter().map(|place| decoder.network(*place));
    let terms = Terms {
        trusted: trusted.collect::<Decoded<_>>()?,
        advertised: advertised(&message.gateway_address)?,
        stale: stale(message.stale, Duration::from_nanos(message.stale_after_ns)),
        trust_domain: Name::from(message.trust_domain),
    };
    let addresses = message.host_addresses.iter().map(|host| decoder.host_addresses(host));
    let addresses = addresses.collect::<Decoded<Addresses>>()?;
    let state = ClusterState {
        networks: NetworkClaim {
            network: (!network.is_empty()).then_some(network),
            gateways: message
                .gateways
                .iter()
                .map(|gateway| decoder.gateway(gateway))
                .collect::<Decoded<_>>()?,
            hosts: message
                .gateway_hosts
                .iter()
                .map(|host| decoder.gateway_host(host))
                .collect::<Decoded<_>>()?,
        },
        shards: message.shards.into_iter().map(|shard| decoder.shard(shard)).collect::<Decoded<_>>()?,
        workloads: decoder.pods(&message.pods)?,
    };
    Ok(Snapshot {
        cluster,
        pin: Pin { server: message.server, ca: hash(&message.ca)? },
        uid: Name::from(message.uid),
        confirmed: confirmed.ok_or("its time is out of range")?,
        terms,
        addresses,
        mesh_networks: message.mesh_networks.map(Arc::from),
        mesh_config: message.mesh_config.map(Arc::from),
        policies: message.policies.map(Arc::from),
        state,
    })
}

/// What a newer version means by another number is not known: then they are held.
fn stale(action: u32, after: Duration) -> StalePolicy {
    match action {
        1 => StalePolicy::Demote(after),
        2 => StalePolicy::Drop(after),
        _ => StalePolicy::Hold,
    }
}

fn hash(bytes: &[u8]) -> Decoded<Option<[u8; 32]>> {
    match bytes {
        [] => Ok(None),
        bytes => Ok(Some(bytes.try_into().map_err(|_| "a hash of odd size")?)),
    }
}

fn address(bytes: &Vec<u8>) -> Decoded<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(bytes.as_slice()) {
        return Ok(octets.into());
    }
    let octets = <[u8; 16]>::try_from(bytes.as_slice()).map_err(|_| "an address of odd size")?;
    Ok(octets.into())
}

fn addresses(all: &[Vec<u8>]) -> Decoded<Vec<IpAddr>> {
    all.iter().map(address).collect()
}

/// What options advertised; empty for nothing.
fn advertised(text: &str) -> Decoded<Option<Advertised>> {
    if text.is_empty() {
        return Ok(None);
    }
    match Advertised::parse(text) {
        (Some(advertised), problems) if problems.is_empty() => Ok(Some(advertised)),
        _ => Err("a gateway address that is none".to_owned()),
    }
}

fn port(number: u32) -> Decoded<u16> {
    u16::try_from(number).map_err(|_| format!("port {number}"))
}

/// The value of an enumeration; one that is not known is from a later version that did not mean us to read it.
fn known<T: TryFrom<i32>>(number: i32) -> Decoded<T> {
    T::try_from(number).map_err(|_| format!("{number} is no {}", std::any::type_name::<T>()))
}

struct Decoder {
    cluster: ClusterId,
    texts: Vec<Name>,
    profiles: Vec<Arc<WorkloadProfile>>,
    places: Vec<Arc<NodePlace>>,
    workloads: Vec<Arc<Workload>>,
}

impl Decoder {
    fn text(&self, place: u32) -> Decoded<Name> {
        let text = usize::try_from(place).ok().and_then(|place| self.texts.get(place));
        text.cloned().ok_or_else(|| format!("there is no text {place}"))
    }

    fn network(&self, place: u32) -> Decoded<NetworkId> {
        Ok(NetworkId::from(&*self.text(place)?))
    }

    fn names(&self, places: &[u32]) -> Decoded<BTreeSet<Name>> {
        places.iter().map(|place| self.text(*place)).collect()
    }

    fn map(&self, places: &[u32]) -> Decoded<Labels> {
        let (pairs, rest) = places.as_chunks::<2>();
        if !rest.is_empty() {
            return Err("a name without a value".to_owned());
        }
        pairs.iter().map(|[name, value]| Ok((self.text(*name)?, self.text(*value)?))).collect()
    }

    fn gateway(&self, gateway: &proto::Gateway) -> Decoded<NetworkGateway> {
        Ok(NetworkGateway {
            network: self.network(gateway.network)?,
            cluster: self.cluster.clone(),
            address: address(&gateway.address)?,
            port: port(gateway.port)?,
            hbone_port: port(gateway.hbone_port)?,
        })
    }

    fn gateway_host(&self, gateway: &proto::GatewayHost) -> Decoded<GatewayHost> {
        Ok(GatewayHost {
            network: self.network(gateway.network)?,
            host: Hostname::from(&*self.text(gateway.host)?),
            port: port(gateway.port)?,
            hbone_port: port(gateway.hbone_port)?,
            cluster: self.cluster.clone(),
        })
    }

    fn host_addresses(&self, host: &proto::HostAddresses) -> Decoded<(Hostname, Vec<IpAddr>)> {
        Ok((Hostname::from(&*self.text(host.host)?), addresses(&host.addresses)?))
    }

    fn key(&self, key: Option<&proto::Key>) -> Decoded<ServiceKey> {
        let key = key.ok_or("a service without a key")?;
        let hostname = Hostname::from(&*self.text(key.hostname)?);
        Ok(ServiceKey { namespace: self.text(key.namespace)?, hostname })
    }

    fn account(&self, account: &proto::Account) -> Decoded<SpiffeId> {
        Ok(SpiffeId {
            trust_domain: self.text(account.trust_domain)?,
            namespace: self.text(account.namespace)?,
            service_account: self.text(account.service_account)?,
        })
    }

    fn accounts(&self, accounts: &[proto::Account]) -> Decoded<Set<SpiffeId>> {
        accounts.iter().map(|account| self.account(account)).collect()
    }

    fn profile(&self, profile: proto::Profile) -> Decoded<Arc<WorkloadProfile>> {
        let own = |place: Option<u32>| place.map(|place| self.text(place)).transpose();
        let pod_dns =
            |dns: proto::PodDns| -> Decoded<_> { Ok((own(dns.hostname)?, self.text(dns.subdomain)?)) };
        Ok(Arc::new(WorkloadProfile {
            cluster: self.cluster.clone(),
            namespace: self.text(profile.namespace)?,
            network: self.network(profile.network)?,
            tls_mode: if profile.mtls { TlsMode::Istio } else { TlsMode::Disabled },
            redirected: profile.redirected,
            account: profile.account.map(|account| self.account(&account)).transpose()?,
            canonical_revision: self.text(profile.canonical_revision)?,
            workload_name: own(profile.workload_name)?,
            canonical_name: own(profile.canonical_name)?,
            pod_dns: profile.pod_dns.map(pod_dns).transpose()?,
            own_labels: self.map(&profile.labels)?,
        }))
    }

    fn place(&self, place: &proto::Place) -> Decoded<Arc<NodePlace>> {
        let locality = Locality {
            region: self.text(place.region)?,
            zone: self.text(place.zone)?,
            subzone: self.text(place.subzone)?,
        };
        Ok(Arc::new(NodePlace { node: self.text(place.node)?, locality }))
    }

    fn workload(&self, workload: &proto::Workload) -> Decoded<Arc<Workload>> {
        Ok(Arc::new(Workload {
            name: self.text(workload.name)?,
            addresses: addresses(&workload.addresses)?.into(),
            profile: Arc::clone(at(&self.profiles, "profile", workload.profile)?),
            place: Arc::clone(at(&self.places, "place", workload.place)?),
        }))
    }

    /// Pods of one deployment share the set of services that name them.
    fn pods(&self, pods: &[proto::Pod]) -> Decoded<Vec<WorkloadCell>> {
        let mut sets = Shared::default();
        let pod = |pod: &proto::Pod| {
            let services = pod.services.iter().map(|key| self.key(Some(key))).collect::<Decoded<_>>()?;
            let workload = Arc::clone(at(&self.workloads, "workload", pod.workload)?);
            Ok(WorkloadCell { workload, services: Set::clone(&sets.of(services)) })
        };
        pods.iter().map(pod).collect()
    }

    fn shard(&self, shard: proto::Shard) -> Decoded<(ServiceKey, Arc<EndpointShard>)> {
        let key = self.key(shard.key.as_ref())?;
        let service = shard.service.map(|service| self.service(&key, service).map(Arc::new)).transpose()?;
        let endpoints =
            shard.endpoints.iter().map(|endpoint| self.endpoint(endpoint)).collect::<Decoded<_>>()?;
        let accounts = self.accounts(&shard.accounts)?;
        let shard =
            EndpointShard { accounts, ..EndpointShard::new(self.cluster.clone(), service, endpoints) };
        Ok((key, Arc::new(shard)))
    }

    fn endpoint(&self, endpoint: &proto::Endpoint) -> Decoded<Endpoint> {
        let addresses = addresses(&endpoint.addresses)?;
        let workload = at(&self.workloads, "workload", endpoint.workload)?;
        if addresses.is_empty() && workload.network.is_empty() {
            return Err("an endpoint without an address".to_owned());
        }
        Ok(Endpoint {
            addresses: addresses.into(),
            port: port(endpoint.port)?,
            port_name: self.text(endpoint.port_name)?,
            health: match known(endpoint.health)? {
                proto::Health::Healthy => Health::Healthy,
                proto::Health::Unhealthy => Health::Unhealthy,
                proto::Health::Draining => Health::Draining,
                proto::Health::Terminating => Health::Terminating,
            },
            weight: NonZeroU32::new(endpoint.weight),
            exposure: Exposure::new(
                match endpoint.same_cluster {
                    true => Discoverability::SameCluster,
                    false => Discoverability::Always,
                },
                !endpoint.hide_unhealthy,
            ),
            workload: Arc::clone(workload),
        })
    }

    fn service(&self, key: &ServiceKey, service: proto::Service) -> Decoded<Service> {
        let vips = |vips: &proto::Vips| {
            let cluster = ClusterId::from(&*self.text(vips.cluster)?);
            if cluster != self.cluster {
                return Err(format!("virtual addresses of cluster {cluster}"));
            }
            Ok((cluster, addresses(&vips.addresses)?))
        };
        Ok(Service {
            key: key.clone(),
            ports: service.ports.iter().map(|port| self.port(port)).collect::<Decoded<_>>()?,
            vips: service.vips.iter().map(vips).collect::<Decoded<_>>()?,
            resolution: match known(service.resolution)? {
                proto::Resolution::ClientSide => Resolution::ClientSide,
                proto::Resolution::Passthrough => Resolution::Passthrough,
                proto::Resolution::Alias => Resolution::Alias(self.text(service.alias)?),
                proto::Resolution::Dns => Resolution::Dns,
                proto::Resolution::DnsRoundRobin => Resolution::DnsRoundRobin,
            },
            labels: self.map(&service.labels)?,
            export_to: match known(service.export_to)? {
                proto::ExportTo::ExportEverywhere => ExportTo::Everywhere,
                proto::ExportTo::ExportNowhere => ExportTo::Nowhere,
                proto::ExportTo::ExportUnset => ExportTo::Unset,
                proto::ExportTo::ExportNamespaces => {
                    ExportTo::Namespaces(self.names(&service.export_namespaces)?)
                }
            },
            node_local: service.node_local,
            publish_not_ready: service.publish_not_ready,
            created: service.created,
            traffic_distribution: match known(service.traffic_distribution)? {
                proto::TrafficDistribution::Any => TrafficDistribution::Any,
                proto::TrafficDistribution::PreferSameZone => TrafficDistribution::PreferSameZone,
                proto::TrafficDistribution::PreferSameNode => TrafficDistribution::PreferSameNode,
            },
            import: match known(service.import)? {
                proto::Import::No => Import::No,
                proto::Import::Offered => Import::Offered,
                proto::Import::Own => Import::Own,
                proto::Import::Foreign => Import::Foreign,
            },
            accounts: self.accounts(&service.accounts)?,
            entry: service.entry.map(|entry| self.entry(&entry).map(Arc::new)).transpose()?,
            ingress_waypoint: service
                .ingress_waypoint
                .map(|waypoint| self.key(Some(&waypoint)))
                .transpose()?,
        })
    }

    fn entry(&self, entry: &proto::Entry) -> Decoded<EntryFacts> {
        let block = |text: &u32| {
            let text = self.text(*text)?;
            text.parse().map_err(|_| "a block of addresses that is none".to_owned())
        };
        Ok(EntryFacts {
            mesh_external: entry.mesh_external,
            blocks: entry.blocks.iter().map(block).collect::<Decoded<_>>()?,
            alt_names: entry.alt_names.iter().map(|name| self.text(*name)).collect::<Decoded<_>>()?,
            inline: entry.inline.iter().map(|endpoint| self.inline(endpoint)).collect::<Decoded<_>>()?,
        })
    }

    fn inline(&self, endpoint: &proto::InlineEndpoint) -> Decoded<InlineEndpoint> {
        use proto::inline_endpoint::Address;
        Ok(InlineEndpoint {
            address: match &endpoint.address {
                Some(Address::Ip(bytes)) => InlineAddress::Ip(address(bytes)?),
                Some(Address::Host(host)) => InlineAddress::Host(self.text(*host)?),
                Some(Address::Unix(path)) => InlineAddress::Unix(self.text(*path)?),
                None => InlineAddress::Absent,
            },
            port: port(endpoint.port)?,
            port_name: self.text(endpoint.port_name)?,
            weight: NonZeroU32::new(endpoint.weight),
            workload: Arc::clone(at(&self.workloads, "workload", endpoint.workload)?),
        })
    }

    fn port(&self, given: &proto::Port) -> Decoded<ServicePort> {
        Ok(ServicePort {
            number: port(given.number)?,
            name: self.text(given.name)?,
            transport: match known(given.transport)? {
                proto::Transport::Tcp => Transport::Tcp,
                proto::Transport::Udp => Transport::Udp,
                proto::Transport::Sctp => Transport::Sctp,
            },
            protocol: match known(given.protocol)? {
                proto::Protocol::Auto => PortProtocol::Auto,
                proto::Protocol::Http => PortProtocol::Http,
                proto::Protocol::Http2 => PortProtocol::Http2,
                proto::Protocol::Grpc => PortProtocol::Grpc,
                proto::Protocol::GrpcWeb => PortProtocol::GrpcWeb,
                proto::Protocol::Https => PortProtocol::Https,
                proto::Protocol::Tls => PortProtocol::Tls,
                proto::Protocol::Tcp => PortProtocol::Tcp,
                proto::Protocol::Udp => PortProtocol::Udp,
            },
        })
    }
}

fn at<'a, T>(all: &'a [T], what: &str, place: u32) -> Decoded<&'a T> {
    let item = usize::try_from(place).ok().and_then(|place| all.get(place));
    item.ok_or_else(|| format!("there is no {what} {place}"))
}
