//! Between a stream and the body of its HTTP/2 response: one message at a time, composed when the transport asks for it.
//!
//! The body drives the stream: whoever polls it for a frame polls the stream for its next message, in the same task. A
//! transport that takes nothing does not poll, and the stream costs nothing then (X-F02).

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};
use tonic::Status;

use super::frame::Chunks;

/// What is handed to the transport at once, in bytes: one that takes a large resource slowly shows that it does.
const PIECE: usize = 256 << 10;

/// The end that the stream writes to. Dropped without a status the response ends with `OK`.
#[derive(Debug)]
pub(in crate::xds) struct Outlet(Arc<Slot>);

/// What stands between the two ends. Both are used by one task; others only ask when.
#[derive(Debug, Default)]
pub(in crate::xds) struct Slot(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The transport asks for the next message: it has taken the one before.
    asked: bool,
    message: Option<Chunks>,
    /// How the response ends, behind the message.
    status: Option<Status>,
    /// When the transport last took a piece of the message, or the message was written; nothing once it asked for more.
    given: Option<Instant>,
}

impl Slot {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Since when nothing was taken of what is written.
    pub(in crate::xds) fn unread_since(&self) -> Option<Instant> {
        self.state().given
    }

    fn end(&self, status: Status) {
        self.state().status.get_or_insert(status);
    }
}

/// The end that the transport reads. It drives `D`, the stream that writes to the outlet.
pub(super) struct ResponseBody<D> {
    slot: Arc<Slot>,
    /// Nothing once it has ended.
    driver: Option<Pin<Box<D>>>,
    chunks: Chunks,
    ended: bool,
}

/// A body driven by the stream that `driver` makes of the outlet.
pub(super) fn driven<D: Future<Output = ()>>(driver: impl FnOnce(Outlet) -> D) -> ResponseBody<D> {
    let slot = Arc::new(Slot::default());
    let driver = Box::pin(driver(Outlet(Arc::clone(&slot))));
    ResponseBody { slot, driver: Some(driver), chunks: Chunks::new(), ended: false }
}

impl Outlet {
    /// Whether the transport has taken everything and asks for more.
    pub(in crate::xds) fn is_hungry(&self) -> bool {
        self.0.state().asked
    }

    /// Completes once it [is](Self::is_hungry); only for what the body drives, which is polled whenever the transport
    /// asks. Nothing is composed before: what a slow proxy has not read cannot grow old in a queue (X-F01).
    pub(in crate::xds) async fn hungry(&self) {
        std::future::poll_fn(|_| if self.is_hungry() { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    /// Writes one message; call it once for each time the transport was [`hungry`](Self::hungry).
    pub(in crate::xds) fn write(&self, message: Chunks) {
        let mut state = self.0.state();
        state.asked = false;
        state.message = Some(message);
        state.given = Some(Instant::now());
    }

    /// Ends the response with `status`, behind what was written.
    pub(in crate::xds) fn end(self, status: Status) {
        self.0.end(status);
    }

    /// For those who ask whether the proxy reads.
    pub(in crate::xds) fn slot(&self) -> Arc<Slot> {
        Arc::clone(&self.0)
    }
}

impl Drop for Outlet {
    /// A stream that panics ends with a status that says so (Z-45).
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.end(Status::internal("an error of the server; connect again"));
        }
    }
}

impl<D: Future<Output = ()>> ResponseBody<D> {
    /// What comes next of the message that is being taken.
    fn next_piece(&mut self) -> Option<Bytes> {
        let chunk = self.chunks.front_mut()?;
        let piece = if chunk.len() > PIECE { chunk.split_to(PIECE) } else { self.chunks.pop_front()? };
        if !self.chunks.is_empty() {
            self.slot.state().given = Some(Instant::now());
        }
        Some(piece)
    }

