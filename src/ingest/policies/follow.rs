//! Reads every kind of policy, for ever.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use tokio::sync::watch as signal;
use tokio::time::Instant;
use tokio_stream::StreamMap;

use super::decode::Terms;
use super::form::{FORMS, Form, Started};
use super::memory;
use super::shelf::Outcome;
use super::status::Policies;
use crate::ingest::absences;
use crate::ingest::objects::{Document, ObjectKey};
use crate::ingest::problems::Problems;
use crate::ingest::snapshot::Memory;
use crate::ingest::watch::{Failure, ListReason, SourceControl, SourceEvent};
use crate::model::Name;
use crate::model::policy::{MeshConfig, PolicyKind};
use crate::registry::{PolicyWrite, Registry};

/// Events that are taken in before the registry is told, at most.
const MAX_BATCH: usize = 4096;
/// Objects with a problem of their own, at most; pages and metrics know of all.
const MAX_COMPLAINTS: usize = 100;
/// How long what was in use before the start is withheld while nothing fails: most API servers answer faster.
const RECALL_AFTER: Duration = Duration::from_secs(1);
/// How often it is written down what is in use, at most.
const NOTE_EVERY: Duration = Duration::from_secs(1);
/// What the problem of kinds that cannot be read is about.
const SUBJECT: &str = "policies";
/// What is said of a kind that the API server does not have.
const NOT_SERVED: &str = "not-served: deploy/istio-crds.yaml defines it";

