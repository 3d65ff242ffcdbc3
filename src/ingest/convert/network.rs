//! Where addresses belong (R2.1): what holds for every workload of one cluster.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::Pod;
use crate::ingest::objects::NETWORK_LABEL;
use crate::model::{Name, NetworkId};

/// The network of a cluster, and of addresses of it that say nothing themselves (R2.1, rules 2 to 5).
///
/// Two equal values give every workload the same network: a change between them is nothing to re-evaluate.
#[derive(Clone, Debug, Default)]
pub struct ClusterNetwork {
    own: NetworkId,
    blocks: Arc<Blocks>,
}

impl ClusterNetwork {
    /// The network of the cluster itself: the label of its system namespace, else the network that claims its
    /// registry. Empty when neither says one.
    pub fn own(&self) -> &NetworkId {
        &self.own
    }

    /// A cluster that belongs to `own`; where that is empty, its addresses belong where `blocks` say.
    pub fn new(own: NetworkId, blocks: Arc<Blocks>) -> Self {
        Self { own, blocks }
    }

    /// The network of something with this label and these addresses.
    pub fn of(&self, label: Option<&Name>, addresses: &[IpAddr]) -> NetworkId {
        match label {
            Some(label) if !label.is_empty() => NetworkId::from(&**label),
            _ if !self.own.is_empty() => self.own.clone(),
            _ => addresses.iter().find_map(|address| self.blocks.find(*address)).cloned().unwrap_or_default(),
        }
    }

    /// Where a pod belongs.
    pub fn of_pod(&self, pod: &Pod) -> NetworkId {
        self.of(pod.labels.get(NETWORK_LABEL), &pod.addresses)
    }

    /// Where something with this label is by its address alone; `None` where the address does not matter.
    pub(super) fn by_address(&self, label: Option<&Name>, address: IpAddr) -> Option<NetworkId> {
        let labelled = label.is_some_and(|label| !label.is_empty());
        let blocks = self.effective().filter(|_| !labelled)?;
        Some(blocks.find(address).cloned().unwrap_or_default())
    }

    /// Whether blocks of addresses are looked at.
    fn effective(&self) -> Option<&Blocks> {
        (self.own.is_empty() && !self.blocks.0.is_empty()).then_some(&*self.blocks)
    }
}

impl PartialEq for ClusterNetwork {
    fn eq(&self, other: &Self) -> bool {
        self.own == other.own && self.effective() == other.effective()
    }
}

impl Eq for ClusterNetwork {}

/// Every `fromCidr`, disjoint and ordered: of overlapping blocks the least specific one counts (R2.2), of
/// equal ones the first network by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Blocks(Vec<(IpNet, NetworkId)>);

/// Two blocks of different networks overlap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// The block that counts, and its network.
    pub counts: (IpNet, NetworkId),
    /// The block that has no effect, and its network.
    pub ignored: (IpNet, NetworkId),
}

impl Blocks {
    /// Settles overlaps; says which blocks of other networks have no effect.
    pub fn new(blocks: impl IntoIterator<Item = (IpNet, NetworkId)>) -> (Self, Vec<Overlap>) {
        let mut all: Vec<_> = blocks.into_iter().map(|(block, network)| (block.trunc(), network)).collect();
        all.sort_by(|(a, n), (b, m)| (a.network(), a.prefix_len(), n).cmp(&(b.network(), b.prefix_len(), m)));
        let mut kept: Vec<(IpNet, NetworkId)> = Vec::with_capacity(all.len());
        let mut overlaps = Vec::new();
        for candidate in all {
            // Blocks nest or are disjoint: in this order only the last one kept can contain the next.
            match kept.last() {
                Some(wider) if wider.0.contains(&candidate.0) => {
                    if wider.1 != candidate.1 {
                        overlaps.push(Overlap { counts: wider.clone(), ignored: candidate });
                    }
                }
                _ => kept.push(candidate),
            }
        }
        (Self(kept), overlaps)
    }

    /// The network whose block contains an address. Cost: one binary search.
    pub fn find(&self, address: IpAddr) -> Option<&NetworkId> {
        let after = self.0.partition_point(|(block, _)| block.network() <= address);
        let (block, network) = self.0.get(after.checked_sub(1)?)?;
        block.contains(&address).then_some(network)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(texts: &[(&str, &str)]) -> (Blocks, Vec<Overlap>) {
        Blocks::new(texts.iter().map(|(cidr, network)| (cidr.parse().expect("a block"), (*network).into())))
    }

    fn network(own: &str, texts: &[(&str, &str)]) -> ClusterNetwork {
        ClusterNetwork::new(own.into(), Arc::new(blocks(texts).0))
    }

    #[test]
    fn r2_1_label_then_cluster_then_block_then_nothing() {
        let address = ["10.1.2.3".parse().expect("address")];
        let cidr = [("10.1.0.0/16", "by-cidr")];
        let label = Name::from("by-label");
        assert_eq!(&*network("own", &cidr).of(Some(&label), &address), "by-label");
        assert_eq!(&*network("own", &cidr).of(Some(&Name::default()), &address), "own");
        assert_eq!(&*network("own", &cidr).of(None, &address), "own");
        assert_eq!(&*network("", &cidr).of(None, &address), "by-cidr");
        assert_eq!(&*network("", &cidr).of(None, &["10.2.0.1".parse().expect("address")]), "");
        assert_eq!(&*network("", &[]).of(None, &address), "");
    }

    #[test]
    fn r2_2_the_least_specific_block_wins_and_the_other_is_told() {
        let (all, overlaps) = blocks(&[
            ("10.1.2.0/24", "narrow"),
            ("10.0.0.0/8", "wide"),
            ("10.9.0.0/16", "wide"),
            ("11.0.0.0/8", "b"),
            ("11.0.0.0/8", "a"),
            ("fd00::/8", "six"),
            ("0.0.0.0/32", "zero"),
        ]);
        let find = |text: &str| all.find(text.parse().expect("address")).map(|network| network.to_string());
        assert_eq!(find("10.1.2.3").as_deref(), Some("wide"));
        assert_eq!(find("10.255.255.255").as_deref(), Some("wide"));
        assert_eq!(find("11.1.1.1").as_deref(), Some("a"));
        assert_eq!(find("fd12::1").as_deref(), Some("six"));
        assert_eq!(find("0.0.0.0").as_deref(), Some("zero"));
        assert_eq!(find("0.0.0.1"), None);
        assert_eq!(find("12.0.0.0"), None);
        assert_eq!(find("::1"), None);
        let told: Vec<_> = overlaps.iter().map(|o| (&*o.counts.1, &*o.ignored.1)).collect();
        assert_eq!(told, [("wide", "narrow"), ("a", "b")], "blocks of one network may nest silently");
    }

    #[test]
    fn r2_5_equal_effect_is_equal() {
        let cidr = [("10.1.0.0/16", "x")];
        assert_eq!(
            network("own", &cidr),
            network("own", &[]),
            "blocks do not matter to a cluster that belongs"
        );
        assert_ne!(network("", &cidr), network("", &[]));
        assert_ne!(network("own", &[]), network("other", &[]));
    }
}
