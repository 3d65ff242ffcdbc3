//! Resources, sessions, streams and the ADS server.

pub mod resource;
pub mod resources;
pub mod session;
pub mod status;
