//! A real Envoy that knows its siblings keeps its requests in its zone, and spreads them without.
//!
//! Needs an Envoy (`$ENVOY` or `PATH`); without one it is skipped loudly, and fails with `CI=true`.
#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tombolo::model::policy::{MeshConfig, ZoneAwareLb};
use tombolo::model::{Endpoint, EndpointShard, Locality, Service, ServiceKey, WorkloadParts};

use super::siblings::{NAME, pod, served};
use super::world::{World, shard};

const LIMIT: Duration = Duration::from_secs(30);
/// Requests of one look.
const REQUESTS: usize = 120;
const UPSTREAM: &str = "upstream.sample.svc.cluster.local";

/// Ends the process with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn envoy() -> Option<PathBuf> {
    let named = std::env::var_os("ENVOY").map(PathBuf::from).filter(|path| path.exists());
    let path = std::env::var_os("PATH").unwrap_or_default();
    named.or_else(|| std::env::split_paths(&path).map(|dir| dir.join("envoy")).find(|envoy| envoy.exists()))
}

/// The text of an answer.
fn get(address: SocketAddr, host: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

/// Asks until the answer is what is wanted.
fn eventually<T: std::fmt::Debug>(what: &str, ask: impl Fn() -> T, wanted: impl Fn(&T) -> bool) -> T {
    let end = Instant::now() + LIMIT;
    loop {
        let answer = ask();
        if wanted(&answer) {
            return answer;
        }
        assert!(Instant::now() < end, "{what}: last {:.2000}", format!("{answer:?}"));
        // Leaves the processor to Envoy between two looks.
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// A server that says in which zone it is. Its thread ends with the process.
fn server(zone: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve(stream, zone));
        }
    });
    address
}

/// Answers whatever requests come on a connection.
fn serve(mut stream: TcpStream, zone: &str) {
    let mut seen: Vec<u8> = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(count) = stream.read(&mut buffer) {
        if count == 0 {
            return;
        }
        seen.extend(&buffer[..count]);
        while let Some(end) = seen.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            seen.drain(..end + 4);
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{zone}", zone.len());
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }
}

/// Two servers in each of two zones.
fn upstream(port: u16) -> (ServiceKey, EndpointShard) {
    let own = shard("east", 0, 0).service.expect("a record");
    let key = ServiceKey::new("sample", UPSTREAM);
    let mut record = Service { key: key.clone(), ..Service::clone(&own) };
    record.ports[0].number = port;
    let endpoint = |zone: &'static str| {
        let address = server(zone);
        let parts = WorkloadParts {
            cluster: "east".into(),
            network: "net-east".into(),
            locality: Locality::parse(&format!("r/{zone}")),
            ..WorkloadParts::default()
        };
        Endpoint::new(address.ip(), address.port(), "http", parts)
    };
    let all = ["z1", "z1", "z2", "z2"].map(endpoint);
    (key, EndpointShard::new("east".into(), Some(Arc::new(record)), all.into()))
}

fn bootstrap(xds: SocketAddr, admin: SocketAddr, outbound: &str) -> Value {
    let options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    let address = |socket: SocketAddr| json!({"socket_address": {"address": socket.ip().to_string(), "port_value": socket.port()}});
    let ads = json!({"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"});
    json!({
        "node": {
            "id": "sidecar~127.0.0.1~web-0.sample~sample.svc.cluster.local",
            "cluster": "web.sample",
            "locality": {"region": "r", "zone": "z1"},
            "metadata": {
                "CLUSTER_ID": "east", "NETWORK": "net-east", "NAMESPACE": "sample",
                "INTERCEPTION_MODE": "NONE", "TOMBOLO_OUTBOUND_ADDRESS": outbound,
            },
        },
        "admin": {"address": address(admin)},
        "cluster_manager": {"local_cluster_name": NAME},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC", "transport_api_version": "V3", "set_node_on_first_message_only": true,
                "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc"}}],
            },
            "cds_config": ads, "lds_config": ads,
        },
        "static_resources": {"clusters": [
            {
                "name": "xds-grpc", "type": "STATIC", "connect_timeout": "1s",
                "typed_extension_protocol_options": {options: {
                    "@type": format!("type.googleapis.com/{options}"),
                    "explicit_http_config": {"http2_protocol_options": {}},
                }},
                "load_assignment": {
                    "cluster_name": "xds-grpc",
                    "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(xds)}}]}],
                },
            },
            {
                "name": NAME, "type": "EDS", "connect_timeout": "1s",
                "eds_cluster_config": {"service_name": NAME, "eds_config": ads},
            },
        ]},
    })
}

