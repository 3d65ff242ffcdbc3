//! EndpointSlices: which Services they belong to, which pods they name, which addresses stand alone.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use super::Staging;
use super::few::{Few, Lists};
use super::held::{Door, Scope, packed};
use super::pod_table::PodId;
use crate::ingest::convert::Slice;
use crate::ingest::objects::{ObjectKey, ObjectKind, SliceObject, SlicePort};
use crate::ingest::watch::SourceEvent;
use crate::model::{Name, ServiceKey, Set, Shared};

/// A slice as it is kept here.
pub(super) type KeptSlice = Slice<PodId>;

/// A Service that has slices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ServiceId(u32);

#[derive(Debug)]
struct Sliced {
    key: ObjectKey,
    /// A set with nothing but this service, as most pods are told with.
    alone: Set<ServiceKey>,
    /// Names of its slices, in order (Q25).
    slices: Vec<Name>,
}

/// What slices refer to.
#[derive(Debug, Default)]
pub(super) struct References {
    services: Vec<Sliced>,
    free: Vec<ServiceId>,
    by_key: HashMap<ObjectKey, ServiceId>,
    /// (namespace, bare address) → services, once for each slice.
    bare: HashMap<(Name, IpAddr), Few<ServiceId>>,
    lists: Lists<ServiceId>,
    ports: Shared<Vec<SlicePort>>,
}

impl References {
    /// Names of the slices of a Service, in order.
    pub(super) fn slices(&self, service: &ObjectKey) -> Option<&[Name]> {
        Some(&self.services[self.by_key.get(service)?.0 as usize].slices)
    }

    /// Every Service with slices.
    pub(super) fn services(&self) -> impl Iterator<Item = &ObjectKey> {
        self.by_key.keys()
    }

    fn find(&self, service: &ObjectKey) -> Option<ServiceId> {
        self.by_key.get(service).copied()
    }

    pub(super) fn key(&self, service: ServiceId) -> &ObjectKey {
        &self.services[service.0 as usize].key
    }

    /// A set of one service.
    pub(super) fn alone(&self, service: ServiceId) -> &Set<ServiceKey> {
        &self.services[service.0 as usize].alone
    }

    /// Services of a namespace with this bare address.
    pub(super) fn borrowers(&self, namespace: &Name, address: IpAddr) -> BTreeSet<ObjectKey> {
        if self.bare.is_empty() {
            return BTreeSet::new();
        }
        let services = self.bare.get(&(namespace.clone(), address));
        let services = services.into_iter().flat_map(|few| self.lists.of(few));
        services.map(|service| self.key(*service).clone()).collect()
    }

    /// Every service with a bare address: its network is the cluster's (R2.5).
    pub(super) fn borrowing(&self) -> BTreeSet<ObjectKey> {
        let services: BTreeSet<_> = self.bare.values().flat_map(|few| self.lists.of(few)).collect();
        services.into_iter().map(|service| self.key(*service).clone()).collect()
    }

    fn enter(&mut self, key: &ObjectKey, slice: &Name, id: impl FnOnce() -> ServiceKey) -> ServiceId {
        let service = match self.by_key.get(key) {
            Some(service) => *service,
            None => self.add(key, id()),
        };
        let slices = &mut self.services[service.0 as usize].slices;
        if let Err(at) = slices.binary_search(slice) {
            slices.insert(at, slice.clone());
        }
        service
    }

    fn add(&mut self, key: &ObjectKey, id: ServiceKey) -> ServiceId {
        let sliced = Sliced { key: key.clone(), alone: [id].into(), slices: Vec::with_capacity(1) };
        let service = match self.free.pop() {
            Some(service) => {
                self.services[service.0 as usize] = sliced;
                service
            }
            None => {
                self.services.push(sliced);
                ServiceId(u32::try_from(self.services.len() - 1).expect("fewer than 2^32 services"))
            }
        };
        self.by_key.insert(key.clone(), service);
        service
    }

