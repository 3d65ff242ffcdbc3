//! The record of a running scenario: observations come from many tasks, rows and sums are read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::super::LabError;
use super::super::timeline::{Observation, Requests, Row, Timeline};
use super::super::wait::until;

/// Everything observed since the scenario began.
#[derive(Debug)]
pub(super) struct Record {
    start: Instant,
    timeline: Mutex<Timeline>,
    violations: Mutex<BTreeSet<String>>,
}

impl Record {
    pub(super) fn new() -> Self {
        Self { start: Instant::now(), timeline: Mutex::default(), violations: Mutex::default() }
    }

    fn timeline(&self) -> MutexGuard<'_, Timeline> {
        self.timeline.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes an observation of now.
    pub(super) fn note(&self, observation: Observation) {
        let mut timeline = self.timeline();
        // Within the lock, so that time does not go backwards.
        timeline.note(self.start.elapsed(), observation);
    }

    /// Notes a host that must never be there.
    pub(super) fn violation(&self, what: String) {
        self.violations.lock().unwrap_or_else(PoisonError::into_inner).insert(what);
    }

    /// All of those.
    pub(super) fn violations(&self) -> Vec<String> {
        self.violations.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// The rows of seconds that are over, from the `sent`-th on.
    pub(super) fn closed(&self, sent: usize) -> Vec<Row> {
        let mut timeline = self.timeline();
        timeline.reach(self.start.elapsed());
        let rows = timeline.rows();
        rows.get(sent..rows.len().saturating_sub(1)).unwrap_or_default().to_vec()
    }

    /// All rows.
    pub(super) fn rows(&self) -> Vec<Row> {
        self.timeline().rows().to_vec()
    }

    /// The latest row; empty before anything was observed.
    pub(super) fn latest(&self) -> Row {
        self.timeline().rows().last().cloned().unwrap_or_default()
    }

    /// What each client's requests came to so far.
    pub(super) fn totals(&self) -> BTreeMap<String, Requests> {
        self.timeline().totals()
    }

    /// Waits until every one of `clients` got `count` more good answers.
    ///
    /// # Errors
    /// [`LabError::Deadline`].
    pub(super) async fn answered(
        &self,
        clients: &[String],
        count: u64,
        limit: Duration,
    ) -> Result<(), LabError> {
        let before = self.totals();
        self.until_totals(&format!("{count} more answers to every client"), limit, |totals| {
            let ok = |of: &BTreeMap<String, Requests>, name: &String| of.get(name).map_or(0, |r| r.ok);
            clients.iter().all(|name| ok(totals, name) >= ok(&before, name) + count)
        })
        .await
    }

    /// Waits until every one of `clients` got another good answer by one of `whom` (`version/cluster`).
    ///
    /// # Errors
    /// [`LabError::Deadline`].
    pub(super) async fn answered_by(
        &self,
        clients: &[String],
        whom: &[String],
        limit: Duration,
    ) -> Result<(), LabError> {
        let before = self.totals();
        let by = |of: &BTreeMap<String, Requests>, name: &String| -> u64 {
            let counts = of.get(name).map(|requests| &requests.by);
            whom.iter().filter_map(|who| counts?.get(who)).sum()
        };
        let what = format!("an answer by {} to {}", whom.join(" or "), clients.join(", "));
        self.until_totals(&what, limit, |totals| {
            clients.iter().all(|name| by(totals, name) > by(&before, name))
        })
        .await
    }

    async fn until_totals(
        &self,
        what: &str,
        limit: Duration,
        enough: impl Fn(&BTreeMap<String, Requests>) -> bool,
    ) -> Result<(), LabError> {
        until(what, limit, async || {
            let totals = self.totals();
            if enough(&totals) { Ok(()) } else { Err(summary(&totals)) }
        })
        .await
    }
}

/// `east 812 ok, 0 failed (v1/east 410, v2/west 402); …`.
pub(super) fn summary(totals: &BTreeMap<String, Requests>) -> String {
    let counts = |counts: &BTreeMap<String, u64>| {
        counts.iter().map(|(what, count)| format!("{what} {count}")).collect::<Vec<_>>().join(", ")
    };
    let one = |(name, requests): (&String, &Requests)| {
        let errors = counts(&requests.errors);
        let errors = if errors.is_empty() { errors } else { format!(": {errors}") };
        let by = counts(&requests.by);
        format!("{name} {} ok ({by}), {} failed{errors}", requests.ok, requests.failed)
    };
    if totals.is_empty() {
        return "no request yet".to_owned();
    }
    totals.iter().map(one).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(client: &str, by: &str, ok: u64) -> Observation {
        let requests = Requests { ok, by: [(by.to_owned(), ok)].into(), ..Requests::default() };
        Observation::Requests(client.to_owned(), requests)
    }

    #[tokio::test(start_paused = true)]
    async fn waits_for_every_client() {
        let record = Record::new();
        let clients = ["east".to_owned(), "west".to_owned()];
        record.note(answered("east", "v1/east", 5));
        let waiting = record.answered(&clients, 3, Duration::from_secs(1));
        let feeding = async {
            record.note(answered("east", "v1/east", 3));
            tokio::time::sleep(Duration::from_millis(100)).await;
            record.note(answered("west", "v1/east", 3));
        };
        let (waited, ()) = tokio::join!(waiting, feeding);
        waited.unwrap();
        let error =
            record.answered_by(&clients, &["v2/west".to_owned()], Duration::from_secs(1)).await.unwrap_err();
        assert!(error.to_string().contains("east 8 ok (v1/east 8), 0 failed"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn rows_are_sent_once_their_second_is_over() {
        let record = Record::new();
        record.note(Observation::Done("first".to_owned()));
        assert!(record.closed(0).is_empty());
        tokio::time::sleep(Duration::from_millis(2100)).await;
        assert_eq!(record.closed(0).len(), 2);
        assert_eq!(record.closed(1).len(), 1);
        assert_eq!(record.rows().len(), 3);
    }
}
