//! A bounded queue of log lines for the application's logging, so that logging never blocks the I/O
//! thread.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, Weak};

use crate::lock::lock;
use crate::printable::printable;

/// Levels, with the numbers of Python's `logging`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Details for debugging.
    Debug = 10,
    /// Normal operation.
    Info = 20,
    /// A problem that may need attention.
    Warning = 30,
    /// A failure.
    Error = 40,
}

/// The job that a line is about, for machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// Job id.
    pub job_id: String,
    /// Task name.
    pub task: String,
    /// Starts so far.
    pub tries: u64,
    /// What became of it.
    pub outcome: &'static str,
}

/// A log line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The level.
    pub level: Level,
    /// The logger's name below `ardiq.`.
    pub logger: &'static str,
    /// The text. It never contains arguments, results or credentials.
    pub message: String,
    /// The job that it is about, if it is about one.
    pub subject: Option<Subject>,
}

/// The most lines that are kept until they are taken.
const KEPT: usize = 1000;

#[derive(Default)]
struct Queue {
    lines: VecDeque<Line>,
    dropped: u64,
}

/// Takes log lines to the application's logging.
pub trait Listener: Send + Sync {
    /// There are lines to take. Called from any thread, and must not block.
    fn lines_arrived(&self);

    /// Whether no other listener is notified as well. A worker logs more facts about its jobs.
    fn has_precedence(&self) -> bool {
        false
    }
}

/// See the module.
#[derive(Default)]
pub struct Logs {
    queue: Mutex<Queue>,
    listeners: Mutex<Vec<Weak<dyn Listener>>>,
}

impl Logs {
    /// Notify `listener` of new lines, and of those that no listener has taken yet.
    pub fn listen(&self, listener: &Arc<impl Listener + 'static>) {
        let listener: Weak<dyn Listener> = Arc::downgrade(listener) as _;
        let mut listeners = lock(&self.listeners);
        if listeners.len() == listeners.capacity() {
            listeners.retain(|one| one.strong_count() > 0);
        }
        listeners.push(Weak::clone(&listener));
        drop(listeners);
        if !lock(&self.queue).lines.is_empty()
            && let Some(listener) = listener.upgrade()
        {
            listener.lines_arrived();
        }
    }

    /// Add a line, and make it printable. If the queue is full, the oldest line is dropped and
    /// counted.
    pub fn push(&self, level: Level, logger: &'static str, message: String) {
        self.push_about(level, logger, message, None);
    }

    /// As [`Logs::push`], with the job that the line is about, whose names are made printable too.
    pub fn push_about(&self, level: Level, logger: &'static str, message: String, subject: Option<Subject>) {
        let subject = subject.map(|subject| Subject {
            job_id: printable(&subject.job_id).into_owned(),
            task: printable(&subject.task).into_owned(),
            ..subject
        });
        let message = printable(&message).into_owned();
        let mut queue = lock(&self.queue);
        if queue.lines.len() == KEPT {
            queue.lines.pop_front();
            queue.dropped += 1;
        }
        queue.lines.push_back(Line { level, logger, message, subject });
        drop(queue);
        let listeners: Vec<_> = lock(&self.listeners).iter().filter_map(Weak::upgrade).collect();
        match listeners.iter().find(|listener| listener.has_precedence()) {
            Some(first) => first.lines_arrived(),
            None => listeners.iter().for_each(|listener| listener.lines_arrived()),
        }
    }

    /// Take all lines.
    pub fn take(&self) -> Vec<Line> {
        let mut queue = lock(&self.queue);
        let mut lines: Vec<Line> = queue.lines.drain(..).collect();
        if queue.dropped > 0 {
            let message = format!("older log lines dropped: {}", queue.dropped);
            lines.push(Line { level: Level::Warning, logger: "engine", message, subject: None });
            queue.dropped = 0;
        }
        lines
    }
}

/// Limits how often a repeated message is logged.
#[derive(Default)]
pub struct LogThrottle(Mutex<Option<i64>>);

/// The shortest time between two lines with the same message.
const REPEAT_MS: i64 = 30_000;

impl LogThrottle {
    /// Whether the message may be logged now. If so, the caller must log it.
    pub fn is_due(&self, monotonic_ms: i64) -> bool {
        let mut last = lock(&self.0);
        let due = last.is_none_or(|last| monotonic_ms - last >= REPEAT_MS);
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
        let forged = || "a\nforged".to_owned();
        let subject = Subject { job_id: forged(), task: forged(), tries: 1, outcome: "dead" };
        logs.push_about(Level::Info, "worker", String::new(), Some(subject));
        let lines = logs.take();
        assert_eq!(lines[0].message, "job a\\n12:00:00 INFO forged\\x1b[2J");
        let subject = lines[1].subject.as_ref().map(|subject| (subject.job_id.as_str(), subject.task.as_str()));
        assert_eq!(subject, Some(("a\\nforged", "a\\nforged")));
    }

    #[test]
    fn a_repeated_message_is_logged_once_per_period() {
        let throttle = LogThrottle::default();
        let logged = [0, 1, REPEAT_MS - 1, REPEAT_MS, REPEAT_MS + 1].map(|now| throttle.is_due(now));
        assert_eq!(logged, [true, false, false, true, false]);
    }

    #[test]
    fn a_full_queue_drops_the_oldest_lines_and_logs_that() {
        let logs = Logs::default();
        for number in 0..KEPT + 5 {
            logs.push(Level::Info, "engine", number.to_string());
        }
        let lines = logs.take();
        assert_eq!(lines.len(), KEPT + 1);
        assert_eq!(lines[0].message, "5");
        assert!(lines[KEPT].message.ends_with("dropped: 5"));
        assert!(logs.take().is_empty());
    }
}
