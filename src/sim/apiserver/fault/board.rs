//! The faults in force: which requests they strike, since when, how often.

use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::time::Instant;

use super::{Effect, Fault, Once, What};

/// The faults of one server.
#[derive(Debug)]
pub(in crate::sim::apiserver) struct Board {
    active: Mutex<Vec<Active>>,
    /// Told whenever the set changes.
    changed: watch::Sender<()>,
    /// Counts how often every connection was closed.
    closed: watch::Sender<u64>,
}

#[derive(Debug)]
struct Active {
    fault: Fault,
    from: Instant,
    until: Option<Instant>,
    left: Option<u64>,
}

/// What befalls one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::sim::apiserver) struct Struck(pub(in crate::sim::apiserver) Vec<Effect>);

impl Struck {
    pub(in crate::sim::apiserver) fn find<'a, T>(
        &'a self,
        pick: impl Fn(&'a Effect) -> Option<T>,
    ) -> Option<T> {
        self.0.iter().find_map(pick)
    }

    pub(in crate::sim::apiserver) fn has(&self, effect: &Effect) -> bool {
        self.0.contains(effect)
    }
}

impl Default for Board {
    fn default() -> Self {
        Self { active: Mutex::default(), changed: watch::Sender::new(()), closed: watch::Sender::new(0) }
    }
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, Vec<Active>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds faults; their times count from now.
    pub(in crate::sim::apiserver) fn add(&self, faults: impl IntoIterator<Item = Fault>) {
        let now = Instant::now();
        let active = faults.into_iter().map(|fault| {
            let from = now + fault.after;
            Active { from, until: fault.lasts.map(|lasts| from + lasts), left: fault.times, fault }
        });
        self.lock().extend(active);
        self.changed.send_replace(());
    }

    /// Takes every fault away.
    pub(in crate::sim::apiserver) fn clear(&self) {
        self.lock().clear();
        self.changed.send_replace(());
    }

    /// Closes every connection there is.
    pub(in crate::sim::apiserver) fn close_connections(&self) {
        self.closed.send_modify(|count| *count += 1);
    }

