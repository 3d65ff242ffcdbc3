//! Pods: what changes them, and what they change.

use std::sync::Arc;

use super::Staging;
use super::held::{Door, Scope, packed};
use super::pod_table::{PodId, PodTable};
use crate::ingest::convert::{self, Pod, PodLookup};
use crate::ingest::counts::Counts;
use crate::ingest::objects::{ObjectKey, ObjectKind, PodObject};
use crate::ingest::watch::SourceEvent;
use crate::model::{Name, ServiceKey, Set, Workload, WorkloadCell, WorkloadId, WorkloadProfile};

impl Staging {
    pub(super) fn apply_pod(&mut self, scope: Scope, event: SourceEvent<PodObject>) {
        let event = packed(event, |object| self.pods.pack(object));
        let (kind, guard, now) = (ObjectKind::Pod, self.guard, self.waits.now());
        let weigh = |_: &ObjectKey, _: &Pod| 1;
        let of = scope.clone();
        let door = Door { kind, scope, guard, now, weigh, quarantine: &mut self.quarantine };
        let mut changes = self.pod_gate.apply(event, &mut self.pods, door);
        if changes.allowed {
            self.touch_services_in(&of);
        }
        loop {
            self.note(kind, changes, Self::pod_changed);
            match self.pod_gate.go_on(&mut self.pods, kind, &mut self.quarantine) {
                Some(more) => changes = more,
                None => return,
            }
        }
    }

    fn pod_changed(&mut self, key: ObjectKey, old: Option<Pod>) {
        let Some(id) = self.pods.find(&key) else {
            return;
        };
        let new = self.pods.pod(id);
        if new.is_none() {
            // Its place goes with it, unless something still speaks of it.
            self.touch_pod(id);
        }
        if old.as_ref().is_some_and(|old| new.as_ref().is_none_or(|new| new.node != old.node)) {
            // Another node is waited for anew.
            self.waits.end(id);
        }
        let before = old.as_ref().map(Pod::lent).unwrap_or_default();
        let after = new.as_ref().map(Pod::lent).unwrap_or_default();
        let differ = before.iter().filter(|address| !after.contains(address));
        for address in differ.chain(after.iter().filter(|address| !before.contains(address))) {
            self.dirty.services.extend(self.references.borrowers(&key.namespace, *address));
        }
        if before != after {
            // Only ready Pods are selected by ServiceEntries (R5.17).
            for pod in old.iter().chain(&new) {
                self.touch_selecting(&key.namespace, &pod.labels);
            }
        }
        if !after.is_empty() && self.compat.ready(id) {
            self.touch_services(id);
        }
        self.convert(id, new);
    }

    /// Whether pods can be read there is another thing now: what is served without them depends on it (D9).
    pub(super) fn touch_services_in(&mut self, scope: &Scope) {
        let within = |key: &&ObjectKey| scope.as_ref().is_none_or(|scope| key.namespace == *scope);
        self.dirty.services.extend(self.references.services().filter(within).cloned());
    }

    /// R5.11 and Q20: pods that run on it move with it.
    pub(super) fn convert_pods_on(&mut self, node: &Name) {
        for pod in self.pods.on_node(node) {
            self.convert_pod(pod);
        }
    }

    /// Converts every pod again.
    pub(super) fn convert_pods(&mut self) {
        self.last_profile = None;
        for pod in self.pods.ids().collect::<Vec<_>>() {
            self.convert_pod(pod);
        }
    }

    /// Converts one pod; when it differs, itself and the services whose slices name it are touched.
    pub(super) fn convert_pod(&mut self, id: PodId) {
        self.convert(id, self.pods.pod(id));
    }

    fn convert(&mut self, id: PodId, pod: Option<Pod>) {
        let pod = pod.filter(|pod| !pod.failed);
        let Some(locality) = self.locality(id, pod.as_ref().map(|pod| &pod.node)) else {
            return self.wait_for_node(id);
        };
        let key = self.pods.key(id);
        let converted = pod.map(|pod| {
            Counts::add(&self.counts.pod_conversions, 1);
            let profile = self.profile(&key.namespace, &pod);
            let mut workload = convert::pod_workload(&key, &pod, locality.as_ref(), &profile);
            if !Arc::ptr_eq(&workload.profile, &profile) {
                self.profiles.unify(&mut workload.profile);
            }
            self.places.unify(&mut workload.place);
            workload
        });
        if self.pods.workload(id).map(|old| &**old) == converted.as_ref() {
            // Whatever else differs is not seen; how it is kept may depend on it.
            let same = self.pods.workload(id).cloned();
            return self.pods.set_workload(id, same);
        }
        for address in self.pods.lent_by(id) {
            self.dirty.services.extend(self.references.borrowers(&key.namespace, *address));
        }
        self.touch_pod(id);
        let before = self.pods.workload(id).map(|workload| workload.own_labels.clone());
        for labels in before.iter().chain(converted.as_ref().map(|workload| &workload.own_labels)) {
            self.touch_selecting(&key.namespace, labels);
        }
        self.pods.set_workload(id, converted.map(Arc::new));
        self.touch_services(id);
    }

