//! A synthetic Kubernetes API server.
