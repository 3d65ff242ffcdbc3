//! How many lists are read at once (K-42, D33).

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Permits to read the answer of a list. They are taken when its headers are there and given back with the
/// page, so that a server that never answers holds none; clusters that failed last time share a small pool of
/// their own, so that servers which answer and then stall starve nobody.
#[derive(Debug)]
pub struct ListPermits {
    sound: Arc<Semaphore>,
    suspect: Arc<Semaphore>,
}

impl Default for ListPermits {
    fn default() -> Self {
        Self::of(Self::SOUND)
    }
}

/// Which clusters share permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pool {
    /// The last list succeeded, or there was none.
    Sound,
    /// The last list failed while it was read.
    Suspect,
}

impl ListPermits {
    /// Lists read at once in the process, if nothing else is said.
    pub const SOUND: usize = 32;

    /// So many lists at once, and an eighth more of clusters that failed last time.
    pub fn of(sound: usize) -> Self {
        Self::new(sound, sound.div_ceil(8))
    }

    /// `sound` lists at once, and `suspect` more of clusters that failed last time.
    pub fn new(sound: usize, suspect: usize) -> Self {
        Self { sound: Arc::new(Semaphore::new(sound)), suspect: Arc::new(Semaphore::new(suspect)) }
    }

    /// Waits for a permit, first come first served. Dropping it gives it back.
    pub(super) async fn acquire(&self, pool: Pool) -> OwnedSemaphorePermit {
        let semaphore = match pool {
            Pool::Sound => &self.sound,
            Pool::Suspect => &self.suspect,
        };
        Arc::clone(semaphore).acquire_owned().await.expect("never closed")
    }

    /// Lists being read now.
    #[cfg(test)]
    pub(super) fn taken(&self) -> usize {
        Self::SOUND - self.sound.available_permits()
    }
}
