//! Which credentials a cluster id stands for: pure arbitration between Secrets or files.

mod rehearsal;

use std::collections::{BTreeMap, BTreeSet, HashMap};

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

/// Who wins when several claim a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contest {
    /// The first source, by age and name (R1.3, K-34).
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
    /// By the names of sources.
    claims: HashMap<String, Claimed>,
    /// Who has usable credentials of a cluster.
    claimants: BTreeMap<ClusterId, BTreeSet<Source>>,
    running: BTreeMap<ClusterId, Running>,
    /// Sources that cannot be read now.
    unread: BTreeSet<String>,
}

/// What one source claims.
#[derive(Debug, Default)]
struct Claimed {
    created: i64,
    clusters: BTreeMap<ClusterId, RemoteKubeconfig>,
    /// Clusters that it names without credentials that can be used.
    refused: BTreeSet<ClusterId>,
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
            claims: HashMap::new(),
            claimants: BTreeMap::new(),
            running: BTreeMap::new(),
            unread: BTreeSet::new(),
        }
    }

    /// The same, with the peer's answers in these rows.
    pub(super) fn with_quirks(self, quirks: Quirks) -> Self {
        Self { quirks, ..self }
    }

    /// Takes in what sources say and settles anew the clusters that they name or named. Problems are told by
    /// subject.
    pub(super) fn update(
        &mut self,
        news: impl IntoIterator<Item = (Source, Claims)>,
        problems: &Problems,
    ) -> Vec<Action> {
        let mut touched = BTreeSet::new();
        for (source, claims) in news {
            let subject = source.name.clone();
            if let Claims::Unreadable(reason) = claims {
                let stands =
                    if self.claims.contains_key(&subject) { "; what it said before stands" } else { "" };
                problems.set(&*subject, format!("{reason}{stands}"));
                self.unread.insert(subject);
                continue;
            }
            self.unread.remove(&subject);
            problems.clear_unless(|other| !is_about(other, &subject));
            let before = self.forget(&source.name);
            touched.extend(before.clusters.keys().cloned());
            if let Claims::Of(claims, options) = claims {
                touched.extend(claims.keys().cloned());
                self.claim(source, claims, options, before.clusters, problems);
            }
        }
        touched.into_iter().filter_map(|id| self.settle(&id, problems)).collect()
    }

    /// Whether any source names this cluster, with credentials or without; a source that was never read may.
    pub(super) fn names(&self, id: &ClusterId) -> bool {
        let unknown = |name: &String| !self.claims.contains_key(name);
        self.claims.values().any(|claimed| claimed.clusters.contains_key(id) || claimed.refused.contains(id))
            || self.unread.iter().any(unknown)
    }

    /// Takes a source out of every index; gives what it claimed.
    fn forget(&mut self, name: &str) -> Claimed {
        let before = self.claims.remove(name).unwrap_or_default();
        let source = Source { created: before.created, name: name.to_owned() };
        for id in before.clusters.keys() {
            if let Some(claimants) = self.claimants.get_mut(id) {
                claimants.remove(&source);
                if claimants.is_empty() {
                    self.claimants.remove(id);
                }
            }
        }
        before
    }

    /// R1.5, R1.6: a claim that cannot be used leaves the one before it in place.
    fn claim(
        &mut self,
        source: Source,
        claims: BTreeMap<ClusterId, Result<RemoteKubeconfig, String>>,
        options: Texts,
        mut before: BTreeMap<ClusterId, RemoteKubeconfig>,
        problems: &Problems,
    ) {
        if claims.is_empty() {
            problems.set(
                source.name.clone(),
                "has no data: each key is the id of a cluster, its value a kubeconfig",
            );
        }
        let mut now = Claimed { created: source.created, options, ..Claimed::default() };
        for (id, claim) in claims {
            if self.reserved.contains(&id) {
                problems.set(format!("{}, cluster {id}", source.name), reserved(&id));
                continue;
            }
            if self.is_ignored(&id, &source) {
                continue;
            }
            match (claim, before.remove(&id)) {
                (Ok(kubeconfig), _) => {
                    now.clusters.insert(id, kubeconfig);
                }
                (Err(reason), Some(old)) => {
                    let text = format!("{reason}; the cluster keeps running with what it had");
                    problems.set(format!("{}, cluster {id}", source.name), text);
                    now.clusters.insert(id, old);
                }
                (Err(reason), None) => {
                    problems.set(format!("{}, cluster {id}", source.name), reason);
                    now.refused.insert(id);
                }
            }
        }
        for id in now.clusters.keys() {
            self.claimants.entry(id.clone()).or_default().insert(source.clone());
        }
        self.claims.insert(source.name, now);
    }

    /// Q1: a claim to a cluster that another source holds is forgotten, until it is made again.
    fn is_ignored(&self, id: &ClusterId, source: &Source) -> bool {
        let held = self.running.get(id).is_some_and(|now| now.source.name != source.name);
        held && self.quirks.has(Quirk::Q1)
    }

    /// Who speaks for a cluster. Of Secrets the oldest does, then the first by name, whatever came first (K-34);
    /// where ages are not known, whoever speaks for it already.
    fn winner(&self, id: &ClusterId) -> Winner<'_> {
        let Some(claimants) = self.claimants.get(id) else {
            return Winner::Nobody;
        };
        let holder = self.running.get(id).and_then(|own| claimants.get(&own.source));
        let ages = self.contest == Contest::First && !self.quirks.has(Quirk::Q1);
        match (holder, self.contest) {
            (Some(holder), _) if !ages || holder.created == 0 => Winner::Is(holder),
            (Some(holder), _) => {
                Winner::Is(claimants.iter().find(|other| other.created != 0).unwrap_or(holder))
            }
            (None, Contest::Nobody) if claimants.len() > 1 => Winner::Open,
            (None, _) => claimants.first().map_or(Winner::Nobody, Winner::Is),
        }
    }

    fn settle(&mut self, id: &ClusterId, problems: &Problems) -> Option<Action> {
        let source = match self.winner(id) {
            Winner::Is(source) => source.clone(),
            Winner::Nobody => {
                problems.clear(&contest_subject(id));
                return self.running.remove(id).map(|_| Action::Remove(id.clone()));
            }
            Winner::Open => {
                let names = self.rivals(id, None);
                let text = format!("claimed by {names}; nothing is changed until one of them goes");
                problems.set(contest_subject(id), text);
                return None;
            }
        };
        match self.rivals(id, Some(&source)) {
            names if names.is_empty() => problems.clear(&contest_subject(id)),
            names => {
                let text = format!("{} is used; also claimed by {names}", source.name);
                problems.set(contest_subject(id), text);
            }
        }
        let claimed = self.claims.get(&source.name)?;
        let (kubeconfig, options) = (claimed.clusters.get(id)?, claimed.options.clone());
        let name = source.name.clone();
        let run = || Some(Action::Run(id.clone(), name.clone(), kubeconfig.clone(), options.clone()));
        let action = match self.running.get(id) {
            Some(now) if now.hash == kubeconfig.hash => {
                let told = now.options == options && now.source.name == name;
                (!told).then(|| Action::Tell(id.clone(), name.clone(), options.clone()))
            }
            _ => run(),
        };
        let hash = kubeconfig.hash;
        self.running.insert(id.clone(), Running { source, hash, options });
        action
    }

    /// Everybody else who claims a cluster.
    fn rivals(&self, id: &ClusterId, winner: Option<&Source>) -> String {
        let all = self.claimants.get(id).into_iter().flatten();
        let names: Vec<_> = all.filter(|source| winner != Some(source)).map(|source| &*source.name).collect();
        names.join(" and ")
    }
}

/// Who speaks for a cluster.
enum Winner<'a> {
    Is(&'a Source),
    Nobody,
    /// Several claim it, and it is not for us to choose (R1.12).
    Open,
}

/// What is said of a claim to the config cluster's id (R1.4).
fn reserved(id: &ClusterId) -> String {
    format!(
        "not used: {id} is the id of the config cluster (--cluster-id); give the remote cluster another, as the key of its \
         Secret or the name of the cluster in its file"
    )
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
