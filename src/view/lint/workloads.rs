//! What selectors may select, by label.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::model::{Labels, Name, Workload, WorkloadProfile};

/// The workloads that are known, as far as selectors tell them apart: pods, what stands behind services, connected
/// proxies. Workloads of one namespace with equal labels are one.
#[derive(Debug, Default)]
pub struct Workloads {
    sets: Vec<(Name, Labels)>,
    known: HashSet<(Name, Labels)>,
    /// Profiles that were looked at; they are held, so that no other one comes to lie in their place.
    profiles: HashMap<*const WorkloadProfile, Arc<WorkloadProfile>>,
    by_label: HashMap<Name, HashMap<Name, Vec<usize>>>,
    namespaces: BTreeSet<Name>,
}

impl Workloads {
    /// Adds one. Cost ∝ its labels, the first time that its profile is seen.
    pub fn add(&mut self, workload: &Workload) {
        if workload.namespace.is_empty() || self.profiles.contains_key(&Arc::as_ptr(&workload.profile)) {
            return;
        }
        self.profiles.insert(Arc::as_ptr(&workload.profile), Arc::clone(&workload.profile));
        self.add_labels(&workload.namespace, &workload.own_labels);
    }

    /// Adds one of a namespace with these labels.
    pub fn add_labels(&mut self, namespace: &Name, labels: &Labels) {
        if !self.known.insert((namespace.clone(), labels.clone())) {
            return;
        }
        let index = self.sets.len();
        self.sets.push((namespace.clone(), labels.clone()));
        self.namespaces.insert(namespace.clone());
        for (label, value) in labels.iter() {
            self.by_label.entry(label.clone()).or_default().entry(value.clone()).or_default().push(index);
        }
    }

    /// Whether anything is known to run in a namespace.
    pub(super) fn runs_in(&self, namespace: &str) -> bool {
        self.namespaces.contains(namespace)
    }

    /// The sets of labels with all of these, in one namespace if one is named. Cost ∝ those with the rarest of them.
    pub(super) fn with<'a>(
        &'a self,
        namespace: Option<&'a str>,
        wanted: &'a Labels,
    ) -> impl Iterator<Item = (usize, &'a Name)> {
        let lists = wanted.iter().map(|(label, value)| self.having(label, value));
        let rarest = lists.min_by_key(|list| list.len());
        let all = rarest.is_none().then_some(0..self.sets.len()).into_iter().flatten();
        let fits = move |index: &usize| {
            let (own, labels) = &self.sets[*index];
            namespace.is_none_or(|namespace| own.as_str() == namespace)
                && wanted.iter().all(|(label, value)| labels.get(label) == Some(value))
        };
        let named = rarest.unwrap_or_default().iter().copied().chain(all);
        named.filter(fits).map(|index| (index, &self.sets[index].0))
    }

    /// Whether anything has all of these labels.
    pub(super) fn any(&self, namespace: Option<&str>, wanted: &Labels) -> bool {
        self.with(namespace, wanted).next().is_some()
    }

    /// Whether something of a namespace has a label, whatever its value is.
    pub(super) fn any_labelled(&self, namespace: &str, label: &str) -> bool {
        let lists = self.by_label.get(label).into_iter().flat_map(HashMap::values);
        lists.flatten().any(|index| self.sets[*index].0.as_str() == namespace)
    }

    /// The first of these labels that nothing has by itself.
    pub(super) fn missing<'a>(
        &self,
        namespace: Option<&str>,
        wanted: &'a Labels,
    ) -> Option<(&'a Name, &'a Name)> {
        let here =
            |index: &usize| namespace.is_none_or(|namespace| self.sets[*index].0.as_str() == namespace);
        wanted.iter().find(|(label, value)| !self.having(label, value).iter().any(here))
    }

    fn having(&self, label: &str, value: &str) -> &[usize] {
        self.by_label.get(label).and_then(|values| values.get(value)).map_or(&[], Vec::as_slice)
    }
}
