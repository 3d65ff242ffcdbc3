//! Names of resources, each kept once for the whole fleet.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::{Bytes, BytesMut};
use prost::encoding::string;

/// Most names that are kept. A server that makes up more is told apart no longer: they share one.
const LIMIT: usize = 4_000_000;

/// A name, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct NameId(u32);

/// All names seen so far.
#[derive(Debug, Default)]
pub(super) struct Names {
    known: RwLock<Known>,
}

#[derive(Debug, Default)]
struct Known {
    ids: HashMap<Arc<str>, NameId>,
    texts: Vec<Arc<str>>,
}

impl Names {
    /// The number of `name`.
    pub(super) fn id(&self, name: &str) -> NameId {
        // A panic while holding the lock leaves at worst a name without a number: carry on.
        if let Some(id) = self.known.read().unwrap_or_else(PoisonError::into_inner).ids.get(name) {
            return *id;
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = known.ids.get(name) {
            return *id;
        }
        if known.texts.len() >= LIMIT {
            return NameId(0);
        }
        let (id, text) = (NameId(known.texts.len() as u32), Arc::<str>::from(name));
        known.ids.insert(Arc::clone(&text), id);
        known.texts.push(text);
        id
    }

    /// The name of that number.
    pub(super) fn text(&self, id: NameId) -> Arc<str> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&known.texts[id.0 as usize])
    }
}

/// Names a proxy asks for, with their bytes in a request: field 3 in both protocols.
#[derive(Debug, Clone, Default)]
pub(super) struct NameList {
    /// Sorted.
    pub(super) ids: Arc<[NameId]>,
    pub(super) encoded: Bytes,
}

impl NameList {
    /// The list of `ids`; double ones once.
    pub(super) fn new(names: &Names, mut ids: Vec<NameId>) -> Self {
        ids.sort_unstable();
        ids.dedup();
        let mut encoded = BytesMut::new();
        for id in &ids {
            put_name(3, &names.text(*id), &mut encoded);
        }
        Self { ids: ids.into(), encoded: encoded.freeze() }
    }

    pub(super) fn contains(&self, id: NameId) -> bool {
        self.ids.binary_search(&id).is_ok()
    }
}

/// Appends a name as field `number`.
pub(super) fn put_name(number: u32, name: &str, out: &mut BytesMut) {
    // prost encodes strings only.
    string::encode(number, &name.to_owned(), out);
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::proto::discovery::{DeltaDiscoveryRequest, DiscoveryRequest};

    #[test]
    fn a_list_is_the_names_of_either_request() {
        let names = Names::default();
        let ids = ["b", "a", "b"].map(|name| names.id(name)).to_vec();
        assert_eq!(ids[0], ids[2]);
        let list = NameList::new(&names, ids);
        assert!(list.contains(names.id("a")) && !list.contains(names.id("c")));
        let delta = DeltaDiscoveryRequest::decode(list.encoded.clone()).unwrap();
        assert_eq!(delta.resource_names_subscribe, ["b", "a"]);
        assert_eq!(DiscoveryRequest::decode(list.encoded).unwrap().resource_names, ["b", "a"]);
    }
}
