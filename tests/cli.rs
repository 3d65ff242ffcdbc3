//! The binary from outside: what it says to bad input, its pages, its help.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(30);

fn tombolo(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tombolo"));
    command.args(args).env_clear().stdin(Stdio::null());
    command
}

fn output(args: &[&str]) -> Output {
    tombolo(args).output().expect("the binary starts")
}

/// A `serve` on free ports; killed when dropped.
struct Served {
    child: Child,
    ports: serde_json::Value,
    _dir: tempfile::TempDir,
}

impl Served {
    fn start(extra: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("ports.json");
        let mut command = tombolo(&["serve", "--ports-file"]);
        command.arg(&file);
        for flag in ["--grpc-addr", "--http-addr", "--monitoring-addr"] {
            command.args([flag, "127.0.0.1:0"]);
        }
        let mut child = command.args(extra).stderr(Stdio::null()).spawn().expect("the binary starts");
        let deadline = Instant::now() + LIMIT;
        let text = loop {
            if let Ok(text) = std::fs::read_to_string(&file) {
                break text;
            }
            assert_eq!(child.try_wait().expect("a child"), None, "serve ended");
            assert!(Instant::now() < deadline, "no ports file");
            std::thread::yield_now();
        };
        Self { child, ports: serde_json::from_str(&text).expect("the whole file at once"), _dir: dir }
    }

    fn address(&self, what: &str) -> SocketAddr {
        let text = self.ports[what].as_str().expect("bound");
        text.parse().expect("an address")
    }

    /// Status and body of a page.
    fn get(&self, what: &str, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address(what)).expect("listens");
        stream.set_read_timeout(Some(LIMIT)).expect("a socket");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("reads");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("answers");
        let (head, body) = text.split_once("\r\n\r\n").expect("HTTP");
        let status = head.split(' ').nth(1).expect("a status").parse().expect("a number");
        (status, body.to_owned())
    }

    /// Waits until `/ready` says 200.
    fn ready(self) -> Self {
        let deadline = Instant::now() + LIMIT;
        while self.get("http", "/ready").0 != 200 {
            assert!(Instant::now() < deadline, "{}", self.get("http", "/ready?verbose").1);
        }
        self
    }

    fn url(&self) -> String {
        format!("http://{}", self.address("http"))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // An error means that it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn write(dir: &Path, name: &str, text: &str) -> String {
    let path: PathBuf = dir.join(name);
    std::fs::write(&path, text).expect("a file");
    path.to_str().expect("UTF-8").to_owned()
}

