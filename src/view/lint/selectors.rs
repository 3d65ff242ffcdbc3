//! Selectors that select nothing now.

use super::finding::{Code, Finding, labels};
use super::ground::Ground;
use crate::model::Labels;
use crate::model::policy::{
    AuthorizationPolicy, DestinationRule, Gateway, PeerAuthentication, PolicyKind, PolicyMeta, Sidecar,
    Sources, VirtualService,
};

/// Looks at every selector.
pub(super) fn check(ground: &Ground<'_>, found: &mut Vec<Finding>) {
    for one in ground.all::<Sidecar>() {
        let field = "spec.workloadSelector.labels";
        found.extend(at_home(ground, PolicyKind::Sidecar, &one.meta, field, one.selector.labels()));
    }
    for one in ground.all::<DestinationRule>() {
        let field = "spec.workloadSelector.matchLabels";
        found.extend(at_home(ground, PolicyKind::DestinationRule, &one.meta, field, one.selector.labels()));
    }
    for one in ground.all::<PeerAuthentication>() {
        found.extend(peer_authentication(ground, one));
    }
    for one in ground.all::<AuthorizationPolicy>() {
        found.extend(authorization_policy(ground, one));
    }
    for one in ground.all::<Gateway>() {
        let wanted = one.selector.labels();
        let of = Selecting { kind: PolicyKind::Gateway, meta: &one.meta, field: "spec.selector".to_owned() };
        found.extend(nothing(ground, of, None, wanted));
    }
    for one in ground.virtual_services.values() {
        found.extend(clients(ground, one));
    }
}

/// What selects.
struct Selecting<'a> {
    kind: PolicyKind,
    meta: &'a PolicyMeta,
    field: String,
}

/// A selector over the object's own namespace.
fn at_home(
    ground: &Ground<'_>,
    kind: PolicyKind,
    meta: &PolicyMeta,
    field: &str,
    wanted: &Labels,
) -> Option<Finding> {
    nothing(ground, Selecting { kind, meta, field: field.to_owned() }, Some(&meta.id.namespace), wanted)
}

/// R4.12: policies of the root namespace that select workloads do not apply.
fn peer_authentication(ground: &Ground<'_>, one: &PeerAuthentication) -> Option<Finding> {
    let (field, wanted) = ("spec.selector.matchLabels", one.selector.labels());
    if one.meta.id.namespace != *ground.root() || wanted.is_empty() {
        return at_home(ground, PolicyKind::PeerAuthentication, &one.meta, field, wanted);
    }
    let message = format!(
        "a PeerAuthentication of the root namespace {} holds for the mesh, and with a selector for nothing: put it into the \
         namespace of the workloads",
        ground.root()
    );
    Some(Finding::new(Code::RootSelector, PolicyKind::PeerAuthentication, &one.meta, field, message))
}

/// Those of the root namespace are about workloads of every namespace; targets are gateways of the own one.
fn authorization_policy(ground: &Ground<'_>, one: &AuthorizationPolicy) -> Vec<Finding> {
    let kind = PolicyKind::AuthorizationPolicy;
    let namespace = one.meta.id.namespace.as_str();
    let everywhere = namespace == ground.root().as_str();
    let of = Selecting { kind, meta: &one.meta, field: "spec.selector.matchLabels".to_owned() };
    let selected = nothing(ground, of, (!everywhere).then_some(namespace), one.selector.labels());
    let label = AuthorizationPolicy::GATEWAY_LABEL;
    let runs = |gateway: &str| match gateway {
        AuthorizationPolicy::ANY_GATEWAY => ground.known.workloads.any_labelled(namespace, label),
        named => ground.known.workloads.any(Some(namespace), &Labels::from([(label, named)])),
    };
    let idle = one.targets.iter().flatten().filter(|target| !runs(target));
    let idle = idle.map(|target| {
        let message = format!(
            "no pod and no connected proxy of namespace {namespace} has {label}={target} now: it is enforced nowhere by \
             this target{}",
            ground.unread_clusters()
        );
        Finding::new(Code::SelectsNothing, kind, &one.meta, "spec.targetRefs", message)
    });
    selected.into_iter().chain(idle).collect()
}

/// Conditions on the clients of routes.
fn clients<'a>(ground: &'a Ground<'_>, one: &'a VirtualService) -> impl Iterator<Item = Finding> + use<'a> {
    let http = one.http.iter().map(|route| route.matches.iter().map(|one| &one.sources).collect::<Vec<_>>());
    let tls = one.tls.iter().map(|route| route.matches.iter().map(|one| &one.sources).collect());
    let tcp = one.tcp.iter().map(|route| route.matches.iter().map(|one| &one.sources).collect());
    let numbered = |kind: &'static str, routes: Vec<Vec<&'a Sources>>| {
        routes.into_iter().enumerate().map(move |(index, matches)| (kind, index, matches))
    };
    let all = numbered("http", http.collect());
    let all = all.chain(numbered("tls", tls.collect())).chain(numbered("tcp", tcp.collect()));
    all.flat_map(move |(kind, route, matches)| {
        let matches = matches.into_iter().enumerate();
        matches.filter_map(move |(index, sources)| {
            client(ground, one, sources, &format!("spec.{kind}[{route}].match[{index}]"))
        })
    })
}

fn client(ground: &Ground<'_>, one: &VirtualService, sources: &Sources, field: &str) -> Option<Finding> {
    let namespace = Some(sources.namespace.as_str()).filter(|name| !name.is_empty());
    let field = |name: &str| format!("{field}.{name}");
    let (kind, meta) = (PolicyKind::VirtualService, &one.meta);
    if !sources.labels.is_empty() {
        let of = Selecting { kind, meta, field: field("sourceLabels") };
        return nothing(ground, of, namespace, &sources.labels);
    }
    let idle = namespace.filter(|namespace| !ground.known.workloads.runs_in(namespace))?;
    let message = format!(
        "nothing is known to run in namespace {idle}: the match takes nothing{}{}",
        ground.blank(idle),
        ground.unread_clusters()
    );
    Some(Finding::new(Code::SelectsNothing, kind, meta, field("sourceNamespace"), message))
}

/// What there is to say of labels that nothing has, in one namespace if one is named.
fn nothing(
    ground: &Ground<'_>,
    of: Selecting<'_>,
    namespace: Option<&str>,
    wanted: &Labels,
) -> Option<Finding> {
    let workloads = ground.known.workloads;
    if wanted.is_empty() || workloads.any(namespace, wanted) {
        return None;
    }
    let place = namespace.map_or_else(|| "any namespace".to_owned(), |name| format!("namespace {name}"));
    let several = wanted.len() > 1;
    let why = match workloads.missing(namespace, wanted).filter(|_| several) {
        Some((label, value)) => format!(", none has {label}={value}"),
        None if several => ", though some have each".to_owned(),
        None => String::new(),
    };
    let message = format!(
        "no pod, no endpoint of a service and no connected proxy of {place} has {} now{why}{}{}",
        labels(wanted.iter()),
        namespace.map(|namespace| ground.blank(namespace)).unwrap_or_default(),
        ground.unread_clusters()
    );
    Some(Finding::new(Code::SelectsNothing, of.kind, of.meta, of.field, message))
}
