//! The phases of a worker's life.
//!
//! ```text
//! Running ──► Stopping ──► SigningOff ──► Stopped
//!    └────────────┴──► Failed ──► SigningOffAfterFailure ◄── (SigningOff)
//! ```
//!
//! A worker emits one last event: `stopped` or `failed`. After a failure the host still stops the
//! worker, so that other workers get its jobs at once.

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Phase {
    /// It fetches and runs jobs.
    #[default]
    Running,
    /// It fetches no more jobs. Runs continue.
    Stopping,
    /// All runs have ended. It writes the remaining outcomes and gives up its lease.
    SigningOff,
    /// It has signed off.
    Stopped,
    /// It has failed. The host has not stopped it yet.
    Failed,
    /// It has failed, and signs off.
    SigningOffAfterFailure,
}

impl Phase {
    /// Stop fetching. Returns whether there is something to do.
    pub fn begin_stop(&mut self) -> bool {
        match self {
            Self::Running => *self = Self::Stopping,
            // Stopping again is harmless, and the worker may have failed while it was running.
            Self::Failed => {}
            _ => return false,
        }
        true
    }

    /// Sign off. Returns whether there is something to do.
    pub fn sign_off(&mut self) -> bool {
        *self = match self {
            Self::Running | Self::Stopping => Self::SigningOff,
            Self::Failed => Self::SigningOffAfterFailure,
            _ => return false,
        };
        true
    }

    /// The worker has failed. Returns whether this is its last event.
    pub fn fail(&mut self) -> bool {
        *self = match self {
            Self::Running | Self::Stopping => Self::Failed,
            Self::SigningOff => Self::SigningOffAfterFailure,
            _ => return false,
        };
        true
    }

    /// The worker has signed off, or could not. Returns whether this is its last event.
    pub fn end(&mut self) -> bool {
        let is_last = *self == Self::SigningOff;
        if is_last {
            *self = Self::Stopped;
        }
        is_last
    }

    /// Whether the worker has emitted its last event, and the host has asked it to sign off.
    pub fn is_over(self) -> bool {
        matches!(self, Self::SigningOffAfterFailure | Self::Stopped)
    }

    /// Whether the host has asked the worker to sign off.
    pub fn is_signing_off(self) -> bool {
        matches!(self, Self::SigningOff | Self::SigningOffAfterFailure | Self::Stopped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_stops_signs_off_and_ends_once() {
        let mut phase = Phase::default();
        assert!(phase.begin_stop() && !phase.begin_stop());
        assert!(!phase.is_signing_off());
        assert!(phase.sign_off() && !phase.sign_off() && !phase.begin_stop());
        assert!(phase.is_signing_off());
        assert!(phase.end() && !phase.end() && !phase.fail());
        assert_eq!(phase, Phase::Stopped);
    }

    #[test]
    fn a_worker_that_failed_still_signs_off_but_has_emitted_its_last_event() {
        for stop_first in [false, true] {
            let mut phase = Phase::default();
            assert!(!stop_first || phase.begin_stop());
            assert!(phase.fail() && !phase.fail());
            assert!(phase.begin_stop(), "its jobs are still returned to the queue");
            assert!(phase.sign_off() && !phase.sign_off());
            assert!(phase.is_signing_off() && !phase.end());
        }
    }

    #[test]
    fn a_failure_during_the_sign_off_is_the_last_event() {
        let mut phase = Phase::SigningOff;
        assert!(phase.fail() && !phase.end());
        assert!(phase.is_signing_off());
    }
}
