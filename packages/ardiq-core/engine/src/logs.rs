//! Log lines on their way to the application's logging: a bounded queue, so that nobody ever waits to log.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use crate::printable::printable;

/// Levels, as Python's `logging` numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For those who look for a fault.
    Debug = 10,
    /// Something that is worth knowing.
    Info = 20,
    /// Something that may need attention.
    Warning = 30,
    /// Something that failed.
    Error = 40,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its level.
    pub level: Level,
    /// The logger's name below `ardiq.`.
    pub logger: &'static str,
    /// The text; never arguments, results or credentials.
    pub message: String,
}

/// Lines that are kept when nobody takes them.
const KEPT: usize = 1000;

#[derive(Default)]
struct Queue {
    lines: VecDeque<Line>,
    dropped: u64,
}

/// See the module.
#[derive(Default)]
pub struct Logs(Mutex<Queue>);

impl Logs {
    /// Add a line, made printable; the oldest goes when the queue is full, and is counted.
    pub fn push(&self, level: Level, logger: &'static str, message: String) {
        let message = printable(&message).into_owned();
        let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.lines.len() == KEPT {
            queue.lines.pop_front();
            queue.dropped += 1;
        }
        queue.lines.push_back(Line { level, logger, message });
    }

    /// Take all lines.
    pub fn take(&self) -> Vec<Line> {
        let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lines: Vec<Line> = queue.lines.drain(..).collect();
        if queue.dropped > 0 {
            let message = format!("{} older log lines were dropped", queue.dropped);
            lines.push(Line { level: Level::Warning, logger: "engine", message });
            queue.dropped = 0;
        }
        lines
    }
}

/// Lets a line that would repeat through once in a while.
#[derive(Default)]
pub struct Seldom(Mutex<Option<i64>>);

/// Pause between two lines that say the same.
const SELDOM_MS: i64 = 30_000;

impl Seldom {
    /// May it be said now? Asking counts as saying.
    pub fn is_due(&self, monotonic_ms: i64) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|last| monotonic_ms - last >= SELDOM_MS);
        if due {
            *last = Some(monotonic_ms);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_can_forge_another() {
        let logs = Logs::default();
        logs.push(Level::Info, "worker", "job a\n12:00:00 INFO forged\x1b[2J".to_owned());
        assert_eq!(logs.take()[0].message, "job a\\n12:00:00 INFO forged\\x1b[2J");
    }

    #[test]
    fn a_line_that_repeats_is_let_through_once_in_a_while() {
        let seldom = Seldom::default();
        let said = [0, 1, SELDOM_MS - 1, SELDOM_MS, SELDOM_MS + 1].map(|now| seldom.is_due(now));
        assert_eq!(said, [true, false, false, true, false]);
    }

    #[test]
    fn a_full_queue_drops_the_oldest_and_says_so() {
        let logs = Logs::default();
        for number in 0..KEPT + 5 {
            logs.push(Level::Info, "engine", number.to_string());
        }
        let lines = logs.take();
        assert_eq!(lines.len(), KEPT + 1);
        assert_eq!(lines[0].message, "5");
        assert!(lines[KEPT].message.starts_with("5 older"));
        assert!(logs.take().is_empty());
    }
}
