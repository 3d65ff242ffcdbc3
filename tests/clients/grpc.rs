//! grpcio with `xds:///` targets: it resolves through us, calls a server of its own kind, and follows changes.
//!
//! Needs a Python with grpcio (`make grpcio`); without one the tests are skipped loudly, and fail with `CI=true`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use serde_json::{Value, json};

use super::machine;
use crate::xds_conformance::plane::{Options, Plane, eventually};

const WEB: &str = "xds:///web.shop.svc.cluster.local:80";
const ACCOUNT: &str = "spiffe://cluster.local/ns/shop/sa/web";

/// Each has a stream of its own, all on one connection: no proxy has as many.
const TARGETS: usize = 40;
const LIMIT: Duration = Duration::from_secs(60);

/// Who answered, or the code of the failure and what is said about it.
type Answer = Result<String, (String, String)>;

/// One `peer.py`; killed when dropped.
struct Peer {
    child: Child,
    says: BufReader<ChildStdout>,
    hears: ChildStdin,
}

impl Drop for Peer {
    fn drop(&mut self) {
        // An error means that it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Peer {
    fn start(python: &Path, args: &[&str], environment: &[(&str, &str)]) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/peer.py");
        let mut command = Command::new(python);
        command.arg(script).args(args).envs(environment.iter().copied());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("Python starts");
        let (says, hears) = (child.stdout.take().unwrap(), child.stdin.take().unwrap());
        Self { child, says: BufReader::new(says), hears }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.says.read_line(&mut line).expect("text");
        assert!(!line.is_empty(), "the peer ended: {:?}", self.child.try_wait());
        line.trim().to_owned()
    }

    /// Calls `target`.
    fn call(&mut self, target: &str) -> Answer {
        writeln!(self.hears, "{target} 30").expect("it listens");
        let answer: Value = serde_json::from_str(&self.line()).expect("JSON");
        let text = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
        if answer["answer"].is_string() { Ok(text("answer")) } else { Err((text("code"), text("details"))) }
    }

    /// Calls until the answer is as `wished`; until then every one must be as `before`.
    fn until(&mut self, wished: impl Fn(&Answer) -> bool, before: impl Fn(&Answer) -> bool) -> Answer {
        let deadline = Instant::now() + LIMIT;
        loop {
            let answer = self.call(WEB);
            if wished(&answer) {
                return answer;
            }
            assert!(before(&answer), "{answer:?}");
            assert!(Instant::now() < deadline, "not in time: last {answer:?}");
        }
    }

    /// From one endpoint to another without an error.
    fn moves(&mut self, from: &str, to: &str) {
        let before = |answer: &Answer| answer.as_deref() == Ok(from);
        assert!(self.until(|answer| answer.as_deref() == Ok(to), before).is_ok());
    }

    /// Until nobody is reached.
    fn fails(&mut self) {
        let (code, said) = self.until(Answer::is_err, Answer::is_ok).expect_err("as wished");
        assert_eq!(code, "UNAVAILABLE", "{said}");
    }

    /// Until somebody is reached again.
    fn recovers(&mut self, to: &str) {
        assert!(self.until(|answer| answer.as_deref() == Ok(to), Answer::is_err).is_ok());
    }
}

/// A server, and where it listens.
fn server(python: &Path, address: &str, environment: &[(&str, &str)]) -> (Peer, String) {
    let mut peer = Peer::start(python, &["serve", address], environment);
    let at = peer.line();
    (peer, at)
}

/// A client of `plane` in this pod.
fn client_of(python: &Path, plane: &Plane, pod: &str) -> Peer {
    client(python, plane, pod, json!({}), &[])
}

