//! The callers of this process that wait for results. All results arrive on one channel, however
//! many callers wait.
//!
//! The registry also records for which jobs Redis may hold a registration of this process. When the
//! last caller for a job gives up, its registration is useless and is withdrawn. One call withdraws
//! many, see [`crate::results::withdraw`].

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::{Notify, oneshot};

use crate::lock::lock;
use crate::protocol::record::ResultRecord;

/// A result, or `None` if there may be one that the caller has to read.
type Arrival = Option<Arc<ResultRecord>>;

#[derive(Default)]
struct Job {
    callers: Vec<(u64, oneshot::Sender<Arrival>)>,
    /// Whether Redis may hold a registration.
    is_registered: bool,
}

/// A registration that no caller needs.
struct Useless {
    /// Distinguishes it from a later registration for the same job.
    number: u64,
    /// Reports to the last caller whether the job has ended after all.
    has_ended: Option<oneshot::Sender<bool>>,
}

#[derive(Default)]
struct Registry {
    last_number: u64,
    jobs: HashMap<String, Job>,
    /// By job. An entry stays until the withdrawal has been answered.
    useless: HashMap<String, Useless>,
}

/// See the module.
#[derive(Default)]
pub struct Waiters {
    registry: Mutex<Registry>,
    /// Notified when a registration has become useless.
    became_useless: Notify,
    /// Whether a refusal of subscriptions was logged.
    refused: AtomicBool,
}

/// One waiting caller. It is removed from the registry when it is dropped.
pub struct Waiter {
    waiters: Arc<Waiters>,
    id: String,
    number: u64,
    /// Receives the result, or `None` if there may be one that the caller has to read.
    pub arrival: oneshot::Receiver<Arrival>,
}

/// Jobs whose registrations are being withdrawn.
pub struct Withdrawal {
    /// Their ids.
    pub ids: Vec<String>,
    numbers: Vec<u64>,
}

impl Waiters {
    /// Add a caller that waits for the result of a job.
    pub fn add(self: &Arc<Self>, id: &str) -> Waiter {
        let (sender, arrival) = oneshot::channel();
        let mut registry = lock(&self.registry);
        registry.last_number += 1;
        let number = registry.last_number;
        let was_useless = registry.useless.remove(id).is_some();
        let job = registry.jobs.entry(id.to_owned()).or_default();
        job.is_registered |= was_useless;
        job.callers.push((number, sender));
        Waiter { waiters: Arc::clone(self), id: id.to_owned(), number, arrival }
    }

    /// Pass the result in a message (length of the id as u16, id, record) to all callers that wait
    /// for it. If the record is empty or cannot be read, the callers have to read it from Redis.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the message.
    pub fn deliver(&self, message: &[u8]) -> Result<(), String> {
        let (length, rest) = message.split_first_chunk::<2>().ok_or("the message is empty")?;
        let (id, record) =
            rest.split_at_checked(usize::from(u16::from_be_bytes(*length))).ok_or("the message is cut short")?;
        let id = std::str::from_utf8(id).map_err(|error| error.to_string())?;
        let Some(job) = lock(&self.registry).jobs.remove(id) else { return Ok(()) };
        let (result, fault) = match (!record.is_empty()).then(|| ResultRecord::decode(record)) {
            None => (None, None),
            Some(Ok(result)) => (Some(Arc::new(result)), None),
            Some(Err(fault)) => (None, Some(fault)),
        };
        for (_, caller) in job.callers {
            // The caller may have given up in the meantime.
            let _ = caller.send(result.clone());
        }
        fault.map_or(Ok(()), Err)
    }

    /// Wait until a registration is useless.
    pub async fn until_useless(&self) {
        loop {
            let notified = self.became_useless.notified();
            if !lock(&self.registry).useless.is_empty() {
                return;
            }
            notified.await;
        }
    }

    /// Begin to withdraw useless registrations, `limit` at most. Returns `None` if there are none.
    pub fn next_withdrawal(&self, limit: usize) -> Option<Withdrawal> {
        let registry = lock(&self.registry);
        let (ids, numbers): (Vec<String>, Vec<u64>) =
            registry.useless.iter().take(limit).map(|(id, useless)| (id.clone(), useless.number)).unzip();
        (!ids.is_empty()).then_some(Withdrawal { ids, numbers })
    }

    /// The withdrawal was answered, or has failed. The jobs at the positions `ended` have ended.
    pub fn finish_withdrawal(&self, withdrawal: Withdrawal, ended: &[usize]) {
        let mut registry = lock(&self.registry);
        for (position, (id, number)) in withdrawal.ids.into_iter().zip(withdrawal.numbers).enumerate() {
            if registry.useless.get(&id).is_some_and(|useless| useless.number == number) {
                if let Some(sender) = registry.useless.remove(&id).and_then(|useless| useless.has_ended) {
                    let _ = sender.send(ended.contains(&position));
                }
            } else if let Some(job) = registry.jobs.remove(&id) {
                // Another caller came in the meantime. The withdrawal may have removed its
                // registration as well, so it checks again.
                for (_, caller) in job.callers {
                    let _ = caller.send(None);
                }
            }
        }
    }

    /// Whether Redis may hold registrations that become useless when this process ends.
    pub fn has_registrations(&self) -> bool {
        let registry = lock(&self.registry);
        !registry.useless.is_empty() || registry.jobs.values().any(|job| job.is_registered)
    }

    /// Record that subscriptions are refused. Returns whether this is the first time.
    pub fn is_first_refusal(&self) -> bool {
        !self.refused.swap(true, Ordering::Relaxed)
    }

    /// Whether any caller waits.
    pub fn has_waiters(&self) -> bool {
        !lock(&self.registry).jobs.is_empty()
    }
}

