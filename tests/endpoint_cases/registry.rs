//! What writes to the registry wake.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use serde_json::Value;
use tombolo::model::{
    ClusterId, ClusterRole, Discoverability, Endpoint, EndpointShard, Exposure, Health, Locality, Service,
    ServiceKey, SpiffeId, TlsMode, WorkloadParts,
};
use tombolo::registry::{ClusterWriter, Registry, accounts_behind};

use super::features::sends_unhealthy;
use super::flags::Flags;
use super::shape::{Answer, Shape, answer, given, only, same, text, texts, truth};

fn key(name: &str) -> ServiceKey {
    ServiceKey::new("ns", format!("{name}.ns.svc.cluster.local"))
}

/// Clusters that write for themselves, in the order in which they come.
struct World {
    registry: Arc<Registry>,
    writers: BTreeMap<String, ClusterWriter>,
}

impl World {
    fn new(flags: &Flags) -> Self {
        Self { registry: Registry::with_quirks(flags.quirks()), writers: BTreeMap::new() }
    }

    fn writer(&mut self, cluster: &str) -> Shape<&mut ClusterWriter> {
        if !self.writers.contains_key(cluster) {
            let writer = self.registry.writer(cluster.into(), ClusterRole::Remote);
            self.writers.insert(cluster.to_owned(), writer.map_err(|error| error.to_string())?);
        }
        self.writers.get_mut(cluster).ok_or_else(|| "a writer that was just made".to_owned())
    }

    /// What a push of everything that was noted since the last one would be.
    fn push(&self, service: &ServiceKey) -> &'static str {
        match self.registry.changes().take().services.get(service) {
            None => "none",
            Some(change) if change.record => "full",
            Some(_) => "incremental",
        }
    }

    /// A cluster tells its endpoints of a service. Its Service is known with the first of them.
    fn tell(&mut self, cluster: &str, service: &ServiceKey, endpoints: Vec<Endpoint>) -> Shape<()> {
        let cell = self.registry.service(service);
        let known = cell.is_some_and(|cell| cell.load().shard(&cluster.into()).is_some());
        let record = (known || !endpoints.is_empty())
            .then(|| Arc::new(Service { key: service.clone(), ..Service::default() }));
        let shard = EndpointShard::new(cluster.into(), record, endpoints);
        self.writer(cluster)?.set(service.clone(), shard);
        Ok(())
    }
}

/// R6.1–R6.4.
pub(crate) fn push(case: &Value, flags: &Flags) -> Answer {
    let compare = || -> Shape<Result<(), String>> {
        only("input", &case["input"], &["steps", "serviceHasSelector", "features"])?;
        only("expect", &case["expect"], &["pushes"])?;
        let sent = sends_unhealthy(&case["input"]["features"])?;
        let steps = given(&case["input"], "steps")?;
        selected(&case["input"], steps)?;
        let mut world = World::new(flags);
        let mut pushes = Vec::new();
        for step in steps {
            only("a step", step, &["shard", "service", "endpoints"])?;
            let (cluster, service) = (text(step, "shard")?, key(text(step, "service")?));
            let endpoints = given(step, "endpoints")?.iter();
            let endpoints = endpoints.map(|e| endpoint(cluster, e, sent)).collect::<Shape<_>>()?;
            world.tell(cluster, &service, endpoints)?;
            pushes.push(world.push(&service).to_owned());
        }
        Ok(same("pushes", &pushes, &texts(&case["expect"], "pushes")?))
    };
    answer(compare())
}

/// R5.16: pods whose labels change are told of again through the Services that select them. Where a case says
/// that its Service selects nothing, an update of labels alone is none that a shard would be told of.
fn selected(input: &Value, steps: &[Value]) -> Shape<()> {
    if input["serviceHasSelector"].is_null() || truth(input, "serviceHasSelector")? {
        return Ok(());
    }
    let without_labels = |step: &Value| {
        let mut step = step.clone();
        for endpoint in step["endpoints"].as_array_mut().into_iter().flatten() {
            endpoint.as_object_mut().map(|endpoint| endpoint.remove("labels"));
        }
        step
    };
    let labels_only =
        |pair: &[Value]| pair[0] != pair[1] && without_labels(&pair[0]) == without_labels(&pair[1]);
    match steps.windows(2).any(labels_only) {
        true => Err("field serviceHasSelector: labels change behind a Service without a selector".to_owned()),
        false => Ok(()),
    }
}

const FIELDS: [&str; 18] = [
    "addresses",
    "port",
    "portName",
    "namespace",
    "workloadName",
    "serviceAccount",
    "health",
    "sendUnhealthy",
    "network",
    "cluster",
    "locality",
    "weight",
    "labels",
    "tlsMode",
    "nodeName",
    "discoverability",
    "hostname",
    "subdomain",
];

fn endpoint(cluster: &str, endpoint: &Value, sent: bool) -> Shape<Endpoint> {
    only("an endpoint", endpoint, &FIELDS)?;
    let addresses: Vec<_> = texts(endpoint, "addresses")?.iter().map(|text| address(text)).collect();
    let number = |field: &str, usual: u64| match &endpoint[field] {
        Value::Null => Ok(usual),
        value => value.as_u64().ok_or_else(|| format!("field {field} is {value}, not a number")),
    };
    let (port, weight) = (number("port", 8080)?, number("weight", 0)?);
    Ok(Endpoint {
        addresses: addresses.into(),
        port: u16::try_from(port).map_err(|error| format!("port {port}: {error}"))?,
        port_name: text(endpoint, "portName")?.into(),
        health: match text(endpoint, "health")? {
            "" | "HEALTHY" | "UNKNOWN" => Health::Healthy,
            "UNHEALTHY" => Health::Unhealthy,
            "DRAINING" => Health::Draining,
            "TERMINATING" => Health::Terminating,
            other => return Err(format!("health {other:?}")),
        },
        exposure: Exposure::new(
            match text(endpoint, "discoverability")? {
                "" | "always" => Discoverability::Always,
                "same-cluster" => Discoverability::SameCluster,
                other => return Err(format!("discoverability {other:?}")),
            },
            sent || truth(endpoint, "sendUnhealthy")?,
        ),
        weight: u32::try_from(weight).ok().and_then(std::num::NonZeroU32::new),
        workload: workload(cluster, endpoint)?.into(),
    })
}

