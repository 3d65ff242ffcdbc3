//! The manifests of `deploy/`: exactly the rights that are needed, and for whom (Z-12 to Z-14).
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

fn manifest(file: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(file)).unwrap()
}

fn texts(value: &Value) -> Vec<String> {
    let all = value.as_array().into_iter().flatten();
    all.map(|text| text.as_str().unwrap().to_owned()).collect()
}

fn text<'a>(object: &'a Value, name: &str) -> &'a str {
    object[name].as_str().unwrap_or_default()
}

/// Namespace and name of what an object is or refers to.
fn named(object: &Value) -> String {
    match text(object, "namespace") {
        "" => text(object, "name").to_owned(),
        namespace => format!("{namespace}/{}", text(object, "name")),
    }
}

/// Everything a manifest grants: `role: group/resource verb`, and `binding: role to subject`.
fn grants(manifest: &str) -> BTreeSet<String> {
    let mut grants = BTreeSet::new();
    for document in manifest.split("\n---\n") {
        let object: Value = serde_saphyr::from_str(document).unwrap();
        let who = format!("{} {}", text(&object, "kind"), named(&object["metadata"]));
        for (field, value) in object.as_object().unwrap() {
            match field.as_str() {
                "apiVersion" | "kind" | "metadata" => {}
                "rules" => {
                    grants.extend(value.as_array().unwrap().iter().flat_map(|rule| of_rule(&who, rule)))
                }
                "roleRef" => {
                    let role = format!("{} {}", text(value, "kind"), text(value, "name"));
                    let to = |subject: &Value| format!("{} {}", text(subject, "kind"), named(subject));
                    let subjects = object["subjects"].as_array().unwrap().iter().map(to);
                    grants.extend(subjects.map(|subject| format!("{who}: {role} to {subject}")));
                }
                "subjects" => {}
                other => {
                    grants.insert(format!("{who}: {other}, whatever that grants"));
                }
            }
        }
    }
    grants
}

fn of_rule(who: &str, rule: &Value) -> Vec<String> {
    let known = ["apiGroups", "resources", "resourceNames", "verbs"];
    let others = rule.as_object().unwrap().keys().filter(|field| !known.contains(&field.as_str()));
    let mut grants: Vec<_> =
        others.map(|field| format!("{who}: {field} {}", texts(&rule[field]).join(", "))).collect();
    let names = texts(&rule["resourceNames"]);
    let names = if names.is_empty() { String::new() } else { format!(" of {}", names.join(", ")) };
    for group in texts(&rule["apiGroups"]) {
        for resource in texts(&rule["resources"]) {
            let verbs = texts(&rule["verbs"]).into_iter();
            grants.extend(verbs.map(|verb| format!("{who}: {group}/{resource}{names} {verb}")));
        }
    }
    grants
}

fn reading(role: &str, resources: &[&str], binding: &str) -> BTreeSet<String> {
    let verbs = ["get", "list", "watch"];
    let rights = resources.iter().flat_map(|of| verbs.map(|verb| format!("{role}: {of} {verb}")));
    rights
        .chain([format!("{binding}: {} to ServiceAccount istio-system/tombolo-reader", unplaced(role))])
        .collect()
}

/// What a binding refers to: the namespace is its own.
fn unplaced(role: &str) -> String {
    role.replace("istio-system/", "")
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
        "networking.istio.io/workloadentries",
    ];
    let binding = "ClusterRoleBinding tombolo-reader";
    assert_eq!(
        grants(&manifest("reader-rbac.yaml")),
        reading("ClusterRole tombolo-reader", &expected, binding)
    );
}

#[test]
fn r4_40_exports_are_made_and_nothing_else_is_written() {
    let expected = [
        "ClusterRole tombolo-exporter: multicluster.x-k8s.io/serviceexports create",
        "ClusterRoleBinding tombolo-exporter: ClusterRole tombolo-exporter to \
         ServiceAccount istio-system/tombolo-reader",
    ];
    assert_eq!(grants(&manifest("export-rbac.yaml")), expected.map(str::to_owned).into());
}

#[test]
fn z13_at_home_only_the_system_namespace_shows_secrets_and_every_one_its_policies() {
    let expected = ["/secrets", "/configmaps of istio"];
    let binding = "RoleBinding istio-system/tombolo-home";
    let mut all = reading("Role istio-system/tombolo-home", &expected, binding);
    let policies = [
        "networking.istio.io/destinationrules",
        "networking.istio.io/gateways",
        "networking.istio.io/serviceentries",
        "networking.istio.io/sidecars",
        "networking.istio.io/virtualservices",
        "security.istio.io/authorizationpolicies",
        "security.istio.io/peerauthentications",
    ];
    all.extend(reading("ClusterRole tombolo-home", &policies, "ClusterRoleBinding tombolo-home"));
    assert_eq!(grants(&manifest("home-rbac.yaml")), all);
}

#[test]
fn nothing_that_grants_more_goes_unseen() {
    let (reader, home) = (manifest("reader-rbac.yaml"), manifest("home-rbac.yaml"));
    for (manifest, from, to) in [
        (&reader, "rules:\n", "rules:\n  - nonResourceURLs: [\"*\"]\n    verbs: [get]\n"),
        (&reader, "rules:\n", "aggregationRule: {clusterRoleSelectors: [{}]}\nrules:\n"),
        (&reader, "subjects:\n", "subjects:\n  - {kind: Group, name: \"system:authenticated\"}\n"),
        (&reader, "  name: tombolo-reader\nsubjects", "  name: cluster-admin\nsubjects"),
        (&reader, "[services,", "[secrets, services,"),
        (&home, "  namespace: istio-system\nrules", "  namespace: default\nrules"),
        (&home, "  namespace: istio-system\nroleRef", "  namespace: default\nroleRef"),
        (&home, "kind: RoleBinding", "kind: ClusterRoleBinding"),
        (&home, "    resourceNames: [istio]\n", ""),
    ] {
        assert!(manifest.contains(from), "{from}");
        assert_ne!(grants(&manifest.replacen(from, to, 1)), grants(manifest), "{to}");
    }
}
