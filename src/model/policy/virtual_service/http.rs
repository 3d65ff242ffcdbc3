//! Routes of requests.

use std::time::Duration;

use serde::Serialize;

use super::{Destination, Sources, Weighted};
use crate::model::Name;
use crate::model::policy::PolicyId;

/// How a text is compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum TextMatch {
    /// With all of it.
    Exact(Name),
    /// With its beginning.
    Prefix(Name),
    /// As an RE2 expression over all of it.
    Regex(Name),
}

/// Requests that match, and what becomes of them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HttpRoute {
    /// Its name; may be empty.
    pub name: Name,
    /// One of these must hold; empty for every request.
    pub matches: Vec<HttpMatch>,
    /// Where they go.
    pub action: HttpAction,
    /// What is rewritten.
    pub rewrite: Rewrite,
    /// How long an answer may take; `None` is for ever.
    pub timeout: Option<Duration>,
    /// When they are tried again; `None` as the mesh does.
    pub retries: Option<Retries>,
    /// What goes wrong on purpose.
    pub fault: Option<Fault>,
    /// Who gets copies.
    pub mirrors: Vec<Mirror>,
    /// Who may ask from other origins.
    pub cors: Option<Cors>,
    /// What becomes of the headers.
    pub headers: Headers,
}

impl HttpRoute {
    /// Every request, as it is.
    pub fn new(action: HttpAction) -> Self {
        Self {
            name: Name::default(),
            matches: Vec::new(),
            action,
            rewrite: Rewrite::default(),
            timeout: None,
            retries: None,
            fault: None,
            mirrors: Vec::new(),
            cors: None,
            headers: Headers::default(),
        }
    }

    /// Every destination, those of copies included.
    pub fn destinations(&self) -> impl Iterator<Item = &Destination> {
        let to: &[Weighted] = match &self.action {
            HttpAction::Forward(to) => to,
            _ => &[],
        };
        to.iter().map(|one| &one.destination).chain(self.mirrors.iter().map(|mirror| &mirror.destination))
    }
}

/// Which requests; every part that is set must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HttpMatch {
    /// Its name; may be empty.
    pub name: Name,
    /// The path.
    pub uri: Option<TextMatch>,
    /// Whether the case of the path counts for nothing.
    pub ignore_case: bool,
    /// `:scheme`.
    pub scheme: Option<TextMatch>,
    /// `:method`.
    pub method: Option<TextMatch>,
    /// `:authority`.
    pub authority: Option<TextMatch>,
    /// Headers by lower-case name; `None` asks for presence alone.
    pub headers: Vec<(Name, Option<TextMatch>)>,
    /// Headers that must not be so.
    pub without_headers: Vec<(Name, Option<TextMatch>)>,
    /// Parameters of the query; `None` asks for presence alone.
    pub query: Vec<(Name, Option<TextMatch>)>,
    /// Who asks.
    pub sources: Sources,
}

impl HttpMatch {
    /// Whether every request of those who may ask matches.
    pub fn is_everything(&self) -> bool {
        let path = match &self.uri {
            None => true,
            Some(TextMatch::Prefix(prefix)) => prefix.as_str() == "/",
            Some(_) => false,
        };
        path && self.scheme.is_none()
            && self.method.is_none()
            && self.authority.is_none()
            && self.headers.is_empty()
            && self.without_headers.is_empty()
            && self.query.is_empty()
    }
}

/// Where requests go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum HttpAction {
    /// To destinations; not empty.
    Forward(Vec<Weighted>),
    /// Back, with another address.
    Redirect(Redirect),
    /// Back, with an answer.
    Respond(DirectResponse),
    /// To the routes of another VirtualService, which take its place before anybody is told
    /// ([`VirtualService::with_delegates`](super::VirtualService::with_delegates)).
    Delegate(PolicyId),
}

