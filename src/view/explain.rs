//! Why a proxy gets what it gets: the pipeline itself, run with a recorder, in words.
//!
//! [`explain`] runs [`told`] and says for every endpoint which checks it passed and which hid it, what would have to
//! be otherwise for it to appear, where the weights of gateways come from and why priorities are what they are. What
//! would be is not guessed: the pipeline runs again with that one thing changed. Cost ∝ the service's endpoints ×
//! the distinct reasons: for operators, not for the hot path.

mod chain;
mod gateways;
mod priorities;
mod sums;
#[cfg(test)]
mod tests;
mod unseen;
mod waypoint;
mod would;

use std::net::IpAddr;

use serde::Serialize;

pub use chain::Check;
pub use priorities::PriorityRow;
pub use sums::{GatewaySum, Share};
pub use unseen::{WouldSee, unseen};
pub use waypoint::{WaypointEndpoint, WaypointExplanation};
pub use would::Would;

use super::decision::as_endpoint;
use super::{
    Assignment, Decision, Destination, EdsKey, EdsName, Inputs, LOCAL_CLUSTER, Origin, Recorder, told,
};
use crate::model::policy::{PolicyId, SimpleLb};
use crate::model::{
    ClusterId, Dialect, Endpoint, Health, InlineAddress, InlineEndpoint, Locality, Name, NetworkId,
    ProxyView, Resolution, Service, Transport,
};
use chain::Facts;
use gateways::{Entrances, place, way};

/// What one proxy gets for one name, and why.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The name of the assignment.
    pub name: String,
    /// Why there is nothing to decide; `None` when endpoints were decided.
    pub nothing: Option<Absence>,
    /// The DestinationRules that hold, in order (R4.3).
    pub rules: Vec<PolicyId>,
    /// What orders localities, in words (R4.29–R4.31).
    pub locality_setting: String,
    /// Every endpoint that any cluster tells of, in the order of the pipeline.
    pub endpoints: Vec<EndpointExplanation>,
    /// The priorities, the preferred first.
    pub priorities: Vec<PriorityRow>,
    /// What the weights of gateways are made of.
    pub gateways: Vec<GatewaySum>,
    /// The waypoint that stands in for the endpoints (R4.37).
    pub waypoint: Option<WaypointExplanation>,
}

/// Why there is nothing to decide.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Absence {
    /// Which of the reasons.
    pub code: Nothing,
    /// What was looked at, in words.
    pub detail: String,
    /// What would have to be otherwise.
    pub would: Option<WouldSee>,
}

/// Why a name has no endpoints at all. The codes are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Nothing {
    /// No cluster has such a service (R4.2).
    #[serde(rename = "hidden/no-service")]
    NoService,
    /// The service is not exported to the proxy's namespace: exportTo (R4.2).
    #[serde(rename = "hidden/export-to")]
    ExportTo,
    /// The proxy's Sidecar does not name the host on this port (R4.2).
    #[serde(rename = "hidden/sidecar-egress")]
    SidecarEgress,
    /// It is another name of another host (ExternalName), and has no endpoints of its own (R5.21).
    #[serde(rename = "alias")]
    Alias,
    /// The service has no such TCP port (R4.2).
    #[serde(rename = "hidden/no-port")]
    NoPort,
    /// No DestinationRule that holds has such a subset (R4.8).
    #[serde(rename = "hidden/no-subset")]
    NoSubset,
    /// Envoy resolves the service itself, and nobody names anything to resolve: there is no Envoy cluster (R5.36).
    #[serde(rename = "dns")]
    Dns,
    /// The proxy asks for no assignment: connections go to the address that the client chose (R5.21).
    #[serde(rename = "original-dst")]
    OriginalDst,
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointExplanation {
    /// Its address; none where nobody tells one.
    pub address: Option<IpAddr>,
    /// Its target port; 0 at a Unix socket.
    pub port: u16,
    /// The path of its Unix socket (R4.15).
    pub socket: Option<Name>,
    /// The host name that Envoy resolves.
    pub host: Option<Name>,
    /// Its pod; empty for a bare address.
    pub pod: Name,
    /// Its pod's namespace.
    pub namespace: Name,
    /// The cluster that tells of it.
    pub cluster: ClusterId,
    /// Its network.
    pub network: NetworkId,
    /// Where it runs.
    pub locality: Locality,
    /// Its health.
    pub health: Health,
    /// Its own weight.
    pub weight: u32,
    /// What became of it.
    pub decision: Decision,
    /// Its priority, or that of its gateways; none when it is hidden.
    pub priority: Option<u32>,
    /// The checks, in order; only the last can have failed.
    pub chain: Vec<Check>,
    /// What would have to be otherwise.
    pub would: Option<Would>,
}

