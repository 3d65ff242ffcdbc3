//! Sidecars: what workloads see and where they listen.

use std::net::IpAddr;

use serde::Serialize;

use super::{ConnectionPool, HostPattern, OutboundPolicy, Policy, PolicyKind, PolicyMeta, WorkloadSelector};
use crate::model::{Name, PortProtocol};

/// What workloads see and where they listen.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sidecar {
    /// Which object, and how old.
    pub meta: PolicyMeta,
    /// Which workloads of its namespace; without labels all of them, in the root namespace the mesh.
    pub selector: WorkloadSelector,
    /// What is seen, in order; empty means everything that is visible.
    pub egress: Vec<EgressListener>,
    /// Where the workload is reached; empty means on the ports of its services.
    pub ingress: Vec<IngressListener>,
    /// What becomes of unknown destinations; `None` as the mesh says.
    pub outbound_policy: Option<OutboundPolicy>,
    /// Limits of inbound connections.
    pub inbound_pool: Option<ConnectionPool>,
}

/// A port of a listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SidecarPort {
    /// Its number; 0 with a Unix socket.
    pub number: u16,
    /// Its protocol.
    pub protocol: PortProtocol,
    /// Its name.
    pub name: Name,
}

/// How traffic for a listener comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum CaptureMode {
    /// As the proxy says.
    #[default]
    Default,
    /// Redirected.
    Iptables,
    /// To the listener itself.
    None,
}

/// Hosts that are seen, on one port or on their own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EgressListener {
    /// The one port they are seen on; `None` for all others.
    pub port: Option<SidecarPort>,
    /// Where it listens.
    pub bind: Option<IpAddr>,
    /// The Unix socket it listens on instead, `unix:///path`; it has a port without a number then.
    pub socket: Option<Name>,
    /// How traffic comes.
    pub capture: CaptureMode,
    /// What is seen.
    pub hosts: Vec<EgressHost>,
}

/// `namespace/host` of an egress listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EgressHost {
    /// Whose services.
    pub namespace: EgressNamespace,
    /// Which.
    pub host: HostPattern,
}

/// The namespace of an [`EgressHost`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum EgressNamespace {
    /// `*`.
    Any,
    /// `~`.
    Nobody,
    /// A namespace; `.` is already resolved.
    Named(Name),
}

impl EgressHost {
    /// Whether a service is meant.
    pub fn matches(&self, namespace: &str, host: &str) -> bool {
        self.is_of(namespace) && self.host.matches(host)
    }

    /// Whether services of a namespace are meant.
    pub fn is_of(&self, namespace: &str) -> bool {
        match &self.namespace {
            EgressNamespace::Any => true,
            EgressNamespace::Nobody => false,
            EgressNamespace::Named(name) => name.as_str() == namespace,
        }
    }
}

/// Where a workload is reached.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct IngressListener {
    /// The port.
    pub port: SidecarPort,
    /// Where it listens.
    pub bind: Option<IpAddr>,
    /// Where the application is: `127.0.0.1:port`, `0.0.0.0:port` (the pod's address), `unix:///path`; empty for the port itself.
    pub default_endpoint: Name,
    /// Limits of its connections.
    pub pool: Option<ConnectionPool>,
}

impl Policy for Sidecar {
    const KIND: PolicyKind = PolicyKind::Sidecar;

    fn meta(&self) -> &PolicyMeta {
        &self.meta
    }

    fn scopes(&self) -> Vec<Name> {
        vec![self.meta.id.namespace.clone()]
    }
}
