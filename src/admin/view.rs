//! `/debug/view`: what one proxy gets for a host, and why not more.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};

use super::query::Query;
use super::reply::Refusal;
use super::{Shared, Sources, reply};
use crate::model::{ClusterId, Endpoint, Locality, Node, NodeMetadata, ProxyView, Transport};
use crate::registry::ServiceCell;
use crate::view::{AssignedEndpoint, Decision, EdsKey, EdsName, Inputs, Origin, assign};

const KNOWN: [&str; 7] = ["host", "port", "proxy", "network", "cluster", "namespace", "ip"];
const USAGE: &str = "needed: host=HOST and either proxy=ID (a connected one) or network=N and/or cluster=C; \
                     optional: port=PORT, namespace=NS, ip=ADDRESS";

/// The page.
pub(super) async fn page(State(sources): Shared, query: Query) -> Result<Response, Refusal> {
    query.only(&KNOWN)?;
    let host = query.get("host").ok_or_else(|| Refusal::query(USAGE))?;
    let view = viewpoint(&sources, &query)?;
    let cell = find(&sources, host, &view)?;
    let ports = ports(&cell, &query)?;
    let key = cell.key();
    let answers: Vec<_> = ports.into_iter().map(|port| answer(&sources, &cell, &view, port)).collect();
    let value = json!({
        "host": key.hostname, "namespace": key.namespace,
        "version": cell.load().version,
        "as": {"proxy": view.id.to_string(), "cluster": view.cluster(), "network": view.network,
            "namespace": view.namespace(), "families": view.families},
        "ports": answers,
    });
    Ok(reply::json(&query, &value))
}

/// Whose view it is: a connected proxy's, or that of one made up from network and cluster.
fn viewpoint(sources: &Sources, query: &Query) -> Result<Arc<ProxyView>, Refusal> {
    let made_up = ["network", "cluster", "ip"].iter().any(|key| query.has(key));
    match query.get("proxy") {
        Some(_) if made_up => {
            Err(Refusal::query("proxy=ID already says its network, cluster and ip; leave those out"))
        }
        Some(id) => connected(sources, id),
        None if query.get("network").is_none() && query.get("cluster").is_none() => {
            Err(Refusal::query(USAGE))
        }
        None => imagined(sources, query).map(Arc::new),
    }
}

/// The connected proxy with this node id, connection id, or `pod.namespace`; a part is enough if only one fits.
fn connected(sources: &Sources, id: &str) -> Result<Arc<ProxyView>, Refusal> {
    let streams = sources.xds.streams();
    let exact = streams.iter().find(|stream| {
        let workload = &stream.view.id;
        [stream.node.id.as_str(), stream.connection_id.as_str()].contains(&id)
            || format!("{}.{}", workload.name, workload.namespace) == id
    });
    let fitting: Vec<_> = match exact {
        Some(stream) => vec![stream],
        None => streams.iter().filter(|stream| stream.node.id.contains(id)).collect(),
    };
    let Some(first) = fitting.first() else {
        return Err(Refusal::unknown(format!(
            "no connected proxy has {id:?} in its id; {} are connected here: /debug/proxies lists them",
            streams.len()
        )));
    };
    if fitting.iter().any(|stream| stream.view.id != first.view.id) {
        let ids: Vec<_> = fitting.iter().take(5).map(|stream| stream.node.id.as_str()).collect();
        return Err(Refusal::query(format!("{id:?} fits several proxies: {}", ids.join(", "))));
    }
    Ok(Arc::clone(&first.view))
}

fn imagined(sources: &Sources, query: &Query) -> Result<ProxyView, Refusal> {
    let text = |key| query.get(key).unwrap_or_default();
    let cluster = ClusterId::from(text("cluster"));
    let known: Vec<_> = sources.registry.clusters().all().into_iter().map(|row| row.id).collect();
    if !cluster.is_empty() && !known.is_empty() && !known.contains(&cluster) {
        let known: Vec<_> = known.iter().map(ClusterId::as_str).collect();
        return Err(Refusal::query(format!("no cluster {:?}; there are {}", &*cluster, known.join(", "))));
    }
    let namespace = query.get("namespace").unwrap_or("default");
    let ip = query.get("ip").unwrap_or("192.0.2.1");
    let id = format!("sidecar~{ip}~view.{namespace}~{namespace}.svc.{}", sources.domain);
    let metadata = NodeMetadata {
        cluster_id: cluster.to_string(),
        network: text("network").to_owned(),
        namespace: namespace.to_owned(),
        ..NodeMetadata::default()
    };
    let node = Node::parse(&id, metadata, Locality::default(), std::iter::empty());
    let node = node.map_err(|error| Refusal::query(error.to_string()))?;
    let network = sources.registry.networks().of_cluster(&cluster);
    Ok(ProxyView::new(&node, None, &network, sources.mesh.quirks()))
}

