//! Istio's configuration kinds of the config cluster.

mod authorization;
mod gateway;
