//! The EndpointSlice controller: Services with a selector get the slices Kubernetes' own controller would write.

mod endpoint;
mod pack;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, ObjectMeta, PostParams, Preconditions};
use kube::{Api, Client};

use self::endpoint::Family;
use self::pack::SliceChange;
use super::Caches;
use super::cache::{Cache, Change, Key};
use super::names::NameMaker;
use super::pods;
use super::queue::{Outcome, WorkQueue};
use super::work::{Reconcile, WorkError, code};

const SERVICE_NAME: &str = "kubernetes.io/service-name";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// What the real controller calls itself. Slices with another name are left alone.
const US: &str = "endpointslice-controller.k8s.io";
const HEADLESS: &str = "service.kubernetes.io/headless";
/// Writes of one Service under way at once.
const PARALLEL_WRITES: usize = 8;
/// When to look again at what the cache has not caught up with.
const LATER: Duration = Duration::from_millis(500);

/// The writes that give `service` the slices its `pods` ask for, given its `existing` ones: pods that match the
/// selector, slices managed by this controller. In the order to make them.
fn slices(
    service: &Service,
    pods: &[Arc<Pod>],
    node: impl Fn(&str) -> Option<Arc<Node>>,
    existing: &[Arc<EndpointSlice>],
) -> Vec<SliceChange> {
    let families = endpoint::families(service);
    let is_of = |slice: &EndpointSlice, family: &Family| slice.address_type == family.name();
    let mut changes = Vec::new();
    for family in &families {
        let groups = endpoint::groups(service, pods, &node, *family);
        let here: Vec<_> = existing.iter().filter(|slice| is_of(slice, family)).cloned().collect();
        let blank = blank(service, *family);
        changes.extend(pack::pack(groups, &here, &blank, |slice| dress(slice, service)));
    }
    let stale = existing.iter().filter(|slice| !families.iter().any(|family| is_of(slice, family)));
    changes.extend(stale.cloned().map(SliceChange::Delete));
    changes
}

fn blank(service: &Service, family: Family) -> EndpointSlice {
    let name = service.metadata.name.as_deref().unwrap_or_default();
    EndpointSlice {
        address_type: family.name().to_owned(),
        metadata: ObjectMeta {
            generate_name: Some(format!("{name}-")),
            namespace: service.metadata.namespace.clone(),
            ..ObjectMeta::default()
        },
        ..EndpointSlice::default()
    }
}

/// Sets the labels and the owner of a slice; whether that changed anything.
fn dress(slice: &mut EndpointSlice, service: &Service) -> bool {
    let mut labels: BTreeMap<String, String> = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    if endpoint::is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    let name = service.metadata.name.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.to_owned(), name.clone());
    labels.insert(MANAGED_BY.to_owned(), US.to_owned());
    let owner = OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Service".to_owned(),
        name,
        uid: pods::uid(service).to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    };
    let (labels, owners) = (Some(labels), Some(vec![owner]));
    let changed = slice.metadata.labels != labels || slice.metadata.owner_references != owners;
    slice.metadata.labels = labels;
    slice.metadata.owner_references = owners;
    changed
}

/// The Service of a slice that is ours to manage.
fn service_of(slice: &EndpointSlice) -> Option<&str> {
    let labels = slice.metadata.labels.as_ref()?;
    labels.get(MANAGED_BY).filter(|by| *by == US)?;
    labels.get(SERVICE_NAME).map(String::as_str)
}

/// Whether the Service selects pods with these labels.
fn selects(service: &Service, pod: &Pod) -> bool {
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    let Some(selector) = selector.filter(|selector| !selector.is_empty()) else { return false };
    let labels = pod.metadata.labels.as_ref();
    selector.iter().all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
}

/// Which Services to look at after a change of a pod.
pub(super) fn on_pod(services: &Cache<Service>, queue: &WorkQueue, change: &Change<Pod>) {
    let sides = [change.old.as_deref(), change.new.as_deref()];
    let namespace = sides.into_iter().flatten().next().and_then(|pod| pod.metadata.namespace.as_deref());
    let selected = |service: &Service| sides.into_iter().flatten().any(|pod| selects(service, pod));
    for service in services.in_namespace(namespace.unwrap_or_default(), selected) {
        queue.add(Key::of(service.as_ref()));
    }
}

/// Which Services to look at after a change of a node: all, if its zone changed.
pub(super) fn on_node(services: &Cache<Service>, queue: &WorkQueue, change: &Change<Node>) {
    let labels = |node: Option<&Arc<Node>>| node.and_then(|node| node.metadata.labels.clone());
    if labels(change.old.as_ref()) != labels(change.new.as_ref()) {
        for service in services.all() {
            queue.add(Key::of(service.as_ref()));
        }
    }
}

/// Which Services to look at after a change of a slice.
pub(super) fn on_slice(queue: &WorkQueue, change: &Change<EndpointSlice>) {
    for slice in [change.old.as_deref(), change.new.as_deref()].into_iter().flatten() {
        if let Some(service) = service_of(slice) {
            queue.add(Key::new(slice.metadata.namespace.clone().unwrap_or_default(), service));
        }
    }
}

