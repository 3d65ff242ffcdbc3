//! Revisions: opaque texts that mostly are numbers.

use std::fmt;

/// A `resourceVersion`, as the server spells it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Revision(Box<str>);

impl Revision {
    /// A revision from its text.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The text, for requests.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Its place in the order of revisions; `None` where the server's revisions are no numbers (D32).
    pub fn number(&self) -> Option<u64> {
        number(&self.0)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The number in `text`, if it is nothing but digits.
pub(in crate::ingest::objects) fn number(text: &str) -> Option<u64> {
    if text.starts_with('+') { None } else { text.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revisions_are_numbers_or_opaque() {
        assert_eq!(Revision::new("306").number(), Some(306));
        for opaque in ["", "+7", "-1", "7a", "99999999999999999999"] {
            assert_eq!(Revision::new(opaque).number(), None, "{opaque}");
            assert_eq!(Revision::new(opaque).as_str(), opaque);
        }
    }
}
