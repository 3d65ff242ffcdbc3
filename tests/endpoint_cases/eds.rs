//! One assignment out of what the registry holds.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use tombolo::model::{
    Addresses, ClusterId, ClusterRole, Discoverability, Endpoint, EndpointShard, EntryFacts, ExportTo,
    Health, InlineAddress, InlineEndpoint, Locality, Name, NetworkGateway, PortProtocol, Resolution, Service,
    ServiceKey, ServicePort, SpiffeId, TlsMode, TrafficDistribution, Transport, Workload, WorkloadParts,
};
use tombolo::registry::{ClusterWriter, Registry};
use tombolo::view::{AssignedEndpoint, Assignment, EdsName, LocalityGroup, SocketMatch, Target};

use super::flags::Flags;
use super::policies::{labels, policies};
use super::proxy;
use super::shape::{Answer, Shape, answer, given, list, only, text, texts, truth};

const INPUT: [&str; 11] = [
    "features",
    "mesh",
    "services",
    "endpoints",
    "gateways",
    "dns",
    "proxy",
    "request",
    "destinationRules",
    "peerAuthentications",
    "topology",
];

/// R4.1–R4.35.
pub(crate) fn check(case: &Value, flags: &Flags) -> Answer {
    answer(compare(case, flags))
}

fn compare(case: &Value, flags: &Flags) -> Shape<Result<(), String>> {
    let (input, expect) = (&case["input"], &case["expect"]);
    only("input", input, &INPUT)?;
    only("expect", expect, &["groups", "order"])?;
    let world = World::of(input, flags)?;
    let rules = proxy::rules(input, flags)?;
    let view = proxy::view(&input["proxy"], &world.registry, flags)?;
    let request = text(input, "request")?;
    let (registry, policies) = (&world.registry, policies(input)?);
    let ours = proxy::assigned(registry, &policies, &rules, &view, request, |sent| {
        shown(sent, request, &world.unknown)
    })?;
    let strict = match text(expect, "order")? {
        "strict" => true,
        "" | "any-within-group" => false,
        other => return Err(format!("order {other:?}")),
    };
    compare_groups(&ours, given(expect, "groups")?, strict)
}

/// The registry as a case tells of it.
struct World {
    registry: Arc<Registry>,
    /// Endpoints whose health the case leaves open.
    unknown: BTreeSet<(String, u64)>,
    _writers: Vec<ClusterWriter>,
}

/// Which cluster has the services of a case and nothing else.
const CONFIG: &str = "config-of-the-case";

impl World {
    fn of(input: &Value, flags: &Flags) -> Shape<Self> {
        let registry = Registry::with_quirks(flags.quirks());
        let services = list(input, "services")?;
        let gateways = gateways(input)?;
        let none = Map::new();
        let endpoints = match &input["endpoints"] {
            Value::Null => &none,
            told => told.as_object().ok_or("endpoints are not an object")?,
        };
        let mut writers = Vec::new();
        let mut unknown = BTreeSet::new();
        let writer = |cluster: &str, role| -> Shape<ClusterWriter> {
            registry.writer(cluster.into(), role).map_err(|error| error.to_string())
        };
        let mut config = writer(CONFIG, ClusterRole::Config)?;
        for service in services {
            let record = service_of(service)?;
            config
                .set(record.key.clone(), EndpointShard::new(CONFIG.into(), Some(record.into()), Vec::new()));
        }
        writers.push(config);
        let mut clusters: BTreeSet<&str> = endpoints.keys().map(String::as_str).collect();
        clusters.extend(gateways.iter().map(|gateway| gateway.cluster.as_str()).filter(|id| !id.is_empty()));
        let fixed = gateways.iter().filter(|gateway| gateway.cluster.is_empty()).cloned().collect();
        registry.set_static_gateways(fixed, Vec::new());
        for cluster in clusters {
            let told =
                endpoints.get(cluster).map_or(&[][..], |told| told.as_array().map_or(&[], Vec::as_slice));
            let mut own = writer(cluster, ClusterRole::Remote)?;
            let behind = gateways.iter().filter(|one| !cluster.is_empty() && one.cluster.as_str() == cluster);
            own.set_networks(network_of(told)?, behind.cloned().collect());
            for service in services {
                let record = service_of(service)?;
                let shard = shard(cluster, record, told, input, &mut unknown)?;
                own.set(shard.service.as_ref().map(|one| one.key.clone()).unwrap_or_default(), shard);
            }
            writers.push(own);
        }
        Ok(Self { registry, unknown, _writers: writers })
    }
}

