//! The life of one pod, from its binding to the node to the end of its object.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::addresses::Addresses;
use super::status::{ContainerState, PodState, now};
use super::{Agent, Workload, is_passing};
use crate::sim::lab::LabError;
use crate::sim::lab::pod::{Health, RunningPod, hosts_file, remove_files};
use crate::sim::lab::wait::Patience;

/// Between two looks at the processes of a pod.
const LOOK: Duration = Duration::from_millis(100);
/// Between two looks at the sidecar of a pod that is ready; each costs a process.
const PROBE: Duration = Duration::from_secs(2);
/// How many looks in a row must fail before a pod with all its processes is not ready any more.
const MISSES: u32 = 3;
/// Between two tries to tell the API server something.
const RETRY: Duration = Duration::from_millis(300);
/// How long proxies may take to forget a pod before it goes regardless.
const FORGET_LIMIT: Duration = Duration::from_secs(20);
const FORGET_PAUSE: Duration = Duration::from_millis(50);

/// What is to become of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// It runs.
    Run,
    /// Its object is being deleted.
    Leave,
    /// Its object is gone.
    Gone,
}

/// What an API server is told about a pod.
enum Message {
    /// A merge patch of the object.
    Object(Value),
    /// Nothing of it runs any more.
    End,
}

/// One pod's life.
pub(super) struct Life {
    agent: Arc<Agent>,
    object: Pod,
    workload: Workload,
    wish: watch::Receiver<Wish>,
    state: PodState,
    reported: Option<Value>,
}

impl Life {
    pub(super) fn new(
        agent: Arc<Agent>,
        object: Pod,
        workload: Workload,
        wish: watch::Receiver<Wish>,
    ) -> Self {
        let containers = workload.containers.iter().map(|container| ContainerState {
            name: container.name.clone(),
            image: container.image.clone(),
            restarts: 0,
            started_at: None,
        });
        let state = PodState {
            address: None,
            host: agent.cluster.node_address(),
            since: now(),
            changed: now(),
            ready: false,
            problem: None,
            containers: containers.collect(),
        };
        Self { agent, object, workload, wish, state, reported: None }
    }

    /// Runs the pod until its object is gone.
    pub(super) async fn run(mut self) {
        let mut addresses = None;
        if let Err(error) = self.exist(&mut addresses).await {
            self.fail(&error).await;
        }
        if let Some(addresses) = addresses {
            self.agent.pool.give_back(&addresses);
        }
        if self.wished() != Wish::Gone {
            self.delete_object().await;
        }
    }

    fn wished(&self) -> Wish {
        *self.wish.borrow()
    }

    async fn exist(&mut self, addresses: &mut Option<Addresses>) -> Result<(), LabError> {
        if self.wished() != Wish::Run {
            return Ok(());
        }
        self.label().await?;
        let taken = self.agent.pool.take(self.workload.proxy).ok_or_else(|| LabError::Missing {
            what: format!("no address of {} is free", self.agent.cluster.name),
            hint: "scale something down".to_owned(),
        })?;
        *addresses = Some(taken);
        let (site, cluster) = (&self.agent.site, &self.agent.cluster);
        let hosts = hosts_file(site, &self.workload);
        let text = self.agent.services.hosts(&self.workload, &taken);
        std::fs::write(&hosts, text).map_err(LabError::file("write", &hosts))?;
        let pod = Arc::new(RunningPod::open(site, cluster, self.workload.clone(), taken).await?);
        site.adopt(Arc::clone(&pod))?;
        let outcome = self.serve(&pod).await;
        pod.set_leaving();
        if outcome.is_ok() {
            self.leave(&pod).await;
        }
        pod.kill().await;
        remove_files(&self.agent.site, &self.workload);
        self.agent.site.release(&pod)?;
        outcome
    }

    /// Adds the labels of an injected sidecar, as the admission of a real cluster does before.
    async fn label(&self) -> Result<(), LabError> {
        let missing = self.workload.missing_labels(&self.object);
        if missing.is_empty() {
            return Ok(());
        }
        let patch = json!({"metadata": {"labels": missing}});
        self.tell(&Message::Object(patch)).await
    }

    /// Runs its processes and reports how it is, until it is to leave.
    async fn serve(&mut self, pod: &RunningPod) -> Result<(), LabError> {
        self.state.address = Some(pod.address());
        self.note(&pod.tend(&self.agent.site), false);
        self.report().await?;
        let mut gate = self.agent.gate.clone();
        // Unbiased: a pod that is to leave needs no Envoy any more; it is asked again below.
        tokio::select! {
            _ = gate.wait_for(|open| *open) => pod.start_envoy(&self.agent.site)?,
            _ = self.wish.wait_for(|wish| *wish != Wish::Run) => {}
        }
        let mut probed: Option<Instant> = None;
        let mut misses = 0;
        while self.wished() == Wish::Run {
            let health = pod.tend(&self.agent.site);
            let alive = health.iter().all(|one| one.started_at.is_some());
            let due = !self.state.ready || probed.is_none_or(|last| last.elapsed() >= PROBE);
            if !alive || due {
                misses = if alive && self.probe(pod).await { 0 } else { misses + 1 };
                // A sidecar that was live may be slow for a moment; a process that is gone is gone.
                let ready = alive && (misses == 0 || (self.state.ready && misses < MISSES));
                probed = Some(Instant::now());
                pod.set_ready(ready);
                self.note(&health, ready);
            }
            self.report().await?;
            // Unbiased: both lead to another look.
            tokio::select! {
                _ = self.wish.changed() => {}
                () = sleep(LOOK) => {}
            }
        }
        Ok(())
    }

