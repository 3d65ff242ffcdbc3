//! From method, path and query to what the client asks for; pure.

use std::collections::HashMap;
use std::sync::Arc;

use http::Method;

use super::error::ApiError;
use super::kinds::{self, Kind, Kinds};
use super::reviews::{self, REVIEWS, Review};

/// What a path points at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// `/healthz`, `/livez`, `/readyz` and their parts.
    Health,
    /// `/version`.
    Version,
    /// `/api`.
    CoreVersions,
    /// `/apis`.
    Groups,
    /// `/apis/<group>`.
    Group(String),
    /// `/api/v1` or `/apis/<group>/<version>`.
    Resources(String, String),
    /// `/openapi/v3` and below, with the rest of the path.
    OpenApi(String),
    /// Where faults are told and changed.
    Faults,
    /// Where reviews are posted.
    Review(Review),
    /// Objects of one kind.
    Objects(Resource),
}

/// Objects of one kind, as a path names them.
#[derive(Debug, Clone)]
pub(super) struct Resource {
    pub(super) kind: Arc<Kind>,
    /// Empty for all namespaces and for cluster-scoped kinds.
    pub(super) namespace: String,
    /// One object, or the collection.
    pub(super) name: Option<String>,
    pub(super) subresource: Subresource,
}

impl PartialEq for Resource {
    fn eq(&self, other: &Self) -> bool {
        let parts = |r: &Self| (r.kind.resource(), r.namespace.clone(), r.name.clone(), r.subresource);
        parts(self) == parts(other)
    }
}

impl Eq for Resource {}

/// The part of an object a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subresource {
    None,
    Status,
    Scale,
    /// Where tokens of a service account are asked for.
    Token,
}

/// Query parameters; the last of a repeated one counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Query(HashMap<String, String>);

