//! What a worker holds, and what it does next. The desk makes all decisions about deliveries,
//! without I/O.
//!
//! A job is *buffered* until the host pulls it. Then it is a *run*. After the run it is *finished*
//! until its outcome is written. The loops around the desk ask for a [`Plan`], carry it out, and
//! report back. `runs` covers the steps from the buffer to the outcome.

use std::collections::{HashSet, VecDeque};

use crate::link::LARGE;
use crate::protocol::state::StartMode;
use crate::scripts::deliver::{BATCH, BATCH_BYTES, Settlement};
use crate::scripts::upkeep::Survivor;

use super::incomplete::{Incomplete, ORDER_MS};
use super::job::Job;
use super::judge::{Finished, Outcome, SMALL_BATCH_BYTES, batch_size};
use super::pace::{HOST_PATIENCE_MS, PATIENCE_MS, Pace};
use super::plan::{InFlight, Plan};
use super::quarantine::{CLEARED_AFTER_MS, Quarantine};
use super::readback::ReadBack;
use super::runs::Stage;
use super::slots::Runs;

pub use super::runs::Assignment;

/// Requests for jobs that may be in flight. With two, the server already has the next one when it
/// has answered the first.
const MOST_FETCHES: usize = 2;

/// A run that lasts longer than this is recorded. Shorter runs settle first and cost nothing extra.
pub const RECORD_AFTER_MS: i64 = 5;

/// See the module.
#[derive(Debug)]
pub struct Desk {
    pub(super) concurrency: usize,
    prefetch: usize,
    /// By stream, in the order in which they are served.
    pub(super) buffer: Vec<VecDeque<Job>>,
    /// By stream, the highest entry id so far. Entry ids rise from delivery to delivery, unless the
    /// group was destroyed and created again.
    pub(super) newest: Vec<(u64, u64)>,
    pub(super) quarantine: Quarantine,
    pub(super) incomplete: Incomplete,
    pub(super) runs: Runs,
    pub(super) deferred: HashSet<String>,
    pub(super) finished: Vec<Finished>,
    /// Finished jobs with large outcomes, which are written separately.
    pub(super) finished_large: Vec<Finished>,
    /// Stream and entry id of the jobs whose large outcomes are being written.
    pub(super) settling_large: Vec<(usize, String)>,
    /// Outcomes that the server has refused so far, and when they are sent again.
    pub(super) put_off: Vec<Settlement>,
    put_off_until_ms: i64,
    /// Outcomes that are being written.
    settling: usize,
    /// Jobs that reads in flight may return.
    reserved: usize,
    /// The last fetch left the lanes empty: wait instead of asking.
    dry: bool,
    recover: bool,
    pub(super) read_back: ReadBack,
    pub(super) stopping: bool,
    /// Monotonic end of the lease.
    pub(super) lease_until_ms: i64,
    pub(super) pace: Pace,
    /// Monotonic time since which no job has started although some are buffered. Unknown until the
    /// next plan.
    pub(super) waiting_since_ms: Option<i64>,
    /// Whether something has finished, or must be recorded, since the work loop was last notified.
    pub(super) has_news: bool,
}

/// What was held under a lost lease.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Jobs that were held, running ones included.
    pub held: usize,
    /// Runs whose start is recorded. The worker that takes them over counts a death, although this
    /// process is alive.
    pub survived: Vec<Survivor>,
}

impl Desk {
    /// An empty desk for `streams` streams.
    pub fn new(concurrency: usize, prefetch: usize, streams: usize) -> Self {
        Self {
            concurrency,
            prefetch: prefetch.max(concurrency),
            buffer: (0..streams).map(|_| VecDeque::new()).collect(),
            newest: vec![(0, 0); streams],
            quarantine: Quarantine::default(),
            incomplete: Incomplete::default(),
            runs: Runs::default(),
            deferred: HashSet::new(),
            finished: Vec::new(),
            finished_large: Vec::new(),
            settling_large: Vec::new(),
            put_off: Vec::new(),
            put_off_until_ms: i64::MIN,
            settling: 0,
            reserved: 0,
            dry: false,
            recover: false,
            read_back: None,
            stopping: false,
            lease_until_ms: i64::MIN,
            pace: Pace::default(),
            waiting_since_ms: None,
            has_news: false,
        }
    }

    /// Jobs that the host is running or is about to get.
    pub fn running(&self) -> usize {
        self.runs.len()
    }

    pub(super) fn buffered(&self) -> usize {
        self.buffer.iter().map(VecDeque::len).sum()
    }

    /// Jobs in the process, running ones included.
    pub fn held(&self) -> usize {
        self.running() + self.buffered() + self.quarantine.len() + self.incomplete.len()
    }

    /// Deliveries that this desk knows of. A read in flight may bring more.
    pub fn known(&self) -> usize {
        self.held() + self.finished.len() + self.finished_large.len() + self.put_off.len() + self.settling
    }

