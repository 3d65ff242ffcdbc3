//! The incremental protocol.

use super::*;

/// A client that keeps what it is told, and what it may be told next.
struct Client {
    session: DeltaSession,
    world: World,
    now: Instant,
    names: BTreeMap<ResourceType, BTreeSet<String>>,
    cache: BTreeMap<(ResourceType, String), String>,
    unanswered: Vec<(ResourceType, String)>,
    nonces: Vec<(ResourceType, String)>,
    /// Asked for since they were last sent: these must be answered (X-D05, X-D08, X-D09).
    asked: Due,
    /// The same by a wildcard: what is there must come.
    starred: Due,
    /// Assignments of clusters written since: these may be sent although they are the same (D21).
    warming: Due,
    /// Of them those that were subscribed at that time: these must be sent (X-O03).
    waiting: Due,
}

impl Client {
    fn new(world: World) -> Self {
        Self {
            session: DeltaSession::new(SessionLimits::default()),
            world,
            now: Instant::now(),
            names: BTreeMap::new(),
            cache: BTreeMap::new(),
            unanswered: Vec::new(),
            nonces: Vec::new(),
            asked: Due::new(),
            starred: Due::new(),
            warming: Due::new(),
            waiting: Due::new(),
        }
    }

    fn wants(&self, kind: ResourceType, name: &str) -> bool {
        self.names.get(&kind).is_some_and(|names| names.contains("*") || names.contains(name))
    }

    fn ask(
        &mut self,
        kind: ResourceType,
        add: &[&str],
        remove: &[&str],
        nonce: &str,
        error_detail: Option<Status>,
    ) {
        let first = !self.names.contains_key(&kind);
        let everything = kind.is_wildcard() && ((first && add.is_empty()) || add.contains(&"*"));
        let names = self.names.entry(kind).or_default();
        if everything {
            names.insert("*".into());
            if !first {
                self.starred.extend(NAMES.map(|name| (kind, name.to_owned())));
            }
        }
        names.extend(strings(add));
        self.asked.extend(add.iter().filter(|name| **name != "*").map(|name| (kind, name.to_string())));
        for name in remove {
            names.remove(*name);
        }
        if names.contains("*") {
            // Told anew what they are under the wildcard (X-D05).
            self.asked.extend(remove.iter().map(|name| (kind, name.to_string())));
        }
        self.forget(kind);
        let request = DeltaDiscoveryRequest {
            type_url: kind.url().into(),
            resource_names_subscribe: strings(add),
            resource_names_unsubscribe: strings(remove),
            response_nonce: nonce.into(),
            error_detail,
            ..Default::default()
        };
        self.session.request(request, self.now).expect("request");
    }

    /// What is not subscribed is nothing to the client.
    fn forget(&mut self, kind: ResourceType) {
        let kept = self.names[&kind].clone();
        let stays = |k: ResourceType, name: &String| k != kind || kept.contains("*") || kept.contains(name);
        self.cache.retain(|(k, name), _| stays(*k, name));
        self.asked.retain(|(k, name)| stays(*k, name));
        self.starred.retain(|(k, _)| *k != kind || kept.contains("*"));
        self.waiting.retain(|(k, name)| stays(*k, name));
    }

    /// One message, checked; false when there is none.
    fn poll(&mut self) -> bool {
        let Some((kind, response)) = self.session.poll(self.now, &self.world) else {
            return false;
        };
        assert!(self.names.contains_key(&kind), "{kind} was not asked for");
        assert!(self.nonces.iter().all(|(_, nonce)| *nonce != response.nonce), "nonce used twice");
        let mut told = BTreeSet::new();
        for bytes in response.resources {
            let resource = Resource::decode(bytes).expect("resource");
            assert!(told.insert(resource.name.clone()), "a name twice");
            self.sent(kind, resource.name, text(&resource.resource.expect("any").value));
        }
        for name in response.removed_resources {
            assert!(told.insert(name.clone()), "a name sent and removed");
            self.removed(kind, name);
        }
        // The wildcard is answered: what comes to be from now on is a push.
        let world = &self.world;
        self.starred.retain(|(k, name)| *k != kind || world.said(*k, name).is_some());
        self.unanswered.push((kind, response.nonce.clone()));
        self.nonces.push((kind, response.nonce));
        true
    }

    fn sent(&mut self, kind: ResourceType, name: String, value: String) {
        assert!(self.wants(kind, &name), "{kind} {name} is not subscribed");
        let current = self.world.said(kind, &name).or_else(|| stands_in(kind, &name));
        assert_eq!(Some(&value), current.as_ref(), "{kind} {name} is not of now");
        let key = (kind, name);
        let asked = self.asked.remove(&key) | self.starred.remove(&key);
        let warming = self.warming.remove(&key);
        self.waiting.remove(&key);
        let news = self.cache.get(&key) != Some(&value);
        assert!(asked || warming || news, "{key:?} is sent again and nobody asked");
        if kind == Cluster {
            let assignment = (Endpoint, key.1.clone());
            if self.wants(Endpoint, &key.1) {
                self.waiting.insert(assignment.clone());
            }
            self.warming.insert(assignment);
        }
        self.cache.insert(key, value);
    }

