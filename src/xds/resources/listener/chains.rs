//! Filter chains after the TLS and TCP routes of a VirtualService.

use envoy_types::pb::envoy::config::core::v3::CidrRange;
use envoy_types::pb::envoy::config::listener::v3 as lds;
use ipnet::IpNet;

use super::chain;
use crate::model::policy::{Sources, VirtualService, Weighted};
use crate::xds::resources::destination::{Reads, Surroundings};
use crate::xds::resources::filters;
use crate::xds::resources::parts::number;

/// Chains in the order of their routes, no two with the same match.
#[derive(Default)]
pub(super) struct Chains {
    pub(super) all: Vec<lds::FilterChain>,
    /// Whether one of them takes every connection.
    pub(super) complete: bool,
    /// Whether one of them asks for a server name.
    pub(super) by_name: bool,
}

/// The chains for clients that ask for `port`: TLS routes first. Envoy takes the most specific match; of equal ones
/// the first route's is kept.
pub(super) fn of(told: &VirtualService, port: u16, around: &Surroundings<'_>, reads: &mut Reads) -> Chains {
    let mut chains = Chains::default();
    let mut maker = Maker { told, port, around, reads };
    for route in &told.tls {
        for one in &route.matches {
            let names: Vec<_> = one.server_names.iter().map(ToString::to_string).collect();
            chains.by_name |= maker.put(names, &one.subnets, &one.sources, &route.to, &mut chains.all);
        }
    }
    for route in &told.tcp {
        for one in &route.matches {
            maker.put(Vec::new(), &one.subnets, &one.sources, &route.to, &mut chains.all);
        }
        if route.matches.is_empty() {
            maker.put(Vec::new(), &[], &Sources::default(), &route.to, &mut chains.all);
        }
    }
    chains.complete = chains.all.iter().any(|chain| chain.filter_chain_match.is_none());
    chains
}

struct Maker<'a, 'r> {
    told: &'a VirtualService,
    port: u16,
    around: &'a Surroundings<'a>,
    reads: &'r mut Reads,
}

impl Maker<'_, '_> {
    /// Adds a chain unless it is not for these clients or there is one with its match.
    fn put(
        &mut self,
        server_names: Vec<String>,
        subnets: &[IpNet],
        sources: &Sources,
        to: &[Weighted],
        all: &mut Vec<lds::FilterChain>,
    ) -> bool {
        // A match for every name is none.
        let server_names =
            if server_names.iter().any(|name| name == "*") { Vec::new() } else { server_names };
        let matched = matching(server_names, subnets);
        let taken = all.iter().any(|chain| chain.filter_chain_match == matched);
        if taken || !self.around.client.are(sources, self.port) {
            return false;
        }
        let by_name = matched.as_ref().is_some_and(|matched| !matched.server_names.is_empty());
        let targets = self.around.targets(to, self.port, self.reads);
        let stat_prefix = match targets.as_slice() {
            [only] => only.cluster.clone(),
            _ => self.told.meta.id.to_string(),
        };
        all.push(chain("", matched, filters::tcp_to(&stat_prefix, &targets)));
        by_name
    }
}

/// The match for these names and blocks of destinations; `None` for everything.
pub(super) fn matching(server_names: Vec<String>, subnets: &[IpNet]) -> Option<lds::FilterChainMatch> {
    let range = |block: &IpNet| CidrRange {
        address_prefix: block.network().to_string(),
        prefix_len: number(block.prefix_len().into()),
    };
    (!server_names.is_empty() || !subnets.is_empty()).then(|| lds::FilterChainMatch {
        prefix_ranges: subnets.iter().map(range).collect(),
        server_names,
        ..Default::default()
    })
}
