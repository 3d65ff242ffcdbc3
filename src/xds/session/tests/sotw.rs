use super::*;

struct Peer {
    session: SotwSession,
    world: World,
    now: Instant,
    nonces: BTreeMap<ResourceType, String>,
    seen: BTreeSet<String>,
}

impl Peer {
    fn new(content: &[(ResourceType, &str, &str)]) -> Self {
        Self {
            session: SotwSession::new(SessionLimits::default()),
            world: World::new(content),
            now: Instant::now(),
            nonces: BTreeMap::new(),
            seen: BTreeSet::new(),
        }
    }

    fn request(
        &mut self,
        kind: ResourceType,
        names: &[&str],
        nonce: &str,
        error_detail: Option<Status>,
    ) -> Effects {
        let request = DiscoveryRequest {
            type_url: kind.url().into(),
            resource_names: strings(names),
            response_nonce: nonce.into(),
            error_detail,
            ..Default::default()
        };
        self.session.request(request, self.now).expect("request")
    }

    /// A request with the nonce of the last response.
    fn ack(&mut self, kind: ResourceType, names: &[&str]) -> Effects {
        let nonce = self.nonces.get(&kind).cloned().unwrap_or_default();
        self.request(kind, names, &nonce, None)
    }

    fn sees(&mut self, expected: &[&str]) {
        let mut seen = Vec::new();
        while let Some((kind, response)) = self.session.poll(self.now, &self.world) {
            assert!(self.seen.insert(response.nonce.clone()), "nonce used twice");
            self.nonces.insert(kind, response.nonce.clone());
            let mut contents = BTreeSet::new();
            for bytes in &response.resources {
                contents.insert(text(&Any::decode(bytes.clone()).expect("any").value));
            }
            assert_eq!(contents.len(), response.resources.len(), "a name twice");
            seen.push(told(kind, &contents, &[]));
        }
        assert_eq!(seen, expected);
    }

    fn put(&mut self, kind: ResourceType, name: &str, text: &str) {
        self.world.put(kind, name, text);
        self.session.changed(kind, &name.into());
    }

    fn delete(&mut self, kind: ResourceType, name: &str) {
        self.world.delete(kind, name);
        self.session.changed(kind, &name.into());
    }
}

#[test]
fn xs01_absence_deletes() {
    let mut peer = Peer::new(&[(Cluster, "a", "1"), (Cluster, "b", "1")]);
    peer.ack(Cluster, &[]);
    peer.sees(&["cds {a=1,b=1}"]);
    peer.ack(Cluster, &[]);
    peer.delete(Cluster, "b");
    peer.sees(&["cds {a=1}"]);
    peer.ack(Cluster, &[]);
    peer.session.list_changed(Cluster);
    peer.session.rekeyed();
    peer.sees(&[]);
}

#[test]
fn xs03_xs04_pushes_of_assignments_contain_what_changed() {
    let mut peer = Peer::new(&[(Endpoint, "a", "1"), (Endpoint, "b", "1")]);
    peer.ack(Endpoint, &["a", "b"]);
    peer.sees(&["eds {a=1,b=1}"]);
    peer.ack(Endpoint, &["b", "a"]);
    peer.sees(&[]);
    peer.put(Endpoint, "a", "2");
    peer.sees(&["eds {a=2}"]);
    peer.ack(Endpoint, &["a", "b"]);
    peer.delete(Endpoint, "b");
    peer.sees(&["eds {b=}"]);
}

#[test]
fn xs05_xs06_legacy_wildcard_is_lost_with_the_first_name() {
    let mut peer = Peer::new(&[(Cluster, "a", "1"), (Cluster, "b", "1")]);
    peer.ack(Cluster, &[]);
    peer.sees(&["cds {a=1,b=1}"]);
    peer.ack(Cluster, &["a"]);
    peer.sees(&["cds {a=1}"]);
    peer.ack(Cluster, &[]);
    peer.put(Cluster, "a", "2");
    peer.put(Cluster, "b", "2");
    peer.sees(&[]);
}

#[test]
fn xs07_stars_mix_with_names() {
    let mut peer = Peer::new(&[(Cluster, "a", "1"), (Cluster, "b", "1")]);
    let all: &[&str] = &["cds {a=1,b=1}"];
    for (names, expected) in [
        (&["*"][..], all),
        (&["*", "a"], all),
        (&["a"], &[]),
        (&[], &[]),
        (&["*"], all),
        (&[], &[]),
        (&["a"], &["cds {a=1}"]),
        (&["*", "a"], all),
        (&["*"], &[]),
        (&["a"], &["cds {a=1}"]),
    ] {
        peer.ack(Cluster, names);
        peer.sees(expected);
    }
}

