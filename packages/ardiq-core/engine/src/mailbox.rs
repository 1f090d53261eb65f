//! A mailbox holds the replies of the I/O thread until its owner, an event loop or a thread, takes
//! them.

use std::sync::{Condvar, Mutex};
use std::time::Duration;

use crate::answer::Answer;
use crate::error::Result;
use crate::lock::lock;
use crate::logs::Listener;
use crate::notifier::Notifier;

/// Identifies a request, and later its reply. The owner of the mailbox chooses it.
pub type RequestId = i64;

/// No request has this id: under it, [`Answer::Logs`] announces log lines.
pub const LOGS: RequestId = -1;

/// The answer to a request, or the error with which the request failed.
pub type Reply = (RequestId, Result<Answer>);

/// See the module.
#[derive(Debug)]
pub struct Mailbox {
    notifier: Notifier,
    replies: Mutex<Vec<Reply>>,
    arrived: Condvar,
}

impl Mailbox {
    /// An empty mailbox.
    ///
    /// # Errors
    /// When the process has no file descriptors left.
    pub fn new() -> Result<Self> {
        Ok(Self { notifier: Notifier::new()?, replies: Mutex::default(), arrived: Condvar::new() })
    }

    /// A descriptor that is readable while replies are waiting.
    pub fn fd(&self) -> std::os::fd::RawFd {
        self.notifier.fd()
    }

    /// Add a reply, and wake the owner.
    pub fn post(&self, reply: Reply) {
        lock(&self.replies).push(reply);
        self.arrived.notify_one();
        self.notifier.notify();
    }

    /// Take all replies.
    pub fn drain(&self) -> Vec<Reply> {
        self.notifier.reset();
        std::mem::take(&mut *lock(&self.replies))
    }

    /// Wait until there is a reply, but no longer than `limit`. Then take all replies.
    pub fn block(&self, limit: Duration) -> Vec<Reply> {
        let replies = lock(&self.replies);
        let waited = self.arrived.wait_timeout_while(replies, limit, |replies| replies.is_empty());
        drop(waited);
        self.drain()
    }
}

impl Listener for Mailbox {
    fn lines_arrived(&self) {
        let mut replies = lock(&self.replies);
        if replies.iter().all(|(request, _)| *request != LOGS) {
            replies.push((LOGS, Ok(Answer::Logs)));
            drop(replies);
            self.arrived.notify_one();
            self.notifier.notify();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn replies_come_out_in_order_and_once() -> Result<()> {
        let mailbox = Mailbox::new()?;
        mailbox.post((1, Ok(Answer::Number(1))));
        mailbox.post((2, Ok(Answer::Number(0))));
        let requests: Vec<RequestId> = mailbox.drain().iter().map(|reply| reply.0).collect();
        assert_eq!(requests, [1, 2]);
        assert!(mailbox.drain().is_empty());
        Ok(())
    }

    #[test]
    fn a_blocked_owner_wakes_when_a_reply_arrives() -> Result<()> {
        let mailbox = Arc::new(Mailbox::new()?);
        let sender = Arc::clone(&mailbox);
        let thread = std::thread::spawn(move || sender.post((7, Ok(Answer::Number(1)))));
        assert_eq!(mailbox.block(Duration::from_secs(10)).len(), 1);
        assert!(thread.join().is_ok());
        assert!(mailbox.block(Duration::from_millis(1)).is_empty());
        Ok(())
    }
}
