//! A fleet of raw ADS clients in one process: each has a connection and a stream of its own and reads no more of a
//! response than its outside and names, so that thousands fit beside the server they ask.

mod backoff;
mod behaviour;
mod client;
mod connection;
mod dice;
mod fields;
mod frames;
mod message;
mod names;
mod proxy;
mod session;
mod tally;
mod throttle;
mod watch;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::task::JoinSet;

pub use self::behaviour::{Behaviour, Manner, Mix, Protocol};
use self::client::{Client, Order, Pause, Whom};
pub use self::connection::{Bare, Target};
use self::names::{NameList, Names};
pub use self::proxy::{Home, Proxy, Subscription, assignments, sidecar};
use self::session::{Session, Wanted};
use self::tally::Tally;
pub use self::tally::{Summary, Times, TimesSummary, TypeSummary};
pub use self::watch::Watch;
use self::watch::Watched;

/// Files of a process beside the connections.
const OTHER_FILES: usize = 200;

/// Why there is no fleet. Every variant is *Fatal* for the start; nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// The text of the behaviours is not understood.
    #[error("cannot read the behaviours {text:?}: {why}; write for example delta=90%,stopped=10%")]
    Mix {
        /// The text.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// The server is on another machine, and nobody said that this is meant.
    #[error("{0} is not on this machine; a fleet is a load, so say --allow-remote if that server expects it")]
    Remote(SocketAddr),
    /// The system permits fewer open files.
    #[error(
        "{proxies} proxies need {needed} open files and this process may have {limit}; raise the hard limit (ulimit -Hn) or take fewer"
    )]
    Files {
        /// Proxies asked for.
        proxies: usize,
        /// Files they need.
        needed: usize,
        /// What is permitted.
        limit: u64,
    },
    /// Not everybody got what they asked for in time.
    #[error(
        "after {limit:?} only {complete} of {expected} proxies have all they asked for; ends so far: {ends:?}"
    )]
    Late {
        /// How long it was waited.
        limit: Duration,
        /// How many have it.
        complete: usize,
        /// How many should.
        expected: usize,
        /// Why connections ended.
        ends: std::collections::BTreeMap<String, u64>,
    },
}

/// What all proxies of a fleet have in common.
#[derive(Debug, Clone)]
pub struct FleetSettings {
    /// The server.
    pub target: Target,
    /// Whether the server may be on another machine.
    pub allow_remote: bool,
    /// Names of the assignments for those that ask for nothing else.
    pub assignments: Vec<String>,
    /// Seed of everything that is up to chance.
    pub seed: u64,
    /// Proxies started per second; all at once if there is none.
    pub connect_rate: Option<f64>,
    /// Bytes per second of slow readers.
    pub slow_rate: u32,
    /// Time between two storms.
    pub storm_every: Duration,
    /// Mean time that a proxy stays which comes and goes.
    pub stay: Duration,
}

impl FleetSettings {
    /// The defaults, for a server on this machine.
    pub fn new(target: Target) -> Self {
        Self {
            target,
            allow_remote: false,
            assignments: Vec::new(),
            seed: 0,
            connect_rate: None,
            slow_rate: 4096,
            storm_every: Duration::from_secs(10),
            stay: Duration::from_secs(10),
        }
    }
}

/// Shared by all proxies of a fleet.
struct Shared {
    target: Target,
    seed: u64,
    slow_rate: u32,
    stay: Duration,
    names: Arc<Names>,
    tally: Tally,
    orders: tokio::sync::watch::Sender<Order>,
    complete: tokio::sync::watch::Sender<usize>,
    watched: ArcSwapOption<Watched>,
}

/// A running fleet. Dropping it closes every connection.
pub struct Fleet {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
    readers: usize,
    watches: AtomicU64,
}

impl std::fmt::Debug for Fleet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fleet").field("target", &self.shared.target).field("readers", &self.readers).finish()
    }
}

