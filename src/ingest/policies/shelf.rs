//! What is known of the objects of one kind.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use super::decode::Terms;
use super::delegates::{self, Delegates};
use super::form::Form;
use super::status::{PolicyState, PolicyStatus};
use crate::ingest::absences::Absences;
use crate::ingest::counts::EventKind;
use crate::ingest::objects::{Document, ObjectKey};
use crate::ingest::staging::Guard;
use crate::ingest::watch::{Received, SourceEvent};
use crate::model::Name;
use crate::model::policy::{PolicyId, PolicyMeta};
use crate::registry::{PolicyObject, PolicyWrite};

/// How many problems of one object are told besides pages that list them all.
const MAX_TOLD: usize = 3;

/// The objects of one kind: the last word about each, and the last good one.
#[derive(Debug)]
pub(super) struct Shelf {
    form: &'static Form,
    held: BTreeMap<ObjectKey, Held>,
    listing: Option<Listing>,
    absences: Absences,
    events: [u64; EventKind::ALL.len()],
    lists: u64,
    delegates: Delegates,
}

#[derive(Debug)]
struct Held {
    uid: Name,
    revision: Option<u64>,
    /// What was told last, or why that cannot be read.
    told: Result<Document, String>,
    /// What is in use, and of which revision that is: what was told last and could be read, else what stands for
    /// it ([`Form::instead`]), which is of none.
    used: Option<(PolicyObject, Option<u64>)>,
    /// What of that cannot be done.
    problems: Vec<String>,
    /// What that said.
    good: Option<Document>,
    /// Why what was told last is not in use.
    error: Option<String>,
    /// What of it is left out because of other objects.
    left_out: Vec<String>,
}

/// A list in progress.
#[derive(Debug)]
struct Listing {
    began: Instant,
    objects: BTreeMap<ObjectKey, Received<Document>>,
}

/// What an event amounts to.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// What the registry is to be told.
    pub(super) writes: Vec<PolicyWrite>,
    /// Objects of which there is something else to say than before: whether they can be read, what of them cannot be
    /// done, or that they are gone.
    pub(super) spoken: BTreeSet<ObjectKey>,
    /// How many objects a complete list lacked, of how many, if that is doubted.
    pub(super) doubted: Option<(usize, usize)>,
    /// Whether a list was completed.
    pub(super) listed: bool,
}

impl Shelf {
    pub(super) fn new(form: &'static Form, guard: Guard) -> Self {
        Self {
            form,
            held: BTreeMap::new(),
            listing: None,
            absences: Absences::new(guard),
            events: [0; EventKind::ALL.len()],
            lists: 0,
            delegates: Delegates::default(),
        }
    }

    /// Whether a complete list has ever been read.
    pub(super) fn is_listed(&self) -> bool {
        self.lists > 0
    }

    /// How many events of a sort came.
    pub(super) fn events(&self, event: EventKind) -> u64 {
        self.events[event as usize]
    }

    /// When to ask for a second list (K-21).
    pub(super) fn due(&self) -> Option<Instant> {
        self.absences.due()
    }

    /// The second list is asked for.
    pub(super) fn asked(&mut self) {
        self.absences.asked();
    }

    /// Takes in an event.
    pub(super) fn apply(&mut self, event: SourceEvent<Document>, now: Instant, terms: &Terms) -> Outcome {
        let mut outcome = Outcome::default();
        match event {
            SourceEvent::Init => self.listing = Some(Listing { began: now, objects: BTreeMap::new() }),
            SourceEvent::InitApply(received) => {
                if let Some(listing) = &mut self.listing {
                    listing.objects.insert(received.key.clone(), received);
                }
            }
            SourceEvent::InitDelete(key) => {
                if let Some(listing) = &mut self.listing {
                    listing.objects.remove(&key);
                }
            }
            SourceEvent::InitDone { .. } => self.swap(terms, &mut outcome),
            SourceEvent::Apply(received) => {
                let known = self.held.get(&received.key).and_then(|held| held.revision);
                // D32: what is not newer says nothing.
                if known.zip(received.revision).is_none_or(|(known, told)| told > known) {
                    self.set(received, terms, &mut outcome);
                }
            }
            SourceEvent::Delete { key, revision } => {
                let known = self.held.get(&key).and_then(|held| held.revision);
                if known.zip(revision).is_none_or(|(known, told)| told >= known) {
                    self.remove(&key, &mut outcome);
                }
            }
            SourceEvent::Connected | SourceEvent::Idle | SourceEvent::Failed(_) => {}
        }
        self.settle(terms, &mut outcome);
        outcome
    }

