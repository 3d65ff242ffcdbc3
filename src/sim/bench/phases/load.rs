//! Changes of one service followed to every proxy while others change all the time.

use std::time::{Duration, Instant};

use super::super::BenchError;
use super::super::amounts::Amounts;
use super::super::figure::Figure;
use super::super::probe::probe;
use super::super::server::Candidate;
use super::super::stage::Workshop;
use super::{Outcome, percentiles};

/// # Errors
/// [`BenchError`].
pub(in crate::sim::bench) async fn run(
    workshop: &mut Workshop,
    candidate: &Candidate,
    amounts: &Amounts,
) -> Result<Outcome, BenchError> {
    let stage = workshop.stage(candidate, amounts, amounts.sizes.shape(), &[]).await?;
    let fleet = stage.fleet(amounts.sizes.proxies).await?;
    let probes = amounts.changes;
    let cpu = stage.cpu()?;
    let begin = Instant::now();
    let load = async {
        let mut pace = tokio::time::interval(Duration::from_secs_f64(1.0 / amounts.load));
        let others = (amounts.sizes.services as usize - 1).max(1);
        for number in 0_usize.. {
            pace.tick().await;
            // Service 0 is probed.
            let service = (1 + number % others) % amounts.sizes.services as usize;
            stage.scene.flip(number % amounts.sizes.clusters, service)?;
        }
        Ok::<_, BenchError>(())
    };
    // Biased: the end of the probes is the end.
    let probed = tokio::select! {
        biased;
        probed = probe(stage.scene, &fleet, probes, 0..1, amounts.pause) => probed?,
        failed = load => return failed.map(|()| Vec::new().into()),
    };
    let elapsed = begin.elapsed();
    let busy = 100.0 * (stage.cpu()? - cpu).as_secs_f64() / elapsed.as_secs_f64();
    let probed = probed.complete(probes, fleet.readers())?;
    let figures = vec![
        // Three times the goal of an idle system.
        Figure::new("P16", "change to last proxy, p99", probed.last.percentile(99.0), "ms").at_most(18.0),
        Figure::new("", "change to last proxy, p50", probed.last.percentile(50.0), "ms"),
        Figure::new("P16", "change to a proxy, p99", probed.each.percentile(99.0), "ms").at_most(18.0),
        Figure::new("", "CPU of the server meanwhile", busy, "% of a core"),
    ];
    let series = vec![percentiles("under load", &probed.last)];
    fleet.stop().await;
    stage.server.stop().await;
    Ok(Outcome::Measured { figures, series })
}