/// The same with certificates from these `providers`.
fn client(python: &Path, plane: &Plane, pod: &str, providers: Value, environment: &[(&str, &str)]) -> Peer {
    let server = json!({"server_uri": plane.address().to_string(), "channel_creds": [{"type": "insecure"}],
        "server_features": ["xds_v3"]});
    let metadata = json!({"GENERATOR": "grpc", "CLUSTER_ID": "east", "NETWORK": "net-east", "NAMESPACE": "shop",
        "INSTANCE_IPS": "127.0.0.1"});
    let node =
        json!({"id": format!("sidecar~127.0.0.1~{pod}.shop~shop.svc.cluster.local"), "metadata": metadata});
    let bootstrap = json!({"xds_servers": [server], "node": node, "certificate_providers": providers});
    let bootstrap = bootstrap.to_string();
    let mut all = vec![("GRPC_XDS_BOOTSTRAP_CONFIG", bootstrap.as_str())];
    all.extend(environment);
    Peer::start(python, &["call"], &all)
}

fn service(name: &str, headless: bool) -> Value {
    let ip = if headless { "None" } else { "10.96.7.1" };
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "shop"},
        "spec": {"clusterIP": ip, "clusterIPs": [ip], "ports": [{"name": "grpc", "port": 80}]}})
}

/// The only endpoint of a service.
fn slice(service: &str, at: &str) -> Value {
    let (ip, port) = at.split_once(':').expect("an address");
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": format!("{service}-1"), "namespace": "shop",
            "labels": {"kubernetes.io/service-name": service}},
        "endpoints": [{"addresses": [ip], "conditions": {"ready": true}}],
        "ports": [{"name": "grpc", "port": port.parse::<u16>().expect("a port")}]})
}

fn policy(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "networking.istio.io/v1", "kind": kind, "metadata": {"name": name, "namespace": "shop"},
        "spec": spec})
}

fn rule(traffic: Value) -> Value {
    policy("DestinationRule", "web", json!({"host": "web.shop.svc.cluster.local", "trafficPolicy": traffic}))
}