#[test]
fn bad_input_is_named_with_the_right_exit_code() {
    let dir = tempfile::tempdir().expect("a directory");
    // Ports below 1024 that nothing listens on: no other test gets one by chance.
    let gone = "127.0.0.1:1".to_owned();
    let busy_listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let busy = busy_listener.local_addr().expect("bound").to_string();
    let kubeconfig = write(
        dir.path(),
        "kubeconfig",
        "apiVersion: v1\nkind: Config\ncurrent-context: a\ncontexts: [{name: a, context: {cluster: a, user: a}}]\n\
         clusters: [{name: a, cluster: {server: 'https://127.0.0.1:1'}}]\nusers: [{name: a, user: {token: hunter2}}]\n",
    );
    let broken = write(dir.path(), "broken", "contexts: [\n");
    let unknown_key = write(dir.path(), "config.yaml", "domain: a\ngrpc-adr: 127.0.0.1:0\n");
    let bad_yaml = write(dir.path(), "bad.yaml", "domain: [a\n");
    let missing = dir.path().join("missing").to_str().expect("UTF-8").to_owned();
    let free =
        ["--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0", "--monitoring-addr", "127.0.0.1:0"];
    let serve = |args: &[&'static str], values: &[&str]| -> Vec<String> {
        let mut all = vec!["serve".to_owned()];
        all.extend(free.map(str::to_owned));
        all.extend(args.iter().map(|text| (*text).to_owned()));
        all.extend(values.iter().map(|text| (*text).to_owned()));
        all
    };
    let plain = |args: &[&str]| args.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let cases: Vec<(Vec<String>, i32, Vec<&str>)> = vec![
        (serve(&["--kubeconfig"], &[&missing]), 2, vec![&missing, "--kubeconfig"]),
        (serve(&["--kubeconfig"], &[&broken]), 2, vec![&broken, "malformed"]),
        (
            serve(&["--context", "nowhere", "--kubeconfig"], &[&kubeconfig]),
            2,
            vec![&kubeconfig, "nowhere", "it has: a"],
        ),
        (serve(&["--context", "a"], &[]), 2, vec!["--context", "--kubeconfig"]),
        (serve(&["--kubeconfig-dir"], &[&missing]), 2, vec![&missing, "--kubeconfig-dir"]),
        (serve(&["--ca-dir"], &[&missing]), 2, vec!["--ca-dir", &missing]),
        (serve(&["--insecure-plaintext-sds"], &[]), 2, vec!["--ca-dir"]),
        (serve(&["--config"], &[&missing]), 2, vec![&missing, "--config"]),
        (serve(&["--config"], &[&unknown_key]), 2, vec![&unknown_key, "line 2", "grpc-adr"]),
        (serve(&["--config"], &[&bad_yaml]), 2, vec![&bad_yaml, "line"]),
        (
            serve(&["--insecure-kubeconfig-options", "exec,oidc"], &[]),
            2,
            vec!["--insecure-kubeconfig-options", "oidc", "tokenFile"],
        ),
        (
            serve(&["--remote-api-servers", "10.0.0.0/33"], &[]),
            2,
            vec!["--remote-api-servers", "10.0.0.0/33", "*.domain"],
        ),
        (serve(&["--debounce-max", "soon"], &[]), 2, vec!["--debounce-max", "soon"]),
        (serve(&["--log-level", "tombolo=loud"], &[]), 2, vec!["tombolo=loud"]),
        (serve(&["--snapshot-dir", "/dev/null/x"], &[]), 2, vec!["--snapshot-dir", "/dev/null/x"]),
        (serve(&["--snapshot-max-age", "1h"], &[]), 2, vec!["--snapshot-max-age", "--snapshot-dir"]),
        (plain(&["services", "--server", &format!("http://{gone}")]), 1, vec![&gone, "refused"]),
        (plain(&["gateways", "--server", &format!("http://{gone}")]), 1, vec![&gone, "refused"]),
        (plain(&["services", "--conflict"]), 2, vec!["--conflict"]),
        (plain(&["gateways", "x"]), 2, vec!["unexpected argument", "Usage"]),
        (
            plain(&[
                "serve",
                "--grpc-addr",
                &busy,
                "--http-addr",
                "127.0.0.1:0",
                "--monitoring-addr",
                "127.0.0.1:0",
            ]),
            1,
            vec!["--grpc-addr", &busy, "in use", "another address"],
        ),
        (
            plain(&["clusters", "--server", &format!("http://{gone}")]),
            1,
            vec![&gone, "refused", "tombolo serve"],
        ),
        (plain(&["clusters", "--server", "ftp://x"]), 2, vec!["--server", "http://"]),
        (plain(&["endpoints", "a.b"]), 2, vec!["--proxy"]),
        (plain(&["endpoints", "a.b", "--as", "netwrok=n"]), 2, vec!["netwrok", "network"]),
        (plain(&["explain", "a.b"]), 2, vec!["--proxy"]),
        (plain(&["explain", "--proxy", "x"]), 2, vec!["HOST[:PORT]"]),
        (plain(&["explain", "a.b:0", "--proxy", "x"]), 2, vec!["\"0\"", "1 to 65535"]),
        (plain(&["explain", "a.b", "--proxy", "x", "--as", "network=n"]), 2, vec!["cannot be used with"]),
        (plain(&["explain", "a.b", "--as", "namespace=n"]), 2, vec!["neither network= nor cluster="]),
        (plain(&["explain", "a.b", "--as", "cluster=a,cluster=b"]), 2, vec!["cluster= is given twice"]),
        (plain(&["clusters", "--server", "http://u:hunter2@127.0.0.1:1"]), 2, vec!["leave them out"]),
        (
            plain(&["dump", "--as", "x", "--type", "cds", "--xds", "http://127.0.0.1:1"]),
            2,
            vec!["without http://"],
        ),
        (plain(&["dump", "--as", "x", "--type", "cds", "--timeout", "0s"]), 2, vec!["longer than 0s"]),
        (plain(&["dump", "--as", "x", "--type", "cds", "--timeout", "5"]), 2, vec!["a time such as 30s"]),
        (plain(&["lab", "--clusters", "x"]), 2, vec!["a whole number"]),
        (plain(&["lab", "--envoy", &missing]), 2, vec![&missing, "make envoy"]),
        (plain(&["sim", "apiserver", "--fault", "stall-headers,on=watch/podz"]), 2, vec!["podz", "pods"]),
        (plain(&["sim", "apiserver", "--server-url", "foo"]), 2, vec!["--server-url", "https://"]),
        (plain(&["sim", "apiserver", "--cluster", "a b"]), 2, vec!["--cluster"]),
        (serve(&["--log-level", "nonsense"], &[]), 2, vec!["nonsense", "no level"]),
        (serve(&["--system-namespace", "A B"], &[]), 2, vec!["--system-namespace", "A B"]),
        (
            serve(
                &["--local-cluster-secret-watcher", "--allow-loopback-clusters", "--kubeconfig"],
                &[&kubeconfig],
            ),
            2,
            vec!["KUBERNETES_SERVICE_HOST"],
        ),
        (plain(&["explain", "a.b", "--proxy", "x", "--endpoint", "pod"]), 2, vec!["--endpoint", "pod"]),
        (
            plain(&["explain", "a.b", "--proxy", "x", "--server", &format!("http://{gone}")]),
            1,
            vec![&gone, "refused"],
        ),
        (plain(&["dump", "--xds", &gone, "--as", "x", "--type", "cds"]), 1, vec![&gone, "refused"]),
        (plain(&["dump", "--as", "{", "--type", "cds"]), 2, vec!["not JSON"]),
    ];
    for (args, code, words) in cases {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let output = output(&args);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
        assert!(output.stdout.is_empty(), "{args:?} prints to stdout");
        for word in words {
            assert!(text.contains(word), "{args:?} does not say {word:?}: {text}");
        }
        assert!(!text.contains("hunter2"), "{args:?} tells a token: {text}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_reason_to_panic() {
    // An error that nobody reads.
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let status = tombolo(&["clusters", "--server", "http://127.0.0.1:1"]).stderr(writer).status();
    assert_eq!(status.expect("the binary starts").code(), Some(1));
    // A load of which only the first line is read ends long before its time.
    let args = ["sim", "load", "--url", "http://127.0.0.1:1", "--duration", "10m", "--interval", "20ms"];
    let mut child = tombolo(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    let mut first = [0];
    child.stdout.take().expect("a pipe").read_exact(&mut first).expect("a line");
    let deadline = Instant::now() + LIMIT;
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child") {
            break status;
        }
        if Instant::now() > deadline {
            // The assertion below says what matters.
            let _ = child.kill();
        }
        std::thread::yield_now();
    };
    let mut said = String::new();
    child.stderr.take().expect("a pipe").read_to_string(&mut said).expect("text");
    assert_eq!((status.code(), &*said), (Some(1), ""), "requests failed, and no more");
}

#[test]
fn a_server_without_clusters_is_ready_and_explains_itself() {
    let served = Served::start(&[]).ready();
    let (status, text) = served.get("http", "/ready?verbose");
    assert_eq!((status, text.contains("no cluster is configured")), (200, true), "{text}");
    assert_eq!(served.get("http", "/healthz").0, 200);
    assert_eq!(served.get("http", "/debug/clusterz"), (200, "[]\n".to_owned()));
    assert_eq!(served.get("http", "/debug/endpointShardz"), (200, "{}\n".to_owned()));
    assert!(served.get("monitoring", "/debug").1.contains("/debug/networkz"));
    let (status, text) = served.get("http", "/debgu");
    assert_eq!((status, text.contains("/debug lists")), (404, true), "{text}");
    let (status, text) = served.get("http", "/debug/view?host=x");
    assert_eq!((status, text.contains("proxy=ID")), (400, true), "{text}");
    let (status, text) = served.get("http", "/debug/view?host=x&netwrok=y");
    assert_eq!((status, text.contains("netwrok")), (400, true), "{text}");
    let server = served.url();
    let answer = output(&["endpoints", "x.y:80", "--as", "network=n", "--server", &server]);
    let text = String::from_utf8_lossy(&answer.stderr).into_owned();
    assert_eq!(answer.status.code(), Some(1), "{text}");
    assert!(text.contains("no service \"x.y\""), "{text}");
    for (args, words) in [
        (["explain", "x.y:80", "--as", "network=n"], "no service \"x.y\" in any cluster (hidden/no-service)"),
        (
            ["explain", "x.y:80", "--proxy", "p.q"],
            "no connected proxy has \"p.q\" in its id; 0 are connected",
        ),
    ] {
        let answer = output(&[&args[..], &["--server", &server]].concat());
        let text = String::from_utf8_lossy(&answer.stderr).into_owned();
        assert_eq!((answer.status.code(), answer.stdout.is_empty()), (Some(1), true), "{text}");
        assert!(text.contains(words), "{text}");
    }
    let answer = output(&["clusters", "--server", &server]);
    assert_eq!(
        String::from_utf8_lossy(&answer.stdout).trim(),
        "NAME  ROLE  STATUS  HEALTH  SINCE  LAST-EVENT  LAST-CONTACT  NETWORK  SOURCE"
    );
}

#[test]
fn bad_nodes_are_refused_by_name() {
    let served = Served::start(&[]).ready();
    let xds = served.address("grpc").to_string();
    for (id, words) in [
        ("sidecar~10.0.0.1~a.b", "has 3 parts"),
        ("ztunnel~10.0.0.1~a.b~c", "unknown proxy type \"ztunnel\""),
    ] {
        for protocol in [&[][..], &["--delta"]] {
            let mut args = vec!["dump", "--xds", &xds, "--as", id, "--type", "cds"];
            args.extend(protocol);
            let answer = output(&args);
            let text = String::from_utf8_lossy(&answer.stderr).into_owned();
            assert_eq!(answer.status.code(), Some(1), "{text}");
            assert!(text.contains(words) && text.contains("InvalidArgument"), "{text}");
        }
    }
}

#[test]
fn sigterm_ends_a_server_with_success() {
    let mut served = Served::start(&[]).ready();
    let pid = served.child.id().to_string();
    let sent = Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs");
    assert!(sent.success());
    let deadline = Instant::now() + LIMIT;
    let status = loop {
        if let Some(status) = served.child.try_wait().expect("a child") {
            break status;
        }
        assert!(Instant::now() < deadline, "still there");
        std::thread::yield_now();
    };
    assert_eq!(status.code(), Some(0));
}

/// Compares with a file under `tests/golden`; `UPDATE_GOLDEN=1` writes it.
fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).expect("writable");
    }
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(known, text, "{name} differs: UPDATE_GOLDEN=1 accepts the change");
}

