//! The lab: clusters, networks, control planes and Envoys on one machine.
