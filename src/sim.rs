//! Synthetic API servers, the echo application, load, and the lab.

mod accept;
pub mod apiserver;
pub mod app;
mod child;
pub mod controllers;
pub mod kube_apiserver;
mod kubeconfig;
pub mod lab;
pub mod load;
pub mod world;
