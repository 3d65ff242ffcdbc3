//! What a page is asked about a host, and as whom.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use serde_json::{Value, json};

use super::Sources;
use super::near::{did_you_mean, near};
use super::query::Query;
use super::reply::Refusal;
use crate::model::{ClusterId, Hostname, Locality, Node, NodeMetadata, ProxyView, Transport};
use crate::registry::ServiceSnapshot;
use crate::view::{EdsKey, EdsName, Inputs, LOCAL_CLUSTER, waypoint};
use crate::xds::status::StreamStatus;

const KNOWN: [&str; 10] =
    ["host", "port", "subset", "sni-dnat", "proxy", "network", "cluster", "namespace", "ip", "type"];
const USAGE: &str = "needed: host=HOST and either proxy=ID (a connected one) or network=N and/or cluster=C; \
                     optional: port=PORT, subset=NAME, sni-dnat, namespace=NS, ip=ADDRESS, type=sidecar|router";

/// A question, understood.
pub(super) struct Asked {
    /// The host's full name.
    pub(super) host: Hostname,
    /// The services of that name, one for each namespace that has it; at least one.
    pub(super) candidates: Vec<Arc<ServiceSnapshot>>,
    /// Whose view it is.
    pub(super) view: Arc<ProxyView>,
    /// The assignments: of the port asked for, or of all that Envoy can carry.
    pub(super) names: Vec<EdsName>,
    /// The projection for the proxy's siblings, where those are asked for.
    siblings: Option<EdsKey>,
}

/// What is asked for, before anything is looked up.
struct Wanted {
    host: String,
    port: Option<String>,
    /// The form of the names; host and port are to be found.
    form: EdsName,
}

impl Wanted {
    /// From the parameters, or from the name of an Envoy cluster in place of the host.
    fn read(query: &Query) -> Result<Self, Refusal> {
        let host = query.get("host").ok_or_else(|| Refusal::query(USAGE))?;
        let said = ["port", "subset", "sni-dnat"].into_iter().find(|key| query.has(key));
        if !host.contains('|') && !host.starts_with("outbound_.") {
            let subset = query.get("subset").unwrap_or_default().to_owned();
            let sni_dnat = query.is_on("sni-dnat");
            let form = EdsName { subset, sni_dnat, ..EdsName::outbound(0, &host.into()) };
            return Ok(Self { host: host.to_owned(), port: query.get("port").map(str::to_owned), form });
        }
        let name = EdsName::parse(host).ok_or_else(|| {
            Refusal::query(format!(
                "{host:?} is no Envoy cluster with endpoints of a service; those are outbound|PORT|SUBSET|HOST and, by SNI, \
                 outbound_.PORT_.SUBSET_.HOST"
            ))
        })?;
        match said {
            Some(key) => {
                Err(Refusal::query(format!("{host:?} already says its {key}: do not give that too")))
            }
            None => Ok(Self { host: name.host.to_string(), port: Some(name.port.to_string()), form: name }),
        }
    }
}

impl Asked {
    /// Reads a query, which may have `more` parameters besides the usual ones.
    pub(super) fn read(sources: &Sources, query: &Query, more: &[&str]) -> Result<Self, Refusal> {
        query.only(&[&KNOWN[..], more].concat())?;
        if query.get("host") == Some(LOCAL_CLUSTER) {
            return Self::siblings(sources, query);
        }
        let wanted = Wanted::read(query)?;
        let view = viewpoint(sources, query)?;
        let candidates = find(sources, &wanted.host, &view)?;
        let ports = ports(&candidates, wanted.port.as_deref())?;
        let service = candidates.iter().find_map(|candidate| candidate.service.as_deref());
        let host = service.map(|service| service.key.hostname.clone()).unwrap_or_default();
        let name = |port| EdsName { port, host: host.clone(), ..wanted.form.clone() };
        let names = ports.into_iter().map(name).collect();
        Ok(Self { host, candidates, view, names, siblings: None })
    }