    /// Deliveries under the present lease that this desk knows of. The server counts the same ones.
    pub fn delivered(&self) -> usize {
        let lost_runs = self.runs.iter().filter(|run| run.is_lost).count();
        let lost_outcomes = self.finished.iter().chain(&self.finished_large).filter(|one| one.is_lost).count();
        let lost_put_off = self.put_off.iter().filter(|one| one.is_lost).count();
        self.known() - lost_runs - lost_outcomes - lost_put_off
    }

    /// Whether every outcome has been written.
    pub fn is_settled(&self) -> bool {
        self.known() == self.held() && self.running() == 0
    }

    /// Whether nothing is held, to be written, or in flight.
    pub fn is_empty(&self) -> bool {
        self.is_settled() && self.held() == 0 && self.reserved == 0
    }

    /// How many more jobs it may hold. Waiting suspects take no room from other jobs. Outcomes that
    /// the server accepts slowly or not at all do, so that they cannot pile up in memory.
    fn room(&self, monotonic_ms: i64) -> usize {
        let ahead = self.pace.ahead(monotonic_ms, self.concurrency);
        let most = self.prefetch.min(self.concurrency.saturating_add(ahead));
        let large = self.put_off.len() + self.finished_large.len() + self.settling_large.len();
        let small = self.finished.len() + self.settling;
        let held_up = large.saturating_sub(self.concurrency) + small.saturating_sub(self.concurrency + 2 * BATCH);
        most.saturating_sub(self.running() + self.buffered() + self.incomplete.len() + held_up)
    }

    /// Whether it may hold another job.
    pub fn has_room(&self, monotonic_ms: i64) -> bool {
        self.room(monotonic_ms) > 0
    }

    /// Whether a read may, and should, wait for work.
    pub fn wants_to_wait(&self, monotonic_ms: i64) -> bool {
        self.dry && !self.stopping && !self.recover && self.reserved == 0 && self.has_room(monotonic_ms)
    }

    /// A read of `count` jobs begins.
    pub fn reserve(&mut self, count: usize) {
        self.reserved += count;
    }

    /// That read has ended.
    pub fn unreserve(&mut self, count: usize) {
        self.reserved = self.reserved.saturating_sub(count);
    }

    /// Whether the lanes were empty at the last request.
    pub fn set_dry(&mut self, dry: bool) {
        self.dry = dry;
    }

    /// Replies may have been lost, so read this worker's deliveries back.
    pub fn must_recover(&mut self) {
        self.recover = true;
        self.dry = false;
    }

    /// The lease is valid until then. No job starts later.
    pub fn extend_lease(&mut self, until_ms: i64) {
        self.lease_until_ms = until_ms;
    }

    /// It is unknown whether the lease is still held.
    pub fn suspend_lease(&mut self) {
        self.dry = false;
        self.lease_until_ms = i64::MIN;
    }

    /// The lease is lost: jobs that have not started belong to another worker now. Runs continue,
    /// but their outcomes will be refused.
    pub fn lose_lease(&mut self) -> Lost {
        let held = self.held();
        self.buffer.iter_mut().for_each(VecDeque::clear);
        self.quarantine.take();
        self.incomplete.take();
        let survived = self.runs.forget_unbegun();
        self.finished.iter_mut().chain(&mut self.finished_large).for_each(|one| one.is_lost = true);
        self.put_off.iter_mut().for_each(|one| one.is_lost = true);
        self.suspend_lease();
        Lost { held, survived }
    }

    pub(super) fn finish_unstarted(&mut self, job: Job, outcome: Outcome, now_ms: u64) {
        let again = job.is_again;
        self.finished.push(Finished {
            job,
            outcome,
            started_ms: 0,
            finished_ms: now_ms,
            recorded: again,
            is_lost: false,
        });
        self.has_news = true;
    }

