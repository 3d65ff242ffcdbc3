//! What is written to a server, always the same.

use std::collections::BTreeMap;

use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use serde_json::{Value, json};

use super::Truth;

/// Where the objects are.
pub const NAMESPACES: [&str; 2] = ["sample", "other"];
/// How many of each kind there are in each namespace at first.
const COUNT: usize = 12;

/// A server's content, written and read as any client does.
pub struct World {
    client: Client,
}

impl World {
    /// Fills a server.
    pub async fn create(client: Client) -> Self {
        let world = Self { client };
        for namespace in NAMESPACES {
            let object = json!({"metadata": {"name": namespace}});
            world.create_in("", "namespaces", object).await;
        }
        for namespace in NAMESPACES {
            for n in 0..COUNT {
                world.create_in(namespace, "services", service(namespace, &format!("s{n}"))).await;
                world.create_in(namespace, "endpointslices", slice(namespace, n)).await;
                world.create_in(namespace, "pods", pod(namespace, &format!("p{n}"))).await;
                world.patch(namespace, "pods", &format!("p{n}"), Some("status"), &running(n)).await;
            }
        }
        world
    }

    /// Adds, changes and deletes some of each kind.
    pub async fn change(&self) {
        self.create_in("sample", "services", service("sample", "added")).await;
        self.create_in("sample", "pods", pod("sample", "added")).await;
        self.patch("sample", "services", "s1", None, &json!({"metadata": {"labels": {"changed": "yes"}}}))
            .await;
        self.patch("other", "endpointslices", "e2", None, &json!({"endpoints": []})).await;
        self.delete("sample", "services", "s2").await;
        self.delete("other", "endpointslices", "e3").await;
        self.delete("other", "pods", "p4").await;
    }

    /// Adds, changes and deletes others, which informers find by listing again.
    pub async fn change_unseen(&self) {
        self.create_in("other", "services", service("other", "unseen")).await;
        self.patch("other", "services", "s5", None, &json!({"spec": {"selector": {"app": "else"}}})).await;
        self.patch("sample", "pods", "p5", Some("status"), &running(99)).await;
        self.delete("other", "services", "s6").await;
        self.delete("sample", "endpointslices", "e6").await;
        self.delete("sample", "pods", "p6").await;
        // The same name, another object.
        self.delete("sample", "services", "s7").await;
        self.create_in("sample", "services", service("sample", "s7")).await;
    }

    /// Changes what was changed before.
    pub async fn change_again(&self) {
        self.patch("sample", "services", "s1", None, &json!({"metadata": {"labels": {"changed": null}}}))
            .await;
        self.delete("other", "services", "unseen").await;
        self.create_in("other", "endpointslices", slice("other", 3)).await;
    }

    /// Creates a Service.
    pub async fn create_service(&self, object: &Value) {
        self.create_in("sample", "services", object.clone()).await;
    }

    /// Creates an object of a kind no informer watches and returns its version.
    pub async fn create_foreign(&self) -> u64 {
        let object = json!({"metadata": {"name": "foreign"}, "stringData": {"key": "value"}});
        let created = self.create_in("sample", "secrets", object).await;
        created.metadata.resource_version.unwrap().parse().unwrap()
    }

    /// Everything the server holds of the kinds informers watch.
    pub async fn truth(&self) -> Truth {
        let mut objects = BTreeMap::new();
        for resource in ["services", "endpointslices", "pods"] {
            let all: Api<DynamicObject> = Api::all_with(self.client.clone(), &kind(resource));
            let list = all.list(&ListParams::default()).await.unwrap();
            let values = list.items.into_iter().map(|item| serde_json::to_value(item).unwrap());
            objects.insert(resource.to_owned(), values.collect());
        }
        Truth::new(objects)
    }

    fn api(&self, namespace: &str, resource: &str) -> Api<DynamicObject> {
        match namespace {
            "" => Api::all_with(self.client.clone(), &kind(resource)),
            _ => Api::namespaced_with(self.client.clone(), namespace, &kind(resource)),
        }
    }

    async fn create_in(&self, namespace: &str, resource: &str, mut object: Value) -> DynamicObject {
        let kind = kind(resource);
        object["apiVersion"] = json!(kind.api_version);
        object["kind"] = json!(kind.kind);
        let object = serde_json::from_value(object).unwrap();
        self.api(namespace, resource).create(&PostParams::default(), &object).await.unwrap()
    }

    async fn patch(
        &self,
        namespace: &str,
        resource: &str,
        name: &str,
        subresource: Option<&str>,
        patch: &Value,
    ) {
        let (api, params, patch) =
            (self.api(namespace, resource), PatchParams::default(), Patch::Merge(patch));
        match subresource {
            None => api.patch(name, &params, &patch).await,
            Some(_) => api.patch_status(name, &params, &patch).await,
        }
        .unwrap();
    }

    async fn delete(&self, namespace: &str, resource: &str, name: &str) {
        // Nobody ends the containers of a pod here.
        let at_once = DeleteParams::default().grace_period(0);
        self.api(namespace, resource).delete(name, &at_once).await.unwrap();
    }
}

/// The Service whose creation ends what informers do not see.
pub fn last_service() -> Value {
    let mut object = service("sample", "last");
    object["apiVersion"] = json!("v1");
    object["kind"] = json!("Service");
    object
}

fn kind(resource: &str) -> ApiResource {
    let (group, kind) = match resource {
        "services" => ("", "Service"),
        "pods" => ("", "Pod"),
        "namespaces" => ("", "Namespace"),
        "secrets" => ("", "Secret"),
        "endpointslices" => ("discovery.k8s.io", "EndpointSlice"),
        other => panic!("no kind for {other}"),
    };
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, "v1", kind), resource)
}

fn service(namespace: &str, name: &str) -> Value {
    json!({
        "metadata": {"namespace": namespace, "name": name, "labels": {"app": name}},
        "spec": {
            "selector": {"app": name},
            "ports": [{"name": "http", "port": 5000, "targetPort": 8080}, {"name": "grpc", "port": 5001}],
        },
    })
}

fn slice(namespace: &str, n: usize) -> Value {
    let endpoint = |host: usize| {
        json!({
            "addresses": [format!("10.10.{n}.{host}")],
            "conditions": {"ready": host.is_multiple_of(2), "serving": true, "terminating": false},
            "nodeName": "node-1",
            "zone": "zone-a",
            "targetRef": {"kind": "Pod", "namespace": namespace, "name": format!("p{n}")},
        })
    };
    json!({
        "metadata": {
            "namespace": namespace, "name": format!("e{n}"),
            "labels": {"kubernetes.io/service-name": format!("s{n}")},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": (1..=5).map(endpoint).collect::<Vec<_>>(),
    })
}

fn pod(namespace: &str, name: &str) -> Value {
    json!({
        "metadata": {"namespace": namespace, "name": name, "labels": {"app": name}},
        "spec": {"nodeName": "node-1", "containers": [{"name": "app", "image": "app:1", "ports": [{"containerPort": 8080}]}]},
    })
}

fn running(n: usize) -> Value {
    json!({"status": {
        "phase": "Running",
        "podIP": format!("10.10.9.{n}"),
        "podIPs": [{"ip": format!("10.10.9.{n}")}],
        "conditions": [{"type": "Ready", "status": "True"}],
    }})
}
