//! What a proxy says about itself on the first message of a stream.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Deserializer, Serialize};

use super::{ClusterId, Labels, Locality, Name, NetworkId, WorkloadId};

/// What kind of proxy asks: the first part of its node id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ProxyKind {
    /// Beside one workload.
    Sidecar,
    /// A gateway.
    Router,
}

/// How traffic reaches a sidecar: metadata `INTERCEPTION_MODE`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum InterceptionMode {
    /// Redirected to the sidecar's two ports; the original destination is asked of the kernel.
    #[default]
    Redirect,
    /// As `Redirect`, with the source address kept.
    Tproxy,
    /// Not captured: the sidecar listens on the ports themselves.
    None,
}

/// What a proxy understands (control-plane-surface §3.8), seen in `node.extensions` and in the metadata `GENERATOR`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// A stock Envoy.
    #[default]
    Vanilla,
    /// A proxy with the `istio.*` extensions.
    Istio,
    /// No proxy: a client of gRPC that resolves `xds:///` names itself (§7).
    Grpc,
}

/// The generator that clients of gRPC ask for.
const PROXYLESS: &str = "grpc";

/// Why a node is refused. All of these are *Fatal* for the stream: it ends with `INVALID_ARGUMENT` (X-C02).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// *Fatal*: no node, or an empty id.
    #[error(
        "missing node information: the first request of a stream needs node.id `<type>~<ip>~<pod>.<namespace>~<domain>`"
    )]
    Missing,
    /// *Fatal*: the metadata is too large (Z-36).
    #[error("node metadata has {bytes} bytes; at most {limit} are accepted")]
    TooLarge {
        /// Its size on the wire.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// *Fatal*: the id has not four parts.
    #[error(
        "node id {id:?} has {parts} {} separated by `~`, want four: `<type>~<ip>~<pod>.<namespace>~<domain>`",
        if *parts == 1 { "part" } else { "parts" }
    )]
    Parts {
        /// The id as sent, cut to 256 characters.
        id: String,
        /// How many parts it has.
        parts: usize,
    },
    /// *Fatal*: an unknown proxy type.
    #[error("node id {id:?} has the unknown proxy type {kind:?}; known are `sidecar` and `router`")]
    Kind {
        /// The id as sent, cut to 256 characters.
        id: String,
        /// The type it claims.
        kind: String,
    },
    /// *Fatal*: no usable address in INSTANCE_IPS or in the id.
    #[error(
        "node id {id:?} has no valid IP address: neither metadata INSTANCE_IPS {instance_ips:?} nor {ip:?}"
    )]
    Address {
        /// The id as sent, cut to 256 characters.
        id: String,
        /// The second part of the id.
        ip: String,
        /// The metadata value.
        instance_ips: String,
    },
    /// *Fatal*: a metadata value that cannot be read.
    #[error("node metadata {key}: {reason}")]
    Metadata {
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

/// The metadata keys that matter here; every other key is ignored (§1.4).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "SCREAMING_SNAKE_CASE")]
pub struct NodeMetadata {
    /// The proxy's cluster.
    #[serde(deserialize_with = "text")]
    pub cluster_id: String,
    /// The proxy's network; empty when it does not know.
    #[serde(deserialize_with = "text")]
    pub network: String,
    /// The proxy's namespace.
    #[serde(deserialize_with = "text")]
    pub namespace: String,
    /// Comma-separated addresses.
    #[serde(deserialize_with = "text")]
    pub instance_ips: String,
    /// Comma-separated networks this proxy may see (R2.8).
    #[serde(deserialize_with = "text")]
    pub requested_network_view: String,
    /// `REDIRECT`, `TPROXY` or `NONE`.
    #[serde(deserialize_with = "text")]
    pub interception_mode: String,
    /// Which generator it wants; empty for Envoy.
    #[serde(deserialize_with = "text")]
    pub generator: String,
    /// The node it runs on.
    #[serde(deserialize_with = "text")]
    pub node_name: String,
    /// The name of its workload, such as the Deployment's.
    #[serde(deserialize_with = "text")]
    pub workload_name: String,
    /// Its version.
    #[serde(deserialize_with = "text")]
    pub istio_version: String,
    /// Mode NONE: where outbound listeners bind; default 127.0.0.1 (D40).
    #[serde(deserialize_with = "text")]
    pub tombolo_outbound_address: String,
    /// Mode NONE: where the application listens; default 127.0.0.1 (D40).
    #[serde(deserialize_with = "text")]
    pub tombolo_app_address: String,
    /// Labels of its pod; what the registry knows of the pod counts more (R2.9).
    #[serde(deserialize_with = "labels")]
    pub labels: Labels,
    /// Whether it sends no HBONE (R4.16).
    #[serde(deserialize_with = "text")]
    pub disable_hbone_send: String,
}

/// Labels; values that are no texts are left out, and so is what is no map.
fn labels<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Labels, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    let labels: BTreeMap<Name, Name> = value
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.as_str().into(), value.as_str()?.into())))
        .collect();
    Ok(labels.into())
}

