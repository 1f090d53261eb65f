//! Since when the server has been unreachable, for log messages.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::lock::lock;

/// A server that does not answer.
#[derive(Debug, Clone)]
pub struct Trouble {
    /// When it began.
    pub since: Instant,
    /// The last error.
    pub reason: String,
    /// Whether the server answers, but refuses to write. Only a write then shows that it is over.
    pub refuses_writes: bool,
}

/// An error this old does not explain a new connection.
const RECENT: Duration = Duration::from_secs(60);

/// The error codes of a server that answers but refuses to write.
const REFUSES_WRITES: [&str; 3] = ["READONLY", "MISCONF", "NOREPLICAS"];

/// See the module.
#[derive(Default)]
pub struct Outage {
    is_on: AtomicBool,
    trouble: watch::Sender<Option<Trouble>>,
    /// The last error of the last outage, however short.
    last: Mutex<Option<(Instant, String)>>,
}

impl Outage {
    /// The current outage, and every change.
    pub fn watch(&self) -> watch::Receiver<Option<Trouble>> {
        self.trouble.subscribe()
    }

    /// A call failed, or has not been answered since then.
    pub fn goes_on(&self, since: Instant, reason: &str) {
        let refuses_writes = REFUSES_WRITES.iter().any(|code| reason.starts_with(code));
        self.trouble.send_if_modified(|trouble| {
            self.is_on.store(true, Ordering::Release);
            let is_new = trouble.is_none();
            let known = trouble.get_or_insert_with(|| Trouble { since, reason: String::new(), refuses_writes });
            known.refuses_writes |= refuses_writes;
            if known.reason != reason {
                reason.clone_into(&mut known.reason);
                let last = (Instant::now(), reason.to_owned());
                *lock(&self.last) = Some(last);
            }
            is_new
        });
    }

    /// The last error, if it was recent.
    pub fn last(&self) -> Option<String> {
        let last = lock(&self.last);
        last.as_ref().filter(|(at, _)| at.elapsed() < RECENT).map(|(_, reason)| reason.clone())
    }

    /// The server has answered, perhaps to a write. Costs nothing while there is no outage.
    pub fn is_over(&self, was_write: impl FnOnce() -> bool) {
        if !self.is_on.load(Ordering::Acquire) {
            return;
        }
        let was_write = was_write();
        self.trouble.send_if_modified(|trouble| {
            let is_over = trouble.as_ref().is_some_and(|trouble| was_write || !trouble.refuses_writes);
            if is_over {
                *trouble = None;
                self.is_on.store(false, Ordering::Release);
            }
            is_over
        });
    }
}
