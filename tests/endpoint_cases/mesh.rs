//! What proxies of several clusters are sent, from the objects of those clusters.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Map, Value, json};
use tombolo::ingest::networks::{MeshNetworks, gateways_of};
use tombolo::ingest::staging::{StagedEvent, Staging};
use tombolo::model::{
    Addresses, ClusterRole, Endpoint, EndpointShard, Locality, PortProtocol, Service, ServiceKey,
    ServicePort, TlsMode, Transport, WorkloadParts,
};
use tombolo::registry::{ClusterWriter, Registry};

use super::convert::{LONG, context, event, host_names, system_namespace};
use super::eds::weights;
use super::flags::Flags;
use super::policies::{labels, policies};
use super::proxy;
use super::shape::{Answer, Shape, answer, given, list, only, text};

const INPUT: [&str; 11] = [
    "clusters",
    "configCluster",
    "meshNetworks",
    "serviceEntries",
    "peerAuthentications",
    "destinationRules",
    "proxies",
    "features",
    "mesh",
    "systemNamespace",
    "dns",
];

/// Chapters 2 to 5 together.
pub(crate) fn check(case: &Value, flags: &Flags) -> Answer {
    answer(compare(case, flags))
}

fn compare(case: &Value, flags: &Flags) -> Shape<Result<(), String>> {
    let input = &case["input"];
    only("input", input, &INPUT)?;
    let registry = Registry::with_quirks(flags.quirks());
    let _writers = fill(&registry, input, flags)?;
    let (policies, rules) = (policies(input)?, proxy::rules(input, flags)?);
    let expected = case["expect"].as_object().ok_or("expect is not an object")?;
    for (name, requests) in expected {
        let told = &input["proxies"][name];
        let view = proxy::view(told, &registry, flags).map_err(|why| format!("proxy {name}: {why}"))?;
        for (request, endpoints) in requests.as_object().ok_or("expected requests are not an object")? {
            let ours = proxy::assigned(&registry, &policies, &rules, &view, request, weights)?;
            let wanted = wanted(endpoints)?;
            if ours != wanted {
                return Ok(Err(format!("{name}, {request}: {ours:?}, expected {wanted:?}")));
            }
        }
    }
    Ok(Ok(()))
}

fn wanted(endpoints: &Value) -> Shape<BTreeMap<String, u64>> {
    let mut wanted = BTreeMap::new();
    for one in endpoints.as_array().ok_or("expected endpoints are not a list")? {
        only("an expected endpoint", one, &["address", "weight"])?;
        let weight = one["weight"].as_u64().ok_or("an expected endpoint has no weight")?;
        *wanted.entry(text(one, "address")?.to_owned()).or_default() += weight;
    }
    Ok(wanted)
}

/// Every cluster's objects, static gateways and ServiceEntries.
fn fill(registry: &Arc<Registry>, input: &Value, flags: &Flags) -> Shape<Vec<ClusterWriter>> {
    let none = Map::new();
    let clusters = input["clusters"].as_object().unwrap_or(&none);
    let config = Some(text(input, "configCluster")?).filter(|id| !id.is_empty()).unwrap_or("Kubernetes");
    let mut names: BTreeSet<&str> = clusters.keys().map(String::as_str).collect();
    names.insert(config);
    let mut names: Vec<_> = names.into_iter().collect();
    names.sort_by_key(|name| *name != config);
    let mut writers = Vec::new();
    for name in names {
        let role = if name == config { ClusterRole::Config } else { ClusterRole::Remote };
        let mut writer = registry.writer(name.into(), role).map_err(|error| error.to_string())?;
        let objects = clusters.get(name).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        writer.replace(staged(input, name, name == config, objects, flags)?);
        if name == config {
            for entry in list(input, "serviceEntries")? {
                let shard = entry_shard(entry, name)?;
                writer.set(shard.service.as_ref().map(|one| one.key.clone()).unwrap_or_default(), shard);
            }
        }
        writers.push(writer);
    }
    let alone = cluster_input(input, config, true);
    let told = gateways_of(
        context(&alone, flags)?,
        "istio-system",
        &[],
        &input["meshNetworks"],
        host_names(&alone)?,
    )?;
    registry.set_static_gateways(told.gateways, told.hosts);
    resolve(registry, input)?;
    Ok(writers)
}

