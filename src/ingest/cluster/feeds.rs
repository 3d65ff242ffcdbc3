//! Where a generation's events come from.

use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, SelectAll, StreamExt};
use http::StatusCode;
use tokio::sync::watch as signal;

use super::plan::Plan;
use crate::ingest::client::{ApiServer, ByteStream, Exchange as _};
use crate::ingest::objects::{
    NamespaceObject, NodeObject, Object, ObjectKind, PodObject, ServiceObject, SliceObject,
};
use crate::ingest::staging::{Scope, StagedEvent};
use crate::ingest::watch::{KubeSource, ObjectSource, Received, RetryPolicy, SourceEvent};
use crate::model::Name;

/// The namespace that every cluster has, and whose uid says which one it is (K-20).
const HOME_PATH: &str = "/api/v1/namespaces/kube-system";
/// Largest answer about it.
const MAX_HOME: usize = 1 << 20;

/// One event and the part of its kind that its source reads.
#[derive(Debug)]
pub(in crate::ingest) struct Arrival {
    pub(super) scope: Scope,
    pub(super) event: StagedEvent,
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
    /// Begins to list and watch what a plan says.
    fn open(&self, plan: &Plan) -> Feed;

    /// Asks for the uid of `kube-system`: which cluster answers (K-20).
    fn uid(&self) -> BoxFuture<'static, Result<Name, Unknown>>;
}

/// Open lists and watches. Dropping it ends them.
pub(in crate::ingest) struct Feed {
    /// In the order of arrival, no source before another.
    pub(super) events: BoxStream<'static, Arrival>,
    /// Asks for a complete list of a kind now (K-21).
    pub(super) relist: Box<dyn Fn(ObjectKind) + Send + Sync>,
}

/// An API server read by lists and watches.
pub(in crate::ingest) struct KubeFeeds {
    server: Arc<ApiServer>,
    retry: RetryPolicy,
}

impl KubeFeeds {
    pub(in crate::ingest) fn new(server: Arc<ApiServer>, retry: RetryPolicy) -> Self {
        Self { server, retry }
    }

    fn add<T: Object>(
        &self,
        kind: ObjectKind,
        wrap: fn(SourceEvent<T>) -> StagedEvent,
        plan: &Plan,
        relists: &signal::Sender<Option<ObjectKind>>,
        all: &mut SelectAll<BoxStream<'static, Arrival>>,
    ) where
        KubeSource: ObjectSource<T>,
    {
        for scope in plan.scopes(kind) {
            let (server, retry, fields) =
                (Arc::clone(&self.server), self.retry, plan.fields(kind, scope.as_ref()));
            let namespace = scope.clone();
            let open = move || {
                let mut source = KubeSource::new(Arc::clone(&server), retry);
                if let Some(namespace) = &namespace {
                    source = source.in_namespace(namespace);
                }
                if let Some(fields) = &fields {
                    source = source.with_fields(fields);
                }
                ObjectSource::<T>::events(source)
            };
            let plan = plan.clone();
            let events = restartable(kind, open, relists.subscribe());
            let events = events.filter(move |event| std::future::ready(admitted(event, &plan)));
            let events = events.map(move |event| Arrival { scope: scope.clone(), event: wrap(event) });
            all.push(events.boxed());
        }
    }
}

impl Feeds for KubeFeeds {
    fn open(&self, plan: &Plan) -> Feed {
        let (relists, _) = signal::channel(None);
        let mut all = SelectAll::new();
        self.add::<NamespaceObject>(ObjectKind::Namespace, StagedEvent::Namespace, plan, &relists, &mut all);
        self.add::<NodeObject>(ObjectKind::Node, StagedEvent::Node, plan, &relists, &mut all);
        self.add::<PodObject>(ObjectKind::Pod, StagedEvent::Pod, plan, &relists, &mut all);
        self.add::<ServiceObject>(ObjectKind::Service, StagedEvent::Service, plan, &relists, &mut all);
        self.add::<SliceObject>(ObjectKind::EndpointSlice, StagedEvent::Slice, plan, &relists, &mut all);
        let relist = Box::new(move |kind| {
            relists.send_replace(Some(kind));
        });
        Feed { events: all.boxed(), relist }
    }

    fn uid(&self) -> BoxFuture<'static, Result<Name, Unknown>> {
        let answer = self.server.get(HOME_PATH.to_owned(), "application/json");
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

/// Reads the uid of one object, of a body that is not larger than one may be.
async fn uid_of(mut body: ByteStream) -> Result<Name, Unknown> {
    #[derive(serde::Deserialize)]
    struct Object {
        metadata: Metadata,
    }
    #[derive(serde::Deserialize)]
    struct Metadata {
        uid: Name,
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = body.next().await {
        bytes.extend_from_slice(&chunk.map_err(|_| Unknown::Unreachable)?);
        if bytes.len() > MAX_HOME {
            return Err(Unknown::Untold);
        }
    }
    let object: Object = serde_json::from_slice(&bytes).map_err(|_| Unknown::Untold)?;
    Ok(object.metadata.uid)
}

/// A source that is opened anew when its kind is asked for.
fn restartable<T: 'static>(
    kind: ObjectKind,
    open: impl Fn() -> BoxStream<'static, SourceEvent<T>> + Send + 'static,
    asked: signal::Receiver<Option<ObjectKind>>,
) -> BoxStream<'static, SourceEvent<T>> {
    let state = (open(), asked, open);
    let events = stream::unfold(state, move |(mut events, mut asked, open)| async move {
        loop {
            tokio::select! {
                // Unbiased: a flood of events must not hold back the question for ever.
                event = events.next() => return event.map(|event| (event, (events, asked, open))),
                Ok(()) = asked.changed() => {
                    if *asked.borrow_and_update() == Some(kind) {
                        events = open();
                    }
                }
            }
        }
    });
    events.boxed()
}

/// Whether an event is about an object that is read at all.
fn admitted<T>(event: &SourceEvent<T>, plan: &Plan) -> bool {
    match event {
        SourceEvent::InitApply(Received { key, .. }) | SourceEvent::Apply(Received { key, .. }) => {
            plan.admits(&key.namespace)
        }
        SourceEvent::Delete(key) => plan.admits(&key.namespace),
        _ => true,
    }
}
