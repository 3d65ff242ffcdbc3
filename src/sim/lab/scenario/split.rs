//! Whether requests are split as they should be.

use std::collections::BTreeMap;

use super::super::client::Client;
use super::super::plan::HELLOWORLD;
use super::{Seen, wrong};

/// Requests of one sample.
pub(super) const SAMPLE: u64 = 10_000;
/// A fair split is taken for an unfair one once in a thousand samples.
const QUANTILE: f64 = 3.090;

/// Sends [`SAMPLE`] requests of `client` and holds their split by cluster against `shares`.
pub(super) async fn split_as(client: &Client, shares: &BTreeMap<String, u32>) -> Seen {
    let total = client.send(&HELLOWORLD, SAMPLE).await?;
    let by_cluster = |cluster: &str| -> u64 {
        let of = total.by.iter().filter(|(who, _)| who.rsplit('/').next() == Some(cluster));
        of.map(|(_, count)| count).sum()
    };
    let observed: Vec<u64> = shares.keys().map(|cluster| by_cluster(cluster)).collect();
    let parts: Vec<u32> = shares.values().copied().collect();
    let (statistic, bound) = (chi_square(&observed, &parts), bound(observed.len()));
    let told = shares.iter().zip(&observed);
    let told: Vec<String> =
        told.map(|((cluster, share), seen)| format!("{cluster} {seen} ({share})")).collect();
    let told = format!("{}: {}, chi-square {statistic:.1}", client.cluster.name, told.join(", "));
    if observed.iter().sum::<u64>() != SAMPLE || statistic > bound {
        return Err(wrong(
            format!("{SAMPLE} requests are split as told, chi-square at most {bound:.1}"),
            told,
        ));
    }
    Ok(told)
}

/// Pearson's statistic of `observed` against expected `parts`; infinite where something came that should not.
pub(super) fn chi_square(observed: &[u64], parts: &[u32]) -> f64 {
    let all = observed.iter().sum::<u64>() as f64;
    let whole = parts.iter().map(|part| f64::from(*part)).sum::<f64>();
    let term = |(seen, part): (&u64, &u32)| {
        let expected = all * f64::from(*part) / whole;
        match (*seen, *part) {
            (0, 0) => 0.0,
            (_, 0) => f64::INFINITY,
            (seen, _) => (seen as f64 - expected).powi(2) / expected,
        }
    };
    observed.iter().zip(parts).map(term).sum()
}

/// The bound of the statistic for this many groups, by Wilson and Hilferty's approximation.
pub(super) fn bound(groups: usize) -> f64 {
    let freedom = groups.saturating_sub(1).max(1) as f64;
    let ninth = 2.0 / (9.0 * freedom);
    freedom * (1.0 - ninth + QUANTILE * ninth.sqrt()).powi(3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_that_of_the_tables() {
        for (groups, tabled) in [(2, 10.83), (3, 13.82), (5, 18.47)] {
            assert!((bound(groups) - tabled).abs() < 0.5, "{groups}: {}", bound(groups));
        }
    }

    #[test]
    fn a_fair_split_passes_and_another_does_not() {
        assert!(chi_square(&[6_970, 3_030], &[70, 30]) < bound(2));
        assert!(chi_square(&[7_200, 2_800], &[70, 30]) > bound(2));
        assert!(chi_square(&[9_999, 1], &[1, 0]).is_infinite());
    }
}
