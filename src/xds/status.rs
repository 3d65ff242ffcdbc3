//! What operators are told about one stream.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use super::resource::ResourceType;
use crate::model::{Node, ProxyView};

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
    /// Text of the last rejection, cut to 1 KiB and freed of control characters; cleared by the next ACK
    /// (X-C13).
    pub last_error: Option<String>,
    /// Rejections on this stream.
    pub nacks: u64,
    /// Responses written.
    pub responses: u64,
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
