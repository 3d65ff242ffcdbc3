//! What the resources hold, decoded again.

mod clusters;
mod connections;
mod enforced;
mod fixtures;
mod gateway;
mod hbone;
mod inbound;
mod outbound;
mod requests;
mod routes;
mod security;
mod validate;
