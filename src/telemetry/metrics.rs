//! The metrics of one server. Names are istiod's where it has the same thing: no `_total` unless it has it.

mod clusters;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Encoder as _, Gauge, GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use clusters::ClusterMetrics;
pub use clusters::{ClusterValues, SourceValues};

/// How many different proxy versions get a label of their own; the rest is `other`.
const VERSION_LABELS: usize = 20;
/// How many host names of gateways get a label of their own.
const HOST_LABELS: usize = 100;

/// What the xDS server has done so far; every value only grows.
#[derive(Clone, Debug, Default)]
pub struct XdsSample {
    /// Responses written, by type (`cds`, `eds`, …).
    pub pushes: Vec<(&'static str, u64)>,
    /// Responses rejected by a proxy, by type.
    pub rejects: Vec<(&'static str, u64)>,
    /// Requests with a nonce that is not the last one, by type.
    pub expired_nonces: Vec<(&'static str, u64)>,
    /// Bytes of resources written, by type.
    pub bytes: Vec<(&'static str, u64)>,
    /// Bytes of resources in the largest response so far, by type.
    pub largest: Vec<(&'static str, u64)>,
    /// Builds, by what was built.
    pub builds: Vec<(&'static str, u64)>,
    /// Builds that gave what was there before.
    pub unchanged_builds: u64,
    /// Endpoints by what became of them, over the assignments that somebody watches; not a sum over time.
    pub decided: Vec<(&'static str, u64)>,
    /// Reasons of the change sets worked off, each counted once per set.
    pub triggers: Vec<(&'static str, u64)>,
    /// Change sets worked off.
    pub rounds: u64,
    /// Requests for a private key that were not answered.
    pub secrets_withheld: u64,
    /// Streams refused or ended for a bad request.
    pub refused_streams: u64,
    /// What became of connections, by word.
    pub connections: Vec<(&'static str, u64)>,
    /// Bytes of memory above which new streams are refused; 0: never.
    pub memory_limit: u64,
    /// Connections closed because the proxy did not read.
    pub write_timeouts: u64,
    /// Bytes of the largest request so far.
    pub largest_request: u64,
    /// Streams and pushes that ended in a panic.
    pub internal_errors: u64,
    /// Assignments that proxies watch and reach no endpoint of; not a sum over time.
    pub without_endpoints: u64,
    /// Assignments and routes kept to be sent again.
    pub cache: Vec<CacheRow>,
    /// Lists kept for proxies that have them. They are read whole: no read is counted, and none goes.
    pub lists: Vec<CacheRow>,
    /// Streams woken.
    pub wakeups: u64,
    /// Destinations of VirtualServices that nobody knows, once per build of what leads there.
    pub unknown_destinations: u64,
    /// Servers of Gateways, or names of them, left out for an older one, once per build of a router's listeners.
    pub gateway_conflicts: u64,
    /// Server names and blocks of destinations left out because an older service leads them elsewhere, once per build
    /// of the lists.
    pub chain_conflicts: u64,
}

/// What is kept of one type to be sent again.
#[derive(Clone, Copy, Debug, Default)]
pub struct CacheRow {
    /// The type (`cds`, `eds`, …).
    pub kind: &'static str,
    /// Reads that found bytes.
    pub hits: u64,
    /// Reads that had to build.
    pub misses: u64,
    /// Bytes dropped for want of room.
    pub evictions: u64,
    /// Bytes held now.
    pub bytes: u64,
    /// Resources that hold some now.
    pub entries: u64,
}

/// The metrics of one server, in a registry of their own: two servers in one process do not share numbers.
///
/// Most values are pulled when somebody asks ([`Metrics::render`]); only histograms are fed as things happen.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// One scrape at a time: counters are set by reset and add.
    scrape: Mutex<()>,

    // What proxies are connected, and of which version?
    pilot_xds: IntGaugeVec,
    // How much is sent, and of what?
    pilot_xds_pushes: IntCounterVec,
    // Are endpoints hidden from proxies, and why?
    tombolo_view_endpoints: IntGaugeVec,
    // What makes us push?
    pilot_push_triggers: IntCounterVec,
    // Do proxies refuse what we send?
    pilot_total_xds_rejects: IntCounterVec,
    // Do proxies talk about responses that are long superseded?
    pilot_xds_expired_nonce: IntCounterVec,
    // How much is that in bytes?
    tombolo_xds_sent_bytes: IntCounterVec,
    // Is a set too large for one message of common clients (4 MiB)?
    tombolo_xds_response_bytes_max: IntGaugeVec,
    // How large is the mesh?
    pilot_services: IntGauge,
    // Which kind of object makes the load?
    pilot_k8s_reg_events: IntCounterVec,
    // Does configuration change all the time, and what of it?
    pilot_k8s_cfg_events: IntCounterVec,
    // What are changes about?
    pilot_inbound_updates: IntCounterVec,
    // How much configuration is there, and how much of it is set aside because it cannot be read?
    tombolo_policies: IntGaugeVec,
    // How many VirtualServices steer traffic?
    pilot_virt_services: IntGauge,
    // Do DestinationRules name the same subset of a host twice?
    pilot_destrule_subsets: IntGauge,
    // Are endpoints held back because their pod is not known?
    pilot_k8s_endpoints_pending_pod: IntGauge,
    // How often did endpoints come before their pods?
    pilot_k8s_endpoints_with_no_pods: IntCounter,
    // Do Secrets of remote clusters come and go?
    remote_cluster_secret_events_total: IntCounterVec,
    // Do clusters disagree about the ports of a service?
    tombolo_port_conflicts: IntGauge,
    // How old is the oldest answer that a gateway's host name is served with?
    tombolo_gateway_dns_age_seconds: Gauge,
    // Whose answer is it?
    tombolo_gateway_dns_host_age_seconds: GaugeVec,
    // How many host names of gateways could not be resolved the last time?
    tombolo_gateway_dns_failing: IntGauge,
    // How fresh is each cluster?
    clusters: ClusterMetrics,
    // Which version runs?
    pilot_info: IntGaugeVec,
    // When did it last restart?
    istiod_uptime_seconds: Gauge,
    // Is work proportional to change? One slice change is one conversion …
    tombolo_conversions: IntCounter,
    // … pods likewise …
    tombolo_pod_conversions: IntCounter,
    // … one publish …
    tombolo_publishes: IntCounter,
    // … nothing for what did not change …
    tombolo_writes_unchanged: IntCounter,
    // … as many builds as there are kinds of subscribers …
    tombolo_builds: IntCounterVec,
    // … hardly any of them for nothing …
    tombolo_unchanged_builds: IntCounter,
    // … few pushes for many changes …
    tombolo_push_rounds: IntCounter,
    // … and wake-ups of subscribed streams only.
    tombolo_wakeups: IntCounter,
    // Does a proxy wait for a certificate it will not get?
    tombolo_secrets_withheld: IntCounter,
    // Do clients come that we refuse?
    tombolo_refused_streams: IntCounter,
    // What becomes of connections: are some refused, aged, stuck?
    tombolo_connections: IntCounterVec,
    // Is there memory for more proxies?
    tombolo_memory_limit_bytes: IntGauge,
    process_resident_memory_bytes: IntGauge,
    // Do VirtualServices lead to destinations that nobody knows, so that Envoy answers 503?
    tombolo_unknown_destinations: IntCounter,
    // Do Gateways claim ports and names that older ones have already?
    tombolo_gateway_conflicts: IntCounter,
    // Are connections closed because proxies do not read?
    pilot_xds_write_timeout: IntCounter,
    // Are requests growing towards the limit of 4 MiB?
    pilot_xds_recv_max: IntGauge,
    // Do streams end by errors of ours?
    pilot_total_xds_internal_errors: IntCounter,
    // How many names do proxies ask for that lead nowhere?
    pilot_eds_no_instances: IntGauge,
    // Is what is built sent more than once …
    tombolo_cache_hits: IntCounterVec,
    // … or built again for a proxy that asks …
    tombolo_cache_misses: IntCounterVec,
    // … because there was no room for it?
    tombolo_cache_evictions: IntCounterVec,
    // What does it take to keep it …
    tombolo_cache_bytes: IntGaugeVec,
    // … and how much of it is there?
    tombolo_cache_entries: IntGaugeVec,
    // The same in istiod's words, for its dashboards.
    xds_cache_reads: IntCounterVec,
    xds_cache_evictions: IntCounter,
    xds_cache_size: IntGauge,
    // Do ServiceEntries or TLS routes claim names or blocks that older ones lead elsewhere?
    tombolo_chain_conflicts: IntCounter,
    // Do objects come that cannot be read?
    tombolo_unreadable_objects: IntCounter,
    // Do watches break and start over from a list?
    tombolo_lists: IntCounter,
    // Do attempts to reach API servers fail?
    tombolo_watch_failures: IntCounter,
}

/// Names and label sets are constants that a test registers.
const VALID: &str = "metric names are valid and registered once: a test renders them all";

fn add<C: Collector + Clone + 'static>(registry: &Registry, collector: Result<C, prometheus::Error>) -> C {
    let collector = collector.expect(VALID);
    registry.register(Box::new(collector.clone())).expect(VALID);
    collector
}

impl Metrics {
    /// All metrics, at zero, and with them those of `fed`, which others feed as things happen.
    pub fn new(fed: impl IntoIterator<Item = Box<dyn Collector>>) -> Self {
        let registry = Registry::new();
        fed.into_iter().for_each(|collector| registry.register(collector).expect(VALID));
        let counter = |name, help| add(&registry, IntCounter::new(name, help));
        let gauge = |name, help| add(&registry, IntGauge::new(name, help));
        let counters = |name: &str, help: &str, labels: &[&str]| {
            add(&registry, IntCounterVec::new(Opts::new(name, help), labels))
        };
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            add(&registry, IntGaugeVec::new(Opts::new(name, help), labels))
        };
        Self {
            pilot_xds: gauges("pilot_xds", "Proxies connected, by their version", &["version"]),
            pilot_xds_pushes: counters("pilot_xds_pushes", "Responses written, by type", &["type"]),
            tombolo_view_endpoints: gauges(
                "tombolo_view_endpoints",
                "Endpoints by what became of them, over the assignments that proxies watch",
                &["decision"],
            ),
            pilot_push_triggers: counters("pilot_push_triggers", "Pushes, by what triggered them", &["type"]),
            pilot_total_xds_rejects: counters(
                "pilot_total_xds_rejects",
                "Responses rejected by a proxy, by type",
                &["type"],
            ),
            pilot_xds_expired_nonce: counters(
                "pilot_xds_expired_nonce",
                "Requests that name a superseded response, by type",
                &["type"],
            ),
            tombolo_xds_sent_bytes: counters(
                "tombolo_xds_sent_bytes",
                "Bytes of resources written, by type",
                &["type"],
            ),
            tombolo_xds_response_bytes_max: gauges(
                "tombolo_xds_response_bytes_max",
                "Bytes of resources in the largest response so far, by type",
                &["type"],
            ),
            pilot_services: gauge("pilot_services", "Services known, all clusters merged"),
            pilot_k8s_reg_events: counters(
                "pilot_k8s_reg_events",
                "Events from API servers, by kind of object and of event",
                &["type", "event"],
            ),
            pilot_k8s_cfg_events: counters(
                "pilot_k8s_cfg_events",
                "Events of policies, by kind of object and of event",
                &["type", "event"],
            ),
            pilot_inbound_updates: counters(
                "pilot_inbound_updates",
                "Events of EndpointSlices (eds), Services (svc, svcdelete) and policies (config)",
                &["type"],
            ),
            tombolo_policies: gauges(
                "tombolo_policies",
                "Policy objects, by kind and whether their last word can be read",
                &["kind", "state"],
            ),
            pilot_virt_services: gauge("pilot_virt_services", "VirtualServices known"),
            pilot_destrule_subsets: gauge(
                "pilot_destrule_subsets",
                "Subset names that several DestinationRules give to the same host",
            ),
            pilot_k8s_endpoints_pending_pod: gauge(
                "pilot_k8s_endpoints_pending_pod",
                "Endpoints withheld because the pod they name is not known",
            ),
            pilot_k8s_endpoints_with_no_pods: counter(
                "pilot_k8s_endpoints_with_no_pods",
                "Endpoints that came before the pod they name",
            ),
            remote_cluster_secret_events_total: counters(
                "remote_cluster_secret_events_total",
                "Clusters that Secrets added, changed and removed",
                &["event"],
            ),
            tombolo_port_conflicts: gauge(
                "tombolo_port_conflicts",
                "Services about whose ports the clusters disagree",
            ),
            tombolo_gateway_dns_age_seconds: add(
                &registry,
                Gauge::new(
                    "tombolo_gateway_dns_age_seconds",
                    "Age of the oldest answer that a gateway's host name is served with",
                ),
            ),
            tombolo_gateway_dns_host_age_seconds: add(
                &registry,
                GaugeVec::new(
                    Opts::new(
                        "tombolo_gateway_dns_host_age_seconds",
                        "Age of the answer that a gateway's host name is served with; of the 100 oldest",
                    ),
                    &["host"],
                ),
            ),
            tombolo_gateway_dns_failing: gauge(
                "tombolo_gateway_dns_failing",
                "Host names of gateways that could not be resolved the last time",
            ),
            clusters: ClusterMetrics::new(&registry),
            pilot_info: gauges("pilot_info", "1, with the version", &["version"]),
            istiod_uptime_seconds: add(
                &registry,
                Gauge::new("istiod_uptime_seconds", "Seconds since the start"),
            ),
            tombolo_conversions: counter("tombolo_conversions", "Shares of services converted"),
            tombolo_pod_conversions: counter("tombolo_pod_conversions", "Pods converted"),
            tombolo_publishes: counter("tombolo_publishes", "Snapshots published in the registry"),
            tombolo_writes_unchanged: counter(
                "tombolo_writes_unchanged",
                "Writes to the registry that changed nothing",
            ),
            tombolo_builds: counters("tombolo_builds", "Builds, by what was built", &["kind"]),
            tombolo_unchanged_builds: counter(
                "tombolo_unchanged_builds",
                "Builds that gave what was there before",
            ),
            tombolo_push_rounds: counter("tombolo_push_rounds", "Change sets worked off"),
            tombolo_secrets_withheld: counter(
                "tombolo_secrets_withheld",
                "Requests for a private key that were not answered",
            ),
            tombolo_refused_streams: counter(
                "tombolo_refused_streams",
                "Streams refused or ended for a bad request",
            ),
            tombolo_connections: counters(
                "tombolo_connections",
                "Connections of proxies, by what became of them; accepted minus closed are open",
                &["outcome"],
            ),
            tombolo_memory_limit_bytes: gauge(
                "tombolo_memory_limit_bytes",
                "Resident memory above which new streams are refused; 0: never",
            ),
            process_resident_memory_bytes: gauge(
                "process_resident_memory_bytes",
                "Resident memory, with what the allocator keeps for later",
            ),
            tombolo_unknown_destinations: counter(
                "tombolo_unknown_destinations",
                "Destinations of VirtualServices that nobody knows, once per build of what leads there",
            ),
            tombolo_gateway_conflicts: counter(
                "tombolo_gateway_conflicts",
                "Servers of Gateways, or names of them, left out for an older one, once per build of a router's listeners",
            ),
            tombolo_chain_conflicts: counter(
                "tombolo_chain_conflicts",
                "Server names and blocks of destinations left out for an older service, once per build of the lists",
            ),
            pilot_xds_write_timeout: counter(
                "pilot_xds_write_timeout",
                "Connections closed because the proxy did not read",
            ),
            pilot_xds_recv_max: gauge("pilot_xds_recv_max", "Bytes of the largest request so far"),
            pilot_total_xds_internal_errors: counter(
                "pilot_total_xds_internal_errors",
                "Streams and pushes that ended by an error of this server",
            ),
            pilot_eds_no_instances: gauge(
                "pilot_eds_no_instances",
                "Assignments that proxies watch and reach no endpoint of",
            ),
            tombolo_cache_hits: counters(
                "tombolo_cache_hits",
                "Reads of assignments and routes that found them built, by type",
                &["type"],
            ),
            tombolo_cache_misses: counters(
                "tombolo_cache_misses",
                "Reads of assignments and routes that had to build them, by type",
                &["type"],
            ),
            tombolo_cache_evictions: counters(
                "tombolo_cache_evictions",
                "Assignments and routes whose bytes were dropped for want of room, by type",
                &["type"],
            ),
            tombolo_cache_bytes: gauges(
                "tombolo_cache_bytes",
                "Bytes of resources kept to be sent again, by type; the limit is for eds and rds together",
                &["type"],
            ),
            tombolo_cache_entries: gauges(
                "tombolo_cache_entries",
                "Resources kept to be sent again, by type",
                &["type"],
            ),
            xds_cache_reads: counters(
                "xds_cache_reads",
                "Reads of assignments and routes, by whether they were built",
                &["type"],
            ),
            xds_cache_evictions: counter(
                "xds_cache_evictions",
                "Assignments and routes whose bytes were dropped for want of room",
            ),
            xds_cache_size: gauge("xds_cache_size", "Assignments and routes kept to be sent again"),
            tombolo_wakeups: counter("tombolo_wakeups", "Streams woken by a change"),
            tombolo_unreadable_objects: counter(
                "tombolo_unreadable_objects",
                "Objects that came and could not be read",
            ),
            tombolo_lists: counter("tombolo_lists", "Complete lists read from API servers"),
            tombolo_watch_failures: counter(
                "tombolo_watch_failures",
                "Attempts at lists and watches that failed",
            ),
            scrape: Mutex::new(()),
            registry,
        }
    }

    /// The registry, for metrics an embedder adds.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The text of a scrape, after `refresh` has pulled current values.
    pub fn render(&self, refresh: impl FnOnce(&Refresh<'_>)) -> String {
        let _one = self.scrape.lock().unwrap_or_else(PoisonError::into_inner);
        refresh(&Refresh { metrics: self });
        let mut text = Vec::new();
        // Writing to memory; what was gathered is ours and valid.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        String::from_utf8_lossy(&text).into_owned()
    }
}

/// Sets values during a scrape.
#[derive(Debug)]
pub struct Refresh<'a> {
    metrics: &'a Metrics,
}

fn set(counter: &IntCounter, value: u64) {
    counter.reset();
    counter.inc_by(value);
}

fn set_all<'a>(family: &IntCounterVec, values: impl IntoIterator<Item = &'a (&'static str, u64)>) {
    for (label, value) in values {
        set(&family.with_label_values(&[*label]), *value);
    }
}

fn large(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn whole(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl Refresh<'_> {
    /// Work of the xDS server.
    pub fn xds(&self, sample: &XdsSample) {
        let metrics = self.metrics;
        set_all(&metrics.pilot_xds_pushes, &sample.pushes);
        for (decision, count) in &sample.decided {
            let gauge = metrics.tombolo_view_endpoints.with_label_values(&[decision]);
            gauge.set(i64::try_from(*count).unwrap_or(i64::MAX));
        }
        set_all(&metrics.pilot_push_triggers, &sample.triggers);
        set_all(&metrics.pilot_total_xds_rejects, &sample.rejects);
        set_all(&metrics.pilot_xds_expired_nonce, &sample.expired_nonces);
        set_all(&metrics.tombolo_xds_sent_bytes, &sample.bytes);
        for (kind, bytes) in &sample.largest {
            let gauge = metrics.tombolo_xds_response_bytes_max.with_label_values(&[kind]);
            gauge.set(i64::try_from(*bytes).unwrap_or(i64::MAX));
        }
        set_all(&metrics.tombolo_builds, &sample.builds);
        set(&metrics.tombolo_unchanged_builds, sample.unchanged_builds);
        set(&metrics.tombolo_push_rounds, sample.rounds);
        set(&metrics.tombolo_secrets_withheld, sample.secrets_withheld);
        set(&metrics.tombolo_refused_streams, sample.refused_streams);
        set_all(&metrics.tombolo_connections, &sample.connections);
        metrics.tombolo_memory_limit_bytes.set(i64::try_from(sample.memory_limit).unwrap_or(i64::MAX));
        set(&metrics.tombolo_wakeups, sample.wakeups);
        set(&metrics.tombolo_unknown_destinations, sample.unknown_destinations);
        set(&metrics.tombolo_gateway_conflicts, sample.gateway_conflicts);
        set(&metrics.tombolo_chain_conflicts, sample.chain_conflicts);
        set(&metrics.pilot_xds_write_timeout, sample.write_timeouts);
        metrics.pilot_xds_recv_max.set(large(sample.largest_request));
        set(&metrics.pilot_total_xds_internal_errors, sample.internal_errors);
        metrics.pilot_eds_no_instances.set(large(sample.without_endpoints));
        self.cache(&sample.cache, &sample.lists);
    }

    fn cache(&self, cells: &[CacheRow], lists: &[CacheRow]) {
        let metrics = self.metrics;
        for row in cells {
            set(&metrics.tombolo_cache_hits.with_label_values(&[row.kind]), row.hits);
            set(&metrics.tombolo_cache_misses.with_label_values(&[row.kind]), row.misses);
            set(&metrics.tombolo_cache_evictions.with_label_values(&[row.kind]), row.evictions);
        }
        for row in cells.iter().chain(lists) {
            metrics.tombolo_cache_bytes.with_label_values(&[row.kind]).set(large(row.bytes));
            metrics.tombolo_cache_entries.with_label_values(&[row.kind]).set(large(row.entries));
        }
        let sum = |of: fn(&CacheRow) -> u64| cells.iter().map(of).sum();
        set(&metrics.xds_cache_reads.with_label_values(&["hit"]), sum(|row| row.hits));
        set(&metrics.xds_cache_reads.with_label_values(&["miss"]), sum(|row| row.misses));
        set(&metrics.xds_cache_evictions, sum(|row| row.evictions));
        metrics.xds_cache_size.set(large(sum(|row| row.entries)));
    }

    /// Connected proxies, by version as they spell it: peers choose it, so it is cut and their number bounded.
    pub fn proxies<'v>(&self, versions: impl Iterator<Item = &'v str>) {
        let mut counts: BTreeMap<String, i64> = BTreeMap::new();
        for version in versions {
            let mut label = label(version);
            if !counts.contains_key(&label) && counts.len() >= VERSION_LABELS {
                label = "other".to_owned();
            }
            *counts.entry(label).or_default() += 1;
        }
        self.metrics.pilot_xds.reset();
        for (version, count) in counts {
            self.metrics.pilot_xds.with_label_values(&[&version]).set(count);
        }
    }

    /// Work and size of the registry.
    pub fn registry(&self, services: u64, publishes: u64, unchanged: u64) {
        self.metrics.pilot_services.set(i64::try_from(services).unwrap_or(i64::MAX));
        set(&self.metrics.tombolo_publishes, publishes);
        set(&self.metrics.tombolo_writes_unchanged, unchanged);
    }

    /// One row of events.
    pub fn event(&self, object: &str, event: &str, count: u64) {
        set(&self.metrics.pilot_k8s_reg_events.with_label_values(&[object, event]), count);
    }

    /// Events by what they are about, in istiod's words.
    pub fn inbound_updates(&self, rows: &[(&'static str, u64)]) {
        set_all(&self.metrics.pilot_inbound_updates, rows);
    }

    /// How many policies of a kind are in a state.
    pub fn policies(&self, kind: &str, state: &str, count: usize) {
        self.metrics.tombolo_policies.with_label_values(&[kind, state]).set(whole(count));
        if (kind, state) == ("VirtualService", "ok") {
            self.metrics.pilot_virt_services.set(whole(count));
        }
    }

    /// One row of events of policies.
    pub fn policy_event(&self, kind: &str, event: &str, count: u64) {
        set(&self.metrics.pilot_k8s_cfg_events.with_label_values(&[kind, event]), count);
    }

    /// Subset names that several DestinationRules give to the same host.
    pub fn duplicate_subsets(&self, count: usize) {
        self.metrics.pilot_destrule_subsets.set(whole(count));
    }

    /// Services about whose ports clusters disagree.
    pub fn conflicts(&self, services: u64) {
        self.metrics.tombolo_port_conflicts.set(i64::try_from(services).unwrap_or(i64::MAX));
    }

    /// Host names of gateways: the ages of the answers in use, and how many lookups failed the last time. Remote
    /// clusters choose the names, so the oldest only have a row of their own.
    pub fn gateway_dns<'h>(&self, ages: impl Iterator<Item = (&'h str, Duration)>, failing: usize) {
        let mut ages: Vec<_> = ages.collect();
        ages.sort_by_key(|(host, age)| (std::cmp::Reverse(*age), *host));
        let oldest = ages.first().map_or(Duration::ZERO, |(_, age)| *age);
        self.metrics.tombolo_gateway_dns_age_seconds.set(oldest.as_secs_f64());
        let by_host = &self.metrics.tombolo_gateway_dns_host_age_seconds;
        by_host.reset();
        for (host, age) in ages.into_iter().take(HOST_LABELS) {
            by_host.with_label_values(&[host]).set(age.as_secs_f64());
        }
        self.metrics.tombolo_gateway_dns_failing.set(whole(failing));
    }

    /// Work of ingest.
    pub fn ingest(&self, values: &IngestValues) {
        let metrics = self.metrics;
        set(&metrics.tombolo_conversions, values.conversions);
        set(&metrics.tombolo_pod_conversions, values.pod_conversions);
        set(&metrics.tombolo_unreadable_objects, values.unreadable);
        set(&metrics.tombolo_lists, values.lists);
        set(&metrics.tombolo_watch_failures, values.failures);
        set(&metrics.pilot_k8s_endpoints_with_no_pods, values.endpoints_without_pods);
        set_all(&metrics.remote_cluster_secret_events_total, &values.secret_events);
    }

    /// Forgets the clusters of the last scrape; [`Self::cluster`] and [`Self::source`] follow for each there is.
    pub fn clusters(&self, local: usize, remote: usize, pending_pods: usize) {
        self.metrics.clusters.reset();
        self.metrics.clusters.managed(local, remote);
        self.metrics.pilot_k8s_endpoints_pending_pod.set(whole(pending_pods));
    }

    /// One cluster.
    pub fn cluster(&self, id: &str, values: &ClusterValues) {
        self.metrics.clusters.cluster(id, values);
    }

    /// One kind of object of one cluster.
    pub fn source(&self, cluster: &str, resource: &str, values: &SourceValues<'_>) {
        self.metrics.clusters.source(cluster, resource, values);
    }

    /// The process; `resident`: bytes of memory.
    pub fn process(&self, version: &str, uptime_seconds: f64, resident: u64) {
        self.metrics.process_resident_memory_bytes.set(i64::try_from(resident).unwrap_or(i64::MAX));
        self.metrics.pilot_info.with_label_values(&[version]).set(1);
        self.metrics.istiod_uptime_seconds.set(uptime_seconds);
    }
}

/// Work of ingest, for one scrape.
#[derive(Clone, Debug, Default)]
pub struct IngestValues {
    /// Shares of services converted.
    pub conversions: u64,
    /// Pods converted.
    pub pod_conversions: u64,
    /// Objects that came and could not be read.
    pub unreadable: u64,
    /// Complete lists.
    pub lists: u64,
    /// Failed attempts.
    pub failures: u64,
    /// Endpoints that came before their pods.
    pub endpoints_without_pods: u64,
    /// Clusters that Secrets added, changed and removed.
    pub secret_events: Vec<(&'static str, u64)>,
}

/// A version as a label: short and plain, or `other`.
fn label(version: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_+".contains(&byte);
    match version {
        "" => "unknown".to_owned(),
        text if text.len() <= 40 && text.bytes().all(plain) => text.to_owned(),
        _ => "other".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics() -> Metrics {
        Metrics::new([])
    }

    #[test]
    fn counters_follow_their_source_and_do_not_add_up() {
        let metrics = metrics();
        let sample = XdsSample { pushes: vec![("eds", 3)], ..XdsSample::default() };
        let first = metrics.render(|refresh| refresh.xds(&sample));
        let second = metrics.render(|refresh| refresh.xds(&sample));
        assert_eq!(first, second);
        assert!(second.contains("pilot_xds_pushes{type=\"eds\"} 3"), "{second}");
    }

    #[test]
    fn host_names_of_gateways_cannot_flood_the_labels() {
        let metrics = metrics();
        let hosts: Vec<String> = (0..150).map(|n| format!("gw{n}.example")).collect();
        let ages = || hosts.iter().zip(0..).map(|(host, n)| (host.as_str(), Duration::from_secs(1000 + n)));
        let text = metrics.render(|refresh| refresh.gateway_dns(ages(), 3));
        let rows = |text: &str| text.matches("tombolo_gateway_dns_host_age_seconds{").count();
        assert_eq!(rows(&text), HOST_LABELS);
        for line in [
            "tombolo_gateway_dns_age_seconds 1149",
            "tombolo_gateway_dns_failing 3",
            "tombolo_gateway_dns_host_age_seconds{host=\"gw149.example\"} 1149",
            "tombolo_gateway_dns_host_age_seconds{host=\"gw50.example\"} 1050",
        ] {
            assert!(text.lines().any(|one| one == line), "{line}: {text}");
        }
        let text = metrics.render(|refresh| refresh.gateway_dns(ages().take(1), 0));
        assert!(rows(&text) == 1 && text.contains("tombolo_gateway_dns_age_seconds 1000"), "{text}");
    }

    #[test]
    fn versions_of_peers_cannot_flood_the_labels() {
        let metrics = metrics();
        let versions: Vec<String> = (0..100).map(|n| format!("1.{n}")).collect();
        let odd = ["a\nb".to_owned(), "x".repeat(100)];
        let all = versions.iter().chain(&odd).map(String::as_str);
        let text = metrics.render(|refresh| refresh.proxies(all));
        let rows = text.lines().filter(|line| line.starts_with("pilot_xds{")).count();
        assert_eq!(rows, VERSION_LABELS + 1);
        assert!(text.contains("pilot_xds{version=\"other\"} 82"), "{text}");
    }
}
