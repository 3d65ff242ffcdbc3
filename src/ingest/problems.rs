//! What operators have to look at besides the table of clusters.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// What it is about: `secret istio-system/name, key west`, `file PATH`, `cluster west`.
    pub subject: String,
    /// What is wrong, and what happens meanwhile.
    pub text: String,
}

/// Present problems, by subject. Each is logged once when it appears or changes.
#[derive(Debug, Default)]
pub struct Problems {
    by_subject: Mutex<BTreeMap<String, String>>,
}

impl Problems {
    /// All of them, by subject.
    pub fn all(&self) -> Vec<Problem> {
        let problems = self.by_subject.lock().unwrap_or_else(PoisonError::into_inner);
        let all =
            problems.iter().map(|(subject, text)| Problem { subject: subject.clone(), text: text.clone() });
        all.collect()
    }

    pub(crate) fn set(&self, subject: impl Into<String>, text: impl Into<String>) {
        let (subject, text) = (subject.into(), text.into());
        let mut problems = self.by_subject.lock().unwrap_or_else(PoisonError::into_inner);
        if problems.get(&subject) != Some(&text) {
            tracing::warn!(subject, problem = text, "problem");
            problems.insert(subject, text);
        }
    }

    /// Sets it, or clears it where there is nothing to say.
    pub(super) fn tell(&self, subject: impl Into<String>, text: Option<String>) {
        let subject = subject.into();
        match text {
            Some(text) => self.set(subject, text),
            None => self.clear(&subject),
        }
    }

    pub(super) fn clear(&self, subject: &str) {
        let mut problems = self.by_subject.lock().unwrap_or_else(PoisonError::into_inner);
        if problems.remove(subject).is_some() {
            tracing::info!(subject, "problem solved");
        }
    }

    /// Keeps those that are about something else, or still there.
    pub(super) fn clear_unless(&self, keep: impl Fn(&str) -> bool) {
        let mut problems = self.by_subject.lock().unwrap_or_else(PoisonError::into_inner);
        problems.retain(|subject, _| keep(subject));
    }
}