/// An endpoint with what became of it.
#[derive(Clone, Debug)]
struct Decided {
    endpoint: Endpoint,
    /// Where it is, of one that is told with the service.
    inline: Option<InlineAddress>,
    decision: Decision,
}

impl Decided {
    /// The path, of one at a Unix socket.
    fn socket(&self) -> Option<&Name> {
        match &self.inline {
            Some(InlineAddress::Unix(path)) => Some(path),
            _ => None,
        }
    }

    /// The name, of one that Envoy resolves.
    fn host(&self) -> Option<&Name> {
        match &self.inline {
            Some(InlineAddress::Host(host)) => Some(host),
            _ => None,
        }
    }

    /// Where it is sent as itself, in the form of [`place`].
    fn place(&self) -> String {
        match (&self.inline, self.endpoint.addresses.first()) {
            (Some(InlineAddress::Unix(path)), _) => path.to_string(),
            (Some(InlineAddress::Host(host)), _) => format!("{host}:{}", self.endpoint.port),
            (_, Some(address)) => way(*address, self.endpoint.port),
            (_, None) => String::new(),
        }
    }
}

/// Everything that was decided, in the order of the pipeline.
#[derive(Debug, Default)]
struct Record {
    /// The service's endpoints.
    own: Vec<Decided>,
    /// Those of its waypoint.
    of_waypoint: Vec<Decided>,
}

impl Recorder for Record {
    fn decided(&mut self, endpoint: &Endpoint, decision: Decision) {
        self.own.push(Decided { endpoint: endpoint.clone(), inline: None, decision });
    }

    fn decided_of_waypoint(&mut self, endpoint: &Endpoint, decision: Decision) {
        self.of_waypoint.push(Decided { endpoint: endpoint.clone(), inline: None, decision });
    }

    fn decided_inline(&mut self, endpoint: &InlineEndpoint, decision: Decision) {
        let inline = Some(endpoint.address.clone());
        self.own.push(Decided { endpoint: as_endpoint(endpoint), inline, decision });
    }
}

/// Explains what proxies with projection `key` get for `name`. `unseen` is what [`unseen()`] says of a proxy that sees no
/// service there.
pub fn explain(inputs: Inputs<'_>, name: &EdsName, key: &EdsKey, unseen: Option<Absence>) -> Explanation {
    let mut record = Record::default();
    let assignment = told(inputs, name, key, &mut record);
    let Record { own: decided, of_waypoint } = record;
    let facts = Facts::new(inputs, name, key);
    let entrances = Entrances::new(&assignment);
    let mut woulds = would::Woulds::new(inputs, name, key);
    let endpoints = decided.iter().enumerate().map(|(at, one)| {
        let (endpoint, workload) = (&one.endpoint, &one.endpoint.workload);
        EndpointExplanation {
            address: endpoint.addresses.first().copied(),
            port: endpoint.port,
            socket: one.socket().cloned(),
            host: one.host().cloned(),
            pod: workload.name.clone(),
            namespace: workload.namespace.clone(),
            cluster: workload.cluster.clone(),
            network: workload.network.clone(),
            locality: workload.locality().clone(),
            health: endpoint.health,
            weight: endpoint.weight(),
            decision: one.decision,
            priority: priority_of(&assignment, &entrances, &facts, one),
            chain: facts.chain(one),
            would: woulds.of(at, one),
        }
    });
    let endpoints: Vec<_> = endpoints.collect();
    Explanation {
        name: if key.siblings.is_some() { LOCAL_CLUSTER.to_owned() } else { name.to_string() },
        nothing: unseen.or_else(|| nothing(inputs, name, key)),
        rules: key.rules.clone(),
        locality_setting: priorities::setting(inputs, name, key),
        priorities: priorities::rows(&assignment, inputs, name, key),
        gateways: sums::sums(&entrances, &decided, &facts),
        waypoint: waypoint::of(&assignment, &of_waypoint),
        endpoints,
    }
}

