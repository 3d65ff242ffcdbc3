//! The state-of-the-world protocol.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use hashbrown::HashSet;

use super::held::Holding;
use super::pacing::Pace;
use super::watch::{Batch, Dialect, ListsDue, Owed, Watch};
use super::watches::{Watches, version_of};
use super::{Effects, Outcome, SessionError, SessionLimits, Source};
use crate::model::Name;
use crate::proto::discovery::{DiscoveryRequest, DiscoveryResponse};
use crate::xds::resource::{ResourceType, version};
use crate::xds::status::Report;

/// The name that subscribes to everything.
const STAR: &str = "*";

/// One stream of the state-of-the-world protocol.
#[derive(Debug)]
pub struct SotwSession {
    watches: Watches,
}

impl SotwSession {
    /// A stream on which nothing was asked yet.
    pub fn new(limits: SessionLimits) -> Self {
        Self { watches: Watches::new(limits) }
    }

    /// With its own pace of pushes that are not acknowledged (D22).
    pub fn paced(mut self, pace: Pace) -> Self {
        self.watches.pace = pace;
        self
    }

    /// Takes one request; its node is ignored (X-C03). The names of one that is stale, or answers a response that is
    /// not the last, change nothing: they come again with the client's next ACK (X-S08). After an error the stream must
    /// end.
    pub fn request(&mut self, request: DiscoveryRequest, now: Instant) -> Result<Effects, SessionError> {
        let limits = self.watches.limits;
        limits.check_url(&request.type_url)?;
        let Some(kind) = ResourceType::from_url(&request.type_url) else {
            return Ok(self.watches.unknown(&request.type_url));
        };
        limits.check_names(kind, &request.resource_names)?;
        let first = !self.watches.of(kind).open;
        let superseded = self.is_superseded(kind, &request.response_nonce);
        let mut effects = Effects {
            kind: Some(kind),
            opened: first.then_some(kind),
            outcome: self.outcome(kind, &request, superseded, now),
            ..Effects::default()
        };
        if effects.outcome == Outcome::Stale || superseded {
            return Ok(effects);
        }
        self.watches.open(kind);
        // A rejection without a nonce is not answered by the same bytes again (X-C11).
        let again = first || (request.response_nonce.is_empty() && request.error_detail.is_none());
        let same = self.watches.of_mut(kind).asked_the_same(&request.resource_names);
        if same && !again {
            return Ok(effects);
        }
        let names = request.resource_names.iter();
        let mut names: BTreeSet<Name> = names.map(|name| Name::interned(name)).collect();
        if kind.is_wildcard() {
            let star = names.remove(STAR);
            self.set_wildcard(kind, star, star || !names.is_empty(), again);
        }
        self.watches.check_names(kind, names.len(), names.iter().map(|name| name.len()).sum())?;
        self.set_names(kind, names, again, &mut effects);
        Ok(effects)
    }

    /// A watched named resource may have new bytes.
    pub fn changed(&mut self, kind: ResourceType, name: &Name) {
        self.watches.changed(kind, name);
    }

    /// The lists of a wildcard type may differ.
    pub fn list_changed(&mut self, kind: ResourceType) {
        self.watches.list_changed(kind);
    }

    /// The proxy's view changed: everything may differ. Only what differs in bytes is sent (D12).
    pub fn rekeyed(&mut self) {
        self.watches.rekeyed();
    }

    /// The next message, which must then be written. Call again until `None`: after requests and changes, and
    /// at the [`deadline`](Self::deadline).
    pub fn poll(&mut self, now: Instant, source: &dyn Source) -> Option<(ResourceType, DiscoveryResponse)> {
        ResourceType::ALL.into_iter().find_map(|kind| Some((kind, self.poll_type(kind, now, source)?)))
    }

    /// When to poll although nothing happens: a push is being held back (D22).
    pub fn deadline(&self) -> Option<Instant> {
        self.watches.deadline()
    }

    /// What was sent and acknowledged of a type; `None` while nothing was asked.
    pub(in crate::xds) fn report(&self, kind: ResourceType) -> Option<Report> {
        self.watches.report(kind)
    }

    fn outcome(
        &mut self,
        kind: ResourceType,
        request: &DiscoveryRequest,
        superseded: bool,
        now: Instant,
    ) -> Outcome {
        let watch = self.watches.of_mut(kind);
        let nonce = request.response_nonce.parse::<u64>().ok();
        // Without a response there is nothing to be stale against; without a nonce it is a new subscription (D26).
        let fresh = !watch.open || request.response_nonce.is_empty();
        // Several responses may be on their way; the client accepts or rejects each of them.
        let awaited = nonce.is_some_and(|nonce| watch.pacing.awaits(nonce));
        if superseded && !awaited {
            return Outcome::Stale;
        }
        let answered = nonce.filter(|nonce| !fresh && watch.pacing.answered(*nonce));
        match (&request.error_detail, answered) {
            (Some(error), answered) => {
                Outcome::Nack { message: watch.pacing.rejected(&error.message), answers: answered.is_some() }
            }
            (None, Some(nonce)) => {
                watch.pacing.accepted(nonce, now);
                Outcome::Ack
            }
            (None, None) => Outcome::Subscribe,
        }
    }

