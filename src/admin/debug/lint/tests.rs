//! Every code both ways, over objects as they are read.

mod destinations;
mod precedence;
mod selectors;

use std::collections::BTreeMap;

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::*;
use crate::admin::{XdsStatus, http_pages};
use crate::ingest::read_policy;
use crate::model::policy::{MeshConfig, PolicyId};
use crate::model::{
    ClusterRole, ClusterStatus, Endpoint, EndpointShard, EntryFacts, ExportTo, Name, PortProtocol,
    Resolution, Service, ServicePort, Transport, WorkloadCell, WorkloadParts,
};
use crate::registry::{ClusterState, PolicyWrite};
use crate::telemetry::XdsSample;
use crate::view::lint::Severity;
use crate::xds::status::StreamStatus;

struct NoProxies;

impl XdsStatus for NoProxies {
    fn streams(&self) -> Vec<StreamStatus> {
        Vec::new()
    }

    fn sample(&self) -> XdsSample {
        XdsSample::default()
    }
}

fn host(name: &str) -> String {
    format!("{name}.svc.cluster.local")
}

fn service(namespace: &str, host: &str, port: u16) -> Service {
    let port = ServicePort {
        number: port,
        name: "http".into(),
        transport: Transport::Tcp,
        protocol: PortProtocol::Http,
    };
    Service { key: ServiceKey::new(namespace, host), ports: vec![port], ..Service::default() }
}

fn pod(namespace: &str, name: &str, labels: &[(&str, &str)]) -> WorkloadCell {
    let labels = labels.iter().map(|(label, value)| ((*label).into(), (*value).into())).collect();
    WorkloadCell::from(WorkloadParts {
        cluster: "east".into(),
        namespace: namespace.into(),
        name: name.into(),
        labels,
        ..WorkloadParts::default()
    })
}

fn only(namespace: &str) -> ExportTo {
    ExportTo::Namespaces([Name::from(namespace)].into())
}

/// Services: reviews (v1 runs), ratings (nothing runs) and `db` (seen in its namespace only) of shop, `audit` of ops (seen
/// there only), entries of shop for names outside, an imported host, another name. Pods: reviews, and a router.
fn services() -> Vec<(Service, Vec<Endpoint>)> {
    let reviews = pod("shop", "reviews-1", &[("app", "reviews"), ("version", "v1")]);
    let address = "10.0.0.1".parse().expect("an address");
    let endpoint = Endpoint::new(address, 8080, "http", WorkloadParts::from(&*reviews));
    let entry = |host: &str, resolution| Service {
        resolution,
        entry: Some(Arc::new(EntryFacts { mesh_external: true, ..EntryFacts::default() })),
        ..service("shop", host, 443)
    };
    vec![
        (service("shop", &host("reviews.shop"), 9080), vec![endpoint]),
        (service("shop", &host("ratings.shop"), 9080), Vec::new()),
        (Service { export_to: only("shop"), ..service("shop", &host("db.shop"), 5432) }, Vec::new()),
        (Service { export_to: only("ops"), ..service("ops", &host("audit.ops"), 80) }, Vec::new()),
        (entry("www.example.com", Resolution::Dns), Vec::new()),
        (entry("*.wiki.org", Resolution::Passthrough), Vec::new()),
        (service("shop", "reviews.shop.svc.clusterset.local", 9080), Vec::new()),
        (
            Service {
                resolution: Resolution::Alias("elsewhere.example".into()),
                ..service("shop", &host("other-name.shop"), 80)
            },
            Vec::new(),
        ),
    ]
}

/// An object: kind, `namespace/name`, spec.
type Written<'a> = (PolicyKind, &'a str, Value);

struct World {
    sources: Sources,
    told: PoliciesTold,
    unsynced: Vec<ClusterId>,
}

impl World {
    /// With these objects; all are of one age, so the first by name counts as the oldest.
    fn new(objects: &[Written<'_>]) -> Self {
        let registry = Registry::new();
        let mut east = registry.writer("east".into(), ClusterRole::Config).expect("the only writer");
        let shard = |(service, endpoints): (Service, Vec<Endpoint>)| {
            let shard = EndpointShard::new("east".into(), Some(Arc::new(service.clone())), endpoints);
            (service.key, Arc::new(shard))
        };
        let workloads = vec![
            pod("shop", "reviews-1", &[("app", "reviews"), ("version", "v1")]),
            pod(
                "edge",
                "router-1",
                &[("istio", "ingress"), ("gateway.networking.k8s.io/gateway-name", "public")],
            ),
        ];
        let shards: BTreeMap<_, _> = services().into_iter().map(shard).collect();
        east.replace(ClusterState { shards, workloads, ..ClusterState::default() });
        let read = |(kind, id, spec): &Written<'_>| {
            let (namespace, name) = id.split_once('/').expect("namespace/name");
            read_policy(*kind, PolicyId::new(namespace, name), spec).expect("a good object")
        };
        let in_use: Vec<_> = objects.iter().map(read).collect();
        registry.write_policies(in_use.iter().cloned().map(PolicyWrite::set));
        let sources = Sources::just_begun(registry, Arc::new(NoProxies));
        Self { sources, told: PoliciesTold { in_use, ..PoliciesTold::default() }, unsynced: Vec::new() }
    }

