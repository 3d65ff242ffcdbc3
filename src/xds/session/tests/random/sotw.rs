//! The state of the world.

use super::*;

/// What the session knows of one type.
#[derive(Clone, Debug, Default)]
struct Subscription {
    names: BTreeSet<String>,
    /// A name was given, if only `*` (X-S06).
    named: bool,
}

impl Subscription {
    fn everything(&self) -> bool {
        !self.named || self.names.contains("*")
    }
}

/// A client that keeps what it is told, and what it may be told next.
struct Client {
    session: SotwSession,
    world: World,
    now: Instant,
    /// What it wants, as it says in every request.
    wanted: BTreeMap<ResourceType, BTreeSet<String>>,
    /// What of that was not in a stale request.
    known: BTreeMap<ResourceType, Subscription>,
    cache: BTreeMap<(ResourceType, String), String>,
    unanswered: Vec<(ResourceType, String)>,
    nonces: Vec<(ResourceType, String)>,
    /// Names of EDS and RDS asked for since they were last sent: these must be answered.
    asked: Due,
    /// Types of full sets that were asked for: the whole set must come.
    sets: BTreeSet<ResourceType>,
    warming: Due,
    waiting: Due,
}

impl Client {
    fn new(world: World) -> Self {
        Self {
            session: SotwSession::new(SessionLimits::default()),
            world,
            now: Instant::now(),
            wanted: BTreeMap::new(),
            known: BTreeMap::new(),
            cache: BTreeMap::new(),
            unanswered: Vec::new(),
            nonces: Vec::new(),
            asked: Due::new(),
            sets: BTreeSet::new(),
            warming: Due::new(),
            waiting: Due::new(),
        }
    }

    fn wants(&self, kind: ResourceType, name: &str) -> bool {
        self.known
            .get(&kind)
            .is_some_and(|known| known.names.contains(name) || (kind.is_wildcard() && known.everything()))
    }

    fn last(&self, kind: ResourceType) -> Option<&String> {
        self.nonces.iter().rev().find(|(k, _)| *k == kind).map(|(_, nonce)| nonce)
    }

    /// Says what it wants of a type.
    fn say(&mut self, kind: ResourceType, nonce: &str, error_detail: Option<Status>) {
        let names = self.wanted.entry(kind).or_default().clone();
        let stale = !nonce.is_empty() && self.last(kind).is_some_and(|last| last != nonce);
        let request = DiscoveryRequest {
            type_url: kind.url().into(),
            resource_names: names.iter().cloned().collect(),
            response_nonce: nonce.into(),
            error_detail: error_detail.clone(),
            ..Default::default()
        };
        self.session.request(request, self.now).expect("request");
        if !(stale && self.known.contains_key(&kind)) {
            self.heard(kind, names, nonce.is_empty() && error_detail.is_none());
        }
    }

    /// The session takes these names.
    fn heard(&mut self, kind: ResourceType, names: BTreeSet<String>, anew: bool) {
        let first = !self.known.contains_key(&kind);
        let before = self.known.entry(kind).or_default().clone();
        let named = before.named || !names.is_empty();
        let now = Subscription { named, names };
        let added: Vec<_> = now.names.difference(&before.names).cloned().collect();
        let again = first || anew;
        if kind.is_wildcard() {
            let subscribed = now.everything() || !now.names.is_empty();
            if subscribed && (again || !added.is_empty()) {
                self.sets.insert(kind);
            }
            if !subscribed {
                self.sets.remove(&kind);
            }
        } else {
            let asked = if again { now.names.iter().cloned().collect() } else { added };
            self.asked.extend(asked.into_iter().map(|name| (kind, name)));
        }
        self.known.insert(kind, now);
        self.forget(kind);
    }

    fn forget(&mut self, kind: ResourceType) {
        let (known, wildcard) = (self.known[&kind].clone(), kind.is_wildcard());
        let stays = |k: ResourceType, name: &String| {
            k != kind || known.names.contains(name) || (wildcard && known.everything())
        };
        self.cache.retain(|(k, name), _| stays(*k, name));
        self.asked.retain(|(k, name)| stays(*k, name));
        self.waiting.retain(|(k, name)| stays(*k, name));
    }

