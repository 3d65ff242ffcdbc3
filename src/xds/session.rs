//! The two protocols as pure state machines: requests and changes in, responses out. No clock, no channel.

use std::sync::Arc;

use super::resource::{Encoded, ResourceList, ResourceType};

/// Where a session gets current content from. Answers are for the one proxy of the stream.
pub trait Source {
    /// The current bytes of a named resource; `None` when it does not exist (D23 decides what is said then).
    /// For the wildcard types this looks into [`lists`](Self::lists).
    fn get(&self, kind: ResourceType, name: &str) -> Option<Arc<Encoded>>;

    /// The empty resource that stands for an unknown name of the types EDS and RDS (D23).
    fn empty(&self, kind: ResourceType, name: &str) -> Arc<Encoded>;

    /// All resources of a wildcard type: what is shared with other proxies, then the proxy's own. Names of the
    /// two never meet.
    fn lists(&self, kind: ResourceType) -> [Arc<ResourceList>; 2];

    /// Whether every known cluster has synced at least once since the start (D27).
    fn all_synced(&self) -> bool;
}