/// Where a cluster belongs: the network of all its endpoints, if they are on one.
fn network_of(endpoints: &[Value]) -> Shape<Option<tombolo::model::NetworkId>> {
    let networks = endpoints.iter().map(|one| text(one, "network")).collect::<Shape<BTreeSet<_>>>()?;
    let one = if networks.len() == 1 { networks.first().copied() } else { None };
    Ok(one.filter(|network| !network.is_empty()).map(Into::into))
}

fn gateways(input: &Value) -> Shape<Vec<NetworkGateway>> {
    let mut all = Vec::new();
    for told in list(input, "gateways")? {
        only("a gateway", told, &["network", "cluster", "addr", "port", "hbonePort"])?;
        let port = |field: &str| {
            number(told, field, 0).and_then(|port| u16::try_from(port).map_err(|_| "a port".into()))
        };
        let (port, hbone_port) = (port("port")?, port("hbonePort")?);
        let host = text(told, "addr")?;
        let addresses: Vec<IpAddr> = match host.parse() {
            Ok(address) => vec![address],
            Err(_) => texts(&input["dns"], host)?.iter().filter_map(|text| text.parse().ok()).collect(),
        };
        all.extend(addresses.into_iter().map(|address| NetworkGateway {
            network: text(told, "network").unwrap_or_default().into(),
            cluster: text(told, "cluster").unwrap_or_default().into(),
            address,
            port,
            hbone_port,
        }));
    }
    Ok(all)
}

fn number(value: &Value, field: &str, usual: u64) -> Shape<u64> {
    match &value[field] {
        Value::Null => Ok(usual),
        value => value.as_u64().ok_or_else(|| format!("{field} is {value}, not a number")),
    }
}

fn service_of(told: &Value) -> Shape<Service> {
    const FIELDS: [&str; 13] = [
        "hostname",
        "name",
        "namespace",
        "ports",
        "labels",
        "trafficDistribution",
        "exportTo",
        "resolution",
        "nodeLocal",
        "internalTrafficPolicy",
        "publishNotReadyAddresses",
        "created",
        "vip",
    ];
    only("a service", told, &FIELDS)?;
    let namespace = text(told, "namespace")?;
    let exported = texts(told, "exportTo")?;
    Ok(Service {
        key: ServiceKey::new(namespace, text(told, "hostname")?),
        ports: given(told, "ports")?.iter().map(port).collect::<Shape<_>>()?,
        labels: labels(&told["labels"])?,
        resolution: match text(told, "resolution")? {
            "" | "ClientSideLB" | "STATIC" => Resolution::ClientSide,
            "Passthrough" | "NONE" => Resolution::Passthrough,
            "DNS" | "DNSLB" => Resolution::Dns,
            "DNS_ROUND_ROBIN" | "DNSRoundRobinLB" => Resolution::DnsRoundRobin,
            other => return Err(format!("resolution {other:?}")),
        },
        export_to: match exported.as_slice() {
            [] => ExportTo::Unset,
            all if all.iter().any(|one| one == "*") => ExportTo::Everywhere,
            all if all.iter().all(|one| one == "~") => ExportTo::Nowhere,
            all => ExportTo::Namespaces(
                all.iter().map(|one| Name::from(if one == "." { namespace } else { one.as_str() })).collect(),
            ),
        },
        node_local: truth(told, "nodeLocal")? || text(told, "internalTrafficPolicy")? == "Local",
        publish_not_ready: truth(told, "publishNotReadyAddresses")?,
        traffic_distribution: match text(told, "trafficDistribution")? {
            "" | "Any" => TrafficDistribution::Any,
            "PreferClose" | "PreferSameZone" => TrafficDistribution::PreferSameZone,
            "PreferSameNode" => TrafficDistribution::PreferSameNode,
            other => return Err(format!("trafficDistribution {other:?}")),
        },
        ..Service::default()
    })
}

