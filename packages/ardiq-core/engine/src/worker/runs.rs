//! The steps from the buffer to the outcome. The host pulls one job at a time, so that a job starts
//! when its code does, not earlier.

use std::collections::HashSet;

use crate::link::LARGE;
use crate::protocol::entry::NOTES;
use crate::protocol::state::StartMode;
use crate::scripts::bodies::Inputs;
use crate::scripts::deliver::Start;
use crate::scripts::upkeep::Survivor;

use super::desk::Desk;
use super::job::Job;
use super::judge::{Finished, Outcome};
use super::slots::Runs;

/// A run, as passed to the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// Identifies this run. No later run has the same slot.
    pub slot: usize,
    /// Job id.
    pub id: String,
    /// Task name.
    pub name: String,
    /// Encoded arguments.
    pub body: Vec<u8>,
    /// Which try this is, from 1.
    pub tries: u64,
    /// Epoch milliseconds of the enqueue.
    pub enqueued_ms: u64,
    /// Text that is passed along with the job.
    pub headers: Vec<(String, String)>,
    /// Position of the job's stream.
    pub stream: usize,
    /// Outputs of other jobs, if it has any.
    pub inputs: Option<Inputs>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Its start is being recorded. The host does not have it yet.
    Vetted,
    /// Its start is recorded. The host gets it at its next pull.
    Ready,
    /// The host has it, but it has not started, for example because it waits for a thread.
    Given,
    /// It runs.
    Out,
    /// The host has it, but this worker no longer owns it: it must not start, and has no outcome.
    Void,
}

#[derive(Debug)]
pub(super) struct Run {
    pub job: Job,
    pub stage: Stage,
    pub started_ms: u64,
    /// Monotonic.
    pub since_ms: i64,
    pub recorded: bool,
    pub mode: StartMode,
    /// It was delivered under a lease that was lost. If its start is recorded, the worker that
    /// takes it over counts a death that did not happen.
    pub is_lost: bool,
    /// The host has to cancel it.
    pub must_abort: bool,
    /// The host knows that.
    pub is_told: bool,
}

impl Run {
    pub fn start(&self) -> Start {
        Start {
            id: self.job.id.clone(),
            stream: self.job.stream,
            entry: self.job.entry.clone(),
            started_ms: self.started_ms,
            tries: u64::from(self.job.header.tries) + 1,
            mode: self.mode,
        }
    }
}

impl Runs {
    /// Drop the runs that the host does not have, and void those that it has not started. Returns
    /// the runs whose start is recorded.
    pub fn forget_unbegun(&mut self) -> Vec<Survivor> {
        let mut survived = Vec::new();
        for (_, run) in self.iter_mut().filter(|(_, run)| !run.is_lost) {
            run.is_lost = true;
            if run.recorded && run.stage != Stage::Void {
                survived.push(Survivor {
                    id: run.job.id.clone(),
                    nonce: run.job.envelope.nonce,
                    entry: run.job.entry.clone(),
                });
            }
        }
        self.withdraw_unbegun(|_| true);
        for slot in self.numbers() {
            if self.get(slot).is_some_and(|run| run.stage == Stage::Vetted) {
                self.remove(slot);
            }
        }
        survived
    }

    /// Take back the matching runs that have not started and are not being recorded. Returns the
    /// jobs.
    pub fn withdraw_unbegun(&mut self, matches: impl Fn(&Job) -> bool) -> Vec<Job> {
        let mut back = Vec::new();
        let with_start = |mut job: Job, recorded| {
            job.is_again |= recorded;
            job
        };
        for slot in self.numbers() {
            let Some(run) = self.get_mut(slot).filter(|run| matches(&run.job)) else { continue };
            match run.stage {
                Stage::Vetted | Stage::Out | Stage::Void => {}
                Stage::Given => {
                    run.stage = Stage::Void;
                    back.push(with_start(std::mem::take(&mut run.job), run.recorded));
                }
                Stage::Ready => {
                    self.ready.retain(|ready| *ready != slot);
                    back.extend(self.remove(slot).map(|run| with_start(run.job, run.recorded)));
                }
            }
        }
        back
    }

    /// Abort the matching runs: take back those that have not started, and mark the others for the
    /// host.
    pub fn abort(&mut self, matches: impl Fn(&Job) -> bool) -> Vec<Job> {
        for (_, run) in self.iter_mut().filter(|(_, run)| run.stage != Stage::Void && matches(&run.job)) {
            run.must_abort = true;
        }
        self.withdraw_unbegun(matches)
    }
}

