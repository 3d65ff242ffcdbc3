//! The manifests of `deploy/`: exactly the rights that are needed (Z-12 to Z-14).
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

/// `role: group/resource verb`, one for each right.
fn rights(file: &str) -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    let mut rights = BTreeSet::new();
    for document in text.split("\n---\n") {
        let object: Value = serde_saphyr::from_str(document).unwrap();
        let kind = object["kind"].as_str().unwrap();
        let texts = |value: &Value| -> Vec<String> {
            let all = value.as_array().into_iter().flatten();
            all.map(|text| text.as_str().unwrap().to_owned()).collect()
        };
        for rule in object["rules"].as_array().into_iter().flatten() {
            let names = texts(&rule["resourceNames"]);
            let names = if names.is_empty() { String::new() } else { format!(" of {}", names.join(", ")) };
            for group in texts(&rule["apiGroups"]) {
                for resource in texts(&rule["resources"]) {
                    for verb in texts(&rule["verbs"]) {
                        rights.insert(format!("{kind}: {group}/{resource}{names} {verb}"));
                    }
                }
            }
        }
    }
    rights
}

fn reading(role: &str, resources: &[&str]) -> BTreeSet<String> {
    let verbs = ["get", "list", "watch"];
    resources.iter().flat_map(|of| verbs.map(|verb| format!("{role}: {of} {verb}"))).collect()
}

#[test]
fn z12_remote_clusters_are_read_without_secrets_and_config_maps() {
    let expected = [
        "/services",
        "/pods",
        "/nodes",
        "/namespaces",
        "discovery.k8s.io/endpointslices",
        "gateway.networking.k8s.io/gateways",
        "multicluster.x-k8s.io/serviceexports",
        "multicluster.x-k8s.io/serviceimports",
    ];
    assert_eq!(rights("reader-rbac.yaml"), reading("ClusterRole", &expected));
}

#[test]
fn r4_40_exports_are_made_and_nothing_else_is_written() {
    let expected = ["ClusterRole: multicluster.x-k8s.io/serviceexports create".to_owned()];
    assert_eq!(rights("export-rbac.yaml"), expected.into());
}

#[test]
fn z13_at_home_only_the_system_namespace_shows_secrets() {
    let expected = ["/secrets", "/configmaps of istio"];
    assert_eq!(rights("home-rbac.yaml"), reading("Role", &expected));
}
