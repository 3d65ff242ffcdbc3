//! What a Pod object says should run. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::super::plan::{ClusterPlan, Sidecars};
use super::super::world::ingress::INGRESS_LABEL;
use super::super::world::{GATEWAY_LABEL, NETWORK_LABEL};

/// Label or annotation that keeps the sidecar away.
const INJECT: &str = "sidecar.istio.io/inject";
/// Annotation that says how traffic gets into the sidecar.
const INTERCEPTION: &str = "sidecar.istio.io/interceptionMode";
/// Label that tells gateways apart.
const KIND: &str = "istio";
/// Label by which peers know that a pod speaks mutual TLS.
const TLS_MODE: &str = "security.istio.io/tlsMode";

/// What stands beside a pod's application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proxy {
    /// Nothing.
    None,
    /// An Envoy that gets all traffic without being asked.
    Captured,
    /// An Envoy at explicit addresses: interception mode NONE.
    Explicit,
    /// The pod is an Envoy: a gateway.
    Router,
}

/// What a pod is in the lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// It serves nothing: a client.
    Client,
    /// It serves ports.
    App,
    /// A gateway between networks.
    Gateway,
    /// A gateway for requests from outside.
    Ingress,
}

/// One container of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// Its image, for the pod's status.
    pub image: String,
    /// Its TCP ports; an application answers on each.
    pub ports: Vec<u16>,
}

/// What a Pod object asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// Cluster.
    pub cluster: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// The object's identity: a later pod of the same name is another one.
    pub uid: String,
    /// The Deployment it belongs to.
    pub deployment: Option<String>,
    /// Whose identity it has.
    pub service_account: String,
    /// Labels, those of an injected sidecar included.
    pub labels: BTreeMap<String, String>,
    /// Containers, without the sidecar's.
    pub containers: Vec<Container>,
    /// What stands beside them.
    pub proxy: Proxy,
}

impl Workload {
    /// What `pod` of `cluster` asks for; nothing if the object lacks a name.
    pub fn of(cluster: &ClusterPlan, pod: &Pod, sidecars: Sidecars) -> Option<Self> {
        let spec = pod.spec.as_ref()?;
        let mut labels = pod.metadata.labels.clone().unwrap_or_default();
        let proxy = proxy(pod, sidecars);
        labels.extend(injected(cluster, proxy, &labels));
        let account = spec.service_account_name.clone().filter(|name| !name.is_empty());
        let containers = spec.containers.iter().map(|container| Container {
            name: container.name.clone(),
            image: container.image.clone().unwrap_or_else(|| "tombolo".to_owned()),
            ports: tcp_ports(container),
        });
        Some(Self {
            cluster: cluster.name.clone(),
            namespace: pod.metadata.namespace.clone()?,
            name: pod.metadata.name.clone()?,
            uid: pod.metadata.uid.clone()?,
            deployment: deployment(pod),
            service_account: account.unwrap_or_else(|| "default".to_owned()),
            containers: containers.collect(),
            proxy,
            labels,
        })
    }

    /// What it is in the lab.
    pub fn role(&self) -> Role {
        match self.proxy {
            Proxy::Router if self.labels.get(KIND).is_some_and(|kind| kind == INGRESS_LABEL) => Role::Ingress,
            Proxy::Router => Role::Gateway,
            _ if self.ports().next().is_some() => Role::App,
            _ => Role::Client,
        }
    }

    /// Ports on which an application of its own answers; a gateway has none.
    pub fn ports(&self) -> impl Iterator<Item = u16> {
        let containers = if self.proxy == Proxy::Router { &[] } else { &self.containers[..] };
        containers.iter().flat_map(|container| container.ports.iter().copied())
    }

    /// Name of the container that the Envoy's restarts count for.
    pub fn proxy_container(&self) -> &str {
        let own = self.containers.iter().find(|container| container.name == "istio-proxy");
        own.or(self.containers.first()).map_or("istio-proxy", |container| &container.name)
    }

