//! Tokens and certificates that change while we work.

use std::path::Path;
use std::time::{Duration, SystemTime};

use futures::StreamExt as _;
use http::header::AUTHORIZATION;

use super::server::{Ca, Seen, Server, frame, frames, live, text, until};
use super::*;

const BOTH: &[&str] = &["h2", "http/1.1"];
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A server that accepts one token, which may change, and keeps `/watch` open.
struct TokenServer {
    server: Server,
    accepted: Arc<std::sync::Mutex<String>>,
    asked: Seen<String>,
}

impl TokenServer {
    async fn start(ca: &Ca, token: &str) -> Self {
        let accepted = Arc::new(std::sync::Mutex::new(token.to_owned()));
        let asked = Seen::default();
        let (right, seen) = (Arc::clone(&accepted), Arc::clone(&asked));
        let held = Seen::default();
        let server = Server::answering(ca.server(BOTH), move |request| {
            let header = request.headers().get(AUTHORIZATION);
            let header = header.map_or_else(String::new, |header| header.to_str().unwrap().to_owned());
            let right = format!("Bearer {}", right.lock().unwrap()) == header;
            seen.lock().unwrap().push(header);
            match request.uri().path() {
                "/watch" if right => {
                    let (sender, answer) = live();
                    sender.send("event".into()).unwrap();
                    held.lock().unwrap().push(sender);
                    answer
                }
                _ => text(if right { 200 } else { 401 }, ""),
            }
        });
        Self { server: server.await, accepted, asked }
    }

    fn accept(&self, token: &str) {
        *self.accepted.lock().unwrap() = token.to_owned();
    }

    fn config(&self, ca: &Ca, file: &Path) -> kube::Config {
        let mut config = self.server.config(ca);
        config.auth_info.token_file = Some(file.to_str().unwrap().to_owned());
        config
    }
}

async fn status(api: &ApiServer, path: &str) -> u16 {
    get(api, path).await.unwrap().0
}

/// What requests come with now is refused.
async fn refuse(api: &ApiServer) {
    let answer = api.get("/".to_owned(), JSON).await.unwrap();
    api.unauthorized(answer.presented);
}

/// No request goes on a connection of before.
fn retire(api: &ApiServer) {
    api.inner.pool.retire(api.inner.pool.epoch());
}

#[tokio::test]
async fn k16_a_refused_token_file_is_read_again_at_once_and_running_watches_stay() {
    let (ca, dir) = (Ca::new("ca"), tempfile::tempdir().unwrap());
    let server = TokenServer::start(&ca, "one").await;
    let file = dir.path().join("token");
    std::fs::write(&file, "one\n").unwrap();
    let api = client(&server.config(&ca, &file));
    let mut watch = api.get("/watch".to_owned(), JSON).await.unwrap();
    assert_eq!(watch.body.next().await, Some(Ok("event".into())));
    server.accept("two");
    std::fs::write(&file, "two\n").unwrap();
    assert_eq!(status(&api, "/list").await, 401, "the minute is not over");
    refuse(&api).await;
    assert_eq!(status(&api, "/list").await, 200);
    let no_end = tokio::time::timeout(Duration::from_millis(50), watch.body.next()).await;
    assert!(no_end.is_err(), "{no_end:?}");
    // A file that is gone or empty leaves the last token in use; the problem can be seen.
    for content in [None, Some("")] {
        match content {
            None => std::fs::remove_file(&file).unwrap(),
            Some(text) => std::fs::write(&file, text).unwrap(),
        }
        refuse(&api).await;
        assert_eq!(status(&api, "/list").await, 200);
        assert!(api.credentials().problem.is_some_and(|problem| problem.contains("token")));
    }
    assert_eq!(server.server.accepted(), 1);
    assert!(server.asked.lock().unwrap().iter().all(|header| header.starts_with("Bearer ")));
}

