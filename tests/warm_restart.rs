//! Restarts during an outage: what proxies that reconnect are told.
#![allow(missing_docs, unreachable_pub, dead_code, clippy::unwrap_used)]

#[path = "ads/client.rs"]
mod client;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use client::{Delta, sidecar};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tombolo::app::Server;
use tombolo::ingest::{ConfigCluster, ConfigSource, IngestOptions, Remotes, RetryPolicy, SnapshotOptions};
use tombolo::model::{ClusterStatus, Standing};
use tombolo::registry::Registry;
use tombolo::sim::apiserver::{ApiServer, Authority, RunningApiServer, Store, kinds};
use tombolo::xds::resource::ResourceType::{Cluster, Endpoint};

const LIMIT: Duration = Duration::from_secs(60);
const EDS: &str = "outbound|5000||helloworld.sample.svc.cluster.local";

async fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + LIMIT;
    while !check() {
        assert!(tokio::time::Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// `helloworld` with one pod, and a gateway.
fn world(network: &str, pod_ip: &str) -> Vec<Value> {
    let meta = |name: &str| json!({"name": name, "namespace": "sample"});
    vec![
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "istio-system",
            "labels": {"topology.istio.io/network": network}}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": meta("helloworld"),
            "spec": {"ports": [{"name": "http", "port": 5000}]}}),
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "hello-1", "namespace": "sample",
            "labels": {"app": "helloworld", "security.istio.io/tlsMode": "istio"}},
            "spec": {"serviceAccountName": "default"},
            "status": {"phase": "Running", "podIP": pod_ip, "podIPs": [{"ip": pod_ip}],
                "conditions": [{"type": "Ready", "status": "True"}]}}),
        slice(&[("hello-1", pod_ip)]),
        json!({"apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "eastwest", "namespace": "istio-system",
                "labels": {"topology.istio.io/network": network}},
            "spec": {"type": "LoadBalancer", "ports": [{"name": "tls", "port": 15443}]},
            "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}}),
    ]
}

fn slice(entries: &[(&str, &str)]) -> Value {
    let entry = |(pod, ip): &(&str, &str)| {
        json!({"addresses": [ip], "conditions": {"ready": true},
            "targetRef": {"kind": "Pod", "name": pod, "namespace": "sample"}})
    };
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "helloworld-1", "namespace": "sample",
            "labels": {"kubernetes.io/service-name": "helloworld"}},
        "endpoints": entries.iter().map(entry).collect::<Vec<_>>(), "ports": [{"name": "http", "port": 5000}]})
}

async fn server(name: &str, pod_ip: &str) -> RunningApiServer {
    let world = world(&format!("net-{name}"), pod_ip);
    ApiServer::builder().cluster(name).world(world).start().await.unwrap()
}

/// A Secret with kubeconfigs by cluster id.
fn secret(kubeconfigs: &[(String, String)]) -> Value {
    let data: serde_json::Map<String, Value> =
        kubeconfigs.iter().map(|(id, text)| (id.clone(), json!(BASE64.encode(text)))).collect();
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "remotes", "namespace": "istio-system",
        "labels": {"istio/multiCluster": "true"}}, "data": data})
}

/// Everything that makes a new API server the same one for its clients.
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

/// What stays on a machine over restarts of the server: its kubeconfig and its snapshots.
struct Machine {
    dir: tempfile::TempDir,
}

