//! One change after the other in an idle system, each followed to the last proxy.

use super::super::BenchError;
use super::super::amounts::Amounts;
use super::super::figure::Figure;
use super::super::probe::probe;
use super::super::server::Candidate;
use super::super::stage::Workshop;
use super::{Outcome, percentiles};

/// # Errors
/// [`BenchError`].
pub(in crate::sim::bench) async fn run(
    workshop: &mut Workshop,
    candidate: &Candidate,
    amounts: &Amounts,
) -> Result<Outcome, BenchError> {
    let stage = workshop.stage(candidate, amounts, amounts.sizes.shape(), &[]).await?;
    let fleet = stage.fleet(amounts.sizes.proxies).await?;
    let services = 0..amounts.sizes.services as usize;
    let before = stage.cpu()?;
    let probed = probe(stage.scene, &fleet, amounts.changes, services, amounts.pause).await?;
    let cpu = stage.cpu()? - before;
    let readers = fleet.readers();
    let probed = probed.complete(amounts.changes, readers)?;
    let each = 1e6 * cpu.as_secs_f64() / (amounts.changes * readers) as f64;
    let figures = vec![
        Figure::new("P3", "change to last proxy, p99", probed.last.percentile(99.0), "ms").at_most(6.0),
        Figure::new("", "change to last proxy, p50", probed.last.percentile(50.0), "ms"),
        Figure::new("", "change to each proxy, p50", probed.each.percentile(50.0), "ms"),
        Figure::new("P4", "CPU per change and proxy", each, "µs").at_most(12.0),
    ];
    let series = vec![percentiles("idle", &probed.last)];
    fleet.stop().await;
    stage.server.stop().await;
    Ok(Outcome::Measured { figures, series })
}
