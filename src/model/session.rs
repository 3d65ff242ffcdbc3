//! Sticky sessions.

use super::{Labels, Name};

/// The labels that mark a Service with sticky sessions (R4.9, R5.13). Either will do (Q10).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionLabels {
    /// By cookie: `PILOT_PERSISTENT_SESSION_LABEL`.
    pub cookie: Name,
    /// By header: `PILOT_PERSISTENT_SESSION_HEADER_LABEL`.
    pub header: Name,
}

impl SessionLabels {
    /// Whether a Service with these labels keeps the sessions of endpoints that leave.
    pub fn mark(&self, labels: &Labels) -> bool {
        [&self.cookie, &self.header]
            .into_iter()
            .any(|name| labels.get(name).is_some_and(|value| !value.is_empty()))
    }
}

impl Default for SessionLabels {
    fn default() -> Self {
        Self {
            cookie: "istio.io/persistent-session".into(),
            header: "istio.io/persistent-session-header".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r4_9_either_label_marks_if_it_has_a_value() {
        let labels = |name: &str, value: &str| Labels::from_iter([(Name::from(name), Name::from(value))]);
        let usual = SessionLabels::default();
        assert!(usual.mark(&labels("istio.io/persistent-session", "x")));
        assert!(usual.mark(&labels("istio.io/persistent-session-header", "x")));
        assert!(!usual.mark(&labels("istio.io/persistent-session", "")) && !usual.mark(&Labels::default()));
        let other = SessionLabels { cookie: "my/session".into(), ..SessionLabels::default() };
        assert!(other.mark(&labels("my/session", "x")));
        assert!(!other.mark(&labels("istio.io/persistent-session", "x")));
    }
}
