//! The library's own list/watch loop over [`Exchange`].

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt as _;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::Frame;
use kube::client::Body;
use tokio::sync::mpsc;
use tower::{BoxError, Service};

use super::{Answer, ApiServer, Exchange, TransportError};

/// How long an API server may take to connect and to send response headers (K-03, K-04).
const HEADERS_TIMEOUT: Duration = Duration::from_secs(30);
/// How long one list page may take once its headers are there.
const PAGE_TIMEOUT: Duration = Duration::from_secs(60);
/// Largest list page.
const MAX_PAGE: usize = 64 << 20;

type Page = UnsyncBoxBody<Bytes, BoxError>;

impl ApiServer {
    /// A client that says on `connected` when a watch is established.
    pub(in crate::ingest) fn client(self: &Arc<Self>, connected: mpsc::Sender<()>) -> kube::Client {
        let observed = Observed { server: Arc::clone(self), connected };
        kube::Client::new(observed, self.namespace.clone())
    }
}

/// Gives every request a deadline for its headers, tells of established watches, and sorts out answers that
/// are not what was asked for: an error page must not be read as events (K-12), and an expired revision must
/// lead to a new list whether it comes as a status or as an event (K-09, K-10).
#[derive(Clone)]
struct Observed {
    server: Arc<ApiServer>,
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
pub(in crate::ingest) enum UnusableAnswer {
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

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let query = request.uri().query().unwrap_or_default();
        let watch = query.split('&').any(|part| matches!(part, "watch=true" | "watch=1"));
        let connected = self.connected.clone();
        let path = request.uri().path_and_query().map_or_else(String::new, ToString::to_string);
        let answer = self.server.get(path, "application/json");
        Box::pin(async move {
            let answer = tokio::time::timeout(HEADERS_TIMEOUT, answer).await;
            let answer = answer.map_err(|_| Box::new(NoAnswer) as BoxError)?;
            let response = response(answer.map_err(|error| Box::new(error) as BoxError)?);
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
            Ok(response.map(|body| body.map_err(|error| Box::new(error) as BoxError).boxed_unsync()))
        })
    }
}

type Received = UnsyncBoxBody<Bytes, TransportError>;

fn response(answer: Answer) -> Response<Received> {
    let frames = answer.body.map_ok(Frame::data);
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    response
}

/// Reads a list page within its limits of time and size (K-03, K-37).
async fn page(response: Response<Received>) -> Result<Response<Page>, BoxError> {
    let (parts, body) = response.into_parts();
    let body = tokio::time::timeout(PAGE_TIMEOUT, Limited::new(body, MAX_PAGE).collect()).await;
    let body = Full::new(body.map_err(|_| NoPage)??.to_bytes());
    Ok(Response::from_parts(parts, body.map_err(|never| match never {}).boxed_unsync()))
}

/// Error statuses of lists carry a reason in their body, which the client reads.
fn check(response: &Response<Received>, watch: bool) -> Result<(), UnusableAnswer> {
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
