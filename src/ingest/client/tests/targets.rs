//! Where connections go, and where never.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use hyper_util::client::legacy::connect::dns::Name;
use rustix::net::sockopt;
use tower::util::BoxCloneSyncService;

use super::server::{Ca, Seen, Server, text};
use super::*;
use crate::ingest::client::guard::Lookup;

const BOTH: &[&str] = &["h2", "http/1.1"];

fn lookup(answer: impl Fn() -> Vec<SocketAddr> + Clone + Send + Sync + 'static) -> Lookup {
    BoxCloneSyncService::new(tower::service_fn(move |_: Name| {
        let answer = answer();
        async move { Ok::<_, io::Error>(answer) }
    }))
}

fn dialer(url: &str, resolver: GuardedResolver) -> Dialer {
    Dialer {
        target: url.parse().unwrap(),
        server: "server:443".into(),
        resolver,
        tls: None,
        traffic: Arc::default(),
        patience: Patience::default(),
    }
}

#[test]
fn k05_a_dead_connection_is_found_within_20_seconds_and_nothing_waits_longer_to_begin() {
    let Patience { connect, tls, ping, pong, exec: _, young: _ } = Patience::default();
    assert_eq!([connect, tls, ping, pong], [Duration::from_secs(10); 4]);
}

#[tokio::test]
async fn z_04_a_name_that_changes_its_address_gains_nothing() {
    let ca = Ca::new("ca");
    let server = Server::answering(ca.server(BOTH), |_| text(200, "ok")).await;
    let mut config = server.config(&ca);
    config.cluster_url = format!("https://localhost:{}", server.address.port()).parse().unwrap();
    // What a check ahead of time would have seen is of no interest to the connection.
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let flipping = lookup(move || {
        let first = counted.fetch_add(1, SeqCst) == 0;
        vec![if first { ([127, 0, 0, 1], 0).into() } else { ([169, 254, 169, 254], 0).into() }]
    });
    let resolver = GuardedResolver { lookup: flipping, policy: AddressPolicy::Remote };
    let api = ApiServer::with(&config, resolver, Patience::default()).unwrap();
    for kind in ["loopback", "link-local"] {
        let error = get(&api, "/").await.unwrap_err();
        assert!(
            matches!(&error, TransportError::ForbiddenAddress { error, .. } if matches!(error, ForbiddenAddress::Special { kind: is, .. } if *is == kind)),
            "{error}"
        );
    }
    assert_eq!((server.accepted(), asked.load(SeqCst)), (0, 2));
}

#[tokio::test]
async fn z_04_addresses_in_disguise_are_found_out_when_connecting() {
    for host in [
        "127.0.0.1",
        "[::1]",
        "[::ffff:169.254.169.254]",
        "169.254.169.254",
        // The system's resolver reads these as numbers, in bases of its own.
        "2130706433",
        "0177.0.0.1",
        "0x7f.1",
    ] {
        let dialer = dialer(&format!("http://{host}:1"), GuardedResolver::new(AddressPolicy::Remote));
        let error = dialer.dial().await.err().expect("refused");
        assert!(
            matches!(error, TransportError::ForbiddenAddress { .. } | TransportError::Resolve { .. }),
            "{host}: {error}"
        );
    }
}

