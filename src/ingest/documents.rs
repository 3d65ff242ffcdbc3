//! The documents of the mesh, `meshNetworks` and MeshConfig: a file, or a key of the mesh ConfigMap.

use std::sync::Arc;

use super::client::ApiServer;
use super::networks::{MeshFile, MeshPublisher, Publisher, follow_config_map};
use super::objects::ObjectKey;
use super::policies::MeshConfigPublisher;
use super::watch::{KubeSource, ObjectSource, Source, SourceLimits};
use super::{IngestError, IngestOptions};

/// The file of the document, read for the first time: one that cannot be used stops the start.
pub(super) fn open_mesh(
    options: &IngestOptions,
    publisher: &MeshPublisher,
) -> Result<Option<MeshFile>, IngestError> {
    let Some(path) = &options.networks.config else {
        return Ok(None);
    };
    let wrong = |problem: String| IngestError::MeshNetworks { path: path.clone(), problem };
    let file = MeshFile::open(path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    publisher.take(file.text(), "--networks-config").map_err(wrong)?;
    Ok(Some(file))
}

/// The file of MeshConfig, likewise.
pub(super) fn open_mesh_config(
    options: &IngestOptions,
    publisher: &MeshConfigPublisher,
) -> Result<Option<MeshFile>, IngestError> {
    let Some(path) = &options.mesh_config else {
        return Ok(None);
    };
    let wrong = |problem: String| IngestError::MeshConfig { path: path.clone(), problem };
    let file = MeshFile::open(path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    publisher.begin(file.text(), path).map_err(wrong)?;
    Ok(Some(file))
}

/// Where the mesh ConfigMap is.
#[derive(Clone)]
pub(super) struct ConfigMapSource {
    /// The config cluster's API server.
    pub(super) server: Arc<ApiServer>,
    pub(super) limits: Arc<SourceLimits>,
    pub(super) options: Arc<IngestOptions>,
}

/// Follows a document: the file if there is one, else the ConfigMap of the config cluster, else nothing.
pub(super) async fn follow_document(
    file: Option<MeshFile>,
    config_map: Option<ConfigMapSource>,
    publisher: impl Publisher,
) {
    match (file, config_map) {
        (Some(file), _) => file.follow(publisher).await,
        (None, Some(ConfigMapSource { server, limits, options })) => {
            let name = &options.networks.config_map;
            let source = KubeSource::new(server, limits)
                .in_namespace(&options.system_namespace)
                .with_fields(&format!("metadata.name={name}"));
            let patience = Some(options.remote_cluster_timeout).filter(|timeout| !timeout.is_zero());
            let key = ObjectKey::new(&options.system_namespace, name);
            let Source { events, control } = ObjectSource::start(source);
            let relist = move |reason| control.relist(reason);
            follow_config_map(events, relist, publisher, key, patience).await;
        }
        (None, None) => publisher.nothing(),
    }
}
