//! Sidecars.

use std::net::IpAddr;

use super::{At, Terms, names, traffic};
use crate::model::policy::{
    CaptureMode, EgressHost, EgressListener, EgressNamespace, HostPattern, IngressListener, OutboundPolicy,
    PolicyMeta, Sidecar, SidecarPort,
};
use crate::model::{Name, PortProtocol};

/// The longest path of a socket: 108 bytes with a zero at the end.
const MAX_SOCKET_PATH: usize = 107;
/// How the address of a Unix socket begins.
const UNIX: &str = "unix://";

/// Reads the spec of a Sidecar.
///
/// # Errors
/// What is wrong, naming the field.
pub(in crate::ingest) fn sidecar(meta: PolicyMeta, spec: &At<'_>, _: &Terms) -> Result<Sidecar, String> {
    let egress = spec.list("egress", |listener| egress(listener, &meta.id.namespace))?;
    let bare = |listener: &EgressListener| listener.port.is_none();
    if let Some(index) = egress.iter().position(bare).filter(|index| index + 1 < egress.len()) {
        return Err(format!("egress[{index}].port: only the last listener may be without a port"));
    }
    let ingress = spec.list("ingress", ingress)?;
    for (index, one) in ingress.iter().enumerate() {
        if ingress[..index].iter().any(|other| other.port.number == one.port.number) {
            return Err(format!("ingress[{index}].port.number: {} comes twice", one.port.number));
        }
    }
    let outbound_policy = spec.read("outboundTrafficPolicy", outbound_policy)?;
    Ok(Sidecar {
        selector: names::selector(spec, "workloadSelector", "labels")?,
        egress,
        ingress,
        outbound_policy,
        inbound_pool: spec.read("inboundConnectionPool", traffic::connection_pool)?,
        meta,
    })
}

/// Reads an `outboundTrafficPolicy`.
pub(super) fn outbound_policy(at: &At<'_>) -> Result<OutboundPolicy, String> {
    at.object()?;
    let modes = [("ALLOW_ANY", OutboundPolicy::AllowAny), ("REGISTRY_ONLY", OutboundPolicy::RegistryOnly)];
    // The first of the modes is that of a policy that says none.
    Ok(at.read("mode", |mode| mode.one_of(&modes))?.unwrap_or(OutboundPolicy::RegistryOnly))
}

fn egress(at: &At<'_>, own: &Name) -> Result<EgressListener, String> {
    at.object()?;
    let hosts = at.list("hosts", |host| egress_host(host, own))?;
    if hosts.is_empty() {
        return Err(format!("{at}.hosts: at least one `namespace/host` is needed"));
    }
    let (bind, socket) = bind(at)?;
    let capture = capture(at)?;
    if socket.is_some() && capture == CaptureMode::Iptables {
        return Err(format!("{at}.captureMode: IPTABLES is not possible with a Unix socket"));
    }
    let port = at.read("port", |at| port(at, socket.is_some()))?;
    if let Some(socket) = &socket
        && port.as_ref().is_none_or(|port| port.number != 0)
    {
        return Err(format!("{at}.port: {socket} needs a port with a protocol and without a number"));
    }
    Ok(EgressListener { port, bind, socket, capture, hosts })
}

fn egress_host(at: &At<'_>, own: &Name) -> Result<EgressHost, String> {
    let text = at.text()?;
    let Some((namespace, host)) = text.split_once('/') else {
        return at.wrong("`namespace/host`");
    };
    names::checked_host(at, host)?;
    let namespace = match namespace {
        "*" => EgressNamespace::Any,
        "~" => EgressNamespace::Nobody,
        "." => EgressNamespace::Named(own.clone()),
        name if names::is_label(name) => EgressNamespace::Named(name.into()),
        _ => return at.wrong("`*`, `.`, `~` or the name of a namespace before the slash"),
    };
    Ok(EgressHost { namespace, host: HostPattern::new(host.to_ascii_lowercase()) })
}

