//! From what is held of one Service to the shares that are published of it.

use std::sync::Arc;

use super::Staging;
use super::entries::add_absent;
use crate::ingest::convert::{self, EndpointInput, HealthBasis, SliceInput};
use crate::ingest::counts::Counts;
use crate::ingest::objects::{NamespaceObject, ObjectKey, ServiceObject};
use crate::model::{EndpointShard, Labels, ServiceKey};

/// A share to be published; `None` is gone.
pub(super) type Share = (ServiceKey, Option<Arc<EndpointShard>>);

/// A Service as it is kept: without room for more, and without its selector unless it selects WorkloadEntries.
pub(super) fn tidy(mut object: ServiceObject, selects: bool) -> Box<ServiceObject> {
    // Slices say which pods are meant.
    if !selects {
        object.selector = Labels::new();
    }
    for list in [&mut object.cluster_ips, &mut object.external_ips, &mut object.ingress] {
        list.shrink_to_fit();
    }
    object.ports.shrink_to_fit();
    Box::new(object)
}

impl Staging {
    /// What differs of a Service: its share under its own name, and under the imported one (R4.39).
    pub(super) fn convert_service(&mut self, key: &ObjectKey) -> Vec<Share> {
        let own = self.own_share(key);
        let imported = self.context.mcs.host.then(|| {
            let ips = self.imports.get(key).map(|import| import.ips.as_slice()).unwrap_or_default();
            let exported = self.exports.get(key).is_some();
            let shard = convert::imported(&self.context, key, own.as_ref(), ips, exported);
            (convert::imported_key(key), shard)
        });
        let id = self.context.service_key(key);
        let own = self.with_entries(&id, own);
        let all = [(id, own)].into_iter().chain(imported);
        all.filter_map(|(id, shard)| self.difference(id, shard)).collect()
    }

    fn own_share(&mut self, key: &ObjectKey) -> Option<EndpointShard> {
        let object = self.services.get(key).map(AsRef::as_ref);
        let slices = self.references.slices(key);
        if object.is_none() && slices.is_none() {
            self.withhold(key, 0);
            self.quarantine.forget_parts(key);
            return None;
        }
        Counts::add(&self.counts.conversions, 1);
        let basis = HealthBasis::of(object, &self.context.session_labels);
        let names = slices.into_iter().flatten();
        let slices: Vec<_> = names
            .filter_map(|name| {
                let key = ObjectKey::new(key.namespace.clone(), name.clone());
                let slice = self.slices.get(&key)?;
                let basis = self.compat.basis(&key).unwrap_or(basis);
                Some(SliceInput { slice, basis, late: self.compat.late(&key) })
            })
            .collect();
        let discoverability = convert::discoverability(&self.context.mcs, self.exports.get(key).is_some());
        let mut result = convert::endpoints(EndpointInput {
            context: &self.context,
            of_cluster: self.networks.of_cluster(),
            namespace: &key.namespace,
            service: object,
            slices: &slices,
            pods: &self.lookup(),
            without_pods: self.context.serve_without_pods && self.pod_gate.denies(&key.namespace),
            discoverability,
        });
        if let Some(object) = object {
            let selected = self.selected_by_service(key, object, discoverability);
            add_absent(&mut result.endpoints, selected);
        }
        let namespace = self.namespaces.get(&ObjectKey::new("", key.namespace.clone()));
        let service = object.map(|object| convert::service(&self.context, key, object, namespace));
        let told = self.current.shards.get(&self.context.service_key(key));
        let service = service.map(|service| match told.and_then(|shard| shard.service.as_ref()) {
            // Shared with what was told before: comparing them costs nothing.
            Some(told) if **told == service => Arc::clone(told),
            _ => Arc::new(service),
        });
        self.withhold(key, result.withheld);
        self.quarantine.set_parts(key, &result.skipped);
        Some(EndpointShard::new(self.context.cluster.clone(), service, result.endpoints))
    }

    /// Notes how many addresses of a Service are withheld.
    fn withhold(&mut self, key: &ObjectKey, addresses: usize) {
        let before = match addresses {
            0 => self.withheld.remove(key),
            _ => self.withheld.insert(key.clone(), addresses),
        };
        let before = before.unwrap_or_default();
        self.withheld_addresses = self.withheld_addresses + addresses - before;
        Counts::add(&self.counts.endpoints_without_pods, addresses.saturating_sub(before));
    }

    /// R4.30, R4.37, R4.9: what a Namespace says of traffic distribution, of waypoints and, where rules ask for them, by its
    /// labels holds for its Services; the latter two for its ServiceEntries as well.
    pub(super) fn default_changed(&mut self, key: &ObjectKey, old: Option<&NamespaceObject>) {
        let said = |namespace: Option<&NamespaceObject>| {
            let namespace = namespace?;
            let waypoints = convert::says_of_waypoints(&namespace.labels);
            let labels = self.context.labels_of(Some(namespace));
            Some((namespace.traffic_distribution.clone(), waypoints, labels))
                .filter(|said| *said != Default::default())
        };
        if said(self.namespaces.get(key)) != said(old) {
            let first = ObjectKey::new(key.name.clone(), "");
            let inside = self.service_keys.range(first..).take_while(|service| service.namespace == key.name);
            self.dirty.services.extend(inside.cloned());
            self.touch_entries_in(&key.name);
        }
    }

    /// Remembers a share; `None` when it is what it was.
    pub(super) fn difference(&mut self, id: ServiceKey, shard: Option<EndpointShard>) -> Option<Share> {
        if self.current.shards.get(&id).map(AsRef::as_ref) == shard.as_ref() {
            return None;
        }
        let shard = shard.map(Arc::new);
        let before = match &shard {
            Some(shard) => self.current.shards.insert(id.clone(), Arc::clone(shard)),
            None => self.current.shards.remove(&id),
        };
        let endpoints = |shard: Option<&Arc<EndpointShard>>| shard.map_or(0, |shard| shard.endpoints.len());
        self.endpoints = self.endpoints + endpoints(shard.as_ref()) - endpoints(before.as_ref());
        Some((id, shard))
    }
}
