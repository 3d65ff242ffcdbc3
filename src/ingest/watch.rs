//! Lists and watches: every object of one kind of one API server, and its changes, for ever.
//!
//! ```text
//! machine ── what to ask next and what an answer means: pure, driven by bytes and instants
//! driver ─── owns the exchanges, the timers and the permits of one machine
//! server ─── what the sources of one cluster know together: can it be reached, does it stream lists
//! limits ─── what the sources of the process share: deadlines, sizes, permits
//! ```
//!
//! Whoever consumes [`SourceEvent`]s does not know how they are made. Nothing that goes wrong here takes an
//! object away: objects go by a delete event or by a complete list that does not have them (contract 11).

mod backoff;
mod counts;
mod driver;
mod limits;
mod machine;
mod permits;
pub(in crate::ingest) mod random;
mod server;
mod urls;

#[cfg(test)]
pub(super) mod script;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Instant;

use futures::stream::{BoxStream, StreamExt as _};
use tokio::sync::mpsc;

pub use backoff::RetryPolicy;
pub use counts::{SourceCounts, SourcePhase};
pub use limits::{Deadlines, Sizes, SourceLimits};
pub use permits::ListPermits;
use server::Server;

use super::client::Exchange;
use super::objects::{Object, ObjectKey};

pub use super::objects::wire::Received;

/// Why a source delivers nothing at the moment. It keeps trying by itself. Every text names the request's
/// path and the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// *Retried.* No answer, or a broken connection.
    Unreachable(String),
    /// *Retried.* The server answered with an error, or with something else than what was asked for.
    Refused(String),
    /// *Retried* once at once, then slowly. 401: the credentials are not accepted (K-15).
    Unauthorized(String),
    /// *Retried* slowly. 403: the credentials may not read this kind (K-15, K-45).
    Forbidden(String),
    /// *Retried* every 10 minutes, and slowly if the server must have it or once had. 404: the server does not have
    /// this kind (K-46).
    NotServed(String),
}

impl Failure {
    /// What happened, in words; never credentials.
    pub fn text(&self) -> &str {
        match self {
            Self::Unreachable(text)
            | Self::Refused(text)
            | Self::Unauthorized(text)
            | Self::Forbidden(text)
            | Self::NotServed(text) => text,
        }
    }
}

/// Why a complete list was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ListReason {
    /// It is the first one of this source.
    First,
    /// The server no longer has the history since our revision: 410, or etcd's compaction (K-09, K-10, K-11).
    Expired,
    /// Revisions went back, or reads by name contradict what was listed: etcd was restored (K-19).
    Regressed,
    /// Events came out of order: what was missed cannot be told (K-27).
    Disordered,
    /// Watches from our revision bring frames that cannot be read, time and again.
    Unreadable,
    /// Watches stay open and show nothing although the server's revision moves on (K-05).
    Silent,
    /// Revisions are no numbers, so that a watch cannot go on where the last one ended (D32).
    Opaque,
    /// The consumer wants to be sure (K-21).
    Requested,
}

impl ListReason {
    /// Every reason.
    pub const ALL: [Self; 8] = [
        Self::First,
        Self::Expired,
        Self::Regressed,
        Self::Disordered,
        Self::Unreadable,
        Self::Silent,
        Self::Opaque,
        Self::Requested,
    ];

    /// The value of label `reason` of metric `relists_total`.
    pub fn label(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Expired => "expired",
            Self::Regressed => "regressed",
            Self::Disordered => "disordered",
            Self::Unreadable => "unreadable",
            Self::Silent => "silent",
            Self::Opaque => "opaque",
            Self::Requested => "requested",
        }
    }
}

/// What a source delivers. Between `Init` and `InitDone` every object there is arrives as `InitApply`, and what
/// went meanwhile as `InitDelete`; an
/// `Init` in between starts over, and nothing of an incomplete list may be applied (K-24). Objects held but
/// not listed are gone (mark and sweep). A complete list replaces what is held whatever the revisions say;
/// within one generation (from one `InitDone` to the next `Init`) an event whose revision is not newer than
/// that of the object held changes nothing (D32).
#[derive(Clone, Debug)]
pub enum SourceEvent<T> {
    /// A complete list begins.
    Init,
    /// An object of that list.
    InitApply(Received<T>),
    /// An object went while the list was read: it is not part of it, also if it was told of before.
    InitDelete(ObjectKey),
    /// The list is complete.
    InitDone {
        /// Why it was read.
        reason: ListReason,
    },
    /// An object was added or changed.
    Apply(Received<T>),
    /// An object was deleted.
    Delete {
        /// Which one.
        key: ObjectKey,
        /// The revision of its deletion, if that is a number.
        revision: Option<u64>,
    },
    /// The source is current for the first time, or again after `Failed`: what was missed has arrived or arrives
    /// next. Lists and watches that follow one another without a failure do not tell it again.
    Connected,
    /// Nothing happened and nothing is missed: the server itself said so just now, in a bookmark or to a probe.
    Idle,
    /// Nothing arrives for now; another attempt follows.
    Failed(Failure),
}

