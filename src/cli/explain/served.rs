//! Explanations as operators read them: a world of three clusters, through the server's pages, as text.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tower::ServiceExt as _;

use super::{Detail, told};
use crate::admin::{Sources, XdsStatus, http_pages};
use crate::model::policy::{MeshConfig, OutlierDetection};
use crate::model::{
    ClusterHealth, ClusterRole, ClusterStatus, Endpoint, EndpointShard, EntryFacts, ExportTo, GatewayHost,
    Health, InlineAddress, InlineEndpoint, Locality, Moment, NetworkGateway, Node, NodeMetadata,
    PortProtocol, ProxyView, Resolution, Service, ServiceKey, ServicePort, StaleCause, TlsMode, Transport,
    WorkloadCell, WorkloadParts,
};
use crate::registry::{NetworkClaim, Registry};
use crate::telemetry::XdsSample;
use crate::xds::status::StreamStatus;

/// One connected proxy, `sleep` in east.
struct OneProxy;

impl XdsStatus for OneProxy {
    fn streams(&self) -> Vec<StreamStatus> {
        let metadata = NodeMetadata {
            cluster_id: "east".to_owned(),
            network: "net-east".to_owned(),
            namespace: "sample".to_owned(),
            ..NodeMetadata::default()
        };
        let id = "sidecar~10.0.0.9~sleep.sample~sample.svc.cluster.local";
        let locality = Locality::parse("eu-east/a");
        let node = Node::parse(id, metadata, locality, std::iter::empty()).expect("a node");
        let pod = WorkloadParts {
            network: "net-east".into(),
            locality: Locality::parse("eu-east/a"),
            ..WorkloadParts::of(&node.workload)
        };
        let services = [ServiceKey::new("sample", "helloworld.sample.svc.cluster.local")].into();
        let pod = WorkloadCell { services, ..WorkloadCell::from(pod) };
        let view = ProxyView::new(&node, Some(pod), &"".into(), Default::default());
        vec![StreamStatus {
            connection_id: format!("{id}-1"),
            node: Arc::new(node),
            view: Arc::new(view),
            peer: None,
            connected_at: SystemTime::UNIX_EPOCH,
            unread_since: None,
            protocol: "delta",
            types: Default::default(),
        }]
    }

    fn sample(&self) -> XdsSample {
        XdsSample::default()
    }
}

/// So many minutes ago, and a little: what is shown in minutes stays the same while a test runs.
fn minutes_ago(minutes: u64) -> Moment {
    Moment::now().before(Duration::from_secs(minutes * 60 + 2))
}

fn service(host: &str, export_to: ExportTo) -> Service {
    let port = |number, name: &str| ServicePort {
        number,
        name: name.into(),
        transport: Transport::Tcp,
        protocol: PortProtocol::Http,
    };
    Service {
        key: ServiceKey::new("sample", host),
        ports: vec![port(5000, "http"), port(9090, "metrics")],
        export_to,
        ..Service::default()
    }
}

