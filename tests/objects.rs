//! Objects as API servers send them: two encodings, one answer, whatever is wrong with one of them.

#[path = "objects/random.rs"]
mod random;
#[path = "objects/schema.rs"]
mod schema;

use std::collections::BTreeSet;

use proptest::prelude::*;
use prost::encoding::{DecodeContext, decode_key, skip_field};
use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor};
use random::{CANARY, Random};
use serde_json::{Value, json};
use tombolo::ingest::objects::wire::{
    Encoding, FrameError, Received, Revision, WatchFrame, decode_frame, decode_list, decode_one,
    decode_status,
};
use tombolo::ingest::objects::{
    ConfigMapObject, GatewayObject, NamespaceObject, NodeObject, Object, ObjectKey, PodObject, SecretObject,
    ServiceExportObject, ServiceImportObject, ServiceObject, SliceObject,
};

/// Calls a generic function for a kind of [`schema::KINDS`].
macro_rules! for_kind {
    ($kind:expr, $function:ident($($argument:expr),*)) => {
        match $kind {
            "Namespace" => $function::<NamespaceObject>($($argument),*),
            "Node" => $function::<NodeObject>($($argument),*),
            "Pod" => $function::<PodObject>($($argument),*),
            "Service" => $function::<ServiceObject>($($argument),*),
            "Secret" => $function::<SecretObject>($($argument),*),
            "ConfigMap" => $function::<ConfigMapObject>($($argument),*),
            "EndpointSlice" => $function::<SliceObject>($($argument),*),
            other => panic!("{other} is in no table"),
        }
    };
}

// ---- the messages -------------------------------------------------------------------------------------------

#[test]
fn every_slim_field_is_a_published_one() {
    let bytes: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/kubernetes_slim.bin"));
    let slim = DescriptorPool::decode(bytes).expect("our own set");
    let meta = "k8s.io.apimachinery.pkg.apis.meta.v1";
    let roots = [
        ("ListMeta", meta),
        ("WatchEvent", meta),
        ("Status", meta),
        ("Unknown", "k8s.io.apimachinery.pkg.runtime"),
    ];
    let mut seen = BTreeSet::new();
    for (name, package) in roots.into_iter().chain(schema::KINDS.map(|(kind, _, package)| (kind, package))) {
        let ours = slim.get_message_by_name(&format!("tombolo.kubernetes.slim.{name}")).expect(name);
        let theirs = schema::POOL.get_message_by_name(&format!("{package}.{name}")).expect(name);
        compare(&ours, &theirs, &mut seen);
    }
    let all = slim.all_messages().filter(|message| !message.is_map_entry());
    assert_eq!(
        seen,
        all.map(|message| message.full_name().to_owned()).collect(),
        "every message is compared"
    );
}

fn compare(ours: &MessageDescriptor, theirs: &MessageDescriptor, seen: &mut BTreeSet<String>) {
    if !ours.is_map_entry() && !seen.insert(ours.full_name().to_owned()) {
        return;
    }
    for field in ours.fields() {
        let place = field.full_name();
        let published = theirs.get_field(field.number()).unwrap_or_else(|| panic!("{place}: no such number"));
        let shape = |field: &FieldDescriptor| (field.name().to_owned(), field.is_list(), field.is_map());
        assert_eq!(shape(&field), shape(&published), "{place}");
        // Fields of envelopes have no names in JSON.
        if !ours.is_map_entry() && published.json_name() != "-" {
            assert_eq!(field.name(), published.json_name(), "{place}");
        }
        match (field.kind(), published.kind()) {
            (Kind::Message(ours), Kind::Message(theirs)) => compare(&ours, &theirs, seen),
            (ours, theirs) => assert_eq!(ours, theirs, "{place}"),
        }
    }
}

// ---- one answer for both encodings --------------------------------------------------------------------------

