//! The gateways that the objects of one cluster amount to.

use serde_json::{Value, json};
use tombolo::ingest::networks::gateways_of;

use super::convert::context;
use super::flags::Flags;
use super::shape::{Answer, Shape, answer, given, only, same};

/// R3.1–R3.13.
pub(crate) fn check(case: &Value, flags: &Flags) -> Answer {
    answer(compare(case, flags))
}

fn compare(case: &Value, flags: &Flags) -> Shape<Result<(), String>> {
    let input = &case["input"];
    only(
        "input",
        input,
        &["cluster", "isConfigCluster", "objects", "meshNetworks", "features", "trustDomain"],
    )?;
    only("expect", &case["expect"], &["gateways"])?;
    let objects = given(input, "objects")?;
    let result = gateways_of(context(input, flags)?, "istio-system", objects, &input["meshNetworks"])?;
    let row = |network: &str, cluster: &str, address: String, port: u16, hbone: u16| json!({"network": network, "cluster": cluster, "addr": address, "port": port, "hbonePort": hbone});
    let gateways = result
        .gateways
        .iter()
        .map(|g| row(&g.network, &g.cluster, g.address.to_string(), g.port, g.hbone_port));
    let hosts =
        result.hosts.iter().map(|g| row(&g.network, &g.cluster, g.host.to_string(), g.port, g.hbone_port));
    let sorted = |rows: Vec<Value>| {
        let mut rows: Vec<_> = rows.iter().map(Value::to_string).collect();
        rows.sort();
        rows
    };
    let expected = given(&case["expect"], "gateways")?;
    for row in expected {
        only("an expected gateway", row, &["network", "cluster", "addr", "port", "hbonePort"])?;
    }
    Ok(same("gateways", &sorted(gateways.chain(hosts).collect()), &sorted(expected.to_vec())))
}
