//! The phases, each a file.

mod burst;
mod cds;
mod connects;
mod distinct;
mod envoy;
mod fanout;
mod gateway;
mod lists;
mod load;
mod memory;
mod scale;
mod start;
mod storm;
mod streams;
mod stuck;
mod tls;
mod update;
mod warm;
mod work;

use clap::ValueEnum;

use super::BenchError;
use super::amounts::Amounts;
use super::figure::{Figure, Series};
use super::server::Candidate;
use super::stage::Workshop;
use crate::sim::fleet::Times;

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Phase {
    /// From the start of the server until it is ready
    Start,
    /// All proxies connect at once (P1, P2)
    Storm,
    /// 1 000 proxies connect at once (P2)
    Connects,
    /// One change after the other in an idle system (P3, P4)
    Update,
    /// 2 000 changes in 4 s (P5)
    Burst,
    /// Changes followed under 500 changes per second (P16)
    Load,
    /// The address of a gateway changes (P18)
    Gateway,
    /// All proxies come back with what they have (P19)
    Warm,
    /// Memory of connected proxies (P7)
    Memory,
    /// 1 000 proxies, none like another (P20)
    Distinct,
    /// 1 000 proxies that never read beside 100 that do
    Stuck,
    /// 1 000 proxies with client certificates connect at once (P15)
    Tls,
    /// A service with 1 000 endpoints goes to 1 000 proxies (P7)
    Fanout,
    /// Changes of a service with 1 000 endpoints until a real Envoy has applied them (P12)
    Envoy,
    /// A change of Envoy clusters among 1 000 and 10 000 services (P17)
    Cds,
    /// Lists of 90 000 endpoints until it is ready (P10)
    Lists,
    /// The same change in small and large worlds (P13)
    Work,
    /// 10 000 proxies connect and stay
    Streams,
    /// A million endpoints in 100 clusters (P14)
    Scale,
}

impl Phase {
    /// Its name on the command line.
    pub fn name(self) -> String {
        self.to_possible_value().expect("no phase is hidden").get_name().to_owned()
    }

    /// Whether it takes so much time or memory that it is run only when named.
    pub fn is_big(self) -> bool {
        matches!(self, Self::Lists | Self::Work | Self::Streams | Self::Scale)
    }
}

/// What came of a phase.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It was run.
    Measured { figures: Vec<Figure>, series: Vec<Series> },
    /// It cannot be run with this server.
    Skipped(String),
}

impl From<Vec<Figure>> for Outcome {
    fn from(figures: Vec<Figure>) -> Self {
        Self::Measured { figures, series: Vec::new() }
    }
}

/// Runs one phase once.
///
/// # Errors
/// [`BenchError`].
pub(super) async fn run(
    phase: Phase,
    workshop: &mut Workshop,
    candidate: &Candidate,
    amounts: &Amounts,
) -> Result<Outcome, BenchError> {
    // Each is a large future of its own.
    match phase {
        Phase::Start => Box::pin(start::run(workshop, candidate, amounts)).await,
        Phase::Storm => Box::pin(storm::run(workshop, candidate, amounts)).await,
        Phase::Connects => Box::pin(connects::run(workshop, candidate, amounts)).await,
        Phase::Update => Box::pin(update::run(workshop, candidate, amounts)).await,
        Phase::Burst => Box::pin(burst::run(workshop, candidate, amounts)).await,
        Phase::Load => Box::pin(load::run(workshop, candidate, amounts)).await,
        Phase::Gateway => Box::pin(gateway::run(workshop, candidate, amounts)).await,
        Phase::Warm => Box::pin(warm::run(workshop, candidate, amounts)).await,
        Phase::Memory => Box::pin(memory::run(workshop, candidate, amounts)).await,
        Phase::Distinct => Box::pin(distinct::run(workshop, candidate, amounts)).await,
        Phase::Stuck => Box::pin(stuck::run(workshop, candidate, amounts)).await,
        Phase::Tls => Box::pin(tls::run(workshop, candidate, amounts)).await,
        Phase::Fanout => Box::pin(fanout::run(workshop, candidate, amounts)).await,
        Phase::Envoy => Box::pin(envoy::run(workshop, candidate, amounts)).await,
        Phase::Cds => Box::pin(cds::run(workshop, candidate, amounts)).await,
        Phase::Lists => Box::pin(lists::run(workshop, candidate, amounts)).await,
        Phase::Work => Box::pin(work::run(workshop, candidate, amounts)).await,
        Phase::Streams => Box::pin(streams::run(workshop, candidate, amounts)).await,
        Phase::Scale => Box::pin(scale::run(workshop, candidate, amounts)).await,
    }
}

/// Milliseconds of a time.
fn ms(time: std::time::Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The percentiles of `times`, to plot.
fn percentiles(name: &str, times: &Times) -> Series {
    let at = [0.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 100.0];
    Series {
        name: name.to_owned(),
        x: "percentile".to_owned(),
        y: "change to last proxy, ms".to_owned(),
        points: at.into_iter().map(|percent| (percent, times.percentile(percent))).collect(),
    }
}
