//! What the desk wants done, and what it is told of what is being done.

use super::incomplete::Read;
use super::judge::Finished;
use crate::scripts::deliver::{Settlement, Start};

/// Requests that have not been answered.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct UnderWay {
    /// Outcomes and starts are being written.
    pub outcomes: bool,
    /// Large outcomes are being written.
    pub large: bool,
    /// Requests for jobs.
    pub fetches: usize,
    /// Arguments that are being read apart.
    pub reads: usize,
    /// What this worker was sent already is being read back.
    pub recovery: bool,
}

/// What is to be done now.
#[derive(Debug, Default)]
pub struct Plan {
    /// Outcomes to write.
    pub settle: Vec<Finished>,
    /// Outcomes to write that the server would not take before.
    pub again: Vec<Settlement>,
    /// Large outcomes to write, for which nothing waits.
    pub large: Vec<Finished>,
    /// Large outcomes that the server would not take before.
    pub large_again: Vec<Settlement>,
    /// Starts to record, of jobs that run.
    pub record: Vec<(usize, Start)>,
    /// Starts to record before the jobs run.
    pub vet: Vec<(usize, Start)>,
    /// Jobs to ask for.
    pub fetch: usize,
    /// Arguments to read apart.
    pub read: Vec<Read>,
    /// Read back what this worker was sent already.
    pub recover: bool,
    /// Monotonic time at which there will be something to do, unless something happens before.
    pub next_ms: Option<i64>,
}

impl Plan {
    /// Ask again at that time at the latest.
    pub fn wake_at(&mut self, monotonic_ms: i64) {
        self.next_ms = Some(self.next_ms.map_or(monotonic_ms, |next| next.min(monotonic_ms)));
    }

    /// Is there something small to write?
    pub fn has_outcomes(&self) -> bool {
        !(self.settle.is_empty() && self.again.is_empty() && self.record.is_empty() && self.vet.is_empty())
    }
}
