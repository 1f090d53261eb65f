//! Jobs that were running when a process died, more than once. One of them may be the killer, the others were only beside it.
//!
//! Such jobs run in small groups, so that one more death leaves fewer to suspect, and at last alone. A job is condemned when a
//! process dies while it is the only suspect in it. Suspects that wait do not keep other jobs from being fetched.

use crate::protocol::entry::{ALONE, Header};

use super::job::Job;

/// Deaths of its process after which a job is dead-lettered as poison, if it was the only suspect in the last of them.
pub const POISON_DEATHS: u8 = 3;

/// Deaths after which a job is dead-lettered in any case.
pub const HOPELESS_DEATHS: u8 = 6;

/// A run that has outlived this is cleared: a job that kills its process does so sooner.
pub const CLEARED_AFTER_MS: i64 = 120_000;

/// Suspects that wait in one process, at most. More are put off, for other workers to try.
pub const MOST_WAITING: usize = 64;

/// Rounds in which the suspects of one process should have had their turn.
const ROUNDS: usize = 4;

/// How the start of a run is recorded, for the worker that takes the job over if the process dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// As one among others.
    #[default]
    Plain,
    /// As the only suspect of its process.
    Alone,
    /// It has outlived suspicion.
    Cleared,
}

/// Is this job under suspicion?
pub fn is_suspected(header: &Header) -> bool {
    header.deaths + 1 >= POISON_DEATHS
}

/// Is this job condemned?
pub fn is_poison(header: &Header) -> bool {
    header.deaths >= HOPELESS_DEATHS || header.deaths >= POISON_DEATHS && header.flags & ALONE != 0
}

/// The suspects that wait, in the order of service.
#[derive(Debug, Default)]
pub struct Quarantine(Vec<Job>);

impl Quarantine {
    /// Let a suspect wait; give it back when there are too many.
    pub fn admit(&mut self, job: Job) -> Option<Job> {
        if self.0.len() >= MOST_WAITING {
            return Some(job);
        }
        let place = self.0.partition_point(|other| other.stream <= job.stream);
        self.0.insert(place, job);
        None
    }

    /// The next suspect that may start beside those that run (their headers and modes), if it is served before `stream`.
    pub fn next(&mut self, running: &[(Header, Mode)], stream: Option<usize>) -> Option<(Job, Mode)> {
        let position = self.0.iter().position(|job| job.stream <= stream.unwrap_or(usize::MAX))?;
        let last_proof = |header: &Header| header.deaths >= POISON_DEATHS;
        let group = (self.0.len() + running.len()).div_ceil(ROUNDS).max(1);
        let position = if running.is_empty() {
            position
        } else if running.len() < group
            && running.iter().all(|(header, mode)| *mode == Mode::Plain && !last_proof(header))
        {
            self.0.iter().position(|job| job.stream <= stream.unwrap_or(usize::MAX) && !last_proof(&job.header))?
        } else {
            return None;
        };
        let job = self.0.remove(position);
        let alone = running.is_empty() && (group == 1 || last_proof(&job.header));
        Some((job, if alone { Mode::Alone } else { Mode::Plain }))
    }

    /// Does none wait?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Does one of them match?
    pub fn any(&self, matches: impl FnMut(&Job) -> bool) -> bool {
        self.0.iter().any(matches)
    }

    /// Empty it.
    pub fn take(&mut self) -> Vec<Job> {
        std::mem::take(&mut self.0)
    }
}
