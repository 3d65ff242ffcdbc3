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

fn live(start: Moment, required: bool) -> SourceStatus {
    let mut source = SourceStatus::new(at(start, 0), required, true);
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
        let mut source = SourceStatus::new(at(start, 0), true, true);
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
    let mut source = live(start, true);
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
    let mut source = SourceStatus::new(at(start, 0), true, true);
    assert!(source.failed(at(start, 1), refused()));
    assert_eq!((source.state.word(), source.since), ("unsynced", at(start, 0)));
    assert_eq!(source.state.detail(), "refused: HTTP 500");
}

#[test]
fn the_word_of_a_cluster_follows_from_its_sources() {
    let start = Moment::now();
    let fresh = || SourceStatus::new(at(start, 0), true, true);
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
    let add_on = SourceStatus::new(at(start, 0), false, false);
    let ok = || live(start, true);
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
        (vec![("Node", failed(live(start, false), forbidden()))], Served::Live, "degraded", "Node: HTTP 403"),
        (vec![("Node", failed(live(start, false), absent()))], Served::Live, "degraded", "Node: HTTP 404"),
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
        let mut source = live(start, true);
        source.failed(at(start, second), refused());
        source
    };
    let health = health(&[("Pod", lost(9)), ("Service", lost(7)), ("Node", lost(8))], Served::Live);
    let cause = StaleCause::Refused("Service: HTTP 500".to_owned());
    assert_eq!(health, ClusterHealth::Stale { since: at(start, 7), cause });
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
