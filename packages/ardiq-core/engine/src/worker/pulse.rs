//! When the server should see this worker's next call. If it sees it much later, it was away meanwhile: see `lua/leases.lua`.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A worker that had to wait this long for the server's first answer cannot know for how long the server was away.
const PROMPT: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy)]
enum Last {
    /// No call yet.
    None {
        /// How long the server has been up, when it says so and answered promptly.
        uptime_ms: Option<i64>,
    },
    /// The server saw a call at this time of its own, which was sent at that monotonic time.
    Seen { server_ms: i64, sent_ms: i64 },
}

/// See the module.
#[derive(Debug)]
pub struct Pulse(Mutex<Last>);

impl Default for Pulse {
    fn default() -> Self {
        Self(Mutex::new(Last::None { uptime_ms: None }))
    }
}

impl Pulse {
    /// Record the server's uptime, and how long the reply took.
    pub fn introduce(&self, uptime: Option<Duration>, waited: Duration) {
        let uptime_ms = uptime.filter(|_| waited < PROMPT).and_then(|uptime| i64::try_from(uptime.as_millis()).ok());
        self.set(Last::None { uptime_ms });
    }

    /// The expected arrival time to send with a call made now.
    pub fn expected(&self, sent_ms: i64) -> i64 {
        match *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Last::None { uptime_ms } => uptime_ms.map_or(0, |uptime| -uptime.max(1)),
            Last::Seen { server_ms, sent_ms: before } => server_ms + (sent_ms - before),
        }
    }

    /// A call that was sent at `sent_ms` was seen by the server at `server_ms`.
    pub fn seen(&self, server_ms: u64, sent_ms: i64) {
        self.set(Last::Seen { server_ms: i64::try_from(server_ms).unwrap_or(i64::MAX), sent_ms });
    }

    fn set(&self, last: Last) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = last;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_expected_as_long_after_the_last_one_as_it_is_sent() {
        let pulse = Pulse::default();
        assert_eq!(pulse.expected(7), 0, "nothing is known");
        pulse.seen(1_000_000, 50);
        assert_eq!(pulse.expected(350), 1_000_300);
    }

    #[test]
    fn a_worker_that_starts_trusts_the_uptime_of_a_server_that_answers_promptly() {
        let pulse = Pulse::default();
        pulse.introduce(Some(Duration::from_secs(9)), Duration::from_millis(20));
        assert_eq!(pulse.expected(0), -9_000);
        pulse.introduce(Some(Duration::ZERO), Duration::ZERO);
        assert_eq!(pulse.expected(0), -1);
        pulse.introduce(Some(Duration::from_secs(9)), Duration::from_secs(3));
        assert_eq!(pulse.expected(0), 0);
        pulse.introduce(None, Duration::ZERO);
        assert_eq!(pulse.expected(0), 0);
    }
}
