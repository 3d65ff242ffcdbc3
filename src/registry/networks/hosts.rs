//! Host names of gateways: who names them, and what they resolve to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::model::{GatewayHost, Hostname, NetworkGateway, NetworkId};

/// One host name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Host {
    networks: BTreeSet<NetworkId>,
    /// Sorted (R3.15); empty until it is resolved.
    addresses: Arc<[IpAddr]>,
}

/// The host names that gateways have, each once however many name it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Hosts(BTreeMap<Hostname, Host>);

impl Hosts {
    pub(super) fn names(&self) -> impl Iterator<Item = &Hostname> {
        self.0.keys()
    }

    pub(super) fn addresses(&self, host: &Hostname) -> Option<&[IpAddr]> {
        self.0.get(host).map(|host| &*host.addresses)
    }

    /// Networks name other hosts than before (network, before, after); says whether the set of names differs. A
    /// name that nobody has any more is forgotten with its addresses.
    pub(super) fn rename<'a>(
        &mut self,
        changes: impl Iterator<Item = (&'a NetworkId, &'a [GatewayHost], &'a [GatewayHost])> + Clone,
    ) -> bool {
        let mut differs = false;
        for (network, _, after) in changes.clone() {
            for gateway in after {
                differs |= !self.0.contains_key(&gateway.host);
                self.0.entry(gateway.host.clone()).or_default().networks.insert(network.clone());
            }
        }
        for (network, before, after) in changes {
            for gone in before.iter().filter(|gone| after.iter().all(|kept| kept.host != gone.host)) {
                let Some(host) = self.0.get_mut(&gone.host) else { continue };
                host.networks.remove(network);
                if host.networks.is_empty() {
                    self.0.remove(&gone.host);
                    differs = true;
                }
            }
        }
        differs
    }

    /// The networks that name a host whose addresses differ from before; `None` if they do not, or nobody
    /// names it.
    pub(super) fn set(&mut self, host: &Hostname, addresses: &[IpAddr]) -> Option<BTreeSet<NetworkId>> {
        let host = self.0.get_mut(host)?;
        let addresses: BTreeSet<_> = addresses.iter().copied().collect();
        let addresses: Arc<[IpAddr]> = addresses.into_iter().collect();
        if host.addresses == addresses {
            return None;
        }
        host.addresses = addresses;
        Some(host.networks.clone())
    }

    /// R3.15: each address of a host is a gateway of its own.
    pub(super) fn resolve(
        &self,
        addressed: &Arc<[NetworkGateway]>,
        hosts: &[GatewayHost],
    ) -> Arc<[NetworkGateway]> {
        if hosts.is_empty() {
            return Arc::clone(addressed);
        }
        let addresses = |gateway: &GatewayHost| {
            let addresses = self.0.get(&gateway.host).map(|host| &*host.addresses).unwrap_or_default();
            addresses.iter().map(|address| gateway.at(*address)).collect::<Vec<_>>()
        };
        let resolved: BTreeSet<_> = hosts.iter().flat_map(addresses).collect();
        // What is told twice by address stays so (Q7).
        let resolved = resolved.into_iter().filter(|gateway| addressed.binary_search(gateway).is_err());
        let mut all: Vec<_> = addressed.iter().cloned().chain(resolved).collect();
        all.sort();
        all.into()
    }
}
