//! Which localities are preferred: pure functions over groups of endpoints (R4.29–R4.36).

mod distribute;
mod failover;
mod priority;
mod setting;
mod zone_aware;

pub use distribute::distribute;
pub(super) use distribute::{first_share, shares};
pub use failover::failover;
pub use priority::failover_priority;
pub use setting::{Plan, Setting, Source, is_locality_weighted, plan, setting};
pub use zone_aware::zone_aware;

use crate::model::{Locality, Name};

/// An endpoint as far as priorities look at it.
pub trait Member {
    /// One of its labels; absent is empty.
    fn label(&self, label: &str) -> &str;
    /// Its weight.
    fn weight(&self) -> u128;
}

/// Endpoints of one locality and priority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group<M> {
    /// Where they are.
    pub locality: Locality,
    /// 0 is preferred.
    pub priority: u32,
    /// The weight of the group; `None` is not set and counts as 1.
    pub weight: Option<u128>,
    /// The endpoints.
    pub members: Vec<M>,
}

/// What is compared of a proxy.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// Where it runs.
    pub locality: &'a Locality,
    /// Its values of the labels that a plan compares; `None` for a proxy without any label (R4.34).
    pub labels: Option<&'a [(Name, Name)]>,
}

impl Client<'_> {
    /// The value of one of its labels; absent is empty.
    fn label(&self, label: &str) -> &str {
        let labels = self.labels.unwrap_or_default();
        labels.iter().find(|(own, _)| own.as_str() == label).map_or("", |(_, value)| value)
    }
}

/// Carries out a plan for a proxy: priorities and weights of groups change, and groups are split where their
/// endpoints differ in priority. The order of groups stays.
pub fn apply<M: Member>(plan: &Plan<'_>, client: Client<'_>, groups: Vec<Group<M>>) -> Vec<Group<M>> {
    match plan {
        Plan::Unchanged => groups,
        Plan::Distribute(rules) => distribute(rules, client.locality, groups),
        Plan::Failover { keys, regions } => {
            let groups = failover_priority(keys, client, groups);
            match regions {
                Some(regions) => failover(regions, client.locality, groups),
                None => groups,
            }
        }
        Plan::ZoneAware { keys, regions } => {
            zone_aware(regions, client.locality, failover_priority(keys, client, groups))
        }
    }
}

/// Numbers the priorities that occur 0, 1, 2, …
fn compress<M>(mut groups: Vec<Group<M>>) -> Vec<Group<M>> {
    let mut seen: Vec<u32> = groups.iter().map(|group| group.priority).collect();
    seen.sort_unstable();
    seen.dedup();
    for group in &mut groups {
        group.priority = seen.partition_point(|priority| *priority < group.priority) as u32;
    }
    groups
}

/// Whether a pattern `region[/zone[/subzone]]` means a locality: `*` and parts that are left out mean anything (R4.32).
fn is_meant(pattern: &str, locality: &Locality) -> bool {
    let mut parts = pattern.splitn(3, '/');
    let region = parts.next().unwrap_or_default();
    let mut further = |own: &Name| match parts.next() {
        None | Some("" | "*") => true,
        Some(part) => part == own.as_str(),
    };
    (region == "*" || region == locality.region.as_str())
        && further(&locality.zone)
        && further(&locality.subzone)
}
