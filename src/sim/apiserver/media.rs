//! Content negotiation: which form of an answer a client accepts, and answers in that form.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

use super::body::{self, Body};
use super::error::ApiError;
use super::kinds::Kind;
use super::list::Page;
use super::object::{Change, Stored, event_line};
use super::protobuf;
use super::table::{self, Include};

/// An answer's shape and encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Media {
    form: Form,
    encoding: Encoding,
}

/// What stands in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// The objects themselves.
    Objects,
    /// `meta.k8s.io/v1` Table with this much of each object inside.
    Table(Include),
    /// `meta.k8s.io/v1` PartialObjectMetadata: nothing but the metadata.
    Metadata,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Json,
    Protobuf,
}

/// What a request wants to have in the form it accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// One object, also as the outcome of a write.
    Object,
    /// A list.
    List,
    /// The objects of a watch.
    Watch,
    /// A document that has no other shape than its own.
    Document,
}

/// One of the types of an `Accept` header.
struct Clause<'a> {
    media: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
    /// In thousandths.
    quality: u32,
}

impl<'a> Clause<'a> {
    fn parse(text: &'a str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        let parameters: Vec<(&str, &str)> = parts.filter_map(|part| part.split_once('=')).collect();
        let quality = parameters.iter().find(|(name, _)| *name == "q").map_or(1000, |(_, q)| thousandths(q));
        Self { media, parameters, quality }
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        self.parameters.iter().find(|(n, _)| *n == name).map(|(_, value)| *value)
    }

    /// The form this clause asks for, if that is one for `purpose`.
    fn form(&self, purpose: Purpose, include: Include) -> Option<Form> {
        let Some(shape) = self.get("as") else { return Some(Form::Objects) };
        let ours = self.get("v") == Some("v1") && self.get("g").is_none_or(|group| group == "meta.k8s.io");
        match (shape, purpose) {
            _ if !ours => None,
            ("Table", Purpose::Object | Purpose::List | Purpose::Watch) => Some(Form::Table(include)),
            ("PartialObjectMetadata", Purpose::Object | Purpose::Watch) => Some(Form::Metadata),
            ("PartialObjectMetadataList", Purpose::List) => Some(Form::Metadata),
            _ => None,
        }
    }
}

/// `0.25` in thousandths; what is no such number counts as nothing.
fn thousandths(quality: &str) -> u32 {
    let quality: f32 = quality.parse().unwrap_or(0.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 1000")]
    let thousandths = (quality.clamp(0.0, 1.0) * 1000.0) as u32;
    thousandths
}

/// The clauses a client accepts, the best first; equals in their order.
fn clauses(accept: &str) -> Vec<Clause<'_>> {
    let mut clauses: Vec<Clause<'_>> = accept.split(',').map(Clause::parse).collect();
    clauses.retain(|clause| clause.quality > 0);
    clauses.sort_by_key(|clause| std::cmp::Reverse(clause.quality));
    clauses
}

/// The `Accept` headers in one.
pub(super) fn accept(headers: &HeaderMap) -> String {
    let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    values.collect::<Vec<_>>().join(",")
}

impl Media {
    /// JSON, each object as it is.
    pub(super) const JSON: Self = Self { form: Form::Objects, encoding: Encoding::Json };

