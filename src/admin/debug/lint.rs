//! `/debug/policies?lint`: what operators wrote that can have no effect now.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::response::Response;
use serde_json::{Value, json};

use crate::admin::Sources;
use crate::admin::query::Query;
use crate::admin::reply::{self, Refusal};
use crate::ingest::PoliciesTold;
use crate::model::policy::{PolicyKind, VirtualService};
use crate::model::{ClusterId, ServiceKey};
use crate::registry::{PolicyObject, Registry, ServiceSnapshot};
use crate::view::lint::{Code, Finding, Known, Workloads, lint};
use crate::xds::status::ChainCollision;

const KNOWN: [&str; 5] = ["lint", "kind", "namespace", "name", "limit"];
/// Kinds of which only chains of listeners are looked at.
const OTHER_KINDS: [&str; 2] = ["Service", "ServiceEntry"];
/// So many findings are shown unless another number is asked for.
const LIMIT: usize = 1000;

/// The findings, the most important first, and how many were left off. `?kind=`, `?namespace=` and `?name=` restrict,
/// `?limit=` says how many. Computed for each request: cost ∝ services, endpoints, workloads and policies.
pub(super) fn page(sources: &Sources, query: &Query) -> Result<Response, Refusal> {
    query.only(&KNOWN)?;
    known_kind(query)?;
    let limit = query.get("limit").map_or(Ok(LIMIT), str::parse);
    let limit = limit.map_err(|_| Refusal::query("limit= is no number of findings"))?;
    let told = sources.policies.as_ref().map(|policies| policies.told()).unwrap_or_default();
    let unsynced = unsynced(&sources.registry);
    let mut found = findings(sources, &told, &unsynced);
    let fits = |key, value: &str| query.get(key).is_none_or(|wanted| wanted == value);
    found
        .retain(|one| fits("kind", one.kind) && fits("namespace", &one.namespace) && fits("name", &one.name));
    let mut counts = BTreeMap::from([("warning", 0_usize), ("info", 0)]);
    found.iter().for_each(|one| *counts.entry(one.severity.name()).or_default() += 1);
    let left_off = found.len().saturating_sub(limit);
    found.truncate(limit);
    let answer = json!({
        "findings": found, "counts": counts, "leftOff": left_off, "incomplete": incomplete(&told, &unsynced),
    });
    Ok(reply::json(query, &answer))
}

fn known_kind(query: &Query) -> Result<(), Refusal> {
    let kinds: Vec<_> = PolicyKind::ALL.into_iter().map(PolicyKind::name).chain(OTHER_KINDS).collect();
    match query.get("kind").filter(|wanted| !kinds.contains(wanted)) {
        None => Ok(()),
        Some(wanted) => Err(Refusal::query(format!(
            "kind={wanted:?} is none that findings are about; there are [{}]",
            kinds.join(", ")
        ))),
    }
}

fn findings(sources: &Sources, told: &PoliciesTold, unsynced: &[ClusterId]) -> Vec<Finding> {
    let registry = &sources.registry;
    let services: Vec<_> = registry.services().iter().map(|cell| cell.load()).collect();
    let workloads = workloads(sources, &services);
    let written = |object: &PolicyObject| match object {
        PolicyObject::VirtualService(one) => Some(Arc::clone(one)),
        _ => None,
    };
    let virtual_services: Vec<Arc<VirtualService>> = told.in_use.iter().filter_map(written).collect();
    let mut found = lint(Known {
        policies: &registry.policies(),
        virtual_services: &virtual_services,
        unread: &told.unread,
        unlisted: &told.unlisted,
        services: &services,
        workloads: &workloads,
        unsynced,
        domain: &sources.domain,
    });
    found.extend(sources.xds.chain_collisions().iter().map(|one| collision(registry, one)));
    found.sort();
    found
}

/// Pods, what stands behind services, and connected proxies: virtual machines are told by none but themselves.
fn workloads(sources: &Sources, services: &[Arc<ServiceSnapshot>]) -> Workloads {
    let mut workloads = Workloads::default();
    sources.registry.each_workload(|pod| workloads.add(pod));
    for shard in services.iter().flat_map(|service| &service.shards) {
        shard.endpoints.iter().for_each(|one| workloads.add(&one.workload));
        let inline = shard.service.iter().flat_map(|service| service.inline());
        inline.for_each(|one| workloads.add(&one.workload));
    }
    for stream in sources.xds.streams() {
        let unknown = stream.view.workload.is_none();
        if unknown {
            workloads.add_labels(stream.view.namespace(), &stream.view.labels);
        }
    }
    workloads
}

fn unsynced(registry: &Registry) -> Vec<ClusterId> {
    let clusters = registry.clusters().all().into_iter();
    clusters.filter(|cluster| cluster.sync_status() != "synced").map(|cluster| cluster.id).collect()
}

/// What is not known, so that things may be missed or only seem to be missing.
fn incomplete(told: &PoliciesTold, unsynced: &[ClusterId]) -> Vec<Value> {
    let clusters = unsynced.iter().map(|id| json!(format!("cluster {id} is not read completely yet")));
    let kind = |kind: &PolicyKind| json!(format!("no complete list of {} was read yet", kind.name()));
    clusters.chain(told.unlisted.iter().map(kind)).collect()
}

fn collision(registry: &Registry, one: &ChainCollision) -> Finding {
    let (kind, named) = (kind(registry, &one.left_out), |key| named(registry, key));
    let name = one.name.as_ref().map_or_else(String::new, |name| format!(" that ask for {name}"));
    let block = one.block.map_or_else(|| "any address".to_owned(), |block| block.to_string());
    let clients: Vec<_> = one.clients.iter().take(5).map(ToString::to_string).collect();
    let more = one.clients.len() - clients.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Finding {
        severity: Code::ChainCollision.severity(),
        kind,
        namespace: one.left_out.namespace.clone(),
        name: one.left_out.hostname.as_str().into(),
        field: format!("port {}", one.port),
        code: Code::ChainCollision,
        message: format!(
            "connections{name} to {block} port {} go where {} leads them, which is older, and not where {} would: one listener \
             has one of both. It concerns connected proxies of namespace {}{more}. Tell them apart by port, address or server \
             name, or limit one by exportTo",
            one.port,
            named(&one.kept),
            named(&one.left_out),
            clients.join(", "),
        ),
    }
}

fn named(registry: &Registry, key: &ServiceKey) -> String {
    match kind(registry, key) {
        "VirtualService" => format!("the VirtualService for {}", key.hostname),
        kind => format!("{kind} {} of namespace {}", key.hostname, key.namespace),
    }
}

/// A host without a namespace is no service: VirtualServices lead it.
fn kind(registry: &Registry, key: &ServiceKey) -> &'static str {
    if key.namespace.is_empty() {
        return PolicyKind::VirtualService.name();
    }
    let record = registry.service(key).and_then(|cell| cell.load().service.clone());
    if record.is_some_and(|record| record.entry.is_some()) { "ServiceEntry" } else { "Service" }
}

#[cfg(test)]
mod tests;
