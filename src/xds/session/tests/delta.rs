use super::*;

struct Peer {
    session: DeltaSession,
    world: World,
    now: Instant,
    nonces: BTreeMap<ResourceType, String>,
    seen: BTreeSet<String>,
}

impl Peer {
    fn new(content: &[(ResourceType, &str, &str)]) -> Self {
        Self {
            session: DeltaSession::new(SessionLimits::default()),
            world: World::new(content),
            now: Instant::now(),
            nonces: BTreeMap::new(),
            seen: BTreeSet::new(),
        }
    }

    fn send(&mut self, request: DeltaDiscoveryRequest) -> Effects {
        self.session.request(request, self.now).expect("request")
    }

    fn ask(&mut self, kind: ResourceType, add: &[&str], remove: &[&str]) -> Effects {
        self.send(DeltaDiscoveryRequest {
            type_url: kind.url().into(),
            resource_names_subscribe: strings(add),
            resource_names_unsubscribe: strings(remove),
            ..Default::default()
        })
    }

    fn init(&mut self, kind: ResourceType, add: &[&str], init: &[(&str, &str)]) {
        self.send(DeltaDiscoveryRequest {
            type_url: kind.url().into(),
            resource_names_subscribe: strings(add),
            initial_resource_versions: init.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect(),
            ..Default::default()
        });
    }

    fn answer(&mut self, kind: ResourceType, add: &[&str], error_detail: Option<Status>) -> Effects {
        self.send(DeltaDiscoveryRequest {
            type_url: kind.url().into(),
            resource_names_subscribe: strings(add),
            response_nonce: self.nonces.get(&kind).cloned().unwrap_or_default(),
            error_detail,
            ..Default::default()
        })
    }

    fn ack(&mut self, kind: ResourceType) -> Effects {
        self.answer(kind, &[], None)
    }

    fn next(&mut self) -> Option<(ResourceType, DeltaDiscoveryResponse)> {
        let (kind, response) = self.session.poll(self.now, &self.world)?;
        assert!(self.seen.insert(response.nonce.clone()), "nonce used twice");
        assert_eq!(response.type_url, kind.url());
        self.nonces.insert(kind, response.nonce.clone());
        Some((kind, response))
    }

    fn sees(&mut self, expected: &[&str]) {
        let mut seen = Vec::new();
        while let Some((kind, response)) = self.next() {
            let mut contents = BTreeSet::new();
            for bytes in &response.resources {
                let resource = Resource::decode(bytes.clone()).expect("resource");
                contents.insert(text(&resource.resource.expect("any").value));
            }
            assert_eq!(contents.len(), response.resources.len(), "a name twice");
            seen.push(told(kind, &contents, &response.removed_resources));
        }
        assert_eq!(seen, expected);
    }

    fn put(&mut self, kind: ResourceType, name: &str, text: &str) {
        self.world.put(kind, name, text);
        self.notify(kind, name);
    }

    fn delete(&mut self, kind: ResourceType, name: &str) {
        self.world.delete(kind, name);
        self.notify(kind, name);
    }

    fn notify(&mut self, kind: ResourceType, name: &str) {
        if kind.is_wildcard() {
            self.session.list_changed(kind);
        } else {
            self.session.changed(kind, &name.into());
        }
    }
}

#[test]
fn xd01_xd02_first_request_without_names_is_a_wildcard_and_answered_even_if_empty() {
    let mut peer = Peer::new(&[(Cluster, "a", "1"), (Cluster, "own", "1")]);
    assert_eq!(peer.ask(Cluster, &[], &[]).opened, Some(Cluster));
    peer.sees(&["cds {a=1,own=1}"]);
    peer.ask(Listener, &[], &[]);
    peer.sees(&["lds {}"]);
}

#[test]
fn xd03_names_survive_the_end_of_the_wildcard() {
    let mut peer = Peer::new(&[(Cluster, "a", "1"), (Cluster, "b", "1")]);
    peer.ask(Cluster, &["*", "a"], &[]);
    peer.sees(&["cds {a=1,b=1}"]);
    peer.ack(Cluster);
    peer.ask(Cluster, &[], &["*"]);
    peer.put(Cluster, "a", "2");
    peer.put(Cluster, "b", "2");
    peer.sees(&["cds {a=2}"]);
}

#[test]
fn xd04_star_given_and_taken_at_once_opens_the_type_only() {
    let mut peer = Peer::new(&[(Cluster, "a", "1")]);
    peer.ask(Cluster, &["*"], &["*"]);
    peer.sees(&[]);
    peer.ask(Cluster, &["a"], &[]);
    peer.sees(&["cds {a=1}"]);
}