impl Fleet {
    /// Starts `proxies`, which connect at once or at the rate of the settings.
    ///
    /// # Errors
    /// [`FleetError::Remote`], [`FleetError::Files`].
    pub fn start(settings: &FleetSettings, proxies: Vec<Proxy>) -> Result<Self, FleetError> {
        let address = settings.target.address;
        if !settings.allow_remote && !address.ip().is_loopback() {
            return Err(FleetError::Remote(address));
        }
        permit_files(proxies.len())?;
        let names = Arc::new(Names::default());
        let list = NameList::new(&names, settings.assignments.iter().map(|name| names.id(name)).collect());
        let nobody = Order { whom: Whom::Nobody, pause: Pause::None };
        let shared = Arc::new(Shared {
            target: settings.target.clone(),
            seed: settings.seed,
            slow_rate: settings.slow_rate,
            stay: settings.stay,
            names,
            tally: Tally::new(Instant::now()),
            orders: tokio::sync::watch::Sender::new(nobody),
            complete: tokio::sync::watch::Sender::new(0),
            watched: ArcSwapOption::empty(),
        });
        let readers = proxies.iter().filter(|proxy| proxy.behaviour.manner.reads()).count();
        let storms = proxies.iter().any(|proxy| proxy.behaviour.manner == Manner::Storm);
        let mut tasks = JoinSet::new();
        for (number, proxy) in proxies.into_iter().enumerate() {
            let wait = settings.connect_rate.map(|rate| Duration::from_secs_f64(number as f64 / rate));
            tasks.spawn(client(number, &proxy, &list, &shared).run(wait.unwrap_or_default()));
        }
        if storms {
            tasks.spawn(storm(settings.storm_every, Arc::clone(&shared)));
        }
        Ok(Self { shared, tasks, readers, watches: AtomicU64::new(0) })
    }

    /// How many proxies read.
    pub fn readers(&self) -> usize {
        self.readers
    }

    /// How many proxies have had all they asked for.
    pub fn complete(&self) -> usize {
        *self.shared.complete.borrow()
    }

    /// Waits until every proxy that reads has all it asked for.
    ///
    /// # Errors
    /// [`FleetError::Late`].
    pub async fn subscribed(&self, limit: Duration) -> Result<(), FleetError> {
        let expected = self.readers;
        let mut complete = self.shared.complete.subscribe();
        let all = complete.wait_for(|complete| *complete >= expected);
        match tokio::time::timeout(limit, all).await {
            // The sender lives as long as we do.
            Ok(_) => Ok(()),
            Err(_) => Err(FleetError::Late {
                limit,
                complete: self.complete(),
                expected,
                ends: self.summary().ends,
            }),
        }
    }

    /// Begins to wait until each proxy that reads gets the resource `name`. A later wait ends this one.
    pub fn watch(&self, name: &str) -> Watch {
        self.watch_by(name, self.readers)
    }

    /// The same for so many of them.
    pub fn watch_by(&self, name: &str, expected: usize) -> Watch {
        let number = self.watches.fetch_add(1, Ordering::Relaxed) + 1;
        let watched = Arc::new(Watched::new(self.shared.names.id(name), number, expected));
        self.shared.watched.store(Some(Arc::clone(&watched)));
        Watch(watched)
    }

    /// Has all proxies leave and come back at once, with what they have.
    pub fn reconnect(&self) {
        self.shared.orders.send_replace(Order { whom: Whom::All, pause: Pause::None });
    }

    /// When the last response came.
    pub fn last_response(&self) -> Instant {
        self.shared.tally.last()
    }

    /// Waits until no response has come for `quiet`, at most `limit`; says when the last one came.
    pub async fn quiet(&self, quiet: Duration, limit: Duration) -> Instant {
        let deadline = Instant::now() + limit;
        let begin = Instant::now();
        loop {
            let until = self.last_response().max(begin) + quiet;
            let now = Instant::now();
            if now >= until || now >= deadline {
                return self.last_response();
            }
            tokio::time::sleep_until(until.min(deadline).into()).await;
        }
    }

    /// What has been counted so far.
    pub fn summary(&self) -> Summary {
        self.shared.tally.summary()
    }

    /// Closes every connection.
    pub async fn stop(mut self) -> Summary {
        self.tasks.shutdown().await;
        self.summary()
    }
}

fn client(number: usize, proxy: &Proxy, list: &NameList, shared: &Arc<Shared>) -> Client {
    let wanted = match proxy.subscription {
        Subscription::Everything => Wanted::Everything,
        Subscription::Assignments => Wanted::Assignments(list.clone()),
    };
    let Behaviour { protocol, manner } = proxy.behaviour;
    let session = Session::new(protocol, manner, &proxy.node, wanted, Arc::clone(&shared.names));
    Client::new(number, session, proxy.behaviour, Arc::clone(shared))
}

/// Orders storms as long as the fleet is there.
async fn storm(every: Duration, shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(every).await;
        shared.orders.send_replace(Order { whom: Whom::Storm, pause: Pause::Backoff });
    }
}

/// Raises the number of open files that this process may have to what it needs, as far as the system lets it.
fn permit_files(proxies: usize) -> Result<(), FleetError> {
    let needed = proxies + OTHER_FILES;
    let limit = getrlimit(Resource::Nofile);
    let enough = |limit: Option<u64>| limit.is_none_or(|limit| limit >= needed as u64);
    if enough(limit.current) {
        return Ok(());
    }
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    if raised.is_ok() && enough(limit.maximum) {
        return Ok(());
    }
    Err(FleetError::Files { proxies, needed, limit: limit.maximum.unwrap_or_default() })
}
