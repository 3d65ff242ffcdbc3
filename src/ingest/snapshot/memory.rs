//! What outlives a restart besides the states of clusters: what host names of gateways resolved to, and the
//! document `meshNetworks` of the mesh ConfigMap.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::model::{ClusterId, Hostname};

/// Addresses by host name.
pub type Addresses = BTreeMap<Hostname, Vec<IpAddr>>;

/// Filled from snapshots at the start, and asked when they are written. Shared by whoever resolves and reads.
#[derive(Debug)]
pub(in crate::ingest) struct Memory {
    addresses: Mutex<Addresses>,
    document: Mutex<Option<Arc<str>>>,
    before: watch::Sender<Before>,
}

/// What the ConfigMap said before the start.
#[derive(Debug)]
enum Before {
    /// The snapshot of this cluster, which is being looked for, has it.
    Awaited(ClusterId),
    /// Nobody knows, if it is `None`.
    Known(Option<Arc<str>>),
}

impl Default for Memory {
    fn default() -> Self {
        let before = watch::Sender::new(Before::Known(None));
        Self { addresses: Mutex::default(), document: Mutex::default(), before }
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

    /// The snapshot of this cluster will be looked for: nobody goes on without its document before that.
    pub(in crate::ingest) fn await_document(&self, of: &ClusterId) {
        self.before.send_replace(Before::Awaited(of.clone()));
    }

    /// The snapshot of a cluster was looked for, and this is its document.
    pub(in crate::ingest) fn recall_document(&self, of: &ClusterId, text: Option<&Arc<str>>) {
        self.before.send_if_modified(|before| {
            let awaited = matches!(before, Before::Awaited(cluster) if cluster == of);
            if awaited {
                // Kept on, whether or not it can be read again.
                locked(&self.document).clone_from(&text.cloned());
                *before = Before::Known(text.cloned());
            }
            awaited
        });
    }

    /// What the ConfigMap said before the start, once that has been looked for.
    pub(in crate::ingest) async fn document_before(&self) -> Option<Arc<str>> {
        let mut before = self.before.subscribe();
        match before.wait_for(|before| matches!(before, Before::Known(_))).await.as_deref() {
            Ok(Before::Known(text)) => text.clone(),
            // We hold the sender.
            _ => None,
        }
    }

    /// The ConfigMap was read.
    pub(in crate::ingest) fn set_document(&self, text: &str) {
        *locked(&self.document) = Some(text.into());
    }

    /// What it said last; `None` when it was never read.
    pub(super) fn document(&self) -> Option<Arc<str>> {
        locked(&self.document).clone()
    }
}

/// Held for look-ups only.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
