//! `localityLbSetting` and `zoneAwareLbSetting` (R4.29–R4.35).

use std::collections::BTreeSet;

use super::At;
use crate::model::Name;
use crate::model::policy::{Distribute, Failover, LocalityLb, ZoneAwareLb};

/// Reads a `localityLbSetting`.
pub(super) fn locality_lb(at: &At<'_>) -> Result<LocalityLb, String> {
    at.object()?;
    let setting = LocalityLb {
        enabled: at.read("enabled", At::boolean)?.unwrap_or(true),
        distribute: at.list("distribute", distribute)?,
        failover: failovers(at)?,
        failover_priority: failover_priority(at)?,
    };
    let fails_over = !setting.failover.is_empty() || !setting.failover_priority.is_empty();
    if !setting.distribute.is_empty() && fails_over {
        return Err(format!("{at}: distribute is not allowed together with failover or failoverPriority"));
    }
    for (index, one) in setting.distribute.iter().enumerate() {
        if let Some(other) = setting.distribute[..index].iter().find(|other| overlap(&other.from, &one.from))
        {
            return Err(format!("{at}.distribute: from `{}` and `{}` overlap", other.from, one.from));
        }
    }
    Ok(setting)
}

/// Reads a `zoneAwareLbSetting`.
pub(super) fn zone_aware_lb(at: &At<'_>) -> Result<ZoneAwareLb, String> {
    at.object()?;
    Ok(ZoneAwareLb {
        enabled: at.read("enabled", At::boolean)?.unwrap_or(true),
        failover: failovers(at)?,
        failover_priority: failover_priority(at)?,
        min_cluster_size: at.read("minClusterSize", |size| size.number(0, u64::MAX))?,
    })
}

/// R4.32. Percentages of 1 to 100 that sum to 100, for localities that do not overlap.
fn distribute(at: &At<'_>) -> Result<Distribute, String> {
    let from = at.read("from", pattern)?;
    let Some(from) = from else {
        return Err(format!("{at}.from: a locality is needed"));
    };
    let Some(to) = at.field("to") else {
        return Err(format!("{at}.to: localities with percentages are needed"));
    };
    let mut shares = to.entries(|name, share| {
        check_pattern(share, name)?;
        Ok((Name::from(name), share.number(1, 100)? as u32))
    })?;
    let sum: u32 = shares.iter().map(|(_, share)| share).sum();
    if sum != 100 {
        return to.wrong(format_args!("percentages that sum to 100, these sum to {sum}"));
    }
    shares.sort_by_cached_key(|(name, _)| (std::cmp::Reverse(depth(name)), name.clone()));
    for (index, (one, _)) in shares.iter().enumerate() {
        if let Some((other, _)) = shares[..index].iter().find(|(other, _)| overlap(other, one)) {
            return to.wrong(format_args!("localities that do not overlap; `{other}` and `{one}` do"));
        }
    }
    Ok(Distribute { from, to: shares })
}

/// R4.33. Regions only, and none to itself.
fn failovers(at: &At<'_>) -> Result<Vec<Failover>, String> {
    at.list("failover", |rule| {
        let region = |name: &str| {
            let region = rule.read(name, |at| {
                let text = at.filled()?;
                if text.contains(['*', '/']) {
                    at.wrong("one region, without zone and wildcard")
                } else {
                    Ok(text.into())
                }
            })?;
            region.map_or_else(|| Err(format!("{rule}.{name}: a region is needed")), Ok)
        };
        let (from, to): (Name, Name) = (region("from")?, region("to")?);
        if from == to { rule.wrong("a region other than its own") } else { Ok(Failover { from, to }) }
    })
}

/// R4.34. Each label once.
fn failover_priority(at: &At<'_>) -> Result<Vec<Name>, String> {
    let labels: Vec<Name> = at.list("failoverPriority", |label| label.filled().map(Name::from))?;
    let mut seen = BTreeSet::new();
    let again = labels.iter().enumerate().find(|(_, label)| !seen.insert(key(label)));
    match again {
        Some((index, label)) => {
            Err(format!("{at}.failoverPriority[{index}]: label `{}` comes twice", key(label)))
        }
        None => Ok(labels),
    }
}

/// The label of a key `label` or `label=value`.
fn key(label: &Name) -> &str {
    label.split('=').next().unwrap_or_default()
}

fn pattern(at: &At<'_>) -> Result<Name, String> {
    let text = at.filled()?;
    check_pattern(at, text)?;
    Ok(text.into())
}

/// `region[/zone[/subzone]]`; `*` only as the last part.
fn check_pattern(at: &At<'_>, text: &str) -> Result<(), String> {
    let parts: Vec<_> = text.split('/').collect();
    let wild = parts.iter().position(|part| part.contains('*'));
    let plain = parts.iter().all(|part| !part.is_empty() && (!part.contains('*') || *part == "*"));
    let last = wild.is_none_or(|index| index + 1 == parts.len());
    if plain && last && parts.len() <= 3 {
        return Ok(());
    }
    at.wrong(format_args!("`{text}` is no region[/zone[/subzone]] with `*` as its last part at most"))
}

/// How many parts a pattern names.
fn depth(pattern: &str) -> usize {
    pattern.split('/').filter(|part| *part != "*").count()
}

/// Whether a locality could match both.
fn overlap(one: &str, other: &str) -> bool {
    let parts = one.split('/').zip(other.split('/'));
    parts.into_iter().all(|(one, other)| one == other || one == "*" || other == "*")
}