    fn leave(&mut self, service: ServiceId, slice: &Name) {
        let sliced = &mut self.services[service.0 as usize];
        if let Ok(at) = sliced.slices.binary_search(slice) {
            sliced.slices.remove(at);
        }
        if sliced.slices.is_empty() {
            self.by_key.remove(&sliced.key);
            *sliced = Sliced { key: ObjectKey::default(), alone: Set::default(), slices: Vec::new() };
            self.free.push(service);
        }
    }

    fn add_bare(&mut self, service: ServiceId, addresses: &[IpAddr]) {
        for address in addresses {
            let place = (self.key(service).namespace.clone(), *address);
            self.lists.add(self.bare.entry(place).or_default(), service);
        }
    }

    fn remove_bare(&mut self, service: ServiceId, addresses: &[IpAddr]) {
        for address in addresses {
            let place = (self.key(service).namespace.clone(), *address);
            if let Some(services) = self.bare.get_mut(&place) {
                self.lists.remove(services, service);
                if services.is_empty() {
                    self.bare.remove(&place);
                }
            }
        }
    }
}

impl Staging {
    pub(super) fn apply_slice(&mut self, scope: Scope, event: SourceEvent<SliceObject>) {
        let (pods, ports) = (&mut self.pods, &mut self.references.ports);
        let pack = |object: SliceObject| {
            let mut slice = Slice::of(object, |namespace, name| pods.place_named(namespace, name));
            ports.unify(&mut slice.ports);
            slice
        };
        let event = packed(event, pack);
        let (kind, guard, now) = (ObjectKind::EndpointSlice, self.guard, self.waits.now());
        let weigh = |_: &ObjectKey, slice: &KeptSlice| slice.entries.len();
        let door = Door { kind, scope, guard, now, weigh, quarantine: &mut self.quarantine };
        let changes = self.slices.apply(event, door);
        let listed = changes.listed;
        self.note(kind, changes, Self::slice_changed);
        if listed && !self.slices.is_listing() {
            // Lists that were begun and not completed have made places for pods that nothing names.
            let idle: Vec<_> = self.pods.ids().filter(|pod| !self.dirty.pods.contains_key(pod)).collect();
            idle.into_iter().for_each(|pod| self.pods.release(pod));
        }
    }

    fn slice_changed(&mut self, key: ObjectKey, old: Option<KeptSlice>) {
        if self.compat.is_used() {
            self.remember_slice(&key);
        }
        let entries = |slice: Option<&KeptSlice>| slice.map_or(0, |slice| slice.entries.len());
        self.slice_entries = self.slice_entries + entries(self.slices.get(&key)) - entries(old.as_ref());
        let mut was = old.as_ref().and_then(|slice| Links::of(&key, slice));
        let mut is = self.slices.get(&key).and_then(|slice| Links::of(&key, slice));
        let both = was.as_mut().zip(is.as_mut()).filter(|(was, is)| was.service == is.service);
        let stays = both.map(|(was, is)| was.part_from(is)).is_some();
        // What stays named is never touched: first the new names, then without the old ones.
        if let Some(links) = &is {
            self.link(&key.name, links);
        }
        if let Some(links) = &was {
            self.unlink((!stays).then_some(&key.name), links);
        }
        let touched = [was, is].into_iter().flatten().map(|links| links.service);
        self.dirty.services.extend(touched);
    }

    fn link(&mut self, slice: &Name, links: &Links) {
        let service =
            self.references.enter(&links.service, slice, || self.context.service_key(&links.service));
        for pod in &links.pods {
            if !self.pods.named_by(*pod).contains(&service) {
                self.touch_pod(*pod);
            }
            self.pods.name(*pod, service);
        }
        self.references.add_bare(service, &links.bare);
    }

