//! AuthorizationPolicies: who may ask workloads for what.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;

use super::{Policy, PolicyKind, PolicyMeta, WorkloadSelector};
use crate::model::Name;

/// What becomes of what the rules of a policy match.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum AuthorizationAction {
    /// It passes; once a workload has such a policy, nothing else passes.
    #[default]
    Allow,
    /// It is refused.
    Deny,
    /// It is marked for the access log.
    Audit,
    /// An external authorizer decides. There is none here: it is refused.
    Custom,
}

/// Who may ask workloads for what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuthorizationPolicy {
    /// Which object, and how old.
    pub meta: PolicyMeta,
    /// Which workloads of its namespace; those of the root namespace are about workloads of every namespace.
    pub selector: WorkloadSelector,
    /// What it is about instead of workloads (`targetRefs`): gateways of its namespace, by the names of their Gateways in
    /// the Gateway API, [`Self::ANY_GATEWAY`] for all of them; `None` without targets. Other targets are no proxies
    /// here.
    pub targets: Option<Vec<Name>>,
    /// Whether it is only tried: what it would refuse is counted, and passes.
    pub dry_run: bool,
    /// What becomes of what it matches.
    pub action: AuthorizationAction,
    /// What it matches: what one of these does. Without any it matches nothing.
    pub rules: Vec<AuthorizationRule>,
    /// What of it cannot be done, for its owner. It is enforced on the safe side then: an ALLOW rule with such a
    /// part matches nothing, any other rule matches as if that part were not there.
    pub problems: Vec<String>,
}

/// One rule: all of its three parts must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AuthorizationRule {
    /// Sources, one of which must hold; every clause of a source must. Empty means any source.
    pub from: Vec<Vec<Clause>>,
    /// Operations, likewise.
    pub to: Vec<Vec<Clause>>,
    /// Conditions, all of which must hold.
    pub when: Vec<Clause>,
}

/// What must hold for one attribute: it has one of the values, if there are any, and none of the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Clause {
    /// Which attribute.
    pub attribute: Attribute,
    /// `values`, or the field without `not`.
    pub values: Vec<Name>,
    /// `notValues`, or the field with `not`.
    pub not_values: Vec<Name>,
}

/// An attribute of a connection or request. Values are exact, `prefix*`, `*suffix` or `*` unless said otherwise.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Attribute {
    /// The identity of the client, `td/ns/namespace/sa/account`.
    SourcePrincipal,
    /// The namespace in it.
    SourceNamespace,
    /// The account in it: full `namespace/account`.
    SourceAccount,
    /// The address of the peer of the connection: blocks.
    SourceIp,
    /// The address of the client as trusted headers tell it: blocks.
    RemoteIp,
    /// The address asked for: blocks.
    DestinationIp,
    /// The port asked for: numbers.
    DestinationPort,
    /// The server name of the client's TLS hello.
    Sni,
    /// The host of the request, in any case.
    Host,
    /// The method of the request.
    Method,
    /// The path of the request without its query; also templates with `{*}` and `{**}`.
    Path,
    /// A header of the request.
    Header(Name),
    /// Something that is not known here, or has a value that cannot be read.
    Unsupported(Name),
}

impl Attribute {
    /// Whether only requests have it, not connections.
    pub fn is_http(&self) -> bool {
        matches!(self, Self::Host | Self::Method | Self::Path | Self::Header(_))
    }

    /// Whether a value can be read.
    pub fn takes(&self, value: &str) -> bool {
        match self {
            Self::SourceIp | Self::RemoteIp | Self::DestinationIp => block(value).is_some(),
            Self::DestinationPort => value.parse::<u16>().is_ok_and(|port| port != 0),
            Self::SourceAccount => {
                let named = |part: &str| !part.is_empty() && !part.contains(['*', '/']);
                let parts = value.split_once('/');
                parts.is_some_and(|(namespace, account)| named(namespace) && named(account))
            }
            Self::Path if value.contains(['{', '}']) => path_template(value).is_some(),
            Self::Unsupported(_) => false,
            _ => !value.is_empty(),
        }
    }
}