    fn poll(&mut self) -> bool {
        let polled = self.session.poll(self.now, &self.world);
        if polled.as_ref().is_none_or(|(kind, _)| *kind == Secret) {
            // A secret that does not exist is met with silence (D23); when it comes it is a push.
            let world = &self.world;
            self.asked.retain(|(kind, name)| *kind != Secret || world.said(*kind, name).is_some());
        }
        let Some((kind, response)) = polled else {
            return false;
        };
        assert!(self.known.contains_key(&kind), "{kind} was not asked for");
        assert!(self.nonces.iter().all(|(_, nonce)| *nonce != response.nonce), "nonce used twice");
        let mut told = BTreeMap::new();
        for bytes in &response.resources {
            let value = text(&Any::decode(bytes.clone()).expect("any").value);
            let name = value.split('=').next().expect("a name").to_owned();
            assert!(told.insert(name, value).is_none(), "a name twice");
        }
        if kind.is_wildcard() {
            self.set(kind, told)
        } else {
            self.subset(kind, told)
        }
        self.unanswered.push((kind, response.nonce.clone()));
        self.nonces.push((kind, response.nonce));
        true
    }

    /// Everything that is subscribed, and a reason to say it.
    fn set(&mut self, kind: ResourceType, told: BTreeMap<String, String>) {
        let there = NAMES.iter().filter(|name| self.wants(kind, name));
        let there = there.filter_map(|name| Some((name.to_string(), self.world.said(kind, name)?)));
        assert_eq!(told, there.collect(), "{kind}: not the set of now");
        let asked = self.sets.remove(&kind);
        let cached = self.cache.iter().filter(|((k, _), _)| *k == kind);
        let cached: BTreeMap<_, _> = cached.map(|((_, name), value)| (name.clone(), value.clone())).collect();
        assert!(asked || told != cached, "{kind} is sent again and nobody asked");
        for (name, value) in told.iter().filter(|_| kind == Cluster) {
            let assignment = (Endpoint, name.clone());
            if self.wants(Endpoint, name) && cached.get(name) != Some(value) {
                self.waiting.insert(assignment.clone());
            }
            self.warming.insert(assignment);
        }
        self.cache.retain(|(k, _), _| *k != kind);
        self.cache.extend(told.into_iter().map(|(name, value)| ((kind, name), value)));
    }

    fn subset(&mut self, kind: ResourceType, told: BTreeMap<String, String>) {
        assert!(!told.is_empty(), "{kind}: an empty response means nothing");
        for (name, value) in told {
            assert!(self.wants(kind, &name), "{kind} {name} is not subscribed");
            let current = self.world.said(kind, &name).or_else(|| stands_in(kind, &name));
            assert_eq!(Some(&value), current.as_ref(), "{kind} {name} is not of now");
            let key = (kind, name);
            let (asked, warming) = (self.asked.remove(&key), self.warming.remove(&key));
            self.waiting.remove(&key);
            // A secret may have been gone in between, which the protocol cannot say (D23).
            let news = self.cache.get(&key) != Some(&value) || kind == Secret;
            assert!(asked || warming || news, "{key:?} is sent again and nobody asked");
            self.cache.insert(key, value);
        }
    }

    fn poll_all(&mut self) {
        for _ in 0..1_000 {
            if !self.poll() {
                assert_eq!(self.asked, Due::new(), "not answered");
                assert_eq!(self.waiting, Due::new(), "its cluster waits for it");
                assert_eq!(self.sets, BTreeSet::new(), "not answered");
                return;
            }
        }
        panic!("the session never falls silent");
    }

    fn answer(&mut self, reject: bool) {
        if !self.unanswered.is_empty() {
            let (kind, nonce) = self.unanswered.remove(0);
            self.say(kind, &nonce, reject.then(error).flatten());
        }
    }

