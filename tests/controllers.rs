//! The controllers over API servers, synthetic and real, with a fake node agent.
//!
//! The real one needs the programs of `make kube-assets`. Without them its test is skipped loudly; with `CI=true`
//! that is a failure.
// The allowance for tests covers test functions only, not what they share.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tombolo::sim::apiserver::{ApiServer, RunningApiServer};
use tombolo::sim::controllers::{Controllers, RunningControllers, Settings};
use tombolo::sim::kube_apiserver::{KubeApiServer, RunningKubeApiServer};

#[path = "kube/assets.rs"]
mod assets;
#[path = "kube/client.rs"]
mod client;

use self::assets::assets;
use self::client::client;

/// What a working machine never needs, however busy.
const DEADLINE: Duration = Duration::from_secs(60);

/// An API server of either sort.
enum Server {
    Synthetic(RunningApiServer),
    Real(Box<RunningKubeApiServer>),
}

impl Server {
    fn kubeconfig(&self) -> String {
        match self {
            Self::Synthetic(server) => server.kubeconfig(),
            Self::Real(server) => server.kubeconfig(),
        }
    }

    /// Stops answering, and answers again at the same place with the same objects after `meanwhile`.
    async fn outage(self, meanwhile: impl Future<Output = ()>) -> Self {
        match self {
            Self::Synthetic(server) => {
                let (address, token) = (server.address(), server.token().to_owned());
                let (store, authority) = (server.store(), server.authority().clone());
                server.shutdown().await;
                meanwhile.await;
                let builder = ApiServer::builder().store(store).authority(authority).token(token);
                Self::Synthetic(builder.listen(address).start().await.unwrap())
            }
            Self::Real(mut server) => {
                server.kill_api().await;
                meanwhile.await;
                server.resume_api().await.unwrap();
                Self::Real(server)
            }
        }
    }

    async fn stop(self) {
        match self {
            Self::Synthetic(server) => server.shutdown().await,
            Self::Real(server) => server.stop().await,
        }
    }
}

/// A namespace of a cluster with two nodes, the controllers, and an agent that runs every pod it is told to.
struct World {
    server: Server,
    client: Client,
    controllers: RunningControllers,
    agent: Agent,
    deployments: Api<Deployment>,
    pods: Api<Pod>,
    services: Api<Service>,
    slices: Api<EndpointSlice>,
    nodes: Api<Node>,
}

impl World {
    async fn synthetic() -> Self {
        Self::start(Server::Synthetic(ApiServer::builder().start().await.unwrap())).await
    }

    async fn start(server: Server) -> Self {
        let client = client(&server.kubeconfig()).await;
        let controllers = Controllers::start(client.clone(), Settings::default());
        soon("the controllers have seen everything", async || controllers.healthy().then_some(())).await;
        let agent = Agent::start(client.clone());
        let nodes: Api<Node> = Api::all(client.clone());
        for name in ["n1", "n2"] {
            let labels = json!({"topology.kubernetes.io/zone": format!("zone-of-{name}")});
            let node = object(json!({"metadata": {"name": name, "labels": labels}}));
            nodes.create(&PostParams::default(), &node).await.unwrap();
        }
        Self {
            server,
            controllers,
            agent,
            deployments: Api::default_namespaced(client.clone()),
            pods: Api::default_namespaced(client.clone()),
            services: Api::default_namespaced(client.clone()),
            slices: Api::default_namespaced(client.clone()),
            nodes,
            client,
        }
        .move_to("first")
        .await
    }

    /// The same cluster in a new namespace.
    async fn move_to(self, namespace: &str) -> Self {
        let client = self.client.clone();
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let object = object(json!({"metadata": {"name": namespace}}));
        namespaces.create(&PostParams::default(), &object).await.unwrap();
        Self {
            deployments: Api::namespaced(client.clone(), namespace),
            pods: Api::namespaced(client.clone(), namespace),
            services: Api::namespaced(client.clone(), namespace),
            slices: Api::namespaced(client, namespace),
            ..self
        }
    }

