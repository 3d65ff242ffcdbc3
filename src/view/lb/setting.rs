//! Which setting applies to a service, and what is to be done for it (R4.29–R4.31, R4.36).

use crate::model::policy::{Distribute, Failover, LoadBalancer, LocalityLb, MeshConfig, ZoneAwareLb};
use crate::model::{Features, Name, Quirk, Quirks, TrafficDistribution};

/// Who says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A DestinationRule.
    Rule,
    /// The mesh.
    Mesh,
}

/// The setting that applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting<'a> {
    /// Locality load balancing.
    Locality(Source, &'a LocalityLb),
    /// What the Service prefers: applied without any condition.
    Distribution(TrafficDistribution),
    /// Zone-aware routing; switched off it wins all the same and leaves assignments alone.
    ZoneAware(Source, &'a ZoneAwareLb),
}

/// The setting that applies: the rule's zone-aware one, its locality one, what the Service prefers, the mesh's
/// zone-aware one, its locality one. A locality setting that is switched off ends the search (R4.29).
pub fn setting<'a>(
    rule: Option<&'a LoadBalancer>,
    service: TrafficDistribution,
    mesh: &'a MeshConfig,
) -> Option<Setting<'a>> {
    let locality =
        |source, setting: &'a LocalityLb| setting.enabled.then_some(Setting::Locality(source, setting));
    if let Some(setting) = rule.and_then(|rule| rule.zone_aware.as_ref()) {
        return Some(Setting::ZoneAware(Source::Rule, setting));
    }
    if let Some(setting) = rule.and_then(|rule| rule.locality.as_ref()) {
        return locality(Source::Rule, setting);
    }
    if service != TrafficDistribution::Any {
        return Some(Setting::Distribution(service));
    }
    if let Some(setting) = &mesh.zone_aware_lb {
        return Some(Setting::ZoneAware(Source::Mesh, setting));
    }
    mesh.locality_lb.as_ref().and_then(|setting| locality(Source::Mesh, setting))
}

/// What is to be done with the groups of an assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan<'a> {
    /// Nothing.
    Unchanged,
    /// Shares by locality.
    Distribute(&'a [Distribute]),
    /// Priorities by labels, then by locality.
    Failover {
        /// Labels to compare, `key` or `key=value`.
        keys: Vec<&'a str>,
        /// Where regions fail over to; `None` when localities do not count.
        regions: Option<&'a [Failover]>,
    },
    /// Priorities by labels, then by region.
    ZoneAware {
        /// Labels to compare, `key` or `key=value`.
        keys: Vec<&'a str>,
        /// Where regions fail over to.
        regions: &'a [Failover],
    },
}

/// Labels that a Service compares which prefers its own zone (R4.30).
const SAME_ZONE: [&str; 3] =
    ["topology.istio.io/network", "topology.kubernetes.io/region", "topology.kubernetes.io/zone"];
/// Labels that a Service compares which prefers its own node (R4.30).
const SAME_NODE: [&str; 5] = [
    "topology.istio.io/network",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "topology.istio.io/subzone",
    "kubernetes.io/hostname",
];

/// The plan for a setting (R4.31). Priorities need a reason to leave an endpoint: outlier detection (`outliers`), or
/// that the setting names where to go, because health comes from assignments (D6; Q28: that does not count).
pub fn plan<'a>(setting: Option<Setting<'a>>, outliers: bool, quirks: Quirks) -> Plan<'a> {
    let keys = |keys: &'a [Name]| keys.iter().map(Name::as_str).collect::<Vec<_>>();
    match setting {
        None => Plan::Unchanged,
        Some(Setting::Locality(_, setting)) if !setting.distribute.is_empty() => {
            Plan::Distribute(&setting.distribute)
        }
        Some(Setting::Locality(_, setting)) => {
            let explicit = !setting.failover.is_empty() || !setting.failover_priority.is_empty();
            if !setting.enabled || !outliers && (!explicit || quirks.has(Quirk::Q28)) {
                return Plan::Unchanged;
            }
            let by_locality = setting.failover_priority.is_empty() || !setting.failover.is_empty();
            Plan::Failover {
                keys: keys(&setting.failover_priority),
                regions: by_locality.then_some(setting.failover.as_slice()),
            }
        }
        Some(Setting::Distribution(TrafficDistribution::Any)) => Plan::Unchanged,
        Some(Setting::Distribution(TrafficDistribution::PreferSameZone)) => {
            Plan::Failover { keys: SAME_ZONE.to_vec(), regions: None }
        }
        Some(Setting::Distribution(TrafficDistribution::PreferSameNode)) => {
            Plan::Failover { keys: SAME_NODE.to_vec(), regions: None }
        }
        Some(Setting::ZoneAware(_, setting)) if !setting.enabled => Plan::Unchanged,
        Some(Setting::ZoneAware(_, setting)) => {
            Plan::ZoneAware { keys: keys(&setting.failover_priority), regions: &setting.failover }
        }
    }
}

impl Plan<'_> {
    /// The labels of a proxy that it compares: those whose value the setting does not name itself.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        let keys: &[&str] = match self {
            Self::Failover { keys, .. } | Self::ZoneAware { keys, .. } => keys,
            _ => &[],
        };
        keys.iter().copied().filter(|key| !key.contains('='))
    }

    /// Whether it compares where a proxy runs.
    pub fn compares_localities(&self) -> bool {
        match self {
            Self::Distribute(_) | Self::ZoneAware { .. } => true,
            Self::Failover { regions, .. } => regions.is_some(),
            Self::Unchanged => false,
        }
    }

    /// Whether it compares labels at all.
    pub fn compares_labels(&self) -> bool {
        matches!(self, Self::Failover { keys, .. } | Self::ZoneAware { keys, .. } if !keys.is_empty())
    }
}

/// Whether the Envoy cluster balances by the weights of localities (R4.36). What a Service prefers is failover by
/// labels (R4.30).
pub fn is_locality_weighted(features: &Features, setting: Option<Setting<'_>>) -> bool {
    let configured = |setting: Setting<'_>| match setting {
        Setting::Locality(_, own) => {
            !own.distribute.is_empty() || !own.failover.is_empty() || !own.failover_priority.is_empty()
        }
        Setting::Distribution(distribution) => distribution != TrafficDistribution::Any,
        Setting::ZoneAware(..) => false,
    };
    features.locality_weighted || setting.is_some_and(configured)
}
