//! The networks of namespaces mode: bridges, routers, and a pair of namespaces per pod.
//!
//! ```text
//!            net-east (10.10.0.0/16)                     net-west (10.10.0.0/16)
//!   sleep ── helloworld-v1-1 ── gateway              gateway ── helloworld-v2-1 ── sleep
//!     │            │               │                    │              │             │
//!   router    control plane        └────── wan ─────────┘       control plane     router
//!     └──────────── │ ───────────── 172.30.0.0/24 ──────────────────── │ ────────────┘
//!                   └─────────────────── management ───────────────────┘── host
//! ```
//!
//! The two pod networks are bridges that share nothing. A pod's way out is its router, which forwards to the
//! gateways' addresses on the wan and refuses everything else. Control planes have one foot in their own pod
//! network and one in the management network, where the API servers and the host are; they forward nothing.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use tokio::process::Command;

use super::LabError;
use super::part::Part;
use super::place::{PROXY_UID, Place};
use super::plan::{ClusterPlan, GATEWAY_PORT, NAMESPACE, PodPlan, Role, SERVICES};
use super::wait::until;

/// Bridge between routers and gateways.
const WAN: &str = "wan";
/// Bridge between control planes, API servers and the host.
const MANAGEMENT: &str = "management";
/// Lab's end of the pair whose other end is the host's.
pub const HOST_LINK: &str = "host0";
/// Prefix length of the pod networks.
const POD_PREFIX: u8 = 16;
/// Prefix length of the management network.
pub const MANAGEMENT_PREFIX: u8 = 28;

/// One interface of a box.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Interface {
    name: &'static str,
    bridge: String,
    address: Ipv4Addr,
    prefix: u8,
}

/// What one pair of namespaces (a *box*: a pod, a router, a control plane) contains. Pure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoxPlan {
    /// Its name in logs.
    pub name: String,
    interfaces: Vec<Interface>,
    default_route: Option<Ipv4Addr>,
    forwards: bool,
    nftables: String,
    hosts: String,
}

impl BoxPlan {
    /// A pod; all but gateways are captured.
    pub fn pod(cluster: &ClusterPlan, pod: &PodPlan) -> Self {
        let mut interfaces = vec![pod_interface(cluster, pod.address)];
        let captured = pod.role != Role::Gateway;
        if !captured {
            interfaces.push(wan_interface("wan0", cluster.gateway_wan));
        }
        Self {
            name: pod.path(),
            interfaces,
            default_route: captured.then_some(cluster.router),
            forwards: false,
            nftables: if captured { capture() } else { String::new() },
            hosts: hosts(cluster, pod),
        }
    }

    /// The router of a pod network: to the gateways of all networks and nowhere else.
    pub fn router(cluster: &ClusterPlan, gateways: &[Ipv4Addr]) -> Self {
        Self {
            name: format!("{}/router", cluster.name),
            interfaces: vec![
                pod_interface(cluster, cluster.router),
                wan_interface("wan0", cluster.router_wan),
            ],
            default_route: None,
            forwards: true,
            nftables: routing(gateways),
            hosts: String::new(),
        }
    }

    /// The namespaces of a cluster's control plane.
    pub fn control_plane(cluster: &ClusterPlan) -> Self {
        let management = Interface {
            name: "mgmt0",
            bridge: MANAGEMENT.to_owned(),
            address: cluster.management,
            prefix: MANAGEMENT_PREFIX,
        };
        Self {
            name: format!("{}/control-plane", cluster.name),
            interfaces: vec![pod_interface(cluster, cluster.xds), management],
            default_route: None,
            forwards: false,
            nftables: String::new(),
            hosts: String::new(),
        }
    }

