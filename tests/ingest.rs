//! Ingest against real HTTPS API servers: what the registry and the operators see.
#![allow(missing_docs, clippy::unwrap_used)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tombolo::ingest::{
    self, ConfigCluster, ConfigSource, Ingest, IngestOptions, ObjectKind, Remotes, RetryPolicy,
};
use tombolo::model::{ClusterHealth, ClusterStatus, ServiceKey, StartRule, WorkloadId};
use tombolo::registry::{Registry, ServiceSnapshot};
use tombolo::sim::apiserver::{ApiServer, Authority, RunningApiServer, Store, kinds};
use tombolo::view::{EdsKey, EdsName, Inputs, MeshRules, assign};
use tombolo::xds::resources;

#[path = "ingest/policies.rs"]
mod policies;

const LIMIT: Duration = Duration::from_secs(60);

async fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + LIMIT;
    while !check() {
        assert!(tokio::time::Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn namespace(name: &str, network: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name,
        "labels": {"topology.istio.io/network": network}}})
}

fn service(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "sample"},
        "spec": {"ports": [{"name": "http", "port": 5000}]}})
}

fn pod(name: &str, ip: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "sample",
        "labels": {"app": "helloworld", "security.istio.io/tlsMode": "istio"}},
        "spec": {"nodeName": "n1", "serviceAccountName": "default"},
        "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
            "conditions": [{"type": "Ready", "status": "True"}]}})
}

fn slice(service: &str, entries: &[(&str, &str)]) -> Value {
    let entries: Vec<_> = entries
        .iter()
        .map(|(pod, ip)| {
            json!({"addresses": [ip], "conditions": {"ready": true},
                "targetRef": {"kind": "Pod", "name": pod, "namespace": "sample"}})
        })
        .collect();
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": format!("{service}-1"), "namespace": "sample",
            "labels": {"kubernetes.io/service-name": service}},
        "endpoints": entries, "ports": [{"name": "http", "port": 5000}]})
}

fn gateway(network: &str, ip: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "eastwest", "namespace": "istio-system",
            "labels": {"topology.istio.io/network": network}},
        "spec": {"type": "LoadBalancer", "ports": [{"name": "tls", "port": 15443}]},
        "status": {"loadBalancer": {"ingress": [{"ip": ip}]}}})
}

/// A cluster with `helloworld`, one pod behind it, and a gateway.
fn world(network: &str, pod_ip: &str) -> Vec<Value> {
    vec![
        namespace("istio-system", network),
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "sample"}}),
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1",
            "labels": {"topology.kubernetes.io/region": "r1"}}}),
        service("helloworld"),
        pod("hello-1", pod_ip),
        slice("helloworld", &[("hello-1", pod_ip)]),
        gateway(network, "192.0.2.1"),
    ]
}

async fn server(name: &str, objects: Vec<Value>) -> RunningApiServer {
    ApiServer::builder().cluster(name).world(objects).start().await.unwrap()
}

/// A Secret with kubeconfigs by cluster id.
fn secret(name: &str, kubeconfigs: &[(&str, &str)]) -> Value {
    let data: serde_json::Map<String, Value> =
        kubeconfigs.iter().map(|(id, text)| ((*id).to_owned(), json!(BASE64.encode(text)))).collect();
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "istio-system",
        "labels": {"istio/multiCluster": "true"}}, "data": data})
}

struct Plane {
    registry: Arc<Registry>,
    ingest: Ingest,
    cancel: CancellationToken,
    _dir: tempfile::TempDir,
}

impl Drop for Plane {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

impl Plane {
    /// A control plane whose own cluster is `config`; remote ones come from its Secrets.
    async fn start(config: &RunningApiServer) -> Self {
        Self::start_with(config, |_| {}).await
    }

    async fn start_with(config: &RunningApiServer, change: impl FnOnce(&mut IngestOptions)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kubeconfig");
        std::fs::write(&path, config.kubeconfig()).unwrap();
        let mut options = IngestOptions {
            config: Some(ConfigCluster {
                id: "east".into(),
                source: ConfigSource::Kubeconfig { path, context: None },
            }),
            remotes: Remotes::Secrets,
            allow_loopback_clusters: true,
            removal_grace: Duration::from_millis(50),
            retry: RetryPolicy {
                first: Duration::from_millis(20),
                longest: Duration::from_millis(200),
                ..RetryPolicy::default()
            },
            ..IngestOptions::default()
        };
        change(&mut options);
        let registry = Registry::new();
        let cancel = CancellationToken::new();
        let ingest = ingest::start(options, Arc::clone(&registry), cancel.clone()).await.unwrap();
        Self { registry, ingest, cancel, _dir: dir }
    }

    async fn ready(&self) {
        assert!(tokio::time::timeout(LIMIT, self.ingest.wait_ready()).await.expect("ready in time"));
    }

