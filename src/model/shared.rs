//! Equal values share one allocation.

use std::hash::Hash;
use std::sync::Arc;

use hashbrown::HashSet;

/// A table with fewer values than this is not swept.
const SMALL: usize = 64;

/// A table of values of which many holders need the same: asking for an equal value gives the one that is
/// already there. What nobody else holds any more is forgotten, at the latest when the table has doubled.
#[derive(Debug)]
pub struct Shared<T> {
    values: HashSet<Arc<T>>,
    sweep_at: usize,
}

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self { values: HashSet::new(), sweep_at: SMALL }
    }
}

impl<T: Eq + Hash> Shared<T> {
    /// The shared copy of a value.
    pub fn of(&mut self, value: T) -> Arc<T> {
        match self.values.get(&value) {
            Some(known) => Arc::clone(known),
            None => self.add(Arc::new(value)),
        }
    }

    /// Replaces a value by its shared copy.
    pub fn unify(&mut self, value: &mut Arc<T>) {
        match self.values.get(&**value) {
            Some(known) => *value = Arc::clone(known),
            None => *value = self.add(Arc::clone(value)),
        }
    }

    /// How many values the table knows, those nobody holds included.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether it knows none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    fn add(&mut self, value: Arc<T>) -> Arc<T> {
        if self.values.len() >= self.sweep_at {
            self.values.retain(|value| Arc::strong_count(value) > 1);
            self.sweep_at = (2 * self.values.len()).max(SMALL);
        }
        self.values.insert(Arc::clone(&value));
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_one_and_unused_ones_go() {
        let mut shared = Shared::default();
        let held = shared.of(1_000_000);
        (0..10_000).for_each(|n| drop(shared.of(n)));
        assert!(shared.len() < 1_000, "{}", shared.len());
        let mut other = Arc::new(1_000_000);
        shared.unify(&mut other);
        assert!(Arc::ptr_eq(&held, &other) && Arc::ptr_eq(&held, &shared.of(1_000_000)));
    }
}
