//! The node agent of one cluster: runs the Pods that are bound to the lab's node, and says how they are.
//!
//! It knows nothing but what the cluster's API server tells it. A pod becomes ready only once its sidecar is
//! live and knows the ports it serves (D37), is not ready as long as one of its processes is dead, and leaves
//! without losing a request.

mod addresses;
mod life;
mod services;
mod status;
mod workload;

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::runtime::watcher::{self, Event, watcher};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

pub use self::addresses::Addresses;
use self::addresses::Pool;
use self::life::{Life, Wish};
use self::services::Services;
pub(super) use self::status::now;
pub use self::workload::{Container, Proxy, Role, Workload};
use super::LabError;
use super::api::ApiClient;
use super::plan::ClusterPlan;
use super::site::Site;

/// Between a watch that failed and the next one.
const WATCH_PAUSE: Duration = Duration::from_millis(500);

/// A running node agent. Dropping it ends its work; its pods' processes live on until their lab ends them.
#[derive(Debug)]
pub(super) struct Kubelet {
    tasks: [JoinHandle<()>; 2],
}

/// What a node agent works with.
#[derive(Debug)]
pub(super) struct Agent {
    site: Arc<Site>,
    cluster: ClusterPlan,
    api: ApiClient,
    pool: Pool,
    services: Services,
    /// True once Envoys find their control plane.
    gate: watch::Receiver<bool>,
}

impl Kubelet {
    /// Starts to follow the API server. Envoys wait until `gate` is true.
    pub(super) fn start(
        site: &Arc<Site>,
        cluster: &ClusterPlan,
        api: &ApiClient,
        gate: watch::Receiver<bool>,
    ) -> Self {
        let agent = Arc::new(Agent {
            site: Arc::clone(site),
            cluster: cluster.clone(),
            api: api.clone(),
            pool: Pool::new(cluster),
            services: Services::default(),
            gate,
        });
        let services = tokio::spawn(services::follow(Arc::clone(&agent)));
        Self { tasks: [services, tokio::spawn(follow(agent))] }
    }

    /// Ends its work and returns when nothing of it runs any more.
    pub(super) async fn stop(mut self) {
        for task in &mut self.tasks {
            task.abort();
            // Cancelled, as was just asked for.
            let _ = task.await;
        }
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Follows the Pods and gives each a life of its own.
async fn follow(agent: Arc<Agent>) {
    let mut events = pin!(watcher(Api::<Pod>::all(agent.api.kube()), watcher::Config::default()));
    let mut lives = Lives::default();
    loop {
        // Unbiased: neither can starve the other.
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(event)) => lives.take(&agent, event),
                // The API server is away; it will be back, or the lab ends.
                Some(Err(_)) => tokio::time::sleep(WATCH_PAUSE).await,
                None => return,
            },
            Some(ended) = lives.tasks.join_next() => lives.bury(&agent, ended),
        }
    }
}

/// The lives of a node's pods, by object identity.
#[derive(Debug, Default)]
struct Lives {
    wishes: HashMap<String, watch::Sender<Wish>>,
    tasks: JoinSet<String>,
    listed: HashSet<String>,
}

impl Lives {
    fn take(&mut self, agent: &Arc<Agent>, event: Event<Pod>) {
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(pod) => {
                self.listed.extend(pod.metadata.uid.clone());
                self.apply(agent, pod);
            }
            Event::InitDone => {
                let gone: Vec<String> =
                    self.wishes.keys().filter(|uid| !self.listed.contains(*uid)).cloned().collect();
                gone.iter().for_each(|uid| self.wish(uid, Wish::Gone));
            }
            Event::Apply(pod) => self.apply(agent, pod),
            Event::Delete(pod) => self.wish(&pod.metadata.uid.unwrap_or_default(), Wish::Gone),
        }
    }

    fn apply(&mut self, agent: &Arc<Agent>, pod: Pod) {
        let Some(uid) = pod.metadata.uid.clone() else { return };
        let wish = if pod.metadata.deletion_timestamp.is_some() { Wish::Leave } else { Wish::Run };
        if self.wishes.contains_key(&uid) {
            return self.wish(&uid, wish);
        }
        let here = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        if here != Some(&agent.cluster.node_name()) {
            return;
        }
        let sidecars = agent.site.plan.shape.sidecars;
        let Some(workload) = Workload::of(&agent.cluster, &pod, sidecars) else { return };
        let (sender, receiver) = watch::channel(wish);
        self.wishes.insert(uid.clone(), sender);
        let life = Life::new(Arc::clone(agent), pod, workload, receiver);
        self.tasks.spawn(async move {
            life.run().await;
            uid
        });
    }

    fn wish(&self, uid: &str, wish: Wish) {
        if let Some(sender) = self.wishes.get(uid) {
            sender.send_replace(wish);
        }
    }

    fn bury(&mut self, agent: &Agent, ended: Result<String, tokio::task::JoinError>) {
        match ended {
            Ok(uid) => {
                self.wishes.remove(&uid);
            }
            Err(error) => agent.site.say(&format!("node agent of {}: {error}", agent.cluster.name)),
        }
    }
}

/// Whether a request that failed is worth another try: the server was away, or will change its mind.
fn is_passing(error: &LabError) -> bool {
    match error {
        LabError::Refused { code, .. } => *code == 409 || *code == 429 || *code >= 500,
        _ => true,
    }
}

/// What a first pod of `cluster` would be and where.
#[cfg(test)]
pub(super) fn workload_for_tests(cluster: &ClusterPlan, pod: &Pod) -> (Workload, Addresses) {
    let workload = Workload::of(cluster, pod, super::plan::Sidecars::Captured).expect("a pod with a name");
    let addresses = Pool::new(cluster).take(workload.proxy).expect("a first address");
    (workload, addresses)
}
