//! The binary, fed by a synthetic API server in this process.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tombolo::proto::discovery::Node;
use tombolo::sim::apiserver::{ApiServer, RunningApiServer};

use super::client::{DEADLINE, Protocol, Stream, sidecar};
use super::world;

/// How long the binary may take to start, on a slow machine.
const START: Duration = Duration::from_secs(60);
/// Between two looks at what is to become true.
const LOOK: Duration = Duration::from_millis(10);

/// Waits until something holds.
pub async fn eventually<T>(what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + START;
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(LOOK).await;
    }
}

/// A cluster and a server of it; both end with it.
pub struct Plane {
    pub api: RunningApiServer,
    pub server: Served,
}

/// One `tombolo serve`; killed when dropped.
pub struct Served {
    child: Child,
    ports: Value,
    dir: tempfile::TempDir,
}

/// How to start one.
#[derive(Default)]
pub struct Options<'a> {
    /// The file of `--config`.
    pub config: &'a str,
    pub args: &'a [&'a str],
    /// What the shell does before the binary takes its place.
    pub before: &'a str,
}

impl Plane {
    /// So many services with an endpoint each; ready.
    pub async fn start(services: usize) -> Self {
        Self::with(services, Options::default()).await
    }

    /// The same with a file of `--config`.
    pub async fn limited(services: usize, config: &str) -> Self {
        Self::with(services, Options { config, ..Options::default() }).await
    }

    pub async fn with(services: usize, options: Options<'_>) -> Self {
        Self::of(world::services(services), options).await
    }

    /// These objects beside those of every world.
    pub async fn of(objects: Vec<Value>, options: Options<'_>) -> Self {
        let api = api(objects).await;
        let server = Served::start(&api, options).await;
        server.ready().await;
        Self { api, server }
    }

    pub fn apply(&self, object: Value) {
        self.api.store().apply(object).expect("a valid object");
    }

    /// Deletes an object by what [`Plane::apply`] was given.
    pub fn delete(&self, object: &Value) {
        delete(&self.api, object);
    }

    pub fn address(&self) -> SocketAddr {
        self.server.address("grpc")
    }

    /// An aggregated stream of the sidecar `name`.
    pub async fn proxy(&self, protocol: Protocol, name: &str) -> Stream {
        self.stream(protocol, sidecar(name, "east", "net-east")).await
    }

    pub async fn stream(&self, protocol: Protocol, node: Node) -> Stream {
        Stream::open(self.address(), protocol, node).await
    }

    /// A healthy proxy is served.
    pub async fn serves(&self) {
        let mut stream = self.proxy(Protocol::Delta, "healthy").await;
        stream.start(tombolo::xds::resource::ResourceType::Endpoint, &[world::eds(0)]).await;
    }
}

/// An API server with these objects beside those of every world.
pub async fn api(objects: Vec<Value>) -> RunningApiServer {
    let mut world = world::base();
    world.extend(objects);
    ApiServer::builder().cluster("east").world(world).start().await.expect("an API server")
}

/// Deletes an object.
pub fn delete(api: &RunningApiServer, object: &Value) {
    let store = api.store();
    let kinds = store.kinds();
    let of = |key: &str| object[key].as_str().expect("a text");
    let kind = kinds.of_object(of("apiVersion"), of("kind")).expect("a kind");
    let text = |key: &str| object["metadata"][key].as_str().unwrap_or_default().to_owned();
    store.delete(kind, &text("namespace"), &text("name")).expect("it was there");
}

