//! Looks at one object by name, which the store itself answers: after etcd was restored under a running API
//! server, lists and watches go on telling the old state, and nothing else shows it (K-19).

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
    sample: Option<Sample>,
    /// When to look next.
    next: Option<Instant>,
    /// Objects of the present list that could be the sample.
    seen: u64,
    /// This object is to stay the sample if it is listed.
    wanted: Option<ObjectKey>,
    /// The next object told of becomes the sample.
    renew: bool,
    wrong: u32,
    /// Times it was wrong without being right in between.
    contradictions: u32,
}

impl Sample {
    fn of<T>(object: &Received<T>) -> Option<Self> {
        if object.key.name.is_empty() {
            return None;
        }
        Some(Self { key: object.key.clone(), uid: object.uid.clone(), revision: object.revision? })
    }

    /// Whether `found` may be what this became.
    fn allows<T>(&self, found: &Received<T>) -> bool {
        let same = self.uid.is_empty() || found.uid.is_empty() || self.uid == found.uid;
        same && found.revision.is_none_or(|revision| revision >= self.revision)
    }
}

impl Looks {
    pub(super) fn list_begins(&mut self) {
        let sample = self.sample.take();
        self.wanted = sample.filter(|_| self.contradictions > 0).map(|sample| sample.key);
        self.seen = 0;
        self.wrong = 0;
    }

    /// One of the listed objects, each with the same chance.
    pub(super) fn listed<T>(&mut self, object: &Received<T>, random: &mut Random) {
        if let Some(wanted) = &self.wanted {
            if *wanted == object.key {
                self.sample = Sample::of(object);
            }
            return;
        }
        self.seen += 1;
        if random.one_in(self.seen)
            && let Some(sample) = Sample::of(object)
        {
            self.sample = Some(sample);
        }
    }

    pub(super) fn list_complete(&mut self, now: Instant, deadlines: &Deadlines, random: &mut Random) {
        self.wanted = None;
        if self.contradictions > 0 && self.sample.is_some() {
            self.next = Some(now + deadlines.look_again);
            return;
        }
        self.contradictions = 0;
        self.renew = self.sample.is_none();
        self.next = Some(now + random.between(deadlines.look / 2, deadlines.look));
    }

    /// An object was added or changed.
    pub(super) fn told<T>(&mut self, object: &Received<T>) {
        let is_sample = self.sample.as_ref().is_some_and(|sample| sample.key == object.key);
        if is_sample || self.renew {
            self.wrong = 0;
            self.sample = Sample::of(object);
            self.renew = self.sample.is_none();
        }
    }

    pub(super) fn deleted(&mut self, key: &ObjectKey) {
        if self.sample.as_ref().is_some_and(|sample| sample.key == *key) {
            self.sample = None;
            self.renew = true;
            self.wrong = 0;
        }
    }

    /// Which object to look at now.
    pub(super) fn due(&self, now: Instant) -> Option<&Sample> {
        self.sample.as_ref().filter(|_| self.next.is_some_and(|next| next <= now))
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.sample.as_ref().and(self.next)
    }

    pub(super) fn put_off(&mut self, until: Instant) {
        self.next = Some(until);
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
    ) -> Finding {
        self.next = Some(now + deadlines.look);
        if self.sample.as_ref() != Some(asked) {
            return Finding::Doubtful;
        }
        if found.is_some_and(|found| asked.allows(found)) {
            (self.wrong, self.contradictions) = (0, 0);
            self.renew = true;
            return Finding::Right;
        }
        self.wrong += 1;
        if self.wrong < WRONG {
            self.next = Some(now + deadlines.look_again);
            return Finding::Doubtful;
        }
        self.wrong = 0;
        self.contradictions += 1;
        // Every second time: lists may tell the truth again.
        if self.contradictions % 2 == 1 { Finding::Wrong } else { Finding::Lying }
    }
}
