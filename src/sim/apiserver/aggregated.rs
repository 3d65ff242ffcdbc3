//! Aggregated discovery: every group, version and resource in one document, which current clients ask for
//! before anything else.

use serde_json::{Value, json};

use super::discovery;
use super::kinds::{self, Kind, Kinds};
use super::reviews::{self, REVIEWS, Review};

/// The media type of the document, as asked for and as answered.
pub(super) const MEDIA: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// Whether an `Accept` header asks for the document before the plain one.
pub(super) fn is_accepted(accept: &str) -> bool {
    let offered = |offer: &str| {
        let mut parts = offer.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        let parameters: Vec<&str> = parts.collect();
        let wanted = ["g=apidiscovery.k8s.io", "v=v2", "as=APIGroupDiscoveryList"];
        media == "application/json" && wanted.iter().all(|parameter| parameters.contains(parameter))
    };
    let plain = |offer: &str| offer.trim() == "application/json";
    accept.split(',').find(|offer| offered(offer) || plain(offer)).is_some_and(offered)
}

/// The groups of `/api` (the core group) or of `/apis` (the named ones).
pub(super) fn document(kinds: &Kinds, core: bool) -> Value {
    let groups = if core { vec![String::new()] } else { discovery::group_names(kinds) };
    let items: Vec<Value> = groups.iter().map(|group| item(kinds, group)).collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": items,
    })
}

fn item(kinds: &Kinds, group: &str) -> Value {
    let version = |version: &String| {
        let rows = kinds.iter().filter(|kind| kind.group == group && kind.version == *version);
        let reviews = REVIEWS.iter().filter(|r| r.group == group && version == reviews::VERSION).map(review);
        let resources: Vec<Value> = rows.map(|kind| resource(kind)).chain(reviews).collect();
        json!({"version": version, "resources": resources, "freshness": "Current"})
    };
    let versions: Vec<Value> = discovery::versions(kinds, group).iter().map(version).collect();
    // The core group has no name.
    let metadata = if group.is_empty() { json!({}) } else { json!({"name": group}) };
    json!({"metadata": metadata, "versions": versions})
}

fn review(review: &Review) -> Value {
    json!({
        "resource": review.plural,
        "responseKind": {"group": review.group, "version": reviews::VERSION, "kind": review.kind},
        "scope": "Cluster",
        "singularResource": review.kind.to_lowercase(),
        "verbs": ["create"],
    })
}

fn resource(kind: &Kind) -> Value {
    let own = json!({"group": kind.group, "version": kind.version, "kind": kind.kind});
    let part = |name: &str, response: Value| json!({"subresource": name, "responseKind": response, "verbs": ["get", "patch", "update"]});
    let mut parts = Vec::new();
    if kind.has_scale() {
        parts.push(part("scale", json!({"group": "autoscaling", "version": "v1", "kind": "Scale"})));
    }
    if kind.is(&kinds::SERVICE_ACCOUNTS) {
        let kind = json!({"group": "authentication.k8s.io", "version": "v1", "kind": "TokenRequest"});
        parts.push(json!({"subresource": "token", "responseKind": kind, "verbs": ["create"]}));
    }
    if kind.has_status {
        parts.push(part("status", own.clone()));
    }
    let mut entry = json!({
        "resource": kind.plural,
        "responseKind": own,
        "scope": if kind.is_namespaced() { "Namespaced" } else { "Cluster" },
        "singularResource": kind.singular,
        "verbs": discovery::verbs(kind),
    });
    for (field, values) in [("shortNames", &kind.short_names), ("categories", &kind.categories)] {
        if !values.is_empty() {
            entry[field] = json!(values);
        }
    }
    if !parts.is_empty() {
        entry["subresources"] = json!(parts);
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_form_named_is_chosen() {
        assert!(is_accepted(&format!("{MEDIA},application/json")));
        assert!(is_accepted(
            "application/json;as=APIGroupDiscoveryList;v=v2beta1;g=apidiscovery.k8s.io,\
             application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
        ));
        for plain in ["", "application/json", "*/*", "application/json,application/json;as=Table;v=v1"] {
            assert!(!is_accepted(plain), "{plain}");
        }
    }

    #[test]
    fn every_kind_and_its_parts_are_in_one_document() {
        let kinds = Kinds::default();
        let (core, named) = (document(&kinds, true), document(&kinds, false));
        assert!(core["items"][0]["metadata"].get("name").is_none());
        let count = |document: &Value| -> usize {
            let items = document["items"].as_array().unwrap().iter();
            items.map(|item| item["versions"][0]["resources"].as_array().unwrap().len()).sum()
        };
        assert_eq!(count(&core) + count(&named), kinds.iter().count() + REVIEWS.len());
        let apps = &named["items"][0]["versions"][0]["resources"][0];
        let parts: Vec<&str> = apps["subresources"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|s| s["subresource"].as_str())
            .collect();
        assert_eq!((apps["resource"].as_str(), parts), (Some("deployments"), vec!["scale", "status"]));
    }
}