    /// Whether traffic may be sent to it: its sidecar is live and, before it is ready for the first time, knows
    /// the ports it serves.
    async fn probe(&self, pod: &RunningPod) -> bool {
        if !pod.has_envoy() {
            return true;
        }
        if pod.admin().live().await.is_err() {
            return false;
        }
        let ports = self.agent.services.ports_of(&self.workload);
        if self.state.ready || ports.is_empty() {
            return true;
        }
        let Ok(clusters) = pod.admin().clusters().await else { return false };
        ports.iter().all(|port| clusters.contains_key(&format!("inbound|{port}||")))
    }

    fn note(&mut self, health: &[Health], ready: bool) {
        if self.state.ready != ready {
            self.state.ready = ready;
            self.state.changed = now();
        }
        for container in &mut self.state.containers {
            let own: Vec<&Health> = health.iter().filter(|one| one.container == container.name).collect();
            container.restarts = own.iter().map(|one| one.restarts).sum();
            let running = own.iter().all(|one| one.started_at.is_some());
            let latest = own.iter().filter_map(|one| one.started_at.clone()).max();
            container.started_at = running.then(|| latest.unwrap_or_else(|| self.state.since.clone()));
        }
    }

    /// Tells the API server how the pod is, if that is new. While the server is away the next look tries again:
    /// processes are looked after all the same.
    async fn report(&mut self) -> Result<(), LabError> {
        let patch = self.state.patch();
        if self.reported.as_ref() == Some(&patch) {
            return Ok(());
        }
        match self.agent.api.patch_status(self.place(), &patch).await {
            Ok(()) => self.reported = Some(patch),
            Err(error) if error.has_code(404) || is_passing(&error) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Repeats a request while the API server is away. An object that is gone needs none.
    async fn tell(&self, message: &Message) -> Result<(), LabError> {
        let api = &self.agent.api;
        loop {
            let told = match message {
                Message::Object(patch) => api.patch(self.place(), patch).await,
                Message::End => api.delete_now(self.place()).await,
            };
            match told {
                Ok(()) => return Ok(()),
                Err(error) if error.has_code(404) || self.wished() == Wish::Gone => return Ok(()),
                Err(error) if is_passing(&error) => sleep(RETRY).await,
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits until nobody sends to the pod any more, then lets it finish what it has.
    async fn leave(&self, pod: &RunningPod) {
        let what = format!("proxies of {} forgetting {}", self.agent.cluster.network, pod.path());
        let patience = Patience::new(&what, FORGET_LIMIT, FORGET_PAUSE);
        while let Err(seen) = self.forgotten(pod).await {
            if let Err(error) = patience.after(seen).await {
                self.agent.site.say(&format!("{error}; it goes regardless"));
                break;
            }
        }
        pod.drain().await;
    }

    /// Whether no proxy of its network that stays has a host at the pod's address.
    async fn forgotten(&self, leaving: &RunningPod) -> Result<(), String> {
        let plan = &self.agent.site.plan;
        let address = format!("{}:", leaving.address());
        for pod in self.agent.site.pods() {
            let near = plan.cluster(pod.cluster()).is_some_and(|c| c.network == self.agent.cluster.network);
            if !near || pod.is_leaving() || !pod.is_ready() || !pod.has_envoy() {
                continue;
            }
            // One whose Envoy does not answer sends nothing.
            let clusters = pod.admin().clusters().await.unwrap_or_default();
            let stale =
                clusters.values().flat_map(|hosts| hosts.keys()).find(|host| host.starts_with(&address));
            if let Some(host) = stale {
                return Err(format!("{} still has {host}", pod.path()));
            }
        }
        Ok(())
    }

    /// A pod that cannot run says so until somebody deletes it.
    async fn fail(&mut self, error: &LabError) {
        self.agent.site.say(&format!("pod {} cannot run: {error}", self.workload.path()));
        self.state.problem = Some(error.to_string());
        self.state.address = None;
        self.state.ready = false;
        // Nothing more can be done for it.
        let _ = self.report().await;
        // An error means that the node agent ends.
        let _ = self.wish.wait_for(|wish| *wish != Wish::Run).await;
    }

    async fn delete_object(&self) {
        let deleted = self.tell(&Message::End).await;
        if let Err(error) = deleted {
            self.agent.site.say(&format!("pod {} is gone, its object is not: {error}", self.workload.path()));
        }
    }

    fn place(&self) -> (&str, &str, &str) {
        ("Pod", &self.workload.namespace, &self.workload.name)
    }
}
