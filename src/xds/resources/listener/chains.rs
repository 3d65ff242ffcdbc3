//! Filter chains after the TLS and TCP routes of a VirtualService.

use envoy_types::pb::envoy::config::listener::v3 as lds;
use ipnet::IpNet;

use super::chain;
use super::matches::{Matches, Taken};
use crate::model::Name;
use crate::model::policy::{Sources, VirtualService, Weighted};
use crate::xds::resources::destination::{Reads, Surroundings};
use crate::xds::resources::filters;

/// A chain of one filter, and what it is for.
pub(super) struct Chain {
    pub(super) matches: Matches,
    pub(super) filter: lds::Filter,
}

impl Chain {
    /// As Envoy is told it.
    pub(super) fn message(self) -> lds::FilterChain {
        chain("", self.matches.message(), self.filter)
    }
}

/// The chains for clients that ask for `port`, in the order of their routes, TLS routes first. Envoy takes the most
/// specific match; of equal ones the first route's is kept.
pub(super) fn of(
    told: &VirtualService,
    port: u16,
    around: &Surroundings<'_>,
    reads: &mut Reads,
) -> Vec<Chain> {
    let mut maker = Maker { told, port, around, reads, taken: Taken::default(), made: Vec::new() };
    for route in &told.tls {
        for one in &route.matches {
            maker.put(one.server_names.clone(), &one.subnets, &one.sources, &route.to);
        }
    }
    for route in &told.tcp {
        for one in &route.matches {
            maker.put(Vec::new(), &one.subnets, &one.sources, &route.to);
        }
        if route.matches.is_empty() {
            maker.put(Vec::new(), &[], &Sources::default(), &route.to);
        }
    }
    maker.made
}

struct Maker<'a, 'r> {
    told: &'a VirtualService,
    port: u16,
    around: &'a Surroundings<'a>,
    reads: &'r mut Reads,
    taken: Taken<()>,
    made: Vec<Chain>,
}

impl Maker<'_, '_> {
    /// Adds chains for what is free of a match, unless it is not for these clients.
    fn put(&mut self, names: Vec<Name>, subnets: &[IpNet], sources: &Sources, to: &[Weighted]) {
        if !self.around.client.are(sources, self.port) {
            return;
        }
        let free = self.taken.take(&Matches::new(names, subnets), &());
        if free.is_empty() {
            return;
        }
        let targets = self.around.targets(to, self.port, self.reads);
        let stat_prefix = match targets.as_slice() {
            [only] => only.cluster.clone(),
            _ => self.told.meta.id.to_string(),
        };
        let filter = filters::tcp_to(&stat_prefix, &targets);
        self.made.extend(free.into_iter().map(|matches| Chain { matches, filter: filter.clone() }));
    }
}
