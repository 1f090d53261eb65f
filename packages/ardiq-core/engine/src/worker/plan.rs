//! What the desk asks for, and what is in flight.

use super::incomplete::Read;
use super::judge::Finished;
use crate::scripts::deliver::{Settlement, Start};

/// Requests that have not been answered.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct InFlight {
    /// Outcomes and starts are being written.
    pub outcomes: bool,
    /// Large outcomes are being written.
    pub large: bool,
    /// Requests for jobs.
    pub fetches: usize,
    /// Reads of arguments that are stored separately.
    pub reads: usize,
    /// The worker reads back its deliveries.
    pub recovery: bool,
}

/// What to do now.
#[derive(Debug, Default)]
pub struct Plan {
    /// Outcomes to write.
    pub settle: Vec<Finished>,
    /// Outcomes to write that the server refused before.
    pub again: Vec<Settlement>,
    /// Large outcomes to write. Nothing else waits for them.
    pub large: Vec<Finished>,
    /// Large outcomes to write that the server refused before.
    pub large_again: Vec<Settlement>,
    /// Starts to record, of jobs that run.
    pub record: Vec<(usize, Start)>,
    /// Starts to record before the jobs run.
    pub vet: Vec<(usize, Start)>,
    /// How many jobs to ask for.
    pub fetch: usize,
    /// Arguments to read that are stored separately.
    pub read: Vec<Read>,
    /// Whether to read back this worker's deliveries.
    pub recover: bool,
    /// Monotonic time of the next thing to do, unless something happens earlier.
    pub next_ms: Option<i64>,
}

impl Plan {
    /// Plan again by that time.
    pub fn wake_at(&mut self, monotonic_ms: i64) {
        self.next_ms = Some(self.next_ms.map_or(monotonic_ms, |next| next.min(monotonic_ms)));
    }

    /// Whether there is something small to write.
    pub fn has_outcomes(&self) -> bool {
        !(self.settle.is_empty() && self.again.is_empty() && self.record.is_empty() && self.vet.is_empty())
    }
}
