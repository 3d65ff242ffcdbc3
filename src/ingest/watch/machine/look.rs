//! Looks at one object by name, which the store itself answers: after etcd was restored under a running API
//! server, lists and watches go on telling the old state, and nothing else shows it (K-19).
//!
//! A restore takes back the latest changes, so it is the latest change that is looked at, deletions included:
//! if it still stands, all before it do. The source with the latest change of a cluster looks often, for all
//! of them; each of the others looks now and then.

use std::time::Instant;

use crate::ingest::objects::ObjectKey;
use crate::ingest::objects::wire::Received;
use crate::ingest::watch::limits::Deadlines;
use crate::ingest::watch::random::Random;
use crate::model::Name;

/// Looks in a row that contradict what is held before that counts.
const WRONG: u32 = 2;

/// One object, as it was told last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) key: ObjectKey,
    uid: Name,
    revision: u64,
    /// That revision deleted it.
    gone: bool,
}

/// What a look found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// What is held is what there is, or came before it.
    Right,
    /// The object is another one, an older one, or not there: once may be chance.
    Doubtful,
    /// Twice is not: a list is due.
    Wrong,
    /// It stays wrong after a list: lists themselves tell an old state.
    Lying,
}

/// The sample of one source and what looks at it showed.
#[derive(Debug, Default)]
pub(super) struct Looks {
    /// Looked at next. It stays until then, so that what follows a restore cannot hide it.
    sample: Option<Sample>,
    /// It was right, or listed: the next change takes its place.
    settled: bool,
    /// The latest change.
    latest: Option<Sample>,
    /// When to look next on behalf of the cluster.
    scout_at: Option<Instant>,
    /// When to look next, whoever else does.
    look_at: Option<Instant>,
    /// The sample that was contradicted before the present list.
    wanted: Option<Sample>,
    wrong: u32,
    /// Times it was wrong without being right in between.
    contradictions: u32,
}

impl Sample {
    fn of<T>(object: &Received<T>) -> Option<Self> {
        if object.key.name.is_empty() {
            return None;
        }
        let (key, uid) = (object.key.clone(), object.uid.clone());
        Some(Self { key, uid, revision: object.revision?, gone: false })
    }

    /// Whether `found` may be what this became.
    fn allows<T>(&self, found: Option<&Received<T>>) -> bool {
        let Some(found) = found else { return self.gone };
        let same = self.gone || self.uid.is_empty() || found.uid.is_empty() || self.uid == found.uid;
        same && found.revision.is_none_or(|revision| revision >= self.revision)
    }
}

impl Looks {
    pub(super) fn list_begins(&mut self) {
        let sample = self.sample.take();
        if self.contradictions > 0 && self.wanted.is_none() {
            self.wanted = sample;
        }
        self.latest = None;
        self.wrong = 0;
    }

    /// One of the listed objects.
    pub(super) fn listed<T>(&mut self, object: &Received<T>) {
        if self.wanted.as_ref().is_some_and(|wanted| wanted.key == object.key) {
            self.sample = Sample::of(object);
        }
        if self.latest.as_ref().map(|latest| latest.revision) < object.revision {
            self.latest = Sample::of(object);
        }
    }

    pub(super) fn list_complete(&mut self, now: Instant, deadlines: &Deadlines, random: &mut Random) {
        // A list without it agrees that it is gone, and may be wrong in that as well.
        let wanted = self.wanted.take().filter(|wanted| wanted.gone);
        self.sample = self.sample.take().or(wanted);
        if self.contradictions > 0 && self.sample.is_some() {
            (self.scout_at, self.look_at) = (Some(now), Some(now));
            return;
        }
        self.contradictions = 0;
        self.renew(now, deadlines, random);
        self.settled = true;
        self.look_at = Some(now + random.between(deadlines.look / 2, deadlines.look));
    }

    /// An object was added or changed.
    pub(super) fn told<T>(&mut self, object: &Received<T>) {
        self.changed(&object.key, Sample::of(object));
    }

    pub(super) fn deleted(&mut self, key: &ObjectKey, revision: Option<u64>) {
        let gone = |revision| Sample { key: key.clone(), uid: Name::default(), revision, gone: true };
        self.changed(key, revision.map(gone));
    }

    fn changed(&mut self, key: &ObjectKey, change: Option<Sample>) {
        let gives_way = self.settled && self.contradictions == 0;
        if gives_way || self.sample.as_ref().is_none_or(|sample| sample.key == *key) {
            self.wrong = 0;
            self.sample.clone_from(&change);
            self.settled = false;
        }
        self.latest = change.or_else(|| self.latest.take().filter(|latest| latest.key != *key));
    }

    /// The object to look at now. `is_latest` says whether no source of the cluster knows of a later change than
    /// this revision.
    pub(super) fn due(
        &mut self,
        now: Instant,
        deadlines: &Deadlines,
        random: &mut Random,
        is_latest: impl FnOnce(u64) -> bool,
    ) -> Option<Sample> {
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let sample = self.sample.as_ref()?;
        if is_due(self.look_at) {
            return Some(sample.clone());
        }
        if !is_due(self.scout_at) {
            return None;
        }
        if is_latest(sample.revision) {
            return Some(sample.clone());
        }
        self.renew(now, deadlines, random);
        None
    }

    /// The latest change is looked at next.
    fn renew(&mut self, now: Instant, deadlines: &Deadlines, random: &mut Random) {
        if self.contradictions == 0 && self.latest.is_some() && self.latest != self.sample {
            self.sample.clone_from(&self.latest);
            self.settled = false;
        }
        let (from, to) = deadlines.scout;
        self.scout_at = Some(now + random.between(from, to));
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.sample.as_ref()?;
        [self.scout_at, self.look_at].into_iter().flatten().min()
    }

