//! One request to one response: authentication, routing, and the verbs on objects.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::aggregated;
use super::body::{self, Body};
use super::deletion::{self, DeleteOptions};
use super::discovery;
use super::error::ApiError;
use super::kinds::{self, Kinds};
use super::list;
use super::object::{self, ObjectKey};
use super::openapi;
use super::patch;
use super::requests::RequestLog;
use super::route::{self, Query, Resource, Subresource, Target, Verb};
use super::scale;
use super::scale::Scale;
use super::store::{Part, Store};
use super::table::{self, Form};
use super::watch::{Signal, WatchRequest};

/// Largest accepted request body, in bytes: what a real API server accepts.
const BODY_LIMIT: usize = 3 * 1024 * 1024;

/// Everything a request may touch.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) store: Store,
    pub(super) token: Secret,
    pub(super) address: String,
    pub(super) signals: watch::Receiver<Signal>,
    pub(super) bookmark_every: Duration,
    /// How long a list waits for a version that is still to come.
    pub(super) future_wait: Duration,
    pub(super) requests: RequestLog,
}

/// A bearer token that does not show itself.
#[derive(Clone)]
pub(super) struct Secret(pub(super) String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    /// Compares in a time that depends on the lengths only.
    fn matches(&self, offered: &str) -> bool {
        let (a, b) = (self.0.as_bytes(), offered.as_bytes());
        a.len() == b.len() && a.iter().zip(b).fold(0, |diff, (x, y)| diff | (x ^ y)) == 0
    }
}

/// Answers a request and records it.
pub(super) async fn handle<B>(context: Arc<Context>, request: Request<B>) -> Response<Body>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (parts, body) = request.into_parts();
    let query = Query::parse(parts.uri.query().unwrap_or_default());
    let kinds = context.store.kinds();
    let target = route::resolve(&kinds, parts.uri.path());
    let asked = match &target {
        Ok(Target::Objects(resource)) => {
            let verb = Verb::of(&parts.method, resource, &query).ok();
            verb.map(|verb| (verb, resource.kind.resource()))
        }
        _ => None,
    };
    let answer = match authorize(&context, &target, &parts.headers) {
        Err(error) => Err(error),
        Ok(()) => match target {
            Ok(Target::Objects(resource)) => {
                objects(&context, &parts.method, &parts.headers, resource, &query, body).await
            }
            Ok(target @ (Target::CoreVersions | Target::Groups))
                if aggregated::is_accepted(accept(&parts.headers)) =>
            {
                let document = aggregated::document(&kinds, target == Target::CoreVersions);
                Ok(body::typed(aggregated::MEDIA, &document))
            }
            Ok(target) => document(&context, &kinds, &parts.method, &target),
            Err(error) => Err(error),
        },
    };
    let response = answer.unwrap_or_else(|error| body::error(&error));
    let agent = parts.headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok());
    let path = parts.uri.path_and_query().map_or("", |path| path.as_str());
    context.requests.record(parts.method.as_str(), asked, path, response.status().as_u16(), agent);
    response
}

/// Health and version are open to everybody, as on a real server; the rest needs the token.
fn authorize(
    context: &Context,
    target: &Result<Target, ApiError>,
    headers: &HeaderMap,
) -> Result<(), ApiError> {
    let offered = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    match offered.and_then(|value| value.split_once(' ')) {
        Some((scheme, token))
            if scheme.eq_ignore_ascii_case("bearer") && context.token.matches(token.trim()) =>
        {
            Ok(())
        }
        None if offered.is_none() && matches!(target, Ok(Target::Health | Target::Version)) => Ok(()),
        _ => Err(ApiError::Unauthorized),
    }
}

fn document(
    context: &Context,
    kinds: &Kinds,
    method: &Method,
    target: &Target,
) -> Result<Response<Body>, ApiError> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Err(ApiError::MethodNotAllowed);
    }
    let value = match target {
        Target::Health => {
            let mut response = Response::new(body::full("ok"));
            let plain = http::HeaderValue::from_static("text/plain; charset=utf-8");
            response.headers_mut().insert(header::CONTENT_TYPE, plain);
            return Ok(response);
        }
        Target::Version => discovery::version(),
        Target::CoreVersions => discovery::core_versions(&context.address),
        Target::Groups => discovery::groups(kinds),
        Target::Group(name) => discovery::group(kinds, name),
        Target::Resources(group, version) => discovery::resources(kinds, group, version),
        Target::OpenApi(path) => openapi::document(kinds, path).ok_or(ApiError::NoSuchPath)?,
        Target::Objects(_) => return Err(ApiError::NoSuchPath),
    };
    Ok(body::value(StatusCode::OK, &value))
}

