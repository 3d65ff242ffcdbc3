use serde_json::{Value, json};

use super::*;

fn object<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn service(spec: Value) -> Service {
    let mut value = json!({"metadata": {"name": "web", "namespace": "n", "uid": "s1", "labels": {"team": "blue"}},
                           "spec": {"selector": {"app": "web"}, "clusterIP": "10.96.0.1",
                                    "ports": [{"name": "http", "port": 80, "targetPort": "web"}]}});
    merge(&mut value["spec"], spec);
    object(value)
}

fn pod(name: &str, patch: Value) -> Arc<Pod> {
    let mut value = json!({
        "metadata": {"name": name, "namespace": "n", "uid": format!("uid-{name}"), "labels": {"app": "web"}},
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "ports": [{"name": "web", "containerPort": 8080}]}]},
        "status": {"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}],
                   "conditions": [{"type": "Ready", "status": "True"}]},
    });
    merge(&mut value, patch);
    Arc::new(object(value))
}

fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    for (key, value) in patch {
        if value.is_object() && target[&key].is_object() {
            merge(&mut target[&key], value);
        } else {
            target[&key] = value;
        }
    }
}

fn node(name: &str) -> Option<Arc<Node>> {
    (name == "n1").then(|| {
        Arc::new(object(json!({"metadata": {"name": "n1", "labels": {"topology.kubernetes.io/zone": "z1"}}})))
    })
}

/// The slices a new Service gets, as JSON.
fn made(service: &Service, pods: &[Arc<Pod>]) -> Vec<Value> {
    let changes = slices(service, pods, node, &[]);
    changes
        .into_iter()
        .map(|change| match change {
            SliceChange::Create(slice) => serde_json::to_value(*slice).unwrap(),
            other => panic!("nothing is there to change: {other:?}"),
        })
        .collect()
}

fn only_endpoint(service: &Service, pod: Arc<Pod>) -> Value {
    let slices = made(service, &[pod]);
    assert_eq!(slices.len(), 1);
    slices[0]["endpoints"][0].clone()
}

#[test]
fn a_slice_looks_as_the_real_controller_writes_it() {
    let slices = made(&service(json!({})), &[pod("a", json!({}))]);
    let expected = json!([{
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {
            "generateName": "web-", "namespace": "n",
            "labels": {"team": "blue", SERVICE_NAME: "web", MANAGED_BY: US},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Service", "name": "web", "uid": "s1",
                                 "controller": true, "blockOwnerDeletion": true}],
        },
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": [{
            "addresses": ["10.0.0.1"], "nodeName": "n1", "zone": "z1",
            "conditions": {"ready": true, "serving": true, "terminating": false},
            "targetRef": {"kind": "Pod", "namespace": "n", "name": "a", "uid": "uid-a"},
        }],
    }]);
    assert_eq!(Value::from(slices), expected);
}

#[test]
fn conditions_follow_readiness_deletion_and_publishing() {
    let unready = json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}});
    let leaving = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    let publish = json!({"publishNotReadyAddresses": true});
    for (spec, patch, expected) in [
        (json!({}), unready.clone(), [false, false, false]),
        (json!({}), leaving.clone(), [false, true, true]),
        (publish.clone(), unready, [true, false, false]),
        (publish, leaving, [true, true, true]),
    ] {
        let conditions = &only_endpoint(&service(spec), pod("a", patch))["conditions"];
        let shown = ["ready", "serving", "terminating"].map(|name| conditions[name].as_bool().unwrap());
        assert_eq!(shown, expected);
    }
}

#[test]
fn finished_pods_and_pods_without_address_are_left_out() {
    let pods = [
        pod("failed", json!({"status": {"phase": "Failed"}})),
        pod("done", json!({"status": {"phase": "Succeeded"}})),
        pod("new", json!({"status": {"podIP": null, "podIPs": null}})),
    ];
    let slices = made(&service(json!({})), &pods);
    assert_eq!((slices.len(), &slices[0]["endpoints"]), (1, &json!([])));
}

