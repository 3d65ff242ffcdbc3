//! The documents by which clients learn what a server serves; generated from the table of kinds.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::definition;
use super::kinds::{self, Kind, Kinds};
use super::reviews::{self, REVIEWS, Review};

/// The Kubernetes version this server claims.
pub(super) const GIT_VERSION: &str = "v1.35.4";

/// What may be done to objects of `kind`.
pub(super) fn verbs(kind: &Kind) -> Vec<&'static str> {
    let mut verbs = vec!["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
    // Namespaces go one at a time.
    verbs.retain(|verb| *verb != "deletecollection" || !kind.is(&kinds::NAMESPACES));
    verbs
}

/// `/version`.
pub(super) fn version() -> Value {
    json!({
        "major": "1",
        "minor": "35",
        "gitVersion": format!("{GIT_VERSION}+tombolo"),
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "none",
        "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
    })
}

/// `/api`.
pub(super) fn core_versions(address: &str) -> Value {
    json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
    })
}

/// `/apis`.
pub(super) fn groups(kinds: &Kinds) -> Value {
    let groups: Vec<Value> = group_names(kinds).iter().map(|group| group_entry(kinds, group)).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// The groups with a name, each once.
pub(super) fn group_names(kinds: &Kinds) -> Vec<String> {
    let mut groups: Vec<String> = kinds.group_versions().into_iter().map(|(group, _)| group).collect();
    groups.extend(REVIEWS.iter().map(|review| review.group.to_owned()));
    let mut seen = HashSet::new();
    groups.retain(|group| !group.is_empty() && seen.insert(group.clone()));
    groups
}

/// `/apis/<group>`.
pub(super) fn group(kinds: &Kinds, name: &str) -> Value {
    let mut entry = group_entry(kinds, name);
    entry["kind"] = json!("APIGroup");
    entry["apiVersion"] = json!("v1");
    entry
}

fn group_entry(kinds: &Kinds, name: &str) -> Value {
    let entry = |version: &String| json!({"groupVersion": format!("{name}/{version}"), "version": version});
    let versions: Vec<Value> = versions(kinds, name).iter().map(entry).collect();
    json!({"name": name, "versions": versions, "preferredVersion": versions[0]})
}

/// The versions of a group, the preferred one first.
pub(super) fn versions(kinds: &Kinds, group: &str) -> Vec<String> {
    let of_group = kinds.group_versions().into_iter().filter(|(g, _)| g == group);
    let mut versions: Vec<String> = of_group.map(|(_, version)| version).collect();
    if versions.is_empty() && REVIEWS.iter().any(|review| review.group == group) {
        versions.push(reviews::VERSION.to_owned());
    }
    versions.sort_by_key(|version| std::cmp::Reverse(definition::priority(version)));
    versions
}

/// `/api/v1` and `/apis/<group>/<version>`.
pub(super) fn resources(kinds: &Kinds, group: &str, version: &str) -> Value {
    let rows = kinds.iter().filter(|kind| kind.group == group && kind.version == version);
    let reviews =
        REVIEWS.iter().filter(|r| r.group == group && version == reviews::VERSION).map(review_entry);
    let resources: Vec<Value> = rows.flat_map(|kind| resource_entries(kind)).chain(reviews).collect();
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": group_version,
        "resources": resources,
    })
}

fn review_entry(review: &Review) -> Value {
    json!({
        "name": review.plural,
        "singularName": review.kind.to_lowercase(),
        "namespaced": false,
        "kind": review.kind,
        "verbs": ["create"],
    })
}

fn resource_entries(kind: &Kind) -> Vec<Value> {
    let mut entry = json!({
        "name": kind.plural,
        "singularName": kind.singular,
        "namespaced": kind.is_namespaced(),
        "kind": kind.kind,
        "verbs": verbs(kind),
    });
    if !kind.short_names.is_empty() {
        entry["shortNames"] = json!(kind.short_names);
    }
    if !kind.categories.is_empty() {
        entry["categories"] = json!(kind.categories);
    }
    let mut entries = vec![entry];
    let part = |name: &str, kind_name: &str| {
        json!({
            "name": format!("{}/{name}", kind.plural),
            "singularName": "",
            "namespaced": kind.is_namespaced(),
            "kind": kind_name,
            "verbs": ["get", "patch", "update"],
        })
    };
    if kind.has_scale() {
        let mut scale = part("scale", "Scale");
        scale["group"] = json!("autoscaling");
        scale["version"] = json!("v1");
        entries.push(scale);
    }
    if kind.is(&kinds::SERVICE_ACCOUNTS) {
        let mut token = part("token", "TokenRequest");
        token["group"] = json!("authentication.k8s.io");
        token["version"] = json!("v1");
        token["verbs"] = json!(["create"]);
        entries.push(token);
    }
    if kind.has_status {
        entries.push(part("status", &kind.kind));
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn discovery_lists_every_kind_of_a_group() {
        let kinds = Kinds::default();
        let core = resources(&kinds, "", "v1");
        assert_eq!(core["groupVersion"], "v1");
        let names: Vec<&str> =
            core["resources"].as_array().unwrap().iter().filter_map(|r| r["name"].as_str()).collect();
        assert!(names.contains(&"pods") && names.contains(&"pods/status") && names.contains(&"namespaces"));
        assert!(!names.contains(&"deployments"));
        let apps = resources(&kinds, "apps", "v1");
        assert_eq!(apps["resources"][0]["shortNames"], json!(["deploy"]));
    }

    #[test]
    fn groups_leave_the_core_group_to_its_own_path() {
        let groups = groups(&Kinds::default());
        let names: Vec<&str> =
            groups["groups"].as_array().unwrap().iter().filter_map(|g| g["name"].as_str()).collect();
        let wanted = [
            "apps",
            "coordination.k8s.io",
            "discovery.k8s.io",
            "apiextensions.k8s.io",
            "authentication.k8s.io",
            "authorization.k8s.io",
        ];
        assert_eq!(names, wanted);
    }
}
