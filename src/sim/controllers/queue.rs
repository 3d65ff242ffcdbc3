//! The work queue of a controller: keys that wait, one worker per key at a time, retries with growing pauses.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::cache::Key;

/// The pause after the first failure of a key; it doubles with each further one up to [`RETRY_MOST`].
const RETRY_FIRST: Duration = Duration::from_millis(10);
const RETRY_MOST: Duration = Duration::from_secs(5);

/// How the work on a key ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing to do until something changes.
    Done,
    /// To be looked at again after this time, even if nothing changes.
    Again(Duration),
    /// *Retried* after a pause.
    Failed,
}

/// Keys to work on. A key that is added while it waits is worked on once; one that is added while a worker has
/// it is worked on again afterwards.
#[derive(Debug, Default)]
pub(super) struct WorkQueue {
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct State {
    ready: VecDeque<Key>,
    queued: HashSet<Key>,
    running: HashSet<Key>,
    again: HashSet<Key>,
    later: HashMap<Key, Instant>,
    failures: HashMap<Key, u32>,
}

impl WorkQueue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds the queue")
    }

    /// Adds a key, to be worked on as soon as a worker is free.
    pub(super) fn add(&self, key: Key) {
        self.state().add(key);
        self.wake.notify_one();
    }

    /// The next key; [`Self::done`] must follow. Waits while there is none.
    pub(super) async fn next(&self) -> Key {
        loop {
            let woken = self.wake.notified();
            let due = {
                let mut state = self.state();
                if let Some(key) = state.take() {
                    if !state.ready.is_empty() {
                        self.wake.notify_one();
                    }
                    return key;
                }
                state.later.values().min().copied()
            };
            match due {
                // Unbiased: whichever comes first, the state is looked at anew.
                Some(due) => tokio::select! {
                    () = woken => {}
                    () = tokio::time::sleep_until(due) => {}
                },
                None => woken.await,
            }
        }
    }

    /// Hands a key back.
    pub(super) fn done(&self, key: Key, outcome: Outcome) {
        self.state().done(key, outcome);
        self.wake.notify_one();
    }

    /// How many keys failed last time.
    pub(super) fn failing(&self) -> usize {
        self.state().failures.len()
    }
}

impl State {
    fn add(&mut self, key: Key) {
        if self.running.contains(&key) {
            self.again.insert(key);
        } else if self.queued.insert(key.clone()) {
            self.ready.push_back(key);
        }
    }

    fn take(&mut self) -> Option<Key> {
        let now = Instant::now();
        let due: Vec<Key> =
            self.later.iter().filter(|(_, at)| **at <= now).map(|(key, _)| key.clone()).collect();
        for key in due {
            self.later.remove(&key);
            self.add(key);
        }
        let key = self.ready.pop_front()?;
        self.queued.remove(&key);
        self.running.insert(key.clone());
        Some(key)
    }

    fn done(&mut self, key: Key, outcome: Outcome) {
        self.running.remove(&key);
        let pause = match outcome {
            Outcome::Failed => {
                let failures = self.failures.entry(key.clone()).or_default();
                let pause = RETRY_FIRST.saturating_mul(1_u32 << (*failures).min(16)).min(RETRY_MOST);
                *failures = failures.saturating_add(1);
                Some(pause)
            }
            Outcome::Again(pause) => Some(pause),
            Outcome::Done => None,
        };
        if outcome != Outcome::Failed {
            self.failures.remove(&key);
        }
        match pause {
            Some(pause) => self.later.insert(key.clone(), Instant::now() + pause),
            None => self.later.remove(&key),
        };
        if self.again.remove(&key) {
            self.add(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key::new("n", name)
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_waits_once_and_comes_again_when_added_while_it_is_worked_on() {
        let queue = WorkQueue::default();
        queue.add(key("a"));
        queue.add(key("a"));
        queue.add(key("b"));
        assert_eq!(queue.next().await, key("a"));
        queue.add(key("a"));
        assert_eq!(queue.next().await, key("b"));
        queue.done(key("a"), Outcome::Done);
        assert_eq!(queue.next().await, key("a"));
        queue.done(key("a"), Outcome::Done);
        let nothing = tokio::time::timeout(Duration::from_secs(60), queue.next()).await;
        assert!(nothing.is_err(), "each was worked on as often as needed");
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_retried_with_growing_bounded_pauses() {
        let queue = WorkQueue::default();
        queue.add(key("a"));
        let mut pauses = Vec::new();
        let mut before = Instant::now();
        for _ in 0..14 {
            assert_eq!(queue.next().await, key("a"));
            pauses.push(before.elapsed());
            before = Instant::now();
            queue.done(key("a"), Outcome::Failed);
        }
        assert_eq!(pauses[1], RETRY_FIRST);
        assert_eq!(pauses[2], RETRY_FIRST * 2);
        assert_eq!(*pauses.last().unwrap(), RETRY_MOST);
        assert_eq!(queue.failing(), 1);
        queue.next().await;
        queue.done(key("a"), Outcome::Done);
        assert_eq!(queue.failing(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_does_not_wait_for_the_pause() {
        let queue = WorkQueue::default();
        queue.add(key("a"));
        queue.next().await;
        queue.done(key("a"), Outcome::Again(Duration::from_secs(600)));
        let before = Instant::now();
        queue.add(key("a"));
        queue.next().await;
        assert_eq!(before.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn many_workers_get_all_keys() {
        let queue = std::sync::Arc::new(WorkQueue::default());
        let workers: Vec<_> = (0..4)
            .map(|_| {
                let queue = std::sync::Arc::clone(&queue);
                tokio::spawn(async move {
                    for _ in 0..5 {
                        let key = queue.next().await;
                        tokio::time::sleep(Duration::from_millis(1)).await;
                        queue.done(key, Outcome::Done);
                    }
                })
            })
            .collect();
        for n in 0..20 {
            queue.add(key(&n.to_string()));
        }
        for worker in workers {
            tokio::time::timeout(Duration::from_secs(5), worker)
                .await
                .expect("no key is left behind")
                .unwrap();
        }
    }
}