    /// The script that sets the box up from within, its interfaces being there.
    fn script(&self, hosts_file: &Path) -> String {
        let mut script = String::from("ip -batch - <<'END'\nlink set lo up\n");
        for Interface { name, address, prefix, .. } in &self.interfaces {
            let _ = writeln!(script, "addr add {address}/{prefix} dev {name}\nlink set {name} up");
        }
        if let Some(router) = self.default_route {
            let _ = writeln!(script, "route add default via {router}");
        }
        let forward = u8::from(self.forwards);
        let _ = write!(script, "END\necho {forward} > /proc/sys/net/ipv4/ip_forward\n");
        if !self.nftables.is_empty() {
            let _ = write!(script, "nft -f - <<'END'\n{}END\n", self.nftables);
        }
        if !self.hosts.is_empty() {
            let _ = write!(
                script,
                "cat > '{0}' <<'END'\n{1}END\nmount --bind '{0}' /etc/hosts\n",
                hosts_file.display(),
                self.hosts
            );
        }
        script
    }
}

fn pod_interface(cluster: &ClusterPlan, address: Ipv4Addr) -> Interface {
    Interface { name: "eth0", bridge: cluster.network.to_owned(), address, prefix: POD_PREFIX }
}

fn wan_interface(name: &'static str, address: Ipv4Addr) -> Interface {
    Interface { name, bridge: WAN.to_owned(), address, prefix: 24 }
}

/// Transparent capture as in a real pod: what the application sends goes to Envoy's 15001, what arrives for
/// it to 15006; Envoy's own connections and loopback are exempt.
fn capture() -> String {
    format!(
        "table ip tombolo {{
  chain output {{
    type nat hook output priority -100;
    meta skuid {PROXY_UID} return
    oifname \"lo\" return
    tcp dport 1-65535 redirect to :15001
  }}
  chain prerouting {{
    type nat hook prerouting priority -100;
    iifname \"lo\" return
    tcp dport 1-65535 redirect to :15006
  }}
}}
"
    )
}

fn routing(gateways: &[Ipv4Addr]) -> String {
    let gateways: Vec<String> = gateways.iter().map(ToString::to_string).collect();
    format!(
        "table ip tombolo {{
  chain forward {{
    type filter hook forward priority 0; policy drop;
    ct state established,related accept
    iifname \"eth0\" oifname \"wan0\" ip daddr {{ {} }} tcp dport {GATEWAY_PORT} accept
    iifname \"eth0\" reject with icmp type net-unreachable
  }}
  chain postrouting {{
    type nat hook postrouting priority 100;
    oifname \"wan0\" masquerade
  }}
}}
",
        gateways.join(", ")
    )
}

/// The pod's `/etc/hosts`: its cluster's VIPs by the names its cluster's DNS would know.
fn hosts(cluster: &ClusterPlan, pod: &PodPlan) -> String {
    let mut hosts = format!("127.0.0.1 localhost\n{} {}\n", pod.address, pod.name);
    for service in &SERVICES {
        let vip = cluster.vip(service);
        let name = service.name;
        let _ = writeln!(hosts, "{vip} {name}.{NAMESPACE} {name}.{NAMESPACE}.svc {}", service.host());
        if pod.namespace() == NAMESPACE {
            let _ = writeln!(hosts, "{vip} {name}");
        }
    }
    hosts
}

/// A box that is open: its namespaces live as long as this value.
#[derive(Debug)]
pub struct OpenBox {
    keeper: Part,
    /// Where to run things in it.
    pub place: Place,
}

impl OpenBox {
    /// Ends what keeps the namespaces; they vanish once nothing else runs in them.
    pub async fn close(self) {
        self.keeper.kill().await;
    }
}

/// Whether the host takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostSide {
    /// It reaches the management network by [`HOST_LINK`].
    Linked,
    /// The lab is alone.
    Absent,
}

/// Makes the bridges and gives the lab itself the API servers' addresses. With [`HostSide::Linked`] the host's link must be there already.
///
/// # Errors
/// [`LabError::Command`].
pub async fn make_bridges(clusters: &[ClusterPlan], host: HostSide) -> Result<(), LabError> {
    let mut batch = String::from("ip -batch - <<'END'\nlink set lo up\n");
    let networks = clusters.iter().map(|cluster| cluster.network);
    for bridge in networks.chain([WAN, MANAGEMENT]) {
        let _ = writeln!(batch, "link add {bridge} type bridge\nlink set {bridge} up");
    }
    for cluster in clusters {
        let _ = writeln!(batch, "addr add {}/{MANAGEMENT_PREFIX} dev {MANAGEMENT}", cluster.api);
    }
    if host == HostSide::Linked {
        let _ = writeln!(
            batch,
            "link set {HOST_LINK} master {MANAGEMENT}
link set {HOST_LINK} up"
        );
    }
    batch.push_str(
        "END
",
    );
    Place::Here.script("making the lab's bridges", &batch).await.map(|_| ())
}

