//! Assignments: one cell for each (name, projection), built once for all its watchers.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use dashmap::DashMap;
use hashbrown::{DefaultHashBuilder, Equivalent, HashSet};

use super::cache::{Cache, Kept};
use super::counts::Counts;
use super::resource::{Encoded, ResourceType};
use super::resources;
use super::slot::{Make, Slot};
use super::watchers::{Marks, StreamHandle, Watchers};
use crate::model::policy::{HostPattern, PolicyKind, PolicyPart, Scoping, VirtualService};
use crate::model::{Hostname, Name, NetworkId, ProxyView, ServiceKey};
use crate::registry::{Registry, ServiceSnapshot};
use crate::view::{self, EdsKey, EdsName, Inputs, LOCAL_CLUSTER, MeshRules, Tally};

/// The bytes of an assignment, while there is room for them, and what they were built from.
#[derive(Debug)]
struct Built {
    kept: Arc<Kept>,
    service_version: u64,
    networks_read: Vec<(NetworkId, u64)>,
    standings_read: u64,
    /// The waypoint's service whose endpoints it has, with its version (R4.37).
    waypoint_read: Option<(ServiceKey, u64)>,
    /// The version of all policies together, when they were read.
    policies: u64,
    policies_read: Vec<(PolicyPart, u64)>,
    /// What became of the endpoints.
    tally: Tally,
    /// Whether some cluster has a service of the name, if it is known without asking for the others of its host.
    known: bool,
    /// [`ChangeLog::notes`](crate::registry::ChangeLog::notes) when the parts above were last found to be the newest.
    checked: AtomicU64,
}

/// The bytes of an assignment, for who asked.
struct Content {
    encoded: Arc<Encoded>,
    /// See [`Built::known`].
    known: bool,
    /// Whether they were built for this.
    new: bool,
}

/// What a cell may have read besides its service: who reads it is to be found by it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Source {
    /// The gateways of a network.
    Network(NetworkId),
    /// A part of the policies.
    Policy(PolicyPart),
    /// The services of another host name.
    Host(Hostname),
}

impl Built {
    /// What cells are listed by. Rules about hosts are not: cells are found by their host anyway. Nor is the mesh-wide
    /// document: it is read by all.
    fn sources(&self) -> impl Iterator<Item = Source> {
        let networks = self.networks_read.iter().map(|(id, _)| Source::Network(id.clone()));
        let policies = self.policies_read.iter().map(|(part, _)| part);
        let policies = policies.filter(|part| part.kind.scoping() == Scoping::Namespaces);
        let waypoint = self.waypoint_read.iter().map(|(key, _)| Source::Host(key.hostname.clone()));
        networks.chain(policies.cloned().map(Source::Policy)).chain(waypoint)
    }
}

/// One assignment for one projection.
#[derive(Debug)]
pub(super) struct AssignmentCell {
    /// Never used again, unlike name and projection: a cell may go while its successor is already listed.
    serial: u64,
    name: Name,
    /// What the name means for those who have the projection.
    parsed: Option<EdsName>,
    key: EdsKey,
    /// The service that it means; `None` where it means none.
    service: Option<ServiceKey>,
    slot: Slot<Built, Source>,
    watchers: Watchers,
}

impl AssignmentCell {
    /// Its name, as it was asked for.
    pub(super) fn name(&self) -> &Name {
        &self.name
    }

    /// The projection it is built for.
    pub(super) fn key(&self) -> &EdsKey {
        &self.key
    }

    fn host(&self) -> Hostname {
        self.parsed.as_ref().map(|name| name.host.clone()).unwrap_or_default()
    }
}

/// The cells of one host name.
type Topic = HashSet<Arc<AssignmentCell>>;

/// A cell is found by what is asked for and for whom.
#[derive(Hash)]
struct Wanted<'a> {
    name: &'a Name,
    key: &'a EdsKey,
}

impl AssignmentCell {
    fn wanted(&self) -> Wanted<'_> {
        Wanted { name: &self.name, key: &self.key }
    }
}

impl Hash for AssignmentCell {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.wanted().hash(state);
    }
}

impl PartialEq for AssignmentCell {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.key == other.key
    }
}

impl Eq for AssignmentCell {}