#[test]
fn xd05_unsubscribing_under_a_wildcard_is_answered() {
    let mut peer = Peer::new(&[(Cluster, "a", "1")]);
    peer.ask(Cluster, &["*", "a", "ghost"], &[]);
    peer.sees(&["cds {a=1} rm{ghost}"]);
    peer.ask(Cluster, &[], &["a", "ghost"]);
    peer.sees(&["cds {a=1} rm{ghost}"]);
}

#[test]
fn xd06_xd07_unsubscribed_names_are_silent() {
    let mut peer = Peer::new(&[(Endpoint, "a", "1")]);
    peer.ask(Endpoint, &["a", "a"], &[]);
    peer.sees(&["eds {a=1}"]);
    peer.ack(Endpoint);
    assert_eq!(peer.ask(Endpoint, &[], &["a", "never"]).unsubscribed, [(Endpoint, "a".into())]);
    peer.put(Endpoint, "a", "2");
    peer.sees(&[]);
}

#[test]
fn xd08_resubscription_is_sent_again() {
    let mut peer = Peer::new(&[(Endpoint, "a", "1")]);
    peer.ask(Endpoint, &["a"], &[]);
    peer.sees(&["eds {a=1}"]);
    assert_eq!(peer.ack(Endpoint).outcome, Outcome::Ack);
    assert!(peer.ask(Endpoint, &["a"], &[]).subscribed.is_empty());
    peer.sees(&["eds {a=1}"]);
}

#[test]
fn xd09_to_xd12_names_count_whatever_the_nonce() {
    let mut peer = Peer::new(&[(Endpoint, "a", "1"), (Endpoint, "b", "1"), (Endpoint, "c", "1")]);
    peer.ask(Endpoint, &["a"], &[]);
    peer.sees(&["eds {a=1}"]);
    let real = peer.nonces.insert(Endpoint, "unknown".into());
    peer.answer(Endpoint, &["b"], None);
    peer.sees(&["eds {b=1}"]);
    assert_ne!(real, peer.nonces.get(&Endpoint).cloned());
    assert!(
        matches!(peer.answer(Endpoint, &["c"], error()).outcome, Outcome::Nack { message, answers: true } if message == "bad resource")
    );
    peer.sees(&["eds {c=1}"]);
    peer.ask(Endpoint, &["b"], &[]);
    peer.sees(&["eds {b=1}"]);
    peer.put(Endpoint, "a", "2");
    peer.sees(&[]);
    assert!(peer.session.deadline().is_some(), "still outstanding");
}

#[test]
fn xd13_xc16_unknown_names_are_answered_and_pushed_when_they_appear() {
    let mut peer = Peer::new(&[]);
    for (kind, first) in [
        (Cluster, "cds {} rm{g}"),
        (Endpoint, "eds {g=}"),
        (Listener, "lds {} rm{g}"),
        (Route, "rds {g=}"),
        (Secret, "sds {} rm{g}"),
    ] {
        peer.ask(kind, &["g"], &[]);
        peer.sees(&[first]);
        peer.ack(kind);
    }
    peer.put(Secret, "g", "1");
    peer.put(Route, "g", "1");
    peer.sees(&["rds {g=1}", "sds {g=1}"]);
}

#[test]
fn xd14_a_deleted_assignment_is_empty_while_its_cluster_is_there() {
    let mut peer =
        Peer::new(&[(Cluster, "a", "1"), (Endpoint, "a", "1"), (Endpoint, "b", "1"), (Route, "r", "1")]);
    peer.ask(Cluster, &[], &[]);
    peer.ask(Endpoint, &["a", "b"], &[]);
    peer.ask(Route, &["r"], &[]);
    peer.sees(&["cds {a=1}", "eds {a=1,b=1}", "rds {r=1}"]);
    peer.ack(Endpoint);
    peer.ack(Route);
    for (kind, name) in [(Endpoint, "a"), (Endpoint, "b"), (Route, "r")] {
        peer.delete(kind, name);
    }
    peer.sees(&["eds {a=} rm{b}", "rds {} rm{r}"]);
}

#[test]
fn xd15_delete_and_create_between_pushes_is_one_update() {
    let mut peer = Peer::new(&[(Cluster, "a", "1")]);
    peer.ask(Cluster, &[], &[]);
    peer.sees(&["cds {a=1}"]);
    peer.ack(Cluster);
    peer.delete(Cluster, "a");
    peer.put(Cluster, "a", "2");
    peer.sees(&["cds {a=2}"]);
    peer.ack(Cluster);
    peer.delete(Cluster, "a");
    peer.sees(&["cds {} rm{a}"]);
}

