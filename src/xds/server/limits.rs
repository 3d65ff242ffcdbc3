//! What one server takes on (D30, Z-33 to Z-40), and who is over it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::bucket::Bucket;

/// Bounds of connections and streams, and of what is kept for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once; further ones wait in the listener's backlog. Keep it below the limit of file descriptors
    /// (X-L08).
    pub connections: usize,
    /// Connections of one source address that have not introduced a proxy yet; a further one is closed (Z-33).
    pub idle_per_source: usize,
    /// TLS handshakes at once (Z-39).
    pub handshakes: usize,
    /// How long a TLS handshake, and then the first call, may take.
    pub introduction: Duration,
    /// Calls at once on one connection (Z-34). A client of gRPC has one for each `xds:///` target, all on one connection,
    /// and those beyond the limit wait for ever.
    pub streams_per_connection: u32,
    /// New streams per second, and how many of them at once (X-L06).
    pub stream_rate: (u32, u32),
    /// How long a new stream may wait for its turn before it is refused.
    pub stream_wait: Duration,
    /// Requests per second and at once on one stream; an ACK or NACK is free (Z-38).
    pub request_rate: (u32, u32),
    /// How old a connection may become, up to a fifth more or less; zero: as old as it likes (X-L03).
    pub max_age: Duration,
    /// How long a proxy may leave a response unread (X-F03).
    pub stuck: Duration,
    /// Bytes of memory in use above which new streams are refused; nobody loses one (Z-40).
    pub memory: Option<u64>,
    /// Over which time the streams end at shutdown, and how long all of it may take (X-L04).
    pub drain: (Duration, Duration),
    /// Bytes of assignments and routes that are kept to be sent again; what is more is built again when it is needed
    /// (D18).
    pub cache_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 20_000,
            idle_per_source: 1024,
            handshakes: 256,
            introduction: Duration::from_secs(10),
            streams_per_connection: 100,
            stream_rate: (1_000, 1_000),
            stream_wait: Duration::from_secs(10),
            request_rate: (100, 200),
            max_age: Duration::from_secs(30 * 60),
            stuck: Duration::from_secs(5 * 60),
            memory: None,
            drain: (Duration::from_secs(2), Duration::from_secs(5)),
            cache_bytes: 256 << 20,
        }
    }
}

/// New streams, one after the other when many come at once (X-L06).
#[derive(Debug)]
pub(super) struct Admission {
    bucket: Mutex<Bucket>,
    patience: Duration,
}

impl Admission {
    pub(super) fn new(limits: &Limits) -> Self {
        let (rate, burst) = limits.stream_rate;
        Self { bucket: Mutex::new(Bucket::new(rate, burst)), patience: limits.stream_wait }
    }

    /// How long the stream that comes now must wait, or `None` when it would be too long: it takes no place then.
    pub(super) fn admit(&self, now: Instant) -> Option<Duration> {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        (bucket.wait(now) <= self.patience).then(|| bucket.take(now))
    }
}

/// Connections without a served stream, by source address.
#[derive(Debug)]
pub(super) struct Sources {
    idle: Mutex<HashMap<IpAddr, usize>>,
    limit: usize,
}

/// One connection's place in [`Sources`], until it is dropped.
#[derive(Debug)]
pub(super) struct Idle {
    sources: Arc<Sources>,
    address: IpAddr,
}

impl Sources {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { idle: Mutex::default(), limit })
    }

    /// A place for a connection from `address`; `None` when it has too many.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Idle> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let count = idle.entry(address).or_insert(0);
        if *count >= self.limit {
            return None;
        }
        *count += 1;
        drop(idle);
        Some(Idle { sources: Arc::clone(self), address })
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        let mut idle = self.sources.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = idle.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                idle.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn z33_a_source_has_so_many_connections_without_a_stream() {
        let (a, b) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        let sources = Sources::new(2);
        let held = [sources.enter(a), sources.enter(a)];
        assert!(held.iter().all(Option::is_some));
        assert!(sources.enter(a).is_none() && sources.enter(b).is_some());
        drop(held);
        assert!(sources.enter(a).is_some());
        assert!(sources.idle.lock().expect("a lock").is_empty(), "nobody is left over");
    }

    #[test]
    fn l06_streams_wait_for_their_turn_and_are_refused_when_it_is_too_far() {
        let limits =
            Limits { stream_rate: (10, 5), stream_wait: Duration::from_secs(1), ..Limits::default() };
        let admission = Admission::new(&limits);
        let now = Instant::now();
        let waits: Vec<_> = (0..100).map_while(|_| admission.admit(now)).collect();
        assert_eq!(waits.len(), 5 + 10);
        assert_eq!(waits[5], Duration::from_millis(100));
        assert_eq!(admission.admit(now), None, "refused streams take no place");
        assert!(admission.admit(now + Duration::from_millis(100)).is_some());
    }
}
