//! Jobs that were running when a process died, more than once. One of them may have killed the
//! process, while the others only ran at the same time.
//!
//! Such jobs run in small groups, so that each further death leaves fewer suspects. In the end they
//! run alone. A job is condemned when a process dies while it is the only suspect there. Waiting
//! suspects do not keep other jobs from being fetched.

use crate::protocol::entry::{ALONE, Header};
use crate::protocol::state::StartMode;

use super::job::Job;

/// A job is dead-lettered as poison after this many deaths, if it was the only suspect in the last
/// one.
pub const POISON_DEATHS: u8 = 3;

/// A job is always dead-lettered after this many deaths.
pub const HOPELESS_DEATHS: u8 = 6;

/// A run that lasts longer than this is cleared: a job that kills its process does so sooner.
pub const CLEARED_AFTER_MS: i64 = 120_000;

/// The most suspects that wait in one process. Any more are delayed, so that other workers can try
/// them.
pub const MOST_WAITING: usize = 64;

/// All suspects of one process should run within this many rounds.
const ROUNDS: usize = 4;

/// Whether this job is a suspect.
pub fn is_suspected(header: &Header) -> bool {
    header.deaths >= POISON_DEATHS - 1
}

/// Whether this job is condemned.
pub fn is_poison(header: &Header) -> bool {
    header.deaths >= HOPELESS_DEATHS || header.deaths >= POISON_DEATHS && header.flags & ALONE != 0
}

/// The waiting suspects, in the order in which they are served.
#[derive(Debug, Default)]
pub struct Quarantine(Vec<Job>);

impl Quarantine {
    /// Add a waiting suspect. Returns it if there are too many.
    pub fn admit(&mut self, job: Job) -> Option<Job> {
        if self.0.len() >= MOST_WAITING {
            return Some(job);
        }
        let position = self.0.partition_point(|other| other.stream <= job.stream);
        self.0.insert(position, job);
        None
    }

    /// The next suspect that may start beside the running jobs (their headers and modes), if it is
    /// served before `stream`.
    pub fn next(&mut self, running: &[(Header, StartMode)], stream: Option<usize>) -> Option<(Job, StartMode)> {
        let position = self.0.iter().position(|job| job.stream <= stream.unwrap_or(usize::MAX))?;
        let last_proof = |header: &Header| header.deaths >= POISON_DEATHS;
        let group = (self.0.len() + running.len()).div_ceil(ROUNDS).max(1);
        let position = if running.is_empty() {
            position
        } else if running.len() < group
            && running.iter().all(|(header, mode)| *mode == StartMode::Plain && !last_proof(header))
        {
            self.0.iter().position(|job| job.stream <= stream.unwrap_or(usize::MAX) && !last_proof(&job.header))?
        } else {
            return None;
        };
        let job = self.0.remove(position);
        let alone = running.is_empty() && (group == 1 || last_proof(&job.header));
        Some((job, if alone { StartMode::Alone } else { StartMode::Plain }))
    }

    /// Whether no suspect waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many suspects wait.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether one of them matches.
    pub fn any(&self, matches: impl FnMut(&Job) -> bool) -> bool {
        self.0.iter().any(matches)
    }

    /// Remove and return those that match.
    pub fn remove(&mut self, matches: impl Fn(&Job) -> bool) -> Vec<Job> {
        self.0.extract_if(.., |job| matches(job)).collect()
    }

    /// The waiting suspects.
    pub fn iter(&self) -> impl Iterator<Item = &Job> {
        self.0.iter()
    }

    /// Remove and return all.
    pub fn take(&mut self) -> Vec<Job> {
        std::mem::take(&mut self.0)
    }
}
