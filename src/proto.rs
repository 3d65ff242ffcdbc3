//! Code generated from `proto/`.
#![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, rust_2018_idioms)]

/// The aggregated discovery service.
pub mod discovery {
    tonic::include_proto!("envoy.service.discovery.v3");

    /// Its descriptors, for the reflection service.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/discovery.bin"));
}

/// Assignments with deterministic bytes.
pub mod assignment {
    tonic::include_proto!("tombolo.assignment");
}

/// Clusters' states on disk.
pub mod snapshot {
    tonic::include_proto!("tombolo.snapshot");
}

/// The names of gRPC's status codes, by number.
pub(crate) const GRPC_CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];
