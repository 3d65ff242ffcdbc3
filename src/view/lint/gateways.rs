//! VirtualServices and the Gateways they are bound to.

use std::collections::BTreeSet;

use super::finding::{Code, Finding, listed};
use super::ground::Ground;
use crate::model::Name;
use crate::model::policy::{Gateway, MESH_GATEWAY, PolicyId, PolicyKind, VirtualService};

/// Looks at every binding.
pub(super) fn check(ground: &Ground<'_>, found: &mut Vec<Finding>) {
    if !ground.is_listed(PolicyKind::Gateway) {
        return;
    }
    for one in ground.virtual_services.values() {
        let bound = one.gateways.iter().enumerate().filter(|(_, name)| name.as_str() != MESH_GATEWAY);
        for (index, name) in bound {
            let (code, message) = match ground.gateways.get(name) {
                None => (Code::UnknownGateway, unknown(ground, name)),
                Some(gateway) if serves(gateway, one) => continue,
                Some(gateway) => (Code::HostNotOnGateway, unserved(gateway, one)),
            };
            let field = format!("spec.gateways[{index}]");
            found.push(Finding::new(code, PolicyKind::VirtualService, &one.meta, field, message));
        }
    }
}

fn unknown(ground: &Ground<'_>, name: &Name) -> String {
    let (namespace, short) = name.split_once('/').unwrap_or(("", name));
    if ground.is_unread(PolicyKind::Gateway, &PolicyId::new(namespace, short)) {
        return format!("Gateway {name} cannot be read (see its error): no router has these routes");
    }
    let others = ground.gateways.values().map(|one| &one.meta.id).filter(|id| id.name.as_str() == short);
    let others = listed(others);
    let hint = if others.is_empty() { String::new() } else { format!("; there is {others}") };
    format!(
        "there is no Gateway {name} in the config cluster: no router has these routes. A name without namespace means that of \
         the VirtualService{hint}"
    )
}

/// Whether a server of a Gateway serves some host of a VirtualService.
fn serves(gateway: &Gateway, one: &VirtualService) -> bool {
    let own = one.meta.id.namespace.as_str();
    let mut hosts = gateway.servers.iter().flat_map(|server| &server.hosts);
    hosts.any(|served| one.hosts.iter().any(|host| served.covers(own, host.as_str())))
}

fn unserved(gateway: &Gateway, one: &VirtualService) -> String {
    let hosts = gateway.servers.iter().flat_map(|server| &server.hosts);
    let served: BTreeSet<String> = hosts
        .map(|served| match &served.namespace {
            Some(namespace) => format!("{namespace}/{}", served.host.as_str()),
            None => served.host.as_str().to_owned(),
        })
        .collect();
    let own = listed(one.hosts.iter().map(|host| host.as_str()));
    let served = if served.is_empty() { "none".to_owned() } else { listed(served) };
    format!(
        "no server of Gateway {} serves {own} for VirtualServices of namespace {}: its hosts are {served}",
        gateway.meta.id, one.meta.id.namespace
    )
}
