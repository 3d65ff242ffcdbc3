//! One kind of object of one cluster: the state machine of its list and watch (kubernetes-watch §2.4).

use std::collections::BTreeMap;
use std::time::Duration;

use super::StaleCause;
use crate::model::Moment;

/// Where a source is: `Unsynced → Live → Stale → Live`, with side states for what retrying alone does not heal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SourceState {
    /// Not listed completely yet, or listed and not yet watched; the last failure, if there was one.
    #[default]
    Unsynced,
    /// Not listed completely yet, and the last attempt failed.
    Failing(StaleCause),
    /// Listed and watched.
    Live,
    /// The watch is lost: what it told last stands.
    Stale(StaleCause),
    /// 401: the credentials are refused (K-15).
    Unauthorized(String),
    /// 403: this kind may not be read (K-45).
    Forbidden(String),
    /// 404: the API server does not have this kind (K-46).
    NotServed(String),
}

impl SourceState {
    /// Every word of [`Self::word`].
    pub const WORDS: [&'static str; 6] =
        ["unsynced", "live", "stale", "unauthorized", "forbidden", "not-served"];

    /// The word in tables and metrics.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Unsynced | Self::Failing(_) => "unsynced",
            Self::Live => "live",
            Self::Stale(_) => "stale",
            Self::Unauthorized(_) => "unauthorized",
            Self::Forbidden(_) => "forbidden",
            Self::NotServed(_) => "not-served",
        }
    }

    /// Why it is not live, where there is a reason.
    pub fn detail(&self) -> String {
        match self {
            Self::Unsynced | Self::Live => String::new(),
            Self::Failing(cause) | Self::Stale(cause) => cause.to_string(),
            Self::Unauthorized(why) | Self::Forbidden(why) | Self::NotServed(why) => why.clone(),
        }
    }
}

/// Work of one source since its cluster was configured. Values only grow, but `retry_after`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceCounters {
    /// Complete lists by reason: `first`, `expired`, `regressed`, …
    pub lists: BTreeMap<&'static str, u64>,
    /// Revisions that went back (K-19).
    pub regressions: u64,
    /// Bytes of bodies.
    pub bytes: u64,
    /// Attempts that failed.
    pub failures: u64,
    /// The pause the API server asked for, while it lasts (K-13).
    pub retry_after: Option<Duration>,
}

impl SourceCounters {
    /// The same of sources that are over: what they were asked to wait for binds nobody any more.
    pub fn done(self) -> Self {
        Self { retry_after: None, ..self }
    }

    /// Adds the work of another source of the same kind.
    pub fn after(mut self, earlier: &Self) -> Self {
        for (reason, count) in &earlier.lists {
            *self.lists.entry(reason).or_default() += count;
        }
        self.regressions += earlier.regressions;
        self.bytes += earlier.bytes;
        self.failures += earlier.failures;
        self.retry_after = self.retry_after.max(earlier.retry_after);
        self
    }
}

/// What a cluster is without a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// It cannot be served: Services and their slices.
    Required,
    /// It is worse off, and what was read before is soon out of date: pods come and go with endpoints.
    Current,
    /// It is worse off: nodes give localities, namespaces the network.
    Expected,
    /// It misses nothing where the add-on is not installed that the kind comes with.
    AddOn,
}

/// What operators are told about one kind of object of one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceStatus {
    /// Its state.
    pub state: SourceState,
    /// Since when.
    pub since: Moment,
    /// What the cluster is without it.
    pub need: Need,
    /// When the last change of an object came.
    pub last_event: Option<Moment>,
    /// When something came at all: a change, a list, a bookmark, an answer to a probe (K-05).
    pub last_contact: Option<Moment>,
    /// Objects held.
    pub objects: usize,
    /// Work done.
    pub counters: SourceCounters,
    listed: bool,
    watched: bool,
    /// When the first attempt failed since it last was live, once it was listed.
    lost_since: Option<Moment>,
}

impl SourceStatus {
    /// A source that has not been heard yet.
    pub fn new(now: Moment, need: Need) -> Self {
        Self {
            state: SourceState::Unsynced,
            since: now,
            need,
            last_event: None,
            last_contact: None,
            objects: 0,
            counters: SourceCounters::default(),
            listed: false,
            watched: false,
            lost_since: None,
        }
    }

