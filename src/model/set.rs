//! Small immutable sets and maps that many hold.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Name;

/// A set that never changes: one pointer, sorted; a copy costs nothing, an empty one has no memory. Reads as
/// a slice.
#[derive(PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Set<T>(Option<Arc<Box<[T]>>>);

impl<T> Set<T> {
    /// Of values that are in order, each once.
    fn sorted(values: Vec<T>) -> Self {
        Self((!values.is_empty()).then(|| Arc::new(values.into_boxed_slice())))
    }
}

impl<T: Ord> Set<T> {
    /// Whether a value is in it.
    pub fn has(&self, value: &T) -> bool {
        self.binary_search(value).is_ok()
    }

    /// Everything that is in one of the sets. One that has everything is given as it is.
    pub fn union<'a>(sets: impl IntoIterator<Item = &'a Self>) -> Self
    where
        T: Clone + 'a,
    {
        let mut union = Self::default();
        for set in sets {
            if set.is_empty() || set.iter().all(|value| union.has(value)) {
                continue;
            }
            if union.iter().all(|value| set.has(value)) {
                union = set.clone();
            } else {
                union = union.iter().chain(set.iter()).cloned().collect();
            }
        }
        union
    }
}

impl<T> Clone for Set<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Default for Set<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Deref for Set<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.0.as_ref().map_or(&[], |values| values)
    }
}

impl<T: Ord> FromIterator<T> for Set<T> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        let mut values: Vec<T> = values.into_iter().collect();
        values.sort_unstable();
        values.dedup();
        Self::sorted(values)
    }
}

impl<T> From<BTreeSet<T>> for Set<T> {
    fn from(values: BTreeSet<T>) -> Self {
        Self::sorted(values.into_iter().collect())
    }
}

impl<T: Ord, const N: usize> From<[T; N]> for Set<T> {
    fn from(values: [T; N]) -> Self {
        values.into_iter().collect()
    }
}

impl<'a, T> IntoIterator for &'a Set<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T: fmt::Debug> fmt::Debug for Set<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl<T: Serialize> Serialize for Set<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (**self).serialize(serializer)
    }
}

/// Labels or annotations: sorted, immutable, one pointer.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels(Set<(Name, Name)>);

impl Labels {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// The value of a label.
    pub fn get(&self, label: &(impl AsRef<str> + ?Sized)) -> Option<&Name> {
        let label = label.as_ref();
        let at = self.0.binary_search_by(|(key, _)| key.as_str().cmp(label)).ok()?;
        Some(&self.0[at].1)
    }

    /// Whether a label is there.
    pub fn contains_key(&self, label: &str) -> bool {
        self.get(label).is_some()
    }

    /// Sets a label. Copies all of them.
    pub fn insert(&mut self, label: Name, value: Name) {
        *self =
            self.iter().map(|(key, value)| (key.clone(), value.clone())).chain([(label, value)]).collect();
    }

    /// Every label and its value, by label.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Name, &Name)> {
        self.0.iter().map(|(label, value)| (label, value))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::ops::Index<&str> for Labels {
    type Output = Name;

    /// The value of a label that is there; panics where it is not.
    fn index(&self, label: &str) -> &Name {
        self.get(label).expect("the label is there")
    }
}

impl FromIterator<(Name, Name)> for Labels {
    /// Of a label that comes twice the last value counts.
    fn from_iter<I: IntoIterator<Item = (Name, Name)>>(labels: I) -> Self {
        let mut labels: Vec<(Name, Name)> = labels.into_iter().collect();
        labels.sort_by(|(a, _), (b, _)| a.cmp(b));
        labels.dedup_by(|(later, value), (earlier, kept)| {
            let twice = later == earlier;
            if twice {
                std::mem::swap(kept, value);
            }
            twice
        });
        Self(Set::sorted(labels))
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Labels {
    fn from(labels: [(&str, &str); N]) -> Self {
        labels.into_iter().map(|(label, value)| (label.into(), value.into())).collect()
    }
}

impl From<BTreeMap<Name, Name>> for Labels {
    fn from(labels: BTreeMap<Name, Name>) -> Self {
        labels.into_iter().collect()
    }
}

impl From<&Labels> for BTreeMap<Name, Name> {
    fn from(labels: &Labels) -> Self {
        labels.iter().map(|(label, value)| (label.clone(), value.clone())).collect()
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl Serialize for Labels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(BTreeMap::<Name, Name>::deserialize(deserializer)?.into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_set_is_a_set(a in prop::collection::vec(0..9u8, 0..9), b in prop::collection::vec(0..9u8, 0..9)) {
            let model = |values: &[u8]| values.iter().copied().collect::<BTreeSet<_>>();
            let (one, two): (Set<u8>, Set<u8>) = (a.iter().copied().collect(), b.iter().copied().collect());
            prop_assert!(one.iter().eq(&model(&a)));
            prop_assert_eq!(one == two, model(&a) == model(&b));
            prop_assert_eq!(Set::from(model(&a)), one.clone());
            prop_assert!((0..9).all(|value| one.has(&value) == a.contains(&value)));
            let union: BTreeSet<u8> = &model(&a) | &model(&b);
            prop_assert!(Set::union([&one, &two]).iter().eq(&union));
        }

        #[test]
        fn labels_are_a_map(pairs in prop::collection::vec(("[a-d]", "[a-d]"), 0..9)) {
            let model: BTreeMap<&str, &str> = pairs.iter().map(|(k, v)| (&**k, &**v)).collect();
            let labels: Labels = pairs.iter().map(|(k, v)| (k.as_str().into(), v.as_str().into())).collect();
            prop_assert!(labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).eq(model.clone()));
            for label in ["a", "b", "c", "d", "e"] {
                prop_assert_eq!(labels.get(label).map(Name::as_str), model.get(label).copied());
            }
            let text = serde_json::to_string(&labels).unwrap();
            prop_assert_eq!(&text, &serde_json::to_string(&model).unwrap());
            prop_assert_eq!(serde_json::from_str::<Labels>(&text).unwrap(), labels);
        }
    }

    #[test]
    fn both_are_one_pointer_and_empty_ones_nothing() {
        assert_eq!((size_of::<Set<u8>>(), size_of::<Labels>()), (size_of::<usize>(), size_of::<usize>()));
        assert!(Labels::new().0.0.is_none() && Set::<u8>::from_iter([]).0.is_none());
        let all = Set::from([1, 2, 3]);
        let (some, union) = (Set::from([2]), Set::union([&all, &Set::from([2])]));
        assert!(Arc::ptr_eq(all.0.as_ref().unwrap(), union.0.as_ref().unwrap()));
        assert!(Set::union([&some, &all]).has(&3));
    }
}
