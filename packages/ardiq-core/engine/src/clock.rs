//! Redis time between answers: the last one plus what the monotonic clock says has passed since. Wall clocks decide nothing.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Milliseconds by the monotonic clock since the first call.
pub fn monotonic_ms() -> i64 {
    i64::try_from(START.elapsed().as_millis()).unwrap_or(i64::MAX)
}

/// See the module.
#[derive(Debug, Default)]
pub struct Clock {
    offset: AtomicI64,
    /// A step that has not been read yet.
    step: AtomicI64,
}

/// A change of the Redis time by so much is a step of the server's clock, and no delay of an answer.
const STEP_MS: i64 = 60_000;

impl Clock {
    /// Take note of an answer's time. The answer is as old as its way to us: the later of two estimates is the better one,
    /// but a server that was set back or replaced must be followed too.
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

    /// By how many milliseconds the server's clock was set since the last call, if it was.
    pub fn take_step(&self) -> Option<i64> {
        Some(self.step.swap(0, Ordering::Relaxed)).filter(|step| *step != 0)
    }

    /// The Redis time in epoch milliseconds; 0 before the first answer.
    pub fn now_ms(&self) -> u64 {
        self.at_ms(monotonic_ms())
    }

    /// The Redis time at a time of the monotonic clock.
    pub fn at_ms(&self, monotonic_ms: i64) -> u64 {
        match self.offset.load(Ordering::Relaxed) {
            0 => 0,
            offset => u64::try_from(offset + monotonic_ms).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_the_server_and_not_the_delay_of_answers() {
        let clock = Clock::default();
        assert_eq!(clock.now_ms(), 0);
        clock.observe(1_000_000);
        let first = clock.now_ms();
        assert!((1_000_000..1_000_100).contains(&first));
        clock.observe(999_950);
        assert!(clock.now_ms() >= first, "an answer that was long on its way does not turn the clock back");
        clock.observe(500_000);
        assert!(clock.now_ms() < 600_000, "a server that was set back is followed");
        assert!(clock.take_step().is_some_and(|step| step < -400_000));
        clock.observe(500_500);
        assert_eq!(clock.take_step(), None, "a late answer is no step");
        clock.observe(4_000_000);
        assert!(clock.take_step().is_some_and(|step| step > 3_000_000));
    }
}