/// Writes the slices of Services.
pub(super) struct SliceController {
    client: Client,
    caches: Arc<Caches>,
    names: Arc<NameMaker>,
}

impl SliceController {
    pub(super) fn new(client: Client, caches: Arc<Caches>, names: Arc<NameMaker>) -> Self {
        Self { client, caches, names }
    }

    fn api(&self, namespace: &str) -> Api<EndpointSlice> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Deletes the slices of a Service that is gone. The server is asked first: the cache may be behind.
    async fn abandon(&self, key: &Key, slices: Vec<Arc<EndpointSlice>>) -> Result<Outcome, WorkError> {
        if slices.is_empty() {
            return Ok(Outcome::Done);
        }
        let services: Api<Service> = Api::namespaced(self.client.clone(), &key.namespace);
        match services.get_opt(&key.name).await {
            Ok(None) => self.write(slices.into_iter().map(SliceChange::Delete).collect()).await,
            Ok(Some(_)) => Ok(Outcome::Again(LATER)),
            Err(error) => Err(WorkError::request("get", "Service", key, error)),
        }
    }

    /// Makes the changes: creations and updates first, so that no endpoint is missing in between.
    async fn write(&self, changes: Vec<SliceChange>) -> Result<Outcome, WorkError> {
        let is_deletion = |change: &SliceChange| matches!(change, SliceChange::Delete(_));
        let (deletions, others): (Vec<_>, Vec<_>) = changes.into_iter().partition(is_deletion);
        for batch in [others, deletions] {
            let writes = batch.into_iter().map(|change| self.change(change));
            let results: Vec<_> = stream::iter(writes).buffer_unordered(PARALLEL_WRITES).collect().await;
            results.into_iter().collect::<Result<(), _>>()?;
        }
        Ok(Outcome::Done)
    }

    async fn change(&self, change: SliceChange) -> Result<(), WorkError> {
        match change {
            SliceChange::Create(slice) => self.create(*slice).await,
            SliceChange::Update(slice) => self.update(&slice).await,
            SliceChange::Delete(slice) => self.delete(&slice).await,
        }
    }

    async fn create(&self, mut slice: EndpointSlice) -> Result<(), WorkError> {
        let prefix = slice.metadata.generate_name.clone().unwrap_or_default();
        slice.metadata.name = Some(self.names.name(&prefix));
        let key = Key::of(&slice);
        let created = self.api(&key.namespace).create(&PostParams::default(), &slice).await;
        let created = created.map_err(|error| WorkError::request("create", "EndpointSlice", &key, error))?;
        self.caches.slices.record(created);
        Ok(())
    }

    async fn update(&self, slice: &EndpointSlice) -> Result<(), WorkError> {
        let key = Key::of(slice);
        match self.api(&key.namespace).replace(&key.name, &PostParams::default(), slice).await {
            Ok(written) => {
                self.caches.slices.record(written);
                Ok(())
            }
            Err(error) => {
                if code(&error) == 404 {
                    self.caches.slices.forget(&key);
                }
                Err(WorkError::request("update", "EndpointSlice", &key, error))
            }
        }
    }

    async fn delete(&self, slice: &EndpointSlice) -> Result<(), WorkError> {
        let key = Key::of(slice);
        let preconditions = Preconditions { uid: slice.metadata.uid.clone(), resource_version: None };
        let how = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        match self.api(&key.namespace).delete(&key.name, &how).await {
            Ok(_) => {}
            // Gone, or another one by now.
            Err(error) if matches!(code(&error), 404 | 409) => {}
            Err(error) => return Err(WorkError::request("delete", "EndpointSlice", &key, error)),
        }
        self.caches.slices.forget(&key);
        Ok(())
    }
}

impl Reconcile for SliceController {
    const KIND: &'static str = "Service";

    async fn ready(&self) {
        self.caches.services.synced().await;
        self.caches.pods.synced().await;
        self.caches.nodes.synced().await;
        self.caches.slices.synced().await;
    }

    async fn reconcile(&self, key: &Key) -> Result<Outcome, WorkError> {
        let ours = |slice: &EndpointSlice| service_of(slice) == Some(key.name.as_str());
        let existing = self.caches.slices.in_namespace(&key.namespace, ours);
        let Some(service) = self.caches.services.get(key) else { return self.abandon(key, existing).await };
        let spec = service.spec.as_ref();
        if spec.and_then(|spec| spec.type_.as_deref()) == Some("ExternalName") {
            return self.write(existing.into_iter().map(SliceChange::Delete).collect()).await;
        }
        // Without a selector others look after the endpoints.
        if spec.and_then(|spec| spec.selector.as_ref()).is_none_or(BTreeMap::is_empty) {
            return Ok(Outcome::Done);
        }
        let pods = self.caches.pods.in_namespace(&key.namespace, |pod| selects(&service, pod));
        let node = |name: &str| self.caches.nodes.get(&Key::new("", name));
        self.write(slices(&service, &pods, node, &existing)).await
    }
}

#[cfg(test)]
mod tests;
