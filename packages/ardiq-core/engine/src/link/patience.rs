//! How long a caller retries, and how long it pauses between tries.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use tokio::time::Instant;

use super::RESPONSE_LIMIT;
use super::flow::transfer_time;

/// Until when a call is retried.
#[derive(Debug, Clone, Copy)]
pub enum Patience {
    /// Until this time.
    Until(Instant),
    /// Until this time, and after it for as long as the call is being transferred to a server that
    /// answers.
    WhileMoving(Instant),
    /// As long as the engine exists.
    Endless,
}

impl Patience {
    /// For `limit` from now on.
    pub fn within(limit: Duration) -> Self {
        Self::Until(Instant::now() + limit)
    }

    /// For `limit` from now on, and longer for a transfer that has begun by then: a slow line is
    /// not an unreachable server.
    pub fn for_upload(limit: Duration) -> Self {
        Self::WhileMoving(Instant::now() + limit)
    }

    /// For the next step of a call, whose first step may have outlasted this.
    pub fn for_next_step(self) -> Self {
        match self {
            Self::WhileMoving(end) => Self::WhileMoving(end.max(Instant::now() + RESPONSE_LIMIT)),
            other => other,
        }
    }

    /// Long enough to also transfer this many bytes over a slow connection.
    pub fn for_transfer(self, bytes: usize) -> Self {
        match self {
            Self::Until(end) => Self::Until(end.max(Instant::now() + RESPONSE_LIMIT + transfer_time(bytes as u64))),
            other => other,
        }
    }

    /// `step` from now, or the end if that comes first.
    pub(super) fn limit(self, step: Duration) -> Instant {
        self.cap(Instant::now() + step)
    }

    /// `at`, or the end if that comes first.
    pub(super) fn cap(self, at: Instant) -> Instant {
        match self {
            Self::Until(end) | Self::WhileMoving(end) => end.min(at),
            Self::Endless => at,
        }
    }

    pub(crate) fn is_over(self) -> bool {
        matches!(self, Self::Until(end) | Self::WhileMoving(end) if Instant::now() >= end)
    }
}

/// Short, growing, jittered pauses between tries.
pub fn backoff() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(20))
        .with_max_delay(Duration::from_millis(1000))
        .with_factor(2.0)
        .with_jitter()
        .without_max_times()
        .build()
}