impl Equivalent<Arc<AssignmentCell>> for Wanted<'_> {
    fn equivalent(&self, cell: &Arc<AssignmentCell>) -> bool {
        *self.name == cell.name && *self.key == cell.key
    }
}

/// All assignments that somebody watches. A cell goes when its last watcher does (D18).
#[derive(Debug)]
pub(super) struct Assignments {
    registry: Arc<Registry>,
    mesh: Arc<MeshRules>,
    counts: Arc<Counts>,
    cache: Arc<Cache>,
    topics: DashMap<Hostname, Topic, DefaultHashBuilder>,
    /// The cells that read a part (D14).
    readers: DashMap<Source, HashMap<u64, Weak<AssignmentCell>>>,
    next_serial: AtomicU64,
}

impl Assignments {
    /// No assignments yet.
    pub(super) fn new(registry: Arc<Registry>, mesh: Arc<MeshRules>, counts: Arc<Counts>) -> Self {
        Self {
            registry,
            mesh,
            counts,
            cache: Cache::new(u64::MAX),
            topics: DashMap::default(),
            readers: DashMap::new(),
            next_serial: AtomicU64::new(0),
        }
    }

    /// Keeps bytes in `cache`; without, as many as there are.
    pub(super) fn keeping_in(self, cache: &Arc<Cache>) -> Self {
        Self { cache: Arc::clone(cache), ..self }
    }

    /// The services of a name, one per namespace; none for names and hosts nobody knows.
    fn candidates(&self, name: &EdsName) -> Vec<Arc<ServiceSnapshot>> {
        self.registry.host(&name.host).iter().map(|cell| cell.load()).collect()
    }

    /// The snapshot behind a cell: the service of the namespace that its projection names.
    fn snapshot(&self, cell: &AssignmentCell) -> Option<Arc<ServiceSnapshot>> {
        self.registry.service(cell.service.as_ref()?).map(|cell| cell.load())
    }

    /// Whether some cluster has a service of this name. A proxy's siblings are known even where it has none: an Envoy
    /// that has them already would not forget them otherwise.
    fn is_known(&self, cell: &AssignmentCell) -> bool {
        if cell.name.as_str() == LOCAL_CLUSTER {
            return true;
        }
        let candidates = cell.parsed.as_ref().map(|name| self.candidates(name)).unwrap_or_default();
        candidates.iter().any(|candidate| candidate.service.is_some())
    }

    /// The projection of a proxy for a name as of now.
    #[cfg(test)]
    pub(super) fn key(&self, view: &ProxyView, name: &str) -> EdsKey {
        self.key_of(view, name, EdsName::parse(name).as_ref())
    }

    /// The same of a name that was read.
    fn key_of(&self, view: &ProxyView, name: &str, parsed: Option<&EdsName>) -> EdsKey {
        if name == LOCAL_CLUSTER {
            return EdsKey::of_siblings(view, &self.own(view), &self.mesh);
        }
        let policies = self.registry.policies();
        match parsed {
            Some(name) => EdsKey::of(view, name, &self.candidates(name), &policies, &self.mesh),
            None => {
                let nothing = EdsName::outbound(0, &Hostname::default());
                EdsKey::of(view, &nothing, &[], &policies, &self.mesh)
            }
        }
    }

    /// The services of a proxy's own, as far as some cluster has them.
    fn own(&self, view: &ProxyView) -> Vec<Arc<ServiceSnapshot>> {
        let keys = view.workload.iter().flat_map(|pod| pod.services.iter());
        keys.filter_map(|key| self.registry.service(key)).map(|cell| cell.load()).collect()
    }

    /// Whether a cell is still what its name means for a proxy.
    pub(super) fn is_for(&self, cell: &AssignmentCell, view: &ProxyView) -> bool {
        let parsed = EdsName::parse(&cell.name);
        cell.key == self.key_of(view, &cell.name, parsed.as_ref())
    }

    /// Adds `stream` to the watchers of a name for the proxy's projection as of now. What decides that may change until
    /// the watch is seen: then again, until it stands still for that moment. Only as long as nothing is noted it is not
    /// looked again.
    pub(super) fn watch_for(
        &self,
        view: &ProxyView,
        name: &Name,
        stream: &Arc<StreamHandle>,
    ) -> Arc<AssignmentCell> {
        let parsed = EdsName::parse(name);
        loop {
            let notes = self.registry.changes().notes();
            let key = self.key_of(view, name, parsed.as_ref());
            let cell = self.join(name, key, parsed.as_ref(), stream);
            if self.registry.changes().notes() == notes
                || *cell.key() == self.key_of(view, name, parsed.as_ref())
            {
                return cell;
            }
            self.unwatch(&cell, stream);
        }
    }

