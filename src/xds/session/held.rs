//! What the client holds of one type, as far as we know.

use std::sync::Arc;

use hashbrown::HashMap;

use crate::model::Name;
use crate::xds::resource::ResourceList;

/// What the client holds under one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holding {
    /// Nothing, or it was told that there is nothing.
    Nothing,
    /// Something whose version says nothing to us.
    Foreign,
    /// The content with this hash.
    Content(u128),
}

impl Holding {
    /// What a client holds that reports this version (D20).
    pub(super) fn of_version(version: &str) -> Self {
        match u128::from_str_radix(version, 16) {
            Ok(hash) if version.len() == 32 => Self::Content(hash),
            _ => Self::Foreign,
        }
    }
}

/// A [`Holding`] that is kept: half of its size. It lies in two words, because a `u128` is aligned to itself, and two
/// values that no content has in practice stand for what is no content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kept([u64; 2]);

impl Kept {
    const NOTHING: Self = Self([0, 0]);
    /// Content that had one of these hashes would be taken for foreign, and so be sent again.
    const FOREIGN: Self = Self([0, 1]);
}

impl From<Holding> for Kept {
    fn from(holding: Holding) -> Self {
        match holding {
            Holding::Nothing => Self::NOTHING,
            Holding::Foreign | Holding::Content(0) => Self::FOREIGN,
            Holding::Content(hash) => Self([(hash >> 64) as u64, hash as u64]),
        }
    }
}

impl From<Kept> for Holding {
    fn from(kept: Kept) -> Self {
        match kept {
            Kept::NOTHING => Self::Nothing,
            Kept::FOREIGN => Self::Foreign,
            Kept([high, low]) => Self::Content(u128::from(high) << 64 | u128::from(low)),
        }
    }
}

/// The shared lists that were written, and by name what differs from them (D18).
#[derive(Debug, Default)]
pub(super) struct Held {
    base: [Option<Arc<ResourceList>>; 3],
    exceptions: HashMap<Name, Kept>,
}

impl Held {
    /// What is held under `name`.
    pub(super) fn get(&self, name: &str) -> Holding {
        self.exceptions.get(name).map_or_else(|| self.in_base(name), |kept| (*kept).into())
    }

    /// Notes what is held under `name`.
    pub(super) fn set(&mut self, name: &Name, copy: Holding) {
        if self.in_base(name) == copy {
            self.exceptions.remove(name.as_str());
        } else {
            self.exceptions.insert(name.clone(), copy.into());
        }
    }

    /// Makes room for names that the lists do not have.
    pub(super) fn expect(&mut self, names: usize) {
        self.exceptions.reserve(names);
    }

    /// Forgets the lists; only what is held of `names` stays.
    pub(super) fn keep_only<'a>(&mut self, names: impl Iterator<Item = &'a Name>) {
        let exceptions = names.map(|name| (name.clone(), self.get(name).into())).collect();
        *self = Self { base: Default::default(), exceptions };
        self.exceptions.retain(|_, copy| *copy != Kept::NOTHING);
    }

    /// The lists last compared with.
    pub(super) fn base(&self) -> impl Iterator<Item = &Arc<ResourceList>> {
        self.base.iter().flatten()
    }

    /// Whether the client holds something else under `name` than the lists say.
    pub(super) fn differs(&self, name: &str) -> bool {
        self.exceptions.contains_key(name)
    }

    /// Notes that the client holds exactly the lists.
    pub(super) fn equals_lists(&mut self) {
        self.exceptions.clear();
    }

    /// Makes `lists` the reference. What the client holds stays the same; returns the names of which the old
    /// and the new lists differ, list by list. Free when the lists are the same.
    pub(super) fn rebase(&mut self, lists: [Arc<ResourceList>; 3]) -> Vec<Arc<[Name]>> {
        let steps = self.base.iter().zip(&lists).map(|(old, new)| new.differing(old.as_deref()));
        let touched: Vec<_> = steps.collect();
        let before: Vec<_> =
            touched.iter().flat_map(|names| names.iter()).map(|name| self.get(name)).collect();
        self.base = lists.map(Some);
        for (name, copy) in touched.iter().flat_map(|names| names.iter()).zip(before) {
            self.set(name, copy);
        }
        touched
    }

    fn in_base(&self, name: &str) -> Holding {
        match self.base().find_map(|list| list.get(name)) {
            Some(encoded) => Holding::Content(encoded.hash),
            None => Holding::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d18_what_is_held_of_a_name_is_kept_in_two_words() {
        assert_eq!(size_of::<Kept>(), 16);
        for holding in [Holding::Nothing, Holding::Foreign, Holding::Content(2), Holding::Content(u128::MAX)]
        {
            assert_eq!(Holding::from(Kept::from(holding)), holding);
        }
        for hash in [0, 1] {
            assert_eq!(Holding::from(Kept::from(Holding::Content(hash))), Holding::Foreign);
        }
    }
}
