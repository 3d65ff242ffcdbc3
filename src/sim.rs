//! Synthetic API servers, the echo application, load, fleets of proxies, benchmarks, and the lab.

mod accept;
pub mod apiserver;
pub mod app;
pub mod bench;
mod child;
pub mod controllers;
pub mod fleet;
pub mod kube_apiserver;
mod kubeconfig;
pub mod lab;
pub mod load;
pub mod world;