#[test]
fn help_texts_are_the_known_ones() {
    let commands: [&[&str]; 19] = [
        &[],
        &["serve"],
        &["lab"],
        &["lab", "scenario"],
        &["sim"],
        &["sim", "apiserver"],
        &["sim", "app"],
        &["sim", "fleet"],
        &["sim", "load"],
        &["bench"],
        &["dump"],
        &["endpoints"],
        &["explain"],
        &["clusters"],
        &["services"],
        &["gateways"],
        &["policies"],
        &["proxies"],
        &["version"],
    ];
    for command in commands {
        let mut args = command.to_vec();
        args.push("--help");
        let output = output(&args);
        assert_eq!(output.status.code(), Some(0));
        let name = if command.is_empty() { "tombolo".to_owned() } else { command.join("-") };
        golden(&format!("help/{name}.txt"), &String::from_utf8_lossy(&output.stdout));
    }
}

#[test]
fn metric_names_are_the_known_ones() {
    use tombolo::telemetry::{CacheRow, ClusterValues, IngestValues, Metrics, SourceValues, XdsSample};
    let one = || vec![("x", 1)];
    let sample = XdsSample {
        pushes: one(),
        decided: vec![("hidden/no-gateway", 2)],
        triggers: vec![("endpoint", 1)],
        rejects: one(),
        expired_nonces: one(),
        bytes: one(),
        largest: one(),
        builds: one(),
        connections: one(),
        cache: vec![CacheRow { kind: "x", ..CacheRow::default() }],
        ..XdsSample::default()
    };
    let metrics = Metrics::new(tombolo::xds::Counts::default().times.collectors());
    let text = metrics.render(|refresh| {
        refresh.process("x", 1.0, 1);
        refresh.xds(&sample);
        refresh.proxies(["x"].into_iter());
        refresh.registry(1, 1, 1);
        refresh.clusters(1, 1, 1);
        let values = ClusterValues {
            remote: true,
            sync_status: "synced",
            credentials: "ok",
            credentials_expire: Some(1.0),
            memory: Some(1),
            objects: vec![("Pod", 1)],
            ..ClusterValues::default()
        };
        refresh.cluster("x", &values);
        let age = Some(Duration::from_secs(1));
        let lists = BTreeMap::from([("first", 1)]);
        let (regressions, bytes) = (1, 1);
        let source = SourceValues {
            state: "live",
            last_event: age,
            last_contact: age,
            lists: &lists,
            failures: 1,
            regressions,
            bytes,
        };
        refresh.source("x", "Pod", &source);
        refresh.conflicts(1);
        refresh.gateway_dns([("x", Duration::from_secs(1))].into_iter(), 1);
        refresh.event("Pods", "add", 1);
        refresh.inbound_updates(&one());
        refresh.policies("x", "ok", 1);
        refresh.policy_event("x", "add", 1);
        refresh.duplicate_subsets(1);
        refresh.ingest(&IngestValues { secret_events: one(), ..IngestValues::default() });
    });
    let types = |text: &str| -> Vec<String> {
        let lines = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        lines.map(str::to_owned).collect()
    };
    let all = types(&text);
    golden("metrics.txt", &(all.join("\n") + "\n"));
    let served = Served::start(&[]).ready();
    let (status, text) = served.get("monitoring", "/metrics");
    assert_eq!(status, 200);
    assert!(text.contains("pilot_xds_pushes{type=\"eds\"} 0"), "{text}");
    assert!(types(&text).iter().all(|name| all.contains(name)), "{text}");
}
