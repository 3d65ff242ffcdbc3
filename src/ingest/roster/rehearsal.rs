//! The arbitration of Secrets without clusters: which instance of each would run.

use std::collections::BTreeMap;

use super::{Action, Claims, Contest, Roster, Source};
use crate::ingest::client::AddressPolicy;
use crate::ingest::kubeconfig::RemoteKubeconfig;
use crate::ingest::options::Texts;
use crate::ingest::problems::Problems;
use crate::model::{ClusterId, Quirks};

/// Follows Secrets as ingest does and counts what would be started. Instances are numbered in the order in
/// which they are made, the config cluster's is 1.
#[derive(Debug)]
pub struct Rehearsal {
    roster: Roster,
    problems: Problems,
    running: BTreeMap<ClusterId, u64>,
    made: u64,
}

impl Rehearsal {
    /// Nothing but the config cluster.
    pub fn new(config: ClusterId, quirks: Quirks) -> Self {
        Self {
            roster: Roster::new(Contest::First, [config.clone()]).with_quirks(quirks),
            problems: Problems::default(),
            running: BTreeMap::from([(config, 1)]),
            made: 1,
        }
    }

    /// A Secret was added or changed: kubeconfigs by key. `created` is in seconds since the epoch; with 0 for all of
    /// them, whoever came first stays.
    pub fn secret(&mut self, name: &str, created: i64, kubeconfigs: &BTreeMap<String, String>) {
        let claim = |(key, text): (&String, &String)| {
            let read = RemoteKubeconfig::parse(text.as_bytes(), AddressPolicy::Any);
            (ClusterId::from(key.as_str()), read.map_err(|refusal| refusal.to_string()))
        };
        let claims = Claims::Of(kubeconfigs.iter().map(claim).collect(), Texts::default());
        self.take(Source { created, name: format!("secret {name}") }, claims);
    }

    /// A Secret was deleted.
    pub fn gone(&mut self, name: &str) {
        self.take(Source { created: 0, name: format!("secret {name}") }, Claims::Gone);
    }

    /// What runs, by instance.
    pub fn running(&self) -> &BTreeMap<ClusterId, u64> {
        &self.running
    }

    fn take(&mut self, source: Source, claims: Claims) {
        for action in self.roster.update([(source, claims)], &self.problems) {
            match action {
                Action::Run(id, ..) => {
                    self.made += 1;
                    self.running.insert(id, self.made);
                }
                Action::Tell(..) => {}
                Action::Remove(id) => {
                    self.running.remove(&id);
                }
            }
        }
    }
}
