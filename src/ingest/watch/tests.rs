//! The loop from its consumer's point of view: a scripted server, virtual time.

mod cuts;
mod lists;
mod outages;
mod probes;
mod random_faults;
mod refusals;
mod storms;
mod watches;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tokio::time::Instant;

use super::script::form::{self, Space};
use super::script::world::{Streams, World};
use super::script::{Asked, For, Piece, Reply, Script};
use super::*;
use crate::ingest::objects::NamespaceObject;
use crate::ingest::objects::wire::Encoding;

/// A source and what it told, kept as a consumer would.
pub(super) struct Consumer {
    source: Source<NamespaceObject>,
    began: Instant,
    /// name → network.
    held: BTreeMap<String, String>,
    listing: Option<BTreeMap<String, String>>,
    /// When, and what: in words.
    story: Vec<(Duration, String)>,
}

impl Consumer {
    pub(super) fn of(source: KubeSource) -> Self {
        Self {
            source: source.start(),
            began: Instant::now(),
            held: BTreeMap::new(),
            listing: None,
            story: Vec::new(),
        }
    }

    pub(super) fn with(script: &Arc<Script>, limits: SourceLimits) -> Self {
        Self::of(KubeSource::new(Arc::clone(script) as Arc<dyn Exchange>, Arc::new(limits)))
    }

    pub(super) fn new(script: &Arc<Script>) -> Self {
        Self::with(script, SourceLimits::default())
    }

    /// Consumes for this long.
    pub(super) async fn run(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while let Ok(event) = tokio::time::timeout_at(until, self.source.events.next()).await {
            self.take(event.expect("an endless stream"));
        }
    }

    /// Consumes until something is told.
    pub(super) async fn until(&mut self, told: &str) {
        let from = self.story.len();
        let limit = Instant::now() + Duration::from_secs(3600);
        while !self.story[from..].iter().any(|(_, line)| line.starts_with(told)) {
            let event = tokio::time::timeout_at(limit, self.source.events.next()).await;
            self.take(event.unwrap_or_else(|_| panic!("not told: {told}; {:?}", self.story)).unwrap());
        }
    }

    fn take(&mut self, event: SourceEvent<NamespaceObject>) {
        let line = match event {
            SourceEvent::Init => {
                self.listing = Some(BTreeMap::new());
                "init".to_owned()
            }
            SourceEvent::InitApply(received) => {
                let listing = self.listing.as_mut().expect("a list has begun");
                listing.insert(received.key.name.to_string(), network(&received));
                return;
            }
            SourceEvent::InitDelete(key) => {
                self.listing.as_mut().expect("a list has begun").remove(&*key.name);
                return;
            }
            SourceEvent::InitDone { reason } => {
                self.held = self.listing.take().expect("a list has begun");
                format!("done {}", reason.label())
            }
            SourceEvent::Apply(received) => {
                assert!(self.listing.is_none(), "no events during a list");
                let (name, network) = (received.key.name.to_string(), network(&received));
                let line = format!("apply {name}={network}");
                self.held.insert(name, network);
                line
            }
            SourceEvent::Delete { key, .. } => {
                self.held.remove(&*key.name);
                format!("delete {}", key.name)
            }
            SourceEvent::Connected => "connected".to_owned(),
            SourceEvent::Idle => "idle".to_owned(),
            SourceEvent::Failed(failure) => format!("{failure:?}"),
        };
        self.story.push((self.began.elapsed(), line));
    }

    /// What was told, without the times.
    pub(super) fn told(&self) -> Vec<&str> {
        self.story.iter().map(|(_, line)| line.as_str()).collect()
    }

    /// How often something was told.
    pub(super) fn times(&self, told: &str) -> usize {
        self.story.iter().filter(|(_, line)| line.starts_with(told)).count()
    }

    pub(super) fn counts(&self) -> Arc<SourceCounts> {
        Arc::clone(self.source.control.counts())
    }

    pub(super) fn names(&self) -> Vec<&str> {
        self.held.keys().map(String::as_str).collect()
    }
}

fn network(received: &Received<NamespaceObject>) -> String {
    received.object.as_ref().unwrap().network.to_string()
}

/// A server that does as `world` does, but for what `instead` answers.
fn script(world: &World, mut instead: impl FnMut(&Asked) -> Option<Reply> + Send + 'static) -> Arc<Script> {
    let world = world.clone();
    Script::new(move |asked| instead(asked).unwrap_or_else(|| world.answer(asked)))
}

/// Requests answered once each, in order of appearance, with what `what` is for.
fn first(what: For, replies: Vec<Reply>) -> impl FnMut(&Asked) -> Option<Reply> {
    let mut replies = replies.into_iter();
    move |asked| if asked.is_for() == what { replies.next() } else { None }
}

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[tokio::test(start_paused = true)]
async fn a_streaming_list_goes_on_as_a_watch() {
    let world = World::new(&["a", "b"]);
    let script = script(&world, |_| None);
    let mut consumer = Consumer::new(&script);
    consumer.until("connected").await;
    assert_eq!(consumer.told(), ["init", "done first", "connected"]);
    assert_eq!(consumer.names(), ["a", "b"]);
    world.set("a", "n1");
    world.delete("b");
    consumer.until("delete b").await;
    assert_eq!(consumer.held, world.truth());
    assert_eq!(script.asked().len(), 1, "one request for everything");
    assert!(script.asked()[0].accept.contains("protobuf"));
    let counts = consumer.counts();
    assert_eq!(
        (counts.phase(), counts.frames(), counts.relists(ListReason::First)),
        (SourcePhase::Watching, 5, 1)
    );
    assert!(
        counts.bytes_in() > 0 && counts.last_event_age(Instant::now().into_std()) == Some(Duration::ZERO)
    );
}

#[tokio::test(start_paused = true)]
async fn a_paged_list_and_then_watches_from_its_revision() {
    let names: Vec<_> = (0..1200).map(|n| format!("s{n:04}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let world = World::new(&names).streaming(Streams::Refused).speaking(Encoding::Json);
    let script = script(&world, |_| None);
    let mut consumer = Consumer::new(&script);
    consumer.until("connected").await;
    assert_eq!(consumer.told(), ["init", "done first", "connected"]);
    assert_eq!(consumer.names(), names);
    let asked: Vec<_> = script.asked().iter().map(Asked::is_for).collect();
    assert_eq!(asked, [For::StreamingList, For::FirstPage, For::NextPage, For::NextPage, For::Watch]);
    assert_eq!(script.asked()[4].parameter("resourceVersion"), Some("10"));
    world.set("s0007", "n7");
    consumer.until("apply s0007=n7").await;
    world.end_watches(false);
    consumer.run(seconds(2)).await;
    world.set("s0008", "n8");
    consumer.until("apply s0008=n8").await;
    assert_eq!(script.asked_for(For::Watch)[1].parameter("resourceVersion"), Some("11"));
}

#[tokio::test(start_paused = true)]
async fn dropping_a_source_ends_its_exchanges() {
    let world = World::new(&["a"]);
    let script = script(&world, |_| None);
    let mut consumer = Consumer::new(&script);
    consumer.until("connected").await;
    assert_eq!(world.watches(), 1);
    drop(consumer);
    tokio::task::yield_now().await;
    assert_eq!(world.watches(), 0);
}
