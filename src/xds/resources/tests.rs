//! What the resources hold, decoded again.

mod enforced;
mod fixtures;
mod inbound;
mod outbound;
mod routes;
