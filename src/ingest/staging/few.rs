//! A few small values, each as often as it was added: mostly one, seldom many.

/// A list in 16 bytes that needs no memory of its own for up to two values.
#[derive(Clone, Debug, Default)]
pub(super) enum Few<T> {
    #[default]
    None,
    One([T; 1]),
    Two([T; 2]),
    // One pointer: a boxed slice would make every list a third larger.
    #[allow(clippy::box_collection)]
    Many(Box<Vec<T>>),
}

impl<T: Copy + PartialEq> Few<T> {
    pub(super) fn as_slice(&self) -> &[T] {
        match self {
            Self::None => &[],
            Self::One(list) => list,
            Self::Two(list) => list,
            Self::Many(list) => list,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }

    pub(super) fn contains(&self, value: T) -> bool {
        self.as_slice().contains(&value)
    }

    /// Adds a value, once more if it is there.
    pub(super) fn add(&mut self, value: T) {
        match self {
            Self::None => *self = Self::One([value]),
            Self::One([first]) => *self = Self::Two([*first, value]),
            Self::Two([first, second]) => *self = Self::Many(Box::new(vec![*first, *second, value])),
            Self::Many(list) => list.push(value),
        }
    }

    /// Takes a value away once.
    pub(super) fn remove(&mut self, value: T) {
        *self = match std::mem::take(self) {
            Self::One([first]) if first == value => Self::None,
            Self::Two([first, second]) if first == value => Self::One([second]),
            Self::Two([first, second]) if second == value => Self::One([first]),
            Self::Many(mut list) => {
                if let Some(at) = list.iter().position(|other| *other == value) {
                    list.swap_remove(at);
                }
                match **list {
                    [first, second] => Self::Two([first, second]),
                    _ => Self::Many(list),
                }
            }
            other => other,
        };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_holds_what_was_added_and_not_taken_away(
            steps in prop::collection::vec((0..4u32, any::<bool>()), 0..40),
        ) {
            let (mut few, mut model) = (Few::default(), Vec::new());
            for (value, add) in steps {
                if add {
                    few.add(value);
                    model.push(value);
                } else {
                    few.remove(value);
                    if let Some(at) = model.iter().position(|other| *other == value) {
                        model.remove(at);
                    }
                }
                let mut held = few.as_slice().to_vec();
                held.sort_unstable();
                model.sort_unstable();
                prop_assert_eq!(&held, &model);
                prop_assert_eq!(few.is_empty(), model.is_empty());
                prop_assert!((0..4).all(|value| few.contains(value) == model.contains(&value)));
            }
        }
    }

    #[test]
    fn it_is_small() {
        assert_eq!(size_of::<Few<u32>>(), 16);
    }
}
