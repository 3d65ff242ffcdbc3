//! Service → service record.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::{ClusterContext, protocol, waypoint};
use crate::ingest::objects::{NamespaceObject, ObjectKey, PortObject, ServiceObject, ServiceType};
use crate::model::{
    ExportTo, Import, Name, Resolution, Service, ServicePort, Set, SpiffeId, TrafficDistribution, Transport,
};

/// R0.5, R5.21–R5.23, R5.32. Ports that are not 1…65535 are left out. A Service without any VIP has none
/// (where R5.22 has `0.0.0.0`): nothing listens for an address that nobody was given.
/// `namespace` is the Service's Namespace, once it is known: it has the word where the Service does not speak of traffic
/// distribution and waypoints. The config cluster's labels of it
/// count for scopes (R4.9).
pub fn service(
    context: &ClusterContext,
    key: &ObjectKey,
    object: &ServiceObject,
    namespace: Option<&NamespaceObject>,
) -> Service {
    let vips: Vec<IpAddr> = object.cluster_ips.iter().filter_map(|ip| ip.parse().ok()).collect();
    let resolution = match &object.service_type {
        ServiceType::ExternalName(target) => Resolution::Alias(target.clone()),
        _ if object.headless => Resolution::Passthrough,
        _ => Resolution::ClientSide,
    };
    let alias = matches!(resolution, Resolution::Alias(_));
    Service {
        key: context.service_key(key),
        ports: ports(&object.ports),
        vips: if vips.is_empty() || alias { Vec::new() } else { vec![(context.cluster.clone(), vips)] },
        resolution,
        labels: object.labels.clone(),
        namespace_labels: context.labels_of(namespace),
        export_to: export_to(object.export_to.as_deref().unwrap_or_default(), &key.namespace),
        node_local: object.node_local,
        publish_not_ready: object.publish_not_ready,
        created: object.created,
        traffic_distribution: traffic_distribution(
            &object.traffic_distribution_spec,
            object.traffic_distribution.as_deref(),
            namespace.map(|namespace| &*namespace.traffic_distribution).unwrap_or_default(),
        ),
        import: Import::No,
        ingress_waypoint: waypoint::of_ingress(context, &key.namespace, &object.labels, namespace),
        accounts: accounts(context, &key.namespace, object),
        entry: None,
    }
}

/// R4.30: the field of the Service, else its annotation, else its Namespace's annotation. A value of the field
/// that is not known leaves the word to the annotations; an annotation has the last word, whatever it says.
pub fn traffic_distribution(spec: &str, service: Option<&str>, namespace: &str) -> TrafficDistribution {
    let annotated = |text: &str| match text.to_ascii_lowercase().as_str() {
        "preferclose" | "prefersamezone" => TrafficDistribution::PreferSameZone,
        "prefersamenode" => TrafficDistribution::PreferSameNode,
        _ => TrafficDistribution::Any,
    };
    match (spec, service) {
        ("PreferClose" | "PreferSameZone", _) => TrafficDistribution::PreferSameZone,
        ("PreferSameNode", _) => TrafficDistribution::PreferSameNode,
        (_, Some(text)) => annotated(text),
        (_, None) => annotated(namespace),
    }
}

fn ports(objects: &[PortObject]) -> Vec<ServicePort> {
    let mut ports: BTreeMap<(Transport, u16), ServicePort> = BTreeMap::new();
    for object in objects {
        let Some(number) = u16::try_from(object.port).ok().filter(|number| *number != 0) else {
            continue;
        };
        let transport = match &*object.protocol {
            "UDP" => Transport::Udp,
            "SCTP" => Transport::Sctp,
            _ => Transport::Tcp,
        };
        ports.entry((transport, number)).or_insert_with(|| ServicePort {
            number,
            name: object.name.clone(),
            transport,
            protocol: protocol::protocol(transport, number, &object.name, &object.app_protocol),
        });
    }
    ports.into_values().collect()
}

/// R4.2: a comma list.
fn export_to(annotation: &str, namespace: &Name) -> ExportTo {
    exported(annotation.split(','), namespace)
}

/// R4.2: a list of `*`, `.`, `~` and namespaces; `*` anywhere means everybody. Without any the mesh says.
pub(super) fn exported<'a>(entries: impl Iterator<Item = &'a str>, namespace: &Name) -> ExportTo {
    let entries: Vec<_> = entries.map(str::trim).filter(|entry| !entry.is_empty()).collect();
    if entries.is_empty() {
        return ExportTo::Unset;
    }
    if entries.contains(&"*") {
        return ExportTo::Everywhere;
    }
    let namespaces: BTreeSet<Name> = entries
        .into_iter()
        .filter(|entry| *entry != "~")
        .map(|entry| if entry == "." { namespace.clone() } else { entry.into() })
        .collect();
    if namespaces.is_empty() { ExportTo::Nowhere } else { ExportTo::Namespaces(namespaces) }
}

