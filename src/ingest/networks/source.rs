//! Where the document comes from: a file, or the mesh ConfigMap of the config cluster (R2.4).

mod config_map;
mod file;

use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;

use super::{HostNames, MeshNetworks};
use crate::ingest::client::special_kind;
use crate::ingest::convert::SpecialAddresses;
use crate::ingest::problems::Problems;
use crate::ingest::snapshot::{Documents, Memory};
use crate::model::{ClusterId, GatewayAddress, GatewayHost, NetworkGateway};
use crate::registry::Registry;

pub(in crate::ingest) use config_map::follow_config_map;
pub(in crate::ingest) use file::MeshFile;

/// What the problem of an unusable document is about, and that of one with remarks.
const SUBJECT: &str = "meshNetworks";
const REMARKS: &str = "meshNetworks, remarks";
/// What the problem of a document that cannot be asked for is about.
const SOURCE: &str = "meshNetworks, source";

/// The document as it is now; `None` until it is known for the first time.
pub(in crate::ingest) type MeshFeed = watch::Receiver<Option<Arc<MeshNetworks>>>;

/// Takes in a document, from wherever it comes. One that is wrong changes nothing.
pub(in crate::ingest) trait Publisher: Send + Sync {
    /// Its key in the mesh ConfigMap.
    const KEY: &'static str;
    /// Why a file that was emptied is not believed, and what would say nothing.
    const EMPTIED: &'static str;

    /// Whether any document, even an empty one, has been published.
    fn is_known(&self) -> bool;

    /// Whether there is a document that says something.
    fn says_something(&self) -> bool;

    /// Takes in what a source says now; `origin` names it to operators.
    ///
    /// # Errors
    /// What is wrong, for the caller to tell; nothing was changed then.
    fn take(&self, text: &str, origin: &str) -> Result<(), String>;

    /// Goes on with what a source said before the start, until it says something.
    fn recall(&self, text: &str, origin: &str);

    /// What the source has cannot be read: what was read before stands.
    fn unreadable(&self, origin: &str, why: &str);

    /// The source does not answer, or refuses to: what was read before stands.
    fn unreachable(&self, origin: &str, why: &str);

    /// The source answers.
    fn reachable(&self);

    /// Nobody says anything: goes on without a document.
    fn nothing(&self);

    /// Where it is kept what the documents said before the start.
    fn memory(&self) -> &Memory;

    /// Which of the documents this is.
    fn of(documents: &mut Documents) -> &mut Option<Arc<str>>;
}

/// Publishes the document: static gateways to the registry, the rest to every cluster. A document that is
/// wrong changes nothing and is told.
pub(in crate::ingest) struct MeshPublisher {
    current: watch::Sender<Option<Arc<MeshNetworks>>>,
    registry: Arc<Registry>,
    problems: Arc<Problems>,
    hosts: HostNames,
    special: SpecialAddresses,
    memory: Arc<Memory>,
}

impl MeshPublisher {
    pub(in crate::ingest) fn new(
        registry: Arc<Registry>,
        problems: Arc<Problems>,
        hosts: HostNames,
        special: SpecialAddresses,
    ) -> Self {
        let (current, memory) = (watch::Sender::new(None), Arc::default());
        Self { current, registry, problems, hosts, special, memory }
    }

    /// The same, with what the ConfigMap said before the start.
    pub(in crate::ingest) fn remembering(self, memory: Arc<Memory>) -> Self {
        Self { memory, ..self }
    }

    pub(in crate::ingest) fn feed(&self) -> MeshFeed {
        self.current.subscribe()
    }

    fn stands(&self, origin: &str, why: &str) -> String {
        let stands = if self.is_known() { "what was read before stands" } else { "no networks are known" };
        format!("{origin}: {why}; {stands}")
    }

    fn publish(&self, networks: MeshNetworks, mut warnings: Vec<String>, origin: &str) {
        let (gateways, hosts) = self.static_gateways(&networks, &mut warnings);
        let remarks = (!warnings.is_empty()).then(|| format!("{origin}: {}", warnings.join("; ")));
        self.problems.tell(REMARKS, remarks);
        // Gateways before the endpoints behind them (D15).
        self.registry.set_static_gateways(gateways, hosts);
        self.current.send_if_modified(|current| {
            let differs = current.as_deref() != Some(&networks);
            if differs {
                match networks.is_empty() {
                    true => tracing::info!(
                        origin,
                        "no meshNetworks: networks are known by labels and gateways only"
                    ),
                    false => tracing::info!(origin, "meshNetworks read"),
                }
                *current = Some(Arc::new(networks));
            }
            differs
        });
    }

    /// R3.13, K-40.
    fn static_gateways(
        &self,
        networks: &MeshNetworks,
        warnings: &mut Vec<String>,
    ) -> (Vec<NetworkGateway>, Vec<GatewayHost>) {
        let (mut gateways, mut hosts) = (Vec::new(), Vec::new());
        let cluster = ClusterId::default;
        for told in networks.static_gateways() {
            let (network, port, hbone_port) = (told.network, told.port, 0);
            match told.address {
                GatewayAddress::Ip(address) => match (self.special, special_kind(address)) {
                    (SpecialAddresses::Drop, Some(kind)) => {
                        warnings.push(format!(
                            "gateway {address} of network `{network}` is a {kind} address: not used"
                        ));
                    }
                    _ => gateways.push(NetworkGateway {
                        network,
                        cluster: cluster(),
                        address,
                        port,
                        hbone_port,
                    }),
                },
                GatewayAddress::Host(host) => {
                    hosts.push(GatewayHost { network, host, port, hbone_port, cluster: cluster() });
                }
            }
        }
        (gateways, hosts)
    }
}

impl Publisher for MeshPublisher {
    const KEY: &'static str = "meshNetworks";
    const EMPTIED: &'static str = "is empty: `networks: {}` names no network";

    fn is_known(&self) -> bool {
        self.current.borrow().is_some()
    }

    fn take(&self, text: &str, origin: &str) -> Result<(), String> {
        match MeshNetworks::parse(text, self.hosts).strict() {
            Ok((networks, warnings)) => {
                self.reachable();
                self.problems.clear(SUBJECT);
                self.publish(networks, warnings, origin);
                Ok(())
            }
            Err(problems) => Err(problems),
        }
    }

    fn recall(&self, text: &str, origin: &str) {
        match MeshNetworks::parse(text, self.hosts).strict() {
            Ok((networks, warnings)) => self.publish(networks, warnings, origin),
            Err(problems) => tracing::warn!(origin, problems, "not used"),
        }
    }

    fn says_something(&self) -> bool {
        self.current.borrow().as_ref().is_some_and(|networks| !networks.is_empty())
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

    fn nothing(&self) {
        if !self.is_known() {
            self.current.send_replace(Some(Arc::default()));
        }
    }

    fn memory(&self) -> &Memory {
        &self.memory
    }

    fn of(documents: &mut Documents) -> &mut Option<Arc<str>> {
        &mut documents.mesh_networks
    }
}

/// How a file is called in problems.
fn file_origin(path: &Path) -> String {
    format!("file {}", path.display())
}

#[cfg(test)]
mod tests;
