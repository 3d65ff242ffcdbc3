//! Lists of 90 000 endpoints in three clusters until ready.

use super::super::BenchError;
use super::super::amounts::Amounts;
use super::super::figure::Figure;
use super::super::server::Candidate;
use super::super::stage::Workshop;
use super::super::world::Shape;
use super::Outcome;

/// # Errors
/// [`BenchError`].
pub(in crate::sim::bench) async fn run(
    workshop: &mut Workshop,
    candidate: &Candidate,
    amounts: &Amounts,
) -> Result<Outcome, BenchError> {
    let shape = Shape { services: amounts.sizes.services * 15 / 2, ..amounts.sizes.shape() };
    let stage = workshop.stage(candidate, amounts, shape, &[]).await?;
    let endpoints = f64::from(shape.services * shape.endpoints) * shape.clusters as f64;
    let figures = vec![
        // A twelfth of the peer's 6.3 s.
        Figure::new("P10", "CPU from lists to ready", stage.server.ready_cpu.as_secs_f64(), "s")
            .at_most(0.53),
        Figure::new("", "ready after", stage.server.ready_after.as_secs_f64(), "s"),
        Figure::new("", "RSS per endpoint, all included", stage.rss()? / endpoints, "B"),
    ];
    stage.server.stop().await;
    Ok(figures.into())
}
