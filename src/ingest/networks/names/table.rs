//! What is known of each name and when to ask again. No I/O; time comes from outside.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::Row;
use super::lookup::{Found, Lookup};
use crate::ingest::client::special_kind;
use crate::ingest::convert::SpecialAddresses;
use crate::ingest::watch::random::Random;
use crate::model::Hostname;

/// The shortest and longest time an answer holds (R3.16).
const MIN_TTL: Duration = Duration::from_secs(30);
const MAX_TTL: Duration = Duration::from_secs(3600);
/// When to ask again after nobody answered; sooner while nothing is known yet.
const RETRY: Duration = Duration::from_secs(30);
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// How long before its end an answer is asked for again, at most; else a tenth of its life. By chance up to half as
/// long again, so that names that were asked for together drift apart.
const MAX_LEAD: Duration = Duration::from_secs(5);
/// A copy from a server's cache ends with what we hold, give or take its rounding.
const COPY_SLACK: Duration = Duration::from_secs(1);

/// What is told while addresses of one kind are served beyond their end.
const GRACE: &str = "DNS has no records any more of addresses that are served a while longer";

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
    chance: Random,
}

/// One name.
#[derive(Debug)]
struct Entry {
    /// Tells a lookup for this entry from one for an earlier entry of the same name.
    serial: u64,
    v4: Family,
    v6: Family,
    answered: Option<Instant>,
    expires: Option<Instant>,
    next: Instant,
    asking: bool,
    asked: bool,
    failures: u32,
    last_error: Option<String>,
    served: Vec<IpAddr>,
}

/// What one kind of records said: each kind is answered, fails and goes by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Family {
    addresses: Vec<IpAddr>,
    /// The last lookup brought them.
    fresh: bool,
    /// Since when DNS has been saying that there are none.
    gone_since: Option<Instant>,
}

impl Family {
    /// Takes in an answer: one without addresses begins the end of those held, and where nobody knows they
    /// stay (D8). Servers turn their answers round: the order says nothing.
    fn take(&mut self, found: &Result<Found, String>, now: Instant) {
        self.fresh = false;
        match found {
            Err(_) => self.gone_since = None,
            Ok(found) if found.addresses.is_empty() => _ = self.gone_since.get_or_insert(now),
            Ok(found) => {
                let mut addresses = found.addresses.clone();
                addresses.sort_unstable();
                *self = Self { addresses, fresh: true, gone_since: None };
            }
        }
    }

    /// Whether DNS said the same.
    fn is_as(&self, other: &Self) -> bool {
        self.addresses == other.addresses && self.gone_since == other.gone_since
    }

    /// When the addresses are given up (D8).
    fn end(&self, rules: Rules) -> Option<Instant> {
        self.gone_since.filter(|_| !self.addresses.is_empty()).map(|since| since + rules.keep_gone)
    }

    /// Gives them up when it is time.
    fn expire(&mut self, now: Instant, rules: Rules) {
        if self.end(rules).is_some_and(|end| end <= now) {
            self.addresses.clear();
        }
    }
}

/// A lookup to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) host: Hostname,
    pub(super) serial: u64,
}

impl Table {
    pub(super) fn new(rules: Rules) -> Self {
        Self { rules, names: BTreeMap::new(), serials: 0, chance: Random::new(Random::seed()) }
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
            (entry.v4.addresses, entry.v6.addresses) = before().into_iter().partition(IpAddr::is_ipv4);
            entry.served = entry.usable(rules);
        }
    }

    /// Lookups that are due, the one that has waited longest first, at most `limit`; they count as under way.
    pub(super) fn due(&mut self, now: Instant, limit: usize) -> Vec<Due> {
        let due = self.names.iter_mut().filter(|(_, entry)| !entry.asking && entry.next <= now);
        let mut due: Vec<_> = due.collect();
        due.sort_by_key(|(_, entry)| entry.next);
        due.into_iter()
            .take(limit)
            .map(|(host, entry)| {
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

    /// Names some of whose addresses have had their grace (D8) serve those no longer; returns them.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Hostname> {
        let rules = self.rules;
        let over = self.names.iter_mut().filter(|(_, entry)| entry.end(rules).is_some_and(|end| end <= now));
        over.map(|(host, entry)| {
            entry.expire(now, rules);
            host.clone()
        })
        .collect()
    }

    /// Takes in what DNS says. Returns whether the served addresses differ; nothing for a name that has been
    /// forgotten meanwhile.
    pub(super) fn answer(&mut self, due: &Due, lookup: Lookup, now: Instant) -> Option<bool> {
        let (rules, early) = (self.rules, 1.0 + self.chance.fraction() / 2.0);
        let entry = self.names.get_mut(&due.host).filter(|entry| entry.serial == due.serial)?;
        let before = entry.served.clone();
        entry.answer(lookup, now, rules, early);
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
            last_good: entry.last_good(),
            answered: entry.answered,
            expires: entry.expires,
            next: entry.next,
            gone_since: entry.gone_since(),
            asked: entry.asked,
            last_error: entry.last_error.clone(),
        })
    }
}

impl Entry {
    fn new(serial: u64, now: Instant) -> Self {
        Self {
            serial,
            v4: Family::default(),
            v6: Family::default(),
            answered: None,
            expires: None,
            next: now,
            asking: false,
            asked: false,
            failures: 0,
            last_error: None,
            served: Vec::new(),
        }
    }

    /// When the next addresses that DNS no longer knows are given up.
    fn end(&self, rules: Rules) -> Option<Instant> {
        [&self.v4, &self.v6].into_iter().filter_map(|family| family.end(rules)).min()
    }

