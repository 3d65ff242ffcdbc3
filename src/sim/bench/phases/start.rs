//! From the start of the process until it says that it is ready.

use super::super::BenchError;
use super::super::amounts::Amounts;
use super::super::figure::Figure;
use super::super::server::Candidate;
use super::super::stage::Workshop;
use super::{Outcome, ms};

/// # Errors
/// [`BenchError`].
pub(in crate::sim::bench) async fn run(
    workshop: &mut Workshop,
    candidate: &Candidate,
    amounts: &Amounts,
) -> Result<Outcome, BenchError> {
    let stage = workshop.stage(candidate, amounts, amounts.sizes.shape(), &[]).await?;
    let (server, rss) = (&stage.server, stage.rss()?);
    let figures = vec![
        Figure::new("", "ready after", ms(server.ready_after), "ms"),
        Figure::new("", "CPU until ready", ms(server.ready_cpu), "ms"),
        Figure::new("", "RSS when ready", rss / f64::from(1 << 20), "MiB"),
    ];
    stage.server.stop().await;
    Ok(figures.into())
}
