//! One Envoy: how it is started and what its admin pages say.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;

use serde::Deserialize;
use tokio::process::Command;

use super::http::fetch;
use super::place::Place;
use super::plan::ADMIN_PORT;
use super::{LabError, Mode};

/// Seconds between the order to drain and the end of an Envoy's listeners.
const DRAIN_SECONDS: &str = "2";

/// The command that runs `envoy` for a pod.
pub fn command(place: Place, envoy: &Path, bootstrap: &Path) -> Command {
    let mut command = place.proxy_command(envoy);
    command.arg("--config-path").arg(bootstrap).args([
        "--concurrency",
        "1",
        "--disable-hot-restart",
        "--drain-time-s",
        DRAIN_SECONDS,
        "--drain-strategy",
        "immediate",
        "--log-level",
        "warning",
    ]);
    command
}

/// One host of an Envoy cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Host {
    /// Its share of the load.
    pub weight: u32,
}

/// `address:port` → host, of one Envoy cluster.
pub type Hosts = BTreeMap<String, Host>;

/// The admin pages of one Envoy.
#[derive(Debug, Clone)]
pub struct Admin {
    place: Place,
    base: String,
}

impl Admin {
    /// The pages of the Envoy of the pod at `address`.
    pub fn new(place: Place, address: Ipv4Addr, mode: Mode) -> Self {
        let host = match mode {
            Mode::Namespaces => "127.0.0.1".to_owned(),
            Mode::Loopback => address.to_string(),
        };
        Self { place, base: format!("http://{host}:{ADMIN_PORT}") }
    }

    /// Its address, as seen from the pod.
    pub fn url(&self) -> &str {
        &self.base
    }

    /// Whether it is initialized: has clusters, listeners, routes and secrets, and serves.
    ///
    /// # Errors
    /// What it says instead.
    pub async fn live(&self) -> Result<(), LabError> {
        self.get("/ready").await.map(|_| ())
    }

    /// Every Envoy cluster with its hosts.
    ///
    /// # Errors
    /// [`LabError::Http`].
    pub async fn clusters(&self) -> Result<BTreeMap<String, Hosts>, LabError> {
        let page = self.get("/clusters?format=json").await?;
        parse_clusters(&page).map_err(|error| LabError::Http {
            method: "reading".to_owned(),
            url: format!("{}/clusters", self.base),
            problem: error.to_string(),
        })
    }

    /// The hosts of one Envoy cluster; none if it does not exist.
    ///
    /// # Errors
    /// [`LabError::Http`].
    pub async fn hosts(&self, cluster: &str) -> Result<Hosts, LabError> {
        Ok(self.clusters().await?.remove(cluster).unwrap_or_default())
    }

    /// How often each host of one Envoy cluster was connected to.
    ///
    /// # Errors
    /// [`LabError::Http`].
    pub async fn connections(&self, cluster: &str) -> Result<BTreeMap<String, Connections>, LabError> {
        let page = self.get("/clusters?format=json").await?;
        parse_connections(&page, cluster).map_err(|error| LabError::Http {
            method: "reading".to_owned(),
            url: format!("{}/clusters", self.base),
            problem: error.to_string(),
        })
    }

    /// The configuration of one Envoy cluster, as JSON text; empty if it does not exist.
    ///
    /// # Errors
    /// [`LabError::Http`].
    pub async fn config(&self, cluster: &str) -> Result<String, LabError> {
        let filter = format!("^{}$", cluster.replace('|', r"\|"));
        self.get(&format!("/config_dump?resource=dynamic_active_clusters&name_regex={}", escape(&filter)))
            .await
    }

    /// Counters and gauges whose names match the regular expression `filter`.
    ///
    /// # Errors
    /// [`LabError::Http`].
    pub async fn stats(&self, filter: &str) -> Result<BTreeMap<String, u64>, LabError> {
        let page = self.get(&format!("/stats?filter={}", escape(filter))).await?;
        Ok(parse_stats(&page))
    }

    /// Makes it refuse to keep connections: each response asks its peer to close.
    ///
    /// # Errors
    /// [`LabError::Http`].
    pub async fn fail_health_checks(&self) -> Result<(), LabError> {
        fetch(self.place, "POST", &format!("{}/healthcheck/fail", self.base)).await.map(|_| ())
    }

    async fn get(&self, path: &str) -> Result<String, LabError> {
        fetch(self.place, "GET", &format!("{}{path}", self.base)).await
    }
}

