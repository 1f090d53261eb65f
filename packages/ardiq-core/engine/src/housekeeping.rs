//! Housekeeping that the link does for its queue: it registers the queue with the first write, sets
//! keys of the wrong type aside, and logs which permissions its user lacks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::commands;
use crate::error::{Error, Result};
use crate::link::{Link, Patience};
use crate::logs::{Level, Logs};
use crate::protocol::keys::{ASIDE, PREFIX, QUEUES};
use crate::scripts::upkeep;

/// The state that a link needs for this.
#[derive(Default)]
pub(crate) struct Housekeeping {
    logs: Arc<Logs>,
    /// The session in which the queue was registered.
    registered: AtomicU64,
    /// Whether it was logged that this user cannot publish.
    publishing_refused: AtomicBool,
}

impl Link {
    /// Log lines for the application.
    pub fn logs(&self) -> &Arc<Logs> {
        &self.housekeeping.logs
    }

    /// A script found that this user cannot publish. That does not prevent work, so it is only
    /// logged, and only once.
    pub fn publishing_is_refused(&self) {
        if !self.housekeeping.publishing_refused.swap(true, Ordering::Relaxed) {
            let message = format!(
                "the Redis user cannot publish: callers find results, and workers find due jobs, only by polling. \
                 Grant the permission: ACL SETUSER <user> +publish &{}*. The server's configuration must not disable PUBLISH",
                self.keys.base
            );
            self.housekeeping.logs.push(Level::Warning, "engine", message);
        }
    }

    /// Register the queue with the first write of a session. A user without permission for that can
    /// still write.
    pub async fn register(&self, patience: Patience) {
        let current = || *self.sessions().borrow();
        let registered = &self.housekeeping.registered;
        if registered.load(Ordering::Relaxed) == current() && current() != 0 {
            return;
        }
        match self.introduce(patience).await {
            Ok(()) => registered.store(current(), Ordering::Relaxed),
            Err(Error::Refused(refusal)) if refusal.code != "OOM" => registered.store(current(), Ordering::Relaxed),
            Err(_) => {}
        }
    }

    /// Register the queue and its lanes, so that they can be inspected. Workers repeat this,
    /// because the server may have been emptied.
    pub async fn introduce(&self, patience: Patience) -> Result<()> {
        let keys = &self.keys;
        let queue = commands::add_members(QUEUES, std::slice::from_ref(&keys.queue));
        let lanes = commands::add_members(&keys.known_lanes, &keys.lanes);
        let add = async || tokio::try_join!(self.command(&queue, patience), self.command(&lanes, patience)).map(drop);
        match add().await {
            Err(error) if error.is_of_wrong_type() => {
                for name in upkeep::mend_queues(self, patience).await? {
                    self.tell_renamed(&format!("{PREFIX}{name}"), &format!("{PREFIX}{ASIDE}{name}"));
                }
                self.mend(patience).await;
                add().await
            }
            ended => ended,
        }
    }

    /// Set keys of the wrong type aside. Returns false if that is not possible. If there are none,
    /// another process has already done it.
    pub(crate) async fn mend(&self, patience: Patience) -> bool {
        // Boxed, because this is itself part of a call.
        let names = Box::pin(upkeep::mend(self, &self.keys, patience)).await;
        names.is_ok_and(|names| {
            self.tell_set_aside(&names);
            true
        })
    }

    /// Log which keys were set aside.
    pub fn tell_set_aside(&self, names: &[String]) {
        for name in names {
            self.tell_renamed(&format!("{}{name}", self.keys.base), &format!("{}{name}", self.keys.aside));
        }
    }

    fn tell_renamed(&self, from: &str, to: &str) {
        let message = format!(
            "the key {from} had the wrong type, so it was renamed to {to}, where it stays for a week. Copy it if you \
             need its data; ArdiQ creates {from} again when needed"
        );
        self.housekeeping.logs.push(Level::Error, "engine", message);
    }
}
