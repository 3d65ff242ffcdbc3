//! A thousand proxies connect in the same moment.

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
    let before = stage.cpu()?;
    let fleet = stage.start_fleet(amounts.many)?;
    fleet.subscribed(SUBSCRIBE_LIMIT).await?;
    stage.quiet(&fleet).await;
    let cpu = stage.cpu()? - before;
    let summary = fleet.stop().await;
    let refused: u64 = summary.ends.values().sum();
    let figures = vec![
        Figure::new("P2", "connections refused or ended", refused as f64, "").at_most(0.0),
        Figure::new("", "until the last proxy has everything", summary.complete_ms, "ms"),
        Figure::new("", "CPU per proxy", ms(cpu) / amounts.many as f64, "ms"),
    ];
    stage.server.stop().await;
    Ok(figures.into())
}
