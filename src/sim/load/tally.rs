//! Counting outcomes.

use std::collections::BTreeMap;

use serde::Serialize;

/// Distinct failure texts counted apart; further ones count as `other`.
const MAX_ERRORS: usize = 64;

/// What became of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A whole answer arrived.
    Answered {
        /// HTTP status.
        status: u16,
        /// `x-app-version`, `-` without one.
        version: String,
        /// `x-app-cluster`, `-` without one.
        cluster: String,
    },
    /// No whole answer: the reason.
    Failed(String),
}

/// Counts of outcomes. An answer below 400 is `ok`, everything else `failed`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Good answers.
    pub ok: u64,
    /// Bad answers and requests without one.
    pub failed: u64,
    /// Good answers by `version/cluster`.
    pub by: BTreeMap<String, u64>,
    /// Answers by HTTP status.
    pub status: BTreeMap<u16, u64>,
    /// Failures by reason; a bad answer counts as `status N`.
    pub errors: BTreeMap<String, u64>,
}

/// A tally and when it was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Milliseconds since the load began.
    pub t_ms: u64,
    /// The counts.
    #[serde(flatten)]
    pub tally: Tally,
}

impl Report {
    pub(super) fn new(t_ms: u64, tally: Tally) -> Self {
        Self { t_ms, tally }
    }
}

impl Tally {
    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.ok == 0 && self.failed == 0
    }

    pub(super) fn count(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Answered { status, version, cluster } => {
                *self.status.entry(*status).or_default() += 1;
                if *status < 400 {
                    self.ok += 1;
                    *self.by.entry(format!("{version}/{cluster}")).or_default() += 1;
                } else {
                    self.fail(&format!("status {status}"));
                }
            }
            Outcome::Failed(reason) => self.fail(reason),
        }
    }

    fn fail(&mut self, reason: &str) {
        self.failed += 1;
        let known = self.errors.contains_key(reason) || self.errors.len() < MAX_ERRORS;
        let reason = if known { reason } else { "other" };
        *self.errors.entry(reason.to_owned()).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_counted_by_who_answered_and_why_not() {
        let mut tally = Tally::default();
        let answered = |status, version: &str| Outcome::Answered {
            status,
            version: version.into(),
            cluster: "east".into(),
        };
        for outcome in [
            answered(200, "v1"),
            answered(200, "v1"),
            answered(200, "v2"),
            answered(503, "-"),
            Outcome::Failed("timeout".into()),
        ] {
            tally.count(&outcome);
        }
        let report = serde_json::to_value(Report::new(5, tally)).unwrap();
        assert_eq!(
            report,
            serde_json::json!({
                "t_ms": 5, "ok": 3, "failed": 2, "by": {"v1/east": 2, "v2/east": 1},
                "status": {"200": 3, "503": 1}, "errors": {"status 503": 1, "timeout": 1},
            })
        );
    }

    #[test]
    fn the_number_of_reasons_is_bounded() {
        let mut tally = Tally::default();
        for number in 0..1000 {
            tally.count(&Outcome::Failed(format!("reason {number}")));
        }
        assert_eq!(tally.errors.len(), MAX_ERRORS + 1);
        assert_eq!(tally.errors["other"], 1000 - MAX_ERRORS as u64);
    }
}
