//! Plain values: ids, services, endpoints, gateways, proxies. No I/O, no protobuf.
//!
//! A value here is immutable once built and is shared by `Arc`. Everything that two threads look at at the
//! same time is one of these.

mod endpoint;
mod gateway;
mod health;
mod ids;
mod locality;
mod moment;
mod node;
mod proxy;
mod service;
mod standing;
mod workload;

pub use endpoint::{Endpoint, EndpointShard, Health};
pub use gateway::{DEFAULT_GATEWAY_PORT, HBONE_GATEWAY_PORT, NetworkGateway};
pub use health::{
    ApiFacts, ClusterHealth, ClusterRole, ClusterStatus, Restored, Served, SourceCounters, SourceState,
    SourceStatus, StaleCause,
};
pub use ids::{ClusterId, Hostname, Name, NetworkId, ServiceKey, WorkloadId};
pub use locality::Locality;
pub use moment::Moment;
pub use node::{Dialect, InterceptionMode, Node, NodeError, NodeMetadata, ProxyKind};
pub use proxy::{IpFamilies, ProxyView, RequestedView};
pub use service::{ExportTo, PortProtocol, Resolution, Service, ServicePort, Transport};
pub use standing::{Standing, StartRule};
pub use workload::{SpiffeId, TlsMode, Workload};
