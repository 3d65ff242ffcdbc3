//! A real API server, its administrator, and what is in it.

use std::collections::BTreeMap;

use http::{Method, Request};
use kube::Client;
use serde_json::{Value, json};
use tombolo::sim::kube_apiserver::{KubeApiServer, KubeAssets, RunningKubeApiServer};

use super::client::client;

/// The account of `deploy/reader-rbac.yaml`.
pub const READER: &str = "system:serviceaccount:istio-system:tombolo-reader";

/// A cluster.
pub struct Cluster {
    pub server: RunningKubeApiServer,
    client: Client,
}

impl Cluster {
    /// An empty cluster.
    pub async fn start(assets: &KubeAssets, name: &str, flags: &[&str]) -> Self {
        let builder = KubeApiServer::builder().cluster(name);
        let builder = flags.iter().fold(builder, |builder, flag| builder.api_flag(*flag));
        let server = builder.start(assets).await.unwrap_or_else(|error| panic!("{error}"));
        let client = client(&server.kubeconfig()).await;
        Self { server, client }
    }

    /// A cluster with `helloworld` on two pods, a node, and a gateway, in network `net-NAME`.
    pub async fn with_world(assets: &KubeAssets, name: &str, flags: &[&str]) -> Self {
        let cluster = Self::start(assets, name, flags).await;
        for object in world(&format!("net-{name}")) {
            cluster.create(&object).await;
        }
        cluster
    }

    pub fn kubeconfig(&self) -> String {
        self.server.kubeconfig()
    }

    /// kube-apiserver ends without a word and starts again.
    pub async fn restart_api(&mut self) {
        self.server.kill_api().await;
        self.server.resume_api().await.unwrap();
        self.client = client(&self.server.kubeconfig()).await;
    }

    /// Creates an object, its status too.
    pub async fn create(&self, object: &Value) -> Value {
        let (path, name) = place(object);
        let created = self.ask(Method::POST, &path, object).await;
        if let Some(status) = object.get("status") {
            self.patch(&format!("{path}/{name}/status"), &json!({"status": status})).await;
        }
        created
    }

    /// Changes an object; what is `null` goes.
    pub async fn change(&self, object: &Value) {
        let (path, name) = place(object);
        self.patch(&format!("{path}/{name}"), object).await;
    }

    /// Deletes an object at once.
    pub async fn delete(&self, object: &Value) {
        let (path, name) = place(object);
        self.ask(Method::DELETE, &format!("{path}/{name}"), &json!({"gracePeriodSeconds": 0})).await;
    }

    /// A token of the reader that is good until the Secret `bound` goes, which is made.
    pub async fn reader_token(&self, bound: &str) -> String {
        let secret = self.create(&plain_secret(bound)).await;
        let reference =
            json!({"kind": "Secret", "apiVersion": "v1", "name": bound, "uid": secret["metadata"]["uid"]});
        let spec = json!({"expirationSeconds": 3600, "boundObjectRef": reference});
        let path = "/api/v1/namespaces/istio-system/serviceaccounts/tombolo-reader/token";
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
        let answer = self.ask(Method::POST, path, &request).await;
        answer["status"]["token"].as_str().unwrap().to_owned()
    }

    /// The administrator's kubeconfig with another token.
    pub fn kubeconfig_of(&self, token: &str) -> String {
        self.kubeconfig().replace(self.server.token(), token)
    }

    /// Applies manifests of `deploy/`.
    pub async fn deploy(&self, file: &str) {
        for object in shipped(file) {
            self.create(&object).await;
        }
    }

