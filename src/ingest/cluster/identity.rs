//! Which cluster answers: the uid of its `kube-system` namespace (K-20, K-35).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::ingest::problems::Problems;
use crate::model::{ClusterId, Name};

/// What a uid told of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::ingest) enum Verdict {
    /// Not known before.
    First,
    /// As before.
    Same,
    /// Another cluster answers in its place.
    Other,
}

/// The uids of all clusters of the process. A pin outlives credentials, and ends with the cluster.
#[derive(Debug)]
pub(in crate::ingest) struct Identities {
    pins: Mutex<BTreeMap<ClusterId, Pin>>,
    problems: Arc<Problems>,
}

/// Which cluster it was.
#[derive(Clone, Debug, Default)]
struct Pin {
    uid: Name,
    /// A snapshot says so, and nobody was heard since.
    recalled: bool,
}

impl Identities {
    pub(in crate::ingest) fn new(problems: Arc<Problems>) -> Self {
        Self { pins: Mutex::default(), problems }
    }

    /// The pinned uid; empty while none is known.
    pub(in crate::ingest) fn pin(&self, cluster: &ClusterId) -> Name {
        let pins = self.pins.lock().unwrap_or_else(PoisonError::into_inner);
        pins.get(cluster).map(|pin| pin.uid.clone()).unwrap_or_default()
    }

    /// A snapshot says which cluster it was; what was heard since says more.
    pub(in crate::ingest) fn recall(&self, cluster: &ClusterId, uid: Name) {
        if self.pin(cluster).is_empty() {
            self.set(cluster, Pin { uid, recalled: true });
        }
    }

    /// Compares a uid with the pinned one; a first one is pinned.
    pub(in crate::ingest) fn check(&self, cluster: &ClusterId, uid: &Name) -> Verdict {
        let mut pins = self.pins.lock().unwrap_or_else(PoisonError::into_inner);
        match pins.get_mut(cluster) {
            _ if uid.is_empty() => Verdict::Same,
            Some(pin) if pin.uid == *uid => {
                pin.recalled = false;
                Verdict::Same
            }
            Some(_) => Verdict::Other,
            None => {
                drop(pins);
                self.set(cluster, Pin { uid: uid.clone(), recalled: false });
                Verdict::First
            }
        }
    }

    /// Pins the uid of the cluster that took another one's place, and raises the alarm (K-20). It stays until
    /// the cluster is configured anew.
    pub(in crate::ingest) fn replace(&self, cluster: &ClusterId, uid: &Name) {
        let pin = self.pins.lock().unwrap_or_else(PoisonError::into_inner).get(cluster).cloned();
        let Pin { uid: before, recalled } = pin.unwrap_or_default();
        let (when, what) = match recalled {
            true => (" before the restart", "Nothing of its snapshot is served any more"),
            false => ("", "What it lists replaced what was served"),
        };
        self.problems.set(
            format!("cluster {cluster}, identity"),
            format!(
                "another cluster answers in its place: the uid of kube-system was {before}{when} and is {uid}. \
                 {what}; check the server address, or give it an id of its own"
            ),
        );
        self.set(cluster, Pin { uid: uid.clone(), recalled: false });
    }

    /// Forgets a cluster that was removed.
    pub(in crate::ingest) fn forget(&self, cluster: &ClusterId) {
        self.set(cluster, Pin::default());
    }

    fn set(&self, cluster: &ClusterId, pin: Pin) {
        let mut pins = self.pins.lock().unwrap_or_else(PoisonError::into_inner);
        let uid = pin.uid.clone();
        let before = match uid.is_empty() {
            true => pins.remove(cluster),
            false => pins.insert(cluster.clone(), pin),
        };
        self.problems.clear(&twin_subject(cluster));
        for uid in before.into_iter().map(|pin| pin.uid).chain([uid]) {
            self.tell_twins(&pins, &uid);
        }
    }

    /// K-35: they are served as two clusters, and each says so.
    fn tell_twins(&self, pins: &BTreeMap<ClusterId, Pin>, uid: &Name) {
        let twins: Vec<_> = pins.iter().filter(|(_, other)| other.uid == *uid).map(|(id, _)| id).collect();
        for id in &twins {
            let others: Vec<_> = twins.iter().filter(|other| other != &id).map(|id| id.as_str()).collect();
            if others.is_empty() {
                self.problems.clear(&twin_subject(id));
            } else {
                let text = format!(
                    "is the same cluster as {}: its endpoints are served once for each id; remove one of them",
                    others.join(" and ")
                );
                self.problems.set(twin_subject(id), text);
            }
        }
    }
}

fn twin_subject(cluster: &ClusterId) -> String {
    format!("cluster {cluster}, twin")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subjects(problems: &Problems) -> Vec<String> {
        problems.all().into_iter().map(|problem| problem.subject).collect()
    }

    #[test]
    fn k35_two_ids_for_one_api_server_are_told_until_one_goes() {
        let problems = Arc::<Problems>::default();
        let identities = Identities::new(Arc::clone(&problems));
        let (a, b) = (ClusterId::from("a"), ClusterId::from("b"));
        assert_eq!(identities.check(&a, &"u1".into()), Verdict::First);
        assert_eq!(identities.check(&b, &"u1".into()), Verdict::First);
        assert_eq!(identities.check(&b, &"u1".into()), Verdict::Same);
        assert_eq!(subjects(&problems), ["cluster a, twin", "cluster b, twin"]);
        assert!(problems.all()[0].text.contains("same cluster as b"));
        identities.forget(&b);
        assert_eq!(subjects(&problems), [""; 0]);
        assert_eq!(identities.check(&b, &"u2".into()), Verdict::First, "a pin ends with its cluster");
        assert_eq!(subjects(&problems), [""; 0]);
    }

    #[test]
    fn k20_another_uid_is_another_cluster_and_unreadable_ones_say_nothing() {
        let problems = Arc::<Problems>::default();
        let identities = Identities::new(Arc::clone(&problems));
        let a = ClusterId::from("a");
        identities.check(&a, &"u1".into());
        assert_eq!(identities.check(&a, &"".into()), Verdict::Same);
        assert_eq!(identities.check(&a, &"u2".into()), Verdict::Other);
        assert_eq!(identities.pin(&a), "u1".into(), "the pin stays until the swap is done");
        identities.replace(&a, &"u2".into());
        assert_eq!(identities.check(&a, &"u2".into()), Verdict::Same);
        assert_eq!(subjects(&problems), ["cluster a, identity"]);
    }
}
