//! Services → gateways (R3.1–R3.8).

use std::net::IpAddr;

use super::{Entrance, GatewayInput, Gateways, port_label};
use crate::ingest::objects::{Labels, NETWORK_LABEL, NodeObject, ObjectKey, ServiceObject, ServiceType};
use crate::model::{GatewayAddress, HBONE_GATEWAY_PORT, NetworkId, Quirk};

/// Whether a Service is a candidate by its label (R3.1 a).
pub fn is_labelled(service: &ServiceObject) -> bool {
    service.labels.get(NETWORK_LABEL).is_some_and(|network| !network.is_empty())
}

/// Whether a Service has any address that could be a gateway's (R3.4, R3.7).
pub fn has_addresses(input: GatewayInput<'_>, key: &ObjectKey, service: &ServiceObject) -> bool {
    !addresses(input, key, service, &mut Vec::new()).is_empty()
}

/// A network that a Service may be a gateway of, with the Service's ports.
struct Candidate {
    network: NetworkId,
    port: u16,
    hbone_port: u16,
}

/// What an address of a Service is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Of a load balancer, or given as an external IP: Service ports.
    Service,
    /// Of a node: node ports (R3.5).
    Node,
    /// Advertised, with its own mTLS port if it has one.
    Given(Option<u16>),
}

/// R3.6: addresses × candidates. `exportTo` does not matter (R3.8).
pub fn service_gateways(input: GatewayInput<'_>, key: &ObjectKey, service: &ServiceObject) -> Gateways {
    let mut result = Gateways::default();
    let candidates = candidates(input, key, service, &mut result.notes);
    if candidates.is_empty() {
        return result;
    }
    let addresses = addresses(input, key, service, &mut result.notes);
    if addresses.is_empty() {
        return result;
    }
    for candidate in candidates {
        if let Err(note) = input.accepts(&candidate.network) {
            result.notes.push(note);
            continue;
        }
        for (address, place) in &addresses {
            let (port, hbone_port) = ports_at(input, service, &candidate, *place);
            if port != 0 || hbone_port != 0 {
                let entrance = Entrance { address: address.clone(), port, hbone_port };
                result.push(input.context, &candidate.network, entrance);
            }
        }
    }
    result
}

/// R3.1: the label, else every network of the document that names the Service; the label excludes those even
/// when it yields nothing.
fn candidates(
    input: GatewayInput<'_>,
    key: &ObjectKey,
    service: &ServiceObject,
    notes: &mut Vec<String>,
) -> Vec<Candidate> {
    if let Some(label) = service.labels.get(NETWORK_LABEL).filter(|network| !network.is_empty()) {
        // R3.2: a port counts if the Service exposes a port of that number, whatever its name.
        let exposed = |number: u16| {
            let found = service.ports.iter().any(|port| port.port == i64::from(number));
            if found { number } else { 0 }
        };
        let port = port_label(input.context, &service.labels, notes).map_or(0, exposed);
        let hbone_port = exposed(HBONE_GATEWAY_PORT);
        let candidate = Candidate { network: NetworkId::from(&**label), port, hbone_port };
        return if port == 0 && hbone_port == 0 { Vec::new() } else { vec![candidate] };
    }
    let named = input.networks.named.get(key).into_iter().flatten();
    // R3.3: the port is not checked against the Service.
    named.map(|(network, port)| Candidate { network: network.clone(), port: *port, hbone_port: 0 }).collect()
}

/// R3.4, and what is advertised instead.
fn addresses(
    input: GatewayInput<'_>,
    key: &ObjectKey,
    service: &ServiceObject,
    notes: &mut Vec<String>,
) -> Vec<(GatewayAddress, Place)> {
    let advertised = input.advertised(service.gateway_address.as_ref(), notes);
    let mut addresses = Vec::new();
    if advertised.as_ref().is_none_or(|advertised| advertised.append) {
        addresses = found(input, key, service, notes);
    }
    let given = advertised.into_iter().flat_map(|advertised| advertised.entries);
    addresses.extend(given.map(|(address, port)| (address, Place::Given(port))));
    addresses
}

