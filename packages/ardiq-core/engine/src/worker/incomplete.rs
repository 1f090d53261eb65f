//! Jobs of which a part is stored separately: arguments that are large, outputs of other jobs, or
//! notes of an earlier run. The worker holds these jobs like any other, and they can start when
//! these parts have arrived. Until then, nothing waits for them.

use crate::protocol::keys::Nonce;
use crate::scripts::bodies::BODIES_IN_FLIGHT;
use crate::scripts::deliver::entry_number;

use super::desk::Desk;
use super::job::{Delivery, Job, Parts};
use super::judge::Outcome;

/// A request for the parts of one job that are stored separately.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// Position of the job's stream.
    pub stream: usize,
    /// Entry id.
    pub entry: String,
    /// Job id.
    pub id: String,
    /// The nonce of its enqueue.
    pub nonce: Nonce,
    /// Whether its arguments are to be read.
    pub has_body: bool,
    /// Whether the outputs of its parents are to be read.
    pub has_inputs: bool,
    /// Whether its checkpoint is to be read.
    pub has_notes: bool,
}

/// For this long, jobs behind one whose arguments are being read wait for it, so that it keeps its
/// position. Arguments that take longer to arrive do not hold up other jobs.
pub const ORDER_MS: u64 = 100;

#[derive(Debug)]
struct Waiting {
    job: Job,
    /// Its position in the order in which jobs start.
    order: (usize, (u64, u64)),
    is_asked: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Incomplete(Vec<Waiting>);

fn order(job: &Job) -> (usize, (u64, u64)) {
    (job.stream, entry_number(&job.entry))
}

impl Incomplete {
    pub fn add(&mut self, job: Job) {
        let order = order(&job);
        self.0.push(Waiting { job, order, is_asked: false });
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `job` has to wait for an earlier one, so that they start in order.
    pub fn holds_up(&self, job: &Job, now_ms: u64) -> bool {
        let is_recent = |since_ms: u64| (since_ms..since_ms.saturating_add(ORDER_MS)).contains(&now_ms);
        if self.0.is_empty() || !is_recent(job.received_ms) {
            return false;
        }
        let order = order(job);
        self.0.iter().any(|one| one.order < order && is_recent(one.job.received_ms))
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn any(&self, is: impl Fn(&Job) -> bool) -> bool {
        self.0.iter().any(|one| is(&one.job))
    }

    fn remove(&mut self, read: &Read) -> Option<Job> {
        let position = self.0.iter().position(|one| one.job.stream == read.stream && one.job.entry == read.entry)?;
        Some(self.0.remove(position).job)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Job> {
        self.0.iter().map(|one| &one.job)
    }

    /// Remove and return the jobs that match. Arguments that arrive for them later are dropped.
    pub fn remove_all(&mut self, matches: impl Fn(&Job) -> bool) -> Vec<Job> {
        self.0.extract_if(.., |one| matches(&one.job)).map(|one| one.job).collect()
    }

    /// Remove and return all jobs. Arguments that arrive for them later are dropped.
    pub fn take(&mut self) -> Vec<Job> {
        self.0.drain(..).map(|one| one.job).collect()
    }

    /// What to read now, given the number of reads already in flight.
    pub fn reads(&mut self, in_flight: usize) -> Vec<Read> {
        let waiting = self.0.iter_mut().filter(|one| !one.is_asked);
        let reads = waiting.take(BODIES_IN_FLIGHT.saturating_sub(in_flight)).map(|one| {
            one.is_asked = true;
            let job = &one.job;
            Read {
                stream: job.stream,
                entry: job.entry.clone(),
                id: job.id.clone(),
                nonce: job.envelope.nonce,
                has_body: job.header.has_separate_body(),
                has_inputs: job.header.has_inputs(),
                has_notes: job.header.has_notes(),
            }
        });
        reads.collect()
    }
}

impl Desk {
    /// Read everything again: no read is in flight.
    pub fn forget_reads(&mut self) {
        self.incomplete.0.iter_mut().for_each(|one| one.is_asked = false);
    }

    /// Add the parts of a job that were stored separately. Return why the job cannot run, if it
    /// cannot. Parts of a job that was returned, or lost with the lease, are dropped.
    pub fn complete_job(&mut self, read: &Read, parts: Parts, now_ms: u64) -> Option<String> {
        let mut delivery = Delivery { job: self.incomplete.remove(read)?, fault: None };
        delivery.set_parts(parts);
        let fault = delivery.fault.clone();
        self.admit(delivery, false, now_ms);
        fault
    }

    /// Return a job to the queue, with a delay, because its arguments cannot be read now. Another
    /// worker may succeed. `reason` is given if they are the only thing that cannot be read. Such
    /// returns are counted, and the last one makes the job a dead letter.
    pub fn put_job_off(&mut self, read: &Read, reason: Option<String>, now_ms: u64) {
        if let Some(job) = self.incomplete.remove(read) {
            self.finish_unstarted(job, reason.map_or(Outcome::PutOff, Outcome::Unreadable), now_ms);
        }
    }
}
