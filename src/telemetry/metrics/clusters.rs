//! How fresh the clusters are. Labels are ids of configured clusters and words of closed sets.

use std::collections::BTreeMap;
use std::time::Duration;

use prometheus::{GaugeVec, IntCounterVec, IntGaugeVec, Opts, Registry};

use super::{add, whole};

/// istiod's words for how far a remote cluster is (R1.22): it shows each, 1 for one and 0 for the others.
const SYNC_WORDS: [&str; 4] = ["synced", "syncing", "timeout", "closed"];

/// One cluster, for one scrape.
#[derive(Clone, Debug, Default)]
pub struct ClusterValues {
    /// Whether it is a remote one.
    pub remote: bool,
    /// istiod's word for its state, `synced`, `syncing`, `timeout` or `closed`.
    pub sync_status: &'static str,
    /// Times it did not sync in time.
    pub sync_timeouts: u64,
    /// Whether all watches are up.
    pub live: bool,
    /// For how long its data may have been out of date.
    pub stale: Duration,
    /// Objects set aside.
    pub quarantined: usize,
    /// Kinds whose mass deletion is held back.
    pub mass_delete_holds: usize,
    /// The longest pause its API server asked for.
    pub retry_after: Duration,
    /// The word for how much time its credentials have left.
    pub credentials: &'static str,
    /// Seconds until its credentials expire; negative afterwards.
    pub credentials_expire: Option<f64>,
    /// Whether they cannot be obtained anew.
    pub credentials_problem: bool,
    /// Estimated bytes held for it.
    pub memory: Option<usize>,
    /// Objects of it that are served from, by kind.
    pub objects: Vec<(&'static str, usize)>,
}

/// One kind of object of one cluster, for one scrape.
#[derive(Clone, Debug)]
pub struct SourceValues<'a> {
    /// The word of its state.
    pub state: &'a str,
    /// Since the last change.
    pub last_event: Option<Duration>,
    /// Since anything came.
    pub last_contact: Option<Duration>,
    /// Complete lists by reason.
    pub lists: &'a BTreeMap<&'static str, u64>,
    /// Revisions that went back.
    pub regressions: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Attempts at lists and watches that failed.
    pub failures: u64,
}

/// The families by cluster.
#[derive(Debug)]
pub(super) struct ClusterMetrics {
    // How many clusters are configured?
    istiod_managed_clusters: IntGaugeVec,
    // Which cluster is not synced?
    istiod_remote_cluster_sync_status: IntGaugeVec,
    // Which remote cluster held up the start?
    remote_cluster_sync_timeouts_total: IntCounterVec,
    // Which cluster is hard to reach?
    controller_sync_errors_total: IntCounterVec,
    // Which cluster's data is not fresh?
    tombolo_cluster_live: IntGaugeVec,
    // For how long has it not been?
    tombolo_stale_seconds: GaugeVec,
    // Which kind of object is it about?
    tombolo_source_state: IntGaugeVec,
    // Is it quiet, or do we hear nothing of changes?
    tombolo_source_last_event_seconds: GaugeVec,
    // Do we hear anything at all?
    tombolo_source_last_contact_seconds: GaugeVec,
    // Why is everything read again?
    tombolo_relists_total: IntCounterVec,
    // Was an API server's etcd restored?
    tombolo_rv_regressions_total: IntCounterVec,
    // How much is read of each cluster?
    tombolo_objects: IntGaugeVec,
    // Which cluster's objects are set aside?
    tombolo_quarantined_objects: IntGaugeVec,
    // Is a mass deletion held back?
    tombolo_mass_delete_holds: IntGaugeVec,
    // What does it cost to listen?
    tombolo_bytes_in: IntCounterVec,
    // Does an API server ask us to wait?
    tombolo_retry_after_seconds: GaugeVec,
    // Does somebody have to see to credentials?
    tombolo_credentials_state: IntGaugeVec,
    // Are the last good ones in use because there are no others?
    tombolo_credentials_problem: IntGaugeVec,
    // When do credentials end?
    tombolo_credentials_expire_seconds: GaugeVec,
    // What does a cluster cost in memory?
    tombolo_cluster_memory_bytes: IntGaugeVec,
}

