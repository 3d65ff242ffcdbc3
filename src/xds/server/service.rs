//! The gRPC services: discovery by hand, so that shared bytes reach the socket as they are; the small ones by tonic.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use prost::Message;
use tokio::sync::watch;
use tonic::body::Body;
use tonic::service::Routes;
use tonic::{Code, Status};
use tower::ServiceExt as _;

use super::connection::Connection;
use super::limits::{Admission, Limits};
use super::memory::Memory;
use super::outlet::{Outlet, driven};
use super::requests::Requests;
use crate::xds::counts::Counts;
use crate::xds::hub::Hub;
use crate::xds::resource::ResourceType;
use crate::xds::session::{DeltaSession, SotwSession};
use crate::xds::stream::{Session, Stream, refuse};
use crate::xds::wire;

/// Largest request (D30): a reconnect names every resource the proxy holds.
const REQUEST_MAX: usize = 4 << 20;
/// How long a new stream may take to introduce itself.
const FIRST_REQUEST: Duration = Duration::from_secs(30);

/// What a connection can call. Cheap to clone.
#[derive(Clone)]
pub(super) struct Services {
    discovery: Arc<Discovery>,
    /// Health, reflection, client status; everything else is unimplemented there.
    others: Routes,
}

/// The discovery services.
pub(super) struct Discovery {
    pub(super) hub: Arc<Hub>,
    pub(super) ready: watch::Receiver<bool>,
    pub(super) admission: Admission,
    pub(super) memory: Memory,
    pub(super) limits: Limits,
}

/// A discovery stream by the path of its method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Sotw,
    Delta,
}

/// The protocol of a method and the only type it serves, if it is not an aggregated one.
fn method(path: &str) -> Option<(Protocol, Option<ResourceType>)> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    Some(match (service, method) {
        ("envoy.service.discovery.v3.AggregatedDiscoveryService", "StreamAggregatedResources") => {
            (Protocol::Sotw, None)
        }
        ("envoy.service.discovery.v3.AggregatedDiscoveryService", "DeltaAggregatedResources") => {
            (Protocol::Delta, None)
        }
        ("envoy.service.endpoint.v3.EndpointDiscoveryService", "StreamEndpoints") => {
            (Protocol::Sotw, Some(ResourceType::Endpoint))
        }
        ("envoy.service.endpoint.v3.EndpointDiscoveryService", "DeltaEndpoints") => {
            (Protocol::Delta, Some(ResourceType::Endpoint))
        }
        _ => return None,
    })
}

impl Services {
    pub(super) fn new(discovery: Discovery, others: Routes) -> Self {
        Self { discovery: Arc::new(discovery), others: others.prepare() }
    }

    /// Answers one call.
    pub(super) async fn call(
        &mut self,
        request: Request<Incoming>,
        connection: Arc<Connection>,
    ) -> Response<Body> {
        connection.called();
        let Some((protocol, only)) = method(request.uri().path()) else {
            return match (&mut self.others).oneshot(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            };
        };
        let discovery = Arc::clone(&self.discovery);
        let opened = match protocol {
            Protocol::Sotw => discovery.open::<SotwSession>(request, connection, only).await,
            Protocol::Delta => discovery.open::<DeltaSession>(request, connection, only).await,
        };
        opened.unwrap_or_else(Refusal::into_response)
    }
}

/// Why a call opens no stream.
enum Refusal {
    /// It is not gRPC at all.
    Http(StatusCode),
    /// With a status.
    Grpc(Status),
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        Self::Grpc(status)
    }
}

impl Refusal {
    fn into_response(self) -> Response<Body> {
        match self {
            Self::Grpc(status) => status.into_http(),
            Self::Http(code) => {
                let mut response = Response::new(Body::empty());
                *response.status_mut() = code;
                response
            }
        }
    }
}

impl Discovery {
    /// Refuses a stream while there is no memory for one more (Z-40).
    fn room(&self) -> Result<(), Status> {
        let check = self.memory.check(Instant::now());
        // What is in use then is not its streams' doing, and refusing the only one would not make it less.
        if self.hub.is_idle() {
            return Ok(());
        }
        check.map_err(|full| {
            Counts::add(&self.hub.counts.connections.no_memory);
            Status::resource_exhausted(full.to_string())
        })
    }