    /// The siblings of a connected proxy (R4.9.10).
    fn siblings(sources: &Sources, query: &Query) -> Result<Self, Refusal> {
        if let Some(key) = ["port", "subset", "sni-dnat"].into_iter().find(|key| query.has(key)) {
            return Err(Refusal::query(format!("{LOCAL_CLUSTER} is one name; leave {key} out")));
        }
        let Some(id) = query.get("proxy") else {
            return Err(Refusal::query(format!(
                "{LOCAL_CLUSTER} is the proxy's own workload, which only a connected one has: give proxy=ID"
            )));
        };
        let view = viewpoint(sources, query)?;
        let own = view.workload.iter().flat_map(|pod| pod.services.iter());
        let own: Vec<_> =
            own.filter_map(|key| sources.registry.service(key)).map(|cell| cell.load()).collect();
        let key = EdsKey::of_siblings(&view, &own, &sources.mesh);
        let meant = |one: &Arc<ServiceSnapshot>| {
            let service = one.service.as_ref().map(|service| &service.key);
            service.is_some_and(|service| {
                Some(&service.namespace) == key.namespace.as_ref()
                    && key.siblings.as_ref().is_some_and(|siblings| siblings.host == service.hostname)
            })
        };
        let candidates: Vec<_> = own.into_iter().filter(meant).collect();
        let Some(name) = key.meant(LOCAL_CLUSTER).filter(|_| !candidates.is_empty()) else {
            return Err(Refusal::unknown(format!(
                "{LOCAL_CLUSTER} of {id} is empty: no service with a TCP port leads to its pod {} (hidden/no-service)",
                view.id
            )));
        };
        let (host, names) = (name.host.clone(), vec![name]);
        Ok(Self { host, candidates, view, names, siblings: Some(key) })
    }

    /// What an assignment is called.
    pub(super) fn called(&self, name: &EdsName) -> String {
        if self.siblings.is_some() { LOCAL_CLUSTER.to_owned() } else { name.to_string() }
    }

    /// The service that a projection means; the first where it means none.
    fn meant(&self, key: &EdsKey) -> &ServiceSnapshot {
        let of = |candidate: &&Arc<ServiceSnapshot>| {
            candidate
                .service
                .as_ref()
                .is_some_and(|service| key.namespace.as_ref() == Some(&service.key.namespace))
        };
        self.candidates.iter().find(of).unwrap_or(&self.candidates[0])
    }

