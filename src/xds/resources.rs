//! Envoy messages out of plain values.
