//! Scenarios: faults and changes played on a running lab, each with what must hold meanwhile and afterwards.
//!
//! A scenario is a few steps. While they run, steady loads from every client and a look at every proxy and
//! control plane each second make a [`timeline`](super::timeline); what must hold is named. Every step says how
//! to undo itself before it is done, so that the lab is restored however the scenario ends.

mod api_server;
mod control_plane;
mod endpoints;
mod gateway;
mod ingress;
mod list;
mod news;
mod play;
mod policies;
mod quiet;
mod record;
mod remote;
mod split;
mod stage;
mod watch;

use std::path::PathBuf;
use std::time::Duration;

use futures::future::LocalBoxFuture;
use serde::{Deserialize, Serialize};

pub use self::list::SCENARIOS;
pub use self::play::play;
use self::stage::Stage;
use super::LabError;
use super::check::{Seen, wrong};
use super::timeline::Row;

/// How long a fault lasts unless told otherwise.
const DEFAULT_LASTS: Duration = Duration::from_secs(5);
/// The longest a fault may last.
const LONGEST: Duration = Duration::from_secs(30 * 60);
/// Replicas of `scale` unless told otherwise.
const DEFAULT_TO: [u32; 3] = [3, 0, 1];
/// The most replicas of `scale`: each is a few processes.
const MOST_REPLICAS: u32 = 50;
/// How often `flap` flaps unless told otherwise.
const DEFAULT_TIMES: u32 = 20;
/// The most.
const MOST_TIMES: u32 = 1000;

/// The steps of a scenario. An error means that the rest of them could not be taken.
type Steps = for<'a> fn(&'a Stage) -> LocalBoxFuture<'a, Result<(), LabError>>;

/// The cluster a scenario happens to unless told otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subject {
    /// The lab's first.
    First,
    /// The lab's last.
    Last,
}

/// What a lab must be for a scenario to mean something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    /// Any lab.
    Nothing,
    /// Another cluster: who else answers?
    OtherCluster,
    /// A cluster in another network: who else uses the gateway?
    OtherNetwork,
    /// A control plane that knows the cluster by a remote Secret.
    Secret,
    /// A control plane with a home for policies, and another cluster.
    Policies,
}

/// A scenario: what it does and what must hold.
#[derive(Debug)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it does, in one line.
    pub about: &'static str,
    /// Options that mean something to it, besides `--cluster`.
    pub takes: &'static [&'static str],
    /// What must hold, besides [`ALWAYS`].
    pub own: &'static [Expected],
    subject: Subject,
    needs: Needs,
    steps: Steps,
}

/// Something that must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Expected {
    /// Its name, stable for machines.
    pub name: &'static str,
    /// In words.
    pub what: &'static str,
}

/// What must hold in every scenario.
pub const ALWAYS: &[Expected] = &[
    Expected { name: "no-request-fails", what: "every request of every client is answered" },
    Expected {
        name: "no-foreign-address",
        what: "no client's Envoy ever has a pod address of another network",
    },
    Expected { name: "nothing-refused", what: "no client's Envoy refuses what its control plane sends" },
    Expected {
        name: "restored",
        what: "afterwards every client has the Services and as many endpoints as before",
    },
];

impl Scenario {
    /// Everything that must hold.
    pub fn expects(&self) -> impl Iterator<Item = &Expected> {
        self.own.iter().chain(ALWAYS)
    }
}

/// One thing that had to hold and what came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expectation {
    /// Its name.
    pub name: String,
    /// Whether it held.
    pub ok: bool,
    /// What was seen.
    pub detail: String,
}

/// What came of a scenario.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Its name.
    pub scenario: String,
    /// Whether everything held.
    pub ok: bool,
    /// The cluster it happened to.
    pub cluster: String,
    /// `namespaces` or `loopback`.
    pub mode: String,
    /// When it began, RFC 3339.
    pub started_at: String,
    /// What had to hold.
    pub checks: Vec<Expectation>,
    /// The timeline, one row per second, with what was done in it.
    pub rows: Vec<Row>,
    /// Where the lab keeps this.
    pub kept: Option<PathBuf>,
}