impl Machine {
    fn new(config: &RunningApiServer) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("kubeconfig"), config.kubeconfig()).unwrap();
        Self { dir }
    }

    fn snapshots(&self) -> std::path::PathBuf {
        self.dir.path().join("snapshots")
    }

    fn options(&self) -> IngestOptions {
        let source = ConfigSource::Kubeconfig { path: self.dir.path().join("kubeconfig"), context: None };
        IngestOptions {
            config: Some(ConfigCluster { id: "east".into(), source }),
            remotes: Remotes::Secrets,
            allow_loopback_clusters: true,
            removal_grace: Duration::from_millis(50),
            retry: RetryPolicy {
                first: Duration::from_millis(20),
                longest: Duration::from_millis(200),
                ..RetryPolicy::default()
            },
            snapshots: Some(SnapshotOptions { dir: self.snapshots(), max_age: Duration::from_secs(3600) }),
            ..IngestOptions::default()
        }
    }

    async fn boot(&self) -> Plane {
        self.boot_with(self.options()).await
    }

    async fn boot_with(&self, options: IngestOptions) -> Plane {
        let registry = Registry::new();
        let any = "127.0.0.1:0".parse().unwrap();
        let server = Server::builder().registry(Arc::clone(&registry)).ingest(options);
        let bound = server.grpc_addr(any).http_addr(any).bind().await.unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let (addresses, ready) = (bound.addresses(), bound.ready());
        let running = tokio::spawn(async move { bound.run(async { drop(stopped.await) }).await });
        Plane {
            registry,
            xds: addresses.grpc.unwrap(),
            http: addresses.http.unwrap(),
            ready,
            stop,
            running,
            booted: Instant::now(),
        }
    }
}

/// A server of ours, all of it.
struct Plane {
    registry: Arc<Registry>,
    xds: SocketAddr,
    http: SocketAddr,
    ready: tokio::sync::watch::Receiver<bool>,
    stop: oneshot::Sender<()>,
    running: tokio::task::JoinHandle<()>,
    booted: Instant,
}

impl Plane {
    /// Waits for the start gate; how long it took since the boot.
    async fn ready(&mut self) -> Duration {
        tokio::time::timeout(LIMIT, self.ready.wait_for(|ready| *ready)).await.expect("in time").unwrap();
        self.booted.elapsed()
    }

    async fn stop(self) {
        let _ = self.stop.send(());
        tokio::time::timeout(LIMIT, self.running).await.expect("ends").unwrap();
    }

    fn status(&self, cluster: &str) -> Option<ClusterStatus> {
        self.registry.clusters().get(&cluster.into())
    }

    async fn is(&self, cluster: &str, health: &str) {
        let word = || self.status(cluster).map_or("absent", |status| status.health.word());
        eventually(&format!("{cluster} is {health}"), || word() == health).await;
    }

    fn publishes(&self) -> u64 {
        self.registry.counts().publishes.load(Ordering::Relaxed)
    }

