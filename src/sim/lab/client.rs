//! Requests from a client pod: plain `curl`, and a steady load.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{BufReader, Lines};
use tokio::process::ChildStdout;

use super::check::wrong;
use super::kubelet::Proxy;
use super::part::Part;
use super::plan::{AppService, ClusterPlan, HELLOWORLD, NAMESPACE};
use super::pod::RunningPod;
use super::site::Site;
use super::wait::until;
use super::world::CLIENT;
use super::{Lab, LabError, Mode};

/// Requests per second of a load. Enough that a gap of a second shows.
const RATE: &str = "40";
/// A load that is not stopped ends by itself.
const LONGEST: &str = "2h";
/// A load prints its end at once.
const END_LIMIT: Duration = Duration::from_secs(10);
/// Faster than anything answers.
const FASTEST: &str = "100000";
/// For a count of requests.
const SEND_LIMIT: Duration = Duration::from_secs(120);

/// The client pod of one cluster.
#[derive(Debug, Clone)]
pub struct Client {
    /// Its cluster.
    pub cluster: ClusterPlan,
    /// The pod.
    pub pod: Arc<RunningPod>,
    mode: Mode,
    exe: PathBuf,
    logs: PathBuf,
}

/// The name a client uses for `service`.
pub(super) fn authority(service: &AppService) -> String {
    format!("{}.{NAMESPACE}:{}", service.name, service.port)
}

impl Client {
    /// The first ready client of each cluster.
    pub(super) fn all(site: &Site) -> Vec<Self> {
        let pods = site.pods();
        let clients = site.plan.clusters.iter().filter_map(|cluster| {
            let pod = pods.iter().find(|pod| {
                pod.cluster() == cluster.name
                    && (pod.namespace(), pod.deployment()) == (NAMESPACE, Some(CLIENT))
                    && pod.is_ready()
                    && !pod.is_leaving()
            })?;
            Some(Self {
                cluster: cluster.clone(),
                pod: Arc::clone(pod),
                mode: site.plan.mode(),
                exe: site.exe.clone(),
                logs: site.logs.clone(),
            })
        });
        clients.collect()
    }

    /// URL of `service` and the `Host` header to send if the URL does not say.
    pub fn target(&self, service: &AppService, path: &str) -> (String, Option<String>) {
        let name = authority(service);
        if self.mode == Mode::Namespaces && self.pod.workload().proxy == Proxy::Captured {
            return (format!("http://{name}{path}"), None);
        }
        (format!("http://{}:{}{path}", self.pod.addresses().outbound, service.port), Some(name))
    }
    /// Sends `count` requests with `curl`, each on a connection of its own, and returns the bodies.
    ///
    /// # Errors
    /// [`LabError::Command`] when one fails.
    pub async fn curl(
        &self,
        service: &AppService,
        path: &str,
        count: usize,
    ) -> Result<Vec<String>, LabError> {
        self.curl_with(service, path, None, count).await
    }

