//! Where a generation's events come from.

use std::sync::Arc;
use std::time::Instant;

use futures::future::BoxFuture;
use futures::stream::{BoxStream, SelectAll, StreamExt};
use http::StatusCode;

use super::plan::Plan;
use super::status::is_required;
use crate::ingest::client::{BodyError, ByteStream, Exchange, TokenUser, collect};
use crate::ingest::convert::McsOptions;
use crate::ingest::exports::Exports;
use crate::ingest::objects::wire::{Encoding, decode_one};
use crate::ingest::objects::{NamespaceObject, Object, ObjectKey, ObjectKind};
use crate::ingest::staging::{Scope, StagedEvent};
use crate::ingest::watch::{
    KubeSource, ListReason, Received, SourceControl, SourceCounts, SourceEvent, SourceLimits, TimedSource,
};
use crate::model::{CredentialFacts, Name};

/// The namespace that every cluster has, and whose uid says which one it is (K-20).
const HOME: &str = "kube-system";
/// Where it is asked for.
const HOME_PATH: &str = "/api/v1/namespaces/kube-system";
/// Largest answer about it.
const MAX_HOME: usize = 1 << 20;

/// One event and the part of its kind that its source reads.
#[derive(Debug)]
pub(in crate::ingest) struct Arrival {
    pub(super) scope: Scope,
    pub(super) event: StagedEvent,
    /// When it was read off the API server's connection.
    pub(super) at: Instant,
}

impl Arrival {
    /// One that arrives now.
    pub(super) fn now(scope: Scope, event: StagedEvent) -> Self {
        Self { scope, event, at: tokio::time::Instant::now().into_std() }
    }
}

/// Why it is not known which cluster answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::ingest) enum Unknown {
    /// *Retried.* No answer.
    Unreachable,
    /// *Skipped.* An answer that does not say it: not permitted, not there.
    Untold,
}

/// One API server, as a generation sees it.
pub(in crate::ingest) trait Feeds: Send + Sync + 'static {
    /// Begins to list and watch these kinds as a plan says.
    fn open(&self, plan: &Plan, kinds: &[ObjectKind]) -> Feed;

    /// Asks for the uid of `kube-system`: which cluster answers (K-20).
    fn uid(&self) -> BoxFuture<'static, Result<Name, Unknown>>;

    /// These Services are to be exported (R4.40). Never waits.
    fn export(&self, services: Vec<ObjectKey>) {
        drop(services);
    }

    /// Who asks, if another token of the same user may take over.
    fn token_user(&self) -> Option<TokenUser> {
        None
    }

    /// New requests come with this token of the same user; what runs goes on until the server ends it (K-30).
    fn take_token(&self, next: TokenUser) {
        drop(next);
    }

    /// What is known of the credentials in use (K-18).
    fn credentials(&self) -> CredentialFacts {
        CredentialFacts::default()
    }
}

/// Open lists and watches. Dropping it ends them.
pub(in crate::ingest) struct Feed {
    /// In the order of arrival, no source before another.
    pub(super) events: BoxStream<'static, Arrival>,
    /// Asks for a complete list of a kind now (K-21).
    pub(super) relist: Box<dyn Fn(ObjectKind) + Send + Sync>,
    /// What each source does.
    pub(super) counts: Vec<(ObjectKind, Arc<SourceCounts>)>,
}

/// An API server read by lists and watches.
pub(in crate::ingest) struct KubeFeeds {
    exchange: Arc<dyn Exchange>,
    /// Shared by every source of the process.
    limits: Arc<SourceLimits>,
    /// Group and version of exports and imports (R4.39).
    mcs_api: (Name, Name),
    /// Where Services are exported (R4.40).
    exports: Option<Exports>,
}

/// Sources of one API server that are being opened.
struct Opening<'a> {
    source: KubeSource,
    mcs_api: &'a (Name, Name),
    plan: &'a Plan,
    events: SelectAll<BoxStream<'static, Arrival>>,
    controls: Vec<(ObjectKind, SourceControl)>,
}

impl KubeFeeds {
    pub(in crate::ingest) fn new(exchange: Arc<dyn Exchange>, limits: Arc<SourceLimits>) -> Self {
        let usual = McsOptions::default();
        Self { exchange, limits, mcs_api: (usual.group, usual.version), exports: None }
    }

