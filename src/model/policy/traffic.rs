//! How a host is called: load balancing, connection pools, outlier detection, TLS.

use std::time::Duration;

use serde::Serialize;

use crate::model::Name;

/// A traffic policy: the settings of a level, and those of single ports of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TrafficPolicy {
    /// For every port that has none of its own.
    pub settings: TrafficSettings,
    /// By port number; these replace the settings above completely (R4.3), but for a TLS mode (R4.12.1).
    pub ports: Vec<PortPolicy>,
}

/// The settings of one port.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PortPolicy {
    /// The service port.
    pub port: u16,
    /// Its settings.
    pub settings: TrafficSettings,
}

impl TrafficPolicy {
    /// The settings of this level for one port (R4.3).
    pub fn of_port(&self, port: u16) -> &TrafficSettings {
        self.ports.iter().find(|one| one.port == port).map_or(&self.settings, |one| &one.settings)
    }

    /// How connections to one port are secured at this level (R4.12.1): what its own settings say, else what the level
    /// says. Settings of a port that are silent about it never take a mode away.
    pub fn tls(&self, port: u16) -> Option<&ClientTls> {
        let own = self.ports.iter().find(|one| one.port == port);
        own.and_then(|one| one.settings.tls.as_ref()).or(self.settings.tls.as_ref())
    }
}

/// The settings of one level for one port. `None` is not set.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TrafficSettings {
    /// Which endpoint is chosen.
    pub load_balancer: Option<LoadBalancer>,
    /// Limits of connections and requests.
    pub connection_pool: Option<ConnectionPool>,
    /// When an endpoint is left out for its errors.
    pub outlier_detection: Option<OutlierDetection>,
    /// How connections are secured.
    pub tls: Option<ClientTls>,
}

impl TrafficSettings {
    /// These settings, and where they say nothing, those of the level below (R4.3).
    pub fn over(&self, below: &Self) -> Self {
        Self {
            load_balancer: self.load_balancer.clone().or_else(|| below.load_balancer.clone()),
            connection_pool: self.connection_pool.clone().or_else(|| below.connection_pool.clone()),
            outlier_detection: self.outlier_detection.clone().or_else(|| below.outlier_detection.clone()),
            tls: self.tls.clone().or_else(|| below.tls.clone()),
        }
    }
}

/// Which endpoint is chosen.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LoadBalancer {
    /// By no key.
    pub simple: Option<SimpleLb>,
    /// By a key of the request; excludes `simple`.
    pub hash: Option<(HashKey, HashTable)>,
    /// Which localities are preferred.
    pub locality: Option<LocalityLb>,
    /// Zone-aware routing; wins over `locality` (R4.29).
    pub zone_aware: Option<ZoneAwareLb>,
    /// How long a new endpoint takes to its full share.
    pub warmup: Option<Duration>,
}

/// Load balancing without a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum SimpleLb {
    /// The least loaded of some.
    LeastRequest,
    /// In turn.
    RoundRobin,
    /// By chance.
    Random,
    /// Where the connection was going.
    Passthrough,
}

/// What a consistent hash is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum HashKey {
    /// A request header.
    Header(Name),
    /// A cookie; made when it is missing and `ttl` is set.
    Cookie {
        /// Its name.
        name: Name,
        /// Its path; empty for none.
        path: Name,
        /// How long it lives; zero for the session.
        ttl: Option<Duration>,
    },
    /// The address of the client.
    SourceIp,
    /// A query parameter.
    QueryParameter(Name),
}

/// The table of a consistent hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum HashTable {
    /// A ring of at least this many entries.
    Ring(u64),
    /// A Maglev table of this size; `None` for the default.
    Maglev(Option<u64>),
}

/// Locality load balancing (R4.29–R4.34).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LocalityLb {
    /// Not `false`: a setting that is switched off still ends the search for one (R4.29).
    pub enabled: bool,
    /// Shares by locality (R4.32); excludes the rest.
    pub distribute: Vec<Distribute>,
    /// Where a region fails over to (R4.33).
    pub failover: Vec<Failover>,
    /// Labels to compare with the proxy's, `key` or `key=value` (R4.34).
    pub failover_priority: Vec<Name>,
}

impl Default for LocalityLb {
    fn default() -> Self {
        Self { enabled: true, distribute: Vec::new(), failover: Vec::new(), failover_priority: Vec::new() }
    }
}

/// How proxies of one locality spread their requests (R4.32).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Distribute {
    /// A pattern of the proxy's locality: `region[/zone[/subzone]]`, `*` for anything.
    pub from: Name,
    /// Patterns of endpoint localities with their percentages, the most specific first.
    pub to: Vec<(Name, u32)>,
}

