//! How long removals of a doubted list wait, and what is said meanwhile (K-21).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::ingest::objects::ObjectKind;
use crate::ingest::problems::Problems;
use crate::ingest::staging::HeldBack;
use crate::model::ClusterId;

/// A list that takes most of a cluster away is asked for again after this time.
pub(in crate::ingest) const CONFIRM_AFTER: Duration = Duration::from_secs(30);

/// Removals that wait, by kind.
#[derive(Debug)]
pub(super) struct Holds {
    cluster: ClusterId,
    problems: Arc<Problems>,
    waiting: BTreeMap<ObjectKind, Hold>,
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
        for kind in ObjectKind::ALL {
            problems.clear(&subject(cluster, kind));
        }
        Self { cluster: cluster.clone(), problems: Arc::clone(problems), waiting: BTreeMap::new() }
    }

    /// Takes over what staging holds back now. A further doubted list does not begin the wait anew.
    pub(super) fn update(&mut self, held_back: &[(ObjectKind, HeldBack)], now: Instant) {
        let Self { cluster, problems, waiting } = self;
        waiting.retain(|kind, _| {
            let still = held_back.iter().any(|(held, _)| held == kind);
            if !still {
                problems.clear(&subject(cluster, *kind));
            }
            still
        });
        for (kind, held_back) in held_back {
            let hold = waiting.entry(*kind).or_insert(Hold { serial: 0, until: Some(now + CONFIRM_AFTER) });
            if hold.serial != held_back.serial {
                hold.serial = held_back.serial;
                problems.set(subject(cluster, *kind), text(*kind, *held_back));
            }
        }
    }

    /// When the next second list is to be asked for.
    pub(super) fn due(&self) -> Option<Instant> {
        self.waiting.values().filter_map(|hold| hold.until).min()
    }

    /// Kinds whose second list is to be asked for now; each is told once.
    pub(super) fn ripe(&mut self, now: Instant) -> Vec<ObjectKind> {
        let ripe = self.waiting.iter_mut().filter(|(_, hold)| hold.until.is_some_and(|until| until <= now));
        ripe.map(|(kind, hold)| {
            hold.until = None;
            *kind
        })
        .collect()
    }
}

fn subject(cluster: &ClusterId, kind: ObjectKind) -> String {
    format!("cluster {cluster}, {}s", kind.name())
}

fn text(kind: ObjectKind, held_back: HeldBack) -> String {
    format!(
        "a list without delete events lacks {} of them and {} endpoints that hang on {}s: held back and asked \
         for again after {}s; --mass-delete-guard off believes it at once",
        held_back.objects,
        held_back.endpoints,
        kind.name(),
        CONFIRM_AFTER.as_secs(),
    )
}
