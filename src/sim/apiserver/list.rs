//! LIST: consistent pages of one version.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as TOKEN_CODE;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::collection::{Collection, TooOld};
use super::error::ApiError;
use super::kinds::Kind;
use super::object::{ObjectKey, Stored};
use super::route::Query;
use super::selector::Selector;
use super::store::Store;

/// One page of a list.
#[derive(Debug)]
pub(super) struct Page {
    /// The version every page of this list is read at.
    pub(super) version: u64,
    pub(super) items: Vec<Arc<Stored>>,
    /// Token for the next page; empty at the end.
    pub(super) next: String,
    /// How many objects follow, when nothing is filtered.
    pub(super) remaining: Option<u64>,
}

/// What a `continue` token carries.
#[derive(Debug, Serialize, Deserialize)]
struct Token {
    rv: u64,
    ns: String,
    name: String,
    left: Option<u64>,
}

/// Which state a read asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    /// Now, or any state not older than asked.
    Newest,
    /// Exactly this version.
    Exact(u64),
}

/// Reads `resourceVersion` and `resourceVersionMatch` of a list.
fn parse_at(query: &Query, current: u64) -> Result<At, ApiError> {
    let asked = query.number("resourceVersion")?;
    if let Some(asked) = asked.filter(|version| *version > current) {
        return Err(ApiError::FutureVersion { asked, current });
    }
    match (query.get("resourceVersionMatch"), asked) {
        // A limited list of a named version without a match rule means exactly that version.
        ("", Some(version)) if version > 0 && !query.get("limit").is_empty() => Ok(At::Exact(version)),
        ("", _) | ("NotOlderThan", Some(_)) => Ok(At::Newest),
        ("Exact", Some(version)) if version > 0 => Ok(At::Exact(version)),
        ("Exact", Some(_)) => {
            Err(forbidden("resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\""))
        }
        (_, None) => Err(forbidden("resourceVersionMatch is forbidden unless resourceVersion is provided")),
        (other, _) => Err(ApiError::Invalid {
            kind: "ListOptions.meta.k8s.io".into(),
            name: String::new(),
            field: "resourceVersionMatch".into(),
            why: format!("Unsupported value: {other:?}: supported values: \"Exact\", \"NotOlderThan\", \"\""),
        }),
    }
}

/// What a list request asks for.
struct Asked<'a> {
    namespace: Option<&'a str>,
    query: &'a Query,
    selector: Selector,
    limit: usize,
    token: Option<Token>,
}

/// Answers one list request. Cost: the objects passed over on this page and the events since its version; the
/// first page of a namespace also counts what follows.
pub(super) fn page(store: &Store, kind: &Kind, namespace: &str, query: &Query) -> Result<Page, ApiError> {
    let asked = Asked::parse(kind, namespace, query)?;
    let (version, mut items, total) = store.read(kind, |collection, now| asked.gather(collection, now))?;
    if asked.selector.reads_fields() {
        // Reading objects takes time: not while everybody waits for the lock.
        let selected = items.into_iter().filter(|item| asked.selector.matches(item));
        items = selected.take(asked.limit.saturating_add(1)).collect();
    }
    let more = items.len() > asked.limit;
    items.truncate(asked.limit);
    let remaining = total.map(|n| n.saturating_sub(items.len() as u64)).filter(|_| more);
    let next = match items.last() {
        Some(last) if more => token_for(version, &last.key, remaining),
        _ => String::new(),
    };
    let items = items.iter().map(|item| item.seen_as(kind)).collect();
    Ok(Page { version, items, next, remaining })
}

