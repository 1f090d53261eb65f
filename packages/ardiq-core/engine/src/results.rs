//! Who waits for which result in this process. Results arrive as pushes on one channel, however many wait.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::protocol::record::ResultRecord;

/// A result, or `None` when it is there but too large for a message: then it is to be read.
type Arrival = Option<Arc<ResultRecord>>;

type Waiter = (u64, oneshot::Sender<Arrival>);

#[derive(Default)]
struct Book {
    next: u64,
    waiters: HashMap<String, Vec<Waiter>>,
}

/// See the module.
#[derive(Default)]
pub struct Waiting(Mutex<Book>);

/// A place in the book; given up when dropped.
pub struct Place {
    book: Arc<Waiting>,
    id: String,
    number: u64,
    /// Gets the result, or word that it is to be read.
    pub arrival: oneshot::Receiver<Arrival>,
}

impl Waiting {
    /// Wait for the result of a job.
    pub fn enter(self: &Arc<Self>, id: &str) -> Place {
        let (sender, arrival) = oneshot::channel();
        let mut book = self.lock();
        book.next += 1;
        let number = book.next;
        book.waiters.entry(id.to_owned()).or_default().push((number, sender));
        Place { book: Arc::clone(self), id: id.to_owned(), number, arrival }
    }

    /// Read a message (length of the id as u16, id, record) and give the result to all who wait for it. Without a record it
    /// says that there is one to be read.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the message.
    pub fn deliver(&self, message: &[u8]) -> Result<(), String> {
        let (length, rest) = message.split_first_chunk::<2>().ok_or("the message is empty")?;
        let (id, record) =
            rest.split_at_checked(usize::from(u16::from_be_bytes(*length))).ok_or("the message is cut short")?;
        let id = std::str::from_utf8(id).map_err(|error| error.to_string())?;
        let waiters = self.lock().waiters.remove(id);
        if let Some(waiters) = waiters {
            let result = if record.is_empty() { None } else { Some(Arc::new(ResultRecord::decode(record)?)) };
            for (_, waiter) in waiters {
                // One that has given up meanwhile is no fault.
                let _ = waiter.send(result.clone());
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut book = self.book.lock();
        if let Some(waiters) = book.waiters.get_mut(&self.id) {
            waiters.retain(|(number, _)| *number != self.number);
            if waiters.is_empty() {
                book.waiters.remove(&self.id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::record::Outcome;

    fn message(id: &str) -> Vec<u8> {
        let record = ResultRecord {
            outcome: Outcome::Value(vec![1]),
            tries: 1,
            enqueued_ms: 1,
            started_ms: 1,
            finished_ms: 1,
            id: id.into(),
            name: "t".into(),
            worker: "w".into(),
            aborted: false,
            error_type: None,
            traceback: None,
        };
        let length = u16::try_from(id.len()).unwrap_or_default().to_be_bytes();
        [&length[..], id.as_bytes(), &record.encode([0; 8])].concat()
    }

    #[test]
    fn all_who_wait_for_a_job_get_its_result() {
        let waiting = Arc::new(Waiting::default());
        let (mut first, mut second, mut other) = (waiting.enter("a"), waiting.enter("a"), waiting.enter("b"));
        assert_eq!(waiting.deliver(&message("a")), Ok(()));
        assert!(first.arrival.try_recv().is_ok() && second.arrival.try_recv().is_ok());
        assert!(other.arrival.try_recv().is_err());
    }

    #[test]
    fn a_result_that_is_too_large_for_a_message_is_announced() {
        let waiting = Arc::new(Waiting::default());
        let mut place = waiting.enter("a");
        assert_eq!(waiting.deliver(b"\x00\x01a"), Ok(()));
        assert_eq!(place.arrival.try_recv().map(|arrived| arrived.is_none()), Ok(true));
    }

    #[test]
    fn whoever_gives_up_leaves_nothing_behind() {
        let waiting = Arc::new(Waiting::default());
        drop(waiting.enter("a"));
        assert!(waiting.lock().waiters.is_empty());
        assert_eq!(waiting.deliver(&message("a")), Ok(()));
        assert!(waiting.deliver(b"\x00\x09a").is_err());
    }
}