    /// Exports and imports under the group and version that are configured, and exports of every Service where
    /// that is. Needs a runtime.
    pub(in crate::ingest) fn with_mcs(self, options: &McsOptions) -> Self {
        let mcs_api = (options.group.clone(), options.version.clone());
        let start = || Exports::start(Arc::clone(&self.exchange), mcs_api.clone());
        Self { exports: options.auto_export.then(start), mcs_api, ..self }
    }
}

impl Opening<'_> {
    fn add<T: Object>(&mut self, kind: ObjectKind, wrap: fn(SourceEvent<T>) -> StagedEvent) {
        for scope in self.plan.scopes(kind) {
            let mut source = self.source.clone();
            if is_required(kind) {
                source = source.needed();
            }
            if matches!(kind, ObjectKind::ServiceExport | ObjectKind::ServiceImport) {
                let (group, version) = self.mcs_api;
                source = source.of_api(group, version);
            }
            if let Some(namespace) = &scope {
                source = source.in_namespace(namespace);
            }
            if let Some(fields) = self.plan.fields(kind, scope.as_ref()) {
                source = source.with_fields(&fields);
            }
            let TimedSource { events, control } = source.start_timed::<T>();
            let plan = self.plan.clone();
            let of = scope.clone();
            let events =
                events.filter(move |(_, event)| std::future::ready(admitted(event, &plan, of.as_ref())));
            let events =
                events.map(move |(at, event)| Arrival { scope: scope.clone(), event: wrap(event), at });
            self.events.push(events.boxed());
            self.controls.push((kind, control));
        }
    }
}

impl Feeds for KubeFeeds {
    fn open(&self, plan: &Plan, kinds: &[ObjectKind]) -> Feed {
        // Clones of one source share what is known of the server.
        let source = KubeSource::new(Arc::clone(&self.exchange), Arc::clone(&self.limits));
        let mcs_api = &self.mcs_api;
        let mut opening = Opening { source, mcs_api, plan, events: SelectAll::new(), controls: Vec::new() };
        for kind in kinds {
            match kind {
                ObjectKind::Namespace => opening.add(*kind, StagedEvent::Namespace),
                ObjectKind::Node => opening.add(*kind, StagedEvent::Node),
                ObjectKind::Pod => opening.add(*kind, StagedEvent::Pod),
                ObjectKind::Service => opening.add(*kind, StagedEvent::Service),
                ObjectKind::EndpointSlice => opening.add(*kind, StagedEvent::Slice),
                ObjectKind::Gateway => opening.add(*kind, StagedEvent::Gateway),
                ObjectKind::ServiceExport => opening.add(*kind, StagedEvent::Export),
                ObjectKind::ServiceImport => opening.add(*kind, StagedEvent::Import),
                ObjectKind::ServiceEntry => opening.add(*kind, StagedEvent::ServiceEntry),
                ObjectKind::WorkloadEntry => opening.add(*kind, StagedEvent::WorkloadEntry),
                // Read of the config cluster only, and not by generations.
                ObjectKind::ConfigMap => {}
            }
        }
        let Opening { events, controls, .. } = opening;
        let counts = controls.iter().map(|(kind, control)| (*kind, Arc::clone(control.counts()))).collect();
        let relist = Box::new(move |wanted| {
            let asked = controls.iter().filter(|(kind, _)| *kind == wanted);
            asked.for_each(|(_, control)| control.relist(ListReason::Requested));
        });
        Feed { events: events.boxed(), relist, counts }
    }

    fn export(&self, services: Vec<ObjectKey>) {
        if let Some(exports) = &self.exports {
            exports.want(services);
        }
    }

    fn token_user(&self) -> Option<TokenUser> {
        self.exchange.token_user()
    }

    fn take_token(&self, next: TokenUser) {
        self.exchange.take_token(next);
    }

    fn credentials(&self) -> CredentialFacts {
        self.exchange.credential_facts()
    }

    fn uid(&self) -> BoxFuture<'static, Result<Name, Unknown>> {
        let answer = self.exchange.get(HOME_PATH.to_owned(), "application/json");
        Box::pin(async move {
            let answer = answer.await.map_err(|_| Unknown::Unreachable)?;
            let transient = answer.status.is_server_error() || answer.status == StatusCode::TOO_MANY_REQUESTS;
            if !answer.status.is_success() {
                return Err(if transient { Unknown::Unreachable } else { Unknown::Untold });
            }
            uid_of(answer.body).await
        })
    }
}

