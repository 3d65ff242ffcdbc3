//! The Deployment controller: Deployments get pods directly, without ReplicaSets in between.
//!
//! Pods are named and labelled as if there were ReplicaSets, so that whoever looks at pods sees nothing
//! unusual. `kubectl rollout history` and `undo`, which read ReplicaSets, find none.

mod placement;
mod plan;
mod rollout;
mod status;
mod victims;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client};
use serde_json::json;

use self::plan::{Action, Input};
use self::status::Trouble;
use super::Caches;
use super::cache::{Cache, Change, Key};
use super::health::chain;
use super::names::NameMaker;
use super::pods;
use super::queue::{Outcome, WorkQueue};
use super::work::{Reconcile, WorkError, code};

/// Writes of one Deployment under way at once.
const PARALLEL_WRITES: usize = 16;
/// When to look again at what the cache has not caught up with.
const LATER: Duration = Duration::from_millis(500);

/// Makes and removes the pods of Deployments.
pub(super) struct DeploymentController {
    client: Client,
    caches: Arc<Caches>,
    names: Arc<NameMaker>,
    memory: Mutex<HashMap<Key, Memory>>,
}

/// What is remembered of a Deployment between two looks at it.
#[derive(Debug, Default, Clone)]
struct Memory {
    /// Uids of pods whose deletion was asked for and which do not show it yet.
    leaving: HashSet<String>,
    /// Why the last creation failed.
    failure: Option<Trouble>,
}

/// The Deployment that controls a pod.
fn deployment_of(pod: &Pod) -> Option<Key> {
    let owner = pods::controller_of(pod).filter(|owner| owner.kind == "Deployment")?;
    owner
        .api_version
        .starts_with("apps/")
        .then(|| Key::new(pod.metadata.namespace.clone().unwrap_or_default(), owner.name.clone()))
}

/// Which Deployments to look at after a change of a pod.
pub(super) fn on_pod(queue: &WorkQueue, change: &Change<Pod>) {
    let owners =
        [change.old.as_deref(), change.new.as_deref()].into_iter().flatten().filter_map(deployment_of);
    for key in owners {
        queue.add(key);
    }
}

/// Which Deployments to look at after a change of a node: all, if more or fewer pods may go there.
pub(super) fn on_node(deployments: &Cache<Deployment>, queue: &WorkQueue, change: &Change<Node>) {
    let matters = match (&change.old, &change.new) {
        (Some(old), Some(new)) => placement::differ(old, new),
        _ => true,
    };
    for deployment in matters.then(|| deployments.all()).into_iter().flatten() {
        queue.add(Key::of(deployment.as_ref()));
    }
}

fn uid_guard(pod: &Pod) -> DeleteParams {
    let preconditions = Preconditions { uid: pod.metadata.uid.clone(), resource_version: None };
    DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() }
}

impl DeploymentController {
    pub(super) fn new(client: Client, caches: Arc<Caches>, names: Arc<NameMaker>) -> Self {
        Self { client, caches, names, memory: Mutex::default() }
    }

