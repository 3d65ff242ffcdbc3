//! WATCH: the initial state where asked for, then every change, in order, without gaps.
//!
//! A watch is a cursor into its kind's history, not a queue: a slow client costs no memory, and one that
//! falls behind the history is told 410 in an ERROR event and ends.

mod request;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;

use self::request::Start;
pub(super) use self::request::WatchRequest;
use super::body;
use super::collection::{Event, TooOld};
use super::error::ApiError;
use super::object::{self, Change, Stored};
use super::store::Store;

/// Events read from the history at a time.
const BATCH: usize = 256;
/// Marks the bookmark that ends the initial events of a streaming list.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// Events the server itself sends to its watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    /// All is well; the number counts the disconnections so far.
    Open(u64),
    /// The server shuts down: watches end in order.
    Closing,
}

/// Breaks every running watch in the middle of its response.
pub(super) fn disconnect(signals: &watch::Sender<Signal>) {
    signals.send_modify(|signal| {
        if let Signal::Open(count) = signal {
            *count += 1;
        }
    });
}

/// A running watch: [`WatchStream::next`] gives its bytes until it ends.
struct WatchStream {
    store: Store,
    request: WatchRequest,
    /// Everything up to this version has been sent or did not concern this watch.
    cursor: u64,
    changed: watch::Receiver<u64>,
    server: watch::Receiver<Signal>,
    opened: Signal,
    pending: VecDeque<Bytes>,
    /// What is left of the state at the start, until all of it and the bookmark after it are pending.
    initial: Option<std::vec::IntoIter<Arc<Stored>>>,
    ends_at: Instant,
    bookmark_every: Duration,
    next_bookmark: Instant,
    ended: bool,
}

/// Opens a watch. The stream ends at its timeout or at shutdown, and fails when the server cuts watches.
///
/// A watch after a version that this server has not reached is silent until it is passed.
///
/// # Errors
/// [`ApiError::FutureVersion`] for the state at such a version.
pub(super) fn open(
    store: &Store,
    request: WatchRequest,
    server: watch::Receiver<Signal>,
    bookmark_every: Duration,
) -> Result<impl Stream<Item = io::Result<Bytes>> + Send + use<>, ApiError> {
    // Subscribe before reading the state: a write in between is then a wake-up, not a loss.
    let changed = store.subscribe(&request.kind);
    let now = Instant::now();
    let opened = *server.borrow();
    let mut stream = WatchStream {
        store: store.clone(),
        cursor: 0,
        changed,
        opened,
        server,
        pending: VecDeque::new(),
        initial: None,
        ends_at: now + request.timeout,
        bookmark_every,
        next_bookmark: now + bookmark_every,
        ended: false,
        request,
    };
    stream.begin()?;
    Ok(futures::stream::unfold(stream, |mut stream| async move {
        let item = stream.next().await?;
        Some((item, stream))
    }))
}

impl WatchStream {
    fn begin(&mut self) -> Result<(), ApiError> {
        let current = self.store.resource_version();
        match self.request.start {
            // Without a version and without initial events, only what happens from now on counts.
            Start::After(0) => {
                self.cursor = current;
                Ok(())
            }
            Start::After(version) => {
                self.cursor = version;
                Ok(())
            }
            Start::State | Start::StateThenBookmark => {
                if let Some(asked) = self.request.version.filter(|asked| *asked > current) {
                    return Err(ApiError::FutureVersion { asked, current });
                }
                self.load_state();
                Ok(())
            }
        }
    }

    fn load_state(&mut self) {
        let request = &self.request;
        let namespace = Some(request.namespace.as_str()).filter(|n| !n.is_empty());
        let (version, items) = self.store.read(&request.kind, |collection, version| {
            let mut items: Vec<Arc<Stored>> = Vec::new();
            let scanned = collection.scan_at(version, namespace, None, |_, stored| {
                if request.selector.may_match(stored) {
                    items.push(Arc::clone(stored));
                }
                true
            });
            debug_assert!(scanned.is_ok(), "the present is always readable");
            (version, items)
        });
        self.initial = Some(items.into_iter());
        self.cursor = version;
    }

