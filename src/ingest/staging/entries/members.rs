//! WorkloadEntries: what becomes of them, and which Services select them (R5.24, R2.9).

use std::sync::Arc;

use super::super::Staging;
use super::super::held::{Door, Scope, packed};
use crate::ingest::convert::{self, Member, selects};
use crate::ingest::objects::{ObjectKey, ObjectKind, ServiceObject, WorkloadEntryObject};
use crate::ingest::watch::SourceEvent;
use crate::model::{Discoverability, Endpoint, Labels, Name, Set, WorkloadCell, WorkloadId};

impl Staging {
    pub(in crate::ingest::staging) fn apply_workload_entry(
        &mut self,
        scope: Scope,
        event: SourceEvent<WorkloadEntryObject>,
    ) {
        let (kind, guard, now) = (ObjectKind::WorkloadEntry, self.guard, self.waits.now());
        let weigh = |_: &ObjectKey, _: &Arc<WorkloadEntryObject>| 1;
        let door = Door { kind, scope, guard, now, weigh, quarantine: &mut self.quarantine };
        let changes = self.entries.workloads.apply(packed(event, Arc::new), door);
        self.note(kind, changes, Self::workload_entry_changed);
    }

    pub(super) fn workload_entry_changed(&mut self, key: ObjectKey, _: Option<Arc<WorkloadEntryObject>>) {
        let object = self.entries.workloads.get(&key).cloned();
        let unknown = object.as_deref().map(WorkloadEntryObject::remarks).unwrap_or_default();
        let of_cluster = self.networks.of_cluster();
        let member = object.map(|object| Member::of_entry(&self.context, of_cluster, &key, object));
        let mut notes: Vec<String> =
            member.iter().filter_map(|member| member.as_ref().err().cloned()).collect();
        notes.extend(unknown);
        self.quarantine.set_entry(ObjectKind::WorkloadEntry, &key, notes);
        let member = member.and_then(Result::ok);
        if self.entries.members.get(&key) == member.as_ref() {
            return;
        }
        self.dirty.members.insert(key.clone());
        let old = match &member {
            Some(member) => self.entries.members.insert(key.clone(), member.clone()),
            None => self.entries.members.remove(&key),
        };
        for member in old.iter().chain(&member) {
            let labels = &member.workload.own_labels;
            self.touch_selecting(&key.namespace, labels);
            let services = self.services_selecting(&key.namespace, labels);
            self.dirty.services.extend(services);
        }
    }

    /// Services that select a WorkloadEntry with these labels (R5.24). Cost ∝ the Services of the namespace.
    fn services_selecting(&self, namespace: &Name, labels: &Labels) -> Vec<ObjectKey> {
        let first = ObjectKey { namespace: namespace.clone(), name: Name::default() };
        let inside = self.service_keys.range(first..).take_while(|service| service.namespace == *namespace);
        let picks = |key: &&ObjectKey| {
            self.services.get(key).is_some_and(|service| selects(&service.selector, labels))
        };
        inside.filter(picks).cloned().collect()
    }

    /// A Service came, went or changed: what is told of the WorkloadEntries that it selects names it.
    pub(in crate::ingest::staging) fn service_selects(&mut self, key: &ObjectKey, selector: &Labels) {
        if !self.entries.members.is_empty() {
            self.touch_members(&key.namespace, selector);
        }
    }

    /// R5.24: the endpoints of the WorkloadEntries that a Service selects.
    pub(in crate::ingest::staging) fn selected_by_service(
        &self,
        key: &ObjectKey,
        service: &ServiceObject,
        discoverability: Discoverability,
    ) -> Vec<Endpoint> {
        if self.entries.members.is_empty() || !self.context.entries.services_select {
            return Vec::new();
        }
        let picked =
            |member: &&Member| member.is_ready() && selects(&service.selector, &member.workload.own_labels);
        let members = self.entries.members_in(&key.namespace).map(|(_, member)| member).filter(picked);
        members
            .flat_map(|member| {
                convert::service_member(&self.context, &service.ports, member, discoverability)
            })
            .collect()
    }

    /// A WorkloadEntry as a proxy (R2.9), with the services that select it.
    fn member_cell(&self, key: &ObjectKey) -> Option<WorkloadCell> {
        let workload = Arc::clone(&self.entries.members.get(key)?.workload);
        let labels = &workload.own_labels;
        let services = self.services_selecting(&key.namespace, labels);
        let services = services.iter().map(|service| self.context.service_key(service));
        let services: Set<_> = services.chain(self.entries.services_of(&key.namespace, labels)).collect();
        Some(WorkloadCell { workload, services })
    }

    /// What there is to tell of a WorkloadEntry, which is told.
    pub(in crate::ingest::staging) fn tell_member(&mut self, key: &ObjectKey) -> Option<WorkloadCell> {
        let cell = self.member_cell(key);
        match &cell {
            Some(cell) => _ = self.entries.cells.insert(key.clone(), cell.clone()),
            None => _ = self.entries.cells.remove(key),
        }
        cell
    }

    /// Every WorkloadEntry, told; one whose name is a Pod's gives way to that.
    pub(in crate::ingest::staging) fn member_cells(&mut self) -> Vec<WorkloadCell> {
        let keys: Vec<_> = self.entries.members.keys().filter(|key| !self.is_pod(key)).cloned().collect();
        keys.iter().filter_map(|key| self.tell_member(key)).collect()
    }

    fn is_pod(&self, key: &ObjectKey) -> bool {
        self.pods.find(key).is_some_and(|pod| self.pods.workload(pod).is_some())
    }

    /// The WorkloadEntry as its proxy sees it, if that differs from what was told.
    pub(in crate::ingest::staging) fn publish_member(
        &mut self,
        key: ObjectKey,
    ) -> Option<(WorkloadId, Option<WorkloadCell>)> {
        if self.is_pod(&key) {
            return None;
        }
        let before = self.entries.cells.get(&key).cloned();
        let now = self.tell_member(&key);
        let ObjectKey { namespace, name } = key;
        (now != before).then(|| (WorkloadId { cluster: self.context.cluster.clone(), namespace, name }, now))
    }
}