impl Desk {
    /// Whether there is a free slot, and a job that might use it.
    pub fn can_start(&self, monotonic_ms: i64) -> bool {
        !self.stopping
            && monotonic_ms < self.lease_until_ms
            && (!self.runs.ready.is_empty()
                || self.running() < self.concurrency && (self.buffered() > 0 || !self.quarantine.is_empty()))
    }

    /// Runs of these tasks start when the host says so, for example when they get a thread, not
    /// when it pulls them.
    pub fn defer(&mut self, tasks: HashSet<String>) {
        self.deferred = tasks;
    }

    /// The next run. It starts now, unless its task is [deferred](Desk::defer).
    ///
    /// The start of a job that was taken over from a dead worker is recorded first, see
    /// [`super::plan::Plan::vet`]. A later pull returns that job.
    pub fn next(&mut self, now_ms: u64, monotonic_ms: i64) -> Option<Assignment> {
        if self.stopping || monotonic_ms >= self.lease_until_ms {
            return None;
        }
        if let Some(slot) = self.runs.ready.pop_front() {
            let run = self.runs.get_mut(slot)?;
            run.stage = if self.deferred.contains(&run.job.envelope.name) { Stage::Given } else { Stage::Out };
            (run.started_ms, run.since_ms) = (now_ms, monotonic_ms);
            return Some(assignment(slot, run));
        }
        while self.running() < self.concurrency {
            let (job, mode) = self.next_job(now_ms)?;
            if has_expired(&job, now_ms) {
                self.finish_unstarted(job, Outcome::Expired, now_ms);
                continue;
            }
            self.waiting_since_ms = None;
            // The run must be recorded if it lasts. If it is a suspect, it must be recorded at
            // once.
            self.has_news = true;
            let suspect = job.header.is_suspect();
            let stage = if suspect {
                Stage::Vetted
            } else if self.deferred.contains(&job.envelope.name) {
                Stage::Given
            } else {
                Stage::Out
            };
            let run = Run {
                job,
                stage,
                started_ms: now_ms,
                since_ms: monotonic_ms,
                recorded: false,
                mode,
                is_lost: false,
                must_abort: false,
                is_told: false,
            };
            let slot = self.runs.add(run);
            if suspect {
                continue;
            }
            return self.runs.get_mut(slot).map(|run| assignment(slot, run));
        }
        None
    }

    /// The next job, in the order in which jobs are served.
    fn next_job(&mut self, now_ms: u64) -> Option<(Job, StartMode)> {
        if self.runs.iter().any(|run| !run.is_lost && run.mode == StartMode::Alone) {
            self.hold_survivors(now_ms);
        }
        let lane = self.buffer.iter().position(|lane| !lane.is_empty());
        let lane = lane.filter(|lane| {
            let first = self.buffer[*lane].front();
            !first.is_some_and(|first| self.incomplete.holds_up(first, now_ms))
        });
        if !self.quarantine.is_empty() {
            // Runs that another worker took over from this one are suspects there, so they do not
            // count here.
            let counts = |run: &&Run| !run.is_lost && run.mode != StartMode::Cleared && run.job.header.deaths > 0;
            let suspects = self.runs.iter().filter(counts);
            let suspects: Vec<_> = suspects.map(|run| (run.job.header, run.mode)).collect();
            if let Some((job, mode)) = self.quarantine.next(&suspects, lane) {
                // It may still kill the process, and the other job must not be blamed for that.
                let beside = self.runs.iter().any(|run| run.is_lost && run.job.header.deaths > 0);
                return Some((job, if beside { StartMode::Plain } else { mode }));
            }
        }
        self.buffer[lane?].pop_front().map(|job| (job, StartMode::Plain))
    }

    /// While a suspect runs alone, hold every other job that has seen a death until the suspect's
    /// run ends. If both ran and the process died, the cause would be unclear.
    fn hold_survivors(&mut self, now_ms: u64) {
        for lane in 0..self.buffer.len() {
            while self.buffer[lane].front().is_some_and(|first| first.header.deaths > 0) {
                let Some(job) = self.buffer[lane].pop_front() else { break };
                if let Some(job) = self.quarantine.admit(job) {
                    self.finish_unstarted(job, Outcome::PutOff, now_ms);
                }
            }
        }
    }