#[test]
fn xs08_xs09_stale_requests_are_silent_and_lose_nothing() {
    let mut peer = Peer::new(&[(Endpoint, "a", "1"), (Endpoint, "b", "1")]);
    peer.ack(Endpoint, &["a"]);
    peer.sees(&["eds {a=1}"]);
    let stale = peer.nonces[&Endpoint].clone();
    peer.put(Endpoint, "a", "2");
    peer.now += ms(250);
    peer.sees(&["eds {a=2}"]);
    // It accepts a response, but its names are out of date.
    let effects = peer.request(Endpoint, &["a", "b"], &stale, None);
    assert_eq!((effects.outcome, effects.subscribed), (Outcome::Ack, vec![]));
    peer.sees(&[]);
    for _ in 0..100 {
        assert_eq!(peer.request(Endpoint, &["a", "b"], &stale, None).outcome, Outcome::Stale);
        peer.sees(&[]);
    }
    assert_eq!(peer.ack(Endpoint, &["a", "b"]).subscribed, [(Endpoint, "b".into())]);
    peer.sees(&["eds {b=1}"]);
}

#[test]
fn xs11_xs12_xs15_xc15_only_what_is_new_is_answered() {
    let mut peer = Peer::new(&[(Route, "a", "1"), (Route, "b", "1")]);
    for (names, expected) in [
        (&["a"][..], &["rds {a=1}"][..]),
        (&["b"], &["rds {b=1}"]),
        (&["a", "b"], &["rds {a=1}"]),
        (&["a"], &[]),
        (&["a", "b", "b"], &["rds {b=1}"]),
    ] {
        peer.ack(Route, names);
        peer.sees(expected);
    }
    peer.ack(Route, &["a"]);
    peer.put(Route, "b", "2");
    peer.sees(&[]);
}

#[test]
fn xs13_names_unsubscribed_before_the_answer_are_dropped() {
    let mut peer = Peer::new(&[(Endpoint, "a", "1"), (Endpoint, "b", "1")]);
    peer.ack(Endpoint, &["a"]);
    peer.request(Endpoint, &["b"], "", None);
    peer.sees(&["eds {b=1}"]);
}

#[test]
fn xs18_contents_repeat_nonces_do_not() {
    let mut peer = Peer::new(&[(Endpoint, "a", "1")]);
    peer.ack(Endpoint, &["a"]);
    peer.sees(&["eds {a=1}"]);
    for text in ["2", "1", "2"] {
        peer.ack(Endpoint, &["a"]);
        peer.put(Endpoint, "a", text);
        peer.sees(&[&format!("eds {{a={text}}}")]);
    }
}

#[test]
fn xs19_xc22_empty_or_foreign_nonce() {
    let mut peer = Peer::new(&[(Endpoint, "a", "1"), (Endpoint, "b", "1")]);
    peer.request(Endpoint, &["a"], "old", None);
    peer.sees(&["eds {a=1}"]);
    peer.request(Endpoint, &["a", "b"], "", None);
    peer.sees(&["eds {a=1,b=1}"]);
    peer.request(Endpoint, &["a", "b"], "", error());
    peer.sees(&[]);
}

#[test]
fn d23_unknown_names() {
    let mut peer = Peer::new(&[]);
    for (kind, expected) in [
        (Cluster, &["cds {}"][..]),
        (Endpoint, &["eds {g=}"]),
        (Listener, &["lds {}"]),
        (Route, &["rds {g=}"]),
        (Secret, &[]),
    ] {
        peer.ack(kind, &["g"]);
        peer.sees(expected);
        peer.ack(kind, &["g"]);
    }
    for kind in ResourceType::ALL {
        peer.put(kind, "g", "1");
    }
    peer.sees(&["cds {g=1}", "eds {g=1}", "lds {g=1}", "rds {g=1}", "sds {g=1}"]);
}

#[test]
fn d24_additions_of_clusters_bring_every_subscribed_one() {
    let mut peer = Peer::new(&[(Cluster, "a", "1"), (Cluster, "b", "1"), (Cluster, "c", "1")]);
    peer.ack(Cluster, &["a"]);
    peer.sees(&["cds {a=1}"]);
    peer.ack(Cluster, &["a", "b"]);
    peer.sees(&["cds {a=1,b=1}"]);
}

