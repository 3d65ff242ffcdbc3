//! HTTP for operators: readiness, metrics and the debug pages.