/// Another address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Redirect {
    /// The path; empty for the same. `%PREFIX()%` at the start replaces only what a prefix matched.
    pub uri: Name,
    /// The authority; empty for the same.
    pub authority: Name,
    /// The port.
    pub port: Option<RedirectPort>,
    /// The scheme; empty for the same.
    pub scheme: Name,
    /// 301, 302, 303, 307 or 308.
    pub code: u16,
}

/// The port of another address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum RedirectPort {
    /// This one.
    Number(u16),
    /// That of the scheme.
    OfProtocol,
    /// That of the request.
    OfRequest,
}

/// An answer without any upstream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DirectResponse {
    /// 200 to 599.
    pub status: u16,
    /// The body; empty for none.
    #[serde(skip)]
    pub body: Vec<u8>,
}

/// What is rewritten before a request goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Rewrite {
    /// The path, or what a prefix matched of it; empty for nothing.
    pub uri: Name,
    /// The authority; empty for the same.
    pub authority: Name,
    /// The path by an expression; excludes `uri`.
    pub regex: Option<RegexRewrite>,
}

/// A substitution in the path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RegexRewrite {
    /// An RE2 expression.
    pub pattern: Name,
    /// What its matches become; `\1` is a group.
    pub substitution: Name,
}

/// When requests are tried again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Retries {
    /// At most this often; 0 is never.
    pub attempts: u32,
    /// How long each try may take; `None` as all together.
    pub per_try_timeout: Option<Duration>,
    /// Envoy's conditions, without status codes; empty for the mesh's.
    pub conditions: Vec<Name>,
    /// Status codes that are tried again.
    pub codes: Vec<u32>,
    /// Whether other localities are tried next.
    pub other_localities: bool,
    /// Whether an endpoint that failed is not tried again.
    pub skip_previous: bool,
    /// The longest and shortest pause, from a tenth of it up; `None` for Envoy's.
    pub backoff: Option<Duration>,
}

/// A share in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Percent(u32);

impl Percent {
    /// Everything.
    pub const ALL: Self = Self(1_000_000);

    /// A share of 0 to 100 percent; anything else is `None`.
    pub fn new(percent: f64) -> Option<Self> {
        // In range, hence it fits.
        (0.0..=100.0).contains(&percent).then(|| Self((percent * 10_000.0).round() as u32))
    }

    /// In millionths.
    pub fn millionths(self) -> u32 {
        self.0
    }
}

/// What goes wrong on purpose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Answers that come late.
    pub delay: Option<Delay>,
    /// Answers that are errors.
    pub abort: Option<Abort>,
}

/// Answers that come late.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Delay {
    /// By this much.
    pub fixed: Duration,
    /// How many.
    pub share: Percent,
}

/// Answers that are errors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Abort {
    /// An HTTP status, 200 to 599, or a gRPC code.
    pub status: Result<u16, u32>,
    /// How many.
    pub share: Percent,
}

/// Who gets copies of requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mirror {
    /// Where to.
    pub destination: Destination,
    /// How many.
    pub share: Percent,
}

/// Who may ask from other origins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cors {
    /// Origins.
    pub origins: Vec<TextMatch>,
    /// Methods.
    pub methods: Vec<Name>,
    /// Headers of requests.
    pub allow_headers: Vec<Name>,
    /// Headers of answers.
    pub expose_headers: Vec<Name>,
    /// How long an answer to a preflight counts.
    pub max_age: Option<Duration>,
    /// Whether credentials may be sent.
    pub credentials: Option<bool>,
    /// Whether preflights that do not match go on to the upstream; `None` as Envoy does.
    pub forward_unmatched: Option<bool>,
}

/// What becomes of headers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Headers {
    /// Of the request.
    pub request: HeaderChanges,
    /// Of the answer.
    pub response: HeaderChanges,
}

/// What becomes of some headers, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HeaderChanges {
    /// These replace what is there.
    pub set: Vec<(Name, Name)>,
    /// These come on top.
    pub add: Vec<(Name, Name)>,
    /// These go.
    pub remove: Vec<Name>,
}
