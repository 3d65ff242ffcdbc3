//! The API servers of a run, in this process, and the changes made in them.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};

use super::BenchError;
use super::world::{SYSTEM_NAMESPACE, Shape, gateway_address, objects, stranger};
use crate::sim::apiserver::{ApiServer, RunningApiServer, kinds};
use crate::sim::lab::world::{GATEWAY, remote_secret};
use crate::sim::world::GENERATED_NAMESPACE;

/// Clusters that run.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) shape: Shape,
    servers: Vec<RunningApiServer>,
    /// Where the config cluster's kubeconfig is.
    pub(super) kubeconfig: PathBuf,
    strangers: std::sync::atomic::AtomicUsize,
}

impl Scene {
    /// Starts the API servers of `shape`; kubeconfigs go to `dir`.
    ///
    /// # Errors
    /// [`BenchError::ApiServer`], [`BenchError::File`].
    pub(super) async fn start(shape: Shape, dir: &Path) -> Result<Self, BenchError> {
        let mut servers = Vec::with_capacity(shape.clusters);
        for (cluster, home) in shape.homes().into_iter().enumerate() {
            let builder = ApiServer::builder().cluster(home.cluster).world(objects(shape, cluster));
            servers.push(builder.start().await?);
        }
        let kubeconfig = dir.join("config-cluster.yaml");
        let scene = Self { shape, servers, kubeconfig, strangers: Default::default() };
        for server in &scene.servers[1..] {
            scene.servers[0].store().apply(remote_secret(server.cluster(), &server.kubeconfig()))?;
        }
        std::fs::write(&scene.kubeconfig, scene.servers[0].kubeconfig())
            .map_err(BenchError::file("write", &scene.kubeconfig))?;
        Ok(scene)
    }

    /// The assignment of a service on its one port.
    pub(super) fn assignment(service: usize) -> String {
        format!("outbound|80||svc-{service}.{GENERATED_NAMESPACE}.svc.cluster.local")
    }

    /// One endpoint of a service becomes ready, or ceases to be; says when the write had returned.
    ///
    /// # Errors
    /// [`BenchError::Write`].
    pub(super) fn flip(&self, cluster: usize, service: usize) -> Result<Instant, BenchError> {
        self.change_slice(cluster, service, |slice| {
            let ready = &mut slice["endpoints"][0]["conditions"]["ready"];
            *ready = json!(*ready != true);
        })
    }

    fn change_slice(
        &self,
        cluster: usize,
        service: usize,
        change: impl FnOnce(&mut Value),
    ) -> Result<Instant, BenchError> {
        let store = self.servers[cluster].store();
        let name = format!("svc-{service}-0");
        let found = store.get(&kinds::ENDPOINT_SLICES, GENERATED_NAMESPACE, &name);
        let mut slice = Value::clone(&*found.ok_or(BenchError::Gone(name))?);
        change(&mut slice);
        store.update(slice)?;
        Ok(Instant::now())
    }

    /// Another address for a cluster's gateway; says when the write had returned.
    ///
    /// # Errors
    /// [`BenchError::Write`].
    pub(super) fn move_gateway(&self, cluster: usize, to: u8) -> Result<Instant, BenchError> {
        let patch = json!({"status": {"loadBalancer": {"ingress": [{"ip": gateway_address(cluster, to)}]}}});
        self.servers[cluster].store().patch(&kinds::SERVICES, SYSTEM_NAMESPACE, GATEWAY, &patch)?;
        Ok(Instant::now())
    }

    /// Service 0 gets a pod with an account nobody had before; says when the write had returned.
    ///
    /// # Errors
    /// [`BenchError::Write`].
    pub(super) fn add_account(&self, cluster: usize) -> Result<Instant, BenchError> {
        let number = self.strangers.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let pod = stranger(number);
        let (name, ip) = (pod["metadata"]["name"].clone(), pod["status"]["podIP"].clone());
        self.servers[cluster].store().apply(pod)?;
        self.change_slice(cluster, 0, |slice| {
            let endpoint = json!({
                "addresses": [ip], "nodeName": "node-0",
                "conditions": {"ready": true, "serving": true, "terminating": false},
                "targetRef": {"kind": "Pod", "namespace": GENERATED_NAMESPACE, "name": name},
            });
            if let Some(endpoints) = slice["endpoints"].as_array_mut() {
                endpoints.push(endpoint);
            }
        })
    }

    pub(super) async fn shutdown(self) {
        for server in self.servers {
            server.shutdown().await;
        }
    }
}