/// Where proxies of a region go when it fails (R4.33).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failover {
    /// The proxy's region.
    pub from: Name,
    /// The region that is preferred among the others.
    pub to: Name,
}

/// Zone-aware routing (R4.35).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ZoneAwareLb {
    /// Not `false`: switched off it wins its level and leaves assignments alone.
    pub enabled: bool,
    /// Where a region fails over to.
    pub failover: Vec<Failover>,
    /// Labels to compare with the proxy's, before regions.
    pub failover_priority: Vec<Name>,
    /// Below this many endpoints requests are spread evenly; `None` for Envoy's default.
    pub min_cluster_size: Option<u64>,
}

impl Default for ZoneAwareLb {
    fn default() -> Self {
        Self { enabled: true, failover: Vec::new(), failover_priority: Vec::new(), min_cluster_size: None }
    }
}

/// When an endpoint is left out for its errors. `None` is Envoy's default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OutlierDetection {
    /// Consecutive 5xx answers; 0 is never.
    pub consecutive_5xx: Option<u32>,
    /// Consecutive gateway errors; 0 is never.
    pub consecutive_gateway: Option<u32>,
    /// Consecutive errors of the connection itself; 0 is never.
    pub consecutive_local_origin: Option<u32>,
    /// Whether errors of the connection count apart from those of the endpoint.
    pub split_external_local_origin: bool,
    /// How often endpoints are looked at.
    pub interval: Option<Duration>,
    /// How long one is left out the first time.
    pub base_ejection_time: Option<Duration>,
    /// How many may be left out, in percent.
    pub max_ejection_percent: Option<u32>,
    /// Below this share of healthy endpoints, in percent, nobody is left out and unhealthy ones are not sent (R4.10).
    pub min_health_percent: u32,
}

/// Limits of connections and requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ConnectionPool {
    /// Of connections.
    pub tcp: TcpPool,
    /// Of requests.
    pub http: HttpPool,
}

/// Limits of connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TcpPool {
    /// At most this many.
    pub max_connections: Option<u32>,
    /// How long one may take.
    pub connect_timeout: Option<Duration>,
    /// Keepalive probes.
    pub keepalive: Option<TcpKeepalive>,
    /// How long one may live.
    pub max_connection_duration: Option<Duration>,
    /// How long one without traffic stays.
    pub idle_timeout: Option<Duration>,
}

/// Keepalive probes; `None` is the system's default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TcpKeepalive {
    /// Probes without an answer.
    pub probes: Option<u32>,
    /// Quiet before the first.
    pub time: Option<Duration>,
    /// Between two.
    pub interval: Option<Duration>,
}

/// Limits of requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HttpPool {
    /// Requests that wait for a connection.
    pub max_pending_requests: Option<u32>,
    /// Requests under way.
    pub max_requests: Option<u32>,
    /// Requests on one connection.
    pub max_requests_per_connection: Option<u32>,
    /// Retries under way.
    pub max_retries: Option<u32>,
    /// How long a connection without requests stays.
    pub idle_timeout: Option<Duration>,
    /// Streams on one HTTP/2 connection.
    pub max_concurrent_streams: Option<u32>,
    /// Whether HTTP/1.1 becomes HTTP/2 upstream.
    pub upgrade: HttpUpgrade,
    /// Whether the client's protocol is spoken upstream.
    pub use_client_protocol: bool,
}

/// Whether HTTP/1.1 becomes HTTP/2 upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum HttpUpgrade {
    /// As the mesh says.
    #[default]
    Default,
    /// No.
    DoNotUpgrade,
    /// Yes.
    Upgrade,
}

/// How connections are secured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ClientTls {
    /// The mode.
    pub mode: ClientTlsMode,
    /// The server name sent; empty for none.
    pub sni: Name,
    /// Names the server must have; empty for any.
    pub subject_alt_names: Vec<Name>,
    /// File of the client's certificate chain.
    pub client_certificate: Name,
    /// File of its key.
    pub private_key: Name,
    /// File of the roots.
    pub ca_certificates: Name,
    /// The SDS name of certificate or roots; empty for files.
    pub credential_name: Name,
    /// Whether the server is not verified.
    pub insecure_skip_verify: bool,
}

/// The mode of TLS towards a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum ClientTlsMode {
    /// None.
    #[default]
    Disable,
    /// The server proves itself.
    Simple,
    /// Both do, with certificates told here.
    Mutual,
    /// Both do, with the mesh's certificates.
    IstioMutual,
}
