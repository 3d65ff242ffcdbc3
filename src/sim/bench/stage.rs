//! One server with its clusters, for one phase.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::BenchError;
use super::amounts::Amounts;
use super::scene::Scene;
use super::server::{Candidate, Server};
use super::world::Shape;
use crate::sim::fleet::{
    Behaviour, Fleet, FleetSettings, Manner, Proxy, Subscription, Target, assignments, sidecar,
};

/// How long proxies may take to get what they ask for.
pub(super) const SUBSCRIBE_LIMIT: Duration = Duration::from_secs(120);
/// How long after the last response a fleet may go on receiving.
const QUIET_LIMIT: Duration = Duration::from_secs(60);

/// Where phases take place: a directory of its own, and the clusters of the last phase.
#[derive(Debug)]
pub(super) struct Workshop {
    dir: PathBuf,
    scene: Option<Scene>,
    /// A real one, if there is any.
    pub(super) envoy: Option<PathBuf>,
}

impl Workshop {
    /// # Errors
    /// [`BenchError::File`].
    pub(super) fn new(envoy: Option<PathBuf>) -> Result<Self, BenchError> {
        use std::os::unix::fs::DirBuilderExt as _;
        static NUMBER: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("tombolo-bench-{}-{number}", std::process::id()));
        // Kubeconfigs with tokens are in it.
        let created = std::fs::DirBuilder::new().mode(0o700).create(&dir);
        created.map_err(BenchError::file("create", &dir))?;
        Ok(Self { dir, scene: None, envoy })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Starts `candidate` with the clusters of `shape`, which stay for the next phase.
    ///
    /// # Errors
    /// [`BenchError`].
    pub(super) async fn stage<'a>(
        &'a mut self,
        candidate: &Candidate,
        amounts: &'a Amounts,
        shape: Shape,
        further: &[String],
    ) -> Result<Stage<'a>, BenchError> {
        if self.scene.as_ref().is_none_or(|scene| scene.shape != shape) {
            if let Some(old) = self.scene.take() {
                old.shutdown().await;
            }
            self.scene = Some(Scene::start(shape, &self.dir).await?);
        }
        let scene = self.scene.as_ref().expect("made above");
        let server = Server::start(candidate, &scene.kubeconfig, &self.dir, further).await?;
        Ok(Stage { scene, server, amounts })
    }

    pub(super) async fn close(mut self) {
        if let Some(scene) = self.scene.take() {
            scene.shutdown().await;
        }
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        // What cannot be removed is a file that somebody put there.
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// A server that is ready.
#[derive(Debug)]
pub(super) struct Stage<'a> {
    pub(super) scene: &'a Scene,
    pub(super) server: Server,
    pub(super) amounts: &'a Amounts,
}

impl Stage<'_> {
    /// Settings of a fleet that asks for the assignments of all services.
    pub(super) fn fleet_settings(&self) -> FleetSettings {
        FleetSettings {
            assignments: assignments(self.scene.shape.size()),
            seed: self.amounts.sizes.seed,
            ..FleetSettings::new(Target { address: self.server.at.grpc, tls: None })
        }
    }

    /// `count` proxies of this manner.
    pub(super) fn proxies(&self, count: usize, manner: Manner, subscription: Subscription) -> Vec<Proxy> {
        let (homes, size) = (self.scene.shape.homes(), self.scene.shape.size());
        let proxy = |number| Proxy {
            node: sidecar(&homes, size, number),
            behaviour: Behaviour::delta(manner),
            subscription,
        };
        (0..count).map(proxy).collect()
    }

    /// `count` proxies that ask for the assignments of all services; they may not have them yet.
    ///
    /// # Errors
    /// [`BenchError::Fleet`].
    pub(super) fn start_fleet(&self, count: usize) -> Result<Fleet, BenchError> {
        let proxies = self.proxies(count, Manner::Plain, Subscription::Assignments);
        Ok(Fleet::start(&self.fleet_settings(), proxies)?)
    }

    /// The same once they have them and nothing more comes.
    ///
    /// # Errors
    /// [`BenchError::Fleet`].
    pub(super) async fn fleet(&self, count: usize) -> Result<Fleet, BenchError> {
        let fleet = self.start_fleet(count)?;
        fleet.subscribed(SUBSCRIBE_LIMIT).await?;
        self.quiet(&fleet).await;
        Ok(fleet)
    }

    /// Waits until nothing more comes; says when the last response came.
    pub(super) async fn quiet(&self, fleet: &Fleet) -> Instant {
        fleet.quiet(self.amounts.quiet, QUIET_LIMIT).await
    }

    /// CPU that the server has used.
    ///
    /// # Errors
    /// [`BenchError::Usage`].
    pub(super) fn cpu(&self) -> Result<Duration, BenchError> {
        self.server.usage.cpu().map_err(BenchError::Usage)
    }

    /// Resident memory of the server, in bytes.
    ///
    /// # Errors
    /// [`BenchError::Usage`].
    pub(super) fn rss(&self) -> Result<f64, BenchError> {
        self.server.usage.rss().map(|bytes| bytes as f64).map_err(BenchError::Usage)
    }

    /// The builds of one kind so far; `None` of a server that does not say.
    pub(super) async fn builds(&self, kind: &str) -> Option<f64> {
        self.server.metric("tombolo_builds", &format!("kind=\"{kind}\"")).await
    }
}
