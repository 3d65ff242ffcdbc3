//! One encoded resource, and lists of them.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use bytes::{BufMut, Bytes, BytesMut};
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};
use xxhash_rust::xxh3::xxh3_128;

use super::resources::{Backward, Mark};
use crate::model::Name;

/// The resource types served over ADS, in the order of one push (D25).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ResourceType {
    /// Envoy clusters.
    Cluster,
    /// Assignments.
    Endpoint,
    /// Listeners.
    Listener,
    /// Route configurations.
    Route,
    /// Secrets.
    Secret,
}

impl ResourceType {
    /// Every type, in push order.
    pub const ALL: [Self; 5] = [Self::Cluster, Self::Endpoint, Self::Listener, Self::Route, Self::Secret];

    /// Its type URL.
    pub fn url(self) -> &'static str {
        match self {
            Self::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::Endpoint => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Self::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Self::Route => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
            Self::Secret => "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
        }
    }

    /// The type with this URL.
    pub fn from_url(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.url() == url)
    }

    /// The usual abbreviation: `cds`, `eds`, `lds`, `rds`, `sds`.
    pub fn short(self) -> &'static str {
        match self {
            Self::Cluster => "cds",
            Self::Endpoint => "eds",
            Self::Listener => "lds",
            Self::Route => "rds",
            Self::Secret => "sds",
        }
    }

    /// Whether an empty first subscription means everything (X-S05, X-D01).
    pub fn is_wildcard(self) -> bool {
        matches!(self, Self::Cluster | Self::Listener)
    }
}

impl fmt::Display for ResourceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.short())
    }
}

/// A resource in the bytes of both protocols, made once and shared by every stream.
#[derive(Clone, PartialEq, Eq)]
pub struct Encoded {
    /// 128-bit hash of the message's deterministic bytes (D20).
    pub hash: u128,
    /// An encoded `envoy.service.discovery.v3.Resource` (name, version, Any): what delta sends.
    pub delta: Bytes,
    /// The encoded `google.protobuf.Any` inside it: what state of the world sends.
    pub any: Bytes,
}

impl Encoded {
    /// Wraps the encoded `message` of a resource called `name`. `message` must be deterministic.
    pub fn new(kind: ResourceType, name: &str, message: &[u8]) -> Self {
        let hash = xxh3_128(message);
        let version = version(hash);
        let url = kind.url();
        let any_len = field_len(1, url.len()) + field_len(2, message.len());
        let total = field_len(1, version.len()) + field_len(2, any_len) + field_len(3, name.len());
        let mut buffer = BytesMut::with_capacity(total);
        put_field(3, name.as_bytes(), &mut buffer);
        put_field(1, version.as_bytes(), &mut buffer);
        encode_key(2, WireType::LengthDelimited, &mut buffer);
        encode_varint(any_len as u64, &mut buffer);
        let start = buffer.len();
        put_field(1, url.as_bytes(), &mut buffer);
        put_field(2, message, &mut buffer);
        let delta = buffer.freeze();
        let any = delta.slice(start..);
        Self { hash, delta, any }
    }

    /// The same around a message that was written backward, where it is.
    pub(super) fn wrap(kind: ResourceType, name: &str, mut message: Backward) -> Self {
        let hash = xxh3_128(message.written());
        let end = Mark::END;
        message.close(2, end);
        message.filled(1, kind.url());
        let any_len = message.since(end);
        message.close(2, end);
        message.filled(1, &version(hash));
        message.filled(3, name);
        let delta = message.finish();
        let any = delta.slice(delta.len() - any_len..);
        Self { hash, delta, any }
    }

    /// The version on the wire (D20).
    pub fn version(&self) -> String {
        version(self.hash)
    }

    /// Size of the delta form in bytes.
    pub fn len(&self) -> usize {
        self.delta.len()
    }

    /// Whether there is nothing in it; never true for a real resource.
    pub fn is_empty(&self) -> bool {
        self.delta.is_empty()
    }
}

impl fmt::Debug for Encoded {
    /// Never the bytes: they may be a secret's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Encoded({:032x}, {} B)", self.hash, self.delta.len())
    }
}

/// A version on the wire: the hash in hexadecimal (D20).
pub fn version(hash: u128) -> String {
    format!("{hash:032x}")
}

fn field_len(tag: u32, len: usize) -> usize {
    prost::encoding::key_len(tag) + encoded_len_varint(len as u64) + len
}

fn put_field(tag: u32, value: &[u8], buffer: &mut BytesMut) {
    encode_key(tag, WireType::LengthDelimited, buffer);
    encode_varint(value.len() as u64, buffer);
    buffer.put_slice(value);
}

/// A named resource of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: Name,
    /// Its bytes.
    pub encoded: Arc<Encoded>,
}

/// All resources of one wildcard type for one projection, ordered by name; immutable and shared.
#[derive(Debug, Default)]
pub struct ResourceList {
    entries: Box<[Entry]>,
    hash: u128,
    bytes: usize,
    /// By the hash of a list before it, the names that differ: every stream that has that list asks for them.
    steps: Mutex<VecDeque<(u128, Arc<[Name]>)>>,
}

/// Lists before it of which a list keeps how it differs: streams that are paced are not all at the same one.
const STEPS: usize = 4;

