//! An EndpointSlice as it is kept: packed, because these are the many.

use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use crate::ingest::objects::{SliceAddresses, SliceEndpoint, SliceObject, SlicePort};
use crate::model::Name;

/// A slice whose pods are named by `P`: their keys, or something shorter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice<P> {
    /// The Service it belongs to, when it is one we read (R5.1); nothing else is kept of other slices.
    pub service: Option<Name>,
    /// `addressType`.
    pub address_type: Name,
    /// Its ports, which most slices of a cluster have in common.
    pub ports: Arc<Vec<SlicePort>>,
    /// Its endpoints.
    pub entries: Box<[Entry<P>]>,
    /// Addresses of entries that have none, several, or something that is no address: by the entry's place.
    odd: Box<[(usize, Box<[Name]>)]>,
}

/// One endpoint of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<P> {
    /// Its address, when it has exactly one.
    address: Option<IpAddr>,
    /// What it says of its state.
    pub conditions: Conditions,
    /// The pod it names, if it names one (R5.3).
    pub pod: Option<P>,
}

/// The addresses of an entry: one nearly always.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryAddresses<'a> {
    /// One address.
    One(IpAddr),
    /// None, several, or something that is no address, as the object spells them.
    Texts(&'a [Name]),
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
    /// Packs a slice; `pod` gives the name of each pod it names, by namespace and name.
    pub fn of(mut object: SliceObject, pod: impl FnMut(&str, &str) -> P) -> Self {
        let (entries, odd) = match &object.service {
            Some(_) => packed(&mut object, pod),
            None => Default::default(),
        };
        Self {
            service: object.service,
            address_type: object.address_type,
            ports: Arc::new(object.ports),
            entries,
            odd,
        }
    }

    /// The entries with their addresses.
    pub fn entries(&self) -> impl Iterator<Item = (&Entry<P>, EntryAddresses<'_>)> {
        let addresses = |at: usize, entry: &Entry<P>| match entry.address {
            Some(address) => EntryAddresses::One(address),
            None => EntryAddresses::Texts(self.odd_at(at)),
        };
        self.entries.iter().enumerate().map(move |(at, entry)| (entry, addresses(at, entry)))
    }

    fn odd_at(&self, at: usize) -> &[Name] {
        let found = self.odd.binary_search_by_key(&at, |(at, _)| *at);
        found.map_or(&[], |found| &self.odd[found].1)
    }
}

type Packed<P> = (Box<[Entry<P>]>, Box<[(usize, Box<[Name]>)]>);

fn packed<P>(object: &mut SliceObject, mut pod: impl FnMut(&str, &str) -> P) -> Packed<P> {
    let endpoints = std::mem::take(&mut object.endpoints);
    let mut odd = Vec::new();
    let entry = |(at, endpoint): (usize, SliceEndpoint)| {
        let address = match endpoint.addresses {
            SliceAddresses::One(address) => Some(address),
            SliceAddresses::Texts(texts) => {
                odd.push((at, texts));
                None
            }
        };
        let named = endpoint.pod.as_ref().map(|pod| object.pod(pod));
        let conditions = Conditions::new(endpoint.ready, endpoint.serving, endpoint.terminating);
        Entry { address, conditions, pod: named.map(|(namespace, name)| pod(namespace, name)) }
    };
    (endpoints.into_iter().enumerate().map(entry).collect(), odd.into())
}

impl EntryAddresses<'_> {
    /// What can be read as an address, IPv4 in IPv6 as IPv4.
    pub fn parsed(self) -> impl Iterator<Item = IpAddr> {
        let (one, texts) = self.apart();
        let parsed = texts.iter().filter_map(|text| text.parse::<IpAddr>().ok());
        one.into_iter().chain(parsed).map(|address| address.to_canonical())
    }
}

impl<'a> EntryAddresses<'a> {
    /// One address, or texts.
    pub(super) fn apart(self) -> (Option<IpAddr>, &'a [Name]) {
        match self {
            Self::One(address) => (Some(address), &[]),
            Self::Texts(texts) => (None, texts),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

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
        assert_eq!(size_of::<Entry<std::num::NonZeroU32>>(), 24);
        let lists: [&[&str]; 5] =
            [&["10.0.0.1"], &["nonsense"], &[], &["10.0.0.1", "x"], &["::ffff:10.0.0.2"]];
        let endpoints: Vec<_> = lists.iter().map(|texts| json!({"addresses": texts})).collect();
        let object: SliceObject = serde_json::from_value(json!({"endpoints": endpoints,
            "metadata": {"labels": {"kubernetes.io/service-name": "s"}}}))
        .unwrap();
        let slice = Slice::of(object, |_, _| ());
        let parsed: Vec<Vec<String>> = slice
            .entries()
            .map(|(_, all)| all.parsed().map(|address| address.to_string()).collect())
            .collect();
        assert_eq!(parsed, [vec!["10.0.0.1"], vec![], vec!["10.0.0.1"], vec!["10.0.0.2"]]);
        let odd = slice.entries().filter_map(|(_, all)| match all {
            EntryAddresses::One(_) => None,
            EntryAddresses::Texts(texts) => Some(texts.len()),
        });
        assert_eq!(odd.collect::<Vec<_>>(), [1, 2]);
    }
}
