//! The endpoints that the objects of one cluster amount to, through staging and the registry.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tombolo::ingest::convert::{
    ClusterContext, GatewayOptions, McsOptions, SpecialAddresses, TrustedNetworks,
};
use tombolo::ingest::networks::{HostNames, MeshNetworks};
use tombolo::ingest::objects::Object;
use tombolo::ingest::objects::wire::{Encoding, decode_one};
use tombolo::ingest::staging::{StagedEvent, Staging};
use tombolo::ingest::watch::SourceEvent;
use tombolo::model::{ClusterRole, Discoverability, Endpoint, Health, Locality, ServiceKey};
use tombolo::registry::Registry;

use super::flags::{Flag, Flags};
use super::shape::{Answer, Shape, answer, given, only, text};

/// How long nothing is waited for any more.
const LONG: Duration = Duration::from_secs(3600);
/// Kinds of objects that are not read yet.
const LATER: [&str; 3] = ["WorkloadEntry", "ServiceEntry", "WorkloadGroup"];

/// R5.1–R5.32.
pub(crate) fn check(case: &Value, flags: &Flags) -> Answer {
    let objects = case["input"]["objects"].as_array();
    let kinds = objects.into_iter().flatten().filter_map(|object| object["kind"].as_str());
    if kinds.into_iter().any(|kind| LATER.contains(&kind)) {
        return Answer::Later;
    }
    answer(compare(case, flags))
}

/// What holds for the cluster of a case.
pub(crate) fn context(input: &Value, flags: &Flags) -> Shape<ClusterContext> {
    let features = Features::read(&input["features"])?;
    let or = |text: &str, default: &str| if text.is_empty() { default.to_owned() } else { text.to_owned() };
    Ok(ClusterContext {
        cluster: text(input, "cluster")?.into(),
        domain: "cluster.local".into(),
        trust_domain: or(text(input, "trustDomain")?, "cluster.local").into(),
        special_addresses: SpecialAddresses::Drop,
        quirks: flags.quirks(),
        dual_stack: features.dual_stack,
        mcs: features.mcs.effective(),
        gateways: GatewayOptions {
            trusted: if flags.has(Flag::TrustedGateways) {
                TrustedNetworks::Any
            } else {
                TrustedNetworks::default()
            },
            advertised: None,
            gateway_api: features.gateway_api,
            config_cluster: input["isConfigCluster"] == true,
        },
        serve_without_pods: false,
    })
}

/// The switches a case may turn.
struct Features {
    dual_stack: bool,
    gateway_api: bool,
    mcs: McsOptions,
}

impl Features {
    fn read(features: &Value) -> Shape<Self> {
        let mut read = Self { dual_stack: false, gateway_api: true, mcs: McsOptions::default() };
        let none = serde_json::Map::new();
        for (name, value) in features.as_object().unwrap_or(&none) {
            let on = match value {
                Value::Bool(on) => *on,
                Value::String(on) if on == "true" || on == "false" => on == "true",
                other => return Err(format!("feature {name} is {other}")),
            };
            match name.as_str() {
                "ISTIO_DUAL_STACK" => read.dual_stack = on,
                "PILOT_MULTI_NETWORK_DISCOVER_GATEWAY_API" => read.gateway_api = on,
                "ENABLE_MCS_SERVICE_DISCOVERY" => read.mcs.discovery = on,
                "ENABLE_MCS_HOST" => {
                    // An effective value: what it needs is on.
                    read.mcs.discovery |= on;
                    read.mcs.host = on;
                }
                "ENABLE_MCS_CLUSTER_LOCAL" => {
                    read.mcs.discovery |= on;
                    read.mcs.host |= on;
                    read.mcs.cluster_local = on;
                }
                other => return Err(format!("feature {other} is not known here")),
            }
        }
        Ok(read)
    }
}

fn compare(case: &Value, flags: &Flags) -> Shape<Result<(), String>> {
    let input = &case["input"];
    only(
        "input",
        input,
        &["cluster", "isConfigCluster", "trustDomain", "objects", "meshNetworks", "features"],
    )?;
    only("expect", &case["expect"], &["endpoints"])?;
    let ours = endpoints(input, flags)?;
    let expected = given(&case["expect"], "endpoints")?;
    if ours.len() != expected.len() {
        return Ok(Err(format!("{} endpoints, expected {}: {}", ours.len(), expected.len(), json!(ours))));
    }
    let mut expected = expected.to_vec();
    expected.sort_by_key(place);
    for (ours, expected) in ours.iter().zip(&expected) {
        if let Err(how) = fields(ours, expected)? {
            return Ok(Err(how));
        }
    }
    Ok(Ok(()))
}

/// By service, addresses and port: the order of endpoints is any.
fn place(endpoint: &Value) -> String {
    let key = ["service", "addresses", "port", "portName"];
    key.map(|field| endpoint[field].to_string()).join(" ")
}

