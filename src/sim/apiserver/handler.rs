//! One request to one response: authentication and routing.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{Method, Request, Response, StatusCode, header, request};
use rustls::ServerConfig;
use tokio::sync::watch;

use super::access;
use super::aggregated;
use super::body::{self, Body};
use super::compress;
use super::discovery;
use super::error::ApiError;
use super::fault::{self, Board, Effect, Gone, Struck};
use super::kinds::Kinds;
use super::media::{self, Media, Purpose};
use super::openapi;
use super::payload::Incoming;
use super::protobuf;
use super::requests::RequestLog;
use super::route::{self, Query, Target, Verb};
use super::store::Store;
use super::tokens::TokenKey;
use super::verbs;
use super::watch::Signal;
use crate::trust::Secret;

/// Everything a request may touch.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) store: Store,
    /// What opens everything.
    pub(super) token: Secret,
    pub(super) token_key: TokenKey,
    pub(super) address: String,
    pub(super) signals: watch::Receiver<Signal>,
    pub(super) bookmark_every: Duration,
    /// Whether answers may be in protobuf.
    pub(super) protobuf: bool,
    /// How long a list waits for a version that is still to come.
    pub(super) future_wait: Duration,
    pub(super) requests: RequestLog,
    pub(super) faults: Board,
    /// What proves who the server is; exchanged by a fault.
    pub(super) tls: ArcSwap<ServerConfig>,
}

/// Answers a request and records it.
pub(super) async fn handle(context: Arc<Context>, request: Request<impl Incoming>) -> Response<Body> {
    let (mut parts, body) = request.into_parts();
    if !context.protobuf {
        parts.headers.remove(header::ACCEPT);
    }
    let mut query = Query::parse(parts.uri.query().unwrap_or_default());
    let kinds = context.store.kinds();
    let target = route::resolve(&kinds, parts.uri.path());
    let asked = match &target {
        Ok(Target::Objects(resource)) => {
            let verb = Verb::of(&parts.method, resource, &query).ok();
            verb.map(|verb| (verb, resource.kind.resource()))
        }
        _ => None,
    };
    let struck = match &asked {
        Some((verb, resource)) => context.faults.strike(verb.name(), resource),
        None => Struck::default(),
    };
    if stalls(&struck, &query) {
        // The client has to give up.
        std::future::pending::<()>().await;
    }
    if struck.has(&Effect::EmptyList) && lists(asked.as_ref().map(|(verb, _)| *verb), &query) {
        query.select_nothing();
    }
    let answer = match access::identify(&context, &target, &parts.headers) {
        Err(error) => Err(error),
        Ok(_) if struck.has(&Effect::ExpiredToken) => Err(ApiError::Unauthorized),
        Ok(_) if gone(&struck, &query) => {
            Err(ApiError::Expired("the provided resource version is too old".into()))
        }
        Ok(asker) => match target {
            Ok(Target::Faults) => fault::answer(&context.faults, &parts.method, body).await,
            Ok(Target::Objects(resource))
                if struck.has(&Effect::Gone(Gone::Event))
                    && asked.as_ref().is_some_and(|(verb, _)| *verb == Verb::Watch) =>
            {
                verbs::expired_watch(&resource, &parts.headers, &query)
            }
            Ok(Target::Objects(resource)) => {
                verbs::objects(&context, &parts.method, &parts.headers, resource, &query, body).await
            }
            Ok(Target::Review(review)) => {
                access::review(&context, review, &parts.method, &parts.headers, &asker, body).await
            }
            Ok(target @ (Target::CoreVersions | Target::Groups))
                if aggregated::is_accepted(&media::accept(&parts.headers)) =>
            {
                let document = aggregated::document(&kinds, target == Target::CoreVersions);
                Ok(body::typed(aggregated::MEDIA, &document))
            }
            Ok(target) => document(&context, &kinds, &parts, &target),
            Err(error) => Err(error),
        },
    };
    let mut response = answer.unwrap_or_else(|error| body::error(&error, &parts.headers));
    if let Some(other) = fault::instead(&struck) {
        response = other;
    }
    let reads = asked.as_ref().is_none_or(|(verb, _)| matches!(verb, Verb::Get | Verb::List));
    if parts.method == Method::GET && reads && compress::is_accepted(&parts.headers) {
        response = compress::large(response).await;
    }
    response = fault::strike(response, &struck);
    let agent = parts.headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok());
    let path = parts.uri.path_and_query().map_or("", |path| path.as_str());
    context.requests.record(parts.method.as_str(), asked, path, response.status().as_u16(), agent);
    response
}

/// Whether a request is never answered.
fn stalls(struck: &Struck, query: &Query) -> bool {
    struck.has(&Effect::StallHeaders) || (struck.has(&Effect::StallPage) && !query.get("continue").is_empty())
}

/// Whether a request is told that its revision is gone, as a status.
fn gone(struck: &Struck, query: &Query) -> bool {
    let later = !query.get("continue").is_empty();
    struck.has(&Effect::Gone(if later { Gone::Page } else { Gone::Start }))
}

/// Whether a request asks for a state: as a list, or at the start of a watch.
fn lists(verb: Option<Verb>, query: &Query) -> bool {
    verb == Some(Verb::List) || (verb == Some(Verb::Watch) && query.is_set("sendInitialEvents"))
}

fn document(
    context: &Context,
    kinds: &Kinds,
    parts: &request::Parts,
    target: &Target,
) -> Result<Response<Body>, ApiError> {
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        return Err(ApiError::MethodNotAllowed);
    }
    let value = match target {
        Target::Health => {
            let mut response = Response::new(body::full("ok"));
            let plain = http::HeaderValue::from_static("text/plain; charset=utf-8");
            response.headers_mut().insert(header::CONTENT_TYPE, plain);
            return Ok(response);
        }
        Target::Version => return Ok(body::value(StatusCode::OK, &discovery::version())),
        Target::OpenApi(path) if openapi::binary::is_asked(path, &media::accept(&parts.headers)) => {
            return Ok(body::bytes(openapi::binary::MEDIA, openapi::binary::document()));
        }
        Target::OpenApi(path) => {
            // JSON only: clients that insist on protobuf fall back to what they know themselves.
            Media::negotiate(&parts.headers, Purpose::Document, "", false)?;
            let document = openapi::document(kinds, path).ok_or(ApiError::NoSuchPath)?;
            return Ok(body::value(StatusCode::OK, &document));
        }
        Target::CoreVersions => discovery::core_versions(&context.address),
        Target::Groups => discovery::groups(kinds),
        Target::Group(name) => discovery::group(kinds, name),
        Target::Resources(group, version) => discovery::resources(kinds, group, version),
        Target::Objects(_) | Target::Review(_) | Target::Faults => return Err(ApiError::NoSuchPath),
    };
    let text = |field: &str| value[field].as_str().unwrap_or_default();
    let messages = protobuf::speaks(text("apiVersion"), text("kind"));
    let media = Media::negotiate(&parts.headers, Purpose::Document, "", messages)?;
    Ok(media.document(StatusCode::OK, &value))
}
