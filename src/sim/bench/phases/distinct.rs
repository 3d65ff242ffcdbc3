//! Many proxies, each with a name, an address and labels of its own: what is built for a change.

use super::super::BenchError;
use super::super::amounts::Amounts;
use super::super::figure::Figure;
use super::super::probe::probe;
use super::super::server::Candidate;
use super::super::stage::Workshop;
use super::Outcome;

/// # Errors
/// [`BenchError`].
pub(in crate::sim::bench) async fn run(
    workshop: &mut Workshop,
    candidate: &Candidate,
    amounts: &Amounts,
) -> Result<Outcome, BenchError> {
    if !candidate.is_own() {
        return Ok(Outcome::Skipped("it does not say what it builds".to_owned()));
    }
    let stage = workshop.stage(candidate, amounts, amounts.sizes.shape(), &[]).await?;
    let fleet = stage.fleet(amounts.many).await?;
    let changes = amounts.changes / 5;
    let services = 0..amounts.sizes.services as usize;
    let before = stage.builds("assignment").await;
    let probed = probe(stage.scene, &fleet, changes, services, amounts.pause).await?;
    probed.complete(changes, fleet.readers())?;
    let Some((after, before)) = stage.builds("assignment").await.zip(before) else {
        return Ok(Outcome::Skipped("it has no metric tombolo_builds".to_owned()));
    };
    // Proxies of one cluster have one locality.
    let each = (after - before) / (changes * amounts.sizes.clusters) as f64;
    let figures = vec![Figure::new("P20", "builds per change and locality", each, "").at_most(2.0)];
    fleet.stop().await;
    stage.server.stop().await;
    Ok(figures.into())
}
