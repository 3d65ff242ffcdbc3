//! The lab: clusters, networks, control planes and Envoys on one machine.

pub mod bootstrap;
pub mod plan;
pub mod world;

/// How a lab keeps its networks apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A network namespace per pod, transparent capture (D39).
    Namespaces,
    /// Addresses of 127/8, explicit addressing (D40).
    Loopback,
}
