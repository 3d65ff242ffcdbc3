//! What operators are told of ServiceEntries and WorkloadEntries that are not used, or not in full. People write them by
//! hand, and nobody else says what is wrong with them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::ingest::objects::ObjectKind;
use crate::ingest::problems::Problems;
use crate::model::ClusterId;

/// The problems that are told of the entries of one cluster.
pub(super) struct EntryProblems {
    cluster: ClusterId,
    problems: Arc<Problems>,
    told: BTreeSet<String>,
}

impl EntryProblems {
    /// With what whoever served before has told.
    pub(super) fn new(cluster: &ClusterId, problems: &Arc<Problems>) -> Self {
        let kinds = [ObjectKind::ServiceEntry, ObjectKind::WorkloadEntry];
        let prefixes = kinds.map(|kind| format!("cluster {cluster}, {} ", kind.name()));
        let subjects = problems.all().into_iter().map(|problem| problem.subject);
        let told = subjects.filter(|subject| prefixes.iter().any(|prefix| subject.starts_with(&**prefix)));
        Self { cluster: cluster.clone(), told: told.collect(), problems: Arc::clone(problems) }
    }

    /// Tells of these, by `Kind namespace/name`, and of no others any more.
    pub(super) fn update(&mut self, now: BTreeMap<String, String>) {
        let subject = |object: String| format!("cluster {}, {object}", self.cluster);
        let now: BTreeMap<_, _> = now.into_iter().map(|(object, text)| (subject(object), text)).collect();
        self.told.iter().filter(|told| !now.contains_key(*told)).for_each(|gone| self.problems.clear(gone));
        self.told = now.keys().cloned().collect();
        now.into_iter().for_each(|(subject, text)| self.problems.set(subject, text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_told_of_until_it_is_good_also_by_who_comes_after() {
        let problems = Arc::<Problems>::default();
        let subjects = || problems.all().into_iter().map(|problem| problem.subject).collect::<Vec<_>>();
        let told =
            |objects: &[&str]| objects.iter().map(|object| ((*object).to_owned(), "x".to_owned())).collect();
        let mut entries = EntryProblems::new(&"east".into(), &problems);
        problems.set("cluster east, replacement", "another's");
        entries.update(told(&["ServiceEntry a/b", "WorkloadEntry a/c"]));
        assert_eq!(problems.all().len(), 3);
        let mut next = EntryProblems::new(&"east".into(), &problems);
        next.update(told(&["ServiceEntry a/b"]));
        assert_eq!(subjects(), ["cluster east, ServiceEntry a/b", "cluster east, replacement"]);
        EntryProblems::new(&"east".into(), &problems).update(BTreeMap::new());
        assert_eq!(subjects(), ["cluster east, replacement"]);
    }
}
