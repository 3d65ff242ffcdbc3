//! A status with something else in every field, through the server's pages into the tables and the metrics: a key
//! that drifts, a value in the wrong place and a label that is lost each change a golden text.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::Body;
use http::Request;
use http_body_util::BodyExt as _;
use serde_json::Value;
use tower::ServiceExt as _;

use super::{short, wide};
use crate::admin::{Sources, XdsStatus, http_pages, monitoring_pages};
use crate::ingest::{Counts, EventKind, ObjectKind, Problems};
use crate::model::{
    ApiFacts, ClusterHealth, ClusterRole, ClusterStatus, CredentialFacts, Moment, Need, Restored,
    SourceCounters, SourceState, SourceStatus, Standing, StartRule,
};
use crate::registry::Registry;
use crate::telemetry::XdsSample;
use crate::xds::status::StreamStatus;

/// Nobody is connected.
struct NoProxies;

impl XdsStatus for NoProxies {
    fn streams(&self) -> Vec<StreamStatus> {
        Vec::new()
    }

    fn sample(&self) -> XdsSample {
        XdsSample::default()
    }
}

/// So many minutes ago, and a little: what is shown in minutes, as from an hour on, stays the same while a test runs.
fn minutes_ago(minutes: u64) -> Moment {
    Moment::now().before(Duration::from_secs(minutes * 60 + 2))
}

fn source(state: Result<(), SourceState>, n: u64) -> SourceStatus {
    let mut source = SourceStatus::new(minutes_ago(n + 40), Need::Required);
    source.listed(minutes_ago(n + 30));
    source.watched(minutes_ago(n + 20));
    if let Err(state) = state {
        source.failed(minutes_ago(n + 10), state);
    }
    source.last_event = Some(minutes_ago(n + 2));
    source.last_contact = Some(minutes_ago(n + 1));
    source.objects = usize::try_from(n).expect("small") + 5;
    source.counters = counters(n);
    source
}

fn counters(n: u64) -> SourceCounters {
    SourceCounters {
        lists: BTreeMap::from([("first", n + 6), ("expired", n + 7)]),
        regressions: n + 8,
        bytes: n + 9,
        failures: n + 10,
        retry_after: Some(Duration::from_secs((n + 11) * 60)),
    }
}

/// Something else in every field; a new field has to be given here.
fn west() -> ClusterStatus {
    let forbidden = SourceState::Forbidden("may not list pods".to_owned());
    ClusterStatus {
        id: "west".into(),
        role: ClusterRole::Remote,
        source: "secret istio-system/west".to_owned(),
        health: ClusterHealth::Degraded("Pod: may not list pods".to_owned()),
        since: minutes_ago(61),
        lost_since: Some(minutes_ago(62)),
        synced: false,
        timed_out: true,
        sync_timeouts: 3,
        restored: Some(Restored { path: "/snapshots/west".to_owned(), confirmed: minutes_ago(64) }),
        start: StartRule::Required,
        standing: Standing::Demoted,
        stale_policy: "demote after 5m".to_owned(),
        uid: "uid-6".into(),
        credentials: CredentialFacts {
            given_until: Some(SystemTime::now() + Duration::from_secs(7 * 60 + 58)),
            renewed_until: Some(SystemTime::now() + Duration::from_secs(8 * 60 + 58)),
            problem: Some("cannot read /k".to_owned()),
        },
        tokens_exchanged: 15,
        api: ApiFacts { encoding: Some("json"), streaming_lists: Some(false) },
        network: "net-8".into(),
        sources: BTreeMap::from([("Pod", source(Err(forbidden), 100)), ("Service", source(Ok(()), 200))]),
        objects: BTreeMap::from([("Pod", 9), ("Service", 10)]),
        quarantined: vec!["Service sample/bad: no port".to_owned()],
        quarantined_objects: 11,
        pending_pods: 12,
        // Together they are 13.
        mass_delete_holds: 12,
        replacement_held: true,
        memory: Some(14 << 20),
    }
}

fn counts() -> Counts {
    let counts = Counts::default();
    for (counter, value) in [
        (&counts.conversions, 21),
        (&counts.pod_conversions, 22),
        (&counts.quarantined, 23),
        (&counts.lists, 24),
        (&counts.failures, 25),
        (&counts.endpoints_without_pods, 26),
        (&counts.clusters_added, 27),
        (&counts.clusters_changed, 28),
        (&counts.clusters_removed, 29),
    ] {
        counter.store(value, Ordering::Relaxed);
    }
    counts.event(ObjectKind::EndpointSlice, EventKind::UpdateSame);
    counts
}

