//! The priorities of an assignment, and what orders them (R4.29–R4.35, D6).

use std::collections::BTreeMap;

use serde::Serialize;

use crate::model::policy::{Failover, LocalityLb};
use crate::model::{Locality, Standing, TrafficDistribution};
use crate::view::lb::{self, Plan, Setting, Source};
use crate::view::{Assignment, Destination, EdsKey, EdsName, Inputs, Origin, projection};

/// One priority.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PriorityRow {
    /// 0 is preferred.
    pub priority: u32,
    /// The groups in it.
    pub groups: Vec<GroupRow>,
    /// The weight of all of them.
    pub weight: u64,
}

/// One locality in a priority.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupRow {
    /// The locality, `region/zone/subzone`; empty when not known.
    pub locality: String,
    /// Its weight.
    pub weight: u32,
    /// How many addresses.
    pub addresses: usize,
    /// How it stands to the proxy, in words.
    pub why: String,
}

/// The priorities, the preferred first.
pub(super) fn rows(
    assignment: &Assignment<'_>,
    inputs: Inputs<'_>,
    name: &EdsName,
    key: &EdsKey,
) -> Vec<PriorityRow> {
    with_plan(inputs, name, key, |plan, _| rows_of(assignment, inputs, key, plan))
}

fn rows_of(
    assignment: &Assignment<'_>,
    inputs: Inputs<'_>,
    key: &EdsKey,
    plan: &Plan<'_>,
) -> Vec<PriorityRow> {
    let mut rows: BTreeMap<u32, PriorityRow> = BTreeMap::new();
    for group in &assignment.groups {
        let row = rows.entry(group.priority).or_insert_with(|| PriorityRow {
            priority: group.priority,
            groups: Vec::new(),
            weight: 0,
        });
        row.weight += u64::from(group.weight);
        let resolved = inputs.service.service.as_ref().is_some_and(|service| service.resolution.is_dns());
        let demoted = key.siblings.is_none()
            && !resolved
            && group.endpoints.iter().any(|endpoint| match endpoint.origin {
                Origin::Direct(workload) => {
                    inputs.standings.part(&workload.cluster).standing != Standing::Regular
                }
                Origin::Gateway { .. } => false,
            });
        let why = match demoted {
            true => "its cluster is stale".to_owned(),
            false => compared(plan, key, &group.locality),
        };
        row.groups.push(GroupRow {
            locality: group.locality.to_string(),
            weight: group.weight,
            addresses: group.endpoints.len(),
            why,
        });
    }
    rows.into_values().collect()
}

/// What orders localities, in words.
pub(super) fn setting(inputs: Inputs<'_>, name: &EdsName, key: &EdsKey) -> String {
    if key.siblings.is_some() {
        return "nothing: Envoy compares the localities of the proxy's own workload as they are".to_owned();
    }
    with_plan(inputs, name, key, |plan, setting| {
        let source = match setting {
            None => return "nothing: it is switched off".to_owned(),
            Some(Setting::Locality(source, setting)) => format!("{}: {}", who(source), what(setting)),
            Some(Setting::Distribution(TrafficDistribution::PreferSameNode)) => {
                "the Service's traffic distribution: PreferSameNode".to_owned()
            }
            Some(Setting::Distribution(_)) => "the Service's traffic distribution: PreferSameZone".to_owned(),
            Some(Setting::ZoneAware(source, setting)) => {
                format!(
                    "{}: zone-aware routing{}",
                    who(source),
                    if setting.enabled { "" } else { ", switched off" }
                )
            }
        };
        match (plan, setting) {
            (Plan::Unchanged, Some(Setting::Locality(_, setting))) if setting.enabled => {
                format!(
                    "{source}; it changes nothing: failover needs outlier detection or regions that are named"
                )
            }
            _ => source,
        }
    })
}

fn with_plan<T>(
    inputs: Inputs<'_>,
    name: &EdsName,
    key: &EdsKey,
    tell: impl FnOnce(&Plan<'_>, Option<Setting<'_>>) -> T,
) -> T {
    if key.siblings.is_some() {
        return tell(&Plan::Unchanged, None);
    }
    let destination = Destination::of_ids(inputs.policies, &name.host, &key.rules);
    let settings = destination.settings(name.port, &name.subset);
    let mesh = inputs.policies.mesh();
    let distribution =
        inputs.service.service.as_ref().map_or_else(Default::default, |service| service.traffic_distribution);
    let setting = lb::setting(settings.load_balancer.as_ref(), distribution, mesh);
    match inputs.service.service.as_deref() {
        Some(service) => {
            let plan = projection::plan_of(&settings, service, mesh, inputs.mesh.quirks(), key.role);
            tell(&plan, setting)
        }
        None => tell(&Plan::Unchanged, setting),
    }
}

fn who(source: Source) -> &'static str {
    match source {
        Source::Rule => "a DestinationRule",
        Source::Mesh => "the mesh",
    }
}

fn what(setting: &LocalityLb) -> String {
    match () {
        () if !setting.distribute.is_empty() => "shares by locality (distribute)".to_owned(),
        () if !setting.failover_priority.is_empty() => {
            let keys: Vec<&str> = setting.failover_priority.iter().map(AsRef::as_ref).collect();
            format!("failoverPriority {}", keys.join(", "))
        }
        () if !setting.failover.is_empty() => {
            let rules: Vec<_> =
                setting.failover.iter().map(|rule| format!("{} → {}", rule.from, rule.to)).collect();
            format!("failover {}", rules.join(", "))
        }
        () => "failover by region, zone and subzone".to_owned(),
    }
}

/// How a locality stands to the proxy's under a plan.
fn compared(plan: &Plan<'_>, key: &EdsKey, locality: &Locality) -> String {
    let nowhere = Locality::default();
    let own = key.locality.as_ref().unwrap_or(&nowhere);
    let by_region = |rules: &[Failover]| match () {
        () if locality.region == own.region
            && locality.zone == own.zone
            && locality.subzone == own.subzone =>
        {
            "the proxy's own locality".to_owned()
        }
        () if locality.region == own.region && locality.zone == own.zone => "the proxy's zone".to_owned(),
        () if locality.region == own.region => "the proxy's region".to_owned(),
        () if rules.iter().any(|rule| rule.from == own.region && rule.to == locality.region) => {
            "the region that the proxy's fails over to".to_owned()
        }
        () => "another region".to_owned(),
    };
    match plan {
        Plan::Unchanged => "localities are not ordered".to_owned(),
        Plan::Distribute(_) => "its share".to_owned(),
        Plan::Failover { regions: Some(rules), .. } => by_region(rules),
        Plan::Failover { keys, regions: None } => format!("by the labels {}", keys.join(", ")),
        Plan::ZoneAware { regions, .. } => by_region(regions),
    }
}
