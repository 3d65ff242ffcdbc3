//! Generates the protobuf code of `proto/` without an installed protoc.

use std::error::Error;

const FILES: [&str; 3] = ["proto/discovery.proto", "proto/assignment.proto", "proto/snapshot.proto"];

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
    tonic_prost_build::configure().compile_fds_with_config(descriptors, prost)?;
    Ok(())
}