    /// A kind that is read in parts is as well as the worst of them. Says whether the state changed.
    pub fn summarize<'a>(&mut self, now: Moment, parts: impl Iterator<Item = &'a Self> + Clone) -> bool {
        // What was listed and is lost says more than what never was there.
        let Some(worst) = parts.clone().min_by_key(|part| (part.rank(), !part.listed)) else {
            return false;
        };
        let first = self.last_contact.is_none();
        parts.clone().for_each(|part| self.met(part));
        self.lost_since = parts.filter_map(|part| part.lost_since).min();
        (self.listed, self.watched) = (worst.listed, worst.watched);
        let heard = first && self.last_contact.is_some() && worst.state == SourceState::Unsynced;
        self.enter(now, worst.state.clone()) | heard
    }

    /// A part of it was heard, and is as it was.
    pub fn met(&mut self, part: &Self) {
        self.last_event = self.last_event.max(part.last_event);
        self.last_contact = self.last_contact.max(part.last_contact);
    }

    /// Whether the cluster cannot be served without it.
    pub fn is_required(&self) -> bool {
        self.need == Need::Required
    }

    /// The worst first.
    fn rank(&self) -> u8 {
        match self.state {
            _ if self.is_refused() => 0,
            SourceState::Failing(_) | SourceState::Stale(_) => 1,
            SourceState::NotServed(_) if self.is_required() => 1,
            _ if self.is_missed() => 2,
            SourceState::Unsynced => 3,
            // Only some namespaces are shown.
            _ if self.is_denied() => 4,
            _ => 5,
        }
    }

    /// A part of a list arrived. Says whether the state changed.
    pub fn heard(&mut self, now: Moment) -> bool {
        let first = self.last_contact.replace(now).is_none();
        first && self.state == SourceState::Unsynced
    }

    /// A list is complete. That is not yet a watch: until one works, a lost one stays lost.
    pub fn listed(&mut self, now: Moment) -> bool {
        let first = !std::mem::replace(&mut self.listed, true);
        let heard = self.heard(now);
        self.settle(now) | heard | first
    }

    /// The watch works.
    pub fn watched(&mut self, now: Moment) -> bool {
        self.watched = true;
        let heard = self.heard(now);
        self.settle(now) | heard
    }

    /// The watch told of a change.
    pub fn changed(&mut self, now: Moment) -> bool {
        self.last_event = Some(now);
        self.watched(now)
    }

    /// It does not work: `state` is what an attempt came to. The time of the first failure stays, whatever the
    /// next ones are.
    pub fn failed(&mut self, now: Moment, state: SourceState) -> bool {
        self.watched = false;
        let state = match state {
            SourceState::Failing(cause) if self.listed => SourceState::Stale(cause),
            SourceState::Stale(cause) if !self.listed => SourceState::Failing(cause),
            state => state,
        };
        let (changed, before) = (self.enter(now, state), self.lost_since);
        if self.is_denied() && matches!(self.need, Need::Expected | Need::AddOn) {
            // What endpoints are made of is followed all the same (K-45), and an API that was taken out of the
            // cluster leaves nothing that could be out of date.
            self.lost_since = None;
        } else if self.listed {
            self.lost_since.get_or_insert(now);
        }
        changed | (before != self.lost_since)
    }

    fn settle(&mut self, now: Moment) -> bool {
        match (self.listed, self.watched) {
            (true, true) => self.enter(now, SourceState::Live),
            (false, true) => self.enter(now, SourceState::Unsynced),
            (_, false) => false,
        }
    }

    fn enter(&mut self, now: Moment, state: SourceState) -> bool {
        if state == SourceState::Live {
            self.lost_since = None;
        }
        if self.state == state {
            return false;
        }
        if self.state.word() != state.word() {
            self.since = now;
        }
        self.state = state;
        true
    }

    /// Since when what it told may be out of date; `None` while it is not, or it never told anything.
    pub fn lost_since(&self) -> Option<Moment> {
        self.lost_since
    }

    /// Why what it told last may be out of date, if the API server is to blame for it. One that does not have a kind
    /// that every API server has is none, or not itself.
    pub(super) fn lost(&self) -> Option<StaleCause> {
        match &self.state {
            SourceState::Stale(cause) | SourceState::Failing(cause) => Some(cause.clone()),
            SourceState::NotServed(why) if self.is_required() => Some(StaleCause::Refused(why.clone())),
            _ => None,
        }
    }

    /// Whether the last attempt brought no answer, or none that says anything of this kind.
    pub fn is_failing(&self) -> bool {
        matches!(self.state, SourceState::Unauthorized(_)) || self.lost().is_some()
    }

    /// Whether the credentials are refused, or a kind that is needed may not be read.
    pub(super) fn is_refused(&self) -> bool {
        match self.state {
            SourceState::Unauthorized(_) => true,
            SourceState::Forbidden(_) => self.is_required(),
            _ => false,
        }
    }

    /// Whether the cluster works without this kind, and is worse off.
    pub(super) fn is_missed(&self) -> bool {
        let was_permitted = self.listed && matches!(self.state, SourceState::Forbidden(_));
        self.is_denied() && !self.is_required() && (self.need != Need::AddOn || was_permitted)
    }

    /// Whether the API server does not have this kind, or does not show it.
    fn is_denied(&self) -> bool {
        matches!(self.state, SourceState::Forbidden(_) | SourceState::NotServed(_))
    }

    /// Whether it does without a kind that comes with an add-on: not installed, or not permitted because it is not
    /// used. A choice, not a trouble.
    pub fn is_done_without(&self) -> bool {
        self.is_denied() && !self.is_required() && !self.is_missed()
    }

    /// Whether nothing more is expected of it for the cluster to be live.
    pub(super) fn is_settled(&self) -> bool {
        matches!(self.state, SourceState::Live) || (!self.is_required() && self.is_denied())
    }
}