    /// Chooses by the `Accept` headers. `include` is the query parameter `includeObject`; `messages` says
    /// whether what is asked for has a protobuf form.
    ///
    /// # Errors
    /// [`ApiError::NotAcceptable`] if nothing accepted is offered.
    pub(super) fn negotiate(
        headers: &HeaderMap,
        purpose: Purpose,
        include: &str,
        messages: bool,
    ) -> Result<Self, ApiError> {
        let accept = accept(headers);
        if accept.trim().is_empty() {
            return Ok(Self::JSON);
        }
        let include = match include {
            "None" => Include::None,
            "Object" => Include::Object,
            _ => Include::Metadata,
        };
        let choose = |clause: &Clause<'_>| {
            let form = clause.form(purpose, include)?;
            let encoding = match (clause.media, form) {
                ("application/json" | "application/*" | "*/*", _) => Encoding::Json,
                (protobuf::MEDIA_TYPE, Form::Objects) if messages => Encoding::Protobuf,
                (protobuf::MEDIA_TYPE, Form::Metadata) => Encoding::Protobuf,
                _ => return None,
            };
            Some(Self { form, encoding })
        };
        clauses(&accept).iter().find_map(choose).ok_or_else(|| {
            let protobuf = if messages { Some(protobuf::MEDIA_TYPE) } else { None };
            let offered: Vec<&str> = ["application/json"].into_iter().chain(protobuf).collect();
            ApiError::NotAcceptable(offered.join(", "))
        })
    }

    /// As [`Self::negotiate`] for objects of a kind.
    pub(super) fn of_kind(
        headers: &HeaderMap,
        purpose: Purpose,
        include: &str,
        kind: &Kind,
    ) -> Result<Self, ApiError> {
        let messages = protobuf::speaks(&kind.api_version(), &kind.kind);
        Self::negotiate(headers, purpose, include, messages)
    }

    /// The form of a refusal: protobuf for who accepts nothing better, else JSON. Never fails.
    pub(super) fn of_refusals(headers: &HeaderMap, refusal: &ApiError) -> Self {
        // Whoever is unknown, or accepts nothing, is told so in the plainest form.
        if matches!(refusal, ApiError::Unauthorized | ApiError::NotAcceptable(_)) {
            return Self::JSON;
        }
        Self::negotiate(headers, Purpose::Document, "", true).unwrap_or(Self::JSON)
    }

    fn content_type(self, purpose: Purpose) -> HeaderValue {
        HeaderValue::from_static(match (self.encoding, purpose) {
            (Encoding::Json, _) => "application/json",
            (Encoding::Protobuf, Purpose::Watch) => protobuf::WATCH_MEDIA_TYPE,
            (Encoding::Protobuf, _) => protobuf::MEDIA_TYPE,
        })
    }

    fn response(self, status: StatusCode, purpose: Purpose, body: Body) -> Response<Body> {
        let mut response = body::json_response(status, body);
        response.headers_mut().insert(header::CONTENT_TYPE, self.content_type(purpose));
        response
    }

    /// `value` in this encoding. Protobuf needs a value with a message, which negotiation made sure of.
    fn encode(self, value: &Value) -> Bytes {
        match self.encoding {
            Encoding::Json => value.to_string().into(),
            Encoding::Protobuf => protobuf::document(value).unwrap_or_default(),
        }
    }

    /// A document: a `Status`, a `Scale`, a review, a page of discovery.
    pub(super) fn document(self, status: StatusCode, value: &Value) -> Response<Body> {
        self.response(status, Purpose::Document, body::full(self.encode(value)))
    }

    /// One object.
    pub(super) fn object(self, status: StatusCode, kind: &Kind, stored: &Arc<Stored>) -> Response<Body> {
        let stored = stored.seen_as(kind);
        let bytes = match (self.form, self.encoding) {
            (Form::Objects, Encoding::Json) => stored.json(),
            (Form::Objects, Encoding::Protobuf) => enveloped(kind, &stored),
            (Form::Table(_) | Form::Metadata, _) => self.encode(&self.shape(kind, stored.value())),
        };
        self.response(status, Purpose::Object, body::full(bytes))
    }

    /// One page of a list. Protobuf is made off the runtime: the first list of many objects takes its time.
    pub(super) async fn page(self, kind: &Kind, page: Page) -> Response<Body> {
        let pieces: Box<dyn Iterator<Item = Bytes> + Send> = match (self.form, self.encoding) {
            (Form::Objects, Encoding::Json) => Box::new(page.pieces(kind)),
            (Form::Objects, Encoding::Protobuf) => {
                let (version, list_kind, metadata) = (kind.api_version(), kind.list_kind(), page.metadata());
                let items = messages(page, |stored| stored.protobuf()).await;
                Box::new(protobuf::list(&version, &list_kind, &metadata, items))
            }
            (Form::Table(include), _) => {
                let values = page.items.iter().map(|stored| stored.value());
                let table = table::table(kind, values, include, &page.metadata());
                Box::new(std::iter::once(self.encode(&table)))
            }
            (Form::Metadata, Encoding::Json) => Box::new(partial_pieces(page)),
            (Form::Metadata, Encoding::Protobuf) => {
                let metadata = page.metadata();
                let partial =
                    |stored: &Stored| protobuf::message(&partial(&stored.value())).unwrap_or_default();
                let items = messages(page, partial).await;
                Box::new(protobuf::list(META, "PartialObjectMetadataList", &metadata, items))
            }
        };
        let chunks = body::join(pieces).map(Ok);
        self.response(StatusCode::OK, Purpose::List, body::stream(futures::stream::iter(chunks)))
    }

    /// A watch: the frames or lines of [`Self::event`] and its like.
    pub(super) fn watch(self, body: Body) -> Response<Body> {
        self.response(StatusCode::OK, Purpose::Watch, body)
    }

    /// One watch event.
    pub(super) fn event(self, kind: &Kind, stored: &Arc<Stored>, change: Change) -> Bytes {
        let stored = stored.seen_as(kind);
        match (self.form, self.encoding) {
            (Form::Objects, Encoding::Json) => stored.line(change),
            (Form::Objects, Encoding::Protobuf) => protobuf::frame(change.name(), &enveloped(kind, &stored)),
            (Form::Table(_) | Form::Metadata, _) => {
                self.event_of(change.name(), &self.shape(kind, stored.value()))
            }
        }
    }

    /// A bookmark with `object`, which has nothing but its type and metadata.
    pub(super) fn bookmark(self, kind: &Kind, object: Value) -> Bytes {
        self.event_of("BOOKMARK", &self.shape(kind, object))
    }

    /// The event that ends a watch with a refusal.
    pub(super) fn error_event(self, error: &ApiError) -> Bytes {
        self.event_of("ERROR", &error.status())
    }

    fn event_of(self, event_type: &str, object: &Value) -> Bytes {
        match self.encoding {
            Encoding::Json => event_line(event_type, object),
            Encoding::Protobuf => protobuf::frame(event_type, &self.encode(object)),
        }
    }

    /// `object` in this form.
    fn shape(self, kind: &Kind, object: Value) -> Value {
        match self.form {
            Form::Objects => object,
            Form::Metadata => partial(&object),
            Form::Table(include) => {
                let metadata = json!({"resourceVersion": object["metadata"]["resourceVersion"]});
                table::table(kind, std::iter::once(object), include, &metadata)
            }
        }
    }
}

