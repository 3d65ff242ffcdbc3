//! What the sources of one cluster know together about its API server.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch as signal;

use super::backoff::{Backoff, RetryPolicy};
use super::permits::Pool;
use super::random::Random;

/// Longest pause of a shared scout.
const SCOUT_LONGEST: Duration = Duration::from_millis(4500);
/// From so many sources on they share a scout with shorter pauses.
const SHARED_BY: usize = 5;

/// One API server, as its sources find it.
///
/// **Who looks for a server that cannot be reached** (K-01 and G4 together). While no connection comes about,
/// one source of the cluster at a time, the *scout*, sends its own next request; the others wait for its
/// success and then go on at once. Five or more sources give the scout pauses of at most 4.5 s, so a server's
/// return is noticed within 5 s after an outage of any length, and still no more than 20 attempts per source
/// go out in 5 minutes (about 80 in all). A source of its own, with nobody to share with, keeps the pauses of
/// K-01 (0.5 s → 30 s, at most 20 attempts in 5 minutes).
#[derive(Debug)]
pub(super) struct Server {
    retry: RetryPolicy,
    state: Mutex<State>,
    /// Changes when the server can be reached again, when the scout's place is free, and when history went back.
    news: signal::Sender<u64>,
    /// How often a source found that the history went back.
    regressions: AtomicU64,
    members: AtomicU64,
}

/// One source among those of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Member(u64);

#[derive(Debug)]
struct State {
    sources: usize,
    /// The latest change that each source knows of.
    latest: HashMap<Member, u64>,
    down: Option<Down>,
    /// How often a source went on after failures.
    recoveries: u64,
    /// Until when lists are read in pages.
    paged_until: Option<Instant>,
    pool: Pool,
}

/// The server cannot be reached.
#[derive(Debug)]
struct Down {
    pauses: Backoff,
    next: Instant,
    scouting: bool,
}

/// The scout's place. Dropping it frees the place for another source.
#[derive(Debug)]
pub(super) struct Scout {
    server: Arc<Server>,
}

/// May a source try to connect?
#[derive(Debug)]
pub(super) enum Turn {
    /// The server can be reached as far as is known.
    Go,
    /// It cannot, and it is this source that tries.
    Scout(Scout),
    /// Not yet: see [`Server::next_turn`] and [news](Server::news).
    Wait,
}

/// What is known of how long a server stays away.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    /// It said so itself.
    pub(super) shortest: Duration,
    /// Something answers in its place: looking again costs little.
    pub(super) longest: Option<Duration>,
}

impl Server {
    pub(super) fn new(retry: RetryPolicy) -> Self {
        let state = State {
            sources: 0,
            latest: HashMap::new(),
            down: None,
            recoveries: 0,
            paged_until: None,
            pool: Pool::Sound,
        };
        let (regressions, members) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { retry, state: Mutex::new(state), news: signal::Sender::new(0), regressions, members }
    }

    /// One more source. It leaves with [`Server::leave`].
    pub(super) fn join(&self) -> Member {
        self.state().sources += 1;
        Member(self.members.fetch_add(1, Relaxed))
    }

    pub(super) fn leave(&self, member: Member) {
        let mut state = self.state();
        state.sources = state.sources.saturating_sub(1);
        state.latest.remove(&member);
    }

    /// Whether no other source knows of a later change than `revision`, which is the latest that `member` does.
    pub(super) fn knows_no_later(&self, member: Member, revision: u64) -> bool {
        let mut state = self.state();
        state.latest.insert(member, revision);
        state.latest.values().all(|latest| *latest <= revision)
    }

    /// A source found that the history went back; returns how often that was.
    pub(super) fn regressed(&self) -> u64 {
        let before = self.regressions.fetch_add(1, Relaxed);
        self.news.send_modify(|news| *news += 1);
        before + 1
    }

    pub(super) fn regressions(&self) -> u64 {
        self.regressions.load(Relaxed)
    }

    /// Tells of every change of what [`Server::turn`] answers but the passing of time.
    pub(super) fn news(&self) -> signal::Receiver<u64> {
        self.news.subscribe()
    }

    /// Whose turn it is to try.
    pub(super) fn turn(self: &Arc<Self>, now: Instant) -> Turn {
        match &mut self.state().down {
            None => Turn::Go,
            Some(down) if down.scouting || down.next > now => Turn::Wait,
            Some(down) => {
                down.scouting = true;
                Turn::Scout(Scout { server: Arc::clone(self) })
            }
        }
    }

    /// When [`Server::turn`] may answer otherwise without news.
    pub(super) fn next_turn(&self) -> Option<Instant> {
        self.state().down.as_ref().filter(|down| !down.scouting).map(|down| down.next)
    }

    /// Whether it can be reached, as far as is known.
    pub(super) fn is_up(&self) -> bool {
        self.state().down.is_none()
    }

    /// An attempt found no server. Only the first one and the scout's lengthen the pause: those that were under
    /// way say nothing new.
    pub(super) fn lost(&self, now: Instant, scout: Option<Scout>, pace: Pace, random: &mut Random) {
        let mut state = self.state();
        let longest = match state.sources {
            SHARED_BY.. => SCOUT_LONGEST.min(self.retry.longest),
            _ => self.retry.longest,
        };
        let longest = pace.longest.map_or(longest, |pace| pace.min(longest));
        let pause =
            |pauses: &mut Backoff, random: &mut Random| pauses.next_up_to(longest, random).max(pace.shortest);
        match &mut state.down {
            Some(down) if scout.is_some() => down.next = now + pause(&mut down.pauses, random),
            Some(_) => {}
            None => {
                // Little jitter: one asks, and it has to ask within 5 s.
                let mut pauses = Backoff::new(self.retry.first, self.retry.longest).at_least(0.8);
                let next = now + pause(&mut pauses, random);
                state.down = Some(Down { pauses, next, scouting: false });
            }
        }
        drop(state);
        // Frees the place.
        drop(scout);
    }

    /// The server answered something.
    pub(super) fn answered(&self) {
        let was_down = self.state().down.take().is_some();
        if was_down {
            self.news.send_modify(|news| *news += 1);
        }
    }

    /// A source went on after failures: others that wait because of failures may try as well (G4).
    pub(super) fn recovered(&self) {
        self.state().recoveries += 1;
        self.news.send_modify(|news| *news += 1);
    }

    pub(super) fn recoveries(&self) -> u64 {
        self.state().recoveries
    }

    /// Whether lists are to be asked for as streams.
    pub(super) fn streams_lists(&self, now: Instant) -> bool {
        self.state().paged_until.is_none_or(|until| until <= now)
    }

    /// Streaming lists do not work here: not before `until` again (K-25, K-26).
    pub(super) fn prefers_pages(&self, until: Instant) {
        self.state().paged_until = Some(until);
    }

    /// Which permits lists of this cluster take (D33).
    pub(super) fn pool(&self) -> Pool {
        self.state().pool
    }

    /// How reading a list ended.
    pub(super) fn set_pool(&self, pool: Pool) {
        self.state().pool = pool;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Scout {
    fn drop(&mut self) {
        if let Some(down) = &mut self.server.state().down {
            down.scouting = false;
        }
        self.server.news.send_modify(|news| *news += 1);
    }
}