    fn status(&self, cluster: &str) -> Option<ClusterStatus> {
        self.registry.clusters().get(&cluster.into())
    }

    fn health(&self, cluster: &str) -> &'static str {
        self.status(cluster).map_or("absent", |status| status.health.word())
    }

    async fn is(&self, cluster: &str, health: &str) {
        eventually(&format!("{cluster} is {health}"), || self.health(cluster) == health).await;
    }

    fn snapshot(&self, name: &str) -> Option<Arc<ServiceSnapshot>> {
        let key = ServiceKey::new("sample", format!("{name}.sample.svc.cluster.local"));
        self.registry.service(&key).map(|cell| cell.load())
    }

    /// Endpoint addresses of a service, by cluster.
    fn endpoints(&self, name: &str) -> Vec<String> {
        let snapshot = self.snapshot(name);
        let shards = snapshot.iter().flat_map(|snapshot| snapshot.shards.iter());
        shards
            .flat_map(|shard| {
                let show = |e: &tombolo::model::Endpoint| format!("{} {}", shard.cluster, e.addresses[0]);
                shard.endpoints.iter().map(show).collect::<Vec<_>>()
            })
            .collect()
    }

    fn publishes(&self) -> u64 {
        self.registry.counts().publishes.load(Ordering::Relaxed)
    }

    fn conversions(&self) -> u64 {
        self.ingest.counts().conversions.load(Ordering::Relaxed)
    }

    fn problems(&self) -> Vec<String> {
        let problems = self.ingest.problems().into_iter();
        problems.map(|problem| format!("{}: {}", problem.subject, problem.text)).collect()
    }
}

/// Everything that makes a new server the same one for its clients.
struct Identity {
    store: Store,
    authority: Authority,
    token: String,
    address: SocketAddr,
}

impl Identity {
    fn of(server: &RunningApiServer) -> Self {
        Self {
            store: server.store(),
            authority: server.authority().clone(),
            token: server.token().to_owned(),
            address: server.address(),
        }
    }

