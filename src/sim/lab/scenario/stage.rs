//! What a scenario's steps work with: the lab, the record, and a list of how to undo what they did.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::LocalBoxFuture;

use super::super::client::Client;
use super::super::control::{Replies, Reply};
use super::super::envoy::Hosts;
use super::super::plan::{ClusterPlan, HELLOWORLD};
use super::super::timeline::Observation;
use super::super::truth::{Truth, truth};
use super::super::wait::until;
use super::super::{Lab, LabError};
use super::record::Record;
use super::{Expectation, Seen, wrong};

/// From a change at an API server to the clients' weights: a promise of ours, not a guess.
pub(super) const FOLLOW_LIMIT: Duration = Duration::from_secs(1);
/// For what is not promised to the second: pods that start, watches that are tried again.
pub(super) const PATIENCE: Duration = Duration::from_secs(40);
/// A client of a load reports four times a second.
pub(super) const ANSWER_LIMIT: Duration = Duration::from_secs(10);

type Action = Box<dyn FnOnce(Arc<Lab>) -> LocalBoxFuture<'static, Result<(), LabError>>>;

/// How a step is undone.
struct Undo {
    done: String,
    action: Action,
}

/// One scenario being played.
pub(super) struct Stage {
    pub(super) lab: Arc<Lab>,
    /// The cluster it happens to.
    pub(super) cluster: ClusterPlan,
    /// How long a fault lasts.
    pub(super) lasts: Duration,
    /// Replicas, one after the other.
    pub(super) to: Vec<u32>,
    /// How often.
    pub(super) times: u32,
    /// The clients that load and are looked at.
    pub(super) clients: Vec<Client>,
    pub(super) record: Arc<Record>,
    replies: Replies,
    excused: Mutex<BTreeMap<String, u64>>,
    found: Mutex<Vec<Expectation>>,
    undo: Mutex<Vec<Undo>>,
}

impl Stage {
    pub(super) fn new(lab: Arc<Lab>, cluster: ClusterPlan, replies: Replies) -> Self {
        Self {
            clients: lab.clients(),
            lab,
            cluster,
            lasts: super::DEFAULT_LASTS,
            to: super::DEFAULT_TO.to_vec(),
            times: super::DEFAULT_TIMES,
            record: Arc::new(Record::new()),
            replies,
            excused: Mutex::default(),
            found: Mutex::default(),
            undo: Mutex::default(),
        }
    }

    /// Tells the asker what goes on.
    pub(super) fn say(&self, line: impl Into<String>) {
        self.replies.send(Reply::Say(line.into()));
    }

    /// Marks in the timeline that something was done.
    pub(super) fn done(&self, what: impl Into<String>) {
        self.record.note(Observation::Done(what.into()));
    }

    /// Notes what came of an expectation.
    pub(super) fn expect(&self, name: &'static str, seen: Seen) {
        let (ok, detail) = match seen {
            Ok(detail) => (true, detail),
            Err(error) => (false, error.to_string()),
        };
        self.say(format!("{name}: {}", if ok { "ok" } else { "FAILED" }));
        self.found().push(Expectation { name: name.to_owned(), ok, detail });
    }

    fn found(&self) -> MutexGuard<'_, Vec<Expectation>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that `count` requests of `client` were under way in what was killed: nobody can save those.
    pub(super) fn excuse(&self, client: &str, count: u64) {
        let mut excused = self.excused.lock().unwrap_or_else(PoisonError::into_inner);
        *excused.entry(client.to_owned()).or_default() += count;
    }

    /// How many failed requests of `client` are excused.
    pub(super) fn excused(&self, client: &str) -> u64 {
        self.excused.lock().unwrap_or_else(PoisonError::into_inner).get(client).copied().unwrap_or(0)
    }

    /// What was noted so far.
    pub(super) fn expectations(&self) -> Vec<Expectation> {
        self.found().clone()
    }

    fn undos(&self) -> MutexGuard<'_, Vec<Undo>> {
        self.undo.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says how to undo what is about to be done: before it is done, since it may be interrupted at any point.
    /// `done` is the mark once it is undone.
    pub(super) fn undo_by<F, Fut>(&self, done: impl Into<String>, action: F)
    where
        F: FnOnce(Arc<Lab>) -> Fut + 'static,
        Fut: Future<Output = Result<(), LabError>> + 'static,
    {
        let action: Action = Box::new(move |lab| Box::pin(action(lab)));
        self.undos().push(Undo { done: done.into(), action });
    }

