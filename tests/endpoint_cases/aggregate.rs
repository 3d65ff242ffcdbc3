//! How the Services of clusters are merged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Map, Value, json};
use tombolo::model::{
    ClusterRole, EndpointShard, ExportTo, PortProtocol, Resolution, Service, ServiceKey, ServicePort,
    SpiffeId, TrafficDistribution, Transport,
};
use tombolo::registry::{ClusterWriter, Registry};

use super::flags::Flags;
use super::shape::{Answer, Shape, answer, given, list, only, same, text, texts, truth};

/// R5.25–R5.28.
pub(crate) fn check(case: &Value, flags: &Flags) -> Answer {
    answer(compare(case, flags))
}

fn compare(case: &Value, flags: &Flags) -> Shape<Result<(), String>> {
    let (input, expect) = (&case["input"], &case["expect"]);
    only("input", input, &["registries", "then"])?;
    only("expect", expect, &["before", "after"])?;
    let mut world = World { registry: Registry::with_quirks(flags.quirks()), writers: BTreeMap::new() };
    for registry in given(input, "registries")? {
        world.add(registry)?;
    }
    let then = sentences(&input["then"])?;
    if !then.is_empty() && expect.get("after").is_none() || then.is_empty() && expect.get("before").is_none()
    {
        return Err("nothing is expected of it".to_owned());
    }
    if let Some(before) = expect.get("before")
        && let Err(how) = world.merged(before, "before")?
    {
        return Ok(Err(how));
    }
    for sentence in &then {
        world.perform(sentence)?;
    }
    expect.get("after").map_or(Ok(Ok(())), |after| world.merged(after, "after"))
}

/// One sentence, or a list of them.
fn sentences(then: &Value) -> Shape<Vec<String>> {
    match then {
        Value::Null => Ok(Vec::new()),
        Value::String(one) => Ok(Some(one.clone()).filter(|one| !one.is_empty()).into_iter().collect()),
        Value::Array(_) => texts(&json!({"then": then}), "then"),
        other => Err(format!("then is {other}, not a text")),
    }
}

struct World {
    registry: Arc<Registry>,
    writers: BTreeMap<String, ClusterWriter>,
}

impl World {
    fn add(&mut self, registry: &Value) -> Shape<()> {
        only("a registry", registry, &["cluster", "provider", "isConfigCluster", "services"])?;
        let cluster = text(registry, "cluster")?;
        if !["", "Kubernetes"].contains(&text(registry, "provider")?) {
            return Err("field provider: only Kubernetes is read".to_owned());
        }
        let role = match truth(registry, "isConfigCluster")? {
            true => ClusterRole::Config,
            false => ClusterRole::Remote,
        };
        let writer = self.registry.writer(cluster.into(), role).map_err(|error| error.to_string())?;
        self.writers.insert(cluster.to_owned(), writer);
        for (name, service) in registry["services"].as_object().ok_or("services are not an object")? {
            let record = record(cluster, name, service)?;
            let key = record.key.clone();
            let shard = EndpointShard::new(cluster.into(), Some(record.into()), Vec::new());
            self.writer(cluster)?.set(key, shard);
        }
        Ok(())
    }

    fn writer(&mut self, cluster: &str) -> Shape<&mut ClusterWriter> {
        self.writers.get_mut(cluster).ok_or_else(|| format!("there is no registry {cluster:?}"))
    }

    fn perform(&mut self, sentence: &str) -> Shape<()> {
        let words: Vec<_> = sentence.split_whitespace().collect();
        match words[..] {
            ["remove", name, "from", cluster] => {
                let cells = self.registry.services();
                let key = cells.iter().map(|cell| cell.key()).find(|key| short(key) == name).cloned();
                let key = key.ok_or_else(|| format!("there is no service {name:?}"))?;
                self.writer(cluster)?.remove(&key);
            }
            ["remove" | "delete", "cluster" | "registry", cluster] | ["remove" | "delete", cluster] => {
                let writer = self.writers.remove(cluster);
                writer.ok_or_else(|| format!("there is no registry {cluster:?}"))?.withdraw();
            }
            _ => {
                return Err(format!(
                    "then: {sentence:?} is not `remove SERVICE from CLUSTER` or `remove CLUSTER`"
                ));
            }
        }
        Ok(())
    }

    fn merged(&self, expected: &Value, when: &str) -> Shape<Result<(), String>> {
        let expected = expected.as_object().ok_or_else(|| format!("{when} is {expected}, not an object"))?;
        let cells = self.registry.services();
        let services = cells.iter().filter_map(|cell| cell.load().service.clone());
        let services: BTreeMap<_, _> = services.map(|service| (short(&service.key), service)).collect();
        let ours: BTreeSet<_> = services.keys().collect();
        if let Err(how) = same(&format!("services {when}"), &ours, &expected.keys().collect()) {
            return Ok(Err(how));
        }
        for (name, fields) in expected {
            let shown = shown(&services[name], fields)?;
            let fields = fields.as_object().ok_or("an expected service is not an object")?;
            for (field, value) in fields {
                let own = shown
                    .get(field)
                    .ok_or_else(|| format!("field {field} of a service is not known here"))?;
                if let Err(how) = same(&format!("{when}, {name}: {field}"), own, value) {
                    return Ok(Err(how));
                }
            }
        }
        Ok(Ok(()))
    }
}

/// The name that a case gives a service: the first part of its host.
fn short(key: &ServiceKey) -> String {
    key.hostname.split('.').next().unwrap_or_default().to_owned()
}

const FIELDS: [&str; 10] = [
    "vip",
    "vips",
    "serviceAccounts",
    "ports",
    "labels",
    "exportTo",
    "resolution",
    "trafficDistribution",
    "namespace",
    "nodeLocal",
];

