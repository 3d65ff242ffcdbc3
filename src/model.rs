//! Plain values: ids, services, endpoints, gateways, proxies. No I/O, no protobuf.
//!
//! A value here is immutable once built and is shared by `Arc`. Everything that two threads look at at the
//! same time is one of these.

mod addresses;
mod cluster_local;
mod endpoint;
mod entry;
mod features;
mod gateway;
mod health;
mod ids;
mod interned;
mod locality;
mod moment;
mod node;
pub mod policy;
mod proxy;
mod quirks;
mod service;
mod session;
mod set;
mod shared;
mod standing;
mod workload;

pub use addresses::Addresses;
pub use cluster_local::ClusterLocalHosts;
pub use endpoint::{Discoverability, Endpoint, EndpointShard, Exposure, Health};
pub use entry::{EntryFacts, InlineAddress, InlineEndpoint};
pub use features::Features;
pub use gateway::{DEFAULT_GATEWAY_PORT, GatewayAddress, GatewayHost, HBONE_GATEWAY_PORT, NetworkGateway};
pub use health::{
    ApiFacts, ClusterHealth, ClusterRole, ClusterStatus, CredentialFacts, Expiry, Need, Restored, Served,
    SourceCounters, SourceState, SourceStatus, StaleCause,
};
pub use ids::{ClusterId, Hostname, Name, NetworkId, ServiceKey, WorkloadId};
pub use locality::Locality;
pub use moment::Moment;
pub use node::{Dialect, InterceptionMode, Node, NodeError, NodeMetadata, ProxyKind};
pub use proxy::{IpFamilies, ProxyView, RequestedView};
pub use quirks::{Quirk, Quirks};
pub use service::{
    ExportTo, Import, PortProtocol, Resolution, Service, ServicePort, TrafficDistribution, Transport,
};
pub use session::SessionLabels;
pub use set::{Labels, Set};
pub use shared::Shared;
pub use standing::{Standing, StartRule};
pub use workload::{NodePlace, SpiffeId, TlsMode, Workload, WorkloadCell, WorkloadParts, WorkloadProfile};