    async fn start(&self, name: &str) -> RunningApiServer {
        let builder = ApiServer::builder().cluster(name).store(self.store.clone());
        let builder = builder.authority(self.authority.clone()).token(self.token.clone());
        builder.listen(self.address).start().await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_appears_in_one_step_with_its_networks() {
    let east = server("east", world("net-east", "10.0.0.1")).await;
    let plane = Plane::start(&east).await;
    let changes = tokio::time::timeout(LIMIT, plane.registry.changes().next()).await.unwrap();
    assert_eq!(changes.services.len(), 2, "helloworld and the gateway's own service");
    assert!(changes.networks.contains("net-east") && changes.clusters.contains("east"));
    assert_eq!(changes.workloads.len(), 1);
    plane.ready().await;
    assert!(plane.registry.changes().take().is_empty());

    assert_eq!(plane.endpoints("helloworld"), ["east 10.0.0.1"]);
    let gateways: Vec<_> = plane.registry.networks().gateways().map(|g| g.address.to_string()).collect();
    assert_eq!(gateways, ["192.0.2.1"]);
    let id = WorkloadId { cluster: "east".into(), namespace: "sample".into(), name: "hello-1".into() };
    let workload = plane.registry.workload(&id).unwrap();
    assert_eq!(workload.locality().to_string(), "r1");
    assert_eq!(workload.services.len(), 1);
    plane.is("east", "live").await;
    let status = plane.status("east").unwrap();
    assert!(status.synced && status.objects["Pod"] == 1 && &*status.network == "net-east");
    assert_eq!(plane.ingest.counts().events(ObjectKind::Pod, ingest::EventKind::Add), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_slice_change_in_a_world_of_1000_services_is_one_conversion_and_one_publish() {
    let mut objects = world("net-east", "10.0.0.1");
    for n in 0..1000 {
        objects.push(service(&format!("s{n}")));
        objects.push(slice(&format!("s{n}"), &[("hello-1", "10.0.0.1")]));
    }
    let east = server("east", objects).await;
    let plane = Plane::start(&east).await;
    plane.ready().await;
    plane.is("east", "live").await;
    let (conversions, publishes) = (plane.conversions(), plane.publishes());
    let mut changed = slice("s7", &[("hello-1", "10.0.0.1")]);
    changed["endpoints"][0]["conditions"]["ready"] = json!(false);
    changed["endpoints"][0]["conditions"]["terminating"] = json!(false);
    plane.registry.changes().take();
    east.store().apply(changed).unwrap();
    let changes = tokio::time::timeout(LIMIT, plane.registry.changes().next()).await.unwrap();
    assert_eq!(changes.services.len(), 1);
    assert!(changes.services.values().all(|change| !change.record));
    assert_eq!(plane.conversions() - conversions, 1);
    assert_eq!(plane.publishes() - publishes, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_api_server_keeps_its_data_and_a_relist_drops_what_vanished() {
    let mut objects = world("net-east", "10.0.0.1");
    objects.push(service("vanishing"));
    let east = server("east", objects).await;
    let plane = Plane::start(&east).await;
    plane.ready().await;
    plane.is("east", "live").await;
    plane.registry.changes().take();
    let publishes = plane.publishes();

    let identity = Identity::of(&east);
    east.shutdown().await;
    plane.is("east", "stale").await;
    assert_eq!(plane.endpoints("helloworld"), ["east 10.0.0.1"]);
    assert_eq!(plane.publishes(), publishes);
    let status = plane.status("east").unwrap();
    assert!(status.synced && matches!(status.health, ClusterHealth::Stale { .. }));
    assert!(plane.problems().iter().any(|problem| problem.starts_with("cluster east:")));

    identity.store.delete(&kinds::SERVICES, "sample", "vanishing").unwrap();
    identity.store.apply(slice("helloworld", &[])).unwrap();
    identity.store.compact();
    let _east = identity.start("east").await;
    eventually("the vanished service is gone", || {
        plane.snapshot("vanishing").is_none_or(|snapshot| snapshot.service.is_none())
    })
    .await;
    eventually("the endpoint is gone", || plane.endpoints("helloworld").is_empty()).await;
    assert!(plane.snapshot("helloworld").unwrap().service.is_some(), "no endpoints is not no service");
    plane.is("east", "live").await;
    eventually("the problem is solved", || plane.problems().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_watches_are_taken_up_again_without_a_trace() {
    let east = server("east", world("net-east", "10.0.0.1")).await;
    let plane = Plane::start(&east).await;
    plane.ready().await;
    plane.is("east", "live").await;
    plane.registry.changes().take();
    let publishes = plane.publishes();
    east.disconnect_watches();
    let watches = || east.request_counts().get(&("watch", "pods".to_owned())).copied().unwrap_or_default();
    eventually("watches are open again", || watches() >= 2).await;
    plane.is("east", "live").await;
    assert_eq!(plane.publishes(), publishes);
    east.store().apply(slice("helloworld", &[])).unwrap();
    eventually("events arrive again", || plane.endpoints("helloworld").is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remote_cluster_comes_from_a_secret_and_goes_with_it() {
    let east = server("east", world("net-east", "10.0.0.1")).await;
    let west = server("west", world("net-west", "10.0.0.1")).await;
    east.store().create(secret("remotes", &[("west", &west.kubeconfig())])).unwrap();
    let plane = Plane::start(&east).await;
    plane.ready().await;
    assert!(plane.ingest.known_set_complete());
    assert_eq!(plane.endpoints("helloworld"), ["east 10.0.0.1", "west 10.0.0.1"]);
    let networks = |plane: &Plane| -> Vec<String> {
        let networks = plane.registry.networks();
        networks.gateways().map(|gateway| gateway.network.to_string()).collect()
    };
    assert_eq!(networks(&plane), ["net-east", "net-west"]);
    assert_eq!(plane.status("west").unwrap().source, "secret istio-system/remotes");

    east.store().delete(&kinds::SECRETS, "istio-system", "remotes").unwrap();
    eventually("west is gone", || plane.status("west").is_none()).await;
    assert_eq!(plane.endpoints("helloworld"), ["east 10.0.0.1"]);
    assert_eq!(networks(&plane), ["net-east"]);
}

/// What every cluster's sidecars are sent for `helloworld`, as bytes.
fn sent(plane: &Plane, clusters: &[&str]) -> Vec<(String, bytes::Bytes)> {
    let registry = &plane.registry;
    let (networks, standings, mesh) = (registry.networks(), registry.standings(), MeshRules::default());
    let name = EdsName::outbound(5000, &"helloworld.sample.svc.cluster.local".into());
    let service = registry.host(&name.host)[0].load();
    let answer = |cluster: &&str| {
        let network = networks.of_cluster(&(*cluster).into());
        let key = EdsKey::plain(*cluster, network, &ServiceKey::new("sample", name.host.clone()));
        let policies = registry.policies();
        let inputs = Inputs {
            waypoint: None,
            service: &service,
            networks: &networks,
            mesh: &mesh,
            standings: &standings,
            policies: &policies,
        };
        let assignment = assign(inputs, &name, &key, &mut ());
        ((*cluster).to_owned(), resources::assignment(&name.to_string(), &assignment).any)
    };
    clusters.iter().map(answer).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_one_cluster_leaves_every_byte_for_the_others_as_it_was() {
    let east = server("east", world("net-east", "10.0.0.1")).await;
    let west = server("west", world("net-west", "10.0.0.2")).await;
    let south = server("south", world("net-south", "10.0.0.3")).await;
    let remotes = secret("remotes", &[("west", &west.kubeconfig())]);
    east.store().create(remotes).unwrap();
    let plane = Plane::start(&east).await;
    plane.ready().await;
    plane.is("west", "live").await;
    let others = ["east", "west"];
    let without = sent(&plane, &others);
    let networks = plane.registry.networks().part(&"net-west".into());

    east.store().create(secret("more", &[("south", &south.kubeconfig())])).unwrap();
    plane.is("south", "live").await;
    let with = sent(&plane, &others);
    assert!(with.iter().zip(&without).all(|(with, without)| with != without), "its gateway is in both");
    east.store().delete(&kinds::SECRETS, "istio-system", "more").unwrap();
    eventually("south is gone", || plane.status("south").is_none()).await;
    assert_eq!(sent(&plane, &others), without);
    assert_eq!(plane.registry.networks().part(&"net-west".into()), networks, "not even a version differs");
}

#[tokio::test(flavor = "multi_thread")]
async fn d35_annotations_of_a_secret_are_followed_without_another_connection() {
    let east = server("east", world("net-east", "10.0.0.1")).await;
    let west = server("west", world("net-west", "10.0.0.2")).await;
    let mut remotes = secret("remotes", &[("west", &west.kubeconfig())]);
    remotes["metadata"]["annotations"] =
        json!({"tombolo.dev/start": "required", "tombolo.dev/stale": "never"});
    east.store().create(remotes.clone()).unwrap();
    let plane = Plane::start(&east).await;
    plane.ready().await;
    plane.is("west", "live").await;
    assert_eq!(plane.status("west").unwrap().start, StartRule::Required);
    let problems = plane.problems();
    assert!(problems.len() == 1 && problems[0].starts_with("cluster west, options: stale: `never`"));
    let lists = || west.request_counts().values().copied().sum::<u64>();
    let before = lists();
    remotes["metadata"]["annotations"] = json!({"tombolo.dev/stale": "demote"});
    east.store().apply(remotes).unwrap();
    eventually("the options are followed", || plane.problems().is_empty()).await;
    assert_eq!(plane.status("west").unwrap().start, StartRule::Optional);
    assert_eq!(lists(), before, "nothing is asked anew");
}

#[tokio::test(flavor = "multi_thread")]
async fn k_33_a_cluster_that_comes_back_within_the_grace_costs_nothing() {
    let east = server("east", world("net-east", "10.0.0.1")).await;
    let west = server("west", world("net-west", "10.0.0.2")).await;
    let remotes = secret("remotes", &[("west", &west.kubeconfig())]);
    east.store().create(remotes.clone()).unwrap();
    let plane = Plane::start_with(&east, |options| options.removal_grace = Duration::from_secs(3600)).await;
    plane.ready().await;
    plane.is("west", "live").await;
    let publishes = plane.publishes();
    east.store().delete(&kinds::SECRETS, "istio-system", "remotes").unwrap();
    plane.is("west", "removing").await;
    assert_eq!(plane.endpoints("helloworld").len(), 2);
    east.store().create(remotes).unwrap();
    plane.is("west", "live").await;
    assert_eq!(plane.publishes(), publishes);
}

#[tokio::test(flavor = "multi_thread")]
async fn k_30_rotated_credentials_with_equal_content_publish_nothing() {
    let east = server("east", world("net-east", "10.0.0.1")).await;
    let old = server("west", world("net-west", "10.0.0.2")).await;
    let store = old.store();
    let new = ApiServer::builder().cluster("west").store(store.clone()).start().await.unwrap();
    east.store().create(secret("remotes", &[("west", &old.kubeconfig())])).unwrap();
    let plane = Plane::start(&east).await;
    plane.ready().await;
    plane.is("west", "live").await;
    plane.registry.changes().take();
    let publishes = plane.publishes();

    // Bad ones first: the old generation keeps serving (K-31).
    let mut wrong = new.kubeconfig();
    wrong = wrong.replace(new.token(), "wrong");
    east.store().apply(secret("remotes", &[("west", &wrong)])).unwrap();
    eventually("the bad credentials are told of", || {
        plane.problems().iter().any(|problem| problem.starts_with("cluster west, new credentials"))
    })
    .await;
    assert_eq!(plane.health("west"), "live");

    east.store().apply(secret("remotes", &[("west", &new.kubeconfig())])).unwrap();
    eventually("the new generation serves", || plane.problems().is_empty()).await;
    old.shutdown().await;
    assert!(plane.registry.changes().take().is_empty());
    assert_eq!(plane.publishes(), publishes);
    store.apply(slice("helloworld", &[])).unwrap();
    eventually("events arrive by the new credentials", || plane.endpoints("helloworld") == ["east 10.0.0.1"])
        .await;
    assert_eq!(plane.health("west"), "live");
}

#[tokio::test(flavor = "multi_thread")]
async fn contract_9_bad_objects_cost_only_themselves() {
    let mut objects = world("net-east", "10.0.0.1");
    let mut bad = service("bad");
    bad["spec"]["publishNotReadyAddresses"] = json!("perhaps");
    objects.push(bad);
    let east = ApiServer::builder().cluster("east").world(objects).json_only().start().await.unwrap();
    let plane = Plane::start(&east).await;
    plane.ready().await;
    assert_eq!(plane.endpoints("helloworld"), ["east 10.0.0.1"]);
    let quarantined = plane.status("east").unwrap().quarantined;
    assert!(quarantined[0].starts_with("Service sample/bad: "), "{quarantined:?}");

    let mut worse = slice("helloworld", &[]);
    worse["endpoints"] = json!([{"addresses": "all"}]);
    east.store().apply(worse).unwrap();
    eventually("the bad slice is named", || plane.status("east").unwrap().quarantined.len() == 2).await;
    assert_eq!(plane.endpoints("helloworld"), ["east 10.0.0.1"], "the good version stays");
    east.store().apply(service("bad")).unwrap();
    eventually("the good service is served", || plane.snapshot("bad").is_some()).await;
    eventually("it is no longer named", || plane.status("east").unwrap().quarantined.len() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_remote_kubeconfigs_are_named_and_affect_nobody_else() {
    let east = server("east", world("net-east", "10.0.0.1")).await;
    let west = server("west", world("net-west", "10.0.0.2")).await;
    let exec = "clusters: [{name: x, cluster: {server: 'https://192.0.2.1'}}]\n\
        users: [{name: u, user: {exec: {command: canary}}}]\n\
        contexts: [{name: c, context: {cluster: x, user: u}}]\n";
    let kubeconfigs =
        [("west", &*west.kubeconfig()), ("exec", exec), ("yaml", "a: [canary"), ("east", "ignored")];
    east.store().create(secret("remotes", &kubeconfigs)).unwrap();
    let plane = Plane::start(&east).await;
    plane.ready().await;
    assert_eq!(plane.endpoints("helloworld"), ["east 10.0.0.1", "west 10.0.0.2"]);
    let problems = plane.problems();
    assert_eq!(problems.len(), 3, "{problems:?}");
    assert!(problems[0].starts_with("secret istio-system/remotes, cluster east: not used"), "R1.4");
    assert!(problems[1].starts_with("secret istio-system/remotes, cluster exec: `exec` is not allowed"));
    assert!(
        problems[2].starts_with("secret istio-system/remotes, cluster yaml: the kubeconfig is malformed")
    );
    assert!(!problems.iter().any(|problem| problem.contains("canary")));
}

#[tokio::test(flavor = "multi_thread")]
async fn r1_6_credentials_that_make_no_client_leave_the_cluster_as_it_is_until_good_ones_come() {
    let east = server("east", world("net-east", "10.0.0.1")).await;
    let west = server("west", world("net-west", "10.0.0.2")).await;
    let good = west.kubeconfig();
    let no_certificate = BASE64.encode("no certificate");
    let token = format!("token: \"{}\"", west.token());
    let bad = good.replace(
        &token,
        &format!("client-certificate-data: {no_certificate}\n    client-key-data: {no_certificate}"),
    );
    assert_ne!(bad, good);
    east.store().create(secret("remotes", &[("west", &good), ("south", &bad)])).unwrap();
    let plane = Plane::start(&east).await;
    plane.ready().await;
    plane.is("west", "live").await;
    let told = |plane: &Plane| -> Vec<String> {
        let problems = plane.problems().into_iter();
        problems.filter_map(|problem| Some(problem.split_once(", start: ")?.0.to_owned())).collect()
    };
    assert_eq!((told(&plane), plane.health("south")), (vec!["cluster south".to_owned()], "absent"));
    let watches = west.request_counts();

    east.store().apply(secret("remotes", &[("west", &bad), ("south", &bad)])).unwrap();
    eventually("the bad credentials are told of", || told(&plane) == ["cluster south", "cluster west"]).await;
    west.store().apply(slice("helloworld", &[])).unwrap();
    eventually("west is followed", || plane.endpoints("helloworld") == ["east 10.0.0.1"]).await;
    assert_eq!(plane.health("west"), "live");
    assert_eq!(west.request_counts(), watches, "by the watches that were there");

    east.store().apply(secret("remotes", &[("west", &good), ("south", &good)])).unwrap();
    plane.is("south", "live").await;
    eventually("nothing is wrong any more", || told(&plane).is_empty()).await;
    assert_eq!(plane.health("west"), "live");
}

#[tokio::test(flavor = "multi_thread")]
async fn r1_1_only_labelled_secrets_of_the_system_namespace_are_asked_for_and_read() {
    let east = server("east", world("net-east", "10.0.0.1")).await;
    let west = server("west", world("net-west", "10.0.0.2")).await;
    let kubeconfig = west.kubeconfig();
    let mut unlabelled = secret("unlabelled", &[("no-label", &kubeconfig)]);
    unlabelled["metadata"]["labels"] = json!({"istio/multiCluster": "false"});
    let mut elsewhere = secret("elsewhere", &[("elsewhere", &kubeconfig)]);
    elsewhere["metadata"]["namespace"] = json!("sample");
    for secret in [unlabelled, elsewhere, secret("remotes", &[("west", &kubeconfig)])] {
        east.store().create(secret).unwrap();
    }
    let plane = Plane::start(&east).await;
    plane.ready().await;
    plane.is("west", "live").await;
    let ids: Vec<_> = plane.registry.clusters().all().iter().map(|row| row.id.to_string()).collect();
    assert_eq!((ids, plane.problems()), (vec!["east".to_owned(), "west".to_owned()], Vec::new()));
    let asked: Vec<_> = east.requests().into_iter().filter(|one| one.path.contains("/secrets")).collect();
    assert!(!asked.is_empty());
    for request in asked {
        let (path, query) = request.path.split_once('?').unwrap();
        assert_eq!(path, "/api/v1/namespaces/istio-system/secrets");
        assert!(query.contains("labelSelector=istio%2FmultiCluster%3Dtrue"), "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r3_15_host_names_of_gateways_are_not_asked_for_where_that_is_switched_off() {
    let dns = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = dns.local_addr().unwrap();
    let start = async |host: &str, resolve: bool| {
        let mut objects = world("net-east", "10.0.0.1");
        let mut gateway = gateway("net-east", "192.0.2.1");
        gateway["status"]["loadBalancer"]["ingress"] = json!([{"hostname": host}]);
        *objects.last_mut().unwrap() = gateway;
        let east = server("east", objects).await;
        let plane = Plane::start_with(&east, |options| {
            options.networks.resolve_hosts = resolve;
            options.networks.dns_servers = vec![address];
        })
        .await;
        plane.is("east", "live").await;
        let known = || {
            let networks = plane.registry.networks();
            networks.gateway_hosts().any(|gateway| *gateway.host == *host)
        };
        eventually("its gateway is known", known).await;
        (east, plane)
    };
    let (_off, plane) = start("off.gw.test", false).await;
    plane.ready().await;
    assert_eq!(plane.registry.networks().gateways().count(), 0);
    // The first question of one that was started later comes after any that this one would have asked.
    let (_on, _plane) = start("on.gw.test", true).await;
    let mut question = [0; 512];
    let asked = tokio::time::timeout(LIMIT, dns.recv(&mut question)).await.expect("it is asked for").unwrap();
    let says = |label: &[u8]| question[..asked].windows(label.len()).any(|part| part == label);
    assert!(says(b"\x02on\x02gw") && !says(b"\x03off"), "{:?}", &question[..asked]);
}

#[tokio::test(flavor = "multi_thread")]
async fn z_04_a_remote_cluster_may_not_be_on_loopback() {
    let east = server("east", world("net-east", "10.0.0.1")).await;
    let west = server("west", world("net-west", "10.0.0.2")).await;
    let by_name = west.kubeconfig().replace("127.0.0.1", "localhost");
    east.store().create(secret("remotes", &[("by-ip", &west.kubeconfig()), ("by-name", &by_name)])).unwrap();
    let plane = Plane::start_with(&east, |options| {
        options.allow_loopback_clusters = false;
        options.remote_cluster_timeout = Duration::from_millis(100);
    })
    .await;
    plane.ready().await;
    eventually("both are refused", || {
        let problems = plane.problems();
        problems.iter().filter(|problem| problem.contains("loopback")).count() == 2
    })
    .await;
    assert_eq!(plane.endpoints("helloworld"), ["east 10.0.0.1"]);
    assert!(west.requests().is_empty(), "nothing was sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn r1_17_an_unreachable_remote_does_not_hold_the_gate_and_joins_later() {
    let east = server("east", world("net-east", "10.0.0.1")).await;
    let west = server("west", world("net-west", "10.0.0.2")).await;
    east.store().create(secret("remotes", &[("west", &west.kubeconfig())])).unwrap();
    let identity = Identity::of(&west);
    west.shutdown().await;
    let plane = Plane::start_with(&east, |options| {
        options.remote_cluster_timeout = Duration::from_millis(200);
    })
    .await;
    plane.ready().await;
    let status = plane.status("west").unwrap();
    assert_eq!((status.sync_status(), status.health.word()), ("timeout", "connecting"));
    let timeouts = plane.ingest.counts().sync_timeouts.load(Ordering::Relaxed);
    assert_eq!((status.sync_timeouts, timeouts), (1, 1));
    assert_eq!(plane.endpoints("helloworld"), ["east 10.0.0.1"]);
    assert!(!plane.registry.clusters().all_synced());
    let _west = identity.start("west").await;
    plane.is("west", "live").await;
    assert_eq!(plane.endpoints("helloworld"), ["east 10.0.0.1", "west 10.0.0.2"]);
    assert_eq!(plane.status("west").unwrap().sync_status(), "synced");
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_credentials_are_told_apart() {
    let east = server("east", world("net-east", "10.0.0.1")).await;
    let west = server("west", world("net-west", "10.0.0.2")).await;
    let wrong = west.kubeconfig().replace(west.token(), "wrong");
    east.store().create(secret("remotes", &[("west", &wrong)])).unwrap();
    let plane = Plane::start(&east).await;
    plane.is("west", "unauthorized").await;
    assert!(!*plane.ingest.ready().borrow(), "the gate waits for its time");
    east.store().apply(secret("remotes", &[("west", &west.kubeconfig())])).unwrap();
    plane.is("west", "live").await;
    plane.ready().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r1_10_remote_clusters_from_a_directory() {
    let east = server("east", world("net-east", "10.0.0.1")).await;
    let west = server("west", world("net-west", "10.0.0.2")).await;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("broken.yaml"), "a: [").unwrap();
    let path = dir.path().to_owned();
    let plane = Plane::start_with(&east, |options| options.remotes = Remotes::Directory(path)).await;
    plane.ready().await;
    assert!(
        plane.problems().iter().any(|problem| problem.contains("broken.yaml: the kubeconfig is malformed"))
    );
    std::fs::write(dir.path().join("west.yaml"), west.kubeconfig()).unwrap();
    plane.is("west", "live").await;
    assert_eq!(plane.endpoints("helloworld"), ["east 10.0.0.1", "west 10.0.0.2"]);
    std::fs::remove_file(dir.path().join("west.yaml")).unwrap();
    eventually("west is gone", || plane.status("west").is_none()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_stops_with_the_token_and_the_data_stays() {
    let east = server("east", world("net-east", "10.0.0.1")).await;
    let plane = Plane::start(&east).await;
    plane.ready().await;
    plane.cancel.cancel();
    tokio::time::timeout(LIMIT, plane.ingest.stopped()).await.expect("stops in time");
    assert_eq!(plane.endpoints("helloworld"), ["east 10.0.0.1"]);
}

/// The definition that makes a server know ServiceExports.
fn export_kind() -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "serviceexports.multicluster.x-k8s.io"},
        "spec": {"group": "multicluster.x-k8s.io", "scope": "Namespaced",
            "names": {"plural": "serviceexports", "singular": "serviceexport", "kind": "ServiceExport", "listKind": "ServiceExportList"},
            "versions": [{"name": "v1alpha1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}})
}

/// Exports of a server: name and owner, with its uid.
fn exports(server: &RunningApiServer) -> Vec<String> {
    let kinds = server.store().kinds();
    let kind = kinds.by_plural("multicluster.x-k8s.io", "v1alpha1", "serviceexports").unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let shown = |export: &Arc<Value>| {
        let meta = &export["metadata"];
        let owner = &meta["ownerReferences"][0];
        format!(
            "{}/{} of {} {}",
            text(&meta["namespace"]),
            text(&meta["name"]),
            text(&owner["kind"]),
            text(&owner["uid"])
        )
    };
    server.store().list(kind, None).iter().map(shown).collect()
}

fn uid(server: &RunningApiServer, namespace: &str, name: &str) -> String {
    let service = server.store().get(&kinds::SERVICES, namespace, name).unwrap();
    service["metadata"]["uid"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn r4_40_every_service_is_exported_once_and_owned_by_itself() {
    let mut objects = world("net-east", "10.0.0.1");
    let mut local = service("kube-dns");
    local["metadata"]["namespace"] = json!("kube-system");
    objects.extend([export_kind(), local]);
    let east = server("east", objects).await;
    let auto = |options: &mut IngestOptions| options.mcs.auto_export = true;
    let plane = Plane::start_with(&east, auto).await;
    plane.ready().await;
    let of = |name: &str| format!("sample/{name} of Service {}", uid(&east, "sample", name));
    let gateway_of = || {
        let found = exports(&east).into_iter().filter(|export| export.starts_with("istio-system/"));
        found.collect::<Vec<_>>()
    };
    eventually("exported", || exports(&east).contains(&of("helloworld"))).await;
    eventually("the gateway too", || gateway_of().len() == 1).await;
    assert!(exports(&east).iter().all(|export| !export.starts_with("kube-system/")), "{:?}", exports(&east));
    // A Service that comes later; the export of one that is there already is left as it is.
    east.store().create(service("later")).unwrap();
    eventually("the later one too", || exports(&east).contains(&of("later"))).await;
    let before = exports(&east);
    drop(plane);
    let plane = Plane::start_with(&east, auto).await;
    plane.ready().await;
    east.store().create(service("last")).unwrap();
    eventually("the last one", || exports(&east).contains(&of("last"))).await;
    assert!(before.iter().all(|export| exports(&east).contains(export)));
    assert_eq!(exports(&east).len(), before.len() + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn r4_40_a_server_without_the_kind_or_the_right_is_served_as_ever() {
    let east = server("east", world("net-east", "10.0.0.1")).await;
    let plane = Plane::start_with(&east, |options| options.mcs.auto_export = true).await;
    plane.ready().await;
    eventually("endpoints", || plane.endpoints("helloworld") == ["east 10.0.0.1"]).await;
}

/// The definition of a kind of entries.
fn entry_kind(kind: &str, plural: &str) -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.networking.istio.io")},
        "spec": {"group": "networking.istio.io", "scope": "Namespaced",
            "names": {"plural": plural, "singular": kind.to_lowercase(), "kind": kind, "listKind": format!("{kind}List")},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}})
}

fn entry(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "networking.istio.io/v1", "kind": kind,
        "metadata": {"name": name, "namespace": "sample"}, "spec": spec})
}

/// A ServiceEntry of `vm.example` that selects what is labelled so.
fn selecting(app: &str) -> Value {
    let ports = json!([{"number": 80, "name": "http", "protocol": "HTTP", "targetPort": 5000}]);
    let selector = json!({"labels": {"app": app}});
    let spec = json!({"hosts": ["vm.example"], "resolution": "STATIC", "location": "MESH_INTERNAL", "ports": ports, "workloadSelector": selector});
    entry("ServiceEntry", "vm", spec)
}

/// Endpoint addresses of `vm.example`, by cluster.
fn behind_the_entry(plane: &Plane) -> Vec<String> {
    let snapshot = plane.registry.service(&ServiceKey::new("sample", "vm.example")).map(|cell| cell.load());
    let shards =
        snapshot.iter().filter(|snapshot| snapshot.service.is_some()).flat_map(|all| all.shards.to_vec());
    let shown = |shard: Arc<tombolo::model::EndpointShard>| {
        let show = |e: &tombolo::model::Endpoint| format!("{} {}:{}", shard.cluster, e.addresses[0], e.port);
        shard.endpoints.iter().map(show).collect::<Vec<_>>()
    };
    shards.flat_map(shown).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn r5_37_an_entry_of_the_config_cluster_selects_pods_and_workload_entries_everywhere() {
    let vm = |address: &str| {
        entry(
            "WorkloadEntry",
            "vm-1",
            json!({"address": address, "labels": {"app": "helloworld"}, "serviceAccount": "vm"}),
        )
    };
    let (workloads, services) =
        (entry_kind("WorkloadEntry", "workloadentries"), entry_kind("ServiceEntry", "serviceentries"));
    let mut east = world("net-east", "10.0.0.1");
    east.extend([workloads.clone(), services, selecting("helloworld")]);
    let east = server("east", east).await;
    let mut west = world("net-west", "10.0.1.1");
    west.extend([workloads, vm("10.9.0.1")]);
    let west = server("west", west).await;
    // This one has none of these kinds.
    let north = server("north", world("net-north", "10.0.2.1")).await;
    let remotes = [("west", west.kubeconfig()), ("north", north.kubeconfig())];
    let remotes: Vec<_> = remotes.iter().map(|(id, text)| (*id, text.as_str())).collect();
    east.store().create(secret("remotes", &remotes)).unwrap();
    let plane = Plane::start(&east).await;
    plane.ready().await;
    let all = ["east 10.0.0.1:5000", "north 10.0.2.1:5000", "west 10.0.1.1:5000", "west 10.9.0.1:5000"];
    eventually("every cluster's share", || behind_the_entry(&plane) == all).await;
    plane.is("north", "live").await;
    assert_eq!(plane.status("east").unwrap().objects["ServiceEntry"], 1);
    let id = WorkloadId { cluster: "west".into(), namespace: "sample".into(), name: "vm-1".into() };
    let cell = plane.registry.workload(&id).expect("a WorkloadEntry is a proxy");
    assert_eq!((&*cell.network, cell.services.len()), ("net-west", 1));

    let definitions = west.store().kinds();
    let kind = definitions.by_plural("networking.istio.io", "v1", "workloadentries").unwrap();
    west.store().delete(kind, "sample", "vm-1").unwrap();
    eventually("without the machine", || behind_the_entry(&plane) == all[..3]).await;
    assert!(plane.registry.workload(&id).is_none());
    let definitions = east.store().kinds();
    let kind = definitions.by_plural("networking.istio.io", "v1", "serviceentries").unwrap();
    east.store().delete(kind, "sample", "vm").unwrap();
    eventually("without the entry", || behind_the_entry(&plane).is_empty()).await;
    assert_eq!(plane.endpoints("helloworld").len(), 3, "the Service is as it was");
}