    /// The same with one more header.
    async fn curl_with(
        &self,
        service: &AppService,
        path: &str,
        header: Option<&str>,
        count: usize,
    ) -> Result<Vec<String>, LabError> {
        let (url, host) = self.target(service, path);
        let host = host.map(|host| format!("Host: {host}"));
        let headers = host.as_deref().into_iter().chain(header);
        let header: String = headers.map(|header| format!("--header '{header}' ")).collect();
        let script = format!(
            "for i in $(seq {count}); do
curl --silent --show-error --fail --max-time 5 {header}'{url}' || {{ echo \"request $i of {count}\" >&2; exit 1; }}
done"
        );
        let what = format!("curl {url} in {}", self.pod.path());
        let output = self.pod.place().script(&what, &script).await?;
        Ok(output.lines().map(str::to_owned).collect())
    }

    /// Sends `count` requests and counts the answers by `version/cluster`.
    ///
    /// # Errors
    /// [`LabError::Command`] when one fails, [`LabError::Claim`] when one is answered by something else.
    pub async fn answers(
        &self,
        service: &AppService,
        count: usize,
    ) -> Result<BTreeMap<String, usize>, LabError> {
        Self::tally(service, self.curl(service, "/hello", count).await?)
    }

    /// The same with one more header, `name: value`.
    ///
    /// # Errors
    /// As [`answers`](Self::answers).
    pub async fn answers_to(
        &self,
        service: &AppService,
        header: &str,
        count: usize,
    ) -> Result<BTreeMap<String, usize>, LabError> {
        Self::tally(service, self.curl_with(service, "/hello", Some(header), count).await?)
    }

    fn tally(service: &AppService, lines: Vec<String>) -> Result<BTreeMap<String, usize>, LabError> {
        let mut by = BTreeMap::new();
        for line in lines {
            let answer = parse_hello(&line)
                .ok_or_else(|| wrong(format!("{} answers", authority(service)), line.clone()))?;
            *by.entry(answer).or_default() += 1;
        }
        Ok(by)
    }

    /// Starts a steady load on `service`.
    ///
    /// # Errors
    /// [`LabError::Spawn`].
    pub fn load(&self, service: &AppService) -> Result<Load, LabError> {
        self.start(service, &["--rate", RATE, "--duration", LONGEST, "--interval", "250ms"])
    }

    /// Sends `count` requests as fast as they are answered, a few at once.
    ///
    /// # Errors
    /// [`LabError::Spawn`]; [`LabError::Claim`] when a single request failed.
    pub async fn send(&self, service: &AppService, count: u64) -> Result<LoadTotal, LabError> {
        let count = count.to_string();
        let load = self.start(service, &["--rate", FASTEST, "--count", &count, "--interval", "1s"])?;
        load.ended(SEND_LIMIT).await
    }

    fn start(&self, service: &AppService, arguments: &[&str]) -> Result<Load, LabError> {
        let (url, host) = self.target(service, "/hello");
        let mut command = self.pod.place().command(&self.exe);
        command.args(["sim", "load", "--url", &url, "--timeout", "5s", "-o", "json"]).args(arguments);
        if let Some(host) = host {
            command.args(["--host", &host]);
        }
        let name = format!("{}/load", self.pod.path());
        let (part, lines) = Part::spawn_talking(&name, command, &self.logs)?;
        Ok(Load { name, part, lines })
    }
}

/// Who must answer before a lab counts as up.
const FIRST_LIMIT: Duration = Duration::from_secs(10);
/// Requests at once; that all of them stay near is unlikely.
const FIRST_REQUESTS: usize = 4;

impl Lab {
    /// Waits until the first client hears from another network, or from another cluster if there is only one
    /// network; returns what it heard.
    pub(super) async fn first_crossing(&self) -> Result<String, LabError> {
        let client =
            self.clients().into_iter().next().ok_or_else(|| wrong("a client runs", "there is none"))?;
        let own = &client.cluster;
        let apart = self.plan().clusters.iter().filter(|other| other.network != own.network);
        let others = self.plan().clusters.iter().filter(|other| other.name != own.name);
        let mut far: Vec<&ClusterPlan> = apart.collect();
        if far.is_empty() {
            far = others.collect();
        }
        let what = "an answer from afar";
        until(what, FIRST_LIMIT, async || {
            let by = client.answers(&HELLOWORLD, FIRST_REQUESTS).await.map_err(|error| error.to_string())?;
            let found = far.iter().find(|one| by.contains_key(&format!("{}/{}", one.version, one.name)));
            match found {
                Some(one) => Ok(format!("{} has answered a client in {}", one.name, own.name)),
                None if far.is_empty() => Ok(format!("{} has answered its client", own.name)),
                None => Err(format!("{by:?}")),
            }
        })
        .await
    }
}

/// A steady load from one client.
#[derive(Debug)]
pub struct Load {
    name: String,
    part: Part,
    lines: Lines<BufReader<ChildStdout>>,
}

/// What became of a load's requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadTotal {
    /// How many were answered.
    pub ok: u64,
    /// By whom: `version/cluster`.
    pub by: BTreeMap<String, u64>,
}

impl Load {
    /// Reads reports until answers from `version/cluster` are among the latest.
    ///
    /// # Errors
    /// [`LabError::Claim`] when there are none within `limit`.
    pub async fn until_answered_by(&mut self, who: &str, limit: Duration) -> Result<(), LabError> {
        let seen = async {
            while let Some(report) = self.next().await? {
                if report["by"][who].as_u64().unwrap_or(0) > 0 {
                    return Ok(());
                }
            }
            Err(wrong(format!("{} runs on", self.name), self.part.log_tail()))
        };
        tokio::time::timeout(limit, seen)
            .await
            .unwrap_or_else(|_| Err(wrong(format!("{who} answers within {limit:?}"), "it did not")))
    }