impl Query {
    pub(super) fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key, Plus::Space), decode(value, Plus::Space))
        });
        Self(pairs.collect())
    }

    /// The value; absent and empty are the same.
    pub(super) fn get(&self, key: &str) -> &str {
        self.0.get(key).map_or("", String::as_str)
    }

    /// Whether the parameter says yes. As on a real server only its absence, `false` and `0` say no: clients write
    /// `true`, `True`, `1` or the bare name.
    pub(super) fn is_set(&self, key: &str) -> bool {
        self.0.get(key).is_some_and(|value| value != "0" && !value.eq_ignore_ascii_case("false"))
    }

    /// Selects by a name that no object has.
    pub(super) fn select_nothing(&mut self) {
        self.0.insert("fieldSelector".to_owned(), "metadata.name=-nothing-".to_owned());
    }

    /// A number, if given.
    pub(super) fn number(&self, key: &str) -> Result<Option<u64>, ApiError> {
        match self.get(key) {
            "" => Ok(None),
            text => text
                .parse()
                .map(Some)
                .map_err(|_| ApiError::BadRequest(format!("invalid {key}: {text:?} is not a number"))),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Plus {
    Space,
    Literal,
}

/// Percent-decoding; malformed escapes stay as they are.
fn decode(text: &str, plus: Plus) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match escape.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(if bytes[at] == b'+' && plus == Plus::Space { b' ' } else { bytes[at] });
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Resolves a path.
///
/// # Errors
/// [`ApiError::NoSuchPath`] for everything this server does not have.
pub(super) fn resolve(kinds: &Kinds, path: &str) -> Result<Target, ApiError> {
    let segments: Vec<String> =
        path.split('/').filter(|s| !s.is_empty()).map(|s| decode(s, Plus::Literal)).collect();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    match segments[..] {
        ["healthz" | "livez" | "readyz", ..] => Ok(Target::Health),
        ["version"] => Ok(Target::Version),
        ["tombolo", "faults"] => Ok(Target::Faults),
        ["api"] => Ok(Target::CoreVersions),
        ["apis"] => Ok(Target::Groups),
        ["openapi", ref rest @ ..] => Ok(Target::OpenApi(rest.join("/"))),
        ["apis", group] => {
            let reviews = REVIEWS.iter().any(|review| review.group == group);
            let known = reviews || kinds.group_versions().iter().any(|(g, _)| *g == group);
            if known && !group.is_empty() {
                Ok(Target::Group(group.to_owned()))
            } else {
                Err(ApiError::NoSuchPath)
            }
        }
        ["api", version, ref rest @ ..] => resources(kinds, "", version, rest),
        ["apis", group, version, ref rest @ ..] if !group.is_empty() => {
            resources(kinds, group, version, rest)
        }
        _ => Err(ApiError::NoSuchPath),
    }
}

fn resources(kinds: &Kinds, group: &str, version: &str, rest: &[&str]) -> Result<Target, ApiError> {
    if let [plural] = *rest
        && let Some(review) = Review::find(group, version, plural)
    {
        return Ok(Target::Review(review));
    }
    let reviews = version == reviews::VERSION && REVIEWS.iter().any(|review| review.group == group);
    let known = reviews || kinds.iter().any(|kind| kind.group == group && kind.version == version);
    if !known {
        return Err(ApiError::NoSuchPath);
    }
    let kind = |plural: &str| kinds.by_plural(group, version, plural).cloned().ok_or(ApiError::NoSuchPath);
    let objects = |kind: Arc<Kind>, namespace: &str, name: Option<&str>, subresource| {
        Ok(Target::Objects(Resource {
            kind,
            namespace: namespace.to_owned(),
            name: name.map(str::to_owned),
            subresource,
        }))
    };
    let none = Subresource::None;
    match *rest {
        [] => Ok(Target::Resources(group.to_owned(), version.to_owned())),
        [plural] => objects(kind(plural)?, "", None, none),
        ["namespaces", namespace, plural] if subresource(&kinds::NAMESPACES, plural).is_err() => {
            objects(namespaced(kind(plural)?)?, namespace, None, none)
        }
        [plural, name] => objects(cluster_scoped(kind(plural)?)?, "", Some(name), none),
        ["namespaces", namespace, plural, name] => {
            objects(namespaced(kind(plural)?)?, namespace, Some(name), none)
        }
        [plural, name, sub] => {
            let kind = cluster_scoped(kind(plural)?)?;
            let subresource = subresource(&kind, sub)?;
            objects(kind, "", Some(name), subresource)
        }
        ["namespaces", namespace, plural, name, sub] => {
            let kind = namespaced(kind(plural)?)?;
            let subresource = subresource(&kind, sub)?;
            objects(kind, namespace, Some(name), subresource)
        }
        _ => Err(ApiError::NoSuchPath),
    }
}

fn namespaced(kind: Arc<Kind>) -> Result<Arc<Kind>, ApiError> {
    if kind.is_namespaced() { Ok(kind) } else { Err(ApiError::NoSuchPath) }
}

fn cluster_scoped(kind: Arc<Kind>) -> Result<Arc<Kind>, ApiError> {
    if kind.is_namespaced() { Err(ApiError::NoSuchPath) } else { Ok(kind) }
}

fn subresource(kind: &Kind, name: &str) -> Result<Subresource, ApiError> {
    match name {
        "status" if kind.has_status => Ok(Subresource::Status),
        "scale" if kind.has_scale() => Ok(Subresource::Scale),
        "token" if kind.is(&kinds::SERVICE_ACCOUNTS) => Ok(Subresource::Token),
        _ => Err(ApiError::NoSuchPath),
    }
}

/// What is done to objects; the words of Kubernetes' request logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
}

impl Verb {
    /// The verb of a request on `resource`.
    pub(super) fn of(method: &Method, resource: &Resource, query: &Query) -> Result<Self, ApiError> {
        let plain = resource.subresource == Subresource::None;
        if resource.subresource == Subresource::Token {
            return if *method == Method::POST { Ok(Self::Create) } else { Err(ApiError::MethodNotAllowed) };
        }
        Ok(match (method.as_str(), resource.name.is_some()) {
            ("GET" | "HEAD", true) => Self::Get,
            ("GET" | "HEAD", false) if query.is_set("watch") => Self::Watch,
            ("GET" | "HEAD", false) => Self::List,
            ("POST", false) => Self::Create,
            ("PUT", true) => Self::Update,
            ("PATCH", true) => Self::Patch,
            ("DELETE", true) if plain => Self::Delete,
            ("DELETE", false) => Self::DeleteCollection,
            _ => return Err(ApiError::MethodNotAllowed),
        })
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(path: &str) -> (String, String, Option<String>, Subresource) {
        match resolve(&Kinds::default(), path).unwrap() {
            Target::Objects(r) => (r.kind.resource(), r.namespace, r.name, r.subresource),
            other => panic!("{path}: {other:?}"),
        }
    }

    #[test]
    fn paths_name_collections_objects_and_parts() {
        let own = |a: &str, b: &str, c: Option<&str>, d| (a.into(), b.into(), c.map(str::to_owned), d);
        use Subresource::{None as Plain, Scale, Status};
        for (path, want) in [
            ("/api/v1/pods", own("pods", "", None, Plain)),
            ("/api/v1/namespaces/n/pods", own("pods", "n", None, Plain)),
            ("/api/v1/namespaces/n/pods/p", own("pods", "n", Some("p"), Plain)),
            ("/api/v1/namespaces/n/pods/p/status", own("pods", "n", Some("p"), Status)),
            ("/api/v1/namespaces", own("namespaces", "", None, Plain)),
            ("/api/v1/namespaces/n", own("namespaces", "", Some("n"), Plain)),
            ("/api/v1/namespaces/n/status", own("namespaces", "", Some("n"), Status)),
            ("/api/v1/nodes/a.b", own("nodes", "", Some("a.b"), Plain)),
            (
                "/apis/apps/v1/namespaces/n/deployments/d/scale",
                own("deployments.apps", "n", Some("d"), Scale),
            ),
        ] {
            assert_eq!(objects(path), want, "{path}");
        }
    }

    #[test]
    fn unknown_paths_are_not_found() {
        for path in [
            "/",
            "/nope",
            "/api/v2",
            "/api/v1/widgets",
            "/api/v1/pods/p",
            "/api/v1/namespaces/n/nodes",
            "/api/v1/namespaces/n/pods/p/scale",
            "/apis/apps/v2/deployments",
            "/apis//v1/pods",
        ] {
            assert_eq!(resolve(&Kinds::default(), path), Err(ApiError::NoSuchPath), "{path}");
        }
    }

    #[test]
    fn queries_are_decoded() {
        let query = Query::parse("labelSelector=app%20in+(a%2Cb)&watch=1&limit=5&bad=%zz");
        assert_eq!(query.get("labelSelector"), "app in (a,b)");
        assert!(query.is_set("watch"));
        assert_eq!(query.number("limit").unwrap(), Some(5));
        assert_eq!(query.get("bad"), "%zz");
        assert!(query.number("bad").is_err());
    }

    #[test]
    fn only_absence_false_and_zero_say_no() {
        let query = Query::parse("a=true&b=True&c=1&d&e=&f=yes&g=false&h=False&i=0");
        let said: Vec<bool> = "abcdefghij".chars().map(|key| query.is_set(&key.to_string())).collect();
        assert_eq!(said, [true, true, true, true, true, true, false, false, false, false]);
    }
}