impl Served {
    /// A server of `api`, bound but perhaps not ready.
    pub async fn start(api: &RunningApiServer, options: Options<'_>) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let write = |name: &str, text: &str| -> PathBuf {
            let path = dir.path().join(name);
            std::fs::write(&path, text).expect("a file");
            path
        };
        let ports = dir.path().join("ports.json");
        let log = std::fs::File::create(dir.path().join("log")).expect("a file");
        let mut command = shell(options.before);
        command.arg("serve").arg("--ports-file").arg(&ports);
        command.arg("--kubeconfig").arg(write("kubeconfig", &api.kubeconfig()));
        command.arg("--config").arg(write("config.yaml", &format!("cluster-id: east\n{}", options.config)));
        command.arg("--allow-loopback-clusters");
        for flag in ["--grpc-addr", "--http-addr", "--monitoring-addr"] {
            if !options.args.contains(&flag) {
                command.args([flag, "127.0.0.1:0"]);
            }
        }
        command.args(options.args).env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().expect("the binary starts");
        let mut served = Self { child, ports: Value::Null, dir };
        let text = eventually("the ports file", async || {
            if let Some(status) = served.child.try_wait().expect("a child") {
                panic!("serve ended with {status}: {}", served.log());
            }
            std::fs::read_to_string(&ports).ok()
        })
        .await;
        served.ports = serde_json::from_str(&text).expect("the whole file at once");
        served
    }

    pub async fn ready(&self) {
        eventually("ready", async || (self.page("/ready").await.0 == 200).then_some(())).await;
    }

    pub fn address(&self, what: &str) -> SocketAddr {
        self.ports[what].as_str().expect("bound").parse().expect("an address")
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).expect("a file")
    }

    /// Status and body of a page.
    pub async fn page(&self, path: &str) -> (u16, String) {
        self.page_of("http", path).await
    }

    /// The sum of a metric over the rows that contain `labels`.
    pub async fn metric(&self, name: &str, labels: &str) -> u64 {
        let (_, text) = self.page_of("monitoring", "/metrics").await;
        let rows = text.lines().filter(|row| {
            let named = row.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']));
            named && row.contains(labels)
        });
        let value = |row: &str| row.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
        rows.map(|row| value(row).expect("a number") as u64).sum()
    }

    /// Waits until a metric has this value: what ends is counted behind what a client sees of it.
    pub async fn counted(&self, name: &str, labels: &str, value: u64) {
        eventually(&format!("{name} {labels} {value}"), async || {
            (self.metric(name, labels).await == value).then_some(())
        })
        .await;
    }

    async fn page_of(&self, what: &str, path: &str) -> (u16, String) {
        let page = async {
            let mut stream = tokio::net::TcpStream::connect(self.address(what)).await?;
            let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await?;
            let mut text = String::new();
            stream.read_to_string(&mut text).await?;
            std::io::Result::Ok(text)
        };
        let text = tokio::time::timeout(DEADLINE, page).await.expect("in time").expect("a page");
        let (head, body) = text.split_once("\r\n\r\n").expect("HTTP");
        let status = head.split(' ').nth(1).expect("a status").parse().expect("a number");
        (status, body.to_owned())
    }

    /// Every connected proxy in full.
    pub async fn proxies(&self) -> Vec<Value> {
        let (_, text) = self.page("/debug/proxies").await;
        let Value::Array(rows) = serde_json::from_str(&text).expect("JSON") else { panic!("a list: {text}") };
        rows
    }

    /// What is known of one type of the only connected proxy.
    pub async fn sync(&self, short: &str) -> Value {
        let rows = self.proxies().await;
        assert_eq!(rows.len(), 1, "{rows:?}");
        rows[0]["types"][short].clone()
    }

    /// Waits for so many streams.
    pub async fn streams(&self, count: usize) {
        eventually(&format!("{count} streams"), async || (self.proxies().await.len() == count).then_some(()))
            .await;
    }

    /// Open files.
    pub fn files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("the process").count()
    }

    /// Threads.
    pub fn threads(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/task", self.pid())).expect("the process").count()
    }

    /// Resident bytes.
    pub fn memory(&self) -> usize {
        let text = std::fs::read_to_string(format!("/proc/{}/statm", self.pid())).expect("the process");
        let pages: usize = text.split(' ').nth(1).expect("resident").parse().expect("a number");
        pages * rustix::param::page_size()
    }

    /// Seconds of processor time used so far.
    pub fn processor(&self) -> f64 {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("the process");
        let (_, fields) = text.rsplit_once(')').expect("a name");
        let ticks = fields.split(' ').skip(12).take(2).map(|ticks| ticks.parse::<u64>().expect("a number"));
        ticks.sum::<u64>() as f64 / rustix::param::clock_ticks_per_second() as f64
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        let pid = i32::try_from(self.pid()).expect("a pid");
        let pid = rustix::process::Pid::from_raw(pid).expect("a pid");
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
    }

    /// Waits for its end; the code.
    pub async fn ended(&mut self) -> Option<i32> {
        let status = eventually("its end", async || self.child.try_wait().expect("a child")).await;
        status.code()
    }

    /// SIGKILL, and waits for its end.
    pub fn kill(&mut self) {
        // An error means that it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let tail = log.len().saturating_sub(4_000);
            eprintln!("the server said: {}", &log[log.floor_char_boundary(tail)..]);
        }
    }
}

fn shell(before: &str) -> Command {
    let binary = env!("CARGO_BIN_EXE_tombolo");
    if before.is_empty() {
        return Command::new(binary);
    }
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &format!("{before}; exec \"$0\" \"$@\""), binary]);
    command
}