    fn findings(&self) -> Vec<Finding> {
        findings(&self.sources, &self.told, &self.unsynced)
    }

    /// `severity code namespace/name field`.
    fn found(&self) -> Vec<String> {
        let line = |one: Finding| {
            let (severity, code) = (one.severity.name(), one.code.name());
            format!("{severity} {code} {}/{} {}", one.namespace, one.name, one.field)
        };
        self.findings().into_iter().map(line).collect()
    }

    /// The messages of a code.
    fn messages(&self, code: Code) -> Vec<String> {
        let all = self.findings().into_iter().filter(|one| one.code == code);
        all.map(|one| one.message).collect()
    }
}

/// What is found among objects.
fn found(objects: &[Written<'_>]) -> Vec<String> {
    World::new(objects).found()
}

/// The messages of a code, as one text.
fn said(objects: &[Written<'_>], code: Code) -> String {
    World::new(objects).messages(code).join("\n")
}

/// A VirtualService `shop/routes` for the mesh and one destination.
fn routes(destination: Value) -> Written<'static> {
    let spec = json!({"hosts": ["web.example"], "http": [{"route": [{"destination": destination}]}]});
    (PolicyKind::VirtualService, "shop/routes", spec)
}

#[test]
fn names_of_codes_are_their_spelling_in_json() {
    for code in Code::ALL {
        assert_eq!(json!(code), code.name());
    }
    for severity in [Severity::Warning, Severity::Info] {
        assert_eq!(json!(severity), severity.name());
    }
}

#[test]
fn objects_that_say_what_is_there_are_fine() {
    let objects = [
        routes(json!({"host": "reviews", "subset": "v1", "port": {"number": 9080}})),
        (
            PolicyKind::DestinationRule,
            "shop/reviews",
            json!({"host": "reviews", "subsets": [{"name": "v1", "labels": {"version": "v1"}}]}),
        ),
        (PolicyKind::Sidecar, "shop/default", json!({"egress": [{"hosts": ["*/*"]}]})),
        (PolicyKind::PeerAuthentication, "shop/default", json!({"mtls": {"mode": "STRICT"}})),
        (PolicyKind::PeerAuthentication, "istio-system/default", json!({"mtls": {"mode": "STRICT"}})),
        (PolicyKind::AuthorizationPolicy, "shop/nothing", json!({})),
    ];
    assert_eq!(found(&objects), [""; 0]);
}

/// Status and JSON of the page; `null` for a refusal.
async fn page(sources: &Arc<Sources>, query: &str) -> (u16, Value) {
    let request = Request::get(format!("/debug/policies?{query}")).body(Body::empty()).expect("a path");
    let answer = http_pages(Arc::clone(sources)).oneshot(request).await.expect("infallible");
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.expect("a body").to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

#[tokio::test]
async fn the_page_restricts_counts_and_says_what_is_left_off() {
    let world = World::new(&[
        routes(json!({"host": "nobody"})),
        (
            PolicyKind::Sidecar,
            "shop/idle",
            json!({"workloadSelector": {"labels": {"app": "x"}}, "egress": [{"hosts": ["*/*"]}]}),
        ),
    ]);
    let sources = Arc::new(world.sources);
    let (status, all) = page(&sources, "lint").await;
    let first = &all["findings"][0];
    assert_eq!(
        (status, &all["counts"], &all["leftOff"]),
        (200, &json!({"warning": 1, "info": 1}), &json!(0))
    );
    assert_eq!((&first["code"], &first["severity"]), (&json!("unknown-host"), &json!("warning")));
    assert_eq!(
        (&first["kind"], &first["namespace"], &first["name"], &first["field"]),
        (&json!("VirtualService"), &json!("shop"), &json!("routes"), &json!("spec.http[0].route"))
    );
    assert!(first["message"].as_str().is_some_and(|text| text.contains("nobody.shop.svc.cluster.local")));
    let (_, one) = page(&sources, "lint=1&limit=1").await;
    assert_eq!((one["findings"].as_array().map(Vec::len), &one["leftOff"]), (Some(1), &json!(1)));
    for (query, count) in
        [("kind=Sidecar", 1), ("namespace=ops", 0), ("name=idle", 1), ("kind=ServiceEntry", 0)]
    {
        let (_, answer) = page(&sources, &format!("lint&{query}")).await;
        assert_eq!(answer["findings"].as_array().map(Vec::len), Some(count), "{query}");
    }
    for refused in ["lint&kind=Rule", "lint&limit=x", "lint&invalid", "lints"] {
        assert_eq!(page(&sources, refused).await.0, 400, "{refused}");
    }
    sources.registry.clusters().put(ClusterStatus::new("west".into(), ClusterRole::Remote, "test"));
    let (_, answer) = page(&sources, "lint").await;
    assert_eq!(answer["incomplete"], json!(["cluster west is not read completely yet"]));
    assert_eq!(answer["counts"], json!({"warning": 0, "info": 2}), "west may have the host");
    let told = PoliciesTold { unlisted: vec![PolicyKind::Gateway], ..PoliciesTold::default() };
    assert_eq!(incomplete(&told, &[]), ["no complete list of Gateway was read yet"]);
}