    /// Adds `stream` to the watchers of a name for a projection.
    #[cfg(test)]
    pub(super) fn watch(&self, name: &Name, key: EdsKey, stream: &Arc<StreamHandle>) -> Arc<AssignmentCell> {
        self.join(name, key, EdsName::parse(name).as_ref(), stream)
    }

    /// The same of a name that was read.
    fn join(
        &self,
        name: &Name,
        key: EdsKey,
        parsed: Option<&EdsName>,
        stream: &Arc<StreamHandle>,
    ) -> Arc<AssignmentCell> {
        // Siblings are asked for by a name that says nothing of them.
        let own = key.siblings.as_ref().and_then(|_| key.meant(name));
        let parsed = own.as_ref().or(parsed);
        let host = parsed.map(|name| name.host.clone()).unwrap_or_default();
        let mut topic = self.topics.entry(host).or_default();
        if let Some(cell) = topic.get(&Wanted { name, key: &key }) {
            cell.watchers.add(stream);
            return Arc::clone(cell);
        }
        let namespace = parsed.and(key.namespace.as_ref());
        let cell = Arc::new(AssignmentCell {
            serial: self.next_serial.fetch_add(1, Ordering::Relaxed),
            name: name.clone(),
            service: parsed.zip(namespace).map(|(name, space)| ServiceKey::new(space, name.host.clone())),
            parsed: parsed.cloned(),
            key,
            slot: Slot::default(),
            watchers: Watchers::default(),
        });
        cell.watchers.add(stream);
        topic.insert(Arc::clone(&cell));
        cell
    }

    /// Removes `stream` from a cell's watchers, and the cell if that was the last one.
    pub(super) fn unwatch(&self, cell: &Arc<AssignmentCell>, stream: &StreamHandle) {
        cell.watchers.remove(stream);
        if !cell.watchers.is_empty() {
            return;
        }
        let mut removed = false;
        self.topics.remove_if_mut(&cell.host(), |_, topic| {
            let now = topic.get(&cell.wanted());
            if now.is_some_and(|now| now.serial == cell.serial && now.watchers.is_empty()) {
                topic.remove(&cell.wanted());
                removed = true;
            }
            topic.is_empty()
        });
        if removed {
            cell.slot.close(&Maker { assignments: self, cell });
        }
    }

    /// The current bytes of a cell; built now unless they are valid and there.
    #[cfg(test)]
    pub(super) fn current(&self, cell: &Arc<AssignmentCell>) -> Arc<Encoded> {
        self.content(cell).encoded
    }

    /// The current bytes of a cell of a service that exists; built now unless they are valid and there. Cost of a hit while
    /// nothing changed anywhere: a look at one number; else a look at the version of each part.
    pub(super) fn existing(&self, cell: &Arc<AssignmentCell>) -> Option<Arc<Encoded>> {
        // Built for an absent service too: its watchers are then told of what differs from that.
        let content = self.content(cell);
        (content.known || self.is_known(cell)).then_some(content.encoded)
    }

    fn content(&self, cell: &Arc<AssignmentCell>) -> Content {
        let content = cell.slot.current(&Maker { assignments: self, cell });
        if content.new {
            self.cache.missed(ResourceType::Endpoint);
            self.cache.make_room();
        }
        content
    }

    /// Whether every part that bytes were built from is still the newest. While nothing was noted since that was last
    /// found, nobody was told of another.
    fn is_current(&self, cell: &AssignmentCell, built: &Built) -> bool {
        let notes = self.registry.changes().notes();
        if built.checked.load(Ordering::Relaxed) == notes {
            return true;
        }
        let current = self.is_newest(cell, built);
        if current {
            built.checked.store(notes, Ordering::Relaxed);
        }
        current
    }

