//! A service account that nobody had before: an Envoy cluster changes, among few services and among many.

use super::super::BenchError;
use super::super::amounts::Amounts;
use super::super::figure::{Figure, median};
use super::super::server::Candidate;
use super::super::stage::{SUBSCRIBE_LIMIT, Workshop};
use super::super::world::Shape;
use super::{Outcome, ms};
use crate::sim::fleet::{Fleet, Manner, Subscription, Summary};

/// New accounts; the figures are means.
const ACCOUNTS: usize = 5;

/// # Errors
/// [`BenchError`].
pub(in crate::sim::bench) async fn run(
    workshop: &mut Workshop,
    candidate: &Candidate,
    amounts: &Amounts,
) -> Result<Outcome, BenchError> {
    let mut figures = Vec::new();
    for services in amounts.wide {
        let shape = Shape { clusters: 1, services, endpoints: 2, ..amounts.sizes.shape() };
        let stage = workshop.stage(candidate, amounts, shape, &[]).await?;
        let proxies = stage.proxies(amounts.everything, Manner::Plain, Subscription::Everything);
        let fleet = Fleet::start(&stage.fleet_settings(), proxies)?;
        fleet.subscribed(SUBSCRIBE_LIMIT).await?;
        stage.quiet(&fleet).await;
        let (before, cpu, lists) = (fleet.summary(), stage.cpu()?, stage.builds("list").await);
        let mut times = Vec::new();
        for _ in 0..ACCOUNTS {
            let written = stage.scene.add_account(0)?;
            let last = stage.quiet(&fleet).await;
            times.push(ms(last.saturating_duration_since(written)));
        }
        let spent = ms(stage.cpu()? - cpu) / (ACCOUNTS * amounts.everything) as f64;
        let came = |summary: &Summary| summary.types.get("cds").map_or(0, |typed| typed.messages);
        let (found, expected) =
            (came(&fleet.summary()) - came(&before), (ACCOUNTS * amounts.everything) as u64);
        if found < expected {
            let what = "responses with the changed Envoy cluster".to_owned();
            return Err(BenchError::Lost { what, found, expected });
        }
        let name = |what: &str| format!("{what}, {services} services");
        figures.push(Figure::new("P17", name("CPU per change and proxy"), spent, "ms"));
        figures.push(Figure::new("P17", name("change to last response"), median(&times), "ms"));
        if let Some((after, before)) = stage.builds("list").await.zip(lists) {
            figures.push(Figure::new(
                "P17",
                name("list builds per change"),
                (after - before) / ACCOUNTS as f64,
                "",
            ));
        }
        fleet.stop().await;
        stage.server.stop().await;
    }
    Ok(figures.into())
}