/// Every type that the only client asked for is accepted.
async fn accepted(plane: &Plane) {
    eventually("all is accepted", async || {
        let rows = plane.server.proxies().await;
        let types = rows.first()?["types"].as_object()?.clone();
        let fine = |row: &Value| row["sentNonce"] == row["ackedNonce"] && row["lastError"].is_null();
        let all = ["cds", "eds", "lds", "rds"].iter().all(|kind| types.get(*kind).is_some_and(fine));
        all.then_some(())
    })
    .await;
    assert_eq!(plane.server.metric("pilot_total_xds_rejects", "").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn grpcio_calls_what_it_resolves_through_us_and_moves_with_the_endpoints() {
    let Some(python) = machine::python() else { return };
    let [(_a, first), (_b, second)] = ["127.0.0.1", "127.0.0.2"].map(|address| server(&python, address, &[]));
    let objects =
        vec![service("web", false), slice("web", &first), service("other", true), slice("other", &second)];
    let plane = Plane::of(objects, Options::default()).await;
    let mut client = client_of(&python, &plane, "client-0");
    // The whole name, and what a pod of that namespace may say for it.
    for name in [WEB, "xds:///web:80", "xds:///web.shop:80", "xds:///web.shop.svc:80"] {
        assert_eq!(client.call(name), Ok(first.clone()), "{name}");
    }
    // Pods of a headless Service are told like others.
    assert_eq!(client.call("xds:///other.shop.svc.cluster.local:80"), Ok(second.clone()));
    accepted(&plane).await;
    // Another client of that namespace and network is told the same bytes: nothing is built for it.
    let streams = plane.server.proxies().await.len();
    let builds = async || plane.server.metric("tombolo_builds", "").await;
    let before = builds().await;
    assert_eq!(client_of(&python, &plane, "client-1").call(WEB), Ok(first.clone()));
    assert_eq!(builds().await, before);
    plane.server.streams(streams).await;
    // To another endpoint and back: no call is lost.
    plane.apply(slice("web", &second));
    client.moves(&first, &second);
    plane.apply(slice("web", &first));
    client.moves(&second, &first);
    // What policies say of other clients is no reason to refuse anything.
    let hash = json!({"consistentHash": {"httpHeaderName": "x-user", "maglev": {"tableSize": 65537}}});
    plane.apply(rule(json!({"loadBalancer": hash, "outlierDetection": {"consecutive5xxErrors": 3},
        "connectionPool": {"http": {"http2MaxRequests": 7}}})));
    plane.apply(policy(
        "VirtualService",
        "web",
        json!({"hosts": ["web.shop.svc.cluster.local"], "http": [{
        "corsPolicy": {"allowOrigins": [{"exact": "https://a.org"}]},
        "retries": {"attempts": 2, "retryOn": "unavailable"}, "timeout": "9s",
        "fault": {"delay": {"fixedDelay": "1s", "percentage": {"value": 0}}},
        "route": [{"destination": {"host": "other.shop.svc.cluster.local"}}]}]}),
    ));
    client.moves(&first, &second);
    accepted(&plane).await;
    // No endpoint, and endpoints again.
    plane.delete(&slice("other", &second));
    client.fails();
    plane.apply(slice("other", &first));
    client.recovers(&first);
    accepted(&plane).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn grpcio_may_have_many_targets_each_with_a_stream_on_one_connection() {
    let Some(python) = machine::python() else { return };
    let (_server, at) = server(&python, "127.0.0.1", &[]);
    let names: Vec<_> = (0..TARGETS).map(|number| format!("s{number}")).collect();
    let objects = names.iter().flat_map(|name| [service(name, true), slice(name, &at)]).collect();
    let plane = Plane::of(objects, Options::default()).await;
    let mut client = client_of(&python, &plane, "client-0");
    for name in &names {
        assert_eq!(
            client.call(&format!("xds:///{name}.shop.svc.cluster.local:80")),
            Ok(at.clone()),
            "{name}"
        );
    }
    assert_eq!(plane.server.metric("tombolo_connections", "accepted").await, 1);
    assert_eq!(plane.server.proxies().await.len(), TARGETS);
}

/// A root, and certificates of `ACCOUNT` and of a client by it.
fn certificates(dir: &Path) {
    let write = |name: &str, text: &str| std::fs::write(dir.join(name), text).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, "root");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    write("root.pem", &params.self_signed(&key).unwrap().pem());
    let issuer = Issuer::new(params, key);
    for (name, account) in [("server", ACCOUNT), ("client", "spiffe://cluster.local/ns/shop/sa/client")] {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = vec![SanType::URI(account.try_into().unwrap())];
        write(&format!("{name}.pem"), &params.signed_by(&key, &issuer).unwrap().pem());
        write(&format!("{name}.key"), &key.serialize_pem());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn grpcio_speaks_the_meshs_tls_where_a_rule_says_so_and_compares_names() {
    let Some(python) = machine::python() else { return };
    let dir = tempfile::tempdir().unwrap();
    certificates(dir.path());
    let file = |name: &str| -> PathBuf { dir.path().join(name) };
    let tls = [("PEER_TLS", dir.path().to_str().unwrap())];
    let (_server, at) = server(&python, "127.0.0.1", &tls);
    let mutual = |names: &[&str]| rule(json!({"tls": {"mode": "ISTIO_MUTUAL", "subjectAltNames": names}}));
    let objects = vec![service("web", false), slice("web", &at), mutual(&[ACCOUNT])];
    let plane = Plane::of(objects, Options::default()).await;
    let files = json!({"certificate_file": file("client.pem"), "private_key_file": file("client.key"),
        "ca_certificate_file": file("root.pem"), "refresh_interval": "600s"});
    let provider = json!({"default": {"plugin_name": "file_watcher", "config": files}});
    let mut client = client(&python, &plane, "client-0", provider, &tls);
    assert_eq!(client.call(WEB), Ok(at.clone()));
    accepted(&plane).await;
    // Another name than the server's.
    plane.apply(mutual(&["spiffe://cluster.local/ns/shop/sa/another"]));
    client.fails();
    plane.apply(mutual(&[ACCOUNT]));
    client.recovers(&at);
    // TLS of another kind is none of these clients': no plaintext in its place.
    plane.apply(rule(json!({"tls": {"mode": "SIMPLE"}})));
    client.fails();
    accepted(&plane).await;
    assert!(plane.server.log().contains("clients of gRPC know no TLS but the mesh's"));
}
