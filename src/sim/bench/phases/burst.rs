//! Many changes in a short time, spread over all services and clusters.

use tokio::time::{Instant, sleep_until};

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
    let fleet = stage.fleet(amounts.sizes.proxies).await?;
    let (events, time) = amounts.burst;
    let before = stage.cpu()?;
    let begin = Instant::now();
    let mut written = begin;
    for number in 0..events {
        sleep_until(begin + time.mul_f64(number as f64 / events as f64)).await;
        let (service, cluster) = (number % amounts.sizes.services as usize, number % amounts.sizes.clusters);
        written = stage.scene.flip(cluster, service)?.into();
    }
    let late = written.duration_since(begin).saturating_sub(time);
    let last = stage.quiet(&fleet).await;
    let cpu = stage.cpu()? - before;
    let lag = last.saturating_duration_since(written.into_std());
    let figures = vec![
        Figure::new("P5", "CPU per event", 1e6 * cpu.as_secs_f64() / events as f64, "µs").at_most(280.0),
        Figure::new("P5", "last response after the last event", ms(lag), "ms").at_most(20.0),
        // The generator kept its pace, or not.
        Figure::new("", "the burst took longer by", ms(late), "ms"),
        Figure::new("", "responses", fleet.summary().messages as f64 / fleet.readers() as f64, "per proxy"),
    ];
    fleet.stop().await;
    stage.server.stop().await;
    Ok(figures.into())
}
