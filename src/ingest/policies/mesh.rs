//! Where MeshConfig comes from: a file, or the mesh ConfigMap of the config cluster.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;

use super::decode::mesh_config;
use crate::ingest::networks::Publisher;
use crate::ingest::problems::Problems;
use crate::ingest::snapshot::{Documents, Memory};
use crate::model::Name;
use crate::model::policy::MeshConfig;
use crate::registry::Registry;

/// What the problem of an unusable document is about, and that of one that cannot be asked for.
const SUBJECT: &str = "MeshConfig";
const SOURCE: &str = "MeshConfig, source";
/// What the problem of parts of a document in use is about.
const PARTS: &str = "MeshConfig, parts";

/// The document as it is now; `None` until it is known for the first time.
pub(in crate::ingest) type MeshConfigFeed = watch::Receiver<Option<Arc<MeshConfig>>>;

/// Publishes the document: to the registry, and to whoever reads by it here. One that is wrong changes nothing and is
/// told.
pub(in crate::ingest) struct MeshConfigPublisher {
    current: watch::Sender<Option<Arc<MeshConfig>>>,
    registry: Arc<Registry>,
    problems: Arc<Problems>,
    memory: Arc<Memory>,
    /// What holds without a document.
    usual: MeshConfig,
}

impl MeshConfigPublisher {
    /// Of a mesh whose root namespace is the system namespace unless the document says otherwise.
    pub(in crate::ingest) fn new(
        registry: Arc<Registry>,
        problems: Arc<Problems>,
        system_namespace: &Name,
    ) -> Self {
        let usual = MeshConfig { root_namespace: system_namespace.clone(), ..MeshConfig::default() };
        let (current, memory) = (watch::Sender::new(None), Arc::default());
        Self { current, registry, problems, memory, usual }
    }

    /// The same, with what the ConfigMap said before the start.
    pub(in crate::ingest) fn remembering(self, memory: Arc<Memory>) -> Self {
        Self { memory, ..self }
    }

    pub(in crate::ingest) fn feed(&self) -> MeshConfigFeed {
        self.current.subscribe()
    }

    /// Goes by the file from the start.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(in crate::ingest) fn begin(&self, text: &str, path: &Path) -> Result<(), String> {
        self.take(text, &format!("file {}", path.display()))
    }

    fn publish(&self, mesh: MeshConfig) {
        self.registry.write_mesh_config(mesh.clone());
        self.current.send_if_modified(|current| {
            let differs = current.as_deref() != Some(&mesh);
            if differs {
                *current = Some(Arc::new(mesh));
            }
            differs
        });
    }

    fn stands(&self, origin: &str, why: &str) -> String {
        let stands = if self.is_known() { "what was read before stands" } else { "the defaults hold" };
        format!("{origin}: {why}; {stands}")
    }
}

impl Publisher for MeshConfigPublisher {
    const KEY: &'static str = "mesh";
    const EMPTIED: &'static str = "is empty: `{}` leaves everything at its default";

    fn is_known(&self) -> bool {
        self.current.borrow().is_some()
    }

    fn says_something(&self) -> bool {
        self.current.borrow().as_deref().is_some_and(|mesh| *mesh != self.usual)
    }

    fn take(&self, text: &str, origin: &str) -> Result<(), String> {
        match mesh_config(text, self.usual.clone()) {
            Ok((mesh, parts)) => {
                self.reachable();
                self.problems.clear(SUBJECT);
                match parts.is_empty() {
                    true => self.problems.clear(PARTS),
                    false => self.problems.set(PARTS, format!("{origin}: {}", parts.join("; "))),
                }
                match text.trim().is_empty() {
                    true => tracing::info!(origin, "there is no MeshConfig: the defaults hold"),
                    false => tracing::info!(origin, "MeshConfig read"),
                }
                self.publish(mesh);
                Ok(())
            }
            Err(problem) => Err(problem),
        }
    }

    fn recall(&self, text: &str, origin: &str) {
        match mesh_config(text, self.usual.clone()) {
            Ok((mesh, _)) => self.publish(mesh),
            Err(problem) => tracing::warn!(origin, problem, "not used"),
        }
    }

    fn unreadable(&self, origin: &str, why: &str) {
        self.problems.set(SUBJECT, self.stands(origin, why));
    }

    fn unreachable(&self, origin: &str, why: &str) {
        self.problems.set(SOURCE, self.stands(origin, why));
    }

    fn reachable(&self) {
        self.problems.clear(SOURCE);
    }

    fn memory(&self) -> &Memory {
        &self.memory
    }

    fn of(documents: &mut Documents) -> &mut Option<Arc<str>> {
        &mut documents.mesh_config
    }

    fn nothing(&self) {
        if !self.is_known() {
            self.publish(self.usual.clone());
        }
    }
}
