//! The xDS server: listeners, connections, services.

mod accept;
mod bucket;
mod connection;
mod csds;
mod frame;
mod joined;
mod limits;
mod memory;
mod outlet;
mod requests;
mod service;
mod ticks;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;

use envoy_types::pb::envoy::service::status::v3::client_status_discovery_service_server::ClientStatusDiscoveryServiceServer;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

pub use accept::Listener;
pub(super) use bucket::Bucket;
pub(super) use connection::Connection;
pub(super) use frame::{Chunks, Sharing};
pub(super) use joined::{Contents, Joined};
pub use limits::Limits;
pub(super) use outlet::{Outlet, Slot};
pub(super) use requests::Requests;
pub use tls::{Certificates, TlsError, TlsFiles};

use self::accept::Gate;
use self::connection::Drain;
use self::csds::ClientStatus;
use self::limits::{Admission, Sources};
use self::memory::Memory;
use self::service::{Discovery, Services};
use super::cache::CacheValues;
use super::counts::Counts;
use super::hub::{Hub, Settings};
use super::push;
use super::resource::ResourceType;
use super::status::{ChainCollision, StreamStatus};
use crate::lifecycle;
use crate::proto::discovery;
use crate::registry::Registry;
use crate::trust::SecretSource;

pub(super) use self::frame::{delta as frame_delta, sotw as frame_sotw};

/// Connections that may wait to be accepted: a fleet that reconnects at once.
const BACKLOG: u32 = 4096;

/// Serves one registry to any number of proxies.
pub struct XdsServer {
    hub: Arc<Hub>,
}

impl std::fmt::Debug for XdsServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("XdsServer").field("settings", &self.hub.settings).finish_non_exhaustive()
    }
}

/// Binds `address` for a [`Listener`], with room for a fleet that connects at once.
///
/// # Errors
/// The system's, e.g. that the address is in use.
pub fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

impl XdsServer {
    /// A server of `registry`. Without `secrets` SDS names do not exist.
    pub fn new(
        registry: Arc<Registry>,
        settings: Settings,
        secrets: Option<Arc<dyn SecretSource>>,
    ) -> Arc<Self> {
        Arc::new(Self { hub: Arc::new(Hub::new(registry, settings, secrets)) })
    }

    /// Serves until `shutdown`, then ends every stream within [`Limits::drain`] and returns when they are gone. Streams
    /// that arrive before `ready` are refused with `UNAVAILABLE`: an answer before the clusters are known would be a
    /// partial one (X-L05).
    ///
    /// Call it once: it runs the one reader of the registry's changes. A listener in trouble is tried again for ever.
    pub async fn serve(
        self: &Arc<Self>,
        listeners: Vec<Listener>,
        ready: watch::Receiver<bool>,
        shutdown: CancellationToken,
    ) {
        let limits = self.hub.settings.limits;
        let (health, others) = self.others();
        let admission = Admission::new(&limits);
        let memory = Memory::new(limits.memory, lifecycle::memory::resident);
        let hub = Arc::clone(&self.hub);
        let discovery = Discovery { hub, ready: ready.clone(), admission, memory, limits };
        let gate = Arc::new(Gate {
            limits,
            services: Services::new(discovery, others),
            counts: Arc::clone(&self.hub.counts),
            sources: Sources::new(limits.idle_per_source),
            room: Arc::new(Semaphore::new(limits.connections)),
            handshakes: Arc::new(Semaphore::new(limits.handshakes)),
            drain: Drain {
                shutdown: shutdown.clone(),
                connections: TaskTracker::new(),
                longest: limits.drain.0,
            },
        });
        let ended = CancellationToken::new();
        // Streams end during the drain and see every change until then.
        let pusher = tokio::spawn(push::run(Arc::clone(&self.hub), ended.clone()));
        let upkeep = TaskTracker::new();
        upkeep.spawn(tell_health(health, ready, shutdown.clone()));
        for listener in listeners {
            if let Some(certificates) = &listener.certificates {
                upkeep.spawn(Arc::clone(certificates).follow(shutdown.clone()));
            }
            upkeep.spawn(accept::run(Arc::clone(&gate), listener));
        }
        shutdown.cancelled().await;
        upkeep.close();
        upkeep.wait().await;
        let connections = &gate.drain.connections;
        connections.close();
        if tokio::time::timeout(limits.drain.1, connections.wait()).await.is_err() {
            tracing::warn!(connections = connections.len(), "some connections do not end; leaving them");
        }
        ended.cancel();
        if let Err(error) = pusher.await {
            tracing::error!(%error, "the pusher ended badly");
        }
    }

    /// The services that are not discovery.
    fn others(&self) -> (HealthReporter, Routes) {
        let (health, service) = tonic_health::server::health_reporter();
        let status = ClientStatusDiscoveryServiceServer::new(ClientStatus(Arc::clone(&self.hub)));
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(discovery::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()
            .expect("descriptors of ours are sound");
        (health, Routes::new(service).add_service(status).add_service(reflection))
    }

    /// Every connected stream.
    pub fn streams(&self) -> Vec<StreamStatus> {
        self.hub.streams()
    }

    /// What is left out of the listeners of connected proxies because two services claim it. Cost ∝ their services: for
    /// operators only.
    pub fn chain_collisions(&self) -> Vec<ChainCollision> {
        self.hub.chain_collisions()
    }

    /// Work done so far.
    pub fn counts(&self) -> &Counts {
        &self.hub.counts
    }

    /// What the cells of one type hold, and how often they were read. Cost ∝ the projections of connected proxies: for
    /// operators only.
    pub fn cached(&self, kind: ResourceType) -> CacheValues {
        self.hub.cached(kind)
    }

    /// How the server was set up.
    pub fn settings(&self) -> &Settings {
        &self.hub.settings
    }
}

/// The health service says what `/ready` says, and flips before the first stream ends (X-L14).
async fn tell_health(health: HealthReporter, mut ready: watch::Receiver<bool>, shutdown: CancellationToken) {
    let following = async {
        loop {
            let serving = *ready.borrow_and_update();
            let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
            health.set_service_status("", status).await;
            if ready.changed().await.is_err() {
                // Nobody can change it any more.
                std::future::pending::<()>().await;
            }
        }
    };
    shutdown.run_until_cancelled(following).await;
    health.set_service_status("", ServingStatus::NotServing).await;
}