/// Host names of gateways have the addresses that the case gives them.
fn resolve(registry: &Arc<Registry>, input: &Value) -> Shape<()> {
    let hosts: Vec<_> = registry.networks().host_names().cloned().collect();
    for host in hosts {
        let addresses: Vec<IpAddr> = match &input["dns"][host.as_str()] {
            Value::Null => Vec::new(),
            told => told
                .as_array()
                .ok_or("dns has no list")?
                .iter()
                .filter_map(|ip| ip.as_str()?.parse().ok())
                .collect(),
        };
        registry.set_host_addresses(&host, &addresses);
    }
    Ok(())
}

/// The input in the form that one cluster's conversion reads.
fn cluster_input(input: &Value, cluster: &str, config: bool) -> Value {
    json!({"cluster": cluster, "isConfigCluster": config, "features": input["features"],
        "meshNetworks": input["meshNetworks"], "systemNamespace": input["systemNamespace"]})
}

fn staged(
    input: &Value,
    cluster: &str,
    config: bool,
    objects: &[Value],
    flags: &Flags,
) -> Shape<tombolo::registry::ClusterState> {
    let own = cluster_input(input, cluster, config);
    let mut staging = Staging::new(context(&own, flags)?, system_namespace(&own)?.into(), Arc::default());
    let start = Instant::now();
    staging.advance(start);
    let mesh = MeshNetworks::from_value(&input["meshNetworks"], host_names(&own)?).at_first();
    staging.apply(StagedEvent::MeshNetworks(mesh.networks.into()));
    for object in objects {
        if let Some(event) = event(object)? {
            staging.apply(event);
            staging.take();
        }
    }
    staging.advance(start + LONG);
    Ok(staging.state())
}

/// A ServiceEntry in short: one host, one port, its endpoints.
fn entry_shard(entry: &Value, cluster: &str) -> Shape<EndpointShard> {
    only("a ServiceEntry", entry, &["host", "port", "portName", "endpoints", "namespace"])?;
    let port = |field: &str| entry[field].as_u64().and_then(|port| u16::try_from(port).ok());
    let number = port("port").ok_or("a ServiceEntry has no port")?;
    let name = text(entry, "portName")?;
    let namespace = Some(text(entry, "namespace")?).filter(|name| !name.is_empty()).unwrap_or("default");
    let service = Service {
        key: ServiceKey::new(namespace, text(entry, "host")?),
        ports: vec![ServicePort {
            number,
            name: name.into(),
            transport: Transport::Tcp,
            protocol: PortProtocol::Http,
        }],
        entry: Some(Arc::default()),
        ..Service::default()
    };
    let endpoint = |told: &Value| -> Shape<Endpoint> {
        only("an endpoint", told, &["address", "network", "serviceAccount", "labels", "locality", "weight"])?;
        let labels = labels(&told["labels"])?;
        let sidecar = !text(told, "serviceAccount")?.is_empty();
        let own = labels.get("security.istio.io/tlsMode").map_or(sidecar, |mode| mode.as_str() == "istio");
        let workload = WorkloadParts {
            cluster: cluster.into(),
            namespace: namespace.into(),
            network: text(told, "network")?.into(),
            locality: Locality::parse(text(told, "locality")?),
            tls_mode: if own { TlsMode::Istio } else { TlsMode::Disabled },
            labels,
            ..WorkloadParts::default()
        };
        let addresses: Addresses = text(told, "address")?.parse::<IpAddr>().into_iter().collect();
        let weight = told["weight"].as_u64().and_then(|weight| u32::try_from(weight).ok()).unwrap_or(0);
        let some = IpAddr::from([0, 0, 0, 0]);
        Ok(Endpoint {
            addresses,
            weight: std::num::NonZeroU32::new(weight),
            ..Endpoint::new(some, number, name, workload)
        })
    };
    let endpoints = given(entry, "endpoints")?.iter().map(endpoint).collect::<Shape<_>>()?;
    Ok(EndpointShard::new(cluster.into(), Some(service.into()), endpoints))
}
