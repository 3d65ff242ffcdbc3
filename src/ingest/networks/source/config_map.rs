//! A document in the mesh ConfigMap of the config cluster's system namespace.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{BoxStream, StreamExt};
use tokio::time::Instant;

use super::Publisher;
use crate::ingest::objects::{ConfigMapObject, ObjectKey};
use crate::ingest::watch::{Failure, ListReason, Received, SourceEvent};

/// How long a document that is gone still counts: `kubectl replace --force` deletes and creates, and a list
/// may lie. Then, if it went with a list, another list has to say the same (K-21).
pub(in crate::ingest) const GRACE: Duration = Duration::from_secs(5);

/// How long the document of before the start is withheld while nothing fails: most API servers answer faster.
const RECALL_AFTER: Duration = Duration::from_secs(1);

/// What is told of a source that says nothing.
const NOT_IN_TIME: &str = "nothing was heard of it in time";

/// A document that is no longer there.
struct Absent {
    /// When that is to count.
    due: Instant,
    /// A list left it out, and nobody has confirmed that yet.
    doubted: bool,
}

/// Publishes what the ConfigMap says, for ever. While it cannot be had, what it said before the start stands. If
/// nobody knows that and nothing is heard within `patience` (`None`: wait for ever), the clusters go on without a
/// document until it comes; without permission they do so at once. `relist` asks for a list now.
pub(in crate::ingest) async fn follow_config_map(
    mut events: BoxStream<'static, SourceEvent<ConfigMapObject>>,
    relist: impl Fn(ListReason) + Send,
    publisher: impl Publisher,
    config_map: ObjectKey,
    patience: Option<Duration>,
) {
    let mut deadline = patience.map(|patience| Instant::now() + patience);
    let mut document = Document::new(publisher, &config_map).await;
    let is_ours = |key: &ObjectKey| key.name == config_map.name;
    let mut listing: Option<Option<Received<ConfigMapObject>>> = None;
    loop {
        let gone = document.absent.as_ref().map(|absent| absent.due);
        let recall = document.before.as_ref().map(|(_, due)| *due);
        let event = tokio::select! {
            // Biased: what is heard counts more than any deadline.
            biased;
            event = events.next() => event,
            () = tokio::time::sleep_until(recall.unwrap_or_else(Instant::now)),
                if recall.is_some() && !document.publisher.is_known() =>
            {
                document.make_do(NOT_IN_TIME);
                continue;
            }
            () = tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now)),
                if deadline.is_some() && !document.publisher.is_known() =>
            {
                deadline = None;
                document.do_without(NOT_IN_TIME);
                continue;
            }
            () = tokio::time::sleep_until(gone.unwrap_or_else(Instant::now)), if gone.is_some() => {
                document.on_absence(&relist);
                continue;
            }
        };
        let Some(event) = event else { return std::future::pending().await };
        match event {
            SourceEvent::Init => listing = Some(None),
            SourceEvent::InitApply(received) if is_ours(&received.key) => listing = Some(Some(received)),
            SourceEvent::InitDelete(key) if is_ours(&key) => listing = Some(None),
            SourceEvent::InitDone { reason } => match listing.take().flatten() {
                Some(received) => document.take(received),
                None => document.is_not_listed(reason),
            },
            SourceEvent::Apply(received) if is_ours(&received.key) => document.take(received),
            SourceEvent::Delete { key, .. } if is_ours(&key) => document.is_deleted(),
            SourceEvent::Connected | SourceEvent::Idle => document.publisher.reachable(),
            SourceEvent::Failed(failure @ (Failure::Forbidden(_) | Failure::NotServed(_))) => {
                document.do_without(failure.text());
            }
            SourceEvent::Failed(failure) => document.make_do(failure.text()),
            _ => {}
        }
    }
}

/// The document, as far as it is known.
struct Document<P> {
    publisher: P,
    origin: String,
    /// What it said before the start, until it says something, and when that is to stand in at the latest.
    before: Option<(Arc<str>, Instant)>,
    absent: Option<Absent>,
}

impl<P: Publisher> Document<P> {
    /// Waits until it was looked for what it said before the start.
    async fn new(publisher: P, config_map: &ObjectKey) -> Self {
        let mut before = publisher.memory().documents_before().await;
        let before = P::of(&mut before).take();
        let before = before.map(|text| (text, Instant::now() + RECALL_AFTER));
        Self { publisher, origin: format!("ConfigMap {config_map}"), before, absent: None }
    }

    /// What was said before the start takes the place of what is not known.
    fn recall(&mut self) {
        if let Some((text, _)) = self.before.take().filter(|_| !self.publisher.is_known()) {
            self.publisher.recall(&text, &format!("snapshot of {}", self.origin));
        }
    }

    /// It cannot be had now: what it said before the start holds, if that is known.
    fn make_do(&mut self, why: &str) {
        if self.before.is_some() && !self.publisher.is_known() {
            self.recall();
            self.publisher.unreachable(&self.origin, why);
        }
    }

    /// It cannot be had at all: nobody waits for it any longer.
    fn do_without(&mut self, why: &str) {
        self.recall();
        self.publisher.unreachable(&self.origin, why);
        self.publisher.nothing();
    }

    fn take(&mut self, received: Received<ConfigMapObject>) {
        self.absent = None;
        match received.object {
            Ok(object) => self.publish(object.data.get(P::KEY).map_or("", |text| text)),
            Err(reason) => {
                self.recall();
                self.publisher.unreadable(&self.origin, &reason);
                // At the first look there is no version before: the clusters go on without one.
                self.publisher.nothing();
            }
        }
    }

    fn publish(&mut self, text: &str) {
        let origin = format!("{}, key {}", self.origin, P::KEY);
        match self.publisher.take(text, &origin) {
            Ok(()) => {
                self.before = None;
                self.publisher.memory().note(|documents| *P::of(documents) = Some(text.into()));
            }
            Err(problem) => {
                self.recall();
                self.publisher.unreadable(&origin, &problem);
                self.publisher.nothing();
            }
        }
    }

    /// A list without it. What was there before the start is missed as well (K-21).
    fn is_not_listed(&mut self, reason: ListReason) {
        self.recall();
        match &mut self.absent {
            _ if !self.publisher.says_something() => self.publish(""),
            Some(absent) => absent.doubted &= reason != ListReason::Requested,
            None => self.absent = Some(Absent { due: Instant::now() + GRACE, doubted: true }),
        }
    }

    fn is_deleted(&mut self) {
        self.absent = Some(Absent { due: Instant::now() + GRACE, doubted: false });
    }

    fn on_absence(&mut self, relist: impl Fn(ListReason)) {
        match self.absent.take() {
            Some(Absent { doubted: true, .. }) => {
                relist(ListReason::Requested);
                self.absent = Some(Absent { due: Instant::now() + GRACE, doubted: true });
            }
            _ => self.publish(""),
        }
    }
}
