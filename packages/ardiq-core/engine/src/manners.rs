//! The link's other duties for its queue: it registers the queue with the first write, sets keys of the wrong type aside,
//! and logs once which rights its user lacks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use redis::Cmd;

use crate::error::{Error, Result};
use crate::link::{Link, Patience};
use crate::logs::{Level, Logs};
use crate::protocol::keys::QUEUES;
use crate::scripts::upkeep;

/// The state that a link keeps for this.
#[derive(Default)]
pub(crate) struct Manners {
    logs: Arc<Logs>,
    /// The session in which the queue was made known.
    registered: AtomicU64,
    /// Has it been said that this user may not publish?
    unheard: AtomicBool,
}

impl Link {
    /// Lines for the application's logging.
    pub fn logs(&self) -> &Arc<Logs> {
        &self.manners.logs
    }

    /// A script found that this user may not publish, which it can do without. Said once.
    pub fn publishing_is_refused(&self) {
        if !self.manners.unheard.swap(true, Ordering::Relaxed) {
            let message = format!(
                "the Redis user may not publish: callers find results, and workers find due jobs, only by checking at intervals. \
                 Grant the right: ACL SETUSER <user> +publish &{}*",
                self.keys.base
            );
            self.manners.logs.push(Level::Warning, "engine", message);
        }
    }

    /// The commands that register the queue and its lanes, so that they can be inspected.
    fn introductions(&self) -> [Cmd; 2] {
        let (mut queue, mut lanes) = (redis::cmd("SADD"), redis::cmd("SADD"));
        queue.arg(QUEUES).arg(&self.keys.queue);
        lanes.arg(&self.keys.known_lanes).arg(&self.keys.lanes);
        [queue, lanes]
    }

    /// Register the queue along with the first write of a session. A user without the right to do so can still write.
    pub async fn register(&self, patience: Patience) {
        let current = || *self.sessions().borrow();
        let registered = &self.manners.registered;
        if registered.load(Ordering::Relaxed) == current() && current() != 0 {
            return;
        }
        match self.introduce(patience).await {
            Ok(()) => registered.store(current(), Ordering::Relaxed),
            Err(Error::Refused(refusal)) if refusal.code != "OOM" => registered.store(current(), Ordering::Relaxed),
            Err(_) => {}
        }
    }

    /// Make the queue known again, on a server that may have been emptied.
    pub async fn introduce(&self, patience: Patience) -> Result<()> {
        let [queue, lanes] = self.introductions();
        tokio::try_join!(self.command(&queue, patience), self.command(&lanes, patience)).map(drop)
    }

    /// Set keys aside that hold something else than they should. Returns false when that is not possible; when there are none,
    /// another process was quicker.
    pub(crate) async fn mend(&self, patience: Patience) -> bool {
        // In a box, since this is itself a call.
        let names = Box::pin(upkeep::mend(self, &self.keys, patience)).await;
        names.is_ok_and(|names| {
            self.tell_set_aside(&names);
            true
        })
    }

    /// Log which keys were set aside.
    pub fn tell_set_aside(&self, names: &[String]) {
        for name in names {
            let message = format!(
                "the key {}{name} had the wrong type: it was renamed to {}{name}, kept for a week, and created again",
                self.keys.base, self.keys.aside
            );
            self.manners.logs.push(Level::Error, "engine", message);
        }
    }
}