    fn is_newest(&self, cell: &AssignmentCell, built: &Built) -> bool {
        let snapshot = self.snapshot(cell);
        // A service that is gone for good has no version left: only a build without it is valid then.
        let service = built.service_version == snapshot.as_ref().map_or(0, |snapshot| snapshot.version);
        let waypoint = built.waypoint_read.as_ref().and_then(|(key, _)| self.registry.service(key));
        let waypoint = waypoint.map(|cell| cell.load());
        let read = snapshot.iter().chain(&waypoint);
        let clusters = read.flat_map(|snapshot| snapshot.shards.iter()).map(|shard| &shard.cluster);
        let standings = built.standings_read == self.registry.standings().version(clusters);
        service && standings && self.parts_current(built)
    }

    /// The version of a service; 0 where nobody knows it.
    fn version(&self, key: &ServiceKey) -> u64 {
        self.registry.service(key).map_or(0, |cell| cell.load().version)
    }

    fn parts_current(&self, built: &Built) -> bool {
        let (networks, policies) = (self.registry.networks(), self.registry.policies());
        let same = || built.policies_read.iter().all(|(part, version)| *version == policies.version_of(part));
        let waypoint = |(key, version): &(ServiceKey, u64)| *version == self.version(key);
        built.waypoint_read.iter().all(waypoint)
            && built.networks_read.iter().all(|(id, version)| *version >= networks.part(id).version)
            && (built.policies == policies.version() || same())
    }

    fn build(&self, cell: &AssignmentCell) -> (Built, Arc<Encoded>) {
        Counts::add(&self.counts.assignment_builds);
        let checked = AtomicU64::new(self.registry.changes().notes());
        let networks = self.registry.networks();
        let found = cell.parsed.as_ref().zip(self.snapshot(cell));
        let Some((name, snapshot)) = found else {
            let encoded = Arc::new(resources::empty_assignment(&cell.name));
            let built = Built {
                kept: self.cache.keep(ResourceType::Endpoint, &encoded),
                service_version: 0,
                networks_read: Vec::new(),
                standings_read: 0,
                waypoint_read: None,
                policies: 0,
                policies_read: Vec::new(),
                tally: Tally::default(),
                known: false,
                checked,
            };
            return (built, encoded);
        };
        let standings = self.registry.standings();
        let (mesh, standings) = (&*self.mesh, &*standings);
        let policies = self.registry.policies();
        let record = snapshot.service.as_deref();
        let waypoint = record.and_then(|record| view::waypoint(record, name, &cell.key, mesh));
        let waypoint = waypoint.and_then(|key| self.registry.service(key)).map(|cell| cell.load());
        let (networks, waypoint) = (&*networks, waypoint.as_deref());
        let inputs = Inputs { service: &snapshot, waypoint, networks, mesh, standings, policies: &policies };
        let mut tally = Tally::default();
        let assignment = view::assign(inputs, name, &cell.key, &mut tally);
        let encoded = Arc::new(resources::assignment(&cell.name, &assignment));
        let built = Built {
            kept: self.cache.keep(ResourceType::Endpoint, &encoded),
            service_version: snapshot.version,
            networks_read: assignment.networks_read,
            standings_read: assignment.standings_read,
            waypoint_read: assignment.waypoint_read,
            policies: policies.version(),
            policies_read: assignment.policies_read,
            tally,
            known: record.is_some(),
            checked,
        };
        (built, encoded)
    }

    /// Builds every watched assignment of a host once and marks the watchers of those that differ. Where the merged
    /// record of a service changed (`record`), also those whose projection may differ: it follows from the records of
    /// all services of the host. So are those that it is the waypoint of. Cost ∝ both kinds of cells.
    pub(super) fn service_changed(&self, host: &Hostname, record: bool, marks: &mut Marks) {
        for cell in self.cells_of_host(host) {
            if record {
                marks.rekey(&cell.watchers, &cell.name);
            }
            self.refresh(&cell, marks);
        }
        self.readers_refresh(&Source::Host(host.clone()), marks);
    }

    /// Builds every watched assignment of another service that read this one, which nobody may see, once and marks the
    /// watchers of those that differ.
    pub(super) fn hidden_changed(&self, host: &Hostname, marks: &mut Marks) {
        self.readers_refresh(&Source::Host(host.clone()), marks);
    }

    /// Builds every watched assignment that read a network once and marks the watchers of those that differ.
    pub(super) fn network_changed(&self, network: &NetworkId, marks: &mut Marks) {
        self.readers_refresh(&Source::Network(network.clone()), marks);
    }

