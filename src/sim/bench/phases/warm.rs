//! All proxies come back at once and say what they have.

use std::time::{Duration, Instant};

use super::super::BenchError;
use super::super::amounts::Amounts;
use super::super::figure::Figure;
use super::super::server::Candidate;
use super::super::stage::{SUBSCRIBE_LIMIT, Workshop};
use super::{Outcome, ms};

/// How often it is looked who is back.
const POLL: Duration = Duration::from_millis(1);

/// # Errors
/// [`BenchError`].
pub(in crate::sim::bench) async fn run(
    workshop: &mut Workshop,
    candidate: &Candidate,
    amounts: &Amounts,
) -> Result<Outcome, BenchError> {
    let stage = workshop.stage(candidate, amounts, amounts.sizes.shape(), &[]).await?;
    let count = amounts.sizes.proxies;
    let fleet = stage.fleet(count).await?;
    let (first, before) = (fleet.summary(), stage.cpu()?);
    let begin = Instant::now();
    fleet.reconnect();
    while fleet.summary().connects < first.connects + count as u64 {
        if begin.elapsed() > SUBSCRIBE_LIMIT {
            let (found, expected) = (fleet.summary().connects - first.connects, count as u64);
            return Err(BenchError::Lost { what: "proxies that came back".to_owned(), found, expected });
        }
        tokio::time::sleep(POLL).await;
    }
    let back = begin.elapsed();
    stage.quiet(&fleet).await;
    let cpu = stage.cpu()? - before;
    let second = fleet.stop().await;
    let share = 100.0 * (second.bytes - first.bytes) as f64 / first.bytes as f64;
    let figures = vec![
        // A fifth of P1.
        Figure::new("P19", "CPU per proxy", ms(cpu) / count as f64, "ms").at_most(0.27),
        Figure::new("P19", "bytes sent, of those of a first connect", share, "%").at_most(5.0),
        Figure::new("", "until the last stream was open", ms(back), "ms"),
    ];
    stage.server.stop().await;
    Ok(figures.into())
}