fn found(
    input: GatewayInput<'_>,
    key: &ObjectKey,
    service: &ServiceObject,
    notes: &mut Vec<String>,
) -> Vec<(GatewayAddress, Place)> {
    let balanced = match service.service_type {
        ServiceType::LoadBalancer => service.ingress.as_slice(),
        _ => &[],
    };
    let mut addresses: Vec<(GatewayAddress, Place)> = Vec::new();
    for text in balanced.iter().chain(&service.external_ips) {
        match input.address(text) {
            Ok(address) if addresses.iter().all(|(known, _)| *known != address) => {
                addresses.push((address, Place::Service));
            }
            Ok(_) => {}
            Err(reason) => notes.push(format!("gateway address not used: {reason}")),
        }
    }
    if addresses.is_empty()
        && service.node_port_type
        && let Some(annotation) = &service.node_selector
    {
        let nodes = node_addresses(input, key, service, annotation, notes);
        addresses.extend(nodes.into_iter().map(|ip| (GatewayAddress::Ip(ip), Place::Node)));
    }
    addresses
}

/// The ExternalIP of every node that the annotation selects. Traffic that stays on the node where it arrives
/// (`externalTrafficPolicy: Local`) finds a pod only on nodes that run one (Q33: they count all the same).
fn node_addresses(
    input: GatewayInput<'_>,
    key: &ObjectKey,
    service: &ServiceObject,
    annotation: &str,
    notes: &mut Vec<String>,
) -> Vec<IpAddr> {
    let selector = selector(annotation, notes);
    let limited = service.external_traffic_local && !input.context.quirks.has(Quirk::Q33);
    let running = limited.then(|| input.nodes.running(key));
    let runs = |name| running.as_ref().is_none_or(|running| running.contains(name));
    let selected =
        |node: &NodeObject| selector.iter().all(|(label, value)| node.labels.get(label) == Some(value));
    let mut addresses = Vec::new();
    for (name, node) in input.nodes.external() {
        if !selected(node) || !runs(name) {
            continue;
        }
        let text = node.external_ip.map(|ip| ip.to_string()).unwrap_or_default();
        match input.context.address(&text) {
            Ok(address) if !addresses.contains(&address) => addresses.push(address),
            Ok(_) => {}
            Err(reason) => notes.push(format!("gateway address of node {name} not used: {reason}")),
        }
    }
    addresses
}

/// R3.4: a JSON object of labels; unparsable selects every node.
fn selector(annotation: &str, notes: &mut Vec<String>) -> Labels {
    serde_json::from_str(annotation).unwrap_or_else(|_| {
        notes.push(
            "annotation traffic.istio.io/nodeSelector is not a JSON object of labels: all nodes".to_owned(),
        );
        Labels::new()
    })
}

/// R3.5 with Q4 and Q5.
fn ports_at(
    input: GatewayInput<'_>,
    service: &ServiceObject,
    candidate: &Candidate,
    place: Place,
) -> (u16, u16) {
    let quirks = input.context.quirks;
    let everywhere = service.node_port_type && service.node_selector.is_some() && quirks.has(Quirk::Q5);
    let Candidate { port, hbone_port, .. } = *candidate;
    match place {
        Place::Given(other) if port != 0 => (other.unwrap_or(port), hbone_port),
        Place::Given(_) => (port, hbone_port),
        Place::Service if !everywhere => (port, hbone_port),
        Place::Service | Place::Node if quirks.has(Quirk::Q4) => (node_port(service, port), hbone_port),
        Place::Service | Place::Node => (node_port(service, port), node_port(service, hbone_port)),
    }
}

/// The node port behind a Service port; 0 while it has none. A number that is no port of the Service, which
/// only the document can give, stays as it is (R3.3).
fn node_port(service: &ServiceObject, number: u16) -> u16 {
    let port = service.ports.iter().find(|port| port.port == i64::from(number));
    port.map_or(number, |port| u16::try_from(port.node_port).unwrap_or_default())
}
