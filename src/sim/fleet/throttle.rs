//! A connection that is read at a bounded rate.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// Time between two portions.
const PERIOD: Duration = Duration::from_millis(50);

/// Reads at most `portion` bytes per period from `inner`; writes as it is.
pub(super) struct Throttled<T> {
    inner: T,
    portion: usize,
    left: usize,
    refill: Pin<Box<Sleep>>,
}

impl<T> Throttled<T> {
    /// At most `rate` bytes per second, and at least 20.
    pub(super) fn new(inner: T, rate: u32) -> Self {
        let portion = (f64::from(rate) * PERIOD.as_secs_f64()) as usize;
        Self { inner, portion: portion.max(1), left: 0, refill: Box::pin(sleep_until(Instant::now())) }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Throttled<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left == 0 {
            ready!(self.refill.as_mut().poll(cx));
            self.left = self.portion;
            self.refill.as_mut().reset(Instant::now() + PERIOD);
        }
        let most = self.left.min(buf.remaining());
        let space = &mut buf.initialize_unfilled()[..most];
        let mut part = ReadBuf::new(space);
        ready!(Pin::new(&mut self.inner).poll_read(cx, &mut part))?;
        let read = part.filled().len();
        buf.advance(read);
        self.left -= read;
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Throttled<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn bytes_come_at_the_rate() {
        let start = Instant::now();
        let mut read = Vec::new();
        Throttled::new(&[7_u8; 2000][..], 1000).read_to_end(&mut read).await.unwrap();
        assert_eq!(read, [7; 2000]);
        let took = start.elapsed();
        assert!((1900..2100).contains(&took.as_millis()), "{took:?}");
    }
}
