//! Changes one after the other, each followed to every proxy.

use std::time::Duration;

use super::BenchError;
use super::scene::Scene;
use crate::sim::fleet::{Fleet, Times};

/// How long a change may take to every proxy.
const LIMIT: Duration = Duration::from_secs(10);

/// Times from the moment a write had returned.
#[derive(Debug, Default)]
pub(super) struct Probed {
    /// To the last proxy, one per change.
    pub(super) last: Times,
    /// To each proxy.
    pub(super) each: Times,
    /// Proxies that a change had not reached in time.
    pub(super) lost: u64,
}

/// Makes `count` changes of one endpoint, in turn in each cluster and in these services, with `pause` between a
/// change's last receipt and the next change.
///
/// # Errors
/// [`BenchError::Write`].
pub(super) async fn probe(
    scene: &Scene,
    fleet: &Fleet,
    count: usize,
    services: std::ops::Range<usize>,
    pause: Duration,
) -> Result<Probed, BenchError> {
    let mut probed = Probed::default();
    for number in 0..count {
        let service = services.start + number % services.len().max(1);
        let watch = fleet.watch(&Scene::assignment(service));
        let written = scene.flip(number % scene.shape.clusters, service)?;
        let receipts = watch.receipts(LIMIT).await;
        probed.lost += (fleet.readers() - receipts.len().min(fleet.readers())) as u64;
        // A proxy may have it before the write has returned.
        receipts.iter().for_each(|receipt| probed.each.add(receipt.saturating_duration_since(written)));
        if let Some(last) = receipts.last() {
            probed.last.add(last.saturating_duration_since(written));
        }
        tokio::time::sleep(pause).await;
    }
    Ok(probed)
}

impl Probed {
    /// # Errors
    /// [`BenchError::Lost`] if a change did not reach everybody.
    pub(super) fn complete(self, changes: usize, readers: usize) -> Result<Self, BenchError> {
        let expected = (changes * readers) as u64;
        match self.lost {
            0 => Ok(self),
            lost => Err(BenchError::Lost {
                what: "changes that reached a proxy".to_owned(),
                found: expected - lost,
                expected,
            }),
        }
    }
}
