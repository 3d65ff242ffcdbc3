//! A list in progress: its rows as they come, put in order once it is complete.

use std::cmp::Ordering;

use crate::ingest::objects::ObjectKey;
use crate::ingest::watch::Received;

/// With fewer rows that are out of order nothing is tidied up in between.
const FEW: usize = if cfg!(test) { 16 } else { 1000 };

/// What a list says of one object.
#[derive(Debug)]
pub(super) struct Row<T> {
    pub(super) key: ObjectKey,
    pub(super) revision: Option<u64>,
    /// The object, or why it cannot be read.
    pub(super) object: Result<T, String>,
}

/// The rows of a list. API servers tell them in order: then one costs a comparison, and nothing is told twice.
#[derive(Debug)]
pub(super) struct Listing<T> {
    rows: Vec<(ObjectKey, Option<Told<T>>)>,
    /// How many of them are in order, each key once.
    ordered: usize,
    /// It was asked for to confirm an earlier one (K-21).
    pub(super) confirms: bool,
}

/// The revision, and the object or why it cannot be read.
type Told<T> = (Option<u64>, Result<T, String>);

impl<T> Listing<T> {
    pub(super) fn new(confirms: bool) -> Self {
        Self { rows: Vec::new(), ordered: 0, confirms }
    }

    /// Another row; of those with one key the last one counts. Cost: amortised, a comparison in order, else that of
    /// sorting.
    pub(super) fn add(&mut self, received: Received<T>) {
        let Received { key, revision, object, .. } = received;
        self.push(key, Some((revision, object)));
    }

    /// The object is gone again.
    pub(super) fn remove(&mut self, key: ObjectKey) {
        self.push(key, None);
    }

    fn push(&mut self, key: ObjectKey, told: Option<Told<T>>) {
        let in_order = self.rows.last().is_none_or(|(last, _)| order(last, &key).is_lt());
        if in_order && told.is_some() && self.ordered == self.rows.len() {
            self.ordered += 1;
        }
        self.rows.push((key, told));
        if self.rows.len() - self.ordered > self.ordered.max(FEW) {
            self.tidy();
        }
    }

    fn tidy(&mut self) {
        self.rows.sort_by(|(a, _), (b, _)| order(a, b));
        self.rows.dedup_by(|(later, told), (earlier, kept)| {
            let twice = later == earlier;
            if twice {
                std::mem::swap(told, kept);
            }
            twice
        });
        self.rows.retain(|(_, told)| told.is_some());
        self.ordered = self.rows.len();
    }

    /// All rows, in order.
    pub(super) fn complete(mut self) -> Rows<T> {
        if self.ordered < self.rows.len() {
            self.tidy();
        }
        let row = |(key, told): (ObjectKey, Option<Told<T>>)| {
            told.map(|(revision, object)| Row { key, revision, object })
        };
        Rows(self.rows.into_iter().filter_map(row).collect())
    }
}

/// The rows of a complete list: in order, each key once.
#[derive(Debug)]
pub(super) struct Rows<T>(Vec<Row<T>>);

impl<T> Rows<T> {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn contains(&self, key: &ObjectKey) -> bool {
        self.0.binary_search_by(|row| order(&row.key, key)).is_ok()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Row<T>> {
        self.0.iter()
    }

    /// Takes the rows out for which this holds.
    pub(super) fn extract(&mut self, which: impl Fn(&Row<T>) -> bool) -> Vec<Row<T>> {
        self.0.extract_if(.., |row| which(row)).collect()
    }
}

impl<T> IntoIterator for Rows<T> {
    type Item = Row<T>;
    type IntoIter = std::vec::IntoIter<Row<T>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// The order of an API server's store: that of `namespace/name`.
fn order(a: &ObjectKey, b: &ObjectKey) -> Ordering {
    if a.namespace == b.namespace {
        return a.name.cmp(&b.name);
    }
    a.namespace.bytes().chain(*b"/").cmp(b.namespace.bytes().chain(*b"/"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn told(key: &ObjectKey, n: u64) -> Received<u64> {
        Received { key: key.clone(), uid: "".into(), revision: Some(n), object: Ok(n) }
    }

    proptest! {
        #[test]
        fn of_every_key_the_last_row_counts(
            steps in prop::collection::vec((0..4usize, 0..40u8, prop::bool::weighted(0.2)), 0..300),
        ) {
            let namespaces = ["a", "a-b", "a0", ""];
            let (mut listing, mut model) = (Listing::new(false), BTreeMap::new());
            for (n, (namespace, name, gone)) in steps.into_iter().enumerate() {
                let key = ObjectKey::new(namespaces[namespace], format!("p{name}"));
                if gone {
                    listing.remove(key.clone());
                    model.remove(&key);
                } else {
                    listing.add(told(&key, n as u64));
                    model.insert(key, n as u64);
                }
                prop_assert!(listing.rows.len() <= 160 + FEW + 1, "{}", listing.rows.len());
            }
            let rows = listing.complete();
            prop_assert!(rows.0.is_sorted_by(|a, b| order(&a.key, &b.key).is_lt()));
            for name in 0..40 {
                let key = ObjectKey::new("a", format!("p{name}"));
                prop_assert_eq!(rows.contains(&key), model.contains_key(&key));
            }
            let got: BTreeMap<_, _> = rows.into_iter().map(|row| (row.key, row.object.unwrap())).collect();
            prop_assert_eq!(got, model);
        }
    }

    #[test]
    fn rows_in_the_order_of_the_store_are_never_sorted() {
        let mut listing = Listing::new(false);
        for key in ["a-b/x", "a-b/y", "a/x", "a0/a", "b/p-1", "b/p-10", "b/p-2"] {
            let (namespace, name) = key.split_once('/').unwrap();
            listing.add(told(&ObjectKey::new(namespace, name), 1));
        }
        assert_eq!(listing.ordered, 7);
    }
}