/// The service with this name: in full, `name.namespace`, or a bare name in the proxy's namespace.
fn find(sources: &Sources, host: &str, view: &ProxyView) -> Result<Arc<ServiceCell>, Refusal> {
    let domain = &sources.domain;
    let candidates = [
        host.to_owned(),
        format!("{host}.{domain}"),
        format!("{host}.svc.{domain}"),
        format!("{host}.{}.svc.{domain}", view.namespace()),
    ];
    let registry = &sources.registry;
    let found = candidates.iter().flat_map(|name| registry.host(name));
    let mut present = found.filter(|cell| cell.load().service.is_some());
    present.next().ok_or_else(|| {
        Refusal::unknown(format!(
            "no service {host:?}; give NAME.NAMESPACE or the full name, /debug/endpointz lists them"
        ))
    })
}

/// The ports to show: the one asked for, or all that Envoy can carry.
fn ports(cell: &ServiceCell, query: &Query) -> Result<Vec<u16>, Refusal> {
    let snapshot = cell.load();
    let ports = snapshot.service.iter().flat_map(|service| &service.ports);
    let all: Vec<u16> =
        ports.filter(|port| port.transport == Transport::Tcp).map(|port| port.number).collect();
    let Some(text) = query.get("port") else {
        return Ok(all);
    };
    let listed: Vec<_> = all.iter().map(u16::to_string).collect();
    match text.parse() {
        Ok(port) if all.contains(&port) => Ok(vec![port]),
        Ok(port) => Err(Refusal::unknown(format!(
            "{} has no TCP port {port}; it has {}",
            cell.key().hostname,
            listed.join(", ")
        ))),
        Err(_) => Err(Refusal::query(format!("port={text:?} is not a number from 1 to 65535"))),
    }
}

fn answer(sources: &Sources, cell: &ServiceCell, view: &ProxyView, port: u16) -> Value {
    let snapshot = cell.load();
    let name = EdsName::outbound(port, &cell.key().hostname);
    let (networks, standings) = (sources.registry.networks(), sources.registry.standings());
    let (mesh, standings) = (&sources.mesh, &*standings);
    let policies = sources.registry.policies();
    let key = EdsKey::of(view, &name, &[Arc::clone(&snapshot)], &policies, mesh);
    let inputs = Inputs { service: &snapshot, networks: &networks, mesh, standings, policies: &policies };
    let mut decisions: Vec<(Endpoint, Decision)> = Vec::new();
    let assignment = assign(inputs, &name, &key, &mut decisions);
    let sent: Vec<_> = assignment
        .groups
        .iter()
        .flat_map(|group| group.endpoints.iter().map(|endpoint| sent(endpoint, &group.locality)))
        .collect();
    let rows = |wanted: fn(Decision) -> bool| -> Vec<Value> {
        let chosen = decisions.iter().filter(|(_, decision)| wanted(*decision));
        chosen.map(|(endpoint, decision)| unsent(endpoint, *decision)).collect()
    };
    json!({
        "port": port, "name": name.to_string(), "endpoints": sent,
        "behindGateways": rows(|decision| decision == Decision::ViaGateway),
        "hidden": rows(|decision| !matches!(decision, Decision::Direct | Decision::ViaGateway)),
    })
}

/// An endpoint the proxy gets.
fn sent(endpoint: &AssignedEndpoint, locality: &Locality) -> Value {
    let (cluster, network, pod, via) = match &endpoint.origin {
        Origin::Direct(pod) => (&pod.cluster, &pod.network, pod.name.as_str(), "direct"),
        Origin::Gateway { network, cluster } => (cluster, network, "", "gateway"),
    };
    json!({
        "address": endpoint.address(), "port": endpoint.port(), "weight": endpoint.weight,
        "health": endpoint.health, "locality": locality.to_string(), "mtls": endpoint.is_mtls(),
        "via": via, "network": network, "cluster": cluster, "pod": pod,
    })
}

/// An endpoint that the proxy does not get by its own address.
fn unsent(endpoint: &Endpoint, decision: Decision) -> Value {
    let pod = &endpoint.workload;
    json!({
        "address": endpoint.addresses.first(), "port": endpoint.port, "portName": endpoint.port_name,
        "weight": endpoint.weight(), "health": endpoint.health, "locality": pod.locality().to_string(),
        "network": pod.network, "cluster": pod.cluster, "pod": pod.name, "reason": decision.code(),
    })
}