    async fn page(&self, path: &str) -> String {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut stream = tokio::net::TcpStream::connect(self.http).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    /// A proxy of east that has asked for `helloworld`, and the bytes it got.
    async fn proxy(&self) -> (Delta, Vec<u8>) {
        let mut proxy = Delta::open(self.xds, sidecar("a", "east", "net-east")).await;
        proxy.subscribe(Cluster, &[]).await;
        proxy.expect(Cluster).await;
        proxy.subscribe(Endpoint, &[EDS]).await;
        let answer = proxy.expect(Endpoint).await;
        let (_, _, bytes) = answer.resources.into_iter().next().expect("helloworld");
        (proxy, bytes)
    }
}

/// Names of clusters with a snapshot.
fn kept(dir: &Path) -> Vec<String> {
    let entries =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> =
        entries.filter_map(|name| name.strip_suffix(".snapshot").map(str::to_owned)).collect();
    names.sort();
    names
}

/// East with west behind it, a proxy's bytes of before, and the server stopped.
async fn before_the_outage() -> (RunningApiServer, RunningApiServer, Machine, Vec<u8>) {
    let (east, west) = (server("east", "10.0.0.1").await, server("west", "10.0.0.2").await);
    east.store().create(secret(&[("west".to_owned(), west.kubeconfig())])).unwrap();
    let machine = Machine::new(&east);
    let mut plane = machine.boot().await;
    plane.ready().await;
    plane.is("west", "live").await;
    let (_proxy, bytes) = plane.proxy().await;
    plane.stop().await;
    assert_eq!(kept(&machine.snapshots()), ["east", "west"]);
    (east, west, machine, bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_reconnects_while_a_remote_cluster_is_down_gets_the_bytes_of_before() {
    let (east, west, machine, before) = before_the_outage().await;
    let identity = Identity::of(&west);
    west.shutdown().await;
    let mut plane = machine.boot().await;
    assert!(plane.ready().await < Duration::from_secs(2));
    let (mut proxy, bytes) = plane.proxy().await;
    assert_eq!(bytes, before);
    let row = plane.status("west").unwrap();
    assert_eq!((row.health.word(), &*row.health.detail(), row.synced), ("stale", "from snapshot", false));
    assert!(!plane.registry.clusters().all_synced(), "D27: removals are withheld");
    plane.is("east", "live").await;
    let text = plane.page("/ready?verbose").await;
    assert!(text.contains("ok  west: not synced: served from ") && text.contains("west.snapshot"), "{text}");
    let text = plane.page("/debug/clusters").await;
    assert!(text.contains("\"detail\":\"from snapshot\"") && text.contains("\"snapshot\":{"), "{text}");

    // It comes back as it was: live, and nobody is told anything.
    let publishes = plane.publishes();
    let west = identity.start("west").await;
    plane.is("west", "live").await;
    assert!(plane.status("west").unwrap().restored.is_none() && plane.registry.clusters().all_synced());
    assert_eq!(plane.publishes(), publishes);
    proxy.silent().await;
    let text = plane.page("/debug/clusters").await;
    assert!(text.contains("\"encoding\":\"protobuf\"") && text.contains("\"bytesIn\":"), "{text}");
    // And it is followed again.
    west.store().apply(slice(&[])).unwrap();
    let update = proxy.expect(Endpoint).await;
    assert_ne!(update.resources[0].2, before);
    plane.stop().await;
    drop(east);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_vanished_during_the_outage_goes_when_the_cluster_is_back_and_not_before() {
    let (_east, west, machine, before) = before_the_outage().await;
    let identity = Identity::of(&west);
    west.shutdown().await;
    identity.store.apply(slice(&[])).unwrap();
    let mut plane = machine.boot().await;
    plane.ready().await;
    let (mut proxy, bytes) = plane.proxy().await;
    assert_eq!(bytes, before);
    let _west = identity.start("west").await;
    let update = proxy.expect(Endpoint).await;
    assert_ne!(update.resources[0].2, before);
    plane.is("west", "live").await;
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_while_the_config_cluster_is_down_forgets_neither_it_nor_its_remotes() {
    let (east, west, machine, before) = before_the_outage().await;
    let identity = Identity::of(&east);
    east.shutdown().await;
    let mut plane = machine.boot().await;
    plane.ready().await;
    let (mut proxy, bytes) = plane.proxy().await;
    assert_eq!(bytes, before);
    for cluster in ["east", "west"] {
        assert_eq!(plane.status(cluster).unwrap().health.detail(), "from snapshot", "{cluster}");
    }
    let publishes = plane.publishes();
    let _east = identity.start("east").await;
    plane.is("east", "live").await;
    plane.is("west", "live").await;
    assert_eq!(plane.status("west").unwrap().source, "secret istio-system/remotes");
    assert_eq!(plane.publishes(), publishes);
    proxy.silent().await;
    plane.stop().await;
    drop(west);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_while_secrets_may_not_be_read_forgets_no_remote() {
    let (east, west, machine, before) = before_the_outage().await;
    east.add_faults(["status=403,on=/secrets".parse().unwrap()]);
    let mut plane = machine.boot().await;
    assert!(plane.ready().await < Duration::from_secs(10));
    plane.is("east", "live").await;
    let (_proxy, bytes) = plane.proxy().await;
    assert_eq!(bytes, before);
    assert_eq!(plane.status("west").unwrap().health.detail(), "from snapshot");
    plane.stop().await;
    // None was ever known: others may be, and nobody is told that these are all.
    std::fs::remove_file(machine.snapshots().join("west.snapshot")).unwrap();
    let plane = machine.boot().await;
    plane.is("east", "live").await;
    let deadline = Instant::now() + LIMIT;
    while !plane.page("/ready?verbose").await.contains("remote Secrets: cannot be read") {
        assert!(Instant::now() < deadline, "{}", plane.page("/ready?verbose").await);
    }
    assert!(plane.page("/ready").await.starts_with("HTTP/1.1 503"));
    plane.stop().await;
    drop(west);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_while_the_cluster_that_has_the_secrets_is_down_forgets_no_remote() {
    let (east, west) = (server("east", "10.0.0.1").await, server("west", "10.0.0.2").await);
    let hub = server("hub", "10.0.0.3").await;
    hub.store().create(secret(&[("west".to_owned(), west.kubeconfig())])).unwrap();
    let machine = Machine::new(&east);
    let path = machine.dir.path().join("hub");
    std::fs::write(&path, hub.kubeconfig()).unwrap();
    let secrets_by = Some(ConfigSource::Kubeconfig { path, context: None });
    let options = IngestOptions { secrets_by, ..machine.options() };
    let mut plane = machine.boot_with(options.clone()).await;
    plane.ready().await;
    plane.is("west", "live").await;
    let (_proxy, before) = plane.proxy().await;
    plane.stop().await;
    let identity = Identity::of(&hub);
    hub.shutdown().await;
    let mut plane = machine.boot_with(options).await;
    assert!(plane.ready().await < Duration::from_secs(10));
    plane.is("east", "live").await;
    let (mut proxy, bytes) = plane.proxy().await;
    assert_eq!(bytes, before);
    assert_eq!(plane.status("west").unwrap().health.detail(), "from snapshot");
    let publishes = plane.publishes();
    let _hub = identity.start("hub").await;
    plane.is("west", "live").await;
    assert_eq!(plane.publishes(), publishes);
    proxy.silent().await;
    plane.stop().await;
    drop((east, west));
}

#[tokio::test(flavor = "multi_thread")]
async fn d35_remotes_of_a_config_cluster_that_is_down_grow_old_over_a_restart() {
    let (east, west, machine, _) = before_the_outage().await;
    east.shutdown().await;
    west.shutdown().await;
    let texts = [("stale".to_owned(), "drop".to_owned()), ("stale-after".to_owned(), "3s".to_owned())];
    let clusters = [("west".into(), texts.into())].into();
    let mut plane = machine.boot_with(IngestOptions { clusters, ..machine.options() }).await;
    plane.ready().await;
    let standing = |row: &ClusterStatus| row.standing == Standing::Dropped;
    eventually("west is dropped", || plane.status("west").is_some_and(|row| standing(&row))).await;
    let row = plane.status("west").unwrap();
    assert_eq!(
        (row.health.word(), &*row.stale_policy, &*row.network),
        ("stale", "drop after 3s", "net-west")
    );
    assert_eq!((row.objects["Pod"], row.objects["Service"]), (1, 2));
    assert_eq!(plane.registry.standings().part(&"west".into()).standing, Standing::Dropped);
    plane.stop().await;
}

/// Two clusters, and a ConfigMap of the first with a static gateway of `net-static`.
async fn with_networks_document() -> (RunningApiServer, RunningApiServer) {
    let (east, west) = (server("east", "10.0.0.1").await, server("west", "10.0.0.2").await);
    east.store().create(secret(&[("west".to_owned(), west.kubeconfig())])).unwrap();
    let document = "networks: {net-static: {gateways: [{address: 203.0.113.7, port: 15443}]}}";
    let config_map = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "istio", "namespace": "istio-system"}, "data": {"meshNetworks": document}});
    east.store().create(config_map).unwrap();
    (east, west)
}

/// Static gateways come from the document, and no cluster waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn the_networks_document_of_a_config_cluster_that_is_down_holds_after_a_restart() {
    let (east, west) = with_networks_document().await;
    let machine = Machine::new(&east);
    let gateways = |plane: &Plane| -> Vec<String> {
        let networks = plane.registry.networks();
        networks.gateways().map(|gateway| format!("{} {}", gateway.network, gateway.address)).collect()
    };
    let mut plane = machine.boot().await;
    plane.ready().await;
    plane.is("west", "live").await;
    let before = gateways(&plane);
    assert!(before.contains(&"net-static 203.0.113.7".to_owned()), "{before:?}");
    plane.stop().await;
    east.shutdown().await;
    let mut plane = machine.boot().await;
    assert!(plane.ready().await < Duration::from_secs(10));
    eventually("the gateways of before", || gateways(&plane) == before).await;
    plane.stop().await;
    drop(west);
}

/// Nobody gives up waiting for it, and the config cluster itself is there.
#[tokio::test(flavor = "multi_thread")]
async fn the_networks_document_of_before_holds_while_only_its_config_map_cannot_be_read() {
    let (east, _west) = with_networks_document().await;
    let machine = Machine::new(&east);
    let options = IngestOptions { remote_cluster_timeout: Duration::ZERO, ..machine.options() };
    let gateways = |plane: &Plane| -> Vec<String> {
        let networks = plane.registry.networks();
        networks.gateways().map(|gateway| format!("{} {}", gateway.network, gateway.address)).collect()
    };
    let mut plane = machine.boot_with(options.clone()).await;
    plane.ready().await;
    plane.is("west", "live").await;
    let before = gateways(&plane);
    assert!(before.contains(&"net-static 203.0.113.7".to_owned()), "{before:?}");
    plane.stop().await;
    // Twice: what was recalled and not read is kept on.
    for fault in ["status=403,on=/configmaps", "stall-headers,on=/configmaps"] {
        east.add_faults([fault.parse().unwrap()]);
        let mut plane = machine.boot_with(options.clone()).await;
        assert!(plane.ready().await < Duration::from_secs(10), "{fault}");
        plane.is("east", "live").await;
        plane.is("west", "live").await;
        assert_eq!(gateways(&plane), before, "{fault}");
        plane.stop().await;
        east.clear_faults();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remote_whose_secret_went_meanwhile_goes_once_the_secrets_are_known() {
    let (east, _west, machine, before) = before_the_outage().await;
    let identity = Identity::of(&east);
    east.shutdown().await;
    identity.store.delete(&kinds::SECRETS, "istio-system", "remotes").unwrap();
    // It is the only one, and a list without any Secret would be doubted for a while.
    let options = IngestOptions { mass_delete_guard: false, ..machine.options() };
    let mut plane = machine.boot_with(options).await;
    plane.ready().await;
    let (mut proxy, bytes) = plane.proxy().await;
    assert_eq!(bytes, before);
    let _east = identity.start("east").await;
    let update = proxy.expect(Endpoint).await;
    assert_ne!(update.resources[0].2, before);
    assert!(plane.status("west").is_none());
    eventually("its snapshot is gone", || kept(&machine.snapshots()) == ["east"]).await;
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_dead_of_ten_clusters_costs_the_start_no_two_seconds() {
    let east = server("east", "10.0.0.1").await;
    let mut remotes = Vec::new();
    for n in 2..=10 {
        remotes.push(server(&format!("c{n}"), &format!("10.0.0.{n}")).await);
    }
    let kubeconfig = |(n, server): (usize, &RunningApiServer)| (format!("c{}", n + 2), server.kubeconfig());
    let kubeconfigs: Vec<_> = remotes.iter().enumerate().map(kubeconfig).collect();
    east.store().create(secret(&kubeconfigs)).unwrap();
    let machine = Machine::new(&east);
    let mut plane = machine.boot().await;
    plane.ready().await;
    let (_proxy, before) = plane.proxy().await;
    plane.stop().await;

    remotes.pop().expect("nine").shutdown().await;
    let mut plane = machine.boot().await;
    let took = plane.ready().await;
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(plane.proxy().await.1, before);
    plane.is("c10", "stale").await;
    assert_eq!(plane.registry.clusters().all().len(), 10);
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_snapshot_is_named_and_costs_nothing_else() {
    let (_east, west, machine, _) = before_the_outage().await;
    let file = machine.snapshots().join("west.snapshot");
    let mut bytes = std::fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let identity = Identity::of(&west);
    west.shutdown().await;
    let plane = machine.boot().await;
    plane.is("east", "live").await;
    eventually("west was looked for", || plane.status("west").is_some()).await;
    let deadline = Instant::now() + LIMIT;
    loop {
        let text = plane.page("/ready?verbose").await;
        if text.contains("west.snapshot is ignored: its checksum is wrong") {
            break;
        }
        assert!(Instant::now() < deadline, "{text}");
    }
    assert!(plane.status("west").unwrap().restored.is_none());
    let _west = identity.start("west").await;
    plane.is("west", "live").await;
    assert!(!plane.page("/ready?verbose").await.contains("is ignored"));
    plane.stop().await;
    assert_eq!(kept(&machine.snapshots()), ["east", "west"], "it is whole again");
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_hold_no_credentials() {
    let (east, west, machine, _) = before_the_outage().await;
    let canaries = [east.token(), west.token(), "BEGIN", "certificate-authority-data", "kubeconfig"];
    for cluster in ["east", "west"] {
        let bytes = std::fs::read(machine.snapshots().join(format!("{cluster}.snapshot"))).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.contains("helloworld"), "texts are in the clear");
        for canary in canaries {
            assert!(!text.contains(canary) && !text.contains(&BASE64.encode(canary)), "{cluster}: {canary}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_cluster_leaves_no_snapshot() {
    let east = server("east", "10.0.0.1").await;
    let west = server("west", "10.0.0.2").await;
    east.store().create(secret(&[("west".to_owned(), west.kubeconfig())])).unwrap();
    let machine = Machine::new(&east);
    let mut plane = machine.boot().await;
    plane.ready().await;
    plane.is("west", "live").await;
    plane.stop().await;
    let mut plane = machine.boot().await;
    plane.ready().await;
    plane.is("west", "live").await;
    east.store().delete(&kinds::SECRETS, "istio-system", "remotes").unwrap();
    eventually("the snapshot is gone", || kept(&machine.snapshots()) == ["east"]).await;
    plane.stop().await;
    assert_eq!(kept(&machine.snapshots()), ["east"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_and_mesh_config_of_before_hold_while_the_config_cluster_is_down() {
    use tombolo::model::policy::{MtlsMode, PeerAuthentication};
    let mut objects: Vec<Value> =
        serde_saphyr::from_multiple(include_str!("../deploy/istio-crds.yaml")).unwrap();
    objects.extend(world("net-east", "10.0.0.1"));
    let strict = |name: &str, mode: &str| {
        json!({"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
            "metadata": {"namespace": "sample", "name": name}, "spec": {"mtls": {"mode": mode}}})
    };
    objects.push(strict("default", "STRICT"));
    objects.push(json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"namespace": "istio-system", "name": "istio"}, "data": {"mesh": "trustDomain: td1"}}));
    let east = ApiServer::builder().cluster("east").world(objects).start().await.unwrap();
    let machine = Machine::new(&east);
    let mut plane = machine.boot().await;
    plane.ready().await;
    plane.stop().await;
    let identity = Identity::of(&east);
    east.shutdown().await;

    let mut plane = machine.boot().await;
    assert!(plane.ready().await < Duration::from_secs(5));
    let mode = |plane: &Plane| {
        let policies = plane.registry.policies();
        policies.of::<PeerAuthentication>("sample").first().and_then(|policy| policy.mode)
    };
    assert_eq!(mode(&plane), Some(MtlsMode::Strict), "nobody is served without what guards it");
    assert_eq!(plane.registry.policies().mesh().trust_domain.as_deref(), Some("td1"));
    identity.store.apply(strict("default", "PERMISSIVE")).unwrap();
    let _east = identity.start("east").await;
    eventually("the API server has the say again", || mode(&plane) == Some(MtlsMode::Permissive)).await;
    plane.stop().await;
}
