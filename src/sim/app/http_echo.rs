//! The HTTP side of the echo application.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::{Map, Value, json};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::EchoSettings;

/// Request bodies are read up to this many bytes, so that connections can be reused.
const BODY_LIMIT: usize = 1024 * 1024;

/// Serves one connection until the client leaves or `stop` lets it finish.
pub(super) async fn serve(stream: TcpStream, settings: Arc<EchoSettings>, stop: CancellationToken) {
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let settings = Arc::clone(&settings);
        async move {
            let (parts, body) = request.into_parts();
            let body = Limited::new(body, BODY_LIMIT).collect().await;
            Ok::<_, Infallible>(match body {
                Ok(_) => answer(&settings, &Request::from_parts(parts, ())),
                Err(_) => plain(StatusCode::PAYLOAD_TOO_LARGE, "the request body could not be read\n"),
            })
        }
    });
    let builder = auto::Builder::new(TokioExecutor::new());
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    // Biased: once stopping, no further request is taken on this connection.
    let ended = tokio::select! {
        biased;
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        ended = connection.as_mut() => ended,
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}

/// The answer to a request: every path is the same, but for `/healthz`.
fn answer(settings: &EchoSettings, request: &Request<()>) -> Response<Full<Bytes>> {
    let mut response = if request.uri().path() == "/healthz" {
        plain(StatusCode::OK, "ok\n")
    } else if wants_json(request) {
        let body = format!("{}\n", describe(settings, request));
        let mut response = Response::new(Full::new(body.into()));
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        response
    } else {
        plain(
            StatusCode::OK,
            format!(
                "Hello version: {}, instance: {}, cluster: {}\n",
                settings.version, settings.instance, settings.cluster
            ),
        )
    };
    let own = [("x-app-version", &settings.version), ("x-app-cluster", &settings.cluster)];
    for (name, value) in own {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, text);
    response
}

fn wants_json(request: &Request<()>) -> bool {
    let asked = request.uri().query().is_some_and(|query| query.split('&').any(|pair| pair == "format=json"));
    asked
        || header_text(request.headers(), "accept").is_some_and(|accept| accept.contains("application/json"))
}

fn header_text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

fn describe(settings: &EchoSettings, request: &Request<()>) -> Value {
    let mut headers: Map<String, Value> = Map::new();
    for (name, value) in request.headers() {
        let text = String::from_utf8_lossy(value.as_bytes());
        // A repeated header is one list, as HTTP reads it.
        let joined = match headers.get(name.as_str()).and_then(Value::as_str) {
            Some(before) => format!("{before},{text}"),
            None => text.into_owned(),
        };
        headers.insert(name.as_str().to_owned(), json!(joined));
    }
    let host = request.uri().host().map(str::to_owned).or_else(|| header_text(request.headers(), "host"));
    json!({
        "app": settings.name,
        "version": settings.version,
        "cluster": settings.cluster,
        "instance": settings.instance,
        "method": request.method().as_str(),
        "path": request.uri().path_and_query().map(http::uri::PathAndQuery::as_str),
        "host": host,
        "httpVersion": format!("{:?}", request.version()),
        "xfcc": header_text(request.headers(), "x-forwarded-client-cert"),
        "headers": headers,
    })
}
