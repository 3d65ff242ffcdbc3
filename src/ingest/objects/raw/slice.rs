//! EndpointSlices.

use super::{Endpoint, EndpointSlice};
use crate::ingest::objects::slice::NamingPods;
use crate::ingest::objects::{SliceAddresses, SliceEndpoint, SliceObject, SlicePort};
use crate::model::Name;

impl From<EndpointSlice<'_>> for SliceObject {
    /// R5.1: slices without a Service, of other clusters' Services, or of host names belong to no service.
    fn from(raw: EndpointSlice<'_>) -> Self {
        let meta = raw.metadata;
        let service = meta.label("kubernetes.io/service-name");
        let foreign = meta.labels.get("multicluster.kubernetes.io/service-name").is_some();
        let usable = !service.is_empty() && !foreign && &*raw.address_type != "FQDN";
        // One without an address is none, and takes more room here than in the answer.
        let said = || raw.endpoints.iter().filter(|entry| !entry.addresses.is_empty());
        let length = said().find_map(|entry| entry.target_ref.as_ref()).map_or(0, |pod| pod.name.len());
        let mut endpoints = Vec::with_capacity(said().count());
        let mut pods = NamingPods::new(&meta.namespace, endpoints.capacity(), length);
        endpoints.extend(said().map(|entry| read(entry, &mut pods)));
        let ports = raw.ports.iter();
        Self {
            service: usable.then(|| Name::interned(service)),
            address_type: raw.address_type.common(),
            endpoints,
            ports: ports.map(|port| SlicePort { name: port.name.common(), port: port.port }).collect(),
            pods: pods.finish(),
        }
    }
}

fn read(raw: &Endpoint<'_>, pods: &mut NamingPods) -> SliceEndpoint {
    let pod = raw.target_ref.as_ref().filter(|target| &*target.kind == "Pod");
    let one = raw.addresses.only().and_then(|text| text.parse().ok());
    SliceEndpoint {
        addresses: one
            .map_or_else(|| SliceAddresses::Texts(raw.addresses.names().into()), SliceAddresses::One),
        pod: pod.map(|target| pods.add(&target.namespace, &target.name)),
        ready: raw.conditions.ready,
        serving: raw.conditions.serving,
        terminating: raw.conditions.terminating,
    }
}