/// A pod in a few words.
struct Pod(&'static str, &'static str, &'static str, Health, TlsMode);

fn endpoints(cluster: &str, pods: &[Pod]) -> Vec<Endpoint> {
    let of = |Pod(name, address, locality, health, tls_mode): &Pod| {
        let workload = WorkloadParts {
            cluster: cluster.into(),
            network: format!("net-{cluster}").into(),
            namespace: "sample".into(),
            name: (*name).into(),
            locality: Locality::parse(locality),
            tls_mode: *tls_mode,
            ..WorkloadParts::default()
        };
        let workload: Arc<crate::model::Workload> = Arc::new(workload.into());
        let address = address.parse().expect("an address");
        [(8080, "http"), (9091, "metrics")].map(|(port, name)| {
            let endpoint = Endpoint::new(address, port, name, Arc::clone(&workload));
            Endpoint { health: *health, ..endpoint }
        })
    };
    pods.iter().flat_map(of).collect()
}

fn feed(registry: &Arc<Registry>, cluster: &str, gateways: &[&str], pods: &[Pod]) {
    let role = if cluster == "east" { ClusterRole::Config } else { ClusterRole::Remote };
    let network = format!("net-{cluster}");
    let mut writer = registry.writer(cluster.into(), role).expect("the only writer");
    let gateway = |address: &&str| {
        let address = address.parse().expect("an address");
        NetworkGateway::new(network.as_str().into(), cluster.into(), address)
    };
    writer.set_networks(Some(network.as_str().into()), gateways.iter().map(gateway).collect());
    let private = ExportTo::Namespaces(["sample".into()].into());
    for service in [
        service("helloworld.sample.svc.cluster.local", ExportTo::Unset),
        service("private.sample.svc.cluster.local", private),
    ] {
        let (key, all) = (service.key.clone(), endpoints(cluster, pods));
        writer.set(key, EndpointShard::new(cluster.into(), Some(Arc::new(service)), all));
    }
}

/// A service of host names on three networks, of which Envoy resolves those it reaches and the name of a gateway.
fn resolved(registry: &Arc<Registry>) {
    let endpoint = |host: &str, network: &str, locality: &str| {
        let workload = WorkloadParts {
            cluster: "south".into(),
            network: network.into(),
            namespace: "sample".into(),
            locality: Locality::parse(locality),
            tls_mode: TlsMode::Istio,
            ..WorkloadParts::default()
        };
        InlineEndpoint {
            address: InlineAddress::Host(host.into()),
            port: 5432,
            port_name: "http".into(),
            weight: None,
            workload: Arc::new(workload.into()),
        }
    };
    let inline = vec![
        endpoint("db-1.example", "net-east", "eu-east/a"),
        endpoint("db-2.example", "net-south", "eu-south/a"),
        endpoint("db-3.example", "net-north", "eu-north/a"),
    ];
    let host = GatewayHost {
        network: "net-south".into(),
        host: "gw.south.example".into(),
        port: 15443,
        hbone_port: 0,
        cluster: "south".into(),
    };
    let mut writer = registry.writer("south".into(), ClusterRole::Remote).expect("the only writer");
    writer.claim_networks(NetworkClaim {
        network: Some("net-south".into()),
        gateways: Vec::new(),
        hosts: vec![host],
    });
    let mut service = service("db.example", ExportTo::Unset);
    (service.resolution, service.ports[1].number) = (Resolution::Dns, 9091);
    service.entry = Some(Arc::new(EntryFacts { inline, ..EntryFacts::default() }));
    writer.set(service.key.clone(), EndpointShard::new("south".into(), Some(Arc::new(service)), Vec::new()));
}

fn clusters(registry: &Registry) {
    let mut east = ClusterStatus::new("east".into(), ClusterRole::Config, "file /k/east");
    (east.health, east.since) = (ClusterHealth::Live, minutes_ago(65));
    let mut west = ClusterStatus::new("west".into(), ClusterRole::Remote, "secret istio-system/west");
    let cause = StaleCause::Unreachable("Pod: connection refused".to_owned());
    west.health = ClusterHealth::Stale { since: minutes_ago(90), cause };
    west.since = minutes_ago(89);
    let mut north = ClusterStatus::new("north".into(), ClusterRole::Remote, "secret istio-system/north");
    (north.health, north.since) = (ClusterHealth::Live, minutes_ago(3000));
    for status in [east, west, north] {
        registry.clusters().put(status);
    }
}

fn registry() -> Arc<Registry> {
    use Health::{Healthy, Unhealthy};
    use TlsMode::{Disabled, Istio};
    let registry = Registry::new();
    let east = [
        Pod("hello-e1", "10.1.0.1", "eu-east/a", Healthy, Istio),
        Pod("hello-e2", "10.1.0.2", "eu-east/b", Unhealthy, Disabled),
    ];
    let west = [
        Pod("hello-w1", "10.1.0.1", "eu-west/a", Healthy, Istio),
        Pod("hello-w2", "10.1.0.2", "eu-west/a", Healthy, Istio),
        Pod("hello-w3", "10.1.0.3", "eu-west/b", Healthy, Istio),
        Pod("hello-w4", "10.1.0.4", "eu-west/b", Unhealthy, Istio),
        Pod("hello-w5", "10.1.0.5", "eu-west/b", Healthy, Disabled),
    ];
    feed(&registry, "east", &["192.0.2.1"], &east);
    feed(&registry, "west", &["192.0.2.2", "192.0.2.3"], &west);
    resolved(&registry);
    feed(&registry, "north", &[], &[Pod("hello-n1", "10.1.0.1", "eu-north/a", Healthy, Istio)]);
    let outlier_detection = Some(OutlierDetection::default());
    registry.write_mesh_config(MeshConfig { outlier_detection, ..MeshConfig::default() });
    clusters(&registry);
    registry
}

fn sources() -> Arc<Sources> {
    Arc::new(Sources::just_begun(registry(), Arc::new(OneProxy)))
}

/// What the page says of a question on the command line, as the client asks it.
async fn answer(args: &[&str]) -> (StatusCode, String) {
    use clap::Parser as _;

    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        args: super::Args,
    }
    let line = ["explain"].into_iter().chain(args.iter().copied());
    let command = Command::try_parse_from(line).expect("valid arguments");
    let request = Request::get(super::path(&command.args)).body(Body::empty()).expect("a path");
    let answer = http_pages(sources()).oneshot(request).await.expect("infallible");
    let status = answer.status();
    let body = answer.into_body().collect().await.expect("a body").to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

async fn shown(args: &[&str], detail: Detail) -> String {
    let (status, text) = answer(args).await;
    assert_eq!(status, StatusCode::OK, "{args:?}: {text}");
    told(&serde_json::from_str::<Value>(&text).expect("JSON"), detail)
}

fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/explain").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).expect("writable");
    }
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(known, text, "{name} differs: UPDATE_GOLDEN=1 accepts the change");
}

