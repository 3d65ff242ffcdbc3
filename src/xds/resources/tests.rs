//! What the resources hold, decoded again.

mod clusters;
mod connections;
mod enforced;
pub(crate) mod fixtures;
pub(crate) mod gateway;
mod hbone;
mod inbound;
mod outbound;
mod proxyless;
mod requests;
mod resolved;
mod routes;
mod security;
mod transport;
pub(crate) mod validate;
