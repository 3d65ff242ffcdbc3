//! What outlives a restart besides the states of clusters: what host names of gateways resolved to, the documents
//! of the mesh ConfigMap, and the policies.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::model::{ClusterId, Hostname};

/// Addresses by host name.
pub type Addresses = BTreeMap<Hostname, Vec<IpAddr>>;

/// What belongs to the config cluster alone; `None` for what was never read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::ingest) struct Documents {
    /// `meshNetworks`.
    pub(in crate::ingest) mesh_networks: Option<Arc<str>>,
    /// MeshConfig.
    pub(in crate::ingest) mesh_config: Option<Arc<str>>,
    /// The policies in use, as JSON.
    pub(in crate::ingest) policies: Option<Arc<str>>,
}

/// Filled from snapshots at the start, and asked when they are written. Shared by whoever resolves and reads.
#[derive(Debug)]
pub(in crate::ingest) struct Memory {
    addresses: Mutex<Addresses>,
    documents: Mutex<Documents>,
    before: watch::Sender<Before>,
}

/// What the documents said before the start.
#[derive(Debug)]
enum Before {
    /// The snapshot of this cluster, which is being looked for, has it.
    Awaited(ClusterId),
    /// Nobody knows those that are `None`.
    Known(Documents),
}

impl Default for Memory {
    fn default() -> Self {
        let before = watch::Sender::new(Before::Known(Documents::default()));
        Self { addresses: Mutex::default(), documents: Mutex::default(), before }
    }
}

impl Memory {
    /// Takes in what names resolved to before. What is known of a name already stands.
    pub(in crate::ingest) fn recall_addresses(&self, addresses: &Addresses) {
        let mut known = locked(&self.addresses);
        for (host, addresses) in addresses {
            known.entry(host.clone()).or_insert_with(|| addresses.clone());
        }
    }

    /// What a name resolved to before the start; nothing when that is not known.
    pub(in crate::ingest) fn addresses(&self, host: &Hostname) -> Vec<IpAddr> {
        locked(&self.addresses).get(host).cloned().unwrap_or_default()
    }

    /// The snapshot of this cluster will be looked for: nobody goes on without its documents before that.
    pub(in crate::ingest) fn await_documents(&self, of: &ClusterId) {
        self.before.send_replace(Before::Awaited(of.clone()));
    }

    /// The snapshot of a cluster was looked for, and these are its documents.
    pub(in crate::ingest) fn recall_documents(&self, of: &ClusterId, documents: Documents) {
        self.before.send_if_modified(|before| {
            let awaited = matches!(before, Before::Awaited(cluster) if cluster == of);
            if awaited {
                // Kept on, whether or not it can be read again.
                locked(&self.documents).clone_from(&documents);
                *before = Before::Known(documents);
            }
            awaited
        });
    }

    /// What was said before the start, once that has been looked for.
    pub(in crate::ingest) async fn documents_before(&self) -> Documents {
        let mut before = self.before.subscribe();
        match before.wait_for(|before| matches!(before, Before::Known(_))).await.as_deref() {
            Ok(Before::Known(documents)) => documents.clone(),
            // We hold the sender.
            _ => Documents::default(),
        }
    }

    /// Something was read.
    pub(in crate::ingest) fn note(&self, change: impl FnOnce(&mut Documents)) {
        change(&mut locked(&self.documents));
    }

    /// What was said last.
    pub(super) fn documents(&self) -> Documents {
        locked(&self.documents).clone()
    }
}

/// Held for look-ups only.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
