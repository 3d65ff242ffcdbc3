//! What operators are told about one stream.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use ipnet::IpNet;

use super::resource::ResourceType;
use crate::model::{Name, Node, ProxyView, ServiceKey};

/// What was sent and acknowledged of one type on one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TypeStatus {
    /// Names subscribed; 0 under a pure wildcard.
    pub subscribed: usize,
    /// Whether everything is subscribed.
    pub wildcard: bool,
    /// Nonce of the last response written.
    pub sent_nonce: String,
    /// Version of the last response written.
    pub sent_version: String,
    /// When it was written.
    pub sent_at: Option<SystemTime>,
    /// Nonce of the last response accepted.
    pub acked_nonce: String,
    /// When that was.
    pub acked_at: Option<SystemTime>,
    /// When the oldest response was written that is neither accepted nor rejected yet; `None` when there is none.
    pub unanswered_since: Option<SystemTime>,
    /// Text of the last rejection, cut to 1 KiB and freed of control characters; cleared by the next ACK
    /// (X-C13).
    pub last_error: Option<String>,
    /// Rejections on this stream.
    pub nacks: u64,
    /// Responses written.
    pub responses: u64,
    /// Whether nothing had to be written: the proxy came back with what it asks for (X-D16).
    pub kept: bool,
}

impl TypeStatus {
    /// Whether the proxy has accepted, or had before, all that it asks for.
    pub fn is_synced(&self) -> bool {
        if self.responses == 0 { self.kept } else { self.acked_nonce == self.sent_nonce }
    }
}

/// One connected proxy.
#[derive(Clone, Debug)]
pub struct StreamStatus {
    /// `<node id>-<counter>`.
    pub connection_id: String,
    /// What the proxy said about itself.
    pub node: Arc<Node>,
    /// That, completed by the registry.
    pub view: Arc<ProxyView>,
    /// Where it connected from.
    pub peer: Option<SocketAddr>,
    /// When it connected.
    pub connected_at: SystemTime,
    /// `sotw` or `delta`.
    pub protocol: &'static str,
    /// By type.
    pub types: BTreeMap<ResourceType, TypeStatus>,
}

/// Connections that two services, or hosts of VirtualServices, claim in the listeners of proxies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainCollision {
    /// The port.
    pub port: u16,
    /// Connections that ask for this server name; `None` for any.
    pub name: Option<Name>,
    /// Connections to this block; `None` for any.
    pub block: Option<IpNet>,
    /// Where they are led: the oldest service; a host of VirtualServices that is no service has no namespace.
    pub kept: ServiceKey,
    /// What would have led them elsewhere.
    pub left_out: ServiceKey,
    /// The namespaces of the connected proxies that this concerns.
    pub clients: BTreeSet<Name>,
}
