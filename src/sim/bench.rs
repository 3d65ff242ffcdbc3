//! What a discovery server costs: synthetic API servers and a fleet of proxies in this process, the server in its
//! own, phase by phase.

mod amounts;
mod certificates;
mod envoy;
mod figure;
mod phases;
mod plot;
mod probe;
mod report;
mod scene;
mod server;
mod stage;
mod usage;
mod world;

use std::path::{Path, PathBuf};
use std::time::Duration;

use self::amounts::Amounts;
pub use self::amounts::Sizes;
pub use self::figure::{Figure, Result as FigureResult, Series};
pub use self::phases::Phase;
pub use self::plot::{PlotError, plot};
pub use self::report::{Machine, Report, Skipped, TargetReport};
pub use self::server::{Candidate, Program};
use self::stage::Workshop;
use crate::sim::apiserver::{ApiError, ApiServerError};
use crate::sim::fleet::FleetError;

/// Why a run ended early. Every variant is *Fatal* for the run; processes that it started are gone.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// An API server did not start.
    #[error(transparent)]
    ApiServer(#[from] ApiServerError),
    /// An API server refused a change.
    #[error("a synthetic API server refused a change")]
    Write(#[from] ApiError),
    /// An object of the world is not there.
    #[error("the synthetic world has no object {0}")]
    Gone(String),
    /// The fleet did not start or did not get what it asked for.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// A connection without a stream was not made.
    #[error("cannot connect to the server: {0}")]
    Connection(String),
    /// A file cannot be written.
    #[error("cannot {verb} {path}")]
    File {
        /// What was tried.
        verb: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The server did not start.
    #[error("cannot start the server {name}")]
    Spawn {
        /// Which.
        name: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The server ended.
    #[error("the server {name} ended; its log ends with\n{log}")]
    Ended {
        /// Which.
        name: String,
        /// The end of its log.
        log: String,
    },
    /// The server never said that it is ready.
    #[error("the server {name} was not ready within {limit:?}; its log ends with\n{log}")]
    NotReady {
        /// Which.
        name: String,
        /// How long it was waited.
        limit: Duration,
        /// The end of its log.
        log: String,
    },
    /// The system does not say what the server uses, or has no ports left.
    #[error("cannot read what the server uses: it may have ended")]
    Usage(#[source] std::io::Error),
    /// Certificates cannot be made.
    #[error("cannot make certificates")]
    Certificates(#[source] rcgen::Error),
    /// TLS cannot be set up.
    #[error("cannot set up TLS for the fleet")]
    Tls(#[source] rustls::Error),
    /// Not everything that was changed reached everybody.
    #[error("{what}: {found} of {expected}")]
    Lost {
        /// What was waited for.
        what: String,
        /// How much came.
        found: u64,
        /// How much should.
        expected: u64,
    },
}

impl BenchError {
    fn file(verb: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { verb, path, source }
    }

    fn usage(source: std::io::Error) -> Self {
        Self::Usage(source)
    }
}

/// A run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The servers, in the order in which each phase takes them.
    pub candidates: Vec<Candidate>,
    /// What is measured, in order.
    pub phases: Vec<Phase>,
    /// How large the clusters are, and how many proxies.
    pub sizes: Sizes,
    /// Whether it is only tried out: few of everything, no goals.
    pub quick: bool,
    /// How often each phase is run.
    pub repeat: usize,
    /// The Envoy of the phase that needs one.
    pub envoy: Option<PathBuf>,
    /// The date in the report.
    pub date: String,
}

/// Runs every phase for every server as often as asked, in turn; `note` is told what comes next.
///
/// # Errors
/// [`BenchError`].
pub async fn run(settings: &Settings, mut note: impl FnMut(&str)) -> Result<Report, BenchError> {
    let amounts = Amounts::new(settings.sizes, settings.quick);
    let mut workshop = Workshop::new(settings.envoy.clone())?;
    let mut report = Report::new(settings);
    for round in 1..=settings.repeat {
        for phase in &settings.phases {
            for (at, candidate) in settings.candidates.iter().enumerate() {
                let skipped = report.targets[at].skipped.iter().any(|skipped| skipped.phase == phase.name());
                if skipped {
                    continue;
                }
                note(&format!(
                    "{} of {}, round {round} of {}",
                    phase.name(),
                    candidate.name,
                    settings.repeat
                ));
                let outcome = phases::run(*phase, &mut workshop, candidate, &amounts).await?;
                // Goals are for the standard sizes.
                report.targets[at].add(&phase.name(), outcome, amounts.standard);
            }
        }
    }
    workshop.close().await;
    Ok(report)
}