    /// Undoes everything, the latest first; one that fails does not keep the others from being undone.
    pub(super) async fn back(&self) -> Result<(), LabError> {
        let mut outcome = Ok(());
        loop {
            // Not in the loop's condition: the lock must not be held meanwhile.
            let next = self.undos().pop();
            let Some(Undo { done, action }) = next else {
                return outcome;
            };
            match action(Arc::clone(&self.lab)).await {
                Ok(()) => self.done(done),
                Err(error) => {
                    self.done(format!("could not: {done}: {error}"));
                    outcome = outcome.and(Err(error));
                }
            }
        }
    }

    /// Lets the fault last.
    pub(super) async fn lasting(&self) {
        tokio::time::sleep(self.lasts).await;
    }

    /// Names of all clients' clusters.
    pub(super) fn client_names(&self) -> Vec<String> {
        self.clients.iter().map(|client| client.cluster.name.clone()).collect()
    }

    /// The clients in the cluster's network, and those in others.
    pub(super) fn near_and_far(&self) -> (Vec<Client>, Vec<Client>) {
        self.clients.iter().cloned().partition(|client| client.cluster.network == self.cluster.network)
    }

    /// Another cluster than the one it happens to.
    pub(super) fn other(&self) -> Result<ClusterPlan, LabError> {
        let other = self.lab.plan().clusters.iter().find(|cluster| cluster.name != self.cluster.name);
        other.cloned().ok_or_else(|| LabError::Missing {
            what: "the lab has one cluster only".to_owned(),
            hint: "start it with --clusters 2".to_owned(),
        })
    }

    /// `version/cluster` of the answers of `cluster`'s application.
    pub(super) fn answer_of(cluster: &ClusterPlan) -> String {
        format!("{}/{}", cluster.version, cluster.name)
    }

    /// Waits until the cluster has answered every client anew: those of its network itself, those of others from
    /// within its network, since a connection through a gateway stays with the pod that the gateway chose.
    pub(super) async fn answers(&self, clients: &[Client], limit: Duration) -> Seen {
        let network = &self.cluster.network;
        let mates = self.lab.plan().clusters.iter().filter(|cluster| cluster.network == *network);
        let mates: Vec<String> = mates.map(Self::answer_of).collect();
        let names = |near: bool| -> Vec<String> {
            let chosen = clients.iter().filter(|client| (client.cluster.network == *network) == near);
            chosen.map(|client| client.cluster.name.clone()).collect()
        };
        let own = [Self::answer_of(&self.cluster)];
        self.record.answered_by(&names(true), &own, limit).await?;
        self.record.answered_by(&names(false), &mates, limit).await?;
        Ok(format!("{} answers", own.concat()))
    }

    /// Waits until every client got `count` more answers.
    pub(super) async fn answered(&self, count: u64) -> Result<(), LabError> {
        self.record.answered(&self.client_names(), count, ANSWER_LIMIT).await
    }

    /// Waits until each of `clients` has what the API servers say now, for which each has `limit`.
    pub(super) async fn follow(&self, clients: &[Client], limit: Duration) -> Result<(), LabError> {
        let truth = truth(&self.lab, &HELLOWORLD).await?;
        for client in clients {
            has_hosts(client, limit, &truth).await?;
        }
        Ok(())
    }
}

/// Waits until `client` has what `truth` says.
pub(super) async fn has_hosts(client: &Client, limit: Duration, truth: &Truth) -> Result<(), LabError> {
    let what = format!("{} has what the API servers say", client.pod.path());
    until(&what, limit, async || {
        let hosts = hosts_of(client).await.map_err(|error| error.to_string())?;
        truth.holds(&client.cluster.network, &hosts)
    })
    .await
}

/// What a client's Envoy has for the watched service.
pub(super) async fn hosts_of(client: &Client) -> Result<Hosts, LabError> {
    client.pod.admin().hosts(&HELLOWORLD.envoy_cluster()).await
}

/// `took`, if it is within the promise.
pub(super) fn in_time(what: &str, took: Duration, limit: Duration) -> Seen {
    if took > limit {
        return Err(wrong(format!("{what} within {limit:?}"), format!("{} ms", took.as_millis())));
    }
    Ok(format!("{what} within {} ms", took.as_millis()))
}
