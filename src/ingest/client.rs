//! Connections to one API server.

mod error;
mod exchange;
mod guard;

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ConfigExt};
use tokio::sync::mpsc;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, Service, ServiceBuilder, ServiceExt as _};

pub use error::{Ending, TransportError};
pub use exchange::{Answer, ByteStream, Exchange};
use guard::GuardedResolver;
pub use guard::{AddressPolicy, ForbiddenAddress, special_kind};

/// How long an API server may take to connect and to send response headers (K-03, K-04).
const HEADERS_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a TCP connection may be silent before the kernel probes it, and how often it probes (K-05).
const KEEPALIVE: Duration = Duration::from_secs(10);
/// Probes without an answer after which the kernel gives a connection up.
const KEEPALIVE_PROBES: u32 = 3;

/// How long one list page may take once its headers are there.
const PAGE_TIMEOUT: Duration = Duration::from_secs(60);
/// Largest list page.
const MAX_PAGE: usize = 64 << 20;

type Page = UnsyncBoxBody<Bytes, BoxError>;
type Transport = BoxCloneSyncService<Request<Body>, Response<Incoming>, BoxError>;

/// *Fatal* for this cluster until its configuration changes.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the credentials: {0}")]
pub struct ClientError(#[source] Box<kube::Error>);

/// One API server with its credentials. All sources of a cluster share its connection pool.
pub struct ApiServer {
    transport: Transport,
    namespace: String,
    server: Arc<str>,
}

impl std::fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiServer").finish_non_exhaustive()
    }
}

impl ApiServer {
    /// Prepares connections; nothing is sent yet. Neither proxies nor retries nor environment variables are
    /// involved (Z-05, Z-08), redirects are not followed (Z-06).
    ///
    /// # Errors
    /// The certificates or the key cannot be used.
    pub fn new(config: &kube::Config, addresses: AddressPolicy) -> Result<Self, ClientError> {
        let fail = |error| ClientError(Box::new(error));
        let mut tcp = HttpConnector::new_with_resolver(GuardedResolver::new(addresses));
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(HEADERS_TIMEOUT));
        tcp.set_keepalive(Some(KEEPALIVE));
        tcp.set_keepalive_interval(Some(KEEPALIVE));
        tcp.set_keepalive_retries(Some(KEEPALIVE_PROBES));
        let tls = config.rustls_https_connector_with_connector(tcp).map_err(fail)?;
        let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build(tls);
        let auth = config.auth_layer().map_err(fail)?;
        let service = ServiceBuilder::new()
            .layer(config.base_uri_layer())
            .option_layer(auth)
            .layer(config.extra_headers_layer().map_err(fail)?)
            .map_err(BoxError::from)
            .service(http);
        let transport = service;
        Ok(Self {
            transport: BoxCloneSyncService::new(transport),
            namespace: config.default_namespace.clone(),
            server: config.cluster_url.authority().map_or("", |authority| authority.as_str()).into(),
        })
    }

    /// A client that says on `connected` when a watch is established.
    pub(super) fn client(&self, connected: mpsc::Sender<()>) -> kube::Client {
        let observed = Observed { transport: self.transport.clone(), connected };
        kube::Client::new(observed, self.namespace.clone())
    }
}

impl Exchange for ApiServer {
    fn server(&self) -> &str {
        &self.server
    }

    fn get(
        &self,
        path_and_query: String,
        accept: &'static str,
    ) -> BoxFuture<'static, Result<Answer, TransportError>> {
        let transport = self.transport.clone();
        let server = Arc::clone(&self.server);
        Box::pin(async move {
            let request = Request::get(path_and_query).header(http::header::ACCEPT, accept);
            let request = request.body(Body::empty()).map_err(|error| TransportError::Request {
                server: Arc::clone(&server),
                cause: error.to_string().into(),
            })?;
            let closed = move |cause: String| TransportError::Closed {
                server: Arc::clone(&server),
                ending: Ending::Connection(cause.into()),
            };
            let response = transport.oneshot(request).await.map_err(|error| closed(error.to_string()))?;
            let (parts, body) = response.into_parts();
            let body =
                body.into_data_stream().map(move |chunk| chunk.map_err(|error| closed(error.to_string())));
            Ok(Answer { status: parts.status, headers: parts.headers, body: body.boxed() })
        })
    }
}

