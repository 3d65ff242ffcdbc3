//! Many proxies with client certificates connect at once: handshakes and encryption included.

use super::super::BenchError;
use super::super::amounts::Amounts;
use super::super::certificates::Certificates;
use super::super::figure::Figure;
use super::super::server::Candidate;
use super::super::stage::{SUBSCRIBE_LIMIT, Workshop};
use super::{Outcome, ms};
use crate::sim::fleet::{Fleet, FleetSettings, Manner, Subscription, Target};

/// # Errors
/// [`BenchError`].
pub(in crate::sim::bench) async fn run(
    workshop: &mut Workshop,
    candidate: &Candidate,
    amounts: &Amounts,
) -> Result<Outcome, BenchError> {
    let help = candidate.help().await?;
    let flags = ["--secure-grpc-addr", "--tls-cert", "--tls-key", "--client-ca"];
    if let Some(missing) = flags.into_iter().find(|flag| !help.contains(flag)) {
        return Ok(Outcome::Skipped(format!("the server has no {missing}")));
    }
    let files = Certificates::make(workshop.dir())?;
    let further = [&["--secure-grpc-addr".to_owned(), "127.0.0.1:0".to_owned()][..], &files.flags()].concat();
    let stage = workshop.stage(candidate, amounts, amounts.sizes.shape(), &further).await?;
    let Some(address) = stage.server.at.secure else {
        return Ok(Outcome::Skipped("the server does not say where its TLS listener is".to_owned()));
    };
    let target = Target { address, tls: Some(files.client()?) };
    let settings = FleetSettings { target, ..stage.fleet_settings() };
    let proxies = stage.proxies(amounts.many, Manner::Plain, Subscription::Assignments);
    let before = stage.cpu()?;
    let fleet = Fleet::start(&settings, proxies)?;
    fleet.subscribed(SUBSCRIBE_LIMIT).await?;
    stage.quiet(&fleet).await;
    let cpu = stage.cpu()? - before;
    let summary = fleet.stop().await;
    let refused: u64 = summary.ends.values().sum();
    let figures = vec![
        Figure::new("P15", "CPU per proxy over TLS", ms(cpu) / amounts.many as f64, "ms"),
        Figure::new("P15", "until the last proxy has everything", summary.complete_ms, "ms"),
        Figure::new("", "connections refused or ended", refused as f64, ""),
    ];
    stage.server.stop().await;
    Ok(figures.into())
}
