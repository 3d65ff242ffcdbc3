//! The checks that an endpoint passed, and the one that hid it.

use std::cell::RefCell;

use serde::Serialize;

use super::Decided;
use super::gateways::entrance;
use crate::model::policy::ClientTlsMode;
use crate::model::{Discoverability, Endpoint, Health, Workload};
use crate::view::gate::Gate;
use crate::view::roads::{Road, Roads, Told};
use crate::view::{Decision, Destination, EdsKey, EdsName, Inputs, Siblings, mtls, waypoint};

/// One check of the pipeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Its name, stable.
    pub check: &'static str,
    /// Whether the endpoint passed it.
    pub ok: bool,
    /// What was looked at.
    pub detail: String,
}

/// The checks in the order of the pipeline, each with the decisions that end there.
const CHECKS: [(&str, &[Decision]); 18] = [
    ("port", &[Decision::OtherPort]),
    ("only-one", &[Decision::OnlyOne]),
    ("subset", &[Decision::Subset]),
    ("waypoint", &[Decision::NoWaypoint]),
    ("node", &[Decision::OtherNode]),
    ("network-view", &[Decision::NetworkView]),
    ("cluster", &[Decision::OtherCluster, Decision::NotGlobal]),
    ("export", &[Decision::NotExported]),
    ("health", &[Decision::Unhealthy, Decision::Terminating, Decision::Draining]),
    ("workload", &[Decision::OtherWorkload]),
    ("freshness", &[Decision::StaleCluster]),
    ("network", &[Decision::AmbientNetwork, Decision::NoGateway, Decision::BehindGateway]),
    ("gateway-family", &[Decision::GatewayFamily]),
    ("mtls", &[Decision::MtlsRequired]),
    ("ready-behind-gateway", &[Decision::NotReadyBehindGateway]),
    ("address", &[Decision::NoAddress]),
    ("unique", &[Decision::SameAddress]),
    ("share", &[Decision::NoShare]),
];

/// The checks of endpoints at Unix sockets (R4.15).
const AT_SOCKETS: [&str; 5] = ["port", "subset", "network", "mtls", "share"];

/// What endpoints are compared with.
pub(super) struct Facts<'a> {
    pub(super) inputs: Inputs<'a>,
    name: &'a EdsName,
    key: &'a EdsKey,
    /// What DestinationRules say of TLS (R4.12.1).
    tls: Option<ClientTlsMode>,
    /// How the proxy is told of endpoints.
    told: Told,
    /// Whether they are names outside the mesh, on none of its networks.
    outside: bool,
    /// The ways that endpoints go; each is found once.
    roads: RefCell<Roads<'a, 'a>>,
}

impl<'a> Facts<'a> {
    pub(super) fn new(inputs: Inputs<'a>, name: &'a EdsName, key: &'a EdsKey) -> Self {
        let destination = Destination::of_ids(inputs.policies, &name.host, &key.rules);
        let service = inputs.service.service.as_deref();
        let resolved = service.filter(|service| service.resolution.is_dns());
        let told = if resolved.is_some() { Told::WithCluster } else { Told::Apart };
        let outside = resolved.is_some_and(|service| service.is_mesh_external());
        let roads = RefCell::new(Roads::new(inputs, key, told));
        Self { inputs, name, key, tls: mtls::told(&destination, name), told, outside, roads }
    }

