//! A real Envoy that asks for one assignment, and what its admin pages say of it.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::process::{Child, Command};

use super::BenchError;
use super::server::{page, tail};
use super::usage::Usage;
use crate::sim::child::{self, Signal, tied};
use crate::sim::fleet::Home;
use crate::sim::world::GENERATED_NAMESPACE;

/// How often it is asked whether something has come true.
const LOOK: Duration = Duration::from_millis(10);
/// How long that may take.
const LIMIT: Duration = Duration::from_secs(60);
/// How long it may take to end.
const STOP_GRACE: Duration = Duration::from_secs(10);
const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// An Envoy with one Envoy cluster. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Envoy {
    child: Child,
    usage: Usage,
    admin: SocketAddr,
    log: PathBuf,
}

/// What it says of its one Envoy cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Applied {
    /// Hosts in force.
    pub(super) members: u64,
    /// Assignments taken.
    pub(super) updates: u64,
}

impl Envoy {
    /// Starts `program` as a sidecar of `home` that gets `assignment` from `xds` over delta ADS, and waits until it
    /// has hosts. Its files go to `dir`.
    ///
    /// # Errors
    /// [`BenchError`], with the end of its log.
    pub(super) async fn start(
        program: &Path,
        dir: &Path,
        xds: SocketAddr,
        home: &Home,
        assignment: &str,
    ) -> Result<Self, BenchError> {
        let (config, told, log) = (dir.join("envoy.json"), dir.join("envoy-admin"), dir.join("envoy.log"));
        // An error means that there is none of an earlier one.
        let _ = std::fs::remove_file(&told);
        let text = bootstrap(xds, home, assignment).to_string();
        std::fs::write(&config, text).map_err(BenchError::file("write", &config))?;
        let mut command = Command::new(program);
        command.arg("--config-path").arg(&config).arg("--admin-address-path").arg(&told);
        command.args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]);
        let output = File::create(&log).map_err(BenchError::file("create", &log))?;
        let errors = output.try_clone().map_err(BenchError::file("create", &log))?;
        let mut command = tied(command);
        command.stdin(Stdio::null()).stdout(output).stderr(errors).kill_on_drop(true);
        let spawned = command.spawn();
        let mut child =
            spawned.map_err(|source| BenchError::Spawn { name: program.display().to_string(), source })?;
        let usage = Usage::of(child.id().ok_or_else(|| ended(&log))?);
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Ok(Some(_)) = child.try_wait() {
                return Err(ended(&log));
            }
            let admin = std::fs::read_to_string(&told).ok().and_then(|text| text.trim().parse().ok());
            if let Some(admin) = admin
                && applied_at(admin).await.is_some_and(|applied| applied.members > 0)
            {
                return Ok(Self { child, usage, admin, log });
            }
            if Instant::now() > deadline {
                let name = "Envoy".to_owned();
                return Err(BenchError::NotReady { name, limit: LIMIT, log: tail(&log) });
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// CPU that it has used.
    ///
    /// # Errors
    /// [`BenchError::Usage`].
    pub(super) fn cpu(&self) -> Result<Duration, BenchError> {
        self.usage.cpu().map_err(BenchError::Usage)
    }

    /// What is in force.
    ///
    /// # Errors
    /// [`BenchError::Ended`]: it does not say.
    pub(super) async fn applied(&self) -> Result<Applied, BenchError> {
        applied_at(self.admin).await.ok_or_else(|| ended(&self.log))
    }

    /// Waits until so many hosts are in force; says how often it was asked.
    ///
    /// # Errors
    /// [`BenchError::Ended`], [`BenchError::Lost`].
    pub(super) async fn has(&self, members: u64) -> Result<u32, BenchError> {
        let deadline = Instant::now() + LIMIT;
        let mut looks = 0;
        loop {
            looks += 1;
            let found = self.applied().await?.members;
            if found == members {
                return Ok(looks);
            }
            if Instant::now() > deadline {
                let what = "hosts in Envoy".to_owned();
                return Err(BenchError::Lost { what, found, expected: members });
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Ends it in order, or kills it.
    pub(super) async fn stop(mut self) {
        child::send(&self.child, Signal::TERM);
        if tokio::time::timeout(STOP_GRACE, self.child.wait()).await.is_err() {
            // An error means that it is gone by now.
            let _ = self.child.kill().await;
        }
    }
}

fn ended(log: &Path) -> BenchError {
    BenchError::Ended { name: "Envoy".to_owned(), log: tail(log) }
}

/// Only two numbers are asked for: what the page costs is Envoy's CPU, too.
async fn applied_at(admin: SocketAddr) -> Option<Applied> {
    let filter = "%5Ecluster%5C.bench%5C.%28membership_total%7Cupdate_success%29%24";
    parse(&page(admin, &format!("/stats?filter={filter}")).await?)
}

fn parse(stats: &str) -> Option<Applied> {
    let number = |name: &str| {
        let line = stats.lines().find_map(|line| line.strip_prefix("cluster.bench.")?.strip_prefix(name))?;
        line.strip_prefix(':')?.trim().parse().ok()
    };
    Some(Applied { members: number("membership_total")?, updates: number("update_success")? })
}

fn bootstrap(xds: SocketAddr, home: &Home, assignment: &str) -> Value {
    let socket = |address: SocketAddr| json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}});
    let namespace = GENERATED_NAMESPACE;
    json!({
        "node": {
            "id": format!("sidecar~10.126.0.1~envoy.{namespace}~{namespace}.svc.cluster.local"),
            "cluster": format!("envoy.{namespace}"),
            "metadata": {"CLUSTER_ID": home.cluster, "NETWORK": home.network, "NAMESPACE": namespace,
                "INSTANCE_IPS": "10.126.0.1"},
        },
        "admin": {"address": socket(SocketAddr::from(([127, 0, 0, 1], 0)))},
        "dynamic_resources": {"ads_config": {
            "api_type": "DELTA_GRPC", "transport_api_version": "V3", "set_node_on_first_message_only": true,
            "grpc_services": [{"envoy_grpc": {"cluster_name": "xds"}}],
        }},
        "static_resources": {"clusters": [
            {
                "name": "xds", "type": "STATIC", "connect_timeout": "5s",
                "typed_extension_protocol_options": {HTTP_OPTIONS: {
                    "@type": format!("type.googleapis.com/{HTTP_OPTIONS}"),
                    "explicit_http_config": {"http2_protocol_options": {}},
                }},
                "load_assignment": {"cluster_name": "xds",
                    "endpoints": [{"lb_endpoints": [{"endpoint": {"address": socket(xds)}}]}]},
            },
            {
                "name": "bench", "type": "EDS", "connect_timeout": "5s",
                "eds_cluster_config": {"service_name": assignment,
                    "eds_config": {"ads": {}, "resource_api_version": "V3"}},
            },
        ]},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_force_is_read_from_its_stats() {
        let stats = "cluster.bench.membership_total: 999\ncluster.bench.update_success: 7\n";
        assert_eq!(parse(stats), Some(Applied { members: 999, updates: 7 }));
        assert_eq!(parse("cluster.bench.membership_total: 999\n"), None);
    }
}
