//! How many jobs a worker holds in addition to those that run: as many as are likely to start soon.
//! An idle process cannot run a job that waits in a busy one.

/// Jobs that are buffered should start within about this time.
const HORIZON_MS: f64 = 100.0;

/// A job that has waited this long for a free slot is returned to the queue, unless slots become
/// free quickly enough.
pub const PATIENCE_MS: i64 = 300;

/// A job that has waited this long although a slot is free is returned too: the host's event loop
/// is blocked.
pub const HOST_PATIENCE_MS: i64 = 1000;

/// Weight of the newest run in the average.
const WEIGHT: f64 = 0.125;

/// The observed pace at which runs end.
#[derive(Debug, Default)]
pub struct Pace {
    /// Runs that ended within about the last horizon. Each counts as 1 and decays exponentially.
    recent: f64,
    observed_ms: i64,
    /// Moving average of how long a run lasts, in milliseconds.
    length_ms: f64,
}

impl Pace {
    /// A run has ended after `length_ms`.
    pub fn ended(&mut self, now_ms: i64, length_ms: i64) {
        self.recent = self.recent_at(now_ms) + 1.0;
        self.observed_ms = now_ms;
        self.length_ms += (length_ms as f64 - self.length_ms) * WEIGHT;
    }

    /// How many jobs are likely to start within the horizon if `slots` jobs run at the same time.
    ///
    /// Both estimates are needed. Runs that started together end together, which says nothing about
    /// the next ones. And one long run beside many short ones says nothing about the slot that the
    /// short ones use.
    pub fn ahead(&self, now_ms: i64, slots: usize) -> usize {
        let by_rate = self.recent_at(now_ms) - 0.5;
        let by_length = slots as f64 * HORIZON_MS / self.length_ms.max(1.0);
        by_rate.min(by_length).max(0.0) as usize
    }

    fn recent_at(&self, now_ms: i64) -> f64 {
        match now_ms - self.observed_ms {
            ..=0 => self.recent,
            passed => self.recent * (-(passed as f64) / HORIZON_MS).exp(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs end every `gap_ms`, `together` of them at a time. Returns how many jobs are buffered
    /// right after the last run.
    fn after(runs: i64, gap_ms: i64, together: i64, length_ms: i64) -> usize {
        let mut pace = Pace::default();
        for run in 0..runs {
            pace.ended(run / together * gap_ms, length_ms);
        }
        pace.ahead((runs - 1) / together * gap_ms, 16)
    }

    #[test]
    fn nothing_is_held_ahead_before_anything_is_known() {
        assert_eq!(Pace::default().ahead(1_000, 16), 0);
    }

    #[test]
    fn short_runs_are_held_ahead_and_long_ones_are_not() {
        assert!(after(100, 0, 1, 0) >= 16, "the first batch is enough");
        assert!(after(1_000, 1, 16, 1) >= 500);
        assert_eq!(after(40, 313, 1, 5_000), 0, "16 slots, 5 s each, one after another");
        assert_eq!(after(64, 5_000, 16, 5_000), 0, "16 slots, 5 s each, all at once");
        assert!((1..=12).contains(&after(200, 9, 1, 150)), "150 ms each: some");
    }

    #[test]
    fn a_slot_with_short_runs_beside_long_ones_is_served() {
        let mut pace = Pace::default();
        for now in 0..2_000 {
            pace.ended(now, 1);
            if now % 500 == 0 {
                pace.ended(now, 8_000);
            }
        }
        assert!(pace.ahead(2_000, 16) >= 5);
    }

    #[test]
    fn a_pause_is_noticed_within_a_few_horizons() {
        let mut pace = Pace::default();
        (0..1_000).for_each(|run| pace.ended(run / 16, 1));
        assert!(pace.ahead(70, 16) >= 16);
        assert_eq!(pace.ahead(1_000, 16), 0);
    }
}
