//! Ingest as a control plane runs it, and what the registry and the operators see.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tombolo::ingest::{
    self, ConfigCluster, ConfigSource, Deadlines, Ingest, IngestOptions, McsOptions, Remotes, RetryPolicy,
};
use tombolo::model::{ClusterStatus, Endpoint, Labels, ServiceKey};
use tombolo::registry::{ClusterState, Registry};

pub struct Plane {
    pub registry: Arc<Registry>,
    pub ingest: Ingest,
    cancel: CancellationToken,
    _dir: tempfile::TempDir,
}

impl Drop for Plane {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

impl Plane {
    /// A control plane whose own cluster is `id`, by this kubeconfig; remote ones come from its Secrets.
    pub async fn start(id: &str, kubeconfig: &str) -> Self {
        Self::start_with(id, kubeconfig, |_, _| {}).await
    }

    /// The same with other options; files beside the kubeconfig go with the plane.
    pub async fn start_with(
        id: &str,
        kubeconfig: &str,
        change: impl FnOnce(&mut IngestOptions, &Path),
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kubeconfig");
        std::fs::write(&path, kubeconfig).unwrap();
        let source = ConfigSource::Kubeconfig { path, context: None };
        let mut options = IngestOptions {
            config: Some(ConfigCluster { id: id.into(), source }),
            remotes: Remotes::Secrets,
            allow_loopback_clusters: true,
            removal_grace: Duration::from_millis(50),
            retry: RetryPolicy {
                first: Duration::from_millis(50),
                longest: Duration::from_millis(500),
                ..RetryPolicy::default()
            },
            mcs: McsOptions { discovery: true, ..McsOptions::default() },
            ..IngestOptions::default()
        };
        change(&mut options, dir.path());
        let registry = Registry::new();
        let cancel = CancellationToken::new();
        let ingest = ingest::start(options, Arc::clone(&registry), cancel.clone()).await.unwrap();
        Self { registry, ingest, cancel, _dir: dir }
    }

    /// Waits until this holds; otherwise says what there is instead.
    pub async fn until(&self, what: &str, mut check: impl FnMut() -> bool) {
        let described = || {
            let rows = self.registry.clusters().all();
            let rows: Vec<_> = rows.iter().map(|row| (&row.id, &row.health, &row.objects)).collect();
            format!("{what}; {rows:?}; {:?}; {:?}", self.problems(), self.endpoints("helloworld"))
        };
        let deadline = tokio::time::Instant::now() + super::LIMIT;
        while !check() {
            assert!(tokio::time::Instant::now() < deadline, "not in time: {}", described());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until the start gate is open and this cluster is in this state.
    pub async fn is(&self, cluster: &str, health: &str) {
        self.until(&format!("{cluster} is {health}"), || self.health(cluster) == health).await;
    }

    pub async fn ready(&self) {
        self.until("the start gate is open", || *self.ingest.ready().borrow()).await;
    }

    pub fn status(&self, cluster: &str) -> ClusterStatus {
        self.registry.clusters().get(&cluster.into()).expect("the cluster is configured")
    }

    pub fn health(&self, cluster: &str) -> &'static str {
        let status = self.registry.clusters().get(&cluster.into());
        status.map_or("absent", |status| status.health.word())
    }

    /// Why it is not live.
    pub fn detail(&self, cluster: &str) -> String {
        self.status(cluster).health.detail()
    }

    /// Lists of a kind by reason, as far as the table of clusters says by now.
    pub fn lists(&self, cluster: &str, kind: &str, reason: &str) -> u64 {
        let status = self.status(cluster);
        let lists = status.sources.get(kind).map(|source| &source.counters.lists);
        lists.and_then(|lists| lists.get(reason)).copied().unwrap_or_default()
    }

    /// What the registry holds of a cluster; what is nothing is left out, and so are labels of Namespaces, which are
    /// read of the config cluster alone.
    pub fn state(&self, cluster: &str) -> ClusterState {
        let mut states = self.registry.states(&BTreeSet::from([cluster.into()]));
        let mut state = states.remove(cluster).unwrap();
        state.shards.retain(|_, shard| shard.service.is_some() || !shard.endpoints.is_empty());
        for service in state.shards.values_mut().filter_map(|shard| Arc::make_mut(shard).service.as_mut()) {
            Arc::make_mut(service).namespace_labels = Labels::new();
        }
        state
    }

    /// Endpoint addresses of a service, by cluster.
    pub fn endpoints(&self, name: &str) -> Vec<String> {
        let key = ServiceKey::new("sample", format!("{name}.sample.svc.cluster.local"));
        let snapshot = self.registry.service(&key).map(|cell| cell.load());
        let shards = snapshot.iter().flat_map(|snapshot| snapshot.shards.iter());
        shards
            .flat_map(|shard| {
                let show = |endpoint: &Endpoint| format!("{} {}", shard.cluster, endpoint.addresses[0]);
                shard.endpoints.iter().map(show).collect::<Vec<_>>()
            })
            .collect()
    }

    pub fn has_service(&self, name: &str) -> bool {
        let key = ServiceKey::new("sample", format!("{name}.sample.svc.cluster.local"));
        self.registry.service(&key).is_some_and(|cell| cell.load().service.is_some())
    }

    pub fn publishes(&self) -> u64 {
        self.registry.counts().publishes.load(Ordering::Relaxed)
    }

    pub fn problems(&self) -> Vec<String> {
        let problems = self.ingest.problems().into_iter();
        problems.map(|problem| format!("{}: {}", problem.subject, problem.text)).collect()
    }

    /// Waits until it holds exactly what a control plane holds that starts now.
    pub async fn agrees_with_a_new_one(&self, cluster: &str, kubeconfig: &str) {
        let new = Self::start(cluster, kubeconfig).await;
        new.ready().await;
        new.is(cluster, "live").await;
        let truth = new.state(cluster);
        self.until("it holds what a new one holds", || self.state(cluster) == truth).await;
        new.stop().await;
    }

    pub async fn stop(&self) {
        self.cancel.cancel();
        tokio::time::timeout(super::LIMIT, self.ingest.stopped()).await.expect("it stops in time");
    }
}

/// Deadlines that a test can wait for.
pub fn impatient() -> Deadlines {
    let millis = Duration::from_millis;
    Deadlines {
        silence: millis(1000),
        first_silence: millis(500),
        headers: millis(6000),
        look: millis(1000),
        look_again: millis(300),
        refused: (millis(100), millis(1000)),
        ..Deadlines::default()
    }
}
