//! What a connected proxy needs, from the line through several numbers of them, after changes; and of that its connection.

use super::super::BenchError;
use super::super::amounts::Amounts;
use super::super::figure::{Figure, Series, slope};
use super::super::probe::probe;
use super::super::server::Candidate;
use super::super::stage::Workshop;
use super::Outcome;
use crate::sim::fleet::{Bare, Fleet};

const KIB: f64 = 1024.0;
const MIB: f64 = 1024.0 * KIB;

/// # Errors
/// [`BenchError`].
pub(in crate::sim::bench) async fn run(
    workshop: &mut Workshop,
    candidate: &Candidate,
    amounts: &Amounts,
) -> Result<Outcome, BenchError> {
    let connection = bare(workshop, candidate, amounts).await?;
    let stage = workshop.stage(candidate, amounts, amounts.sizes.shape(), &[]).await?;
    let services = 0..amounts.sizes.services as usize;
    let mut points = Vec::new();
    let mut fleets = Vec::new();
    for step in 0..=amounts.steps {
        if step > 0 {
            fleets.push(stage.fleet(amounts.many / amounts.steps).await?);
        }
        // Everybody has had changes; the first fleet stands for all.
        if let Some(fleet) = fleets.first() {
            probe(stage.scene, fleet, amounts.changes / 10, services.clone(), amounts.pause).await?;
            stage.quiet(fleet).await;
        }
        let connected: usize = fleets.iter().map(Fleet::readers).sum();
        points.push((connected as f64, stage.rss()?));
    }
    // The first ones pay for what all share.
    let each = slope(&points[1..]) / KIB;
    let figures = vec![
        Figure::new("P7", "RSS per connected proxy", each, "KiB").at_most(48.0),
        Figure::new("", "RSS per connection without a stream", connection, "KiB"),
        Figure::new("X-F09", "RSS per stream beyond its connection", each - connection, "KiB").at_most(20.0),
    ];
    let series = vec![Series {
        name: "memory".to_owned(),
        x: "connected proxies".to_owned(),
        y: "RSS, MiB".to_owned(),
        points: points.into_iter().map(|(proxies, bytes)| (proxies, bytes / MIB)).collect(),
    }];
    for fleet in fleets {
        fleet.stop().await;
    }
    stage.server.stop().await;
    Ok(Outcome::Measured { figures, series })
}

/// KiB of a connection on which nothing was asked, of as many as there will be proxies. A server of its own has them: it
/// ends those that stay silent.
async fn bare(workshop: &mut Workshop, candidate: &Candidate, amounts: &Amounts) -> Result<f64, BenchError> {
    let stage = workshop.stage(candidate, amounts, amounts.sizes.shape(), &[]).await?;
    let target = stage.fleet_settings().target;
    let (mut points, mut connections) = (Vec::new(), Vec::new());
    for _ in 0..amounts.steps {
        for _ in 0..amounts.many / amounts.steps {
            let number = connections.len();
            connections.push(Bare::open(&target, number).await.map_err(BenchError::Connection)?);
        }
        points.push((connections.len() as f64, stage.rss()?));
        let open = connections.iter().filter(|connection| connection.is_open()).count();
        if open < connections.len() {
            let what = "connections without a stream that are still open".to_owned();
            return Err(BenchError::Lost { what, found: open as u64, expected: connections.len() as u64 });
        }
    }
    drop(connections);
    stage.server.stop().await;
    Ok(slope(&points) / KIB)
}