    /// What the pod shares with those of its shape. Lists tell the pods of a deployment one after the other.
    fn profile(&mut self, namespace: &Name, pod: &Pod) -> Arc<WorkloadProfile> {
        let network = self.networks.of_cluster().of_pod(pod);
        let known = self.last_profile.as_ref().filter(|(shape, known)| {
            Arc::ptr_eq(shape, &pod.shape) && known.network == network && known.namespace == *namespace
        });
        if let Some((_, known)) = known {
            return Arc::clone(known);
        }
        let profile = convert::pod_profile(&self.context, namespace, pod, network);
        let profile = self.profiles.of(profile);
        self.last_profile = Some((Arc::clone(&pod.shape), Arc::clone(&profile)));
        profile
    }

    /// K-28: what was made of a pod while it ran somewhere else is not told of it any longer, and where it runs is
    /// not known yet.
    fn wait_for_node(&mut self, id: PodId) {
        if let Some(workload) = self.pods.workload(id) {
            let (namespace, labels) = (workload.namespace.clone(), workload.own_labels.clone());
            self.touch_selecting(&namespace, &labels);
            self.touch_pod(id);
            self.pods.set_workload(id, None);
            self.touch_services(id);
        }
    }

    /// Notes that a pod may have to be told again, and what was told of it before. Comes before whatever changes.
    pub(super) fn touch_pod(&mut self, id: PodId) {
        if !self.dirty.pods.contains_key(&id) {
            let told = self.cell_of(id);
            self.dirty.pods.insert(id, told);
        }
    }

    /// What there is to tell of a pod: with the services that name it.
    fn cell_of(&mut self, id: PodId) -> Option<WorkloadCell> {
        let workload = Arc::clone(self.pods.workload(id)?);
        Some(WorkloadCell { workload, services: self.services_of(id) })
    }

    /// Everything that is told of pods now.
    pub(super) fn cells(&mut self) -> Vec<WorkloadCell> {
        let pods: Vec<_> = self.pods.ids().collect();
        pods.into_iter().filter_map(|pod| self.cell_of(pod)).collect()
    }

    /// Notes the services whose slices name a pod.
    fn touch_services(&mut self, id: PodId) {
        let services = self.pods.named_by(id).iter().map(|service| self.references.key(*service).clone());
        self.dirty.services.extend(services);
    }

    /// The pod as its proxy sees it, if that differs from what was told `before`.
    pub(super) fn publish_pod(
        &mut self,
        id: PodId,
        before: Option<WorkloadCell>,
    ) -> Option<(WorkloadId, Option<WorkloadCell>)> {
        let key = self.pods.key(id);
        let now = match self.cell_of(id) {
            Some(cell) => Some(cell),
            // A WorkloadEntry of that name gave way to the Pod.
            None => self.tell_member(&key),
        };
        let ObjectKey { namespace, name } = key;
        self.let_go(id);
        let name = WorkloadId { cluster: self.context.cluster.clone(), namespace, name };
        (before != now).then_some((name, now))
    }

    /// Gives the place of a pod free if nothing speaks of it. While slices are listed, some of them may.
    pub(super) fn let_go(&mut self, id: PodId) {
        if !self.slices.is_listing() {
            self.pods.release(id);
        }
    }

    fn services_of(&mut self, id: PodId) -> Set<ServiceKey> {
        let named_by = self.pods.named_by(id);
        let selected = self.entry_services(id);
        if !selected.is_empty() {
            let keys = named_by.iter().flat_map(|service| self.references.alone(*service).iter().cloned());
            return Set::clone(&self.service_sets.of(keys.chain(selected).collect()));
        }
        match named_by {
            [first, others @ ..] if others.iter().all(|other| other == first) => {
                self.references.alone(*first).clone()
            }
            all => {
                let keys = all.iter().flat_map(|service| self.references.alone(*service).iter().cloned());
                Set::clone(&self.service_sets.of(keys.collect()))
            }
        }
    }

    /// The pods as conversion sees them.
    pub(super) fn lookup(&self) -> Pods<'_> {
        Pods(&self.pods)
    }
}

/// The pods as conversion sees them.
pub(super) struct Pods<'a>(&'a PodTable);

impl PodLookup for Pods<'_> {
    type Pod = PodId;

    fn by_name(&self, pod: &PodId) -> Option<Arc<Workload>> {
        self.0.workload(*pod).cloned()
    }

    fn by_address(&self, namespace: &Name, address: std::net::IpAddr) -> Option<Arc<Workload>> {
        self.by_name(&self.0.lender(namespace, address)?)
    }
}
