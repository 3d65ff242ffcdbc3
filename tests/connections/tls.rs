//! TLS listeners from files.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};
use tombolo::proto::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use tombolo::xds::resource::ResourceType::Endpoint;
use tombolo::xds::{Certificates, Limits, Settings, TlsFiles};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint as Address, Identity};

use super::observed::until;
use crate::client::{DEADLINE, Delta, sidecar};
use crate::world::{World, eds, key, shard};

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

    /// A certificate for `localhost` and its key.
    fn leaf(&self) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

fn write(dir: &Path, name: &str, text: &str) -> std::path::PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// Files of a listener of `root`; with `clients` as the roots of clients.
fn files(dir: &Path, root: &Root, clients: Option<&Root>) -> TlsFiles {
    let (certificate, key) = root.leaf();
    TlsFiles {
        certificate: write(dir, "cert.pem", &certificate),
        key: write(dir, "key.pem", &key),
        client_ca: clients.map(|root| write(dir, "clients.pem", &root.pem)),
    }
}

async fn world(files: TlsFiles, limits: Limits) -> World {
    let certificates: Arc<Certificates> = Certificates::load(files).unwrap();
    World::start_on(1, Settings { limits, ..Settings::default() }, None, Some(certificates)).await
}

async fn connect(
    world: &World,
    root: &Root,
    identity: Option<(String, String)>,
) -> Result<AggregatedDiscoveryServiceClient<Channel>, tonic::transport::Error> {
    let mut tls =
        ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&root.pem)).domain_name("localhost");
    if let Some((certificate, key)) = identity {
        tls = tls.identity(Identity::from_pem(certificate, key));
    }
    let address = Address::from_shared(format!("https://{}", world.address)).unwrap().tls_config(tls)?;
    Ok(AggregatedDiscoveryServiceClient::new(address.connect().await?))
}

/// Whether a stream is served.
async fn served(client: AggregatedDiscoveryServiceClient<Channel>) -> Result<Delta, tonic::Status> {
    let mut stream = Delta::on(client, sidecar("p", "east", "net-east")).await?;
    stream.subscribe(Endpoint, &[&eds(0)]).await;
    let response = stream.next().await?;
    stream.ack(&response).await;
    Ok(stream)
}

#[tokio::test]
async fn l10_new_handshakes_use_new_files_and_open_streams_live_on() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (Root::new(), Root::new());
    let mut world = world(files(dir.path(), &old, None), Limits::default()).await;
    let mut stream = served(connect(&world, &old, None).await.unwrap()).await.unwrap();
    let (certificate, key_pem) = new.leaf();
    write(dir.path(), "key.pem", &key_pem);
    write(dir.path(), "cert.pem", &certificate);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while connect(&world, &new, None).await.is_err() {
        assert!(tokio::time::Instant::now() < deadline, "not taken over");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(connect(&world, &old, None).await.is_err(), "of the old root no more");
    world.east.set(key(0), shard("east", 0, 3));
    stream.expect(Endpoint).await;
    world.stop().await;
}

#[tokio::test]
async fn z15_with_roots_of_clients_every_client_needs_a_certificate_under_them() {
    let dir = tempfile::tempdir().unwrap();
    let (servers, clients) = (Root::new(), Root::new());
    let world = world(files(dir.path(), &servers, Some(&clients)), Limits::default()).await;
    served(connect(&world, &servers, Some(clients.leaf())).await.unwrap()).await.expect("served");
    for identity in [None, Some(servers.leaf())] {
        // The refusal reaches the client with the handshake or with its first call.
        let refused = match connect(&world, &servers, identity).await {
            Err(_) => true,
            Ok(client) => served(client).await.is_err(),
        };
        assert!(refused);
    }
    let failed = || world.server.counts().connections.handshakes_failed.load(Ordering::Relaxed);
    until("both are counted", || failed() == 2).await;
    world.stop().await;
}

#[tokio::test]
async fn l10_new_handshakes_use_new_roots_of_clients_and_open_streams_live_on() {
    let dir = tempfile::tempdir().unwrap();
    let (servers, old, new) = (Root::new(), Root::new(), Root::new());
    let mut world = world(files(dir.path(), &servers, Some(&old)), Limits::default()).await;
    let serves = async |world: &World, root: &Root| match connect(world, &servers, Some(root.leaf())).await {
        Ok(client) => served(client).await.ok(),
        Err(_) => None,
    };
    let mut stream = serves(&world, &old).await.expect("served");
    assert!(serves(&world, &new).await.is_none(), "not yet");
    write(dir.path(), "clients.pem", &new.pem);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while serves(&world, &new).await.is_none() {
        assert!(tokio::time::Instant::now() < deadline, "not taken over");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(serves(&world, &old).await.is_none(), "clients of the old root no more");
    world.east.set(key(0), shard("east", 0, 3));
    stream.expect(Endpoint).await;
    world.stop().await;
}

#[tokio::test]
async fn l09_stalled_handshakes_are_closed_and_hold_nobody_up() {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::new();
    let limits = Limits { handshakes: 2, introduction: Duration::from_secs(2), ..Limits::default() };
    let world = world(files(dir.path(), &root, None), limits).await;
    let mut stalled = Vec::new();
    for _ in 0..50 {
        let mut socket = TcpStream::connect(world.address).await.unwrap();
        // The beginning of a ClientHello.
        socket.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").await.unwrap();
        stalled.push(socket);
    }
    let started = tokio::time::Instant::now();
    served(connect(&world, &root, None).await.unwrap()).await.expect("served");
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    for mut socket in stalled {
        let mut answer = Vec::new();
        let _ =
            tokio::time::timeout(DEADLINE, socket.read_to_end(&mut answer)).await.expect("closed in time");
    }
    world.stop().await;
}

/// What a client of TLS says first.
async fn client_hello(root: &Root) -> Vec<u8> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(root.pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let (ours, mut theirs) = tokio::io::duplex(16 << 10);
    let connector = TlsConnector::from(Arc::new(config));
    let mut connecting = Box::pin(connector.connect("localhost".try_into().unwrap(), ours));
    let mut hello = vec![0; 16 << 10];
    tokio::select! {
        _ = &mut connecting => panic!("nobody answers"),
        length = theirs.read(&mut hello) => hello.truncate(length.unwrap()),
    }
    hello
}

#[tokio::test]
async fn z39_handshakes_that_wait_for_their_turn_end_in_time_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::new();
    let limits = Limits { handshakes: 2, introduction: Duration::from_secs(2), ..Limits::default() };
    let world = world(files(dir.path(), &root, None), limits).await;
    let hello = client_hello(&root).await;
    let mut stalled = Vec::new();
    // Two at a time for two seconds each would be a minute.
    for _ in 0..60 {
        let mut socket = TcpStream::connect(world.address).await.unwrap();
        socket.write_all(&hello).await.unwrap();
        stalled.push(socket);
    }
    let all = async {
        for socket in &mut stalled {
            let _ = socket.read_to_end(&mut Vec::new()).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), all).await.expect("closed in time");
    let failed = || world.server.counts().connections.handshakes_failed.load(Ordering::Relaxed);
    until("all are counted", || failed() == 60).await;
    served(connect(&world, &root, None).await.unwrap()).await.expect("served");
    world.stop().await;
}

#[tokio::test]
async fn plaintext_on_the_tls_port_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::new();
    let world = world(files(dir.path(), &root, None), Limits::default()).await;
    let mut socket = TcpStream::connect(world.address).await.unwrap();
    socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(DEADLINE, socket.read_to_end(&mut answer)).await.expect("closed in time");
    world.stop().await;
}
