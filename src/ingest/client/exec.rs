//! Programs that give credentials: run once for all who ask, for so long and no longer (R1.14).

use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use http::header::HeaderValue;
use kube::config::ExecConfig;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};

use super::authorization::{Header, NoHeader, bearer, expiry};
use super::one_run::OneRun;
use super::tls::earliest_end;

/// Credentials that end within this time are renewed.
const RENEW: Duration = Duration::from_secs(60);
/// Those that end within this time are not used while they are.
const USABLE: Duration = Duration::from_secs(10);
/// Bytes of output that are read.
const OUTPUT: u64 = 1 << 20;

/// What a program gave. Secret: never shown.
pub(super) struct Credential {
    header: Option<HeaderValue>,
    /// Client certificate and its key, PEM.
    pub(super) identity: Option<(Vec<u8>, Vec<u8>)>,
    expires: Option<SystemTime>,
    /// Of the run that gave it.
    number: u64,
}

impl Credential {
    pub(super) fn header(&self) -> Header {
        Header { value: self.header.clone(), number: self.number }
    }
}

/// What there is of it.
pub(super) type Given = Result<Arc<Credential>, NoHeader>;

/// A program of a kubeconfig, with what it gave last.
pub(super) struct Exec {
    config: Arc<ExecConfig>,
    /// How long it may run.
    limit: Duration,
    run: OneRun<Given>,
    known: Arc<Mutex<Known>>,
}

#[derive(Default)]
struct Known {
    last: Option<Arc<Credential>>,
    problem: Option<NoHeader>,
    /// How often it gave something.
    number: u64,
    /// The last one was refused. So it stays until the program has ended: nobody is to use it meanwhile.
    stale: bool,
    /// The last one that was asked for again because it may not do something: once is enough.
    doubted: u64,
}

impl Exec {
    pub(super) fn new(config: ExecConfig, limit: Duration) -> Self {
        let (run, known) = (OneRun::default(), Arc::default());
        Self { config: Arc::new(config), limit, run, known }
    }

    /// What the program gave, or gives now if that is too old or was refused. While it is renewed in time the old
    /// one is used.
    ///
    /// # Errors
    /// *Retried* by the next call: the program fails, or takes too long. Never says what it printed.
    pub(super) async fn credential(&self) -> Given {
        let last = {
            let known = self.lock();
            known.last.clone().filter(|_| !known.stale)
        };
        let left = |end: Duration| {
            let last = last.as_ref()?;
            let soon = SystemTime::now() + end;
            last.expires.is_none_or(|expires| expires > soon).then(|| Arc::clone(last))
        };
        if let Some(good) = left(RENEW) {
            return Ok(good);
        }
        let usable = left(USABLE);
        let run = self.run.join(|| self.begin());
        match usable {
            Some(usable) => Ok(usable),
            None => run.await.unwrap_or_else(|| Err(self.failed("it ended abnormally"))),
        }
    }

    /// The server refused what the run with this number gave: the next one is obtained anew, if that is the last.
    pub(super) fn distrust(&self, number: u64) {
        let mut known = self.lock();
        known.stale |= known.number == number;
    }

    /// The server does not permit something to what the run with this number gave: the program is asked whether it
    /// has something else by now, once. Until it has, the last one stays in use.
    pub(super) async fn renew(&self, number: u64) {
        {
            let mut known = self.lock();
            if known.number != number || known.doubted >= number {
                return;
            }
            known.doubted = number;
        }
        let run = self.run.join(|| self.begin());
        if let Some(Ok(given)) = run.await {
            let mut known = self.lock();
            known.doubted = known.doubted.max(given.number);
        }
    }

    /// When what it gave ends, and what is wrong with it.
    pub(super) fn facts(&self) -> (Option<SystemTime>, Option<Arc<str>>) {
        let known = self.lock();
        (known.last.as_ref().and_then(|last| last.expires), known.problem.clone())
    }

