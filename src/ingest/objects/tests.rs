//! Objects by what is written in them.

use serde_json::json;

use super::*;

#[test]
fn missing_and_null_fields_default() {
    let service: ServiceObject = serde_json::from_value(json!({
        "metadata": {"name": "a", "labels": null, "annotations": null},
        "spec": {"ports": null, "clusterIPs": null, "somethingNew": {"x": 1}},
        "status": null,
    }))
    .unwrap();
    assert_eq!(service, ServiceObject::default());
    assert_eq!(serde_json::from_value::<PodObject>(json!({})).unwrap(), PodObject::default());
    assert_eq!(
        serde_json::from_value::<SliceObject>(
            json!({"endpoints": [{"addresses": ["a"], "conditions": null}]})
        )
        .unwrap()
        .endpoints,
        vec![SliceEndpoint {
            addresses: SliceAddresses::Texts(vec!["a".into()].into()),
            ..SliceEndpoint::default()
        }]
    );
}

#[test]
fn hosts_of_entries_are_read_in_lower_case_each_once() {
    let entry: ServiceEntryObject = serde_json::from_value(json!({
        "spec": {"hosts": ["API.example.com", "api.example.com", "b.example"], "ports": [{"number": 443}]},
        "status": {"addresses": [{"host": "API.example.com", "value": "240.0.0.1"}]},
    }))
    .unwrap();
    assert_eq!(entry.hosts, ["api.example.com".into(), "b.example".into()]);
    assert_eq!(entry.allocated[0].0, "api.example.com".into());
}

#[test]
fn r5_1_slices_of_other_kinds_belong_to_no_service() {
    let service = |labels: serde_json::Value, address_type: &str| {
        serde_json::from_value::<SliceObject>(
            json!({"metadata": {"labels": labels}, "addressType": address_type}),
        )
        .unwrap()
        .service
    };
    assert_eq!(service(json!({"kubernetes.io/service-name": "s"}), "IPv4"), Some("s".into()));
    assert_eq!(service(json!({"kubernetes.io/service-name": "s"}), "FQDN"), None);
    assert_eq!(
        service(
            json!({"kubernetes.io/service-name": "s", "multicluster.kubernetes.io/service-name": "s"}),
            "IPv4"
        ),
        None
    );
    assert_eq!(service(json!({}), "IPv4"), None);
}

#[test]
fn r5_7_a_pod_lends_its_metadata_only_while_ready_running_and_not_leaving() {
    let pod = |phase: &str, ready: &str, leaving: bool| -> PodObject {
        let mut meta = json!({"name": "p"});
        if leaving {
            meta["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        serde_json::from_value(json!({"metadata": meta, "status": {
            "phase": phase, "podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": ready}]}}))
        .unwrap()
    };
    assert!(pod("Running", "True", false).lends);
    assert!(!pod("Running", "False", false).lends);
    assert!(!pod("Succeeded", "True", false).lends);
    assert!(!pod("Failed", "True", false).lends);
    assert!(!pod("Running", "True", true).lends);
    assert!(pod("Failed", "True", false).failed);
}

#[test]
fn a_secret_never_shows_its_values() {
    let secret: SecretObject =
        serde_json::from_value(json!({"data": {"west": "Y2FuYXJ5", "bad": "***"}})).unwrap();
    assert_eq!(secret.data["west"].as_deref(), Some(&b"canary"[..]));
    assert_eq!(secret.data["bad"], None);
    let shown = format!("{secret:?}");
    assert!(shown.contains("west") && !shown.contains("canary") && !shown.contains("99"));
}

#[test]
fn k36_of_the_addresses_of_a_pod_a_few_are_read() {
    let ips: Vec<_> = (0..200).map(|n| json!({"ip": format!("10.0.0.{n}")})).collect();
    let pod: PodObject =
        serde_json::from_value(json!({"status": {"podIP": "10.0.0.0", "podIPs": ips}})).unwrap();
    assert_eq!(pod.addresses.len(), 16);
}

#[test]
fn k34_a_secret_that_does_not_say_when_it_was_made_was_not_made_first() {
    let created =
        |metadata| serde_json::from_value::<SecretObject>(json!({"metadata": metadata})).unwrap().created;
    assert_eq!(created(json!({"creationTimestamp": "1970-01-01T00:00:07Z"})), 7);
    assert_eq!(created(json!({"creationTimestamp": "soon"})), i64::MAX);
    assert_eq!(created(json!({})), i64::MAX);
}