    /// What follows for objects that lead on to others.
    fn settle(&mut self, terms: &Terms, outcome: &mut Outcome) {
        if !delegates::concerns(self.form.kind) || outcome.writes.is_empty() {
            return;
        }
        let held = &self.held;
        let used = |id: &PolicyId| delegates::virtual_service(&held.get(&key(id))?.used.as_ref()?.0);
        let default = &terms.virtual_service_export_to;
        for (id, left_out) in self.delegates.settle(&mut outcome.writes, used, default) {
            let key = key(&id);
            if let Some(held) = self.held.get_mut(&key) {
                held.left_out = left_out;
                outcome.spoken.insert(key);
            }
        }
    }

    /// A complete list: what it does not have is gone, unless that is most of what is known, and nobody said so twice.
    fn swap(&mut self, terms: &Terms, outcome: &mut Outcome) {
        let Some(Listing { began, objects }) = self.listing.take() else {
            return;
        };
        self.lists += 1;
        outcome.listed = true;
        let missing: Vec<_> = self.held.keys().filter(|key| !objects.contains_key(key)).cloned().collect();
        if self.absences.believes(missing.len(), self.held.len(), began) {
            missing.iter().for_each(|key| self.remove(key, outcome));
        } else {
            outcome.doubted = Some((missing.len(), self.held.len()));
        }
        objects.into_values().for_each(|received| self.set(received, terms, outcome));
    }

    fn set(&mut self, received: Received<Document>, terms: &Terms, outcome: &mut Outcome) {
        let Received { key, uid, revision, object: told } = received;
        if key.name.is_empty() {
            return;
        }
        let mut before = self.held.remove(&key);
        let said = before.as_ref().and_then(Held::complaint);
        if let Some(before) = before.as_mut().filter(|before| is_another(&before.uid, &uid)) {
            // What was in use was of an object that is gone.
            before.good = None;
            let used = before.used.take();
            outcome.writes.extend(used.map(|_| PolicyWrite::remove(self.form.kind, id(&key))));
        }
        let same = before.as_ref().is_some_and(|before| before.uid == uid && before.told == told);
        let event = match &before {
            None => EventKind::Add,
            Some(_) if same => EventKind::UpdateSame,
            Some(_) => EventKind::Update,
        };
        self.events[event as usize] += 1;
        let mut held = match before {
            Some(before) => Held { uid, revision, told, ..before },
            None => Held {
                uid,
                revision,
                told,
                used: None,
                problems: Vec::new(),
                good: None,
                error: None,
                left_out: Vec::new(),
            },
        };
        if same {
            held.used.iter_mut().filter(|_| held.error.is_none()).for_each(|(_, used)| *used = revision);
        } else {
            self.read(&key, &mut held, terms, outcome);
        }
        if held.complaint() != said {
            outcome.spoken.insert(key.clone());
        }
        self.held.insert(key, held);
    }

    /// Takes what was told last into use, if it can be read.
    fn read(&self, key: &ObjectKey, held: &mut Held, terms: &Terms, outcome: &mut Outcome) {
        let id = id(key);
        let read = held.told.as_ref().map_err(Clone::clone).and_then(|document| {
            let meta = PolicyMeta { created: document.created, id: id.clone() };
            self.form.decode(meta, document, terms)
        });
        if read.is_err() && held.good.is_none() {
            self.stand_in(id, held, outcome);
        }
        held.error = match read {
            Ok((object, problems)) => {
                held.problems = problems;
                outcome.writes.push(PolicyWrite::set(object.clone()));
                held.used = Some((object, held.revision));
                held.good = held.told.as_ref().ok().cloned();
                None
            }
            Err(error) => Some(error),
        };
    }

    /// Takes into use what stands for an object that never could be read, if anything does.
    fn stand_in(&self, id: PolicyId, held: &mut Held, outcome: &mut Outcome) {
        let document = held.told.as_ref().ok();
        let meta = PolicyMeta { created: document.map_or(0, |document| document.created), id };
        let instead = self.form.instead(meta, document);
        if instead.as_ref() != held.used.as_ref().map(|(object, _)| object) {
            outcome.writes.extend(instead.clone().map(PolicyWrite::set));
            held.problems = instead.as_ref().map(|object| object.problems().to_vec()).unwrap_or_default();
            held.used = instead.map(|object| (object, None));
        }
    }

