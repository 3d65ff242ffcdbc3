//! Resources, sessions, streams and the ADS server.