fn port(told: &Value) -> Shape<ServicePort> {
    only("a port", told, &["name", "port", "targetPort", "protocol"])?;
    let number =
        told["port"].as_u64().and_then(|port| u16::try_from(port).ok()).ok_or("a port has no number")?;
    let transport = if text(told, "protocol")? == "UDP" { Transport::Udp } else { Transport::Tcp };
    Ok(ServicePort { number, name: text(told, "name")?.into(), transport, protocol: PortProtocol::Http })
}

/// What a cluster has of a service. Its own record has the names of ports that its endpoints have.
fn shard(
    cluster: &str,
    mut record: Service,
    told: &[Value],
    input: &Value,
    unknown: &mut BTreeSet<(String, u64)>,
) -> Shape<EndpointShard> {
    let names = told.iter().map(|one| port_name(one)).collect::<Shape<BTreeSet<_>>>()?;
    let own = |names: &BTreeSet<&str>, port: &ServicePort| names.contains(port.name.as_str());
    if let ([port], [name]) = (record.ports.as_mut_slice(), names.iter().collect::<Vec<_>>().as_slice())
        && !own(&names, port)
    {
        port.name = (**name).into();
    }
    let (mut endpoints, mut inline) = (Vec::new(), Vec::new());
    for one in told {
        match endpoint(cluster, one, input, unknown)? {
            Some(Told::Endpoint(endpoint)) => endpoints.push(endpoint),
            Some(Told::Inline(endpoint)) => inline.push(endpoint),
            None => {}
        }
    }
    if !inline.is_empty() {
        record.entry = Some(Arc::new(EntryFacts { inline, ..EntryFacts::default() }));
    }
    Ok(EndpointShard::new(cluster.into(), Some(record.into()), endpoints))
}

fn port_name(told: &Value) -> Shape<&str> {
    if told["portName"].is_null() { Ok("http") } else { text(told, "portName") }
}

enum Told {
    Endpoint(Endpoint),
    Inline(InlineEndpoint),
}

const ENDPOINT: [&str; 18] = [
    "addresses",
    "network",
    "cluster",
    "port",
    "portName",
    "tlsMode",
    "namespace",
    "workloadName",
    "labels",
    "locality",
    "weight",
    "health",
    "discoverability",
    "nodeName",
    "serviceAccount",
    "hostname",
    "sendUnhealthy",
    "redirection",
];

fn endpoint(
    shard: &str,
    told: &Value,
    input: &Value,
    unknown: &mut BTreeSet<(String, u64)>,
) -> Shape<Option<Told>> {
    only("an endpoint", told, &ENDPOINT)?;
    let addresses = texts(told, "addresses")?;
    let port = number(told, "port", 8080)?;
    let workload = workload(shard, told)?;
    let weight = u32::try_from(number(told, "weight", 0)?).map_err(|_| "weight")?;
    let weight = NonZeroU32::new(weight);
    let port_name: Name = port_name(told)?.into();
    let first = addresses.first().map(String::as_str);
    if let ["" | "UNKNOWN"] = [text(told, "health")?] {
        unknown.insert((first.unwrap_or_default().to_owned(), port));
    }
    if port == 0 && first.is_some_and(|first| !first.is_empty()) {
        let address = InlineAddress::Unix(first.unwrap_or_default().into());
        return Ok(Some(Told::Inline(InlineEndpoint { address, port: 0, port_name, weight, workload })));
    }
    let parsed: Vec<IpAddr> = addresses.iter().filter_map(|text| text.parse().ok()).collect();
    match first {
        // R4.9: no address at all is less than an empty one, where nothing stands for it.
        None => {
            let own = text(&input["proxy"], "network")?;
            let network = text(told, "network")?;
            if list(input, "gateways")?.is_empty() || own == network || own.is_empty() || network.is_empty() {
                return Ok(None);
            }
        }
        // R4.7: a host name is no address; the model cannot even hold one here.
        Some(first) if !first.is_empty() && first.parse::<IpAddr>().is_err() => return Ok(None),
        Some(_) => {}
    }
    Ok(Some(Told::Endpoint(Endpoint {
        addresses: Addresses::from(parsed),
        port: u16::try_from(port).map_err(|_| "a port")?,
        port_name,
        health: match text(told, "health")? {
            "" | "UNKNOWN" | "HEALTHY" => Health::Healthy,
            "UNHEALTHY" => Health::Unhealthy,
            "DRAINING" => Health::Draining,
            "TERMINATING" => Health::Terminating,
            other => return Err(format!("health {other:?}")),
        },
        weight,
        exposure: match text(told, "discoverability")? {
            "" | "always" => Discoverability::Always,
            "same-cluster" => Discoverability::SameCluster,
            other => return Err(format!("discoverability {other:?}")),
        }
        .into(),
        workload,
    })))
}

