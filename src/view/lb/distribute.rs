//! Shares by locality (R4.32).

use super::{Group, is_meant};
use crate::model::Locality;
use crate::model::policy::Distribute;

/// The rule for a proxy's locality: the first whose `from` means it.
fn rule<'a>(rules: &'a [Distribute], from: &Locality) -> Option<&'a Distribute> {
    rules.iter().find(|rule| is_meant(&rule.from, from))
}

/// Whether a rule is for the proxy: without one groups keep their own weights.
pub(in crate::view) fn shares(rules: &[Distribute], from: &Locality) -> bool {
    rule(rules, from).is_some()
}

/// The pattern that a locality's share comes from, or `Err` when the rule for the proxy gives it none. `Ok(None)` when
/// no rule is for the proxy.
pub(in crate::view) fn first_share(
    rules: &[Distribute],
    from: &Locality,
    locality: &Locality,
) -> Result<Option<usize>, ()> {
    let Some(rule) = rule(rules, from) else {
        return Ok(None);
    };
    rule.to.iter().position(|(pattern, _)| is_meant(pattern, locality)).map(Some).ok_or(())
}

/// Gives the groups that one pattern means its percentage, by their weights and rounded up. A group counts for the
/// first pattern that means it; one that none means keeps its place and loses its endpoints. Groups of one priority
/// share with each other.
pub fn distribute<M>(rules: &[Distribute], from: &Locality, mut groups: Vec<Group<M>>) -> Vec<Group<M>> {
    let Some(rule) = rule(rules, from) else {
        return groups;
    };
    let pattern =
        |group: &Group<M>| rule.to.iter().position(|(pattern, _)| is_meant(pattern, &group.locality));
    let places: Vec<_> = groups.iter().map(|group| (pattern(group), group.priority)).collect();
    let before: Vec<_> = groups.iter().map(|group| group.weight.unwrap_or(1)).collect();
    for (at, group) in groups.iter_mut().enumerate() {
        let Some(pattern) = places[at].0 else {
            group.members.clear();
            continue;
        };
        let same = places.iter().zip(&before).filter(|(place, _)| **place == places[at]);
        let total = same.map(|(_, weight)| *weight).fold(0_u128, u128::saturating_add);
        let share = before[at].saturating_mul(rule.to[pattern].1.into());
        if share > 0 {
            group.weight = Some(share.div_ceil(total));
        }
    }
    groups
}
