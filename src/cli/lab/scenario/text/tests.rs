use std::path::PathBuf;

use super::*;
use crate::sim::lab::scenario::Expectation;
use crate::sim::lab::timeline::{Mark, Requests, Updates};

fn weights(list: &[(&str, u32)]) -> Weights {
    list.iter().map(|(host, weight)| ((*host).to_owned(), *weight)).collect()
}

fn client(ok: u64, failed: u64, hosts: &[(&str, u32)]) -> ClientRow {
    let mut requests =
        Requests { ok, failed, by: [("v1/east".to_owned(), ok)].into(), ..Requests::default() };
    if failed > 0 {
        requests.errors.insert("status 503".to_owned(), failed);
    }
    ClientRow { requests, weights: weights(hosts), updates: Updates { cds: 12, eds: 7, rejected: 0 } }
}

fn health(list: &[(&str, &str)]) -> BTreeMap<String, String> {
    list.iter().map(|(cluster, word)| ((*cluster).to_owned(), (*word).to_owned())).collect()
}

fn second(failed: u64) -> Row {
    let both = [("10.10.2.1:5000", 1), ("172.30.0.48:15443", 2)];
    Row {
        t: 3,
        marks: vec![Mark { at_ms: 3240, what: "the API server of west is killed".to_owned() }],
        clients: [("east".to_owned(), client(39, failed, &both)), ("west".to_owned(), client(40, 0, &both))]
            .into(),
        control_planes: [
            ("east".to_owned(), health(&[("east", "live"), ("west", "stale")])),
            ("west".to_owned(), BTreeMap::new()),
        ]
        .into(),
    }
}

#[test]
fn a_second_is_a_line_per_client_under_what_was_done() {
    let text = head(Look::Plain) + &row(&second(0), Look::Plain);
    let wanted = "\
T   CLIENT OK  FAIL ANSWERED BY            WEIGHTS OF HELLOWORLD                     CDS EDS CLUSTERS, IT IS TOLD
  > 3.2 s: the API server of west is killed
3   east   39  0    v1/east 39             10.10.2.1:5000 w1, 172.30.0.48:15443 w2   12  7   east live, west stale
    west   40  0    v1/east 40             10.10.2.1:5000 w1, 172.30.0.48:15443 w2   12  7   does not answer
";
    assert_eq!(text, wanted);
    assert!(text.lines().all(|line| line.len() <= 120));
}

#[test]
fn failures_say_why() {
    let text = row(&second(2), Look::Plain);
    assert!(text.contains("\n           2 x status 503\n"), "{text}");
    assert!(!text.contains('\u{1b}'));
    assert!(row(&second(2), Look::Coloured).contains(RED));
}

#[test]
fn hosts_of_one_subnet_are_one_word() {
    let hosts = weights(&[
        ("10.10.2.3:5000", 1),
        ("10.10.2.10:5000", 1),
        ("10.10.2.1:5000", 2),
        ("172.30.0.48:15443", 1),
        ("[fd00::1]:5000", 1),
    ]);
    let wanted = ["10.10.2.{3,10}:5000 w1", "10.10.2.1:5000 w2", "172.30.0.48:15443 w1", "[fd00::1]:5000 w1"];
    assert_eq!(grouped(&hosts), wanted);
    let many: Weights = (1..=50).map(|n| (format!("10.10.2.{n}:5000"), 1)).collect();
    assert_eq!(grouped(&many), ["10.10.2.{50 hosts}:5000 w1"]);
    assert_eq!(grouped(&Weights::new()), ["none"]);
}

#[test]
fn what_does_not_fit_a_line_continues_below() {
    let mut row = second(0);
    let many =
        [("10.10.2.1:5000", 1), ("10.10.3.1:5000", 1), ("172.30.0.32:15443", 3), ("172.30.0.48:15443", 2)];
    row.clients.insert("east".to_owned(), client(39, 0, &many));
    row.control_planes = [("external".to_owned(), health(&[("east", "live"), ("north", "live")]))].into();
    let text = super::row(&row, Look::Plain);
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[1].ends_with("external: east live"), "{text}");
    let below = "                                           172.30.0.32:15443 w3   ";
    assert!(lines[2].starts_with(below) && lines[2].ends_with("external: north live"), "{text}");
    assert_eq!(lines[3].trim_start(), "172.30.0.48:15443 w2");
    assert!(lines.iter().all(|line| line.len() <= 120));
}

#[test]
fn the_verdict_names_what_failed_and_the_file() {
    let check = |name: &str, ok| Expectation { name: name.to_owned(), ok, detail: "seen".to_owned() };
    let report = Report {
        checks: vec![check("no-request-fails", true), check("restored", false)],
        kept: Some(PathBuf::from("/tmp/x/scenarios/flap-1.json")),
        ..Report::default()
    };
    let text = verdict(&report, Look::Plain);
    assert!(
        text.contains("no-request-fails  ok      seen\n")
            && text.contains("restored          FAILED  seen\n")
    );
    assert!(text.ends_with("1 of 2 expectations hold; kept as /tmp/x/scenarios/flap-1.json\n"), "{text}");
}