fn both<T: Object + PartialEq>(kind: &str, api_version: &str, object: &Value) {
    let text = object.to_string();
    let message = schema::envelope(api_version, kind, &schema::message(kind, object));
    let json = decode_one::<T>(Encoding::Json, text.as_bytes()).expect("JSON of its kind");
    let protobuf = decode_one::<T>(Encoding::Protobuf, &message).expect("a message of its kind");
    assert!(json.object.is_ok(), "{json:?}\n{object:#}");
    assert_eq!(json, protobuf, "{object:#}");
    for name in ["ADDED", "MODIFIED", "DELETED"] {
        let line = format!(r#"{{"type":"{name}","object":{text}}}"#);
        let json = decode_frame::<T>(Encoding::Json, line.as_bytes()).expect("an event");
        let protobuf =
            decode_frame::<T>(Encoding::Protobuf, &schema::event(name, &message)).expect("an event");
        assert_eq!(json, protobuf);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn json_and_protobuf_of_an_object_are_equal(seed: u64) {
        let mut random = Random::new(seed);
        for (kind, api_version, _) in schema::KINDS {
            let object = random::object(&mut random, kind, "thing");
            for_kind!(kind, both(kind, api_version, &object));
        }
    }
}

#[test]
fn every_field_of_an_object_is_read_in_both_encodings() {
    let service = json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "cart", "namespace": "shop", "uid": "u-1", "resourceVersion": "17",
            "creationTimestamp": "2026-01-02T03:04:05Z", "labels": {"app": "cart"},
            "annotations": {"networking.istio.io/traffic-distribution": "PreferClose",
                "traffic.istio.io/nodeSelector": "{}", "tombolo.dev/gateway-address": "gw.example"},
            "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:metadata": {}}}]},
        "spec": {"type": "NodePort", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"],
            "selector": {"app": "cart"}, "externalIPs": ["1.2.3.4"], "externalTrafficPolicy": "Local",
            "internalTrafficPolicy": "Local", "publishNotReadyAddresses": true,
            "trafficDistribution": "PreferSameNode",
            "ports": [{"name": "web", "port": 80, "protocol": "TCP", "appProtocol": "http", "nodePort": 30080,
                "targetPort": "http"}, {"name": "n", "port": 81, "targetPort": 8081}]},
        "status": {"loadBalancer": {"ingress": [{"ip": "5.6.7.8"}, {"hostname": "lb.example"}]}}});
    both::<ServiceObject>("Service", "v1", &service);
    let message = schema::envelope("v1", "Service", &schema::message("Service", &service));
    let received = decode_one::<ServiceObject>(Encoding::Protobuf, &message).unwrap();
    assert_eq!(
        (received.key.to_string(), &*received.uid, received.revision),
        ("shop/cart".into(), "u-1", Some(17))
    );
    let read = received.object.unwrap();
    assert_eq!((read.created, read.node_port_type, read.external_traffic_local), (1_767_323_045, true, true));
    assert_eq!((read.node_local, read.publish_not_ready, read.headless), (true, true, false));
    assert_eq!(read.traffic_distribution.as_deref(), Some("PreferClose"));
    assert_eq!(
        (&*read.traffic_distribution_spec, read.node_selector.as_deref()),
        ("PreferSameNode", Some("{}"))
    );
    assert_eq!(read.gateway_address.as_deref(), Some("gw.example"));
    let texts = |names: &[tombolo::model::Name]| names.iter().map(|n| n.to_string()).collect::<Vec<_>>();
    assert_eq!(texts(&read.cluster_ips), ["10.0.0.1", "fd00::1"]);
    assert_eq!(texts(&read.external_ips), ["1.2.3.4"]);
    assert_eq!(texts(&read.ingress), ["5.6.7.8", "lb.example"]);
    assert_eq!((&*read.selector["app"], &*read.labels["app"]), ("cart", "cart"));
    let port = &read.ports[0];
    assert_eq!((&*port.name, port.port, &*port.protocol), ("web", 80, "TCP"));
    assert_eq!((&*port.app_protocol, port.node_port, &*port.target_port), ("http", 30_080, "http"));
    assert_eq!(&*read.ports[1].target_port, "8081");
}

