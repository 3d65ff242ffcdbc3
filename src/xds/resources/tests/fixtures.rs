use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use envoy_types::pb::envoy::config::route::v3 as rds;
use envoy_types::pb::google::protobuf::Any;
use prost::Message;

use crate::model::{
    Dialect, Features, InterceptionMode, IpFamilies, Labels, Locality, PortProtocol, ProxyKind, Service,
    ServiceKey, ServicePort, SpiffeId, Transport, WorkloadId,
};
use crate::registry::PolicySnapshot;
use crate::view::{Behind, Client, MeshRules, OutboundKey, Passthrough, Place, WorkloadKey};
use crate::xds::resource::{Encoded, Entry};
use crate::xds::resources::{self, ServiceResources, Surroundings};

pub(super) const HOST: &str = "helloworld.sample.svc.cluster.local";

pub(crate) fn port(number: u16, protocol: PortProtocol) -> ServicePort {
    ServicePort { number, name: "p".into(), transport: Transport::Tcp, protocol }
}

/// A service of `sample` in east and west, with these ports.
pub(crate) fn service(name: &str, ports: Vec<ServicePort>) -> Service {
    let vip = |text: &str| vec![text.parse().expect("vip")];
    Service {
        key: ServiceKey::new("sample", format!("{name}.sample.svc.cluster.local")),
        ports,
        vips: vec![("east".into(), vip("10.96.0.10")), ("west".into(), vip("10.97.0.10"))],
        accounts: ["b", "a"]
            .iter()
            .filter_map(|account| SpiffeId::parse(&format!("spiffe://cluster.local/ns/sample/sa/{account}")))
            .collect(),
        ..Service::default()
    }
}

/// One port of each protocol.
pub(super) fn everything() -> Vec<ServicePort> {
    vec![
        port(80, PortProtocol::Http),
        port(81, PortProtocol::Http2),
        port(82, PortProtocol::Grpc),
        port(83, PortProtocol::GrpcWeb),
        port(443, PortProtocol::Https),
        port(444, PortProtocol::Tls),
        port(3306, PortProtocol::Tcp),
        port(9000, PortProtocol::Auto),
    ]
}

pub(crate) fn sidecar(mode: InterceptionMode) -> OutboundKey {
    OutboundKey {
        kind: ProxyKind::Sidecar,
        cluster: "east".into(),
        network: "net-east".into(),
        requested_view: Default::default(),
        namespace: "sample".into(),
        dns_domain: "sample.svc.cluster.local".into(),
        mode,
        dialect: Dialect::Vanilla,
        families: IpFamilies::V4,
        bind: (mode == InterceptionMode::None).then_some(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9))),
        east_west: false,
        sidecar: None,
        gateways: Vec::new(),
        tunnels: Vec::new(),
        targets: Vec::new(),
        labels: Labels::new(),
    }
}

/// What a service contributes without policies.
pub(super) fn built(service: &Service, key: &OutboundKey) -> ServiceResources {
    built_under(service, key, &PolicySnapshot::default(), &[])
}

/// What a service contributes under policies, in a world with these others.
pub(super) fn built_under(
    service: &Service,
    key: &OutboundKey,
    policies: &PolicySnapshot,
    others: &[Service],
) -> ServiceResources {
    around(key, policies, others, |around| resources::service(service, around))
}

/// Calls `make` in a world with these services. All pods of those whose names begin with `meshed` take mTLS.
pub(super) fn around<T>(
    key: &OutboundKey,
    policies: &PolicySnapshot,
    others: &[Service],
    make: impl FnOnce(&Surroundings<'_>) -> T,
) -> T {
    let lookup = |host: &str| {
        let found = others.iter().find(|service| service.key.hostname.as_str() == host);
        found.map(|service| Arc::new(service.clone()))
    };
    let behind = |service: &ServiceKey, _| Behind {
        addresses: ["10.0.0.1", "10.0.0.2"].map(|ip| ip.parse().expect("ip")).into(),
        takes_mtls: service.hostname.starts_with("meshed"),
        policies: Default::default(),
    };
    let client = Client::new(key, policies);
    let passthroughs = client.passthroughs();
    let places = [Place { locality: Some(Locality::parse("r1/z1")), labels: None }];
    make(&Surroundings {
        client,
        lookup: &lookup,
        behind: &behind,
        passthroughs: &passthroughs,
        places: &places,
    })
}

/// What a service contributes to sidecars under these switches.
pub(super) fn switched(service: &Service, policies: &PolicySnapshot, features: Features) -> ServiceResources {
    let (key, rules) = (sidecar(InterceptionMode::Redirect), MeshRules::default().with_features(features));
    around(&key, policies, &[], |around| {
        resources::service(service, &Surroundings { client: around.client.under(&rules), ..*around })
    })
}

pub(super) fn fixed(key: &OutboundKey) -> ServiceResources {
    resources::fixed(&Client::new(key, &PolicySnapshot::default()))
}

/// The port of a gateway that leads to everything.
pub(super) fn implicit() -> Passthrough<'static> {
    Passthrough { bind: None, port: 15443, hosts: None }
}

/// The route configuration over the first virtual host.
pub(super) fn table(
    made: &ServiceResources,
    key: &OutboundKey,
    policies: &PolicySnapshot,
) -> rds::RouteConfiguration {
    let (name, host) = &made.virtual_hosts[0];
    decode(&resources::route(name, &Client::new(key, policies), std::iter::once(host)))
}

pub(super) fn gateway() -> OutboundKey {
    OutboundKey { kind: ProxyKind::Router, east_west: true, ..sidecar(InterceptionMode::Redirect) }
}

pub(super) fn workload(mode: InterceptionMode) -> WorkloadKey {
    WorkloadKey {
        id: WorkloadId { cluster: "east".into(), namespace: "sample".into(), name: "helloworld-1".into() },
        kind: ProxyKind::Sidecar,
        addresses: vec![IpAddr::V4(Ipv4Addr::new(127, 0, 0, 7))],
        mode,
        dialect: Dialect::Vanilla,
        app_address: IpAddr::V4(Ipv4Addr::LOCALHOST),
    }
}

pub(super) fn decode<M: Message + Default>(encoded: &Encoded) -> M {
    let any = Any::decode(encoded.any.clone()).expect("any");
    M::decode(any.value.as_slice()).expect("message")
}

pub(super) fn find<M: Message + Default>(entries: &[Entry], name: &str) -> M {
    let entry = entries.iter().find(|entry| &*entry.name == name);
    let known: Vec<_> = entries.iter().map(|entry| entry.name.as_str()).collect();
    decode(&entry.unwrap_or_else(|| panic!("no {name} in {known:?}")).encoded)
}

pub(super) fn names(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.name.as_str()).collect()
}

pub(super) fn unpack<M: Message + Default + prost::Name>(any: &Any) -> M {
    assert_eq!(any.type_url, M::type_url());
    M::decode(any.value.as_slice()).expect(M::NAME)
}
