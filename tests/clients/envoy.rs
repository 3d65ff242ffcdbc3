//! A real Envoy in every form of the protocol: aggregated or assignments alone, state of the world or delta.
//!
//! Needs an Envoy (`$ENVOY` or `PATH`); without one the tests are skipped loudly, and fail with `CI=true`.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::machine;
use crate::xds_conformance::plane::{Options, Plane, eventually};
use crate::xds_conformance::world::{eds, policy, service, slice};

const PAGE: Duration = Duration::from_secs(10);

/// Ends the process with the test.
struct Envoy {
    child: Child,
    admin: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Drop for Envoy {
    fn drop(&mut self) {
        // An error means that it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Envoy {
    /// An Envoy that is told by `configure`, on a port of its own choice.
    async fn start(program: &Path, configure: impl FnOnce(Value) -> Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (file, admin) = (dir.path().join("envoy.json"), dir.path().join("admin"));
        let bootstrap = configure(json!({
            "node": {
                "id": "sidecar~10.0.0.9~web-0.sample~sample.svc.cluster.local", "cluster": "web.sample",
                "metadata": {"CLUSTER_ID": "east", "NETWORK": "net-east", "NAMESPACE": "sample",
                    "INTERCEPTION_MODE": "NONE", "TOMBOLO_OUTBOUND_ADDRESS": "127.0.0.77"},
            },
            "admin": {"address": address("127.0.0.1:0".parse().unwrap())},
        }));
        std::fs::write(&file, bootstrap.to_string()).unwrap();
        let args = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"];
        let mut command = Command::new(program);
        command.args(args).arg("--admin-address-path").arg(&admin).arg("-c").arg(&file);
        let child = command.spawn().expect("Envoy starts");
        let admin =
            eventually("its admin page", async || std::fs::read_to_string(&admin).ok()?.parse().ok()).await;
        Self { child, admin, _dir: dir }
    }

    async fn page(&self, path: &str) -> String {
        let page = async {
            let mut stream = tokio::net::TcpStream::connect(self.admin).await?;
            let request = format!("GET {path} HTTP/1.1\r\nHost: envoy\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await?;
            let mut text = String::new();
            stream.read_to_string(&mut text).await?;
            std::io::Result::Ok(text)
        };
        let text = tokio::time::timeout(PAGE, page).await.expect("in time");
        body(&text.unwrap_or_default())
    }

    /// Waits until an Envoy cluster has just these endpoints.
    async fn has(&self, cluster: &str, endpoints: usize) {
        let line = |line: &&str| line.starts_with(&format!("{cluster}::10.")) && line.contains("::weight::");
        let what = format!("{endpoints} endpoints of {cluster}");
        eventually(&what, async || {
            (self.page("/clusters").await.lines().filter(line).count() == endpoints).then_some(())
        })
        .await;
    }

    /// Waits until it serves.
    async fn live(&self) {
        eventually("LIVE", async || (self.page("/ready").await == "LIVE\n").then_some(())).await;
    }

    /// How many updates it rejected.
    async fn rejected(&self) -> u64 {
        let page = self.page("/stats?filter=update_rejected").await;
        let values = page.lines().filter_map(|line| line.split_once("update_rejected: "));
        values.map(|(_, count)| count.parse::<u64>().expect("a number")).sum()
    }
}

/// What follows the head of an answer; Envoy sends it in chunks.
fn body(answer: &str) -> String {
    let (head, mut rest) = answer.split_once("\r\n\r\n").unwrap_or_default();
    if !head.contains("chunked") {
        return rest.to_owned();
    }
    let mut text = String::new();
    while let Some((size, more)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).expect("the size of a chunk");
        text += &more[..size];
        rest = more[size..].trim_start_matches("\r\n");
    }
    text
}

fn address(of: SocketAddr) -> Value {
    json!({"socket_address": {"address": of.ip().to_string(), "port_value": of.port()}})
}

/// The Envoy cluster of the server.
fn server(at: SocketAddr) -> Value {
    let options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    json!({
        "name": "xds-grpc", "type": "STATIC", "connect_timeout": "1s",
        "typed_extension_protocol_options": {options: {
            "@type": format!("type.googleapis.com/{options}"),
            "explicit_http_config": {"http2_protocol_options": {}},
        }},
        "load_assignment": {"cluster_name": "xds-grpc",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(at)}}]}]},
    })
}