    async fn open<S: Session + 'static>(
        self: Arc<Self>,
        request: Request<Incoming>,
        connection: Arc<Connection>,
        only: Option<ResourceType>,
    ) -> Result<Response<Body>, Refusal> {
        check(&request)?;
        if !*self.ready.borrow() {
            return Err(Status::unavailable("the clusters are still being read; try again").into());
        }
        self.room()?;
        let Some(wait) = self.admission.admit(Instant::now()) else {
            Counts::add(&self.hub.counts.connections.not_admitted);
            let text = "too many new streams; connect again later";
            return Err(Status::resource_exhausted(text).into());
        };
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        let requests = Requests::new(request.into_body(), REQUEST_MAX, Arc::clone(&self.hub.counts));
        let body = driven(|outlet| async move {
            let (counts, peer) = (Arc::clone(&self.hub.counts), connection.peer);
            let stream = AssertUnwindSafe(introduce::<S>(self, requests, outlet, connection, only));
            // Whatever it holds is given back as it unwinds; others do not notice (Z-45).
            if stream.catch_unwind().await.is_err() {
                Counts::add(&counts.internal_errors);
                tracing::error!(%peer, "a stream ended by an error of this server; its proxy will connect again");
            }
        });
        let mut response = Response::new(Body::new(body));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        Ok(response)
    }
}

/// Whether a call speaks gRPC in a way that we understand.
fn check(request: &Request<Incoming>) -> Result<(), Refusal> {
    if request.method() != Method::POST {
        return Err(Refusal::Http(StatusCode::METHOD_NOT_ALLOWED));
    }
    let header = |name: &str| request.headers().get(name).map(HeaderValue::as_bytes);
    if !header("content-type").is_some_and(|kind| kind.starts_with(b"application/grpc")) {
        return Err(Refusal::Http(StatusCode::UNSUPPORTED_MEDIA_TYPE));
    }
    if header("grpc-encoding").is_some_and(|encoding| encoding != b"identity") {
        let mut status = Status::new(Code::Unimplemented, "requests are taken uncompressed only");
        let accepted = tonic::metadata::MetadataValue::from_static("identity");
        status.metadata_mut().insert("grpc-accept-encoding", accepted);
        return Err(status.into());
    }
    Ok(())
}

/// Reads the first request, which must carry the node (X-C01, X-C02), and serves the stream.
async fn introduce<S: Session>(
    discovery: Arc<Discovery>,
    mut requests: Requests<S::Request, Incoming>,
    outlet: Outlet,
    connection: Arc<Connection>,
    only: Option<ResourceType>,
) where
    S::Request: Message + Default + 'static,
{
    let first = tokio::select! {
        // The end first; nothing else can starve the other branches.
        biased;
        status = connection.ending() => return outlet.end(status),
        first = tokio::time::timeout(FIRST_REQUEST, requests.message()) => first,
    };
    let hub = Arc::clone(&discovery.hub);
    let mut first = match first {
        // Those who came with it may have filled the memory meanwhile.
        Ok(Ok(Some(first))) => match discovery.room() {
            Ok(()) => first,
            Err(status) => return outlet.end(status),
        },
        // It left before it said anything.
        Ok(Ok(None)) => return,
        // It took the call back.
        Ok(Err(error)) if error.code() == Code::Cancelled => return,
        Ok(Err(error)) => return refuse(&hub, &connection, outlet, error),
        Err(_) => {
            let text = "no first request within 30 s";
            return refuse(&hub, &connection, outlet, Status::deadline_exceeded(text));
        }
    };
    match wire::node(S::node(&mut first)) {
        Ok(mut node) => {
            if let Some(cluster) = hub.settings.cluster_aliases.get(node.cluster()) {
                node.workload.cluster = cluster.clone();
            }
            tracing::debug!(proxy = %node.id, peer = %connection.peer, protocol = S::NAME, "proxy connected");
            connection.introduced(&node, &outlet);
            let mut stream = Stream::<S>::new(hub, node, connection, only, &outlet, &discovery.limits);
            stream.run(first, &mut requests, outlet).await;
        }
        Err(error) => refuse(&hub, &connection, outlet, Status::invalid_argument(error.to_string())),
    }
}
