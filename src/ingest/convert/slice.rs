//! An EndpointSlice as it is kept: packed, because these are the many.

use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use crate::ingest::objects::{ObjectKey, SliceEndpoint, SliceObject, SlicePort};
use crate::model::Name;

/// A slice whose pods are named by `P`: their keys, or something shorter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slice<P> {
    /// The Service it belongs to, when it is one we read (R5.1); nothing else is kept of other slices.
    pub service: Option<Name>,
    /// `addressType`.
    pub address_type: Name,
    /// Its ports, which most slices of a cluster have in common.
    pub ports: Arc<Vec<SlicePort>>,
    /// Its endpoints.
    pub entries: Box<[Entry<P>]>,
}

/// One endpoint of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<P> {
    /// Its addresses.
    pub addresses: EntryAddresses,
    /// The pod it names, if it names one (R5.3).
    pub pod: Option<P>,
    /// What it says of its state.
    pub conditions: Conditions,
}

/// The addresses of an entry: one nearly always.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryAddresses {
    /// One address.
    One(IpAddr),
    /// None, several, or something that is no address, as the object spells them.
    Texts(Box<[Name]>),
}

/// `conditions` of an entry: three times yes, no or nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conditions(u8);

impl Conditions {
    /// From its parts.
    pub fn new(ready: Option<bool>, serving: Option<bool>, terminating: Option<bool>) -> Self {
        let bits = |value| match value {
            None => 0,
            Some(false) => 1,
            Some(true) => 2,
        };
        Self(bits(ready) | bits(serving) << 2 | bits(terminating) << 4)
    }

    /// `ready`.
    pub fn ready(self) -> Option<bool> {
        self.at(0)
    }

    /// `serving`.
    pub fn serving(self) -> Option<bool> {
        self.at(2)
    }

    /// `terminating`.
    pub fn terminating(self) -> Option<bool> {
        self.at(4)
    }

    fn at(self, shift: u8) -> Option<bool> {
        match self.0 >> shift & 3 {
            0 => None,
            bits => Some(bits == 2),
        }
    }
}

impl Hash for SlicePort {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.name, self.port).hash(state);
    }
}

impl<P> Slice<P> {
    /// Packs a slice; `pod` gives the name of each pod it names.
    pub fn of(object: SliceObject, pod: impl FnMut(&ObjectKey) -> P) -> Self {
        let entries = match &object.service {
            Some(_) => packed(object.endpoints, pod),
            None => Box::default(),
        };
        Self {
            service: object.service.map(|service| Name::interned(&service)),
            address_type: Name::interned(&object.address_type),
            ports: Arc::new(object.ports),
            entries,
        }
    }
}

fn packed<P>(endpoints: Vec<SliceEndpoint>, mut pod: impl FnMut(&ObjectKey) -> P) -> Box<[Entry<P>]> {
    let entry = |endpoint: SliceEndpoint| Entry {
        pod: endpoint.pod.as_ref().map(&mut pod),
        conditions: Conditions::new(endpoint.ready, endpoint.serving, endpoint.terminating),
        addresses: EntryAddresses::from(endpoint.addresses),
    };
    endpoints.into_iter().map(entry).collect()
}

impl From<Vec<Name>> for EntryAddresses {
    fn from(texts: Vec<Name>) -> Self {
        match texts.as_slice() {
            [text] => text.parse().map_or_else(|_| Self::Texts([text.clone()].into()), Self::One),
            _ => Self::Texts(texts.into()),
        }
    }
}

impl EntryAddresses {
    /// What can be read as an address, IPv4 in IPv6 as IPv4.
    pub fn parsed(&self) -> impl Iterator<Item = IpAddr> {
        let (one, texts) = match self {
            Self::One(address) => (Some(*address), [].as_slice()),
            Self::Texts(texts) => (None, &**texts),
        };
        let parsed = texts.iter().filter_map(|text| text.parse::<IpAddr>().ok());
        one.into_iter().chain(parsed).map(|address| address.to_canonical())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_told_as_they_were() {
        let all = [None, Some(false), Some(true)];
        for ready in all {
            for serving in all {
                for terminating in all {
                    let packed = Conditions::new(ready, serving, terminating);
                    assert_eq!(
                        (packed.ready(), packed.serving(), packed.terminating()),
                        (ready, serving, terminating)
                    );
                }
            }
        }
    }

    #[test]
    fn an_entry_is_small_and_odd_addresses_stay_as_they_are_spelled() {
        assert!(size_of::<Entry<std::num::NonZeroU32>>() <= 32);
        let of =
            |texts: &[&str]| EntryAddresses::from(texts.iter().map(|t| Name::from(*t)).collect::<Vec<_>>());
        assert_eq!(of(&["10.0.0.1"]), EntryAddresses::One([10, 0, 0, 1].into()));
        for odd in [&["nonsense"][..], &[], &["10.0.0.1", "x", "::ffff:10.0.0.2"]] {
            assert!(matches!(of(odd), EntryAddresses::Texts(texts) if texts.len() == odd.len()));
        }
        let parsed: Vec<_> = of(&["10.0.0.1", "x", "::ffff:10.0.0.2"]).parsed().collect();
        assert_eq!(parsed, [IpAddr::from([10, 0, 0, 1]), [10, 0, 0, 2].into()]);
    }
}
