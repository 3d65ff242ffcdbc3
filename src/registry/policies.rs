//! Policies: versioned parts, one per kind and scope (D14).
//!
//! A snapshot is immutable. A write replaces the parts of the written object's scopes and shares everything else
//! with the snapshot before: its cost follows the objects in those scopes, not the number of policies.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, LazyLock};

use xxhash_rust::xxh3::xxh3_64;

use crate::model::Name;
use crate::model::policy::{
    AuthorizationPolicy, DestinationRule, Gateway, MeshConfig, PeerAuthentication, Policy, PolicyId,
    PolicyKind, PolicyPart, Sidecar, VirtualService, wildcard_ends,
};

/// Shared maps of one table; a write copies one of them.
const BUCKETS: usize = 64;

/// The objects of one kind in one scope.
#[derive(Debug, PartialEq)]
struct Part<T> {
    /// Process-wide version; a scope without objects has none, which reads as 0.
    version: u64,
    /// The objects, by precedence: the oldest first.
    objects: Arc<[Arc<T>]>,
}

impl<T> Clone for Part<T> {
    fn clone(&self) -> Self {
        Self { version: self.version, objects: Arc::clone(&self.objects) }
    }
}

impl<T> Default for Part<T> {
    fn default() -> Self {
        Self { version: 0, objects: Arc::new([]) }
    }
}

/// The parts of one kind, by scope.
#[derive(Debug)]
struct Table<T> {
    buckets: [Arc<HashMap<Name, Part<T>>>; BUCKETS],
}

impl<T> Clone for Table<T> {
    fn clone(&self) -> Self {
        Self { buckets: self.buckets.clone() }
    }
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { buckets: std::array::from_fn(|_| Arc::default()) }
    }
}

impl<T: Policy> Table<T> {
    fn at(scope: &str) -> usize {
        xxh3_64(scope.as_bytes()) as usize % BUCKETS
    }

    fn part(&self, scope: &str) -> Option<&Part<T>> {
        self.buckets[Self::at(scope)].get(scope)
    }

    fn scopes(&self) -> Vec<&Name> {
        let parts = self.buckets.iter().flat_map(|bucket| bucket.iter());
        let mut scopes: Vec<_> =
            parts.filter(|(_, part)| !part.objects.is_empty()).map(|(scope, _)| scope).collect();
        scopes.sort_unstable();
        scopes
    }

    fn version(&self, scope: &str) -> u64 {
        self.part(scope).map_or(0, |part| part.version)
    }

    /// Replaces one object in the parts of `scopes` by `object` where that is in the scope, else takes it out.
    fn write(&mut self, id: &PolicyId, object: Option<&Arc<T>>, scopes: &BTreeSet<Name>, version: u64) {
        let of_object: Vec<Name> = object.map(|object| object.scopes()).unwrap_or_default();
        for scope in scopes {
            let part = Arc::make_mut(&mut self.buckets[Self::at(scope)]).entry(scope.clone()).or_default();
            let others = part.objects.iter().filter(|other| other.meta().id != *id).cloned();
            let own = object.filter(|_| of_object.contains(scope)).cloned();
            let mut objects: Vec<Arc<T>> = others.chain(own).collect();
            objects.sort_by(|a, b| a.meta().cmp(b.meta()));
            *part = Part { version, objects: objects.into() };
            if part.objects.is_empty() {
                // As if it had never been: what was built upon it read another version than 0.
                Arc::make_mut(&mut self.buckets[Self::at(scope)]).remove(scope);
            }
        }
    }
}

