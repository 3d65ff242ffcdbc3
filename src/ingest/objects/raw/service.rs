//! Services.

use super::{Service, ServicePort, ServiceSpec, ServiceStatus, Text};
use crate::ingest::objects::{
    GATEWAY_ADDRESS_ANNOTATION, PortObject, ServiceObject, ServiceType, TRAFFIC_DISTRIBUTION_ANNOTATION,
};
use crate::model::Name;

impl From<Service<'_>> for ServiceObject {
    fn from(raw: Service<'_>) -> Self {
        let (meta, spec) = (raw.metadata, raw.spec);
        let headless = &*spec.cluster_ip == "None";
        Self {
            export_to: meta.annotation("networking.istio.io/exportTo"),
            canonical_accounts: meta.annotation("alpha.istio.io/canonical-serviceaccounts"),
            kubernetes_accounts: meta.annotation("alpha.istio.io/kubernetes-serviceaccounts"),
            traffic_distribution: meta.annotation(TRAFFIC_DISTRIBUTION_ANNOTATION),
            node_selector: meta.annotation("traffic.istio.io/nodeSelector"),
            gateway_address: meta.annotation(GATEWAY_ADDRESS_ANNOTATION),
            created: meta.creation_timestamp.seconds().unwrap_or_default(),
            labels: meta.labels.into_labels(),
            service_type: match &*spec.r#type {
                "LoadBalancer" => ServiceType::LoadBalancer,
                "ExternalName" => ServiceType::ExternalName(spec.external_name.name()),
                _ => ServiceType::Internal,
            },
            node_port_type: &*spec.r#type == "NodePort",
            headless,
            cluster_ips: if headless { Vec::new() } else { cluster_ips(&spec) },
            node_local: &*spec.internal_traffic_policy == "Local",
            external_traffic_local: &*spec.external_traffic_policy == "Local",
            traffic_distribution_spec: spec.traffic_distribution.name(),
            publish_not_ready: spec.publish_not_ready_addresses,
            // One without a number is none, and takes more room here than in the answer.
            ports: spec.ports.iter().filter(|port| port.port != 0).map(PortObject::from).collect(),
            external_ips: spec.external_ips.filled(),
            selector: spec.selector.into_labels(),
            ingress: ingress(&raw.status),
        }
    }
}

fn cluster_ips(spec: &ServiceSpec<'_>) -> Vec<Name> {
    let several = spec.cluster_ips.filled();
    if several.len() > 1 {
        return several;
    }
    if spec.cluster_ip.is_empty() { Vec::new() } else { vec![spec.cluster_ip.name()] }
}

fn ingress(status: &ServiceStatus<'_>) -> Vec<Name> {
    let entries = status.load_balancer.ingress.iter();
    let named = entries.map(|entry| if entry.ip.is_empty() { &entry.hostname } else { &entry.ip });
    named.filter(|name| !name.is_empty()).map(Text::name).collect()
}

impl From<&ServicePort<'_>> for PortObject {
    fn from(raw: &ServicePort<'_>) -> Self {
        Self {
            name: raw.name.common(),
            port: raw.port,
            protocol: raw.protocol.common(),
            app_protocol: raw.app_protocol.common(),
            node_port: raw.node_port,
            target_port: raw.target_port.common(),
        }
    }
}
