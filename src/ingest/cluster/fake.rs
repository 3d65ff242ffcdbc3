//! An API server in memory for tests: it lists, tells events, falls silent, is replaced.

mod objects;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{self, StreamExt};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::mpsc;

pub(in crate::ingest) use objects::*;

use super::feeds::{Arrival, Feeds};
pub(in crate::ingest) use super::feeds::{Feed, Unknown};
pub(in crate::ingest) use super::plan::Plan;
use crate::ingest::objects::{ObjectKey, ObjectKind};
use crate::ingest::staging::{Scope, StagedEvent};
use crate::ingest::watch::{Failure, ListReason, Received, SourceCounts, SourceEvent};
use crate::model::{CredentialFacts, Name};

/// The server. Clones are the same one.
#[derive(Clone, Default)]
pub(in crate::ingest) struct FakeServer(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    objects: BTreeMap<(ObjectKind, ObjectKey), Value>,
    down: bool,
    /// New lists are not answered.
    silent: bool,
    taken: Arc<AtomicUsize>,
    /// What is listed in place of the truth, once each.
    lies: BTreeMap<ObjectKind, usize>,
    forbidden: BTreeSet<ObjectKind>,
    /// Kinds that may not be read in one namespace.
    forbidden_in: BTreeSet<(ObjectKind, Name)>,
    /// How long it takes to answer who it was when it was asked; `None` is for ever.
    identity_after: Option<Option<Duration>>,
    /// How long sources that are opened are asked to wait for.
    waits: Option<Duration>,
    /// What is known of the credentials.
    credentials: CredentialFacts,
    feeds: Vec<(Plan, mpsc::UnboundedSender<Arrival>)>,
    opened: usize,
    lists: BTreeMap<ObjectKind, usize>,
}

pub(in crate::ingest) fn key(object: &Value) -> ObjectKey {
    let text = |name: &str| object["metadata"][name].as_str().unwrap_or_default().to_owned();
    ObjectKey::new(text("namespace"), text("name"))
}

fn kind(object: &Value) -> ObjectKind {
    match object["kind"].as_str().unwrap() {
        "Namespace" => ObjectKind::Namespace,
        "Node" => ObjectKind::Node,
        "Pod" => ObjectKind::Pod,
        "Service" => ObjectKind::Service,
        "Gateway" => ObjectKind::Gateway,
        "ServiceExport" => ObjectKind::ServiceExport,
        "ServiceEntry" => ObjectKind::ServiceEntry,
        "WorkloadEntry" => ObjectKind::WorkloadEntry,
        _ => ObjectKind::EndpointSlice,
    }
}

fn received<T: DeserializeOwned>(object: &Value) -> Received<T> {
    Received {
        key: key(object),
        uid: object["metadata"]["uid"].as_str().unwrap_or_default().into(),
        revision: None,
        object: serde_json::from_value(object.clone()).map_err(|error| error.to_string()),
    }
}

/// An event of a kind, made by `$event` for its object type.
macro_rules! of_kind {
    ($kind:expr, $event:expr) => {
        match $kind {
            ObjectKind::Namespace => StagedEvent::Namespace($event),
            ObjectKind::Node => StagedEvent::Node($event),
            ObjectKind::Pod => StagedEvent::Pod($event),
            ObjectKind::Service => StagedEvent::Service($event),
            ObjectKind::Gateway => StagedEvent::Gateway($event),
            ObjectKind::ServiceExport => StagedEvent::Export($event),
            ObjectKind::ServiceImport => StagedEvent::Import($event),
            ObjectKind::ServiceEntry => StagedEvent::ServiceEntry($event),
            ObjectKind::WorkloadEntry => StagedEvent::WorkloadEntry($event),
            _ => StagedEvent::Slice($event),
        }
    };
}