    fn removed(&mut self, kind: ResourceType, name: String) {
        assert!(self.world.said(kind, &name).is_none(), "{kind} {name} is there");
        let key = (kind, name);
        let asked = self.asked.remove(&key);
        self.waiting.remove(&key);
        assert!(asked || self.cache.contains_key(&key), "{key:?} is removed and was not there");
        assert!(asked || self.wants(kind, &key.1) || self.cache.contains_key(&key));
        self.cache.remove(&key);
    }

    fn poll_all(&mut self) {
        for _ in 0..1_000 {
            if !self.poll() {
                let world = &self.world;
                self.starred.retain(|(kind, name)| world.said(*kind, name).is_some());
                assert_eq!(self.starred, Due::new(), "not answered");
                // Answers and assignments that a cluster waits for are never held back (D22).
                assert_eq!(self.asked, Due::new(), "not answered");
                assert_eq!(self.waiting, Due::new(), "its cluster waits for it");
                return;
            }
        }
        panic!("the session never falls silent");
    }

    fn answer(&mut self, reject: bool) {
        if !self.unanswered.is_empty() {
            let (kind, nonce) = self.unanswered.remove(0);
            self.ask(kind, &[], &[], &nonce, reject.then(error).flatten());
        }
    }

    fn notify(&mut self, kind: ResourceType, name: &str) {
        if kind.is_wildcard() {
            self.session.list_changed(kind);
        }
        self.session.changed(kind, &name.into());
    }

    fn nonce(&mut self, kind: ResourceType, form: Nonce) -> String {
        let mut of_kind = self.nonces.iter().filter(|(k, _)| *k == kind).map(|(_, nonce)| nonce.clone());
        let nonce = match form {
            Nonce::Empty => None,
            Nonce::Last => of_kind.next_back(),
            Nonce::First => of_kind.next(),
            Nonce::Unknown => Some("no nonce of ours".into()),
        };
        let nonce = nonce.unwrap_or_default();
        // An answer to it and to all before.
        if let Some(at) = self.unanswered.iter().position(|(k, n)| *k == kind && *n == nonce) {
            let mut number = 0;
            self.unanswered.retain(|(k, _)| {
                number += 1;
                *k != kind || number - 1 > at
            });
        }
        nonce
    }

    /// The same client on a new stream: it says what it holds and wants.
    fn reconnect(&mut self, synced: bool) {
        let old = std::mem::replace(self, Self::new(world()));
        self.world = old.world;
        self.now = old.now;
        self.cache = old.cache;
        self.world.synced.set(synced);
        for (kind, names) in old.names {
            let versions = self.cache.iter().filter(|((k, _), _)| *k == kind).map(|((_, name), value)| {
                let version = Encoded::new(kind, name, value.as_bytes()).version();
                (name.clone(), version)
            });
            let versions: BTreeMap<_, _> = versions.collect();
            let unknown = names.iter().filter(|name| *name != "*" && !versions.contains_key(*name));
            self.asked.extend(unknown.map(|name| (kind, name.clone())));
            if names.is_empty() {
                // To open the type with nothing (X-D04).
                self.names.insert(kind, BTreeSet::new());
            }
            let request = DeltaDiscoveryRequest {
                type_url: kind.url().into(),
                resource_names_subscribe: names.iter().cloned().collect(),
                resource_names_unsubscribe: if names.is_empty() { strings(&["*"]) } else { Vec::new() },
                initial_resource_versions: versions,
                ..Default::default()
            };
            self.session.request(request, self.now).expect("request");
            self.names.insert(kind, names);
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
            Step::Ask(k, n, form) => {
                let nonce = self.nonce(kind(k), form);
                self.ask(kind(k), &[NAMES[n]], &[], &nonce, None);
            }
            Step::Leave(k, n, form) => {
                let nonce = self.nonce(kind(k), form);
                self.ask(kind(k), &[], &[NAMES[n]], &nonce, None);
            }
            Step::Star(k) if kind(k).is_wildcard() => self.ask(kind(k), &["*"], &[], "", None),
            Step::Unstar(k) if kind(k).is_wildcard() => self.ask(kind(k), &[], &["*"], "", None),
            Step::Star(_) | Step::Unstar(_) => {}
            Step::Poll => self.poll_all(),
            Step::PollOnce => _ = self.poll(),
            Step::Answer(reject) => self.answer(reject),
            Step::Reject(k) => self.ask(kind(k), &[], &[], "no nonce of ours", error()),
            Step::Wait(milliseconds) => self.now += ms(milliseconds),
            Step::Reconnect(synced) => self.reconnect(synced),
        }
    }

    fn settle(&mut self) {
        self.world.synced.set(true);
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
        for kind in self.names.keys() {
            for name in NAMES {
                let has = self.cache.get(&(*kind, name.to_owned())).cloned();
                match self.world.said(*kind, name).filter(|_| self.wants(*kind, name)) {
                    Some(said) => assert_eq!(has, Some(said), "{kind} {name}"),
                    None => assert!(has.is_none_or(|has| has == format!("{name}=")), "{kind} {name}"),
                }
            }
        }
    }
}

play_histories!(Client);