/// Compares the fields that are expected.
fn fields(ours: &Value, expected: &Value) -> Shape<Result<(), String>> {
    let expected = expected.as_object().ok_or("an expected endpoint is not an object")?;
    for (field, value) in expected {
        let own =
            ours.get(field).ok_or_else(|| format!("endpoints have field {field:?}, which is not known"))?;
        let (own, value) = (normal(field, own), normal(field, value));
        if own != value {
            let of = &ours["addresses"];
            return Ok(Err(format!("{field} of {of} is {own}, expected {value}")));
        }
    }
    Ok(Ok(()))
}

/// Trailing slashes of localities and labels without a value mean nothing.
fn normal(field: &str, value: &Value) -> Value {
    match (field, value) {
        ("locality", Value::String(text)) => json!(Locality::parse(text).to_string()),
        ("labels", Value::Object(labels)) => {
            let filled = labels.iter().filter(|(_, value)| value.as_str() != Some(""));
            filled.map(|(key, value)| (key.clone(), value.clone())).collect()
        }
        _ => value.clone(),
    }
}

/// Every endpoint after all objects have come, in their order, and after all that is waited for.
fn endpoints(input: &Value, flags: &Flags) -> Shape<Vec<Value>> {
    let context = context(input, flags)?;
    let cluster = context.cluster.clone();
    let mut staging = Staging::new(context, "istio-system".into(), Arc::default());
    let start = Instant::now();
    staging.advance(start);
    let mesh = MeshNetworks::from_value(&input["meshNetworks"], HostNames::Allowed);
    staging.apply(StagedEvent::MeshNetworks(mesh.networks.into()));
    for object in given(input, "objects")? {
        staging.apply(event(object)?);
        staging.take();
    }
    staging.advance(start + LONG);
    let registry = Registry::with_quirks(flags.quirks());
    let mut writer = registry.writer(cluster, ClusterRole::Config).map_err(|error| error.to_string())?;
    writer.replace(staging.state());
    let cells = registry.services();
    let shards = cells.iter().flat_map(|cell| {
        let shards = cell.load().shards.to_vec();
        shards.into_iter().map(|shard| (cell.key().clone(), shard))
    });
    let mut endpoints: Vec<Value> = shards
        .flat_map(|(key, shard)| shard.endpoints.iter().map(|e| shown(&key, e)).collect::<Vec<_>>())
        .collect();
    endpoints.sort_by_key(place);
    Ok(endpoints)
}

fn event(object: &Value) -> Shape<StagedEvent> {
    Ok(match object["kind"].as_str().unwrap_or_default() {
        "Namespace" => StagedEvent::Namespace(applied(object)?),
        "Node" => StagedEvent::Node(applied(object)?),
        "Pod" => StagedEvent::Pod(applied(object)?),
        "Service" => StagedEvent::Service(applied(object)?),
        "EndpointSlice" => StagedEvent::Slice(applied(object)?),
        "Gateway" => StagedEvent::Gateway(applied(object)?),
        "ServiceExport" => StagedEvent::Export(applied(object)?),
        "ServiceImport" => StagedEvent::Import(applied(object)?),
        other => return Err(format!("objects of kind {other:?} are not known")),
    })
}

fn applied<T: Object>(object: &Value) -> Shape<SourceEvent<T>> {
    let received = decode_one::<T>(Encoding::Json, object.to_string().as_bytes());
    received.map(SourceEvent::Apply).map_err(|error| format!("an object cannot be read: {error}"))
}

fn shown(key: &ServiceKey, endpoint: &Endpoint) -> Value {
    let pod = &endpoint.workload;
    let labels: BTreeMap<String, String> =
        pod.labels().iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    let (hostname, subdomain) = pod.pod_dns().unwrap_or_default();
    let health = match endpoint.health {
        Health::Healthy => "HEALTHY",
        Health::Unhealthy => "UNHEALTHY",
        Health::Draining => "DRAINING",
        Health::Terminating => "TERMINATING",
    };
    let discoverability = match endpoint.exposure.discoverability() {
        Discoverability::Always => "always",
        Discoverability::SameCluster => "same-cluster",
    };
    json!({
        "service": key.hostname.as_str(),
        "cluster": pod.cluster.as_str(),
        "addresses": endpoint.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "port": endpoint.port,
        "portName": endpoint.port_name.as_str(),
        "network": pod.network.as_str(),
        "locality": pod.locality().to_string(),
        "tlsMode": pod.tls_mode,
        "serviceAccount": pod.account.as_ref().map(ToString::to_string).unwrap_or_default(),
        "health": health,
        "nodeName": pod.node().as_str(),
        "namespace": pod.namespace.as_str(),
        "workloadName": pod.workload_name().as_str(),
        "weight": endpoint.weight.map_or(0, std::num::NonZeroU32::get),
        "discoverability": discoverability,
        "hostname": hostname.as_str(),
        "subdomain": subdomain.as_str(),
        "labels": labels,
    })
}
