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
}

/// An error this old does not explain a new connection.
const RECENT: Duration = Duration::from_secs(60);

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
        self.is_on.store(true, Ordering::Release);
        self.trouble.send_if_modified(|trouble| {
            let is_new = trouble.is_none();
            let known = trouble.get_or_insert_with(|| Trouble { since, reason: String::new() });
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

    /// The server has answered. Costs nothing while there is no outage.
    pub fn is_over(&self) {
        if self.is_on.load(Ordering::Acquire) && self.is_on.swap(false, Ordering::AcqRel) {
            self.trouble.send_replace(None);
        }
    }
}
