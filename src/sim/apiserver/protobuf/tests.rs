use super::schema::{Count, SCHEMA};
use super::*;

/// Objects of every kind: a line of JSON, a line with its bytes in hexadecimal, both as Kubernetes' own library
/// (k8s.io/apimachinery v0.35.4) writes them.
const GOLDEN: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/kubernetes-protobuf.txt"));

fn golden() -> Vec<(Value, Vec<u8>)> {
    let lines: Vec<&str> = GOLDEN.lines().collect();
    let pairs = lines.chunks_exact(2).map(|pair| {
        let byte = |at: usize| u8::from_str_radix(&pair[1][at..at + 2], 16).unwrap();
        (
            without_null(serde_json::from_str(pair[0]).unwrap()),
            (0..pair[1].len()).step_by(2).map(byte).collect(),
        )
    });
    pairs.collect()
}

/// `null` and absent are the same.
fn without_null(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            map.into_iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k, without_null(v))).collect()
        }
        Value::Array(list) => list.into_iter().map(without_null).collect(),
        other => other,
    }
}

/// Through the envelope and back.
fn round_trip(object: &Value) -> Value {
    parse(&document(object).unwrap()).unwrap()
}

#[test]
fn the_bytes_of_kubernetes_own_library_are_read() {
    let golden = golden();
    assert_eq!(golden.len(), 16);
    for (json, bytes) in golden {
        assert_eq!(parse(&bytes).unwrap(), json);
    }
}

#[test]
fn objects_of_every_kind_survive_the_round_trip() {
    for (json, _) in golden() {
        assert_eq!(round_trip(&json), json);
    }
}

#[test]
fn a_generated_world_survives_the_round_trip() {
    let size = "services=3,endpoints=250".parse().unwrap();
    let world: Vec<Value> = crate::sim::world::generate(size).collect();
    assert!(world.len() > 250);
    for object in world {
        assert_eq!(round_trip(&object), object);
    }
}

#[test]
fn the_envelope_is_the_one_of_the_protocol() {
    let object = json!({"apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": "n", "labels": {"a": "b"}, "generation": 1}, "status": {"phase": "Active"}});
    let want = b"k8s\0\
        \x0a\x0f\x0a\x02v1\x12\x09Namespace\
        \x12\x19\
        \x0a\x0d\x0a\x01n\x38\x01\x5a\x06\x0a\x01a\x12\x01b\
        \x1a\x08\x0a\x06Active\
        \x1a\0\x22\0";
    assert_eq!(document(&object).unwrap().escape_ascii().to_string(), want.escape_ascii().to_string());
}

#[test]
fn a_frame_has_a_length_a_type_and_an_envelope() {
    let object =
        document(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}})).unwrap();
    let frame = frame("ADDED", &object);
    let head = [&[0, 0, 0, 7 + 4 + object.len() as u8][..], b"\x0a\x05ADDED\x12", &[2 + object.len() as u8]];
    let mut want = head.concat();
    want.extend_from_slice(&[0x0a, object.len() as u8]);
    want.extend_from_slice(&object);
    assert_eq!(frame.escape_ascii().to_string(), want.escape_ascii().to_string());
}

#[test]
fn a_list_shares_the_bytes_of_its_items() {
    let items: Vec<Value> = (0..3)
        .map(|at| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": format!("n{at}")}}))
        .collect();
    let messages: Vec<Bytes> = items.iter().map(|item| message(item).unwrap()).collect();
    let metadata = json!({"resourceVersion": "9", "continue": "c", "remainingItemCount": 4});
    let pieces: Vec<Bytes> = list("v1", "NamespaceList", &metadata, messages.clone()).collect();
    assert_eq!(pieces[2].as_ptr(), messages[0].as_ptr());
    let read = parse(&pieces.concat()).unwrap();
    assert_eq!(read["metadata"], metadata);
    let names: Vec<&Value> =
        read["items"].as_array().unwrap().iter().map(|i| &i["metadata"]["name"]).collect();
    assert_eq!(names, ["n0", "n1", "n2"]);
}

#[test]
fn every_list_has_its_metadata_first_and_its_items_second() {
    for kind in crate::sim::apiserver::kinds::KINDS.iter().filter(|k| speaks(&k.api_version(), &k.kind)) {
        let list = SCHEMA.message_of(&kind.api_version(), &format!("{}List", kind.kind)).unwrap();
        let fields: Vec<_> = list.fields.iter().map(|f| (f.number, f.json.as_str(), f.count)).collect();
        assert_eq!(fields, [(1, "metadata", Count::One), (2, "items", Count::List)], "{kind:?}");
    }
}

#[test]
fn kinds_without_a_message_are_named() {
    assert!(speaks("v1", "Pod") && speaks("apps/v1", "DeleteOptions"));
    assert!(!speaks("apps.example.com/v1", "Deployment") && !speaks("v1", "Widget"));
    assert_eq!(document(&json!({"apiVersion": "example.com/v1", "kind": "Widget"})), None);
    let refused = parse(&envelope("example.com/v1", "Widget", b"")).unwrap_err();
    assert!(refused.to_string().contains("Widget"), "{refused}");
}

#[test]
fn a_field_that_does_not_fit_is_left_out() {
    let broken = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", "labels": 7},
        "spec": {"ports": [{"port": "eighty", "name": "x"}, {"port": 70000}], "unknown": 1, "clusterIP": 3}});
    let want = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"},
        "spec": {"ports": [{"name": "x"}, {"port": 70000}]}});
    assert_eq!(round_trip(&broken), want);
}

#[test]
fn broken_bodies_are_refused_at_every_cut() {
    assert_eq!(parse(b"{}"), Err(ProtobufError::NoMagic));
    let (_, whole) = golden().swap_remove(0);
    // After the type comes the object: a body that ends between them is an empty one. The object ends four bytes
    // before the end; a cut inside those loses nothing.
    let between = MAGIC.len() + b"\x0a\x09\x0a\x02v1\x12\x03Pod".len();
    for end in (0..whole.len() - TAIL.len()).filter(|end| *end != between) {
        assert!(parse(&whole[..end]).is_err(), "cut at {end}");
    }
}

#[test]
fn noise_is_refused_or_read_but_never_fatal() {
    let (_, whole) = golden().swap_remove(0);
    for at in 4..whole.len() {
        for flip in [1, 0x80, 0xff] {
            let mut noisy = whole.clone();
            noisy[at] ^= flip;
            if let Ok(object) = parse(&noisy) {
                assert!(object.is_object());
            }
        }
    }
}
