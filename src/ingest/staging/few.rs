//! A few small values, each as often as it was added: mostly one, seldom many.

/// A list of one value, or the place of a longer one.
#[derive(Debug, Default)]
pub(super) enum Few<T> {
    /// Nothing.
    #[default]
    None,
    /// One value.
    One(T),
    /// A list of at least two, by its place in [`Lists`].
    Many(u32),
}

impl<T> Few<T> {
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }
}

/// The longer lists of many small ones.
#[derive(Debug)]
pub(super) struct Lists<T> {
    lists: Vec<Vec<T>>,
    free: Vec<u32>,
}

impl<T> Default for Lists<T> {
    fn default() -> Self {
        Self { lists: Vec::new(), free: Vec::new() }
    }
}

impl<T: Copy + PartialEq> Lists<T> {
    /// The values of a list.
    pub(super) fn of<'a>(&'a self, few: &'a Few<T>) -> &'a [T] {
        match few {
            Few::None => &[],
            Few::One(value) => std::slice::from_ref(value),
            Few::Many(at) => &self.lists[*at as usize],
        }
    }

    /// Adds a value, once more if it is there.
    pub(super) fn add(&mut self, few: &mut Few<T>, value: T) {
        match few {
            Few::None => *few = Few::One(value),
            Few::One(first) => *few = Few::Many(self.keep(vec![*first, value])),
            Few::Many(at) => self.lists[*at as usize].push(value),
        }
    }

    /// Takes a value away once.
    pub(super) fn remove(&mut self, few: &mut Few<T>, value: T) {
        match few {
            Few::One(first) if *first == value => *few = Few::None,
            Few::None | Few::One(_) => {}
            Few::Many(at) => {
                let list = &mut self.lists[*at as usize];
                if let Some(found) = list.iter().position(|other| *other == value) {
                    list.swap_remove(found);
                }
                if let [last] = **list {
                    *list = Vec::new();
                    self.free.push(*at);
                    *few = Few::One(last);
                }
            }
        }
    }

    /// How many lists there were at once, at most.
    #[cfg(test)]
    pub(super) fn made(&self) -> usize {
        self.lists.len()
    }

    fn keep(&mut self, list: Vec<T>) -> u32 {
        match self.free.pop() {
            Some(at) => {
                self.lists[at as usize] = list;
                at
            }
            None => {
                self.lists.push(list);
                u32::try_from(self.lists.len() - 1).expect("fewer than 2^32 lists")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn lists_hold_what_was_added_and_not_taken_away(
            steps in prop::collection::vec((0..3usize, 0..4u32, any::<bool>()), 0..80),
        ) {
            let mut lists = Lists::default();
            let mut few: [Few<u32>; 3] = Default::default();
            let mut models: [Vec<u32>; 3] = Default::default();
            for (which, value, add) in steps {
                let (few, model) = (&mut few[which], &mut models[which]);
                if add {
                    lists.add(few, value);
                    model.push(value);
                } else {
                    lists.remove(few, value);
                    if let Some(at) = model.iter().position(|other| *other == value) {
                        model.remove(at);
                    }
                }
            }
            for (few, model) in few.iter().zip(&mut models) {
                let mut held = lists.of(few).to_vec();
                held.sort_unstable();
                model.sort_unstable();
                prop_assert_eq!(&held, &*model);
                prop_assert_eq!(few.is_empty(), model.is_empty());
            }
            prop_assert!(lists.lists.len() <= 3, "places are used again");
        }
    }

    #[test]
    fn it_is_small() {
        assert_eq!(size_of::<Few<u32>>(), 8);
    }
}
