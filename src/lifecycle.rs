//! Drain and readiness guards.
