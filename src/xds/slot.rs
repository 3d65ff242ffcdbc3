//! A value built once for all who want it, from parts that change meanwhile.
//!
//! Every order of its steps is tried by `tests/interleavings.rs`, which compiles this very file.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};

use super::sync::{Mutex, MutexGuard, Pointer};

/// How the value of a slot is made, and of what.
pub(super) trait Make {
    /// What is made; it knows the versions of the parts that it was made from.
    type Value;
    /// What is wanted of it; it may be dropped when memory is short, the value itself stays.
    type Content;
    /// What changes are told by: who listed itself as a reader of it is refreshed after each of them.
    type Source: Clone + Ord;

    /// A value of the parts that are newest now, and its content.
    fn make(&self) -> (Self::Value, Self::Content);
    /// The content of a value, if it is still there.
    fn content(&self, value: &Arc<Self::Value>) -> Option<Self::Content>;
    /// Whether every part of a value is still the newest.
    fn is_current(&self, value: &Self::Value) -> bool;
    /// Of which sources a value is.
    fn sources(value: &Self::Value) -> impl Iterator<Item = Self::Source>;
    /// Equal where the contents are.
    fn hash(value: &Self::Value) -> u128;
    /// Lists the slot as a reader of a source; from then on it is refreshed after each change there.
    fn list(&self, source: Self::Source);
    /// Takes it off that list.
    fn unlist(&self, source: Self::Source);
    /// A value was stored in place of another, or, at the end, nothing.
    fn replaced(&self, before: Option<&Self::Value>, after: Option<&Self::Value>);
}

/// What those who hold the value were told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Told {
    /// There was no value yet, so nobody holds one.
    #[default]
    Nothing,
    /// All hold this content or were told of it.
    Same(u128),
    /// A miss made another before the push came by: some hold that one already, and all must be told whatever the
    /// push finds.
    Different,
}

/// What a slot remembers from one value to the next.
#[derive(Debug)]
struct Making<S> {
    /// The sources that any value ever was of: where the slot is listed.
    read: BTreeSet<S>,
    told: Told,
    /// Whether nobody wants it any more: it must not be listed again.
    closed: bool,
}

/// One value and the right to make it.
#[derive(Debug)]
pub(super) struct Slot<V, S> {
    stored: Pointer<V>,
    /// Held while making, so that a miss is made once; what is stored is never older than what it replaces, because
    /// the parts are read under it.
    making: Mutex<Making<S>>,
}

impl<V, S> Default for Slot<V, S> {
    fn default() -> Self {
        let making = Making { read: BTreeSet::new(), told: Told::default(), closed: false };
        Self { stored: Pointer::empty(), making: Mutex::new(making) }
    }
}

impl<V, S: Clone + Ord> Slot<V, S> {
    fn making(&self) -> MutexGuard<'_, Making<S>> {
        self.making.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The current content, made now unless that of the stored value is current and there. Cost of a hit: a look at the
    /// version of each part.
    pub(super) fn current<C>(&self, maker: &impl Make<Value = V, Source = S, Content = C>) -> C {
        let there = || self.valid(maker).and_then(|value| maker.content(&value));
        there().unwrap_or_else(|| {
            let mut making = self.making();
            // Somebody else may have made it while this waited.
            there().unwrap_or_else(|| self.anew(&mut making, maker).1)
        })
    }

    /// Makes the value current after a change; says whether it is news to some who hold it. What they hold is known by
    /// its hash: content that was dropped is not made again for this.
    pub(super) fn refresh(&self, maker: &impl Make<Value = V, Source = S>) -> bool {
        let mut making = self.making();
        let value = self.valid(maker).unwrap_or_else(|| self.anew(&mut making, maker).0);
        let hash = hash_of(maker, &value);
        std::mem::replace(&mut making.told, Told::Same(hash)) != Told::Same(hash)
    }

    /// Nobody wants the value any more. Who still has the slot may use it, unlisted.
    pub(super) fn close(&self, maker: &impl Make<Value = V, Source = S>) {
        let mut making = self.making();
        making.closed = true;
        maker.replaced(self.stored.load_full().as_deref(), None);
        for source in std::mem::take(&mut making.read) {
            maker.unlist(source);
        }
    }

    /// The stored value if every part of it is still the newest.
    fn valid(&self, maker: &impl Make<Value = V, Source = S>) -> Option<Arc<V>> {
        self.stored.load_full().filter(|value| maker.is_current(value))
    }

    /// A new value in the place of the stored one, with the right to make it held.
    fn anew<C>(
        &self,
        making: &mut Making<S>,
        maker: &impl Make<Value = V, Source = S, Content = C>,
    ) -> (Arc<V>, C) {
        let (mut value, mut content) = maker.make();
        // A part may have changed before the slot was listed as its reader: nobody would tell of that.
        while list(making, maker, &value) && !maker.is_current(&value) {
            (value, content) = maker.make();
        }
        let value = Arc::new(value);
        let before = self.stored.swap(Some(Arc::clone(&value)));
        if !making.closed {
            maker.replaced(before.as_deref(), Some(&value));
        }
        let hash = hash_of(maker, &value);
        making.told = match making.told {
            Told::Nothing => Told::Same(hash),
            Told::Same(told) if told == hash => making.told,
            _ => Told::Different,
        };
        (value, content)
    }
}

fn hash_of<M: Make>(_: &M, value: &M::Value) -> u128 {
    M::hash(value)
}

/// Lists a slot as a reader of what a value is of; says whether it was not yet for some of that.
fn list<M: Make>(making: &mut Making<M::Source>, maker: &M, value: &M::Value) -> bool {
    let mut new = false;
    for source in M::sources(value) {
        if !making.closed && making.read.insert(source.clone()) {
            maker.list(source);
            new = true;
        }
    }
    new
}