#[test]
fn xd16_xd17_xd18_initial_versions_count_once() {
    let mut peer =
        Peer::new(&[(Cluster, "a", "1"), (Cluster, "b", "1"), (Endpoint, "e", "1"), (Endpoint, "f", "1")]);
    let (a, e) = (peer.world.version(Cluster, "a"), peer.world.version(Endpoint, "e"));
    peer.init(Cluster, &[], &[("a", &a), ("b", "old"), ("gone", "7")]);
    peer.sees(&["cds {b=1} rm{gone}"]);
    peer.init(Endpoint, &["e"], &[("e", &e), ("f", "old")]);
    peer.put(Endpoint, "f", "2");
    peer.sees(&[]);
    peer.init(Endpoint, &["e"], &[("e", &e)]);
    peer.sees(&["eds {e=1}"]);
}

#[test]
fn xd21_d25_large_sets_are_split() {
    let mut peer = Peer::new(&[]);
    let big = "x".repeat(1 << 20);
    (0..7).for_each(|i| peer.world.put(Cluster, &format!("big{i}"), &big));
    (0..2500).for_each(|i| peer.world.put(Cluster, &format!("small{i}"), "1"));
    peer.ask(Cluster, &[], &[]);
    let (mut messages, mut names) = (0, 0);
    while let Some((_, response)) = peer.next() {
        assert!(response.encoded_len() <= 4 << 20);
        (messages, names) = (messages + 1, names + response.resources.len());
        peer.ack(Cluster);
    }
    assert_eq!((messages >= 3, names), (true, 2507));
    peer.world.content.clear();
    peer.session.list_changed(Cluster);
    let mut removed = Vec::new();
    while let Some((_, response)) = peer.next() {
        removed.push(response.removed_resources.len());
    }
    assert_eq!(removed, [1000, 1000, 507]);
}

#[test]
fn d27_removals_wait_for_every_cluster() {
    let mut peer = Peer::new(&[]);
    peer.world.synced.set(false);
    peer.init(Cluster, &[], &[("a", "1"), ("b", "1")]);
    peer.init(Endpoint, &["a"], &[("a", "1")]);
    peer.sees(&["cds {}"]);
    peer.ack(Cluster);
    peer.put(Cluster, "a", "1");
    peer.sees(&["cds {a=1}", "eds {a=}"]);
    peer.world.synced.set(true);
    peer.sees(&["cds {} rm{b}"]);
}

#[test]
fn xo03_xo05_a_changed_cluster_brings_its_assignment() {
    let mut peer =
        Peer::new(&[(Cluster, "a", "1"), (Cluster, "b", "1"), (Endpoint, "a", "1"), (Endpoint, "b", "1")]);
    let version = peer.world.version(Endpoint, "a");
    peer.ask(Cluster, &[], &[]);
    peer.sees(&["cds {a=1,b=1}"]);
    peer.init(Endpoint, &["a"], &[("a", &version)]);
    peer.sees(&["eds {a=1}"]);
    peer.ack(Cluster);
    peer.put(Cluster, "a", "2");
    peer.put(Cluster, "b", "2");
    peer.sees(&["cds {a=2,b=2}", "eds {a=1}"]);
}

#[test]
fn d22_xf11_only_pushes_wait_and_an_answer_releases() {
    let mut peer = Peer::new(&[(Cluster, "a", "1"), (Endpoint, "a", "1")]);
    peer.ask(Cluster, &[], &[]);
    peer.sees(&["cds {a=1}"]);
    peer.put(Cluster, "a", "2");
    peer.sees(&[]);
    assert_eq!(peer.session.deadline(), Some(peer.now + ms(250)));
    peer.ask(Endpoint, &["a"], &[]);
    peer.sees(&["eds {a=1}"]);
    peer.now += ms(250);
    peer.sees(&["cds {a=2}", "eds {a=1}"]);
    peer.put(Cluster, "a", "3");
    assert_eq!(peer.session.deadline(), Some(peer.now + ms(5000)));
    peer.now += ms(4999);
    peer.sees(&[]);
    peer.answer(Cluster, &[], error());
    peer.sees(&["cds {a=3}", "eds {a=1}"]);
}

#[test]
fn d25_a_held_cds_holds_lds_and_rds() {
    let mut peer = Peer::new(&[(Cluster, "a", "1"), (Listener, "l", "1"), (Route, "r", "1")]);
    peer.ask(Cluster, &[], &[]);
    peer.ask(Listener, &[], &[]);
    peer.ask(Route, &["r"], &[]);
    peer.sees(&["cds {a=1}", "lds {l=1}", "rds {r=1}"]);
    peer.ack(Listener);
    peer.ack(Route);
    peer.put(Route, "r", "2");
    peer.put(Listener, "l", "2");
    peer.put(Cluster, "b", "1");
    peer.sees(&[]);
    assert_eq!(peer.session.deadline(), Some(peer.now + ms(250)));
    peer.ack(Cluster);
    peer.sees(&["cds {b=1}", "lds {l=2}", "rds {r=2}"]);
}

