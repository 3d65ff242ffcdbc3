//! What is known of each name and when to ask again. No I/O; time comes from outside.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::Row;
use super::lookup::Lookup;
use crate::ingest::client::special_kind;
use crate::ingest::convert::SpecialAddresses;
use crate::model::Hostname;

/// The shortest and longest time an answer holds (R3.16).
const MIN_TTL: Duration = Duration::from_secs(30);
const MAX_TTL: Duration = Duration::from_secs(3600);
/// When to ask again after nobody answered; sooner while nothing is known yet.
const RETRY: Duration = Duration::from_secs(30);
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// How long before its end an answer is asked for again, at most; else a tenth of its life.
const MAX_LEAD: Duration = Duration::from_secs(5);
/// A copy from a server's cache ends with what we hold, give or take its rounding.
const COPY_SLACK: Duration = Duration::from_secs(1);

/// What to do with names that DNS says are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rules {
    /// How long their addresses stay (D8, Q31).
    pub(super) keep_gone: Duration,
    /// Whether special addresses count (K-40).
    pub(super) special: SpecialAddresses,
}

/// All names.
#[derive(Debug)]
pub(super) struct Table {
    rules: Rules,
    names: BTreeMap<Hostname, Entry>,
    serials: u64,
}

/// One name.
#[derive(Debug)]
struct Entry {
    /// Tells a lookup for this entry from one for an earlier entry of the same name.
    serial: u64,
    v4: Vec<IpAddr>,
    v6: Vec<IpAddr>,
    answered: Option<Instant>,
    expires: Option<Instant>,
    gone_since: Option<Instant>,
    next: Instant,
    asking: bool,
    asked: bool,
    failures: u32,
    last_error: Option<String>,
    served: Vec<IpAddr>,
}

/// A lookup to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) host: Hostname,
    pub(super) serial: u64,
}

impl Table {
    pub(super) fn new(rules: Rules) -> Self {
        Self { rules, names: BTreeMap::new(), serials: 0 }
    }

    /// The names to know from now on. Returns those that are forgotten; new ones are due at once.
    pub(super) fn want(&mut self, wanted: &BTreeSet<Hostname>, now: Instant) -> Vec<Hostname> {
        let gone: Vec<_> = self.names.keys().filter(|name| !wanted.contains(*name)).cloned().collect();
        for name in &gone {
            self.names.remove(name);
        }
        for name in wanted {
            if !self.names.contains_key(name) {
                self.serials += 1;
                self.names.insert(name.clone(), Entry::new(self.serials, now));
            }
        }
        gone
    }

    /// Addresses that a name had before the start hold until DNS says something of it (D8).
    pub(super) fn recall(&mut self, host: &Hostname, before: impl FnOnce() -> Vec<IpAddr>) {
        let rules = self.rules;
        let entry = self.names.get_mut(host).filter(|entry| !entry.asked && entry.served.is_empty());
        if let Some(entry) = entry {
            (entry.v4, entry.v6) = before().into_iter().partition(IpAddr::is_ipv4);
            entry.served = entry.usable(rules);
        }
    }

    /// Lookups that are due, at most `limit`; they count as under way.
    pub(super) fn due(&mut self, now: Instant, limit: usize) -> Vec<Due> {
        let due = self.names.iter_mut().filter(|(_, entry)| !entry.asking && entry.next <= now).take(limit);
        due.map(|(host, entry)| {
            entry.asking = true;
            Due { host: host.clone(), serial: entry.serial }
        })
        .collect()
    }

    /// When something is to be done next.
    pub(super) fn wake(&self) -> Option<Instant> {
        let rules = self.rules;
        let next = |entry: &Entry| {
            let ask = (!entry.asking).then_some(entry.next);
            ask.into_iter().chain(entry.end(rules)).min()
        };
        self.names.values().filter_map(next).min()
    }

    /// Names whose grace is over (D8) now serve nothing; returns them.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Hostname> {
        let rules = self.rules;
        let over = self.names.iter_mut().filter(|(_, entry)| entry.end(rules).is_some_and(|end| end <= now));
        over.map(|(host, entry)| {
            (entry.v4, entry.v6, entry.served) = Default::default();
            host.clone()
        })
        .collect()
    }

    /// Takes in what DNS says. Returns whether the served addresses differ; nothing for a name that has been
    /// forgotten meanwhile.
    pub(super) fn answer(&mut self, due: &Due, lookup: Lookup, now: Instant) -> Option<bool> {
        let rules = self.rules;
        let entry = self.names.get_mut(&due.host).filter(|entry| entry.serial == due.serial)?;
        let before = entry.served.clone();
        entry.answer(lookup, now, rules);
        Some(entry.served != before)
    }

    /// The addresses to serve for a name.
    pub(super) fn served(&self, host: &Hostname) -> Option<&[IpAddr]> {
        self.names.get(host).map(|entry| entry.served.as_slice())
    }

    /// A name as operators see it.
    pub(super) fn row(&self, host: &Hostname) -> Option<Row> {
        let entry = self.names.get(host)?;
        Some(Row {
            addresses: entry.served.clone(),
            answered: entry.answered,
            expires: entry.expires,
            gone_since: entry.gone_since,
            asked: entry.asked,
            last_error: entry.last_error.clone(),
        })
    }
}

