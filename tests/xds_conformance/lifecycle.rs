//! §1.8: connections from their first byte to their end.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use envoy_types::pb::envoy::service::load_stats::v3::load_reporting_service_client::LoadReportingServiceClient;
use envoy_types::pb::envoy::service::status::v3::ClientStatusRequest;
use envoy_types::pb::envoy::service::status::v3::client_status_discovery_service_client::ClientStatusDiscoveryServiceClient;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tombolo::proto::discovery::DeltaDiscoveryRequest;
use tombolo::xds::resource::ResourceType::{Cluster, Endpoint};
use tonic::Code;
use tonic::transport::{Certificate, Channel, ClientTlsConfig};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::client::{BOTH, DEADLINE, Delta, SILENCE, Sotw, Stream, connect, sidecar};
use super::common::ALL;
use super::plane::{Options, Plane, Served, api, eventually};
use super::world::{eds, services, slice};

fn proxy(number: usize) -> tombolo::proto::discovery::Node {
    sidecar(&format!("p{number}"), "east", "net-east")
}

/// So many streams of both protocols with the assignment of service 0.
async fn subscribed(address: SocketAddr, count: usize) -> Vec<Stream> {
    let mut streams = Vec::new();
    for number in 0..count {
        let mut stream = Stream::open(address, BOTH[number % 2], proxy(number)).await;
        stream.start(Endpoint, &[eds(0)]).await;
        streams.push(stream);
    }
    streams
}

/// A way to `address` that can be made a black hole: what is sent is taken and goes nowhere.
async fn relay(address: SocketAddr) -> (SocketAddr, tokio::sync::watch::Sender<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let here = listener.local_addr().unwrap();
    let (cut, mut is_cut) = tokio::sync::watch::channel(false);
    tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut server = TcpStream::connect(address).await.unwrap();
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut client, &mut server) => return,
            _ = is_cut.wait_for(|cut| *cut) => {}
        }
        // Both ends stay open; the server's is read so that its side of TCP sees nothing.
        let mut nowhere = tokio::io::sink();
        let _ = tokio::io::copy(&mut server, &mut nowhere).await;
        drop(client);
    });
    (here, cut)
}