fn record(cluster: &str, name: &str, service: &Value) -> Shape<Service> {
    only("a service", service, &FIELDS)?;
    let mut vips = texts(service, "vips")?;
    vips.extend(Some(text(service, "vip")?.to_owned()).filter(|vip| !vip.is_empty()));
    let vips =
        vips.iter().map(|vip| vip.parse().map_err(|_| format!("vip {vip:?}"))).collect::<Shape<Vec<_>>>()?;
    let identity = |text: &String| SpiffeId::parse(text).ok_or_else(|| format!("account {text:?}"));
    let namespace = Some(text(service, "namespace")?).filter(|name| !name.is_empty()).unwrap_or("ns");
    let labels = match &service["labels"] {
        Value::Null => &Map::new(),
        labels => labels.as_object().ok_or("labels are not an object")?,
    };
    let label = |(key, value): (&String, &Value)| -> Shape<_> {
        Ok((key.as_str().into(), value.as_str().ok_or("a label is not a text")?.into()))
    };
    Ok(Service {
        key: ServiceKey::new(namespace, format!("{name}.{namespace}.svc.cluster.local")),
        vips: if vips.is_empty() { Vec::new() } else { vec![(cluster.into(), vips)] },
        accounts: texts(service, "serviceAccounts")?.iter().map(identity).collect::<Shape<_>>()?,
        ports: list(service, "ports")?.iter().map(port).collect::<Shape<_>>()?,
        labels: labels.iter().map(label).collect::<Shape<_>>()?,
        export_to: exported(&texts(service, "exportTo")?),
        node_local: truth(service, "nodeLocal")?,
        resolution: match text(service, "resolution")? {
            "" | "ClientSideLB" | "STATIC" => Resolution::ClientSide,
            "Passthrough" | "NONE" => Resolution::Passthrough,
            "DNSLB" | "DNS" => Resolution::Dns,
            "DNSRoundRobinLB" | "DNS_ROUND_ROBIN" => Resolution::DnsRoundRobin,
            other => return Err(format!("resolution {other:?}")),
        },
        traffic_distribution: match text(service, "trafficDistribution")? {
            "" | "Any" => TrafficDistribution::Any,
            "PreferClose" | "PreferSameZone" => TrafficDistribution::PreferSameZone,
            "PreferSameNode" => TrafficDistribution::PreferSameNode,
            other => return Err(format!("trafficDistribution {other:?}")),
        },
        ..Service::default()
    })
}

fn exported(to: &[String]) -> ExportTo {
    let named = to.iter().filter(|name| *name != "~").map(|name| name.as_str().into());
    match to {
        [] => ExportTo::Everywhere,
        to if to.iter().any(|name| name == "*") => ExportTo::Everywhere,
        to if to.iter().all(|name| name == "~") => ExportTo::Nowhere,
        _ => ExportTo::Namespaces(named.collect()),
    }
}

/// A number, or a port with its name.
fn port(port: &Value) -> Shape<ServicePort> {
    let number = match port {
        Value::Object(_) => {
            only("a port", port, &["name", "port", "number"])?;
            port["number"].as_u64().or_else(|| port["port"].as_u64())
        }
        number => number.as_u64(),
    };
    let number = number.and_then(|number| u16::try_from(number).ok()).ok_or("a port has no number")?;
    let name = port["name"].as_str().map_or_else(|| format!("http-{number}"), str::to_owned);
    Ok(ServicePort { number, name: name.into(), transport: Transport::Tcp, protocol: PortProtocol::Http })
}

/// A merged service in the form of what is expected.
fn shown(service: &Service, expected: &Value) -> Shape<Value> {
    let texts = |all: Vec<String>| json!(all);
    let ports: Vec<_> = match expected["ports"]
        .as_array()
        .is_some_and(|ports| ports.iter().any(Value::is_object))
    {
        true => service.ports.iter().map(|p| json!({"name": p.name.as_str(), "port": p.number})).collect(),
        false => service.ports.iter().map(|port| json!(port.number)).collect(),
    };
    let vips: BTreeMap<String, Vec<String>> = service
        .vips
        .iter()
        .map(|(cluster, vips)| (cluster.to_string(), vips.iter().map(ToString::to_string).collect()))
        .collect();
    // R5.28: what a proxy of no cluster that has it is given.
    let usual = service.vips_in(&"".into()).first().map(ToString::to_string).unwrap_or_default();
    Ok(json!({
        "clusterVIPs": vips,
        "vip": usual,
        "serviceAccounts": texts(service.accounts.iter().map(ToString::to_string).collect()),
        "ports": ports,
        "labels": BTreeMap::from(&service.labels)
            .into_iter()
            .map(|(key, value)| (key.to_string(), value.to_string()))
            .collect::<BTreeMap<_, _>>(),
        "exportTo": match &service.export_to {
            ExportTo::Everywhere | ExportTo::Unset => vec!["*".to_owned()],
            ExportTo::Nowhere => vec!["~".to_owned()],
            ExportTo::Namespaces(names) => names.iter().map(ToString::to_string).collect(),
        },
        "resolution": match &service.resolution {
            Resolution::ClientSide => "ClientSideLB",
            Resolution::Passthrough => "Passthrough",
            Resolution::Alias(_) => "Alias",
            Resolution::Dns => "DNSLB",
            Resolution::DnsRoundRobin => "DNSRoundRobinLB",
        },
        "trafficDistribution": format!("{:?}", service.traffic_distribution),
        "nodeLocal": service.node_local,
        "namespace": service.key.namespace.as_str(),
    }))
}
