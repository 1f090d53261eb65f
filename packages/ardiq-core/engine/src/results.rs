//! Who waits for which result in this process. Results arrive as pushes on one channel, however many wait.
//!
//! Of each job the book also knows whether word was left in Redis that this process waits for it. When the last one that waits
//! gives up, that word is to be withdrawn; many withdrawals go in one call, see [`crate::wait::withdraw`].

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

use crate::protocol::record::ResultRecord;

/// A result, or `None` when there may be one that has to be read.
type Arrival = Option<Arc<ResultRecord>>;

type Waiter = (u64, oneshot::Sender<Arrival>);

#[derive(Default)]
struct Job {
    waiters: Vec<Waiter>,
    /// May there be word in Redis?
    word_left: bool,
}

/// Word that is to be withdrawn.
struct Word {
    /// Tells it from later word about the same job.
    number: u64,
    /// Those who want to know whether there is a result after all.
    curious: Vec<oneshot::Sender<bool>>,
}

#[derive(Default)]
struct Book {
    next: u64,
    jobs: HashMap<String, Job>,
    /// By job. Stays until the withdrawal has been answered.
    over: HashMap<String, Word>,
}

/// See the module.
#[derive(Default)]
pub struct Waiting {
    book: Mutex<Book>,
    /// Rung when there is word to be withdrawn.
    over: Notify,
    /// Has it been said that pushes are not allowed?
    refused: AtomicBool,
}

/// A place in the book; given up when dropped.
pub struct Place {
    waiting: Arc<Waiting>,
    id: String,
    number: u64,
    /// Gets the result, or word that there may be one to be read.
    pub arrival: oneshot::Receiver<Arrival>,
}

/// Jobs whose word is being withdrawn.
pub struct Withdrawal {
    /// Their ids.
    pub ids: Vec<String>,
    numbers: Vec<u64>,
}

impl Waiting {
    /// Wait for the result of a job.
    pub fn enter(self: &Arc<Self>, id: &str) -> Place {
        let (sender, arrival) = oneshot::channel();
        let mut book = self.lock();
        book.next += 1;
        let number = book.next;
        let withdrawn = book.over.remove(id).is_some();
        let job = book.jobs.entry(id.to_owned()).or_default();
        job.word_left |= withdrawn;
        job.waiters.push((number, sender));
        Place { waiting: Arc::clone(self), id: id.to_owned(), number, arrival }
    }

    /// Read a message (length of the id as u16, id, record) and give the result to all who wait for it. Without a record it
    /// says that there is one to be read; one that cannot be read sends them to look, too.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the message.
    pub fn deliver(&self, message: &[u8]) -> Result<(), String> {
        let (length, rest) = message.split_first_chunk::<2>().ok_or("the message is empty")?;
        let (id, record) =
            rest.split_at_checked(usize::from(u16::from_be_bytes(*length))).ok_or("the message is cut short")?;
        let id = std::str::from_utf8(id).map_err(|error| error.to_string())?;
        let Some(job) = self.lock().jobs.remove(id) else { return Ok(()) };
        let (result, fault) = match (!record.is_empty()).then(|| ResultRecord::decode(record)) {
            None => (None, None),
            Some(Ok(result)) => (Some(Arc::new(result)), None),
            Some(Err(fault)) => (None, Some(fault)),
        };
        for (_, waiter) in job.waiters {
            // One that has given up meanwhile is no fault.
            let _ = waiter.send(result.clone());
        }
        fault.map_or(Ok(()), Err)
    }

    /// Wait until there is word to be withdrawn.
    pub async fn there_is_word_over(&self) {
        loop {
            let rung = self.over.notified();
            if !self.lock().over.is_empty() {
                return;
            }
            rung.await;
        }
    }

    /// Some of the word that is to be withdrawn, if there is any.
    pub fn withdrawal(&self, most: usize) -> Option<Withdrawal> {
        let book = self.lock();
        let (ids, numbers): (Vec<String>, Vec<u64>) =
            book.over.iter().take(most).map(|(id, word)| (id.clone(), word.number)).unzip();
        (!ids.is_empty()).then_some(Withdrawal { ids, numbers })
    }

    /// The withdrawal was answered: the jobs at these positions have ended. If it failed, the registration expires.
    pub fn withdrawn(&self, withdrawal: Withdrawal, ended: &[usize]) {
        let mut book = self.lock();
        for (position, (id, number)) in withdrawal.ids.into_iter().zip(withdrawal.numbers).enumerate() {
            if book.over.get(&id).is_some_and(|word| word.number == number) {
                let curious = book.over.remove(&id).map(|word| word.curious).unwrap_or_default();
                for sender in curious {
                    let _ = sender.send(ended.contains(&position));
                }
            } else if let Some(job) = book.jobs.remove(&id) {
                // Somebody came meanwhile, whose word may have gone with that of the others: they look again.
                for (_, waiter) in job.waiters {
                    let _ = waiter.send(None);
                }
            }
        }
    }

