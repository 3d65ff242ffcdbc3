//! A large assignment to many proxies, again and again: the memory it takes on the way.

use super::super::BenchError;
use super::super::amounts::Amounts;
use super::super::figure::Figure;
use super::super::probe::probe;
use super::super::server::Candidate;
use super::super::stage::Workshop;
use super::super::world::Shape;
use super::{Outcome, ms};

/// # Errors
/// [`BenchError`].
pub(in crate::sim::bench) async fn run(
    workshop: &mut Workshop,
    candidate: &Candidate,
    amounts: &Amounts,
) -> Result<Outcome, BenchError> {
    let (endpoints, rounds) = amounts.large;
    let shape = Shape { clusters: 1, services: 1, endpoints, ..amounts.sizes.shape() };
    let stage = workshop.stage(candidate, amounts, shape, &[]).await?;
    let fleet = stage.fleet(amounts.many).await?;
    let (idle, bytes) = (stage.rss()?, fleet.summary().bytes);
    stage.server.usage.reset_peak().map_err(BenchError::Usage)?;
    let cpu = stage.cpu()?;
    let probed = probe(stage.scene, &fleet, rounds, 0..1, amounts.pause).await?;
    let probed = probed.complete(rounds, fleet.readers())?;
    let cpu = stage.cpu()? - cpu;
    let peak = stage.server.usage.peak().map_err(BenchError::Usage)? as f64;
    let sent = (rounds * fleet.readers()) as f64;
    let figures = vec![
        Figure::new("P7", "peak RSS, of that when idle", peak / idle, "×").at_most(1.5),
        Figure::new("", "RSS when idle", idle / f64::from(1 << 20), "MiB"),
        Figure::new("", "bytes of a response", (fleet.summary().bytes - bytes) as f64 / sent, "B"),
        Figure::new("", "CPU per response", 1e3 * ms(cpu) / sent, "µs"),
        Figure::new("", "change to last proxy, p50", probed.last.percentile(50.0), "ms"),
    ];
    fleet.stop().await;
    stage.server.stop().await;
    Ok(figures.into())
}