fn ingress(at: &At<'_>) -> Result<IngressListener, String> {
    at.object()?;
    let (bind, socket) = bind(at)?;
    if socket.is_some() {
        return Err(format!("{at}.bind: an address belongs there, no Unix socket"));
    }
    let Some(port) = at.read("port", |at| port(at, false))? else {
        return Err(format!("{at}.port: a port is needed"));
    };
    capture(at)?;
    let default_endpoint = at.read("defaultEndpoint", default_endpoint)?.unwrap_or_default();
    let pool = at.read("connectionPool", traffic::connection_pool)?;
    Ok(IngressListener { port, bind, default_endpoint, pool })
}

fn port(at: &At<'_>, is_socket: bool) -> Result<SidecarPort, String> {
    at.object()?;
    let least = u64::from(!is_socket);
    let number = at.read("number", |at| at.number(least, u64::from(u16::MAX)))?;
    let Some(number) = number.or(is_socket.then_some(0)) else {
        return Err(format!("{at}.number: a port number is needed"));
    };
    let protocol = at.read("protocol", protocol)?.unwrap_or(PortProtocol::Auto);
    let name = at.read("name", |at| at.text().map(Name::from))?.unwrap_or_default();
    Ok(SidecarPort { number: number as u16, protocol, name })
}

/// A protocol by its name, in any case.
fn protocol(at: &At<'_>) -> Result<PortProtocol, String> {
    const NAMES: [(&str, PortProtocol); 11] = [
        ("HTTP", PortProtocol::Http),
        ("HTTP2", PortProtocol::Http2),
        ("HTTPS", PortProtocol::Https),
        ("GRPC", PortProtocol::Grpc),
        ("GRPC-WEB", PortProtocol::GrpcWeb),
        ("TCP", PortProtocol::Tcp),
        ("TLS", PortProtocol::Tls),
        ("MONGO", PortProtocol::Tcp),
        ("REDIS", PortProtocol::Tcp),
        ("MYSQL", PortProtocol::Tcp),
        ("", PortProtocol::Auto),
    ];
    let text = at.text()?;
    let found = NAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
    found.map_or_else(|| at.one_of(&NAMES), |(_, protocol)| Ok(*protocol))
}

/// Field `bind`: an address, or a Unix socket.
fn bind(at: &At<'_>) -> Result<(Option<IpAddr>, Option<Name>), String> {
    let bind = at.read("bind", |bind| match bind.text()? {
        "" => Ok((None, None)),
        text if is_socket(text) => Ok((None, Some(text.into()))),
        text => match text.parse() {
            Ok(address) => Ok((Some(address), None)),
            Err(_) => bind.wrong("an IP address or unix:///path"),
        },
    })?;
    Ok(bind.unwrap_or_default())
}

/// A socket at an absolute path that the system takes, or an abstract one.
fn is_socket(text: &str) -> bool {
    let path = text.strip_prefix(UNIX).unwrap_or_default();
    path.len() > 1 && path.len() <= MAX_SOCKET_PATH && path.starts_with(['/', '@'])
}

fn capture(at: &At<'_>) -> Result<CaptureMode, String> {
    let modes =
        [("DEFAULT", CaptureMode::Default), ("IPTABLES", CaptureMode::Iptables), ("NONE", CaptureMode::None)];
    Ok(at.read("captureMode", |mode| mode.one_of(&modes))?.unwrap_or_default())
}

/// Where the application is: itself, the pod's address, or a socket.
fn default_endpoint(at: &At<'_>) -> Result<Name, String> {
    const HOSTS: [&str; 4] = ["127.0.0.1", "0.0.0.0", "[::1]", "[::]"];
    let text = at.text()?;
    let is_address = || {
        text.rsplit_once(':').is_some_and(|(host, port)| {
            HOSTS.contains(&host) && port.parse::<u16>().is_ok_and(|port| port != 0)
        })
    };
    let socket = text.strip_prefix(UNIX).is_some_and(|path| path.starts_with(['/', '@']));
    if text.is_empty() || socket || is_address() {
        return Ok(text.into());
    }
    at.wrong("127.0.0.1:PORT, 0.0.0.0:PORT, [::1]:PORT, [::]:PORT or unix:///path")
}