    /// Installs the definitions of Gateways, multi-cluster services and entries, as add-ons do, and waits until they are
    /// served.
    pub async fn install_add_ons(&self) {
        for (group, version, kind) in [
            ("gateway.networking.k8s.io", "v1", "Gateway"),
            ("multicluster.x-k8s.io", "v1alpha1", "ServiceExport"),
            ("multicluster.x-k8s.io", "v1alpha1", "ServiceImport"),
            ("networking.istio.io", "v1", "ServiceEntry"),
            ("networking.istio.io", "v1", "WorkloadEntry"),
        ] {
            self.create(&definition(group, version, kind)).await;
            let path = format!("/apis/{group}/{version}/{}", plural(kind));
            super::soon(&format!("{kind}s are served"), async || {
                let request = Request::get(&path).body(Vec::new()).unwrap();
                self.client.request::<Value>(request).await.is_ok()
            })
            .await;
        }
    }

    /// Installs the kinds of policies of `deploy/`, beside the add-ons, and waits until they are served.
    pub async fn install_policies(&self) {
        let mut definitions: Vec<Value> =
            serde_saphyr::from_multiple(include_str!("../../deploy/istio-crds.yaml")).unwrap();
        definitions.retain(|definition| {
            !["ServiceEntry", "WorkloadEntry"].map(Value::from).contains(&definition["spec"]["names"]["kind"])
        });
        for definition in &definitions {
            self.create(definition).await;
        }
        for definition in &definitions {
            let spec = &definition["spec"];
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            let (group, plural) = (text(&spec["group"]), text(&spec["names"]["plural"]));
            for version in spec["versions"].as_array().unwrap() {
                let path = format!("/apis/{group}/{}/{plural}", text(&version["name"]));
                super::soon(&format!("{path} is served"), async || {
                    let request = Request::get(&path).body(Vec::new()).unwrap();
                    self.client.request::<Value>(request).await.is_ok()
                })
                .await;
            }
        }
    }

    /// Makes etcd forget.
    pub async fn compact(&self) {
        self.server.compact().await.unwrap();
    }

    /// Creates many objects, over a few connections at once.
    pub async fn create_many(&self, objects: &[Value]) {
        const CLIENTS: usize = 16;
        let mut tasks = tokio::task::JoinSet::new();
        for part in objects.chunks(objects.len().div_ceil(CLIENTS)) {
            let (client, part) = (client(&self.server.kubeconfig()).await, part.to_vec());
            tasks.spawn(async move {
                for object in part {
                    let (path, _) = place(&object);
                    ask(&client, Method::POST, &path, &object).await;
                }
            });
        }
        tasks.join_all().await;
    }

    async fn patch(&self, path: &str, patch: &Value) {
        self.ask(Method::PATCH, path, patch).await;
    }

    async fn ask(&self, method: Method, path: &str, body: &Value) -> Value {
        ask(&self.client, method, path, body).await
    }
}

/// The objects of a manifest of `deploy/`.
pub fn shipped(file: &str) -> Vec<Value> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(file);
    let text = std::fs::read_to_string(path).unwrap();
    text.split("\n---\n").map(|document| serde_saphyr::from_str(document).unwrap()).collect()
}

async fn ask(client: &Client, method: Method, path: &str, body: &Value) -> Value {
    let kind = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
    let request = Request::builder().method(method.clone()).uri(path).header("content-type", kind);
    let request = request.body(serde_json::to_vec(body).unwrap()).unwrap();
    client.request(request).await.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
}

/// The path of an object's collection, and its name.
fn place(object: &Value) -> (String, String) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let api = match &*text(&object["apiVersion"]) {
        "v1" => "/api/v1".to_owned(),
        group => format!("/apis/{group}"),
    };
    let namespace = match &*text(&object["metadata"]["namespace"]) {
        "" => String::new(),
        namespace => format!("/namespaces/{namespace}"),
    };
    let kind = text(&object["kind"]);
    (format!("{api}{namespace}/{}", plural(&kind)), text(&object["metadata"]["name"]))
}

fn plural(kind: &str) -> String {
    let kind = kind.to_lowercase();
    kind.strip_suffix("ry").map_or_else(|| format!("{kind}s"), |stem| format!("{stem}ries"))
}