/// Gives every request a deadline for its headers, tells of established watches, and sorts out answers that
/// are not what was asked for: an error page must not be read as events (K-12), and an expired revision must
/// lead to a new list whether it comes as a status or as an event (K-09, K-10).
#[derive(Clone)]
struct Observed {
    transport: Transport,
    connected: mpsc::Sender<()>,
}

/// *Retried.* No response headers in time.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {}", humantime::format_duration(HEADERS_TIMEOUT))]
struct NoAnswer;

/// *Retried.* A list page that did not end in time.
#[derive(Debug, thiserror::Error)]
#[error("no complete page within {}", humantime::format_duration(PAGE_TIMEOUT))]
struct NoPage;

/// *Retried.* An answer that is not a list or a watch.
#[derive(Debug, thiserror::Error)]
pub(super) enum UnusableAnswer {
    /// A watch was answered with an error status.
    #[error("HTTP {0}")]
    Status(http::StatusCode),
    /// The answer is not JSON: something else answers in the API server's place.
    #[error("the answer is not JSON but `{0}`")]
    ContentType(String),
}

/// What a watch from an expired revision is told on a stream.
const EXPIRED: &str = concat!(
    r#"{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","#,
    r#""message":"the revision has expired","reason":"Expired","code":410}}"#,
    "\n"
);

impl Service<Request<Body>> for Observed {
    type Response = Response<Page>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<Page>, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.transport.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let query = request.uri().query().unwrap_or_default();
        let watch = query.split('&').any(|part| matches!(part, "watch=true" | "watch=1"));
        let connected = self.connected.clone();
        let answer = self.transport.call(request);
        Box::pin(async move {
            let answer = tokio::time::timeout(HEADERS_TIMEOUT, answer).await;
            let response = answer.map_err(|_| NoAnswer)??;
            if watch && response.status() == http::StatusCode::GONE {
                let event = Full::new(Bytes::from_static(EXPIRED.as_bytes()));
                return Ok(Response::new(event.map_err(|never| match never {}).boxed_unsync()));
            }
            check(&response, watch)?;
            if !watch {
                return page(response).await;
            }
            // Full means that the same notice is already waiting.
            let _ = connected.try_send(());
            Ok(response.map(|body| body.map_err(BoxError::from).boxed_unsync()))
        })
    }
}

/// Reads a list page within its limits of time and size (K-03, K-37).
async fn page(response: Response<Incoming>) -> Result<Response<Page>, BoxError> {
    let (parts, body) = response.into_parts();
    let body = tokio::time::timeout(PAGE_TIMEOUT, Limited::new(body, MAX_PAGE).collect()).await;
    let body = Full::new(body.map_err(|_| NoPage)??.to_bytes());
    Ok(Response::from_parts(parts, body.map_err(|never| match never {}).boxed_unsync()))
}

/// Error statuses of lists carry a reason in their body, which the client reads.
fn check(response: &Response<Incoming>, watch: bool) -> Result<(), UnusableAnswer> {
    if !response.status().is_success() {
        return if watch { Err(UnusableAnswer::Status(response.status())) } else { Ok(()) };
    }
    let header = response.headers().get(http::header::CONTENT_TYPE);
    match header.and_then(|value| value.to_str().ok()) {
        Some(kind) if !kind.contains("json") => {
            Err(UnusableAnswer::ContentType(kind.chars().take(60).collect()))
        }
        _ => Ok(()),
    }
}