    /// Completes when the connections that exist now are to be closed.
    pub(in crate::sim::apiserver) fn closes(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut closed = self.closed.subscribe();
        async move {
            if closed.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// The faults that are in force or still to come, as written.
    pub(in crate::sim::apiserver) fn texts(&self) -> Vec<String> {
        let now = Instant::now();
        let mut active = self.lock();
        active.retain(|active| !active.is_over(now));
        active.iter().map(|active| active.fault.to_string()).collect()
    }

    /// What strikes a request, each of its faults counted once.
    pub(in crate::sim::apiserver) fn strike(&self, verb: &str, resource: &str) -> Struck {
        let now = Instant::now();
        let mut active = self.lock();
        active.retain(|active| !active.is_over(now));
        let struck =
            active.iter_mut().filter(|active| active.strikes(now, verb, resource)).filter_map(|active| {
                let What::Lasting(effect) = &active.fault.what else { return None };
                if let Some(left) = &mut active.left {
                    *left -= 1;
                }
                Some(effect.clone())
            });
        Struck(struck.collect())
    }

    /// Completes when nothing is to listen (`true`) or something is again (`false`).
    pub(in crate::sim::apiserver) async fn refuses(&self, wanted: bool) {
        let mut changed = self.changed.subscribe();
        loop {
            changed.mark_unchanged();
            let (refuses, turn) = self.refusal(Instant::now());
            if refuses == wanted {
                return;
            }
            tokio::select! {
                // Unbiased: either leads to another look.
                _ = changed.changed() => {}
                () = tokio::time::sleep_until(turn.unwrap_or_else(Instant::now)), if turn.is_some() => {}
            }
        }
    }

    /// Whether connections are refused now, and when that may change by time alone.
    fn refusal(&self, now: Instant) -> (bool, Option<Instant>) {
        let active = self.lock();
        let refusals = active.iter().filter(|active| active.fault.what == What::Lasting(Effect::Refuse));
        let turns = refusals.clone().flat_map(|active| [Some(active.from), active.until]).flatten();
        let turn = turns.filter(|turn| *turn > now).min();
        let mut refusals = refusals;
        (refusals.any(|active| active.is_in_force(now)), turn)
    }

    /// The next thing that is done once, when its time has come.
    pub(in crate::sim::apiserver) async fn next_once(&self) -> Once {
        let mut changed = self.changed.subscribe();
        loop {
            changed.mark_unchanged();
            let due = match self.take_once(Instant::now()) {
                Ok(once) => return once,
                Err(due) => due,
            };
            tokio::select! {
                // Unbiased: either leads to another look.
                _ = changed.changed() => {}
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            }
        }
    }

    fn take_once(&self, now: Instant) -> Result<Once, Option<Instant>> {
        let mut active = self.lock();
        let is_once = |active: &Active| matches!(active.fault.what, What::Once(_));
        let due = active.iter().position(|active| is_once(active) && active.from <= now);
        match due.map(|at| active.remove(at).fault.what) {
            Some(What::Once(once)) => Ok(once),
            _ => Err(active.iter().filter(|active| is_once(active)).map(|active| active.from).min()),
        }
    }
}

impl Active {
    fn is_over(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until <= now) || self.left == Some(0)
    }

    fn is_in_force(&self, now: Instant) -> bool {
        self.from <= now && !self.is_over(now)
    }

    fn strikes(&self, now: Instant, verb: &str, resource: &str) -> bool {
        let is =
            |wanted: &Option<String>, given: &str| wanted.as_deref().is_none_or(|wanted| wanted == given);
        // `on=list/pods` and `on=list/endpointslices`: the group behind the dot may be left out.
        let plural = resource.split('.').next().unwrap_or_default();
        let of_resource = is(&self.fault.resource, resource) || is(&self.fault.resource, plural);
        self.is_in_force(now) && is(&self.fault.verb, verb) && of_resource
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn board(faults: &[&str]) -> Board {
        let board = Board::default();
        board.add(faults.iter().map(|text| text.parse().unwrap()));
        board
    }

    #[tokio::test(start_paused = true)]
    async fn faults_strike_where_when_and_as_often_as_they_say() {
        let board =
            board(&["stall-headers,on=watch/endpointslices,after=5s,for=10s", "empty-list,on=list,times=2"]);
        let stalled = || board.strike("watch", "endpointslices.discovery.k8s.io").has(&Effect::StallHeaders);
        assert!(!stalled());
        tokio::time::advance(Duration::from_secs(5)).await;
        assert!(stalled() && board.strike("watch", "pods").0.is_empty());
        assert_eq!(board.texts().len(), 2);
        tokio::time::advance(Duration::from_secs(10)).await;
        assert!(!stalled());
        for struck in [true, true, false] {
            assert_eq!(board.strike("list", "pods").has(&Effect::EmptyList), struck);
        }
        assert!(board.texts().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn refusal_begins_and_ends_by_time_and_by_hand() {
        let board = board(&["refuse,after=1s,for=2s"]);
        let start = Instant::now();
        board.refuses(true).await;
        assert_eq!(start.elapsed().as_secs(), 1);
        board.refuses(false).await;
        assert_eq!(start.elapsed().as_secs(), 3);
        board.add(["refuse".parse().unwrap()]);
        board.refuses(true).await;
        board.clear();
        board.refuses(false).await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_done_once_is_done_when_its_time_has_come() {
        let board = board(&["compact,after=3s", "disconnect,after=1s"]);
        let start = Instant::now();
        assert_eq!(board.next_once().await, Once::Disconnect);
        assert_eq!(board.next_once().await, Once::Compact);
        assert_eq!(start.elapsed().as_secs(), 3);
    }
}