/// Metadata values are texts in practice; numbers and booleans are tolerated as their text.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(match serde_json::Value::deserialize(deserializer)? {
        serde_json::Value::String(text) => text,
        serde_json::Value::Null => String::new(),
        other => other.to_string(),
    })
}

/// A proxy as it introduced itself, read and checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Node {
    /// The id as sent.
    pub id: Name,
    /// Sidecar or router.
    pub kind: ProxyKind,
    /// Its addresses: INSTANCE_IPS when all are valid, else the id's.
    pub addresses: Vec<IpAddr>,
    /// The pod it claims to be.
    pub workload: WorkloadId,
    /// Its DNS domain, `<namespace>.svc.cluster.local`.
    pub dns_domain: Name,
    /// The network it claims; empty when it does not know.
    pub network: NetworkId,
    /// The networks it asks to see; empty means all.
    pub requested_view: Vec<NetworkId>,
    /// How its traffic is captured.
    pub mode: InterceptionMode,
    /// What it understands.
    pub dialect: Dialect,
    /// The locality of the xDS node.
    pub locality: Locality,
    /// The Kubernetes node it says it runs on.
    pub node_name: Name,
    /// The name of its workload as it tells it; empty when it does not.
    pub workload_name: Name,
    /// Its version text, for tables.
    pub version: Name,
    /// Which generator it wants; empty for Envoy.
    pub generator: Name,
    /// Bind address of outbound listeners in mode NONE.
    pub outbound_address: Option<IpAddr>,
    /// Address of the application in mode NONE.
    pub app_address: Option<IpAddr>,
    /// Labels of its pod as it tells them.
    pub labels: Labels,
    /// Whether it can send HBONE: it is an Envoy and did not say otherwise (R4.16).
    pub sends_hbone: bool,
}

impl Node {
    /// Reads a node id with its metadata. `extensions` are the names the proxy lists.
    ///
    /// # Errors
    /// What X-C02 and §1.4 name: a missing or malformed id, an unknown type, no valid address.
    pub fn parse<'a>(
        id: &str,
        metadata: NodeMetadata,
        locality: Locality,
        mut extensions: impl Iterator<Item = &'a str>,
    ) -> Result<Self, NodeError> {
        if id.is_empty() {
            return Err(NodeError::Missing);
        }
        let parts: Vec<&str> = id.split('~').collect();
        let &[kind, ip, pod, domain] = parts.as_slice() else {
            return Err(NodeError::Parts { id: cut(id), parts: parts.len() });
        };
        let proxyless = metadata.generator == PROXYLESS;
        let kind = match kind {
            "sidecar" => ProxyKind::Sidecar,
            // It forwards nothing for others, whatever its id says.
            "router" if proxyless => ProxyKind::Sidecar,
            "router" => ProxyKind::Router,
            other => {
                return Err(NodeError::Kind { id: cut(id), kind: cut(other) });
            }
        };
        let addresses = addresses(&metadata.instance_ips, ip).ok_or_else(|| NodeError::Address {
            id: cut(id),
            ip: cut(ip),
            instance_ips: cut(&metadata.instance_ips),
        })?;
        let (pod_name, pod_namespace) = pod.split_once('.').unwrap_or((pod, ""));
        let namespace = [metadata.namespace.as_str(), pod_namespace, domain_namespace(domain)]
            .into_iter()
            .find(|namespace| !namespace.is_empty())
            .unwrap_or_default();
        Ok(Self {
            id: id.into(),
            kind,
            addresses,
            workload: WorkloadId {
                cluster: metadata.cluster_id.as_str().into(),
                namespace: namespace.into(),
                name: pod_name.into(),
            },
            dns_domain: domain.into(),
            network: metadata.network.as_str().into(),
            requested_view: list(&metadata.requested_network_view).map(NetworkId::from).collect(),
            // Nobody captures what such a client calls.
            mode: if proxyless { InterceptionMode::None } else { mode(&metadata.interception_mode)? },
            dialect: if proxyless {
                Dialect::Grpc
            } else if extensions.any(|name| name.starts_with("istio.")) {
                Dialect::Istio
            } else {
                Dialect::Vanilla
            },
            locality,
            node_name: metadata.node_name.as_str().into(),
            workload_name: metadata.workload_name.as_str().into(),
            version: metadata.istio_version.as_str().into(),
            generator: metadata.generator.as_str().into(),
            outbound_address: address("TOMBOLO_OUTBOUND_ADDRESS", &metadata.tombolo_outbound_address)?,
            app_address: address("TOMBOLO_APP_ADDRESS", &metadata.tombolo_app_address)?,
            sends_hbone: !proxyless && !matches!(metadata.disable_hbone_send.as_str(), "true" | "1"),
            labels: metadata.labels,
        })
    }

    /// The cluster it claims to be in.
    pub fn cluster(&self) -> &ClusterId {
        &self.workload.cluster
    }
}

fn cut(text: &str) -> String {
    text.chars().take(256).collect()
}

fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty())
}

