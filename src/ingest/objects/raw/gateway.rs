//! Custom resources, which API servers know as JSON only: Gateways, exported and imported Services.

use super::{Map, ObjectMeta, Text, Texts, json_message};
use crate::ingest::objects::{
    GATEWAY_ADDRESS_ANNOTATION, GatewayObject, ListenerObject, ServiceExportObject, ServiceImportObject,
};
use crate::model::Name;

json_message! { Gateway {
    metadata: ObjectMeta<'a>, "metadata";
    spec: GatewaySpec<'a>, "spec";
} }

json_message! { GatewaySpec {
    class: Text<'a>, "gatewayClassName";
    addresses: Vec<GatewayAddress<'a>>, "addresses";
    listeners: Vec<Listener<'a>>, "listeners";
} }

json_message! { GatewayAddress {
    r#type: Text<'a>, "type";
    value: Text<'a>, "value";
} }

json_message! { Listener {
    port: i64, "port";
    protocol: Text<'a>, "protocol";
    tls: Option<ListenerTls<'a>>, "tls";
} }

json_message! { ListenerTls {
    options: Map<'a, Text<'a>>, "options";
} }

json_message! { ServiceExport {
    metadata: ObjectMeta<'a>, "metadata";
} }

json_message! { ServiceImport {
    metadata: ObjectMeta<'a>, "metadata";
    spec: ServiceImportSpec<'a>, "spec";
} }

json_message! { ServiceImportSpec {
    ips: Texts<'a>, "ips";
} }

impl From<Gateway<'_>> for GatewayObject {
    fn from(raw: Gateway<'_>) -> Self {
        let (meta, spec) = (raw.metadata, raw.spec);
        // One without a port is none, and takes more room here than in the answer.
        let said = spec.listeners.into_iter().filter(|listener| listener.port != 0);
        let mut listeners: Vec<_> = said.map(ListenerObject::from).collect();
        listeners.shrink_to(2 * listeners.len());
        Self {
            service_account: meta.annotation("gateway.istio.io/service-account"),
            gateway_address: meta.annotation(GATEWAY_ADDRESS_ANNOTATION),
            labels: meta.labels.into_labels(),
            class: spec.class.name(),
            addresses: spec.addresses.iter().map(address).collect(),
            listeners,
        }
    }
}

fn address(raw: &GatewayAddress<'_>) -> (Name, Name) {
    let kind = if raw.r#type.is_empty() { Name::from("IPAddress") } else { raw.r#type.name() };
    (kind, raw.value.name())
}

impl From<Listener<'_>> for ListenerObject {
    fn from(raw: Listener<'_>) -> Self {
        Self {
            port: raw.port,
            protocol: raw.protocol.name(),
            tls_options: raw.tls.map(|tls| tls.options.into_labels()),
        }
    }
}

impl From<ServiceExport<'_>> for ServiceExportObject {
    fn from(_: ServiceExport<'_>) -> Self {
        Self {}
    }
}

impl From<ServiceImport<'_>> for ServiceImportObject {
    fn from(raw: ServiceImport<'_>) -> Self {
        Self { ips: raw.spec.ips.filled() }
    }
}