/// How to ask it, in one of the two forms of the protocol.
fn source(api: &str) -> Value {
    json!({"api_type": api, "transport_api_version": "V3", "set_node_on_first_message_only": true,
        "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc"}}]})
}

/// Two services, the second without endpoints. In plaintext: there are no certificates, and under state of the world
/// Envoy would wait for them (D23).
async fn plane() -> Plane {
    let plain = policy("plain", "*.sample.svc.cluster.local", json!({"tls": {"mode": "DISABLE"}}));
    Plane::of(vec![service(0), slice(0, 2), service(1), plain], Options::default()).await
}

/// Endpoints come, change and go in this Envoy.
async fn follows(plane: &Plane, envoy: &Envoy, what: &str) {
    envoy.has(&eds(0), 2).await;
    for count in [5, 3] {
        plane.apply(slice(0, count));
        envoy.has(&eds(0), count).await;
    }
    // A service that had none.
    plane.apply(slice(1, 1));
    envoy.has(&eds(1), 1).await;
    plane.delete(&slice(1, 1));
    envoy.has(&eds(1), 0).await;
    // The service goes with its endpoints, and comes back.
    plane.delete(&slice(0, 3));
    plane.delete(&service(0));
    envoy.has(&eds(0), 0).await;
    plane.apply(service(0));
    plane.apply(slice(0, 4));
    envoy.has(&eds(0), 4).await;
    assert_eq!(envoy.rejected().await, 0, "{what}");
    assert_eq!(plane.server.metric("pilot_total_xds_rejects", "").await, 0, "{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_follows_assignments_on_streams_of_their_own() {
    let Some(program) = machine::envoy() else { return };
    for (api, protocol) in [("GRPC", "sotw"), ("DELTA_GRPC", "delta")] {
        let plane = plane().await;
        let discovered = |name: String| {
            let eds_config = json!({"resource_api_version": "V3", "initial_fetch_timeout": "0s",
                "api_config_source": source(api)});
            json!({"name": name, "type": "EDS", "connect_timeout": "1s",
                "eds_cluster_config": {"service_name": name, "eds_config": eds_config}})
        };
        let clusters = json!([server(plane.address()), discovered(eds(0)), discovered(eds(1))]);
        let envoy = Envoy::start(&program, |mut bootstrap| {
            bootstrap["static_resources"] = json!({"clusters": clusters});
            bootstrap
        })
        .await;
        envoy.live().await;
        follows(&plane, &envoy, api).await;
        // A stream for each Envoy cluster, of that protocol and nothing but assignments on it.
        let rows = plane.server.proxies().await;
        assert_eq!(rows.len(), 2, "{rows:?}");
        for row in rows {
            assert_eq!(row["protocol"], protocol, "{row}");
            let types: Vec<_> = row["types"].as_object().unwrap().keys().collect();
            assert_eq!(types, ["eds"], "{row}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_follows_everything_on_an_aggregated_stream() {
    let Some(program) = machine::envoy() else { return };
    for (api, protocol) in [("GRPC", "sotw"), ("DELTA_GRPC", "delta")] {
        let plane = plane().await;
        let envoy = Envoy::start(&program, |mut bootstrap| {
            let ads = json!({"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"});
            bootstrap["dynamic_resources"] =
                json!({"ads_config": source(api), "cds_config": ads, "lds_config": ads});
            bootstrap["static_resources"] = json!({"clusters": [server(plane.address())]});
            bootstrap
        })
        .await;
        envoy.live().await;
        follows(&plane, &envoy, api).await;
        let rows = plane.server.proxies().await;
        assert_eq!(rows.len(), 1, "{rows:?}");
        assert_eq!(rows[0]["protocol"], protocol);
        let types: Vec<_> = rows[0]["types"].as_object().unwrap().keys().collect();
        assert_eq!(types, ["cds", "eds", "lds", "rds"]);
    }
}
