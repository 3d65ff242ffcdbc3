//! Tracing and metric set-up.