#[tokio::test]
async fn z_04_one_forbidden_address_among_others_is_enough() {
    let both = lookup(|| vec![([192, 0, 2, 1], 0).into(), ([127, 0, 0, 1], 0).into()]);
    let resolver = GuardedResolver { lookup: both, policy: AddressPolicy::Remote };
    let error = dialer("https://name", resolver).dial().await.err().expect("refused");
    assert!(matches!(error, TransportError::ForbiddenAddress { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_resolver_that_never_answers_is_given_up_after_ten_seconds() {
    let never = BoxCloneSyncService::new(tower::service_fn(|_: Name| std::future::pending()));
    let resolver = GuardedResolver { lookup: never, policy: AddressPolicy::Any };
    let before = tokio::time::Instant::now();
    let error = dialer("https://name", resolver).dial().await.err().expect("given up");
    assert_eq!(before.elapsed(), Duration::from_secs(10));
    assert_eq!(error.to_string(), "server:443: connecting took longer than 10s");
}

#[tokio::test]
async fn names_without_an_address_are_told_apart() {
    let resolver = GuardedResolver { lookup: lookup(Vec::new), policy: AddressPolicy::Any };
    let error = dialer("https://name", resolver).dial().await.err().expect("nowhere to go");
    assert_eq!(error.to_string(), "server:443: cannot resolve its name: it has no address");
}

#[test]
fn k05_connecting_pings_and_their_answers_take_ten_seconds_at_most() {
    let Patience { connect, tls, ping, pong, .. } = Patience::default();
    assert_eq!([connect, tls, ping, pong], [Duration::from_secs(10); 4]);
}

#[tokio::test]
async fn connections_are_probed_by_the_kernel_and_send_at_once() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let tcp = dialer(&url, GuardedResolver::new(AddressPolicy::Any)).connect().await.unwrap();
    assert!(tcp.nodelay().unwrap());
    assert!(sockopt::socket_keepalive(&tcp).unwrap());
    assert_eq!(sockopt::tcp_keepidle(&tcp).unwrap(), Duration::from_secs(10));
    assert_eq!(sockopt::tcp_keepintvl(&tcp).unwrap(), Duration::from_secs(10));
    assert_eq!(sockopt::tcp_keepcnt(&tcp).unwrap(), 3);
    assert_eq!(sockopt::tcp_user_timeout(&tcp).unwrap(), 20_000);
}

#[tokio::test]
async fn z_06_redirects_are_answers_and_the_token_goes_nowhere() {
    let ca = Ca::new("ca");
    let other = Server::answering(ca.server(BOTH), |_| text(200, "mine now")).await;
    let location = format!("https://{}/", other.address);
    let server = Server::answering(ca.server(BOTH), move |_| {
        let mut answer = text(302, "");
        answer.headers_mut().insert(http::header::LOCATION, location.parse().unwrap());
        answer
    });
    let server = server.await;
    let mut config = server.config(&ca);
    config.auth_info.token = Some("canary".to_owned().into());
    assert_eq!(get(&client(&config), "/").await.unwrap().0, 302);
    assert_eq!(other.accepted(), 0);
}

#[tokio::test]
async fn a_path_of_the_servers_url_goes_in_front() {
    let (ca, seen) = (Ca::new("ca"), Seen::default());
    let paths = Arc::clone(&seen);
    let server = Server::answering(ca.server(BOTH), move |request| {
        let agent = request.headers()[USER_AGENT].to_str().unwrap().to_owned();
        paths.lock().unwrap().push((request.uri().path_and_query().unwrap().to_string(), agent));
        text(200, "")
    });
    let server = server.await;
    let mut config = server.config(&ca);
    config.cluster_url = format!("https://{}/k8s/clusters/c-1/", server.address).parse().unwrap();
    get(&client(&config), "/api/v1/pods?limit=1").await.unwrap();
    let (path, agent) = seen.lock().unwrap()[0].clone();
    assert_eq!(path, "/k8s/clusters/c-1/api/v1/pods?limit=1");
    assert!(agent.starts_with("tombolo/"), "{agent}");
    let error = get(&client(&config), "/a b").await.unwrap_err();
    assert!(matches!(error, TransportError::Request { .. }), "{error}");
}

/// Runs itself again in an environment that tempts.
#[tokio::test]
async fn z_08_the_environment_changes_no_target() {
    const INSIDE: &str = "TOMBOLO_TEST_Z_08";
    if std::env::var_os(INSIDE).is_none() {
        let name = "ingest::client::tests::targets::z_08_the_environment_changes_no_target";
        let mut again = tokio::process::Command::new(std::env::current_exe().unwrap());
        again.args(["--exact", name, "--test-threads=1"]).env(INSIDE, "1").env("KUBECONFIG", "/nonexistent");
        for proxy in ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
            again.env(proxy, "http://127.0.0.1:9");
        }
        for (name, value) in [
            ("KUBE_RS_DEBUG_OVERRIDE_URL", "https://127.0.0.1:9"),
            ("KUBE_RS_DEBUG_IMPERSONATE_USER", "root"),
            ("KUBERNETES_SERVICE_HOST", "127.0.0.1"),
            ("KUBERNETES_SERVICE_PORT", "9"),
        ] {
            again.env(name, value);
        }
        let output = again.kill_on_drop(true).output().await.unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
        return;
    }
    let ca = Ca::new("ca");
    let server = Server::answering(ca.server(BOTH), |request| {
        text(if request.headers().contains_key("impersonate-user") { 500 } else { 200 }, "")
    });
    let server = server.await;
    let kubeconfig = serde_json::json!({
        "clusters": [{"name": "c", "cluster": {
            "server": format!("https://{}", server.address),
            "certificate-authority-data":
                base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &ca.pem),
        }}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
    });
    let bytes = kubeconfig.to_string();
    let remote = crate::ingest::kubeconfig::RemoteKubeconfig::parse(bytes.as_bytes(), AddressPolicy::Any);
    assert_eq!(get(&client(&remote.unwrap().config), "/").await.unwrap().0, 200);
}

#[tokio::test]
async fn z_04_a_server_that_is_not_listed_is_not_connected_to() {
    let policy = |list: &str, special| AddressPolicy::Listed {
        servers: Arc::new(ServerList::parse(list).unwrap()),
        special,
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let here = lookup(move || vec![([127, 0, 0, 1], port).into()]);
    for (list, host, special, connects) in [
        ("127.0.0.0/8", "name", true, true),
        ("name", "name", true, true),
        ("10.0.0.0/8", "name", true, false),
        ("other", "name", true, false),
        ("127.0.0.1", "127.0.0.1", true, true),
        ("127.0.0.2", "127.0.0.1", true, false),
        // A list does not make this machine a remote one.
        ("127.0.0.0/8", "name", false, false),
    ] {
        let resolver = GuardedResolver { lookup: here.clone(), policy: policy(list, special) };
        let made = dialer(&format!("http://{host}:{port}"), resolver).connect().await;
        match made {
            Ok(_) => assert!(connects, "{list} {host}"),
            Err(error) => {
                assert!(!connects, "{list} {host}: {error}");
                assert!(matches!(error, TransportError::ForbiddenAddress { .. }), "{error}");
            }
        }
    }
}
