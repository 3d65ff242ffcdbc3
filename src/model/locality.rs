//! Region, zone and subzone.

use std::fmt;

use serde::Serialize;

use super::Name;

/// Where a workload runs (R5.11). Missing parts are empty; ordered as the string `region/zone/subzone` is,
/// part by part.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Locality {
    /// `topology.kubernetes.io/region`.
    pub region: Name,
    /// `topology.kubernetes.io/zone`.
    pub zone: Name,
    /// `topology.istio.io/subzone`.
    pub subzone: Name,
}

impl Locality {
    /// Reads `region[/zone[/subzone]]`; what is missing is empty.
    pub fn parse(text: &str) -> Self {
        let mut parts = text.splitn(3, '/');
        let mut next = || Name::interned(parts.next().unwrap_or_default());
        Self { region: next(), zone: next(), subzone: next() }
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.region.is_empty() && self.zone.is_empty() && self.subzone.is_empty()
    }
}

impl fmt::Display for Locality {
    /// `region/zone/subzone` without trailing empty parts; nothing at all when nothing is known.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}/{}/{}", self.region, self.zone, self.subzone);
        f.write_str(text.trim_end_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_and_print_agree() {
        for text in ["", "r1", "r1/z1", "r1/z1/s1", "/z1", "r1//s1"] {
            assert_eq!(Locality::parse(text).to_string(), text);
        }
    }
}
