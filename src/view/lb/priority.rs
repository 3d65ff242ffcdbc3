//! Priorities by labels (R4.34).

use super::{Client, Group, Member, compress};

/// The label whose mismatch as the first key does not end the comparison.
const NETWORK: &str = "topology.istio.io/network";

/// One key of the list: the label, and the value that counts as the proxy's.
struct Key<'a> {
    label: &'a str,
    value: &'a str,
}

/// Ranks endpoints by how many labels, in order, equal the proxy's, and splits groups where their endpoints differ. With
/// the network as the first key every endpoint of the proxy's network precedes every other. Composed with the
/// priorities that are there. A proxy without labels, or an empty list, changes nothing.
pub fn failover_priority<M: Member>(
    keys: &[&str],
    client: Client<'_>,
    groups: Vec<Group<M>>,
) -> Vec<Group<M>> {
    if keys.is_empty() || client.labels.is_none() {
        return groups;
    }
    let compared = keys.iter().map(|key| match key.split_once('=') {
        Some((label, value)) => Key { label, value },
        None => Key { label: key, value: client.label(key) },
    });
    let compared: Vec<_> = compared.collect();
    let whole_network = keys[0] == NETWORK;
    compress(groups.into_iter().flat_map(|group| split(&compared, whole_network, group)).collect())
}

/// The parts of a group, by rank.
fn split<M: Member>(keys: &[Key<'_>], whole_network: bool, group: Group<M>) -> Vec<Group<M>> {
    let base = group.priority * (2 * keys.len() as u32 + 1);
    let mut parts: Vec<Group<M>> = Vec::new();
    for member in group.members {
        let priority = base + rank(keys, whole_network, &member);
        let at = parts.partition_point(|part| part.priority < priority);
        if parts.get(at).is_none_or(|part| part.priority != priority) {
            let locality = group.locality.clone();
            parts.insert(at, Group { locality, priority, weight: Some(0), members: Vec::new() });
        }
        let part = &mut parts[at];
        part.weight = part.weight.map(|sum| sum.saturating_add(member.weight()));
        part.members.push(member);
    }
    parts
}

/// 0 when everything is equal; else the number of keys from the first mismatch on.
fn rank(keys: &[Key<'_>], whole_network: bool, member: &impl Member) -> u32 {
    let differs = |key: &Key<'_>| member.label(key.label) != key.value;
    let count = keys.len();
    let from = |start: usize| {
        let first = keys[start..].iter().position(differs);
        first.map_or(0, |at| (count - start - at) as u32)
    };
    match whole_network {
        true => u32::from(differs(&keys[0])) * count as u32 + from(1),
        false => from(0),
    }
}