    /// Start a run of a [deferred](Desk::defer) task. Returns false if it must not start, because
    /// it has expired or this worker no longer owns it. The run is over then.
    pub fn begin(&mut self, slot: usize, now_ms: u64, monotonic_ms: i64) -> bool {
        let ours = !self.stopping && monotonic_ms < self.lease_until_ms;
        let Some(run) = self.runs.get_mut(slot) else { return false };
        match run.stage {
            Stage::Out => return true,
            Stage::Given if has_expired(&run.job, now_ms) => {
                self.end_unbegun(slot, Outcome::Expired, now_ms);
                return false;
            }
            Stage::Given if ours => {}
            Stage::Given => {
                // The lease has expired, so the job must not start. The lease may still be renewed,
                // so the job is returned.
                self.end_unbegun(slot, Outcome::HandBack, now_ms);
                return false;
            }
            _ => {
                self.runs.remove(slot);
                return false;
            }
        }
        run.stage = Stage::Out;
        (run.started_ms, run.since_ms) = (now_ms, monotonic_ms);
        true
    }

    /// How long a run has lasted. `None` if there is no such run, or it has not started.
    pub fn elapsed_ms(&self, slot: usize, monotonic_ms: i64) -> Option<i64> {
        let run = self.runs.get(slot)?;
        (run.stage == Stage::Out).then(|| (monotonic_ms - run.since_ms).max(0))
    }

    /// End a run that the host has not started. The recorded start of a suspect is removed with it.
    fn end_unbegun(&mut self, slot: usize, outcome: Outcome, now_ms: u64) {
        if let Some(mut run) = self.runs.remove(slot) {
            run.job.is_again |= run.recorded;
            self.finish_unstarted(run.job, outcome, now_ms);
        }
    }

    /// The host has completed a run. Returns false if there is no such run.
    pub fn complete(&mut self, slot: usize, outcome: Outcome, now_ms: u64, monotonic_ms: i64) -> bool {
        let Some(mut run) = self.runs.remove(slot) else { return false };
        match run.stage {
            Stage::Void => return true,
            Stage::Out => self.pace.ended(monotonic_ms, monotonic_ms - run.since_ms),
            _ => {}
        }
        if run.mode == StartMode::Cleared {
            run.job.header.deaths = 0;
        }
        if run.job.has_unsent_progress() {
            run.job.header.flags |= NOTES;
        }
        let is_again = run.job.is_again;
        let finished = Finished {
            job: run.job,
            outcome,
            started_ms: run.started_ms,
            finished_ms: now_ms.max(run.started_ms),
            recorded: run.recorded || is_again,
            is_lost: run.is_lost,
        };
        if finished.weight() > LARGE { &mut self.finished_large } else { &mut self.finished }.push(finished);
        true
    }

    /// The starts of suspects were recorded, or refused because this worker no longer owns the
    /// jobs.
    pub fn vetted(&mut self, slots: &[usize], starts: &[Start], refused: &[usize], now_ms: u64) {
        for (position, (&slot, start)) in slots.iter().zip(starts).enumerate() {
            // If the lease was lost in the meantime, the slot may hold another run by now.
            let asked = |run: &&mut Run| {
                run.stage == Stage::Vetted && run.job.stream == start.stream && run.job.entry == start.entry
            };
            let Some(run) = self.runs.get_mut(slot).filter(asked) else { continue };
            if refused.contains(&position) {
                // The lease is valid: the entry is not where the job's record says, or the record
                // is damaged. Without an outcome, this worker would read the delivery back forever.
                if let Some(run) = self.runs.remove(slot) {
                    self.finish_unstarted(run.job, Outcome::Void, now_ms);
                }
                continue;
            }
            run.recorded = true;
            run.stage = Stage::Ready;
            if self.stopping || run.must_abort {
                self.complete(slot, Outcome::HandBack, now_ms, 0);
            } else {
                self.runs.ready.push_back(slot);
            }
        }
    }
}

fn has_expired(job: &Job, now_ms: u64) -> bool {
    let expire = job.envelope.expire_ms;
    expire > 0 && job.header.tries == 0 && now_ms >= job.header.enqueued_ms.saturating_add(expire)
}

fn assignment(slot: usize, run: &mut Run) -> Assignment {
    let job = &mut run.job;
    Assignment {
        slot,
        id: job.id.clone(),
        name: job.envelope.name.clone(),
        // Neither is needed for settling.
        body: std::mem::take(&mut job.envelope.body),
        headers: std::mem::take(&mut job.envelope.headers),
        tries: u64::from(job.header.tries) + 1,
        enqueued_ms: job.header.enqueued_ms,
        stream: job.stream,
        inputs: job.inputs.take(),
    }
}
