//! What the rules look things up in.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Known;
use super::finding::{Finding, Severity, listed};
use super::hosts::Hosts;
use super::reach::Reach;
use crate::model::policy::{Gateway, MESH_GATEWAY, MeshConfig, Policy, PolicyId, PolicyKind, VirtualService};
use crate::model::{Name, Service};
use crate::registry::Stored;

/// What is known, by name.
pub(super) struct Ground<'a> {
    pub(super) known: Known<'a>,
    pub(super) hosts: Hosts<'a>,
    /// As they were written.
    pub(super) virtual_services: BTreeMap<&'a PolicyId, &'a Arc<VirtualService>>,
    /// By `namespace/name`.
    pub(super) gateways: BTreeMap<Name, &'a Arc<Gateway>>,
    /// The namespaces of the routers that each Gateway selects.
    routers: BTreeMap<Name, BTreeSet<Name>>,
    /// Who leads on to each delegate.
    pub(super) roots: BTreeMap<&'a PolicyId, Vec<&'a Arc<VirtualService>>>,
}

impl<'a> Ground<'a> {
    pub(super) fn new(known: Known<'a>) -> Self {
        let written: Vec<_> = match known.virtual_services {
            [] => all::<VirtualService>(&known),
            written => written.iter().collect(),
        };
        let mut roots: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for one in &written {
            one.delegates().for_each(|id| roots.entry(id).or_default().push(*one));
        }
        let gateways: BTreeMap<_, _> =
            all::<Gateway>(&known).into_iter().map(|one| (one.bound_name(), one)).collect();
        let routers = |one: &Gateway| -> BTreeSet<Name> {
            known
                .workloads
                .with(None, one.selector.labels())
                .map(|(_, namespace)| namespace.clone())
                .collect()
        };
        Self {
            known,
            hosts: Hosts::new(known.services),
            routers: gateways.iter().map(|(name, one)| (name.clone(), routers(one))).collect(),
            virtual_services: written.iter().map(|one| (&one.meta.id, *one)).collect(),
            gateways,
            roots,
        }
    }

    pub(super) fn mesh(&self) -> &'a MeshConfig {
        self.known.policies.mesh()
    }

    pub(super) fn root(&self) -> &'a Name {
        &self.mesh().root_namespace
    }

    /// Every object of a kind, once. Cost ∝ those.
    pub(super) fn all<T: Stored>(&self) -> Vec<&'a Arc<T>> {
        all(&self.known)
    }

    /// Whether a complete list of a kind was read.
    pub(super) fn is_listed(&self, kind: PolicyKind) -> bool {
        !self.known.unlisted.contains(&kind)
    }

    /// Whether an object is there that cannot be read.
    pub(super) fn is_unread(&self, kind: PolicyKind, id: &PolicyId) -> bool {
        !self.known.unread.is_empty() && self.known.unread.contains(&(kind, id.clone()))
    }

    /// The namespaces whose clients a service is exported to.
    pub(super) fn service_reach(&self, service: &Service) -> Reach {
        Reach::of(&service.export_to, &service.key.namespace, &self.mesh().default_service_export_to)
    }

    /// The namespaces whose clients may see a VirtualService.
    pub(super) fn routes_reach(&self, one: &VirtualService) -> Reach {
        let own = &one.meta.id.namespace;
        Reach::of(&one.export_to, own, &self.mesh().default_virtual_service_export_to).and(own)
    }

    /// The namespaces of the clients of a VirtualService; `None` where nobody is known to be one. Those of a delegate are
    /// those of the objects that lead on to it.
    pub(super) fn audience(&self, one: &VirtualService) -> Option<Reach> {
        if one.is_delegate() {
            let roots = self.roots.get(&one.meta.id)?.iter().filter(|root| !root.is_delegate());
            return roots.filter_map(|root| self.audience(root)).reduce(Reach::with);
        }
        let reach = self.routes_reach(one);
        if one.is_for(MESH_GATEWAY) {
            return Some(reach);
        }
        let routers = self.routers_of(one).filter(|namespace| reach.has(namespace));
        let routers: BTreeSet<_> = routers.cloned().collect();
        (!routers.is_empty()).then_some(Reach::Only(routers))
    }

    /// Namespaces whose clients surely heed a VirtualService: its own, if something runs there, and those of its
    /// routers.
    pub(super) fn callers(&self, one: &VirtualService) -> BTreeSet<Name> {
        let own = &one.meta.id.namespace;
        let own = Some(own).filter(|own| one.is_for(MESH_GATEWAY) && self.known.workloads.runs_in(own));
        let reach = self.routes_reach(one);
        let routers = self.routers_of(one).filter(|namespace| reach.has(namespace));
        own.into_iter().chain(routers).cloned().collect()
    }

    fn routers_of(&self, one: &VirtualService) -> impl Iterator<Item = &Name> {
        one.gateways.iter().filter_map(|gateway| self.routers.get(gateway)).flatten()
    }

    /// Words for a namespace of which nothing is known; nothing for others.
    pub(super) fn blank(&self, namespace: &str) -> String {
        if self.hosts.serves(namespace) || self.known.workloads.runs_in(namespace) {
            return String::new();
        }
        format!(
            "; nothing of namespace {namespace} is known: it is empty, or not read (discoverySelectors, the option \
             `namespaces` of clusters)"
        )
    }

    /// The same, which matters less while a cluster that was not read may have what is missed.
    pub(super) fn perhaps(&self, found: Finding) -> Finding {
        if self.known.unsynced.is_empty() { found } else { found.mattering(Severity::Info) }
    }

    /// Words for clusters that may have what is missed; nothing when all were read.
    pub(super) fn unread_clusters(&self) -> String {
        match self.known.unsynced {
            [] => String::new(),
            clusters => format!("; not read completely yet, and may have it: {}", listed(clusters)),
        }
    }
}

fn all<'a, T: Stored>(known: &Known<'a>) -> Vec<&'a Arc<T>> {
    let scopes = known.policies.scopes::<T>();
    let objects = scopes.into_iter().flat_map(|scope| known.policies.of::<T>(scope));
    let by_id: BTreeMap<&PolicyId, &Arc<T>> = objects.map(|one| (&Policy::meta(&**one).id, one)).collect();
    by_id.into_values().collect()
}
