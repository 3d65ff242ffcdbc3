//! Envoy clusters and the metadata of endpoints speak of one thing (R4.12, R4.18).

use std::sync::Arc;

use envoy_types::pb::envoy::config::cluster::v3 as cds;
use envoy_types::pb::envoy::config::core::v3::transport_socket::ConfigType;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls;

use super::clusters::{policies, rule, subset};
use super::fixtures::{HOST, built_under, find, port, service, sidecar, unpack};
use crate::model::policy::{
    ClientTls, ClientTlsMode, DestinationRule, LoadBalancer, MeshConfig, PolicyId, PortPolicy, TrafficPolicy,
    TrafficSettings,
};
use crate::model::{
    ClusterRole, Endpoint, EndpointShard, InterceptionMode, PortProtocol, TlsMode, WorkloadParts,
};
use crate::registry::{PolicySnapshot, Registry};
use crate::view::{EdsKey, EdsName, Inputs, MeshRules, assign};

/// What a level says.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Says {
    /// It is not there.
    Absent,
    /// Nothing of TLS, but something else.
    Else,
    Mode(ClientTlsMode),
}

const ALL: [Says; 6] = [
    Says::Absent,
    Says::Else,
    Says::Mode(ClientTlsMode::Disable),
    Says::Mode(ClientTlsMode::IstioMutual),
    Says::Mode(ClientTlsMode::Simple),
    Says::Mode(ClientTlsMode::Mutual),
];

fn settings(says: Says) -> TrafficSettings {
    let tls = match says {
        Says::Mode(mode) => Some(ClientTls { mode, ..ClientTls::default() }),
        _ => None,
    };
    let load_balancer = (says == Says::Else).then(LoadBalancer::default);
    TrafficSettings { tls, load_balancer, ..TrafficSettings::default() }
}

fn level(general: Says, of_port: Says) -> TrafficPolicy {
    let own = (of_port != Says::Absent).then(|| PortPolicy { port: 80, settings: settings(of_port) });
    TrafficPolicy { settings: settings(general), ports: own.into_iter().collect() }
}

/// How an Envoy cluster speaks to an endpoint that can speak mesh mTLS.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Speaks {
    Plaintext,
    /// As the endpoint's metadata say.
    Either,
    Mesh,
    Outside,
}

fn speaks(cluster: &cds::Cluster) -> Speaks {
    let Some(socket) = &cluster.transport_socket else {
        let matched = !cluster.transport_socket_matches.is_empty();
        return if matched { Speaks::Either } else { Speaks::Plaintext };
    };
    let Some(ConfigType::TypedConfig(any)) = &socket.config_type else { panic!("{socket:?}") };
    let context: tls::UpstreamTlsContext = unpack(any);
    if context.sni.starts_with("outbound_.") { Speaks::Mesh } else { Speaks::Outside }
}

/// Whether the metadata of an endpoint with a sidecar ask for mesh mTLS.
fn asks(registry: &Registry, policies: &PolicySnapshot, subset: &str) -> bool {
    let name = EdsName { subset: subset.to_owned(), ..EdsName::outbound(80, &HOST.into()) };
    let found = registry.host(&name.host).first().expect("a service").load();
    let (networks, standings, mesh) = (registry.networks(), registry.standings(), MeshRules::default());
    let inputs = Inputs {
        service: &found,
        waypoint: None,
        networks: &networks,
        mesh: &mesh,
        standings: &standings,
        policies,
    };
    let rules = vec![PolicyId::new("sample", "rule")];
    let key = EdsKey { rules, ..EdsKey::plain("east", "", &crate::model::ServiceKey::new("sample", HOST)) };
    let assignment = assign(inputs, &name, &key, &mut ());
    let mut endpoints = assignment.endpoints();
    endpoints.next().expect("an endpoint").is_mtls()
}

#[test]
fn r4_12_clusters_and_endpoints_agree_whatever_levels_say() {
    let registry = Registry::new();
    let mut writer = registry.writer("east".into(), ClusterRole::Config).expect("one writer");
    let record = service("helloworld", vec![port(80, PortProtocol::Http)]);
    let workload = WorkloadParts {
        cluster: "east".into(),
        namespace: "sample".into(),
        labels: [("version".into(), "v1".into())].into_iter().collect(),
        tls_mode: TlsMode::Istio,
        ..WorkloadParts::default()
    };
    let endpoint = Endpoint::new("10.0.0.1".parse().expect("address"), 80, "p", workload);
    let shard = EndpointShard::new("east".into(), Some(Arc::new(record.clone())), vec![endpoint]);
    writer.set(record.key.clone(), shard);
    let levels = || ALL.into_iter().flat_map(|general| ALL.map(|of_port| (general, of_port)));
    for (host, of_subset) in levels().flat_map(|host| levels().map(move |of_subset| (host, of_subset))) {
        let v1 = crate::model::policy::Subset {
            policy: level(of_subset.0, of_subset.1),
            ..subset("v1", TrafficSettings::default())
        };
        let rule = DestinationRule {
            policy: level(host.0, host.1),
            subsets: vec![v1],
            ..rule(TrafficSettings::default())
        };
        let policies = policies(MeshConfig::default(), Some(rule));
        let made = built_under(&record, &sidecar(InterceptionMode::Redirect), &policies, &[]);
        for (name, order) in
            [("", vec![host.1, host.0]), ("v1", vec![of_subset.1, of_subset.0, host.1, host.0])]
        {
            let first = order.into_iter().find_map(|says| match says {
                Says::Mode(mode) => Some(mode),
                _ => None,
            });
            let expected = match first {
                None => (Speaks::Either, true),
                Some(ClientTlsMode::Disable) => (Speaks::Plaintext, false),
                Some(ClientTlsMode::IstioMutual) => (Speaks::Mesh, true),
                Some(ClientTlsMode::Simple | ClientTlsMode::Mutual) => (Speaks::Outside, false),
            };
            let cluster = find(&made.clusters, &format!("outbound|80|{name}|{HOST}"));
            let seen = (speaks(&cluster), asks(&registry, &policies, name));
            assert_eq!(seen, expected, "host {host:?}, subset {of_subset:?}, {name:?}");
        }
    }
}