    /// Value of the label `app`, else the Deployment's name, else the pod's.
    pub fn app(&self) -> &str {
        let label = self.labels.get("app").or(self.deployment.as_ref());
        label.unwrap_or(&self.name)
    }

    /// `cluster/name`, as in the exec script and in the names of logs: pods of one name in two namespaces share
    /// those.
    pub fn path(&self) -> String {
        format!("{}/{}", self.cluster, self.name)
    }

    /// Labels the object lacks and an injected sidecar needs.
    pub fn missing_labels(&self, pod: &Pod) -> BTreeMap<String, String> {
        let present = pod.metadata.labels.as_ref();
        let lacks = |key: &String| present.is_none_or(|labels| !labels.contains_key(key));
        self.labels.iter().filter(|(key, _)| lacks(key)).map(|(k, v)| (k.clone(), v.clone())).collect()
    }

    /// Whether `service` of its namespace selects it.
    pub fn is_selected_by(&self, service: &Service) -> bool {
        let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        service.metadata.namespace.as_deref() == Some(&self.namespace)
            && selector.is_some_and(|selector| {
                !selector.is_empty()
                    && selector.iter().all(|(key, value)| self.labels.get(key) == Some(value))
            })
    }

    /// The ports of its own that `services` forward to: its sidecar must know them before it is ready.
    pub fn served_ports<'a>(&self, services: impl Iterator<Item = &'a Service>) -> Vec<u16> {
        let mut wanted: Vec<u16> = services
            .filter(|service| self.is_selected_by(service))
            .filter_map(|service| service.spec.as_ref()?.ports.as_ref())
            .flatten()
            .filter_map(|port| match port.target_port.as_ref() {
                Some(IntOrString::Int(number)) => u16::try_from(*number).ok(),
                // A named port is found by the control plane; its number need not be waited for.
                Some(IntOrString::String(_)) => None,
                None => u16::try_from(port.port).ok(),
            })
            .filter(|port| self.ports().any(|own| own == *port))
            .collect();
        wanted.sort_unstable();
        wanted.dedup();
        wanted
    }
}

fn tcp_ports(container: &k8s_openapi::api::core::v1::Container) -> Vec<u16> {
    let ports = container.ports.iter().flatten();
    let tcp = ports.filter(|port| port.protocol.as_deref().unwrap_or("TCP") == "TCP");
    tcp.filter_map(|port| u16::try_from(port.container_port).ok()).collect()
}

fn proxy(pod: &Pod, sidecars: Sidecars) -> Proxy {
    let metadata = &pod.metadata;
    let label = |key: &str| metadata.labels.as_ref().and_then(|labels| labels.get(key)).map(String::as_str);
    let annotation =
        |key: &str| metadata.annotations.as_ref().and_then(|all| all.get(key)).map(String::as_str);
    if matches!(label(KIND), Some(GATEWAY_LABEL | INGRESS_LABEL)) {
        return Proxy::Router;
    }
    if label(INJECT) == Some("false") || annotation(INJECT) == Some("false") {
        return Proxy::None;
    }
    match (annotation(INTERCEPTION), sidecars) {
        (Some("NONE"), _) | (None, Sidecars::None) => Proxy::Explicit,
        _ => Proxy::Captured,
    }
}

/// What an injector adds.
fn injected(
    cluster: &ClusterPlan,
    proxy: Proxy,
    present: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    if proxy != Proxy::None && !present.contains_key(NETWORK_LABEL) {
        labels.insert(NETWORK_LABEL.to_owned(), cluster.network.clone());
    }
    if matches!(proxy, Proxy::Captured | Proxy::Explicit) && !present.contains_key(TLS_MODE) {
        labels.insert(TLS_MODE.to_owned(), "istio".to_owned());
    }
    labels
}

