//! The incremental protocol.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::pacing::Pace;
use super::watch::{Batch, Dialect, ListsDue, Owed};
use super::watches::{Watches, version_of};
use super::{Effects, Outcome, SessionError, SessionLimits, Source};
use crate::model::Name;
use crate::proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use crate::xds::resource::{ResourceType, version};
use crate::xds::status::Report;

/// The name that subscribes to everything.
const STAR: &str = "*";

/// One stream of the incremental protocol.
#[derive(Debug)]
pub struct DeltaSession {
    watches: Watches,
    /// Names last asked of types that are not served, by type URL (X-C06).
    not_found: BTreeMap<String, Vec<String>>,
}

impl DeltaSession {
    /// A stream on which nothing was asked yet.
    pub fn new(limits: SessionLimits) -> Self {
        Self { watches: Watches::new(limits), not_found: BTreeMap::new() }
    }

    /// With its own pace of pushes that are not acknowledged (D22).
    pub fn paced(mut self, pace: Pace) -> Self {
        self.watches.pace = pace;
        self
    }

    /// Takes one request; its node is ignored (X-C03). Names count whatever its nonce (X-D09). After an error
    /// the stream must end.
    pub fn request(&mut self, request: DeltaDiscoveryRequest, now: Instant) -> Result<Effects, SessionError> {
        let limits = self.watches.limits;
        limits.check_url(&request.type_url)?;
        let Some(kind) = ResourceType::from_url(&request.type_url) else {
            return Ok(self.unknown(request));
        };
        limits.check_names(kind, &request.resource_names_subscribe)?;
        limits.check_names(kind, &request.resource_names_unsubscribe)?;
        let first = !self.watches.of(kind).open;
        let mut effects = Effects {
            kind: Some(kind),
            opened: first.then_some(kind),
            outcome: self.outcome(kind, &request, now),
            ..Effects::default()
        };
        let waiting = self.watches.open(kind);
        let inherited = if first { request.initial_resource_versions } else { BTreeMap::new() };
        let subscribe = request.resource_names_subscribe;
        let everything = kind.is_wildcard()
            && ((first && subscribe.is_empty()) || subscribe.iter().any(|name| name == STAR));
        if everything {
            self.subscribe_all(kind, first, &inherited);
        }
        if first {
            self.watches.expect(kind, subscribe.len(), inherited.len());
        }
        for name in named(kind, subscribe) {
            self.subscribe(kind, &name, &inherited, &waiting, &mut effects);
        }
        self.unsubscribe(kind, request.resource_names_unsubscribe, &mut effects);
        let watch = self.watches.of(kind);
        self.watches.check_names(kind, watch.names.len(), watch.name_bytes)?;
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

    /// The next message, which must then be written. Call again until `None`: after requests and changes, at
    /// the [`deadline`](Self::deadline), and once when all clusters have synced (D27).
    pub fn poll(
        &mut self,
        now: Instant,
        source: &dyn Source,
    ) -> Option<(ResourceType, DeltaDiscoveryResponse)> {
        ResourceType::ALL.into_iter().find_map(|kind| Some((kind, self.poll_type(kind, now, source)?)))
    }

    /// The next answer about a type that is not served: its names do not exist (X-C06).
    pub fn not_found(&mut self) -> Option<DeltaDiscoveryResponse> {
        let (type_url, removed_resources) = self.not_found.pop_first()?;
        Some(DeltaDiscoveryResponse {
            type_url,
            removed_resources,
            nonce: self.watches.next_nonce().to_string(),
            ..DeltaDiscoveryResponse::default()
        })
    }

    /// When to poll although nothing happens: a push is being held back (D22).
    pub fn deadline(&self) -> Option<Instant> {
        self.watches.deadline()
    }

    /// What was sent and acknowledged of a type; `None` while nothing was asked.
    pub(in crate::xds) fn report(&self, kind: ResourceType) -> Option<Report> {
        self.watches.report(kind)
    }

    fn unknown(&mut self, request: DeltaDiscoveryRequest) -> Effects {
        let effects = self.watches.unknown(&request.type_url);
        let mut names = request.resource_names_subscribe;
        names.retain(|name| name != STAR);
        names.sort_unstable();
        names.dedup();
        let room = self.not_found.len() < self.watches.limits.unknown_types;
        if !names.is_empty() && (room || self.not_found.contains_key(&request.type_url)) {
            self.not_found.insert(request.type_url, names);
        }
        effects
    }

    fn outcome(&mut self, kind: ResourceType, request: &DeltaDiscoveryRequest, now: Instant) -> Outcome {
        let watch = self.watches.of_mut(kind);
        let nonce = request.response_nonce.parse().ok();
        let outstanding = nonce.filter(|nonce| watch.pacing.answered(*nonce));
        let changes =
            !request.resource_names_subscribe.is_empty() || !request.resource_names_unsubscribe.is_empty();
        match (&request.error_detail, outstanding) {
            (Some(error), answered) if answered.is_some() || !watch.open => {
                Outcome::Nack { message: watch.pacing.rejected(&error.message), answers: answered.is_some() }
            }
            (Some(_), _) => Outcome::Stale,
            (None, Some(nonce)) => {
                watch.pacing.accepted(nonce, now);
                Outcome::Ack
            }
            (None, None) if changes || !watch.open || request.response_nonce.is_empty() => Outcome::Subscribe,
            (None, None) => Outcome::Stale,
        }
    }

    fn subscribe_all(&mut self, kind: ResourceType, first: bool, inherited: &BTreeMap<String, String>) {
        let limit = self.watches.limits.names_per_type;
        let watch = self.watches.of_mut(kind);
        watch.wildcard = true;
        watch.answer = true;
        watch.lists = if first { ListsDue::Answer } else { ListsDue::Everything };
        for (name, version) in inherited.iter().take(limit) {
            let name = Name::interned(name);
            watch.inherit(&name, version);
            watch.owe(&name, Owed::Differing);
        }
    }

    fn subscribe(
        &mut self,
        kind: ResourceType,
        name: &Name,
        inherited: &BTreeMap<String, String>,
        waiting: &BTreeSet<Name>,
        effects: &mut Effects,
    ) {
        let watch = self.watches.of_mut(kind);
        let owed = match inherited.get(name.as_str()) {
            Some(version) => {
                watch.inherit(name, version);
                if waiting.contains(name) { Owed::Always } else { Owed::Differing }
            }
            None => Owed::Always,
        };
        if watch.subscribe(name, owed) {
            effects.subscribed.push((kind, name.clone()));
        }
    }

    fn unsubscribe(&mut self, kind: ResourceType, names: Vec<String>, effects: &mut Effects) {
        let watch = self.watches.of_mut(kind);
        if kind.is_wildcard() && watch.wildcard && names.iter().any(|name| name == STAR) {
            watch.end_wildcard();
        }
        for name in named(kind, names) {
            if watch.unsubscribe(&name) {
                effects.unsubscribed.push((kind, name.clone()));
            }
            if watch.wildcard {
                // It still matches the wildcard, so the client must be told what it is (X-D05).
                watch.owe(&name, Owed::Always);
            }
        }
    }

    fn poll_type(
        &mut self,
        kind: ResourceType,
        now: Instant,
        source: &dyn Source,
    ) -> Option<DeltaDiscoveryResponse> {
        if !self.watches.of(kind).open {
            return None;
        }
        let pushes = self.watches.refresh(kind, now, source);
        let (batch, answer) = self.watches.with(kind, Dialect::Delta, source, |watch, context| {
            let batch = watch.drain(context, pushes);
            (batch, std::mem::take(&mut watch.answer))
        });
        if batch.is_empty() && !answer {
            return None;
        }
        if kind == ResourceType::Cluster {
            self.watches.clusters_written(batch.resources.iter().map(|(name, _)| name));
            self.watches.clusters_removed(&batch.removed);
        }
        Some(self.response(kind, batch, now))
    }

    fn response(&mut self, kind: ResourceType, batch: Batch, now: Instant) -> DeltaDiscoveryResponse {
        let sent = batch.resources.iter().map(|(name, encoded)| (name.as_str(), encoded.hash));
        let removed = batch.removed.iter().map(|name| (name.as_str(), 0));
        let version = version(version_of(sent.chain(removed)));
        let nonce = self.watches.next_nonce();
        self.watches.of_mut(kind).pacing.written(nonce, &version, batch.push, now);
        DeltaDiscoveryResponse {
            system_version_info: version,
            resources: batch.resources.into_iter().map(|(_, encoded)| encoded.delta.clone()).collect(),
            type_url: kind.url().to_owned(),
            nonce: nonce.to_string(),
            removed_resources: batch.removed.iter().map(|name| name.to_string()).collect(),
        }
    }
}

/// The names in a request that are names of resources.
fn named(kind: ResourceType, names: Vec<String>) -> impl Iterator<Item = Name> {
    let names = names.into_iter().filter(move |name| !(kind.is_wildcard() && name == STAR));
    names.map(|name| Name::interned(&name))
}
