//! Gateways: where routers listen.

use std::net::IpAddr;

use serde::Serialize;

use super::{HostPattern, Policy, PolicyKind, PolicyMeta, WorkloadSelector};
use crate::model::{Name, PortProtocol};

/// Where routers listen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Gateway {
    /// Which object, and how old.
    pub meta: PolicyMeta,
    /// Which routers, of every namespace; without labels all of them.
    pub selector: WorkloadSelector,
    /// Where they listen.
    pub servers: Vec<GatewayServer>,
    /// What of it cannot be done, for its owner. Such servers are not opened, or without that part.
    pub problems: Vec<String>,
}

/// One port of a gateway and what is served there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GatewayServer {
    /// The port. Routers listen there, or where a Service in front of them leads it.
    pub port: u16,
    /// What clients speak: HTTP kinds, `Https`, `Tls`, `Tcp`.
    pub protocol: PortProtocol,
    /// The name of the port.
    pub port_name: Name,
    /// Where they listen; `None` for every address.
    pub bind: Option<IpAddr>,
    /// What is served.
    pub hosts: Vec<GatewayHostName>,
    /// TLS of the clients; `None` for none.
    pub tls: Option<ServerTls>,
    /// Whether plain requests are sent to HTTPS.
    pub https_redirect: bool,
}

/// `namespace/host` of a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GatewayHostName {
    /// Whose routes and services; `None` for those of every namespace.
    pub namespace: Option<Name>,
    /// Which.
    pub host: HostPattern,
}

/// TLS of the clients of a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServerTls {
    /// Who terminates it.
    pub mode: ServerTlsMode,
    /// The least version: 1.2 unless it says more.
    pub min_version: TlsVersion,
    /// The most.
    pub max_version: TlsVersion,
    /// Cipher suites of TLS 1.2; empty for the usual ones.
    pub cipher_suites: Vec<Name>,
    /// Names of which a client's certificate must have one; empty for any.
    pub subject_alt_names: Vec<Name>,
}

/// Who terminates TLS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum ServerTlsMode {
    /// The backend; the server name chooses it by routes.
    Passthrough,
    /// The backend; the server name is that of an SNI-DNAT cluster (R7.2).
    AutoPassthrough,
    /// The gateway, with files of its own; with `ca` clients need a certificate.
    Files {
        /// The certificate chain.
        certificate: Name,
        /// Its key.
        key: Name,
        /// What clients are verified against; `None` without client certificates.
        ca: Option<Name>,
    },
    /// The gateway, with its mesh certificate; clients need one of the mesh.
    IstioMutual,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum TlsVersion {
    /// 1.2.
    V1_2,
    /// 1.3.
    V1_3,
}

impl Gateway {
    /// The name under which routes are bound to it.
    pub fn bound_name(&self) -> Name {
        self.meta.id.to_string().into()
    }
}

impl GatewayHostName {
    /// Whether a host of `namespace` is served.
    pub fn covers(&self, namespace: &str, host: &str) -> bool {
        self.namespace.as_deref().is_none_or(|own| own == namespace) && self.host.overlaps(host)
    }
}

impl GatewayServer {
    /// Whether it leads mesh traffic on by its server name (R7.1).
    pub fn is_auto_passthrough(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.mode == ServerTlsMode::AutoPassthrough)
    }
}

impl Policy for Gateway {
    const KIND: PolicyKind = PolicyKind::Gateway;

    fn meta(&self) -> &PolicyMeta {
        &self.meta
    }

    fn problems(&self) -> &[String] {
        &self.problems
    }

    /// One scope for all: a gateway selects routers of every namespace, and there are few of both.
    fn scopes(&self) -> Vec<Name> {
        vec![Name::default()]
    }
}
