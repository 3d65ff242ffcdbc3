//! A million endpoints: when the server is ready, what it needs, and how long one change takes.

use super::super::BenchError;
use super::super::amounts::Amounts;
use super::super::figure::Figure;
use super::super::probe::probe;
use super::super::scene::Scene;
use super::super::server::Candidate;
use super::super::stage::{SUBSCRIBE_LIMIT, Workshop};
use super::super::world::Shape;
use super::Outcome;
use crate::sim::fleet::{Fleet, FleetSettings, Manner, Subscription};

/// # Errors
/// [`BenchError`].
pub(in crate::sim::bench) async fn run(
    workshop: &mut Workshop,
    candidate: &Candidate,
    amounts: &Amounts,
) -> Result<Outcome, BenchError> {
    let shape = match amounts.standard {
        true => Shape { clusters: 100, services: 1_000, endpoints: 10, ..amounts.sizes.shape() },
        false => amounts.sizes.shape(),
    };
    let stage = workshop.stage(candidate, amounts, shape, &[]).await?;
    let (ready, rss) = (stage.server.ready_after, stage.rss()?);
    // Of 1 000 endpoints in 100 clusters: few proxies, few names.
    let settings =
        FleetSettings { assignments: (0..10).map(Scene::assignment).collect(), ..stage.fleet_settings() };
    let proxies = stage.proxies(amounts.everything, Manner::Plain, Subscription::Assignments);
    let fleet = Fleet::start(&settings, proxies)?;
    fleet.subscribed(SUBSCRIBE_LIMIT).await?;
    stage.quiet(&fleet).await;
    let watched = 10.min(shape.services as usize);
    let probed = probe(stage.scene, &fleet, amounts.changes, 0..watched, amounts.pause).await?;
    let probed = probed.complete(amounts.changes, fleet.readers())?;
    let figures = vec![
        Figure::new("P14", "ready after", ready.as_secs_f64(), "s").at_most(30.0),
        Figure::new("", "CPU until ready", stage.server.ready_cpu.as_secs_f64(), "s"),
        Figure::new("P14", "RSS when ready", rss / 1e6, "MB").at_most(600.0),
        Figure::new("P14", "change to last proxy, p99", probed.last.percentile(99.0), "ms").at_most(10.0),
    ];
    fleet.stop().await;
    stage.server.stop().await;
    Ok(figures.into())
}
