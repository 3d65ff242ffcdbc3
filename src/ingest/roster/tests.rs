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
    assert_eq!(table.gone("s3"), NOTHING);
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

#[test]
fn k34_the_oldest_claims_first_whatever_the_order_of_arrival() {
    for order in [[0, 1], [1, 0]] {
        let news: [Secret<'_>; 2] = [(2, "a", &[("c", "k1")]), (1, "b", &[("c", "k2")])];
        let mut table = Table::new(Contest::First);
        assert_eq!(table.say(&order.map(|n| news[n])), ["run c of b"]);
    }
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