/// A value that may end or begin with `*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextPattern<'a> {
    /// Exactly this.
    Exact(&'a str),
    /// `text*`.
    Prefix(&'a str),
    /// `*text`.
    Suffix(&'a str),
    /// `*`: anything that is there.
    Present,
}

impl<'a> TextPattern<'a> {
    /// Reads a value. A star in the middle, or a second one, is a star.
    pub fn of(value: &'a str) -> Self {
        match (value.strip_prefix('*'), value.strip_suffix('*')) {
            (Some(""), _) => Self::Present,
            (Some(suffix), _) => Self::Suffix(suffix),
            (None, Some(prefix)) => Self::Prefix(prefix),
            (None, None) => Self::Exact(value),
        }
    }
}

/// A block of addresses, `a.b.c.d/n`, or one address.
pub fn block(value: &str) -> Option<IpNet> {
    value.parse().ok().or_else(|| value.parse::<IpAddr>().ok().map(IpNet::from))
}

/// A path template in Envoy's spelling (`*`, `**`). In a template `{*}` is one segment and `{**}` any number of
/// them; both are whole segments, `{**}` is the last of them, and nothing else has braces or stars. No segment is
/// empty, but the path may end with `/`.
pub fn path_template(value: &str) -> Option<String> {
    let segments: Vec<&str> = value.strip_prefix('/')?.split('/').collect();
    let is_plain = |segment: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()+,;:@=".contains(&byte);
        !segment.is_empty() && segment.bytes().all(allowed)
    };
    let anything = segments.iter().position(|segment| *segment == "{**}");
    let is_last = anything.is_none_or(|at| at + 1 == segments.len());
    let named = match segments.split_last() {
        Some((&"", before)) => before,
        _ => &segments,
    };
    let known = named.iter().all(|segment| matches!(*segment, "{*}" | "{**}") || is_plain(segment));
    (is_last && known).then(|| value.replace("{**}", "**").replace("{*}", "*"))
}

impl AuthorizationPolicy {
    /// The target that stands for every gateway of a namespace. No object has this name.
    pub const ANY_GATEWAY: &'static str = "*";
    /// The label of routers that names the Gateway they serve.
    pub const GATEWAY_LABEL: &'static str = "gateway.networking.k8s.io/gateway-name";

    /// Whether it is about a workload of `namespace`, in a mesh with this root namespace; `gateway` is the Gateway that
    /// a router serves, and `label` looks a label of the workload up. One with targets is about those, and about
    /// workloads only where it has a selector too.
    pub fn is_about<'a>(
        &self,
        namespace: &str,
        root: &str,
        gateway: Option<&str>,
        label: impl Fn(&str) -> Option<&'a str>,
    ) -> bool {
        let own = self.meta.id.namespace.as_str();
        let selects = || (own == namespace || own == root) && self.selector.selects(label);
        let Some(targets) = &self.targets else {
            return selects();
        };
        let named = |gateway| {
            targets.iter().any(|target| target.as_str() == gateway || target.as_str() == Self::ANY_GATEWAY)
        };
        own == namespace && gateway.is_some_and(named) || !self.selector.is_everything() && selects()
    }
}

impl Policy for AuthorizationPolicy {
    const KIND: PolicyKind = PolicyKind::AuthorizationPolicy;

    fn meta(&self) -> &PolicyMeta {
        &self.meta
    }

    fn problems(&self) -> &[String] {
        &self.problems
    }

    fn scopes(&self) -> Vec<Name> {
        vec![self.meta.id.namespace.clone()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_of_templates_are_not_empty() {
        for (value, spelled) in [
            ("/a/{*}/b", Some("/a/*/b")),
            ("/a/{*}/", Some("/a/*/")),
            ("/{**}", Some("/**")),
            ("/a//{*}", None),
            ("//{*}", None),
            ("/{*}//", None),
            ("/{**}/", None),
            ("a/{*}", None),
        ] {
            assert_eq!(path_template(value).as_deref(), spelled, "{value}");
        }
    }
}
