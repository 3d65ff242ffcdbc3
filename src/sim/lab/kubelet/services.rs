//! What a node does about Services: names for its pods, and load balancers.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use kube::runtime::watcher::{self, Event, watcher};
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval};

use super::{Addresses, Agent, WATCH_PAUSE, Workload};
use crate::sim::lab::LabError;
use crate::sim::lab::pod::{RunningPod, hosts_file};

/// Between two looks at the load balancers.
const BALANCE: Duration = Duration::from_millis(200);

/// The Services of a cluster, as last seen.
#[derive(Debug, Default)]
pub(super) struct Services(Mutex<BTreeMap<(String, String), Service>>);

impl Services {
    fn all(&self) -> BTreeMap<(String, String), Service> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn take(&self, event: Event<Service>, listed: &mut BTreeMap<(String, String), Service>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(service) => {
                listed.insert(key(&service), service);
            }
            Event::InitDone => *all = std::mem::take(listed),
            Event::Apply(service) => {
                all.insert(key(&service), service);
            }
            Event::Delete(service) => {
                all.remove(&key(&service));
            }
        }
    }

    /// The ports of `workload` that Services forward to.
    pub(super) fn ports_of(&self, workload: &Workload) -> Vec<u16> {
        workload.served_ports(self.all().values())
    }

    /// The `/etc/hosts` of a pod: its cluster's VIPs by the names its cluster's DNS would know.
    pub(super) fn hosts(&self, workload: &Workload, addresses: &Addresses) -> String {
        let mut hosts = format!("127.0.0.1 localhost\n{} {}\n", addresses.pod, workload.name);
        for ((namespace, name), service) in self.all() {
            let vip = service.spec.and_then(|spec| spec.cluster_ip).unwrap_or_default();
            // Headless Services have no VIP.
            if vip.parse::<std::net::IpAddr>().is_err() {
                continue;
            }
            let long = format!("{name}.{namespace}");
            let _ = writeln!(hosts, "{vip} {long} {long}.svc {long}.svc.cluster.local");
            if namespace == workload.namespace {
                let _ = writeln!(hosts, "{vip} {name}");
            }
        }
        hosts
    }
}

fn key(service: &Service) -> (String, String) {
    let metadata = &service.metadata;
    (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}

/// Follows the Services: rewrites the pods' names, gives load balancers their addresses.
pub(super) async fn follow(agent: Arc<Agent>) {
    let mut events = pin!(watcher(Api::<Service>::all(agent.api.kube()), watcher::Config::default()));
    let mut listed = BTreeMap::new();
    let mut ticks = interval(BALANCE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        // Unbiased: neither can starve the other.
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(event)) => {
                    agent.services.take(event, &mut listed);
                    rewrite_hosts(&agent);
                }
                // The API server is away; it will be back, or the lab ends.
                Some(Err(_)) => tokio::time::sleep(WATCH_PAUSE).await,
                None => return,
            },
            // A write that fails is tried again at the next look.
            _ = ticks.tick() => { let _ = balance(&agent).await; }
        }
    }
}

fn rewrite_hosts(agent: &Agent) {
    for pod in agent.site.pods().iter().filter(|pod| pod.cluster() == agent.cluster.name) {
        let path = hosts_file(&agent.site, pod.workload());
        let text = agent.services.hosts(pod.workload(), pod.addresses());
        // In place: the file is mounted over the pod's.
        if let Err(error) = std::fs::write(&path, text) {
            agent.site.say(&LabError::file("write", &path)(error).to_string());
        }
    }
}

/// A Service of type LoadBalancer gets the outer address of its first ready gateway pod, and keeps it as long as
/// that pod exists: a load balancer's address does not change because its backend is unwell.
async fn balance(agent: &Agent) -> Result<(), LabError> {
    for ((namespace, name), service) in agent.services.all() {
        let Some(address) = new_ingress(&service, &agent.site.pods(), &agent.cluster.name) else { continue };
        let status = json!({"status": {"loadBalancer": {"ingress": [{"ip": address}]}}});
        let place = ("Service", namespace.as_str(), name.as_str());
        agent.api.patch_status(place, &status).await?;
    }
    Ok(())
}

/// The address a load balancer is to have instead of what it has.
fn new_ingress(service: &Service, pods: &[Arc<RunningPod>], cluster: &str) -> Option<String> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() != Some("LoadBalancer") {
        return None;
    }
    let behind: Vec<_> = pods
        .iter()
        .filter(|pod| pod.cluster() == cluster && pod.workload().is_selected_by(service) && !pod.is_leaving())
        .filter_map(|pod| Some((pod, pod.outer_address()?.to_string())))
        .collect();
    let present = service.status.as_ref().and_then(|status| status.load_balancer.as_ref()?.ingress.as_ref());
    let mut present = present.into_iter().flatten().filter_map(|ingress| ingress.ip.as_ref());
    if present.any(|ip| behind.iter().any(|(_, outer)| outer == ip)) {
        return None;
    }
    behind.into_iter().find(|(pod, _)| pod.is_ready()).map(|(_, outer)| outer)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::addresses::Pool;
    use super::super::workload::Proxy;
    use super::*;
    use crate::sim::lab::plan::{Plan, Range, Shape, Sidecars};

    fn service(namespace: &str, name: &str, vip: &str) -> Service {
        let object: Value = json!({
            "metadata": {"namespace": namespace, "name": name},
            "spec": {"clusterIP": vip, "selector": {"app": name}, "ports": [{"port": 80}]},
        });
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn a_pod_knows_its_own_clusters_names() {
        let plan = Plan::new(Shape::default(), Range::Loopback(70));
        let cluster = &plan.clusters[0];
        let pod = json!({
            "metadata": {"namespace": "sample", "name": "sleep-1", "uid": "u"},
            "spec": {"containers": [{"name": "sleep"}]},
        });
        let pod = serde_json::from_value(pod).unwrap();
        let workload = Workload::of(cluster, &pod, Sidecars::Captured).unwrap();
        let addresses = Pool::new(cluster).take(Proxy::Captured).unwrap();
        let services = Services::default();
        for one in [
            service("sample", "helloworld", "10.96.0.10"),
            service("other", "shop", "10.96.0.11"),
            service("sample", "headless", "None"),
        ] {
            services.take(Event::Apply(one), &mut BTreeMap::new());
        }
        let hosts = services.hosts(&workload, &addresses);
        assert!(hosts.contains("10.96.0.10 helloworld\n"));
        assert!(hosts.contains("10.96.0.11 shop.other shop.other.svc shop.other.svc.cluster.local\n"));
        assert!(!hosts.contains(" shop\n") && !hosts.contains("headless"));
    }
}