impl FakeServer {
    pub(in crate::ingest) fn with(objects: impl IntoIterator<Item = Value>) -> Self {
        let server = Self::default();
        for object in objects {
            server.apply(object);
        }
        server
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    /// Adds or changes an object and tells of it.
    pub(in crate::ingest) fn apply(&self, object: Value) {
        let mut inner = self.inner();
        inner.objects.insert((kind(&object), key(&object)), object.clone());
        inner.tell(kind(&object), &key(&object).namespace, || {
            of_kind!(kind(&object), SourceEvent::Apply(received(&object)))
        });
    }

    /// A service is served by pods with these addresses and by no others: pods come before the slice that names
    /// them and go after it. Those that are there stay as they are.
    pub(in crate::ingest) fn serve(&self, service: &str, addresses: &[String]) {
        let wanted = pods(service, addresses);
        let labels = |object: &Value| object["metadata"]["labels"]["app"] == service;
        let all = self.of_kind(ObjectKind::Pod);
        let gone = all.iter().filter(|pod| labels(pod) && !wanted.iter().any(|new| key(new) == key(pod)));
        let is_new = |pod: &&Value| !all.iter().any(|old| key(old) == key(pod));
        wanted.iter().filter(is_new).for_each(|pod| self.apply(pod.clone()));
        self.apply(named_slice(service, addresses));
        gone.for_each(|pod| self.delete(pod));
    }

    /// The objects of a kind.
    pub(in crate::ingest) fn of_kind(&self, kind: ObjectKind) -> Vec<Value> {
        let inner = self.inner();
        let all = inner.objects.iter().filter(|((of, _), _)| *of == kind);
        all.map(|(_, object)| object.clone()).collect()
    }

    pub(in crate::ingest) fn delete(&self, object: &Value) {
        let mut inner = self.inner();
        inner.objects.remove(&(kind(object), key(object)));
        inner.tell(kind(object), &key(object).namespace, || {
            of_kind!(kind(object), SourceEvent::Delete { key: key(object), revision: None })
        });
    }

    /// Is not heard from now on.
    pub(in crate::ingest) fn go_down(&self) {
        let mut inner = self.inner();
        inner.down = true;
        inner.fail_all(&Failure::Unreachable("gone".to_owned()));
    }

    /// Every attempt of every source fails.
    pub(in crate::ingest) fn fail(&self, failure: &Failure) {
        self.inner().fail_all(failure);
    }

    /// The source of one namespace fails.
    pub(in crate::ingest) fn fail_in(&self, kind: ObjectKind, namespace: &str, failure: &Failure) {
        self.tell_in(kind, namespace, || of_kind!(kind, SourceEvent::Failed(failure.clone())));
    }

    /// The source of one namespace gets an empty list, and no watch.
    pub(in crate::ingest) fn list_in(&self, kind: ObjectKind, namespace: &str) {
        self.tell_in(kind, namespace, || of_kind!(kind, SourceEvent::Init));
        self.tell_in(kind, namespace, || of_kind!(kind, SourceEvent::InitDone { reason: ListReason::First }));
    }

    /// The watch of one namespace works.
    pub(in crate::ingest) fn connect_in(&self, kind: ObjectKind, namespace: &str) {
        self.tell_in(kind, namespace, || of_kind!(kind, SourceEvent::Connected));
    }

    fn tell_in(&self, kind: ObjectKind, namespace: &str, event: impl Fn() -> StagedEvent) {
        let scope = Some(Name::from(namespace));
        for (plan, feed) in self.inner().open() {
            if plan.scopes(kind).contains(&scope) {
                let _ = feed.send(Arrival::now(scope.clone(), event()));
            }
        }
    }

    /// Sources that are opened from now on are asked to wait for so long.
    pub(in crate::ingest) fn ask_to_wait(&self, pause: Option<Duration>) {
        self.inner().waits = pause;
    }

    /// Is heard again: sources list everything anew, and what was missed shows in that.
    pub(in crate::ingest) fn come_up(&self) {
        self.inner().down = false;
        self.relist();
    }

    /// Every source lists everything anew.
    pub(in crate::ingest) fn relist(&self) {
        for kind in ObjectKind::BUILT_IN {
            self.relist_kind(kind);
        }
    }

    pub(in crate::ingest) fn relist_kind(&self, kind: ObjectKind) {
        let mut inner = self.inner();
        if inner.down {
            return;
        }
        for (plan, feed) in inner.open() {
            inner.list(kind, &plan, &feed);
        }
    }

    /// An object goes and nobody is told.
    pub(in crate::ingest) fn forget(&self, object: &Value) {
        self.inner().objects.remove(&(kind(object), key(object)));
    }

    /// The source of one namespace lists it anew.
    pub(in crate::ingest) fn relist_scope(&self, kind: ObjectKind, scope: &Scope) {
        let mut inner = self.inner();
        for (plan, feed) in inner.open() {
            if plan.scopes(kind).contains(scope) {
                inner.list_scope(kind, scope, &plan, &feed);
            }
        }
    }

    /// A list that breaks in the middle.
    pub(in crate::ingest) fn break_list(&self, kind: ObjectKind) {
        let mut inner = self.inner();
        if inner.down {
            return;
        }
        for (plan, feed) in inner.open() {
            for scope in plan.scopes(kind) {
                let failure = Failure::Unreachable("cut".to_owned());
                for event in [of_kind!(kind, SourceEvent::Init), of_kind!(kind, SourceEvent::Failed(failure))]
                {
                    let _ = feed.send(Arrival::now(scope.clone(), event));
                }
            }
        }
    }

    /// What is known of the credentials from now on.
    pub(in crate::ingest) fn set_credentials(&self, facts: CredentialFacts) {
        self.inner().credentials = facts;
    }

    /// The next lists of a kind come back empty.
    pub(in crate::ingest) fn lie(&self, kind: ObjectKind, times: usize) {
        self.inner().lies.insert(kind, times);
    }

    /// Another cluster answers at the same address; sources notice by listing anew.
    pub(in crate::ingest) fn become_another(&self, objects: impl IntoIterator<Item = Value>) {
        let objects = objects.into_iter().map(|object| ((kind(&object), key(&object)), object));
        self.inner().objects = objects.collect();
    }

    /// Lists that are opened from now on are not answered until this is taken back.
    pub(in crate::ingest) fn hold_new_lists(&self, hold: bool) {
        self.inner().silent = hold;
        if !hold {
            self.relist();
        }
    }

    /// How many events were taken in.
    pub(in crate::ingest) fn taken(&self) -> usize {
        self.inner().taken.load(Ordering::Relaxed)
    }

    /// A kind may not be read.
    pub(in crate::ingest) fn forbid(&self, kind: ObjectKind) {
        self.inner().forbidden.insert(kind);
    }

    /// A kind may not be read in one namespace.
    pub(in crate::ingest) fn forbid_in(&self, kind: ObjectKind, namespace: &str) {
        self.inner().forbidden_in.insert((kind, namespace.into()));
    }

    pub(in crate::ingest) fn permit_in(&self, kind: ObjectKind, namespace: &str) {
        self.inner().forbidden_in.remove(&(kind, namespace.into()));
        self.relist_kind(kind);
    }

    /// Whether questions for its identity are left without an answer.
    pub(in crate::ingest) fn hide_identity(&self, hide: bool) {
        self.inner().identity_after = hide.then_some(None);
    }

    /// Questions for its identity take so long.
    pub(in crate::ingest) fn delay_identity(&self, delay: Duration) {
        self.inner().identity_after = Some(Some(delay));
    }

    pub(in crate::ingest) fn permit(&self, kind: ObjectKind) {
        self.inner().forbidden.remove(&kind);
        self.relist_kind(kind);
    }

    /// How often its lists and watches were opened.
    pub(in crate::ingest) fn opened(&self) -> usize {
        self.inner().opened
    }

    /// How many of them are open.
    pub(in crate::ingest) fn open_now(&self) -> usize {
        self.inner().open().len()
    }

    pub(in crate::ingest) fn lists(&self, kind: ObjectKind) -> usize {
        self.inner().lists.get(&kind).copied().unwrap_or_default()
    }

    /// The plans of what is open.
    pub(in crate::ingest) fn scopes(&self, kind: ObjectKind) -> Vec<Vec<Scope>> {
        self.inner().open().iter().map(|(plan, _)| plan.scopes(kind)).collect()
    }
}

impl Inner {
    /// Whether it has the add-on that a kind comes with.
    fn has(&self, kind: ObjectKind) -> bool {
        self.forbidden.contains(&kind) || self.objects.keys().any(|(of, _)| *of == kind)
    }