impl Waiter {
    /// Record whether Redis may hold a registration for the job. Returns the previous value.
    pub fn set_registered(&self, is_registered: bool) -> bool {
        let mut registry = lock(&self.waiters.registry);
        registry.jobs.get_mut(&self.id).is_some_and(|job| std::mem::replace(&mut job.is_registered, is_registered))
    }

    /// Give up. If the registration is useless now, returns a receiver that reports whether the job
    /// has ended after all: the message may have been missed.
    pub fn give_up(mut self) -> Option<oneshot::Receiver<bool>> {
        let (sender, receiver) = oneshot::channel();
        self.leave(Some(sender)).then_some(receiver)
    }

    /// Returns whether the registration is useless now.
    fn leave(&mut self, has_ended: Option<oneshot::Sender<bool>>) -> bool {
        let mut registry = lock(&self.waiters.registry);
        let Some(job) = registry.jobs.get_mut(&self.id) else { return false };
        job.callers.retain(|(number, _)| *number != self.number);
        if !job.callers.is_empty() {
            return false;
        }
        let is_registered = job.is_registered;
        registry.jobs.remove(&self.id);
        if is_registered {
            registry.useless.insert(std::mem::take(&mut self.id), Useless { number: self.number, has_ended });
            self.waiters.became_useless.notify_one();
        }
        is_registered
    }
}

impl Drop for Waiter {
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
    fn all_callers_that_wait_for_a_job_receive_its_result() {
        let waiters = Arc::new(Waiters::default());
        let (mut first, mut second, mut other) = (waiters.add("a"), waiters.add("a"), waiters.add("b"));
        assert_eq!(waiters.deliver(&message("a")), Ok(()));
        assert!(first.arrival.try_recv().is_ok() && second.arrival.try_recv().is_ok());
        assert!(other.arrival.try_recv().is_err());
    }

    #[test]
    fn a_result_that_is_too_large_for_a_message_is_announced() {
        let waiters = Arc::new(Waiters::default());
        let mut caller = waiters.add("a");
        assert_eq!(waiters.deliver(b"\x00\x01a"), Ok(()));
        assert_eq!(caller.arrival.try_recv().map(|arrived| arrived.is_none()), Ok(true));
    }

    #[test]
    fn a_caller_that_gives_up_leaves_nothing_behind() {
        let waiters = Arc::new(Waiters::default());
        drop(waiters.add("a"));
        assert!(!waiters.has_waiters() && !waiters.has_registrations());
        assert_eq!(waiters.deliver(&message("a")), Ok(()));
        assert!(waiters.deliver(b"\x00\x09a").is_err());
    }

    #[test]
    fn a_message_that_cannot_be_read_makes_all_callers_check() {
        let waiters = Arc::new(Waiters::default());
        let mut caller = waiters.add("a");
        assert!(waiters.deliver(b"\x00\x01aRubbish").is_err());
        assert_eq!(caller.arrival.try_recv().map(|arrived| arrived.is_none()), Ok(true));
    }

    fn to_withdraw(waiters: &Waiters) -> Vec<String> {
        waiters.next_withdrawal(10).map_or_else(Vec::new, |withdrawal| withdrawal.ids)
    }

    #[test]
    fn a_registration_is_withdrawn_with_the_last_caller() {
        let waiters = Arc::new(Waiters::default());
        let (first, second) = (waiters.add("a"), waiters.add("a"));
        assert!(!first.set_registered(true));
        drop(first);
        assert_eq!(to_withdraw(&waiters), [""; 0]);
        drop(second);
        assert_eq!(to_withdraw(&waiters), ["a"]);
        let Some(withdrawal) = waiters.next_withdrawal(10) else { unreachable!() };
        waiters.finish_withdrawal(withdrawal, &[]);
        assert!(!waiters.has_registrations());
    }

    #[test]
    fn a_registration_that_was_used_or_refused_is_not_withdrawn() {
        let waiters = Arc::new(Waiters::default());
        let (answered, refused) = (waiters.add("a"), waiters.add("b"));
        answered.set_registered(true);
        let before = refused.set_registered(true);
        refused.set_registered(before);
        assert_eq!(waiters.deliver(&message("a")), Ok(()));
        drop((answered, refused));
        assert!(!waiters.has_registrations());
    }

    #[test]
    fn a_caller_that_comes_before_the_withdrawal_keeps_the_registration_and_after_it_checks_again() {
        let waiters = Arc::new(Waiters::default());
        let caller = waiters.add("a");
        caller.set_registered(true);
        drop(caller);
        let Some(withdrawal) = waiters.next_withdrawal(10) else { unreachable!() };
        let mut caller = waiters.add("a");
        assert_eq!(to_withdraw(&waiters), [""; 0]);
        assert!(waiters.has_registrations());
        waiters.finish_withdrawal(withdrawal, &[]);
        assert_eq!(caller.arrival.try_recv().map(|arrived| arrived.is_none()), Ok(true));
    }

    #[test]
    fn a_caller_that_gives_up_is_notified_of_a_result_that_it_missed() {
        let waiters = Arc::new(Waiters::default());
        let callers = ["a", "b"].map(|id| waiters.add(id));
        let answers = callers.map(|caller| {
            caller.set_registered(true);
            caller.give_up()
        });
        let Some(withdrawal) = waiters.next_withdrawal(10) else { unreachable!() };
        let of_a = withdrawal.ids.iter().position(|id| id == "a");
        waiters.finish_withdrawal(withdrawal, of_a.as_slice());
        let found: Vec<bool> = answers.into_iter().flatten().filter_map(|mut answer| answer.try_recv().ok()).collect();
        assert_eq!(found, [true, false]);
    }
}
