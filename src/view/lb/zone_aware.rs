//! Priorities by region, for zone-aware routing (R4.35).

use super::{Group, compress};
use crate::model::Locality;
use crate::model::policy::Failover;

/// The proxy's region first, then the one that it fails over to, then all others. Composed with the priorities that are
/// there.
pub fn zone_aware<M>(rules: &[Failover], from: &Locality, mut groups: Vec<Group<M>>) -> Vec<Group<M>> {
    let target = rules.iter().find(|rule| rule.from == from.region).map(|rule| &rule.to);
    for group in &mut groups {
        let region = &group.locality.region;
        let rank = if *region == from.region { 0 } else { 1 + u32::from(target != Some(region)) };
        group.priority = group.priority * 3 + rank;
    }
    compress(groups)
}
