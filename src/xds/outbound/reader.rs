//! Reading registry and policies for one projection.

use std::cell::OnceCell;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::model::policy::{DestinationRule, VirtualService};
use crate::model::{Service, ServiceKey};
use crate::registry::Registry;
use crate::view::{Behind, Client, Passthrough, Place};
use crate::xds::counts::Counts;
use crate::xds::resources::{self, ServiceResources, Surroundings};

/// The policies that a service was built with: while they stay, it does.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Used {
    rule: Option<Arc<DestinationRule>>,
    routes: Option<Arc<VirtualService>>,
    /// Whether a VirtualService leads there, so that a Sidecar cannot hide it.
    led: bool,
}

/// Registry and policies as one projection sees them.
pub(in crate::xds) struct Reader<'a> {
    pub(in crate::xds) registry: &'a Registry,
    pub(in crate::xds) client: Client<'a>,
    pub(in crate::xds) counts: &'a Counts,
    /// Where there are clients, as far as anything compares that.
    pub(in crate::xds) places: &'a [Place],
    /// Where the clients lead mesh traffic on, once somebody asked.
    pub(in crate::xds) passthroughs: OnceCell<Vec<Passthrough<'a>>>,
}

/// What stands for a host of VirtualServices that is no service.
pub(super) fn stand_in(host: &str) -> ServiceKey {
    ServiceKey::new("", host)
}

/// Whether a key stands for a host that is no service.
pub(super) fn is_stand_in(key: &ServiceKey) -> bool {
    key.namespace.is_empty()
}

impl Reader<'_> {
    /// The record that the clients see under a host name (R4.2).
    pub(super) fn visible(&self, host: &str) -> Option<Arc<Service>> {
        let records = self.registry.host(host).into_iter().filter_map(|cell| cell.load().service.clone());
        self.client.sight().meant(records, |record| Some(record.as_ref()))
    }

    /// Every service of a host name, visible or not, and what stands for the host.
    pub(super) fn keys_of(&self, host: &str) -> impl Iterator<Item = ServiceKey> + use<> {
        let cells = self.registry.host(host);
        let keys: Vec<_> = cells.iter().map(|cell| cell.key().clone()).chain([stand_in(host)]).collect();
        keys.into_iter()
    }

    /// The policies that hold for a service or host now.
    pub(super) fn used(&self, key: &ServiceKey) -> Used {
        let host = key.hostname.as_str();
        if is_stand_in(key) {
            return Used { routes: self.client.virtual_service_of(host).cloned(), ..Used::default() };
        }
        let led = self.client.sight().is_led_to(host);
        Used { rule: self.client.rule(key), routes: self.client.virtual_service(host).cloned(), led }
    }

    /// What `make` gives with what is known around a service.
    pub(in crate::xds) fn surrounded<T>(&self, make: impl FnOnce(&Surroundings<'_>) -> T) -> T {
        let behind = |key: &ServiceKey, port| match self.registry.service(key) {
            Some(cell) => Behind::of(&cell.load(), port, &self.client),
            None => Behind::default(),
        };
        let lookup = |host: &str| self.visible(host);
        let (client, places) = (self.client, self.places);
        let passthroughs = self.passthroughs.get_or_init(|| client.passthroughs());
        make(&Surroundings { client, lookup: &lookup, behind: &behind, passthroughs, places })
    }

    /// What a service contributes, and its age; `None` when it does not exist or another of its name is seen.
    pub(super) fn build(&self, key: &ServiceKey) -> Option<(i64, ServiceResources)> {
        let visible = self.visible(&key.hostname);
        let (created, made) = if is_stand_in(key) {
            let told = self.client.virtual_service_of(&key.hostname).filter(|_| visible.is_none())?;
            // After all services: names of those count first.
            (i64::MAX, self.surrounded(|around| resources::host(&key.hostname, told, around)))
        } else {
            let record = self.registry.service(key)?.load().service.clone()?;
            if visible.is_some_and(|visible| visible.key != record.key) {
                return None;
            }
            (record.created, self.surrounded(|around| resources::service(&record, around)))
        };
        Counts::add(&self.counts.service_builds);
        for (cluster, reason) in &made.reads.left_out {
            tracing::warn!(cluster, reason, "an Envoy cluster is left out");
        }
        self.counts.unknown_destinations.fetch_add(made.reads.unknown as u64, Ordering::Relaxed);
        Some((created, made))
    }
}
