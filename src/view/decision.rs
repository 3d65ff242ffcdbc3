//! What happened to single endpoints, and why.

use serde::Serialize;

use crate::model::{Addresses, Endpoint, Exposure, Health, InlineAddress, InlineEndpoint};

macro_rules! decisions {
    ($($(#[$doc:meta])* $name:ident = $code:literal;)*) => {
        /// What happened to one endpoint. The codes are stable.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        pub enum Decision {
            $($(#[$doc])* #[serde(rename = $code)] $name,)*
        }

        impl Decision {
            /// Every decision.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The stable code.
            pub fn code(self) -> &'static str {
                match self {
                    $(Self::$name => $code,)*
                }
            }
        }
    };
}

decisions! {
    /// Sent as it is.
    Direct = "direct";
    /// Counted into the weight of its network's gateways.
    ViaGateway = "via-gateway";
    /// Reached through the waypoint of its service, whose endpoints are sent instead (R4.37).
    ViaWaypoint = "via-waypoint";
    /// Another port of the service (R4.6, D7).
    OtherPort = "hidden/other-port";
    /// Not of the subset (R4.8).
    Subset = "hidden/subset";
    /// On another node than the proxy, and the service is node-local (R4.9).
    OtherNode = "hidden/other-node";
    /// Its network is not in the proxy's requested view (R2.8).
    NetworkView = "hidden/network-view";
    /// In another cluster, and the host is cluster-local (R4.5).
    OtherCluster = "hidden/other-cluster";
    /// In another cluster, and its own does not export the service (R4.38).
    NotExported = "hidden/not-exported";
    /// In another cluster, and the service is not global in the ambient mesh (R4.9).
    NotGlobal = "hidden/not-global";
    /// Without an address where one is needed (R4.9, R4.21, Q17).
    NoAddress = "hidden/no-address";
    /// Not ready, and the service does not send such endpoints (R4.10).
    Unhealthy = "hidden/unhealthy";
    /// Terminating (R4.9).
    Terminating = "hidden/terminating";
    /// Draining, and the service has no sticky sessions (R4.9).
    Draining = "hidden/draining";
    /// On another network, which this kind of ambient proxy does not use (R4.21).
    AmbientNetwork = "hidden/ambient-network";
    /// On another network that has no usable gateway (D2).
    NoGateway = "hidden/no-gateway";
    /// On another network whose gateways have none of the proxy's address families (R4.21).
    GatewayFamily = "hidden/gateway-family";
    /// Behind a gateway or asked for by SNI, and without mesh mTLS (R4.21, R4.28).
    MtlsRequired = "hidden/mtls-required";
    /// Behind a gateway and not ready: gives no weight (D4).
    NotReadyBehindGateway = "hidden/not-ready-behind-gateway";
    /// In a locality that the shares for the proxy's leave out (R4.32).
    NoShare = "hidden/no-share";
    /// The same address is sent for another endpoint already.
    SameAddress = "hidden/same-address";
    /// Envoy resolves one endpoint alone (logical DNS), and another one is told before it.
    OnlyOne = "hidden/only-one";
    /// Its cluster has not been heard for longer than it may serve, and others serve (D35).
    StaleCluster = "hidden/stale-cluster";
    /// To be reached through the waypoint of its service, which has no endpoint for this proxy (R4.37).
    NoWaypoint = "hidden/no-waypoint";
    /// Of another workload, version or region than the proxy, which asks for its siblings (R4.9.10).
    OtherWorkload = "hidden/other-workload";
    /// On another network and reached through gateways alone, and so no sibling (R4.9.10).
    BehindGateway = "hidden/behind-gateway";
}

impl Decision {
    /// Whether the proxy does not reach the endpoint at all.
    pub fn hides(self) -> bool {
        !matches!(self, Self::Direct | Self::ViaGateway | Self::ViaWaypoint)
    }
}

/// Told of every endpoint's decision, in pipeline order.
///
/// Counts and lists of decisions are about the service's own endpoints.
pub trait Recorder {
    /// `endpoint` was decided.
    fn decided(&mut self, endpoint: &Endpoint, decision: Decision);

    /// `endpoint` of the waypoint that stands in for the service was decided (R4.37), before those of the service.
    fn decided_of_waypoint(&mut self, _endpoint: &Endpoint, _decision: Decision) {}

    /// One at a Unix socket (R4.15), or one that Envoy resolves, was decided; told as an endpoint, without an address where
    /// it has none.
    fn decided_inline(&mut self, endpoint: &InlineEndpoint, decision: Decision) {
        self.decided(&as_endpoint(endpoint), decision);
    }
}

/// An endpoint that is told with a service as one of those that clusters tell of: without an address where it has none.
pub(super) fn as_endpoint(endpoint: &InlineEndpoint) -> Endpoint {
    let addresses = match &endpoint.address {
        InlineAddress::Ip(address) => (*address).into(),
        InlineAddress::Host(_) | InlineAddress::Unix(_) | InlineAddress::Absent => Addresses::default(),
    };
    Endpoint {
        addresses,
        port: endpoint.port,
        port_name: endpoint.port_name.clone(),
        health: Health::Healthy,
        weight: endpoint.weight,
        exposure: Exposure::default(),
        workload: endpoint.workload.clone(),
    }
}

/// Records nothing.
impl Recorder for () {
    fn decided(&mut self, _: &Endpoint, _: Decision) {}

    fn decided_inline(&mut self, _: &InlineEndpoint, _: Decision) {}
}

/// How many endpoints met each decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally([u32; Decision::ALL.len()]);

impl Default for Tally {
    fn default() -> Self {
        Self([0; Decision::ALL.len()])
    }
}

impl Tally {
    /// Every decision with its count.
    pub fn counts(&self) -> impl Iterator<Item = (Decision, u32)> + '_ {
        Decision::ALL.iter().copied().zip(self.0)
    }
}

/// Counts.
impl Recorder for Tally {
    fn decided(&mut self, _: &Endpoint, decision: Decision) {
        self.0[decision as usize] += 1;
    }

    fn decided_inline(&mut self, _: &InlineEndpoint, decision: Decision) {
        self.0[decision as usize] += 1;
    }
}

/// Records everything.
impl Recorder for Vec<(Endpoint, Decision)> {
    fn decided(&mut self, endpoint: &Endpoint, decision: Decision) {
        self.push((endpoint.clone(), decision));
    }
}
