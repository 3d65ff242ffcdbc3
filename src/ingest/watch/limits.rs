//! What every source of the process goes by.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::backoff::RetryPolicy;
use super::permits::ListPermits;
use super::server::Server;
use crate::ingest::client::Exchange;

/// How long things may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// T_hdr: from a request to the response headers, of watches and streaming lists (K-04).
    pub headers: Duration,
    /// T_page: from the request to the last byte of one list page, waiting for a permit not counted (K-03, K-07).
    /// A streaming list has it for every 500 objects.
    pub page: Duration,
    /// A list whose headers are there has to bring [`Sizes::slow`] bytes in every such window (K-08).
    pub slow: Duration,
    /// Shortest and longest `timeoutSeconds` of a watch: the server ends it, the next one goes on (K-05).
    pub watch: (Duration, Duration),
    /// A watch that shows nothing for its `timeoutSeconds` and this is dead (K-05).
    pub grace: Duration,
    /// A watch that shows nothing for this long, or up to a tenth less, is probed (K-05, K-19).
    pub silence: Duration,
    /// The first probe of a watch that goes on from a revision and has not shown anything yet (K-19).
    pub first_silence: Duration,
    /// A watch has to show the probed revision within this time (K-05).
    pub confirm: Duration,
    /// Between two looks of a cluster at its latest change, by name: from and to (K-19).
    pub scout: (Duration, Duration),
    /// Between two looks of every single source, from half of this on (K-19).
    pub look: Duration,
    /// Between a look that contradicts what is held and the next one (K-19).
    pub look_again: Duration,
    /// `Retry-After` is honoured up to this (K-13).
    pub retry_after: Duration,
    /// Pauses while credentials are refused: the first and the longest (K-15).
    pub refused: (Duration, Duration),
    /// Longest pause after an answer that is no API server's (K-12).
    pub foreign: Duration,
    /// Between two attempts at a kind that is not served (K-46).
    pub not_served: Duration,
    /// Relists begin within this time when many watches break at once (K-42).
    pub storm: Duration,
    /// How long a server that refused or ignored a streaming list is asked for pages (K-25), and how long a kind
    /// is read as JSON after protobuf did not work.
    pub remembered: Duration,
    /// The same after a streaming list that began and was not completed (K-26).
    pub withheld: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            headers: seconds(10),
            page: seconds(30),
            slow: seconds(10),
            watch: (seconds(240), seconds(360)),
            grace: seconds(5),
            silence: seconds(50),
            first_silence: seconds(5),
            confirm: seconds(90),
            scout: (seconds(20), seconds(25)),
            look: seconds(600),
            look_again: seconds(10),
            retry_after: seconds(30),
            refused: (seconds(10), seconds(60)),
            foreign: seconds(2),
            not_served: seconds(600),
            storm: seconds(5),
            remembered: seconds(3600),
            withheld: seconds(600),
        }
    }
}

/// How large things may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Objects per list page.
    pub page_objects: u32,
    /// Objects of one list: no cluster has as many, and until it is complete a list is held beside what is served.
    pub list_objects: u32,
    /// Bytes of a list page (K-37).
    pub page: usize,
    /// Bytes of one watch event (K-37).
    pub frame: usize,
    /// Bytes a list has to bring in each window [`Deadlines::slow`] (K-08).
    pub slow: u64,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { page_objects: 500, list_objects: 2_000_000, page: 64 << 20, frame: 8 << 20, slow: 1024 }
    }
}

/// Shared by all sources of the process.
#[derive(Default)]
pub struct SourceLimits {
    /// Pauses between attempts.
    pub retry: RetryPolicy,
    /// How long things may take.
    pub deadlines: Deadlines,
    /// How large things may be.
    pub sizes: Sizes,
    /// How many lists are read at once.
    pub permits: ListPermits,
    drops: Drops,
    servers: Mutex<Servers>,
}

/// What is known of servers, by the address of their exchange.
type Servers = HashMap<usize, (Weak<dyn Exchange>, Weak<Server>)>;

impl std::fmt::Debug for SourceLimits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SourceLimits")
            .field("retry", &self.retry)
            .field("deadlines", &self.deadlines)
            .field("sizes", &self.sizes)
            .finish_non_exhaustive()
    }
}

impl SourceLimits {
    /// The defaults with other pauses between attempts.
    pub fn new(retry: RetryPolicy) -> Self {
        Self { retry, ..Self::default() }
    }

    /// Other deadlines.
    pub fn within(self, deadlines: Deadlines) -> Self {
        Self { deadlines, ..self }
    }

    /// Other sizes, and as many lists at once.
    pub fn sized(self, sizes: Sizes, permits: ListPermits) -> Self {
        Self { sizes, permits, ..self }
    }

    /// Notes that a watch broke (K-42).
    pub(super) fn watch_broke(&self, now: Instant) {
        self.drops.note(now, self.deadlines.storm);
    }

    /// Notes that a list is needed, and says whether many watches broke or many lists are needed just now (K-42).
    pub(super) fn is_storm(&self, now: Instant) -> bool {
        self.drops.note(now, self.deadlines.storm)
    }

    /// What the sources of one API server know together: one for all that share an exchange.
    pub(super) fn server_of(&self, exchange: &Arc<dyn Exchange>) -> Arc<Server> {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        // A weak reference keeps the address from being taken by another exchange.
        servers.retain(|_, (exchange, _)| exchange.strong_count() > 0);
        let address = Arc::as_ptr(exchange).cast::<()>() as usize;
        if let Some(server) = servers.get(&address).and_then(|(_, server)| server.upgrade()) {
            return server;
        }
        let server = Arc::new(Server::new(self.retry));
        servers.insert(address, (Arc::downgrade(exchange), Arc::downgrade(&server)));
        server
    }
}

/// So many watches that break within [`Deadlines::storm`] are a storm: more than one cluster has kinds.
const MANY: usize = 32;

/// When the last watches broke.
#[derive(Debug, Default)]
struct Drops(Mutex<VecDeque<Instant>>);

impl Drops {
    fn note(&self, now: Instant, within: Duration) -> bool {
        let mut drops = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        drops.push_back(now);
        if drops.len() > MANY {
            drops.pop_front();
        }
        is_many(&drops, now, within)
    }
}

fn is_many(drops: &VecDeque<Instant>, now: Instant, within: Duration) -> bool {
    drops.len() >= MANY && drops.front().is_some_and(|oldest| now.saturating_duration_since(*oldest) < within)
}
