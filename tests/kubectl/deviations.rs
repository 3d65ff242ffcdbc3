//! Where a synthetic server differs from a real one, and why.

use std::fmt;

/// What differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Exit,
    Stdout,
    Stderr,
    Objects,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exit => "exit code",
            Self::Stdout => "output",
            Self::Stderr => "message",
            Self::Objects => "objects",
        })
    }
}

/// Command, what differs, reason.
pub(super) const DEVIATIONS: &[(&str, What, &str)] = &[];
