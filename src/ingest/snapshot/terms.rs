//! Under which options a state was read, and what is left of its gateways under others.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::ingest::client::special_kind;
use crate::ingest::convert::{Advertised, SpecialAddresses};
use crate::ingest::networks::MeshNetworks;
use crate::ingest::options::{ClusterOptions, Selection, StalePolicy, Texts};
use crate::model::{
    ClusterId, Endpoint, EndpointShard, GatewayAddress, GatewayHost, InlineAddress, InlineEndpoint, Name,
    NetworkGateway, NetworkId, Service, Set, SpiffeId, Workload, WorkloadProfile,
};
use crate::registry::{ClusterState, NetworkClaim};

/// What options say of a cluster that still matters when nobody can read it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// Networks it may tell gateways of without belonging to them (D10).
    pub trusted: BTreeSet<NetworkId>,
    /// Where its gateways are reached instead.
    pub advertised: Option<Advertised>,
    /// What becomes of its endpoints while nobody can read it (D35).
    pub stale: StalePolicy,
    /// Whose identities its workloads have (D34); empty when not known.
    pub trust_domain: Name,
}

/// How a state from before is looked at now.
#[derive(Debug)]
pub(in crate::ingest) struct Filter<'a> {
    pub(in crate::ingest) terms: Terms,
    pub(in crate::ingest) special: SpecialAddresses,
    /// The document `meshNetworks`, once it is known.
    pub(in crate::ingest) mesh: Option<&'a MeshNetworks>,
}

impl Terms {
    /// Those of the options of a cluster.
    pub(in crate::ingest) fn of(options: &ClusterOptions) -> Self {
        let advertised = options.gateway_address.clone();
        let trust_domain = options.trust_domain.clone().unwrap_or_default();
        Self { trusted: options.trusted_networks.clone(), advertised, stale: options.stale, trust_domain }
    }

    /// The same, but for what these texts say themselves.
    pub(in crate::ingest) fn overridden(&self, texts: &Texts) -> Self {
        let said = Self::of(&ClusterOptions::read([&texts_of(self.stale), texts], None).0);
        let says = |key: &str| texts.contains_key(key);
        Self {
            trusted: if says("trusted-networks") { said.trusted } else { self.trusted.clone() },
            advertised: if says("gateway-address") { said.advertised } else { self.advertised.clone() },
            stale: said.stale,
            trust_domain: if said.trust_domain.is_empty() {
                self.trust_domain.clone()
            } else {
                said.trust_domain
            },
        }
    }
}

/// A policy as a source of options says it.
fn texts_of(policy: StalePolicy) -> Texts {
    let (action, after) = match policy {
        StalePolicy::Hold => return Texts::new(),
        StalePolicy::Demote(after) => ("demote", after),
        StalePolicy::Drop(after) => ("drop", after),
    };
    let after = humantime::format_duration(after).to_string();
    [("stale".to_owned(), action.to_owned()), ("stale-after".to_owned(), after)].into()
}

/// Leaves out of a state from before the namespaces that are not read any more (Z-11). Which ones a selector by
/// labels takes is not known before they are read: there what was read before stays.
pub(in crate::ingest) fn select(selection: &Selection, system: &Name, state: &mut ClusterState) {
    let is_read = |namespace: &Name| {
        namespace == system
            || (selection.only.as_ref().is_none_or(|only| only.contains(namespace))
                && !selection.except.contains(namespace))
    };
    state.shards.retain(|key, _| is_read(&key.namespace));
    state.workloads.retain(|cell| is_read(&cell.workload.namespace));
}

