//! What operators are told of policies.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use super::form::FORMS;
use super::shelf::Shelf;
use crate::ingest::counts::EventKind;
use crate::ingest::staging::Guard;
use crate::model::Name;
use crate::model::policy::{PolicyId, PolicyKind};
use crate::registry::PolicyObject;

/// Whether the last word of an object can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PolicyState {
    /// It can, and is in use.
    Ok,
    /// It cannot; the last good one is in use, if there was one.
    Invalid,
}

impl PolicyState {
    /// Every state.
    pub const ALL: [Self; 2] = [Self::Ok, Self::Invalid];

    /// Its name, as metrics and pages spell it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Invalid => "invalid",
        }
    }
}

/// One object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyStatus {
    /// Its namespace.
    pub namespace: Name,
    /// Its name.
    pub name: Name,
    /// Seconds since the epoch at which it was created; 0 when not known.
    pub created: i64,
    /// Where what is in use of it is looked for: hosts or a namespace.
    pub scopes: Vec<Name>,
    /// Whether its last word can be read.
    pub state: PolicyState,
    /// Why not.
    pub error: Option<String>,
    /// What of the version in use cannot be done: parts that are left out on the safe side.
    pub problems: Vec<String>,
    /// The revision of its last word, if that is a number.
    pub told: Option<u64>,
    /// The revision of what is in use, if that is a number.
    pub used: Option<u64>,
    /// Whether any version of it is in use.
    pub is_used: bool,
}

/// One kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KindStatus {
    /// Which.
    pub kind: PolicyKind,
    /// Group and version under which it is asked for.
    pub api_version: String,
    /// `listing`, `watched`, `not-served: …`, `failing: …`.
    pub source: String,
    /// Its objects.
    pub objects: Vec<PolicyStatus>,
}

/// What the config cluster says of policies.
#[derive(Clone, Debug, Default)]
pub struct PoliciesTold {
    /// Objects in use, as they were written: VirtualServices without the routes of those they lead on to.
    pub in_use: Vec<PolicyObject>,
    /// Objects of which no version is in use, because they cannot be read.
    pub unread: BTreeSet<(PolicyKind, PolicyId)>,
    /// Kinds of which no complete list was read yet.
    pub unlisted: Vec<PolicyKind>,
}

/// The policies of the config cluster, as they are known at this moment. Shared with those who only look.
#[derive(Debug)]
pub struct Policies(Mutex<BTreeMap<PolicyKind, Kind>>);

/// One kind, and how it is read.
#[derive(Debug)]
pub(super) struct Kind {
    pub(super) shelf: Shelf,
    /// Which of its versions is asked for.
    pub(super) version: usize,
    /// What there is to say of the source, unless it is current.
    pub(super) failure: Option<String>,
}

impl Policies {
    /// None known yet.
    pub(in crate::ingest) fn new(guard: Guard) -> Self {
        let kind = |form| Kind { shelf: Shelf::new(form, guard), version: 0, failure: None };
        Self(Mutex::new(FORMS.iter().map(|form| (form.kind, kind(form))).collect()))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, BTreeMap<PolicyKind, Kind>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every kind that is watched, with its objects. Cost ∝ all policies.
    pub fn all(&self) -> Vec<KindStatus> {
        let kinds = self.lock();
        let rows = FORMS.iter().filter_map(|form| {
            let kind = kinds.get(&form.kind)?;
            let source = match &kind.failure {
                Some(failure) => failure.clone(),
                None if kind.shelf.is_listed() => "watched".to_owned(),
                None => "listing".to_owned(),
            };
            Some(KindStatus {
                kind: form.kind,
                api_version: form.api_version(kind.version),
                source,
                objects: kind.shelf.rows().collect(),
            })
        });
        rows.collect()
    }

    /// What is in use and what is not, at one moment. Cost ∝ all policies.
    pub fn told(&self) -> PoliciesTold {
        let kinds = self.lock();
        let mut told = PoliciesTold::default();
        for (kind, Kind { shelf, .. }) in kinds.iter() {
            if !shelf.is_listed() {
                told.unlisted.push(*kind);
            }
            told.in_use.extend(shelf.in_use().cloned());
            let unread = shelf.rows().filter(|row| !row.is_used);
            told.unread.extend(unread.map(|row| (*kind, PolicyId::new(row.namespace, row.name))));
        }
        told
    }

    /// How many objects of each kind are in each state.
    pub fn counts(&self) -> Vec<(PolicyKind, PolicyState, usize)> {
        let kinds = self.lock();
        let of = |(kind, row): (&PolicyKind, &Kind)| {
            PolicyState::ALL.map(|state| (*kind, state, row.shelf.count(state)))
        };
        kinds.iter().flat_map(of).collect()
    }

    /// How many events of each kind came.
    pub fn events(&self) -> Vec<(PolicyKind, EventKind, u64)> {
        let kinds = self.lock();
        let of = |(kind, row): (&PolicyKind, &Kind)| {
            EventKind::ALL.map(|event| (*kind, event, row.shelf.events(event)))
        };
        kinds.iter().flat_map(of).collect()
    }

    /// Subset names that more than one DestinationRule gives to the same host: the oldest counts.
    pub fn duplicate_subsets(&self) -> usize {
        let kinds = self.lock();
        let Some(rules) = kinds.get(&PolicyKind::DestinationRule) else {
            return 0;
        };
        let mut named: HashMap<&str, HashSet<&str>> = HashMap::new();
        let mut twice = 0;
        for object in rules.shelf.in_use() {
            if let PolicyObject::DestinationRule(rule) = object {
                let names = named.entry(rule.host.as_str()).or_default();
                twice += rule.subsets.iter().filter(|subset| !names.insert(&subset.name)).count();
            }
        }
        twice
    }
}