    /// Closes the nodes to new pods, or opens them.
    async fn cordon(&self, nodes: &[&str], unschedulable: bool) {
        let patch = json!({"spec": {"unschedulable": unschedulable}});
        for node in nodes {
            self.nodes.patch(node, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
        }
    }

    async fn deploy(&self, name: &str, replicas: i32) {
        self.deployments.create(&PostParams::default(), &deployment(name, replicas)).await.unwrap();
    }

    async fn serve(&self, name: &str) {
        let service = object(json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "labels": {"team": "blue"}},
            "spec": {"selector": {"app": name},
                     "ports": [{"name": "http", "port": 80, "targetPort": "web"}]},
        }));
        self.services.create(&PostParams::default(), &service).await.unwrap();
    }

    async fn scale(&self, name: &str, replicas: i32) {
        let patch = json!({"spec": {"replicas": replicas}});
        self.deployments.patch_scale(name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    }

    async fn restart(&self, name: &str, at: &str) {
        let patch = json!({"spec": {"template": {"metadata": {"annotations": {"restartedAt": at}}}}});
        self.deployments.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    }

    async fn pod_names(&self) -> BTreeSet<String> {
        let pods = self.pods.list(&ListParams::default()).await.unwrap();
        pods.items.into_iter().map(|pod| pod.metadata.name.unwrap()).collect()
    }

    async fn slices_of(&self, service: &str) -> Vec<EndpointSlice> {
        let selector = format!("kubernetes.io/service-name={service}");
        self.slices.list(&ListParams::default().labels(&selector)).await.unwrap().items
    }

    async fn endpoints_of(&self, service: &str) -> Vec<Endpoint> {
        self.slices_of(service)
            .await
            .into_iter()
            .flat_map(|slice| slice.endpoints.unwrap_or_default())
            .collect()
    }

    /// Waits until the rollout is complete as `kubectl rollout status` judges it.
    async fn rolled_out(&self, name: &str) -> Deployment {
        soon(&format!("{name} is rolled out"), async || {
            let deployment = self.deployments.get(name).await.unwrap();
            is_rolled_out(&deployment).then_some(deployment)
        })
        .await
    }

    /// Waits until `service` has `count` ready endpoints and no others.
    async fn ready_endpoints(&self, service: &str, count: usize) -> Vec<Endpoint> {
        soon(&format!("{service} has {count} ready endpoints"), async || {
            let endpoints = self.endpoints_of(service).await;
            let ready = endpoints.iter().filter(|endpoint| is_ready(endpoint)).count();
            (ready == count && endpoints.len() == count).then_some(endpoints)
        })
        .await
    }

    async fn end(self) {
        self.controllers.stop().await;
        self.agent.end();
        self.server.stop().await;
    }
}

fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) == Some(true)
}

fn is_rolled_out(deployment: &Deployment) -> bool {
    let Some(status) = &deployment.status else { return false };
    let wanted = deployment.spec.replicas.unwrap_or(1);
    let (total, updated) = (status.replicas.unwrap_or(0), status.updated_replicas.unwrap_or(0));
    status.observed_generation >= deployment.metadata.generation
        && updated == wanted
        && total == updated
        && status.available_replicas.unwrap_or(0) == wanted
}

fn condition(deployment: &Deployment, kind: &str) -> Option<(String, String)> {
    let value = serde_json::to_value(deployment.status.as_ref()?).unwrap();
    let found = value["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)?.clone();
    Some((found["status"].as_str()?.to_owned(), found["reason"].as_str()?.to_owned()))
}

fn object<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn deployment(name: &str, replicas: i32) -> Deployment {
    object(json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "c", "image": "i", "ports": [{"name": "web", "containerPort": 8080}]}]},
            },
        },
    }))
}