#[tokio::test(flavor = "multi_thread")]
async fn xl01_a_dead_peer_is_noticed() {
    let plane = Plane::start(1).await;
    let (address, cut) = relay(plane.address()).await;
    let mut streams = subscribed(address, 1).await;
    plane.server.streams(1).await;
    let started = tokio::time::Instant::now();
    cut.send_replace(true);
    streams[0].silent().await;
    eventually("the stream is gone", async || plane.server.proxies().await.is_empty().then_some(())).await;
    // PING after 30 s without a byte, 10 s for its answer.
    assert!(started.elapsed() >= Duration::from_secs(9), "not by the connection's own end");
    plane.server.counted("tombolo_connections", "closed", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn xl02_frequent_pings_of_clients_harm_nobody() {
    let plane = Plane::start(1).await;
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{}", plane.address())).unwrap();
    let pinging = endpoint.http2_keep_alive_interval(Duration::from_millis(20)).keep_alive_while_idle(true);
    let channel = pinging.connect().await.unwrap();
    let mut stream = Stream::on(channel, Delta.ads(), Delta, proxy(0)).await.unwrap();
    stream.start(Endpoint, &[eds(0)]).await;
    for count in 2..5 {
        stream.silent().await;
        plane.apply(slice(0, count));
        stream.until_endpoints(&eds(0), count).await;
    }
    // A thousand at once, by hand: answered or closed, and nothing else happens.
    let mut socket = TcpStream::connect(plane.address()).await.unwrap();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    for _ in 0..1_000 {
        bytes.extend([0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
    }
    let _ = socket.write_all(&bytes).await;
    let mut answer = [0_u8; 64];
    let read = tokio::time::timeout(DEADLINE, socket.read(&mut answer)).await.expect("an answer in time");
    assert!(read.is_err() || read.is_ok_and(|count| count > 0), "its settings at least");
    plane.serves().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn xl03_connections_end_around_their_age_with_a_status() {
    let plane = Plane::limited(1, "limits: {connection-age: 2s}").await;
    let mut streams = tokio::task::JoinSet::new();
    for number in 0..40 {
        let address = plane.address();
        streams.spawn(async move {
            let mut stream = Stream::open(address, BOTH[number % 2], proxy(number)).await;
            let opened = tokio::time::Instant::now();
            stream.start(Endpoint, &[eds(0)]).await;
            (stream.end().await.code(), opened.elapsed())
        });
    }
    let ended = streams.join_all().await;
    assert!(ended.iter().all(|(code, _)| *code == Code::Unavailable), "a status of its own: {ended:?}");
    let ages: Vec<_> = ended.iter().map(|(_, age)| *age).collect();
    let (first, last) = (ages.iter().min().unwrap(), ages.iter().max().unwrap());
    // From 80 % to 120 % of the age; 40 draws cover half of that but once in 10^10 runs.
    assert!(*first >= Duration::from_millis(1_400), "{first:?}");
    assert!(*last - *first >= Duration::from_millis(300), "{first:?} to {last:?}");
    plane.server.counted("tombolo_connections", "aged", 40).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn xl04_a_shutdown_ends_streams_in_order_and_loses_nothing() {
    let mut plane = Plane::start(1).await;
    let streams = subscribed(plane.address(), 60).await;
    let held: BTreeMap<_, _> = {
        let mut one = plane.proxy(Delta, "held").await;
        one.start(Endpoint, &[eds(0)]).await.versions()
    };
    plane.server.terminate();
    let ends = streams.into_iter().map(async |mut stream| {
        loop {
            match stream.next().await {
                Ok(told) => stream.ack(&told),
                Err(status) => return status.code(),
            }
        }
    });
    let changes = async {
        for count in 2..40 {
            plane.api.store().apply(slice(0, count)).unwrap();
            tokio::task::yield_now().await;
        }
    };
    let (codes, ()) = futures::future::join(futures::future::join_all(ends), changes).await;
    assert!(codes.iter().all(|code| *code == Code::Unavailable), "{codes:?}");
    assert_eq!(plane.server.ended().await, Some(0));
    // What changed meanwhile is there for who comes back.
    let next = Served::start(&plane.api, Options::default()).await;
    next.ready().await;
    let mut stream = Stream::open(next.address("grpc"), Delta, proxy(0)).await;
    stream.delta(DeltaDiscoveryRequest {
        type_url: Endpoint.url().to_owned(),
        resource_names_subscribe: vec![eds(0)],
        initial_resource_versions: held,
        ..DeltaDiscoveryRequest::default()
    });
    assert_eq!(stream.take(Endpoint).await.endpoints(&eds(0)).len(), 39);
}

async fn health(address: SocketAddr) -> ServingStatus {
    let mut client = HealthClient::new(connect(address).await);
    client.check(HealthCheckRequest::default()).await.expect("an answer").into_inner().status()
}

#[tokio::test(flavor = "multi_thread")]
async fn xl05_streams_are_refused_until_the_clusters_are_read() {
    let api = api(services(1)).await;
    api.freeze();
    let server = Served::start(&api, Options::default()).await;
    let address = server.address("grpc");
    assert_eq!(health(address).await, ServingStatus::NotServing);
    for protocol in BOTH {
        let refused = Stream::on(connect(address).await, protocol.ads(), protocol, proxy(0)).await;
        assert_eq!(refused.err().expect("refused").code(), Code::Unavailable);
    }
    api.thaw();
    server.ready().await;
    eventually("serving", async || (health(address).await == ServingStatus::Serving).then_some(())).await;
    let mut stream = Stream::open(address, Delta, proxy(0)).await;
    assert!(stream.start(Cluster, &ALL).await.has(&eds(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn xl06_too_many_streams_at_once_wait_or_come_again() {
    let plane = Plane::limited(1, "limits: {new-streams-per-second: 2}").await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..60 {
        let address = plane.address();
        tasks.spawn(async move {
            let protocol = BOTH[number % 2];
            let opened = Stream::on(connect(address).await, protocol.ads(), protocol, proxy(number)).await;
            let mut stream = opened.map_err(|status| status.code())?;
            stream.start(Endpoint, &[eds(0)]).await;
            Ok(())
        });
    }
    let outcomes = tasks.join_all().await;
    let served = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    // Two at once, and two a second over the ten seconds that one may wait.
    assert!((22..60).contains(&served), "{outcomes:?}");
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok(()) | Err(Code::ResourceExhausted))));
    let refused = plane.server.metric("tombolo_connections", "not_admitted").await;
    assert_eq!(refused as usize, outcomes.len() - served);
}

/// Connects as a proxy that lost its server does: again and again, later and later, jittered.
async fn comes_back(address: SocketAddr, number: usize, first: Duration) -> Stream {
    let deadline = tokio::time::Instant::now() + 2 * DEADLINE;
    let mut pause = first;
    loop {
        let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap();
        if let Ok(channel) = endpoint.connect().await {
            let protocol = BOTH[number % 2];
            if let Ok(mut stream) = Stream::on(channel, protocol.ads(), protocol, proxy(number)).await {
                stream.start(Cluster, &ALL).await;
                stream.start(Endpoint, &[eds(0)]).await;
                return stream;
            }
        }
        assert!(tokio::time::Instant::now() < deadline, "not in time");
        // Between half and all of it, another part for each.
        tokio::time::sleep(pause.mul_f64(0.5 + (number % 10) as f64 / 20.0)).await;
        pause = (pause * 2).min(Duration::from_secs(2));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn xl07_a_fleet_that_comes_back_at_once_is_served() {
    let mut plane = Plane::start(5).await;
    let address = plane.address();
    let streams = subscribed(address, 80).await;
    plane.server.kill();
    drop(streams);
    let fleet: Vec<_> = (0..80)
        .map(|number| {
            // Envoy's first pause, and that of a client without one to speak of.
            let first = Duration::from_millis(if number % 2 == 0 { 500 } else { 10 });
            tokio::spawn(comes_back(address, number, first))
        })
        .collect();
    let text = address.to_string();
    let options = Options { args: &["--grpc-addr", &text], ..Options::default() };
    let next = Served::start(&plane.api, options).await;
    let mut streams = Vec::new();
    for proxy in fleet {
        streams.push(proxy.await.expect("comes back"));
    }
    assert_eq!(next.proxies().await.len(), 80);
    plane.apply(slice(0, 2));
    for stream in &mut streams {
        stream.until_endpoints(&eds(0), 2).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn xl08_without_descriptors_nothing_spins_and_all_recovers() {
    let options =
        Options { config: "limits: {connections: 1000}", before: "ulimit -n 64", ..Options::default() };
    let plane = Plane::of(services(1), options).await;
    let mut stream = plane.proxy(Delta, "a").await;
    stream.start(Endpoint, &[eds(0)]).await;
    let mut held = Vec::new();
    for _ in 0..80 {
        held.push(TcpStream::connect(plane.address()).await.expect("the backlog takes it"));
    }
    eventually("no descriptor is left", async || (plane.server.files() >= 63).then_some(())).await;
    // A loop that spins takes a core in each of them; what else happens does not.
    let mut spent = f64::INFINITY;
    for _ in 0..3 {
        let before = plane.server.processor();
        tokio::time::sleep(Duration::from_secs(1)).await;
        spent = spent.min(plane.server.processor() - before);
    }
    assert!(spent <= 0.05, "{spent} s of processor in a second");
    plane.apply(slice(0, 2));
    stream.until_endpoints(&eds(0), 2).await;
    drop(held);
    tokio::time::timeout(DEADLINE, plane.serves()).await.expect("served again");
    // Pauses double from 10 ms up to a second.
    let tries = plane.server.metric("tombolo_connections", "accept_failed").await;
    assert!((1..40).contains(&tries), "{tries} tries");
    let log = plane.server.log();
    let told: Vec<_> = log.lines().filter(|line| line.contains("cannot accept connections")).collect();
    assert!(told.len() == 1 && told[0].contains("Too many open files"), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn z34_the_call_after_a_hundred_on_one_connection_waits_for_one_of_them() {
    let plane = Plane::start(1).await;
    let channel = connect(plane.address()).await;
    let open = async |number: usize| {
        let node = sidecar(&format!("p{number}"), "east", "net-east");
        let mut stream = Stream::on(channel.clone(), Delta.ads(), Delta, node).await.expect("opens");
        stream.start(Endpoint, &[eds(0)]).await;
        stream
    };
    let mut streams = Vec::new();
    for number in 0..100 {
        streams.push(open(number).await);
    }
    let mut next = std::pin::pin!(open(100));
    assert!(tokio::time::timeout(SILENCE, next.as_mut()).await.is_err(), "served beside a hundred others");
    plane.server.streams(100).await;
    drop(streams.pop());
    tokio::time::timeout(DEADLINE, next).await.expect("served in its place");
}

/// A root and what it signs.
struct Root {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Root {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Writes a certificate for `localhost` and its key.
    fn write(&self, dir: &Path) -> [String; 2] {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        [("key.pem", key.serialize_pem()), ("cert.pem", certificate)].map(|(name, text)| {
            std::fs::write(dir.join(name), text).unwrap();
            dir.join(name).to_str().unwrap().to_owned()
        })
    }

    /// A connection to the TLS listener by a client that trusts this root.
    async fn connect(&self, address: SocketAddr) -> Result<Channel, tonic::transport::Error> {
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&self.pem));
        let endpoint = tonic::transport::Endpoint::from_shared(format!("https://{address}")).unwrap();
        endpoint.tls_config(tls.domain_name("localhost"))?.connect().await
    }
}

/// A server with a TLS listener of `root`.
async fn secure(root: &Root, dir: &Path) -> (Plane, SocketAddr) {
    let [key, certificate] = root.write(dir);
    let args = ["--secure-grpc-addr", "127.0.0.1:0", "--tls-cert", &certificate, "--tls-key", &key];
    let plane = Plane::of(services(1), Options { args: &args, ..Options::default() }).await;
    let address = plane.server.address("secureGrpc");
    (plane, address)
}

#[tokio::test(flavor = "multi_thread")]
async fn xl09_stalled_handshakes_are_closed_and_hold_nobody_up() {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::new();
    let (_plane, address) = secure(&root, dir.path()).await;
    let mut stalled = Vec::new();
    for _ in 0..300 {
        let mut socket = TcpStream::connect(address).await.unwrap();
        // The beginning of a ClientHello.
        socket.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").await.unwrap();
        stalled.push(socket);
    }
    let channel = root.connect(address).await.expect("connects beside them");
    let mut stream = Stream::on(channel, Sotw.ads(), Sotw, proxy(0)).await.unwrap();
    stream.start(Endpoint, &[eds(0)]).await;
    for mut socket in stalled {
        let mut answer = Vec::new();
        // After 10 s.
        let _ =
            tokio::time::timeout(DEADLINE, socket.read_to_end(&mut answer)).await.expect("closed in time");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn xl10_new_certificates_are_taken_over_and_streams_live_on() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (Root::new(), Root::new());
    let (plane, address) = secure(&old, dir.path()).await;
    let channel = old.connect(address).await.unwrap();
    let mut stream = Stream::on(channel, Delta.ads(), Delta, proxy(0)).await.unwrap();
    stream.start(Endpoint, &[eds(0)]).await;
    new.write(dir.path());
    eventually("new handshakes", async || new.connect(address).await.ok().map(drop)).await;
    assert!(old.connect(address).await.is_err(), "of the old root no more");
    plane.apply(slice(0, 2));
    stream.until_endpoints(&eds(0), 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn xl11_a_stream_that_ends_before_any_answer_says_that_it_is_to_come_again() {
    let mut plane = Plane::start(1).await;
    let mut streams = Vec::new();
    for protocol in BOTH {
        streams.push(plane.proxy(protocol, "a").await);
    }
    plane.server.terminate();
    for mut stream in streams {
        assert_eq!(stream.next().await.expect_err("no answer").code(), Code::Unavailable);
    }
    assert_eq!(plane.server.ended().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn xl12_load_reports_are_unimplemented_and_client_status_is_served() {
    let plane = Plane::start(1).await;
    let channel = connect(plane.address()).await;
    let mut loads = LoadReportingServiceClient::new(channel.clone());
    let refused = loads.stream_load_stats(tokio_stream::empty()).await.expect_err("refused");
    assert_eq!(refused.code(), Code::Unimplemented);
    let _streams = subscribed(plane.address(), 2).await;
    let mut clients = ClientStatusDiscoveryServiceClient::new(channel);
    let answer = clients.fetch_client_status(ClientStatusRequest::default()).await.unwrap().into_inner();
    assert_eq!(answer.config.len(), 2);
    assert!(answer.config.iter().all(|client| client.generic_xds_configs[0].type_url == Endpoint.url()));
}

#[tokio::test(flavor = "multi_thread")]
async fn xl13_what_is_no_proxy_is_closed_quietly() {
    let plane = Plane::start(1).await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let mut sockets = Vec::new();
    for _ in 0..10 {
        for bytes in [
            &b""[..],
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"\x00\xff\x13\x37garbage",
            &preface[..20],
            preface,
        ] {
            let mut socket = TcpStream::connect(plane.address()).await.unwrap();
            socket.write_all(bytes).await.unwrap();
            sockets.push(socket);
        }
    }
    plane.serves().await;
    for mut socket in sockets {
        let mut answer = Vec::new();
        // After 10 s at the latest.
        let _ =
            tokio::time::timeout(DEADLINE, socket.read_to_end(&mut answer)).await.expect("closed in time");
    }
    plane.serves().await;
    let lines = plane.server.log().lines().count();
    assert!(lines < 60, "{lines} lines of log for 60 connections");
}

#[tokio::test(flavor = "multi_thread")]
async fn xl14_health_flips_before_the_streams_end() {
    let mut plane = Plane::start(1).await;
    let mut client = HealthClient::new(connect(plane.address()).await);
    let mut watch = client.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    let mut streams = subscribed(plane.address(), 40).await;
    plane.server.terminate();
    let flipped = tokio::time::timeout(DEADLINE, watch.message()).await.expect("in time").unwrap().unwrap();
    assert_eq!(flipped.status(), ServingStatus::NotServing);
    for stream in &mut streams {
        assert_eq!(stream.end().await.code(), Code::Unavailable);
    }
    assert_eq!(plane.server.ended().await, Some(0));
}