    fn remove(&mut self, key: &ObjectKey, outcome: &mut Outcome) {
        let Some(held) = self.held.remove(key) else {
            return;
        };
        self.events[EventKind::Delete as usize] += 1;
        if held.used.is_some() {
            outcome.writes.push(PolicyWrite::remove(self.form.kind, id(key)));
        }
        if held.complaint().is_some() {
            outcome.spoken.insert(key.clone());
        }
    }

    /// Reads every object again, under other terms.
    pub(super) fn read_again(&mut self, terms: &Terms) -> Outcome {
        let mut outcome = Outcome::default();
        let mut all = std::mem::take(&mut self.held);
        for (key, held) in &mut all {
            let said = held.complaint();
            self.read(key, held, terms, &mut outcome);
            if held.complaint() != said {
                outcome.spoken.insert(key.clone());
            }
        }
        self.held = all;
        self.settle(terms, &mut outcome);
        outcome
    }

    /// What was in use before the start, until the API server says something.
    pub(super) fn recall(&mut self, documents: Vec<(ObjectKey, Name, Document)>, terms: &Terms) -> Outcome {
        let mut outcome = Outcome::default();
        for (key, uid, document) in documents {
            if !self.held.contains_key(&key) {
                self.set(Received { key, uid, revision: None, object: Ok(document) }, terms, &mut outcome);
            }
        }
        self.settle(terms, &mut outcome);
        outcome
    }

    /// What is in use of each object, as it was told.
    pub(super) fn kept(&self) -> impl Iterator<Item = (&ObjectKey, &Name, &Document)> {
        self.held.iter().filter_map(|(key, held)| Some((key, &held.uid, held.good.as_ref()?)))
    }

    /// What is wrong with an object, and what becomes of it meanwhile.
    pub(super) fn complaint(&self, key: &ObjectKey) -> Option<String> {
        self.held.get(key)?.complaint()
    }

    /// Objects of each state.
    pub(super) fn count(&self, state: PolicyState) -> usize {
        self.held.values().filter(|held| held.state() == state).count()
    }

    /// Every object.
    pub(super) fn rows(&self) -> impl Iterator<Item = PolicyStatus> {
        self.held.iter().map(|(key, held)| PolicyStatus {
            namespace: key.namespace.clone(),
            name: key.name.clone(),
            created: held.told.as_ref().map_or(0, |document| document.created),
            scopes: held.used.as_ref().map(|(object, _)| object.scopes()).unwrap_or_default(),
            state: held.state(),
            error: held.error.clone(),
            problems: held.problems(),
            told: held.revision,
            used: held.used.as_ref().and_then(|(_, revision)| *revision),
            is_used: held.used.is_some(),
        })
    }

    /// The objects in use.
    pub(super) fn in_use(&self) -> impl Iterator<Item = &PolicyObject> {
        self.held.values().filter_map(|held| held.used.as_ref()).map(|(object, _)| object)
    }
}

impl Held {
    /// What of the version in use cannot be done.
    fn problems(&self) -> Vec<String> {
        if self.used.is_none() {
            return Vec::new();
        }
        [self.left_out.as_slice(), &self.problems].concat()
    }

    fn complaint(&self) -> Option<String> {
        match (&self.error, &*self.problems()) {
            (Some(error), _) => Some(match (&self.used, &self.good) {
                (Some(_), Some(_)) => format!("{error}; its last good version stays in use"),
                (Some((PolicyObject::PeerAuthentication(_), _)), None) => format!(
                    "{error}; until it can be read, workloads that it selects (else its namespace) take mTLS alone \
                     where its modes cannot be read"
                ),
                (Some(_), None) => format!(
                    "{error}; until it can be read, workloads that it selects (else its namespace) allow nothing"
                ),
                (None, _) => format!("{error}; it is not used"),
            }),
            (None, []) => None,
            (None, problems) => {
                let more = problems.len().saturating_sub(MAX_TOLD);
                let told = problems[..problems.len() - more].join("; ");
                let more = (more > 0).then(|| format!("; and {more} more of that sort, see /debug/policies"));
                Some(told + &more.unwrap_or_default())
            }
        }
    }

