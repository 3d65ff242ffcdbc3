//! Proxies that never read beside proxies that do.

use std::time::{Duration, Instant};

use super::super::BenchError;
use super::super::amounts::Amounts;
use super::super::figure::Figure;
use super::super::probe::probe;
use super::super::server::Candidate;
use super::super::stage::{SUBSCRIBE_LIMIT, Workshop};
use super::{Outcome, ms, percentiles};
use crate::sim::fleet::{Fleet, Manner, Subscription};

/// How often it is looked who is there.
const POLL: Duration = Duration::from_millis(5);

/// # Errors
/// [`BenchError`].
pub(in crate::sim::bench) async fn run(
    workshop: &mut Workshop,
    candidate: &Candidate,
    amounts: &Amounts,
) -> Result<Outcome, BenchError> {
    let stage = workshop.stage(candidate, amounts, amounts.sizes.shape(), &[]).await?;
    let fleet = stage.fleet(amounts.healthy).await?;
    let services = 0..amounts.sizes.services as usize;
    let round = async || {
        let cpu = stage.cpu()?;
        let probed = probe(stage.scene, &fleet, amounts.changes, services.clone(), amounts.pause).await?;
        let probed = probed.complete(amounts.changes, fleet.readers())?;
        Ok::<_, BenchError>((probed.last, ms(stage.cpu()? - cpu)))
    };
    let (alone, cpu_alone) = round().await?;
    let stopped = stage.proxies(amounts.many, Manner::Stopped, Subscription::Assignments);
    let stuck = Fleet::start(&stage.fleet_settings(), stopped)?;
    let begin = Instant::now();
    while stuck.summary().connects < amounts.many as u64 {
        if begin.elapsed() > SUBSCRIBE_LIMIT {
            let (found, expected) = (stuck.summary().connects, amounts.many as u64);
            return Err(BenchError::Lost {
                what: "stopped proxies that connected".to_owned(),
                found,
                expected,
            });
        }
        tokio::time::sleep(POLL).await;
    }
    stage.quiet(&fleet).await;
    let (beside, cpu_beside) = round().await?;
    let (before, after) = (alone.percentile(99.0), beside.percentile(99.0));
    let figures = vec![
        Figure::new("X-F02", "p99 beside stopped proxies, of that without", after / before, "×").at_most(2.0),
        Figure::new("", "change to last healthy proxy without, p99", before, "ms"),
        Figure::new("", "change to last healthy proxy beside, p99", after, "ms"),
        Figure::new("", "CPU beside, of that without", cpu_beside / cpu_alone.max(1.0), "×"),
    ];
    let series = vec![percentiles("beside stopped proxies", &beside)];
    stuck.stop().await;
    fleet.stop().await;
    stage.server.stop().await;
    Ok(Outcome::Measured { figures, series })
}
