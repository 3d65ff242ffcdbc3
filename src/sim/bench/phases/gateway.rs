//! The gateway of one network gets another address: every assignment behind it changes for all other networks.

use super::super::BenchError;
use super::super::amounts::Amounts;
use super::super::figure::{Figure, median};
use super::super::server::Candidate;
use super::super::stage::Workshop;
use super::super::world::FIRST_ADDRESS;
use super::{Outcome, ms};

/// Moves of the gateway; the figures are medians.
const MOVES: u8 = 5;

/// # Errors
/// [`BenchError`].
pub(in crate::sim::bench) async fn run(
    workshop: &mut Workshop,
    candidate: &Candidate,
    amounts: &Amounts,
) -> Result<Outcome, BenchError> {
    let stage = workshop.stage(candidate, amounts, amounts.sizes.shape(), &[]).await?;
    let fleet = stage.fleet(amounts.sizes.proxies).await?;
    // Those of the other networks.
    let moved = amounts.sizes.clusters - 1;
    let behind = (0..fleet.readers()).filter(|number| number % amounts.sizes.clusters != moved).count();
    let (mut times, mut cpus, mut builds) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..MOVES {
        let (cpu, built, before) =
            (stage.cpu()?, stage.builds("assignment").await, fleet.summary().resources);
        // Another one each time, and in the end where it was: the clusters stay for the next round.
        let to = if number + 1 == MOVES { FIRST_ADDRESS } else { FIRST_ADDRESS + 1 + number % 2 };
        let written = stage.scene.move_gateway(moved, to)?;
        let last = stage.quiet(&fleet).await;
        let came = fleet.summary().resources - before;
        let expected = behind as u64 * u64::from(amounts.sizes.services);
        if came < expected {
            let what = "assignments after a gateway had moved".to_owned();
            return Err(BenchError::Lost { what, found: came, expected });
        }
        times.push(ms(last.saturating_duration_since(written)));
        cpus.push(ms(stage.cpu()? - cpu));
        builds.extend(stage.builds("assignment").await.zip(built).map(|(after, before)| after - before));
    }
    let mut figures = vec![
        Figure::new("P18", "until the last proxy has everything", median(&times), "ms"),
        Figure::new("P18", "CPU", median(&cpus), "ms"),
    ];
    if !builds.is_empty() {
        let each = median(&builds) / f64::from(amounts.sizes.services);
        figures.push(Figure::new("P18", "builds per assignment", each, ""));
    }
    fleet.stop().await;
    stage.server.stop().await;
    Ok(figures.into())
}