    /// May Redis hold registrations that become useless when this process ends?
    pub fn has_word(&self) -> bool {
        let book = self.lock();
        !book.over.is_empty() || book.jobs.values().any(|job| job.word_left)
    }

    /// Note that pushes are not allowed. Returns whether this is the first time.
    pub fn is_first_refusal(&self) -> bool {
        !self.refused.swap(true, Ordering::Relaxed)
    }

    /// Does anybody still wait?
    pub fn is_awaited(&self) -> bool {
        !self.lock().jobs.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Note whether there is word in Redis; gives what was noted before.
    pub fn note_word(&self, left: bool) -> bool {
        let mut book = self.waiting.lock();
        book.jobs.get_mut(&self.id).is_some_and(|job| std::mem::replace(&mut job.word_left, left))
    }

    /// Give up. If no other caller waits, returns a receiver that reports whether a result exists after all: the message
    /// may have been missed.
    pub fn give_up(mut self) -> Option<oneshot::Receiver<bool>> {
        let (sender, receiver) = oneshot::channel();
        self.leave(Some(sender)).then_some(receiver)
    }

    /// True when word is to be withdrawn because of it.
    fn leave(&mut self, curious: Option<oneshot::Sender<bool>>) -> bool {
        let mut book = self.waiting.lock();
        let Some(job) = book.jobs.get_mut(&self.id) else { return false };
        job.waiters.retain(|(number, _)| *number != self.number);
        if !job.waiters.is_empty() {
            return false;
        }
        let word_left = job.word_left;
        book.jobs.remove(&self.id);
        if word_left {
            let word = Word { number: self.number, curious: curious.into_iter().collect() };
            book.over.insert(std::mem::take(&mut self.id), word);
            self.waiting.over.notify_one();
        }
        word_left
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave(None);
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
        assert!(!waiting.is_awaited() && !waiting.has_word());
        assert_eq!(waiting.deliver(&message("a")), Ok(()));
        assert!(waiting.deliver(b"\x00\x09a").is_err());
    }

    #[test]
    fn a_message_that_cannot_be_read_sends_all_to_look() {
        let waiting = Arc::new(Waiting::default());
        let mut place = waiting.enter("a");
        assert!(waiting.deliver(b"\x00\x01aRubbish").is_err());
        assert_eq!(place.arrival.try_recv().map(|arrived| arrived.is_none()), Ok(true));
    }

    fn to_withdraw(waiting: &Waiting) -> Vec<String> {
        waiting.withdrawal(10).map_or_else(Vec::new, |withdrawal| withdrawal.ids)
    }

    #[test]
    fn only_the_last_who_waits_for_a_job_has_its_word_withdrawn() {
        let waiting = Arc::new(Waiting::default());
        let (first, second) = (waiting.enter("a"), waiting.enter("a"));
        assert!(!first.note_word(true));
        drop(first);
        assert_eq!(to_withdraw(&waiting), [""; 0]);
        drop(second);
        assert_eq!(to_withdraw(&waiting), ["a"]);
        let Some(withdrawal) = waiting.withdrawal(10) else { unreachable!() };
        waiting.withdrawn(withdrawal, &[]);
        assert!(!waiting.has_word());
    }

    #[test]
    fn word_that_was_answered_or_never_taken_is_not_withdrawn() {
        let waiting = Arc::new(Waiting::default());
        let (answered, refused) = (waiting.enter("a"), waiting.enter("b"));
        answered.note_word(true);
        let before = refused.note_word(true);
        refused.note_word(before);
        assert_eq!(waiting.deliver(&message("a")), Ok(()));
        drop((answered, refused));
        assert!(!waiting.has_word());
    }

    #[test]
    fn whoever_comes_back_before_the_withdrawal_keeps_the_word_and_after_it_looks_again() {
        let waiting = Arc::new(Waiting::default());
        let place = waiting.enter("a");
        place.note_word(true);
        drop(place);
        let Some(under_way) = waiting.withdrawal(10) else { unreachable!() };
        let mut place = waiting.enter("a");
        assert_eq!(to_withdraw(&waiting), [""; 0]);
        assert!(waiting.has_word());
        waiting.withdrawn(under_way, &[]);
        assert_eq!(place.arrival.try_recv().map(|arrived| arrived.is_none()), Ok(true));
    }

    #[test]
    fn whoever_gives_up_hears_of_a_result_that_was_missed() {
        let waiting = Arc::new(Waiting::default());
        let places = ["a", "b"].map(|id| waiting.enter(id));
        let hopes = places.map(|place| {
            place.note_word(true);
            place.give_up()
        });
        let Some(withdrawal) = waiting.withdrawal(10) else { unreachable!() };
        let of_a = withdrawal.ids.iter().position(|id| id == "a");
        waiting.withdrawn(withdrawal, of_a.as_slice());
        let found: Vec<bool> = hopes.into_iter().flatten().filter_map(|mut hope| hope.try_recv().ok()).collect();
        assert_eq!(found, [true, false]);
    }
}