    fn open(&mut self) -> Vec<(Plan, mpsc::UnboundedSender<Arrival>)> {
        self.feeds.retain(|(_, feed)| !feed.is_closed());
        self.feeds.clone()
    }

    fn tell(&mut self, kind: ObjectKind, namespace: &Name, event: impl Fn() -> StagedEvent) {
        if self.down || self.forbidden.contains(&kind) {
            return;
        }
        for (plan, feed) in self.open() {
            let scopes = plan.scopes(kind).into_iter();
            let told = scopes.filter(|scope| scope.as_ref().is_none_or(|scope| scope == namespace));
            for scope in told.filter(|_| plan.admits(namespace)) {
                let _ = feed.send(Arrival::now(scope, event()));
            }
        }
    }

    fn fail_all(&mut self, failure: &Failure) {
        for (plan, feed) in self.open() {
            for kind in ObjectKind::BUILT_IN {
                for scope in plan.scopes(kind) {
                    let event = of_kind!(kind, SourceEvent::Failed(failure.clone()));
                    let _ = feed.send(Arrival::now(scope, event));
                }
            }
        }
    }

    fn list(&mut self, kind: ObjectKind, plan: &Plan, feed: &mpsc::UnboundedSender<Arrival>) {
        *self.lists.entry(kind).or_default() += 1;
        for scope in plan.scopes(kind) {
            self.list_scope(kind, &scope, plan, feed);
        }
    }