impl Entry {
    fn new(serial: u64, now: Instant) -> Self {
        Self {
            serial,
            v4: Vec::new(),
            v6: Vec::new(),
            answered: None,
            expires: None,
            gone_since: None,
            next: now,
            asking: false,
            asked: false,
            failures: 0,
            last_error: None,
            served: Vec::new(),
        }
    }

    /// When addresses that DNS no longer knows are given up.
    fn end(&self, rules: Rules) -> Option<Instant> {
        let since = self.gone_since.filter(|_| !self.served.is_empty());
        since.map(|since| since + rules.keep_gone)
    }

    fn answer(&mut self, lookup: Lookup, now: Instant, rules: Rules) {
        (self.asking, self.asked) = (false, true);
        let error = match (&lookup.v4, &lookup.v6) {
            (Ok(_), Ok(_)) => None,
            (Err(a), Err(aaaa)) => Some(format!("A: {a}; AAAA: {aaaa}")),
            (Err(a), Ok(_)) => Some(format!("A: {a}")),
            (Ok(_), Err(aaaa)) => Some(format!("AAAA: {aaaa}")),
        };
        let partial = error.is_some();
        let ttl = [&lookup.v4, &lookup.v6].into_iter().flatten().filter_map(|found| found.ttl).min();
        let found = |found: &Result<super::lookup::Found, String>, before: &[IpAddr]| match found {
            Ok(found) => found.addresses.clone(),
            // One failing kind is tolerated: what it said before stands.
            Err(_) => before.to_vec(),
        };
        let (v4, v6) = (found(&lookup.v4, &self.v4), found(&lookup.v6, &self.v6));
        self.last_error = error;
        match (v4.is_empty() && v6.is_empty(), partial, lookup.v4.is_err() && lookup.v6.is_err()) {
            (_, _, true) | (true, true, _) => self.failed(now),
            (true, false, _) => self.gone(ttl, now, rules),
            (false, ..) => self.found(v4, v6, ttl, partial, now, rules),
        }
    }

    /// Nobody knows: what is held stands, without limit (D8).
    fn failed(&mut self, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        let soon = FIRST_RETRY.saturating_mul(1 << self.failures.min(6).saturating_sub(1));
        let wait = if self.answered.is_some() { RETRY } else { soon.min(RETRY) };
        self.next = now + wait;
    }

    /// DNS says that there is no such name, or no address.
    fn gone(&mut self, ttl: Option<u32>, now: Instant, rules: Rules) {
        self.failures = 0;
        self.gone_since.get_or_insert(now);
        self.last_error = Some("DNS knows no address of this name".to_owned());
        self.next = now + life(ttl);
        self.expires = None;
        if self.end(rules).is_some_and(|end| end <= now) {
            (self.v4, self.v6, self.served) = Default::default();
        }
    }

    fn found(
        &mut self,
        v4: Vec<IpAddr>,
        v6: Vec<IpAddr>,
        ttl: Option<u32>,
        partial: bool,
        now: Instant,
        rules: Rules,
    ) {
        self.failures = 0;
        let same = self.gone_since.take().is_none() && self.v4 == v4 && self.v6 == v6;
        let left = self.expires.map(|expires| expires.saturating_duration_since(now)).unwrap_or_default();
        let copy =
            same && !left.is_zero() && Duration::from_secs(ttl.unwrap_or(0).into()) <= left + COPY_SLACK;
        (self.v4, self.v6) = (v4, v6);
        self.served = self.usable(rules);
        if copy {
            // Asked ahead of its end, a cache gave the same answer again: it is asked once more at the end.
            self.next = now + left;
            return;
        }
        let life = if partial { life(ttl).min(RETRY) } else { life(ttl) };
        self.answered = Some(now);
        self.expires = Some(now + life);
        self.next = now + life - (life / 10).min(MAX_LEAD);
    }

    /// The addresses, sorted, each once, without special ones (K-40).
    fn usable(&mut self, rules: Rules) -> Vec<IpAddr> {
        let mut all: BTreeSet<IpAddr> = self.v4.iter().chain(&self.v6).map(IpAddr::to_canonical).collect();
        if rules.special == SpecialAddresses::Drop {
            let special: Vec<_> = all.iter().filter_map(|ip| Some((*ip, special_kind(*ip)?))).collect();
            for (address, kind) in special {
                all.remove(&address);
                self.last_error = Some(format!("{address} is a {kind} address and is not used"));
            }
        }
        all.into_iter().collect()
    }
}

/// R3.16.
fn life(ttl: Option<u32>) -> Duration {
    ttl.map_or(MIN_TTL, |seconds| Duration::from_secs(seconds.into()).clamp(MIN_TTL, MAX_TTL))
}
