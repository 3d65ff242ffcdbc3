//! What the resources hold, decoded again.

mod clusters;
mod connections;
mod fixtures;
mod inbound;
mod outbound;
mod requests;
mod routes;
mod validate;
