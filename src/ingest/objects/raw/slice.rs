//! EndpointSlices.

use super::{Endpoint, EndpointSlice, ObjectReference};
use crate::ingest::objects::{ObjectKey, SliceEndpoint, SliceObject, SlicePort};
use crate::model::Name;

impl From<EndpointSlice<'_>> for SliceObject {
    /// R5.1: slices without a Service, of other clusters' Services, or of host names belong to no service.
    fn from(raw: EndpointSlice<'_>) -> Self {
        let meta = raw.metadata;
        let service = meta.label("kubernetes.io/service-name");
        let foreign = !meta.label("multicluster.kubernetes.io/service-name").is_empty();
        let usable = !service.is_empty() && !foreign && &*raw.address_type != "FQDN";
        let namespace = meta.namespace.name();
        // One without an address is none, and takes more room here than in the answer.
        let said = raw.endpoints.into_iter().filter(|endpoint| !endpoint.addresses.is_empty());
        let mut endpoints: Vec<_> = said.map(|endpoint| read(endpoint, &namespace)).collect();
        // Collected where the messages were, which had more room and were perhaps many more.
        endpoints.shrink_to(2 * endpoints.len());
        Self {
            service: usable.then(|| service.into()),
            address_type: raw.address_type.name(),
            endpoints,
            ports: raw.ports.iter().map(|p| SlicePort { name: p.name.name(), port: p.port }).collect(),
        }
    }
}

fn read(raw: Endpoint<'_>, namespace: &Name) -> SliceEndpoint {
    let pod = raw.target_ref.filter(|target| &*target.kind == "Pod");
    SliceEndpoint {
        addresses: raw.addresses.names(),
        pod: pod.map(|target| key(&target, namespace)),
        ready: raw.conditions.ready,
        serving: raw.conditions.serving,
        terminating: raw.conditions.terminating,
    }
}

/// A pod without a namespace is in that of the slice.
fn key(target: &ObjectReference<'_>, own: &Name) -> ObjectKey {
    let same = target.namespace.is_empty() || *target.namespace == **own;
    ObjectKey {
        namespace: if same { own.clone() } else { target.namespace.name() },
        name: target.name.name(),
    }
}
