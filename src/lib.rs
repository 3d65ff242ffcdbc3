//! tombolo: a cross-cluster endpoint discovery controller and xDS aggregator.
//!
//! Watchers on every cluster's Kubernetes API server stream Services, EndpointSlices and Pods into a
//! lock-free in-memory [`registry`]; pure functions in [`view`] decide what one kind of proxy sees of it;
//! [`xds`] serves the answer to Envoy. Where each thing lives is the table in `tests/layering.rs`.
#![forbid(unsafe_code)]

pub mod admin;
pub mod app;
pub mod cli;
pub mod config;
pub mod ingest;
pub mod lifecycle;
pub mod model;
pub mod proto;
pub mod registry;
pub mod sim;
pub mod telemetry;
pub mod trust;
pub mod view;
pub mod xds;
