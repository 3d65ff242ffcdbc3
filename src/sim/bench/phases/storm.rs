//! All proxies connect at once and ask for the assignments of every service.

use super::super::BenchError;
use super::super::amounts::Amounts;
use super::super::figure::Figure;
use super::super::server::Candidate;
use super::super::stage::{SUBSCRIBE_LIMIT, Workshop};
use super::{Outcome, ms};

/// # Errors
/// [`BenchError`].
pub(in crate::sim::bench) async fn run(
    workshop: &mut Workshop,
    candidate: &Candidate,
    amounts: &Amounts,
) -> Result<Outcome, BenchError> {
    let stage = workshop.stage(candidate, amounts, amounts.sizes.shape(), &[]).await?;
    let count = amounts.sizes.proxies;
    let before = stage.cpu()?;
    let fleet = stage.start_fleet(count)?;
    fleet.subscribed(SUBSCRIBE_LIMIT).await?;
    stage.quiet(&fleet).await;
    let cpu = stage.cpu()? - before;
    let summary = fleet.stop().await;
    let refused: u64 = summary.ends.values().sum();
    let figures = vec![
        Figure::new("P1", "CPU per proxy", ms(cpu) / count as f64, "ms").at_most(1.35),
        // A twelfth of the peer's 5.83 s without its limiter.
        Figure::new("P2", "until the last proxy has everything", summary.complete_ms, "ms").at_most(486.0),
        Figure::new("P2", "connections refused or ended", refused as f64, "").at_most(0.0),
        Figure::new("", "bytes per proxy", summary.bytes as f64 / count as f64, "B"),
    ];
    stage.server.stop().await;
    Ok(figures.into())
}