impl<'a> Asked<'a> {
    fn parse(kind: &Kind, namespace: &'a str, query: &'a Query) -> Result<Self, ApiError> {
        if !query.get("sendInitialEvents").is_empty() {
            let why = "sendInitialEvents is forbidden for list";
            return Err(ApiError::forbidden_option("sendInitialEvents", why));
        }
        let limit = query.number("limit")?.filter(|n| *n > 0);
        Ok(Self {
            namespace: Some(namespace).filter(|n| !n.is_empty()),
            query,
            selector: Selector::parse(kind, query.get("labelSelector"), query.get("fieldSelector"))?,
            limit: limit.and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX),
            token: match query.get("continue") {
                "" => None,
                text => Some(parse_token(text, query)?),
            },
        })
    }

    fn version(&self, current: u64) -> Result<u64, ApiError> {
        match &self.token {
            Some(token) if token.rv > current => Err(expired(token.rv)),
            Some(token) => Ok(token.rv),
            None => Ok(match parse_at(self.query, current)? {
                At::Newest => current,
                At::Exact(version) => version,
            }),
        }
    }

    /// The version, the objects of this page and one more, and how many there are from here on, when nothing
    /// is filtered. With a selection by fields: every object that may be on this page.
    #[expect(clippy::type_complexity, reason = "used once, right above")]
    fn gather(
        &self,
        collection: &Collection,
        current: u64,
    ) -> Result<(u64, Vec<Arc<Stored>>, Option<u64>), ApiError> {
        let version = self.version(current)?;
        let after = self.token.as_ref().map(|t| ObjectKey::new(t.ns.as_str(), t.name.as_str()));
        let everything = self.selector.is_everything();
        let known = match &self.token {
            Some(token) => token.left,
            None if self.namespace.is_none() && version == current => Some(collection.len() as u64),
            None => None,
        };
        let counts = everything && known.is_none() && self.token.is_none();
        let enough = if self.selector.reads_fields() { usize::MAX } else { self.limit.saturating_add(1) };
        let (mut items, mut counted) = (Vec::new(), 0);
        let scanned = collection.scan_at(version, self.namespace, after.as_ref(), |_, stored| {
            if everything || self.selector.may_match(stored) {
                counted += 1;
                if items.len() < enough {
                    items.push(Arc::clone(stored));
                }
            }
            counts || items.len() < enough
        });
        scanned.map_err(|TooOld { .. }| expired(version))?;
        let total = everything.then(|| known.or(counts.then_some(counted))).flatten();
        Ok((version, items, total))
    }
}

fn forbidden(why: &str) -> ApiError {
    ApiError::forbidden_option("resourceVersionMatch", why)
}

fn expired(version: u64) -> ApiError {
    ApiError::Expired(format!(
        "The provided continue parameter or resource version {version} is too old to display a consistent list \
         result. Start a new list without the continue parameter."
    ))
}

fn parse_token(text: &str, query: &Query) -> Result<Token, ApiError> {
    if !query.get("resourceVersionMatch").is_empty() {
        return Err(forbidden("resourceVersionMatch is forbidden when continue is provided"));
    }
    if !matches!(query.get("resourceVersion"), "" | "0") {
        return Err(ApiError::BadRequest(
            "specifying resource version is not allowed when using continue".into(),
        ));
    }
    let json = TOKEN_CODE.decode(text).ok();
    json.and_then(|json| serde_json::from_slice(&json).ok())
        .ok_or_else(|| ApiError::BadRequest("continue key is not valid".into()))
}

fn token_for(version: u64, last: &ObjectKey, left: Option<u64>) -> String {
    let token = Token { rv: version, ns: last.namespace.to_string(), name: last.name.to_string(), left };
    TOKEN_CODE.encode(serde_json::to_vec(&token).expect("a token of numbers and text is serialisable"))
}

impl Page {
    /// `metadata` of the list object.
    pub(super) fn metadata(&self) -> Value {
        let mut metadata = json!({"resourceVersion": self.version.to_string()});
        if !self.next.is_empty() {
            metadata["continue"] = json!(self.next);
        }
        if let Some(remaining) = self.remaining {
            metadata["remainingItemCount"] = json!(remaining);
        }
        metadata
    }

    /// The list object, in pieces that share the bytes of the stored objects.
    pub(super) fn pieces(self, kind: &Kind) -> impl Iterator<Item = Bytes> + use<> {
        let head = format!(
            r#"{{"kind":"{}","apiVersion":"{}","metadata":{},"items":["#,
            kind.list_kind(),
            kind.api_version(),
            self.metadata()
        );
        let items = self.items.into_iter().enumerate().flat_map(|(at, stored)| {
            let comma = (at > 0).then(|| Bytes::from_static(b","));
            comma.into_iter().chain([stored.json()])
        });
        std::iter::once(Bytes::from(head)).chain(items).chain([Bytes::from_static(b"]}")])
    }
}