/// The group and version of partial objects.
const META: &str = "meta.k8s.io/v1";

/// Nothing but the metadata of `object`.
pub(super) fn partial(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": META, "metadata": object["metadata"]})
}

fn partial_pieces(page: Page) -> impl Iterator<Item = Bytes> {
    let metadata = page.metadata();
    let head = format!(
        r#"{{"kind":"PartialObjectMetadataList","apiVersion":"{META}","metadata":{metadata},"items":["#
    );
    let items = page.items.into_iter().enumerate().map(|(at, stored)| {
        let comma = if at > 0 { "," } else { "" };
        Bytes::from(format!("{comma}{}", partial(&stored.value())))
    });
    std::iter::once(Bytes::from(head)).chain(items).chain([Bytes::from_static(b"]}")])
}

fn enveloped(kind: &Kind, stored: &Stored) -> Bytes {
    protobuf::envelope(&kind.api_version(), &kind.kind, &stored.protobuf())
}

/// The items of a page as bare messages.
async fn messages(page: Page, message: impl Fn(&Stored) -> Bytes + Send + 'static) -> Vec<Bytes> {
    let convert = move || page.items.iter().map(|stored| message(stored)).collect();
    tokio::task::spawn_blocking(convert).await.expect("converting does not panic and is not cancelled")
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: Media = Media::JSON;
    const PROTOBUF: Media = Media { form: Form::Objects, encoding: Encoding::Protobuf };

    fn headers(accept: &str) -> HeaderMap {
        [(header::ACCEPT, HeaderValue::from_str(accept).unwrap())].into_iter().collect()
    }

    fn chosen(accept: &str, purpose: Purpose) -> Option<Media> {
        Media::negotiate(&headers(accept), purpose, "", true).ok()
    }

    #[test]
    fn the_first_offered_type_is_chosen() {
        let table = Some(Media { form: Form::Table(Include::Metadata), encoding: Encoding::Json });
        let metadata = |encoding| Some(Media { form: Form::Metadata, encoding });
        use Purpose::{Document, List, Object, Watch};
        for (accept, purpose, want) in [
            ("", List, Some(JSON)),
            ("*/*", Object, Some(JSON)),
            ("application/*", Object, Some(JSON)),
            ("text/html", Object, None),
            ("text/html, */*;q=0.1", Object, Some(JSON)),
            ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", List, table),
            ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", Document, Some(JSON)),
            ("application/json;as=Table;v=v1beta1;g=meta.k8s.io, application/json", List, Some(JSON)),
            ("application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io", List, None),
            ("application/vnd.kubernetes.protobuf,application/json", List, Some(PROTOBUF)),
            ("application/vnd.kubernetes.protobuf;stream=watch", Watch, Some(PROTOBUF)),
            ("application/json;q=0.5, application/vnd.kubernetes.protobuf", List, Some(PROTOBUF)),
            ("application/json, application/vnd.kubernetes.protobuf;q=0.9", List, Some(JSON)),
            ("application/vnd.kubernetes.protobuf;q=0, application/json;q=0.001", List, Some(JSON)),
            (
                "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
                List,
                metadata(Encoding::Json),
            ),
            ("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", Watch, None),
            ("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1", Watch, metadata(Encoding::Json)),
            (
                "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
                Object,
                metadata(Encoding::Protobuf),
            ),
            ("application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList", Document, None),
        ] {
            assert_eq!(chosen(accept, purpose), want, "{accept} for {purpose:?}");
        }
    }

    #[test]
    fn kinds_without_messages_answer_json_or_say_what_they_offer() {
        let negotiate = |accept: &str| Media::negotiate(&headers(accept), Purpose::List, "", false);
        assert_eq!(negotiate("application/vnd.kubernetes.protobuf, application/json"), Ok(JSON));
        let refused = negotiate("application/vnd.kubernetes.protobuf").unwrap_err();
        assert_eq!(refused.to_string(), "only the following media types are accepted: application/json");
        let metadata =
            negotiate("application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1");
        assert_eq!(metadata.unwrap().encoding, Encoding::Protobuf);
    }

    #[test]
    fn repeated_headers_are_one() {
        let mut headers = headers("text/html");
        headers.append(header::ACCEPT, HeaderValue::from_static("application/json"));
        assert_eq!(Media::negotiate(&headers, Purpose::Object, "", true), Ok(JSON));
    }
}