/// R5.23. Canonical accounts are full identities; what is not one is left out.
fn accounts(context: &ClusterContext, namespace: &Name, object: &ServiceObject) -> Set<SpiffeId> {
    let list = |text: &Option<Name>| -> Vec<String> {
        let text = text.as_deref().unwrap_or_default();
        let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        entries.map(str::to_owned).collect()
    };
    let canonical = list(&object.canonical_accounts);
    let canonical = canonical.iter().filter_map(|account| SpiffeId::parse(account));
    let local = list(&object.kubernetes_accounts);
    let local = local.into_iter().map(|account| SpiffeId {
        trust_domain: context.trust_domain.clone(),
        namespace: namespace.clone(),
        service_account: account.into(),
    });
    canonical.chain(local).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::test_context;
    use super::*;
    use crate::model::PortProtocol;

    fn convert(metadata: Value, spec: Value) -> Service {
        let object = serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap();
        service(&test_context(), &ObjectKey::new("a", "s"), &object, None)
    }

    #[test]
    fn r0_5_the_host_name_is_name_namespace_svc_domain() {
        let service = convert(json!({"creationTimestamp": "2026-01-01T00:00:00Z"}), json!({}));
        assert_eq!(service.key.to_string(), "a/s.a.svc.cluster.local");
        assert_eq!(service.created, 1_767_225_600);
    }

    #[test]
    fn r5_21_kinds_of_services() {
        let resolution = |spec| convert(json!({}), spec).resolution;
        assert_eq!(resolution(json!({"clusterIP": "10.0.0.1"})), Resolution::ClientSide);
        assert_eq!(
            resolution(json!({"type": "LoadBalancer", "clusterIP": "10.0.0.1"})),
            Resolution::ClientSide
        );
        assert_eq!(resolution(json!({"clusterIP": "None"})), Resolution::Passthrough);
        assert_eq!(
            resolution(json!({"type": "ExternalName", "externalName": "example.com"})),
            Resolution::Alias("example.com".into())
        );
    }

    #[test]
    fn r4_30_traffic_distribution() {
        use TrafficDistribution::{Any, PreferSameNode, PreferSameZone};
        for (spec, own, namespace, expected) in [
            ("PreferClose", Some("PreferSameNode"), "", PreferSameZone),
            ("PreferSameZone", None, "", PreferSameZone),
            ("PreferSameNode", Some("PreferClose"), "", PreferSameNode),
            ("preferclose", None, "PreferSameNode", PreferSameNode),
            ("Odd", Some("PREFERCLOSE"), "PreferSameNode", PreferSameZone),
            ("", Some("odd"), "PreferClose", Any),
            ("", Some(""), "PreferClose", Any),
            ("", None, "prefersamenode", PreferSameNode),
            ("", None, "odd", Any),
            ("", None, "", Any),
        ] {
            assert_eq!(traffic_distribution(spec, own, namespace), expected, "{spec} {own:?} {namespace}");
        }
    }

    #[test]
    fn r5_22_vips() {
        let vips = |spec| -> Vec<String> {
            let service = convert(json!({}), spec);
            let all = service.vips.iter().flat_map(|(_, vips)| vips);
            all.map(ToString::to_string).collect()
        };
        assert_eq!(vips(json!({"clusterIP": "10.0.0.1"})), ["10.0.0.1"]);
        assert_eq!(
            vips(json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"]})),
            ["10.0.0.1", "fd00::1"]
        );
        assert!(vips(json!({"clusterIP": "None", "clusterIPs": ["None"]})).is_empty());
        assert!(vips(json!({})).is_empty());
    }

    #[test]
    fn r5_23_accounts_from_annotations() {
        let service = convert(
            json!({"annotations": {
                "alpha.istio.io/canonical-serviceaccounts": "spiffe://td/ns/x/sa/y, nonsense",
                "alpha.istio.io/kubernetes-serviceaccounts": "one,two"}}),
            json!({}),
        );
        let accounts: Vec<_> = service.accounts.iter().map(ToString::to_string).collect();
        assert_eq!(
            accounts,
            [
                "spiffe://cluster.local/ns/a/sa/one",
                "spiffe://cluster.local/ns/a/sa/two",
                "spiffe://td/ns/x/sa/y"
            ]
        );
    }

    #[test]
    fn r4_2_export_to() {
        let export = |text: &str| {
            convert(json!({"annotations": {"networking.istio.io/exportTo": text}}), json!({})).export_to
        };
        assert_eq!(export(""), ExportTo::Unset);
        assert_eq!(export("*"), ExportTo::Everywhere);
        assert_eq!(export("x,*"), ExportTo::Everywhere);
        assert_eq!(export("~"), ExportTo::Nowhere);
        assert_eq!(export("., x"), ExportTo::Namespaces(["a".into(), "x".into()].into()));
    }

    #[test]
    fn k_38_ports_that_cannot_be_are_left_out_and_the_rest_is_ordered() {
        let service = convert(
            json!({}),
            json!({"ports": [
                {"port": 70000}, {"port": 0}, {"port": -1}, {"port": 90, "name": "tcp-x"},
                {"port": 80, "name": "http"}, {"port": 80, "protocol": "UDP"}, {"port": 80, "name": "twice"}]}),
        );
        let ports: Vec<_> = service.ports.iter().map(|p| (p.number, p.transport, p.protocol)).collect();
        assert_eq!(
            ports,
            [
                (80, Transport::Tcp, PortProtocol::Http),
                (90, Transport::Tcp, PortProtocol::Tcp),
                (80, Transport::Udp, PortProtocol::Udp)
            ]
        );
    }
}