fn workload(cluster: &str, endpoint: &Value) -> Shape<WorkloadParts> {
    let own = text(endpoint, "cluster")?;
    let mut labels = BTreeMap::new();
    if !endpoint["labels"].is_null() {
        for (key, value) in endpoint["labels"].as_object().ok_or("labels are not an object")? {
            labels.insert(key.as_str(), value.as_str().ok_or("a label is not a text")?);
        }
    }
    let mode = text(endpoint, "tlsMode")?;
    if !["", "istio", "disabled"].contains(&mode) {
        labels.entry("security.istio.io/tlsMode").or_insert(mode);
    }
    let (hostname, subdomain) = (text(endpoint, "hostname")?, text(endpoint, "subdomain")?);
    Ok(WorkloadParts {
        cluster: if own.is_empty() { cluster } else { own }.into(),
        namespace: text(endpoint, "namespace")?.into(),
        workload_name: text(endpoint, "workloadName")?.into(),
        account: account(text(endpoint, "serviceAccount")?),
        network: text(endpoint, "network")?.into(),
        node: text(endpoint, "nodeName")?.into(),
        locality: Locality::parse(text(endpoint, "locality")?),
        tls_mode: if mode == "istio" { TlsMode::Istio } else { TlsMode::Disabled },
        labels: labels.into_iter().map(|(key, value)| (key.into(), value.into())).collect(),
        pod_dns: (!hostname.is_empty() || !subdomain.is_empty()).then(|| (hostname.into(), subdomain.into())),
        ..WorkloadParts::default()
    })
}

/// An address. A text that is none (a host name, a path) is as good a name of an endpoint: another address, of a
/// block that is kept for examples, stands for each.
fn address(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|_| {
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let block: u128 = 0x2001_0db8 << 96;
        IpAddr::V6(Ipv6Addr::from_bits(block | u128::from(hasher.finish())))
    })
}

/// A full identity, or any other name of one.
fn account(text: &str) -> Option<SpiffeId> {
    let named = || SpiffeId {
        trust_domain: "cluster.local".into(),
        namespace: "ns".into(),
        service_account: text.into(),
    };
    (!text.is_empty()).then(|| SpiffeId::parse(text).unwrap_or_else(named))
}

/// R6.1: whether the accounts over all shards differ after an update of one. The row that removes every
/// endpoint is about the computation; an update like that keeps what is recorded.
pub(crate) fn service_accounts(case: &Value, flags: &Flags) -> Answer {
    let compare = || -> Shape<Result<(), String>> {
        only("input", &case["input"], &["initial", "updates"])?;
        only("expect", &case["expect"], &["changed"])?;
        let expected = given(&case["expect"], "changed")?;
        let mut ours = Vec::new();
        for update in given(&case["input"], "updates")? {
            ours.push(Value::Bool(accounts_change(&case["input"]["initial"], update, flags)?));
        }
        Ok(same("changed", &ours, &expected.to_vec()))
    };
    answer(compare())
}

fn accounts_change(initial: &Value, update: &Value, flags: &Flags) -> Shape<bool> {
    let service = key("s");
    let mut world = World::new(flags);
    for (cluster, pairs) in initial.as_object().ok_or("initial is not an object")? {
        let endpoints = pairs_of(cluster, pairs)?;
        world.tell(cluster, &service, endpoints)?;
    }
    world.push(&service);
    let mut changed = false;
    for (cluster, pairs) in update.as_object().ok_or("an update is not an object")? {
        if cluster == "name" {
            continue;
        }
        let endpoints = pairs_of(cluster, pairs)?;
        let cell = world.registry.service(&service).ok_or("the service is gone")?;
        if endpoints.is_empty() {
            let mut shards = cell.load().shards.to_vec();
            let before = accounts_behind(&shards);
            shards.retain(|shard| shard.cluster != ClusterId::from(cluster.as_str()));
            changed |= accounts_behind(&shards) != before;
        } else {
            world.tell(cluster, &service, endpoints)?;
            changed |= world.push(&service) == "full";
        }
    }
    Ok(changed)
}

fn pairs_of(cluster: &str, pairs: &Value) -> Shape<Vec<Endpoint>> {
    let pairs = pairs.as_array().ok_or("endpoints are not a list")?;
    let endpoint = |pair: &Value| -> Shape<Endpoint> {
        let (Some(address), Some(name), None) = (pair[0].as_str(), pair[1].as_str(), pair.get(2)) else {
            return Err(format!("{pair} is not an address and an account"));
        };
        let workload =
            WorkloadParts { cluster: cluster.into(), account: account(name), ..WorkloadParts::default() };
        let address = address.parse().map_err(|_| format!("address {address:?}"))?;
        Ok(Endpoint::new(address, 8080, "http", workload))
    };
    pairs.iter().map(endpoint).collect()
}
