//! What values say about the identity of a client: the SPIFFE id of its certificate.
//!
//! Namespaces and accounts are compared with whole segments of an id, so that none can be taken for another. Names go
//! into expressions only where a wildcard needs one, with every special character escaped.

use std::collections::BTreeSet;

use envoy_types::pb::envoy::config::rbac::v3::{Principal, principal};
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::envoy::r#type::matcher::v3::{RegexMatcher, StringMatcher};

use super::terms::{IntoTerm, Term};
use crate::model::Name;
use crate::model::policy::TextPattern;

/// How ids begin.
const SCHEME: &str = "spiffe://";
/// Policies write this for the mesh's own trust domain, whatever that is.
const OWN_DOMAIN: &str = "cluster.local";

/// `td/ns/namespace/sa/account`. The mesh's own trust domain (the first of `trust_domains`, or `cluster.local`) and
/// its aliases mean each other; the trust domain of another mesh or cluster means itself.
pub(super) fn principal(value: &str, trust_domains: &[Name]) -> Principal {
    let mut values = BTreeSet::from([value.to_owned()]);
    if let Some((domain, path)) = value.split_once('/') {
        let own = trust_domains.iter().any(|own| names(domain, own));
        if own || domain == OWN_DOMAIN {
            let wildcard = domain.starts_with('*');
            values.retain(|_| wildcard);
            values.extend(trust_domains.iter().map(|own| format!("{own}/{path}")));
        }
    }
    Term::one_of(values.iter().map(|value| one_principal(value)).collect())
}

/// Whether a trust domain of a policy, with or without a wildcard, names this one.
fn names(domain: &str, own: &str) -> bool {
    match TextPattern::of(domain) {
        TextPattern::Exact(domain) => domain == own,
        TextPattern::Prefix(prefix) => own.starts_with(prefix),
        TextPattern::Suffix(suffix) => own.ends_with(suffix),
        // Any trust domain: the value itself says so.
        TextPattern::Present => false,
    }
}

fn one_principal(value: &str) -> Principal {
    match TextPattern::of(value) {
        TextPattern::Exact(id) => has(MatchPattern::Exact(format!("{SCHEME}{id}"))),
        TextPattern::Prefix(prefix) => has(MatchPattern::Prefix(format!("{SCHEME}{prefix}"))),
        TextPattern::Suffix(suffix) => has(regex(format!("{}.*{}", escaped(SCHEME), escaped(suffix)))),
        TextPattern::Present => has(MatchPattern::Prefix(SCHEME.to_owned())),
    }
}

/// Clients of a namespace, in any trust domain that may call at all.
pub(super) fn namespace(value: &str) -> Principal {
    let segment = match TextPattern::of(value) {
        TextPattern::Exact(name) => escaped(name),
        TextPattern::Prefix(prefix) => format!("{}[^/]*", escaped(prefix)),
        TextPattern::Suffix(suffix) => format!("[^/]*{}", escaped(suffix)),
        TextPattern::Present => "[^/]+".to_owned(),
    };
    has(regex(format!("{}[^/]+/ns/{segment}/sa/[^/]+", escaped(SCHEME))))
}

/// Clients with an account `namespace/account`, in any trust domain that may call at all.
pub(super) fn account(value: &str) -> Option<Principal> {
    let (namespace, account) = value.split_once('/')?;
    let id = format!("{}[^/]+/ns/{}/sa/{}", escaped(SCHEME), escaped(namespace), escaped(account));
    Some(has(regex(id)))
}

/// Whether a client has shown a certificate with such an id.
fn has(pattern: MatchPattern) -> Principal {
    let name = StringMatcher { match_pattern: Some(pattern), ignore_case: false };
    principal::Identifier::Authenticated(principal::Authenticated { principal_name: Some(name) }).into_term()
}

/// An expression that a whole text must match.
pub(super) fn regex(regex: String) -> MatchPattern {
    MatchPattern::SafeRegex(RegexMatcher { regex, ..Default::default() })
}

/// A text that means itself in an expression.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii_punctuation() {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}