/// How many of some requests each zone answers; what is no answer is left out.
fn spread(entrance: SocketAddr) -> BTreeMap<String, usize> {
    let mut zones = BTreeMap::new();
    for _ in 0..REQUESTS {
        let answer = get(entrance, UPSTREAM, "/").unwrap_or_default();
        if answer.starts_with("HTTP/1.1 200") {
            *zones.entry(answer[answer.len() - 2..].to_owned()).or_default() += 1;
        }
    }
    zones
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_envoy_that_knows_its_siblings_stays_in_its_zone() {
    let Some(envoy) = envoy() else {
        assert!(std::env::var_os("CI").is_none(), "CI needs an Envoy: run `make envoy` and set ENVOY");
        println!("SKIPPED: no Envoy: run `make envoy`, or set ENVOY");
        return;
    };
    let free = |host: &str| {
        TcpListener::bind((host, 0)).and_then(|listener| listener.local_addr()).expect("a free port")
    };
    // Listeners are bound on an address of the test's own.
    let outbound = format!("127.76.{}.{}", std::process::id() >> 8 & 255, std::process::id() & 127 | 1);
    let (entrance, admin) = (free(&outbound), free("127.0.0.1"));
    let mut world = World::start(0).await;
    let zone_aware_lb = Some(ZoneAwareLb { min_cluster_size: Some(1), ..ZoneAwareLb::default() });
    world.registry.write_mesh_config(MeshConfig { zone_aware_lb, ..MeshConfig::default() });
    let (key, told) = upstream(entrance.port());
    world.east.set(key, told);
    let (own, told) = served(0, &[("web", &["z1", "z2"])]);
    world.east.set(own.clone(), told);
    world.east.apply([pod("web", &[0])], []);

    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("envoy.json");
    std::fs::write(&file, bootstrap(world.address, admin, &outbound).to_string()).expect("written");
    let proxy = Command::new(envoy)
        .args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "error", "-c"])
        .arg(&file)
        .spawn()
        .expect("Envoy starts");
    let proxy = Running(proxy);

    let page = |path: &'static str| move || get(admin, "envoy", path).unwrap_or_default();
    let member = |address: &str, zone: &str| format!("{NAME}::{address}::zone::{zone}");
    let both = |page: &String| {
        page.contains(&member("10.20.0.0:8080", "z1")) && page.contains(&member("10.20.0.1:8080", "z2"))
    };
    eventually("its siblings", page("/clusters"), both);
    let all = BTreeMap::from([("z1".to_owned(), REQUESTS)]);
    eventually("all in its zone", || spread(entrance), |zones| *zones == all);

    // Twice as many siblings here as there is upstream for: half of what they send goes to the other zone.
    world.east.set(own.clone(), served(0, &[("web", &["z1", "z1", "z1", "z1"])]).1);
    let half = |zones: &BTreeMap<String, usize>| {
        let [here, there] = ["z1", "z2"].map(|zone| zones.get(zone).copied().unwrap_or_default());
        here + there == REQUESTS && here > REQUESTS / 4 && there > REQUESTS / 4
    };
    eventually("half in its zone", || spread(entrance), half);
    world.east.set(own, served(0, &[("web", &["z1", "z2"])]).1);
    eventually("all in its zone again", || spread(entrance), |zones| *zones == all);
    // Nothing leads to the pod any more: it has no siblings, and spreads evenly.
    world.east.apply([pod("web", &[])], []);
    eventually("no siblings", page("/clusters"), |page| {
        page.contains(&format!("{NAME}::")) && !page.contains(&format!("{NAME}::10.20."))
    });
    eventually("evenly", || spread(entrance), half);
    drop(proxy);
    world.stop().await;
}