/// Percent-encodes what a URL's query cannot hold as it is.
fn escape(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

/// Lines `name: number`; histograms and texts are left out.
fn parse_stats(page: &str) -> BTreeMap<String, u64> {
    page.lines()
        .filter_map(|line| line.rsplit_once(": "))
        .filter_map(|(name, value)| Some((name.to_owned(), value.trim().parse().ok()?)))
        .collect()
}

#[derive(Deserialize)]
struct ClustersPage {
    #[serde(default)]
    cluster_statuses: Vec<ClusterStatus>,
}

#[derive(Deserialize)]
struct ClusterStatus {
    name: String,
    #[serde(default)]
    host_statuses: Vec<HostStatus>,
}

#[derive(Deserialize)]
struct HostStatus {
    address: HostAddress,
    #[serde(default)]
    weight: u32,
    #[serde(default)]
    stats: Vec<HostStat>,
}

/// Numbers are texts, and left out when 0.
#[derive(Deserialize)]
struct HostStat {
    name: String,
    #[serde(default)]
    value: String,
}

/// How often a host was connected to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Connections {
    /// Tries.
    pub total: u64,
    /// Those that failed.
    pub failed: u64,
}

#[derive(Deserialize)]
struct HostAddress {
    socket_address: SocketAddress,
}

#[derive(Deserialize)]
struct SocketAddress {
    address: String,
    #[serde(default)]
    port_value: u16,
}

fn parse_clusters(page: &str) -> Result<BTreeMap<String, Hosts>, serde_json::Error> {
    let page: ClustersPage = serde_json::from_str(page)?;
    let hosts = |statuses: Vec<HostStatus>| {
        statuses.into_iter().map(|status| {
            let SocketAddress { address, port_value } = status.address.socket_address;
            (format!("{address}:{port_value}"), Host { weight: status.weight })
        })
    };
    Ok(page
        .cluster_statuses
        .into_iter()
        .map(|cluster| (cluster.name, hosts(cluster.host_statuses).collect()))
        .collect())
}

fn parse_connections(page: &str, cluster: &str) -> Result<BTreeMap<String, Connections>, serde_json::Error> {
    let page: ClustersPage = serde_json::from_str(page)?;
    let mut hosts = BTreeMap::new();
    for status in page.cluster_statuses.into_iter().filter(|status| status.name == cluster) {
        for host in status.host_statuses {
            let count = |name: &str| {
                let found = host.stats.iter().find(|stat| stat.name == name);
                found.and_then(|stat| stat.value.parse().ok()).unwrap_or(0)
            };
            let connections = Connections { total: count("cx_total"), failed: count("cx_connect_fail") };
            let SocketAddress { address, port_value } = host.address.socket_address;
            hosts.insert(format!("{address}:{port_value}"), connections);
        }
    }
    Ok(hosts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_with_their_weights() {
        let page = r#"{"cluster_statuses":[
            {"name":"BlackHoleCluster","added_via_api":true},
            {"name":"outbound|5000||h","host_statuses":[
                {"address":{"socket_address":{"address":"10.10.2.1","port_value":5000}},"weight":1},
                {"address":{"socket_address":{"address":"172.30.0.12","port_value":15443}},"weight":3}]}]}"#;
        let clusters = parse_clusters(page).unwrap();
        assert!(clusters["BlackHoleCluster"].is_empty());
        assert_eq!(clusters["outbound|5000||h"]["172.30.0.12:15443"], Host { weight: 3 });
    }

    #[test]
    fn connections_are_counted_by_host() {
        let page = r#"{"cluster_statuses":[
            {"name":"other","host_statuses":[
                {"address":{"socket_address":{"address":"10.10.2.9","port_value":5000}}}]},
            {"name":"h","host_statuses":[
                {"address":{"socket_address":{"address":"10.10.2.1","port_value":5000}},"stats":[
                    {"name":"cx_connect_fail"},{"name":"cx_total","value":"12"},{"type":"GAUGE","name":"cx_active"}]},
                {"address":{"socket_address":{"address":"172.30.0.48","port_value":15443}},"stats":[
                    {"name":"cx_connect_fail","value":"3"},{"name":"cx_total","value":"5"}]}]}]}"#;
        let found = parse_connections(page, "h").unwrap();
        assert_eq!(found["10.10.2.1:5000"], Connections { total: 12, failed: 0 });
        assert_eq!(found["172.30.0.48:15443"], Connections { total: 5, failed: 3 });
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn stats_are_numbers_by_name() {
        let page = "cluster.a.x: 7\nlistener.h: P0(nan,1) P25(nan,2)\nversion: \"abc\"\n";
        let stats = parse_stats(page);
        assert_eq!(stats.into_iter().collect::<Vec<_>>(), [("cluster.a.x".to_owned(), 7)]);
    }

    #[test]
    fn filters_survive_the_query() {
        assert_eq!(escape("a|b.c$"), "a%7Cb.c%24");
    }
}
