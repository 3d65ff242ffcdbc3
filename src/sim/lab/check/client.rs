//! Requests from a client pod: plain `curl`, and a steady load.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{BufReader, Lines};
use tokio::process::ChildStdout;

use super::super::part::Part;
use super::super::plan::{AppService, ClusterPlan, NAMESPACE};
use super::super::pod::RunningPod;
use super::super::{Lab, LabError, Mode};
use super::wrong;

/// Requests per second of a load. Enough that a gap of a second shows.
const RATE: &str = "40";
/// A load that is not stopped ends by itself.
const LONGEST: &str = "10m";
/// A load prints its end at once.
const END_LIMIT: Duration = Duration::from_secs(10);

/// The client pod of one cluster.
#[derive(Debug, Clone, Copy)]
pub(super) struct Client<'a> {
    pub(super) cluster: &'a ClusterPlan,
    pub(super) pod: &'a RunningPod,
    mode: Mode,
    exe: &'a Path,
    logs: &'a Path,
}

/// The clients of both clusters.
pub(super) fn clients(lab: &Lab) -> Result<[Client<'_>; 2], LabError> {
    let [east, west] = lab.plan.clusters.each_ref().map(|cluster| client(lab, cluster));
    Ok([east?, west?])
}

fn client<'a>(lab: &'a Lab, cluster: &'a ClusterPlan) -> Result<Client<'a>, LabError> {
    let path = cluster.client.path();
    let pod =
        lab.pods.get(&path).ok_or_else(|| wrong("the client pod runs", format!("there is no {path}")))?;
    let setup = &lab.pod_setup;
    Ok(Client { cluster, pod, mode: lab.plan.mode(), exe: &setup.exe, logs: &setup.logs })
}

/// The name a client uses for `service`.
pub(super) fn authority(service: &AppService) -> String {
    format!("{}.{NAMESPACE}:{}", service.name, service.port)
}

/// URL of `service` for the client of `cluster`, and the `Host` header it must send if the URL does not say.
pub(in super::super) fn target(
    cluster: &ClusterPlan,
    mode: Mode,
    service: &AppService,
    path: &str,
) -> (String, Option<String>) {
    let name = authority(service);
    match mode {
        Mode::Namespaces => (format!("http://{name}{path}"), None),
        Mode::Loopback => (format!("http://{}:{}{path}", cluster.client.outbound, service.port), Some(name)),
    }
}

impl Client<'_> {
    /// Sends `count` requests with `curl`, each on a connection of its own, and returns the bodies. One that
    /// fails is an error.
    pub(super) async fn curl(
        &self,
        service: &AppService,
        path: &str,
        count: usize,
    ) -> Result<Vec<String>, LabError> {
        let (url, host) = target(self.cluster, self.mode, service, path);
        let header = host.map(|host| format!("--header 'Host: {host}' ")).unwrap_or_default();
        let script = format!(
            "for i in $(seq {count}); do
curl --silent --show-error --fail --max-time 5 {header}'{url}' || {{ echo \"request $i of {count}\" >&2; exit 1; }}
done"
        );
        let what = format!("curl {url} in {}", self.pod.plan().path());
        let output = self.pod.place().script(&what, &script).await?;
        Ok(output.lines().map(str::to_owned).collect())
    }

    /// Sends `count` requests and counts the answers by `version/cluster`.
    pub(super) async fn answers(
        &self,
        service: &AppService,
        count: usize,
    ) -> Result<BTreeMap<String, usize>, LabError> {
        let mut by = BTreeMap::new();
        for line in self.curl(service, "/hello", count).await? {
            let answer = parse_hello(&line)
                .ok_or_else(|| wrong(format!("{} answers", authority(service)), line.clone()))?;
            *by.entry(answer).or_default() += 1;
        }
        Ok(by)
    }

    /// Starts a steady load on `service`.
    pub(super) fn load(&self, service: &AppService) -> Result<Load, LabError> {
        let (url, host) = target(self.cluster, self.mode, service, "/hello");
        let mut command = self.pod.place().command(self.exe);
        command.args(["sim", "load", "--url", &url, "--rate", RATE, "--duration", LONGEST]);
        command.args(["--timeout", "5s", "--interval", "250ms", "-o", "json"]);
        if let Some(host) = host {
            command.args(["--host", &host]);
        }
        let name = format!("{}/load", self.pod.plan().path());
        let (part, lines) = Part::spawn_talking(&name, command, self.logs)?;
        Ok(Load { name, part, lines })
    }
}

/// A steady load from one client.
pub(super) struct Load {
    name: String,
    part: Part,
    lines: Lines<BufReader<ChildStdout>>,
}

/// What became of a load's requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LoadTotal {
    pub(super) ok: u64,
    pub(super) by: BTreeMap<String, u64>,
}

impl Load {
    /// Reads reports until answers from `version/cluster` are among the latest.
    pub(super) async fn until_answered_by(&mut self, who: &str, limit: Duration) -> Result<(), LabError> {
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
    pub(super) async fn until_answered(&mut self, count: u64, limit: Duration) -> Result<(), LabError> {
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

    /// Ends the load; a single failed request is an error.
    pub(super) async fn finish(mut self) -> Result<LoadTotal, LabError> {
        self.part.terminate();
        let last = tokio::time::timeout(END_LIMIT, async {
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

    async fn next(&mut self) -> Result<Option<Value>, LabError> {
        let failed = |problem: String| wrong(format!("{} reports", self.name), problem);
        let line = self.lines.next_line().await.map_err(|error| failed(error.to_string()))?;
        line.map(|line| serde_json::from_str(&line).map_err(|error| failed(error.to_string()))).transpose()
    }
}

/// `Hello version: v1, instance: …, cluster: east` → `v1/east`.
fn parse_hello(line: &str) -> Option<String> {
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
