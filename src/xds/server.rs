//! The ADS server.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream as Futures, TryStreamExt};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::counts::Counts;
use super::hub::{Hub, Settings};
use super::push;
use super::session::{DeltaSession, SotwSession};
use super::status::StreamStatus;
use super::stream::{Session, Stream, refuse};
use super::wire;
use crate::proto::discovery::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use crate::proto::discovery::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use crate::registry::Registry;
use crate::trust::SecretSource;

/// Largest request (D30): a reconnect names every resource the proxy holds.
const REQUEST_MAX: usize = 4 << 20;
/// How often an idle connection is pinged, and how long the answer may take (§2.7).
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));
/// How long connections may take to end at shutdown: one whose proxy does not read never would.
const STREAMS_END: Duration = Duration::from_secs(5);
/// How long a new stream may take to introduce itself.
const FIRST_REQUEST: Duration = Duration::from_secs(30);

/// *Fatal*: the server ended.
#[derive(Debug, thiserror::Error)]
#[error("the xDS listener failed: {0}; check that the address is still there and restart")]
pub struct ServeError(#[from] tonic::transport::Error);

/// Serves one registry to any number of proxies.
pub struct XdsServer {
    hub: Arc<Hub>,
}

impl std::fmt::Debug for XdsServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("XdsServer").field("settings", &self.hub.settings).finish_non_exhaustive()
    }
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

    /// Serves until `shutdown`, then ends every stream and returns when they are gone, or 5 s later. Streams that arrive before
    /// `ready` are refused with `UNAVAILABLE`: an answer before the clusters are known would be a partial one.
    ///
    /// Call it once: it runs the one reader of the registry's changes.
    ///
    /// # Errors
    /// The listener broke.
    pub async fn serve(
        self: &Arc<Self>,
        listener: TcpListener,
        ready: watch::Receiver<bool>,
        shutdown: CancellationToken,
    ) -> Result<(), ServeError> {
        let pusher = tokio::spawn(push::run(Arc::clone(&self.hub), shutdown.clone()));
        let ads = Ads { hub: Arc::clone(&self.hub), ready, shutdown: shutdown.clone() };
        let incoming = TcpListenerStream::new(listener).inspect_ok(|connection| {
            // Small messages must not wait for one another.
            let _ = connection.set_nodelay(true);
        });
        let serving = tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE.0))
            .http2_keepalive_timeout(Some(KEEPALIVE.1))
            .add_service(AggregatedDiscoveryServiceServer::new(ads).max_decoding_message_size(REQUEST_MAX))
            .serve_with_incoming_shutdown(incoming, shutdown.clone().cancelled_owned());
        let overdue = async {
            shutdown.cancelled().await;
            tokio::time::sleep(STREAMS_END).await;
        };
        let served = tokio::select! {
            // The regular end first.
            biased;
            served = serving => served,
            () = overdue => {
                tracing::warn!("some proxies do not read to the end of their streams; leaving them");
                Ok(())
            }
        };
        shutdown.cancel();
        if let Err(error) = pusher.await {
            tracing::error!(%error, "the pusher ended badly");
        }
        Ok(served?)
    }

    /// Every connected stream.
    pub fn streams(&self) -> Vec<StreamStatus> {
        self.hub.streams()
    }

    /// Work done so far.
    pub fn counts(&self) -> &Counts {
        &self.hub.counts
    }

    /// How the server was set up.
    pub fn settings(&self) -> &Settings {
        &self.hub.settings
    }
}

/// The service as tonic sees it.
struct Ads {
    hub: Arc<Hub>,
    ready: watch::Receiver<bool>,
    shutdown: CancellationToken,
}

type Responses<R> = Pin<Box<dyn Futures<Item = Result<R, Status>> + Send>>;

impl Ads {
    async fn open<S: Session + 'static>(
        &self,
        request: Request<Streaming<S::Request>>,
    ) -> Result<Response<Responses<S::Response>>, Status> {
        if !*self.ready.borrow() {
            return Err(Status::unavailable("the clusters are still being read; try again"));
        }
        let peer = request.remote_addr();
        let (responses, receiver) = mpsc::channel(1);
        let (hub, shutdown) = (Arc::clone(&self.hub), self.shutdown.clone());
        tokio::spawn(introduce::<S>(hub, request.into_inner(), responses, peer, shutdown));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

/// Reads the first request, which must carry the node (X-C01, X-C02), and serves the stream.
async fn introduce<S: Session>(
    hub: Arc<Hub>,
    mut requests: Streaming<S::Request>,
    responses: mpsc::Sender<Result<S::Response, Status>>,
    peer: Option<SocketAddr>,
    shutdown: CancellationToken,
) {
    let first = tokio::select! {
        // The end first; nothing else can starve the other branch.
        biased;
        () = shutdown.cancelled() => return,
        first = tokio::time::timeout(FIRST_REQUEST, requests.message()) => first,
    };
    let Ok(Ok(Some(mut first))) = first else { return };
    match wire::node(S::node(&mut first)) {
        Ok(mut node) => {
            if let Some(cluster) = hub.settings.cluster_aliases.get(node.cluster()) {
                node.workload.cluster = cluster.clone();
            }
            tracing::debug!(proxy = %node.id, ?peer, protocol = S::NAME, "proxy connected");
            Stream::<S>::new(hub, node, peer).run(first, requests, responses, shutdown).await;
        }
        Err(error) => {
            refuse(&hub, peer, &responses, Status::invalid_argument(error.to_string())).await;
        }
    }
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Ads {
    type StreamAggregatedResourcesStream = Responses<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Responses<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        self.open::<SotwSession>(request).await
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        self.open::<DeltaSession>(request).await
    }
}
