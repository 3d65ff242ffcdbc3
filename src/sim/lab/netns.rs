//! The networks of namespaces mode: bridges, routers, and a pair of namespaces per pod.
//!
//! ```text
//!            net-east (10.10.0.0/16)                     net-west (10.10.0.0/16)
//!   sleep ── helloworld-v1 ── gateway                gateway ── helloworld-v2 ── sleep
//!     │            │             │                      │             │            │
//!   router    control plane      └──────── wan ─────────┘       control plane    router
//!     └──────────── │ ───────────── 172.30.0.0/24 ─────────────────── │ ───────────┘
//!                   └─────────────────── management ──────────────────┘── host
//! ```
//!
//! The pod networks are bridges that share nothing. A pod's way out is its network's router, which forwards to
//! the gateways' addresses on the wan and refuses everything else. Control planes have one foot in each pod
//! network they serve and one in the management network, where the API servers and the host are; they forward
//! nothing.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;

use super::LabError;
use super::kubelet::{Addresses, Proxy, Workload};
use super::part::Part;
use super::place::{PROXY_UID, Place};
use super::plan::{ControlPlanePlan, GATEWAY_PORT, MANAGEMENT_PREFIX, NetworkPlan, Plan};
use super::wait::Patience;

/// Bridge between routers and gateways.
const WAN: &str = "wan";
/// Bridge between control planes, API servers and the host.
const MANAGEMENT: &str = "management";
/// Lab's end of the pair whose other end is the host's.
pub const HOST_LINK: &str = "host0";
/// Prefix length of the pod networks.
const POD_PREFIX: u8 = 16;
/// All of them use it.
const POD_RANGE: &str = "10.10.0.0/16";
/// Outer addresses of gateways.
const OUTER: &str = "172.30.0.32-172.30.0.254";
/// First of the routing tables by source address.
const FIRST_TABLE: usize = 101;

/// One interface of a box.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Interface {
    name: String,
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
    hosts: Option<PathBuf>,
}

impl BoxPlan {
    /// A pod of `network`; its names are those of the file `hosts`.
    pub fn pod(network: &NetworkPlan, workload: &Workload, addresses: &Addresses, hosts: PathBuf) -> Self {
        let mut interfaces = vec![pod_interface("eth0", network, addresses.pod)];
        interfaces.extend(addresses.outer.map(wan_interface));
        let captured = workload.proxy == Proxy::Captured;
        Self {
            name: workload.path(),
            interfaces,
            default_route: (workload.proxy != Proxy::Router).then_some(network.router),
            forwards: false,
            nftables: if captured { capture() } else { String::new() },
            hosts: Some(hosts),
        }
    }

    /// The router of a pod network: to the gateways of all networks and nowhere else.
    pub fn router(network: &NetworkPlan) -> Self {
        Self {
            name: format!("{}/router", network.name),
            interfaces: vec![
                pod_interface("eth0", network, network.router),
                wan_interface(network.router_wan),
            ],
            default_route: None,
            forwards: true,
            nftables: routing(),
            hosts: None,
        }
    }

    /// The namespaces of a control plane.
    pub fn control_plane(plan: &Plan, control_plane: &ControlPlanePlan) -> Self {
        let management = Interface {
            name: "mgmt0".to_owned(),
            bridge: MANAGEMENT.to_owned(),
            address: control_plane.management,
            prefix: MANAGEMENT_PREFIX,
        };
        let feet = control_plane.feet.iter().enumerate();
        let feet = feet.filter_map(|(at, foot)| {
            Some(pod_interface(&format!("eth{at}"), plan.network(&foot.network)?, foot.address))
        });
        Self {
            name: format!("{}/control-plane", control_plane.name),
            interfaces: feet.chain([management]).collect(),
            default_route: None,
            forwards: false,
            nftables: String::new(),
            hosts: None,
        }
    }

    /// The script that sets the box up from within, its interfaces being there.
    fn script(&self) -> String {
        let mut script = String::from("ip -batch - <<'END'\nlink set lo up\n");
        for Interface { name, address, prefix, .. } in &self.interfaces {
            let _ = writeln!(script, "addr add {address}/{prefix} dev {name}\nlink set {name} up");
        }
        if let Some(router) = self.default_route {
            let _ = writeln!(script, "route add default via {router}");
        }
        script.push_str(&self.routes_by_source());
        let forward = u8::from(self.forwards);
        let _ = write!(script, "END\necho {forward} > /proc/sys/net/ipv4/ip_forward\n");
        if !self.nftables.is_empty() {
            let _ = write!(script, "nft -f - <<'END'\n{}END\n", self.nftables);
        }
        if let Some(hosts) = &self.hosts {
            let _ = writeln!(script, "mount --bind '{}' /etc/hosts", hosts.display());
        }
        script
    }

    /// Pod networks use the same addresses: an answer leaves by the interface whose address was asked.
    fn routes_by_source(&self) -> String {
        let feet: Vec<_> =
            self.interfaces.iter().filter(|interface| interface.prefix == POD_PREFIX).collect();
        if feet.len() < 2 {
            return String::new();
        }
        let tables = feet.iter().zip(FIRST_TABLE..);
        let lines = tables.map(|(Interface { name, address, .. }, table)| {
            format!(
                "route add {POD_RANGE} dev {name} table {table}\nrule add from {address} lookup {table}\n"
            )
        });
        lines.collect()
    }
}

fn pod_interface(name: &str, network: &NetworkPlan, address: Ipv4Addr) -> Interface {
    Interface { name: name.to_owned(), bridge: network.bridge.clone(), address, prefix: POD_PREFIX }
}