    /// The gateways in front of an endpoint, as the pipeline chooses them; none when it is reached otherwise.
    pub(super) fn gateways(&self, endpoint: &Endpoint) -> Vec<Gate<'a>> {
        if self.outside {
            return Vec::new();
        }
        let mut roads = self.roads.borrow_mut();
        match roads.to(&endpoint.workload.network, &endpoint.workload.cluster) {
            Road::Gateways(set) => roads.sets()[set].clone(),
            Road::Direct | Road::Hidden(_) => Vec::new(),
        }
    }

    /// The port under which the proxy uses a gateway (R4.21).
    pub(super) fn port_of(&self, gate: Gate<'_>) -> u16 {
        if self.by_hbone() { gate.hbone_port() } else { gate.port() }
    }

    fn by_hbone(&self) -> bool {
        self.roads.borrow().by_hbone()
    }

    /// The checks up to the one that decided.
    pub(super) fn chain(&self, one: &Decided) -> Vec<Check> {
        let endpoint = &one.endpoint;
        let gateways = if one.socket().is_some() { Vec::new() } else { self.gateways(endpoint) };
        let mut chain = Vec::new();
        let at_socket = one.socket().is_some() && self.told == Told::Apart;
        let applies = |check: &str| !at_socket || AT_SOCKETS.contains(&check);
        for (check, ending) in CHECKS.into_iter().filter(|(check, _)| applies(check)) {
            let ends = ending.contains(&one.decision).then_some(one.decision);
            if let (None, "network", Some(path)) = (ends, check, one.socket()) {
                let detail = format!("at the Unix socket {path} of the proxy's own machine");
                chain.push(Check { check, ok: true, detail });
                continue;
            }
            if let Some(detail) = self.detail(check, endpoint, &gateways, ends) {
                chain.push(Check { check, ok: ends.is_none(), detail });
            }
            // What follows is asked of the waypoint's endpoints.
            if ends.is_some() || check == "waypoint" && one.decision == Decision::ViaWaypoint {
                break;
            }
        }
        chain
    }

    /// What a check looked at; `None` where it does not apply and did not decide.
    fn detail(
        &self,
        check: &str,
        endpoint: &Endpoint,
        gateways: &[Gate<'_>],
        ends: Option<Decision>,
    ) -> Option<String> {
        let workload = &endpoint.workload;
        let (key, through) = (self.key, !gateways.is_empty());
        let said = |applies: bool, text: String| (applies || ends.is_some()).then_some(text);
        match check {
            "port" => Some(format!(
                "port name {:?} in {}, asked for is port {}",
                &*endpoint.port_name, workload.cluster, self.name.port
            )),
            "only-one" => said(
                false,
                "Envoy resolves one endpoint alone (DNS_ROUND_ROBIN), and another one comes first".to_owned(),
            ),
            "subset" => said(!self.name.subset.is_empty(), format!("subset {:?}", self.name.subset)),
            "waypoint" => self.waypoint(ends.is_some()),
            "node" => said(
                key.node.is_some(),
                format!(
                    "on node {:?}, the proxy is on {:?}",
                    &**workload.node(),
                    key.node.as_deref().unwrap_or_default()
                ),
            ),
            "network-view" => said(
                !key.requested_view.is_everything(),
                format!("network {:?} and the requested view", &*workload.network),
            ),
            "cluster" => {
                let local = self.inputs.mesh.cluster_local(self.inputs.policies.mesh(), &self.name.host);
                let text = if local {
                    "the host is served in its own cluster only"
                } else {
                    "the service is not global (serviceScopeConfigs)"
                };
                said(local, format!("{text}: cluster {}, the proxy is in {}", workload.cluster, key.cluster))
            }
            "export" => Some(self.export(endpoint, ends.is_some())),
            "health" => Some(self.health(endpoint)),
            "workload" => {
                let siblings = key.siblings.as_ref()?;
                Some(format!("{}, the proxy is of {siblings}", Siblings::in_words(workload)))
            }
            "freshness" => {
                let standing = self.inputs.standings.part(&workload.cluster).standing;
                said(false, format!("{} is {standing:?}", workload.cluster))
            }
            "network" => Some(self.network(endpoint, gateways, ends)),
            "gateway-family" => {
                let text = format!(
                    "{:?} is what the proxy has, gateways are {}",
                    key.families,
                    self.listed(&self.known(&endpoint.workload))
                );
                said(through, text)
            }
            "mtls" => {
                said(through && !self.by_hbone() || self.name.sni_dnat, self.mtls(endpoint, ends.is_some()))
            }
            "ready-behind-gateway" => said(
                through,
                format!("only ready endpoints give a gateway weight: {}", self.health(endpoint)),
            ),
            "address" => said(false, "nobody tells its address".to_owned()),
            "unique" => said(false, "its address is sent for another endpoint already".to_owned()),
            "share" => said(false, format!("no share is for locality {:?}", workload.locality().to_string())),
            _ => None,
        }
    }

    /// What is said of the waypoint that stands in for an endpoint; `None` where none does.
    fn waypoint(&self, ends: bool) -> Option<String> {
        let service = self.inputs.service.service.as_deref().filter(|_| self.told == Told::Apart)?;
        let waypoint = waypoint(service, self.name, self.key, self.inputs.mesh)?;
        let found = if ends { "which has no endpoint for this proxy" } else { "whose endpoints are sent" };
        Some(format!("ingress gateways reach the service through {waypoint}, {found}"))
    }

    /// Every gateway of a workload's network.
    fn known(&self, workload: &Workload) -> Vec<Gate<'a>> {
        self.roads.borrow().gates(&workload.network)
    }

    /// Whether other clusters may use it (R4.38).
    fn export(&self, endpoint: &Endpoint, ends: bool) -> String {
        let own = &endpoint.workload.cluster;
        match endpoint.exposure.discoverability() {
            _ if ends => {
                format!(
                    "{own} does not export the service to other clusters, the proxy is in {}",
                    self.key.cluster
                )
            }
            Discoverability::Always => format!("{own} lets every cluster use it"),
            Discoverability::SameCluster if *own == self.key.cluster => {
                format!("{own} does not export the service to other clusters, and the proxy is in {own}")
            }
            Discoverability::SameCluster => "its cluster or the proxy's is not known".to_owned(),
        }
    }

    fn listed(&self, gateways: &[Gate<'_>]) -> String {
        let all: Vec<_> = gateways.iter().map(|gate| entrance(*gate, self.port_of(*gate))).collect();
        if all.is_empty() { "none".to_owned() } else { all.join(", ") }
    }

    fn health(&self, endpoint: &Endpoint) -> String {
        let sent = match endpoint.health {
            Health::Healthy => "ready",
            Health::Unhealthy => "not ready",
            Health::Draining => "draining",
            Health::Terminating => "terminating",
        };
        let label = &self.inputs.mesh.features().draining_label;
        match endpoint.workload.label(label).filter(|value| !value.is_empty()) {
            Some(_) => format!("{sent}, labelled as draining"),
            None => sent.to_owned(),
        }
    }

    fn network(&self, endpoint: &Endpoint, gateways: &[Gate<'_>], ends: Option<Decision>) -> String {
        let (own, other) = (&self.key.network, &endpoint.workload.network);
        match () {
            () if ends == Some(Decision::BehindGateway) => {
                format!("on {other}, the proxy on {own}: what is behind gateways is no sibling")
            }
            () if !gateways.is_empty() => {
                format!("on {other}, the proxy on {own}: through {}", self.listed(gateways))
            }
            () if self.outside => "outside the mesh: on none of its networks".to_owned(),
            () if own == other => format!("on {other}, as the proxy"),
            () if other.is_empty() => "its network is not known: taken as near".to_owned(),
            () if own.is_empty() => "the proxy's network is not known: taken as near".to_owned(),
            () if self.inputs.mesh.reachable(own, other) => {
                format!("{other} is reachable from {own} by configuration")
            }
            () if ends == Some(Decision::AmbientNetwork) => {
                format!("on {other}, the proxy on {own}: proxies of this kind do not use other networks")
            }
            () if ends.is_some() => {
                let known = self.listed(&self.known(&endpoint.workload));
                format!("on {other}, the proxy on {own}, and {other} has no usable gateway; known: {known}")
            }
            () => format!("on {other}, the proxy on {own}: through a gateway of {other}"),
        }
    }

    fn mtls(&self, endpoint: &Endpoint, ends: bool) -> String {
        let workload = &endpoint.workload;
        let label = workload.tls_mode_text();
        let spoken =
            label == "istio" && mtls::is_meant(self.tls, self.inputs.policies, workload, endpoint.port);
        match self.tls {
            _ if ends && spoken => {
                "it is reached by HBONE, and who is asked for by SNI is not (R4.28)".to_owned()
            }
            Some(mode) => {
                format!("a DestinationRule says {}; the pod's TLS mode is {label:?}", spelled(&mode))
            }
            None if label != "istio" => format!("its TLS mode is {label:?}, not \"istio\""),
            None => {
                let looked = |key: &str| workload.label(key);
                let mode = mtls::mode(self.inputs.policies, &workload.namespace, endpoint.port, looked);
                format!("its TLS mode is \"istio\", its PeerAuthentication mode is {}", spelled(&mode))
            }
        }
    }
}

/// A mode as objects spell it: `ISTIO_MUTUAL`.
fn spelled(mode: &impl std::fmt::Debug) -> String {
    let mut text = String::new();
    for c in format!("{mode:?}").chars() {
        if c.is_ascii_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.push(c.to_ascii_uppercase());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_decision_that_hides_ends_at_one_check() {
        for decision in Decision::ALL {
            let ends = CHECKS.iter().filter(|(_, ending)| ending.contains(decision)).count();
            let hides = decision.code().starts_with("hidden/");
            assert_eq!(ends, usize::from(hides), "{decision:?}");
        }
    }
}
