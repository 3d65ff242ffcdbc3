//! Work done by the xDS server, counted so that tests and metrics can bound it.

use std::sync::atomic::{AtomicU64, Ordering};

use super::resource::ResourceType;
use super::times::Times;
use crate::registry::ChangeSet;
use crate::view::{Decision, Tally};

/// One counter for each resource type.
#[derive(Debug, Default)]
pub struct PerType([AtomicU64; ResourceType::ALL.len()]);

impl PerType {
    /// Counts one.
    pub fn add(&self, kind: ResourceType) {
        self.0[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How many so far.
    pub fn get(&self, kind: ResourceType) -> u64 {
        self.0[kind as usize].load(Ordering::Relaxed)
    }
}

/// Why pushes happened, in istiod's words.
#[derive(Debug, Default)]
pub struct Triggers {
    /// `endpoint`: endpoints of a service, its record untouched.
    pub endpoint: AtomicU64,
    /// `service`: the merged record of a service.
    pub service: AtomicU64,
    /// `networks`: gateways, or where a cluster belongs.
    pub networks: AtomicU64,
    /// `proxy`: what is known of a pod.
    pub proxy: AtomicU64,
    /// `config`: policies.
    pub config: AtomicU64,
}

impl Triggers {
    /// Counts the reasons in a change set, each once.
    pub(super) fn note(&self, changes: &ChangeSet) {
        let endpoint = changes.services.values().any(|change| !change.record);
        let service = changes.services.values().any(|change| change.record);
        let networks = !changes.networks.is_empty() || !changes.clusters.is_empty();
        let reasons = [
            (&self.endpoint, endpoint),
            (&self.service, service),
            (&self.networks, networks),
            (&self.proxy, !changes.workloads.is_empty()),
            (&self.config, !changes.policies.is_empty()),
        ];
        reasons.into_iter().filter(|(_, holds)| *holds).for_each(|(counter, _)| Counts::add(counter));
    }

    /// Every reason with its count.
    pub fn all(&self) -> [(&'static str, u64); 5] {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            ("endpoint", read(&self.endpoint)),
            ("service", read(&self.service)),
            ("networks", read(&self.networks)),
            ("proxy", read(&self.proxy)),
            ("config", read(&self.config)),
        ]
    }
}

/// Counters since the server was made.
#[derive(Debug, Default)]
pub struct Counts {
    /// Assignments computed and encoded.
    pub assignment_builds: AtomicU64,
    /// Services turned into Envoy clusters, listeners and virtual hosts, once per key and record change.
    pub service_builds: AtomicU64,
    /// Destinations of VirtualServices that nobody knows, once per build of what leads there: Envoy answers 503.
    pub unknown_destinations: AtomicU64,
    /// Servers of Gateways, or names of them, left out for an older one, once per build of a router's listeners.
    pub gateway_conflicts: AtomicU64,
    /// Server names and blocks of destinations left out because an older service leads them elsewhere, once per build
    /// of the lists.
    pub chain_conflicts: AtomicU64,
    /// Lists of a wildcard type put together, once per key and change.
    pub list_builds: AtomicU64,
    /// Route configurations put together.
    pub route_builds: AtomicU64,
    /// Builds that gave the bytes that were there before.
    pub unchanged_builds: AtomicU64,
    /// Assignments of streams whose projection was looked for again.
    pub rekeys: AtomicU64,
    /// Endpoints by what became of them, over the assignments that somebody watches.
    pub decided: Decided,
    /// Reasons of the change sets that were worked off; one set may have several.
    pub triggers: Triggers,
    /// Pushes: change sets that were worked off.
    pub rounds: AtomicU64,
    /// Streams woken.
    pub wakeups: AtomicU64,
    /// Requests for a private key that were refused (Z-22) or could not be answered.
    pub secrets_withheld: AtomicU64,
    /// Streams refused or ended for a bad request.
    pub refused_streams: AtomicU64,
    /// What became of connections.
    pub connections: Connections,
    /// Responses written, by type.
    pub responses: PerType,
    /// Responses rejected by proxies, by type.
    pub rejects: PerType,
    /// Requests with an expired nonce, by type.
    pub expired_nonces: PerType,
    /// Bytes of resources written, by type.
    pub bytes: PerTypeBytes,
    /// Bytes of resources in the largest response, by type (X-F06).
    pub largest: PerTypeBytes,
    /// Bytes of the largest request.
    pub largest_request: AtomicU64,
    /// Streams and pushes that ended in a panic (Z-45).
    pub internal_errors: AtomicU64,
    /// How long all of that takes.
    pub times: Times,
}

/// What became of connections.
#[derive(Debug, Default)]
pub struct Connections {
    /// Taken from a listener.
    pub accepted: AtomicU64,
    /// Ended, for whatever reason; those before minus these are open.
    pub closed: AtomicU64,
    /// Closed at once: too many of their source address without a served stream (Z-33).
    pub refused: AtomicU64,
    /// Tries to take one that failed, e.g. for want of file descriptors (X-L08).
    pub accept_failed: AtomicU64,
    /// Failed or slow TLS handshakes.
    pub handshakes_failed: AtomicU64,
    /// Closed because nothing was called on them in time (X-L13).
    pub silent: AtomicU64,
    /// Closed at their maximum age (X-L03).
    pub aged: AtomicU64,
    /// Closed because the proxy did not read (X-F03).
    pub stuck: AtomicU64,
    /// Streams refused because too many came at once (X-L06).
    pub not_admitted: AtomicU64,
    /// Streams refused for want of memory (Z-40).
    pub no_memory: AtomicU64,
}

impl Connections {
    /// Every counter with its name.
    pub fn all(&self) -> [(&'static str, u64); 10] {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            ("accepted", read(&self.accepted)),
            ("closed", read(&self.closed)),
            ("refused", read(&self.refused)),
            ("accept_failed", read(&self.accept_failed)),
            ("handshake_failed", read(&self.handshakes_failed)),
            ("silent", read(&self.silent)),
            ("aged", read(&self.aged)),
            ("stuck", read(&self.stuck)),
            ("not_admitted", read(&self.not_admitted)),
            ("no_memory", read(&self.no_memory)),
        ]
    }
}

/// Endpoints by what became of them.
#[derive(Debug)]
pub struct Decided {
    by_decision: [AtomicU64; Decision::ALL.len()],
    empty: AtomicU64,
}

impl Default for Decided {
    fn default() -> Self {
        Self { by_decision: std::array::from_fn(|_| AtomicU64::new(0)), empty: AtomicU64::new(0) }
    }
}

impl Decided {
    /// One assignment's in place of those before.
    pub(super) fn replace(&self, before: Option<&Tally>, after: Option<&Tally>) {
        self.empty.fetch_add(after.is_some_and(is_empty).into(), Ordering::Relaxed);
        self.empty.fetch_sub(before.is_some_and(is_empty).into(), Ordering::Relaxed);
        for (decision, count) in after.iter().flat_map(|tally| tally.counts()) {
            self.by_decision[decision as usize].fetch_add(count.into(), Ordering::Relaxed);
        }
        for (decision, count) in before.iter().flat_map(|tally| tally.counts()) {
            self.by_decision[decision as usize].fetch_sub(count.into(), Ordering::Relaxed);
        }
    }

    /// Every decision with its count.
    pub fn all(&self) -> impl Iterator<Item = (Decision, u64)> + '_ {
        let read = |decision: &Decision| self.by_decision[*decision as usize].load(Ordering::Relaxed);
        Decision::ALL.iter().map(move |decision| (*decision, read(decision)))
    }

    /// Assignments of which the proxies reach no endpoint, for whatever reason.
    pub fn empty(&self) -> u64 {
        self.empty.load(Ordering::Relaxed)
    }
}

fn is_empty(tally: &Tally) -> bool {
    tally.counts().all(|(decision, count)| decision.hides() || count == 0)
}

/// Bytes by type.
#[derive(Debug, Default)]
pub struct PerTypeBytes([AtomicU64; ResourceType::ALL.len()]);

impl PerTypeBytes {
    /// Adds `bytes`.
    pub fn add(&self, kind: ResourceType, bytes: usize) {
        self.0[kind as usize].fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Notes `bytes` if they are the most so far.
    pub(super) fn raise(&self, kind: ResourceType, bytes: usize) {
        Counts::raise(&self.0[kind as usize], bytes);
    }

    /// How many so far.
    pub fn get(&self, kind: ResourceType) -> u64 {
        self.0[kind as usize].load(Ordering::Relaxed)
    }
}

impl Counts {
    pub(super) fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes `value` if it is the most so far.
    pub(super) fn raise(most: &AtomicU64, value: usize) {
        // Read first: the largest is there soon, and a write would move the line between processors.
        if most.load(Ordering::Relaxed) < value as u64 {
            most.fetch_max(value as u64, Ordering::Relaxed);
        }
    }
}
