//! Addresses, by what a lab took from its host.

use std::net::Ipv4Addr;

use super::super::Mode;

/// Prefix length of the link between host and lab.
pub const MANAGEMENT_PREFIX: u8 = 27;
/// Last octet of a network's router.
pub(super) const ROUTER: u8 = 1;
/// Last octet of a cluster's node.
pub(super) const NODE: u8 = 9;
/// Loopback mode: last octet of a control plane.
const LOOPBACK_CONTROL_PLANE: u8 = 2;
/// Loopback mode: last octet of an API server.
const LOOPBACK_API: u8 = 4;
/// Loopback mode: last octets of pods.
const LOOPBACK_PODS: std::ops::RangeInclusive<u16> = 10..=250;
/// Namespaces mode: third octets of one cluster's pods; the first ones are infrastructure's.
const PODS_THIRD: u16 = 16;
/// Namespaces mode: first of the gateways' outer addresses.
const FIRST_OUTER: u8 = 32;
/// Namespaces mode: how many a cluster has.
const OUTER: u8 = 16;

/// The range a lab takes from its host, so that several can run side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    /// Namespaces mode: a /27 between the host and the lab. The host has the first address.
    HostLink(Ipv4Addr),
    /// Loopback mode: 127.`n`.0.0/16.
    Loopback(u8),
}

impl Range {
    /// The mode such a range belongs to.
    pub fn mode(&self) -> Mode {
        match self {
            Range::HostLink(_) => Mode::Namespaces,
            Range::Loopback(_) => Mode::Loopback,
        }
    }

    /// The API server of cluster `index`, from 1.
    pub(super) fn api(self, index: u8) -> Ipv4Addr {
        match self {
            Range::HostLink(net) => above(net, 10 + index),
            Range::Loopback(n) => Ipv4Addr::new(127, n, index, LOOPBACK_API),
        }
    }

    /// The pages of control plane `index`, from 1.
    pub(super) fn management(self, index: u8) -> Ipv4Addr {
        match self {
            Range::HostLink(net) => above(net, 1 + index),
            Range::Loopback(n) => Ipv4Addr::new(127, n, index, LOOPBACK_CONTROL_PLANE),
        }
    }

    /// Control plane `index`, from 1, as pods of network `network`, from 0, reach it. In namespaces mode its
    /// addresses differ between networks: which one a packet comes from says where to it goes.
    pub(super) fn control_plane(self, index: u8, network: u8) -> Ipv4Addr {
        match self {
            Range::HostLink(_) => Ipv4Addr::new(10, 10, 1 + network, 10 + index),
            Range::Loopback(_) => self.management(index),
        }
    }

    /// The router of a network or the node of a cluster.
    pub(super) fn infrastructure(self, index: u8, last: u8) -> Ipv4Addr {
        match self {
            Range::HostLink(_) => Ipv4Addr::new(10, 10, 0, last),
            Range::Loopback(n) => Ipv4Addr::new(127, n, index, last),
        }
    }

    /// The `n`-th pod of cluster `index`, which is the `place`-th of its network. In namespaces mode the
    /// address does not depend on the network: all use the same range, as separately built ones do.
    pub(super) fn pod(self, index: u8, place: u8, n: u16) -> Option<Ipv4Addr> {
        match self {
            Range::HostLink(_) => {
                let (third, last) = (n / 250, n % 250 + 1);
                let third = (third < PODS_THIRD).then(|| PODS_THIRD * (u16::from(place) + 1) + third)?;
                Some(Ipv4Addr::new(10, 10, u8::try_from(third).ok()?, u8::try_from(last).ok()?))
            }
            Range::Loopback(range) => {
                let last = LOOPBACK_PODS.start() + n;
                let last = u8::try_from(last).ok().filter(|_| LOOPBACK_PODS.contains(&last))?;
                Some(Ipv4Addr::new(127, range, index, last))
            }
        }
    }

    /// The outer address of the `n`-th gateway pod of cluster `index`.
    pub(super) fn outer(self, index: u8, n: u8, pod: Ipv4Addr) -> Option<Ipv4Addr> {
        match self {
            Range::HostLink(_) => {
                (n < OUTER).then(|| Ipv4Addr::new(172, 30, 0, FIRST_OUTER + OUTER * (index - 1) + n))
            }
            Range::Loopback(_) => Some(pod),
        }
    }
}

fn above(net: Ipv4Addr, by: u8) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(net) + u32::from(by))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_ends() {
        assert_eq!(Range::Loopback(70).pod(1, 0, 240), Some(Ipv4Addr::new(127, 70, 1, 250)));
        assert_eq!(Range::Loopback(70).pod(1, 0, 241), None);
        let link = Range::HostLink(Ipv4Addr::new(172, 31, 240, 0));
        assert_eq!(link.pod(1, 7, 3999), Some(Ipv4Addr::new(10, 10, 143, 250)));
        assert_eq!(link.pod(1, 7, 4000), None);
        assert_eq!(link.outer(8, 15, Ipv4Addr::LOCALHOST), Some(Ipv4Addr::new(172, 30, 0, 159)));
        assert_eq!(link.outer(8, 16, Ipv4Addr::LOCALHOST), None);
    }
}
