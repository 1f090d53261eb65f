//! Log lines: the worker's host takes all of them while the worker runs.

use super::{EventKind, State};
use crate::logs::{Level, Listener};

impl State {
    /// Log a line about this worker.
    pub fn log(&self, level: Level, message: impl Into<String>) {
        self.shared.logs.push(level, "worker", message.into());
    }
}

impl Listener for State {
    fn lines_arrived(&self) {
        self.emit(EventKind::Log, "");
    }

    fn has_precedence(&self) -> bool {
        // When the worker has signed off, its host takes lines once more.
        !self.phase().is_over()
    }
}