fn workload(shard: &str, told: &Value) -> Shape<Arc<Workload>> {
    let mut labels = labels(&told["labels"])?;
    let tls = text(told, "tlsMode")?;
    if !matches!(tls, "" | "istio" | "disabled") {
        labels.insert("security.istio.io/tlsMode".into(), tls.into());
    }
    let first_of = |keys: &[&str]| keys.iter().find_map(|key| labels.get(*key).cloned());
    let workload_name: Name = text(told, "workloadName")?.into();
    let names = ["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"];
    let revisions = ["service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"];
    let revision = first_of(&revisions).filter(|revision| revision.as_str() != "latest");
    let cluster: ClusterId =
        if told["cluster"].is_null() { shard.into() } else { text(told, "cluster")?.into() };
    let parts = WorkloadParts {
        cluster,
        namespace: text(told, "namespace")?.into(),
        network: text(told, "network")?.into(),
        locality: Locality::parse(text(told, "locality")?),
        node: text(told, "nodeName")?.into(),
        tls_mode: if tls == "istio" { TlsMode::Istio } else { TlsMode::Disabled },
        redirected: text(told, "redirection")? == "enabled",
        account: SpiffeId::parse(text(told, "serviceAccount")?),
        canonical_name: first_of(&names).unwrap_or_else(|| workload_name.clone()),
        canonical_revision: revision.unwrap_or_default(),
        workload_name,
        labels,
        ..WorkloadParts::default()
    };
    Ok(parts.into())
}

/// An assignment in the form of what is expected.
fn shown(sent: &Assignment<'_>, request: &str, unknown: &BTreeSet<(String, u64)>) -> Vec<Value> {
    let name = EdsName::parse(request).map(|name| format!("{}:{}", name.host, name.port)).unwrap_or_default();
    let group = |group: &LocalityGroup<'_>| {
        let endpoint = |one: &AssignedEndpoint<'_>| shown_endpoint(one, &name, sent.hides_workloads, unknown);
        let endpoints: Vec<_> = group.endpoints.iter().map(endpoint).collect();
        let weight = if group.weight == 0 { Value::Null } else { json!(group.weight) };
        json!({"locality": group.locality.to_string(), "priority": group.priority, "weight": weight,
            "endpoints": endpoints})
    };
    sent.groups.iter().map(group).collect()
}

/// Where an endpoint leads, as cases spell it.
pub(crate) fn address(target: &Target<'_>) -> String {
    match target {
        Target::Socket { addresses, port } => SocketAddr::new(addresses[0], *port).to_string(),
        Target::Internal { listener, address, port } => {
            format!("internal:{}/{}", listener.name(), SocketAddr::new(*address, *port))
        }
        Target::Named { host, port } => format!("{host}:{port}"),
        Target::Pipe(path) => path.to_string(),
        Target::Nowhere { port } => format!(":{port}"),
    }
}

