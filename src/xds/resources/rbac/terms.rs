//! Conditions that are built of others: permissions and principals alike.

use envoy_types::pb::envoy::config::rbac::v3::{Permission, Principal, permission, principal};

/// A condition of an RBAC policy.
pub(super) trait Term: Clone + Sized {
    /// Always holds.
    fn anything() -> Self;
    /// All of at least two hold.
    fn and(terms: Vec<Self>) -> Self;
    /// One of at least two holds.
    fn or(terms: Vec<Self>) -> Self;
    /// It does not hold.
    fn none_of(term: Self) -> Self;

    /// All hold; none at all always does.
    fn all_of(mut terms: Vec<Self>) -> Self {
        match terms.len() {
            0 => Self::anything(),
            1 => terms.remove(0),
            _ => Self::and(terms),
        }
    }

    /// One of at least one holds.
    fn one_of(mut terms: Vec<Self>) -> Self {
        match terms.len() {
            1 => terms.remove(0),
            _ => Self::or(terms),
        }
    }
}

impl Term for Permission {
    fn anything() -> Self {
        permission::Rule::Any(true).into_term()
    }

    fn and(rules: Vec<Self>) -> Self {
        permission::Rule::AndRules(permission::Set { rules }).into_term()
    }

    fn or(rules: Vec<Self>) -> Self {
        permission::Rule::OrRules(permission::Set { rules }).into_term()
    }

    fn none_of(rule: Self) -> Self {
        permission::Rule::NotRule(Box::new(rule)).into_term()
    }
}

impl Term for Principal {
    fn anything() -> Self {
        principal::Identifier::Any(true).into_term()
    }

    fn and(ids: Vec<Self>) -> Self {
        principal::Identifier::AndIds(principal::Set { ids }).into_term()
    }

    fn or(ids: Vec<Self>) -> Self {
        principal::Identifier::OrIds(principal::Set { ids }).into_term()
    }

    fn none_of(id: Self) -> Self {
        principal::Identifier::NotId(Box::new(id)).into_term()
    }
}

/// What a term says, as a term.
pub(super) trait IntoTerm {
    /// The term.
    type Term;
    /// Wraps it.
    fn into_term(self) -> Self::Term;
}

impl IntoTerm for permission::Rule {
    type Term = Permission;

    fn into_term(self) -> Permission {
        Permission { rule: Some(self) }
    }
}

impl IntoTerm for principal::Identifier {
    type Term = Principal;

    fn into_term(self) -> Principal {
        Principal { identifier: Some(self) }
    }
}