/// Reads the uid of `kube-system`, of a body that is not larger than one object may be.
async fn uid_of(body: ByteStream) -> Result<Name, Unknown> {
    let bytes = collect(body, MAX_HOME).await.map_err(|error| match error {
        BodyError::Transport(_) => Unknown::Unreachable,
        BodyError::TooLarge(_) => Unknown::Untold,
    })?;
    // Anything else says nothing: a proxy's answer with a uid is not a cluster's (K-12).
    let home = decode_one::<NamespaceObject>(Encoding::Json, &bytes).map_err(|_| Unknown::Untold)?;
    let is_home = home.object.is_ok() && *home.key.name == *HOME && !home.uid.is_empty();
    if is_home { Ok(home.uid) } else { Err(Unknown::Untold) }
}

/// Whether an event is about an object that is read at all, and by the source with this scope: an API server may
/// answer anything (Z-11). What has no namespace is cluster-wide or unreadable.
fn admitted<T>(event: &SourceEvent<T>, plan: &Plan, scope: Option<&Name>) -> bool {
    let namespace = match event {
        SourceEvent::InitApply(Received { key, .. }) | SourceEvent::Apply(Received { key, .. }) => {
            &key.namespace
        }
        SourceEvent::Delete { key, .. } => &key.namespace,
        _ => return true,
    };
    namespace.is_empty() || (scope.is_none_or(|scope| scope == namespace) && plan.admits(namespace))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::stream;
    use serde_json::{Value, json};

    use super::*;
    use crate::ingest::watch::script::{Reply, Script};

    #[tokio::test(start_paused = true)]
    async fn k46_only_kinds_that_can_be_done_without_are_given_up_for_ten_minutes() {
        for (kind, least, most) in [(ObjectKind::EndpointSlice, 10, 24), (ObjectKind::Gateway, 1, 2)] {
            let script = Script::new(|_| Reply::status(404, "NotFound", "the server could not find it"));
            let feeds = KubeFeeds::new(Arc::clone(&script) as Arc<dyn Exchange>, Arc::default());
            let mut feed = feeds.open(&Plan::default(), &[kind]);
            let all = async { while feed.events.next().await.is_some() {} };
            assert!(tokio::time::timeout(Duration::from_secs(599), all).await.is_err());
            let asked = script.asked().len();
            assert!((least..=most).contains(&asked), "{asked} attempts at {}", kind.name());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_counts_from_when_it_was_read_however_long_it_waits() {
        let script = Script::new(|_| Reply::status(404, "NotFound", "the server could not find it"));
        let feeds = KubeFeeds::new(Arc::clone(&script) as Arc<dyn Exchange>, Arc::default());
        let mut feed = feeds.open(&Plan::default(), &[ObjectKind::Gateway]);
        let held_up = Duration::from_secs(5);
        tokio::time::sleep(held_up).await;
        let first = feed.events.next().await.expect("an event");
        let waited = tokio::time::Instant::now().into_std().duration_since(first.at);
        assert!(waited.abs_diff(held_up) < Duration::from_millis(100), "{waited:?}");
    }

    #[tokio::test]
    async fn k20_only_kube_system_itself_says_which_cluster_answers() {
        let uid = |body: Value| uid_of(stream::iter([Ok(body.to_string().into())]).boxed());
        let namespace = |name: &str, uid: &str| json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": name, "uid": uid}});
        assert_eq!(uid(namespace("kube-system", "u")).await, Ok("u".into()));
        for other in [
            namespace("default", "u"),
            namespace("kube-system", ""),
            json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "kube-system", "uid": "u"}}),
            json!({"metadata": {"name": "kube-system", "uid": "u"}}),
            json!({"login": "please"}),
        ] {
            assert_eq!(uid(other.clone()).await, Err(Unknown::Untold), "{other}");
        }
    }

    #[test]
    fn z11_what_an_api_server_answers_for_another_namespace_is_not_taken_in() {
        let of = |namespace: &str| {
            let object = Received {
                key: crate::ingest::objects::ObjectKey::new(namespace, "x"),
                uid: Name::default(),
                revision: None,
                object: Ok(()),
            };
            let key = object.key.clone();
            [
                SourceEvent::InitApply(object.clone()),
                SourceEvent::Apply(object),
                SourceEvent::Delete { key, revision: None },
            ]
        };
        let (plan, scope) = (Plan::default(), Name::from("a"));
        assert!(of("a").iter().all(|event| admitted(event, &plan, Some(&scope))));
        assert!(!of("payments").iter().any(|event| admitted(event, &plan, Some(&scope))));
        assert!(of("payments").iter().all(|event| admitted(event, &plan, None)));
    }
}