/// Opens the source of a kind under one of its versions.
pub(super) type Open = Box<dyn Fn(&'static Form, usize) -> Started + Send>;

/// What a follower works with.
pub(in crate::ingest) struct PolicyFollower {
    pub(in crate::ingest) registry: Arc<Registry>,
    pub(in crate::ingest) policies: Arc<Policies>,
    pub(in crate::ingest) problems: Arc<Problems>,
    /// The mesh-wide document; `None` until it is known for the first time.
    pub(in crate::ingest) mesh: signal::Receiver<Option<Arc<MeshConfig>>>,
    pub(in crate::ingest) domain: Name,
    /// What outlives a restart, if anything does.
    pub(in crate::ingest) memory: Option<Arc<Memory>>,
    /// Turns true once every kind is listed, or known not to be there or not to be read.
    pub(in crate::ingest) ready: signal::Sender<bool>,
}

/// How one kind is read.
struct Reading {
    control: Option<SourceControl>,
    version: usize,
    /// How often this source said that the server does not have the kind.
    not_served: usize,
    /// Whether nothing waits for it any longer.
    settled: bool,
    failure: Option<Failure>,
    /// What was in use before the start, until something is heard.
    before: memory::Recalled,
}

/// Follows every kind, with `open` to begin a source.
pub(in crate::ingest) async fn follow_policies(
    follower: PolicyFollower,
    source: crate::ingest::watch::KubeSource,
) {
    let open: Open = Box::new(move |form, version| form.start(source.clone(), version));
    Follow::new(follower, open).run().await;
}

pub(super) struct Follow {
    to: PolicyFollower,
    open: Open,
    terms: Terms,
    readings: BTreeMap<PolicyKind, Reading>,
    streams: StreamMap<PolicyKind, futures::stream::BoxStream<'static, SourceEvent<Document>>>,
    /// Objects with a problem of their own.
    complaints: BTreeMap<PolicyKind, std::collections::BTreeSet<ObjectKey>>,
    /// When what was in use before the start stands in for what is not known.
    recall: Option<Instant>,
    /// When to write down what is in use.
    note: Option<Instant>,
    /// When that was done last.
    noted: Option<Instant>,
}

impl Follow {
    pub(super) fn new(to: PolicyFollower, open: Open) -> Self {
        let mut follow = Self {
            terms: Terms::default(),
            to,
            open,
            readings: BTreeMap::new(),
            streams: StreamMap::new(),
            complaints: BTreeMap::new(),
            recall: None,
            note: None,
            noted: None,
        };
        follow.terms = follow.present_terms();
        FORMS.iter().for_each(|form| follow.begin(form, 0));
        follow
    }

    fn present_terms(&mut self) -> Terms {
        let mesh = self.to.mesh.borrow_and_update().clone().unwrap_or_default();
        Terms::of(&mesh, &self.to.domain)
    }

    /// Asks for a kind under one of its versions; what asked before ends.
    fn begin(&mut self, form: &'static Form, version: usize) {
        let Started { events, control } = (self.open)(form, version);
        let before = self.readings.remove(&form.kind);
        let mut reading = Reading {
            control,
            version,
            not_served: 0,
            settled: false,
            failure: None,
            before: memory::Recalled::new(),
        };
        if let Some(before) = before {
            let Reading { settled, failure, before, .. } = before;
            reading = Reading { settled, failure, before, ..reading };
        }
        self.readings.insert(form.kind, reading);
        self.streams.insert(form.kind, events);
        if let Some(kind) = self.to.policies.lock().get_mut(&form.kind) {
            kind.version = version;
        }
    }

    pub(super) async fn run(mut self) {
        self.remember().await;
        loop {
            let (recall, note) = (self.recall, self.note);
            let due = self.to.policies.lock().values().filter_map(|kind| kind.shelf.due()).min();
            tokio::select! {
                // Unbiased: each is looked at again.
                event = self.streams.next() => match event {
                    Some(event) => self.take(event),
                    None => return std::future::pending().await,
                },
                Ok(()) = self.to.mesh.changed() => self.take_terms(),
                () = tokio::time::sleep_until(recall.unwrap_or_else(Instant::now)), if recall.is_some() => {
                    let kinds: Vec<_> = self.readings.keys().copied().collect();
                    let mut writes = Vec::new();
                    kinds.into_iter().for_each(|kind| self.make_do(kind, &mut writes));
                    self.recall = None;
                    self.write(writes);
                    self.tell_ready();
                }
                () = tokio::time::sleep_until(note.unwrap_or_else(Instant::now)), if note.is_some() => {
                    self.note = None;
                    self.note_down();
                }
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.confirm();
                }
            }
        }
    }

    /// Learns what was in use before the start.
    async fn remember(&mut self) {
        let Some(memory) = self.to.memory.clone() else {
            return;
        };
        let Some(text) = memory.documents_before().await.policies else {
            return;
        };
        match memory::read(&text) {
            Ok(recalled) => {
                for (kind, objects) in recalled {
                    if let Some(reading) = self.readings.get_mut(&kind) {
                        reading.before = objects;
                    }
                }
                self.recall = Some(Instant::now() + RECALL_AFTER);
            }
            Err(error) => tracing::warn!(%error, "policies of the snapshot are not used"),
        }
    }

    /// What was in use before the start holds until something is heard of a kind.
    fn make_do(&mut self, kind: PolicyKind, writes: &mut Vec<PolicyWrite>) {
        if self.recall.is_none() {
            return;
        }
        let Some(reading) = self.readings.get_mut(&kind).filter(|reading| !reading.settled) else {
            return;
        };
        reading.settled = true;
        let before = std::mem::take(&mut reading.before);
        let policies = Arc::clone(&self.to.policies);
        let mut kinds = policies.lock();
        if let Some(row) = kinds.get_mut(&kind).filter(|row| !row.shelf.is_listed()) {
            writes.append(&mut row.shelf.recall(before, &self.terms).writes);
        }
    }

    /// Writes down what is in use: now, unless that was done just before.
    fn note_soon(&mut self) {
        let now = Instant::now();
        match self.noted.map(|noted| noted + NOTE_EVERY).filter(|earliest| *earliest > now) {
            Some(earliest) => self.note = Some(earliest),
            None => self.note_down(),
        }
    }

    /// What is in use now is what another start begins with. Never before everything was heard of.
    fn note_down(&mut self) {
        self.noted = Some(Instant::now());
        if let Some(memory) = &self.to.memory {
            let text = memory::written(&self.to.policies.lock());
            memory.note(|documents| documents.policies = Some(text));
        }
    }

    /// One poll: this event, and whatever else is there already.
    fn take(&mut self, first: (PolicyKind, SourceEvent<Document>)) {
        let mut writes = Vec::new();
        let mut event = Some(first);
        for _ in 0..MAX_BATCH {
            let Some((kind, event_of)) = event else {
                break;
            };
            self.take_one(kind, event_of, &mut writes);
            event = self.streams.next().now_or_never().flatten();
        }
        if let Some((kind, last)) = event {
            self.take_one(kind, last, &mut writes);
        }
        let news = !writes.is_empty() || !*self.to.ready.borrow();
        self.write(writes);
        if self.is_ready() && news {
            self.note_soon();
        }
        self.tell_ready();
    }

    fn take_one(&mut self, kind: PolicyKind, event: SourceEvent<Document>, writes: &mut Vec<PolicyWrite>) {
        match event {
            SourceEvent::Failed(failure) => {
                if !matches!(failure, Failure::NotServed(_)) {
                    self.make_do(kind, writes);
                }
                self.failed(kind, failure);
            }
            SourceEvent::Connected | SourceEvent::Idle => self.answers(kind),
            event => {
                let now = Instant::now();
                let policies = Arc::clone(&self.to.policies);
                let mut kinds = policies.lock();
                let Some(row) = kinds.get_mut(&kind) else {
                    return;
                };
                let mut outcome = row.shelf.apply(event, now, &self.terms);
                let complaints: Vec<_> =
                    outcome.spoken.iter().map(|key| (key.clone(), row.shelf.complaint(key))).collect();
                drop(kinds);
                writes.append(&mut outcome.writes);
                self.complain(kind, complaints);
                self.listed(kind, &outcome);
            }
        }
    }

    fn listed(&mut self, kind: PolicyKind, outcome: &Outcome) {
        if !outcome.listed {
            return;
        }
        let doubt = outcome.doubted.map(|(missing, known)| absences::text(missing, known, "objects"));
        self.to.problems.tell(format!("{SUBJECT}, list of {}", kind.name()), doubt);
        self.answers(kind);
        if let Some(reading) = self.readings.get_mut(&kind) {
            reading.settled = true;
            reading.before = memory::Recalled::new();
        }
    }

    fn answers(&mut self, kind: PolicyKind) {
        if let Some(reading) = self.readings.get_mut(&kind) {
            reading.not_served = 0;
            if reading.failure.take().is_some() {
                self.tell_failures();
            }
        }
    }

    fn failed(&mut self, kind: PolicyKind, failure: Failure) {
        let Some(reading) = self.readings.get_mut(&kind) else {
            return;
        };
        let is_absent = matches!(failure, Failure::NotServed(_));
        reading.settled |= matches!(failure, Failure::Forbidden(_));
        let version = reading.version;
        reading.not_served += usize::from(is_absent);
        let asked_long = reading.not_served > 1;
        reading.failure = Some(failure);
        if is_absent {
            self.try_another(kind, version, asked_long);
        }
        self.tell_failures();
    }

    /// The server does not have this version. It may have an older one; if it has none, the kind is absent, and the
    /// most wanted version is what is waited for. That one is asked for twice in a row then, the second time for long.
    fn try_another(&mut self, kind: PolicyKind, version: usize, asked_long: bool) {
        let listed = self.to.policies.lock().get(&kind).is_some_and(|row| row.shelf.is_listed());
        let form = FORMS.iter().find(|form| form.kind == kind);
        let (Some(form), Some(reading)) = (form, self.readings.get_mut(&kind)) else {
            return;
        };
        let next = (version + 1) % form.versions.len();
        let first_round = !reading.settled;
        reading.settled |= next == 0;
        // A kind that was there keeps its version, unless that stays away.
        let turn = if version == 0 { (first_round && !listed) || asked_long } else { !listed || asked_long };
        if turn && form.versions.len() > 1 {
            self.begin(form, next);
        }
    }

    /// One problem for all kinds: they are of one server. A kind that is absent and never was there is none.
    fn tell_failures(&self) {
        let mut told = Vec::new();
        let mut kinds = self.to.policies.lock();
        for (kind, reading) in &self.readings {
            let Some(row) = kinds.get_mut(kind) else {
                continue;
            };
            let text = reading.failure.as_ref().map(Failure::text);
            let expected = matches!(reading.failure, Some(Failure::NotServed(_))) && !row.shelf.is_listed();
            row.failure = text.map(|text| match expected {
                true => NOT_SERVED.to_owned(),
                false => format!("failing: {text}"),
            });
            if let Some(text) = text.filter(|_| !expected) {
                told.push(format!("{}: {text}", kind.name()));
            }
        }
        drop(kinds);
        let text =
            (!told.is_empty()).then(|| format!("cannot be read, what is known stands: {}", told.join("; ")));
        self.to.problems.tell(SUBJECT, text);
    }

    fn complain(&mut self, kind: PolicyKind, spoken: Vec<(ObjectKey, Option<String>)>) {
        for (key, complaint) in spoken {
            let subject = format!("{} {key}", kind.name());
            let told: usize = self.complaints.values().map(std::collections::BTreeSet::len).sum();
            let of_kind = self.complaints.entry(kind).or_default();
            match complaint {
                Some(text) if told < MAX_COMPLAINTS || of_kind.contains(&key) => {
                    self.to.problems.set(subject, text);
                    of_kind.insert(key);
                }
                Some(text) => tracing::warn!(subject, problem = text, "problem"),
                None if of_kind.remove(&key) => self.to.problems.clear(&subject),
                None => tracing::info!(subject, "problem solved"),
            }
        }
    }

    fn write(&self, writes: Vec<PolicyWrite>) {
        if !writes.is_empty() {
            self.to.registry.write_policies(writes);
        }
    }

    /// Another mesh-wide document: what objects that say nothing mean may differ.
    fn take_terms(&mut self) {
        let terms = self.present_terms();
        if terms == self.terms {
            return;
        }
        self.terms = terms;
        let policies = Arc::clone(&self.to.policies);
        let mut writes = Vec::new();
        for form in FORMS {
            let mut kinds = policies.lock();
            let Some(row) = kinds.get_mut(&form.kind) else {
                continue;
            };
            let mut outcome = row.shelf.read_again(&self.terms);
            let complaints: Vec<_> =
                outcome.spoken.iter().map(|key| (key.clone(), row.shelf.complaint(key))).collect();
            drop(kinds);
            writes.append(&mut outcome.writes);
            self.complain(form.kind, complaints);
        }
        self.write(writes);
    }

    /// K-21: a second list is to say that most objects are gone.
    fn confirm(&mut self) {
        let now = Instant::now();
        let mut kinds = self.to.policies.lock();
        for (kind, row) in kinds.iter_mut().filter(|(_, row)| row.shelf.due().is_some_and(|due| due <= now)) {
            row.shelf.asked();
            if let Some(control) = self.readings.get(kind).and_then(|reading| reading.control.as_ref()) {
                control.relist(ListReason::Requested);
            }
        }
    }

    fn is_ready(&self) -> bool {
        self.readings.values().all(|reading| reading.settled)
    }

    fn tell_ready(&self) {
        if self.is_ready() {
            self.to.ready.send_if_modified(|ready| !std::mem::replace(ready, true));
        }
    }
}
