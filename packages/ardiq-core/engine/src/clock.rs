//! The Redis time between replies: that of the last reply, plus the time that has passed since by
//! the monotonic clock. No decision depends on a wall clock.

use std::time::Instant;

use rustix::time::{ClockId, clock_gettime};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicI64, Ordering};

/// A clock that goes on while the machine is suspended. `std::time::Instant` stops meanwhile, so a
/// lease that has expired would look valid.
const CLOCK: ClockId =
    if cfg!(any(target_os = "linux", target_os = "android")) { ClockId::Boottime } else { ClockId::Monotonic };

static START: LazyLock<i64> = LazyLock::new(uptime_ms);
static AWAKE_SINCE: LazyLock<Instant> = LazyLock::new(Instant::now);

fn uptime_ms() -> i64 {
    let now = clock_gettime(CLOCK);
    now.tv_sec.saturating_mul(1000).saturating_add(now.tv_nsec / 1_000_000)
}

/// Milliseconds since the first call, without the time that the machine was suspended. If the
/// server was suspended too, it does not count as unavailable.
pub fn awake_ms() -> i64 {
    i64::try_from(AWAKE_SINCE.elapsed().as_millis()).unwrap_or(i64::MAX)
}

/// Milliseconds since the first call, by the monotonic clock. The time that the machine was
/// suspended counts.
pub fn monotonic_ms() -> i64 {
    let start = *START;
    uptime_ms() - start
}

/// See the module.
#[derive(Debug, Default)]
pub struct Clock {
    offset: AtomicI64,
    /// The last step of the server's clock, until it is taken.
    step: AtomicI64,
}

/// A change of the Redis time by at least this much is a step of the server's clock. A smaller one
/// may be a delayed reply.
const STEP_MS: i64 = 60_000;

impl Clock {
    /// Record the time in a reply. Each reply was delayed on its way, so the later of two estimates
    /// is the better one. But if the server's clock was set back, or the server was replaced, the
    /// new time counts.
    pub fn observe(&self, redis_ms: u64) {
        let offset = i64::try_from(redis_ms).unwrap_or(i64::MAX) - monotonic_ms();
        let known = self.offset.load(Ordering::Relaxed);
        if offset > known || known - offset > 100 {
            self.offset.store(offset, Ordering::Relaxed);
            if known != 0 && (offset - known).abs() >= STEP_MS {
                self.step.store(offset - known, Ordering::Relaxed);
            }
        }
    }

    /// The step of the server's clock in milliseconds since the last call of this function, if
    /// there was one.
    pub fn take_step(&self) -> Option<i64> {
        Some(self.step.swap(0, Ordering::Relaxed)).filter(|step| *step != 0)
    }

    /// The Redis time in epoch milliseconds; 0 before the first reply.
    pub fn now_ms(&self) -> u64 {
        self.at_ms(monotonic_ms())
    }

    /// The Redis time at a time of the monotonic clock.
    pub fn at_ms(&self, monotonic_ms: i64) -> u64 {
        match self.offset.load(Ordering::Relaxed) {
            0 => 0,
            offset => u64::try_from(offset.saturating_add(monotonic_ms)).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_the_server_and_not_the_delay_of_replies() {
        let clock = Clock::default();
        assert_eq!(clock.now_ms(), 0);
        clock.observe(1_000_000);
        let first = clock.now_ms();
        assert!((1_000_000..1_000_100).contains(&first));
        clock.observe(999_950);
        assert!(clock.now_ms() >= first, "a delayed reply does not turn the clock back");
        clock.observe(500_000);
        assert!(clock.now_ms() < 600_000, "the clock follows a server that was set back");
        assert!(clock.take_step().is_some_and(|step| step < -400_000));
        clock.observe(500_500);
        assert_eq!(clock.take_step(), None, "a delayed reply is no step");
        clock.observe(4_000_000);
        assert!(clock.take_step().is_some_and(|step| step > 3_000_000));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_time_that_the_machine_was_suspended_counts() {
        // The kernel counts it in /proc/uptime, too.
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
        let seconds: f64 = uptime.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or_default();
        let difference = uptime_ms() as f64 - seconds * 1000.0;
        assert!(difference.abs() < 1000.0, "{difference} ms");
    }
}