macro_rules! kinds {
    ($($field:ident: $kind:ident,)*) => {
        /// All policies at one moment.
        #[derive(Clone, Debug, Default)]
        pub struct PolicySnapshot {
            version: u64,
            mesh: Option<(u64, Arc<MeshConfig>)>,
            $($field: Table<$kind>,)*
        }

        /// An object of a kind that is kept by scope.
        #[derive(Clone, Debug, PartialEq)]
        pub enum PolicyObject {
            $(#[doc = concat!("A ", stringify!($kind), ".")] $kind(Arc<$kind>),)*
        }

        impl PolicyObject {
            /// Its kind.
            pub fn kind(&self) -> PolicyKind {
                match self {
                    $(Self::$kind(_) => PolicyKind::$kind,)*
                }
            }

            /// Which object it is.
            pub fn id(&self) -> &PolicyId {
                match self {
                    $(Self::$kind(object) => &object.meta().id,)*
                }
            }

            /// What of it cannot be done although it is in use, for its owner.
            pub fn problems(&self) -> &[String] {
                match self {
                    $(Self::$kind(object) => object.problems(),)*
                }
            }

            /// Where it is looked for.
            pub fn scopes(&self) -> Vec<Name> {
                match self {
                    $(Self::$kind(object) => object.scopes(),)*
                }
            }
        }

        impl PolicySnapshot {
            /// The version of a part; 0 for one that nobody ever told.
            pub fn version_of(&self, part: &PolicyPart) -> u64 {
                match part.kind {
                    PolicyKind::MeshConfig => self.mesh.as_ref().map_or(0, |(version, _)| *version),
                    $(PolicyKind::$kind => self.$field.version(&part.scope),)*
                }
            }

            fn write(&mut self, write: &PolicyWrite, scopes: &BTreeSet<Name>, version: u64) {
                match write.kind {
                    PolicyKind::MeshConfig => {}
                    $(PolicyKind::$kind => {
                        let object = match &write.object {
                            Some(PolicyObject::$kind(object)) => Some(object),
                            _ => None,
                        };
                        self.$field.write(&write.id, object, scopes, version);
                    })*
                }
            }
        }

        $(
            impl Stored for $kind {}

            impl sealed::Sealed for $kind {
                fn of<'a>(snapshot: &'a PolicySnapshot, scope: &str) -> &'a [Arc<Self>] {
                    snapshot.$field.part(scope).map_or(&[], |part| &part.objects)
                }

                fn all_scopes(snapshot: &PolicySnapshot) -> Vec<&Name> {
                    snapshot.$field.scopes()
                }
            }
        )*
    };
}

kinds! {
    destination_rules: DestinationRule,
    peer_authentications: PeerAuthentication,
    sidecars: Sidecar,
    authorization_policies: AuthorizationPolicy,
    gateways: Gateway,
    virtual_services: VirtualService,
}

impl PolicySnapshot {
    /// The newest version among all parts: while it stays, nothing differs.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The mesh-wide document; its default where none was told.
    pub fn mesh(&self) -> &Arc<MeshConfig> {
        static DEFAULT: LazyLock<Arc<MeshConfig>> = LazyLock::new(Arc::default);
        self.mesh.as_ref().map_or(&DEFAULT, |(_, mesh)| mesh)
    }

    /// The objects of one kind in one scope, the oldest first.
    pub fn of<T: Stored>(&self, scope: &str) -> &[Arc<T>] {
        T::of(self, scope)
    }

    /// Every scope in which objects of one kind are, in order. Cost ∝ their number.
    pub fn scopes<T: Stored>(&self) -> Vec<&Name> {
        T::all_scopes(self)
    }

    /// The objects about `host`: those of its own name first, then those of wildcards, the longest first (R4.3). Cost
    /// ∝ the labels of the host.
    pub fn about<T: Stored>(&self, host: &str) -> impl Iterator<Item = &Arc<T>> {
        let own = self.of::<T>(host).iter();
        let mut wildcard = String::new();
        own.chain(wildcard_ends(host).flat_map(move |end| {
            wildcard.clear();
            wildcard.push('*');
            wildcard.push_str(end);
            self.of::<T>(&wildcard)
        }))
    }

    /// The same with another mesh-wide document: what would be.
    pub fn but(&self, mesh: MeshConfig) -> Self {
        Self { mesh: Some((u64::MAX, Arc::new(mesh))), ..self.clone() }
    }

    /// A snapshot of these objects alone, with the mesh-wide document: for tools and tests.
    pub fn with(mesh: MeshConfig, objects: impl IntoIterator<Item = PolicyObject>) -> Self {
        let mut book = PolicyBook::default();
        let writes = objects.into_iter().map(PolicyWrite::set);
        let (mut snapshot, _) = book.write(&Self::default(), writes, || 1);
        snapshot.mesh = Some((1, Arc::new(mesh)));
        snapshot.version = 1;
        snapshot
    }
}

/// A kind that is kept by scope: those of [`PolicyObject`].
pub trait Stored: Policy + sealed::Sealed {}

mod sealed {
    use std::sync::Arc;

    use super::PolicySnapshot;
    use crate::model::Name;

    pub trait Sealed: Sized {
        #[doc(hidden)]
        fn of<'a>(snapshot: &'a PolicySnapshot, scope: &str) -> &'a [Arc<Self>];
        #[doc(hidden)]
        fn all_scopes(snapshot: &PolicySnapshot) -> Vec<&Name>;
    }
}

/// What becomes of one object.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyWrite {
    /// Its kind.
    pub kind: PolicyKind,
    /// Which object.
    pub id: PolicyId,
    /// What it says now; `None` when it is gone.
    pub object: Option<PolicyObject>,
}