#[test]
fn named_ports_are_those_of_each_pod() {
    let ports = json!([{"name": "c", "ports": [{"name": "web", "containerPort": 9090}]}]);
    let sidecar =
        json!([{"name": "i", "restartPolicy": "Always", "ports": [{"name": "web", "containerPort": 7070}]}]);
    let pods = [
        pod("a", json!({})),
        pod("b", json!({"spec": {"containers": ports}})),
        pod("c", json!({"spec": {"containers": [], "initContainers": sidecar}})),
        pod("d", json!({"spec": {"containers": []}})),
    ];
    let numbers: Vec<Value> =
        made(&service(json!({})), &pods).iter().map(|slice| slice["ports"][0]["port"].clone()).collect();
    assert_eq!(numbers, [json!(8080), json!(9090), json!(7070), Value::Null]);
}

#[test]
fn numbered_and_missing_target_ports_need_no_pod() {
    let service = service(
        json!({"ports": [{"port": 80, "targetPort": 81}, {"name": "b", "port": 90, "appProtocol": "http2"}]}),
    );
    let slices = made(&service, &[pod("a", json!({}))]);
    assert_eq!(
        slices[0]["ports"],
        json!([{"name": "", "port": 81, "protocol": "TCP"},
               {"name": "b", "port": 90, "protocol": "TCP", "appProtocol": "http2"}])
    );
}

#[test]
fn each_address_family_has_slices_of_its_own() {
    let both = json!({"status": {"podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]}});
    let slices =
        made(&service(json!({"ipFamilies": ["IPv6", "IPv4"]})), &[pod("a", both), pod("b", json!({}))]);
    let told: Vec<_> = slices
        .iter()
        .map(|slice| (slice["addressType"].as_str().unwrap(), slice["endpoints"].as_array().unwrap().len()))
        .collect();
    assert_eq!(told, [("IPv4", 2), ("IPv6", 1)]);
    let old = made(&service(json!({"clusterIP": "fd00::99"})), &[]);
    assert_eq!(old[0]["addressType"], "IPv6");
}

#[test]
fn headless_services_are_labelled_and_name_pods_that_ask_for_it() {
    let service = service(json!({"clusterIP": "None"}));
    let named = json!({"spec": {"hostname": "a-0", "subdomain": "web"}});
    let slices = made(&service, &[pod("a", named)]);
    assert_eq!(slices[0]["metadata"]["labels"][HEADLESS], "");
    assert_eq!(slices[0]["endpoints"][0]["hostname"], "a-0");
    let elsewhere = json!({"spec": {"hostname": "a-0", "subdomain": "other"}});
    assert_eq!(only_endpoint(&service, pod("a", elsewhere))["hostname"], Value::Null);
}

#[test]
fn slices_follow_labels_owner_and_families_of_their_service() {
    let mut slice: EndpointSlice = object(made(&service(json!({})), &[])[0].clone());
    slice.metadata.name = Some("web-abcde".into());
    slice.metadata.annotations = Some([("kept".into(), "yes".into())].into());
    let existing = [Arc::new(slice)];
    assert!(slices(&service(json!({})), &[], node, &existing).is_empty());
    let mut renewed = service(json!({}));
    renewed.metadata.uid = Some("s2".into());
    match &slices(&renewed, &[], node, &existing)[..] {
        [SliceChange::Update(slice)] => {
            assert_eq!(slice.metadata.owner_references.as_ref().unwrap()[0].uid, "s2");
            assert_eq!(slice.metadata.annotations, existing[0].metadata.annotations);
        }
        other => panic!("{other:?}"),
    }
    let moved = slices(&service(json!({"ipFamilies": ["IPv6"]})), &[], node, &existing);
    assert!(matches!(moved[..], [SliceChange::Create(_), SliceChange::Delete(_)]), "{moved:?}");
}

#[test]
fn only_slices_of_this_controller_are_managed() {
    let labelled = |by: &str| -> EndpointSlice {
        object(
            json!({"metadata": {"labels": {SERVICE_NAME: "web", MANAGED_BY: by}}, "addressType": "IPv4", "endpoints": []}),
        )
    };
    assert_eq!(service_of(&labelled(US)), Some("web"));
    assert_eq!(service_of(&labelled("someone-else")), None);
}

#[test]
fn a_service_without_selector_selects_nothing() {
    assert!(selects(&service(json!({})), &pod("a", json!({}))));
    assert!(!selects(&service(json!({"selector": null})), &pod("a", json!({}))));
}
