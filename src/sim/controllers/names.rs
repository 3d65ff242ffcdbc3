//! Names and hashes as Kubernetes' controllers make them.

use std::sync::atomic::{AtomicU32, Ordering};

use k8s_openapi::api::core::v1::PodTemplateSpec;
use xxhash_rust::xxh3::xxh3_64;

/// No vowels and nothing that looks like one, so that no word comes about.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX_LENGTH: u32 = 5;
/// How many suffixes there are: 27⁵.
const SUFFIXES: u32 = 27_u32.pow(SUFFIX_LENGTH);
/// Strides through the suffixes, without a common factor with their number: each comes once in a round.
const STEP: u32 = 8_765_432;
/// The longest name that is made by a suffix.
const LONGEST: usize = 63;

/// Makes names from prefixes. One maker gives every suffix once before it repeats any.
#[derive(Debug)]
pub(super) struct NameMaker {
    next: AtomicU32,
}

impl NameMaker {
    pub(super) fn new(seed: u64) -> Self {
        let start = seed % u64::from(SUFFIXES);
        Self { next: AtomicU32::new(u32::try_from(start).expect("a remainder of a 32-bit number")) }
    }

    /// `prefix` and five characters; a long prefix is cut so that the name fits a label.
    pub(super) fn name(&self, prefix: &str) -> String {
        let turn = u64::from(self.next.fetch_add(1, Ordering::Relaxed) % SUFFIXES);
        let mut rest = turn * u64::from(STEP) % u64::from(SUFFIXES);
        let room = LONGEST - SUFFIX_LENGTH as usize;
        let mut name: String = prefix.chars().take(room).collect();
        for _ in 0..SUFFIX_LENGTH {
            let digit = usize::try_from(rest % 27).expect("less than 27");
            name.push(char::from(ALPHABET[digit]));
            rest /= 27;
        }
        name
    }
}

/// The hash of a pod template: the value of `pod-template-hash`.
pub(super) fn template_hash(template: &PodTemplateSpec) -> String {
    let json = serde_json::to_vec(template).expect("a typed object is serialisable");
    // 32 bits in decimal, each digit as a letter: at most ten characters.
    let number = xxh3_64(&json) & u64::from(u32::MAX);
    number.to_string().bytes().map(|digit| char::from(ALPHABET[usize::from(digit) % 27])).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_do_not_repeat_and_fit_a_label() {
        let names = NameMaker::new(u64::MAX);
        let mut seen = HashSet::new();
        for _ in 0..20_000 {
            assert!(seen.insert(names.name("web-")));
        }
        let long = names.name(&"x".repeat(80));
        assert_eq!(long.len(), 63);
        let suffix = |name: &str| name[name.len() - 5..].bytes().all(|c| ALPHABET.contains(&c));
        assert!(seen.iter().all(|name| name.len() == 9 && suffix(name)));
    }

    #[test]
    fn the_steps_reach_every_suffix() {
        let gcd = |mut a: u32, mut b: u32| {
            while b != 0 {
                (a, b) = (b, a % b);
            }
            a
        };
        assert_eq!(gcd(STEP, SUFFIXES), 1);
    }

    #[test]
    fn the_hash_changes_with_the_template_alone() {
        let template = PodTemplateSpec::default();
        let mut other = template.clone();
        other.metadata.get_or_insert_default().annotations =
            Some([("restarted".into(), "now".into())].into());
        assert_eq!(template_hash(&template), template_hash(&template.clone()));
        assert_ne!(template_hash(&template), template_hash(&other));
        assert!(template_hash(&other).len() <= 10);
    }
}