    /// Builds every watched assignment that a part of the policies is about once, and marks the watchers of those that
    /// differ, and those whose projection may differ. Cost ∝ the cells it is about; for a wildcard and for the
    /// mesh-wide document also the watched hosts.
    pub(super) fn policy_changed(&self, part: &PolicyPart, marks: &mut Marks) {
        match part.kind.scoping() {
            Scoping::Namespaces => self.readers_refresh(&Source::Policy(part.clone()), marks),
            // Routes and gateways lead to assignments; these read nothing of them, but a Sidecar does not hide what
            // routes lead to.
            Scoping::Hosts if part.kind == PolicyKind::VirtualService => {
                let cells =
                    VirtualService::led_to(&part.scope).map(|host| self.cells_of(&HostPattern::new(host)));
                cells.iter().flatten().for_each(|cell| marks.rekey(&cell.watchers, &cell.name));
            }
            Scoping::Routers => {}
            Scoping::Hosts => {
                for cell in self.cells_of(&HostPattern::new(part.scope.clone())) {
                    marks.rekey(&cell.watchers, &cell.name);
                    self.refresh(&cell, marks);
                }
            }
            Scoping::Mesh => {
                self.cells_of(&HostPattern::new("*")).iter().for_each(|cell| self.refresh(cell, marks));
            }
        }
    }

    /// The cells of the hosts that are meant.
    fn cells_of(&self, hosts: &HostPattern) -> Vec<Arc<AssignmentCell>> {
        if !hosts.is_wildcard() {
            return self.cells_of_host(hosts.as_str());
        }
        let meant = self.topics.iter().filter(|topic| hosts.matches(topic.key()));
        meant.flat_map(|topic| topic.iter().cloned().collect::<Vec<_>>()).collect()
    }

    fn cells_of_host(&self, host: &str) -> Vec<Arc<AssignmentCell>> {
        let topic = self.topics.get(host);
        topic.map(|topic| topic.iter().cloned().collect()).unwrap_or_default()
    }

    fn readers_refresh(&self, source: &Source, marks: &mut Marks) {
        let readers = self.readers.get(source).map(|readers| readers.values().cloned().collect::<Vec<_>>());
        for cell in readers.unwrap_or_default().iter().filter_map(Weak::upgrade) {
            self.refresh(&cell, marks);
        }
    }

    fn refresh(&self, cell: &Arc<AssignmentCell>, marks: &mut Marks) {
        let news = cell.slot.refresh(&Maker { assignments: self, cell });
        self.cache.make_room();
        if news {
            marks.name(&cell.watchers, ResourceType::Endpoint, &cell.name);
        } else {
            Counts::add(&self.counts.unchanged_builds);
        }
    }
}

/// Builds one cell.
struct Maker<'a> {
    assignments: &'a Assignments,
    cell: &'a Arc<AssignmentCell>,
}

impl Make for Maker<'_> {
    type Value = Built;
    type Source = Source;
    type Content = Content;

    fn make(&self) -> (Built, Content) {
        let (built, encoded) = self.assignments.build(self.cell);
        let known = built.known;
        (built, Content { encoded, known, new: true })
    }

    fn content(&self, built: &Arc<Built>) -> Option<Content> {
        let encoded = built.kept.get()?;
        Some(Content { encoded, known: built.known, new: false })
    }

    fn is_current(&self, built: &Built) -> bool {
        self.assignments.is_current(self.cell, built)
    }

    fn sources(built: &Built) -> impl Iterator<Item = Source> {
        built.sources()
    }

    fn hash(built: &Built) -> u128 {
        built.kept.hash()
    }

    fn list(&self, source: Source) {
        let mut readers = self.assignments.readers.entry(source).or_default();
        readers.insert(self.cell.serial, Arc::downgrade(self.cell));
    }

    fn unlist(&self, source: Source) {
        self.assignments.readers.remove_if_mut(&source, |_, readers| {
            readers.remove(&self.cell.serial);
            readers.is_empty()
        });
    }

    fn replaced(&self, before: Option<&Built>, after: Option<&Built>) {
        let (before, after) = (before.map(|built| &built.tally), after.map(|built| &built.tally));
        self.assignments.counts.decided.replace(before, after);
    }
}

#[cfg(test)]
mod tests;
