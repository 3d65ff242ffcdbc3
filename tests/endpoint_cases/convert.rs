//! The endpoints that the objects of one cluster amount to, through staging and the registry.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tombolo::ingest::convert::{
    ClusterContext, EntryOptions, GatewayOptions, McsOptions, SpecialAddresses, TrustedNetworks,
};
use tombolo::ingest::networks::{HostNames, MeshNetworks};
use tombolo::ingest::objects::Object;
use tombolo::ingest::objects::wire::{Encoding, decode_one};
use tombolo::ingest::staging::{StagedEvent, Staging};
use tombolo::ingest::watch::SourceEvent;
use tombolo::model::{
    ClusterRole, Discoverability, Endpoint, EndpointShard, Exposure, Health, InlineAddress, InlineEndpoint,
    Locality, Name, ServiceKey, SessionLabels, Workload,
};
use tombolo::registry::Registry;

use super::features::Features;
use super::flags::{Flag, Flags};
use super::shape::{Answer, Shape, answer, given, only, text, truth};

/// How long nothing is waited for any more.
pub(crate) const LONG: Duration = Duration::from_secs(3600);

/// What the input of a cluster's objects may say.
pub(crate) const INPUT: [&str; 8] = [
    "cluster",
    "isConfigCluster",
    "trustDomain",
    "domain",
    "systemNamespace",
    "objects",
    "meshNetworks",
    "features",
];

/// R5.1–R5.37.
pub(crate) fn check(case: &Value, flags: &Flags) -> Answer {
    answer(compare(case, flags))
}

/// What holds for the cluster of a case.
pub(crate) fn context(input: &Value, flags: &Flags) -> Shape<ClusterContext> {
    let features = Features::read(&input["features"])?;
    let or = |field: &str, usual: &str| -> Shape<Name> {
        let text = text(input, field)?;
        Ok(if text.is_empty() { usual } else { text }.into())
    };
    let session = SessionLabels::default();
    let usual = McsOptions::default();
    Ok(ClusterContext {
        cluster: text(input, "cluster")?.into(),
        domain: or("domain", "cluster.local")?,
        trust_domain: or("trustDomain", "cluster.local")?,
        special_addresses: match flags.has(Flag::SpecialAddresses) {
            true => SpecialAddresses::Keep,
            false => SpecialAddresses::Drop,
        },
        quirks: flags.quirks(),
        dual_stack: features.dual_stack,
        mcs: McsOptions {
            discovery: features.mcs_discovery,
            host: features.mcs_host,
            cluster_local: features.mcs_cluster_local,
            auto_export: features.mcs_auto_export,
            group: features.mcs_group.map_or(usual.group, Name::from),
            version: features.mcs_version.map_or(usual.version, Name::from),
        }
        .effective(),
        entries: EntryOptions {
            cross_cluster: features.cross_cluster_entries,
            services_select: features.services_select_entries,
            select_pods: features.entries_select_pods,
        },
        gateways: GatewayOptions {
            trusted: if flags.has(Flag::TrustedGateways) {
                TrustedNetworks::Any
            } else {
                TrustedNetworks::default()
            },
            advertised: None,
            gateway_api: features.gateway_api,
            config_cluster: truth(input, "isConfigCluster")? || has_service_entries(input),
        },
        serve_without_pods: false,
        session_labels: SessionLabels {
            cookie: features.session_label.map_or(session.cookie, Name::from),
            header: features.session_header_label.map_or(session.header, Name::from),
        },
        service_scopes: true,
    })
}

/// ServiceEntries are read of the config cluster only: where there are some, it is that.
fn has_service_entries(input: &Value) -> bool {
    let objects = input["objects"].as_array().into_iter().flatten();
    objects.into_iter().any(|object| object["kind"] == "ServiceEntry")
}

/// Where gateways of the document may be given by host name.
pub(crate) fn host_names(input: &Value) -> Shape<HostNames> {
    Ok(match Features::read(&input["features"])?.resolve_hosts {
        true => HostNames::Allowed,
        false => HostNames::Refused,
    })
}

/// Whose label says where the cluster belongs.
pub(crate) fn system_namespace(input: &Value) -> Shape<&str> {
    Ok(Some(text(input, "systemNamespace")?).filter(|name| !name.is_empty()).unwrap_or("istio-system"))
}