    fn memory(&self) -> MutexGuard<'_, HashMap<Key, Memory>> {
        self.memory.lock().expect("no code panics while it holds the memory")
    }

    /// What is remembered, without pods that show by themselves that they go or are gone.
    fn recall(&self, key: &Key, there: &[Arc<Pod>]) -> Memory {
        let mut memories = self.memory();
        let memory = memories.entry(key.clone()).or_default();
        let shown: HashSet<&str> = there
            .iter()
            .filter(|pod| !pods::is_terminating(pod.as_ref()))
            .map(|pod| pods::uid(pod.as_ref()))
            .collect();
        memory.leaving.retain(|uid| shown.contains(uid.as_str()));
        memory.clone()
    }

    fn pods(&self, namespace: &str) -> Api<Pod> {
        Api::namespaced(self.client.clone(), namespace)
    }

    fn deployments(&self, namespace: &str) -> Api<Deployment> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Deletes pods whose Deployment is gone, or has another uid by now. The server is asked first: the cache
    /// may be behind.
    async fn collect(&self, key: &Key, orphans: &[&Arc<Pod>]) -> Result<Outcome, WorkError> {
        let owner = self.deployments(&key.namespace).get_opt(&key.name).await;
        let owner = owner.map_err(|error| WorkError::request("get", "Deployment", key, error))?;
        let owner = owner.as_ref().map(pods::uid);
        let mut outcome = Outcome::Done;
        for pod in orphans {
            let wanted = pods::controller_of(pod.as_ref()).map(|owner| owner.uid.as_str());
            if wanted == owner {
                outcome = Outcome::Again(LATER);
            } else {
                self.delete(key, pod).await?;
            }
        }
        Ok(outcome)
    }

    async fn follow(
        &self,
        key: &Key,
        deployment: &Deployment,
        pods: &[Arc<Pod>],
    ) -> Result<Outcome, WorkError> {
        let memory = self.recall(key, pods);
        let nodes = self.caches.nodes.all();
        let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default();
        let plan = plan::reconcile(&Input {
            deployment,
            pods,
            leaving: &memory.leaving,
            nodes: &nodes,
            failure: memory.failure.as_ref(),
            now,
        });
        let acted = self.act(key, deployment, plan.actions).await;
        if let Some(status) = plan.status {
            self.write_status(key, deployment, status).await?;
        }
        acted?;
        Ok(plan.again.map_or(Outcome::Done, Outcome::Again))
    }

    /// Takes the steps, many at once. One that fails does not keep others from being taken.
    async fn act(&self, key: &Key, deployment: &Deployment, actions: Vec<Action>) -> Result<(), WorkError> {
        let (finish, steps): (Vec<_>, Vec<_>) =
            actions.into_iter().partition(|action| matches!(action, Action::Finish(_)));
        for batch in [steps, finish] {
            let steps: Vec<_> = batch.into_iter().map(|action| self.step(key, deployment, action)).collect();
            let results: Vec<_> = stream::iter(steps).buffer_unordered(PARALLEL_WRITES).collect().await;
            results.into_iter().collect::<Result<(), _>>()?;
        }
        Ok(())
    }

    async fn step(&self, key: &Key, deployment: &Deployment, action: Action) -> Result<(), WorkError> {
        match action {
            Action::Create(pod) => self.create(key, *pod).await,
            Action::Delete(pod) => self.delete(key, &pod).await,
            Action::Release(pod) => self.release(&pod).await,
            Action::Finish(finalizer) => self.finish(key, deployment, finalizer).await,
        }
    }

    async fn create(&self, key: &Key, mut pod: Pod) -> Result<(), WorkError> {
        let prefix = pod.metadata.generate_name.clone().unwrap_or_default();
        pod.metadata.name = Some(self.names.name(&prefix));
        match self.pods(&key.namespace).create(&PostParams::default(), &pod).await {
            Ok(created) => {
                self.caches.pods.record(created);
                self.remember_failure(key, None);
                Ok(())
            }
            Err(error) => {
                let error = WorkError::request("create", "Pod", &Key::of(&pod), error);
                self.remember_failure(key, Some(Trouble { reason: "FailedCreate", message: chain(&error) }));
                Err(error)
            }
        }
    }

    fn remember_failure(&self, key: &Key, failure: Option<Trouble>) {
        self.memory().entry(key.clone()).or_default().failure = failure;
    }

    async fn delete(&self, key: &Key, pod: &Pod) -> Result<(), WorkError> {
        let (uid, pod_key) = (pods::uid(pod), Key::of(pod));
        self.memory().entry(key.clone()).or_default().leaving.insert(uid.to_owned());
        match self.pods(&pod_key.namespace).delete(&pod_key.name, &uid_guard(pod)).await {
            Ok(_) => Ok(()),
            // Gone, or another one by now.
            Err(error) if matches!(code(&error), 404 | 409) => {
                self.caches.pods.forget(&pod_key);
                Ok(())
            }
            Err(error) => {
                if let Some(memory) = self.memory().get_mut(key) {
                    memory.leaving.remove(uid);
                }
                Err(WorkError::request("delete", "Pod", &pod_key, error))
            }
        }
    }

    async fn release(&self, pod: &Pod) -> Result<(), WorkError> {
        let key = Key::of(pod);
        let owners = pod.metadata.owner_references.iter().flatten();
        let others: Vec<_> = owners.filter(|owner| owner.controller != Some(true)).collect();
        let patch = json!({"metadata": {
            "uid": pod.metadata.uid, "resourceVersion": pod.metadata.resource_version, "ownerReferences": others,
        }});
        let released =
            self.pods(&key.namespace).patch(&key.name, &PatchParams::default(), &Patch::Merge(&patch)).await;
        let released = released.map_err(|error| WorkError::request("release", "Pod", &key, error))?;
        self.caches.pods.record(released);
        Ok(())
    }

    async fn finish(&self, key: &Key, deployment: &Deployment, finalizer: &str) -> Result<(), WorkError> {
        let held = deployment.metadata.finalizers.iter().flatten();
        let left: Vec<_> = held.filter(|held| held.as_str() != finalizer).collect();
        let version = &deployment.metadata.resource_version;
        let patch = json!({"metadata": {"resourceVersion": version, "finalizers": left}});
        let api = self.deployments(&key.namespace);
        match api.patch(&key.name, &PatchParams::default(), &Patch::Merge(&patch)).await {
            Ok(_) => Ok(()),
            Err(error) if code(&error) == 404 => Ok(()),
            Err(error) => Err(WorkError::request("finish the deletion of", "Deployment", key, error)),
        }
    }

    /// Writes the status if it says something else than before.
    async fn write_status(
        &self,
        key: &Key,
        deployment: &Deployment,
        status: DeploymentStatus,
    ) -> Result<(), WorkError> {
        if deployment.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let mut next = deployment.clone();
        next.status = Some(status);
        match self.deployments(&key.namespace).replace_status(&key.name, &PostParams::default(), &next).await
        {
            Ok(written) => {
                self.caches.deployments.record(written);
                Ok(())
            }
            // Deleted meanwhile: the watch will say so.
            Err(error) if code(&error) == 404 => Ok(()),
            Err(error) => Err(WorkError::request("update the status of", "Deployment", key, error)),
        }
    }
}