/// By its owner: a Deployment, or a ReplicaSet of one.
fn deployment(pod: &Pod) -> Option<String> {
    let owner = pod.metadata.owner_references.as_ref()?.first()?;
    match owner.kind.as_str() {
        "Deployment" => Some(owner.name.clone()),
        "ReplicaSet" => owner.name.rsplit_once('-').map(|(name, _)| name.to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::super::plan::{Plan, Range, Shape};
    use super::*;

    fn workload(change: impl FnOnce(&mut Value)) -> Workload {
        let mut pod = json!({
            "metadata": {
                "namespace": "sample", "name": "helloworld-v1-abc", "uid": "u",
                "labels": {"app": "helloworld", "version": "v1"},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "helloworld-v1", "uid": "d"}],
            },
            "spec": {"containers": [{"name": "app", "ports": [
                {"containerPort": 5000}, {"containerPort": 53, "protocol": "UDP"}, {"containerPort": 7000},
            ]}]},
        });
        change(&mut pod);
        let plan = Plan::new(Shape::default(), Range::Loopback(90));
        let pod: Pod = serde_json::from_value(pod).unwrap();
        Workload::of(&plan.clusters[0], &pod, Sidecars::Captured).unwrap()
    }

    #[test]
    fn an_application_has_a_captured_sidecar_and_answers_on_its_tcp_ports() {
        let workload = workload(|_| {});
        assert_eq!((workload.role(), workload.proxy), (Role::App, Proxy::Captured));
        assert_eq!(workload.ports().collect::<Vec<_>>(), [5000, 7000]);
        assert_eq!(workload.deployment.as_deref(), Some("helloworld-v1"));
        assert_eq!(workload.labels[TLS_MODE], "istio");
        assert_eq!(workload.labels[NETWORK_LABEL], "net-east");
    }

    #[test]
    fn annotations_choose_the_sidecar() {
        let none = workload(|pod| pod["metadata"]["annotations"] = json!({INJECT: "false"}));
        assert_eq!(none.proxy, Proxy::None);
        assert!(!none.labels.contains_key(TLS_MODE));
        let explicit = workload(|pod| pod["metadata"]["annotations"] = json!({INTERCEPTION: "NONE"}));
        assert_eq!(explicit.proxy, Proxy::Explicit);
    }

    #[test]
    fn a_gateway_runs_its_envoy_only() {
        let gateway = workload(|pod| pod["metadata"]["labels"]["istio"] = json!(GATEWAY_LABEL));
        assert_eq!((gateway.role(), gateway.ports().count()), (Role::Gateway, 0));
        let ingress = workload(|pod| pod["metadata"]["labels"]["istio"] = json!(INGRESS_LABEL));
        assert_eq!((ingress.role(), ingress.proxy), (Role::Ingress, Proxy::Router));
    }

    #[test]
    fn a_replica_sets_pods_belong_to_its_deployment() {
        let owned = workload(|pod| {
            pod["metadata"]["ownerReferences"][0]["kind"] = json!("ReplicaSet");
            pod["metadata"]["ownerReferences"][0]["name"] = json!("helloworld-v1-7d4");
        });
        assert_eq!(owned.deployment.as_deref(), Some("helloworld-v1"));
    }

    #[test]
    fn only_ports_that_a_service_forwards_to_are_waited_for() {
        let workload = workload(|_| {});
        let service = |selector: Value| -> Service {
            let ports = json!([{"port": 80, "targetPort": 5000}, {"port": 9, "targetPort": 9}]);
            serde_json::from_value(json!({
                "metadata": {"namespace": "sample", "name": "s"},
                "spec": {"selector": selector, "ports": ports},
            }))
            .unwrap()
        };
        let (mine, other) = (service(json!({"app": "helloworld"})), service(json!({"app": "sleep"})));
        assert_eq!(workload.served_ports([&mine, &other].into_iter()), [5000]);
        assert!(workload.served_ports([&other].into_iter()).is_empty());
    }
}
