//! What the chains of a listener are for: server names and blocks of destinations, each pair of them once.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use envoy_types::pb::envoy::config::core::v3::CidrRange;
use envoy_types::pb::envoy::config::listener::v3 as lds;
use ipnet::IpNet;

use crate::model::Name;
use crate::xds::resources::parts::number;

/// Every pair of these server names and blocks; without names any name, without blocks any destination.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Matches {
    /// Full names or `*.suffix`.
    pub(super) names: Vec<Name>,
    /// Blocks of destination addresses.
    pub(super) blocks: Vec<IpNet>,
}

/// One pair; `None` for any.
pub(super) type Pair = (Option<Name>, Option<IpNet>);

impl Matches {
    /// A name `*` is any name.
    pub(super) fn new(names: Vec<Name>, blocks: &[IpNet]) -> Self {
        let names = if names.iter().any(|name| name.as_str() == "*") { Vec::new() } else { names };
        Self { names, blocks: blocks.iter().map(IpNet::trunc).collect() }
    }

    /// Whether every connection is meant.
    pub(super) fn is_everything(&self) -> bool {
        self.names.is_empty() && self.blocks.is_empty()
    }

    /// As Envoy is told it; `None` for everything.
    pub(super) fn message(&self) -> Option<lds::FilterChainMatch> {
        let range = |block: &IpNet| CidrRange {
            address_prefix: block.network().to_string(),
            prefix_len: number(block.prefix_len().into()),
        };
        (!self.is_everything()).then(|| lds::FilterChainMatch {
            prefix_ranges: self.blocks.iter().map(range).collect(),
            server_names: self.names.iter().map(ToString::to_string).collect(),
            ..Default::default()
        })
    }
}

/// The pairs of a listener that have a chain. Envoy refuses a listener with two chains for one.
#[derive(Debug)]
pub(super) struct Taken<T> {
    pairs: BTreeMap<Pair, T>,
    /// Pairs that were left out because a chain that leads elsewhere has them.
    pub(super) conflicts: usize,
}

impl<T> Default for Taken<T> {
    fn default() -> Self {
        Self { pairs: BTreeMap::new(), conflicts: 0 }
    }
}

impl<T: PartialEq + Clone> Taken<T> {
    /// Takes those pairs that are free for a chain that leads to `to`: what one or more chains are for.
    pub(super) fn take(&mut self, wanted: &Matches, to: &T) -> Vec<Matches> {
        self.take_or(wanted, to, |_, _| {})
    }

    /// The same; `lost` is told each pair that is left out, and who has it.
    pub(super) fn take_or(
        &mut self,
        wanted: &Matches,
        to: &T,
        mut lost: impl FnMut(&Pair, &T),
    ) -> Vec<Matches> {
        let mut chains: Vec<Matches> = Vec::new();
        for name in options(&wanted.names) {
            let mut free = Vec::new();
            for block in options(&wanted.blocks) {
                match self.pairs.entry((name.clone(), block)) {
                    Entry::Occupied(other) if other.get() == to => {}
                    Entry::Occupied(other) => {
                        self.conflicts += 1;
                        lost(other.key(), other.get());
                    }
                    Entry::Vacant(place) => {
                        place.insert(to.clone());
                        free.push(block);
                    }
                }
            }
            if free.is_empty() {
                continue;
            }
            let blocks: Vec<_> = free.into_iter().flatten().collect();
            match chains.iter_mut().find(|chain| chain.blocks == blocks) {
                Some(chain) => chain.names.extend(name),
                None => chains.push(Matches { names: name.into_iter().collect(), blocks }),
            }
        }
        chains
    }
}

/// Each of some values; `None` when there is none.
fn options<V: Clone>(values: &[V]) -> Vec<Option<V>> {
    if values.is_empty() { vec![None] } else { values.iter().cloned().map(Some).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(names: &[&str], blocks: &[&str]) -> Matches {
        let blocks: Vec<_> = blocks.iter().map(|block| block.parse().expect("block")).collect();
        Matches::new(names.iter().map(|name| (*name).into()).collect(), &blocks)
    }

    #[test]
    fn each_pair_is_taken_once() {
        let mut taken = Taken::default();
        let ab = matches(&["a", "b"], &["10.0.0.0/8", "10.0.0.1/8"]);
        assert_eq!(taken.take(&ab, &1), [matches(&["a", "b"], &["10.0.0.0/8"])], "one block");
        let bc = matches(&["b", "c"], &["10.0.0.0/8", "10.1.0.0/16"]);
        let rest = [matches(&["b"], &["10.1.0.0/16"]), matches(&["c"], &["10.0.0.0/8", "10.1.0.0/16"])];
        assert_eq!((taken.take(&bc, &2), taken.conflicts), (rest.into(), 1));
        assert_eq!((taken.take(&ab, &1), taken.conflicts), (Vec::new(), 1), "the same again is no conflict");
        assert_eq!(
            taken.take(&matches(&["a"], &[]), &3),
            [matches(&["a"], &[])],
            "any destination is another pair"
        );
    }

    #[test]
    fn every_name_is_none() {
        assert!(matches(&["a", "*"], &[]).is_everything() && matches(&["*"], &[]).message().is_none());
        let mut taken = Taken::default();
        assert_eq!(taken.take(&Matches::default(), &1), [Matches::default()]);
        assert_eq!((taken.take(&matches(&["*"], &[]), &2), taken.conflicts), (Vec::new(), 1));
    }
}
