//! Random histories: after quiet, what the client holds is what the world has for its subscriptions.

use proptest::prelude::*;

use super::*;

const NAMES: [&str; 4] = ["a", "b", "c", "own"];

#[derive(Clone, Debug)]
enum Step {
    Put(usize, usize, u8),
    Delete(usize, usize),
    Rekey,
    Ask(usize, usize),
    Leave(usize, usize),
    Star(usize),
    Unstar(usize),
    Poll,
    /// Answers the oldest unanswered response; `true` rejects it.
    Answer(bool),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let (kind, name) = (0..5usize, 0..NAMES.len());
    prop_oneof![
        4 => (kind.clone(), name.clone(), 0..3u8).prop_map(|(k, n, v)| Step::Put(k, n, v)),
        2 => (kind.clone(), name.clone()).prop_map(|(k, n)| Step::Delete(k, n)),
        1 => Just(Step::Rekey),
        4 => (kind.clone(), name.clone()).prop_map(|(k, n)| Step::Ask(k, n)),
        2 => (kind.clone(), name).prop_map(|(k, n)| Step::Leave(k, n)),
        1 => kind.clone().prop_map(Step::Star),
        1 => kind.prop_map(Step::Unstar),
        6 => Just(Step::Poll),
        4 => prop::bool::weighted(0.2).prop_map(Step::Answer),
        2 => (0..400u64).prop_map(Step::Wait),
    ]
}

/// A client of the incremental protocol that keeps what it is told.
struct Client {
    session: DeltaSession,
    world: World,
    now: Instant,
    names: BTreeMap<ResourceType, BTreeSet<String>>,
    cache: BTreeMap<(ResourceType, String), String>,
    unanswered: Vec<(ResourceType, String)>,
    nonces: BTreeSet<String>,
}

impl Client {
    fn ask(
        &mut self,
        kind: ResourceType,
        add: &[&str],
        remove: &[&str],
        nonce: &str,
        error_detail: Option<Status>,
    ) {
        let first = !self.names.contains_key(&kind);
        let names = self.names.entry(kind).or_default();
        if first && add.is_empty() && kind.is_wildcard() {
            names.insert("*".into());
        }
        names.extend(strings(add));
        remove.iter().for_each(|name| _ = names.remove(*name));
        let kept = names.clone();
        self.cache.retain(|(k, name), _| *k != kind || kept.contains("*") || kept.contains(name));
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

    fn poll(&mut self) {
        for _ in 0..100 {
            let Some((kind, response)) = self.session.poll(self.now, &self.world) else {
                return;
            };
            assert!(self.nonces.insert(response.nonce.clone()), "nonce used twice");
            let mut told = BTreeSet::new();
            for bytes in response.resources {
                let resource = Resource::decode(bytes).expect("resource");
                assert!(told.insert(resource.name.clone()), "a name twice");
                let value = text(&resource.resource.expect("any").value);
                self.cache.insert((kind, resource.name), value);
            }
            for name in response.removed_resources {
                assert!(told.insert(name.clone()), "a name sent and removed");
                self.cache.remove(&(kind, name));
            }
            self.unanswered.push((kind, response.nonce));
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

    fn take(&mut self, step: &Step) {
        let kind = |index: &usize| ResourceType::ALL[*index];
        match step {
            Step::Put(k, n, v) => {
                self.world.put(kind(k), NAMES[*n], &v.to_string());
                self.notify(kind(k), NAMES[*n]);
            }
            Step::Delete(k, n) => {
                self.world.delete(kind(k), NAMES[*n]);
                self.notify(kind(k), NAMES[*n]);
            }
            Step::Rekey => self.session.rekeyed(),
            Step::Ask(k, n) => self.ask(kind(k), &[NAMES[*n]], &[], "", None),
            Step::Leave(k, n) => self.ask(kind(k), &[], &[NAMES[*n]], "", None),
            Step::Star(k) if kind(k).is_wildcard() => self.ask(kind(k), &["*"], &[], "", None),
            Step::Unstar(k) if kind(k).is_wildcard() => self.ask(kind(k), &[], &["*"], "", None),
            Step::Star(_) | Step::Unstar(_) => {}
            Step::Poll => self.poll(),
            Step::Answer(reject) => self.answer(*reject),
            Step::Wait(milliseconds) => self.now += ms(*milliseconds),
        }
    }

    fn settle(&mut self) {
        for _ in 0..1000 {
            self.poll();
            if self.unanswered.is_empty() {
                assert_eq!(self.session.deadline(), None, "something is still held back");
                return;
            }
            self.answer(false);
        }
        panic!("the session never falls silent");
    }

    fn check(&self) {
        for (kind, names) in &self.names {
            for name in NAMES {
                let has = self.cache.get(&(*kind, name.to_owned())).cloned();
                let there = self.world.content.get(&(*kind, name.to_owned()));
                let wanted = names.contains("*") || names.contains(name);
                match there.filter(|_| wanted) {
                    Some(text) => assert_eq!(has, Some(format!("{name}={text}")), "{kind} {name}"),
                    None => assert!(has.is_none_or(|has| has == format!("{name}=")), "{kind} {name}"),
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn the_client_ends_up_with_the_world(steps in prop::collection::vec(step(), 0..80)) {
        let mut client = Client {
            session: DeltaSession::new(SessionLimits::default()),
            world: World::new(&[(Cluster, "a", "1"), (Endpoint, "a", "1")]),
            now: Instant::now(),
            names: BTreeMap::new(),
            cache: BTreeMap::new(),
            unanswered: Vec::new(),
            nonces: BTreeSet::new(),
        };
        steps.iter().for_each(|step| client.take(step));
        client.settle();
        client.check();
    }
}