fn compare(case: &Value, flags: &Flags) -> Shape<Result<(), String>> {
    let input = &case["input"];
    only("input", input, &INPUT)?;
    only("expect", &case["expect"], &["endpoints"])?;
    let mut ours = endpoints(input, flags)?;
    let mut expected = given(&case["expect"], "endpoints")?.to_vec();
    if ours.len() != expected.len() {
        return Ok(Err(format!("{} endpoints, expected {}: {}", ours.len(), expected.len(), json!(ours))));
    }
    // Those that say most choose first.
    expected.sort_by_key(|endpoint| std::cmp::Reverse(endpoint.as_object().map_or(0, serde_json::Map::len)));
    for expected in &expected {
        let mut differences = Vec::new();
        for own in &ours {
            differences.push(fields(own, expected)?);
        }
        let Some(at) = differences.iter().position(Vec::is_empty) else {
            let nearest = differences.iter().min_by_key(|differences| differences.len());
            let how = nearest.map(|differences| differences.join("; ")).unwrap_or_default();
            return Ok(Err(format!("{} of {}: {how}", expected["addresses"], expected["service"])));
        };
        ours.swap_remove(at);
    }
    Ok(Ok(()))
}

/// What differs in the fields that are expected.
fn fields(ours: &Value, expected: &Value) -> Shape<Vec<String>> {
    let expected = expected.as_object().ok_or("an expected endpoint is not an object")?;
    let mut differences = Vec::new();
    for (field, value) in expected {
        let own = ours.get(field).ok_or_else(|| format!("field {field} of endpoints is not known here"))?;
        let (own, value) = (normal(field, own), normal(field, value));
        if own != value {
            differences.push(format!("{field} is {own}, expected {value}"));
        }
    }
    Ok(differences)
}

/// Trailing slashes of localities, labels without a value, and how addresses are spelled mean nothing.
fn normal(field: &str, value: &Value) -> Value {
    match (field, value) {
        ("locality", Value::String(text)) => json!(Locality::parse(text).to_string()),
        ("labels", Value::Object(labels)) => {
            let filled = labels.iter().filter(|(_, value)| value.as_str() != Some(""));
            filled.map(|(key, value)| (key.clone(), value.clone())).collect()
        }
        // Whoever says nothing of health is healthy (R0.1).
        ("health", Value::String(text)) if text == "UNKNOWN" => json!("HEALTHY"),
        ("addresses", Value::Array(texts)) => {
            let address = |text: &Value| text.as_str().and_then(|text| text.parse::<std::net::IpAddr>().ok());
            texts.iter().map(|text| address(text).map_or(text.clone(), |ip| json!(ip.to_string()))).collect()
        }
        _ => value.clone(),
    }
}

/// Every endpoint after all objects have come, in their order, and after all that is waited for.
fn endpoints(input: &Value, flags: &Flags) -> Shape<Vec<Value>> {
    let context = context(input, flags)?;
    let (cluster, auto_export) = (context.cluster.clone(), context.mcs.auto_export);
    let mut staging = Staging::new(context, system_namespace(input)?.into(), Arc::default());
    let start = Instant::now();
    staging.advance(start);
    let mesh = MeshNetworks::from_value(&input["meshNetworks"], host_names(input)?).at_first();
    staging.apply(StagedEvent::MeshNetworks(mesh.networks.into()));
    for object in given(input, "objects")? {
        if let Some(event) = event(object)? {
            staging.apply(event);
            staging.take();
        }
    }
    if auto_export {
        // What the API server is asked for comes back.
        for key in staging.missing_exports() {
            let object = json!({"kind": "ServiceExport", "metadata": {"namespace": key.namespace.as_str(), "name": key.name.as_str()}});
            staging.apply(StagedEvent::Export(applied(&object)?));
        }
    }
    staging.advance(start + LONG);
    let registry = Registry::with_quirks(flags.quirks());
    let mut writer = registry.writer(cluster, ClusterRole::Config).map_err(|error| error.to_string())?;
    writer.replace(staging.state());
    let cells = registry.services();
    // R4.39: the host of an import is there once it is imported.
    let there = cells.iter().filter(|cell| {
        !cell.key().hostname.ends_with(".svc.clusterset.local") || cell.load().service.is_some()
    });
    let shards = there.flat_map(|cell| {
        let shards = cell.load().shards.to_vec();
        shards.into_iter().map(|shard| (cell.key().clone(), shard))
    });
    let shown = |(key, shard): (ServiceKey, Arc<EndpointShard>)| {
        let inline = shard.service.iter().flat_map(|service| service.inline());
        let inline = inline.map(|endpoint| shown_inline(&key, endpoint));
        shard.endpoints.iter().map(|endpoint| shown(&key, endpoint)).chain(inline).collect::<Vec<_>>()
    };
    Ok(shards.flat_map(shown).collect())
}