#[test]
fn custom_resources_are_read_from_json() {
    let gateway = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
        "metadata": {"name": "ew", "namespace": "istio-system", "labels": {"topology.istio.io/network": "n1"},
            "annotations": {"gateway.istio.io/service-account": "gw"}},
        "spec": {"gatewayClassName": "istio-east-west", "addresses": [{"value": "1.2.3.4"},
            {"type": "Hostname", "value": "gw.example"}],
            "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE",
                "tls": {"mode": "Terminate", "options": {"gateway.istio.io/tls-terminate-mode": "ISTIO_MUTUAL"}}},
                {"port": 80, "protocol": "HTTP"}]}});
    let read = decode_one::<GatewayObject>(Encoding::Json, gateway.to_string().as_bytes()).unwrap();
    let read = read.object.unwrap();
    assert_eq!((&*read.class, read.service_account.as_deref()), ("istio-east-west", Some("gw")));
    let addresses: Vec<_> = read.addresses.iter().map(|(kind, value)| (&**kind, &**value)).collect();
    assert_eq!(addresses, [("IPAddress", "1.2.3.4"), ("Hostname", "gw.example")]);
    assert_eq!((read.listeners[0].port, &*read.listeners[0].protocol), (15_008, "HBONE"));
    assert_eq!(read.listeners[0].tls_options.as_ref().unwrap().len(), 1);
    assert_eq!(read.listeners[1].tls_options, None);
    let import = r#"{"apiVersion":"multicluster.x-k8s.io/v1alpha1","kind":"ServiceImport",
        "metadata":{"name":"a","namespace":"b"},"spec":{"ips":["10.1.1.1",""],"type":"ClusterSetIP"}}"#;
    let read = decode_one::<ServiceImportObject>(Encoding::Json, import.as_bytes()).unwrap().object.unwrap();
    assert_eq!(read.ips, ["10.1.1.1".into()]);
    let export = r#"{"kind":"ServiceExport","metadata":{"name":"a","namespace":"b"}}"#;
    assert!(decode_one::<ServiceExportObject>(Encoding::Json, export.as_bytes()).unwrap().object.is_ok());
    assert!(!GatewayObject::PROTOBUF && GatewayObject::from_protobuf(b"").is_err());
    assert_eq!(decode_one::<GatewayObject>(Encoding::Protobuf, b""), Err(FrameError::NotServed));
}

// ---- envelopes ----------------------------------------------------------------------------------------------

#[test]
fn protobuf_watches_end_their_first_part_and_their_life_like_json_ones() {
    let mark =
        json!({"metadata": {"resourceVersion": "9", "annotations": {"k8s.io/initial-events-end": "true"}}});
    let mark =
        schema::envelope("discovery.k8s.io/v1", "EndpointSlice", &schema::message("EndpointSlice", &mark));
    assert_eq!(
        decode_frame::<SliceObject>(Encoding::Protobuf, &schema::event("BOOKMARK", &mark)),
        Ok(WatchFrame::Bookmark { revision: Revision::new("9"), initial_events_end: true })
    );
    let status = schema::POOL.get_message_by_name("k8s.io.apimachinery.pkg.apis.meta.v1.Status").unwrap();
    let status = schema::dynamic(
        &status,
        &json!({"code": 410, "reason": "Expired", "message": "too old",
        "details": {"retryAfterSeconds": 2, "causes": [{"reason": "ResourceVersionTooLarge"}]}}),
    );
    let status = schema::envelope("v1", "Status", &prost::Message::encode_to_vec(&status));
    let told = decode_frame::<SliceObject>(Encoding::Protobuf, &schema::event("ERROR", &status)).unwrap();
    let WatchFrame::Error(told) = told else { panic!("{told:?}") };
    assert_eq!((told.code, told.reason.as_str(), told.causes.len()), (410, "Expired", 1));
    let answer = decode_status(&status, Some("application/vnd.kubernetes.protobuf"), 500);
    assert_eq!(answer, told);
}

