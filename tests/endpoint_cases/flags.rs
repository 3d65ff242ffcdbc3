//! Everything that may be on the peer's side: the quirks, and three settings that no flag of ours relaxes.

use std::fmt;

use tombolo::model::{Quirk, Quirks};

/// One thing that may be as it is at the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flag {
    /// A row of the quirk register.
    Quirk(Quirk),
    /// A security row: which user entries of kubeconfigs are refused. `--compat` leaves it alone.
    KubeconfigRules,
    /// A security row: whose word about gateways counts. The configuration has to trust the cluster.
    TrustedGateways,
    /// A security row: addresses that belong to one machine or link only are nobody's. A lab may keep them.
    SpecialAddresses,
}

impl Flag {
    fn all() -> Vec<Self> {
        let quirks = Quirk::ALL.iter().copied().map(Self::Quirk);
        quirks.chain([Self::KubeconfigRules, Self::TrustedGateways, Self::SpecialAddresses]).collect()
    }
}

impl fmt::Display for Flag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quirk(quirk) => quirk.fmt(f),
            Self::KubeconfigRules => f.write_str("Z-01"),
            Self::TrustedGateways => f.write_str("Z-10"),
            Self::SpecialAddresses => f.write_str("K-40"),
        }
    }
}

/// Those that are on the peer's side in one run.
#[derive(Clone, Debug)]
pub(crate) struct Flags(Vec<Flag>);

impl Flags {
    pub(crate) fn peer() -> Self {
        Self(Flag::all())
    }

    pub(crate) fn ours() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn quirks(&self) -> Quirks {
        Quirks::of(self.0.iter().filter_map(|flag| match flag {
            Flag::Quirk(quirk) => Some(*quirk),
            _ => None,
        }))
    }

    pub(crate) fn has(&self, flag: Flag) -> bool {
        self.0.contains(&flag)
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&names.join(" "))
    }
}

/// How many flags at most are tried in every combination.
const TRIED: usize = 3;

/// The fewest flags that hold, the first ones in the order of the register: all combinations of a few are tried, and of
/// more the one is taken that none can be left out of.
pub(crate) fn smallest(holds: impl Fn(&Flags) -> bool) -> Option<Flags> {
    let all = Flag::all();
    let mut needed = all.clone();
    for flag in &all {
        let without: Vec<_> = needed.iter().copied().filter(|other| other != flag).collect();
        if holds(&Flags(without.clone())) {
            needed = without;
        }
    }
    let enough = holds(&Flags(needed.clone())).then(|| Flags(needed.clone()));
    let fewer = 1..=TRIED.min(needed.len().saturating_sub(1));
    fewer.into_iter().find_map(|size| of_size(&all, size, &mut Vec::new(), &holds)).or(enough)
}

fn of_size(
    rest: &[Flag],
    size: usize,
    chosen: &mut Vec<Flag>,
    holds: &impl Fn(&Flags) -> bool,
) -> Option<Flags> {
    if size == 0 {
        let flags = Flags(chosen.clone());
        return holds(&flags).then_some(flags);
    }
    for (index, flag) in rest.iter().enumerate() {
        chosen.push(*flag);
        let found = of_size(&rest[index + 1..], size - 1, chosen, holds);
        chosen.pop();
        if found.is_some() {
            return found;
        }
    }
    None
}
