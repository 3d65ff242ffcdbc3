//! The way from a stream's task into the body of its HTTP/2 response: one message at a time, asked for by the
//! transport.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};
use tokio::sync::{Notify, mpsc};
use tonic::Status;

use super::frame::Chunks;

/// The end that the stream's task writes to. Dropped without a status the response ends with `OK`.
#[derive(Debug)]
pub(in crate::xds) struct Outlet {
    messages: mpsc::Sender<Result<Chunks, Status>>,
    asked: Arc<Asked>,
    /// Messages written so far.
    written: AtomicU64,
}

/// What the transport has asked for. It asks as often as it likes: only what it had taken by then tells whether the
/// next message is meant.
#[derive(Debug)]
struct Asked {
    /// How many messages it had taken when it last asked for more; none yet at [`u64::MAX`].
    after: AtomicU64,
    again: Notify,
}

/// The end that the transport reads.
#[derive(Debug)]
pub(super) struct ResponseBody {
    messages: mpsc::Receiver<Result<Chunks, Status>>,
    asked: Arc<Asked>,
    /// Messages taken so far.
    taken: u64,
    chunks: Chunks,
    ended: bool,
}

/// An outlet and the body that it feeds.
pub(super) fn outlet() -> (Outlet, ResponseBody) {
    // Two: a message, and the status that may end the stream while the message still waits.
    let (sender, receiver) = mpsc::channel(2);
    let asked = Arc::new(Asked { after: AtomicU64::new(u64::MAX), again: Notify::new() });
    let outlet = Outlet { messages: sender, asked: Arc::clone(&asked), written: AtomicU64::new(0) };
    (outlet, ResponseBody { messages: receiver, asked, taken: 0, chunks: Chunks::new(), ended: false })
}

impl Outlet {
    /// Whether the transport has taken everything and asks for more.
    pub(in crate::xds) fn is_hungry(&self) -> bool {
        self.asked.after.load(Ordering::Acquire) == self.written.load(Ordering::Relaxed)
    }

    /// Waits until it [is](Self::is_hungry). Nothing is computed before: what a slow proxy has not read cannot grow old
    /// in a queue (X-F01).
    pub(in crate::xds) async fn hungry(&self) {
        while !self.is_hungry() {
            self.asked.again.notified().await;
        }
    }

    /// Writes one message; call it once for each time the transport was [`hungry`](Self::hungry).
    pub(in crate::xds) fn write(&self, message: Chunks) {
        self.written.fetch_add(1, Ordering::Relaxed);
        // Full never happens under the contract; closed means that the proxy has left, which the reader notices.
        let _ = self.messages.try_send(Ok(message));
    }

    /// Completes when nobody reads the response any more.
    pub(in crate::xds) async fn closed(&self) {
        self.messages.closed().await;
    }

    /// Ends the response with `status`, behind what was written.
    pub(in crate::xds) fn end(self, status: Status) {
        let _ = self.messages.try_send(Err(status));
    }
}

impl Drop for Outlet {
    /// A stream whose task panics ends with a status that says so (Z-45).
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = self.messages.try_send(Err(Status::internal("an error of the server; connect again")));
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        if let Some(chunk) = this.chunks.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        if this.ended {
            return Poll::Ready(None);
        }
        let status = match this.messages.poll_recv(context) {
            Poll::Pending => {
                this.asked.after.store(this.taken, Ordering::Release);
                this.asked.again.notify_one();
                return Poll::Pending;
            }
            Poll::Ready(Some(Ok(message))) => {
                this.taken += 1;
                this.chunks = message;
                let chunk = this.chunks.pop_front().unwrap_or_default();
                return Poll::Ready(Some(Ok(Frame::data(chunk))));
            }
            Poll::Ready(Some(Err(status))) => status,
            Poll::Ready(None) => Status::ok(""),
        };
        this.ended = true;
        let mut trailers = HeaderMap::with_capacity(2);
        Poll::Ready(Some(match status.add_header(&mut trailers) {
            Ok(()) => Ok(Frame::trailers(trailers)),
            Err(error) => Err(error),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.ended && self.chunks.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use http_body_util::BodyExt as _;

    use super::*;

    fn message(parts: &[&'static str]) -> Chunks {
        parts.iter().map(|part| Bytes::from_static(part.as_bytes())).collect()
    }

    #[tokio::test]
    async fn f01_the_next_message_is_asked_for_when_the_one_before_was_taken_whole() {
        let (outlet, mut body) = outlet();
        assert!(outlet.hungry().now_or_never().is_none(), "nobody has polled the body");
        assert!(body.frame().now_or_never().is_none());
        assert!(outlet.hungry().now_or_never().is_some());
        outlet.write(message(&["a", "b"]));
        for wanted in ["a", "b"] {
            assert!(outlet.hungry().now_or_never().is_none());
            let frame = body.frame().await.expect("a frame").expect("no error");
            assert_eq!(frame.into_data().expect("data"), wanted);
        }
        assert!(outlet.hungry().now_or_never().is_none(), "taken, but no more was asked for");
        assert!(body.frame().now_or_never().is_none());
        assert!(outlet.hungry().now_or_never().is_some());
    }

    #[tokio::test]
    async fn f01_who_asks_twice_is_given_one_message() {
        let (outlet, mut body) = outlet();
        assert!(body.frame().now_or_never().is_none());
        assert!(outlet.hungry().now_or_never().is_some());
        // The transport looks again for reasons of its own.
        assert!(body.frame().now_or_never().is_none());
        outlet.write(message(&["a"]));
        assert!(outlet.hungry().now_or_never().is_none(), "the message is not taken");
        assert_eq!(body.frame().await.expect("a frame").expect("no error").into_data().expect("data"), "a");
        assert!(outlet.hungry().now_or_never().is_none());
        assert!(body.frame().now_or_never().is_none());
        assert!(outlet.hungry().now_or_never().is_some());
    }

    #[tokio::test]
    async fn the_status_comes_behind_the_last_message() {
        let (outlet, mut body) = outlet();
        outlet.write(message(&["a"]));
        outlet.end(Status::unavailable("gone, and so on"));
        assert!(body.frame().await.expect("a frame").expect("no error").is_data());
        let trailers =
            body.frame().await.expect("a frame").expect("no error").into_trailers().expect("trailers");
        assert_eq!(trailers["grpc-status"], "14");
        assert!(body.frame().await.is_none() && body.is_end_stream());
    }

    #[tokio::test]
    async fn c24_a_dropped_outlet_ends_the_response_with_ok() {
        let (outlet, mut body) = outlet();
        drop(outlet);
        let trailers =
            body.frame().await.expect("a frame").expect("no error").into_trailers().expect("trailers");
        assert_eq!(trailers["grpc-status"], "0");
    }
}
