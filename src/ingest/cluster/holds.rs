//! How long removals of a doubted list wait, and what is said meanwhile (K-21).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::ingest::objects::ObjectKind;
use crate::ingest::problems::Problems;
use crate::ingest::staging::{HeldBack, Scope};
use crate::model::ClusterId;

/// A list that takes most of a cluster away is asked for again after this time.
pub(in crate::ingest) const CONFIRM_AFTER: Duration = Duration::from_secs(30);

/// What follows the kind in the subject of a problem with a part of it.
const OF_NAMESPACE: &str = " of namespace ";

/// Removals that wait, by kind and the part of it that was listed.
#[derive(Debug)]
pub(super) struct Holds {
    cluster: ClusterId,
    problems: Arc<Problems>,
    waiting: BTreeMap<(ObjectKind, Scope), Hold>,
}

#[derive(Debug)]
struct Hold {
    serial: u64,
    /// `None` once the second list was asked for.
    until: Option<Instant>,
}

impl Holds {
    /// None yet; what whoever served before held back is moot.
    pub(super) fn new(cluster: &ClusterId, problems: &Arc<Problems>) -> Self {
        let all = ObjectKind::ALL.map(|kind| subject(cluster, kind, &None));
        let is_ours = |other: &str, subject: &String| {
            other
                .strip_prefix(&**subject)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(OF_NAMESPACE))
        };
        problems.clear_unless(|other| !all.iter().any(|subject| is_ours(other, subject)));
        Self { cluster: cluster.clone(), problems: Arc::clone(problems), waiting: BTreeMap::new() }
    }

    /// Takes over what staging holds back now. A further doubted list does not begin the wait anew.
    pub(super) fn update(&mut self, held_back: &[(ObjectKind, HeldBack)], now: Instant) {
        let Self { cluster, problems, waiting } = self;
        waiting.retain(|(kind, scope), _| {
            let still = held_back.iter().any(|(held, one)| held == kind && one.scope == *scope);
            if !still {
                problems.clear(&subject(cluster, *kind, scope));
            }
            still
        });
        for (kind, held_back) in held_back {
            let begun = || Hold { serial: 0, until: Some(now + CONFIRM_AFTER) };
            let hold = waiting.entry((*kind, held_back.scope.clone())).or_insert_with(begun);
            if hold.serial != held_back.serial {
                hold.serial = held_back.serial;
                problems.set(subject(cluster, *kind, &held_back.scope), text(*kind, held_back));
            }
        }
    }

    /// When the next second list is to be asked for.
    pub(super) fn due(&self) -> Option<Instant> {
        self.waiting.values().filter_map(|hold| hold.until).min()
    }

    /// What is to be listed again now; each is told once.
    pub(super) fn ripe(&mut self, now: Instant) -> Vec<(ObjectKind, Scope)> {
        let ripe = self.waiting.iter_mut().filter(|(_, hold)| hold.until.is_some_and(|until| until <= now));
        ripe.map(|(listed, hold)| {
            hold.until = None;
            listed.clone()
        })
        .collect()
    }
}

fn subject(cluster: &ClusterId, kind: ObjectKind, scope: &Scope) -> String {
    match scope {
        Some(namespace) => format!("cluster {cluster}, {}{OF_NAMESPACE}{namespace}", kind.plural()),
        None => format!("cluster {cluster}, {}", kind.plural()),
    }
}

fn text(kind: ObjectKind, held_back: &HeldBack) -> String {
    let with = match kind {
        ObjectKind::Namespace | ObjectKind::Gateway => "everything that hangs on them".to_owned(),
        ObjectKind::Node => format!("the localities of {} pods", held_back.endpoints),
        _ => format!("{} endpoints that hang on {}", held_back.endpoints, kind.plural()),
    };
    format!(
        "a list without delete events lacks {} of them and {with}: held back and asked for again after {}s; \
         --mass-delete-guard off believes it at once",
        held_back.objects,
        CONFIRM_AFTER.as_secs(),
    )
}