#[test]
fn d26_xc12_errors_out_of_place_are_harmless() {
    let mut peer = Peer::new(&[(Endpoint, "a", "1")]);
    let effects = peer.request(Endpoint, &["a"], "x", error());
    assert!(matches!(effects.outcome, Outcome::Nack { .. }));
    peer.sees(&["eds {a=1}"]);
    assert_eq!(peer.request(Endpoint, &["a"], "x", error()).outcome, Outcome::Stale);
    peer.sees(&[]);
}

#[test]
fn xo02_xo03_xo04_xo06_assignments_follow_their_cluster_without_its_ack() {
    let mut peer =
        Peer::new(&[(Cluster, "a", "1"), (Cluster, "b", "1"), (Endpoint, "a", "1"), (Endpoint, "b", "1")]);
    peer.ack(Endpoint, &["a", "b"]);
    peer.sees(&["eds {a=1,b=1}"]);
    peer.ack(Cluster, &[]);
    peer.sees(&["cds {a=1,b=1}", "eds {a=1,b=1}"]);
    peer.ack(Cluster, &[]);
    peer.put(Cluster, "a", "2");
    peer.sees(&["cds {a=2,b=1}", "eds {a=1}"]);
    peer.ack(Endpoint, &["a", "b"]);
    peer.put(Endpoint, "b", "2");
    peer.sees(&["eds {b=2}"]);
}

#[test]
fn d22_pushes_wait_for_the_ack() {
    let mut peer = Peer::new(&[(Listener, "l", "1")]);
    peer.ack(Listener, &[]);
    peer.sees(&["lds {l=1}"]);
    peer.put(Listener, "l", "2");
    peer.sees(&[]);
    peer.now += ms(250);
    peer.sees(&["lds {l=2}"]);
    peer.put(Listener, "l", "3");
    peer.now += ms(4999);
    peer.sees(&[]);
    peer.now += ms(1);
    peer.sees(&["lds {l=3}"]);
}

#[test]
fn a_part_of_an_answer_that_is_rejected_is_no_stale_request() {
    let mut peer = Peer::new(&[(Endpoint, "a", "1"), (Endpoint, "b", "1")]);
    peer.request(Endpoint, &["a"], "", None);
    peer.sees(&["eds {a=1}"]);
    let first = peer.nonces[&Endpoint].clone();
    peer.request(Endpoint, &["a", "b"], "", None);
    peer.sees(&["eds {a=1,b=1}"]);
    let effects = peer.request(Endpoint, &["a"], &first, error());
    assert_eq!(effects.outcome, Outcome::Nack { message: "bad resource".into(), answers: true });
    assert!(effects.unsubscribed.is_empty(), "its names are out of date (X-S08)");
    // Once only.
    assert_eq!(peer.request(Endpoint, &["a"], &first, error()).outcome, Outcome::Stale);
    peer.sees(&[]);
}

#[test]
fn d30_the_answer_to_each_of_several_outstanding_responses_is_free_once() {
    let mut peer = Peer::new(&[(Endpoint, "a", "1"), (Endpoint, "b", "1"), (Endpoint, "c", "1")]);
    let mut nonces = Vec::new();
    for names in [&["a"][..], &["a", "b"], &["a", "b", "c"]] {
        assert!(!peer.request(Endpoint, names, "", None).is_answer());
        while let Some((_, response)) = peer.session.poll(peer.now, &peer.world) {
            nonces.push(response.nonce);
        }
    }
    assert_eq!(nonces.len(), 3);
    let all = ["a", "b", "c"];
    let answers = [
        peer.request(Endpoint, &["a"], &nonces[0], None),
        peer.request(Endpoint, &["a", "b"], &nonces[1], error()),
        peer.request(Endpoint, &all, &nonces[2], None),
    ];
    assert!(answers.iter().all(Effects::is_answer), "{answers:?}");
    for nonce in &nonces[..2] {
        let again = peer.request(Endpoint, &all, nonce, None);
        assert_eq!((again.is_answer(), again.outcome), (false, Outcome::Stale));
    }
    // A name less is a request, too.
    assert!(!peer.request(Endpoint, &["a", "b"], &nonces[2], None).is_answer());
}

#[test]
fn xs07_a_name_asked_for_under_a_wildcard_that_ends_is_answered() {
    let mut peer = Peer::new(&[(Cluster, "a", "1"), (Cluster, "b", "1")]);
    peer.request(Cluster, &["*"], "", None);
    peer.sees(&["cds {a=1,b=1}"]);
    peer.ack(Cluster, &["*", "a"]);
    peer.ack(Cluster, &["a"]);
    peer.sees(&["cds {a=1}"]);
    // And nothing is owed to who leaves.
    peer.ack(Cluster, &["*"]);
    peer.ack(Cluster, &[]);
    peer.sees(&[]);
}