#[tokio::test]
async fn k30_new_requests_come_with_a_token_that_took_over_and_running_watches_stay() {
    let ca = Ca::new("ca");
    let token = |n| TokenUser::example("sa", n).header().strip_prefix("Bearer ").unwrap().to_owned();
    let server = TokenServer::start(&ca, &token(1)).await;
    let with = |n| {
        let mut config = server.server.config(&ca);
        config.auth_info.token = Some(token(n).into());
        client(&config)
    };
    let (api, next) = (with(1), with(2));
    let mut watch = api.get("/watch".to_owned(), JSON).await.unwrap();
    assert_eq!(watch.body.next().await, Some(Ok("event".into())));
    server.accept(&token(2));
    assert_eq!((status(&next, "/list").await, status(&api, "/list").await), (200, 401));
    let user = next.token_user().unwrap();
    assert!(api.token_user().unwrap().is_same_user(&user));
    drop(next);
    api.take_token(user);
    assert_eq!(status(&api, "/list").await, 200);
    assert_eq!(api.token_user().unwrap().header(), TokenUser::example("sa", 2).header());
    let no_end = tokio::time::timeout(Duration::from_millis(50), watch.body.next()).await;
    assert!(no_end.is_err(), "{no_end:?}");
    until("one connection is left", || {
        server.server.accepted() == 2 && api.traffic().connections_open() == 1
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn k16_a_rotated_token_file_is_picked_up_within_a_minute() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "one").unwrap();
    let mut config = kube::Config::new("https://192.0.2.1".parse().unwrap());
    config.auth_info.token_file = Some(file.to_str().unwrap().to_owned());
    let authorization = Authorization::new(&config, Duration::from_secs(60), &Readers::default()).unwrap();
    let header = async || {
        let header = authorization.header().await.unwrap();
        header.value.unwrap().to_str().unwrap().to_owned()
    };
    assert_eq!(header().await, "Bearer one");
    std::fs::write(&file, "two").unwrap();
    tokio::time::advance(Duration::from_secs(59)).await;
    assert_eq!(header().await, "Bearer one");
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(header().await, "Bearer two");
}

#[tokio::test]
async fn k16_a_token_beside_its_file_is_used_until_the_file_is_there() {
    let (ca, dir) = (Ca::new("ca"), tempfile::tempdir().unwrap());
    let server = TokenServer::start(&ca, "inline").await;
    let file = dir.path().join("token");
    let mut config = server.config(&ca, &file);
    let error = get(&client(&config), "/list").await.unwrap_err();
    assert!(
        matches!(&error, TransportError::Credentials { cause, .. } if cause.contains("cannot read token file"))
    );
    config.auth_info.token = Some("inline".to_owned().into());
    let api = client(&config);
    assert_eq!(status(&api, "/list").await, 200);
    std::fs::write(&file, "file").unwrap();
    server.accept("file");
    refuse(&api).await;
    assert_eq!(status(&api, "/list").await, 200);
}

#[tokio::test]
async fn basic_auth_and_plain_tokens_arrive_and_are_told_nowhere() {
    let (ca, seen) = (Ca::new("ca"), Seen::default());
    let headers = Arc::clone(&seen);
    let server = Server::answering(ca.server(BOTH), move |request| {
        headers.lock().unwrap().push(request.headers()[AUTHORIZATION].to_str().unwrap().to_owned());
        text(200, "")
    });
    let server = server.await;
    let mut config = server.config(&ca);
    config.auth_info.token = Some("canary".to_owned().into());
    let api = client(&config);
    status(&api, "/").await;
    assert_eq!(api.credentials().kinds, [CredentialKind::Token]);
    assert!(!format!("{api:?} {:?}", api.credentials()).contains("canary"));
    config.auth_info.username = Some("user".to_owned());
    config.auth_info.password = Some("canary".to_owned().into());
    status(&client(&config), "/").await;
    assert_eq!(*seen.lock().unwrap(), ["Bearer canary", "Basic dXNlcjpjYW5hcnk="]);
}

#[tokio::test]
async fn k17_new_connections_use_the_new_ca_while_the_old_one_serves_until_it_ends() {
    let (old, new, dir) = (Ca::new("old"), Ca::new("new"), tempfile::tempdir().unwrap());
    let file = dir.path().join("ca.crt");
    std::fs::write(&file, &old.pem).unwrap();
    let first = std::sync::atomic::AtomicBool::new(true);
    let server = Server::start(old.server(&["h2"]), move |stream| {
        let first = first.swap(false, std::sync::atomic::Ordering::SeqCst);
        frames(stream, move |kind, id| {
            Some(match kind {
                frame::HEADERS if first && id == 1 => frame::write(frame::HEADERS, 4, 1, frame::OK),
                // The watch gets an event for each list of its connection.
                frame::HEADERS if first => [
                    frame::write(frame::HEADERS, 5, id, frame::OK),
                    frame::write(frame::DATA, 0, 1, b"event"),
                ]
                .concat(),
                frame::HEADERS => frame::write(frame::HEADERS, 5, id, frame::OK),
                _ => Vec::new(),
            })
        })
    });
    let server = server.await;
    let mut config = server.config(&old);
    config.root_cert_file = Some(file.clone());
    let api = client(&config);
    let before = api.credentials().ca_sha256;
    let mut watch = api.get("/watch".to_owned(), JSON).await.unwrap();
    // The server's certificate is exchanged, then the file that says whom to trust.
    server.exchange_certificate(new.server(&["h2"]));
    status(&api, "/list").await;
    assert_eq!(watch.body.next().await, Some(Ok("event".into())));
    retire(&api);
    let error = get(&api, "/list").await.unwrap_err();
    assert!(
        matches!(&error, TransportError::Tls { cause, .. } if cause.contains("UnknownIssuer")),
        "{error}"
    );
    std::fs::write(&file, &new.pem).unwrap();
    status(&api, "/list").await;
    assert_ne!(api.credentials().ca_sha256, before);
    assert_eq!(api.traffic().connections_open(), 2, "the old connection still serves its watch");
    // A file in the middle of being written changes nothing.
    std::fs::write(&file, "-----BEGIN CERT").unwrap();
    retire(&api);
    status(&api, "/list").await;
    assert!(api.credentials().problem.is_some_and(|problem| problem.contains("ca.crt")));
}

#[tokio::test]
async fn k17_an_inline_ca_does_not_trust_another_one() {
    let (ca, other) = (Ca::new("ca"), Ca::new("other"));
    let server = Server::answering(other.server(BOTH), |_| text(200, "")).await;
    let error = get(&client(&server.config(&ca)), "/").await.unwrap_err();
    assert!(matches!(error, TransportError::Tls { .. }), "{error}");
}

/// A server that says who its client is.
async fn whoami(ca: &Ca) -> Server {
    Server::start(ca.server(BOTH), whoami_of).await
}

async fn whoami_of(stream: server::Accepted) {
    let certificate = stream.get_ref().1.peer_certificates().map(|chain| chain[0].to_vec());
    let name = certificate.map_or_else(String::new, |der| {
        let (_, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
        parsed.subject().to_string()
    });
    server::http(stream, Arc::new(move |_| text(200, name.clone()))).await;
}

#[tokio::test]
async fn k16_a_client_certificate_in_files_is_read_again_after_a_refusal() {
    let (ca, dir) = (Ca::new("ca"), tempfile::tempdir().unwrap());
    let server = whoami(&ca).await;
    let (certificate, key) = (dir.path().join("crt"), dir.path().join("key"));
    let plant = |name: &str| {
        let (pem, key_pem) = ca.client(name, DAY);
        std::fs::write(&certificate, pem).unwrap();
        std::fs::write(&key, key_pem).unwrap();
    };
    let mut config = server.config(&ca);
    config.auth_info.client_certificate = Some(certificate.to_str().unwrap().to_owned());
    config.auth_info.client_key = Some(key.to_str().unwrap().to_owned());
    let api = client(&config);
    let error = get(&api, "/").await.unwrap_err();
    assert!(matches!(error, TransportError::Credentials { .. }), "{error}");
    plant("one");
    assert_eq!(get(&api, "/").await.unwrap().1, "CN=one");
    plant("two");
    assert_eq!(get(&api, "/").await.unwrap().1, "CN=one", "a connection keeps its identity");
    refuse(&api).await;
    assert_eq!(get(&api, "/").await.unwrap().1, "CN=two");
    // Between the two writes of a rotation the pair does not match.
    std::fs::write(&certificate, ca.client("three", DAY).0).unwrap();
    refuse(&api).await;
    assert_eq!(get(&api, "/").await.unwrap().1, "CN=two");
    assert_eq!(api.credentials().kinds, [CredentialKind::ClientCertificateFile]);
}

#[tokio::test]
async fn k18_a_client_certificate_says_when_it_ends() {
    let ca = Ca::new("ca");
    let server = whoami(&ca).await;
    let encode = |pem: String| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, pem);
    for (days, state) in
        [(31, Expiry::Far), (29, Expiry::Within30Days), (6, Expiry::Within7Days), (0, Expiry::Expired)]
    {
        let (certificate, key) = ca.client("me", days * DAY);
        let mut config = server.config(&ca);
        config.auth_info.client_certificate_data = Some(encode(certificate));
        config.auth_info.client_key_data = Some(encode(key).into());
        let credentials = client(&config).credentials();
        let end = credentials.client_certificate_not_after.expect("known before any connection");
        let off = end.duration_since(SystemTime::now()).unwrap_or_default().abs_diff(days * DAY);
        assert!(off < Duration::from_secs(60), "{off:?}");
        let now = SystemTime::now() + Duration::from_secs(2);
        assert_eq!(credentials.facts().expiry(now), state);
        assert_eq!(credentials.kinds, [CredentialKind::ClientCertificate]);
    }
}

#[test]
fn k18_a_token_says_when_it_expires_if_it_is_a_jwt() {
    let encode = |text: &str| base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, text);
    let at = |token: String| {
        let mut config = kube::Config::new("https://192.0.2.1".parse().unwrap());
        config.auth_info.token = Some(token.into());
        client(&config).credentials()
    };
    let jwt = |claims: &str| at(format!("{}.{}.signature", encode("{}"), encode(claims)));
    let credentials = jwt(r#"{"exp": 2000000000}"#);
    let end = SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000_000);
    assert_eq!(credentials.token_expires, Some(end));
    assert_eq!(credentials.facts().expiry(end - 8 * DAY), Expiry::Within30Days);
    assert_eq!(credentials.facts().expiry(end), Expiry::Expired);
    // One that is exchanged every other day is no alarm all its life.
    let brief = jwt(r#"{"exp": 2000000000, "iat": 1999000000}"#).facts();
    assert_eq!((brief.given_until, brief.renewed_until), (None, Some(end)));
    let long = jwt(r#"{"exp": 2000000000, "iat": 1998000000}"#).facts();
    assert_eq!((long.given_until, long.renewed_until), (Some(end), None));
    for other in [jwt("{}"), jwt(r#"{"exp": -1e300}"#), at("opaque".to_owned()), at("a.b.c".to_owned())] {
        assert_eq!((other.token_expires, other.facts().expiry(end)), (None, Expiry::Far));
    }
}

#[test]
fn credentials_that_cannot_be_used_are_refused_at_once() {
    let refused = |change: &dyn Fn(&mut kube::Config)| {
        let mut config = kube::Config::new("https://192.0.2.1".parse().unwrap());
        change(&mut config);
        ApiServer::new(&config, AddressPolicy::Remote).map(|_| ()).unwrap_err().to_string()
    };
    let text =
        refused(&|config| config.auth_info.client_certificate_data = Some("not base64 canary".to_owned()));
    assert!(text.contains("client-certificate-data") && !text.contains("canary"), "{text}");
    let text = refused(&|config| config.auth_info.client_certificate_data = Some("eA==".to_owned()));
    assert!(text.contains("without its key"), "{text}");
    let text = refused(&|config| config.auth_info.token = Some("can\nary".to_owned().into()));
    assert!(text.contains("header") && !text.contains("ary"), "{text}");
    let text = refused(&|config| config.root_cert = Some(vec![b"canary".to_vec()]));
    assert!(!text.contains("canary"), "{text}");
    // Also where the rest is in files that nobody can read yet, or comes from a program.
    let text = refused(&|config| {
        config.root_cert = Some(vec![b"canary".to_vec()]);
        config.auth_info.client_certificate = Some("/none/crt".to_owned());
        config.auth_info.client_key = Some("/none/key".to_owned());
    });
    assert!(text.contains("root certificate") && !text.contains("canary"), "{text}");
    let text = refused(&|config| {
        config.root_cert = Some(vec![b"canary".to_vec()]);
        config.auth_info.exec = Some(serde_json::from_value(serde_json::json!({"command": "x"})).unwrap());
    });
    assert!(text.contains("root certificate") && !text.contains("canary"), "{text}");
    let text = refused(&|config| {
        config.root_cert_file = Some("/none/ca".into());
        config.auth_info.client_certificate_data = Some("eA==".to_owned());
        config.auth_info.client_key_data = Some("eA==".to_owned().into());
    });
    assert!(text.contains("PEM"), "{text}");
}

#[test]
fn z_01_a_client_is_made_without_a_look_at_files() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let name = || Some(pipe.to_str().unwrap().to_owned());
    let mut config = kube::Config::new("https://192.0.2.1".parse().unwrap());
    config.root_cert_file = Some(pipe.clone());
    config.auth_info.client_certificate = name();
    config.auth_info.client_key = name();
    config.auth_info.token_file = name();
    // Without a runtime, whose threads would read them.
    let api = client(&config);
    assert_eq!(api.credentials().problem, None, "nothing of them is known");
}

/// A remote kubeconfig whose user is what R1.14 permits.
fn permitted(ca: &Ca, server: &Server, user: serde_json::Value, options: &str) -> ApiServer {
    use crate::ingest::kubeconfig::{KubeconfigPolicy, KubeconfigRules, RemoteKubeconfig};
    let kubeconfig = serde_json::json!({
        "clusters": [{"name": "c", "cluster": {
            "server": format!("https://{}", server.address),
            "certificate-authority-data":
                base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &ca.pem),
        }}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": user}],
    });
    let policy = KubeconfigPolicy::parse(options).unwrap();
    let rules = KubeconfigRules { addresses: AddressPolicy::Any, policy };
    let remote = RemoteKubeconfig::parse(kubeconfig.to_string().as_bytes(), rules).unwrap();
    client(&remote.config)
}

/// A program that prints a file, and a line into another one each time.
fn plugin(dir: &Path) -> serde_json::Value {
    let script = format!("cat {0}/answer; echo run >> {0}/runs; echo noise >&2; cat", dir.display());
    serde_json::json!({"apiVersion": "client.authentication.k8s.io/v1", "command": "/bin/sh",
        "args": ["-c", script], "interactiveMode": "Always"})
}

fn answer(dir: &Path, status: serde_json::Value) {
    let credential = serde_json::json!({"apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential", "status": status});
    std::fs::write(dir.join("answer"), credential.to_string()).unwrap();
}

#[tokio::test]
async fn r1_14_a_permitted_plugin_gives_tokens_and_is_asked_again_after_a_refusal() {
    let (ca, dir) = (Ca::new("ca"), tempfile::tempdir().unwrap());
    let server = TokenServer::start(&ca, "one").await;
    let user = serde_json::json!({"exec": plugin(dir.path())});
    let api = permitted(&ca, &server.server, user, "exec");
    answer(dir.path(), serde_json::json!({"token": "one"}));
    assert_eq!(status(&api, "/list").await, 200);
    let runs = || std::fs::read_to_string(dir.path().join("runs")).unwrap().lines().count();
    let after_one = runs();
    assert_eq!(status(&api, "/list").await, 200);
    assert_eq!(runs(), after_one, "a token without an end is kept");
    server.accept("two");
    answer(dir.path(), serde_json::json!({"token": "two", "expirationTimestamp": "2100-01-01T00:00:00Z"}));
    assert_eq!(status(&api, "/list").await, 401);
    refuse(&api).await;
    assert_eq!(status(&api, "/list").await, 200);
    assert_eq!(api.credentials().kinds, [CredentialKind::Exec]);
    // What it prints may be a token: it is never repeated.
    std::fs::write(dir.path().join("answer"), "canary: [").unwrap();
    refuse(&api).await;
    let error = get(&api, "/list").await.unwrap_err().to_string();
    assert!(error.contains("exec plugin /bin/sh") && !error.contains("canary"), "{error}");
}

/// A configuration with a shell script as its plugin.
fn with_script(server: &Server, ca: &Ca, script: String) -> kube::Config {
    let mut config = server.config(ca);
    config.auth_info.exec = Some(
        serde_json::from_value(serde_json::json!({"apiVersion": "client.authentication.k8s.io/v1",
            "command": "/bin/sh", "args": ["-c", script]}))
        .unwrap(),
    );
    config
}

#[tokio::test]
async fn r1_14_a_slow_plugin_runs_once_for_all_and_goes_on_when_they_lose_patience() {
    let (ca, dir) = (Ca::new("ca"), tempfile::tempdir().unwrap());
    let server = TokenServer::start(&ca, "one").await;
    answer(dir.path(), serde_json::json!({"token": "one"}));
    let dir = dir.path();
    // It takes until the test says so.
    let script = format!(
        "echo run >> {0}/runs; until [ -e {0}/go ]; do sleep 0.02; done; cat {0}/answer",
        dir.display()
    );
    let api = client(&with_script(&server.server, &ca, script));
    for _ in 0..3 {
        let asks = futures::future::join_all((0..5).map(|_| get(&api, "/list")));
        assert!(tokio::time::timeout(Duration::from_millis(100), asks).await.is_err());
    }
    std::fs::write(dir.join("go"), "").unwrap();
    let asks = futures::future::join_all((0..5).map(|_| get(&api, "/list"))).await;
    assert!(asks.iter().all(|ask| ask.as_ref().is_ok_and(|(status, _)| *status == 200)), "{asks:?}");
    assert_eq!(std::fs::read_to_string(dir.join("runs")).unwrap().lines().count(), 1);
}

#[tokio::test]
async fn r1_14_a_plugin_that_hangs_is_ended_with_all_that_it_started() {
    let (ca, dir) = (Ca::new("ca"), tempfile::tempdir().unwrap());
    let server = TokenServer::start(&ca, "one").await;
    let dir = dir.path();
    let script = format!("sleep 1000 & echo $! >> {0}/pids; echo $$ >> {0}/pids; wait", dir.display());
    let config = with_script(&server.server, &ca, script);
    let api = patient(&config, |patience| patience.exec = Duration::from_millis(300));
    let error = get(&api, "/list").await.unwrap_err().to_string();
    assert!(error.contains("exec plugin /bin/sh: it took longer than 300ms"), "{error}");
    assert!(api.credentials().problem.is_some_and(|problem| problem.contains("300ms")));
    let pids = std::fs::read_to_string(dir.join("pids")).unwrap();
    assert_eq!(pids.lines().count(), 2);
    until("both are gone", || pids.lines().all(is_gone)).await;
}

#[tokio::test]
async fn r1_14_a_plugin_does_not_outlive_its_client() {
    let (ca, dir) = (Ca::new("ca"), tempfile::tempdir().unwrap());
    let server = TokenServer::start(&ca, "one").await;
    let path = dir.path().join("pid");
    let script = format!("echo $$ > {0}.new; mv {0}.new {0}; sleep 1000", path.display());
    let api = client(&with_script(&server.server, &ca, script));
    let ask = get(&api, "/list");
    assert!(tokio::time::timeout(Duration::from_millis(100), ask).await.is_err());
    until("it runs", || path.exists()).await;
    let pid = std::fs::read_to_string(&path).unwrap();
    drop(api);
    until("it is gone", || is_gone(pid.trim())).await;
}

/// Whether a process does not run any more: it is nowhere, or waits for its parent to look.
fn is_gone(pid: &str) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    state
        .map_or(true, |state| state.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')))
}

#[tokio::test]
async fn r1_14_credentials_that_end_soon_are_renewed_while_they_are_still_used() {
    let (ca, dir) = (Ca::new("ca"), tempfile::tempdir().unwrap());
    let server = TokenServer::start(&ca, "one").await;
    let ends = |seconds: u64| {
        let end = SystemTime::now() + Duration::from_secs(seconds);
        humantime::format_rfc3339_seconds(end).to_string()
    };
    answer(dir.path(), serde_json::json!({"token": "one", "expirationTimestamp": ends(40)}));
    // The first run answers at once, later ones when they may.
    let script = format!(
        "if [ -e {0}/first ]; then until [ -e {0}/go ]; do sleep 0.02; done; fi; touch {0}/first; cat {0}/answer",
        dir.path().display()
    );
    let api = client(&with_script(&server.server, &ca, script));
    assert_eq!(status(&api, "/list").await, 200);
    server.accept("two");
    answer(dir.path(), serde_json::json!({"token": "two", "expirationTimestamp": ends(4000)}));
    // The old one is presented meanwhile, so this one says no.
    assert_eq!(status(&api, "/list").await, 401);
    std::fs::write(dir.path().join("go"), "").unwrap();
    let renewed = || api.credentials().token_expires.is_some_and(|end| end > SystemTime::now() + DAY / 48);
    until("the new one is known", renewed).await;
    assert_eq!(status(&api, "/list").await, 200);
}

#[tokio::test]
async fn r1_14_a_permitted_plugin_gives_client_certificates() {
    let (ca, dir) = (Ca::new("ca"), tempfile::tempdir().unwrap());
    let server = whoami(&ca).await;
    let plant = |name: &str| {
        let (certificate, key) = ca.client(name, DAY);
        answer(dir.path(), serde_json::json!({"clientCertificateData": certificate, "clientKeyData": key}));
    };
    plant("one");
    let api = permitted(&ca, &server, serde_json::json!({"exec": plugin(dir.path())}), "exec");
    assert_eq!(get(&api, "/").await.unwrap().1, "CN=one");
    plant("two");
    assert_eq!(get(&api, "/").await.unwrap().1, "CN=one");
    refuse(&api).await;
    assert_eq!(get(&api, "/").await.unwrap().1, "CN=two");
}

/// Has a plugin give this certificate, and whatever else.
fn give(ca: &Ca, dir: &Path, name: &str, mut status: serde_json::Value) {
    let (certificate, key) = ca.client(name, DAY);
    status["clientCertificateData"] = certificate.into();
    status["clientKeyData"] = key.into();
    answer(dir, status);
}

fn runs(dir: &Path) -> usize {
    std::fs::read_to_string(dir.join("runs")).unwrap().lines().count()
}

#[tokio::test]
async fn r1_14_a_plugin_that_cannot_renew_takes_nothing_away() {
    let (ca, dir) = (Ca::new("ca"), tempfile::tempdir().unwrap());
    let (server, dir) = (whoami(&ca).await, dir.path());
    // It ends soon: each request and each connection asks for another one.
    let end = humantime::format_rfc3339_seconds(SystemTime::now() + Duration::from_secs(50)).to_string();
    give(&ca, dir, "one", serde_json::json!({"expirationTimestamp": end}));
    let api = permitted(&ca, &server, serde_json::json!({"exec": plugin(dir)}), "exec");
    assert_eq!(get(&api, "/").await.unwrap().1, "CN=one");
    std::fs::write(dir.join("answer"), "{}").unwrap();
    retire(&api);
    assert_eq!(get(&api, "/").await.unwrap().1, "CN=one");
    until("the plugin has failed", || api.credentials().problem.is_some()).await;
    retire(&api);
    assert_eq!(get(&api, "/").await.unwrap().1, "CN=one");
    assert_eq!(server.accepted(), 3);
}

#[tokio::test]
async fn r1_14_a_plugin_that_fails_makes_nobody_of_us() {
    let (ca, dir) = (Ca::new("ca"), tempfile::tempdir().unwrap());
    let (server, dir) = (whoami(&ca).await, dir.path());
    give(&ca, dir, "one", serde_json::json!({}));
    let api = permitted(&ca, &server, serde_json::json!({"exec": plugin(dir)}), "exec");
    assert_eq!(get(&api, "/").await.unwrap().1, "CN=one");
    // It is refused, and the plugin has no other.
    std::fs::write(dir.join("answer"), "{}").unwrap();
    refuse(&api).await;
    let error = get(&api, "/").await.unwrap_err();
    assert!(matches!(&error, TransportError::Credentials { cause, .. } if cause.contains("no credentials")));
    assert_eq!(get(&api, "/").await.unwrap().1, "CN=one", "better than nobody");
    // The same where it is asked for a connection only.
    refuse(&api).await;
    let tls = Arc::clone(api.inner.tls.as_ref().unwrap());
    let settings = tls.config(&"server".into()).await.unwrap();
    assert!(settings.client_auth_cert_resolver.has_certs());
    assert!(api.credentials().problem.is_some());
    give(&ca, dir, "two", serde_json::json!({}));
    refuse(&api).await;
    assert_eq!(get(&api, "/").await.unwrap().1, "CN=two");
    // Half of an identity is none.
    answer(dir, serde_json::json!({"token": "t", "clientCertificateData": ca.client("three", DAY).0}));
    refuse(&api).await;
    let error = get(&api, "/").await.unwrap_err();
    assert!(error.to_string().contains("without its key"), "{error}");
}

#[tokio::test]
async fn r1_14_a_plugin_may_give_a_token_and_a_certificate() {
    let (ca, dir) = (Ca::new("ca"), tempfile::tempdir().unwrap());
    let server = Server::start(ca.server(BOTH), |stream| {
        let known = stream.get_ref().1.peer_certificates().is_some();
        server::http(
            stream,
            Arc::new(move |request: http::Request<hyper::body::Incoming>| {
                text(200, format!("{known} {:?}", request.headers().get(AUTHORIZATION)))
            }),
        )
    });
    let server = server.await;
    give(&ca, dir.path(), "one", serde_json::json!({"token": "secret"}));
    let api = permitted(&ca, &server, serde_json::json!({"exec": plugin(dir.path())}), "exec");
    assert_eq!(get(&api, "/").await.unwrap().1, "true Some(\"Bearer secret\")");
}

#[tokio::test]
async fn r1_14_a_plugin_has_neither_our_input_nor_our_log() {
    let (ca, dir) = (Ca::new("ca"), tempfile::tempdir().unwrap());
    let (server, dir) = (whoami(&ca).await, dir.path());
    give(&ca, dir, "one", serde_json::json!({}));
    let script =
        format!("readlink /proc/self/fd/0 /proc/self/fd/2 > {0}/ends; cat {0}/answer", dir.display());
    let mut config = with_script(&server, &ca, script);
    config.auth_info.exec.as_mut().unwrap().interactive_mode =
        Some(kube::config::ExecInteractiveMode::Always);
    assert_eq!(get(&client(&config), "/").await.unwrap().1, "CN=one");
    assert_eq!(std::fs::read_to_string(dir.join("ends")).unwrap(), "/dev/null\n/dev/null\n");
}

#[tokio::test]
async fn k16_many_requests_that_are_refused_together_cost_one_run_and_one_connection() {
    let (ca, dir) = (Ca::new("ca"), tempfile::tempdir().unwrap());
    let (server, dir) = (whoami(&ca).await, dir.path());
    give(&ca, dir, "one", serde_json::json!({}));
    let api = permitted(&ca, &server, serde_json::json!({"exec": plugin(dir)}), "exec");
    let answers = futures::future::join_all((0..8).map(|_| api.get("/".to_owned(), JSON))).await;
    assert_eq!((server.accepted(), runs(dir)), (1, 1));
    give(&ca, dir, "two", serde_json::json!({}));
    for answer in answers {
        api.unauthorized(answer.unwrap().presented);
        assert_eq!(get(&api, "/").await.unwrap().1, "CN=two");
    }
    assert_eq!((server.accepted(), runs(dir)), (2, 2));
    // What it gave then is refused as well.
    give(&ca, dir, "three", serde_json::json!({}));
    refuse(&api).await;
    assert_eq!(get(&api, "/").await.unwrap().1, "CN=three");
}

/// A client whose plugin gives the token `one` first, and ends only while there is a file `go`, as there is now.
fn with_a_plugin_that_waits(ca: &Ca, server: &TokenServer, dir: &Path) -> ApiServer {
    answer(dir, serde_json::json!({"token": "one"}));
    std::fs::write(dir.join("go"), "").unwrap();
    let script = format!(
        "echo run >> {0}/runs; until [ -e {0}/go ]; do sleep 0.02; done; cat {0}/answer",
        dir.display()
    );
    client(&with_script(&server.server, ca, script))
}

#[tokio::test]
async fn k16_what_was_refused_is_not_used_while_the_plugin_runs() {
    let (ca, dir) = (Ca::new("ca"), tempfile::tempdir().unwrap());
    let server = TokenServer::start(&ca, "one").await;
    let dir = dir.path();
    let api = with_a_plugin_that_waits(&ca, &server, dir);
    assert_eq!(status(&api, "/list").await, 200);
    std::fs::remove_file(dir.join("go")).unwrap();
    server.accept("two");
    answer(dir, serde_json::json!({"token": "two"}));
    let old = api.get("/list".to_owned(), JSON).await.unwrap();
    assert_eq!(old.status, 401);
    api.unauthorized(old.presented);
    let first = tokio::spawn({
        let api = ApiServer { inner: Arc::clone(&api.inner) };
        async move { status(&api, "/list").await }
    });
    until("it runs again", || runs(dir) == 2).await;
    let second = status(&api, "/list");
    let go = async { std::fs::write(dir.join("go"), "").unwrap() };
    assert_eq!((tokio::join!(second, go).0, first.await.unwrap()), (200, 200));
    // Another one of before comes late.
    api.unauthorized(old.presented);
    assert_eq!(status(&api, "/list").await, 200);
    assert_eq!(runs(dir), 2);
}

#[tokio::test]
async fn k15_what_is_forbidden_holds_up_nobody_while_the_plugin_runs() {
    let (ca, dir) = (Ca::new("ca"), tempfile::tempdir().unwrap());
    let server = TokenServer::start(&ca, "one").await;
    let dir = dir.path();
    let api = with_a_plugin_that_waits(&ca, &server, dir);
    let old = api.get("/list".to_owned(), JSON).await.unwrap();
    std::fs::remove_file(dir.join("go")).unwrap();
    answer(dir, serde_json::json!({"token": "two"}));
    api.forbidden(old.presented);
    until("it runs again", || runs(dir) == 2).await;
    assert_eq!(status(&api, "/list").await, 200, "the old one is used meanwhile");
    std::fs::write(dir.join("go"), "").unwrap();
    server.accept("two");
    until("it has ended", || api.inner.authorization.load().exec().unwrap().runs() == 2).await;
    assert_eq!(status(&api, "/list").await, 200);
    // Whatever else is forbidden, to the old one or to the new one: there is nobody else to be.
    let new = api.get("/list".to_owned(), JSON).await.unwrap();
    for presented in [old.presented, new.presented, new.presented] {
        api.forbidden(presented);
        assert_eq!(status(&api, "/list").await, 200);
        let doubt = api.inner.doubt.join(|| async {});
        doubt.await;
    }
    assert_eq!((runs(dir), server.server.accepted()), (2, 1));
}

/// Who asks after something was forbidden.
async fn forbid(api: &ApiServer) -> String {
    let answer = api.get("/".to_owned(), JSON).await.unwrap();
    api.forbidden(answer.presented);
    api.inner.doubt.join(|| async {}).await;
    get(api, "/").await.unwrap().1
}

#[tokio::test]
async fn k15_only_another_identity_takes_another_connection() {
    let (ca, dir) = (Ca::new("ca"), tempfile::tempdir().unwrap());
    let (server, dir) = (whoami(&ca).await, dir.path());
    give(&ca, dir, "one", serde_json::json!({}));
    let api = permitted(&ca, &server, serde_json::json!({"exec": plugin(dir)}), "exec");
    assert_eq!((forbid(&api).await.as_str(), server.accepted(), runs(dir)), ("CN=one", 1, 2));
    // The same in files.
    let (certificate, key) = (dir.join("crt"), dir.join("key"));
    let plant = |name: &str| {
        let (pem, key_pem) = ca.client(name, DAY);
        std::fs::write(&certificate, pem).unwrap();
        std::fs::write(&key, key_pem).unwrap();
    };
    let mut config = server.config(&ca);
    config.auth_info.client_certificate = Some(certificate.to_str().unwrap().to_owned());
    config.auth_info.client_key = Some(key.to_str().unwrap().to_owned());
    plant("one");
    let api = client(&config);
    let before = server.accepted();
    assert_eq!((forbid(&api).await.as_str(), server.accepted() - before), ("CN=one", 1), "as it was");
    plant("two");
    assert_eq!((forbid(&api).await.as_str(), server.accepted() - before), ("CN=two", 2));
    assert_eq!((forbid(&api).await.as_str(), server.accepted() - before), ("CN=two", 2));
}

#[tokio::test]
async fn k18_what_a_plugin_or_a_file_gives_is_renewed_and_says_so() {
    let (ca, dir) = (Ca::new("ca"), tempfile::tempdir().unwrap());
    let (server, dir) = (whoami(&ca).await, dir.path());
    give(&ca, dir, "one", serde_json::json!({}));
    let api = permitted(&ca, &server, serde_json::json!({"exec": plugin(dir)}), "exec");
    get(&api, "/").await.unwrap();
    let facts = api.credential_facts();
    assert!(facts.given_until.is_none() && facts.renewed_until.is_some(), "{facts:?}");
    assert_eq!(facts.expiry(SystemTime::now()), Expiry::Far);
    // A token in a file, as kubelets renew it.
    let encode = |text: &str| base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, text);
    std::fs::write(dir.join("token"), format!("e30.{}.x", encode(r#"{"exp": 2000000000}"#))).unwrap();
    let mut config = server.config(&ca);
    config.auth_info.token_file = Some(dir.join("token").to_str().unwrap().to_owned());
    let api = client(&config);
    get(&api, "/").await.unwrap();
    let facts = api.credential_facts();
    let end = SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000_000);
    assert_eq!((facts.given_until, facts.renewed_until), (None, Some(end)));
    assert_eq!(facts.expiry(end - DAY), Expiry::Far);
}

#[tokio::test]
async fn k18_files_of_a_certificate_that_ends_soon_are_looked_at_between_connections() {
    let (ca, dir) = (Ca::new("ca"), tempfile::tempdir().unwrap());
    let server = whoami(&ca).await;
    let (certificate, key) = (dir.path().join("crt"), dir.path().join("key"));
    let plant = |days: u32| {
        let (pem, key_pem) = ca.client("me", days * DAY);
        std::fs::write(&certificate, pem).unwrap();
        std::fs::write(&key, key_pem).unwrap();
    };
    let mut config = server.config(&ca);
    config.auth_info.client_certificate = Some(certificate.to_str().unwrap().to_owned());
    config.auth_info.client_key = Some(key.to_str().unwrap().to_owned());
    plant(3);
    let api = client(&config);
    get(&api, "/").await.unwrap();
    let expiry = || api.credential_facts().expiry(SystemTime::now());
    assert_eq!(expiry(), Expiry::Within7Days);
    plant(90);
    until("somebody renewed it", || expiry() == Expiry::Far).await;
    assert_eq!(server.accepted(), 1, "the connection stays");
}

#[tokio::test]
async fn k16_an_exchange_of_before_brings_no_old_identity_back() {
    let (ca, dir) = (Ca::new("ca"), tempfile::tempdir().unwrap());
    let server = Server::start(ca.server(&["http/1.1"]), whoami_of);
    let (server, dir) = (server.await, dir.path());
    give(&ca, dir, "one", serde_json::json!({}));
    let api = permitted(&ca, &server, serde_json::json!({"exec": plugin(dir)}), "exec");
    let answer = api.get("/".to_owned(), JSON).await.unwrap();
    give(&ca, dir, "two", serde_json::json!({}));
    api.unauthorized(answer.presented);
    assert_eq!(read(answer).await.unwrap(), b"CN=one");
    assert_eq!(get(&api, "/").await.unwrap().1, "CN=two");
    assert_eq!(get(&api, "/").await.unwrap().1, "CN=two");
    assert_eq!(server.accepted(), 2, "the new one is used again");
}

/// Passes bytes on to a server while it is open; counts those who said something.
async fn gate(
    to: std::net::SocketAddr,
) -> (std::net::SocketAddr, Arc<tokio::sync::Semaphore>, Arc<std::sync::atomic::AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (open, asked) = (Arc::new(tokio::sync::Semaphore::new(0)), Arc::default());
    let (gate, seen): (_, Arc<std::sync::atomic::AtomicUsize>) = (Arc::clone(&open), Arc::clone(&asked));
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let (gate, seen) = (Arc::clone(&gate), Arc::clone(&seen));
            tokio::spawn(async move {
                client.readable().await.unwrap();
                seen.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                gate.acquire().await.unwrap().forget();
                let mut server = tokio::net::TcpStream::connect(to).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    (address, open, asked)
}

#[tokio::test]
async fn k16_a_connection_that_is_being_made_is_not_kept_as_who_we_were() {
    for protocol in ["h2", "http/1.1"] {
        let (ca, dir) = (Ca::new("ca"), tempfile::tempdir().unwrap());
        let server = Server::start(ca.server(&[protocol]), whoami_of).await;
        let (address, open, asked) = gate(server.address).await;
        let said = |n| {
            let asked = Arc::clone(&asked);
            async move {
                until("it says something", || asked.load(std::sync::atomic::Ordering::SeqCst) == n).await;
            }
        };
        let (certificate, key) = (dir.path().join("crt"), dir.path().join("key"));
        let plant = |name: &str| {
            let (pem, key_pem) = ca.client(name, DAY);
            std::fs::write(&certificate, pem).unwrap();
            std::fs::write(&key, key_pem).unwrap();
        };
        let mut config = server.config(&ca);
        config.cluster_url = format!("https://{address}").parse().unwrap();
        config.auth_info.client_certificate = Some(certificate.to_str().unwrap().to_owned());
        config.auth_info.client_key = Some(key.to_str().unwrap().to_owned());
        plant("one");
        let api = client(&config);
        // A pair that is read between the two writes of the next one leaves this one in force.
        api.inner.tls.as_ref().unwrap().config(&"server".into()).await.unwrap();
        for (n, old, new) in [(1, "one", "two"), (3, "two", "three")] {
            // Whether one attempt is made for all, or, once HTTP/1.1 was agreed on, one for each.
            let asking = tokio::spawn({
                let api = ApiServer { inner: Arc::clone(&api.inner) };
                async move { get(&api, "/").await }
            });
            said(n).await;
            // It has begun with what was there.
            plant(new);
            api.unauthorized(Presented { connection: api.inner.pool.epoch(), header: 0 });
            open.add_permits(2);
            let name = asking.await.unwrap().unwrap().1;
            assert_eq!(name, format!("CN={new}"), "{protocol}, not {old}");
            retire(&api);
        }
    }
}

#[tokio::test]
async fn k17_files_that_are_not_good_yet_are_waited_for() {
    let (ca, dir) = (Ca::new("ca"), tempfile::tempdir().unwrap());
    let server = whoami(&ca).await;
    let [ca_file, certificate, key] = ["ca", "crt", "key"].map(|name| dir.path().join(name));
    let ((pem, key_pem), other) = (ca.client("me", DAY), ca.client("other", DAY));
    let name = |path: &Path| Some(path.to_str().unwrap().to_owned());
    for (ca_text, certificate_text, why) in [
        ("", pem.as_str(), "holds no certificate"),
        ("-----BEGIN CERT", pem.as_str(), "holds no certificate"),
        (ca.pem.as_str(), other.0.as_str(), ""),
        (ca.pem.as_str(), "", ""),
    ] {
        std::fs::write(&ca_file, ca_text).unwrap();
        std::fs::write(&certificate, certificate_text).unwrap();
        std::fs::write(&key, &key_pem).unwrap();
        let mut config = server.config(&ca);
        config.root_cert_file = Some(ca_file.clone());
        config.auth_info.client_certificate = name(&certificate);
        config.auth_info.client_key = name(&key);
        let api = ApiServer::new(&config, AddressPolicy::Any).expect("perhaps later");
        let error = get(&api, "/").await.unwrap_err();
        assert!(
            matches!(&error, TransportError::Credentials { cause, .. } if cause.contains(why)),
            "{error}"
        );
        assert!(api.credentials().problem.is_some_and(|problem| problem.contains(why)));
        std::fs::write(&ca_file, &ca.pem).unwrap();
        std::fs::write(&certificate, &pem).unwrap();
        assert_eq!(get(&api, "/").await.unwrap().1, "CN=me");
        assert_eq!(api.credentials().problem, None);
    }
}

#[tokio::test]
async fn k16_a_token_file_that_cannot_be_read_to_an_end_holds_nobody_up() {
    let (ca, dir) = (Ca::new("ca"), tempfile::tempdir().unwrap());
    let server = TokenServer::start(&ca, "one").await;
    let file = dir.path().join("token");
    std::fs::write(&file, "one").unwrap();
    let api = client(&server.config(&ca, &file));
    assert_eq!(status(&api, "/list").await, 200);
    std::fs::remove_file(&file).unwrap();
    // A pipe that nobody writes into.
    assert!(std::process::Command::new("mkfifo").arg(&file).status().unwrap().success());
    refuse(&api).await;
    let asked = tokio::time::timeout(Duration::from_secs(30), get(&api, "/list")).await;
    assert_eq!(asked.expect("in time").unwrap().0, 200, "the last token stays in use");
    assert!(api.credentials().problem.is_some_and(|problem| problem.contains("not a regular file")));
}

#[tokio::test]
async fn r1_14_permitted_files_are_read_and_read_again() {
    let (ca, dir) = (Ca::new("ca"), tempfile::tempdir().unwrap());
    let server = TokenServer::start(&ca, "one").await;
    let file = dir.path().join("token");
    std::fs::write(&file, "one").unwrap();
    let user = serde_json::json!({"tokenFile": file.to_str().unwrap()});
    let api = permitted(&ca, &server.server, user, "tokenFile");
    assert_eq!(status(&api, "/list").await, 200);
    server.accept("two");
    std::fs::write(&file, "two").unwrap();
    refuse(&api).await;
    assert_eq!(status(&api, "/list").await, 200);
    let server = whoami(&ca).await;
    let (certificate, key) = ca.client("me", DAY);
    let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, certificate);
    std::fs::write(dir.path().join("key"), key).unwrap();
    let user = serde_json::json!({
        "client-certificate-data": encoded, "client-key": dir.path().join("key").to_str().unwrap(),
    });
    assert_eq!(get(&permitted(&ca, &server, user, "clientKey"), "/").await.unwrap().1, "CN=me");
}