/// INSTANCE_IPS if every entry is an address, else the id's own (§1.4).
fn addresses(instance_ips: &str, ip: &str) -> Option<Vec<IpAddr>> {
    let listed: Option<Vec<IpAddr>> = list(instance_ips).map(|text| text.parse().ok()).collect();
    match listed {
        Some(addresses) if !addresses.is_empty() => Some(addresses),
        _ => ip.parse().ok().map(|address| vec![address]),
    }
}

/// The namespace in `<namespace>.svc.<domain>`: its first label, if there is a dot.
fn domain_namespace(domain: &str) -> &str {
    domain.split_once('.').map_or("", |(namespace, _)| namespace)
}

fn mode(text: &str) -> Result<InterceptionMode, NodeError> {
    match text {
        "" | "REDIRECT" => Ok(InterceptionMode::Redirect),
        "TPROXY" => Ok(InterceptionMode::Tproxy),
        "NONE" => Ok(InterceptionMode::None),
        other => Err(NodeError::Metadata {
            key: "INTERCEPTION_MODE",
            reason: format!("{:?} is not one of REDIRECT, TPROXY, NONE", cut(other)),
        }),
    }
}

fn address(key: &'static str, text: &str) -> Result<Option<IpAddr>, NodeError> {
    if text.is_empty() {
        return Ok(None);
    }
    let parsed = text.parse().map(Some);
    parsed.map_err(|_| NodeError::Metadata { key, reason: format!("{:?} is not an IP address", cut(text)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(id: &str, metadata: serde_json::Value) -> Result<Node, NodeError> {
        let metadata = serde_json::from_value(metadata).expect("test metadata");
        Node::parse(id, metadata, Locality::default(), std::iter::empty())
    }

    #[test]
    fn node_of_a_sidecar_is_read() {
        let node = parse(
            "sidecar~10.1.0.5~client-0.default~default.svc.cluster.local",
            serde_json::json!({"CLUSTER_ID": "c1", "NETWORK": "n1", "REQUESTED_NETWORK_VIEW": "n1, n2",
                "INSTANCE_IPS": "10.1.0.5,fd00::5", "UNKNOWN": {"a": 1}}),
        )
        .expect("valid");
        assert_eq!(node.kind, ProxyKind::Sidecar);
        assert_eq!(node.workload.to_string(), "c1/default/client-0");
        assert_eq!(node.addresses.len(), 2);
        assert_eq!(node.requested_view, [NetworkId::from("n1"), NetworkId::from("n2")]);
        assert_eq!(node.mode, InterceptionMode::Redirect);
    }

    #[test]
    fn metadata_namespace_wins_then_the_pod_then_the_domain() {
        let namespace =
            |id: &str, metadata| parse(id, metadata).expect("valid").workload.namespace.to_string();
        let json = serde_json::json!({"NAMESPACE": "m"});
        assert_eq!(namespace("sidecar~10.0.0.1~p.q~d.svc.cluster.local", json), "m");
        assert_eq!(namespace("sidecar~10.0.0.1~p.q~d.svc.cluster.local", serde_json::json!({})), "q");
        assert_eq!(namespace("sidecar~10.0.0.1~p~d.svc.cluster.local", serde_json::json!({})), "d");
    }

    #[test]
    fn xc02_bad_nodes_are_refused_by_name() {
        let none = || serde_json::json!({});
        assert_eq!(parse("", none()), Err(NodeError::Missing));
        let error = parse("sidecar~10.0.0.1~p.q", none()).expect_err("three parts").to_string();
        assert!(error.contains("has 3 parts"), "{error}");
        let error = parse("ztunnel~10.0.0.1~p.q~d", none()).expect_err("type").to_string();
        assert!(error.contains("unknown proxy type \"ztunnel\""), "{error}");
        let error = parse("sidecar~nowhere~p.q~d", none()).expect_err("address").to_string();
        assert!(error.contains("no valid IP address"), "{error}");
        let json = serde_json::json!({"INTERCEPTION_MODE": "MAGIC"});
        let error = parse("sidecar~10.0.0.1~p.q~d", json).expect_err("mode").to_string();
        assert!(error.contains("INTERCEPTION_MODE"), "{error}");
    }

    #[test]
    fn dialect_follows_the_extensions() {
        let dialect = |names: &[&'static str]| {
            Node::parse(
                "sidecar~10.0.0.1~p.q~d",
                NodeMetadata::default(),
                Locality::default(),
                names.iter().copied(),
            )
            .expect("valid")
            .dialect
        };
        assert_eq!(dialect(&["envoy.filters.http.router"]), Dialect::Vanilla);
        assert_eq!(dialect(&["envoy.filters.http.router", "istio.alpn"]), Dialect::Istio);
    }

    #[test]
    fn who_asks_for_the_generator_of_grpc_is_no_proxy() {
        for kind in ["sidecar", "router"] {
            let id = format!("{kind}~10.0.0.1~p.q~d");
            let node = parse(&id, serde_json::json!({"GENERATOR": "grpc"})).expect("valid");
            assert_eq!(
                (node.kind, node.dialect, node.mode, node.sends_hbone),
                (ProxyKind::Sidecar, Dialect::Grpc, InterceptionMode::None, false)
            );
        }
    }
}