#[test]
fn k22_protobuf_lists_of_another_kind_or_without_a_revision_are_errors() {
    let read = |body: &[u8]| decode_list::<ServiceObject>(Encoding::Protobuf, body);
    let page = read(&schema::list("Service", "5", &[])).unwrap();
    assert_eq!((page.revision.number(), page.items.len(), page.next), (Some(5), 0, None));
    assert_eq!(read(&schema::list("Service", "", &[])), Err(FrameError::NoRevision("a list")));
    assert!(matches!(read(&schema::list("Pod", "5", &[])), Err(FrameError::WrongKind { .. })));
    let foreign = schema::envelope("example.com/v1", "ServiceList", b"");
    assert!(matches!(read(&foreign), Err(FrameError::WrongKind { .. })));
    for page in [&b"<html>"[..], b"", b"k8s\0", b"{\"kind\":\"ServiceList\"}"] {
        assert!(read(page).is_err(), "{page:?}");
    }
}

// ---- K-36 ---------------------------------------------------------------------------------------------------

#[test]
fn k36_of_a_huge_object_only_what_is_used_is_kept() {
    let filler = "x".repeat(1_500_000);
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n",
        "annotations": {"blob": filler}, "labels": {"topology.kubernetes.io/zone": "z"}}});
    both::<NodeObject>("Node", "v1", &node);
    let read = decode_one::<NodeObject>(Encoding::Json, node.to_string().as_bytes()).unwrap().object.unwrap();
    assert!(format!("{read:?}").len() < 300);

    let annotations: serde_json::Map<String, Value> =
        (0..10_000).map(|i| (format!("example.com/{i}"), json!("v".repeat(100)))).collect();
    let service = json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "s", "namespace": "n", "annotations": annotations}});
    both::<ServiceObject>("Service", "v1", &service);
    let read = decode_one::<ServiceObject>(Encoding::Json, service.to_string().as_bytes()).unwrap();
    assert_eq!(read.object.unwrap(), ServiceObject::default());

    let endpoints: Vec<Value> = (0..1_000)
        .map(|i| {
            json!({"addresses": [format!("10.1.{}.{}", i / 250, i % 250)], "conditions": {"ready": true},
            "targetRef": {"kind": "Pod", "name": format!("p-{i}"), "namespace": "n"}})
        })
        .collect();
    let ports: Vec<Value> = (0..100).map(|i| json!({"name": format!("p{i}"), "port": 1000 + i})).collect();
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "s", "namespace": "n"}, "endpoints": endpoints, "ports": ports});
    both::<SliceObject>("EndpointSlice", "discovery.k8s.io/v1", &slice);
    let read =
        decode_one::<SliceObject>(Encoding::Json, slice.to_string().as_bytes()).unwrap().object.unwrap();
    assert_eq!((read.endpoints.len(), read.ports.len()), (1_000, 100));
}

#[test]
fn k36_a_list_of_nothing_but_nameless_items_is_refused_instead_of_held() {
    let body = format!(
        r#"{{"kind":"ServiceList","metadata":{{"resourceVersion":"1"}},"items":[{}5]}}"#,
        "5,".repeat(1000)
    );
    let refused = decode_list::<ServiceObject>(Encoding::Json, body.as_bytes());
    assert!(matches!(refused, Err(FrameError::Malformed { .. })));
    let items = vec![Vec::new(); 1000];
    let refused = decode_list::<ServiceObject>(Encoding::Protobuf, &schema::list("Service", "1", &items));
    assert!(matches!(refused, Err(FrameError::Malformed { .. })));
}

// ---- K-38 ---------------------------------------------------------------------------------------------------

/// What says which object it is.
const IDENTITY: [&str; 6] = ["name", "namespace", "uid", "resourceVersion", "kind", "apiVersion"];

/// Replaces one random value outside the object's identity by one of another type.
fn mutate(random: &mut Random, at: &mut Value, depth: usize) {
    let deeper = depth < 2 || random.below(3) > 0;
    match at {
        Value::Object(map) if deeper && !map.is_empty() => {
            let free = |key: &&String| depth > 1 || !IDENTITY.contains(&key.as_str());
            let keys: Vec<String> = map.keys().filter(free).cloned().collect();
            if let Some(inner) = map.get_mut(random.pick_of(&keys)) {
                return mutate(random, inner, depth + 1);
            }
        }
        Value::Array(list) if deeper && !list.is_empty() => {
            let index = random.below(list.len());
            return mutate(random, &mut list[index], depth + 1);
        }
        _ => {}
    }
    // The metadata itself stays: the identity is in it.
    if depth > 1 || !at.is_object() {
        *at = random.wrong();
    }
}

