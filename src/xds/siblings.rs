//! Who asks for its siblings (R4.9.10), by the services that may tell of them.

use std::sync::Arc;

use dashmap::DashMap;

use super::watchers::{Marks, StreamHandle, Watchers};
use crate::model::ServiceKey;
use crate::view::LOCAL_CLUSTER;

/// Streams that ask for [`LOCAL_CLUSTER`], by the services of their own. Which of these tells of the siblings, and by which
/// port, is part of the projection.
#[derive(Debug, Default)]
pub(super) struct SiblingWatchers(DashMap<ServiceKey, Watchers>);

impl SiblingWatchers {
    /// Adds a stream to those of these services.
    pub(super) fn watch<'k>(
        &self,
        services: impl IntoIterator<Item = &'k ServiceKey>,
        stream: &Arc<StreamHandle>,
    ) {
        services.into_iter().for_each(|key| self.0.entry(key.clone()).or_default().add(stream));
    }

    /// The reverse of [`watch`](Self::watch).
    pub(super) fn unwatch<'k>(
        &self,
        services: impl IntoIterator<Item = &'k ServiceKey>,
        stream: &StreamHandle,
    ) {
        for key in services {
            self.0.remove_if(key, |_, watchers| {
                watchers.remove(stream);
                watchers.is_empty()
            });
        }
    }

    /// Has those of a service look again at which service tells of their siblings. Endpoints do not decide that, but a
    /// record may that is not the merged one: it comes as a change of endpoints. Cost ∝ the streams of this service,
    /// most of which are sent new siblings anyway.
    pub(super) fn changed(&self, key: &ServiceKey, marks: &mut Marks) {
        if let Some(watchers) = self.0.get(key) {
            marks.rekey(&watchers, &LOCAL_CLUSTER.into());
        }
    }

    /// Whether nobody asks.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