    fn list_scope(
        &mut self,
        kind: ObjectKind,
        scope: &Scope,
        plan: &Plan,
        feed: &mpsc::UnboundedSender<Arrival>,
    ) {
        let send = |event| {
            let _ = feed.send(Arrival::now(scope.clone(), event));
        };
        let within = |namespace: &Name| self.forbidden_in.contains(&(kind, namespace.clone()));
        if self.forbidden.contains(&kind) || scope.as_ref().is_some_and(within) {
            let failure = Failure::Forbidden("HTTP 403".to_owned());
            send(of_kind!(kind, SourceEvent::Failed(failure)));
            return;
        }
        let lie = self.lies.get_mut(&kind).is_some_and(|times| {
            let lie = *times > 0;
            *times = times.saturating_sub(1);
            lie
        });
        send(of_kind!(kind, SourceEvent::Init));
        for ((of, key), object) in self.objects.iter().filter(|_| !lie) {
            let within = scope.as_ref().is_none_or(|scope| *scope == key.namespace);
            if *of == kind && within && plan.admits(&key.namespace) {
                send(of_kind!(kind, SourceEvent::InitApply(received(object))));
            }
        }
        send(of_kind!(kind, SourceEvent::InitDone { reason: ListReason::First }));
        send(of_kind!(kind, SourceEvent::Connected));
    }
}

impl Feeds for FakeServer {
    fn open(&self, plan: &Plan, kinds: &[ObjectKind]) -> Feed {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut inner = self.inner();
        inner.opened += 1;
        inner.feeds.push((plan.clone(), sender.clone()));
        let add_ons = ObjectKind::ALL.into_iter();
        let add_ons =
            add_ons.filter(|kind| !ObjectKind::BUILT_IN.contains(kind) && *kind != ObjectKind::ConfigMap);
        let (there, absent): (Vec<_>, Vec<_>) =
            add_ons.filter(|kind| kinds.contains(kind)).partition(|kind| inner.has(*kind));
        for (kind, scope) in
            absent.iter().flat_map(|kind| plan.scopes(*kind).into_iter().map(move |scope| (*kind, scope)))
        {
            let event = of_kind!(kind, SourceEvent::Failed(Failure::NotServed("HTTP 404".to_owned())));
            let _ = sender.send(Arrival::now(scope, event));
        }
        if inner.down {
            inner.fail_all(&Failure::Unreachable("gone".to_owned()));
        } else if !inner.silent {
            for kind in ObjectKind::BUILT_IN.into_iter().chain(there) {
                inner.list(kind, plan, &sender);
            }
        }
        let state = (receiver, Arc::clone(&inner.taken));
        let events = stream::unfold(state, async |(mut receiver, taken)| {
            let event = receiver.recv().await?;
            taken.fetch_add(1, Ordering::Relaxed);
            Some((event, (receiver, taken)))
        });
        let server = self.clone();
        let relist = Box::new(move |kind| server.relist_kind(kind));
        let counts = inner.waits.map(|pause| Arc::new(SourceCounts::asked_to_wait(pause)));
        let counts = counts.into_iter().map(|counts| (ObjectKind::Service, counts)).collect();
        Feed { events: events.boxed(), relist, counts }
    }

    fn credentials(&self) -> CredentialFacts {
        self.inner().credentials.clone()
    }

    fn uid(&self) -> BoxFuture<'static, Result<Name, Unknown>> {
        let inner = self.inner();
        let home = inner.objects.get(&(ObjectKind::Namespace, ObjectKey::new("", "kube-system")));
        let uid = match home {
            _ if inner.down => Err(Unknown::Unreachable),
            Some(home) => Ok(home["metadata"]["uid"].as_str().unwrap_or_default().into()),
            None => Err(Unknown::Untold),
        };
        let delay = inner.identity_after;
        Box::pin(async move {
            match delay {
                Some(None) => std::future::pending().await,
                Some(Some(delay)) => tokio::time::sleep(delay).await,
                None => {}
            }
            uid
        })
    }
}
