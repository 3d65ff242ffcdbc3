//! What a Pod's status says. Pure.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

/// What is known of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ContainerState {
    /// Its name.
    pub(super) name: String,
    /// Its image.
    pub(super) image: String,
    /// How often one of its processes was started again.
    pub(super) restarts: u32,
    /// RFC 3339; none while one of its processes is dead.
    pub(super) started_at: Option<String>,
}

/// What is known of one pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PodState {
    /// Its address; none before it has one.
    pub(super) address: Option<Ipv4Addr>,
    /// Its node's address.
    pub(super) host: Ipv4Addr,
    /// RFC 3339: since when the kubelet has it.
    pub(super) since: String,
    /// RFC 3339: since when it is ready, or is not.
    pub(super) changed: String,
    /// Whether traffic may be sent to it.
    pub(super) ready: bool,
    /// Why it cannot run at all, if so.
    pub(super) problem: Option<String>,
    /// Its containers, in the order of the spec.
    pub(super) containers: Vec<ContainerState>,
}

impl PodState {
    /// As a merge patch of the object's status.
    pub(super) fn patch(&self) -> Value {
        let running = self.containers.iter().all(|container| container.started_at.is_some());
        let ready = self.ready && running;
        let address = self.address.map(|address| address.to_string());
        json!({"status": {
            "phase": if self.address.is_some() { "Running" } else { "Pending" },
            "message": self.problem,
            "hostIP": self.host.to_string(),
            "hostIPs": [{"ip": self.host.to_string()}],
            "podIP": address,
            "podIPs": address.iter().map(|ip| json!({"ip": ip})).collect::<Vec<_>>(),
            "startTime": self.since,
            "conditions": [
                condition("Initialized", true, &self.since),
                condition("Ready", ready, &self.changed),
                condition("ContainersReady", ready, &self.changed),
                condition("PodScheduled", true, &self.since),
            ],
            "containerStatuses": self.containers.iter().map(|one| one.status(ready)).collect::<Vec<_>>(),
        }})
    }
}

impl ContainerState {
    fn status(&self, ready: bool) -> Value {
        let state = match &self.started_at {
            Some(time) => json!({"running": {"startedAt": time}}),
            None if self.restarts == 0 => json!({"waiting": {"reason": "ContainerCreating"}}),
            None => json!({"waiting": {"reason": "CrashLoopBackOff"}}),
        };
        json!({
            "name": self.name,
            "image": self.image,
            "imageID": "",
            "ready": ready,
            "started": self.started_at.is_some(),
            "restartCount": self.restarts,
            "state": state,
        })
    }
}

fn condition(kind: &str, holds: bool, since: &str) -> Value {
    let status = if holds { "True" } else { "False" };
    json!({"type": kind, "status": status, "lastTransitionTime": since})
}

/// The time now, as objects carry it.
pub(in crate::sim::lab) fn now() -> String {
    jiff::Timestamp::from_second(jiff::Timestamp::now().as_second())
        .unwrap_or(jiff::Timestamp::UNIX_EPOCH)
        .to_string()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::PodStatus;

    use super::*;

    fn state(ready: bool, started_at: Option<&str>) -> PodState {
        PodState {
            address: Some(Ipv4Addr::new(10, 10, 16, 1)),
            host: Ipv4Addr::new(10, 10, 0, 9),
            since: now(),
            changed: now(),
            ready,
            problem: None,
            containers: vec![ContainerState {
                name: "app".to_owned(),
                image: "tombolo".to_owned(),
                restarts: 1,
                started_at: started_at.map(str::to_owned),
            }],
        }
    }

    fn status(state: &PodState) -> PodStatus {
        serde_json::from_value(state.patch()["status"].take()).unwrap()
    }

    #[test]
    fn a_ready_pod_says_so_in_every_place_clients_look() {
        let status = status(&state(true, Some(&now())));
        assert_eq!(status.phase.as_deref(), Some("Running"));
        let conditions = status.conditions.unwrap();
        assert_eq!(conditions.len(), 4);
        assert!(conditions.iter().all(|condition| condition.status == "True"));
        let container = &status.container_statuses.unwrap()[0];
        assert!(container.ready && container.restart_count == 1);
    }

    #[test]
    fn a_dead_container_makes_its_pod_unready() {
        let status = status(&state(true, None));
        let ready = status.conditions.unwrap().into_iter().find(|c| c.type_ == "Ready").unwrap();
        assert_eq!(ready.status, "False");
        let container = status.container_statuses.unwrap().remove(0);
        assert!(!container.ready);
        let waiting = container.state.unwrap().waiting.unwrap();
        assert_eq!(waiting.reason.as_deref(), Some("CrashLoopBackOff"));
    }
}