    /// Makes the next part of the initial state pending; `false` when there is none left. In parts, because a
    /// large state in another form than the stored one takes time and memory.
    fn load_more(&mut self) -> bool {
        let Some(initial) = &mut self.initial else { return false };
        let WatchRequest { kind, selector, media, .. } = &self.request;
        let batch: Vec<Arc<Stored>> = initial.by_ref().take(BATCH).collect();
        let selected = batch.iter().filter(|item| selector.matches(item));
        let lines: Vec<Bytes> = selected.map(|item| media.event(kind, item, Change::Added)).collect();
        self.pending = body::join(lines.into_iter()).collect();
        if batch.len() < BATCH {
            self.initial = None;
            if self.request.start == Start::StateThenBookmark {
                self.pending.push_back(self.bookmark(Some(INITIAL_EVENTS_END)));
            }
        }
        true
    }

    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        loop {
            if let Some(bytes) = self.pending.pop_front() {
                return Some(Ok(bytes));
            }
            if self.load_more() {
                // Others' requests go on meanwhile.
                tokio::task::yield_now().await;
                continue;
            }
            if self.ended {
                return None;
            }
            self.changed.mark_unchanged();
            match self.store.events_after(&self.request.kind, self.cursor, BATCH) {
                Err(TooOld { oldest }) => {
                    self.pending.push_back(self.too_old(oldest));
                    self.ended = true;
                    continue;
                }
                Ok(read) => {
                    let lines: Vec<Bytes> = read.events.iter().filter_map(|event| self.line(event)).collect();
                    self.pending = body::join(lines.into_iter()).collect();
                    self.cursor = read.complete;
                    self.ended = read.retired && read.events.len() < BATCH;
                    if self.ended || !self.pending.is_empty() || read.events.len() == BATCH {
                        continue;
                    }
                }
            }
            if let Some(end) = self.wait().await {
                return end;
            }
        }
    }

    /// Waits for a reason to look again; `Some` ends the stream, with an error or in order.
    async fn wait(&mut self) -> Option<Option<io::Result<Bytes>>> {
        let bookmarks = self.request.bookmarks;
        // Biased: an end decided by the server or by time wins over further events.
        let end = tokio::select! {
            biased;
            signal = self.server.wait_for(|signal| *signal != self.opened || *signal == Signal::Closing) => match signal.map(|signal| *signal) {
                Ok(Signal::Open(_)) => Some(Some(Err(io::Error::from(io::ErrorKind::ConnectionReset)))),
                Ok(Signal::Closing) | Err(_) => Some(None),
            },
            () = tokio::time::sleep_until(self.ends_at) => Some(None),
            changed = self.changed.changed() => match changed {
                Ok(()) => None,
                Err(_) => Some(None),
            },
            () = tokio::time::sleep_until(self.next_bookmark), if bookmarks => None,
        };
        if end.is_none() && bookmarks && Instant::now() >= self.next_bookmark {
            self.next_bookmark = Instant::now() + self.bookmark_every;
            // A version that is still to come is not confirmed.
            if self.cursor <= self.store.resource_version() {
                self.pending.push_back(self.bookmark(None));
            }
        }
        end
    }

    /// The event as this watch's selection sees it: objects enter and leave a selection.
    fn line(&self, event: &Event) -> Option<Bytes> {
        let request = &self.request;
        let selected = |stored: &Arc<Stored>| request.selects(stored);
        let is = event.change != Change::Deleted && selected(&event.object);
        let was = event.previous.as_ref().is_some_and(selected);
        let change = match (was, is) {
            (false, false) => return None,
            (false, true) => Change::Added,
            (true, true) => Change::Modified,
            (true, false) => Change::Deleted,
        };
        if change == Change::Deleted && event.change != Change::Deleted {
            // It left the selection: clients get its last selected state under the new version.
            let previous = event.previous.as_ref()?;
            let mut last = previous.value();
            object::metadata(&mut last).insert("resourceVersion".into(), json!(event.version.to_string()));
            let last = Stored::new(&last, event.version, Change::Deleted);
            return Some(request.media.event(&request.kind, &last, Change::Deleted));
        }
        Some(request.media.event(&request.kind, &event.object, change))
    }

    /// A bookmark at the cursor.
    fn bookmark(&self, annotation: Option<&str>) -> Bytes {
        let kind = &self.request.kind;
        let mut metadata = json!({"resourceVersion": self.cursor.to_string(), "creationTimestamp": null});
        if let Some(annotation) = annotation {
            metadata["annotations"] = json!({annotation: "true"});
        }
        let object = json!({"kind": kind.kind, "apiVersion": kind.api_version(), "metadata": metadata});
        self.request.media.bookmark(kind, object)
    }

    /// The history does not reach back to the cursor.
    fn too_old(&self, oldest: u64) -> Bytes {
        let error = ApiError::Expired(format!("too old resource version: {} ({oldest})", self.cursor));
        self.request.media.error_event(&error)
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;

    use super::super::kinds::PODS;
    use super::super::media::Media;
    use super::super::route::Query;
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_opens_while_the_server_closes_ends() {
        let signals = watch::Sender::new(Signal::Closing);
        let request = WatchRequest::parse(&PODS, "", &Query::default(), Media::JSON).unwrap();
        let stream = open(&Store::default(), request, signals.subscribe(), Duration::from_secs(1)).unwrap();
        let events = tokio::time::timeout(Duration::from_secs(60), stream.count()).await;
        assert_eq!(events, Ok(0));
    }
}
