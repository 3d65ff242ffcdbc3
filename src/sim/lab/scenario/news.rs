//! Proof that changes arrive: a Service created now reaches every client.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::super::kubelet::Role;
use super::super::plan::{ClusterPlan, HELLOWORLD, NAMESPACE};
use super::super::pod::RunningPod;
use super::super::wait::until_every;
use super::super::{Lab, LabError};
use super::Seen;
use super::stage::Stage;

/// Port of the Service.
const PORT: u16 = 80;
/// Looking costs a process each time.
const PAUSE: Duration = Duration::from_millis(50);

/// A Service that was created, and when.
pub(super) struct News {
    cluster: String,
    name: String,
    created: Instant,
}

/// Creates Service `name` in `cluster`, with an endpoint of its application. Both objects go with the scenario.
pub(super) async fn create(stage: &Stage, cluster: &ClusterPlan, name: &str) -> Result<News, LabError> {
    let (service, slice) = objects(&stage.lab, cluster, name)?;
    let (of, called) = (cluster.name.clone(), name.to_owned());
    stage.undo_by(format!("Service {name} of {of} is deleted"), move |lab| async move {
        let api = lab.cluster(&of)?.api();
        api.delete(("Service", NAMESPACE, called.as_str())).await?;
        api.delete(("EndpointSlice", NAMESPACE, called.as_str())).await
    });
    let api = stage.lab.cluster(&cluster.name)?.api();
    let created = Instant::now();
    api.create(&service).await?;
    api.create(&slice).await?;
    stage.done(format!("Service {name} is created in {}", cluster.name));
    Ok(News { cluster: cluster.name.clone(), name: name.to_owned(), created })
}

impl News {
    /// Waits until every client has it.
    pub(super) async fn arrived(&self, stage: &Stage, limit: Duration) -> Seen {
        let Self { cluster, name, created } = self;
        let envoy_cluster = format!("outbound|{PORT}||{name}.{NAMESPACE}.svc.cluster.local");
        for client in &stage.clients {
            let what = format!("{} knows Service {name} of {cluster}", client.pod.path());
            until_every(&what, limit, PAUSE, async || {
                let hosts =
                    client.pod.admin().hosts(&envoy_cluster).await.map_err(|error| error.to_string())?;
                if hosts.is_empty() { Err("it does not".to_owned()) } else { Ok(()) }
            })
            .await?;
        }
        Ok(format!(
            "Service {name} of {cluster} reached every client within {} ms",
            created.elapsed().as_millis()
        ))
    }
}

/// Creates Service `name` in `cluster` and waits until every client has it.
pub(super) async fn spread(stage: &Stage, cluster: &ClusterPlan, name: &str, limit: Duration) -> Seen {
    create(stage, cluster, name).await?.arrived(stage, limit).await
}

/// A Service without selector, so that its endpoints are ours, and these: a running pod of the application.
fn objects(lab: &Lab, cluster: &ClusterPlan, name: &str) -> Result<(Value, Value), LabError> {
    let pods = lab.pods();
    let is_app = |pod: &RunningPod| pod.role() == Role::App && pod.namespace() == NAMESPACE && pod.is_ready();
    let pod = pods.iter().find(|pod| pod.cluster() == cluster.name && is_app(pod));
    let pod = pod.ok_or_else(|| LabError::Missing {
        what: format!("{} runs no pod of {}", cluster.name, HELLOWORLD.name),
        hint: "scale its Deployment up".to_owned(),
    })?;
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"ports": [{"name": "http", "protocol": "TCP", "port": PORT, "targetPort": HELLOWORLD.port}]},
    });
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {
            "kubernetes.io/service-name": name,
            "endpointslice.kubernetes.io/managed-by": "scenario.tombolo.dev",
        }},
        "addressType": "IPv4",
        "ports": [{"name": "http", "protocol": "TCP", "port": HELLOWORLD.port}],
        "endpoints": [{
            "addresses": [pod.address().to_string()],
            "conditions": {"ready": true, "serving": true, "terminating": false},
            "nodeName": cluster.node_name(),
            "targetRef": {"kind": "Pod", "name": pod.name(), "namespace": NAMESPACE},
        }],
    });
    Ok((service, slice))
}