impl Filter<'_> {
    /// What is left of a state that was read under the terms of `then`: gateways of networks that the cluster is
    /// not trusted with any more are not, addresses of this machine are not (K-40), and what is advertised now
    /// takes the place of what was. So does its trust domain, wherever the one of then is spelled.
    pub(in crate::ingest) fn apply(&self, cluster: &ClusterId, then: &Terms, state: &mut ClusterState) {
        self.distrust(cluster, then, &mut state.networks);
        if self.terms.advertised != then.advertised {
            self.advertise(then, &mut state.networks);
        }
        if self.special == SpecialAddresses::Drop {
            state.networks.gateways.retain(|gateway| special_kind(gateway.address).is_none());
            state.shards.values_mut().for_each(drop_special);
        }
        let (old, new) = (&then.trust_domain, &self.terms.trust_domain);
        if !old.is_empty() && !new.is_empty() && old != new {
            Renamed { old, new, workloads: HashMap::new(), profiles: HashMap::new() }.apply(state);
        }
    }

    fn distrust(&self, cluster: &ClusterId, then: &Terms, claim: &mut NetworkClaim) {
        let own = claim.network.clone();
        let trusted = |network: &NetworkId| {
            let withdrawn = then.trusted.contains(network) && !self.terms.trusted.contains(network);
            // Which networks the document gives it is not known before the document is.
            let claimed = self.mesh.is_none_or(|mesh| mesh.claiming(cluster).any(|other| other == network));
            !withdrawn || own.as_ref() == Some(network) || claimed
        };
        claim.gateways.retain(|gateway| trusted(&gateway.network));
        claim.hosts.retain(|gateway| trusted(&gateway.network));
    }

    /// Where nothing is advertised any more, what objects said is not known: the last that is known stays.
    fn advertise(&self, then: &Terms, claim: &mut NetworkClaim) {
        let entrances: BTreeSet<_> = claim
            .gateways
            .iter()
            .map(|one| (one.network.clone(), one.cluster.clone(), one.port, one.hbone_port))
            .chain(
                claim
                    .hosts
                    .iter()
                    .map(|one| (one.network.clone(), one.cluster.clone(), one.port, one.hbone_port)),
            )
            .collect();
        if let Some(before) = then.advertised.as_ref().filter(|before| before.append) {
            let added = |address: &GatewayAddress| before.entries.iter().any(|(entry, _)| entry == address);
            claim.gateways.retain(|gateway| !added(&GatewayAddress::Ip(gateway.address)));
            claim.hosts.retain(|gateway| !added(&GatewayAddress::Host(gateway.host.clone())));
        }
        let Some(now) = &self.terms.advertised else { return };
        if !now.append {
            claim.gateways.clear();
            claim.hosts.clear();
        }
        for (network, cluster, port, hbone_port) in entrances {
            for (address, other_port) in &now.entries {
                let port = if hbone_port == 0 { other_port.unwrap_or(port) } else { port };
                let (network, cluster) = (network.clone(), cluster.clone());
                match address.clone() {
                    GatewayAddress::Ip(address) => {
                        claim.gateways.push(NetworkGateway { network, cluster, address, port, hbone_port });
                    }
                    GatewayAddress::Host(host) => {
                        claim.hosts.push(GatewayHost { network, cluster, host, port, hbone_port });
                    }
                }
            }
        }
        claim.gateways.sort();
        claim.gateways.dedup();
        claim.hosts.sort();
        claim.hosts.dedup();
    }
}

/// Another trust domain. What was shared before is shared again.
struct Renamed<'a> {
    old: &'a Name,
    new: &'a Name,
    /// By identity; the old ones are held, so that no other takes the place of one.
    workloads: HashMap<*const Workload, (Arc<Workload>, Arc<Workload>)>,
    profiles: HashMap<*const WorkloadProfile, (Arc<WorkloadProfile>, Arc<WorkloadProfile>)>,
}

