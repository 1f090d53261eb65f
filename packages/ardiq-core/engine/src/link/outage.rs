//! Since when the server has been unreachable, for log messages.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;
use tokio::time::Instant;

/// A server that does not answer.
#[derive(Debug, Clone)]
pub struct Trouble {
    /// When it began.
    pub since: Instant,
    /// The last error.
    pub reason: String,
}

/// See the module.
#[derive(Default)]
pub struct Outage {
    is_on: AtomicBool,
    trouble: watch::Sender<Option<Trouble>>,
    /// The last error of the last outage, however short.
    last: Mutex<String>,
}

impl Outage {
    /// The current outage, and every change.
    pub fn watch(&self) -> watch::Receiver<Option<Trouble>> {
        self.trouble.subscribe()
    }

    /// A call failed, or has not been answered since then.
    pub fn goes_on(&self, since: Instant, reason: &str) {
        self.is_on.store(true, Ordering::Release);
        self.trouble.send_if_modified(|trouble| {
            let is_new = trouble.is_none();
            let known = trouble.get_or_insert_with(|| Trouble { since, reason: String::new() });
            if known.reason != reason {
                reason.clone_into(&mut known.reason);
                reason.clone_into(&mut self.last.lock().unwrap_or_else(PoisonError::into_inner));
            }
            is_new
        });
    }

    /// The last error. Empty if there was none.
    pub fn last(&self) -> String {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The server has answered. Costs nothing while there is no outage.
    pub fn is_over(&self) {
        if self.is_on.load(Ordering::Acquire) && self.is_on.swap(false, Ordering::AcqRel) {
            self.trouble.send_replace(None);
        }
    }
}
