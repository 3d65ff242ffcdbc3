//! What writes to the registry wake, and how clusters are merged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;
use tombolo::model::{
    ClusterId, ClusterRole, Discoverability, Endpoint, EndpointShard, Exposure, Health, PortProtocol,
    Service, ServiceKey, ServicePort, SpiffeId, Transport, WorkloadParts,
};
use tombolo::registry::{ClusterWriter, Registry, accounts_behind};

use super::flags::Flags;
use super::shape::{Answer, Shape, answer, given, list, only, same, text, texts};

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
        let mut world = World::new(flags);
        let mut pushes = Vec::new();
        for step in given(&case["input"], "steps")? {
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

/// The switches that send every unhealthy endpoint. In cases endpoints say so themselves.
fn sends_unhealthy(features: &Value) -> Shape<bool> {
    let none = serde_json::Map::new();
    let mut sent = false;
    for (name, value) in features.as_object().unwrap_or(&none) {
        match (name.as_str(), value) {
            ("PILOT_SEND_UNHEALTHY_ENDPOINTS" | "PILOT_AUTO_SEND_UNHEALTHY_ENDPOINTS", Value::Bool(on)) => {
                sent |= on;
            }
            _ => return Err(format!("feature {name}={value} is not known here")),
        }
    }
    Ok(sent)
}

fn endpoint(cluster: &str, endpoint: &Value, sent: bool) -> Shape<Endpoint> {
    let keys = [
        "addresses",
        "port",
        "portName",
        "namespace",
        "workloadName",
        "serviceAccount",
        "health",
        "sendUnhealthy",
        "network",
        "locality",
        "weight",
        "labels",
        "tlsMode",
        "nodeName",
    ];
    only("an endpoint", endpoint, &keys)?;
    let addresses = texts(endpoint, "addresses")?;
    let parsed = addresses.iter().map(|address| address.parse().map_err(|_| format!("address {address:?}")));
    let addresses: Vec<std::net::IpAddr> = parsed.collect::<Shape<_>>()?;
    let first = *addresses.first().ok_or("an endpoint without an address")?;
    let labels = endpoint["labels"].as_object().cloned().unwrap_or_default();
    let parts = WorkloadParts {
        cluster: cluster.into(),
        namespace: text(endpoint, "namespace")?.into(),
        workload_name: text(endpoint, "workloadName")?.into(),
        account: account(text(endpoint, "serviceAccount")?),
        network: text(endpoint, "network")?.into(),
        node: text(endpoint, "nodeName")?.into(),
        locality: tombolo::model::Locality::parse(text(endpoint, "locality")?),
        tls_mode: match text(endpoint, "tlsMode")? {
            "istio" => tombolo::model::TlsMode::Istio,
            _ => tombolo::model::TlsMode::Disabled,
        },
        labels: labels
            .iter()
            .map(|(key, value)| (key.as_str().into(), value.as_str().unwrap_or_default().into()))
            .collect(),
        ..WorkloadParts::default()
    };
    let port = endpoint["port"].as_u64().unwrap_or(8080);
    let weight = endpoint["weight"].as_u64().unwrap_or_default();
    Ok(Endpoint {
        addresses: addresses.into(),
        health: match text(endpoint, "health")? {
            "" | "HEALTHY" | "UNKNOWN" => Health::Healthy,
            "UNHEALTHY" => Health::Unhealthy,
            "DRAINING" => Health::Draining,
            "TERMINATING" => Health::Terminating,
            other => return Err(format!("health {other:?}")),
        },
        exposure: Exposure::new(Discoverability::Always, sent || endpoint["sendUnhealthy"] == true),
        weight: u32::try_from(weight).ok().and_then(std::num::NonZeroU32::new),
        ..Endpoint::new(
            first,
            u16::try_from(port).map_err(|error| format!("port {port}: {error}"))?,
            text(endpoint, "portName")?,
            parts,
        )
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

/// R5.25–R5.27.
pub(crate) fn aggregate(case: &Value, flags: &Flags) -> Answer {
    let compare = || -> Shape<Result<(), String>> {
        only("input", &case["input"], &["registries", "then"])?;
        only("expect", &case["expect"], &["before", "after"])?;
        let mut world = World::new(flags);
        for registry in given(&case["input"], "registries")? {
            only("a registry", registry, &["cluster", "services"])?;
            let cluster = text(registry, "cluster")?;
            for (name, service) in registry["services"].as_object().ok_or("services are not an object")? {
                let shard = EndpointShard::new(
                    cluster.into(),
                    Some(record(cluster, name, service)?.into()),
                    Vec::new(),
                );
                world.writer(cluster)?.set(key(name), shard);
            }
        }
        let before = merged(&world, &case["expect"]["before"], "before")?;
        if before.is_err() {
            return Ok(before);
        }
        let then = text(&case["input"], "then")?;
        if !then.is_empty() {
            let words: Vec<_> = then.split_whitespace().collect();
            let ["remove", name, "from", cluster] = words[..] else {
                return Err(format!("then: {then:?} is not `remove SERVICE from CLUSTER`"));
            };
            world.writer(cluster)?.remove(&key(name));
        }
        merged(&world, &case["expect"]["after"], "after")
    };
    answer(compare())
}

fn record(cluster: &str, name: &str, service: &Value) -> Shape<Service> {
    only("a service", service, &["vip", "serviceAccounts", "ports"])?;
    let vip = text(service, "vip")?;
    let vips = match vip {
        "" => Vec::new(),
        vip => vec![(cluster.into(), vec![vip.parse().map_err(|_| format!("vip {vip:?}"))?])],
    };
    let identity = |text: &String| SpiffeId::parse(text).ok_or_else(|| format!("account {text:?}"));
    let port = |number: &Value| -> Shape<ServicePort> {
        let number = number.as_u64().and_then(|number| u16::try_from(number).ok());
        let number = number.ok_or("a port is not a number")?;
        Ok(ServicePort {
            number,
            name: format!("http-{number}").into(),
            transport: Transport::Tcp,
            protocol: PortProtocol::Http,
        })
    };
    Ok(Service {
        key: key(name),
        vips,
        accounts: texts(service, "serviceAccounts")?.iter().map(identity).collect::<Shape<_>>()?,
        ports: list(service, "ports")?.iter().map(port).collect::<Shape<_>>()?,
        ..Service::default()
    })
}

fn merged(world: &World, expected: &Value, when: &str) -> Shape<Result<(), String>> {
    let Some(expected) = expected.as_object() else {
        return if expected.is_null() { Ok(Ok(())) } else { Err(format!("{when} is not an object")) };
    };
    let cells = world.registry.services();
    let there = cells.iter().filter(|cell| cell.load().service.is_some());
    let ours: BTreeSet<_> = there.map(|cell| cell.key().clone()).collect();
    let wanted: BTreeSet<_> = expected.keys().map(|name| key(name)).collect();
    if let Err(how) = same("services", &ours, &wanted) {
        return Ok(Err(how));
    }
    for (name, fields) in expected {
        only("an expected service", fields, &["clusterVIPs", "serviceAccounts", "ports"])?;
        let service = world.registry.service(&key(name)).and_then(|cell| cell.load().service.clone());
        let service = service.ok_or("a service that was just there")?;
        let shown = serde_json::json!({
            "clusterVIPs": service.vips.iter().map(|(cluster, vips)| {
                (cluster.to_string(), vips.iter().map(ToString::to_string).collect())
            }).collect::<BTreeMap<String, Vec<String>>>(),
            "serviceAccounts": service.accounts.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "ports": service.ports.iter().map(|port| port.number).collect::<Vec<_>>(),
        });
        let fields = fields.as_object().into_iter().flatten();
        for (field, value) in fields {
            if let Err(how) = same(&format!("{when}, {name}: {field}"), &shown[field], value) {
                return Ok(Err(how));
            }
        }
    }
    Ok(Ok(()))
}
