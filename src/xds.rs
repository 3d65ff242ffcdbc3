//! Resources, sessions, streams and the ADS server.
//!
//! A change arrives as keys ([`crate::registry::ChangeLog`]); the pusher builds each affected (name, projection)
//! once and wakes the streams that watch it; a stream, driven by the body of its response, asks its pure session what to
//! write and writes shared bytes.

mod assignments;
mod cache;
pub mod client;
mod counts;
mod hub;
mod inbound;
mod outbound;
mod proxy;
mod push;
pub mod resource;
pub mod resources;
mod server;
pub mod session;
mod siblings;
mod slot;
pub mod status;
mod stream;
mod sync;
mod timer;
mod times;
mod timing;
mod watchers;
mod wire;

pub use cache::CacheValues;
pub use counts::{Connections, Counts, PerType, PerTypeBytes, Triggers};
pub use hub::Settings;
pub use outbound::LINGER;
pub use server::{Certificates, Limits, Listener, TlsError, TlsFiles, XdsServer, listen};
pub use times::{PerTypeHistogram, Times};
