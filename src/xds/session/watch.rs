//! One type on one stream: what is subscribed, what the client holds, what it is due.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hashbrown::HashSet;
use xxhash_rust::xxh3::Xxh3;

use super::Source;
use super::held::{Held, Holding};
use super::pacing::Pacing;
use crate::model::Name;
use crate::xds::resource::{Encoded, ResourceType};
use crate::xds::resources::is_of_files;

/// Most bytes of resources and names in one delta message, unless one resource alone has more (X-D21).
pub(super) const MESSAGE_BYTES: usize = 3 << 20;
/// Most removals in one delta message (D25).
pub(super) const MESSAGE_REMOVALS: usize = 1000;

/// Why a name must be answered at once, whatever the pacing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Owed {
    /// Unless the client holds just that.
    Differing,
    /// Even then (D21).
    Always,
}

/// What has to be done with the lists of a wildcard subscription.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ListsDue {
    /// Nothing.
    #[default]
    No,
    /// What differs is a push.
    Push,
    /// The client asked: what differs is owed.
    Answer,
    /// The client asked again: everything is owed.
    Everything,
}

/// The protocol's way to say that something is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// `removed_resources`; sets too large for a message are split.
    Delta,
    /// Nothing, or an empty resource (D23).
    Sotw,
}

/// What a decision about a name looks at.
pub(super) struct Context<'a> {
    pub(super) kind: ResourceType,
    pub(super) dialect: Dialect,
    pub(super) source: &'a dyn Source,
    /// Whether the Envoy cluster of an assignment may be with the client.
    pub(super) has_cluster: &'a dyn Fn(&str) -> bool,
}

/// What goes into one message.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) resources: Vec<(Name, Arc<Encoded>)>,
    pub(super) removed: Vec<Name>,
    /// Whether something in it was not asked for.
    pub(super) push: bool,
    bytes: usize,
}

enum Verdict {
    Send(Arc<Encoded>),
    Remove,
    /// Not told, because the protocol cannot say it.
    Forget,
    /// Nothing new.
    Keep,
    /// A removal that we cannot be sure of yet (D27).
    Withhold,
}

/// State of one type on one stream.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Whether the client ever asked for this type.
    pub(super) open: bool,
    /// Names subscribed explicitly.
    pub(super) names: HashSet<Name>,
    /// Bytes of those subscribed one by one.
    pub(super) name_bytes: usize,
    /// Whether everything is subscribed.
    pub(super) wildcard: bool,
    /// State of the world: whether `*` was in the last request.
    pub(super) star: bool,
    /// State of the world: whether a name was ever given, which ends the legacy wildcard (X-S06).
    pub(super) named: bool,
    /// A response is owed even if it is empty; in the state of the world, the full set.
    pub(super) answer: bool,
    /// What is to be done with the lists.
    pub(super) lists: ListsDue,
    pub(super) held: Held,
    pub(super) pacing: Pacing,
    /// Names reported by `initial_resource_versions` that were not looked at yet or are withheld (D27).
    inherited: HashSet<Name>,
    withheld: HashSet<Name>,
    /// Whether something reported so was found to be as it is.
    pub(super) kept: bool,
    dirty: BTreeSet<Name>,
    owed: BTreeMap<Name, Owed>,
    /// State of the world: digest of the names of the last request. Each ACK repeats them all.
    asked: Option<u128>,
}

