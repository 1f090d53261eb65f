//! The events that a worker reports to its host.

/// The kinds of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// There are new log lines.
    Log,
    /// Burst mode: no job is waiting, running or scheduled.
    Drained,
    /// Runs are to be aborted: see [`super::Worker::take_aborts`].
    Abort,
    /// The lease was lost. The detail is the old id.
    Lost,
    /// The worker is signing off, and a large outcome is still being sent.
    Settling,
    /// The worker has stopped. The detail says why it could not sign off, and is empty if it could.
    Stopped,
    /// The worker has failed. The detail says why.
    Failed,
}

impl EventKind {
    /// The name of the kind, for the host.
    pub fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Drained => "drained",
            Self::Abort => "abort",
            Self::Lost => "lost",
            Self::Settling => "settling",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
        }
    }
}

/// An event for the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// Text for people.
    pub detail: String,
}
