//! Labelled Services → gateways.

use std::net::IpAddr;

use super::ClusterContext;
use crate::ingest::objects::{NETWORK_LABEL, ServiceObject, ServiceType};
use crate::model::{DEFAULT_GATEWAY_PORT, HBONE_GATEWAY_PORT, NetworkGateway, NetworkId};

/// Label with the mTLS port (R3.2).
const PORT_LABEL: &str = "networking.istio.io/gatewayPort";

/// What a Service says of gateways.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gateways {
    /// The gateways it yields.
    pub gateways: Vec<NetworkGateway>,
    /// What of it is not used, and why.
    pub notes: Vec<String>,
}

/// Whether a Service is a candidate (R3.1 a).
pub fn is_gateway(service: &ServiceObject) -> bool {
    service.labels.get(NETWORK_LABEL).is_some_and(|network| !network.is_empty())
}

/// R3.1–R3.6 for LoadBalancer addresses and `externalIPs`. Gateways count only for the network the cluster
/// itself belongs to (D10). Host names are told of and not used. `exportTo` does not matter (R3.8).
pub fn gateways(context: &ClusterContext, service: &ServiceObject, of_cluster: &NetworkId) -> Gateways {
    let mut result = Gateways::default();
    let Some(network) = service.labels.get(NETWORK_LABEL).filter(|network| !network.is_empty()) else {
        return result;
    };
    let (port, hbone_port) = ports(service, &mut result.notes);
    if port == 0 && hbone_port == 0 {
        return result;
    }
    let addresses = addresses(context, service, &mut result.notes);
    if addresses.is_empty() {
        return result;
    }
    if **network != **of_cluster {
        result.notes.push(format!(
            "gateways for network `{network}` are not used: this cluster belongs to network `{of_cluster}` \
             by the label {NETWORK_LABEL} of its system namespace"
        ));
        return result;
    }
    result.gateways.extend(addresses.into_iter().map(|address| NetworkGateway {
        network: of_cluster.clone(),
        cluster: context.cluster.clone(),
        address,
        port,
        hbone_port,
    }));
    result
}

/// R3.2: a port counts if the Service exposes a port of that number, whatever its name.
fn ports(service: &ServiceObject, notes: &mut Vec<String>) -> (u16, u16) {
    let exposed = |number: u16| {
        let found = service.ports.iter().any(|port| port.port == i64::from(number));
        if found { number } else { 0 }
    };
    let mtls = match service.labels.get(PORT_LABEL).map(|label| label.parse::<u16>()) {
        None => DEFAULT_GATEWAY_PORT,
        Some(Ok(port)) => port,
        Some(Err(_)) => {
            notes.push(format!("label {PORT_LABEL} is not a port number: {DEFAULT_GATEWAY_PORT} is used"));
            DEFAULT_GATEWAY_PORT
        }
    };
    (exposed(mtls), exposed(HBONE_GATEWAY_PORT))
}

