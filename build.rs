//! Generates the protobuf code of `proto/` without an installed protoc.

use std::error::Error;
use std::fmt::Write as _;
use std::path::PathBuf;

use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet};

const DISCOVERY: &str = "proto/discovery.proto";
const FILES: [&str; 3] = [DISCOVERY, "proto/assignment.proto", "proto/snapshot.proto"];
/// What is read of the Kubernetes API.
const SLIM: &str = "proto/kubernetes-slim.proto";
/// Its messages that look different in JSON; their readers are written by hand.
const BY_HAND: [&str; 2] = ["Time", "IntOrString"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    let mut prost = prost_build::Config::new();
    // Ordered maps: equal messages have equal bytes.
    prost.btree_map(["."]);
    // A resource is encoded once and shared.
    prost.bytes([
        ".envoy.service.discovery.v3.DiscoveryResponse",
        ".envoy.service.discovery.v3.DeltaDiscoveryResponse",
    ]);
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let discovery = protox::compile([DISCOVERY], ["proto"])?;
    std::fs::write(out.join("discovery.bin"), discovery.encode_to_vec())?;
    // Its server is written by hand.
    tonic_prost_build::configure().build_server(false).compile_fds_with_config(descriptors, prost)?;
    let slim = protox::compile([SLIM], ["proto"])?;
    std::fs::write(out.join("kubernetes_slim.rs"), slim_readers(&slim)?)?;
    // For the test that compares them with the published messages.
    Ok(std::fs::write(out.join("kubernetes_slim.bin"), slim.encode_to_vec())?)
}

/// One `message!` per slim message: the macro in `src/ingest/objects/raw/message.rs` makes the readers.
fn slim_readers(slim: &FileDescriptorSet) -> Result<String, Box<dyn Error>> {
    let mut out = String::new();
    for file in &slim.file {
        for message in file.message_type.iter().filter(|m| !BY_HAND.contains(&m.name())) {
            writeln!(out, "message! {{ {} {{", message.name())?;
            for field in &message.field {
                let (name, number) = (field.name(), field.number());
                writeln!(
                    out,
                    "    {}: {}, {name:?}, {number};",
                    rust_name(name),
                    rust_type(message, field)?
                )?;
            }
            out.push_str("} }\n");
        }
    }
    Ok(out)
}

fn rust_type(message: &DescriptorProto, field: &FieldDescriptorProto) -> Result<String, Box<dyn Error>> {
    let local = field.type_name().rsplit('.').next().unwrap_or_default();
    if let Some(entry) = message.nested_type.iter().find(|nested| nested.name() == local) {
        let value = entry.field.iter().find(|field| field.number() == 2).ok_or("a map without values")?;
        return Ok(format!("Map<'a, {}>", rust_type(entry, value)?));
    }
    let one = match field.r#type() {
        Type::String => "Text<'a>".to_owned(),
        Type::Bytes => "Blob<'a>".to_owned(),
        Type::Bool => "bool".to_owned(),
        Type::Int32 | Type::Int64 => "i64".to_owned(),
        Type::Message => format!("{local}<'a>"),
        other => return Err(format!("{SLIM}: no reader for {other:?} of {}", field.name()).into()),
    };
    Ok(match field.label() {
        Label::Repeated if field.r#type() == Type::String => "Texts<'a>".to_owned(),
        Label::Repeated => format!("Vec<{one}>"),
        _ if field.proto3_optional() => format!("Option<{one}>"),
        _ => one,
    })
}

/// `clusterIPs` → `r#cluster_ips`.
fn rust_name(name: &str) -> String {
    let mut out = "r#".to_owned();
    let mut lower = false;
    for c in name.chars() {
        if c.is_ascii_uppercase() && lower {
            out.push('_');
        }
        lower = c.is_ascii_lowercase();
        out.push(c.to_ascii_lowercase());
    }
    out
}
