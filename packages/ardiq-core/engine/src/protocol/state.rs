//! The states of a job, the lists of jobs that a queue can return, and how a start is recorded.

use std::str::FromStr;

/// The state of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum JobState {
    /// In a lane. A worker may already hold it.
    Queued,
    /// In the due set.
    Scheduled,
    /// A worker has recorded its start.
    Running,
    /// It has ended, and its result is stored.
    Complete,
    /// There is no such job, or its result is not stored.
    #[default]
    NotFound,
}

impl JobState {
    /// All states.
    pub const ALL: [Self; 5] = [Self::Queued, Self::Scheduled, Self::Running, Self::Complete, Self::NotFound];

    /// The name of the state, for the host and for scripts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Scheduled => "scheduled",
            Self::Running => "running",
            Self::Complete => "complete",
            Self::NotFound => "not_found",
        }
    }
}

/// A list of jobs that a queue can return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listing {
    /// The jobs in one state: queued, scheduled or running.
    In(JobState),
    /// The dead letters.
    Dead,
}

impl Listing {
    /// Its name, for the host and for scripts.
    pub fn name(self) -> &'static str {
        match self {
            Self::In(state) => state.name(),
            Self::Dead => "dead",
        }
    }
}

impl FromStr for Listing {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        [Self::In(JobState::Queued), Self::In(JobState::Scheduled), Self::In(JobState::Running), Self::Dead]
            .into_iter()
            .find(|listing| listing.name() == name)
            .ok_or_else(|| format!("no state {name:?}; ask for queued, scheduled, running or dead"))
    }
}

/// How the start of a run is recorded, for the worker that takes over the job if the process dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StartMode {
    /// As one of several.
    #[default]
    Plain,
    /// As the only suspect of its process.
    Alone,
    /// It has been cleared of suspicion.
    Cleared,
}

impl StartMode {
    /// What follows the number of the try in the recorded start.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Alone => " a",
            Self::Cleared => " c",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unfinished_and_dead_jobs_can_be_listed() {
        assert_eq!("running".parse(), Ok(Listing::In(JobState::Running)));
        assert_eq!("dead".parse(), Ok(Listing::Dead));
        for name in ["complete", "not_found", "Queued", ""] {
            assert!(name.parse::<Listing>().is_err_and(|error| error.contains("ask for queued")), "{name}");
        }
    }
}