    pub(super) fn put_off(&mut self, until: Instant) {
        (self.scout_at, self.look_at) = (Some(until), Some(until));
    }

    /// Lists contradict reads by name.
    pub(super) fn are_lying(&self) -> bool {
        self.contradictions > 1
    }

    /// `found` by looking at `asked`; `None`: it is not there. What changed meanwhile proves nothing.
    pub(super) fn found<T>(
        &mut self,
        now: Instant,
        asked: &Sample,
        found: Option<&Received<T>>,
        deadlines: &Deadlines,
        random: &mut Random,
    ) -> Finding {
        self.look_at = Some(now + random.between(deadlines.look / 2, deadlines.look));
        if self.sample.as_ref() != Some(asked) {
            self.renew(now, deadlines, random);
            return Finding::Doubtful;
        }
        if asked.allows(found) {
            (self.wrong, self.contradictions) = (0, 0);
            self.settled = true;
            self.renew(now, deadlines, random);
            return Finding::Right;
        }
        self.wrong += 1;
        if self.wrong < WRONG {
            self.put_off(now + deadlines.look_again);
            return Finding::Doubtful;
        }
        self.wrong = 0;
        self.contradictions += 1;
        self.scout_at = self.look_at;
        // Every second time: lists may tell the truth again.
        if self.contradictions % 2 == 1 { Finding::Wrong } else { Finding::Lying }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::objects::NamespaceObject;

    type Told = Received<NamespaceObject>;

    fn object(name: &str, revision: u64) -> Told {
        let uid = format!("uid-{name}").as_str().into();
        let object = Err("not looked at".to_owned());
        Told { key: ObjectKey::new("", name), uid, revision: Some(revision), object }
    }

    struct Test {
        looks: Looks,
        random: Random,
        now: Instant,
    }

    impl Test {
        fn listed(objects: &[Told]) -> Self {
            let mut test = Self { looks: Looks::default(), random: Random::new(1), now: Instant::now() };
            test.list(objects);
            test
        }

        fn list(&mut self, objects: &[Told]) {
            self.looks.list_begins();
            objects.iter().for_each(|object| self.looks.listed(object));
            self.looks.list_complete(self.now, &Deadlines::default(), &mut self.random);
        }

        fn due(&mut self, seconds: u64) -> Option<Sample> {
            self.now += std::time::Duration::from_secs(seconds);
            self.looks.due(self.now, &Deadlines::default(), &mut self.random, |_| true)
        }

        fn look(&mut self, found: Option<&Told>) -> Finding {
            let asked = self.due(25).expect("due");
            self.looks.found(self.now, &asked, found, &Deadlines::default(), &mut self.random)
        }
    }

    #[test]
    fn k19_the_latest_change_is_looked_at_and_stays_until_then() {
        let mut test = Test::listed(&[object("a", 3), object("b", 7), object("c", 5)]);
        assert_eq!(test.due(19), None);
        assert_eq!(test.due(6).unwrap().key.name.as_ref(), "b");
        test.looks.told(&object("a", 8));
        test.looks.told(&object("c", 9));
        assert_eq!(test.due(0).unwrap().key.name.as_ref(), "a", "it was not looked at yet");
        assert_eq!(test.look(Some(&object("a", 8))), Finding::Right);
        assert_eq!(test.due(25).unwrap().key.name.as_ref(), "c", "the latest one since");
    }

    #[test]
    fn k19_a_deletion_that_was_taken_back_is_a_contradiction() {
        let mut test = Test::listed(&[object("a", 3), object("b", 7)]);
        test.looks.deleted(&ObjectKey::new("", "b"), Some(9));
        assert_eq!(test.look(None), Finding::Right);
        assert_eq!(test.look(Some(&object("b", 10))), Finding::Right, "made again");
        assert_eq!(test.look(Some(&object("b", 7))), Finding::Doubtful);
        assert_eq!(test.look(Some(&object("b", 7))), Finding::Wrong);
    }

    #[test]
    fn k19_a_list_that_begins_twice_is_still_compared_with_what_was_contradicted() {
        let mut test = Test::listed(&[object("a", 3), object("b", 7)]);
        assert_eq!([test.look(None), test.look(None)], [Finding::Doubtful, Finding::Wrong]);
        test.looks.list_begins();
        test.list(&[object("a", 3), object("b", 7), object("c", 9)]);
        assert_eq!(test.due(0).unwrap().key.name.as_ref(), "b");
        assert_eq!([test.look(None), test.look(None)], [Finding::Doubtful, Finding::Lying]);
        assert!(test.looks.are_lying());
    }

    #[test]
    fn k19_lists_that_lie_are_not_believed_again_because_the_sample_is_deleted() {
        let mut test = Test::listed(&[object("a", 3), object("b", 7)]);
        assert_eq!([test.look(None), test.look(None)], [Finding::Doubtful, Finding::Wrong]);
        test.list(&[object("a", 3), object("b", 7)]);
        assert_eq!([test.look(None), test.look(None)], [Finding::Doubtful, Finding::Lying]);
        test.looks.deleted(&ObjectKey::new("", "b"), Some(12));
        assert!(test.looks.are_lying(), "until a look agrees");
        test.now += Deadlines::default().look;
        assert_eq!(test.look(None), Finding::Right);
        assert!(!test.looks.are_lying());
    }
}