impl ResourceList {
    /// A list of these; of two entries with one name the first stays.
    pub fn new(mut entries: Vec<Entry>) -> Self {
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        entries.dedup_by(|later, first| later.name == first.name);
        let mut hasher = xxhash_rust::xxh3::Xxh3::new();
        for entry in &entries {
            hasher.update(entry.name.as_bytes());
            hasher.update(&entry.encoded.hash.to_le_bytes());
        }
        let bytes = entries.iter().map(|entry| entry.encoded.len()).sum();
        Self { hash: hasher.digest128(), entries: entries.into(), bytes, steps: Mutex::default() }
    }

    /// The list of nothing: one for all who have none.
    pub fn nothing() -> Arc<Self> {
        static NOTHING: LazyLock<Arc<ResourceList>> = LazyLock::new(Arc::default);
        Arc::clone(&NOTHING)
    }

    /// Bytes of all of them together.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Hash over names and resource hashes.
    pub fn hash(&self) -> u128 {
        self.hash
    }

    /// The entries, by name.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// One resource.
    pub fn get(&self, name: &str) -> Option<&Arc<Encoded>> {
        let index = self.entries.binary_search_by(|entry| entry.name.as_str().cmp(name)).ok()?;
        Some(&self.entries[index].encoded)
    }

    /// Names that are in `old` or here only, or differ in content; all of these where there was no list before. Cost ∝
    /// both lists for the first who asks, then none: whoever else asks in the meantime waits for the first.
    pub fn differing(&self, old: Option<&Self>) -> Arc<[Name]> {
        let Some(old) = old.filter(|old| !old.entries.is_empty()) else {
            // Each stream asks once; keeping all names would not be worth it.
            return self.entries.iter().map(|entry| entry.name.clone()).collect();
        };
        if self.hash == old.hash {
            return Arc::default();
        }
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, names)) = steps.iter().find(|(hash, _)| *hash == old.hash) {
            return Arc::clone(names);
        }
        let names: Arc<[Name]> = differing(&old.entries, &self.entries).into();
        steps.truncate(STEPS - 1);
        steps.push_front((old.hash, Arc::clone(&names)));
        names
    }
}

impl PartialEq for ResourceList {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.entries == other.entries
    }
}

impl Eq for ResourceList {}

/// Names that are in one list only or differ in content.
fn differing(mut old: &[Entry], mut new: &[Entry]) -> Vec<Name> {
    let mut names = Vec::new();
    loop {
        let order = match (old.first(), new.first()) {
            (Some(a), Some(b)) => a.name.cmp(&b.name),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return names,
        };
        let differ = order != Ordering::Equal || old[0].encoded.hash != new[0].encoded.hash;
        if differ {
            let entry = if order == Ordering::Greater { &new[0] } else { &old[0] };
            names.push(entry.name.clone());
        }
        if order != Ordering::Greater {
            old = &old[1..];
        }
        if order != Ordering::Less {
            new = &new[1..];
        }
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    #[test]
    fn encoded_decodes_as_the_peer_messages() {
        let encoded = Encoded::new(ResourceType::Cluster, "a", &[10, 1, b'a']);
        let resource =
            envoy_types::pb::envoy::service::discovery::v3::Resource::decode(encoded.delta.clone())
                .expect("resource");
        assert_eq!((resource.name.as_str(), resource.version), ("a", encoded.version()));
        let any = resource.resource.expect("any");
        assert_eq!(
            (any.type_url.as_str(), any.value.as_slice()),
            (ResourceType::Cluster.url(), &[10, 1, b'a'][..])
        );
        let any = envoy_types::pb::google::protobuf::Any::decode(encoded.any.clone()).expect("any");
        assert_eq!(any.value, [10, 1, b'a']);
    }

    #[test]
    fn c06_lists_are_ordered_and_equal_lists_have_equal_hashes() {
        let entry = |name: &str| Entry {
            name: name.into(),
            encoded: Arc::new(Encoded::new(ResourceType::Cluster, name, name.as_bytes())),
        };
        let (a, b) = (
            ResourceList::new(vec![entry("b"), entry("a")]),
            ResourceList::new(vec![entry("a"), entry("b")]),
        );
        assert_eq!(a, b);
        assert!(a.get("b").is_some() && a.get("c").is_none());
        assert_ne!(a.hash(), ResourceList::new(vec![entry("a")]).hash());
    }

    #[test]
    fn d17_how_lists_differ_is_found_once_for_all_who_ask() {
        let list = |entries: &[(&str, &str)]| {
            let entry = |(name, text): &(&str, &str)| Entry {
                name: (*name).into(),
                encoded: Arc::new(Encoded::new(ResourceType::Cluster, name, text.as_bytes())),
            };
            ResourceList::new(entries.iter().map(entry).collect())
        };
        let old = list(&[("a", "1"), ("b", "1"), ("d", "1")]);
        let new = list(&[("a", "1"), ("b", "2"), ("c", "1")]);
        let differing = |new: &ResourceList, old: &ResourceList| new.differing(Some(old));
        let names = differing(&new, &old);
        assert_eq!(names.iter().map(|name| name.as_str()).collect::<Vec<_>>(), ["b", "c", "d"]);
        assert!(Arc::ptr_eq(&names, &differing(&new, &list(&[("a", "1"), ("b", "1"), ("d", "1")]))));
        assert_eq!((differing(&new, &new).len(), new.differing(None).len()), (0, 3));
        // Of those before it only a few are kept, and found again when they are not.
        for version in 0..2 * STEPS {
            let before = list(&[("a", &version.to_string())]);
            assert_eq!(differing(&new, &before).len(), if version == 1 { 2 } else { 3 });
        }
        assert_eq!(new.steps.lock().unwrap().len(), STEPS);
        assert_eq!(differing(&new, &old), names);
    }
}
