//! Clients that are not ours, and more clients than a person looks at: what they get from the binary as it is shipped.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::print_stderr, clippy::print_stdout)]

#[path = "ads/client.rs"]
#[allow(dead_code, reason = "its streams are for tests in process; the nodes are shared")]
mod nodes;
#[path = "xds_conformance"]
#[allow(dead_code, unused_imports, reason = "shared with the checklist of the protocol")]
mod xds_conformance {
    pub mod client;
    pub mod plane;
    pub mod world;
}

mod clients {
    mod drain;
    mod envoy;
    mod grpc;
    mod hostile;
    mod machine;
    mod stopped;
}
