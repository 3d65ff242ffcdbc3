//! What outlives a restart besides the states of clusters: what host names of gateways resolved to, and the
//! document `meshNetworks` of the mesh ConfigMap.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::model::Hostname;

/// Addresses by host name.
pub type Addresses = BTreeMap<Hostname, Vec<IpAddr>>;

/// Filled from snapshots at the start, and asked when they are written. Shared by whoever resolves and reads.
#[derive(Debug)]
pub(in crate::ingest) struct Memory {
    addresses: Mutex<Addresses>,
    document: Mutex<Option<Arc<str>>>,
    recalled: watch::Sender<Option<Arc<str>>>,
}

impl Default for Memory {
    fn default() -> Self {
        Self { addresses: Mutex::default(), document: Mutex::default(), recalled: watch::Sender::new(None) }
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

    /// The ConfigMap cannot be read: this is what it said before.
    pub(in crate::ingest) fn recall_document(&self, text: Arc<str>) {
        locked(&self.document).get_or_insert_with(|| Arc::clone(&text));
        self.recalled.send_replace(Some(text));
    }

    /// Tells of a document that was recalled.
    pub(in crate::ingest) fn recalled(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.recalled.subscribe()
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