    /// What `tell` says of `name`, by what the registry has now and the projection of who asks.
    pub(super) fn of<T>(
        &self,
        sources: &Sources,
        name: &EdsName,
        tell: impl FnOnce(Inputs<'_>, &EdsKey) -> T,
    ) -> T {
        let (networks, standings) = (sources.registry.networks(), sources.registry.standings());
        let (mesh, policies) = (&sources.mesh, sources.registry.policies());
        let told = || EdsKey::of(&self.view, name, &self.candidates, &policies, mesh);
        let key = self.siblings.clone().unwrap_or_else(told);
        let service = self.meant(&key);
        let waypoint = service.service.as_ref().and_then(|service| waypoint(service, name, &key, mesh));
        let waypoint =
            waypoint.and_then(|waypoint| sources.registry.service(waypoint)).map(|cell| cell.load());
        let (networks, standings, policies) = (&*networks, &*standings, &*policies);
        let waypoint = waypoint.as_deref();
        tell(Inputs { service, waypoint, networks, mesh, standings, policies }, &key)
    }

    /// The answer, with what was asked.
    pub(super) fn about(&self, ports: &[Value]) -> Value {
        let (first, view) = (&self.candidates[0], &self.view);
        let namespace = first.service.as_ref().map(|service| &service.key.namespace);
        json!({
            "host": self.host, "namespace": namespace, "version": first.version,
            "as": {"proxy": view.id.to_string(), "cluster": view.cluster(), "network": view.network,
                "namespace": view.namespace(), "families": view.families, "locality": view.locality.to_string()},
            "ports": ports,
        })
    }
}

/// Whose view it is: a connected proxy's, or that of one made up from network and cluster.
fn viewpoint(sources: &Sources, query: &Query) -> Result<Arc<ProxyView>, Refusal> {
    let made_up = ["network", "cluster", "ip", "type"].iter().any(|key| query.has(key));
    match query.get("proxy") {
        Some(_) if made_up => Err(Refusal::query(
            "a connected proxy has its network, cluster, ip and type: do not give those too",
        )),
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
    let short = |stream: &StreamStatus| {
        let workload = &stream.view.id;
        format!("{}.{}", workload.name, workload.namespace)
    };
    let exact = streams.iter().find(|stream| {
        [stream.node.id.as_str(), stream.connection_id.as_str()].contains(&id) || short(stream) == id
    });
    let fitting: Vec<_> = match exact {
        Some(stream) => vec![stream],
        None => streams.iter().filter(|stream| stream.node.id.contains(id)).collect(),
    };
    let Some(first) = fitting.first() else {
        let names: Vec<_> = streams.iter().map(short).collect();
        return Err(Refusal::unknown(format!(
            "no connected proxy has {id:?} in its id{}; {} are connected here: `tombolo proxies` lists them",
            did_you_mean(&near(id, names.iter().map(String::as_str))),
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
    if ip.parse::<IpAddr>().is_err() {
        return Err(Refusal::query(format!("ip {ip:?} is no address")));
    }
    let kind = query.get("type").unwrap_or("sidecar");
    if !["sidecar", "router"].contains(&kind) {
        return Err(Refusal::query(format!("type {kind:?} is neither sidecar nor router")));
    }
    let id = format!("{kind}~{ip}~view.{namespace}~{namespace}.svc.{}", sources.domain);
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

/// The services with this name, one for each namespace that has it: in full, `name.namespace`, or a bare name in the proxy's namespace.
fn find(sources: &Sources, host: &str, view: &ProxyView) -> Result<Vec<Arc<ServiceSnapshot>>, Refusal> {
    let domain = &sources.domain;
    let candidates = [
        host.to_owned(),
        format!("{host}.{domain}"),
        format!("{host}.svc.{domain}"),
        format!("{host}.{}.svc.{domain}", view.namespace()),
    ];
    let present = |name: &String| -> Vec<_> {
        let cells = sources.registry.host(name);
        cells.iter().map(|cell| cell.load()).filter(|one| one.service.is_some()).collect()
    };
    candidates.iter().map(present).find(|found| !found.is_empty()).ok_or_else(|| {
        let all = sources.registry.services();
        let hosts = all.iter().filter(|cell| cell.load().service.is_some());
        let suffix = format!(".svc.{domain}");
        let short = |text: &str| text.strip_suffix(&suffix).unwrap_or(text).to_owned();
        let names: Vec<_> = hosts.map(|cell| short(&cell.key().hostname)).collect();
        Refusal::unknown(format!(
            "no service {host:?} in any cluster (hidden/no-service){}; give NAME.NAMESPACE or the full name: `tombolo \
             services` lists them",
            did_you_mean(&near(&short(host), names.iter().map(String::as_str))),
        ))
    })
}

/// The ports to show: the one asked for, or all that Envoy can carry.
fn ports(candidates: &[Arc<ServiceSnapshot>], wanted: Option<&str>) -> Result<Vec<u16>, Refusal> {
    let services = candidates.iter().filter_map(|candidate| candidate.service.as_deref());
    let ports = services.clone().flat_map(|service| &service.ports);
    let all: BTreeSet<u16> =
        ports.filter(|port| port.transport == Transport::Tcp).map(|port| port.number).collect();
    let Some(text) = wanted else {
        return Ok(all.into_iter().collect());
    };
    let listed: Vec<_> = all.iter().map(u16::to_string).collect();
    match text.parse() {
        Ok(port) if all.contains(&port) => Ok(vec![port]),
        Ok(port) => Err(Refusal::unknown(format!(
            "{} has no TCP port {port}; it has {}",
            services.map(|service| service.key.hostname.as_str()).next().unwrap_or_default(),
            listed.join(", ")
        ))),
        Err(_) => Err(Refusal::query(format!("port {text:?} is not a number from 1 to 65535"))),
    }
}
