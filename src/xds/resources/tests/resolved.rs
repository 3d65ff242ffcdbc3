//! Envoy clusters that are told of the endpoints whose names they resolve (R3.14, R4.29–R4.36).

use std::process::Command;
use std::sync::Arc;

use envoy_types::pb::envoy::config::cluster::v3 as cds;
use envoy_types::pb::envoy::config::cluster::v3::cluster::common_lb_config::LocalityConfigSpecifier;
use envoy_types::pb::envoy::config::endpoint::v3::LbEndpoint;
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use prost::Message;

use super::clusters::{entry, policies};
use super::fixtures::{built_under, find, sidecar};
use super::validate::{document, envoy, generated};
use crate::model::policy::{Distribute, Failover, LocalityLb, MeshConfig, OutlierDetection, ZoneAwareLb};
use crate::model::{
    EntryFacts, InterceptionMode, Locality, Resolution, Service, ServiceKey, TlsMode, WorkloadParts,
};

/// A service of the mesh with a host name in each of three localities.
fn resolved(resolution: Resolution, name: &str) -> Service {
    let hosts = ["a.example", "b.example", "c.example"];
    let service = entry(resolution, &hosts);
    let mut facts = EntryFacts::clone(service.entry.as_deref().expect("an entry"));
    facts.mesh_external = false;
    for (endpoint, locality) in facts.inline.iter_mut().zip(["r1/z1", "r1/z2", "r2/z1"]) {
        let parts = WorkloadParts {
            namespace: "sample".into(),
            name: "w".into(),
            locality: Locality::parse(locality),
            tls_mode: TlsMode::Istio,
            ..WorkloadParts::default()
        };
        endpoint.workload = Arc::new(parts.into());
    }
    let key = ServiceKey::new("sample", format!("{name}.example.org"));
    Service { key, entry: Some(Arc::new(facts)), ..service }
}

fn settings() -> Vec<MeshConfig> {
    let locality = |setting| MeshConfig { locality_lb: Some(setting), ..MeshConfig::default() };
    let failover = vec![Failover { from: "r1".into(), to: "r2".into() }];
    let to = vec![("r1/*".into(), 70), ("r2/*".into(), 30)];
    let distribute = vec![Distribute { from: "r1/*".into(), to }];
    vec![
        locality(LocalityLb { failover, ..LocalityLb::default() }),
        locality(LocalityLb { distribute, ..LocalityLb::default() }),
        MeshConfig { zone_aware_lb: Some(ZoneAwareLb::default()), ..MeshConfig::default() },
        MeshConfig { outlier_detection: Some(OutlierDetection::default()), ..MeshConfig::default() },
    ]
}

fn host(endpoint: &LbEndpoint) -> String {
    let Some(HostIdentifier::Endpoint(endpoint)) = &endpoint.host_identifier else { return String::new() };
    format!("{:?}", endpoint.address).split('"').nth(1).unwrap_or_default().to_owned()
}

/// `zone priority weight: host …`.
fn told(cluster: &cds::Cluster) -> Vec<String> {
    let groups = &cluster.load_assignment.as_ref().expect("told with it").endpoints;
    let one = |group: &envoy_types::pb::envoy::config::endpoint::v3::LocalityLbEndpoints| {
        let locality = group.locality.as_ref().expect("a locality");
        let weight = group.load_balancing_weight.as_ref().map_or(0, |weight| weight.value);
        let hosts: Vec<_> = group.lb_endpoints.iter().map(host).collect();
        format!("{}/{} {} {weight}: {}", locality.region, locality.zone, group.priority, hosts.join(" "))
    };
    groups.iter().map(one).collect()
}

fn made(service: &Service, mesh: MeshConfig) -> cds::Cluster {
    let key = sidecar(InterceptionMode::Redirect);
    let made = built_under(service, &key, &policies(mesh, None), &[]);
    assert!(made.clusters.is_empty(), "it differs by place");
    let (_, clusters) = made.placed.iter().next().expect("one place");
    find(clusters, &format!("outbound|443||{}", service.key.hostname))
}

fn is_weighted(cluster: &cds::Cluster) -> bool {
    let common = cluster.common_lb_config.as_ref().expect("always there");
    matches!(common.locality_config_specifier, Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(_)))
}

#[test]
fn r4_36_localities_are_weighted_where_their_weights_and_priorities_are_told() {
    let strict = resolved(Resolution::Dns, "strict");
    let [failover, distribute, _, outliers] = settings().try_into().expect("four");
    let cluster = made(&strict, failover);
    let ordered = ["r1/z1 0 1: a.example", "r1/z2 1 1: b.example", "r2/z1 2 1: c.example"];
    assert_eq!((told(&cluster), is_weighted(&cluster)), (ordered.map(str::to_owned).to_vec(), true));
    let cluster = made(&strict, distribute.clone());
    let shared = ["r1/z1 0 35: a.example", "r1/z2 0 35: b.example", "r2/z1 0 30: c.example"];
    assert_eq!((told(&cluster), is_weighted(&cluster)), (shared.map(str::to_owned).to_vec(), true));
    let cluster = made(&strict, outliers);
    assert_eq!((told(&cluster), is_weighted(&cluster)), (ordered.map(str::to_owned).to_vec(), false));
    let logical = made(&resolved(Resolution::DnsRoundRobin, "logical"), distribute);
    assert_eq!(told(&logical), ["r1/z1 0 70: a.example"], "the share of its pattern, of one locality");
}

#[test]
fn r4_13_and_r4_14_endpoints_say_who_they_are() {
    let cluster = made(&resolved(Resolution::Dns, "strict"), settings().remove(0));
    let endpoints = &cluster.load_assignment.expect("told with it").endpoints[0].lb_endpoints;
    let metadata = endpoints[0].metadata.as_ref().expect("metadata");
    let text = |filter: &str, key: &str| format!("{:?}", metadata.filter_metadata[filter].fields[key]);
    assert!(text("envoy.transport_socket_match", "tlsMode").contains("\"istio\""));
    assert!(text("istio", "workload").contains(";sample;"));
}

#[test]
fn a_real_envoy_accepts_endpoints_that_it_resolves() {
    let Some(envoy) = envoy() else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let services = [resolved(Resolution::Dns, "strict"), resolved(Resolution::DnsRoundRobin, "logical")];
    for (at, mesh) in settings().into_iter().enumerate() {
        let made = generated(&sidecar(InterceptionMode::Redirect), &policies(mesh, None), &services);
        let mut document = document(made);
        let clusters = document.static_resources.iter_mut().flat_map(|all| &mut all.clusters);
        let told = clusters.filter(|cluster| cluster.load_assignment.is_some());
        // Secrets of the stream are not there yet.
        let told: Vec<_> = told.map(|cluster| cluster.transport_socket_matches.clear()).collect();
        assert_eq!(told.len(), services.len());
        let file = directory.path().join(format!("{at}.pb"));
        std::fs::write(&file, document.encode_to_vec()).expect("written");
        let arguments = ["--mode", "validate", "--log-level", "error", "--concurrency", "1", "-c"];
        let answer = Command::new(&envoy).args(arguments).arg(&file).output().expect("Envoy starts");
        assert!(answer.status.success(), "world {at}: {}", String::from_utf8_lossy(&answer.stderr));
    }
}
