//! Objects that could not be read or used in full, with the reason.

use std::collections::BTreeMap;

use crate::ingest::objects::{ObjectKey, ObjectKind};

/// How many entries operators are shown.
const SHOWN: usize = 100;
/// How many reasons of one service are kept.
const REASONS: usize = 3;

/// What is set aside now; entries go when the object becomes good or goes.
#[derive(Debug, Default)]
pub(super) struct Quarantine {
    unreadable: BTreeMap<(ObjectKind, ObjectKey), String>,
    /// Endpoints of a service that cannot be used.
    parts: BTreeMap<ObjectKey, String>,
    /// What Services and Gateways say of gateways and is not used.
    gateways: BTreeMap<(ObjectKind, ObjectKey), Vec<String>>,
    /// What ServiceEntries and WorkloadEntries say and is not used.
    entries: BTreeMap<(ObjectKind, ObjectKey), Vec<String>>,
}

impl Quarantine {
    pub(super) fn set(&mut self, kind: ObjectKind, key: ObjectKey, reason: String) {
        self.unreadable.insert((kind, key), reason);
    }

    pub(super) fn clear(&mut self, kind: ObjectKind, key: &ObjectKey) {
        if !self.unreadable.is_empty() {
            self.unreadable.remove(&(kind, key.clone()));
        }
    }

    /// Keeps the entries of a kind whose objects are still there.
    pub(super) fn retain(&mut self, kind: ObjectKind, there: impl Fn(&ObjectKey) -> bool) {
        self.unreadable.retain(|(of, key), _| *of != kind || there(key));
    }

    pub(super) fn set_parts(&mut self, service: &ObjectKey, reasons: &[String]) {
        if reasons.is_empty() {
            self.forget_parts(service);
            return;
        }
        let mut text = reasons.iter().take(REASONS).cloned().collect::<Vec<_>>().join("; ");
        if reasons.len() > REASONS {
            text.push_str(&format!("; {} more", reasons.len() - REASONS));
        }
        self.parts.insert(service.clone(), text);
    }

    pub(super) fn forget_parts(&mut self, service: &ObjectKey) {
        self.parts.remove(service);
    }

    pub(super) fn set_gateways(&mut self, notes: BTreeMap<(ObjectKind, ObjectKey), Vec<String>>) {
        self.gateways = notes;
    }

    /// What is not used of one entry now.
    pub(super) fn set_entry(&mut self, kind: ObjectKind, key: &ObjectKey, mut notes: Vec<String>) {
        notes.truncate(REASONS);
        if !notes.is_empty() {
            self.entries.insert((kind, key.clone()), notes);
        } else if !self.entries.is_empty() {
            self.entries.remove(&(kind, key.clone()));
        }
    }

    /// Entries and what is wrong with each, without control characters.
    pub(super) fn entries(&self) -> BTreeMap<String, String> {
        let is_entry =
            |kind: &ObjectKind| matches!(kind, ObjectKind::ServiceEntry | ObjectKind::WorkloadEntry);
        let unreadable = self.unreadable.iter().filter(|((kind, _), _)| is_entry(kind));
        let unreadable = unreadable.map(|(of, why)| (of, format!("not used: {why}")));
        let parts = self.entries.iter().map(|(of, notes)| (of, notes.join("; ")));
        let clean = |text: String| text.chars().filter(|c| !c.is_control()).take(400).collect();
        let told = unreadable.chain(parts).take(SHOWN);
        told.map(|((kind, key), why)| (format!("{} {key}", kind.name()), clean(why))).collect()
    }

    /// How many objects there is something to say about.
    pub(super) fn len(&self) -> usize {
        let gateways = self.gateways.values().filter(|notes| !notes.is_empty()).count();
        self.unreadable.len() + self.parts.len() + self.entries.len() + gateways
    }

    /// `Kind namespace/name: reason`, at most 100, without control characters (Z-26).
    pub(super) fn all(&self) -> Vec<String> {
        let unreadable = self.unreadable.iter();
        let unreadable = unreadable.map(|((kind, key), why)| format!("{} {key}: {why}", kind.name()));
        let gateways = self.gateways.iter().chain(&self.entries);
        let gateways = gateways.flat_map(|((kind, key), notes)| {
            notes.iter().map(move |note| format!("{} {key}: {note}", kind.name()))
        });
        let parts = self.parts.iter().map(|(key, why)| format!("EndpointSlices of {key}: {why}"));
        let clean = |text: String| text.chars().filter(|c| !c.is_control()).take(400).collect();
        unreadable.chain(gateways).chain(parts).take(SHOWN).map(clean).collect()
    }
}