/// Waits until `probe` gives something.
async fn soon<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(start.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Runs pods as a kubelet would, without processes: gives them an address, makes them ready, lets them go.
struct Agent(JoinHandle<()>);

impl Agent {
    fn start(client: Client) -> Self {
        let next = AtomicU32::new(1);
        Self(tokio::spawn(async move {
            let mut events = watcher(Api::<Pod>::all(client.clone()), watcher::Config::default()).boxed();
            while let Some(event) = events.next().await {
                match event {
                    Ok(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod)) => {
                        tend(&client, pod, &next).await;
                    }
                    Ok(_) => {}
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        }))
    }

    fn end(self) {
        self.0.abort();
    }
}

async fn tend(client: &Client, pod: Pod, next: &AtomicU32) {
    let api: Api<Pod> = Api::namespaced(client.clone(), pod.metadata.namespace.as_deref().unwrap());
    let name = pod.metadata.name.as_deref().unwrap();
    if pod.metadata.deletion_timestamp.is_some() {
        // It may be gone already.
        let _ = api.delete(name, &DeleteParams::default().grace_period(0)).await;
        return;
    }
    let running =
        pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending") != "Pending";
    let bound = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).is_some();
    if running || !bound || pod.metadata.annotations.is_some_and(|map| map.contains_key("slow")) {
        return;
    }
    let number = next.fetch_add(1, Ordering::Relaxed);
    let address = format!("10.0.{}.{}", number / 250, number % 250 + 1);
    let _ = mark(&api, name, "Running", true, Some(&address)).await;
}

async fn mark(
    api: &Api<Pod>,
    name: &str,
    phase: &str,
    ready: bool,
    address: Option<&str>,
) -> Result<Pod, kube::Error> {
    let ready = if ready { "True" } else { "False" };
    let mut status = json!({"phase": phase, "conditions": [
        {"type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
    if let Some(address) = address {
        status["podIP"] = json!(address);
        status["podIPs"] = json!([{"ip": address}]);
    }
    let patch = json!({"status": status});
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(&patch)).await
}

async fn scaling_up_and_down_keeps_endpoints_in_step(world: World) -> World {
    world.deploy("web", 1).await;
    world.serve("web").await;
    let first = world.ready_endpoints("web", 1).await.remove(0);
    let deployment = world.rolled_out("web").await;
    assert_eq!(
        condition(&deployment, "Available").unwrap(),
        ("True".into(), "MinimumReplicasAvailable".into())
    );
    assert_eq!(
        condition(&deployment, "Progressing").unwrap(),
        ("True".into(), "NewReplicaSetAvailable".into())
    );

    world.scale("web", 3).await;
    let three = world.ready_endpoints("web", 3).await;
    world.rolled_out("web").await;
    let nodes: BTreeSet<_> = three.iter().map(|endpoint| endpoint.node_name.clone().unwrap()).collect();
    assert_eq!(nodes.len(), 2, "pods are spread");
    for endpoint in &three {
        let node = endpoint.node_name.clone().unwrap();
        assert_eq!(endpoint.zone.as_deref(), Some(format!("zone-of-{node}").as_str()));
    }
    let slices = world.slices_of("web").await;
    assert_eq!(slices.len(), 1);
    let slice = serde_json::to_value(&slices[0]).unwrap();
    assert_eq!(slice["ports"], json!([{"name": "http", "port": 8080, "protocol": "TCP"}]));
    assert_eq!(slice["metadata"]["labels"]["team"], "blue");
    assert_eq!(slice["metadata"]["ownerReferences"][0]["name"], "web");
    assert!(slice["metadata"]["name"].as_str().unwrap().starts_with("web-"));

    world.scale("web", 0).await;
    world.ready_endpoints("web", 0).await;
    world.rolled_out("web").await;
    assert_eq!(world.slices_of("web").await.len(), 1, "an empty slice remains");
    assert!(world.pod_names().await.is_empty());

    world.scale("web", 1).await;
    let again = world.ready_endpoints("web", 1).await.remove(0);
    assert_ne!(first.target_ref.unwrap().name, again.target_ref.unwrap().name, "names do not come back");
    assert!(world.controllers.healthy(), "{:?}", world.controllers.last_error());
    world
}

async fn a_pods_readiness_costs_one_write_per_service(world: World) -> World {
    world.deploy("web", 3).await;
    world.serve("web").await;
    world.ready_endpoints("web", 3).await;
    world.rolled_out("web").await;
    let before = world.slices_of("web").await.remove(0).metadata.generation;
    let name = world.pod_names().await.into_iter().next().unwrap();
    mark(&world.pods, &name, "Running", false, None).await.unwrap();
    soon("the endpoint is not ready", async || {
        let endpoints = world.endpoints_of("web").await;
        let unready: Vec<_> = endpoints.iter().filter(|endpoint| !is_ready(endpoint)).collect();
        (endpoints.len() == 3 && unready.len() == 1).then_some(())
    })
    .await;
    let after = world.slices_of("web").await.remove(0).metadata.generation;
    assert_eq!(after, before.map(|generation| generation + 1));
    world
}

async fn many_pods_fill_slices_of_a_hundred(world: World) -> World {
    world.serve("many").await;
    world.deploy("many", 250).await;
    let endpoints = world.ready_endpoints("many", 250).await;
    let uids: BTreeSet<_> =
        endpoints.iter().map(|endpoint| endpoint.target_ref.clone().unwrap().uid).collect();
    assert_eq!(uids.len(), 250);
    let sizes: Vec<usize> = world
        .slices_of("many")
        .await
        .iter()
        .map(|slice| slice.endpoints.as_ref().map_or(0, Vec::len))
        .collect();
    assert_eq!(sizes.len(), 3, "{sizes:?}");
    assert!(sizes.iter().all(|size| *size <= 100), "{sizes:?}");
    assert_eq!(world.pod_names().await.len(), 250, "no pod was made twice");
    world
}

async fn a_deleted_service_takes_its_own_slices_along(world: World) -> World {
    world.deploy("web", 1).await;
    world.serve("web").await;
    let foreign = object(json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "endpoints": [],
        "metadata": {"name": "by-hand", "labels": {"kubernetes.io/service-name": "web"}},
    }));
    world.slices.create(&PostParams::default(), &foreign).await.unwrap();
    world.ready_endpoints("web", 1).await;
    world.services.delete("web", &DeleteParams::default()).await.unwrap();
    soon("only the foreign slice is left", async || {
        let names: Vec<_> =
            world.slices_of("web").await.into_iter().filter_map(|slice| slice.metadata.name).collect();
        (names == ["by-hand"]).then_some(())
    })
    .await;
    world
}

async fn a_new_template_replaces_pods_without_too_few_of_them(world: World) -> World {
    world.deploy("web", 3).await;
    world.serve("web").await;
    world.ready_endpoints("web", 3).await;
    world.rolled_out("web").await;
    let before = world.pod_names().await;
    world.restart("web", "now").await;
    soon("every pod is new", async || {
        let ready = world.endpoints_of("web").await.into_iter().filter(is_ready).count();
        assert!(ready >= 3, "{ready} ready endpoints in the middle of a rollout");
        let names = world.pod_names().await;
        let done = is_rolled_out(&world.deployments.get("web").await.unwrap());
        (done && names.is_disjoint(&before) && names.len() == 3).then_some(())
    })
    .await;
    world
}

async fn lost_pods_are_replaced_and_a_deleted_deployment_takes_its_own(world: World) -> World {
    world.deploy("web", 2).await;
    world.serve("web").await;
    world.ready_endpoints("web", 2).await;
    let mut names = world.pod_names().await.into_iter();
    let (failed, vanished) = (names.next().unwrap(), names.next().unwrap());
    mark(&world.pods, &failed, "Failed", false, None).await.unwrap();
    world.pods.delete(&vanished, &DeleteParams::default().grace_period(0)).await.unwrap();
    soon("two others serve", async || {
        let endpoints = world.endpoints_of("web").await;
        let names: BTreeSet<_> =
            endpoints.iter().filter(|e| is_ready(e)).filter_map(|e| e.target_ref.clone()?.name).collect();
        (names.len() == 2 && !names.contains(&failed) && !names.contains(&vanished)).then_some(())
    })
    .await;
    world.deployments.delete("web", &DeleteParams::default()).await.unwrap();
    soon("no pod is left", async || world.pod_names().await.is_empty().then_some(())).await;
    world.ready_endpoints("web", 0).await;
    world
}

async fn an_outage_deletes_nothing_and_work_goes_on_afterwards(world: World) -> World {
    world.deploy("web", 2).await;
    world.serve("web").await;
    world.ready_endpoints("web", 2).await;
    world.rolled_out("web").await;
    let before = world.pod_names().await;

    let World { server, controllers, .. } = world;
    let noticed = async {
        soon("the outage is noticed", async || (!controllers.healthy()).then_some(())).await;
        assert!(controllers.last_error().is_some());
    };
    let server = server.outage(noticed).await;
    let world = World { server, controllers, ..world };

    assert_eq!(world.pod_names().await, before);
    world.scale("web", 3).await;
    let endpoints = world.ready_endpoints("web", 3).await;
    assert_eq!(endpoints.len(), 3);
    assert!(world.pod_names().await.is_superset(&before), "the old ones are still there");
    soon("all is well again", async || world.controllers.healthy().then_some(())).await;
    world
}

async fn pods_wait_for_a_schedulable_node_and_say_so(world: World) -> World {
    world.cordon(&["n1", "n2"], true).await;
    world.deploy("web", 1).await;
    soon("the Deployment says why", async || {
        let deployment = world.deployments.get("web").await.unwrap();
        condition(&deployment, "ReplicaFailure").filter(|(_, reason)| reason == "Unschedulable").map(drop)
    })
    .await;
    world.cordon(&["n2"], false).await;
    let deployment = world.rolled_out("web").await;
    assert_eq!(condition(&deployment, "ReplicaFailure"), None);
    let pods = world.pods.list(&ListParams::default()).await.unwrap();
    assert_eq!(pods.items[0].spec.as_ref().unwrap().node_name.as_deref(), Some("n2"));
    world
}

async fn an_invalid_selector_is_refused_in_the_status(world: World) -> World {
    let mut wrong = deployment("web", 1);
    wrong.spec.selector = object(json!({"matchLabels": {"app": "other"}}));
    if let Err(error) = world.deployments.create(&PostParams::default(), &wrong).await {
        // A real server lets no such Deployment in.
        assert!(matches!(&error, kube::Error::Api(status) if status.code == 422), "{error}");
        return world;
    }
    soon("the Deployment says why", async || {
        let deployment = world.deployments.get("web").await.unwrap();
        condition(&deployment, "ReplicaFailure").filter(|(_, reason)| reason == "InvalidSelector").map(drop)
    })
    .await;
    assert!(world.pod_names().await.is_empty());
    world
}

/// Each story is a test on a synthetic server of its own.
macro_rules! stories {
    ($($story:ident,)+) => {
        mod on_a_synthetic_server {
            use super::World;

            $(#[tokio::test]
            async fn $story() {
                super::$story(World::synthetic().await).await.end().await;
            })+
        }
        /// Tells them one after the other, each in a namespace of its own.
        async fn all_stories(mut world: World) -> World {
            $(world = $story(world.move_to(&stringify!($story).replace('_', "-")).await).await;)+
            world
        }
    };
}

stories! {
    scaling_up_and_down_keeps_endpoints_in_step,
    a_pods_readiness_costs_one_write_per_service,
    many_pods_fill_slices_of_a_hundred,
    a_deleted_service_takes_its_own_slices_along,
    a_new_template_replaces_pods_without_too_few_of_them,
    lost_pods_are_replaced_and_a_deleted_deployment_takes_its_own,
    an_outage_deletes_nothing_and_work_goes_on_afterwards,
    pods_wait_for_a_schedulable_node_and_say_so,
    an_invalid_selector_is_refused_in_the_status,
}

#[tokio::test]
async fn all_stories_on_a_real_api_server() {
    let Some(assets) = assets() else { return };
    let server = KubeApiServer::builder().start(&assets).await.unwrap_or_else(|error| panic!("{error}"));
    all_stories(World::start(Server::Real(Box::new(server))).await).await.end().await;
}
