//! Chance that repeats: the same seed, the same fleet.

use crate::sim::world::mix;

/// A sequence of well-spread numbers.
#[derive(Debug, Clone)]
pub(super) struct Dice {
    seed: u64,
    drawn: usize,
}

impl Dice {
    /// The sequence of `seed` that belongs to member `number`.
    pub(super) fn new(seed: u64, number: usize) -> Self {
        Self { seed: mix(seed, 0xf1ee7, number), drawn: 0 }
    }

    fn next(&mut self) -> u64 {
        self.drawn += 1;
        mix(self.seed, 1, self.drawn)
    }

    /// A number below `end`, which is not 0.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        // The bias of the remainder is far below what chance is used for here.
        self.next() % end
    }

    /// A number of the interval from 0 to 1, never 0.
    pub(super) fn share(&mut self) -> f64 {
        // 53 bits: what a float holds exactly.
        ((self.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// Shuffles in place.
    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_and_members_differ() {
        let draw = |seed, number| {
            let mut dice = Dice::new(seed, number);
            [dice.below(1000), dice.below(1000), dice.below(1000), dice.below(1000)]
        };
        assert_eq!(draw(1, 2), draw(1, 2));
        assert_ne!(draw(1, 2), draw(1, 3));
        assert_ne!(draw(1, 2), draw(2, 2));
    }

    #[test]
    fn shares_are_above_zero_and_at_most_one() {
        let mut dice = Dice::new(7, 0);
        let all: Vec<f64> = (0..1000).map(|_| dice.share()).collect();
        assert!(all.iter().all(|share| *share > 0.0 && *share <= 1.0));
        let mean = all.iter().sum::<f64>() / 1000.0;
        assert!((0.45..0.55).contains(&mean), "{mean}");
    }
}