/// Opens `plan`: makes its namespaces, connects them to the bridges and sets them up. `number` must be unique
/// in the lab; it names the bridge's ends of its links. `files` receives its `/etc/hosts`.
///
/// # Errors
/// [`LabError`].
pub async fn open(plan: &BoxPlan, number: usize, files: &Path, logs: &Path) -> Result<OpenBox, LabError> {
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--", "sleep", "infinity"]);
    let mut keeper = Part::spawn(&format!("{}/namespaces", plan.name), command, logs)?;
    let pid = until(&format!("the namespaces of {}", plan.name), Duration::from_secs(10), async || {
        keeper.check_running().map_err(|error| error.to_string())?;
        let pid = keeper.pid().ok_or("its keeper has no process id")?;
        match std::fs::read_to_string(format!("/proc/{pid}/comm")) {
            Ok(name) if name.trim() == "sleep" => Ok(pid),
            other => Err(format!("its keeper is {other:?}")),
        }
    })
    .await?;
    let place = Place::Namespace { pid };
    let mut links = String::from("ip -batch - <<'END'\n");
    for (index, Interface { name, bridge, .. }) in plan.interfaces.iter().enumerate() {
        let _ = writeln!(
            links,
            "link add v{number}-{index} type veth peer name {name} netns {pid}
link set v{number}-{index} master {bridge}
link set v{number}-{index} up"
        );
    }
    links.push_str("END\n");
    Place::Here.script(&format!("connecting {}", plan.name), &links).await?;
    let hosts = files.join(format!("{}.hosts", plan.name.replace('/', "-")));
    place.script(&format!("setting up {}", plan.name), &plan.script(&hosts)).await?;
    Ok(OpenBox { keeper, place })
}

#[cfg(test)]
mod tests {
    use super::super::plan::{Plan, Range};
    use super::*;

    fn plan() -> Plan {
        Plan::new(Range::HostLink(Ipv4Addr::new(172, 31, 240, 0)))
    }

    #[test]
    fn a_client_is_captured_and_knows_its_own_clusters_vips() {
        let plan = plan();
        let east = &plan.clusters[0];
        let script = BoxPlan::pod(east, &east.client).script(Path::new("/run/x/hosts"));
        assert!(script.contains("meta skuid 1337 return") && script.contains("redirect to :15001"));
        assert!(script.contains("route add default via 10.10.0.1"));
        assert!(script.contains("10.96.0.10 helloworld.sample "));
        assert!(!script.contains("10.97."), "no VIP of the other cluster");
    }

    #[test]
    fn a_gateway_stands_in_both_worlds_and_forwards_no_packet() {
        let plan = plan();
        let west = &plan.clusters[1];
        let script = BoxPlan::pod(west, &west.gateway).script(Path::new("/run/x/hosts"));
        assert!(script.contains("addr add 10.10.0.3/16 dev eth0"));
        assert!(script.contains("addr add 172.30.0.12/24 dev wan0"));
        assert!(script.contains("echo 0 > /proc/sys/net/ipv4/ip_forward"));
        assert!(!script.contains("redirect"));
    }

    #[test]
    fn a_router_lets_pods_reach_gateways_only() {
        let plan = plan();
        let gateways: Vec<Ipv4Addr> = plan.clusters.iter().map(|cluster| cluster.gateway_wan).collect();
        let script = BoxPlan::router(&plan.clusters[0], &gateways).script(Path::new("/run/x/hosts"));
        assert!(script.contains("policy drop"));
        assert!(script.contains("ip daddr { 172.30.0.11, 172.30.0.12 } tcp dport 15443 accept"));
        assert!(script.contains("echo 1 > /proc/sys/net/ipv4/ip_forward"));
    }
}
