//! Endpoints as decisions look at them: those that clusters tell of, and those that Envoy resolves.

use std::net::IpAddr;
use std::sync::Arc;

use super::assignment::Target;
use crate::model::{Discoverability, Endpoint, Health, InlineAddress, InlineEndpoint, Workload};

/// An endpoint of a snapshot. Each kind has its own copy of the pipeline: nothing is asked for at run time.
pub(super) trait Candidate<'a>: Copy {
    /// Who it is.
    fn workload(self) -> &'a Arc<Workload>;
    /// Its target port.
    fn port(self) -> u16;
    /// Its health.
    fn health(self) -> Health;
    /// Its weight, with the default (R4.11).
    fn weight(self) -> u32;
    /// Who may use it (R4.38).
    fn discoverability(self) -> Discoverability;
    /// Its addresses, as far as they are known.
    fn addresses(self) -> &'a [IpAddr];
    /// Where it is if that is no address.
    fn elsewhere(self) -> Option<Target<'a>>;
}

impl<'a> Candidate<'a> for &'a Endpoint {
    #[inline]
    fn workload(self) -> &'a Arc<Workload> {
        &self.workload
    }

    #[inline]
    fn port(self) -> u16 {
        self.port
    }

    #[inline]
    fn health(self) -> Health {
        self.health
    }

    #[inline]
    fn weight(self) -> u32 {
        Endpoint::weight(self)
    }

    #[inline]
    fn discoverability(self) -> Discoverability {
        self.exposure.discoverability()
    }

    #[inline]
    fn addresses(self) -> &'a [IpAddr] {
        &self.addresses
    }

    #[inline]
    fn elsewhere(self) -> Option<Target<'a>> {
        None
    }
}

/// Always healthy, and for every cluster.
impl<'a> Candidate<'a> for &'a InlineEndpoint {
    fn workload(self) -> &'a Arc<Workload> {
        &self.workload
    }

    fn port(self) -> u16 {
        self.port
    }

    fn health(self) -> Health {
        Health::Healthy
    }

    fn weight(self) -> u32 {
        InlineEndpoint::weight(self)
    }

    fn discoverability(self) -> Discoverability {
        Discoverability::Always
    }

    fn addresses(self) -> &'a [IpAddr] {
        match &self.address {
            InlineAddress::Ip(address) => std::slice::from_ref(address),
            InlineAddress::Host(_) | InlineAddress::Unix(_) | InlineAddress::Absent => &[],
        }
    }

    fn elsewhere(self) -> Option<Target<'a>> {
        match &self.address {
            InlineAddress::Host(host) => Some(Target::Named { host, port: self.port }),
            // A socket has no name that could be resolved.
            InlineAddress::Ip(_) | InlineAddress::Unix(_) | InlineAddress::Absent => None,
        }
    }
}
