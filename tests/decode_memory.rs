//! What reading an answer takes, by the process's own peak: a foreign cluster must not make it many times what it
//! sent (K-36, K-37). One test in a program of its own, so nothing else is measured.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;

use tombolo::ingest::objects::wire::{Encoding, decode_frame, decode_list};
use tombolo::ingest::objects::{PodObject, ServiceObject, SliceObject};

/// Largest multiple of its bytes that reading something may take.
const TIMES: usize = 20;
/// What it may take besides.
const BESIDES: usize = 12 << 20;
/// Bytes of each input, about.
const SIZE: usize = 4 << 20;

/// A figure of this process in bytes: `VmRSS`, `VmHWM`.
fn figure(name: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    let kilobytes = line.trim_matches(|c: char| !c.is_ascii_digit());
    kilobytes.parse::<usize>().unwrap() * 1024
}

fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    prost::encode_length_delimiter(bytes.len(), &mut out).unwrap();
    out.extend_from_slice(bytes);
    out
}

fn enveloped(api_version: &str, kind: &str, message: &[u8]) -> Vec<u8> {
    let named = [field(1, api_version.as_bytes()), field(2, kind.as_bytes())].concat();
    [b"k8s\0".to_vec(), field(1, &named), field(2, message)].concat()
}

fn event(api_version: &str, kind: &str, message: &[u8]) -> Vec<u8> {
    [field(1, b"ADDED"), field(2, &field(1, &enveloped(api_version, kind, message)))].concat()
}

fn filled(piece: &[u8]) -> Vec<u8> {
    piece.repeat(SIZE / piece.len())
}

fn metadata() -> Vec<u8> {
    field(1, &[field(1, b"a"), field(3, b"n")].concat())
}

const V1: &str = "discovery.k8s.io/v1";

fn slice_event(body: &[u8]) -> Vec<u8> {
    event(V1, "EndpointSlice", &[metadata(), body.to_vec()].concat())
}

fn list(api_version: &str, kind: &str, item: &[u8]) -> Vec<u8> {
    let body = [field(1, &field(2, b"5")), filled(&field(2, item))].concat();
    enveloped(api_version, &format!("{kind}List"), &body)
}

fn json_list(kind: &str, item: &str) -> Vec<u8> {
    let items = String::from_utf8(filled(format!("{item},").as_bytes())).unwrap();
    let items = items.trim_end_matches(',');
    format!(r#"{{"kind":"{kind}List","metadata":{{"resourceVersion":"5"}},"items":[{items}]}}"#).into_bytes()
}

/// A hostile input and whatever comes of it, kept until the peak is read.
fn check(what: &str, input: Vec<u8>, read: impl FnOnce(&[u8]) -> Box<dyn Send>) {
    // 5 sets the peak to what there is now.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = figure("VmRSS:");
    let kept = black_box(read(&input));
    let peak = figure("VmHWM:").saturating_sub(before);
    drop(kept);
    let most = input.len() * TIMES + BESIDES;
    assert!(peak <= most, "{what}: {} bytes take {peak}, more than {most}", input.len());
}

#[test]
fn k37_no_answer_takes_many_times_its_size() {
    let frame = |bytes: &[u8]| -> Box<dyn Send> {
        Box::new(decode_frame::<SliceObject>(Encoding::Protobuf, bytes).map_err(drop))
    };
    let pod = |bytes: &[u8]| -> Box<dyn Send> {
        Box::new(decode_frame::<PodObject>(Encoding::Protobuf, bytes).map_err(drop))
    };
    check("empty endpoints", slice_event(&filled(&field(2, b""))), frame);
    check("empty addresses", slice_event(&field(2, &filled(&field(1, b"")))), frame);
    let named = |name: &[u8]| {
        field(2, &[field(1, b"1::"), field(4, &[field(1, b"Pod"), field(3, name)].concat())].concat())
    };
    let one_long = [named(&[b'p'; SIZE / 4]), named(b"p").repeat(19_000)].concat();
    check("one long name", slice_event(&one_long), frame);
    check("empty labels", slice_event(&field(1, &filled(&field(11, b"")))), frame);
    check("empty ports", slice_event(&filled(&field(3, b""))), frame);
    let ips = field(3, &filled(&field(12, &field(1, b"::1"))));
    check("addresses of a pod", event("v1", "Pod", &[metadata(), ips].concat()), pod);

    let slices = |encoding: Encoding| {
        move |bytes: &[u8]| -> Box<dyn Send> {
            Box::new(decode_list::<SliceObject>(encoding, bytes).map_err(drop))
        }
    };
    let services = |encoding: Encoding| {
        move |bytes: &[u8]| -> Box<dyn Send> {
            Box::new(decode_list::<ServiceObject>(encoding, bytes).map_err(drop))
        }
    };
    check("names only", list("v1", "Service", &metadata()), services(Encoding::Protobuf));
    let dense = [metadata(), field(2, &field(1, b"")).repeat(10_000)].concat();
    check("dense slices", list(V1, "EndpointSlice", &dense), slices(Encoding::Protobuf));
    let item = r#"{"metadata":{"name":"a","namespace":"n"}}"#;
    check("names only, JSON", json_list("Service", item), services(Encoding::Json));
    let endpoints = "{},".repeat(19_000);
    let item = format!(
        r#"{{"metadata":{{"name":"a","namespace":"n"}},"endpoints":[{}]}}"#,
        endpoints.trim_end_matches(',')
    );
    check("empty endpoints, JSON", json_list("EndpointSlice", &item), slices(Encoding::Json));
    let item = format!(
        r#"{{"metadata":{{"name":"a","namespace":"n"}},"spec":{{"ports":[{}]}}}}"#,
        endpoints.trim_end_matches(',')
    );
    check("empty ports, JSON", json_list("Service", &item), services(Encoding::Json));
}