fn one_bad_item<T: Object + PartialEq>(encoding: Encoding, body: &[u8], good: &Received<T>) -> bool {
    let page = decode_list::<T>(encoding, body).expect("a list");
    let [first, bad, last] = &page.items[..] else { panic!("three items") };
    assert_eq!((&first.object, &last.object), (&good.object, &good.object), "the others are as they were");
    assert_eq!(bad.key, ObjectKey::new(&good.key.namespace, "bad"), "its key is told");
    assert_eq!(bad.revision, Some(7));
    if let Err(reason) = &bad.object {
        assert!(!reason.is_empty() && reason.len() <= 200 && !reason.contains(CANARY), "{reason}");
    }
    bad.object.is_err()
}

fn quarantined<T: Object + PartialEq>(random: &mut Random, kind: &str, api_version: &str) -> [usize; 2] {
    let good = random::object(random, kind, "good");
    let text = good.to_string();
    let expected = decode_one::<T>(Encoding::Json, text.as_bytes()).expect("of its kind");
    let mut bad = random::object(random, kind, "bad");
    bad["metadata"]["resourceVersion"] = json!("7");
    let (meta, tail) = message_halves(kind, &bad);
    mutate(random, &mut bad, 0);
    let list = format!(
        r#"{{"kind":"{kind}List","apiVersion":"{api_version}","metadata":{{"resourceVersion":"9"}},"items":[{text},{bad},{text}]}}"#
    );
    let json = one_bad_item(Encoding::Json, list.as_bytes(), &expected);
    let Some(broken) = broken(random, &meta, &tail) else { return [usize::from(json), 0] };
    let message = schema::message(kind, &good);
    let items = [message.clone(), broken, message];
    let protobuf = one_bad_item(Encoding::Protobuf, &schema::list(kind, "9", &items), &expected);
    [usize::from(json), usize::from(protobuf)]
}

/// The metadata of an object's message, and the rest of it.
fn message_halves(kind: &str, object: &Value) -> (Vec<u8>, Vec<u8>) {
    let mut rest = object.clone();
    let meta = rest.as_object_mut().and_then(|map| map.remove("metadata"));
    (schema::message(kind, &json!({ "metadata": meta })), schema::message(kind, &rest))
}

/// The message with one byte of its tail changed; `None` where that brought other metadata in.
fn broken(random: &mut Random, meta: &[u8], tail: &[u8]) -> Option<Vec<u8>> {
    let mut tail = tail.to_vec();
    if tail.is_empty() || random.below(4) == 0 {
        tail.extend_from_slice(random.pick(&[
            &b"\x12"[..],
            b"\x12\xff",
            b"\x07",
            b"\x10\x01",
            b"\x1a\x02\xff\xff",
        ]));
    } else {
        let at = random.below(tail.len());
        tail[at] ^= 1 << random.below(8);
    }
    let mut rest = &tail[..];
    while let Ok((number, wire)) = decode_key(&mut rest) {
        if number == 1 {
            return None;
        }
        if skip_field(wire, number, &mut rest, DecodeContext::default()).is_err() {
            break;
        }
    }
    Some([meta, &tail].concat())
}

#[test]
fn k38_fields_mutated_at_random_cost_only_their_object_and_its_key_is_told() {
    let mut random = Random::new(38);
    let (mut json, mut protobuf) = (0, 0);
    for _ in 0..150 {
        for (kind, api_version, _) in schema::KINDS {
            let found = for_kind!(kind, quarantined(&mut random, kind, api_version));
            json += found[0];
            protobuf += found[1];
        }
    }
    assert!(json > 50 && protobuf > 50, "mutations do break objects: {json}, {protobuf}");
}