fn definition(group: &str, version: &str, kind: &str) -> Value {
    let plural = plural(kind);
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}"), "annotations": {
            // The group is protected: whoever defines something in it says by what right.
            "api-approved.kubernetes.io": "unapproved, experimental-only"}},
        "spec": {"group": group, "scope": "Namespaced",
            "names": {"kind": kind, "listKind": format!("{kind}List"), "plural": plural,
                "singular": kind.to_lowercase()},
            "versions": [{"name": version, "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object",
                    "x-kubernetes-preserve-unknown-fields": true}}}]}})
}

pub fn namespace(name: &str, labels: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
}

pub fn service(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "sample"},
        "spec": {"ports": [{"name": "http", "port": 5000}]}})
}

pub fn pod(name: &str, ip: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "sample",
            "labels": {"app": "helloworld", "security.istio.io/tlsMode": "istio"}},
        "spec": {"nodeName": "n1", "serviceAccountName": "default",
            "containers": [{"name": "app", "image": "app:1"}]},
        "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
            "conditions": [{"type": "Ready", "status": "True"}]}})
}

/// The EndpointSlice of a service with these pods.
pub fn slice(service: &str, entries: &[(&str, &str)]) -> Value {
    let entries: Vec<_> = entries
        .iter()
        .map(|(pod, ip)| {
            json!({"addresses": [ip], "conditions": {"ready": true},
                "targetRef": {"kind": "Pod", "name": pod, "namespace": "sample"}})
        })
        .collect();
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": format!("{service}-1"), "namespace": "sample",
            "labels": {"kubernetes.io/service-name": service}},
        "endpoints": entries, "ports": [{"name": "http", "port": 5000}]})
}

/// How many services [`many_slices`] belong to.
const MANY: usize = 100;

pub fn many_services() -> Vec<Value> {
    (0..MANY).map(|n| service(&format!("many-{n}"))).collect()
}

/// EndpointSlices of [`many_services`], one endpoint each.
pub fn many_slices(count: usize) -> Vec<Value> {
    let slice = |n: usize| {
        let ip = format!("10.{}.{}.{}", 1 + n / 65536, n / 256 % 256, n % 256);
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": format!("many-{n}"), "namespace": "sample",
                "labels": {"kubernetes.io/service-name": format!("many-{}", n % MANY)}},
            "endpoints": [{"addresses": [ip], "conditions": {"ready": !n.is_multiple_of(7)}, "nodeName": "n1"}],
            "ports": [{"name": "http", "port": 5000}]})
    };
    (0..count).map(slice).collect()
}

fn gateway(network: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "eastwest", "namespace": "istio-system",
            "labels": {"topology.istio.io/network": network}},
        "spec": {"type": "LoadBalancer", "ports": [{"name": "tls", "port": 15443}]},
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}})
}

/// The pods of `helloworld`.
pub const PODS: [(&str, &str); 2] = [("hello-1", "10.0.0.1"), ("hello-2", "10.0.0.2")];

fn world(network: &str) -> Vec<Value> {
    let mut objects = vec![
        namespace("istio-system", json!({"topology.istio.io/network": network})),
        namespace("sample", json!({})),
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1",
            "labels": {"topology.kubernetes.io/region": "r1"}}}),
        service("helloworld"),
        slice("helloworld", &PODS),
        gateway(network),
    ];
    objects.extend(PODS.map(|(name, ip)| pod(name, ip)));
    objects
}

fn plain_secret(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "istio-system"}})
}

/// A Secret with kubeconfigs by cluster id.
pub fn remotes(kubeconfigs: &[(&str, &str)]) -> Value {
    let data: BTreeMap<_, _> = kubeconfigs.iter().map(|(id, text)| (*id, encoded(text))).collect();
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "remotes", "namespace": "istio-system",
        "labels": {"istio/multiCluster": "true"}}, "data": data})
}

fn encoded(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}