    /// The next message, or the status behind the last one.
    fn poll_message(&mut self, context: &mut Context<'_>) -> Poll<Result<Chunks, Status>> {
        let mut state = self.slot.state();
        if state.message.is_none() && self.driver.is_some() {
            state.asked = true;
            state.given = None;
            drop(state);
            let ended = self.driver.as_mut().is_some_and(|driver| driver.as_mut().poll(context).is_ready());
            if ended {
                self.driver = None;
            }
            state = self.slot.state();
        }
        if let Some(message) = state.message.take() {
            return Poll::Ready(Ok(message));
        }
        match state.status.take() {
            Some(status) => Poll::Ready(Err(status)),
            None if self.driver.is_none() => Poll::Ready(Err(Status::ok(""))),
            None => Poll::Pending,
        }
    }
}

impl<D: Future<Output = ()>> Body for ResponseBody<D> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        let status = loop {
            if let Some(piece) = this.next_piece() {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            match std::task::ready!(this.poll_message(context)) {
                Ok(message) => this.chunks = message,
                Err(status) => break status,
            }
        };
        this.ended = true;
        this.driver = None;
        let mut trailers = HeaderMap::with_capacity(2);
        Poll::Ready(Some(match status.add_header(&mut trailers) {
            Ok(()) => Ok(Frame::trailers(trailers)),
            Err(error) => Err(error),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::FutureExt as _;
    use http_body_util::BodyExt as _;
    use tokio::sync::Notify;

    use super::*;

    fn message(parts: &[&'static str]) -> Chunks {
        parts.iter().map(|part| Bytes::from_static(part.as_bytes())).collect()
    }

    async fn data<D: Future<Output = ()>>(body: &mut ResponseBody<D>) -> Bytes {
        body.frame().await.expect("a frame").expect("no error").into_data().expect("data")
    }

    async fn status<D: Future<Output = ()>>(body: &mut ResponseBody<D>) -> HeaderMap {
        let trailers = body.frame().await.expect("a frame").expect("no error").into_trailers();
        assert!(body.frame().await.is_none() && body.is_end_stream());
        trailers.expect("trailers")
    }

    #[tokio::test]
    async fn f01_the_next_message_is_composed_when_the_one_before_was_taken_whole() {
        let composed = AtomicUsize::new(0);
        let mut body = driven(|outlet| async move {
            let parts = [["a", "b"], ["c", "d"]];
            for parts in &parts {
                outlet.hungry().await;
                composed.fetch_add(1, Ordering::Relaxed);
                outlet.write(message(parts));
                assert!(outlet.hungry().now_or_never().is_none(), "the message is not taken");
            }
            std::future::pending().await
        });
        let unread = |body: &ResponseBody<_>| body.slot.unread_since().is_some();
        assert!(!unread(&body));
        for wanted in ["a", "b", "c", "d"] {
            assert_eq!(data(&mut body).await, wanted);
            assert!(unread(&body), "taken, but no more was asked for");
        }
        assert!(body.frame().now_or_never().is_none());
        assert!(!unread(&body));
    }

    #[tokio::test]
    async fn f01_what_the_transport_does_not_take_is_not_composed() {
        let (composed, news) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let (of_driver, wakes) = (Arc::clone(&composed), Arc::clone(&news));
        let mut body = driven(|outlet| async move {
            loop {
                outlet.hungry().await;
                of_driver.fetch_add(1, Ordering::Relaxed);
                outlet.write(message(&["a", "b"]));
                wakes.notified().await;
            }
        });
        assert_eq!(data(&mut body).await, "a");
        for _ in 0..10 {
            news.notify_one();
        }
        assert_eq!(composed.load(Ordering::Relaxed), 1);
        assert_eq!(data(&mut body).await, "b");
        assert_eq!(data(&mut body).await, "a");
        assert_eq!(composed.load(Ordering::Relaxed), 2, "once for all that happened");
    }

    #[tokio::test]
    async fn f03_who_takes_a_large_message_slowly_is_not_stuck() {
        let large = Bytes::from(vec![7; 2 * PIECE + 10]);
        let whole = large.clone();
        let mut body = driven(|outlet| async move {
            outlet.hungry().await;
            outlet.write([large].into());
            std::future::pending().await
        });
        let (mut taken, mut before) = (Vec::new(), None);
        for wanted in [PIECE, PIECE] {
            let piece = data(&mut body).await;
            assert_eq!(piece.len(), wanted);
            taken.extend(piece);
            let since = body.slot.unread_since();
            assert!(since.is_some() && since > before, "it has shown that it takes something");
            before = since;
        }
        taken.extend(data(&mut body).await);
        assert_eq!(taken, whole);
        assert!(body.frame().now_or_never().is_none() && body.slot.unread_since().is_none());
    }

    #[tokio::test]
    async fn the_status_comes_behind_the_last_message() {
        let mut body = driven(|outlet| async move {
            outlet.write(message(&["a"]));
            outlet.end(Status::unavailable("gone, and so on"));
        });
        assert_eq!(data(&mut body).await, "a");
        assert_eq!(status(&mut body).await["grpc-status"], "14");
    }

    #[tokio::test]
    async fn c24_a_dropped_outlet_ends_the_response_with_ok() {
        let mut body = driven(|outlet| async move { drop(outlet) });
        assert_eq!(status(&mut body).await["grpc-status"], "0");
    }

    #[tokio::test]
    async fn z45_a_panic_ends_the_response_with_a_status() {
        let mut body = driven(|outlet| async move {
            let stream = async move {
                outlet.hungry().await;
                outlet.write(message(&["a"]));
                panic!("on purpose");
            };
            assert!(std::panic::AssertUnwindSafe(stream).catch_unwind().await.is_err());
        });
        assert_eq!(data(&mut body).await, "a");
        assert_eq!(status(&mut body).await["grpc-status"], "13");
    }
}