impl Renamed<'_> {
    fn apply(&mut self, state: &mut ClusterState) {
        for cell in &mut state.workloads {
            cell.workload = self.workload(&cell.workload);
        }
        for shard in state.shards.values_mut() {
            let shard = Arc::make_mut(shard);
            shard.accounts = self.accounts(&shard.accounts);
            let renamed = |endpoint: &Endpoint| Endpoint {
                workload: self.workload(&endpoint.workload),
                ..endpoint.clone()
            };
            shard.endpoints = shard.endpoints.iter().map(renamed).collect();
            if let Some(service) = &mut shard.service {
                let accounts = self.accounts(&service.accounts);
                if accounts != service.accounts {
                    Arc::make_mut(service).accounts = accounts;
                }
                if !service.inline().is_empty() {
                    self.rename_inline(Arc::make_mut(service));
                }
            }
        }
    }

    fn rename_inline(&mut self, service: &mut Service) {
        let Some(facts) = &mut service.entry else { return };
        for endpoint in &mut Arc::make_mut(facts).inline {
            endpoint.workload = self.workload(&endpoint.workload);
        }
    }

    fn workload(&mut self, workload: &Arc<Workload>) -> Arc<Workload> {
        if let Some((_, known)) = self.workloads.get(&Arc::as_ptr(workload)) {
            return Arc::clone(known);
        }
        let profile = self.profile(&workload.profile);
        let renamed = Arc::new(Workload { profile, ..Workload::clone(workload) });
        self.workloads.insert(Arc::as_ptr(workload), (Arc::clone(workload), Arc::clone(&renamed)));
        renamed
    }

    fn profile(&mut self, profile: &Arc<WorkloadProfile>) -> Arc<WorkloadProfile> {
        if let Some((_, known)) = self.profiles.get(&Arc::as_ptr(profile)) {
            return Arc::clone(known);
        }
        let account = profile.account.as_ref().map(|account| self.account(account));
        let renamed = Arc::new(WorkloadProfile { account, ..WorkloadProfile::clone(profile) });
        self.profiles.insert(Arc::as_ptr(profile), (Arc::clone(profile), Arc::clone(&renamed)));
        renamed
    }

    fn accounts(&self, accounts: &Set<SpiffeId>) -> Set<SpiffeId> {
        accounts.iter().map(|account| self.account(account)).collect()
    }

    fn account(&self, account: &SpiffeId) -> SpiffeId {
        let is_old = account.trust_domain == *self.old;
        let trust_domain = if is_old { self.new } else { &account.trust_domain };
        SpiffeId { trust_domain: trust_domain.clone(), ..account.clone() }
    }
}

fn drop_special(shard: &mut Arc<EndpointShard>) {
    let special = |addresses: &[IpAddr]| addresses.iter().any(|address| special_kind(*address).is_some());
    if shard.endpoints.iter().any(|endpoint| special(&endpoint.addresses)) {
        let left = shard.endpoints.iter().filter(|endpoint| !special(&endpoint.addresses)).cloned().collect();
        Arc::make_mut(shard).endpoints = left;
    }
    let is_special = |endpoint: &InlineEndpoint| matches!(endpoint.address, InlineAddress::Ip(ip) if special_kind(ip).is_some());
    if shard.service.iter().any(|service| service.inline().iter().any(is_special))
        && let Some(facts) =
            Arc::make_mut(shard).service.as_mut().and_then(|service| Arc::make_mut(service).entry.as_mut())
    {
        Arc::make_mut(facts).inline.retain(|endpoint| !is_special(endpoint));
    }
}

/// What is advertised, as [`Advertised::parse`] reads it.
pub(super) struct Written<'a>(pub(super) &'a Advertised);

impl fmt::Display for Written<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.append { "+" } else { "" })?;
        for (n, (address, port)) in self.0.entries.iter().enumerate() {
            f.write_str(if n == 0 { "" } else { "," })?;
            match (address, port) {
                (GatewayAddress::Ip(IpAddr::V6(address)), Some(port)) => write!(f, "[{address}]:{port}")?,
                (address, Some(port)) => write!(f, "{address}:{port}")?,
                (address, None) => write!(f, "{address}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
