//! The verbs on objects: from a routed request to its answer.

use http::{HeaderMap, Method, Response, StatusCode};
use serde_json::{Value, json};

use super::access;
use super::body::{self, Body};
use super::deletion::{self, DeleteOptions};
use super::effect::Effect;
use super::error::ApiError;
use super::handler::Context;
use super::kinds::{self, Kind};
use super::list;
use super::media::{Media, Purpose};
use super::object::{self, ObjectKey};
use super::patch;
use super::payload::{self, Incoming};
use super::route::{Query, Resource, Subresource, Verb};
use super::scale::{self, Scale};
use super::store::Part;
use super::validation::{self, Validation};
use super::watch::WatchRequest;

/// Namespaces that no client may delete.
const IMMORTAL: [&str; 3] = ["default", "kube-public", "kube-system"];

/// Answers a request about objects.
///
/// # Errors
/// What the verb refuses.
pub(super) async fn objects(
    context: &Context,
    method: &Method,
    headers: &HeaderMap,
    resource: Resource,
    query: &Query,
    body: impl Incoming,
) -> Result<Response<Body>, ApiError> {
    let verb = Verb::of(method, &resource, query)?;
    if resource.subresource == Subresource::Token {
        return access::token(context, &resource, headers, body).await;
    }
    let media = media_for(&resource, verb, headers, query)?;
    let effect = Effect::of_query(verb, query.get("dryRun"))?;
    let validation = Validation::parse(query.get("fieldValidation"))?;
    let manner = Manner { effect, validation, media };
    match verb {
        Verb::Get => get(context, &resource, media),
        Verb::List => {
            wait_for_version(context, query).await?;
            let page = list::page(&context.store, &resource.kind, &resource.namespace, query)?;
            Ok(media.page(&resource.kind, page).await)
        }
        Verb::Watch => {
            if query.is_set("sendInitialEvents") {
                wait_for_version(context, query).await?;
            }
            watch(context, &resource, query, media)
        }
        Verb::DeleteCollection => {
            let options = DeleteOptions::parse(query, &payload::options(headers, body).await?)?.or(effect);
            let removed = delete_collection(context, &resource, query, &options)?;
            Ok(media.page(&resource.kind, removed).await)
        }
        Verb::Create => create(context, &resource, payload::object(headers, body).await?, manner),
        Verb::Update => update(context, &resource, payload::object(headers, body).await?, manner),
        Verb::Patch => {
            let shape = patch::shape::of(&resource.kind.group, &resource.kind.kind);
            let patch =
                patch::Patch::parse(payload::media_type(headers), &payload::bytes(body).await?, shape)?;
            patch_object(context, &resource, &patch, manner)
        }
        Verb::Delete => {
            let options = DeleteOptions::parse(query, &payload::options(headers, body).await?)?.or(effect);
            delete(context, &resource, &options, media)
        }
    }
}

/// A read of a version that is still to come waits for it a while, as a cache that lags behind would.
async fn wait_for_version(context: &Context, query: &Query) -> Result<(), ApiError> {
    if let Some(version) = query.number("resourceVersion")? {
        context.store.wait_for(version, context.future_wait).await;
    }
    Ok(())
}

/// How a write is checked, whether it happens, and the form of its answer.
#[derive(Clone, Copy)]
struct Manner {
    effect: Effect,
    validation: Validation,
    media: Media,
}

/// The form of the answer.
fn media_for(resource: &Resource, verb: Verb, headers: &HeaderMap, query: &Query) -> Result<Media, ApiError> {
    let purpose = match (verb, resource.subresource) {
        (_, Subresource::Scale) => return Media::negotiate(headers, Purpose::Document, "", true),
        (Verb::List | Verb::DeleteCollection, _) => Purpose::List,
        (Verb::Watch, _) => Purpose::Watch,
        _ => Purpose::Object,
    };
    Media::of_kind(headers, purpose, query.get("includeObject"), &resource.kind)
}

fn key_of(resource: &Resource) -> ObjectKey {
    ObjectKey::new(resource.namespace.as_str(), resource.name.as_deref().unwrap_or_default())
}

fn get(context: &Context, resource: &Resource, media: Media) -> Result<Response<Body>, ApiError> {
    let kind = &resource.kind;
    let stored = context.store.stored(kind, &key_of(resource))?;
    if let (Subresource::Scale, Some(scale)) = (resource.subresource, &kind.scale) {
        return Ok(media.document(StatusCode::OK, &scale::of(scale, &stored.value())));
    }
    Ok(media.object(StatusCode::OK, kind, &stored))
}

fn watch(
    context: &Context,
    resource: &Resource,
    query: &Query,
    media: Media,
) -> Result<Response<Body>, ApiError> {
    let request = WatchRequest::parse(&resource.kind, &resource.namespace, query, media)?;
    let stream =
        super::watch::open(&context.store, request, context.signals.clone(), context.bookmark_every)?;
    Ok(media.watch(body::stream(stream)))
}

/// A watch that is told at once that its revision is gone.
pub(super) fn expired_watch(
    resource: &Resource,
    headers: &HeaderMap,
    query: &Query,
) -> Result<Response<Body>, ApiError> {
    let media = media_for(resource, Verb::Watch, headers, query)?;
    let error = ApiError::Expired(format!("too old resource version: {}", query.get("resourceVersion")));
    Ok(media.watch(body::full(media.error_event(&error))))
}