impl PolicyWrite {
    /// The object says this now.
    pub fn set(object: PolicyObject) -> Self {
        Self { kind: object.kind(), id: object.id().clone(), object: Some(object) }
    }

    /// The object is gone.
    pub fn remove(kind: PolicyKind, id: PolicyId) -> Self {
        Self { kind, id, object: None }
    }
}

/// What the writer remembers: in which scopes each object is.
#[derive(Debug, Default)]
pub(super) struct PolicyBook(HashMap<(PolicyKind, PolicyId), PolicyObject>);

impl PolicyBook {
    /// `current` after some writes, and the parts that differ: none when no object does.
    pub(super) fn write(
        &mut self,
        current: &PolicySnapshot,
        writes: impl IntoIterator<Item = PolicyWrite>,
        next_version: impl Fn() -> u64,
    ) -> (PolicySnapshot, Vec<PolicyPart>) {
        let (mut next, mut parts) = (current.clone(), Vec::new());
        for write in writes {
            let key = (write.kind, write.id.clone());
            let before = match &write.object {
                Some(object) => self.0.insert(key, object.clone()),
                None => self.0.remove(&key),
            };
            if before == write.object {
                continue;
            }
            let both = [before.as_ref(), write.object.as_ref()];
            let scopes: BTreeSet<Name> = both.into_iter().flatten().flat_map(PolicyObject::scopes).collect();
            next.version = next_version();
            next.write(&write, &scopes, next.version);
            parts.extend(scopes.into_iter().map(|scope| PolicyPart { kind: write.kind, scope }));
        }
        (next, parts)
    }

    /// `current` with another mesh-wide document; `None` when it is the same.
    pub(super) fn mesh(
        current: &PolicySnapshot,
        mesh: MeshConfig,
        next_version: impl Fn() -> u64,
    ) -> Option<PolicySnapshot> {
        if **current.mesh() == mesh {
            return None;
        }
        let version = next_version();
        Some(PolicySnapshot { version, mesh: Some((version, Arc::new(mesh))), ..current.clone() })
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::model::ExportTo;
    use crate::model::policy::{HostPattern, PolicyMeta, TrafficPolicy, WorkloadSelector};

    fn rule(name: &str, created: i64, host: &str) -> PolicyObject {
        PolicyObject::DestinationRule(Arc::new(DestinationRule {
            meta: PolicyMeta { created, id: PolicyId::new("ns", name) },
            host: HostPattern::new(host),
            policy: TrafficPolicy::default(),
            subsets: Vec::new(),
            selector: WorkloadSelector::default(),
            export_to: ExportTo::Everywhere,
        }))
    }

    fn names(snapshot: &PolicySnapshot, host: &str) -> Vec<String> {
        snapshot.about::<DestinationRule>(host).map(|rule| rule.meta.id.name.to_string()).collect()
    }

    #[test]
    fn d14_a_write_touches_the_parts_an_object_leaves_and_enters_and_no_other() {
        let versions = Cell::new(0);
        let next = || {
            versions.set(versions.get() + 1);
            versions.get()
        };
        let mut book = PolicyBook::default();
        let writes = [rule("young", 2, "a.ns"), rule("old", 1, "a.ns"), rule("wide", 3, "*.ns")];
        let (first, parts) = book.write(&PolicySnapshot::default(), writes.map(PolicyWrite::set), next);
        assert_eq!(
            (parts.len(), names(&first, "a.ns")),
            (3, vec!["old".into(), "young".into(), "wide".into()])
        );
        let part = |scope: &str| PolicyPart { kind: PolicyKind::DestinationRule, scope: scope.into() };
        let (second, parts) = book.write(&first, [PolicyWrite::set(rule("old", 1, "b.ns"))], next);
        assert_eq!(parts, [part("a.ns"), part("b.ns")]);
        assert_eq!(second.version_of(&part("*.ns")), first.version_of(&part("*.ns")));
        assert!(second.version_of(&part("a.ns")) > first.version_of(&part("a.ns")));
        assert_eq!(names(&second, "a.ns"), ["young", "wide"]);
        assert_eq!(names(&first, "a.ns"), ["old", "young", "wide"], "a snapshot never changes");
        let remove = || PolicyWrite::remove(PolicyKind::DestinationRule, PolicyId::new("ns", "young"));
        let (third, _) = book.write(&second, [remove()], next);
        assert_ne!(
            third.version_of(&part("a.ns")),
            second.version_of(&part("a.ns")),
            "what was built on it is old"
        );
        let (_, parts) = book.write(&third, [remove(), PolicyWrite::set(rule("wide", 3, "*.ns"))], next);
        assert_eq!(parts, [], "nothing differs");
    }
}
