//! The scenarios.

use super::Scenario;

/// All of them.
pub const SCENARIOS: &[Scenario] = &[];
