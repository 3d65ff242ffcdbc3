//! The same changes in a small and a large world: services of one cluster, and clusters of one service.

use std::time::Duration;

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

/// Services that proxies ask for and that change.
const WATCHED: usize = 10;
/// Endpoints of a service.
const ENDPOINTS: u32 = 2;

/// What one change costs.
struct Cost {
    cpu: Duration,
    builds: f64,
    wakeups: f64,
    bytes: f64,
}

/// # Errors
/// [`BenchError`].
pub(in crate::sim::bench) async fn run(
    workshop: &mut Workshop,
    candidate: &Candidate,
    amounts: &Amounts,
) -> Result<Outcome, BenchError> {
    if !candidate.is_own() {
        return Ok(Outcome::Skipped("it does not count its work".to_owned()));
    }
    let [few, many] = if amounts.standard { [100, 10_000] } else { amounts.wide };
    let clusters = if amounts.standard { 100 } else { 3 };
    let shape =
        |clusters, services| Shape { clusters, services, endpoints: ENDPOINTS, ..amounts.sizes.shape() };
    let small = cost(workshop, candidate, amounts, shape(1, few)).await?;
    let wide = cost(workshop, candidate, amounts, shape(1, many)).await?;
    let broad = cost(workshop, candidate, amounts, shape(clusters, few)).await?;
    let figures = vec![
        Figure::new("P13", "builds per change, small world", small.builds, ""),
        Figure::new("P13", "the same with many services", wide.builds / small.builds, "×").at_most(1.0),
        Figure::new("P13", "the same with many clusters", broad.builds / small.builds, "×").at_most(1.0),
        Figure::new("P13", "wake-ups with many services", wide.wakeups / small.wakeups, "×").at_most(1.0),
        Figure::new("P13", "wake-ups with many clusters", broad.wakeups / small.wakeups, "×").at_most(1.0),
        Figure::new("P13", "bytes with many services", wide.bytes / small.bytes, "×").at_most(1.01),
        Figure::new("P13", "CPU with many services", ratio(wide.cpu, small.cpu), "×").at_most(1.5),
        // Assignments have an endpoint of each further cluster: they are longer.
        Figure::new("", "bytes with many clusters", broad.bytes / small.bytes, "×"),
        Figure::new("P13", "CPU with many clusters", ratio(broad.cpu, small.cpu), "×").at_most(1.5),
    ];
    Ok(figures.into())
}

async fn cost(
    workshop: &mut Workshop,
    candidate: &Candidate,
    amounts: &Amounts,
    shape: Shape,
) -> Result<Cost, BenchError> {
    let stage = workshop.stage(candidate, amounts, shape, &[]).await?;
    let watched = WATCHED.min(shape.services as usize);
    let settings = FleetSettings {
        assignments: (0..watched).map(Scene::assignment).collect(),
        ..stage.fleet_settings()
    };
    // All in the first cluster: one view.
    let mut proxies =
        stage.proxies(amounts.everything * shape.clusters, Manner::Plain, Subscription::Assignments);
    let mut number = 0;
    proxies.retain(|_| {
        number += 1;
        (number - 1) % shape.clusters == 0
    });
    let fleet = Fleet::start(&settings, proxies)?;
    fleet.subscribed(SUBSCRIBE_LIMIT).await?;
    stage.quiet(&fleet).await;
    let wakeups = async || stage.server.metric("tombolo_wakeups", "").await.unwrap_or_default();
    let builds = async || stage.builds("assignment").await.unwrap_or_default();
    let (cpu, built, woken, bytes) = (stage.cpu()?, builds().await, wakeups().await, fleet.summary().bytes);
    let probed = probe(stage.scene, &fleet, amounts.changes, 0..watched, amounts.pause).await?;
    probed.complete(amounts.changes, fleet.readers())?;
    let each = |total: f64| total / amounts.changes as f64;
    let cost = Cost {
        cpu: stage.cpu()? - cpu,
        builds: each(builds().await - built),
        wakeups: each(wakeups().await - woken),
        bytes: each((fleet.summary().bytes - bytes) as f64),
    };
    fleet.stop().await;
    stage.server.stop().await;
    Ok(cost)
}

fn ratio(large: Duration, small: Duration) -> f64 {
    // Ticks of 10 ms: less than one is one.
    large.as_secs_f64() / small.as_secs_f64().max(0.01)
}
