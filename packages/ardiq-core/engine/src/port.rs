//! A mailbox: answers from the I/O thread wait in it until its owner, an event loop or a thread, drains them.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::bell::Bell;
use crate::client::Answer;
use crate::error::Result;

/// Number under which an answer comes back.
pub type Ticket = i64;

/// An answer, or why there is none.
pub type Event = (Ticket, Result<Answer>);

/// See the module.
#[derive(Debug)]
pub struct Port {
    bell: Bell,
    waiting: Mutex<Vec<Event>>,
    arrived: Condvar,
}

impl Port {
    /// An empty mailbox.
    ///
    /// # Errors
    /// When the process has no file descriptors left.
    pub fn new() -> Result<Self> {
        Ok(Self { bell: Bell::new()?, waiting: Mutex::new(Vec::new()), arrived: Condvar::new() })
    }

    /// Readable when something waits.
    pub fn fd(&self) -> std::os::fd::RawFd {
        self.bell.fd()
    }

    /// Put an answer in.
    pub fn post(&self, event: Event) {
        self.lock().push(event);
        self.arrived.notify_one();
        self.bell.ring();
    }

    /// Take all answers.
    pub fn drain(&self) -> Vec<Event> {
        self.bell.hush();
        std::mem::take(&mut *self.lock())
    }

    /// Wait until an answer is there, for `limit` at most, then take all.
    pub fn block(&self, limit: Duration) -> Vec<Event> {
        let waiting = self.lock();
        let waited = self.arrived.wait_timeout_while(waiting, limit, |waiting| waiting.is_empty());
        drop(waited);
        self.drain()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Event>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn answers_come_out_in_order_and_once() -> Result<()> {
        let port = Port::new()?;
        port.post((1, Ok(Answer::Number(1))));
        port.post((2, Ok(Answer::Number(0))));
        let tickets: Vec<Ticket> = port.drain().iter().map(|event| event.0).collect();
        assert_eq!(tickets, [1, 2]);
        assert!(port.drain().is_empty());
        Ok(())
    }

    #[test]
    fn a_blocked_owner_wakes_when_something_arrives() -> Result<()> {
        let port = Arc::new(Port::new()?);
        let sender = Arc::clone(&port);
        let thread = std::thread::spawn(move || sender.post((7, Ok(Answer::Number(1)))));
        assert_eq!(port.block(Duration::from_secs(10)).len(), 1);
        assert!(thread.join().is_ok());
        assert!(port.block(Duration::from_millis(1)).is_empty());
        Ok(())
    }
}
