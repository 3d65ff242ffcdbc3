//! Changes of a large service, each followed until a real Envoy has applied it: our CPU beside Envoy's.

use std::time::Duration;

use super::super::BenchError;
use super::super::amounts::Amounts;
use super::super::envoy::Envoy;
use super::super::figure::Figure;
use super::super::scene::Scene;
use super::super::server::Candidate;
use super::super::stage::Workshop;
use super::super::world::Shape;
use super::{Outcome, ms};

/// What the kernel counts CPU in: less than that is not told from nothing.
const TICK: Duration = Duration::from_millis(10);

/// # Errors
/// [`BenchError`].
pub(in crate::sim::bench) async fn run(
    workshop: &mut Workshop,
    candidate: &Candidate,
    amounts: &Amounts,
) -> Result<Outcome, BenchError> {
    let Some(program) = workshop.envoy.clone() else {
        let text = "there is no Envoy: `make envoy` installs one, or name yours by --envoy or ENVOY";
        return Ok(Outcome::Skipped(text.to_owned()));
    };
    let shape = Shape { clusters: 1, services: 1, endpoints: amounts.large.0, ..amounts.sizes.shape() };
    let dir = workshop.dir().to_owned();
    let stage = workshop.stage(candidate, amounts, shape, &[]).await?;
    let home = &shape.homes()[0];
    let envoy = Envoy::start(&program, &dir, stage.server.at.grpc, home, &Scene::assignment(0)).await?;
    let all = u64::from(amounts.large.0);
    envoy.has(all).await?;
    let before = (stage.cpu()?, envoy.cpu()?, envoy.applied().await?.updates);
    let mut looks = 0;
    for change in 0..amounts.changes as u64 {
        stage.scene.flip(0, 0)?;
        // It has most of them by then: each look costs it.
        tokio::time::sleep(amounts.pause).await;
        looks += envoy.has(all - (change + 1) % 2).await?;
    }
    let after = (stage.cpu()?, envoy.cpu()?, envoy.applied().await?.updates);
    for _ in 0..looks {
        envoy.applied().await?;
    }
    let asking = envoy.cpu()? - after.1;
    let changes = amounts.changes as u32;
    let ours = (after.0 - before.0) / changes;
    let theirs = (after.1 - before.1).saturating_sub(asking).max(TICK) / changes;
    let figures = vec![
        Figure::new("P12", "our CPU, of Envoy's own for it", ours.as_secs_f64() / theirs.as_secs_f64(), "×")
            .at_most(0.2),
        Figure::new("", "our CPU per change", 1e3 * ms(ours), "µs"),
        Figure::new("", "Envoy's CPU per change", 1e3 * ms(theirs), "µs"),
        Figure::new(
            "",
            "assignments applied per change",
            (after.2 - before.2) as f64 / f64::from(changes),
            "",
        ),
    ];
    envoy.stop().await;
    stage.server.stop().await;
    Ok(figures.into())
}