/// R3.4.
fn addresses(context: &ClusterContext, service: &ServiceObject, notes: &mut Vec<String>) -> Vec<IpAddr> {
    let balanced = match service.service_type {
        ServiceType::LoadBalancer => service.ingress.as_slice(),
        _ => &[],
    };
    let mut addresses = Vec::new();
    for text in balanced.iter().chain(&service.external_ips) {
        match context.address(text) {
            Ok(address) if !addresses.contains(&address) => addresses.push(address),
            Ok(_) => {}
            Err(reason) => notes.push(format!("gateway address not used: {reason}")),
        }
    }
    addresses
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::test_context;
    use super::*;

    fn convert(labels: Value, spec: Value, ingress: Value) -> Gateways {
        let object = json!({"metadata": {"labels": labels}, "spec": spec,
            "status": {"loadBalancer": {"ingress": ingress}}});
        let service = serde_json::from_value(object).unwrap();
        gateways(&test_context(), &service, &"n1".into())
    }

    fn shown(result: &Gateways) -> Vec<String> {
        let show = |g: &NetworkGateway| {
            format!("{} {} {}:{} {}", g.network, g.cluster, g.address, g.port, g.hbone_port)
        };
        result.gateways.iter().map(show).collect()
    }

    fn balancer(ports: Value) -> Value {
        json!({"type": "LoadBalancer", "ports": ports})
    }

    #[test]
    fn r3_1_only_a_service_with_a_network_is_a_gateway() {
        let ingress = || json!([{"ip": "2.3.4.6"}]);
        let spec = || balancer(json!([{"port": 15443}]));
        assert!(convert(json!({}), spec(), ingress()).gateways.is_empty());
        assert!(convert(json!({"topology.istio.io/network": ""}), spec(), ingress()).gateways.is_empty());
        assert_eq!(
            shown(&convert(json!({"topology.istio.io/network": "n1"}), spec(), ingress())),
            ["n1 c1 2.3.4.6:15443 0"]
        );
    }

    #[test]
    fn r3_2_ports_count_only_when_exposed() {
        let ports = |label: Option<&str>, ports: &[u16]| {
            let mut labels = json!({"topology.istio.io/network": "n1"});
            if let Some(label) = label {
                labels[PORT_LABEL] = json!(label);
            }
            let ports: Vec<_> = ports.iter().map(|port| json!({"port": port, "name": "any"})).collect();
            let result = convert(labels, balancer(json!(ports)), json!([{"ip": "2.3.4.6"}]));
            let ports = result.gateways.first().map(|g| (g.port, g.hbone_port));
            (ports, result.notes.len())
        };
        assert_eq!(ports(None, &[15443, 15008]), (Some((15443, 15008)), 0));
        assert_eq!(ports(None, &[15008]), (Some((0, 15008)), 0));
        assert_eq!(ports(None, &[443]), (None, 0));
        assert_eq!(ports(Some("443"), &[443, 15443]), (Some((443, 0)), 0));
        assert_eq!(ports(Some("443"), &[15443]), (None, 0));
        assert_eq!(ports(Some("many"), &[15443]), (Some((15443, 0)), 1));
    }

    #[test]
    fn r3_4_r3_6_addresses_times_ports() {
        let labels = || json!({"topology.istio.io/network": "n1"});
        let mut spec = balancer(json!([{"port": 15443}]));
        spec["externalIPs"] = json!(["9.9.9.9", "2.3.4.6"]);
        let result = convert(
            labels(),
            spec,
            json!([{"ip": "2.3.4.6"}, {"hostname": "gw.example.com"}, {"ip": "2.3.4.5"}]),
        );
        assert_eq!(
            shown(&result),
            ["n1 c1 2.3.4.6:15443 0", "n1 c1 2.3.4.5:15443 0", "n1 c1 9.9.9.9:15443 0"]
        );
        assert_eq!(result.notes.len(), 1, "{:?}", result.notes);
        assert!(result.notes[0].contains("gw.example.com"));

        let cluster_ip = json!({"ports": [{"port": 15443}], "externalIPs": ["9.9.9.9"]});
        let result = convert(labels(), cluster_ip, json!([{"ip": "2.3.4.6"}]));
        assert_eq!(shown(&result), ["n1 c1 9.9.9.9:15443 0"], "ingress needs type LoadBalancer");
        let none = json!({"ports": [{"port": 15443}]});
        assert_eq!(convert(labels(), none, json!([])), Gateways::default());
    }

    #[test]
    fn d10_a_cluster_speaks_for_its_own_network_only() {
        let result = convert(
            json!({"topology.istio.io/network": "n2"}),
            balancer(json!([{"port": 15443}])),
            json!([{"ip": "2.3.4.6"}]),
        );
        assert!(result.gateways.is_empty());
        assert!(result.notes[0].contains("`n2`") && result.notes[0].contains("`n1`"));
    }

    #[test]
    fn k_40_a_gateway_never_has_a_special_address() {
        let result = convert(
            json!({"topology.istio.io/network": "n1"}),
            balancer(json!([{"port": 15443}])),
            json!([{"ip": "169.254.169.254"}, {"ip": "127.0.0.1"}]),
        );
        assert_eq!((result.gateways.len(), result.notes.len()), (0, 2));
    }
}
