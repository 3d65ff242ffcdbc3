//! What operators say about traffic and trust: slim, checked forms of Istio's configuration kinds.
//!
//! A value here has been decoded and checked; it holds what some answer reads and nothing else. Objects of one
//! kind are found by scope ([`Policy::scopes`]): those about hosts by host name, those about workloads by
//! namespace. One scope of one kind is a [`PolicyPart`]: the unit in which changes are told (D14).

mod authorization;
mod destination_rule;
mod gateway;
mod host;
mod mesh;
mod peer_authentication;
mod selector;
mod sidecar;
mod traffic;
mod virtual_service;

pub use authorization::{
    Attribute, AuthorizationAction, AuthorizationPolicy, AuthorizationRule, Clause, TextPattern, block,
    path_template,
};
pub use destination_rule::{DestinationRule, Subset};
pub use gateway::{Gateway, GatewayHostName, GatewayServer, ServerTls, ServerTlsMode, TlsVersion};
pub use host::{HostPattern, wildcard_ends, wildcards};
pub use mesh::{
    LabelRequirement, MeshConfig, NamespaceSelector, OutboundPolicy, PathNormalization, ServiceScopeRule,
    ServiceSettings,
};
pub use peer_authentication::{MtlsMode, PeerAuthentication};
pub use selector::WorkloadSelector;
pub use sidecar::{
    CaptureMode, EgressHost, EgressListener, EgressNamespace, IngressListener, Sidecar, SidecarPort,
};
pub use traffic::{
    ClientTls, ClientTlsMode, ConnectionPool, Distribute, Failover, HashKey, HashTable, HttpPool,
    HttpUpgrade, LoadBalancer, LocalityLb, OutlierDetection, PortPolicy, SimpleLb, TcpKeepalive, TcpPool,
    TrafficPolicy, TrafficSettings, ZoneAwareLb,
};
pub use virtual_service::{
    Abort, Cors, Delay, Destination, DirectResponse, Fault, HeaderChanges, Headers, HttpAction, HttpMatch,
    HttpRoute, MESH_GATEWAY, Mirror, Percent, Redirect, RedirectPort, RegexRewrite, Retries, Rewrite,
    Sources, TcpMatch, TcpRoute, TextMatch, TlsMatch, TlsRoute, VirtualService, Weighted,
};

use serde::Serialize;

use super::Name;

/// The kinds of policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum PolicyKind {
    /// The one mesh-wide document.
    MeshConfig,
    /// How hosts are called.
    DestinationRule,
    /// Which mTLS workloads ask for.
    PeerAuthentication,
    /// What workloads see and where they listen.
    Sidecar,
    /// Who may ask workloads for what.
    AuthorizationPolicy,
    /// Where routers listen.
    Gateway,
    /// Where requests and connections for hosts go.
    VirtualService,
}

impl PolicyKind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::MeshConfig,
        Self::DestinationRule,
        Self::PeerAuthentication,
        Self::Sidecar,
        Self::AuthorizationPolicy,
        Self::Gateway,
        Self::VirtualService,
    ];

    /// By what its objects are found.
    pub fn scoping(self) -> Scoping {
        match self {
            Self::MeshConfig => Scoping::Mesh,
            Self::DestinationRule | Self::VirtualService => Scoping::Hosts,
            Self::PeerAuthentication | Self::Sidecar | Self::AuthorizationPolicy => Scoping::Namespaces,
            Self::Gateway => Scoping::Routers,
        }
    }

    /// Its name, as objects spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::MeshConfig => "MeshConfig",
            Self::DestinationRule => "DestinationRule",
            Self::PeerAuthentication => "PeerAuthentication",
            Self::Sidecar => "Sidecar",
            Self::AuthorizationPolicy => "AuthorizationPolicy",
            Self::Gateway => "Gateway",
            Self::VirtualService => "VirtualService",
        }
    }
}

/// By what the objects of a kind are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scoping {
    /// There is one for the mesh.
    Mesh,
    /// By host name or `*.suffix`.
    Hosts,
    /// By namespace; those of the root namespace hold for the mesh.
    Namespaces,
    /// All together, by the routers they select.
    Routers,
}

/// One versioned part of the policies: the objects of a kind in one scope (D14).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct PolicyPart {
    /// The kind.
    pub kind: PolicyKind,
    /// A host name or `*.suffix` for kinds about hosts, a namespace for kinds about workloads; empty for the
    /// mesh-wide document.
    pub scope: Name,
}

/// Which object it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct PolicyId {
    /// Its namespace.
    pub namespace: Name,
    /// Its name.
    pub name: Name,
}

impl PolicyId {
    /// The object of this name.
    pub fn new(namespace: impl Into<Name>, name: impl Into<Name>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl std::fmt::Display for PolicyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What all policy objects have. The order is that of precedence: the oldest first, then by namespace and name.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct PolicyMeta {
    /// Seconds since the epoch at which the object was created; 0 when not known.
    pub created: i64,
    /// Which object it is.
    pub id: PolicyId,
}

/// A policy object.
pub trait Policy: PartialEq + std::fmt::Debug + Send + Sync + 'static {
    /// Its kind.
    const KIND: PolicyKind;
    /// Which object it is, and how old.
    fn meta(&self) -> &PolicyMeta;
    /// The scopes in which it is looked for, each once.
    fn scopes(&self) -> Vec<Name>;
    /// What of it cannot be done although it is in use, for its owner.
    fn problems(&self) -> &[String] {
        &[]
    }
}
