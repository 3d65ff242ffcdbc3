use super::super::kinds::{self, NAMESPACES, PODS, SERVICES};
use super::*;

fn service(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "n", "name": name},
           "spec": {"ports": [{"port": 80}]}})
}

fn changes(store: &Store, kind: &Kind, after: u64) -> Vec<object::Change> {
    store.events_after(kind, after, 100).unwrap().events.iter().map(|event| event.change).collect()
}

#[test]
fn an_object_gets_identity_version_and_address() {
    let store = Store::default();
    let made = store.create(service("a")).unwrap();
    assert_eq!(made["metadata"]["uid"].as_str().unwrap().len(), 36);
    assert_eq!(made["metadata"]["resourceVersion"], store.resource_version().to_string());
    assert!(made["metadata"].get("generation").is_none(), "Services are not counted");
    assert_eq!(made["spec"]["clusterIP"], "10.96.0.1");
    assert_eq!(store.create(service("a")).unwrap_err().reason(), "AlreadyExists");
}

#[test]
fn an_update_that_changes_nothing_is_no_event() {
    let store = Store::default();
    let made = store.create(service("a")).unwrap();
    let version = store.resource_version();
    let same = store.update(Value::clone(&made)).unwrap();
    assert_eq!((same, store.resource_version()), (made, version));
}

#[test]
fn a_stale_version_conflicts_and_none_overwrites() {
    let store = Store::default();
    let old = Value::clone(&store.create(service("a")).unwrap());
    let mut next = old.clone();
    next["spec"]["ports"][0]["port"] = json!(81);
    let updated = store.update(next.clone()).unwrap();
    assert_ne!(updated["metadata"]["resourceVersion"], old["metadata"]["resourceVersion"]);
    next["spec"]["ports"][0]["port"] = json!(82);
    assert_eq!(store.update(next).unwrap_err().reason(), "Conflict");
    assert_eq!(store.apply(service("a")).unwrap()["metadata"]["uid"], old["metadata"]["uid"]);
}

#[test]
fn the_main_and_the_status_part_do_not_touch_each_other() {
    let store = Store::default();
    store.create(service("a")).unwrap();
    let key = ObjectKey::new("n", "a");
    let write = |part| {
        store.modify(&SERVICES, &key, part, Effect::Stored, |current| {
            let mut next = current.clone();
            next["spec"]["type"] = json!("LoadBalancer");
            next["status"]["loadBalancer"] = json!({"ingress": [{"ip": "192.0.2.1"}]});
            Ok(next)
        })
    };
    let status = write(Part::Status).unwrap().value();
    assert_eq!(status["spec"]["type"], "ClusterIP");
    assert_eq!(status["status"]["loadBalancer"]["ingress"][0]["ip"], "192.0.2.1");
    let main = store
        .modify(&SERVICES, &key, Part::Main, Effect::Stored, |current| {
            let mut next = current.clone();
            next["spec"]["type"] = json!("NodePort");
            next["status"] = json!({});
            Ok(next)
        })
        .unwrap()
        .value();
    assert_eq!(main["spec"]["type"], "NodePort");
    assert_eq!(main["status"]["loadBalancer"]["ingress"][0]["ip"], "192.0.2.1");
}

#[test]
fn a_deleted_namespace_takes_its_objects_along() {
    let store = Store::default();
    store.create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}})).unwrap();
    store.create(service("a")).unwrap();
    let before = store.resource_version();
    store.delete(&NAMESPACES, "", "n").unwrap();
    assert!(store.list(&SERVICES, None).is_empty());
    assert_eq!(changes(&store, &SERVICES, before), [object::Change::Deleted]);
}

#[test]
fn finalizers_hold_a_deletion_until_they_are_gone() {
    let store = Store::default();
    let mut held = service("a");
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    store.create(held).unwrap();
    let before = store.resource_version();
    store.delete(&SERVICES, "n", "a").unwrap();
    let waiting = store.get(&SERVICES, "n", "a").unwrap();
    assert!(waiting["metadata"]["deletionTimestamp"].is_string());
    store.patch(&SERVICES, "n", "a", &json!({"metadata": {"finalizers": null}})).unwrap();
    assert!(store.get(&SERVICES, "n", "a").is_none());
    assert_eq!(changes(&store, &SERVICES, before), [object::Change::Modified, object::Change::Deleted]);
}

