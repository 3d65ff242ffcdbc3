//! EndpointSlices: with few allocations, because most events are about them and most entries stay as they are.

use std::net::IpAddr;

use crate::model::Name;

/// An EndpointSlice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SliceObject {
    /// The Service it belongs to, when it is one we read (R5.1).
    pub service: Option<Name>,
    /// `addressType`, whatever it says.
    pub address_type: Name,
    /// Its endpoints.
    pub endpoints: Vec<SliceEndpoint>,
    /// Its ports.
    pub ports: Vec<SlicePort>,
    /// What the pods of its endpoints are called by.
    pub(in crate::ingest) pods: PodNames,
}

/// One entry of a slice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SliceEndpoint {
    /// Its addresses.
    pub addresses: SliceAddresses,
    /// The pod it names, if it names one (R5.3); [`SliceObject::pod`] spells it.
    pub pod: Option<PodName>,
    /// `conditions.ready`.
    pub ready: Option<bool>,
    /// `conditions.serving`.
    pub serving: Option<bool>,
    /// `conditions.terminating`.
    pub terminating: Option<bool>,
}

/// The addresses of an entry: one nearly always.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SliceAddresses {
    /// Exactly one.
    One(IpAddr),
    /// None, several, or something that is no address: as the object spells them.
    Texts(Box<[Name]>),
}

/// One port of a slice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlicePort {
    /// Its name; empty when unnamed (R5.2).
    pub name: Name,
    /// Its number, as written, if there is one.
    pub port: Option<i64>,
}

impl Default for SliceAddresses {
    fn default() -> Self {
        Self::Texts(Box::default())
    }
}

impl SliceObject {
    /// Namespace and name of the pod that one of its endpoints names.
    pub fn pod(&self, pod: &PodName) -> (&str, &str) {
        self.pods.get(pod)
    }
}

/// Where the name of a pod stands among those of its slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodName {
    namespace: Place,
    name: Place,
}

type Place = std::ops::Range<u32>;

/// Texts in one piece of memory, the namespace of the slice first. Equal slices have equal ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::ingest) struct PodNames(Box<str>);

impl PodNames {
    fn get(&self, pod: &PodName) -> (&str, &str) {
        let text = |place: &Place| &self.0[place.start as usize..place.end as usize];
        (text(&pod.namespace), text(&pod.name))
    }
}

/// The longest name an API server permits: room is made for no longer ones, whatever the first one is.
const MAX_NAME: usize = 253;

/// Takes in the names of the pods of one slice.
pub(super) struct NamingPods {
    texts: String,
    own: Place,
    /// Another namespace, named last.
    other: Place,
}

impl NamingPods {
    /// For a slice of this namespace that names about `pods` pods with names of `length`.
    pub(super) fn new(namespace: &str, pods: usize, length: usize) -> Self {
        let mut naming = Self { texts: String::new(), own: 0..0, other: 0..0 };
        if pods > 0 {
            naming.texts.reserve(namespace.len() + pods * length.min(MAX_NAME));
            naming.own = naming.put(namespace);
        }
        naming
    }

    /// A pod without a namespace is in that of the slice.
    pub(super) fn add(&mut self, namespace: &str, name: &str) -> PodName {
        let place = |place: &Place| place.start as usize..place.end as usize;
        if namespace.is_empty() || *namespace == self.texts[place(&self.own)] {
            return PodName { namespace: self.own.clone(), name: self.put(name) };
        }
        if *namespace != self.texts[place(&self.other)] {
            self.other = self.put(namespace);
        }
        PodName { namespace: self.other.clone(), name: self.put(name) }
    }

    pub(super) fn finish(self) -> PodNames {
        PodNames(self.texts.into())
    }

    fn put(&mut self, text: &str) -> Place {
        let at = |length| u32::try_from(length).expect("an object has fewer than 2^32 bytes");
        let start = at(self.texts.len());
        self.texts.push_str(text);
        start..at(self.texts.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_called_as_they_were() {
        let mut naming = NamingPods::new("shop", 1, 1);
        let named = [("", "a"), ("shop", "b"), ("far", "c"), ("far", "d"), ("shop", "e"), ("", "")];
        let pods = named.map(|(namespace, name)| naming.add(namespace, name));
        let slice = SliceObject { pods: naming.finish(), ..SliceObject::default() };
        let told: Vec<_> = pods.iter().map(|pod| slice.pod(pod)).collect();
        let expected =
            [("shop", "a"), ("shop", "b"), ("far", "c"), ("far", "d"), ("shop", "e"), ("shop", "")];
        assert_eq!(told, expected);
        assert_eq!(&*slice.pods.0, "shopabfarcde");
    }

    #[test]
    fn an_entry_is_small() {
        assert!(size_of::<SliceEndpoint>() <= 48, "{}", size_of::<SliceEndpoint>());
    }
}
