//! VirtualServices that lead on to others.

use super::finding::{Code, Finding, listed};
use super::ground::Ground;
use crate::model::policy::{HttpAction, PolicyId, PolicyKind, VirtualService};

/// Looks at every delegate from both sides.
pub(super) fn check(ground: &Ground<'_>, found: &mut Vec<Finding>) {
    if !ground.is_listed(PolicyKind::VirtualService) {
        return;
    }
    for one in ground.virtual_services.values() {
        for (index, route) in one.http.iter().enumerate() {
            let HttpAction::Delegate(id) = &route.action else { continue };
            let field = format!("spec.http[{index}].delegate");
            let why = refused(ground, one, id).map(|why| {
                format!("VirtualService {id} {why}: the route is left out, requests fall through to the next")
            });
            let kind = PolicyKind::VirtualService;
            found.extend(why.map(|why| Finding::new(Code::UnknownDelegate, kind, &one.meta, field, why)));
        }
        found.extend(unused(ground, one));
    }
}

/// Why a VirtualService does not get the routes of another one.
fn refused(ground: &Ground<'_>, one: &VirtualService, id: &PolicyId) -> Option<String> {
    let own = one.meta.id.namespace.as_str();
    let Some(delegate) = ground.virtual_services.get(id) else {
        if ground.is_unread(PolicyKind::VirtualService, id) {
            return Some("cannot be read (see its error)".to_owned());
        }
        let others = ground.virtual_services.keys().filter(|other| other.name == id.name);
        let others = listed(others);
        let hint = if others.is_empty() { String::new() } else { format!(" (there is {others})") };
        return Some(format!("is not there{hint}"));
    };
    if !delegate.is_delegate() {
        return Some("has hosts of its own; a delegate has neither hosts nor gateways".to_owned());
    }
    let reach = ground.routes_reach(delegate);
    (!reach.has(own)).then(|| format!("is exported to {reach}, not to {own}; widen its exportTo"))
}

fn unused(ground: &Ground<'_>, one: &VirtualService) -> Option<Finding> {
    let idle = one.is_delegate() && !ground.roots.contains_key(&one.meta.id);
    idle.then(|| {
        let message =
            "it has no hosts and no VirtualService leads on to it (http[].delegate): its routes are nobody's";
        Finding::new(Code::UnusedDelegate, PolicyKind::VirtualService, &one.meta, "spec.hosts", message)
    })
}
