//! Priorities by distance between localities (R4.33).

use super::{Group, compress};
use crate::model::Locality;
use crate::model::policy::Failover;

/// Ranks groups: same subzone 0, same zone 1, same region 2, another region 3; where a rule says to which region the
/// proxy's own fails over, that one stays 3 and the others become 4. Composed with the priorities that are there.
pub fn failover<M>(rules: &[Failover], from: &Locality, mut groups: Vec<Group<M>>) -> Vec<Group<M>> {
    let target = rules.iter().find(|rule| rule.from == from.region).map(|rule| &rule.to);
    for group in &mut groups {
        let to = &group.locality;
        let rank = if to.region != from.region {
            3 + u32::from(target.is_some_and(|target| *target != to.region))
        } else if to.zone != from.zone {
            2
        } else {
            u32::from(to.subzone != from.subzone)
        };
        group.priority = group.priority * 5 + rank;
    }
    compress(groups)
}
