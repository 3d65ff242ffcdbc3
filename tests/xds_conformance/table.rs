//! No row is forgotten.

use std::collections::BTreeSet;

/// The sections of the checklist: their letter, how many rows they have, and where their tests are.
const SECTIONS: [(char, u32, &str); 8] = [
    ('C', 26, include_str!("common.rs")),
    ('S', 19, include_str!("sotw.rs")),
    ('D', 26, include_str!("delta.rs")),
    ('E', 5, include_str!("eds.rs")),
    ('O', 11, include_str!("order.rs")),
    ('T', 4, include_str!("ttl.rs")),
    ('F', 12, include_str!("flow.rs")),
    ('L', 14, include_str!("lifecycle.rs")),
];

/// Rows without a test, and why.
const DROPPED: [(char, u32, &str); 2] = [
    ('T', 2, "D29: times to live are not offered, so there are no heartbeats"),
    ('T', 4, "D29: times to live are not offered, so there are no heartbeats"),
];

/// The rows that a section has tests of, by their names.
fn tested(letter: char, text: &str) -> Vec<u32> {
    let prefix = format!("async fn x{}", letter.to_ascii_lowercase());
    let mut rows = Vec::new();
    let mut attribute = false;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix(&prefix) {
            let row = rest.get(..2).and_then(|row| row.parse().ok()).expect("two digits");
            assert!(attribute && rest[2..].starts_with('_'), "{line} is no test of a row");
            rows.push(row);
        }
        attribute = line.starts_with("#[tokio::test");
    }
    rows
}

#[test]
fn every_row_has_its_test() {
    for (letter, count, text) in SECTIONS {
        let dropped = DROPPED.iter().filter(|(of, ..)| *of == letter).map(|(_, row, _)| *row);
        let tested = tested(letter, text);
        let distinct: BTreeSet<_> = tested.iter().copied().collect();
        assert_eq!(distinct.len(), tested.len(), "two tests of one row of X-{letter}");
        let all: BTreeSet<_> = distinct.into_iter().chain(dropped).collect();
        assert_eq!(all, (1..=count).collect(), "rows of X-{letter}");
    }
    assert!(DROPPED.iter().all(|(.., why)| why.starts_with('D')));
}
