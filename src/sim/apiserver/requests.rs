//! What was asked of the server: a bounded log, and counts per verb and resource.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::route::Verb;

/// Requests kept in the log.
const KEPT: usize = 1000;

/// One answered request. Headers and bodies are not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestRecord {
    /// HTTP method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// HTTP status of the answer.
    pub status: u16,
    /// `User-Agent`, if sent.
    pub agent: Option<String>,
}

/// Counts of answered requests by (verb, resource), e.g. `("watch", "pods")`.
pub type RequestCounts = BTreeMap<(&'static str, String), u64>;

#[derive(Debug, Default)]
pub(super) struct RequestLog {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    records: VecDeque<RequestRecord>,
    counts: RequestCounts,
}

impl RequestLog {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn record(
        &self,
        method: &str,
        asked: Option<(Verb, String)>,
        path: &str,
        status: u16,
        agent: Option<&str>,
    ) {
        tracing::debug!(method, path, status, agent, "request answered");
        let mut inner = self.lock();
        if let Some((verb, resource)) = asked {
            *inner.counts.entry((verb.name(), resource)).or_default() += 1;
        }
        if inner.records.len() == KEPT {
            inner.records.pop_front();
        }
        inner.records.push_back(RequestRecord {
            method: method.to_owned(),
            path: path.to_owned(),
            status,
            agent: agent.map(str::to_owned),
        });
    }

    pub(super) fn records(&self) -> Vec<RequestRecord> {
        self.lock().records.iter().cloned().collect()
    }

    pub(super) fn counts(&self) -> RequestCounts {
        self.lock().counts.clone()
    }
}
