//! Cases of kind `gateways` in a file named by `ENDPOINT_CASES`, at the peer's flags.

use std::collections::BTreeSet;

use serde_json::Value;
use tombolo::ingest::convert::{
    ClusterContext, GatewayOptions, McsOptions, SpecialAddresses, TrustedNetworks,
};
use tombolo::ingest::networks::gateways_of;
use tombolo::model::Quirks;

fn context(input: &Value) -> ClusterContext {
    ClusterContext {
        cluster: input["cluster"].as_str().expect("a cluster").into(),
        domain: "cluster.local".into(),
        trust_domain: "cluster.local".into(),
        special_addresses: SpecialAddresses::Drop,
        quirks: Quirks::peer(),
        dual_stack: false,
        mcs: McsOptions::default(),
        gateways: GatewayOptions {
            trusted: TrustedNetworks::Any,
            advertised: None,
            gateway_api: true,
            config_cluster: input["isConfigCluster"] == true,
        },
        serve_without_pods: false,
    }
}

#[test]
fn gateways_equal_the_cases() {
    let Some(path) = std::env::var_os("ENDPOINT_CASES") else {
        eprintln!("skipped: ENDPOINT_CASES names no file");
        return;
    };
    let text = std::fs::read_to_string(path).expect("a readable file of cases");
    let file: Value = serde_json::from_str(&text).expect("JSON");
    let cases = file["cases"].as_array().expect("cases").iter().filter(|case| case["kind"] == "gateways");
    let mut run = 0;
    for case in cases {
        let input = &case["input"];
        let objects = input["objects"].as_array().expect("objects");
        let result = gateways_of(context(input), "istio-system", objects, &input["meshNetworks"]).expect("readable");
        let row = |network: &str, cluster: &str, address: String, port: u16, hbone: u16| {
            serde_json::json!({"network": network, "cluster": cluster, "addr": address, "port": port, "hbonePort": hbone})
                .to_string()
        };
        let gateways =
            result.gateways.iter().map(|g| row(&g.network, &g.cluster, g.address.to_string(), g.port, g.hbone_port));
        let hosts = result.hosts.iter().map(|g| row(&g.network, &g.cluster, g.host.to_string(), g.port, g.hbone_port));
        let ours: BTreeSet<_> = gateways.chain(hosts).collect();
        let expected: BTreeSet<_> =
            case["expect"]["gateways"].as_array().expect("gateways").iter().map(Value::to_string).collect();
        assert_eq!(ours, expected, "{}: {:?}", case["id"], result.notes);
        run += 1;
    }
    assert!(run > 0, "the file has no case of kind `gateways`");
}
