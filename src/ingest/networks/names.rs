//! Host names of gateways → addresses (R3.15, R3.16, D8).
//!
//! ```text
//! registry ── which names gateways have ──▶ resolver task ── one lookup per name ──▶ DNS servers
//!     ▲                                        │ table: what is known of each name, when to ask again
//!     └───────────── addresses ────────────────┘
//! ```
//!
//! There is one resolver in a process, however many clusters and gateways share a name. An outage of DNS never
//! takes an address away; a name that DNS says is gone keeps its addresses for five minutes.

mod dns;
mod lookup;
mod resolver;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::model::Hostname;

pub(in crate::ingest) use dns::Dns;
pub(in crate::ingest) use resolver::Resolver;

/// What is known of one host name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NameStatus {
    /// The name.
    pub host: Hostname,
    /// The addresses served for it now.
    pub addresses: Vec<IpAddr>,
    /// Those of them that the last lookup did not bring: their kind of records failed, or is gone and has its grace.
    pub last_good: Vec<IpAddr>,
    /// Age of the last answer that had addresses; `None` before the first one.
    pub age: Option<Duration>,
    /// How long the last answer holds; zero when it is over and being replaced.
    pub ttl_left: Option<Duration>,
    /// When it is asked for again; zero while it is.
    pub next: Duration,
    /// For how long DNS has been saying that there is no such name or no address.
    pub gone_for: Option<Duration>,
    /// What went wrong last; `None` once it works.
    pub last_error: Option<String>,
}

/// Work of the resolver since the start.
#[derive(Debug, Default)]
pub struct NameCounts {
    /// Questions sent to DNS servers.
    pub queries: AtomicU64,
    /// Lookups that brought no answer at all.
    pub failures: AtomicU64,
    /// Times the addresses of a name changed.
    pub changes: AtomicU64,
}

impl NameCounts {
    fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// A row for operators, with the times it is computed from.
#[derive(Clone, Debug)]
struct Row {
    addresses: Vec<IpAddr>,
    last_good: Vec<IpAddr>,
    answered: Option<Instant>,
    expires: Option<Instant>,
    next: Instant,
    gone_since: Option<Instant>,
    asked: bool,
    last_error: Option<String>,
}

/// The host names of gateways, for operators and the start gate.
#[derive(Debug)]
pub struct GatewayNames {
    rows: Mutex<BTreeMap<Hostname, Row>>,
    changed: watch::Sender<()>,
    counts: NameCounts,
}

impl Default for GatewayNames {
    fn default() -> Self {
        Self { rows: Mutex::default(), changed: watch::Sender::new(()), counts: NameCounts::default() }
    }
}

impl GatewayNames {
    /// Every name, in order.
    pub fn all(&self) -> Vec<NameStatus> {
        let now = Instant::now();
        let since = |at: Option<Instant>| at.map(|at| now.saturating_duration_since(at));
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let status = |(host, row): (&Hostname, &Row)| NameStatus {
            host: host.clone(),
            addresses: row.addresses.clone(),
            last_good: row.last_good.clone(),
            age: since(row.answered),
            ttl_left: row.expires.map(|at| at.saturating_duration_since(now)),
            next: row.next.saturating_duration_since(now),
            gone_for: since(row.gone_since),
            last_error: row.last_error.clone(),
        };
        rows.iter().map(status).collect()
    }

    /// Work done so far.
    pub fn counts(&self) -> &NameCounts {
        &self.counts
    }

    /// Waits until each of these names has been asked for once, whatever came of it.
    pub async fn asked(&self, names: impl Fn() -> Vec<Hostname>) {
        let mut changed = self.changed.subscribe();
        loop {
            let open = {
                let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
                names().iter().all(|name| rows.get(name).is_some_and(|row| row.asked))
            };
            if open || changed.changed().await.is_err() {
                return;
            }
        }
    }

    fn set(&self, host: &Hostname, row: Row) {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).insert(host.clone(), row);
        self.changed.send_replace(());
    }

    fn forget(&self, host: &Hostname) {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).remove(host);
        self.changed.send_replace(());
    }
}
