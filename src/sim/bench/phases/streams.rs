//! Ten thousand proxies connect at once, get everything, and stay.

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
    let (alone, count) = (stage.rss()?, amounts.most as f64);
    let before = stage.cpu()?;
    let fleet = stage.start_fleet(amounts.most)?;
    fleet.subscribed(SUBSCRIBE_LIMIT).await?;
    stage.quiet(&fleet).await;
    let (storm, rss) = (stage.cpu()? - before, stage.rss()?);
    let before = stage.cpu()?;
    tokio::time::sleep(amounts.idle).await;
    let idle = 100.0 * (stage.cpu()? - before).as_secs_f64() / amounts.idle.as_secs_f64();
    let summary = fleet.stop().await;
    let refused: u64 = summary.ends.values().sum();
    let figures = vec![
        Figure::new("P2", "until the last proxy has everything", summary.complete_ms / 1e3, "s")
            .at_most(30.0),
        Figure::new("", "connections refused or ended", refused as f64, ""),
        Figure::new("", "CPU per proxy", ms(storm) / count, "ms"),
        Figure::new("", "CPU when idle", idle, "% of a core").at_most(2.0),
        Figure::new("", "RSS per proxy", (rss - alone) / count / 1024.0, "KiB"),
    ];
    stage.server.stop().await;
    Ok(figures.into())
}
