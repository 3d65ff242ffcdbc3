//! What values say about the identity of a client: the SPIFFE id of its certificate.
//!
//! Namespaces and accounts are compared with whole segments of an id, so that none can be taken for another. Only what
//! all ids have in common is an expression: Envoy limits the size of those, and names are long.

use std::collections::BTreeSet;

use envoy_types::pb::envoy::config::rbac::v3::{Principal, principal};
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::envoy::r#type::matcher::v3::{RegexMatcher, StringMatcher};

use super::terms::{IntoTerm, Term};
use crate::model::Name;
use crate::model::policy::TextPattern;

/// How ids begin.
const SCHEME: &str = "spiffe://";
/// What ids look like.
const SHAPE: &str = "spiffe://[^/]+/ns/[^/]+/sa/[^/]+";
/// Policies write this for the mesh's own trust domain, whatever that is.
const OWN_DOMAIN: &str = "cluster.local";

/// `td/ns/namespace/sa/account`. The mesh's own trust domain (the first of `trust_domains`, or `cluster.local`) and
/// its aliases mean each other; the trust domain of another mesh or cluster means itself. Widely meant, a value also
/// means itself: `cluster.local` may be that of a cluster beside the mesh's own (D34).
pub(super) fn principal(value: &str, wide: bool, trust_domains: &[Name]) -> Principal {
    let mut values = BTreeSet::from([value.to_owned()]);
    if let Some((domain, path)) = value.split_once('/') {
        let own = trust_domains.iter().any(|own| names(domain, own));
        if own || domain == OWN_DOMAIN {
            let wildcard = domain.starts_with('*');
            values.retain(|_| wildcard || wide);
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
        TextPattern::Suffix(suffix) => Term::all_of(vec![
            has(MatchPattern::Prefix(SCHEME.to_owned())),
            has(MatchPattern::Suffix(suffix.to_owned())),
        ]),
        TextPattern::Present => has(MatchPattern::Prefix(SCHEME.to_owned())),
    }
}

/// Clients of a namespace, in any trust domain that may call at all.
pub(super) fn namespace(value: &str) -> Principal {
    let mut terms = vec![has(regex(SHAPE.to_owned()))];
    let within = |text: String| has(MatchPattern::Contains(text));
    // Segments named `ns` and `sa` could be taken for the fixed ones: one namespace each, which is left out.
    let except = |namespace: &str| Principal::none_of(within(format!("/ns/{namespace}/sa/")));
    match TextPattern::of(value) {
        TextPattern::Exact(name) => terms.push(within(format!("/ns/{name}/sa/"))),
        TextPattern::Prefix(prefix) => {
            terms.push(within(format!("/ns/{prefix}")));
            terms.extend((!"ns".starts_with(prefix)).then(|| except("ns")));
        }
        TextPattern::Suffix(suffix) => {
            terms.push(within(format!("{suffix}/sa/")));
            terms.extend((!"sa".ends_with(suffix)).then(|| except("sa")));
        }
        TextPattern::Present => {}
    }
    Term::all_of(terms)
}

/// Clients with an account `namespace/account`, in any trust domain that may call at all.
pub(super) fn account(value: &str) -> Option<Principal> {
    let (namespace, account) = value.split_once('/')?;
    let end = MatchPattern::Suffix(format!("/ns/{namespace}/sa/{account}"));
    Some(Term::all_of(vec![has(regex(SHAPE.to_owned())), has(end)]))
}

/// Whether a client has shown a certificate with such an id.
fn has(pattern: MatchPattern) -> Principal {
    let name = StringMatcher { match_pattern: Some(pattern), ignore_case: false };
    principal::Identifier::Authenticated(principal::Authenticated { principal_name: Some(name) }).into_term()
}

/// An expression that a whole text must match. Envoy refuses expressions that make large programs: no name of a
/// policy belongs into one.
pub(super) fn regex(regex: String) -> MatchPattern {
    MatchPattern::SafeRegex(RegexMatcher { regex, ..Default::default() })
}
