//! What clients at one place have besides what all clients of a projection share.
//!
//! Endpoints that are told with Envoy clusters are ordered by where the client is (R4.29–R4.35). The projection of everything
//! outbound does not have that: only the Envoy clusters of those services that compare it are built for each place.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::view::Place;
use crate::xds::resource::ResourceList;
use crate::xds::watchers::{StreamHandle, Watchers};

/// One place, as long as it has a client.
#[derive(Debug)]
pub(in crate::xds) struct Placed {
    place: Place,
    clusters: ArcSwap<ResourceList>,
    /// Its clients.
    pub(super) streams: Watchers,
}

impl Placed {
    /// A place with its first client, before anything is built for it.
    pub(super) fn new(place: Place, stream: &Arc<StreamHandle>) -> Arc<Self> {
        let streams = Watchers::default();
        streams.add(stream);
        Arc::new(Self { place, clusters: ArcSwap::default(), streams })
    }

    /// The place.
    pub(in crate::xds) fn place(&self) -> &Place {
        &self.place
    }

    /// Its Envoy clusters.
    pub(in crate::xds) fn clusters(&self) -> Arc<ResourceList> {
        self.clusters.load_full()
    }

    /// Takes new Envoy clusters; says whether they differ.
    pub(super) fn put(&self, clusters: ResourceList) -> bool {
        let differs = self.clusters.load().hash() != clusters.hash();
        if differs {
            self.clusters.store(Arc::new(clusters));
        }
        differs
    }
}
