//! VirtualServices that lead on to the routes of others: the registry is told of them with those routes in place, so
//! whoever reads one depends on its delegates (D14). Cost of a change ∝ the objects that lead on to what changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::ExportTo;
use crate::model::policy::{PolicyId, PolicyKind, VirtualService};
use crate::registry::{PolicyObject, PolicyWrite};

/// Who leads on to whom, and what was made of that.
#[derive(Debug, Default)]
pub(super) struct Delegates {
    /// The objects that lead on to each.
    roots: BTreeMap<PolicyId, BTreeSet<PolicyId>>,
    /// What was told of each object that leads on.
    made: BTreeMap<PolicyId, Made>,
}

#[derive(Debug)]
struct Made {
    delegates: BTreeSet<PolicyId>,
    object: Arc<VirtualService>,
    left_out: Vec<String>,
}

impl Delegates {
    /// Completes what is written with what follows for objects that lead on: of those the whole is written, and again
    /// when a delegate of theirs is. `used` looks up what is in use now; `default` is what objects export that do not
    /// say. Returns the objects of which something else is left out than before, with what that is.
    pub(super) fn settle<'a>(
        &mut self,
        writes: &mut Vec<PolicyWrite>,
        used: impl Fn(&PolicyId) -> Option<&'a Arc<VirtualService>>,
        default: &ExportTo,
    ) -> Vec<(PolicyId, Vec<String>)> {
        let written: BTreeSet<PolicyId> = writes.iter().map(|write| write.id.clone()).collect();
        let mut spoken = Vec::new();
        let mut again: BTreeSet<PolicyId> =
            written.iter().filter_map(|id| self.roots.get(id)).flatten().cloned().collect();
        for id in &written {
            let delegates: BTreeSet<_> =
                used(id).into_iter().flat_map(|one| one.delegates().cloned()).collect();
            if delegates.is_empty() {
                let before = self.forget(id);
                spoken.extend(
                    before.filter(|made| !made.left_out.is_empty()).map(|_| (id.clone(), Vec::new())),
                );
                again.remove(id);
            } else {
                again.insert(id.clone());
            }
        }
        for id in again {
            let Some(told) = used(&id) else { continue };
            let (object, left_out) = told.with_delegates(|id| used(id).map(AsRef::as_ref), default);
            let before = self.forget(&id);
            let same = before.as_ref().is_some_and(|made| *made.object == object);
            if before.map(|made| made.left_out).unwrap_or_default() != left_out {
                spoken.push((id.clone(), left_out.clone()));
            }
            // What it says without its delegates is told to nobody.
            writes.retain(|write| write.id != id || write.object.is_none());
            let removed = writes.iter().any(|write| write.id == id);
            let object = Arc::new(object);
            if !same || removed {
                writes.push(PolicyWrite::set(PolicyObject::VirtualService(Arc::clone(&object))));
            }
            self.remember(id, Made { delegates: told.delegates().cloned().collect(), object, left_out });
        }
        spoken
    }

    fn forget(&mut self, id: &PolicyId) -> Option<Made> {
        let made = self.made.remove(id)?;
        for delegate in &made.delegates {
            if let Some(roots) = self.roots.get_mut(delegate) {
                roots.remove(id);
                if roots.is_empty() {
                    self.roots.remove(delegate);
                }
            }
        }
        Some(made)
    }

    fn remember(&mut self, id: PolicyId, made: Made) {
        for delegate in &made.delegates {
            self.roots.entry(delegate.clone()).or_default().insert(id.clone());
        }
        self.made.insert(id, made);
    }
}

/// The object, if it is a VirtualService.
pub(super) fn virtual_service(object: &PolicyObject) -> Option<&Arc<VirtualService>> {
    match object {
        PolicyObject::VirtualService(object) => Some(object),
        _ => None,
    }
}

/// Whether objects of this kind may lead on to others.
pub(super) fn concerns(kind: PolicyKind) -> bool {
    kind == PolicyKind::VirtualService
}