    fn expire(&mut self, now: Instant, rules: Rules) {
        self.v4.expire(now, rules);
        self.v6.expire(now, rules);
        self.last_error
            .take_if(|error| error == GRACE && self.v4.end(rules).or(self.v6.end(rules)).is_none());
        self.served = self.usable(rules);
    }

    /// The addresses that are served although the last lookup did not bring them.
    fn last_good(&self) -> Vec<IpAddr> {
        let old = [&self.v4, &self.v6].into_iter().filter(|family| !family.fresh);
        let old: BTreeSet<_> = old.flat_map(|family| &family.addresses).map(IpAddr::to_canonical).collect();
        self.served.iter().filter(|address| old.contains(address)).copied().collect()
    }

    /// For how long DNS has been saying that none of the addresses is there.
    fn gone_since(&self) -> Option<Instant> {
        let mut families = [&self.v4, &self.v6].to_vec();
        if families.iter().any(|family| !family.addresses.is_empty()) {
            families.retain(|family| !family.addresses.is_empty());
        }
        let since: Option<Vec<_>> = families.iter().map(|family| family.gone_since).collect();
        since?.into_iter().max()
    }

    /// `early`: how much longer than its usual lead the next lookup comes before the end of this one.
    fn answer(&mut self, mut lookup: Lookup, now: Instant, rules: Rules, early: f64) {
        (self.asking, self.asked) = (false, true);
        let error = match (&lookup.v4, &lookup.v6) {
            (Ok(_), Ok(_)) => None,
            (Err(a), Err(aaaa)) => Some(format!("A: {a}; AAAA: {aaaa}")),
            (Err(a), Ok(_)) => Some(format!("A: {a}")),
            (Ok(_), Err(aaaa)) => Some(format!("AAAA: {aaaa}")),
        };
        let partial = error.is_some();
        self.last_error = error;
        let ttl = [&lookup.v4, &lookup.v6].into_iter().flatten().filter_map(|found| found.ttl).min();
        let special = Self::without_special(&mut lookup, rules);
        let answered = |found: &Result<Found, String>| found.as_ref().is_ok_and(|f| !f.addresses.is_empty());
        let found = answered(&lookup.v4) || answered(&lookup.v6);
        let before = (self.v4.clone(), self.v6.clone());
        self.v4.take(&lookup.v4, now);
        self.v6.take(&lookup.v6, now);
        let nothing_held = self.v4.addresses.is_empty() && self.v6.addresses.is_empty();
        match (lookup.v4.is_err() && lookup.v6.is_err(), found) {
            (true, _) => self.failed(now),
            (false, true) => self.found(before, ttl, partial, now, early),
            // One kind is not there, the other not known: not yet an answer for a name of which nothing is held.
            (false, false) if partial && nothing_held => self.failed(now),
            (false, false) => self.gone(ttl, partial, now),
        }
        if self.end(rules).is_some() {
            self.last_error.get_or_insert_with(|| GRACE.to_owned());
        }
        self.last_error = special.or(self.last_error.take());
        self.expire(now, rules);
    }

    /// Takes special addresses out: an answer that has no others has none (K-40). Returns what to tell of it.
    fn without_special(lookup: &mut Lookup, rules: Rules) -> Option<String> {
        let mut told = None;
        if rules.special == SpecialAddresses::Drop {
            for found in [&mut lookup.v4, &mut lookup.v6].into_iter().flatten() {
                found.addresses.retain(|address| {
                    let kind = special_kind(*address);
                    told = kind
                        .map(|kind| format!("{address} is a {kind} address and is not used"))
                        .or(told.take());
                    kind.is_none()
                });
            }
        }
        told
    }

    /// Nobody knows: what is held stands, without limit (D8).
    fn failed(&mut self, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        let soon = FIRST_RETRY.saturating_mul(1 << self.failures.min(6).saturating_sub(1));
        let wait = if self.answered.is_some() { RETRY } else { soon.min(RETRY) };
        self.next = now + wait;
    }

    /// DNS says of a kind, or of both, that there is no such name, or no address.
    fn gone(&mut self, ttl: Option<u32>, partial: bool, now: Instant) {
        self.failures = 0;
        self.last_error.get_or_insert_with(|| "DNS knows no address of this name".to_owned());
        self.next = now + if partial { life(ttl).min(RETRY) } else { life(ttl) };
        self.expires = None;
    }

    fn found(&mut self, before: (Family, Family), ttl: Option<u32>, partial: bool, now: Instant, early: f64) {
        self.failures = 0;
        let same = before.0.is_as(&self.v4) && before.1.is_as(&self.v6);
        let left = self.expires.map(|expires| expires.saturating_duration_since(now)).unwrap_or_default();
        let copy =
            same && !left.is_zero() && Duration::from_secs(ttl.unwrap_or(0).into()) <= left + COPY_SLACK;
        if copy {
            // Asked ahead of its end, a cache gave the same answer again: it is asked once more at the end.
            self.next = now + left;
            return;
        }
        let life = if partial { life(ttl).min(RETRY) } else { life(ttl) };
        self.answered = Some(now);
        self.expires = Some(now + life);
        self.next = now + life - (life / 10).min(MAX_LEAD).mul_f64(early);
    }

    /// The addresses, sorted, each once; of those recalled none that is special (K-40).
    fn usable(&self, rules: Rules) -> Vec<IpAddr> {
        let all = self.v4.addresses.iter().chain(&self.v6.addresses).map(IpAddr::to_canonical);
        let kept = |ip: &IpAddr| rules.special == SpecialAddresses::Keep || special_kind(*ip).is_none();
        all.filter(kept).collect::<BTreeSet<_>>().into_iter().collect()
    }
}

/// R3.16.
fn life(ttl: Option<u32>) -> Duration {
    ttl.map_or(MIN_TTL, |seconds| Duration::from_secs(seconds.into()).clamp(MIN_TTL, MAX_TTL))
}
