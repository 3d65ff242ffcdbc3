//! Which credentials a cluster id stands for: pure arbitration between Secrets or files.

mod rehearsal;

use std::collections::{BTreeMap, BTreeSet};

use super::kubeconfig::RemoteKubeconfig;
use super::options::Texts;
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
    /// These clusters; `Err` is a claim that cannot be used, with the reason. And what is said of all of them.
    Of(BTreeMap<ClusterId, Result<RemoteKubeconfig, String>>, Texts),
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
    Run(ClusterId, String, RemoteKubeconfig, Texts),
    /// Other options, or another source with the same credentials: watches stay as they are (R1.5).
    Tell(ClusterId, String, Texts),
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
    claims: BTreeMap<Source, Claimed>,
    running: BTreeMap<ClusterId, Running>,
}

/// What one source claims.
#[derive(Debug, Default)]
struct Claimed {
    clusters: BTreeMap<ClusterId, RemoteKubeconfig>,
    options: Texts,
}

/// What was last made of a cluster's claims.
#[derive(Debug)]
struct Running {
    source: Source,
    /// Of the credentials.
    hash: u128,
    options: Texts,
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
                Claims::Of(claims, options) => {
                    problems.clear_unless(|other| !is_about(other, &subject));
                    self.claim(source, claims, options, problems);
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
        options: Texts,
        problems: &Problems,
    ) {
        let before = self.claims.keys().find(|other| other.name == source.name).cloned();
        let mut before = before.and_then(|key| self.claims.remove(&key)).unwrap_or_default().clusters;
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
        self.claims.insert(source, Claimed { clusters: now, options });
    }

    /// Q1: a claim to a cluster that another source holds is forgotten, until it is made again.
    fn is_ignored(&self, id: &ClusterId, source: &Source) -> bool {
        let held = self.running.get(id).is_some_and(|now| now.source.name != source.name);
        held && self.quirks.has(Quirk::Q1)
    }

    fn settle(&mut self, problems: &Problems) -> Vec<Action> {
        let claimed = self.claims.values().flat_map(|claimed| claimed.clusters.keys());
        let ids: BTreeSet<ClusterId> = claimed.chain(self.running.keys()).cloned().collect();
        ids.into_iter().filter_map(|id| self.settle_one(&id, problems)).collect()
    }

    fn settle_one(&mut self, id: &ClusterId, problems: &Problems) -> Option<Action> {
        let claimants = self.claims.iter();
        let claimants: Vec<_> =
            claimants.filter_map(|(source, claimed)| Some((source, claimed.clusters.get(id)?))).collect();
        let running = self.running.get(id);
        let holder =
            claimants.iter().find(|(source, _)| running.is_some_and(|own| own.source.name == source.name));
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
        let options = self.claims.get(source).map(|claimed| claimed.options.clone()).unwrap_or_default();
        let next = Running { source: source.clone(), hash: kubeconfig.hash, options };
        let name = source.name.clone();
        let action = match running {
            Some(now) if now.hash != next.hash => {
                Some(Action::Run(id.clone(), name, kubeconfig.clone(), next.options.clone()))
            }
            Some(now) if now.options != next.options || now.source.name != name => {
                Some(Action::Tell(id.clone(), name, next.options.clone()))
            }
            Some(_) => None,
            None => Some(Action::Run(id.clone(), name, kubeconfig.clone(), next.options.clone())),
        };
        self.running.insert(id.clone(), next);
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