/// A running source.
pub struct Source<T> {
    /// The events, in order. They end only when this is dropped, which also stops every exchange.
    pub events: BoxStream<'static, SourceEvent<T>>,
    /// Its other side.
    pub control: SourceControl,
}

/// The same, with when what is told was read off the connection: it may wait for its reader.
pub(in crate::ingest) struct TimedSource<T> {
    pub(in crate::ingest) events: BoxStream<'static, (Instant, SourceEvent<T>)>,
    pub(in crate::ingest) control: SourceControl,
}

impl<T> std::fmt::Debug for Source<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").field("control", &self.control).finish_non_exhaustive()
    }
}

/// What can be asked of a running source.
#[derive(Clone, Debug)]
pub struct SourceControl {
    relist: mpsc::Sender<ListReason>,
    counts: Arc<SourceCounts>,
}

impl SourceControl {
    /// Asks for a complete quorum list now (K-21). A request that is already waiting is enough.
    pub fn relist(&self, reason: ListReason) {
        // Full: the same is asked already. Closed: nobody is interested any more.
        let _ = self.relist.try_send(reason);
    }

    /// What this source did so far.
    pub fn counts(&self) -> &Arc<SourceCounts> {
        &self.counts
    }
}

/// Something that delivers all objects of one kind, and their changes, for ever.
pub trait ObjectSource<T>: Send + 'static {
    /// Starts it. Needs a Tokio runtime.
    fn start(self) -> Source<T>;
}

/// Objects of one kind of one API server. Sources with the same exchange and limits share what is known of the
/// server.
#[derive(Clone)]
pub struct KubeSource {
    exchange: Arc<dyn Exchange>,
    limits: Arc<SourceLimits>,
    server: Arc<Server>,
    selection: Selection,
    needed: bool,
}

/// Which objects of a kind.
#[derive(Clone, Debug, Default)]
struct Selection {
    namespace: Option<String>,
    labels: Option<String>,
    fields: Option<String>,
    /// Group and version, where they are not the kind's own.
    api: Option<(String, String)>,
}

impl std::fmt::Debug for KubeSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KubeSource").field("selection", &self.selection).finish_non_exhaustive()
    }
}

impl KubeSource {
    /// Every object of a kind.
    pub fn new(exchange: Arc<dyn Exchange>, limits: Arc<SourceLimits>) -> Self {
        let server = limits.server_of(&exchange);
        Self { exchange, limits, server, selection: Selection::default(), needed: false }
    }

    /// Under another API group and version than the kind's own: custom resources may be served under any.
    pub fn of_api(mut self, group: &str, version: &str) -> Self {
        self.selection.api = Some((group.to_owned(), version.to_owned()));
        self
    }

    /// Of a kind that every API server has: one that says otherwise is asked again soon (K-46). Kinds of the core
    /// group are, and those that were listed once.
    pub fn needed(mut self) -> Self {
        self.needed = true;
        self
    }

    /// Only objects of one namespace, of kinds that have namespaces.
    pub fn in_namespace(mut self, namespace: &str) -> Self {
        self.selection.namespace = Some(namespace.to_owned());
        self
    }

    /// Only objects that match a label selector.
    pub fn labelled(mut self, selector: &str) -> Self {
        self.selection.labels = Some(selector.to_owned());
        self
    }

    /// Only objects that match a field selector.
    pub fn with_fields(mut self, selector: &str) -> Self {
        self.selection.fields = Some(selector.to_owned());
        self
    }
}

impl KubeSource {
    /// Starts it, telling when each event arrived. Needs a Tokio runtime.
    pub(in crate::ingest) fn start_timed<T: Object>(self) -> TimedSource<T> {
        driver::start(self)
    }
}

impl<T: Object> ObjectSource<T> for KubeSource {
    fn start(self) -> Source<T> {
        let TimedSource { events, control } = self.start_timed();
        Source { events: events.map(|(_, event)| event).boxed(), control }
    }
}
