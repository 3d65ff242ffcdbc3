use serde_json::json;

use super::*;
use crate::ingest::client::AddressPolicy;

fn kubeconfig(token: &str) -> Result<RemoteKubeconfig, String> {
    let text = json!({"clusters": [{"name": "c", "cluster": {"server": "https://192.0.2.1"}}],
        "preferences": token});
    if token == "bad" {
        return Err("it is bad".to_owned());
    }
    Ok(RemoteKubeconfig::parse(text.to_string().as_bytes(), AddressPolicy::Remote).unwrap())
}

/// Creation time, name, and cluster ids with tokens.
type Secret<'a> = (i64, &'a str, &'a [(&'a str, &'a str)]);

struct Table {
    roster: Roster,
    problems: Problems,
}

impl Table {
    fn new(contest: Contest) -> Self {
        Self { roster: Roster::new(contest, ["config".into()]), problems: Problems::default() }
    }

    fn say(&mut self, news: &[Secret<'_>]) -> Vec<String> {
        let news = news.iter().map(|(created, name, claims)| {
            let claims = claims.iter().map(|(id, token)| (ClusterId::from(*id), kubeconfig(token)));
            (source(*created, name), Claims::Of(claims.collect(), Texts::new()))
        });
        shown(&self.roster.update(news.collect::<Vec<_>>(), &self.problems))
    }

    fn gone(&mut self, name: &str) -> Vec<String> {
        shown(&self.roster.update([(source(0, name), Claims::Gone)], &self.problems))
    }
}

fn source(created: i64, name: &str) -> Source {
    Source { created, name: name.to_owned() }
}

fn shown(actions: &[Action]) -> Vec<String> {
    let show = |action: &Action| match action {
        Action::Run(id, source, ..) => format!("run {id} of {source}"),
        Action::Tell(id, source, options) => format!("tell {id} of {source} {options:?}"),
        Action::Remove(id) => format!("remove {id}"),
    };
    actions.iter().map(show).collect()
}

const NOTHING: [&str; 0] = [];

#[test]
fn secret_01_r1_5_the_life_of_secrets() {
    let mut table = Table::new(Contest::First);
    assert_eq!(table.say(&[(1, "s0", &[("c0", "k0")])]), ["run c0 of s0"]);
    assert_eq!(table.say(&[(1, "s0", &[("c0", "k1")])]), ["run c0 of s0"]);
    assert_eq!(table.say(&[(1, "s0", &[("c0", "k1")])]), NOTHING, "same bytes");
    assert_eq!(table.say(&[(1, "s0", &[("c0", "k1"), ("c0-1", "k2")])]), ["run c0-1 of s0"]);
    assert_eq!(table.say(&[(2, "s2", &[("c0", "other")])]), NOTHING, "R1.3: s0 holds c0");
    assert!(table.problems.all()[0].text.contains("s2"));
    assert_eq!(table.gone("s2"), NOTHING);
    assert_eq!(table.problems.all(), []);
    assert_eq!(table.say(&[(3, "s3", &[("config", "k")])]), NOTHING, "R1.4");
    let told = &table.problems.all()[0];
    assert_eq!(told.subject, "s3, cluster config");
    assert!(told.text.contains("--cluster-id") && told.text.contains("another"), "{told:?}");
    assert_eq!(table.gone("s3"), NOTHING);
    assert_eq!(table.problems.all(), []);
    table.say(&[(3, "s4", &[])]);
    assert!(table.problems.all()[0].text.contains("no data"), "a labelled Secret that says nothing");
    assert_eq!(table.gone("s4"), NOTHING);
    assert_eq!(table.gone("s0"), ["remove c0", "remove c0-1"]);
}

#[test]
fn q1_a_loser_takes_over_when_the_owner_goes() {
    let mut table = Table::new(Contest::First);
    assert_eq!(table.say(&[(1, "a", &[("c", "k1")]), (2, "b", &[("c", "k2")])]), ["run c of a"]);
    assert_eq!(table.gone("a"), ["run c of b"]);
    assert_eq!(table.say(&[(3, "d", &[("c", "k2")])]), NOTHING);
    assert_eq!(table.gone("b"), ["tell c of d {}"], "the same bytes under another name restart nothing");
    assert_eq!(table.gone("d"), ["remove c"]);
}

/// Every order of so many things.
fn orders(count: usize) -> Vec<Vec<usize>> {
    let Some(last) = count.checked_sub(1) else {
        return vec![Vec::new()];
    };
    let shorter = orders(last).into_iter();
    let longer = shorter.flat_map(|order| {
        (0..=order.len()).map(move |at| {
            let mut order = order.clone();
            order.insert(at, last);
            order
        })
    });
    longer.collect()
}

#[test]
fn k34_the_oldest_speaks_for_a_cluster_whatever_the_order_of_arrival() {
    // The oldest is not the first by name; two are of the same second.
    let all: [Secret<'_>; 4] = [
        (3, "a", &[("c", "k1"), ("d", "k1")]),
        (1, "d", &[("c", "k2")]),
        (2, "c", &[("c", "k3"), ("d", "k3")]),
        (2, "b", &[("c", "k4"), ("d", "k4")]),
    ];
    assert_eq!(orders(4).len(), 24);
    for order in orders(4) {
        let mut table = Table::new(Contest::First);
        let mut runs: BTreeMap<String, String> = BTreeMap::new();
        let mut follow = |actions: Vec<String>| {
            for action in actions {
                let (id, source) = match action.split_whitespace().collect::<Vec<_>>()[..] {
                    ["run", id, "of", source] => (id, source),
                    _ => panic!("{action}: nothing ever stops"),
                };
                runs.insert(id.to_owned(), source.to_owned());
            }
        };
        for at in &order {
            follow(table.say(&[all[*at]]));
        }
        assert_eq!(runs, [("c".into(), "d".into()), ("d".into(), "b".into())].into(), "{order:?}");
        assert_eq!(table.gone("d"), ["run c of b"], "{order:?}");
        assert_eq!(table.gone("b"), ["run c of c", "run d of c"], "{order:?}");
        assert_eq!(table.gone("a"), NOTHING);
    }
}

#[test]
fn k34_without_ages_whoever_speaks_for_a_cluster_goes_on() {
    let mut table = Table::new(Contest::First);
    assert_eq!(table.say(&[(0, "b", &[("c", "k1")])]), ["run c of b"]);
    assert_eq!(table.say(&[(0, "a", &[("c", "k2")])]), NOTHING);
    assert_eq!(table.say(&[(5, "x", &[("c", "k3")])]), NOTHING);
    assert_eq!(table.gone("b"), ["run c of a"]);
}

#[test]
fn every_key_of_a_secret_names_a_cluster_whether_it_can_be_used_or_not() {
    let mut table = Table::new(Contest::First);
    table.say(&[(1, "s", &[("good", "k1"), ("refused", "bad")])]);
    let names = |table: &Table, id: &str| table.roster.names(&id.into());
    assert!(names(&table, "good") && names(&table, "refused") && !names(&table, "other"));
    let unread = [(source(2, "t"), Claims::Unreadable("malformed".to_owned()))];
    table.roster.update(unread, &table.problems);
    assert!(names(&table, "other"), "it may");
    table.say(&[(2, "t", &[])]);
    assert!(!names(&table, "other"));
    let unread = [(source(1, "s"), Claims::Unreadable("malformed".to_owned()))];
    table.roster.update(unread, &table.problems);
    assert!(names(&table, "refused") && !names(&table, "other"), "what it said before stands");
    table.gone("s");
    assert!(!names(&table, "good"));
}

#[test]
fn secret_03_r1_6_a_bad_kubeconfig_stops_nobody_and_replaces_nothing() {
    let mut table = Table::new(Contest::First);
    assert_eq!(table.say(&[(1, "s", &[("bad-one", "bad"), ("good", "k1")])]), ["run good of s"]);
    assert_eq!(table.problems.all()[0].subject, "s, cluster bad-one");
    assert_eq!(table.say(&[(1, "s", &[("good", "bad")])]), NOTHING, "the old one keeps running");
    assert!(table.problems.all()[0].text.contains("keeps running"));
    assert_eq!(table.say(&[(1, "s", &[("good", "k1")])]), NOTHING);
    assert_eq!(table.problems.all(), []);
    assert_eq!(table.say(&[(1, "s", &[("good", "k2")])]), ["run good of s"]);
}

#[test]
fn r1_12_two_files_for_one_cluster() {
    let mut table = Table::new(Contest::Nobody);
    let both: [Secret<'_>; 2] = [(0, "a.yaml", &[("r", "1")]), (0, "b.yaml", &[("r", "2")])];
    assert_eq!(table.say(&both), NOTHING, "at start neither is used");
    assert!(table.problems.all()[0].text.contains("a.yaml and b.yaml"));
    assert_eq!(table.gone("b.yaml"), ["run r of a.yaml"]);
    assert_eq!(table.say(&[(0, "b.yaml", &[("r", "2")])]), NOTHING, "what runs keeps running");
    assert_eq!(table.problems.all()[0].text, "a.yaml is used; also claimed by b.yaml");
    assert_eq!(table.say(&[(0, "a.yaml", &[("r", "3")])]), ["run r of a.yaml"], "and is followed");
    assert_eq!(table.gone("a.yaml"), ["run r of b.yaml"]);
    assert_eq!(table.say(&[(0, "b.yaml", &[("q", "2")])]), ["run q of b.yaml", "remove r"]);
}

#[test]
fn r1_12_a_malformed_file_keeps_its_last_good_content() {
    let mut table = Table::new(Contest::Nobody);
    table.say(&[(0, "a.yaml", &[("r", "1")])]);
    let news = [(source(0, "a.yaml"), Claims::Unreadable("malformed".to_owned()))];
    assert_eq!(shown(&table.roster.update(news, &table.problems)), NOTHING);
    assert_eq!(table.problems.all()[0].subject, "a.yaml");
    assert_eq!(table.say(&[(0, "a.yaml", &[("r", "1")])]), NOTHING);
    assert_eq!(table.problems.all(), []);
}

#[test]
fn r1_5_other_annotations_with_the_same_credentials_restart_nothing() {
    let mut table = Table::new(Contest::First);
    table.say(&[(1, "s", &[("c", "k1")])]);
    let options = Texts::from([("start".to_owned(), "required".to_owned())]);
    let claims = || BTreeMap::from([("c".into(), kubeconfig("k1"))]);
    let news = [(source(1, "s"), Claims::Of(claims(), options.clone()))];
    let actions = shown(&table.roster.update(news, &table.problems));
    assert_eq!(actions, [r#"tell c of s {"start": "required"}"#]);
    let news = [(source(1, "s"), Claims::Of(claims(), options))];
    assert_eq!(shown(&table.roster.update(news, &table.problems)), NOTHING);
}

#[test]
fn q1_a_loser_is_promoted_but_under_its_flag_when_it_changes_only() {
    use crate::ingest::Rehearsal;
    use crate::model::{Quirk, Quirks};
    let text = |token: &str| {
        serde_json::json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": "https://192.0.2.1:6443"}}],
            "users": [{"name": "u", "user": {"token": token}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]})
        .to_string()
    };
    let run = |quirks| {
        let mut rehearsal = Rehearsal::new("config".into(), quirks);
        let data = |token: &str| [("c0".to_owned(), text(token))].into();
        rehearsal.secret("istio-system/a", 1, &data("k1"));
        rehearsal.secret("istio-system/b", 2, &data("k2"));
        rehearsal.gone("istio-system/a");
        let left = rehearsal.running().len();
        rehearsal.secret("istio-system/b", 2, &data("k3"));
        (left, rehearsal.running().len())
    };
    assert_eq!(run(Quirks::OURS), (2, 2));
    assert_eq!(run(Quirks::of([Quirk::Q1])), (1, 2));
}