fn nothing(inputs: Inputs<'_>, name: &EdsName, key: &EdsKey) -> Option<Absence> {
    let absence = |code, detail: String| Some(Absence { code, detail, would: None });
    let service = inputs.service.service.as_deref();
    let Some(service) = service.filter(|service| key.namespace.as_ref() == Some(&service.key.namespace))
    else {
        return absence(Nothing::NoService, "no cluster tells of such a service".to_owned());
    };
    let destination = Destination::of_ids(inputs.policies, &name.host, &key.rules);
    match () {
        () if matches!(service.resolution, Resolution::Alias(_)) => absence(Nothing::Alias, alias(service)),
        () if service.resolution.is_dns() && service.inline().is_empty() => absence(
            Nothing::Dns,
            "Envoy would resolve its endpoints itself, and nobody names any: there is no Envoy cluster"
                .to_owned(),
        ),
        () if service.port(name.port).is_none() => absence(Nothing::NoPort, ports(service)),
        () if !name.subset.is_empty() && destination.subset(&name.subset).is_none() => {
            absence(Nothing::NoSubset, subsets(&destination, name, key))
        }
        () => None,
    }
}

/// Why a proxy asks for no assignment of a service that it sees: it leaves connections where the client sent them, for
/// headless services or because a DestinationRule says so. `None` when it asks.
pub fn original_dst(view: &ProxyView, inputs: Inputs<'_>, name: &EdsName, key: &EdsKey) -> Option<Absence> {
    let service = inputs.service.service.as_deref()?;
    let seen = key.namespace.as_ref() == Some(&service.key.namespace);
    if !seen || service.port(name.port).is_none() || nothing(inputs, name, key).is_some() {
        return None;
    }
    let settings =
        Destination::of_ids(inputs.policies, &name.host, &key.rules).settings(name.port, &name.subset);
    let passes = settings.load_balancer.and_then(|lb| lb.simple) == Some(SimpleLb::Passthrough);
    let why = match () {
        () if inputs.mesh.leaves_address(service, view.kind, view.mode) && !name.sni_dnat => {
            "a headless service"
        }
        // Clients of gRPC have no such balancing: they ask.
        () if passes && view.dialect != Dialect::Grpc => "load balancing PASSTHROUGH of its DestinationRule",
        () => return None,
    };
    let detail =
        format!("connections go to the address that the client chose ({why}); endpoints are not asked for");
    Some(Absence { code: Nothing::OriginalDst, detail, would: None })
}

fn alias(service: &Service) -> String {
    match &service.resolution {
        Resolution::Alias(target) => {
            format!("it is another name of {target}, and has no endpoints of its own")
        }
        _ => String::new(),
    }
}

fn ports(service: &Service) -> String {
    let tcp = service.ports.iter().filter(|port| port.transport == Transport::Tcp);
    let numbers: Vec<_> = tcp.map(|port| port.number.to_string()).collect();
    match numbers.is_empty() {
        true => "the service has no TCP port".to_owned(),
        false => format!("the service has the TCP ports {}", numbers.join(", ")),
    }
}

/// The subsets there are, of the rules that hold.
fn subsets(destination: &Destination, name: &EdsName, key: &EdsKey) -> String {
    let rules: Vec<_> = key.rules.iter().map(ToString::to_string).collect();
    let known: Vec<_> = destination.subsets().map(|subset| subset.name.to_string()).collect();
    match (rules.is_empty(), known.is_empty()) {
        (true, _) => format!("no DestinationRule holds for the proxy and {}", name.host),
        (false, true) => format!("the DestinationRules {} have no subsets", rules.join(", ")),
        (false, false) => {
            format!("the DestinationRules {} have the subsets {}", rules.join(", "), known.join(", "))
        }
    }
}

/// The priority under which traffic reaches an endpoint: that of its own address, or the best of those of the gateways
/// that it stands behind.
fn priority_of(
    assignment: &Assignment<'_>,
    entrances: &Entrances,
    facts: &Facts<'_>,
    one: &Decided,
) -> Option<u32> {
    let endpoint = &one.endpoint;
    match one.decision {
        Decision::Direct => {
            let own = one.place();
            let direct = |origin: &Origin<'_>| matches!(origin, Origin::Direct(_));
            let groups = assignment.groups.iter();
            let having = groups.filter(|group| {
                group.endpoints.iter().any(|sent| direct(&sent.origin) && place(&sent.target) == own)
            });
            having.map(|group| group.priority).min()
        }
        Decision::ViaGateway => {
            let (places, _) = entrances.before(endpoint, facts);
            places.into_iter().map(|at| entrances.all()[at].priority).min()
        }
        _ => None,
    }
}
