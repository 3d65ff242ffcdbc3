//! What was meant by a name that is not there.

/// At most so many are suggested.
const MOST: usize = 3;

/// Longer texts are no host names, and near to none.
const LONGEST: usize = 253;

/// The names that are nearest to what was asked for, the nearest first: those that differ in a few letters, and those
/// with the same first label in another namespace; none for what is longer than any host name. Cost ∝ the names, those
/// of another length alone are looked at no further.
pub(super) fn near<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    if wanted.len() > LONGEST {
        return Vec::new();
    }
    let label = |text: &'a str| text.split('.').next().unwrap_or(text);
    let wanted_label = wanted.split('.').next().unwrap_or(wanted);
    let far = |name: &'a str| {
        let alone = within(wanted_label, label(name)).filter(|far| !wanted.contains('.') || *far == 0);
        let nearest = [within(wanted, name), alone].into_iter().flatten().min();
        nearest.map(|distance| (distance, name))
    };
    let mut found: Vec<_> = names.filter_map(far).collect();
    found.sort_unstable();
    found.dedup();
    found.into_iter().take(MOST).map(|(_, name)| name).collect()
}

/// `; did you mean a, b?`, or nothing.
pub(super) fn did_you_mean(near: &[&str]) -> String {
    if near.is_empty() { String::new() } else { format!("; did you mean {}?", near.join(", ")) }
}

/// The distance of two texts, if it is a small part of the first. Texts of other lengths are not compared.
fn within(wanted: &str, name: &str) -> Option<usize> {
    let allowed = 1 + wanted.len() / 5;
    let letters = wanted.chars().count().abs_diff(name.chars().count());
    (letters <= allowed).then(|| distance(wanted, name)).filter(|distance| *distance <= allowed)
}

/// How many letters have to be put in, left out or replaced (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (line, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_in_a_few_letters_or_in_its_namespace_is_near() {
        let names = ["reviews.default", "ratings.default", "reviews.prod", "details.default", "reviews.prod"];
        let of = |wanted| near(wanted, names.into_iter());
        assert_eq!(of("reviws.default"), ["reviews.default"]);
        assert_eq!(of("reviews.staging"), ["reviews.default", "reviews.prod"]);
        assert_eq!(of("rewiews"), ["reviews.default", "reviews.prod"]);
        assert_eq!(of("payments.default"), [""; 0]);
        assert_eq!(did_you_mean(&of("reviws.default")), "; did you mean reviews.default?");
        assert_eq!(did_you_mean(&[]), "");
        let long = "a".repeat(254);
        assert_eq!(near(&long, [long.as_str()].into_iter()), [""; 0]);
        assert_eq!(near(&long[1..], [&long[1..]].into_iter()).len(), 1);
    }

    #[test]
    fn distances_count_letters() {
        for (a, b, letters) in [("", "", 0), ("abc", "abc", 0), ("abc", "", 3), ("kitten", "sitting", 3)] {
            assert_eq!((distance(a, b), distance(b, a)), (letters, letters));
        }
    }
}
