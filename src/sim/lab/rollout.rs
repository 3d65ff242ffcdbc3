//! Waiting until what objects ask for is there.

use std::time::Duration;

use serde_json::Value;

use super::cluster::Cluster;
use super::wait::until_every;
use super::{Lab, LabError};

/// How long all pods of a lab may take on a small machine under load.
const LIMIT: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(100);

impl Lab {
    /// Waits until each Deployment has as many ready pods as it asks for, and no others.
    ///
    /// # Errors
    /// [`LabError::Deadline`] naming a Deployment that has not.
    pub async fn rolled_out(&self) -> Result<(), LabError> {
        for cluster in &self.clusters {
            let what = format!("all pods of {} ready", cluster.plan().name);
            until_every(&what, LIMIT, PAUSE, async || {
                let unfinished = self.unfinished(cluster).await.map_err(|error| error.to_string())?;
                unfinished.map_or(Ok(()), Err)
            })
            .await?;
        }
        Ok(())
    }

    /// What is still to come, if anything is.
    async fn unfinished(&self, cluster: &Cluster) -> Result<Option<String>, LabError> {
        let pods = cluster.api().list(("Pod", "", "")).await?;
        for deployment in cluster.api().list(("Deployment", "", "")).await? {
            let (namespace, name) = (&deployment["metadata"]["namespace"], &deployment["metadata"]["name"]);
            let wanted = deployment["spec"]["replicas"].as_u64().unwrap_or(1);
            let labels = &deployment["spec"]["selector"]["matchLabels"];
            let own: Vec<&Value> = pods
                .iter()
                .filter(|pod| pod["metadata"]["namespace"] == *namespace && has_labels(pod, labels))
                .collect();
            let ready = own.iter().filter(|pod| is_ready(pod)).count();
            if u64::try_from(ready).ok() != Some(wanted) || own.len() != ready {
                let problem =
                    own.iter().find_map(|pod| pod["status"]["message"].as_str()).unwrap_or_default();
                let name = name.as_str().unwrap_or("?");
                return Ok(Some(format!(
                    "{name} has {ready} ready pods of {wanted}, {} in all {problem}",
                    own.len()
                )));
            }
        }
        Ok(None)
    }
}

fn has_labels(pod: &Value, wanted: &Value) -> bool {
    let labels = &pod["metadata"]["labels"];
    wanted.as_object().is_some_and(|wanted| wanted.iter().all(|(key, value)| labels[key] == *value))
}

/// Whether a Pod object says that it is ready.
pub(super) fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().map_or(&[][..], Vec::as_slice);
    conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}
