use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::model::{ClusterId, ClusterStatus, StartRule};

fn at(start: Moment, seconds: u64) -> Moment {
    // Moments are made by going back from one that is far ahead of nothing: relative order is all that counts.
    start.before(Duration::from_secs(1000 - seconds))
}

fn refused() -> SourceState {
    SourceState::Failing(StaleCause::Refused("HTTP 500".to_owned()))
}

fn live(start: Moment, need: Need) -> SourceStatus {
    let mut source = SourceStatus::new(at(start, 0), need);
    source.listed(at(start, 1));
    source.watched(at(start, 2));
    source
}

fn health(sources: &[(&'static str, SourceStatus)], served: Served) -> ClusterHealth {
    let sources: BTreeMap<_, _> = sources.iter().cloned().collect();
    ClusterHealth::of(sources.iter().map(|(kind, source)| (*kind, source)), served)
}

#[test]
fn a_source_is_live_once_it_is_listed_and_watched_in_either_order() {
    let start = Moment::now();
    for list_first in [true, false] {
        let mut source = SourceStatus::new(at(start, 0), Need::Required);
        let steps: [fn(&mut SourceStatus, Moment) -> bool; 2] = if list_first {
            [SourceStatus::listed, SourceStatus::watched]
        } else {
            [SourceStatus::watched, SourceStatus::listed]
        };
        steps[0](&mut source, at(start, 1));
        assert_eq!(source.state, SourceState::Unsynced);
        assert!(steps[1](&mut source, at(start, 2)));
        assert_eq!((&source.state, source.since), (&SourceState::Live, at(start, 2)));
    }
}

#[test]
fn a_lost_watch_is_stale_since_the_first_failure_until_a_watch_works_again() {
    let start = Moment::now();
    let mut source = live(start, Need::Required);
    assert!(source.failed(at(start, 5), refused()));
    assert!(!source.failed(at(start, 6), refused()), "the same again is no news");
    let other = SourceState::Failing(StaleCause::Unreachable("reset".to_owned()));
    assert!(source.failed(at(start, 7), other));
    assert_eq!((source.state.word(), source.since), ("stale", at(start, 5)));
    assert!(!source.listed(at(start, 8)), "a list alone is no watch");
    assert_eq!(source.state.word(), "stale");
    assert!(source.watched(at(start, 9)));
    assert_eq!((source.state.word(), source.since), ("live", at(start, 9)));
    assert_eq!(source.last_event, None, "a probe or a bookmark is contact, not an event");
    source.changed(at(start, 10));
    assert_eq!((source.last_event, source.last_contact), (Some(at(start, 10)), Some(at(start, 10))));
}

#[test]
fn a_source_that_never_listed_is_never_stale() {
    let start = Moment::now();
    let mut source = SourceStatus::new(at(start, 0), Need::Required);
    assert!(source.failed(at(start, 1), refused()));
    assert_eq!((source.state.word(), source.since), ("unsynced", at(start, 0)));
    assert_eq!(source.state.detail(), "refused: HTTP 500");
}

#[test]
fn the_word_of_a_cluster_follows_from_its_sources() {
    let start = Moment::now();
    let fresh = || SourceStatus::new(at(start, 0), Need::Required);
    let failed = |mut source: SourceStatus, state| {
        source.failed(at(start, 5), state);
        source
    };
    let forbidden = || SourceState::Forbidden("HTTP 403".to_owned());
    let absent = || SourceState::NotServed("HTTP 404".to_owned());
    let unauthorized = SourceState::Unauthorized("HTTP 401".to_owned());
    let mut heard = fresh();
    heard.heard(at(start, 1));
    let listing = heard.clone();
    let add_on = SourceStatus::new(at(start, 0), Need::AddOn);
    let ok = || live(start, Need::Required);
    let mut withdrawn = add_on.clone();
    withdrawn.listed(at(start, 1));
    let snapshot = Served::Snapshot(at(start, 0));
    for (sources, served, word, detail) in [
        (vec![("Pod", fresh()), ("Service", fresh())], Served::Nothing, "connecting", ""),
        (vec![("Pod", fresh()), ("Service", heard.clone())], Served::Nothing, "syncing", ""),
        (vec![("Pod", failed(fresh(), refused())), ("Service", heard)], Served::Nothing, "connecting", ""),
        (
            vec![("Gateway", failed(add_on.clone(), absent())), ("Pod", listing)],
            Served::Nothing,
            "syncing",
            "",
        ),
        (vec![("Pod", fresh()), ("Service", ok())], Served::Live, "syncing", ""),
        (vec![("Pod", ok()), ("Service", ok())], Served::Live, "live", ""),
        (
            vec![("Pod", failed(ok(), refused())), ("Service", ok())],
            Served::Live,
            "stale",
            "refused: Pod: HTTP 500",
        ),
        (vec![("Service", failed(fresh(), refused()))], snapshot, "stale", "from snapshot"),
        (vec![("Service", failed(ok(), unauthorized))], snapshot, "unauthorized", "Service: HTTP 401"),
        (vec![("Service", failed(ok(), forbidden()))], Served::Live, "unauthorized", "Service: HTTP 403"),
        // A kind that every API server has: something else answers.
        (vec![("Service", failed(ok(), absent()))], Served::Live, "stale", "refused: Service: HTTP 404"),
        (vec![("Service", failed(fresh(), absent()))], Served::Nothing, "connecting", ""),
        // It was done without from the start, and what it would tell is not out of date.
        (
            vec![
                ("Node", failed(SourceStatus::new(at(start, 0), Need::Expected), refused())),
                ("Service", ok()),
            ],
            Served::Live,
            "degraded",
            "Node: refused: HTTP 500",
        ),
        (
            vec![("Node", failed(live(start, Need::Expected), forbidden()))],
            Served::Live,
            "degraded",
            "Node: HTTP 403",
        ),
        (
            vec![("Node", failed(live(start, Need::Expected), absent()))],
            Served::Live,
            "degraded",
            "Node: HTTP 404",
        ),
        (vec![("Gateway", failed(add_on.clone(), absent())), ("Service", ok())], Served::Live, "live", ""),
        (vec![("Gateway", failed(add_on.clone(), forbidden())), ("Service", ok())], Served::Live, "live", ""),
        (
            vec![("Gateway", failed(withdrawn, forbidden())), ("Service", ok())],
            Served::Live,
            "degraded",
            "Gateway: HTTP 403",
        ),
    ] {
        let health = health(&sources, served);
        assert_eq!((health.word(), &*health.detail()), (word, detail), "{sources:?}");
    }
}

#[test]
fn a_stale_cluster_is_stale_since_its_first_loss() {
    let start = Moment::now();
    let lost = |second| {
        let mut source = live(start, Need::Required);
        source.failed(at(start, second), refused());
        source
    };
    let health = health(&[("Pod", lost(9)), ("Service", lost(7)), ("Node", lost(8))], Served::Live);
    let cause = StaleCause::Refused("Service: HTTP 500".to_owned());
    assert_eq!(health, ClusterHealth::Stale { since: at(start, 7), cause });
}

#[test]
fn d35_the_age_begins_with_the_first_failure_whatever_the_next_ones_are_and_ends_with_a_watch() {
    let start = Moment::now();
    let age = |source: &SourceStatus| ClusterHealth::lost_since([source].into_iter());
    for need in [Need::Required, Need::Current] {
        let mut source = live(start, need);
        assert_eq!(age(&source), None);
        for (second, state) in [
            refused(),
            SourceState::Unauthorized("HTTP 401".to_owned()),
            SourceState::Forbidden("HTTP 403".to_owned()),
            SourceState::NotServed("HTTP 404".to_owned()),
            refused(),
        ]
        .into_iter()
        .enumerate()
        {
            source.failed(at(start, 5 + second as u64), state);
            assert_eq!(age(&source), Some(at(start, 5)), "{source:?}");
        }
        let health = health(&[("Pod", source.clone())], Served::Live);
        assert!(matches!(health, ClusterHealth::Stale { since, .. } if since == at(start, 5)), "{health:?}");
        source.listed(at(start, 20));
        assert_eq!(age(&source), Some(at(start, 5)), "a list alone is no watch");
        source.watched(at(start, 21));
        assert_eq!(age(&source), None);
    }
    // What never told anything is not out of date, and neither is an API that was taken out of the cluster.
    let mut never = SourceStatus::new(at(start, 0), Need::Expected);
    never.failed(at(start, 5), SourceState::Forbidden("HTTP 403".to_owned()));
    let mut add_on = SourceStatus::new(at(start, 0), Need::AddOn);
    add_on.listed(at(start, 1));
    add_on.watched(at(start, 1));
    add_on.failed(at(start, 5), refused());
    assert_eq!(age(&add_on), Some(at(start, 5)));
    add_on.failed(at(start, 6), SourceState::NotServed("HTTP 404".to_owned()));
    assert_eq!((age(&never), age(&add_on)), (None, None));
    add_on.failed(at(start, 7), SourceState::Forbidden("HTTP 403".to_owned()));
    assert_eq!(age(&add_on), None, "what endpoints are made of is followed all the same");
}

#[test]
fn a_kind_is_as_well_as_its_worst_part() {
    let start = Moment::now();
    let mut kind = SourceStatus::new(at(start, 0), Need::Current);
    let (good, mut bad) = (live(start, Need::Current), live(start, Need::Current));
    kind.summarize(at(start, 2), [&good, &bad].into_iter());
    assert_eq!((&kind.state, kind.last_contact), (&SourceState::Live, Some(at(start, 2))));
    let fresh = SourceStatus::new(at(start, 0), Need::Current);
    for (second, state, word) in [
        (5, SourceState::Forbidden("HTTP 403".to_owned()), "forbidden"),
        (6, refused(), "stale"),
        (7, SourceState::Unauthorized("HTTP 401".to_owned()), "unauthorized"),
    ] {
        bad.failed(at(start, second), state);
        assert!(kind.summarize(at(start, second), [&bad, &good, &fresh].into_iter()));
        assert_eq!(
            (kind.state.word(), kind.since, kind.lost_since()),
            (word, at(start, second), Some(at(start, 5)))
        );
    }
    assert!(!kind.summarize(at(start, 8), [&good, &bad].into_iter()), "nothing differs");
    bad.listed(at(start, 9));
    bad.watched(at(start, 9));
    kind.summarize(at(start, 9), [&good, &bad, &fresh].into_iter());
    assert_eq!(kind.state.word(), "unsynced", "one is not listed yet");
    kind.summarize(at(start, 10), [&good, &bad].into_iter());
    assert_eq!((kind.state.word(), kind.lost_since()), ("live", None));
}

#[test]
fn what_sources_that_are_over_were_asked_to_wait_for_binds_nobody() {
    let minute = Duration::from_secs(60);
    let before = SourceCounters { failures: 2, retry_after: Some(10 * minute), ..SourceCounters::default() };
    let now = SourceCounters { failures: 1, retry_after: Some(minute), ..SourceCounters::default() };
    let sum = now.clone().after(&before.clone().done());
    assert_eq!((sum.failures, sum.retry_after), (3, Some(minute)));
    assert_eq!(now.after(&before).retry_after, Some(10 * minute), "of sources that are there");
}

#[test]
fn counters_go_on_over_generations() {
    let first = SourceCounters {
        lists: BTreeMap::from([("first", 1), ("expired", 2)]),
        bytes: 10,
        ..SourceCounters::default()
    };
    let second =
        SourceCounters { lists: BTreeMap::from([("first", 1)]), bytes: 5, ..SourceCounters::default() };
    let sum = second.after(&first);
    assert_eq!((sum.lists["first"], sum.lists["expired"], sum.bytes), (2, 2, 15));
}

#[test]
fn the_gate_waits_for_required_clusters_whatever_a_snapshot_says() {
    let mut row = ClusterStatus::new(ClusterId::from("west"), ClusterRole::Remote, "test");
    assert!(!row.gate_open());
    row.restored = Some(Restored { path: "x".to_owned(), confirmed: Moment::now() });
    assert!(row.gate_open() && row.sync_status() == "syncing");
    row.start = StartRule::Required;
    assert!(!row.gate_open());
    row.synced = true;
    assert!(row.gate_open() && row.sync_status() == "synced");
}
