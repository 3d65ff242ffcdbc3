//! Addresses of one cluster's pods. Each goes round: an address that was given back is the last to be used
//! again, so that late traffic to a gone pod meets nobody.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::{Mutex, PoisonError};

use super::super::plan::ClusterPlan;
use super::workload::Proxy;

/// Where a pod is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// In its network.
    pub pod: Ipv4Addr,
    /// Where other networks reach it: gateways only.
    pub outer: Option<Ipv4Addr>,
    /// Where an explicit sidecar's outbound listeners bind.
    pub outbound: Ipv4Addr,
    /// Where the application behind an explicit sidecar listens.
    pub app: Ipv4Addr,
    number: u16,
    outer_number: Option<u16>,
}

/// Gives them out.
#[derive(Debug)]
pub(super) struct Pool {
    cluster: ClusterPlan,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    pods: Ring,
    outer: Ring,
}

/// Numbers in use, and where to look next.
#[derive(Debug, Default)]
struct Ring {
    used: BTreeSet<u16>,
    next: u16,
}

impl Ring {
    /// The next number below `capacity` that is free.
    fn take(&mut self, capacity: u16) -> Option<u16> {
        let start = self.next.min(capacity);
        let number = (start..capacity).chain(0..start).find(|number| !self.used.contains(number))?;
        self.used.insert(number);
        self.next = number + 1;
        Some(number)
    }
}

impl Pool {
    pub(super) fn new(cluster: &ClusterPlan) -> Self {
        Self { cluster: cluster.clone(), taken: Mutex::default() }
    }

    /// Addresses for a pod with such a proxy; none when all are in use.
    pub(super) fn take(&self, proxy: Proxy) -> Option<Addresses> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let number = taken.pods.take(count(|n| self.cluster.pod_address(n)))?;
        let pod = self.cluster.pod_address(number)?;
        let outer_number = match proxy {
            Proxy::Router => {
                let outer = |n| self.cluster.outer_address(u8::try_from(n).ok()?, pod);
                // Without an outer address a gateway is of no use; its own goes back.
                let number_outside = taken.outer.take(count(outer));
                if number_outside.is_none() {
                    taken.pods.used.remove(&number);
                }
                Some(number_outside?)
            }
            _ => None,
        };
        let outer = outer_number.and_then(|n| self.cluster.outer_address(u8::try_from(n).ok()?, pod));
        let (outbound, app) = beside(pod);
        Some(Addresses { pod, outer, outbound, app, number, outer_number })
    }

    /// Takes them back.
    pub(super) fn give_back(&self, addresses: &Addresses) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.pods.used.remove(&addresses.number);
        if let Some(n) = addresses.outer_number {
            taken.outer.used.remove(&n);
        }
    }
}

/// How many addresses there are.
fn count(address: impl Fn(u16) -> Option<Ipv4Addr>) -> u16 {
    (0..u16::MAX).find(|n| address(*n).is_none()).unwrap_or(u16::MAX)
}

/// Where the outbound listeners and the application of a pod at `address` are: beside it where all pods share
/// one loopback, else on its own.
fn beside(address: Ipv4Addr) -> (Ipv4Addr, Ipv4Addr) {
    let [a, b, c, d] = address.octets();
    if address.is_loopback() {
        (Ipv4Addr::new(a, b, c + 100, d), Ipv4Addr::new(a, b, c + 200, d))
    } else {
        (Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2))
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::plan::{Plan, Range, Shape};
    use super::*;

    fn pool(range: Range) -> Pool {
        Pool::new(&Plan::new(Shape::default(), range).clusters[0])
    }

    #[test]
    fn an_address_given_back_is_not_used_again_at_once() {
        let pool = pool(Range::Loopback(70));
        let first = pool.take(Proxy::Captured).unwrap();
        pool.give_back(&first);
        assert_ne!(pool.take(Proxy::Captured).unwrap().pod, first.pod);
    }

    #[test]
    fn a_full_range_has_no_more_until_one_is_given_back() {
        let pool = pool(Range::Loopback(70));
        let all: Vec<_> = std::iter::from_fn(|| pool.take(Proxy::Captured)).collect();
        assert_eq!(all.iter().map(|one| one.pod).collect::<BTreeSet<_>>().len(), all.len());
        pool.give_back(&all[17]);
        assert_eq!(pool.take(Proxy::Captured).unwrap().pod, all[17].pod);
    }

    #[test]
    fn only_gateways_are_seen_from_outside_each_at_its_own_address() {
        let pool = pool(Range::HostLink(Ipv4Addr::new(172, 31, 240, 0)));
        assert_eq!(pool.take(Proxy::Captured).unwrap().outer, None);
        let (one, two) = (pool.take(Proxy::Router).unwrap(), pool.take(Proxy::Router).unwrap());
        assert!(one.outer.is_some() && one.outer != two.outer);
    }
}