#[tokio::test]
async fn explanations_are_the_known_ones() {
    let sleep = ["--proxy", "sleep.sample"];
    let of = |host, more: &[&'static str]| [&[host][..], &sleep, more].concat();
    let hello = "helloworld.sample:5000";
    golden("short.txt", &shown(&of(hello, &[]), Detail::Short).await);
    golden("wide.txt", &shown(&of(hello, &[]), Detail::Checks).await);
    golden("endpoint.txt", &shown(&of(hello, &["--endpoint", "10.1.0.5"]), Detail::Checks).await);
    golden("sni-dnat.txt", &shown(&of(hello, &["--sni-dnat"]), Detail::Short).await);
    golden("no-subset.txt", &shown(&of(hello, &["--subset", "v9"]), Detail::Short).await);
    golden("siblings.txt", &shown(&of("local_cluster", &[]), Detail::Checks).await);
    golden("resolved.txt", &shown(&of("db.example:5000", &[]), Detail::Checks).await);
    let shop = ["private.sample:5000", "--as", "network=net-east,cluster=east,namespace=shop"];
    golden("export-to.txt", &shown(&shop, Detail::Short).await);
}

#[tokio::test]
async fn the_name_of_an_envoy_cluster_is_as_good_as_flags() {
    let sleep = ["--proxy", "sleep.sample"];
    let by_name = ["outbound_.5000_._.helloworld.sample.svc.cluster.local"];
    let by_flags = ["helloworld.sample:5000", "--sni-dnat"];
    let ask = |question: &[&'static str]| [question, &sleep[..]].concat();
    let (name, flags) = (ask(&by_name), ask(&by_flags));
    assert_eq!(shown(&name, Detail::Short).await, shown(&flags, Detail::Short).await);
    let subset = ask(&["outbound|5000|v9|helloworld.sample.svc.cluster.local"]);
    assert!(shown(&subset, Detail::Short).await.contains("nothing is sent: hidden/no-subset"));
}

#[tokio::test]
async fn r4_9_10_the_view_of_a_proxys_siblings_has_their_name_and_no_others() {
    let request = Request::get("/debug/view?host=local_cluster&proxy=sleep.sample").body(Body::empty());
    let answer = http_pages(sources()).oneshot(request.expect("a path")).await.expect("infallible");
    let body = answer.into_body().collect().await.expect("a body").to_bytes();
    let answer: Value = serde_json::from_slice(&body).expect("JSON");
    let port = &answer["ports"][0];
    assert_eq!((&port["name"], &port["port"]), (&"local_cluster".into(), &5000.into()));
    let sent = port["endpoints"].as_array().expect("endpoints");
    assert_eq!(sent.iter().map(|one| &one["pod"]).collect::<Vec<_>>(), ["hello-e1"]);
    let hidden = port["hidden"].as_array().expect("endpoints");
    assert!(hidden.iter().any(|one| one["reason"] == "hidden/other-workload"), "{hidden:?}");
}

#[tokio::test]
async fn what_is_not_there_is_answered_by_what_was_meant() {
    for (args, words) in [
        (["helloword.sample", "--proxy", "sleep"], "did you mean helloworld.sample?"),
        (["helloworld.smaple", "--proxy", "sleep"], "did you mean helloworld.sample?"),
        (
            ["nothing.like.it", "--proxy", "sleep"],
            "no service \"nothing.like.it\" in any cluster (hidden/no-service);",
        ),
        (["helloworld.sample", "--proxy", "slep.sample"], "did you mean sleep.sample?"),
        (["helloworld.sample:80", "--proxy", "sleep"], "has no TCP port 80; it has 5000, 9090"),
        (["helloworld.sample", "--as", "cluster=eats"], "no cluster \"eats\"; there are east, north, west"),
        (["outbound|5000|x", "--proxy", "sleep"], "outbound|PORT|SUBSET|HOST"),
        (["local_cluster", "--as", "cluster=east"], "which only a connected one has: give proxy=ID"),
        (["local_cluster:5000", "--proxy", "sleep"], "is one name; leave port out"),
    ] {
        let (status, text) = answer(&args).await;
        assert!(status.is_client_error(), "{args:?}: {status}");
        assert!(text.contains(words) && text.lines().count() == 1, "{args:?}: {text}");
    }
}