async fn objects<B>(
    context: &Context,
    method: &Method,
    headers: &HeaderMap,
    resource: Resource,
    query: &Query,
    body: B,
) -> Result<Response<Body>, ApiError>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let verb = Verb::of(method, &resource, query)?;
    let form = Form::negotiate(accept(headers), query.get("includeObject"))?;
    if !query.get("dryRun").is_empty() {
        return Err(ApiError::BadRequest("dryRun is not offered by this server".into()));
    }
    match verb {
        Verb::Get => get(context, &resource, form),
        Verb::List => {
            wait_for_version(context, query).await?;
            list(context, &resource, query, form)
        }
        Verb::Watch => {
            if query.is_set("sendInitialEvents") {
                wait_for_version(context, query).await?;
            }
            watch(context, &resource, query, form)
        }
        Verb::DeleteCollection => {
            let options = DeleteOptions::parse(query, &read(body).await?)?;
            delete_collection(context, &resource, query, &options)
        }
        Verb::Create => create(context, &resource, read_object(headers, body).await?),
        Verb::Update => update(context, &resource, read_object(headers, body).await?),
        Verb::Patch => {
            let patch = patch::Patch::parse(content_type(headers), &read(body).await?)?;
            patch_object(context, &resource, &patch)
        }
        Verb::Delete => {
            let options = DeleteOptions::parse(query, &read(body).await?)?;
            delete(context, &resource, &options)
        }
    }
}

async fn read<B>(body: B) -> Result<Bytes, ApiError>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    match Limited::new(body, BODY_LIMIT).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(ApiError::TooLarge(BODY_LIMIT)),
        Err(error) => Err(ApiError::BadRequest(format!("the request body could not be read: {error}"))),
    }
}

fn accept(headers: &HeaderMap) -> &str {
    headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn content_type(headers: &HeaderMap) -> &str {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim()
}

async fn read_object<B>(headers: &HeaderMap, body: B) -> Result<Value, ApiError>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let media = content_type(headers);
    if !matches!(media, "" | "application/json") {
        return Err(ApiError::UnsupportedMediaType(format!("{media}; send application/json")));
    }
    let object: Value = serde_json::from_slice(&read(body).await?)
        .map_err(|error| ApiError::BadRequest(format!("the request body is not valid JSON: {error}")))?;
    if object.is_object() {
        Ok(object)
    } else {
        Err(ApiError::BadRequest("the request body must be one JSON object".into()))
    }
}

fn key_of(resource: &Resource) -> ObjectKey {
    ObjectKey::new(resource.namespace.as_str(), resource.name.as_deref().unwrap_or_default())
}

fn get(context: &Context, resource: &Resource, form: Form) -> Result<Response<Body>, ApiError> {
    let kind = &resource.kind;
    let stored = context.store.stored(kind, &key_of(resource))?.seen_as(kind);
    if let (Subresource::Scale, Some(scale)) = (resource.subresource, &kind.scale) {
        return Ok(body::value(StatusCode::OK, &scale::of(scale, &stored.value())));
    }
    Ok(match form {
        Form::Objects => body::json_response(StatusCode::OK, body::full(stored.json())),
        Form::Table(include) => {
            let metadata = json!({"resourceVersion": stored.version.to_string()});
            let table = table::table(kind, std::iter::once(stored.value()), include, &metadata);
            body::value(StatusCode::OK, &table)
        }
    })
}

/// A read of a version that is still to come waits for it a while, as a cache that lags behind would.
async fn wait_for_version(context: &Context, query: &Query) -> Result<(), ApiError> {
    if let Some(version) = query.number("resourceVersion")? {
        context.store.wait_for(version, context.future_wait).await;
    }
    Ok(())
}

fn list(
    context: &Context,
    resource: &Resource,
    query: &Query,
    form: Form,
) -> Result<Response<Body>, ApiError> {
    let page = list::page(&context.store, &resource.kind, &resource.namespace, query)?;
    Ok(match form {
        Form::Objects => {
            let chunks = body::join(page.pieces(&resource.kind)).map(Ok);
            body::json_response(StatusCode::OK, body::stream(futures::stream::iter(chunks)))
        }
        Form::Table(include) => {
            let values = page.items.iter().map(|stored| stored.value());
            let table = table::table(&resource.kind, values, include, &page.metadata());
            body::value(StatusCode::OK, &table)
        }
    })
}

fn watch(
    context: &Context,
    resource: &Resource,
    query: &Query,
    form: Form,
) -> Result<Response<Body>, ApiError> {
    let request = WatchRequest::parse(&resource.kind, &resource.namespace, query, form)?;
    let stream =
        super::watch::open(&context.store, request, context.signals.clone(), context.bookmark_every)?;
    Ok(body::json_response(StatusCode::OK, body::stream(stream)))
}