#[test]
fn a_patch_may_not_rename_or_use_a_stale_version() {
    let store = Store::default();
    store.create(service("a")).unwrap();
    let rename = json!({"metadata": {"name": "b"}});
    assert_eq!(store.patch(&SERVICES, "n", "a", &rename).unwrap_err().code(), 400);
    let stale = json!({"metadata": {"resourceVersion": "1"}, "spec": {"type": "NodePort"}});
    assert_eq!(store.patch(&SERVICES, "n", "a", &stale).unwrap_err().code(), 409);
    assert_eq!(store.patch(&PODS, "n", "a", &json!({})).unwrap_err().code(), 404);
}

#[test]
fn unknown_kinds_are_refused_by_name() {
    let error = Store::default().create(json!({"apiVersion": "v1", "kind": "Widget"})).unwrap_err();
    assert!(error.to_string().contains("Widget"), "{error}");
}

#[test]
fn generated_names_keep_their_prefix() {
    let mut object = service("");
    object["metadata"] = json!({"generateName": "web-", "namespace": "n"});
    let made = Store::default().create(object).unwrap();
    let name = made["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("web-") && name.len() == 9, "{name}");
}

#[test]
fn what_is_wanted_is_counted_where_a_real_server_counts_it() {
    let store = Store::default();
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment",
                            "metadata": {"namespace": "n", "name": "d"}, "spec": {"replicas": 1}});
    let made = store.create(deployment).unwrap();
    let generation = |object: &Value| object["metadata"]["generation"].as_u64();
    assert_eq!(generation(&made), Some(1));
    let kind = &kinds::DEPLOYMENTS;
    let labelled = store.patch(kind, "n", "d", &json!({"metadata": {"labels": {"a": "b"}}})).unwrap();
    assert_eq!(generation(&labelled), Some(1));
    let reported = store.patch(kind, "n", "d", &json!({"status": {"replicas": 1}})).unwrap();
    assert_eq!(generation(&reported), Some(1));
    let scaled = store.patch(kind, "n", "d", &json!({"spec": {"replicas": 2}})).unwrap();
    assert_eq!(generation(&scaled), Some(2));
}

#[test]
fn a_store_shows_no_object() {
    let store = Store::default();
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"},
                        "stringData": {"password": "hush"}});
    store.create(secret).unwrap();
    let shown = format!("{store:?}");
    // Neither as it was written nor as it is stored.
    assert!(!shown.contains("hush") && !shown.contains("aHVzaA") && shown.contains("version: 2"), "{shown}");
}

#[test]
fn generated_names_fit_into_a_label() {
    let mut object = service("");
    object["metadata"] = json!({"generateName": "x".repeat(80), "namespace": "n"});
    let made = Store::default().create(object).unwrap();
    assert_eq!(made["metadata"]["name"].as_str().unwrap().len(), 63);
}

#[test]
fn an_address_is_given_to_one_service_only() {
    let store = Store::default();
    let mut asked = service("asked");
    asked["spec"]["clusterIP"] = json!("10.96.0.2");
    store.create(asked).unwrap();
    let addresses: Vec<Value> =
        ["a", "b"].map(|name| store.create(service(name)).unwrap()["spec"]["clusterIP"].clone()).into();
    assert_eq!(addresses, [json!("10.96.0.1"), json!("10.96.0.3")]);
}

fn widgets(served: bool) -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
           "metadata": {"name": "widgets.example.org"},
           "spec": {"group": "example.org", "scope": "Cluster", "names": {"plural": "widgets", "kind": "Widget"},
                    "versions": [{"name": "v1", "served": served, "storage": true,
                                  "schema": {"openAPIV3Schema": {"type": "object"}}}]}})
}

#[test]
fn a_definition_takes_every_object_along() {
    let store = Store::default();
    let widget = |name: &str| {
        json!({"apiVersion": "example.org/v1", "kind": "Widget",
               "metadata": {"name": name, "finalizers": ["example.org/hold"]}})
    };
    for served_at_the_end in [true, false] {
        store.apply(widgets(true)).unwrap();
        let kinds = store.kinds();
        let kind = kinds.of_object("example.org/v1", "Widget").unwrap();
        assert!(store.list(kind, None).is_empty(), "nothing is left from before");
        store.create(widget("w")).unwrap();
        let before = store.resource_version();
        store.apply(widgets(served_at_the_end)).unwrap();
        store.delete(&kinds::CUSTOM_RESOURCE_DEFINITIONS, "", "widgets.example.org").unwrap();
        assert_eq!(changes(&store, kind, before), [object::Change::Deleted]);
    }
    store.apply(widgets(true)).unwrap();
    let kinds = store.kinds();
    assert!(store.list(kinds.of_object("example.org/v1", "Widget").unwrap(), None).is_empty());
}
