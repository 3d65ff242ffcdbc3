//! The lab's small controller: runs as many `helloworld` pods as asked, through the cluster's API server.

use std::time::Duration;

use futures::future::try_join_all;
use serde_json::json;

use super::api::{Collection, endpoints_of};
use super::plan::{ClusterPlan, PodPlan, Role, SERVICES};
use super::pod::OpenPod;
use super::wait::until_every;
use super::world::{self, Readiness};
use super::{Lab, LabError};

/// How long proxies may take to forget a pod before it goes regardless.
const FORGET_LIMIT: Duration = Duration::from_secs(10);
const FORGET_PAUSE: Duration = Duration::from_millis(50);

impl Lab {
    /// Runs `count` `helloworld` pods in `cluster`. New ones become endpoints once their sidecars are live;
    /// leaving ones stop being endpoints first, then finish what they have.
    ///
    /// # Errors
    /// [`LabError`]; the cluster is then somewhere in between.
    pub async fn scale(&mut self, cluster: &str, count: usize) -> Result<(), LabError> {
        self.prepare(cluster, count).await?;
        self.announce(cluster, count).await?;
        self.retire(cluster, count).await
    }

    /// First step: starts what is missing of the first `count` pods and waits until they could serve.
    pub(super) async fn prepare(&mut self, cluster: &str, count: usize) -> Result<(), LabError> {
        let plan = self.cluster_plan(cluster)?;
        let missing: Vec<PodPlan> = plan
            .helloworld
            .iter()
            .take(count)
            .filter(|pod| !self.pods.contains_key(&pod.path()))
            .cloned()
            .collect();
        let api = self.cluster(cluster)?.api().clone();
        for pod in &missing {
            // The proxy's identity comes from the Pod object, so that it exists before its proxy connects.
            let object = world::pod_object(&plan, pod, Readiness::NotReady);
            api.create(Collection::Pods, &object).await?;
            api.patch_status(Collection::Pods, &pod.name, &json!({"status": object["status"]})).await?;
        }
        // As the real controller does: a pod is an endpoint from the start, ready or not; its sidecar learns from
        // that which ports are its own.
        let ready = plan.helloworld.iter().filter(|pod| self.pods.contains_key(&pod.path()));
        let ready = ready.map(|pod| (pod, Readiness::Ready));
        let endpoints: Vec<_> = ready.chain(missing.iter().map(|pod| (pod, Readiness::NotReady))).collect();
        self.write_endpoints(&plan, &endpoints).await?;
        let started = missing.iter().map(async |pod| {
            let mut running = OpenPod::open(&self.pod_setup, &plan, pod, self.next_number())
                .await?
                .start_envoy(&self.pod_setup)?;
            running.live().await?;
            Ok::<_, LabError>(running)
        });
        for running in try_join_all(started).await? {
            let object = world::pod_object(&plan, running.plan(), Readiness::Ready);
            let status = json!({"status": object["status"]});
            api.patch_status(Collection::Pods, &running.plan().name, &status).await?;
            self.adopt(running)?;
        }
        Ok(())
    }

    /// Second step: makes the first `count` pods the endpoints of the Services.
    pub(super) async fn announce(&self, cluster: &str, count: usize) -> Result<(), LabError> {
        let plan = self.cluster_plan(cluster)?;
        let pods: Vec<_> = plan.helloworld.iter().take(count).map(|pod| (pod, Readiness::Ready)).collect();
        self.write_endpoints(&plan, &pods).await
    }

    async fn write_endpoints(
        &self,
        plan: &ClusterPlan,
        pods: &[(&PodPlan, Readiness)],
    ) -> Result<(), LabError> {
        let api = self.cluster(plan.name)?.api();
        for service in &SERVICES {
            let slice = world::app_slice(plan, service, pods);
            api.patch(Collection::EndpointSlices, &world::slice_name(service), &endpoints_of(&slice)).await?;
        }
        Ok(())
    }

    /// Third step: stops the pods beyond the first `count`, once no proxy of their network sends to them.
    pub(super) async fn retire(&mut self, cluster: &str, count: usize) -> Result<(), LabError> {
        let plan = self.cluster_plan(cluster)?;
        let leaving: Vec<PodPlan> = plan
            .helloworld
            .iter()
            .skip(count)
            .filter(|pod| self.pods.contains_key(&pod.path()))
            .cloned()
            .collect();
        if leaving.is_empty() {
            return Ok(());
        }
        self.forgotten(&plan, &leaving).await?;
        let api = self.cluster(cluster)?.api().clone();
        let pods: Vec<_> = leaving.iter().filter_map(|pod| self.release(pod)).collect();
        futures::future::join_all(pods.into_iter().map(|pod| pod.drain())).await;
        for pod in &leaving {
            api.delete(Collection::Pods, &pod.name).await?;
        }
        Ok(())
    }

    /// Waits until the client and the gateway of `plan`'s network have no host at the `leaving` pods.
    async fn forgotten(&self, plan: &ClusterPlan, leaving: &[PodPlan]) -> Result<(), LabError> {
        let what = format!("proxies of {} forgetting {}", plan.network, leaving[0].path());
        until_every(&what, FORGET_LIMIT, FORGET_PAUSE, async || {
            for pod in self.pods.values().filter(|pod| pod.plan().cluster == plan.name) {
                if matches!(pod.plan().role, Role::Helloworld(_)) {
                    continue;
                }
                let clusters = pod.admin().clusters().await.map_err(|error| error.to_string())?;
                let stale = clusters
                    .values()
                    .flat_map(|hosts| hosts.keys())
                    .find(|host| leaving.iter().any(|gone| host.starts_with(&format!("{}:", gone.address))));
                if let Some(host) = stale {
                    return Err(format!("{} still has {host}", pod.plan().path()));
                }
            }
            Ok(())
        })
        .await
    }
}
