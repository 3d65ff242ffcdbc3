//! Which workloads a policy is about.

use serde::Serialize;

use crate::model::Labels;

/// Labels that a workload must have, all of them. Without any it selects every workload of its scope.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct WorkloadSelector(Labels);

impl WorkloadSelector {
    /// Selects workloads with all these labels.
    pub fn new(labels: Labels) -> Self {
        Self(labels)
    }

    /// Whether it selects every workload of its scope.
    pub fn is_everything(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a workload with these labels is selected. `label` looks one up.
    pub fn selects<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.0.iter().all(|(key, value)| label(key) == Some(value.as_str()))
    }

    /// The labels.
    pub fn labels(&self) -> &Labels {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_label_must_be_there_and_none_selects_all() {
        let labels = [("app".into(), "a".into()), ("v".into(), "1".into())].into_iter().collect();
        let selector = WorkloadSelector::new(labels);
        let of = |pairs: &'static [(&str, &str)]| {
            selector.selects(|key| pairs.iter().find(|(label, _)| *label == key).map(|(_, value)| *value))
        };
        assert!(of(&[("app", "a"), ("v", "1"), ("x", "y")]));
        assert!(!of(&[("app", "a"), ("v", "2")]) && !of(&[("app", "a")]));
        assert!(WorkloadSelector::default().selects(|_| None));
    }
}