    fn state(&self) -> PolicyState {
        if self.error.is_some() { PolicyState::Invalid } else { PolicyState::Ok }
    }
}

/// Whether an object was deleted and made again under the same name.
fn is_another(before: &Name, now: &Name) -> bool {
    !before.is_empty() && !now.is_empty() && before != now
}

fn key(id: &PolicyId) -> ObjectKey {
    ObjectKey::new(id.namespace.clone(), id.name.clone())
}

fn id(key: &ObjectKey) -> PolicyId {
    PolicyId::new(key.namespace.clone(), key.name.clone())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ingest::policies::form::FORMS;
    use crate::ingest::watch::ListReason;
    use crate::model::policy::{MtlsMode, PolicyKind};

    fn shelf() -> Shelf {
        shelf_of(PolicyKind::DestinationRule)
    }

    fn shelf_of(kind: PolicyKind) -> Shelf {
        Shelf::new(FORMS.iter().find(|form| form.kind == kind).unwrap(), Guard::On)
    }

    fn received(name: &str, uid: &str, revision: u64, spec: &str) -> Received<Document> {
        let object = Ok(Document { created: 1, spec: spec.into(), dry_run: Name::default() });
        Received { key: ObjectKey::new("shop", name), uid: uid.into(), revision: Some(revision), object }
    }

    const GOOD: &str = r#"{"host": "a.b"}"#;
    const OTHER: &str = r#"{"host": "c.d"}"#;
    const BAD: &str = "{}";

    impl Shelf {
        fn told(&mut self, event: SourceEvent<Document>) -> Outcome {
            self.apply(event, Instant::now(), &Terms::default())
        }

        fn list(&mut self, began: Instant, names: &[&str]) -> Outcome {
            let terms = Terms::default();
            self.apply(SourceEvent::Init, began, &terms);
            for name in names {
                self.apply(SourceEvent::InitApply(received(name, "u", 1, GOOD)), began, &terms);
            }
            self.apply(SourceEvent::InitDone { reason: ListReason::First }, began, &terms)
        }

        fn state(&self) -> (usize, usize, usize) {
            (self.count(PolicyState::Ok), self.count(PolicyState::Invalid), self.in_use().count())
        }
    }

    #[test]
    fn d14_who_leads_on_to_another_is_told_again_whenever_that_one_is() {
        let mut shelf = shelf_of(PolicyKind::VirtualService);
        let set =
            |name: &str, revision: u64, spec: &str| SourceEvent::Apply(received(name, "u", revision, spec));
        /// `name: statuses` of what is written.
        fn written(outcome: &Outcome) -> Vec<String> {
            let status = |route: &crate::model::policy::HttpRoute| match &route.action {
                crate::model::policy::HttpAction::Respond(answer) => answer.status,
                other => panic!("{other:?}"),
            };
            let shown = |write: &PolicyWrite| {
                let object = write.object.as_ref().and_then(delegates::virtual_service);
                let statuses = object.map(|one| one.http.iter().map(status).collect::<Vec<_>>());
                format!("{} {statuses:?}", write.id.name)
            };
            outcome.writes.iter().map(shown).collect()
        }
        let answer = |status: u16| format!(r#"{{"http": [{{"directResponse": {{"status": {status}}}}}]}}"#);
        let root = r#"{"hosts": ["a.b"], "http": [{"delegate": {"name": "part"}}, {"directResponse": {"status": 200}}]}"#;
        let told = shelf.told(set("root", 1, root));
        let key = ObjectKey::new("shop", "root");
        assert_eq!((written(&told), told.spoken.contains(&key)), (vec!["root Some([200])".to_owned()], true));
        assert!(shelf.complaint(&key).expect("told").contains("VirtualService shop/part is not there"));
        let told = shelf.told(set("part", 2, &answer(201)));
        assert_eq!(written(&told), ["part Some([201])", "root Some([201, 200])"]);
        assert!(told.spoken.contains(&key) && shelf.complaint(&key).is_none(), "that is solved");
        let told = shelf.told(set("part", 3, &answer(202)));
        assert_eq!(written(&told), ["part Some([202])", "root Some([202, 200])"]);
        assert_eq!(written(&shelf.told(set("other", 4, &answer(203)))), ["other Some([203])"]);
        assert_eq!(
            written(&shelf.read_again(&Terms::default())).last().unwrap(),
            "part Some([202])",
            "the same"
        );
        let gone = ObjectKey::new("shop", "part");
        let told = shelf.told(SourceEvent::Delete { key: gone, revision: Some(5) });
        assert_eq!(
            (written(&told), told.spoken.len()),
            (vec!["part None".into(), "root Some([200])".into()], 1)
        );
        let told =
            shelf.told(set("root", 6, &answer(204).replace("{\"http", "{\"hosts\": [\"a.b\"], \"http")));
        assert_eq!((written(&told), shelf.complaint(&key)), (vec!["root Some([204])".to_owned()], None));
        assert_eq!(
            written(&shelf.told(set("part", 7, &answer(205)))),
            ["part Some([205])"],
            "nobody leads on to it"
        );
    }

    #[test]
    fn what_cannot_be_read_leaves_the_last_good_version_until_it_is_deleted() {
        let mut shelf = shelf();
        let set = |revision, spec| SourceEvent::Apply(received("x", "u", revision, spec));
        assert_eq!(shelf.told(set(1, BAD)).writes.len(), 0);
        assert_eq!(shelf.state(), (0, 1, 0));
        assert!(shelf.complaint(&ObjectKey::new("shop", "x")).unwrap().ends_with("it is not used"));
        assert_eq!(shelf.told(set(2, GOOD)).writes.len(), 1);
        assert_eq!(shelf.told(set(3, GOOD)).writes.len(), 0, "nothing differs");
        let broken = shelf.told(set(4, BAD));
        assert_eq!((broken.writes.len(), broken.spoken.len()), (0, 1));
        assert_eq!(shelf.state(), (0, 1, 1));
        let row = shelf.rows().next().unwrap();
        assert_eq!((row.told, row.used), (Some(4), Some(3)));
        assert_eq!(shelf.told(set(2, OTHER)).writes.len(), 0, "what is older says nothing");
        let key = ObjectKey::new("shop", "x");
        let old = SourceEvent::Delete { key: key.clone(), revision: Some(3) };
        assert_eq!(shelf.told(old).writes.len(), 0);
        let gone = shelf.told(SourceEvent::Delete { key, revision: Some(5) });
        assert_eq!((gone.writes.len(), gone.spoken.len()), (1, 1));
        assert_eq!(shelf.state(), (0, 0, 0));
        let counted = EventKind::ALL.map(|event| shelf.events(event));
        assert_eq!(counted, [1, 2, 1, 1], "added, changed, deleted, the same");
    }

    #[test]
    fn a_peer_authentication_that_never_could_be_read_asks_for_mtls() {
        let form = FORMS.iter().find(|form| form.kind == PolicyKind::PeerAuthentication).unwrap();
        let strict = Some(MtlsMode::Strict);
        let of = |spec: Result<&str, String>| {
            let mut shelf = Shelf::new(form, Guard::On);
            let told = received("x", "u", 1, spec.clone().unwrap_or_default());
            let told = match spec {
                Ok(_) => told,
                Err(why) => Received { object: Err(why), ..told },
            };
            let outcome = shelf.told(SourceEvent::Apply(told));
            let complaint = shelf.complaint(&ObjectKey::new("shop", "x"));
            match outcome.writes.into_iter().last().and_then(|write| write.object) {
                Some(PolicyObject::PeerAuthentication(one)) => {
                    Some((one.selector.labels().len(), one.mode, one.ports.clone(), complaint.unwrap()))
                }
                None => None,
                other => panic!("{other:?}"),
            }
        };
        let (labels, mode, ports, told) =
            of(Ok(r#"{"mtls": {"mode": "STRICT"}, "portLevelMtls": {"80": {"mode": "DISABLE"}}}"#)).unwrap();
        assert_eq!(
            (labels, mode, ports),
            (0, strict, vec![]),
            "ports without a selector only have no effect"
        );
        assert!(told.starts_with("spec.portLevelMtls: has no effect"), "{told}");
        let labelled = r#""selector": {"matchLabels": {"app": "a"}}"#;
        let (labels, mode, _, told) =
            of(Ok(&format!(r#"{{{labelled}, "mtls": {{"mode": "strict"}}}}"#))).unwrap();
        assert_eq!((labels, mode), (1, strict));
        assert!(told.contains("take mTLS alone"), "{told}");
        let ports = r#""portLevelMtls": {"80": {"mode": "strict"}, "http": {}, "90": {"mode": "DISABLE"}}"#;
        let (labels, mode, ports, _) =
            of(Ok(&format!(r#"{{{labelled}, "mtls": {{"mode": "PERMISSIVE"}}, {ports}}}"#))).unwrap();
        assert_eq!((labels, mode), (1, Some(MtlsMode::Permissive)), "what can be read counts");
        assert_eq!(ports, [(80, strict), (90, Some(MtlsMode::Disable))]);
        let nobody = r#""selector": {"matchLabels": 7}"#;
        let all = of(Ok(&format!(r#"{{{nobody}, "mtls": {{"mode": "STRICT"}}}}"#))).unwrap();
        assert_eq!((all.0, all.1), (0, strict));
        assert_eq!(of(Ok(&format!(r#"{{{nobody}, "mtls": {{"mode": "DISABLE"}}}}"#))), None, "opens nothing");
        let unread = of(Err("odd".into())).unwrap();
        assert_eq!((unread.0, unread.1), (0, strict));
    }

    #[test]
    fn an_authorization_policy_that_never_could_be_read_allows_nothing() {
        let form = FORMS.iter().find(|form| form.kind == PolicyKind::AuthorizationPolicy).unwrap();
        let mut shelf = Shelf::new(form, Guard::On);
        let set = |uid, revision, spec| SourceEvent::Apply(received("x", uid, revision, spec));
        let policy = |outcome: Outcome| match outcome.writes.into_iter().last().and_then(|write| write.object)
        {
            Some(PolicyObject::AuthorizationPolicy(policy)) => policy,
            other => panic!("{other:?}"),
        };
        let labelled = r#"{"selector": {"matchLabels": {"app": "a"}}, "action": "allow"}"#;
        let closed = policy(shelf.told(set("u", 1, labelled)));
        assert_eq!((closed.rules.len(), closed.selector.labels().len()), (0, 1));
        assert!(shelf.complaint(&ObjectKey::new("shop", "x")).unwrap().ends_with("allow nothing"));
        assert_eq!(shelf.kept().count(), 0, "it is not what was told");
        let closed = policy(shelf.told(set("u", 2, r#"{"selector": {"labels": {}}, "rules": [{}]}"#)));
        assert!(closed.rules.is_empty() && closed.selector.is_everything());
        assert!(shelf.told(set("u", 3, r#"{"action": "deny"}"#)).writes.is_empty(), "that is the same");
        assert_eq!(policy(shelf.told(set("u", 4, r#"{"rules": [{}]}"#))).rules.len(), 1);
        assert!(
            shelf.told(set("u", 5, r#"{"action": "deny"}"#)).writes.is_empty(),
            "the last good one stays"
        );
        assert!(
            policy(shelf.told(set("v", 6, r#"{"action": "deny"}"#))).rules.is_empty(),
            "of another object"
        );
        let unread = Received { object: Err("odd".into()), ..received("y", "u", 7, "") };
        assert!(policy(shelf.told(SourceEvent::Apply(unread))).rules.is_empty());
        let gone = SourceEvent::Delete { key: ObjectKey::new("shop", "x"), revision: Some(8) };
        assert!(matches!(&*shelf.told(gone).writes, [PolicyWrite { object: None, .. }]));
    }

    #[test]
    fn what_of_an_object_in_use_cannot_be_done_is_told_until_it_says_otherwise() {
        let form = FORMS.iter().find(|form| form.kind == PolicyKind::AuthorizationPolicy).unwrap();
        let mut shelf = Shelf::new(form, Guard::On);
        let key = ObjectKey::new("shop", "x");
        let set = |revision, spec: &str| SourceEvent::Apply(received("x", "u", revision, spec));
        let custom = shelf.told(set(1, r#"{"action": "CUSTOM"}"#));
        assert_eq!((custom.writes.len(), custom.spoken.len(), shelf.state()), (1, 1, (1, 0, 1)));
        assert!(shelf.complaint(&key).unwrap().contains("external authorizers"));
        let row = shelf.rows().next().unwrap();
        assert_eq!((row.state, row.error, row.problems.len()), (PolicyState::Ok, None, 1));
        let bad = r#"{"action": "MAYBE"}"#;
        assert_eq!(shelf.told(set(2, bad)).spoken.len(), 1);
        assert!(shelf.complaint(&key).unwrap().ends_with("its last good version stays in use"));
        let many = r#"{"rules": [{"when": [{"key": "a"}, {"key": "b"}, {"key": "c"}, {"key": "d"}]}]}"#;
        assert_eq!(shelf.told(set(3, many)).spoken.len(), 1);
        let told = shelf.complaint(&key).unwrap();
        assert!(told.contains("and 1 more") && shelf.rows().next().unwrap().problems.len() == 4, "{told}");
        assert_eq!(shelf.told(set(4, r#"{"action": "DENY"}"#)).spoken.len(), 1);
        assert_eq!(shelf.complaint(&key), None);
        assert_eq!(
            shelf.told(set(5, r#"{"action": "AUDIT"}"#)).spoken.len(),
            0,
            "nothing to say before and after"
        );
        shelf.told(set(6, r#"{"action": "CUSTOM"}"#));
        let gone = shelf.told(SourceEvent::Delete { key: key.clone(), revision: Some(7) });
        assert_eq!((gone.spoken.len(), shelf.complaint(&key)), (1, None));
    }

    #[test]
    fn fields_without_effect_are_told_of_an_object_in_use() {
        let mut shelf = shelf();
        let key = ObjectKey::new("shop", "x");
        let set = |revision, spec| SourceEvent::Apply(received("x", "u", revision, spec));
        let odd = shelf.told(set(1, r#"{"host": "a.b", "odd": 1, "trafficPolicy": {"tunnel": {}}}"#));
        assert_eq!((odd.writes.len(), odd.spoken.len(), shelf.state()), (1, 1, (1, 0, 1)));
        let row = shelf.rows().next().unwrap();
        assert_eq!((row.state, row.problems.len()), (PolicyState::Ok, 2), "{:?}", row.problems);
        assert!(shelf.complaint(&key).unwrap().contains("trafficPolicy.tunnel"));
        assert_eq!(shelf.told(set(2, GOOD)).spoken.len(), 1);
        assert_eq!(shelf.complaint(&key), None);
    }

    #[test]
    fn an_object_that_was_made_again_does_not_go_on_as_it_was() {
        let mut shelf = shelf();
        shelf.told(SourceEvent::Apply(received("x", "first", 1, GOOD)));
        let writes = shelf.told(SourceEvent::Apply(received("x", "second", 2, BAD))).writes;
        assert!(matches!(&*writes, [PolicyWrite { object: None, .. }]), "{writes:?}");
        assert_eq!(shelf.state(), (0, 1, 0));
    }

    #[test]
    fn k21_a_list_without_most_of_what_is_known_is_confirmed_first() {
        let (mut shelf, start) = (shelf(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(shelf.list(start, &["a", "b", "c"]).writes.len(), 3);
        assert_eq!(shelf.list(at(1), &["a", "b"]).writes.len(), 1, "one may go");
        let empty = shelf.list(at(2), &[]);
        assert_eq!((empty.writes.len(), empty.doubted), (0, Some((2, 2))));
        assert_eq!((shelf.due(), shelf.state().2), (Some(at(32)), 2));
        shelf.asked();
        let again = shelf.list(at(32), &[]);
        assert_eq!((again.writes.len(), again.doubted, shelf.state().2), (2, None, 0));
    }

    #[test]
    fn a_list_that_is_not_complete_takes_nothing_away_and_adds_nothing() {
        let (mut shelf, now) = (shelf(), Instant::now());
        shelf.list(now, &["a", "b"]);
        shelf.told(SourceEvent::Init);
        assert!(shelf.told(SourceEvent::InitApply(received("c", "u", 1, GOOD))).writes.is_empty());
        assert_eq!(shelf.state().2, 2);
        assert_eq!(shelf.list(now, &["a", "b"]).writes.len(), 0, "and a new one starts over");
    }

    #[test]
    fn other_terms_are_read_into_every_object() {
        let mut shelf = shelf();
        shelf.list(Instant::now(), &["a", "b"]);
        let export = crate::model::ExportTo::Nowhere;
        let terms = Terms { destination_rule_export_to: export.clone(), ..Terms::default() };
        assert_eq!(shelf.read_again(&terms).writes.len(), 2);
        let exports = |object: &PolicyObject| match object {
            PolicyObject::DestinationRule(rule) => rule.export_to == export,
            _ => false,
        };
        assert!(shelf.in_use().all(exports));
    }
}
