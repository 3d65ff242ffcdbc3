//! How long things take on the way from an API server to a proxy and back, and how large they are.

use std::time::Instant;

use prometheus::core::Collector;
use prometheus::{Histogram, HistogramOpts, HistogramVec};

use super::resource::ResourceType;

/// istiod's buckets of times with ours below 100 ms (D45), in seconds.
const SECONDS: [f64; 14] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 3.0, 5.0, 10.0, 20.0, 30.0];
/// The same for what transports take, which istiod has without one.
const SEND_SECONDS: [f64; 13] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 1.0, 3.0, 5.0, 10.0, 20.0, 30.0];
/// istiod's buckets of sizes, in bytes.
const BYTES: [f64; 6] = [1.0, 1e4, 1e6, 4e6, 1e7, 4e7];

const VALID: &str = "names are valid and buckets ascend: a test shows all of them";

/// One histogram for each resource type. Feeding it allocates nothing.
#[derive(Debug)]
pub struct PerTypeHistogram {
    family: HistogramVec,
    by_type: [Histogram; ResourceType::ALL.len()],
}

impl PerTypeHistogram {
    fn new(name: &str, help: &str, buckets: &[f64], label: fn(ResourceType) -> &'static str) -> Self {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        let family = HistogramVec::new(options, &["type"]).expect(VALID);
        let by_type = ResourceType::ALL.map(|kind| family.with_label_values(&[label(kind)]));
        Self { family, by_type }
    }

    /// The one of a type.
    pub fn of(&self, kind: ResourceType) -> &Histogram {
        &self.by_type[kind as usize]
    }
}

/// Fed as things happen.
#[derive(Debug)]
pub struct Times {
    /// Seconds from the arrival of a change at a watch to the write of the last response that carries it.
    pub convergence: Histogram,
    /// Seconds from the arrival of a change at a watch to the proxy's ACK of a response that carries it.
    pub ack: PerTypeHistogram,
    /// Seconds that a stream which was told of a change takes to look at it.
    pub queue: Histogram,
    /// Seconds that changes wait for company before a push.
    pub debounce: Histogram,
    /// Seconds that a response takes to be put together.
    pub push: PerTypeHistogram,
    /// Seconds from the write of a response until the transport has taken it whole.
    pub send: Histogram,
    /// Bytes of the resources of a response.
    pub size: PerTypeHistogram,
}

impl Times {
    /// All of them, for who shows them.
    pub fn collectors(&self) -> Vec<Box<dyn Collector>> {
        let single = [&self.convergence, &self.queue, &self.debounce, &self.send];
        let by_type = [&self.ack, &self.push, &self.size];
        let single = single.into_iter().map(|one| Box::new(one.clone()) as Box<dyn Collector>);
        let by_type = by_type.into_iter().map(|all| Box::new(all.family.clone()) as Box<dyn Collector>);
        single.chain(by_type).collect()
    }
}

impl Default for Times {
    fn default() -> Self {
        let single = |name: &str, help: &str, buckets: &[f64]| {
            Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec())).expect(VALID)
        };
        let short = ResourceType::short;
        Self {
            convergence: single(
                "pilot_proxy_convergence_time",
                "Seconds from the arrival of a change at a watch to the write of the last response that carries it",
                &SECONDS,
            ),
            ack: PerTypeHistogram::new(
                "tombolo_proxy_ack_time",
                "Seconds from the arrival of a change at a watch to the ACK of a response that carries it, by type",
                &SECONDS,
                short,
            ),
            queue: single(
                "pilot_proxy_queue_time",
                "Seconds that a stream which was told of a change takes to look at it",
                &SECONDS,
            ),
            debounce: single(
                "pilot_debounce_time",
                "Seconds that changes wait for company before a push",
                &SECONDS,
            ),
            push: PerTypeHistogram::new(
                "pilot_xds_push_time",
                "Seconds that a response takes to be put together, by type",
                &SECONDS,
                short,
            ),
            send: single(
                "pilot_xds_send_time",
                "Seconds from the write of a response until the transport has taken it whole",
                &SEND_SECONDS,
            ),
            size: PerTypeHistogram::new(
                "pilot_xds_config_size_bytes",
                "Bytes of the resources of a response, by type URL",
                &BYTES,
                ResourceType::url,
            ),
        }
    }
}

/// Notes the seconds from `begin` to `end`.
pub(super) fn observe(histogram: &Histogram, begin: Instant, end: Instant) {
    histogram.observe(end.saturating_duration_since(begin).as_secs_f64());
}
