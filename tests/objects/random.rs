//! Objects at random: any field of the published messages may be there, with values of the kind we look for.
#![allow(dead_code, reason = "shared by several test programs")]

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use super::schema;

/// A small generator of numbers (xorshift64*): the same seed, the same objects.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Less than `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() >> 33).expect("31 bits") % limit.max(1)
    }

    pub(crate) fn pick_of<'a>(&mut self, from: &'a [String]) -> &'a str {
        if from.is_empty() { "" } else { &from[self.below(from.len())] }
    }

    /// A value that is of another type than most fields want.
    pub(crate) fn wrong(&mut self) -> Value {
        match self.below(6) {
            0 => json!(5.5),
            1 => json!(CANARY),
            2 => json!([CANARY]),
            3 => json!({CANARY: CANARY}),
            4 => json!(-1),
            _ => json!(true),
        }
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// Must be in no reason why an object cannot be read.
pub(crate) const CANARY: &str = "c4n4ry";

const TEXTS: [&str; 30] = [
    "",
    "a",
    "Pod",
    "ReplicaSet",
    "ExternalIP",
    "IPv4",
    "IPv6",
    "FQDN",
    "Ready",
    "True",
    "False",
    "Running",
    "Failed",
    "Succeeded",
    "None",
    "ClusterIP",
    "LoadBalancer",
    "ExternalName",
    "NodePort",
    "Local",
    "10.0.0.1",
    "2001:db8::1",
    "::ffff:1.2.3.4",
    "300.1.1.1",
    "TCP",
    "http",
    "PreferClose",
    "quo\"te\\d\n",
    "\u{e9}\u{1f600}\u{1}",
    "a-rather-long-name-of-a-thing-in-some-cluster-0123456789",
];
const KEYS: [&str; 16] = [
    "app",
    "topology.istio.io/network",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/zone",
    "topology.istio.io/subzone",
    "kubernetes.io/service-name",
    "multicluster.kubernetes.io/service-name",
    "networking.istio.io/exportTo",
    "traffic.istio.io/nodeSelector",
    "networking.istio.io/traffic-distribution",
    "tombolo.dev/gateway-address",
    "mesh",
    "meshNetworks",
    "alpha.istio.io/canonical-serviceaccounts",
    "x\"\u{e9}",
];
const TIMES: [&str; 3] = ["2026-01-02T03:04:05Z", "1970-01-01T00:00:00Z", "1969-12-31T23:59:59Z"];
/// Messages that look different in JSON and of which we read nothing.
const LEFT_OUT: [&str; 5] = ["Quantity", "MicroTime", "FieldsV1", "RawExtension", "Timestamp"];

/// An object of `kind` whose name is `name`.
pub(crate) fn object(random: &mut Random, kind: &str, name: &str) -> Value {
    let (_, api_version, _) = schema::KINDS.iter().find(|(k, ..)| *k == kind).expect("a kind of the table");
    let mut object = message(random, &schema::descriptor(kind), 6);
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    object["metadata"]["name"] = json!(name);
    let cluster_wide = matches!(kind, "Namespace" | "Node");
    object["metadata"]["namespace"] = if cluster_wide { Value::Null } else { json!("shop") };
    object["metadata"]["resourceVersion"] = json!((random.next() >> 20).to_string());
    object["kind"] = json!(kind);
    object["apiVersion"] = json!(api_version);
    object
}

fn message(random: &mut Random, descriptor: &MessageDescriptor, depth: usize) -> Value {
    match descriptor.name() {
        "Time" => return json!(random.pick(&TIMES)),
        "IntOrString" if random.below(2) == 0 => return json!(random.below(70_000)),
        "IntOrString" => return json!(random.pick(&TEXTS)),
        _ => {}
    }
    let mut map = Map::new();
    for field in descriptor.fields() {
        let usual =
            matches!(field.name(), "metadata" | "spec" | "status" | "conditions" | "endpoints" | "ports");
        if depth == 0 || !usual && random.below(3) == 0 {
            continue;
        }
        let Some(value) = whole(random, &field, depth - 1) else { continue };
        match value {
            Value::Object(inner) if schema::is_inline(&field) => map.extend(inner),
            value => {
                map.insert(field.json_name().to_owned(), value);
            }
        }
    }
    Value::Object(map)
}

fn whole(random: &mut Random, field: &FieldDescriptor, depth: usize) -> Option<Value> {
    if random.below(12) == 0 && !schema::is_inline(field) {
        return Some(Value::Null);
    }
    let count = random.below(4);
    if field.is_map() {
        let Kind::Message(entry) = field.kind() else { return None };
        let kind = entry.map_entry_value_field().kind();
        let mut map = Map::new();
        for _ in 0..count {
            map.insert(random.pick(&KEYS).to_owned(), one(random, &kind, depth)?);
        }
        Some(Value::Object(map))
    } else if field.is_list() {
        let items: Option<Vec<Value>> = (0..count).map(|_| one(random, &field.kind(), depth)).collect();
        items.map(Value::Array)
    } else {
        one(random, &field.kind(), depth)
    }
}

fn one(random: &mut Random, kind: &Kind, depth: usize) -> Option<Value> {
    Some(match kind {
        Kind::Bool => json!(random.below(2) == 0),
        Kind::Int32 | Kind::Int64 => {
            json!(random.pick(&[0_i64, 1, 80, 65_535, 70_000, -1, i64::from(i32::MAX), i64::from(i32::MIN)]))
        }
        Kind::Double => json!(0.5),
        Kind::String => json!(random.pick(&TEXTS)),
        Kind::Bytes => json!(random.pick(&["", "YQ==", "Y2FuYXJ5", "/+8="])),
        Kind::Message(child) if LEFT_OUT.contains(&child.name()) => return None,
        Kind::Message(child) => message(random, child, depth),
        _ => return None,
    })
}
