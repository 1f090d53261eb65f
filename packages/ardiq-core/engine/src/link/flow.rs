//! Watches the traffic on a connection. A large transfer over a slow line takes long, but is
//! healthy. A dead connection is silent.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// Bytes per second of the slowest line that is distinguished from a dead one.
const SLOWEST: u64 = 64 << 10;

/// The most bytes that buffers on the way accept without any sign that they have passed them on.
const HIDDEN: u64 = 8 << 20;

/// How long a transfer of this many bytes may take.
pub fn transfer_time(bytes: u64) -> Duration {
    Duration::from_millis(bytes.saturating_mul(1000) / SLOWEST)
}

/// See the module.
#[derive(Debug)]
pub struct Flow {
    start: Instant,
    /// When something last moved, in milliseconds since `start`.
    moved: AtomicU64,
    /// Bytes written since something was last read.
    unanswered: AtomicU64,
}

impl Flow {
    pub fn new() -> Self {
        Self { start: Instant::now(), moved: AtomicU64::new(0), unanswered: AtomicU64::new(0) }
    }

    /// When something last moved.
    pub fn last(&self) -> Instant {
        self.start + Duration::from_millis(self.moved.load(Ordering::Relaxed))
    }

    /// How much longer than usual a reply may take, because written bytes may still be in buffers
    /// on the way. Their number is the larger of two: the bytes that were written since something
    /// was read, and the bytes of the calls `in_flight`, because what was read may be the reply to
    /// an earlier call.
    pub fn allowance(&self, in_flight: usize) -> Duration {
        let bytes = self.unanswered.load(Ordering::Relaxed).max(in_flight as u64).min(HIDDEN);
        transfer_time(bytes)
    }

    fn moves(&self) {
        let millis = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved.store(millis, Ordering::Relaxed);
    }

    fn has_read(&self) {
        self.unanswered.store(0, Ordering::Relaxed);
        self.moves();
    }

    /// If the system accepts bytes at once, that only shows that its buffer had room. If bytes had
    /// to wait for room, the other side has accepted some.
    fn has_written(&self, bytes: usize, had_to_wait: bool) {
        self.unanswered.fetch_add(bytes as u64, Ordering::Relaxed);
        if had_to_wait {
            self.moves();
        }
    }
}

/// A stream whose traffic a [`Flow`] watches.
pub struct Watched<S> {
    stream: S,
    flow: Arc<Flow>,
    waits: bool,
}

impl<S> Watched<S> {
    pub fn new(stream: S, flow: Arc<Flow>) -> Self {
        Self { stream, flow, waits: false }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.flow.has_read();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        match &polled {
            Poll::Ready(Ok(bytes)) => {
                let had_to_wait = std::mem::take(&mut self.waits);
                self.flow.has_written(*bytes, had_to_wait);
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.waits = true,
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writing_into_a_buffer_is_no_sign_of_life_and_makes_us_patient() {
        let flow = Flow::new();
        let born = flow.last();
        std::thread::sleep(Duration::from_millis(5));
        flow.has_written(SLOWEST as usize, false);
        assert_eq!((flow.last(), flow.allowance(0)), (born, Duration::from_secs(1)));
        flow.has_written(u32::MAX as usize, true);
        assert!(flow.last() > born);
        assert_eq!(flow.allowance(0), Duration::from_secs(HIDDEN / SLOWEST), "no more than buffers can hide");
        flow.has_read();
        assert_eq!(flow.allowance(0), Duration::ZERO);
        assert_eq!(flow.allowance(SLOWEST as usize), Duration::from_secs(1), "the answer was to another call");
    }
}
