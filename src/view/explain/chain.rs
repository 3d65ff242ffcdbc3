//! The checks that an endpoint passed, and the one that hid it.

use std::cell::RefCell;

use serde::Serialize;

use crate::model::policy::ClientTlsMode;
use crate::model::{Discoverability, Endpoint, Health, NetworkGateway};
use crate::view::roads::{Road, Roads};
use crate::view::{Decision, Destination, EdsKey, EdsName, Inputs, mtls};

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
const CHECKS: [(&str, &[Decision]); 15] = [
    ("port", &[Decision::OtherPort]),
    ("subset", &[Decision::Subset]),
    ("node", &[Decision::OtherNode]),
    ("network-view", &[Decision::NetworkView]),
    ("cluster", &[Decision::OtherCluster, Decision::NotGlobal]),
    ("export", &[Decision::NotExported]),
    ("health", &[Decision::Unhealthy, Decision::Terminating, Decision::Draining]),
    ("freshness", &[Decision::StaleCluster]),
    ("network", &[Decision::AmbientNetwork, Decision::NoGateway]),
    ("gateway-family", &[Decision::GatewayFamily]),
    ("mtls", &[Decision::MtlsRequired]),
    ("ready-behind-gateway", &[Decision::NotReadyBehindGateway]),
    ("address", &[Decision::NoAddress]),
    ("unique", &[Decision::SameAddress]),
    ("share", &[Decision::NoShare]),
];

/// What endpoints are compared with.
pub(super) struct Facts<'a> {
    pub(super) inputs: Inputs<'a>,
    name: &'a EdsName,
    key: &'a EdsKey,
    /// What DestinationRules say of TLS (R4.12.1).
    tls: Option<ClientTlsMode>,
    /// The ways that endpoints go; each is found once.
    roads: RefCell<Roads<'a, 'a>>,
}

impl<'a> Facts<'a> {
    pub(super) fn new(inputs: Inputs<'a>, name: &'a EdsName, key: &'a EdsKey) -> Self {
        let destination = Destination::of_ids(inputs.policies, &name.host, &key.rules);
        let roads = RefCell::new(Roads::new(inputs, key));
        Self { inputs, name, key, tls: mtls::told(&destination, name), roads }
    }

    /// The gateways in front of an endpoint, as the pipeline chooses them; none when it is reached otherwise.
    pub(super) fn gateways(&self, endpoint: &Endpoint) -> Vec<&'a NetworkGateway> {
        let mut roads = self.roads.borrow_mut();
        match roads.to(&endpoint.workload.network, &endpoint.workload.cluster) {
            Road::Gateways(set) => roads.sets()[set].clone(),
            Road::Direct | Road::Hidden(_) => Vec::new(),
        }
    }

    /// The checks up to the one that decided.
    pub(super) fn chain(&self, endpoint: &Endpoint, decision: Decision) -> Vec<Check> {
        let gateways = self.gateways(endpoint);
        let mut chain = Vec::new();
        for (check, ending) in CHECKS {
            let ends = ending.contains(&decision);
            if let Some(detail) = self.detail(check, endpoint, &gateways, ends) {
                chain.push(Check { check, ok: !ends, detail });
            }
            if ends {
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
        gateways: &[&NetworkGateway],
        ends: bool,
    ) -> Option<String> {
        let workload = &endpoint.workload;
        let (key, through) = (self.key, !gateways.is_empty());
        let said = |applies: bool, text: String| (applies || ends).then_some(text);
        match check {
            "port" => Some(format!(
                "port name {:?} in {}, asked for is port {}",
                &*endpoint.port_name, workload.cluster, self.name.port
            )),
            "subset" => said(!self.name.subset.is_empty(), format!("subset {:?}", self.name.subset)),
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
                    "the service is not global"
                };
                said(local, format!("{text}: cluster {}, the proxy is in {}", workload.cluster, key.cluster))
            }
            "export" => {
                let own = endpoint.exposure.discoverability() == Discoverability::SameCluster;
                said(own, format!("{} does not export the service", workload.cluster))
            }
            "health" => Some(self.health(endpoint)),
            "freshness" => {
                let standing = self.inputs.standings.part(&workload.cluster).standing;
                said(ends, format!("{} is {standing:?}", workload.cluster))
            }
            "network" => Some(self.network(endpoint, gateways, ends)),
            "gateway-family" => {
                let text = format!(
                    "{:?} is what the proxy has, gateways are {}",
                    key.families,
                    listed(&self.known(endpoint))
                );
                said(through, text)
            }
            "mtls" => said(through || self.name.sni_dnat, self.mtls(endpoint)),
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

    /// Every gateway of an endpoint's network.
    fn known(&self, endpoint: &Endpoint) -> Vec<&'a NetworkGateway> {
        self.inputs.networks.gateways_of(&endpoint.workload.network).1.iter().collect()
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

    fn network(&self, endpoint: &Endpoint, gateways: &[&NetworkGateway], ends: bool) -> String {
        let (own, other) = (&self.key.network, &endpoint.workload.network);
        match () {
            () if !gateways.is_empty() => {
                format!("on {other}, the proxy on {own}: through {}", listed(gateways))
            }
            () if own == other => format!("on {other}, as the proxy"),
            () if other.is_empty() => "its network is not known: taken as near".to_owned(),
            () if own.is_empty() => "the proxy's network is not known: taken as near".to_owned(),
            () if self.inputs.mesh.reachable(own, other) => {
                format!("{other} is reachable from {own} by configuration")
            }
            () if ends => format!("on {other}, the proxy on {own}, and {other} has no usable gateway"),
            () => format!("on {other}, the proxy on {own}: through a gateway of {other}"),
        }
    }

    fn mtls(&self, endpoint: &Endpoint) -> String {
        let workload = &endpoint.workload;
        let label = workload.tls_mode_text();
        match self.tls {
            Some(mode) => format!("a DestinationRule says {mode:?}; the pod's TLS mode is {label:?}"),
            None if label != "istio" => format!("its TLS mode is {label:?}, not \"istio\""),
            None => {
                let looked = |key: &str| workload.label(key);
                let mode = mtls::mode(self.inputs.policies, &workload.namespace, endpoint.port, looked);
                format!("its TLS mode is \"istio\", its PeerAuthentication {mode:?}")
            }
        }
    }
}

fn listed(gateways: &[&NetworkGateway]) -> String {
    let all: Vec<_> = gateways
        .iter()
        .map(|gateway| std::net::SocketAddr::new(gateway.address, gateway.port).to_string())
        .collect();
    all.join(", ")
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
