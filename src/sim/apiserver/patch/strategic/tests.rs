use serde_json::json;

use super::super::shape;
use super::*;

fn patched(group: &str, kind: &str, mut target: Value, patch: Value) -> Result<Value, ApiError> {
    let shape = shape::of(group, kind).unwrap();
    apply(target.as_object_mut().unwrap(), patch.as_object().unwrap(), shape)?;
    Ok(target)
}

/// `containers` of a Pod before, of the patch, and after.
fn containers(before: Value, patch: Value) -> Value {
    let inside = |list: Value| json!({"spec": {"containers": list}});
    let mut pod = patched("", "Pod", inside(before), inside(patch)).unwrap();
    pod["spec"]["containers"].take()
}

#[test]
fn containers_merge_by_name_and_their_parts_by_their_keys() {
    let before = json!([
        {"name": "app", "image": "a:1", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
         "ports": [{"containerPort": 80, "name": "http"}], "args": ["x", "y"]},
        {"name": "side", "image": "s:1"}]);
    let patch = json!([{"name": "app", "image": "a:2", "args": ["z"], "env": [{"name": "B", "value": "3"}],
                        "ports": [{"containerPort": 80, "protocol": "TCP"}]}]);
    assert_eq!(
        containers(before, patch),
        json!([
            {"name": "app", "image": "a:2", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "3"}],
             "ports": [{"containerPort": 80, "name": "http", "protocol": "TCP"}], "args": ["z"]},
            {"name": "side", "image": "s:1"}])
    );
}

#[test]
fn directives_in_a_list_delete_one_item_or_replace_all() {
    let before = json!([{"name": "a"}, {"name": "b"}, {"name": "c"}]);
    let delete = json!([{"$patch": "delete", "name": "b"}]);
    assert_eq!(containers(before.clone(), delete), json!([{"name": "a"}, {"name": "c"}]));
    let replace = json!([{"$patch": "replace"}, {"name": "z"}]);
    assert_eq!(containers(before, replace), json!([{"name": "z"}]));
}

#[test]
fn directives_in_an_object_replace_or_empty_it() {
    let before = json!({"metadata": {"labels": {"a": "1", "b": "2"}}});
    let patch = json!({"metadata": {"labels": {"$patch": "replace", "c": "3"}}});
    assert_eq!(
        patched("", "ConfigMap", before.clone(), patch).unwrap(),
        json!({"metadata": {"labels": {"c": "3"}}})
    );
    let patch = json!({"metadata": {"labels": {"$patch": "delete"}}});
    assert_eq!(patched("", "ConfigMap", before, patch).unwrap(), json!({"metadata": {"labels": {}}}));
}

#[test]
fn retained_keys_are_all_that_stays() {
    let before = json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}});
    let patch = json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}});
    assert_eq!(
        patched("apps", "Deployment", before.clone(), patch).unwrap(),
        json!({"spec": {"strategy": {"type": "Recreate"}}})
    );
    let patch = json!({"spec": {"strategy": {"$retainKeys": ["rollingUpdate"], "type": "Recreate"}}});
    assert_eq!(patched("apps", "Deployment", before, patch).unwrap_err().code(), 400);
}

#[test]
fn sets_grow_and_shrink_by_value() {
    let before = json!({"metadata": {"finalizers": ["a", "b"]}});
    let patch = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["c", "b"]}});
    let after = patched("", "Pod", before, patch).unwrap();
    let mut finalizers: Vec<&str> =
        after["metadata"]["finalizers"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    finalizers.sort_unstable();
    assert_eq!(finalizers, ["b", "c"]);
}

#[test]
fn element_order_is_applied_with_and_without_a_list() {
    let before = json!({"spec": {"ports": [{"port": 1}, {"port": 2}, {"port": 3}]}});
    let patch = json!({"spec": {"$setElementOrder/ports": [{"port": 4}, {"port": 2}, {"port": 1}],
                                "ports": [{"port": 4, "name": "new"}]}});
    assert_eq!(
        patched("", "Service", before.clone(), patch).unwrap(),
        json!({"spec": {"ports": [{"port": 4, "name": "new"}, {"port": 2}, {"port": 1}, {"port": 3}]}})
    );
    let patch = json!({"spec": {"$setElementOrder/ports": [{"port": 3}, {"port": 2}, {"port": 1}]}});
    assert_eq!(
        patched("", "Service", before, patch).unwrap(),
        json!({"spec": {"ports": [{"port": 3}, {"port": 2}, {"port": 1}]}})
    );
}

#[test]
fn unkeyed_lists_are_replaced_and_nulls_remove() {
    let before = json!({"spec": {"tolerations": [{"key": "a"}], "nodeName": "n"}});
    let patch = json!({"spec": {"tolerations": [{"key": "b", "value": null}], "nodeName": null,
                                "absent": {"x": null, "y": 1}}});
    assert_eq!(
        patched("", "Pod", before, patch).unwrap(),
        json!({"spec": {"tolerations": [{"key": "b"}], "absent": {"y": 1}}})
    );
}

#[test]
fn conditions_merge_by_type_owners_by_uid() {
    let before = json!({"metadata": {"ownerReferences": [{"uid": "1", "name": "a"}]},
                        "status": {"conditions": [{"type": "Ready", "status": "False", "reason": "x"}]}});
    let patch = json!({"metadata": {"ownerReferences": [{"uid": "1", "controller": true}]},
                       "status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    assert_eq!(
        patched("", "Node", before, patch).unwrap(),
        json!({"metadata": {"ownerReferences": [{"uid": "1", "name": "a", "controller": true}]},
               "status": {"conditions": [{"type": "Ready", "status": "True", "reason": "x"}]}})
    );
}

#[test]
fn malformed_patches_are_refused() {
    let pod = || json!({"metadata": {"finalizers": ["a"]}, "spec": {"containers": [{"name": "a"}]}});
    for (patch, code) in [
        (json!({"spec": {"containers": [{"image": "x"}]}}), 422),
        (json!({"spec": {"containers": [{"$patch": "delete"}]}}), 422),
        (json!({"spec": {"$patch": "twist"}}), 400),
        (json!({"metadata": {"$deleteFromPrimitiveList/finalizers": "a"}}), 400),
        (json!({"spec": {"$setElementOrder/containers": "a"}}), 400),
        (json!({"spec": {"$retainKeys": 1}}), 400),
    ] {
        assert_eq!(patched("", "Pod", pod(), patch.clone()).unwrap_err().code(), code, "{patch}");
    }
}

#[test]
fn custom_objects_have_no_shape() {
    assert!(shape::of("example.com", "Widget").is_none());
}
