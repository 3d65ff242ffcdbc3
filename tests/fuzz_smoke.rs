//! The fuzz targets on seeded mutations of good inputs: the same ones in every run, no fuzzer needed.

#[path = "objects/random.rs"]
mod random;
#[path = "objects/schema.rs"]
mod schema;
#[path = "fuzz/targets.rs"]
mod targets;

use std::time::{Duration, Instant};

use random::Random;
use serde_json::json;

/// Inputs per target, unless `FUZZ_INPUTS` says otherwise.
const INPUTS: usize = 20_000;
/// No input takes longer, however slow the machine.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs `target` on mutations of `corpus`.
fn smoke(seed: u64, corpus: &[Vec<u8>], target: fn(&[u8])) {
    let mut random = Random::new(seed);
    let said = std::env::var("FUZZ_INPUTS").ok();
    let inputs = said.map_or(INPUTS, |inputs| inputs.parse().expect("FUZZ_INPUTS is a number"));
    for round in 0..inputs {
        let mut input = corpus[round % corpus.len()].clone();
        for _ in 0..random.below(6) {
            mutate(&mut random, &mut input, corpus);
        }
        let start = Instant::now();
        target(&input);
        assert!(start.elapsed() < PATIENCE, "input {round} of {} bytes takes long", input.len());
    }
}

fn mutate(random: &mut Random, input: &mut Vec<u8>, corpus: &[Vec<u8>]) {
    let at = random.below(input.len() + 1);
    match random.below(7) {
        0 => input.truncate(at),
        1 => input.insert(at, random.pick(b"\x00\x01\x7f\x80\xff\"\\{}[]:,\nku&*!")),
        2 | 3 => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        4 => {
            let end = (at + random.below(40)).min(input.len());
            input.drain(at..end);
        }
        5 => {
            let end = (at + random.below(200)).min(input.len());
            let piece = input[at..end].to_vec();
            input.splice(at..at, piece);
        }
        _ => {
            let other = &corpus[random.below(corpus.len())];
            let from = random.below(other.len());
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
    }
}

/// The byte that makes [`targets::objects`] choose a kind of the table.
fn choice(kind: &str, protobuf: bool) -> u8 {
    let kinds = ["Namespace", "Node", "Pod", "Service", "Secret", "ConfigMap", "EndpointSlice"];
    let at = kinds.iter().position(|name| *name == kind).expect("a kind of the table");
    u8::try_from(at).expect("few kinds") + if protobuf { targets::KINDS } else { 0 }
}

/// Of each kind an object, an event and a list in both encodings.
fn objects() -> Vec<Vec<u8>> {
    let mut random = Random::new(1);
    let mut corpus = Vec::new();
    for (kind, api_version, _) in schema::KINDS {
        let object = random::object(&mut random, kind, "seed");
        let event = json!({"type": "MODIFIED", "object": object});
        let list = json!({"kind": format!("{kind}List"), "apiVersion": api_version,
            "metadata": {"resourceVersion": "7"}, "items": [object, object]});
        for text in [object.to_string(), event.to_string(), list.to_string()] {
            corpus.push([&[choice(kind, false)], text.as_bytes()].concat());
        }
        let message = schema::message(kind, &object);
        let enveloped = schema::envelope(api_version, kind, &message);
        let event = schema::event("MODIFIED", &enveloped);
        let list = schema::list(kind, "7", &[message.clone(), message]);
        for bytes in [enveloped, event, list] {
            corpus.push([&[choice(kind, true)], &bytes[..]].concat());
        }
    }
    corpus
}

#[test]
fn objects_of_any_bytes_are_read_or_refused() {
    smoke(2, &objects(), targets::objects);
}

#[test]
fn frames_of_any_bytes_do_not_depend_on_how_they_arrive() {
    let mut corpus = Vec::new();
    let (mut lines, mut messages) = (vec![0, 7], vec![1, 7]);
    for object in objects().iter().filter(|object| object.len() < 2000) {
        let (into, protobuf) =
            if object[0] < targets::KINDS { (&mut lines, false) } else { (&mut messages, true) };
        if protobuf {
            into.extend_from_slice(&u32::try_from(object.len() - 1).expect("small").to_be_bytes());
        }
        into.extend_from_slice(&object[1..]);
        if !protobuf {
            into.push(b'\n');
        }
        corpus.push(into.clone());
        if into.len() > 6000 {
            into.truncate(2);
        }
    }
    corpus.push(b"\x00\x03{}\n\n{}\r\n".to_vec());
    corpus.push(b"\x01\x01\0\0\0\x02ab\0\0\0\0".to_vec());
    smoke(3, &corpus, targets::frames);
}

#[test]
fn kubeconfigs_of_any_bytes_are_read_or_refused() {
    let json = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": {"server": "https://1.2.3.4:6443", "certificate-authority-data": "YQ=="}}],
        "users": [{"name": "u", "user": {"token": "t"}}]});
    let yaml = "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts:\n- name: c\n  context: {cluster: k, user: u}\n\
        clusters:\n- name: k\n  cluster:\n    server: https://1.2.3.4\n    tls-server-name: a.example\n\
        users:\n- name: u\n  user:\n    client-certificate-data: YQ==\n    client-key-data: YQ==\n";
    let aliases = "a: &a [x, x, x]\nb: &b [*a, *a]\nclusters: *b\nusers: !!binary YQ==\n";
    let corpus = [json.to_string(), yaml.to_owned(), aliases.to_owned()].map(String::into_bytes);
    smoke(4, &corpus, targets::kubeconfig);
}

#[test]
fn snapshots_of_any_bytes_are_read_or_refused() {
    let file = targets::empty_snapshot();
    let corpus = [file.clone(), file[40..].to_vec()];
    smoke(5, &corpus, targets::snapshot);
}
