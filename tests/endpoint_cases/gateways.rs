//! The gateways that the objects of one cluster amount to.

use serde_json::{Value, json};
use tombolo::ingest::networks::gateways_of;

use super::convert::{INPUT, context, host_names, system_namespace};
use super::flags::Flags;
use super::shape::{Answer, Shape, answer, given, only, same, text};

/// Kinds that chapter 3 does not read.
const SILENT: [&str; 14] = [
    "WorkloadEntry",
    "WorkloadGroup",
    "ServiceEntry",
    "DestinationRule",
    "VirtualService",
    "PeerAuthentication",
    "AuthorizationPolicy",
    "Sidecar",
    "EnvoyFilter",
    "Deployment",
    "ReplicaSet",
    "ServiceAccount",
    "Endpoints",
    "GatewayClass",
];

/// R3.1–R3.13.
pub(crate) fn check(case: &Value, flags: &Flags) -> Answer {
    answer(compare(case, flags))
}

fn compare(case: &Value, flags: &Flags) -> Shape<Result<(), String>> {
    let input = &case["input"];
    only("input", input, &INPUT)?;
    only("expect", &case["expect"], &["gateways"])?;
    let objects = given(input, "objects")?;
    let hosts = host_names(input)?;
    let context = context(input, flags)?;
    let watched = context.gateways.gateway_api;
    let mesh = &input["meshNetworks"];
    let result = gateways_of(context, system_namespace(input)?, &meant(objects, watched)?, mesh, hosts)?;
    let gateways = result
        .gateways
        .iter()
        .map(|g| row(&g.network, &g.cluster, &g.address.to_string(), g.port.into(), g.hbone_port.into()));
    let hosts =
        result.hosts.iter().map(|g| row(&g.network, &g.cluster, &g.host, g.port.into(), g.hbone_port.into()));
    let sorted = |rows: Vec<Value>| {
        let mut rows: Vec<_> = rows.iter().map(Value::to_string).collect();
        rows.sort();
        rows
    };
    let expected = given(&case["expect"], "gateways")?.iter().map(expected).collect::<Shape<Vec<_>>>()?;
    Ok(same("gateways", &sorted(gateways.chain(hosts).collect()), &sorted(expected)))
}

fn row(network: &str, cluster: &str, address: &str, port: u64, hbone_port: u64) -> Value {
    json!({"network": network, "cluster": cluster, "addr": address, "port": port, "hbonePort": hbone_port})
}

/// An expected gateway with its defaults. Addresses are compared, not their spelling.
fn expected(told: &Value) -> Shape<Value> {
    only("an expected gateway", told, &["network", "cluster", "addr", "port", "hbonePort"])?;
    let address = text(told, "addr")?;
    let address = address.parse::<std::net::IpAddr>().map_or_else(
        |_| address.trim_end_matches('.').to_ascii_lowercase(),
        |address| address.to_canonical().to_string(),
    );
    let number = |field: &str| match &told[field] {
        Value::Null => Ok(0),
        value => value.as_u64().ok_or_else(|| format!("field {field} is {value}, not a number")),
    };
    Ok(row(text(told, "network")?, text(told, "cluster")?, &address, number("port")?, number("hbonePort")?))
}

/// The objects that gateways may depend on. What is left out is known and tells nothing of them, or is not
/// watched.
fn meant(objects: &[Value], gateway_api: bool) -> Shape<Vec<Value>> {
    let mut meant = Vec::new();
    for object in objects {
        let kind = text(object, "kind")?;
        // A Gateway of Istio's own API selects workloads: it is no gateway of a network.
        let istio = text(object, "apiVersion")?.starts_with("networking.istio.io/");
        if !(kind == "Gateway" && (istio || !gateway_api) || SILENT.contains(&kind)) {
            meant.push(object.clone());
        }
    }
    Ok(meant)
}
