//! The conformance checklist of the xDS protocol, row by row, over TCP against the binary as it is shipped. Every test
//! has the name of its row: `xd08_…` is X-D08. Decisions (D20 to D30) win over rows; where one does, the test cites it.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::print_stderr)]

#[path = "ads/client.rs"]
#[allow(dead_code, reason = "its streams are for tests in process; the nodes are shared")]
mod nodes;

mod xds_conformance {
    pub mod client;
    pub mod plane;
    pub mod world;

    mod common;
    mod delta;
    mod eds;
    mod flow;
    mod histories;
    mod lifecycle;
    mod memory;
    mod order;
    mod sotw;
    mod table;
    mod ttl;
}