impl Reconcile for DeploymentController {
    const KIND: &'static str = "Deployment";

    async fn ready(&self) {
        self.caches.deployments.synced().await;
        self.caches.pods.synced().await;
        self.caches.nodes.synced().await;
    }

    async fn reconcile(&self, key: &Key) -> Result<Outcome, WorkError> {
        let deployment = self.caches.deployments.get(key);
        let uid = deployment.as_deref().map(pods::uid);
        let owned =
            self.caches.pods.in_namespace(&key.namespace, |pod| deployment_of(pod).as_ref() == Some(key));
        let is_ours =
            |pod: &Arc<Pod>| pods::controller_of(pod.as_ref()).map(|owner| owner.uid.as_str()) == uid;
        let (ours, foreign): (Vec<_>, Vec<_>) = owned.into_iter().partition(is_ours);
        let leaving = self.recall(key, &[ours.as_slice(), foreign.as_slice()].concat()).leaving;
        let stays = |pod: &&Arc<Pod>| {
            !pods::is_terminating(pod.as_ref()) && !leaving.contains(pods::uid(pod.as_ref()))
        };
        let orphans: Vec<&Arc<Pod>> = foreign.iter().filter(stays).collect();
        let collected = if orphans.is_empty() { Outcome::Done } else { self.collect(key, &orphans).await? };
        match deployment {
            Some(deployment) => match self.follow(key, &deployment, &ours).await? {
                Outcome::Done => Ok(collected),
                outcome => Ok(outcome),
            },
            None => {
                if foreign.is_empty() {
                    self.memory().remove(key);
                }
                Ok(collected)
            }
        }
    }
}
