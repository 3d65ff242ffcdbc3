//! What went over the wire: counted where it happens, read without locks.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant, SystemTime};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::error::{Ending, cause};

/// Counters of one API server, for the lifetime of its client.
#[derive(Debug)]
pub struct Traffic {
    made: (Instant, SystemTime),
    bytes_in: AtomicU64,
    opened: AtomicU64,
    open: AtomicU64,
    /// Milliseconds from `made` to the last byte of a response, plus one; 0 is never.
    contact: AtomicU64,
}

impl Default for Traffic {
    fn default() -> Self {
        Self {
            made: (Instant::now(), SystemTime::now()),
            bytes_in: AtomicU64::new(0),
            opened: AtomicU64::new(0),
            open: AtomicU64::new(0),
            contact: AtomicU64::new(0),
        }
    }
}

impl Traffic {
    /// Bytes received, after decryption: responses with their framing.
    pub fn bytes_in(&self) -> u64 {
        self.bytes_in.load(Relaxed)
    }

    /// Connections that were ever established, TLS included.
    pub fn connections_opened(&self) -> u64 {
        self.opened.load(Relaxed)
    }

    /// Connections that are open now. One per API server that speaks HTTP/2 (K-43).
    pub fn connections_open(&self) -> u64 {
        self.open.load(Relaxed)
    }

    /// How long ago the last byte of a response arrived. Answers to PINGs do not count: a proxy gives those.
    pub fn since_contact(&self) -> Option<Duration> {
        let contact = Duration::from_millis(self.contact.load(Relaxed).checked_sub(1)?);
        Some(self.made.0.elapsed().saturating_sub(contact))
    }

    /// When the last byte of a response arrived, by the clock this process started with.
    pub fn last_contact(&self) -> Option<SystemTime> {
        let contact = Duration::from_millis(self.contact.load(Relaxed).checked_sub(1)?);
        self.made.1.checked_add(contact)
    }

    pub(super) fn contact(&self) {
        let millis = u64::try_from(self.made.0.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.contact.fetch_max(millis + 1, Relaxed);
    }
}

/// Where a connection's end is written down by whoever learns of it first.
pub(super) type Epitaph = Arc<OnceLock<Ending>>;

/// A connection that counts what it reads and remembers how it ended.
pub(super) struct Counted<T> {
    inner: T,
    traffic: Arc<Traffic>,
    epitaph: Epitaph,
}

impl<T> Counted<T> {
    pub(super) fn new(inner: T, traffic: Arc<Traffic>, epitaph: Epitaph) -> Self {
        traffic.opened.fetch_add(1, Relaxed);
        traffic.open.fetch_add(1, Relaxed);
        Self { inner, traffic, epitaph }
    }

    fn broken(&self, error: &io::Error) {
        // The first cause is the one that counts.
        let _ = self.epitaph.set(Ending::Connection(cause(error)));
    }
}

impl<T> Drop for Counted<T> {
    fn drop(&mut self) {
        self.traffic.open.fetch_sub(1, Relaxed);
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Counted<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (before, room) = (buf.filled().len(), buf.remaining());
        let read = ready!(Pin::new(&mut self.inner).poll_read(cx, buf));
        let received = buf.filled().len() - before;
        match &read {
            Ok(()) if received == 0 && room > 0 => {
                let _ = self.epitaph.set(Ending::Connection("by the server".into()));
            }
            Ok(()) => {
                self.traffic.bytes_in.fetch_add(received as u64, Relaxed);
            }
            Err(error) => self.broken(error),
        }
        Poll::Ready(read)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Counted<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, buf));
        if let Err(error) = &written {
            self.broken(error);
        }
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