#[test]
fn k38_a_used_field_of_another_type_is_named_without_its_value() {
    let read =
        |object: Value| decode_one::<ServiceObject>(Encoding::Json, object.to_string().as_bytes()).unwrap();
    let bad =
        read(json!({"kind": "Service", "metadata": {"name": "a", "namespace": "n", "labels": {"x": 5}}}));
    assert_eq!(bad.object, Err("metadata: labels: x: a number where a text belongs".to_owned()));
    let bad =
        read(json!({"kind": "Service", "metadata": {"name": "a"}, "spec": {"ports": [{"port": CANARY}]}}));
    assert_eq!(bad.object, Err("spec: ports: port: a text where a number belongs".to_owned()));
    let nameless = read(json!({"kind": "Service", "metadata": {"namespace": "n"}}));
    assert_eq!((nameless.object, &*nameless.key.name), (Err("it has no metadata.name".to_owned()), ""));
    // What is no used field of another type is a matter of conversion: ports and addresses come as written.
    let odd = read(
        json!({"kind": "Service", "metadata": {"name": "a", "namespace": "n"}, "spec": {"ports": [{"port": 70_000}]}}),
    );
    assert_eq!(odd.object.unwrap().ports[0].port, 70_000);
}

#[test]
fn k38_no_secret_shows_its_content_readable_or_not() {
    let secret = json!({"kind": "Secret", "apiVersion": "v1",
        "metadata": {"name": "s", "namespace": "n", "annotations": {"tombolo.dev/start": "required",
            "kubectl.kubernetes.io/last-applied-configuration": CANARY}}, "data": {"west": "YzRuNHJ5"}});
    let read = decode_one::<SecretObject>(Encoding::Json, secret.to_string().as_bytes()).unwrap();
    assert_eq!(read.object.as_ref().unwrap().data["west"].as_deref(), Some(CANARY.as_bytes()));
    assert_eq!(read.object.as_ref().unwrap().annotations.len(), 1);
    let shown = format!("{read:?}");
    assert!(!shown.contains(CANARY) && !shown.contains("YzRuNHJ5") && !shown.contains("99, 52"), "{shown}");
    for bad in [json!({"west": [CANARY]}), json!(CANARY), json!({"west": {CANARY: CANARY}})] {
        let mut secret = secret.clone();
        secret["data"] = bad;
        let read = decode_one::<SecretObject>(Encoding::Json, secret.to_string().as_bytes()).unwrap();
        assert!(read.object.is_err() && !format!("{read:?}").contains(CANARY));
    }
}

// ---- K-39 ---------------------------------------------------------------------------------------------------

#[test]
fn k39_unknown_fields_kinds_of_address_and_conditions_are_skipped() {
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "FQDN",
        "metadata": {"name": "s", "namespace": "n", "labels": {"kubernetes.io/service-name": "web"}},
        "endpoints": [{"addresses": ["a.example"], "conditions": {"ready": true}}]});
    both::<SliceObject>("EndpointSlice", "discovery.k8s.io/v1", &slice);
    let mut newer = slice.clone();
    newer["addressType"] = json!("Smoke");
    newer["endpoints"][0]["conditions"]["draining"] = json!({"since": [1, 2, null]});
    newer["shape"] = json!([[[]], {"deep": {"er": 1e300}}]);
    newer["metadata"]["newField"] = json!(5);
    let read = |value: &Value| {
        decode_one::<SliceObject>(Encoding::Json, value.to_string().as_bytes()).unwrap().object.unwrap()
    };
    let (known, unknown) = (read(&slice), read(&newer));
    assert_eq!((known.service.as_deref(), &*known.address_type), (None, "FQDN"));
    assert_eq!((unknown.service.as_deref(), &*unknown.address_type), (Some("web"), "Smoke"));
    assert_eq!(known.endpoints, unknown.endpoints);

    // The same in protobuf: fields of every wire type with numbers nobody has given out.
    let mut message = schema::message("EndpointSlice", &slice);
    let clean = SliceObject::from_protobuf(&message).unwrap();
    message.extend_from_slice(&[0x80, 0x7d, 1]);
    message.extend_from_slice(&[0x81, 0x7d, 1, 2, 3, 4, 5, 6, 7, 8]);
    message.extend_from_slice(&[0x82, 0x7d, 2, 9, 9]);
    message.extend_from_slice(&[0x85, 0x7d, 1, 2, 3, 4]);
    assert_eq!(SliceObject::from_protobuf(&message).unwrap(), clean);
}
