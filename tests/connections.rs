//! Connections of proxies: who may have how many, what ends them, what hostile bytes do. Over TCP, against the server
//! in this process with limits small enough to be reached.

#![allow(clippy::unwrap_used, unreachable_pub)]

#[path = "ads/client.rs"]
#[allow(dead_code, reason = "shared with the tests of discovery streams")]
mod client;
#[path = "ads/world.rs"]
#[allow(dead_code, reason = "shared with the tests of discovery streams")]
mod world;

mod connections {
    mod eds;
    mod ends;
    mod hostile;
    mod observed;
    mod services;
    mod tls;
}
