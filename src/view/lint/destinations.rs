//! Where routes of VirtualServices lead.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::finding::{Code, Finding, listed};
use super::ground::Ground;
use super::hosts::is_alias;
use super::reach::Reach;
use super::subsets;
use crate::model::policy::{Destination, HttpAction, PolicyKind, VirtualService};
use crate::model::{Service, Transport};

/// A destination and the field it is in.
struct Place<'a> {
    one: &'a VirtualService,
    to: &'a Destination,
    field: String,
}

impl Place<'_> {
    fn finding(&self, code: Code, message: String) -> Finding {
        Finding::new(code, PolicyKind::VirtualService, &self.one.meta, self.field.clone(), message)
    }
}

/// Looks at every destination, each once per route.
pub(super) fn check(ground: &Ground<'_>, found: &mut Vec<Finding>) {
    for one in ground.virtual_services.values() {
        let audience = ground.audience(one);
        for place in places(one) {
            found.extend(look(ground, &place, audience.as_ref()));
        }
    }
}

/// What is wrong with a destination first: the host, then the port, then the subset.
fn look(ground: &Ground<'_>, place: &Place<'_>, audience: Option<&Reach>) -> Option<Finding> {
    let services: Vec<_> =
        ground.hosts.of(&place.to.host).iter().filter_map(|one| one.service.as_ref()).collect();
    if services.is_empty() {
        return Some(unknown_host(ground, place));
    }
    let services: Vec<_> = services.into_iter().filter(|service| !is_alias(service)).collect();
    if services.is_empty() {
        return None;
    }
    let Some(audience) = audience else {
        return unknown_port(ground, place, &services);
    };
    let seen = |service: &&Arc<Service>| ground.service_reach(service).meets(audience);
    let seen: Vec<_> = services.iter().copied().filter(seen).collect();
    if seen.is_empty() {
        return Some(hidden_host(ground, place, &services, audience));
    }
    unknown_port(ground, place, &seen).or_else(|| subset(ground, place, &seen, audience))
}

fn unknown_host(ground: &Ground<'_>, place: &Place<'_>) -> Finding {
    let host = place.to.host.as_str();
    let namespace = host.split('.').nth(1).filter(|_| host.contains(".svc."));
    let found = place.finding(
        Code::UnknownHost,
        format!(
            "no Service and no ServiceEntry has the host {host}: traffic there fails (503){}{}{}",
            ground.hosts.hint(host, ground.known.domain),
            namespace.map(|namespace| ground.blank(namespace)).unwrap_or_default(),
            ground.unread_clusters(),
        ),
    );
    ground.perhaps(found)
}

fn hidden_host(
    ground: &Ground<'_>,
    place: &Place<'_>,
    services: &[&Arc<Service>],
    audience: &Reach,
) -> Finding {
    let exported = services.iter().map(|service| {
        let reach = ground.service_reach(service);
        format!("that of namespace {} to {reach}", service.key.namespace)
    });
    place.finding(
        Code::HiddenHost,
        format!(
            "{} is there, but not for the clients of this VirtualService, which are those of {audience}: it is exported \
             ({}); widen its exportTo",
            place.to.host,
            listed(exported),
        ),
    )
}

fn unknown_port(ground: &Ground<'_>, place: &Place<'_>, services: &[&Arc<Service>]) -> Option<Finding> {
    let port = place.to.port?;
    if services.iter().any(|service| service.port(port).is_some()) {
        return None;
    }
    let ports = services.iter().flat_map(|service| &service.ports);
    let ports: BTreeSet<_> =
        ports.filter(|port| port.transport == Transport::Tcp).map(|port| port.number).collect();
    let there = if ports.is_empty() { "none that Envoy serves".to_owned() } else { listed(&ports) };
    let host = &place.to.host;
    let message = format!("{host} has no port {port}; it has {there}{}", ground.unread_clusters());
    Some(ground.perhaps(place.finding(Code::UnknownPort, message)))
}

fn subset(
    ground: &Ground<'_>,
    place: &Place<'_>,
    services: &[&Arc<Service>],
    audience: &Reach,
) -> Option<Finding> {
    let name = place.to.subset.as_str();
    if name.is_empty() || !ground.is_listed(PolicyKind::DestinationRule) {
        return None;
    }
    if let Some(why) = subsets::unknown(ground, name, services, audience) {
        return Some(place.finding(Code::UnknownSubset, why));
    }
    let callers = ground.callers(place.one);
    let why = callers.iter().find_map(|caller| subsets::hidden(ground, name, services, caller));
    why.map(|why| place.finding(Code::HiddenSubset, why))
}

/// Every destination of an object. Entries without a share are not there any more: the field is that of the list.
fn places(one: &VirtualService) -> impl Iterator<Item = Place<'_>> {
    let mut all = Vec::new();
    for (index, route) in one.http.iter().enumerate() {
        let mut add =
            |to, list: &str| all.push(Place { one, to, field: format!("spec.http[{index}].{list}") });
        if let HttpAction::Forward(to) = &route.action {
            to.iter().for_each(|to| add(&to.destination, "route"));
        }
        route.mirrors.iter().for_each(|mirror| add(&mirror.destination, "mirrors"));
    }
    let tls = one.tls.iter().map(|route| &route.to).enumerate().map(|(index, to)| ("tls", index, to));
    let tcp = one.tcp.iter().map(|route| &route.to).enumerate().map(|(index, to)| ("tcp", index, to));
    for (kind, index, to) in tls.chain(tcp) {
        let field = || format!("spec.{kind}[{index}].route");
        all.extend(to.iter().map(|to| Place { one, to: &to.destination, field: field() }));
    }
    all.into_iter()
}