    fn unlink(&mut self, gone: Option<&Name>, links: &Links) {
        let Some(service) = self.references.find(&links.service) else {
            return;
        };
        for pod in &links.pods {
            if self.pods.named_by(*pod).iter().filter(|other| **other == service).count() == 1 {
                self.touch_pod(*pod);
            }
            self.pods.unname(*pod, service);
        }
        self.references.remove_bare(service, &links.bare);
        if let Some(slice) = gone {
            self.references.leave(service, slice);
        }
    }
}

/// What one slice refers to, each thing once.
struct Links {
    service: ObjectKey,
    pods: Vec<PodId>,
    /// Addresses that no pod is named for.
    bare: Vec<IpAddr>,
}

impl Links {
    fn of(key: &ObjectKey, slice: &KeptSlice) -> Option<Self> {
        let service = ObjectKey::new(&key.namespace, slice.service.as_ref()?);
        let mut pods: Vec<_> = slice.entries.iter().filter_map(|entry| entry.pod).collect();
        pods.sort_unstable();
        pods.dedup();
        let without_pod = slice.entries().filter(|(entry, _)| entry.pod.is_none());
        let mut bare: Vec<_> = without_pod.flat_map(|(_, addresses)| addresses.parsed()).collect();
        bare.sort_unstable();
        bare.dedup();
        Some(Self { service, pods, bare })
    }

    /// Leaves out what both refer to.
    fn part_from(&mut self, other: &mut Self) {
        part(&mut self.pods, &mut other.pods);
        part(&mut self.bare, &mut other.bare);
    }
}

/// Takes what both have out of two lists in order.
fn part<T: Ord>(one: &mut Vec<T>, other: &mut Vec<T>) {
    if one == other {
        one.clear();
        other.clear();
        return;
    }
    let common: Vec<bool> = one.iter().map(|value| other.binary_search(value).is_ok()).collect();
    other.retain(|value| one.binary_search(value).is_err());
    let mut common = common.into_iter();
    one.retain(|_| common.next() == Some(false));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::super::StagedEvent;
    use super::*;
    use crate::ingest::convert;
    use crate::ingest::watch::Received;

    /// A slice that names these pods.
    fn slice(pods: &[usize]) -> StagedEvent {
        let entry = |n: &usize| {
            json!({"addresses": [format!("10.0.0.{n}")], "conditions": {"ready": true},
                "targetRef": {"kind": "Pod", "namespace": "a", "name": format!("p{n}")}})
        };
        let object: Value = json!({"metadata": {"namespace": "a", "name": "s-1", "labels": {"kubernetes.io/service-name": "s"}},
            "endpoints": pods.iter().map(entry).collect::<Vec<_>>()});
        StagedEvent::Slice(SourceEvent::Apply(Received {
            key: ObjectKey::new("a", "s-1"),
            uid: "".into(),
            revision: None,
            object: Ok(serde_json::from_value(object).unwrap()),
        }))
    }

    #[test]
    fn an_event_of_a_slice_looks_at_the_pods_that_differ_only() {
        let mut staging = Staging::new(convert::test_context(), "istio-system".into(), Arc::default());
        let all: Vec<usize> = (1..=100).collect();
        staging.apply(slice(&all));
        staging.take();
        staging.apply(slice(&[&all[1..], &[101]].concat()));
        assert_eq!(staging.dirty.pods.len(), 2, "the one that left and the one that came");
        assert_eq!(staging.pods.lists_made(), 0, "no pod was named twice meanwhile");
        staging.take();
        assert_eq!(staging.withheld.values().sum::<usize>(), 100);
    }

    proptest! {
        #[test]
        fn what_both_refer_to_is_left_out(
            one in prop::collection::btree_set(0..20, 0..15),
            other in prop::collection::btree_set(0..20, 0..15),
        ) {
            let (mut left, mut right) = (Vec::from_iter(one.clone()), Vec::from_iter(other.clone()));
            part(&mut left, &mut right);
            prop_assert_eq!(left, Vec::from_iter(&one - &other));
            prop_assert_eq!(right, Vec::from_iter(&other - &one));
        }
    }
}
