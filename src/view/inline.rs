//! Endpoints that Envoy is told with the Envoy cluster: those of services that it resolves itself (R3.14, R4.21–R4.36).
//!
//! The pipeline is the one of assignments. Only their gateways are the unresolved ones: Envoy resolves a gateway's host name
//! as it resolves the endpoints'.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use super::endpoints::run;
use super::lb::Plan;
use super::roads::Told;
use super::{Assignment, Client, EdsKey, EdsName, Inputs, LocalityGroup, OutboundKey, Role, projection};
use crate::model::policy::{PolicyId, TrafficSettings};
use crate::model::{Locality, Name, ProxyKind, ProxyView, Service};
use crate::registry::{NetworkSnapshot, ServiceSnapshot, StandingSnapshot};

/// What settings about localities compare of a proxy, for some services (R4.32–R4.35).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// Where it runs.
    pub locality: bool,
    /// These labels; `None` when none are compared, and empty when the settings name every value themselves.
    pub labels: Option<BTreeSet<Name>>,
}

/// As much of a proxy as such settings compare.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Where it runs, if that is compared.
    pub locality: Option<Locality>,
    /// Its values of the labels that are compared; `None` also for a proxy without any label (R4.34).
    pub labels: Option<Vec<(Name, Name)>>,
}

impl Compared {
    fn of(plan: &Plan<'_>) -> Self {
        let labels = || plan.labels().map(Name::from).collect();
        Self { locality: plan.compares_localities(), labels: plan.compares_labels().then(labels) }
    }

    /// Whether nothing is: all proxies are alike.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// Compares what `other` compares, too.
    pub fn add(&mut self, other: &Self) {
        self.locality |= other.locality;
        if let Some(labels) = &other.labels {
            self.labels.get_or_insert_default().extend(labels.iter().cloned());
        }
    }

    /// That much of a proxy.
    pub fn place(&self, view: &ProxyView) -> Place {
        let labels = self.labels.as_ref().filter(|_| view.has_labels());
        let value = |key: &Name| (key.clone(), Name::from(view.label(key)));
        Place {
            locality: self.locality.then(|| view.locality.clone()),
            labels: labels.map(|labels| labels.iter().map(value).collect()),
        }
    }
}

/// One service that Envoy resolves, as clients see it.
#[derive(Clone, Copy, Debug)]
pub struct Resolved<'a> {
    /// Who asks.
    pub client: Client<'a>,
    /// The service.
    pub service: &'a Service,
    /// The DestinationRules that hold for them, in order (R4.3).
    pub rules: &'a [PolicyId],
}

impl<'a> Resolved<'a> {
    /// What the settings of one of its Envoy clusters compare of a proxy.
    pub fn compared(&self, settings: &TrafficSettings) -> Compared {
        let (mesh, role) = (self.client.mesh(), role(self.client.key()));
        let quirks = self.client.rules().quirks();
        Compared::of(&projection::plan_of(settings, self.service, mesh, quirks, role))
    }

    /// The endpoints for `name` for clients at `place`.
    pub fn endpoints(&self, name: &EdsName, place: &Place) -> Assignment<'a> {
        static NOBODY: LazyLock<ServiceSnapshot> = LazyLock::new(ServiceSnapshot::default);
        static REGULAR: LazyLock<StandingSnapshot> = LazyLock::new(StandingSnapshot::default);
        static NOWHERE: LazyLock<NetworkSnapshot> = LazyLock::new(NetworkSnapshot::default);
        let inputs = Inputs {
            service: &NOBODY,
            waypoint: None,
            networks: self.client.networks().unwrap_or(&NOWHERE),
            mesh: self.client.rules(),
            standings: &REGULAR,
            policies: self.client.policies(),
        };
        run(inputs, self.service, Told::WithCluster, name, &self.key(place), &mut ())
    }

    fn key(&self, place: &Place) -> EdsKey {
        let key = self.client.key();
        EdsKey {
            role: role(key),
            cluster: key.cluster.clone(),
            network: key.network.clone(),
            families: key.families,
            requested_view: key.requested_view.clone(),
            namespace: Some(self.service.key.namespace.clone()),
            rules: self.rules.to_vec(),
            hbone: false,
            node: None,
            locality: place.locality.clone(),
            labels: place.labels.clone(),
            siblings: None,
        }
    }
}

fn role(key: &OutboundKey) -> Role {
    match key.kind {
        ProxyKind::Sidecar => Role::Sidecar,
        ProxyKind::Router => Role::Router,
    }
}

/// Logical DNS: Envoy takes one endpoint of one locality, without priorities.
pub(super) fn only_one(groups: &mut Vec<LocalityGroup<'_>>) {
    groups.retain(|group| !group.endpoints.is_empty());
    groups.sort_by_key(|group| group.priority);
    groups.truncate(1);
    for group in groups {
        group.priority = 0;
        group.endpoints.truncate(1);
    }
}