fn wan_interface(address: Ipv4Addr) -> Interface {
    Interface { name: "wan0".to_owned(), bridge: WAN.to_owned(), address, prefix: 24 }
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

fn routing() -> String {
    format!(
        "table ip tombolo {{
  chain forward {{
    type filter hook forward priority 0; policy drop;
    ct state established,related accept
    iifname \"eth0\" oifname \"wan0\" ip daddr {OUTER} tcp dport {GATEWAY_PORT} accept
    iifname \"eth0\" reject with icmp type net-unreachable
  }}
  chain postrouting {{
    type nat hook postrouting priority 100;
    oifname \"wan0\" masquerade
  }}
}}
"
    )
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
pub async fn make_bridges(plan: &Plan, host: HostSide) -> Result<(), LabError> {
    let mut batch = String::from("ip -batch - <<'END'\nlink set lo up\n");
    let networks = plan.networks.iter().map(|network| network.bridge.as_str());
    for bridge in networks.chain([WAN, MANAGEMENT]) {
        let _ = writeln!(batch, "link add {bridge} type bridge\nlink set {bridge} up");
    }
    for cluster in &plan.clusters {
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
/// in the lab; it names the bridge's ends of its links.
///
/// # Errors
/// [`LabError`].
pub async fn open(plan: &BoxPlan, number: usize, logs: &Path) -> Result<OpenBox, LabError> {
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--", "sleep", "infinity"]);
    let mut keeper = Part::spawn(&format!("{}/namespaces", plan.name), command, logs)?;
    let pid = entered(&plan.name, &mut keeper).await?;
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
    place.script(&format!("setting up {}", plan.name), &plan.script()).await?;
    Ok(OpenBox { keeper, place })
}

/// The keeper's process id, once it is where it is to be.
async fn entered(name: &str, keeper: &mut Part) -> Result<u32, LabError> {
    let what = format!("the namespaces of {name}");
    let patience = Patience::new(&what, Duration::from_secs(10), Duration::from_millis(10));
    loop {
        keeper.check_running()?;
        let pid = keeper.pid().unwrap_or_default();
        match std::fs::read_to_string(format!("/proc/{pid}/comm")) {
            Ok(name) if name.trim() == "sleep" => return Ok(pid),
            other => patience.after(format!("its keeper is {other:?}")).await?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::kubelet::workload_for_tests;
    use super::super::plan::{Range, Shape, Sidecars, Topology};
    use super::*;

    fn plan(clusters: u8, networks: u8, topology: Topology) -> Plan {
        let shape = Shape::new(clusters, networks, topology, Sidecars::Captured).unwrap();
        Plan::new(shape, Range::HostLink(Ipv4Addr::new(172, 31, 240, 0)))
    }

    fn pod(labels: serde_json::Value, annotations: serde_json::Value) -> String {
        let plan = plan(2, 2, Topology::MultiPrimary);
        let object = serde_json::from_value(serde_json::json!({
            "metadata": {
                "namespace": "sample", "name": "a", "uid": "u", "labels": labels, "annotations": annotations,
            },
            "spec": {"containers": [{"name": "a"}]},
        }));
        let (workload, addresses) = workload_for_tests(&plan.clusters[1], &object.unwrap());
        BoxPlan::pod(&plan.networks[1], &workload, &addresses, PathBuf::from("/run/x/hosts")).script()
    }

    #[test]
    fn a_client_is_captured_and_has_a_way_out() {
        let script = pod(serde_json::json!({"app": "sleep"}), serde_json::json!({}));
        assert!(script.contains("meta skuid 1337 return") && script.contains("redirect to :15001"));
        assert!(script.contains("route add default via 10.10.0.1"));
        assert!(script.contains("mount --bind '/run/x/hosts' /etc/hosts"));
    }

    #[test]
    fn an_explicit_sidecar_is_not_captured() {
        let mode = serde_json::json!({"sidecar.istio.io/interceptionMode": "NONE"});
        let script = pod(serde_json::json!({}), mode);
        assert!(!script.contains("redirect") && script.contains("route add default via 10.10.0.1"));
    }

    #[test]
    fn a_gateway_stands_in_both_worlds_and_forwards_no_packet() {
        let script = pod(serde_json::json!({"istio": "eastwestgateway"}), serde_json::json!({}));
        assert!(script.contains("addr add 10.10.16.1/16 dev eth0"));
        assert!(script.contains("addr add 172.30.0.48/24 dev wan0"));
        assert!(script.contains("echo 0 > /proc/sys/net/ipv4/ip_forward"));
        assert!(!script.contains("redirect") && !script.contains("default"));
    }

    #[test]
    fn a_router_lets_pods_reach_gateways_only() {
        let plan = plan(2, 2, Topology::MultiPrimary);
        let script = BoxPlan::router(&plan.networks[0]).script();
        assert!(script.contains("policy drop"));
        assert!(script.contains("ip daddr 172.30.0.32-172.30.0.254 tcp dport 15443 accept"));
        assert!(script.contains("echo 1 > /proc/sys/net/ipv4/ip_forward"));
    }

    #[test]
    fn a_control_plane_of_two_networks_answers_each_by_its_own_interface() {
        let plan = plan(2, 2, Topology::External);
        let script = BoxPlan::control_plane(&plan, &plan.control_planes[0]).script();
        assert!(script.contains("rule add from 10.10.1.13 lookup 101"), "{script}");
        assert!(script.contains("route add 10.10.0.0/16 dev eth1 table 102"));
        assert!(script.contains("echo 0 > /proc/sys/net/ipv4/ip_forward"));
    }

    #[test]
    fn a_control_plane_of_one_network_needs_no_rule() {
        let plan = plan(2, 2, Topology::MultiPrimary);
        let script = BoxPlan::control_plane(&plan, &plan.control_planes[0]).script();
        assert!(!script.contains("rule add"));
    }
}
