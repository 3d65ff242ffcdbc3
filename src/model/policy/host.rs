//! Host names and patterns of them.

use crate::model::Name;

/// Whether a host is meant: a full name, `*.suffix`, or `*`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct HostPattern(Name);

impl HostPattern {
    /// A pattern of this text. Anything that does not begin with `*` is a full name.
    pub fn new(text: impl Into<Name>) -> Self {
        Self(text.into())
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is no full name.
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with('*')
    }

    /// Whether `host` is meant. A suffix needs something before it.
    pub fn matches(&self, host: &str) -> bool {
        match self.0.strip_prefix('*') {
            Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
            None => host == self.0.as_str(),
        }
    }

    /// Whether some host could be meant by both.
    pub fn overlaps(&self, other: &str) -> bool {
        match (self.0.strip_prefix('*'), other.strip_prefix('*')) {
            (Some(ours), Some(theirs)) => ours.ends_with(theirs) || theirs.ends_with(ours),
            (None, Some(suffix)) => self.0.len() > suffix.len() && self.0.ends_with(suffix),
            _ => self.matches(other),
        }
    }
}

/// The wildcards that mean `host`, the longest first: `*.b.c`, `*.c`, `*` for `a.b.c`.
pub fn wildcards(host: &str) -> impl Iterator<Item = String> + '_ {
    wildcard_ends(host).map(|end| format!("*{end}"))
}

/// What stands behind the star of each of the [`wildcards`] of a host.
pub fn wildcard_ends(host: &str) -> impl Iterator<Item = &str> {
    host.match_indices('.').map(|(at, _)| &host[at..]).chain([""])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_come_longest_first() {
        assert_eq!(wildcards("a.b.c").collect::<Vec<_>>(), ["*.b.c", "*.c", "*"]);
        assert_eq!(wildcards("a").collect::<Vec<_>>(), ["*"]);
        assert!(wildcards("a.b.c").all(|pattern| HostPattern::new(pattern).matches("a.b.c")));
    }

    #[test]
    fn patterns_match_hosts_and_one_another() {
        let pattern = HostPattern::new("*.b.c");
        assert!(pattern.matches("a.b.c") && !pattern.matches("b.c"));
        assert!(pattern.overlaps("*.c") && pattern.overlaps("*.a.b.c") && !pattern.overlaps("*.x"));
        assert!(HostPattern::new("a.b").overlaps("*.b") && HostPattern::new("a.b").overlaps("a.b"));
        assert!(!HostPattern::new("a.b").overlaps("*.c"));
    }
}
