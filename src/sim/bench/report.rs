//! What a run says, as a document.

use serde::{Deserialize, Serialize};

use super::Settings;
use super::amounts::Sizes;
use super::figure::{Result, Series, collect};
use super::phases::Outcome;

/// The document `bench.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// When.
    pub date: String,
    /// Version of this program.
    pub version: String,
    /// Where.
    pub machine: Machine,
    /// How large.
    pub sizes: Sizes,
    /// Whether it was only tried out.
    pub quick: bool,
    /// How often each phase was run.
    pub repeat: usize,
    /// The servers.
    pub targets: Vec<TargetReport>,
}

/// Where a run took place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Cores that this process may use.
    pub cores: usize,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// The kernel's version.
    pub kernel: String,
    /// Load over one minute before the run.
    pub load: String,
}

impl Machine {
    /// This one, now; what it does not say is left empty.
    fn here() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let memory = read("/proc/meminfo");
        let memory =
            memory.lines().next().and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
        Self {
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_mib: memory.unwrap_or_default() >> 10,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load: read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned(),
        }
    }
}

/// The figures of one server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TargetReport {
    /// Its name.
    pub name: String,
    /// In the order of the phases.
    pub figures: Vec<Result>,
    /// Of the last round.
    pub series: Vec<Series>,
    /// Phases that could not be run.
    pub skipped: Vec<Skipped>,
}

/// A phase that could not be run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Which.
    pub phase: String,
    /// Why.
    pub why: String,
}

impl Report {
    pub(super) fn new(settings: &Settings) -> Self {
        let target = |name: &String| TargetReport {
            name: name.clone(),
            figures: Vec::new(),
            series: Vec::new(),
            skipped: Vec::new(),
        };
        Self {
            date: settings.date.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            machine: Machine::here(),
            sizes: settings.sizes,
            quick: settings.quick,
            repeat: settings.repeat,
            targets: settings.candidates.iter().map(|candidate| target(&candidate.name)).collect(),
        }
    }
}

impl TargetReport {
    pub(super) fn add(&mut self, phase: &str, outcome: Outcome, goals: bool) {
        match outcome {
            Outcome::Skipped(why) => self.skipped.push(Skipped { phase: phase.to_owned(), why }),
            Outcome::Measured { mut figures, series } => {
                if !goals {
                    figures.iter_mut().for_each(|figure| figure.goal = None);
                }
                collect(&mut self.figures, phase, figures);
                self.series.retain(|old| series.iter().all(|new| new.name != old.name));
                self.series.extend(series);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::figure::Figure;
    use super::*;

    #[test]
    fn a_report_is_read_as_it_was_written() {
        let settings = Settings {
            candidates: Vec::new(),
            phases: Vec::new(),
            sizes: Sizes::STANDARD,
            quick: false,
            repeat: 2,
            envoy: None,
            date: "2026-01-01".to_owned(),
        };
        let mut report = Report::new(&settings);
        let mut target =
            TargetReport { name: "a".into(), figures: Vec::new(), series: Vec::new(), skipped: Vec::new() };
        let series = |y| Series { name: "s".into(), x: "x".into(), y: "y".into(), points: vec![(1.0, y)] };
        for (value, goals) in [(1.0, true), (2.0, true)] {
            let figures = vec![Figure::new("P1", "cpu", value, "ms").at_most(1.6)];
            target.add("storm", Outcome::Measured { figures, series: vec![series(value)] }, goals);
        }
        target.add("tls", Outcome::Skipped("no TLS".into()), true);
        assert_eq!((target.series.len(), target.series[0].points[0].1), (1, 2.0));
        assert_eq!(target.figures[0].is_met(), Some(true));
        target.add(
            "warm",
            Outcome::Measured {
                figures: vec![Figure::new("P19", "x", 9.0, "ms").at_most(1.0)],
                series: Vec::new(),
            },
            false,
        );
        assert_eq!(target.figures[1].is_met(), None, "other sizes have no goals");
        report.targets.push(target);
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
        assert!(report.machine.cores > 0);
    }
}
