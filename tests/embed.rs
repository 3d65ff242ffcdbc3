//! The embedding example serves a real Envoy.
//!
//! Needs an Envoy (`$ENVOY` or `PATH`); without one it is skipped loudly, and fails with `CI=true`.
#![allow(missing_docs, clippy::print_stdout)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(30);

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

fn example() -> PathBuf {
    let test = std::env::current_exe().expect("the test has a path");
    let target = test.parent().and_then(|deps| deps.parent()).expect("target/<profile>/deps");
    target.join("examples/embed")
}

/// An address of this machine that nobody listens on right now.
fn free(host: &str) -> SocketAddr {
    TcpListener::bind((host, 0)).and_then(|listener| listener.local_addr()).expect("a free port")
}

fn get(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: envoy\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

/// Asks until the page says what is wanted.
fn eventually(address: SocketAddr, path: &str, wanted: &str) -> String {
    let end = Instant::now() + LIMIT;
    loop {
        let page = get(address, path).unwrap_or_default();
        if page.contains(wanted) {
            return page;
        }
        assert!(Instant::now() < end, "{path} never said {wanted:?}; last: {page}");
        // Leaves the processor to Envoy between two looks.
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

#[test]
fn a_registry_fed_by_hand_serves_a_real_envoy() {
    let Some(envoy) = envoy() else {
        assert!(std::env::var_os("CI").is_none(), "CI needs an Envoy: run `make envoy` and set ENVOY");
        println!("SKIPPED: no Envoy: run `make envoy`, or set ENVOY");
        return;
    };
    let mut server = Command::new(example())
        .arg("127.0.0.1:0")
        .stdout(Stdio::piped())
        .spawn()
        .expect("the example is built with the tests");
    let mut lines = BufReader::new(server.stdout.take().expect("piped")).lines();
    let _server = Running(server);
    let line = lines.next().expect("a line").expect("text");
    let xds: SocketAddr =
        line.split([' ', ',']).find_map(|word| word.parse().ok()).expect("the line names the address");

    // Listeners are bound on an address of the test's own.
    let outbound = format!("127.77.{}.{}", std::process::id() >> 8 & 255, std::process::id() & 127 | 1);
    let admin = free("127.0.0.1");
    let options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    let address = |socket: SocketAddr| serde_json::json!({"socket_address": {"address": socket.ip().to_string(), "port_value": socket.port()}});
    let ads = serde_json::json!({"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"});
    let bootstrap = serde_json::json!({
        "node": {
            "id": "sidecar~127.0.0.1~client.demo~demo.svc.cluster.local",
            "cluster": "client.demo",
            "metadata": {
                "CLUSTER_ID": "east", "NETWORK": "net-east", "NAMESPACE": "demo",
                "INTERCEPTION_MODE": "NONE", "TOMBOLO_OUTBOUND_ADDRESS": outbound,
            },
        },
        "admin": {"address": address(admin)},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC", "transport_api_version": "V3", "set_node_on_first_message_only": true,
                "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc"}}],
            },
            "cds_config": ads, "lds_config": ads,
        },
        "static_resources": {"clusters": [{
            "name": "xds-grpc", "type": "STATIC", "connect_timeout": "1s",
            "typed_extension_protocol_options": {options: {
                "@type": format!("type.googleapis.com/{options}"),
                "explicit_http_config": {"http2_protocol_options": {}},
            }},
            "load_assignment": {
                "cluster_name": "xds-grpc",
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(xds)}}]}],
            },
        }]},
    });
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("envoy.json");
    std::fs::write(&file, bootstrap.to_string()).expect("written");
    let proxy = Command::new(envoy)
        .args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "error", "-c"])
        .arg(&file)
        .spawn()
        .expect("Envoy starts");
    let _proxy = Running(proxy);

    eventually(admin, "/server_info", "\"state\": \"LIVE\"");
    let hello = "outbound|8000||hello.demo.svc.cluster.local::";
    let clusters = eventually(admin, "/clusters", &format!("{hello}192.0.2.2:15443::weight::1"));
    assert!(clusters.contains(&format!("{hello}10.0.0.1:8080::weight::1")), "{clusters}");
    assert!(!clusters.contains(&format!("{hello}192.0.2.1")), "the own network's gateway is not used");
    eventually(admin, "/listeners", &format!("{outbound}_8000"));
}