impl Watch {
    /// Whether `name` is subscribed in any way.
    pub(super) fn watches(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    /// Whether the names of a request are those of the request before, in the same order. Cost ∝ their bytes.
    pub(super) fn asked_the_same(&mut self, names: &[String]) -> bool {
        let mut hasher = Xxh3::new();
        for name in names {
            hasher.update(&(name.len() as u64).to_le_bytes());
            hasher.update(name.as_bytes());
        }
        let asked = Some(hasher.digest128());
        std::mem::replace(&mut self.asked, asked) == asked
    }

    /// Makes room for names, of which the client holds some.
    pub(super) fn expect(&mut self, names: usize, held: usize) {
        self.names.reserve(names);
        self.held.expect(names);
        self.inherited.reserve(held);
    }

    /// Subscribes to a name; false when it already was.
    pub(super) fn subscribe(&mut self, name: &Name, owed: Owed) -> bool {
        self.owe(name, owed);
        let new = self.names.insert(name.clone());
        self.name_bytes += if new { name.len() } else { 0 };
        new
    }

    /// Takes a subscription back; false when there was none.
    pub(super) fn unsubscribe(&mut self, name: &str) -> bool {
        let Some(name) = self.names.take(name) else {
            return false;
        };
        self.name_bytes = self.name_bytes.saturating_sub(name.len());
        if !self.wildcard {
            self.dirty.remove(&name);
            self.owed.remove(&name);
            self.withheld.remove(&name);
            self.inherited.remove(&name);
            self.held.set(&name, Holding::Nothing);
        }
        true
    }

    /// Ends the subscription to everything; what was named stays (X-D03).
    pub(super) fn end_wildcard(&mut self) {
        let names = &self.names;
        self.wildcard = false;
        self.lists = ListsDue::No;
        self.answer = false;
        self.held.keep_only(names.iter());
        self.dirty.retain(|name| names.contains(name));
        self.owed.retain(|name, _| names.contains(name));
        self.withheld.retain(|name| names.contains(name));
        self.inherited.retain(|name| names.contains(name));
    }

    /// Notes what the client says it holds, from a former stream.
    pub(super) fn inherit(&mut self, name: &Name, version: &str) {
        self.held.set(name, Holding::of_version(version));
        self.inherited.insert(name.clone());
    }

    /// Owes an answer about `name`.
    pub(super) fn owe(&mut self, name: &Name, owed: Owed) {
        let entry = self.owed.entry(name.clone()).or_insert(owed);
        *entry = owed.max(*entry);
    }

    /// Notes that `name` may have new bytes.
    pub(super) fn changed(&mut self, name: &Name) {
        if self.watches(name) {
            self.dirty.insert(name.clone());
            if self.wildcard {
                self.lists = self.lists.max(ListsDue::Push);
            }
        }
    }

    /// Notes that everything may have new bytes.
    pub(super) fn all_changed(&mut self) {
        self.dirty.extend(self.names.iter().cloned());
        if self.wildcard {
            self.lists = self.lists.max(ListsDue::Push);
        }
    }

    /// Whether pushes are waiting.
    pub(super) fn has_pushes(&self) -> bool {
        !self.dirty.is_empty() || self.lists == ListsDue::Push
    }

    /// Looks at the lists if they may differ, and at withheld removals if they may go.
    pub(super) fn refresh(&mut self, kind: ResourceType, source: &dyn Source) {
        if !self.withheld.is_empty() && source.all_synced() {
            for name in std::mem::take(&mut self.withheld) {
                self.owe(&name, Owed::Differing);
            }
        }
        let due = std::mem::take(&mut self.lists);
        if due == ListsDue::No {
            return;
        }
        let touched = self.held.rebase(source.lists(kind));
        for name in touched.iter().flat_map(|names| names.iter()) {
            if !self.held.differs(name) {
                self.dirty.remove(name);
            } else if due == ListsDue::Push {
                self.dirty.insert(name.clone());
            } else {
                self.owe(name, Owed::Differing);
            }
        }
        if due == ListsDue::Everything {
            let lists: Vec<_> = self.held.base().cloned().collect();
            for entry in lists.iter().flat_map(|list| list.entries()) {
                self.owe(&entry.name, Owed::Always);
            }
        }
    }

    /// Takes what is owed, and with `pushes` also what changed, as far as it fits into one message. What does
    /// not fit is owed then: the parts of one push are not paced.
    pub(super) fn drain(&mut self, context: &Context<'_>, pushes: bool) -> Batch {
        let mut batch = Batch::default();
        while let Some((name, owed)) = self.next_due(pushes) {
            let verdict = self.verdict(&name, owed, context);
            let full = context.dialect == Dialect::Delta && !batch.fits(&name, &verdict);
            let apart = context.kind == ResourceType::Secret && batch.is_apart(&name, &verdict);
            if full || apart {
                self.owe(&name, owed.unwrap_or(Owed::Differing));
                if pushes {
                    for name in std::mem::take(&mut self.dirty) {
                        self.owe(&name, Owed::Differing);
                    }
                }
                break;
            }
            self.carry_out(name, verdict, owed.is_none(), &mut batch);
        }
        batch
    }

    /// Takes the names that may have changed, for a response that says everything.
    pub(super) fn take_dirty(&mut self) -> BTreeSet<Name> {
        std::mem::take(&mut self.dirty)
    }

    fn next_due(&mut self, pushes: bool) -> Option<(Name, Option<Owed>)> {
        if let Some((name, owed)) = self.owed.pop_first() {
            self.dirty.remove(&name);
            return Some((name, Some(owed)));
        }
        if pushes { self.dirty.pop_first().map(|name| (name, None)) } else { None }
    }

    fn carry_out(&mut self, name: Name, verdict: Verdict, push: bool, batch: &mut Batch) {
        if matches!(verdict, Verdict::Withhold) {
            self.withheld.insert(name);
            return;
        }
        let inherited = self.inherited.remove(&name);
        self.kept |= inherited && matches!(verdict, Verdict::Keep);
        batch.push |= push && matches!(verdict, Verdict::Send(_) | Verdict::Remove);
        match verdict {
            Verdict::Send(encoded) => {
                self.held.set(&name, Holding::Content(encoded.hash));
                batch.bytes += encoded.len();
                batch.resources.push((name, encoded));
            }
            Verdict::Remove => {
                self.held.set(&name, Holding::Nothing);
                batch.bytes += name.len();
                batch.removed.push(name);
            }
            Verdict::Forget => self.held.set(&name, Holding::Nothing),
            Verdict::Keep | Verdict::Withhold => {}
        }
    }

    fn verdict(&self, name: &Name, owed: Option<Owed>, context: &Context<'_>) -> Verdict {
        let always = owed == Some(Owed::Always);
        match context.source.get(context.kind, name) {
            Some(encoded) => self.verdict_on(name, encoded, always),
            None if !always && self.inherited.contains(name) && !context.source.all_synced() => {
                Verdict::Withhold
            }
            None => self.verdict_missing(name, always, context),
        }
    }

    fn verdict_on(&self, name: &Name, encoded: Arc<Encoded>, always: bool) -> Verdict {
        if always || self.held.get(name) != Holding::Content(encoded.hash) {
            Verdict::Send(encoded)
        } else {
            Verdict::Keep
        }
    }

    /// D23 and X-D14.
    fn verdict_missing(&self, name: &Name, always: bool, context: &Context<'_>) -> Verdict {
        if !always && self.held.get(name) == Holding::Nothing {
            return Verdict::Keep;
        }
        let sotw = context.dialect == Dialect::Sotw;
        let stands_in = match context.kind {
            ResourceType::Endpoint => always || sotw || (context.has_cluster)(name),
            ResourceType::Route => always || sotw,
            ResourceType::Cluster | ResourceType::Listener | ResourceType::Secret => {
                return if sotw { Verdict::Forget } else { Verdict::Remove };
            }
        };
        let empty = context.source.empty(context.kind, name);
        match self.verdict_on(name, empty, always) {
            Verdict::Send(_) if !stands_in => Verdict::Remove,
            verdict => verdict,
        }
    }
}

impl Batch {
    /// A response of all subscribed resources.
    pub(super) fn full(resources: Vec<(Name, Arc<Encoded>)>, push: bool) -> Self {
        Self { resources, push, ..Self::default() }
    }

    /// Whether there is nothing to say.
    pub(super) fn is_empty(&self) -> bool {
        self.resources.is_empty() && self.removed.is_empty()
    }

    /// Whether a resource goes into a message of its own: the client may refuse it, which is no reason to lose others.
    fn is_apart(&self, name: &Name, verdict: &Verdict) -> bool {
        let with = |first: &(Name, _)| is_of_files(&first.0) || is_of_files(name);
        matches!(verdict, Verdict::Send(_)) && self.resources.first().is_some_and(with)
    }

    fn fits(&self, name: &Name, verdict: &Verdict) -> bool {
        let more = match verdict {
            Verdict::Send(encoded) => encoded.len(),
            Verdict::Remove if self.removed.len() >= MESSAGE_REMOVALS => return false,
            Verdict::Remove => name.len(),
            _ => return true,
        };
        self.is_empty() || self.bytes + more <= MESSAGE_BYTES
    }
}