/// Checks that the body is of the kind the path names, and completes what may be left out.
fn settle(resource: &Resource, mut object: Value) -> Result<Value, ApiError> {
    let kind = &resource.kind;
    for (field, wanted) in [("apiVersion", kind.api_version()), ("kind", kind.kind.clone())] {
        match object[field].as_str() {
            Some(given) if given != wanted => {
                return Err(ApiError::BadRequest(format!(
                    "the {field} of the object ({given}) does not match the expected {field} ({wanted})"
                )));
            }
            _ => object[field] = json!(wanted),
        }
    }
    let metadata = object::metadata(&mut object);
    let namespace = metadata.get("namespace").and_then(Value::as_str).unwrap_or_default();
    if kind.is_namespaced() && namespace.is_empty() {
        metadata.insert("namespace".into(), json!(resource.namespace));
    } else if kind.is_namespaced() && namespace != resource.namespace {
        return Err(ApiError::Invalid {
            kind: kind.qualified(),
            name: metadata.get("name").and_then(Value::as_str).unwrap_or_default().to_owned(),
            field: "metadata.namespace".to_owned(),
            why: format!(
                "Invalid value: the namespace of the object ({namespace}) does not match the namespace on the \
                 request ({})",
                resource.namespace
            ),
        });
    }
    Ok(object)
}

fn create(context: &Context, resource: &Resource, object: Value) -> Result<Response<Body>, ApiError> {
    let kind = &resource.kind;
    if kind.is_namespaced() && resource.namespace.is_empty() {
        return Err(ApiError::BadRequest("an empty namespace may not be set during creation".into()));
    }
    let object = settle(resource, object)?;
    if !object["metadata"]["resourceVersion"].as_str().unwrap_or_default().is_empty() {
        return Err(ApiError::BadRequest(
            "resourceVersion should not be set on objects to be created".into(),
        ));
    }
    if kind.is_namespaced() {
        context.store.stored(&kinds::NAMESPACES, &ObjectKey::new("", resource.namespace.as_str()))?;
    }
    let stored = context.store.create_part(kind, object, Part::Main)?.seen_as(kind);
    Ok(body::json_response(StatusCode::CREATED, body::full(stored.json())))
}

/// The part of an object a write through this path changes.
fn part(resource: &Resource) -> Part {
    match resource.subresource {
        Subresource::Status => Part::Status,
        Subresource::None | Subresource::Scale => Part::Main,
    }
}

fn update(context: &Context, resource: &Resource, object: Value) -> Result<Response<Body>, ApiError> {
    let key = key_of(resource);
    if let (Subresource::Scale, Some(scale)) = (resource.subresource, &resource.kind.scale) {
        return rescale(context, resource, scale, |_| Ok(object));
    }
    let object = settle(resource, object)?;
    let stored = context.store.modify(&resource.kind, &key, part(resource), |_| Ok(object))?;
    Ok(body::json_response(StatusCode::OK, body::full(stored.seen_as(&resource.kind).json())))
}

fn patch_object(
    context: &Context,
    resource: &Resource,
    patch: &patch::Patch,
) -> Result<Response<Body>, ApiError> {
    if let (Subresource::Scale, Some(scale)) = (resource.subresource, &resource.kind.scale) {
        return rescale(context, resource, scale, |current| patch.apply(current));
    }
    let change = |current: &Value| patch.apply(current);
    let stored = context.store.modify(&resource.kind, &key_of(resource), part(resource), change)?;
    Ok(body::json_response(StatusCode::OK, body::full(stored.seen_as(&resource.kind).json())))
}

fn rescale(
    context: &Context,
    resource: &Resource,
    scale: &Scale,
    change: impl FnOnce(&Value) -> Result<Value, ApiError>,
) -> Result<Response<Body>, ApiError> {
    let stored = context.store.modify(&resource.kind, &key_of(resource), Part::Main, |current| {
        scale::apply(scale, current, &change(&scale::of(scale, current))?)
    })?;
    Ok(body::value(StatusCode::OK, &scale::of(scale, &stored.value())))
}

fn delete(
    context: &Context,
    resource: &Resource,
    options: &DeleteOptions,
) -> Result<Response<Body>, ApiError> {
    let kind = &resource.kind;
    let removed = context.store.remove(kind, &key_of(resource), options)?.seen_as(kind);
    if removed.is_deleted() {
        return Ok(body::value(StatusCode::OK, &deletion::answer(kind, removed.value())));
    }
    // Something holds it: the object is still there, and the client sees that.
    Ok(body::json_response(StatusCode::OK, body::full(removed.json())))
}

fn delete_collection(
    context: &Context,
    resource: &Resource,
    query: &Query,
    options: &DeleteOptions,
) -> Result<Response<Body>, ApiError> {
    let kind = &resource.kind;
    if kind.is_namespaced() && resource.namespace.is_empty() {
        return Err(ApiError::MethodNotAllowed);
    }
    let mut page = list::page(&context.store, kind, &resource.namespace, query)?;
    let mut removed = Vec::with_capacity(page.items.len());
    for stored in page.items {
        match context.store.remove(kind, &stored.key, options) {
            Ok(last) => removed.push(last),
            // Somebody else was faster; it is gone, which is what was asked for.
            Err(ApiError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    page.items = removed;
    let chunks = body::join(page.pieces(kind)).map(Ok);
    Ok(body::json_response(StatusCode::OK, body::stream(futures::stream::iter(chunks))))
}