impl ClusterMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let counters = |name: &str, help: &str, labels: &[&str]| {
            add(registry, IntCounterVec::new(Opts::new(name, help), labels))
        };
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            add(registry, IntGaugeVec::new(Opts::new(name, help), labels))
        };
        let seconds = |name: &str, help: &str, labels: &[&str]| {
            add(registry, GaugeVec::new(Opts::new(name, help), labels))
        };
        let (cluster, source) = (&["cluster"], &["cluster", "resource"]);
        Self {
            istiod_managed_clusters: gauges(
                "istiod_managed_clusters",
                "Clusters configured, local or remote",
                &["cluster_type"],
            ),
            istiod_remote_cluster_sync_status: gauges(
                "istiod_remote_cluster_sync_status",
                "1 for the present status of a remote cluster, 0 for the others",
                &["cluster", "cluster_type", "status"],
            ),
            remote_cluster_sync_timeouts_total: counters(
                "remote_cluster_sync_timeouts_total",
                "Times that a remote cluster did not sync within the start gate's time",
                cluster,
            ),
            controller_sync_errors_total: counters(
                "controller_sync_errors_total",
                "Attempts at lists and watches of a cluster that failed",
                cluster,
            ),
            tombolo_cluster_live: gauges(
                "tombolo_cluster_live",
                "1 while a cluster is live or degraded: what is needed to serve from it is up to date; else 0",
                cluster,
            ),
            tombolo_stale_seconds: seconds(
                "tombolo_stale_seconds",
                "For how long the data of a cluster may have been out of date; 0 while it is not",
                cluster,
            ),
            tombolo_source_state: gauges(
                "tombolo_source_state",
                "1 for the present state of the watch of a kind",
                &["cluster", "resource", "state"],
            ),
            tombolo_source_last_event_seconds: seconds(
                "tombolo_source_last_event_seconds",
                "Seconds since the last change of an object",
                source,
            ),
            tombolo_source_last_contact_seconds: seconds(
                "tombolo_source_last_contact_seconds",
                "Seconds since anything at all was heard: changes, lists, bookmarks, answers to probes",
                source,
            ),
            tombolo_relists_total: counters(
                "tombolo_relists_total",
                "Complete lists read, by reason",
                &["cluster", "reason"],
            ),
            tombolo_rv_regressions_total: counters(
                "tombolo_rv_regressions_total",
                "Revisions of an API server that went back",
                cluster,
            ),
            tombolo_objects: gauges("tombolo_objects", "Objects of a cluster that are served from", source),
            tombolo_quarantined_objects: gauges(
                "tombolo_quarantined_objects",
                "Objects set aside, or used in part, because they cannot be read",
                cluster,
            ),
            tombolo_mass_delete_holds: gauges(
                "tombolo_mass_delete_holds",
                "Kinds of objects whose mass deletion is held back until it is confirmed, and one for a list of everything \
                 that is not served because too much would be lost",
                cluster,
            ),
            tombolo_bytes_in: counters("tombolo_bytes_in", "Bytes read from API servers", cluster),
            tombolo_retry_after_seconds: seconds(
                "tombolo_retry_after_seconds",
                "The pause an API server asked for; 0 while it asks for none",
                cluster,
            ),
            tombolo_credentials_state: gauges(
                "tombolo_credentials_state",
                "1 for what somebody has to know of the credentials of a cluster: ok, within-30d, within-7d or \
                 expired. What is renewed by itself, a token in a file or what a plugin gives, is ok until it has \
                 ended and was not renewed",
                &["cluster", "state"],
            ),
            tombolo_credentials_problem: gauges(
                "tombolo_credentials_problem",
                "1 while the credentials of a cluster cannot be obtained anew and the last good ones are in use",
                cluster,
            ),
            tombolo_credentials_expire_seconds: seconds(
                "tombolo_credentials_expire_seconds",
                "Seconds until the first of the credentials of a cluster expires, renewed ones included, negative \
                 afterwards",
                cluster,
            ),
            tombolo_cluster_memory_bytes: gauges(
                "tombolo_cluster_memory_bytes",
                "Estimated bytes held for a cluster",
                cluster,
            ),
        }
    }

    /// Forgets the clusters of the last scrape: what is not set again is gone.
    pub(super) fn reset(&self) {
        for family in [
            &self.istiod_remote_cluster_sync_status,
            &self.tombolo_cluster_live,
            &self.tombolo_source_state,
            &self.tombolo_objects,
            &self.tombolo_quarantined_objects,
            &self.tombolo_mass_delete_holds,
            &self.tombolo_credentials_state,
            &self.tombolo_credentials_problem,
            &self.tombolo_cluster_memory_bytes,
        ] {
            family.reset();
        }
        for family in [
            &self.tombolo_stale_seconds,
            &self.tombolo_source_last_event_seconds,
            &self.tombolo_source_last_contact_seconds,
            &self.tombolo_retry_after_seconds,
            &self.tombolo_credentials_expire_seconds,
        ] {
            family.reset();
        }
        for family in [
            &self.remote_cluster_sync_timeouts_total,
            &self.controller_sync_errors_total,
            &self.tombolo_relists_total,
            &self.tombolo_rv_regressions_total,
            &self.tombolo_bytes_in,
        ] {
            family.reset();
        }
    }

    pub(super) fn managed(&self, local: usize, remote: usize) {
        for (kind, count) in [("local", local), ("remote", remote)] {
            self.istiod_managed_clusters.with_label_values(&[kind]).set(whole(count));
        }
    }

    pub(super) fn cluster(&self, id: &str, values: &ClusterValues) {
        if values.remote {
            for word in SYNC_WORDS {
                let labels = [id, "remote", word];
                let is = i64::from(word == values.sync_status);
                self.istiod_remote_cluster_sync_status.with_label_values(&labels).set(is);
            }
            self.remote_cluster_sync_timeouts_total.with_label_values(&[id]).inc_by(values.sync_timeouts);
        }
        self.tombolo_cluster_live.with_label_values(&[id]).set(i64::from(values.live));
        for (kind, count) in &values.objects {
            self.tombolo_objects.with_label_values(&[id, kind]).set(whole(*count));
        }
        self.tombolo_stale_seconds.with_label_values(&[id]).set(values.stale.as_secs_f64());
        self.tombolo_quarantined_objects.with_label_values(&[id]).set(whole(values.quarantined));
        self.tombolo_mass_delete_holds.with_label_values(&[id]).set(whole(values.mass_delete_holds));
        self.tombolo_retry_after_seconds.with_label_values(&[id]).set(values.retry_after.as_secs_f64());
        self.tombolo_credentials_state.with_label_values(&[id, values.credentials]).set(1);
        let problem = i64::from(values.credentials_problem);
        self.tombolo_credentials_problem.with_label_values(&[id]).set(problem);
        if let Some(seconds) = values.credentials_expire {
            self.tombolo_credentials_expire_seconds.with_label_values(&[id]).set(seconds);
        }
        if let Some(bytes) = values.memory {
            self.tombolo_cluster_memory_bytes.with_label_values(&[id]).set(whole(bytes));
        }
    }

    pub(super) fn source(&self, cluster: &str, resource: &str, values: &SourceValues<'_>) {
        self.tombolo_source_state.with_label_values(&[cluster, resource, values.state]).set(1);
        for (family, age) in [
            (&self.tombolo_source_last_event_seconds, values.last_event),
            (&self.tombolo_source_last_contact_seconds, values.last_contact),
        ] {
            if let Some(age) = age {
                family.with_label_values(&[cluster, resource]).set(age.as_secs_f64());
            }
        }
        for (reason, count) in values.lists {
            self.tombolo_relists_total.with_label_values(&[cluster, reason]).inc_by(*count);
        }
        self.tombolo_rv_regressions_total.with_label_values(&[cluster]).inc_by(values.regressions);
        self.tombolo_bytes_in.with_label_values(&[cluster]).inc_by(values.bytes);
        self.controller_sync_errors_total.with_label_values(&[cluster]).inc_by(values.failures);
    }
}
