//! The types of one stream together: changes in, order and pacing across types, nonces.

use std::collections::BTreeSet;
use std::time::Instant;

use xxhash_rust::xxh3::Xxh3;

use super::held::Holding;
use super::pacing::Pace;
use super::watch::{Context, Dialect, Owed, Watch};
use super::{Effects, Outcome, SessionError, SessionLimits, Source};
use crate::model::Name;
use crate::xds::resource::ResourceType;
use crate::xds::status::Report;

/// Names that room is made for at once.
const USUAL_NAMES: usize = 4096;

/// Everything both protocols keep of a stream.
#[derive(Debug)]
pub(super) struct Watches {
    pub(super) limits: SessionLimits,
    pub(super) pace: Pace,
    by_type: [Watch; ResourceType::ALL.len()],
    nonce: u64,
    unknown: BTreeSet<String>,
    /// Envoy clusters written before the first request for assignments (D21).
    unasked: BTreeSet<Name>,
}

impl Watches {
    pub(super) fn new(limits: SessionLimits) -> Self {
        Self {
            limits,
            pace: Pace::default(),
            by_type: Default::default(),
            nonce: 0,
            unknown: BTreeSet::new(),
            unasked: BTreeSet::new(),
        }
    }

    pub(super) fn of(&self, kind: ResourceType) -> &Watch {
        &self.by_type[kind as usize]
    }

    pub(super) fn of_mut(&mut self, kind: ResourceType) -> &mut Watch {
        &mut self.by_type[kind as usize]
    }

    /// Notes a type URL that is not served.
    pub(super) fn unknown(&mut self, url: &str) -> Effects {
        let room = self.unknown.len() < self.limits.unknown_types;
        let new = room && self.unknown.insert(url.to_owned());
        Effects { outcome: Outcome::Unknown { url: url.to_owned(), new }, ..Effects::default() }
    }

    /// Refuses more names of a type, or longer ones in all, than the limits.
    pub(super) fn check_names(
        &self,
        kind: ResourceType,
        count: usize,
        bytes: usize,
    ) -> Result<(), SessionError> {
        let (names, limit) = (self.limits.names_per_type, self.limits.bytes_per_type);
        if count > names {
            return Err(SessionError::TooManyNames { kind, limit: names });
        }
        if bytes > limit {
            return Err(SessionError::TooManyBytes { kind, limit });
        }
        Ok(())
    }

    /// Makes room for the names of a first request, of which the client holds some. Only for as many as proxies usually
    /// have: a client may say one name as often as it likes.
    pub(super) fn expect(&mut self, kind: ResourceType, names: usize, held: usize) {
        if !kind.is_wildcard() {
            let names = names.min(USUAL_NAMES);
            self.of_mut(kind).expect(names, held.min(names));
        }
    }

    /// Notes the first request of a type; returns the Envoy clusters that wait for their assignment since before.
    pub(super) fn open(&mut self, kind: ResourceType) -> BTreeSet<Name> {
        self.of_mut(kind).open = true;
        match kind {
            ResourceType::Endpoint => std::mem::take(&mut self.unasked),
            _ => BTreeSet::new(),
        }
    }

    pub(super) fn changed(&mut self, kind: ResourceType, name: &Name) {
        self.of_mut(kind).changed(name);
    }

    pub(super) fn list_changed(&mut self, kind: ResourceType) {
        self.of_mut(kind).all_changed();
    }

    pub(super) fn rekeyed(&mut self) {
        self.by_type.iter_mut().for_each(Watch::all_changed);
    }

    /// Brings what is due of `kind` up to date and says whether its pushes may go now (D22, D25).
    pub(super) fn refresh(&mut self, kind: ResourceType, now: Instant, source: &dyn Source) -> bool {
        self.of_mut(kind).refresh(kind, source);
        let behind_clusters = follows_clusters(kind) && self.clusters_held(now);
        !behind_clusters && !self.of(kind).pacing.holds(now, self.pace)
    }

    /// Calls `work` with one type and what its decisions need.
    pub(super) fn with<T>(
        &mut self,
        kind: ResourceType,
        dialect: Dialect,
        source: &dyn Source,
        work: impl FnOnce(&mut Watch, &Context<'_>) -> T,
    ) -> T {
        const { assert!(ResourceType::Cluster as usize == 0) };
        let [clusters, others @ ..] = &mut self.by_type;
        let Some(other) = (kind as usize).checked_sub(1) else {
            // Whether there is one of a name is asked for assignments only.
            return work(clusters, &Context { kind, dialect, source, has_cluster: &|_| true });
        };
        let has_cluster = |name: &str| !clusters.open || clusters.held.get(name) != Holding::Nothing;
        work(&mut others[other], &Context { kind, dialect, source, has_cluster: &has_cluster })
    }

    /// Notes that these Envoy clusters are in a response: Envoy warms them and waits for their assignments
    /// (X-O02, X-O03).
    pub(super) fn clusters_written<'a>(&mut self, names: impl Iterator<Item = &'a Name>) {
        let endpoints = &mut self.by_type[ResourceType::Endpoint as usize];
        for name in names {
            if !endpoints.open {
                self.unasked.insert(name.clone());
            } else if endpoints.names.contains(name) {
                endpoints.owe(name, Owed::Always);
            }
        }
    }

    /// Notes that these Envoy clusters were removed.
    pub(super) fn clusters_removed(&mut self, names: &[Name]) {
        for name in names {
            self.unasked.remove(name);
        }
    }

    /// A nonce never used on this stream (X-C07).
    pub(super) fn next_nonce(&mut self) -> u64 {
        self.nonce += 1;
        self.nonce
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let clusters = self.of(ResourceType::Cluster);
        let clusters_release = clusters.pacing.release(self.pace).filter(|_| clusters.has_pushes());
        let waiting = ResourceType::ALL.into_iter().filter(|kind| self.of(*kind).has_pushes());
        waiting
            .filter_map(|kind| {
                let own = self.of(kind).pacing.release(self.pace);
                own.max(clusters_release.filter(|_| follows_clusters(kind)))
            })
            .min()
    }

    /// What is to be told of a type; `None` while nothing was asked.
    pub(super) fn report(&self, kind: ResourceType) -> Option<Report> {
        let watch = Some(self.of(kind)).filter(|watch| watch.open)?;
        Some(Report {
            subscribed: watch.names.len(),
            wildcard: watch.wildcard,
            kept: watch.kept,
            ..watch.pacing.report()
        })
    }

    fn clusters_held(&self, now: Instant) -> bool {
        let clusters = self.of(ResourceType::Cluster);
        clusters.has_pushes() && clusters.pacing.holds(now, self.pace)
    }
}

/// Whether pushes of this type may name new Envoy clusters.
fn follows_clusters(kind: ResourceType) -> bool {
    matches!(kind, ResourceType::Listener | ResourceType::Route)
}

/// A version over names and contents: equal for equal responses, on every replica.
pub(super) fn version_of<'a>(pairs: impl Iterator<Item = (&'a str, u128)>) -> u128 {
    let mut hasher = Xxh3::new();
    for (name, hash) in pairs {
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
        hasher.update(&hash.to_le_bytes());
    }
    hasher.digest128()
}