pub(crate) fn event(object: &Value) -> Shape<Option<StagedEvent>> {
    Ok(Some(match object["kind"].as_str().unwrap_or_default() {
        "Namespace" => StagedEvent::Namespace(applied(object)?),
        "Node" => StagedEvent::Node(applied(object)?),
        "Pod" => StagedEvent::Pod(applied(object)?),
        "Service" => StagedEvent::Service(applied(object)?),
        "EndpointSlice" => StagedEvent::Slice(applied(object)?),
        "Gateway" => StagedEvent::Gateway(applied(object)?),
        "ServiceExport" => StagedEvent::Export(applied(object)?),
        "ServiceImport" => StagedEvent::Import(applied(object)?),
        "ServiceEntry" => StagedEvent::ServiceEntry(applied(object)?),
        "WorkloadEntry" => StagedEvent::WorkloadEntry(applied(object)?),
        // Legacy Endpoints are not read (R5.1), and what WorkloadEntries are made from says nothing itself.
        "Endpoints" | "WorkloadGroup" => return Ok(None),
        other => return Err(format!("objects of kind {other:?} are not known")),
    }))
}

fn applied<T: Object>(object: &Value) -> Shape<SourceEvent<T>> {
    let received = decode_one::<T>(Encoding::Json, object.to_string().as_bytes());
    received.map(SourceEvent::Apply).map_err(|error| format!("an object cannot be read: {error}"))
}

fn shown(key: &ServiceKey, endpoint: &Endpoint) -> Value {
    let said = Said {
        addresses: endpoint.addresses.iter().map(ToString::to_string).collect(),
        port: endpoint.port,
        port_name: &endpoint.port_name,
        health: endpoint.health,
        weight: endpoint.weight.map_or(0, std::num::NonZeroU32::get),
        exposure: endpoint.exposure,
        workload: &endpoint.workload,
    };
    said.shown(key)
}

fn shown_inline(key: &ServiceKey, endpoint: &InlineEndpoint) -> Value {
    let address = match &endpoint.address {
        InlineAddress::Ip(ip) => Some(ip.to_string()),
        InlineAddress::Host(host) => Some(host.to_string()),
        InlineAddress::Unix(path) => Some(path.to_string()),
        InlineAddress::Absent => None,
    };
    let said = Said {
        addresses: address.into_iter().collect(),
        port: endpoint.port,
        port_name: &endpoint.port_name,
        health: Health::Healthy,
        weight: endpoint.weight.map_or(0, std::num::NonZeroU32::get),
        exposure: Exposure::default(),
        workload: &endpoint.workload,
    };
    said.shown(key)
}

/// What an endpoint of any form says.
struct Said<'a> {
    addresses: Vec<String>,
    port: u16,
    port_name: &'a Name,
    health: Health,
    weight: u32,
    exposure: Exposure,
    workload: &'a Workload,
}

impl Said<'_> {
    fn shown(&self, key: &ServiceKey) -> Value {
        let pod = self.workload;
        let labels: BTreeMap<String, String> =
            pod.labels().iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        let (hostname, subdomain) = pod.pod_dns().unwrap_or_default();
        let health = match self.health {
            Health::Healthy => "HEALTHY",
            Health::Unhealthy => "UNHEALTHY",
            Health::Draining => "DRAINING",
            Health::Terminating => "TERMINATING",
        };
        let discoverability = match self.exposure.discoverability() {
            Discoverability::Always => "always",
            Discoverability::SameCluster => "same-cluster",
        };
        json!({
            "service": key.hostname.as_str(),
            "cluster": pod.cluster.as_str(),
            "addresses": self.addresses,
            "port": self.port,
            "portName": self.port_name.as_str(),
            "network": pod.network.as_str(),
            "locality": pod.locality().to_string(),
            "tlsMode": pod.tls_mode_text(),
            "serviceAccount": pod.account.as_ref().map(ToString::to_string).unwrap_or_default(),
            "health": health,
            "nodeName": pod.node().as_str(),
            "namespace": pod.namespace.as_str(),
            "workloadName": pod.workload_name().as_str(),
            "weight": self.weight,
            "discoverability": discoverability,
            "hostname": hostname.as_str(),
            "subdomain": subdomain.as_str(),
            "labels": labels,
        })
    }
}