#[test]
fn xc09_xc11_xc13_rejected_content_is_not_sent_again() {
    let mut peer = Peer::new(&[(Cluster, "a", "1")]);
    peer.ask(Cluster, &[], &[]);
    peer.sees(&["cds {a=1}"]);
    peer.answer(Cluster, &[], error());
    peer.session.rekeyed();
    peer.session.list_changed(Cluster);
    peer.sees(&[]);
    let status = |peer: &Peer| {
        peer.session.report(Cluster).unwrap().status(peer.now, std::time::SystemTime::UNIX_EPOCH)
    };
    assert_eq!((status(&peer).nacks, status(&peer).last_error.as_deref()), (1, Some("bad resource")));
    peer.put(Cluster, "a", "2");
    peer.sees(&["cds {a=2}"]);
    peer.ack(Cluster);
    assert_eq!((status(&peer).nacks, status(&peer).last_error, status(&peer).responses), (1, None, 2));
}

#[test]
fn xc04_xc06_xf08_types_and_limits() {
    let mut peer = Peer::new(&[]);
    let missing = peer.session.request(DeltaDiscoveryRequest::default(), peer.now);
    assert_eq!(missing, Err(SessionError::MissingType));
    let foo = DeltaDiscoveryRequest {
        type_url: "foo.Bar".into(),
        resource_names_subscribe: strings(&["x"]),
        ..Default::default()
    };
    assert_eq!(peer.send(foo).outcome, Outcome::Unknown { url: "foo.Bar".into(), new: true });
    assert_eq!(peer.session.not_found().expect("answer").removed_resources, ["x"]);
    // Of a hundred that come before an answer is written, only so many are remembered.
    for number in 0..100 {
        peer.send(DeltaDiscoveryRequest {
            type_url: format!("foo.Bar{number}"),
            resource_names_subscribe: strings(&["x"]),
            ..Default::default()
        });
    }
    let answers = std::iter::from_fn(|| peer.session.not_found()).count();
    assert_eq!(answers, SessionLimits::default().unknown_types);
    peer.session = DeltaSession::new(SessionLimits { names_per_type: 1, ..Default::default() });
    let two = DeltaDiscoveryRequest {
        type_url: Endpoint.url().into(),
        resource_names_subscribe: strings(&["a", "b"]),
        ..Default::default()
    };
    let refused = peer.session.request(two.clone(), peer.now);
    assert_eq!(refused, Err(SessionError::TooManyNames { kind: Endpoint, limit: 1 }));
    let limits = SessionLimits { bytes_per_type: 3, ..Default::default() };
    peer.session = DeltaSession::new(limits);
    assert!(peer.session.request(two.clone(), peer.now).is_ok());
    let other = DeltaDiscoveryRequest {
        resource_names_subscribe: strings(&["bcd"]),
        resource_names_unsubscribe: strings(&["a", "b"]),
        ..two.clone()
    };
    assert_eq!(
        peer.session.request(
            DeltaDiscoveryRequest { resource_names_unsubscribe: Vec::new(), ..other.clone() },
            peer.now
        ),
        Err(SessionError::TooManyBytes { kind: Endpoint, limit: 3 })
    );
    peer.session = DeltaSession::new(limits);
    assert!(peer.session.request(two, peer.now).is_ok());
    assert!(peer.session.request(other, peer.now).is_ok(), "what is not asked for any more does not count");
    let mut sotw = SotwSession::new(limits);
    let names = |names: &[&str]| DiscoveryRequest {
        type_url: Endpoint.url().into(),
        resource_names: strings(names),
        ..Default::default()
    };
    assert!(sotw.request(names(&["ab", "c"]), peer.now).is_ok());
    assert_eq!(
        sotw.request(names(&["ab", "cd"]), peer.now),
        Err(SessionError::TooManyBytes { kind: Endpoint, limit: 3 })
    );
}

#[test]
fn xd16_a_client_that_holds_everything_is_up_to_date_without_a_response() {
    let mut peer = Peer::new(&[(Endpoint, "a", "1")]);
    let version = peer.world.version(Endpoint, "a");
    peer.init(Endpoint, &["a"], &[("a", &version)]);
    let status = |peer: &Peer| {
        peer.session.report(Endpoint).map(|it| it.status(peer.now, std::time::SystemTime::now()))
    };
    assert!(!status(&peer).expect("open").is_synced(), "nobody has looked yet");
    peer.sees(&[]);
    assert!(status(&peer).expect("open").is_synced());
    peer.put(Endpoint, "a", "2");
    peer.sees(&["eds {a=2}"]);
    assert!(!status(&peer).expect("open").is_synced());
    peer.ack(Endpoint);
    assert!(status(&peer).expect("open").is_synced());
}