    /// Reads reports until `count` more requests were answered.
    ///
    /// # Errors
    /// [`LabError::Claim`] when they are not within `limit`.
    pub async fn until_answered(&mut self, count: u64, limit: Duration) -> Result<(), LabError> {
        let seen = async {
            let mut answered = 0;
            while answered < count {
                let Some(report) = self.next().await? else {
                    return Err(wrong(format!("{} runs on", self.name), self.part.log_tail()));
                };
                answered += report["ok"].as_u64().unwrap_or(0);
            }
            Ok(())
        };
        tokio::time::timeout(limit, seen)
            .await
            .unwrap_or_else(|_| Err(wrong(format!("{count} answers within {limit:?}"), "there were fewer")))
    }

    /// Ends the load.
    ///
    /// # Errors
    /// [`LabError::Claim`] when a single request failed.
    pub async fn finish(self) -> Result<LoadTotal, LabError> {
        self.part.terminate();
        self.ended(END_LIMIT).await
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// [`LabError::Claim`] when a single request failed, or it runs on for longer than `limit`.
    async fn ended(mut self, limit: Duration) -> Result<LoadTotal, LabError> {
        let last = tokio::time::timeout(limit, async {
            let mut last = None;
            while let Some(report) = self.next().await? {
                last = Some(report);
            }
            Ok::<_, LabError>(last)
        })
        .await
        .map_err(|_| wrong(format!("{} ends", self.name), "it ran on"))??
        .unwrap_or_default();
        let failed = last["failed"].as_u64().unwrap_or(u64::MAX);
        let ok = last["ok"].as_u64().unwrap_or(0);
        if failed > 0 || ok == 0 {
            return Err(wrong(format!("no request of {} fails", self.name), last.to_string()));
        }
        Ok(LoadTotal { ok, by: serde_json::from_value(last["by"].clone()).unwrap_or_default() })
    }

    /// Asks it to end; its last reports follow.
    pub fn terminate(&self) {
        self.part.terminate();
    }

    /// The next report: requests of the last quarter of a second, with totals in the very last one.
    ///
    /// # Errors
    /// [`LabError::Claim`] when it cannot be read.
    pub async fn next(&mut self) -> Result<Option<Value>, LabError> {
        let failed = |problem: String| wrong(format!("{} reports", self.name), problem);
        let line = self.lines.next_line().await.map_err(|error| failed(error.to_string()))?;
        line.map(|line| serde_json::from_str(&line).map_err(|error| failed(error.to_string()))).transpose()
    }
}

/// `Hello version: v1, instance: …, cluster: east` → `v1/east`.
pub(super) fn parse_hello(line: &str) -> Option<String> {
    let version = line.strip_prefix("Hello version: ")?.split(',').next()?;
    let (_, cluster) = line.rsplit_once("cluster: ")?;
    Some(format!("{version}/{}", cluster.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart() {
        let line = "Hello version: v2, instance: helloworld-v2-1, cluster: west";
        assert_eq!(parse_hello(line).as_deref(), Some("v2/west"));
        assert_eq!(parse_hello("upstream connect error"), None);
    }
}