    /// Whether something has finished, or must be recorded, since the last call of this function.
    pub fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.has_news)
    }

    /// What to do now, in addition to what is already in flight.
    pub fn plan(&mut self, monotonic_ms: i64, in_flight: InFlight) -> Plan {
        if in_flight.recovery {
            return Plan::default();
        }
        if !in_flight.large {
            // Not before: a read-back in flight may still return these deliveries.
            self.settling_large.clear();
        }
        if self.recover {
            // Send this request without others in flight: the desk would not know about their
            // deliveries and outcomes when the reply arrives. Large transfers may go on, because
            // the desk knows which jobs they belong to.
            let recover = !in_flight.outcomes && in_flight.fetches == 0;
            self.recover = !recover;
            return Plan { recover, ..Plan::default() };
        }
        let mut plan = Plan { read: self.incomplete.reads(in_flight.reads), ..Plan::default() };
        if !self.incomplete.is_empty() && self.buffered() > 0 {
            plan.wake_at(monotonic_ms + i64::try_from(ORDER_MS).unwrap_or_default());
        }
        self.return_what_waits_too_long(monotonic_ms, &mut plan);
        if !in_flight.large {
            self.plan_large(monotonic_ms, &mut plan);
        }
        if !in_flight.outcomes {
            self.plan_outcomes(monotonic_ms, &mut plan);
        }
        if in_flight.fetches < MOST_FETCHES && !self.stopping && !self.dry && monotonic_ms < self.lease_until_ms {
            let room = self.room(monotonic_ms).saturating_sub(self.reserved).min(BATCH);
            // While one request is in flight, another one is only worthwhile for a batch.
            let worthwhile = self.concurrency.div_ceil(2).min(BATCH);
            plan.fetch = if in_flight.fetches == 0 || room >= worthwhile { room } else { 0 };
        }
        plan
    }

    /// Runs take longer than before, or the host is blocked: return the jobs that were fetched
    /// ahead, for idle workers.
    fn return_what_waits_too_long(&mut self, monotonic_ms: i64, plan: &mut Plan) {
        let buffered = self.buffered();
        if buffered == 0 || self.stopping {
            self.waiting_since_ms = None;
            return;
        }
        let patience = if self.running() < self.concurrency { HOST_PATIENCE_MS } else { PATIENCE_MS };
        let too_long = *self.waiting_since_ms.get_or_insert(monotonic_ms) + patience;
        if monotonic_ms < too_long {
            plan.wake_at(too_long);
            return;
        }
        let mut surplus = buffered.saturating_sub(self.pace.ahead(monotonic_ms, self.concurrency));
        for lane in (0..self.buffer.len()).rev() {
            let keep = self.buffer[lane].len().saturating_sub(surplus);
            let back = self.buffer[lane].split_off(keep);
            surplus -= back.len();
            // Do not record a start for a job that is returned.
            back.into_iter().for_each(|job| self.finish_unstarted(job, Outcome::HandBack, 0));
        }
        plan.wake_at(monotonic_ms + PATIENCE_MS);
    }

    fn plan_large(&mut self, monotonic_ms: i64, plan: &mut Plan) {
        if monotonic_ms >= self.put_off_until_ms {
            plan.large_again = self.put_off.extract_if(.., |one| one.weight() > LARGE).take(1).collect();
        }
        let take = batch_size(&self.finished_large, BATCH_BYTES);
        plan.large = self.finished_large.drain(..take).collect();
        self.settling += take + plan.large_again.len();
        self.settling_large.extend(plan.large.iter().map(|one| (one.job.stream, one.job.entry.clone())));
        self.settling_large.extend(plan.large_again.iter().map(|one| (one.stream, one.entry.clone())));
    }

    fn plan_outcomes(&mut self, monotonic_ms: i64, plan: &mut Plan) {
        if monotonic_ms >= self.put_off_until_ms {
            let mut bytes = 0;
            let fits = |one: &mut Settlement| {
                let fits = one.weight() <= LARGE && bytes < SMALL_BATCH_BYTES;
                bytes += if fits { one.weight() } else { 0 };
                fits
            };
            plan.again = self.put_off.extract_if(.., fits).take(BATCH).collect();
        } else if !self.put_off.is_empty() {
            plan.wake_at(self.put_off_until_ms);
        }
        let take = batch_size(&self.finished, SMALL_BATCH_BYTES);
        plan.settle = self.finished.drain(..take).collect();
        self.settling += take + plan.again.len();
        for (slot, run) in self.runs.iter_mut() {
            match run.stage {
                // Vetting is repeated until it is answered, so the job is marked only then.
                Stage::Vetted => plan.vet.push((slot, run.start())),
                Stage::Out if !run.recorded && !run.is_lost => {
                    let due = run.since_ms + RECORD_AFTER_MS;
                    if monotonic_ms < due {
                        plan.wake_at(due);
                        continue;
                    }
                    plan.record.push((slot, run.start()));
                    run.recorded = true;
                }
                Stage::Out if run.job.header.deaths > 0 && run.mode != StartMode::Cleared && !run.is_lost => {
                    let due = run.since_ms + CLEARED_AFTER_MS;
                    if monotonic_ms < due {
                        plan.wake_at(due);
                        continue;
                    }
                    run.mode = StartMode::Cleared;
                    plan.record.push((slot, run.start()));
                }
                _ => {}
            }
        }
    }

    /// Outcomes were written (or refused for good).
    pub fn settled(&mut self, count: usize) {
        self.settling = self.settling.saturating_sub(count);
    }

    /// The server refused these outcomes: keep them, and send them again at that time.
    pub fn put_off(&mut self, outcomes: Vec<Settlement>, until_ms: i64) {
        self.settled(outcomes.len());
        self.put_off.extend(outcomes);
        self.put_off_until_ms = until_ms;
    }

    /// Stop: no more jobs start, and jobs that have not started are returned.
    pub fn stop(&mut self, now_ms: u64) {
        self.stopping = true;
        self.give_back_unstarted(now_ms);
        for job in self.runs.withdraw_unbegun(|_| true) {
            self.finish_unstarted(job, Outcome::HandBack, now_ms);
        }
    }

    pub(super) fn give_back_unstarted(&mut self, now_ms: u64) {
        let mut jobs = self.quarantine.take();
        jobs.extend(self.incomplete.take());
        for lane in &mut self.buffer {
            jobs.extend(lane.drain(..));
        }
        for job in jobs {
            self.finish_unstarted(job, Outcome::HandBack, now_ms);
        }
    }
}
