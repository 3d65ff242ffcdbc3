//! Exact shares of whole weights (D5): for endpoints that are told and for those that Envoy resolves.

/// The least common multiple, bounded: beyond that weights would be scaled down to the same ratios anyway.
pub(super) fn lcm(a: u128, b: u128) -> u128 {
    let (mut x, mut y) = (a, b);
    while y != 0 {
        (x, y) = (y, x % y);
    }
    (a / x).saturating_mul(b).min(1 << 64)
}

/// The part that the one at this position gets of a total shared out between `count`: equal parts, the remainder to
/// the first of them.
pub(super) fn part(total: u128, count: usize, position: usize) -> u128 {
    let count = count as u128;
    total / count + u128::from((position as u128) < total % count)
}

/// What `count` weights with this sum are divided by so that they fit 32 bits together, each at least 1. Envoy refuses
/// a priority whose localities' sum is larger.
pub(super) fn shrink(total: u128, count: usize) -> u128 {
    let limit = u128::from(u32::MAX).saturating_sub(count as u128).max(1);
    if total > limit { total / limit + 1 } else { 1 }
}

/// A weight divided by that.
pub(super) fn fitted(weight: u128, shrink: u128) -> u32 {
    let weight = if shrink == 1 { weight } else { weight / shrink };
    u32::try_from(weight.max(1)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d05_nothing_is_lost_between_parts() {
        let parts: Vec<_> = (0..3).map(|position| part(8, 3, position)).collect();
        assert_eq!(parts, [3, 3, 2]);
        assert_eq!((lcm(4, 6), lcm(1 << 70, 3)), (12, 1 << 64));
    }

    #[test]
    fn d05_weights_fit_together() {
        assert_eq!(shrink(u128::from(u32::MAX) - 2, 2), 1, "they do");
        let total = 3 * u128::from(u32::MAX);
        let by = shrink(total, 3);
        assert!(3 * u64::from(fitted(u128::from(u32::MAX), by)) <= u64::from(u32::MAX));
        assert_eq!((fitted(0, by), fitted(1 << 40, 1)), (1, u32::MAX));
    }
}