fn sources() -> Arc<Sources> {
    let registry = Registry::new();
    let mut east = ClusterStatus::new("east".into(), ClusterRole::Config, "file /k/east");
    (east.health, east.synced, east.since) = (ClusterHealth::Live, true, minutes_ago(65));
    registry.clusters().put(east);
    registry.clusters().put(west());
    let problems = Problems::default();
    problems.set("cluster west", "something is wrong");
    Arc::new(Sources {
        ingest: Some(Arc::new(counts())),
        problems: Some(Arc::new(problems)),
        ..Sources::just_begun(registry, Arc::new(NoProxies))
    })
}

async fn get(pages: Router, path: &str) -> String {
    let request = Request::get(path).body(Body::empty()).expect("a path");
    let answer = pages.oneshot(request).await.expect("infallible");
    assert!(answer.status().is_success(), "{path}: {}", answer.status());
    let body = answer.into_body().collect().await.expect("a body").to_bytes();
    String::from_utf8_lossy(&body).into_owned()
}

async fn page(path: &str) -> Value {
    serde_json::from_str(&get(http_pages(sources()), path).await).expect("JSON")
}

fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/clusters").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).expect("writable");
    }
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(known, text, "{name} differs: UPDATE_GOLDEN=1 accepts the change");
}

/// Times of day, which differ from run to run, as `TIME`.
fn timeless(text: &str) -> String {
    let time = |word: &str| word.len() > 15 && humantime::parse_rfc3339(word).is_ok();
    let line = |line: &str| -> String {
        let parts = line.split_inclusive([' ', '"']);
        let shown = parts.map(|part| {
            let word = part.trim_end_matches([' ', '"']);
            if time(word) { part.replace(word, "TIME") } else { part.to_owned() }
        });
        shown.collect::<String>() + "\n"
    };
    text.lines().map(line).collect()
}

#[tokio::test]
async fn tables_show_what_the_page_says() {
    let answer = page("/debug/clusters").await;
    golden("short.txt", &timeless(&short(&answer)));
    golden("wide.txt", &timeless(&wide(&answer)));
}

/// What operators of istiod look for, in its spelling, and what it does not tell.
#[tokio::test]
async fn clusterz_tells_objects_lists_quarantine_and_memory_too() {
    let answer = page("/debug/clusterz").await;
    let text = serde_json::to_string_pretty(&answer).expect("JSON");
    golden("clusterz.json", &timeless(&text));
}

/// A sample; ages rounded down to whole minutes.
fn sample(line: &str) -> String {
    match line.rsplit_once(' ') {
        Some((series, value)) if series.contains("_seconds{") => {
            let seconds: f64 = value.parse().expect("a number");
            format!("{series} {}\n", (seconds / 60.0).floor() * 60.0)
        }
        _ => format!("{line}\n"),
    }
}

#[tokio::test]
async fn metrics_have_each_value_under_its_labels() {
    let text = get(monitoring_pages(sources()), "/metrics").await;
    let about_clusters = ["cluster", "pilot_k8s_", "tombolo_"];
    let lines = text.lines().filter(|line| about_clusters.iter().any(|word| line.contains(word)));
    let counts = |line: &&str| line.contains("west") || !line.ends_with(" 0");
    let samples = lines.filter(|line| !line.starts_with('#')).filter(counts).map(sample);
    golden("metrics.txt", &samples.collect::<String>());
}

/// What a scrape showed of a cluster that is gone, or of a state that is over, the next one shows no more.
#[tokio::test]
async fn metrics_forget_what_is_over() {
    let sources = sources();
    let before = get(monitoring_pages(Arc::clone(&sources)), "/metrics").await;
    assert!(before.contains("cluster=\"west\"") && before.contains("cluster_type=\"remote\"} 1"), "{before}");
    sources.registry.clusters().remove(&"west".into());
    let after = get(monitoring_pages(sources), "/metrics").await;
    assert!(!after.contains("west") && after.contains("cluster_type=\"remote\"} 0"), "{after}");
}
