//! Which credentials a cluster id stands for: pure arbitration between Secrets or files.

mod rehearsal;

use std::collections::{BTreeMap, BTreeSet};

use super::kubeconfig::RemoteKubeconfig;
use super::problems::Problems;
use crate::model::{ClusterId, Quirk, Quirks};

pub use rehearsal::Rehearsal;

/// A Secret or a file. Ordered by age, then name: the first claims first (K-34).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Source {
    /// Seconds since the epoch; 0 for files.
    pub(super) created: i64,
    /// `secret namespace/name` or `file PATH`.
    pub(super) name: String,
}

/// What a source says now.
#[derive(Clone, Debug)]
pub(super) enum Claims {
    /// These clusters; `Err` is a claim that cannot be used, with the reason.
    Of(BTreeMap<ClusterId, Result<RemoteKubeconfig, String>>),
    /// The source as a whole cannot be read: what it claimed before stands (R1.12).
    Unreadable(String),
    /// The source is gone.
    Gone,
}

/// Who wins when nobody holds a cluster yet and several claim it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contest {
    /// The first source (R1.3).
    First,
    /// Nobody, until one gives way (R1.12).
    Nobody,
}

/// What is to be done.
#[derive(Clone, Debug)]
pub(super) enum Action {
    /// Start a cluster, or exchange its credentials.
    Run(ClusterId, String, RemoteKubeconfig),
    /// Remove a cluster.
    Remove(ClusterId),
}

/// Every claim and its winner.
#[derive(Debug)]
pub(super) struct Roster {
    contest: Contest,
    quirks: Quirks,
    /// Ids nobody may claim: the config cluster's (R1.4).
    reserved: BTreeSet<ClusterId>,
    claims: BTreeMap<Source, BTreeMap<ClusterId, RemoteKubeconfig>>,
    /// The source and the hash of what runs.
    running: BTreeMap<ClusterId, (Source, u128)>,
}

impl Roster {
    pub(super) fn new(contest: Contest, reserved: impl IntoIterator<Item = ClusterId>) -> Self {
        Self {
            contest,
            quirks: Quirks::OURS,
            reserved: reserved.into_iter().collect(),
            claims: BTreeMap::new(),
            running: BTreeMap::new(),
        }
    }

    /// The same, with the peer's answers in these rows.
    pub(super) fn with_quirks(self, quirks: Quirks) -> Self {
        Self { quirks, ..self }
    }

    /// Takes in what sources say and settles every cluster anew. Problems are told by subject.
    pub(super) fn update(
        &mut self,
        news: impl IntoIterator<Item = (Source, Claims)>,
        problems: &Problems,
    ) -> Vec<Action> {
        for (source, claims) in news {
            let subject = source.name.clone();
            match claims {
                Claims::Of(claims) => {
                    problems.clear_unless(|other| !is_about(other, &subject));
                    self.claim(source, claims, problems);
                }
                Claims::Unreadable(reason) => {
                    problems.set(subject, format!("{reason}; what it said before stands"));
                }
                Claims::Gone => {
                    problems.clear_unless(|other| !is_about(other, &subject));
                    self.claims.retain(|other, _| other.name != source.name);
                }
            }
        }
        self.settle(problems)
    }

    /// R1.5, R1.6: a claim that cannot be used leaves the one before it in place.
    fn claim(
        &mut self,
        source: Source,
        claims: BTreeMap<ClusterId, Result<RemoteKubeconfig, String>>,
        problems: &Problems,
    ) {
        let before = self.claims.keys().find(|other| other.name == source.name).cloned();
        let mut before = before.and_then(|key| self.claims.remove(&key)).unwrap_or_default();
        let mut now = BTreeMap::new();
        for (id, claim) in claims {
            if self.reserved.contains(&id) || self.is_ignored(&id, &source) {
                continue;
            }
            match (claim, before.remove(&id)) {
                (Ok(kubeconfig), _) => {
                    now.insert(id, kubeconfig);
                }
                (Err(reason), Some(old)) => {
                    let text = format!("{reason}; the cluster keeps running with what it had");
                    problems.set(format!("{}, cluster {id}", source.name), text);
                    now.insert(id, old);
                }
                (Err(reason), None) => {
                    problems.set(format!("{}, cluster {id}", source.name), reason);
                }
            }
        }
        self.claims.insert(source, now);
    }

    /// Q1: a claim to a cluster that another source holds is forgotten, until it is made again.
    fn is_ignored(&self, id: &ClusterId, source: &Source) -> bool {
        let held = self.running.get(id).is_some_and(|(holder, _)| holder.name != source.name);
        held && self.quirks.has(Quirk::Q1)
    }

    fn settle(&mut self, problems: &Problems) -> Vec<Action> {
        let claimed = self.claims.values().flat_map(BTreeMap::keys);
        let ids: BTreeSet<ClusterId> = claimed.chain(self.running.keys()).cloned().collect();
        ids.into_iter().filter_map(|id| self.settle_one(&id, problems)).collect()
    }

    fn settle_one(&mut self, id: &ClusterId, problems: &Problems) -> Option<Action> {
        let claimants: Vec<_> =
            self.claims.iter().filter_map(|(source, claims)| Some((source, claims.get(id)?))).collect();
        let running = self.running.get(id);
        let holder =
            claimants.iter().find(|(source, _)| running.is_some_and(|(own, _)| own.name == source.name));
        let winner = match (holder, claimants.as_slice(), self.contest) {
            (Some(holder), ..) => Some(*holder),
            (None, [], _) => None,
            (None, [only], _) => Some(*only),
            (None, [first, ..], Contest::First) => Some(*first),
            (None, _, Contest::Nobody) => {
                let names: Vec<_> = claimants.iter().map(|(source, _)| source.name.as_str()).collect();
                let text =
                    format!("claimed by {}; nothing is changed until one of them goes", names.join(" and "));
                problems.set(contest_subject(id), text);
                return None;
            }
        };
        let Some((source, kubeconfig)) = winner else {
            problems.clear(&contest_subject(id));
            return self.running.remove(id).map(|_| Action::Remove(id.clone()));
        };
        let losers: Vec<_> = claimants.iter().filter(|(other, _)| *other != source).collect();
        if losers.is_empty() {
            problems.clear(&contest_subject(id));
        } else {
            let names: Vec<_> = losers.iter().map(|(source, _)| source.name.as_str()).collect();
            let text = format!("{} is used; also claimed by {}", source.name, names.join(" and "));
            problems.set(contest_subject(id), text);
        }
        let same = running.is_some_and(|(_, hash)| *hash == kubeconfig.hash);
        let action = (!same).then(|| Action::Run(id.clone(), source.name.clone(), kubeconfig.clone()));
        self.running.insert(id.clone(), (source.clone(), kubeconfig.hash));
        action
    }
}

fn contest_subject(id: &ClusterId) -> String {
    format!("cluster {id}, sources")
}

/// Whether a problem is about this source or one of its keys.
fn is_about(subject: &str, source: &str) -> bool {
    subject.strip_prefix(source).is_some_and(|rest| rest.is_empty() || rest.starts_with(", "))
}

#[cfg(test)]
mod tests;
