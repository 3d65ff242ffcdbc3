//! What the resources hold, decoded again.

mod fixtures;
mod inbound;
mod outbound;
mod routes;
