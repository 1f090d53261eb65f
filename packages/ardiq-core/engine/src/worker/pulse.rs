//! When the server should receive this worker's next call. If it receives the call much later, it
//! was away in between: see `lua/leases.lua`.

use std::sync::Mutex;
use std::time::Duration;

use crate::lock::lock;

/// A worker that had to wait this long for the server's first reply cannot know how long the server
/// was away.
const PROMPT: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy)]
enum Last {
    /// No call yet.
    None {
        /// How long the server has been up, if it says so and replied promptly.
        uptime_ms: Option<i64>,
    },
    /// The server received a call at this server time. The call was sent at that time of
    /// [`awake_ms`](crate::clock::awake_ms).
    Seen { server_ms: i64, sent_ms: i64 },
}

/// See the module.
#[derive(Debug)]
pub struct Pulse {
    last: Mutex<Last>,
    /// When the first failed call since the last success was sent.
    failed: Mutex<Option<i64>>,
}

impl Default for Pulse {
    fn default() -> Self {
        Self { last: Mutex::new(Last::None { uptime_ms: None }), failed: Mutex::default() }
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
        // A call that repeats a refused one arrives late, as if the server had been away.
        let sent_ms = lock(&self.failed).unwrap_or(sent_ms);
        match *lock(&self.last) {
            Last::None { uptime_ms } => uptime_ms.map_or(0, |uptime| -uptime.max(1)),
            Last::Seen { server_ms, sent_ms: before } => server_ms.saturating_add(sent_ms - before),
        }
    }

    /// The server received at `server_ms` the call that was sent at `sent_ms`.
    pub fn seen(&self, server_ms: u64, sent_ms: i64) {
        *lock(&self.failed) = None;
        self.set(Last::Seen { server_ms: i64::try_from(server_ms).unwrap_or(i64::MAX), sent_ms });
    }

    /// A call that was sent at `sent_ms` failed.
    pub fn failed(&self, sent_ms: i64) {
        lock(&self.failed).get_or_insert(sent_ms);
    }

    /// Whether the last call failed.
    pub fn has_failed(&self) -> bool {
        lock(&self.failed).is_some()
    }

    fn set(&self, last: Last) {
        *lock(&self.last) = last;
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
    fn refused_calls_make_the_next_one_late() {
        let pulse = Pulse::default();
        pulse.seen(1_000_000, 50);
        pulse.failed(150);
        pulse.failed(250);
        assert!(pulse.has_failed());
        assert_eq!(pulse.expected(5_050), 1_000_100, "since the first of them");
        pulse.seen(1_005_000, 5_050);
        assert!(!pulse.has_failed());
        assert_eq!(pulse.expected(5_150), 1_005_100);
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