    /// Whether a request with this nonce answers another response than the last.
    fn is_superseded(&self, kind: ResourceType, nonce: &str) -> bool {
        let watch = self.watches.of(kind);
        let last = watch.pacing.last_nonce().filter(|_| watch.open && !nonce.is_empty());
        last.is_some_and(|last| nonce.parse() != Ok(last))
    }

    /// X-S05 to X-S07. `named`: the request names something, if only `*`.
    fn set_wildcard(&mut self, kind: ResourceType, star: bool, named: bool, again: bool) {
        let watch = self.watches.of_mut(kind);
        watch.named |= named;
        let wildcard = star || !watch.named;
        if wildcard && (again || (star && !watch.star)) {
            watch.answer = true;
        }
        if wildcard && !watch.wildcard {
            watch.wildcard = true;
            watch.lists = ListsDue::Push;
        } else if !wildcard && watch.wildcard {
            // A name asked for beside it may still be owed.
            let answer = watch.answer;
            watch.end_wildcard();
            watch.answer = answer;
        }
        watch.star = star;
    }

    fn set_names(&mut self, kind: ResourceType, names: BTreeSet<Name>, again: bool, effects: &mut Effects) {
        if self.watches.of(kind).names.is_empty() {
            self.watches.expect(kind, names.len(), 0);
        }
        let watch = self.watches.of_mut(kind);
        let gone = watch.names.iter().filter(|name| !names.contains(*name));
        let gone: BTreeSet<_> = gone.cloned().collect();
        for name in gone {
            watch.unsubscribe(&name);
            effects.unsubscribed.push((kind, name));
        }
        for name in names {
            let new = !watch.names.contains(&name);
            if new {
                effects.subscribed.push((kind, name.clone()));
            }
            if kind.is_wildcard() {
                watch.answer |= new || again;
                watch.names.insert(name);
            } else if new || again {
                watch.subscribe(&name, Owed::Always);
            }
        }
        if !watch.wildcard && watch.names.is_empty() {
            watch.answer = false;
        }
    }

    fn poll_type(
        &mut self,
        kind: ResourceType,
        now: Instant,
        source: &dyn Source,
    ) -> Option<DiscoveryResponse> {
        if !self.watches.of(kind).open {
            return None;
        }
        let pushes = self.watches.refresh(kind, now, source);
        if kind.is_wildcard() {
            let full = full_set(self.watches.of_mut(kind), kind, pushes, source)?;
            if kind == ResourceType::Cluster {
                self.watches.clusters_written(full.changed.iter());
            }
            return Some(self.response(kind, full.batch, now));
        }
        let batch =
            self.watches.with(kind, Dialect::Sotw, source, |watch, context| watch.drain(context, pushes));
        (!batch.is_empty()).then(|| self.response(kind, batch, now))
    }

    fn response(&mut self, kind: ResourceType, batch: Batch, now: Instant) -> DiscoveryResponse {
        let pairs = batch.resources.iter().map(|(name, encoded)| (name.as_str(), encoded.hash));
        let version_info = version(version_of(pairs));
        let nonce = self.watches.next_nonce();
        self.watches.of_mut(kind).pacing.written(nonce, &version_info, batch.push, now);
        DiscoveryResponse {
            version_info,
            resources: batch.resources.into_iter().map(|(_, encoded)| encoded.any.clone()).collect(),
            type_url: kind.url().to_owned(),
            nonce: nonce.to_string(),
        }
    }
}

/// Every subscribed resource of a type where absence deletes (X-S01).
struct FullSet {
    batch: Batch,
    /// What the client must take as written anew: after a request everything, in a push what differs.
    changed: Vec<Name>,
}

fn full_set(watch: &mut Watch, kind: ResourceType, pushes: bool, source: &dyn Source) -> Option<FullSet> {
    let asked = std::mem::take(&mut watch.answer);
    if !asked && !pushes {
        return None;
    }
    let dirty = watch.take_dirty();
    if !asked && dirty.is_empty() {
        return None;
    }
    let resources: Vec<_> = if watch.wildcard {
        // Of two of one name the first counts (X-C17).
        let mut seen = HashSet::new();
        let lists = watch.held.base().flat_map(|list| list.entries());
        let first = lists.filter(|entry| seen.insert(&entry.name));
        first.map(|entry| (entry.name.clone(), Arc::clone(&entry.encoded))).collect()
    } else {
        let found = watch.names.iter().filter_map(|name| Some((name.clone(), source.get(kind, name)?)));
        let mut found: Vec<_> = found.collect();
        found.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        found
    };
    let news = |name: &Name, hash| watch.held.get(name) != Holding::Content(hash);
    let mut changed: Vec<Name> = Vec::new();
    for (name, encoded) in &resources {
        if asked || news(name, encoded.hash) {
            changed.push(name.clone());
        }
    }
    let gone = |name: &Name| watch.held.get(name) != Holding::Nothing && source.get(kind, name).is_none();
    if !asked && changed.is_empty() && !dirty.iter().any(gone) {
        return None;
    }
    if watch.wildcard {
        watch.held.equals_lists();
    } else {
        for name in &watch.names {
            watch.held.set(name, Holding::Nothing);
        }
        for (name, encoded) in &resources {
            watch.held.set(name, Holding::Content(encoded.hash));
        }
    }
    let batch = Batch::full(resources, !asked);
    Some(FullSet { batch, changed })
}
