//! What operators are told about one stream.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

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

/// A [`TypeStatus`] as streams write it down with every response and answer: nothing in it is made for the eye.
#[derive(Clone, Debug, Default)]
pub(super) struct Report {
    pub(super) subscribed: usize,
    pub(super) wildcard: bool,
    pub(super) kept: bool,
    pub(super) sent: Option<(u64, Instant)>,
    pub(super) version: Option<Arc<str>>,
    pub(super) acked: Option<(u64, Instant)>,
    pub(super) unanswered_since: Option<Instant>,
    pub(super) error: Option<Arc<str>>,
    pub(super) nacks: u64,
    pub(super) responses: u64,
}

/// The reports of one stream, by type; `None` for those that its proxy never asked for.
pub(super) type Reports = [Option<Report>; ResourceType::ALL.len()];

impl Report {
    /// The same with texts and times of day; `now` and `wall` are the same moment.
    pub(super) fn status(&self, now: Instant, wall: SystemTime) -> TypeStatus {
        let wall_at = |at: Instant| wall.checked_sub(now.saturating_duration_since(at));
        let nonce = |response: Option<(u64, _)>| response.map(|(nonce, _)| nonce.to_string());
        TypeStatus {
            subscribed: self.subscribed,
            wildcard: self.wildcard,
            sent_nonce: nonce(self.sent).unwrap_or_default(),
            sent_version: self.version.as_deref().unwrap_or_default().to_owned(),
            sent_at: self.sent.and_then(|(_, at)| wall_at(at)),
            acked_nonce: nonce(self.acked).unwrap_or_default(),
            acked_at: self.acked.and_then(|(_, at)| wall_at(at)),
            unanswered_since: self.unanswered_since.and_then(wall_at),
            last_error: self.error.as_deref().map(str::to_owned),
            nacks: self.nacks,
            responses: self.responses,
            kept: self.kept,
        }
    }
}

/// The statuses behind reports.
pub(super) fn statuses(
    reports: &Reports,
    now: Instant,
    wall: SystemTime,
) -> BTreeMap<ResourceType, TypeStatus> {
    let told = ResourceType::ALL.into_iter().zip(reports);
    told.filter_map(|(kind, report)| Some((kind, report.as_ref()?.status(now, wall)))).collect()
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
    /// Since when the proxy's transport has taken nothing of the last response, while it has not taken all of it. No
    /// request is read and nothing new is composed meanwhile (X-F01).
    pub unread_since: Option<SystemTime>,
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
