//! The endpoints a Service should have: one per pod and address family, grouped by the ports they share.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Node, ObjectReference, Pod, Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::super::pods;
use super::pack::Group;

const ZONE: &str = "topology.kubernetes.io/zone";

/// An address family by the name EndpointSlices and Services give it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    fn holds(self, address: &str) -> bool {
        let address = address.parse::<IpAddr>();
        address.is_ok_and(|address| address.is_ipv4() == (self == Self::V4))
    }
}

/// The families of a Service: those it names, else that of its address, else IPv4.
pub(super) fn families(service: &Service) -> Vec<Family> {
    let spec = service.spec.as_ref();
    let named = spec.and_then(|spec| spec.ip_families.as_deref()).unwrap_or_default();
    let mut families: Vec<Family> = [Family::V4, Family::V6]
        .into_iter()
        .filter(|family| named.iter().any(|name| name == family.name()))
        .collect();
    if families.is_empty() {
        let address = spec.and_then(|spec| spec.cluster_ip.as_deref()).unwrap_or_default();
        families.push(if Family::V6.holds(address) { Family::V6 } else { Family::V4 });
    }
    families
}

/// Whether a Service has no address of its own.
pub(super) fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None")
}

/// The endpoints of `family` among `pods`, which the Service's selector has matched. Finished pods and pods
/// without an address of the family are left out; those with different port numbers form different groups.
pub(super) fn groups(
    service: &Service,
    pods: &[Arc<Pod>],
    node: impl Fn(&str) -> Option<Arc<Node>>,
    family: Family,
) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for pod in pods.iter().filter(|pod| !pods::is_finished(pod)) {
        let Some(address) = address(pod, family) else { continue };
        let ports = ports(service, pod);
        let endpoint = endpoint(service, pod, address, &node);
        match groups.iter_mut().find(|group| group.ports == ports) {
            Some(group) => group.add(endpoint),
            None => groups.push(Group::new(ports, endpoint)),
        }
    }
    groups
}

fn address(pod: &Pod, family: Family) -> Option<&str> {
    let status = pod.status.as_ref()?;
    let all =
        status.pod_ips.iter().flatten().map(|address| address.ip.as_str()).chain(status.pod_ip.as_deref());
    all.into_iter().find(|address| family.holds(address))
}

fn endpoint(
    service: &Service,
    pod: &Pod,
    address: &str,
    node: &impl Fn(&str) -> Option<Arc<Node>>,
) -> Endpoint {
    let spec = pod.spec.as_ref();
    let node_name = spec.and_then(|spec| spec.node_name.clone()).filter(|name| !name.is_empty());
    let zone = node_name
        .as_deref()
        .and_then(node)
        .and_then(|node| node.metadata.labels.as_ref()?.get(ZONE).cloned());
    // A pod has a name of its own within a Service only if it says so.
    let subdomain = spec.and_then(|spec| spec.subdomain.as_deref());
    let named = subdomain.is_some() && subdomain == service.metadata.name.as_deref();
    let hostname = spec.and_then(|spec| spec.hostname.clone()).filter(|name| named && !name.is_empty());
    Endpoint {
        addresses: vec![address.to_owned()],
        conditions: Some(conditions(service, pod)),
        hostname,
        node_name,
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
        zone,
        ..Endpoint::default()
    }
}

/// A pod that is leaving may still serve, but takes nothing new.
fn conditions(service: &Service, pod: &Pod) -> EndpointConditions {
    let publish = service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses).unwrap_or(false);
    let (serving, terminating) = (pods::is_ready(pod), pods::is_terminating(pod));
    EndpointConditions {
        ready: Some(publish || (serving && !terminating)),
        serving: Some(serving),
        terminating: Some(terminating),
    }
}

/// The Service's ports as this pod has them. A named port the pod does not have is left out.
fn ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    ports
        .filter_map(|port| {
            Some(EndpointPort {
                app_protocol: port.app_protocol.clone(),
                name: Some(port.name.clone().unwrap_or_default()),
                port: Some(number(port, pod)?),
                protocol: Some(protocol(port.protocol.as_deref()).to_owned()),
            })
        })
        .collect()
}

fn protocol(named: Option<&str>) -> &str {
    named.unwrap_or("TCP")
}

fn number(port: &ServicePort, pod: &Pod) -> Option<i32> {
    let name = match &port.target_port {
        None | Some(IntOrString::Int(0)) => return Some(port.port),
        Some(IntOrString::Int(number)) => return Some(*number),
        Some(IntOrString::String(name)) => name,
    };
    let spec = pod.spec.as_ref()?;
    // Init containers that go on running are sidecars: their ports count.
    let sidecar = |container: &&Container| container.restart_policy.as_deref() == Some("Always");
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten().filter(sidecar));
    let matches = containers.flat_map(|container| container.ports.iter().flatten()).find(|there| {
        there.name.as_ref() == Some(name)
            && protocol(there.protocol.as_deref()) == protocol(port.protocol.as_deref())
    });
    matches.map(|there| there.container_port)
}