fn shown_endpoint(
    one: &AssignedEndpoint<'_>,
    service: &str,
    hides_workloads: bool,
    unknown: &BTreeSet<(String, u64)>,
) -> Value {
    let place = match &one.target {
        Target::Pipe(path) => (path.to_string(), 0),
        target => (target.address().map(|ip| ip.to_string()).unwrap_or_default(), target.port().into()),
    };
    let health = match one.health {
        None => "UNKNOWN",
        Some(Health::Healthy) if unknown.contains(&place) => "UNKNOWN",
        Some(Health::Healthy) => "HEALTHY",
        Some(Health::Unhealthy) => "UNHEALTHY",
        Some(Health::Draining | Health::Terminating) => "DRAINING",
    };
    let socket = match (one.socket, one.tls_mode()) {
        (SocketMatch::Tunnel, _) => json!({"tunnel": "http"}),
        (_, Some(mode)) => json!({"tlsMode": mode}),
        (_, None) => json!({}),
    };
    let (mut double, mut local, mut further) = (Value::Null, Value::Null, Vec::new());
    match &one.target {
        Target::Internal { listener, address, port } => {
            local = json!(SocketAddr::new(*address, *port).to_string());
            if listener.name() == "inner_connect_originate" {
                double = json!(service);
            }
        }
        Target::Socket { addresses, port } => {
            further = addresses[1..].iter().map(|ip| SocketAddr::new(*ip, *port).to_string()).collect();
        }
        _ => {}
    }
    json!({
        "address": address(&one.target), "weight": one.weight, "health": health,
        "workload": if hides_workloads { Value::Null } else { json!(one.telemetry()) },
        "transportSocketMatch": socket, "doubleHbone": double, "originalDst": local,
        "additionalAddresses": further,
    })
}

fn compare_groups(ours: &[Value], expected: &[Value], strict: bool) -> Shape<Result<(), String>> {
    if ours.len() != expected.len() {
        return Ok(Err(format!("{} groups, expected {}: {}", ours.len(), expected.len(), json!(ours))));
    }
    for (own, expected) in ours.iter().zip(expected) {
        only("a group", expected, &["locality", "priority", "weight", "endpoints"])?;
        let locality = Locality::parse(text(expected, "locality")?).to_string();
        let head =
            |weight: &Value, priority: &Value, locality: &str| format!("{locality:?} {priority} {weight}");
        let is = head(&own["weight"], &own["priority"], text(own, "locality")?);
        let priority = if expected["priority"].is_null() { json!(0) } else { expected["priority"].clone() };
        let wanted = head(&expected["weight"], &priority, &locality);
        if is != wanted {
            return Ok(Err(format!("group {is}, expected {wanted}: {}", json!(ours))));
        }
        if let Err(how) = compare_endpoints(list(own, "endpoints")?, list(expected, "endpoints")?, strict)? {
            return Ok(Err(format!("group {locality:?}: {how}")));
        }
    }
    Ok(Ok(()))
}

fn compare_endpoints(ours: &[Value], expected: &[Value], strict: bool) -> Shape<Result<(), String>> {
    if ours.len() != expected.len() {
        return Ok(Err(format!("{} endpoints, expected {}: {}", ours.len(), expected.len(), json!(ours))));
    }
    let mut rest: Vec<&Value> = ours.iter().collect();
    for expected in expected {
        let fields = expected.as_object().ok_or("an expected endpoint is not an object")?;
        let mut at = None;
        for (place, own) in rest.iter().enumerate().take(if strict { 1 } else { usize::MAX }) {
            let known = |field: &String| own.get(field).is_some();
            if let Some(field) = fields.keys().find(|field| !known(field)) {
                return Err(format!("field {field} of endpoints is not known here"));
            }
            if fields.iter().all(|(field, value)| own[field] == normal(field, value)) {
                at = Some(place);
                break;
            }
        }
        match at {
            Some(at) => rest.remove(at),
            None => return Ok(Err(format!("{expected} is not in {}", json!(rest)))),
        };
    }
    Ok(Ok(()))
}

/// How addresses of Unix sockets are spelled means nothing.
fn normal(field: &str, value: &Value) -> Value {
    let path = |text: &str| {
        ["unix://", "unix:", "pipe:"].iter().find_map(|prefix| text.strip_prefix(prefix).map(str::to_owned))
    };
    match (field, value.as_str().and_then(path)) {
        ("address", Some(path)) => json!(path),
        _ => value.clone(),
    }
}

/// All gateways and endpoints of an assignment with their weights.
pub(crate) fn weights(sent: &Assignment<'_>) -> BTreeMap<String, u64> {
    let mut weights = BTreeMap::new();
    for endpoint in sent.endpoints() {
        *weights.entry(address(&endpoint.target)).or_default() += u64::from(endpoint.weight);
    }
    weights
}
