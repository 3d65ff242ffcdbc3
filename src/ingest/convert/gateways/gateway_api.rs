//! Gateways of the Gateway API → gateways (R3.9–R3.12).

use super::{Entrance, GatewayInput, Gateways, port_label};
use crate::ingest::objects::{GatewayObject, ListenerObject, NETWORK_LABEL, ObjectKey};
use crate::model::{GatewayAddress, Name, NetworkId};

/// The listener option that marks SNI pass-through by network (R3.9).
const LISTENER_OPTION: &str = "gateway.istio.io/listener-protocol";
/// The class of hand-written pointers to gateways elsewhere (R3.10).
const REMOTE_CLASS: &str = "istio-remote";

/// Whether a Gateway tells of gateways at all (R3.12, Q8: only while it has the label).
pub fn is_api_gateway(gateway: &GatewayObject) -> bool {
    gateway.labels.get(NETWORK_LABEL).is_some_and(|network| !network.is_empty())
}

/// R3.9: addresses × auto-passthrough and HBONE listeners. A pointer in the config cluster is configuration,
/// which may name any network (D10).
pub fn api_gateways(input: GatewayInput<'_>, gateway: &GatewayObject) -> Gateways {
    let mut result = Gateways::default();
    let Some(label) = gateway.labels.get(NETWORK_LABEL).filter(|network| !network.is_empty()) else {
        return result;
    };
    let network = NetworkId::from(&**label);
    let pointer = &*gateway.class == REMOTE_CLASS;
    if pointer && !input.context.gateways.config_cluster {
        result.notes.push(format!("class {REMOTE_CLASS} counts in the config cluster only"));
        return result;
    }
    let wanted = port_label(input.context, &gateway.labels, &mut result.notes);
    let listeners: Vec<_> = gateway.listeners.iter().flat_map(|listener| ports(listener, wanted)).collect();
    let addresses = addresses(input, gateway, &mut result.notes);
    if listeners.is_empty() || addresses.is_empty() {
        return result;
    }
    if !pointer && let Err(note) = input.accepts(&network) {
        result.notes.push(note);
        return result;
    }
    for (address, other_port) in addresses {
        for &(port, hbone_port) in &listeners {
            let port = if hbone_port == 0 { other_port.unwrap_or(port) } else { port };
            result.push(input.context, &network, Entrance { address: address.clone(), port, hbone_port });
        }
    }
    result
}

/// The gateways that a listener is, as (port, HBONE port). One for HBONE that is marked for pass-through too is
/// both.
fn ports(listener: &ListenerObject, wanted: Option<u16>) -> Vec<(u16, u16)> {
    let Some(port) = u16::try_from(listener.port).ok().filter(|port| *port != 0) else {
        return Vec::new();
    };
    let passes = listener.tls_options.as_ref().is_some_and(|options| {
        let marked = options.get(LISTENER_OPTION).is_some_and(|value| &**value == "auto-passthrough");
        marked || Some(port) == wanted
    });
    let hbone = (&*listener.protocol == "HBONE").then_some((port, port));
    passes.then_some((port, 0)).into_iter().chain(hbone).collect()
}

/// The account that is recorded with the gateways of a Gateway (R3.11).
pub fn gateway_account(key: &ObjectKey, gateway: &GatewayObject) -> Name {
    match &gateway.service_account {
        Some(account) if !account.is_empty() => account.clone(),
        _ if &*gateway.class == REMOTE_CLASS => format!("{}-{REMOTE_CLASS}", key.name).into(),
        _ => key.name.clone(),
    }
}

/// `spec.addresses`, or what is advertised instead.
fn addresses(
    input: GatewayInput<'_>,
    gateway: &GatewayObject,
    notes: &mut Vec<String>,
) -> Vec<(GatewayAddress, Option<u16>)> {
    let advertised = input.advertised(gateway.gateway_address.as_ref(), notes);
    let mut addresses = Vec::new();
    if advertised.as_ref().is_none_or(|advertised| advertised.append) {
        let usable = gateway.addresses.iter().filter(|(kind, _)| matches!(&**kind, "IPAddress" | "Hostname"));
        for (_, text) in usable {
            match input.address(text) {
                Ok(address) => addresses.push((address, None)),
                Err(reason) => notes.push(format!("gateway address not used: {reason}")),
            }
        }
    }
    addresses.extend(advertised.into_iter().flat_map(|advertised| advertised.entries));
    addresses
}