    fn notify(&mut self, kind: ResourceType, name: &str) {
        if kind.is_wildcard() {
            self.session.list_changed(kind);
        }
        self.session.changed(kind, &name.into());
    }

    /// Changes what it wants and says so.
    fn change(&mut self, kind: ResourceType, form: Nonce, change: impl Fn(&mut BTreeSet<String>)) {
        change(self.wanted.entry(kind).or_default());
        let nonce = match form {
            Nonce::Empty => None,
            Nonce::Last => self.last(kind).cloned(),
            Nonce::First => self.nonces.iter().find(|(k, _)| *k == kind).map(|(_, nonce)| nonce.clone()),
            Nonce::Unknown => Some("no nonce of ours".into()),
        };
        let nonce = nonce.unwrap_or_default();
        if self.last(kind) == Some(&nonce) {
            self.unanswered.retain(|(k, _)| *k != kind);
        }
        self.say(kind, &nonce, None);
    }

    fn reconnect(&mut self, synced: bool) {
        let old = std::mem::replace(self, Self::new(world()));
        self.world = old.world;
        self.now = old.now;
        self.world.synced.set(synced);
        for (kind, names) in old.wanted {
            self.wanted.insert(kind, names);
            // With the nonce of another stream (X-C22).
            self.say(kind, "17", None);
        }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Put(k, n, v) => {
                self.world.put(kind(k), NAMES[n], &v.to_string());
                self.notify(kind(k), NAMES[n]);
            }
            Step::Delete(k, n) => {
                self.world.delete(kind(k), NAMES[n]);
                self.notify(kind(k), NAMES[n]);
            }
            Step::Touch(k) => {
                self.session.list_changed(kind(k));
                NAMES.iter().for_each(|name| self.session.changed(kind(k), &(*name).into()));
            }
            Step::Rekey => self.session.rekeyed(),
            Step::Ask(k, n, form) => self.change(kind(k), form, |names| _ = names.insert(NAMES[n].into())),
            Step::Leave(k, n, form) => self.change(kind(k), form, |names| _ = names.remove(NAMES[n])),
            Step::Star(k) if kind(k).is_wildcard() => {
                self.change(kind(k), Nonce::Last, |names| _ = names.insert("*".into()));
            }
            Step::Unstar(k) if kind(k).is_wildcard() => {
                self.change(kind(k), Nonce::Last, |names| _ = names.remove("*"));
            }
            Step::Star(_) | Step::Unstar(_) => {}
            Step::Poll => self.poll_all(),
            Step::PollOnce => _ = self.poll(),
            Step::Answer(reject) => self.answer(reject),
            Step::Reject(k) => self.say(kind(k), "no nonce of ours", error()),
            Step::Wait(milliseconds) => self.now += ms(milliseconds),
            Step::Reconnect(synced) => self.reconnect(synced),
        }
    }

    fn settle(&mut self) {
        self.world.synced.set(true);
        // Once more what is wanted of every type: the last word may have been a stale one, which nobody answered.
        let kinds: Vec<_> = self.wanted.keys().copied().collect();
        for kind in kinds {
            self.change(kind, Nonce::Last, |_| {});
        }
        for _ in 0..1000 {
            self.poll_all();
            if self.unanswered.is_empty() {
                assert_eq!(self.session.deadline(), None, "something is still held back");
                return;
            }
            self.answer(false);
        }
        panic!("the session never falls silent");
    }

    fn check(&self) {
        for kind in self.known.keys() {
            for name in NAMES {
                let has = self.cache.get(&(*kind, name.to_owned())).cloned();
                match self.world.said(*kind, name).filter(|_| self.wants(*kind, name)) {
                    Some(said) => assert_eq!(has, Some(said), "{kind} {name}"),
                    // The protocol has no way to say that a secret is gone.
                    None if *kind == Secret => {}
                    None => assert!(has.is_none_or(|has| has == format!("{name}=")), "{kind} {name}"),
                }
            }
        }
    }
}

play_histories!(Client);