/// Checks that the body is of the kind the path names, and completes what may be left out.
fn settle(resource: &Resource, mut object: Value) -> Result<Value, ApiError> {
    let kind = &resource.kind;
    payload::check_type(&object, &kind.api_version(), &kind.kind)?;
    object["apiVersion"] = json!(kind.api_version());
    object["kind"] = json!(kind.kind);
    let metadata = object::metadata(&mut object);
    let namespace = metadata.get("namespace").and_then(Value::as_str).unwrap_or_default();
    if kind.is_namespaced() && namespace.is_empty() {
        metadata.insert("namespace".into(), json!(resource.namespace));
    } else if kind.is_namespaced() && namespace != resource.namespace {
        return Err(ApiError::BadRequest(
            "the namespace of the provided object does not match the namespace sent on the request".into(),
        ));
    }
    Ok(object)
}

fn create(
    context: &Context,
    resource: &Resource,
    object: Value,
    manner: Manner,
) -> Result<Response<Body>, ApiError> {
    let kind = &resource.kind;
    if kind.is_namespaced() && resource.namespace.is_empty() {
        return Err(ApiError::BadRequest("an empty namespace may not be set during creation".into()));
    }
    let mut object = settle(resource, object)?;
    let warnings = manner.validation.check(kind, &mut object)?;
    if !object["metadata"]["resourceVersion"].as_str().unwrap_or_default().is_empty() {
        return Err(ApiError::BadRequest(
            "resourceVersion should not be set on objects to be created".into(),
        ));
    }
    if kind.is_namespaced() {
        context.store.stored(&kinds::NAMESPACES, &ObjectKey::new("", resource.namespace.as_str()))?;
    }
    let stored = context.store.create_part(kind, object, Part::Main, manner.effect)?;
    Ok(validation::warn(manner.media.object(StatusCode::CREATED, kind, &stored), &warnings))
}

/// Some kinds are never replaced blindly.
fn check_version_given(kind: &Kind, object: &Value) -> Result<(), ApiError> {
    let metadata = &object["metadata"];
    if !kind.needs_version || metadata["resourceVersion"].as_str().is_some_and(|version| !version.is_empty())
    {
        return Ok(());
    }
    Err(ApiError::Invalid {
        kind: kind.qualified(),
        name: metadata["name"].as_str().unwrap_or_default().to_owned(),
        field: "metadata.resourceVersion".into(),
        why: "Invalid value: 0x0: must be specified for an update".into(),
    })
}

/// The part of an object a write through this path changes.
fn part(resource: &Resource) -> Part {
    match resource.subresource {
        Subresource::Status => Part::Status,
        Subresource::None | Subresource::Scale | Subresource::Token => Part::Main,
    }
}

fn update(
    context: &Context,
    resource: &Resource,
    object: Value,
    manner: Manner,
) -> Result<Response<Body>, ApiError> {
    let key = key_of(resource);
    if let (Subresource::Scale, Some(scale)) = (resource.subresource, &resource.kind.scale) {
        return rescale(context, resource, scale, manner, |_| Ok(object));
    }
    let kind = &resource.kind;
    let mut object = settle(resource, object)?;
    check_version_given(kind, &object)?;
    let warnings = manner.validation.check(kind, &mut object)?;
    let stored = context.store.modify(kind, &key, part(resource), manner.effect, |_| Ok(object))?;
    Ok(validation::warn(manner.media.object(StatusCode::OK, kind, &stored), &warnings))
}

fn patch_object(
    context: &Context,
    resource: &Resource,
    patch: &patch::Patch,
    manner: Manner,
) -> Result<Response<Body>, ApiError> {
    if let (Subresource::Scale, Some(scale)) = (resource.subresource, &resource.kind.scale) {
        return rescale(context, resource, scale, manner, |current| patch.apply(current));
    }
    let kind = &resource.kind;
    let mut warnings = Vec::new();
    let change = |current: &Value| {
        let mut next = patch.apply(current)?;
        warnings = manner.validation.check(kind, &mut next)?;
        Ok(next)
    };
    let stored = context.store.modify(kind, &key_of(resource), part(resource), manner.effect, change)?;
    Ok(validation::warn(manner.media.object(StatusCode::OK, kind, &stored), &warnings))
}

fn rescale(
    context: &Context,
    resource: &Resource,
    scale: &Scale,
    manner: Manner,
    change: impl FnOnce(&Value) -> Result<Value, ApiError>,
) -> Result<Response<Body>, ApiError> {
    let stored =
        context.store.modify(&resource.kind, &key_of(resource), Part::Main, manner.effect, |current| {
            scale::apply(scale, current, &change(&scale::of(scale, current))?)
        })?;
    Ok(manner.media.document(StatusCode::OK, &scale::of(scale, &stored.value())))
}

fn delete(
    context: &Context,
    resource: &Resource,
    options: &DeleteOptions,
    media: Media,
) -> Result<Response<Body>, ApiError> {
    let kind = &resource.kind;
    let key = key_of(resource);
    if kind.is(&kinds::NAMESPACES) && IMMORTAL.contains(&&*key.name) {
        return Err(ApiError::Forbidden {
            resource: kind.resource(),
            name: key.name.to_string(),
            why: "this namespace may not be deleted".into(),
        });
    }
    let removed = context.store.remove(kind, &key, options)?;
    if removed.is_deleted() {
        let answer = deletion::answer(kind, removed.value());
        if answer["kind"] == "Status" {
            return Ok(media.document(StatusCode::OK, &answer));
        }
    }
    // Some kinds answer with the last state; and what something holds is still there, as the client sees.
    Ok(media.object(StatusCode::OK, kind, &removed))
}

fn delete_collection(
    context: &Context,
    resource: &Resource,
    query: &Query,
    options: &DeleteOptions,
) -> Result<list::Page, ApiError> {
    let kind = &resource.kind;
    // Neither through all namespaces nor all of them.
    if (kind.is_namespaced() && resource.namespace.is_empty()) || kind.is(&kinds::NAMESPACES) {
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
    Ok(page)
}