    fn begin(&self) -> impl Future<Output = Given> + Send + 'static {
        let (config, limit, known) = (Arc::clone(&self.config), self.limit, Arc::clone(&self.known));
        let refused = self.lock().stale;
        async move {
            let given = run(&config, limit).await.map_err(|why| named(&config, &why));
            let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
            // One that began before the refusal and fails does not answer it.
            known.stale &= given.is_err() && !refused;
            known.problem = given.as_ref().err().cloned();
            let credential = given?;
            known.number += 1;
            let credential = Arc::new(Credential { number: known.number, ..credential });
            known.last = Some(Arc::clone(&credential));
            Ok(credential)
        }
    }

    /// How often it gave something.
    #[cfg(test)]
    pub(super) fn runs(&self) -> u64 {
        self.lock().number
    }

    fn failed(&self, why: &str) -> NoHeader {
        named(&self.config, why)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn named(config: &ExecConfig, why: &str) -> NoHeader {
    format!("exec plugin {}: {why}", config.command.as_deref().unwrap_or_default()).into()
}

/// Runs the program to its end or to the limit.
async fn run(config: &ExecConfig, limit: Duration) -> Result<Credential, String> {
    let child = command(config)?.spawn().map_err(|error| format!("cannot be run: {error}"))?;
    let mut group = Group::of(&child);
    let Ok(output) = tokio::time::timeout(limit, output(child)).await else {
        let limit = humantime::format_duration(limit);
        return Err(format!("it took longer than {limit} and was ended"));
    };
    let output = output?;
    // It ended by itself: what it left running is its own business.
    group.0 = None;
    credential(&output)
}

fn command(config: &ExecConfig) -> Result<Command, String> {
    let mut command = Command::new(config.command.as_deref().ok_or("it names no command")?);
    command.args(config.args.iter().flatten());
    for variable in config.env.iter().flatten() {
        if let (Some(name), Some(value)) = (variable.get("name"), variable.get("value")) {
            command.env(name, value);
        }
    }
    let cluster = match (config.provide_cluster_info, &config.cluster) {
        (false, _) => None,
        (true, Some(cluster)) => Some(cluster),
        (true, None) => return Err("it wants to know of the cluster, which is not known".to_owned()),
    };
    // Nobody sits at a server's terminal.
    let mut spec = serde_json::json!({"interactive": false});
    if let Some(cluster) = cluster {
        spec["cluster"] = serde_json::to_value(cluster).map_err(|_| "its cluster cannot be told of")?;
    }
    let info = serde_json::json!({"kind": "ExecCredential", "apiVersion": config.api_version, "spec": spec});
    command.env("KUBERNETES_EXEC_INFO", info.to_string());
    for name in config.drop_env.iter().flatten() {
        command.env_remove(name);
    }
    // What it prints on the side may be secret as well.
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    command.process_group(0).kill_on_drop(true);
    Ok(command)
}

async fn output(mut child: Child) -> Result<Vec<u8>, String> {
    let mut output = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        let read = stdout.take(OUTPUT + 1).read_to_end(&mut output).await;
        read.map_err(|error| format!("its output cannot be read: {error}"))?;
    }
    if output.len() as u64 > OUTPUT {
        return Err(format!("it prints more than {OUTPUT} bytes"));
    }
    let status = child.wait().await.map_err(|error| format!("its end cannot be awaited: {error}"))?;
    if status.success() { Ok(output) } else { Err(format!("failed with {status}")) }
}

/// The process group of a program; dropping it ends all that runs in it.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // Gone already: so much the better.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

#[derive(Deserialize)]
struct Answer {
    status: Option<Status>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    token: Option<String>,
    client_certificate_data: Option<String>,
    client_key_data: Option<String>,
    expiration_timestamp: Option<String>,
}

/// Reads what it printed: JSON, or YAML as some programs do.
fn credential(output: &[u8]) -> Result<Credential, String> {
    let answer: Answer = serde_saphyr::from_slice(output).map_err(|_| "its output cannot be read")?;
    let status = answer.status.ok_or("it gave no credentials")?;
    let said = status.expiration_timestamp.as_deref().map(str::parse::<jiff::Timestamp>).transpose();
    let said = said.map_err(|_| "its expiration date cannot be read")?.map(SystemTime::from);
    let set = |text: Option<String>| text.filter(|text| !text.is_empty());
    let token = set(status.token);
    let header = token.as_deref().map(bearer).transpose().map_err(|_| "its token cannot be used")?;
    let identity = match (set(status.client_certificate_data), set(status.client_key_data)) {
        (Some(certificate), Some(key)) => Some((certificate.into_bytes(), key.into_bytes())),
        (None, None) => None,
        _ => return Err("it gave a client certificate without its key, or a key alone".to_owned()),
    };
    if header.is_none() && identity.is_none() {
        return Err("it gave no credentials".to_owned());
    }
    let token = token.as_deref().and_then(expiry);
    let certificate = identity.as_ref().and_then(|(certificate, _)| earliest_end(certificate));
    let expires = said.or_else(|| [token, certificate].into_iter().flatten().min());
    Ok(Credential { header, identity, expires, number: 0 })
}
