//! What a worker holds, and what to do next: all decisions of the delivery side, without I/O.
//!
//! A job is *buffered* until it may start, *vetted* while the start of a suspect is being recorded, *out* while it runs, and
//! *finished* until its outcome is written. The loops around the desk ask for a [`Plan`], carry it out, and report back.

use std::collections::VecDeque;

use crate::scripts::deliver::{BATCH, Start, entry_number};

use super::job::{Delivery, Job};
use super::judge::{Finished, Outcome, POISON_DEATHS, batch_size};
use super::plan::{Plan, UnderWay};

/// Requests for jobs that may be under way: with two, the server has the next one when it has answered the first.
const MOST_FETCHES: usize = 2;

/// A run that outlives this is recorded; shorter ones settle first and cost nothing extra.
pub const RECORD_AFTER_MS: i64 = 5;

/// A run as the host gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// Names this run until it is completed.
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
    /// Text that travels along.
    pub headers: Vec<(String, String)>,
    /// Position of the job's stream.
    pub stream: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Its start is being recorded; the host does not have it yet.
    Vetted,
    Out,
}

#[derive(Debug)]
struct Run {
    job: Job,
    stage: Stage,
    started_ms: u64,
    /// Monotonic.
    since_ms: i64,
    recorded: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Desk {
    concurrency: usize,
    prefetch: usize,
    /// By stream, in the order of service.
    buffer: Vec<VecDeque<Job>>,
    /// By stream, the highest entry id so far: deliveries rise, unless the group was destroyed and made again.
    newest: Vec<(u64, u64)>,
    /// Jobs on their last chance that wait for another such job to end.
    parked: VecDeque<Job>,
    runs: Vec<Option<Run>>,
    free: Vec<usize>,
    finished: Vec<Finished>,
    /// Outcomes that are being written.
    settling: usize,
    /// Places promised to reads that are under way.
    reserved: usize,
    /// The last fetch left the lanes empty: wait instead of asking.
    dry: bool,
    recover: bool,
    stopping: bool,
    /// Monotonic end of the lease.
    lease_until_ms: i64,
}

impl Desk {
    /// An empty desk for `streams` streams.
    pub fn new(concurrency: usize, prefetch: usize, streams: usize) -> Self {
        Self {
            concurrency,
            prefetch: prefetch.max(concurrency),
            buffer: (0..streams).map(|_| VecDeque::new()).collect(),
            newest: vec![(0, 0); streams],
            parked: VecDeque::new(),
            runs: Vec::with_capacity(concurrency),
            free: Vec::new(),
            finished: Vec::new(),
            settling: 0,
            reserved: 0,
            dry: false,
            recover: false,
            stopping: false,
            lease_until_ms: i64::MIN,
        }
    }

    /// Jobs that the host runs or is about to get.
    pub fn running(&self) -> usize {
        self.runs.len() - self.free.len()
    }

    /// Jobs in the process, running ones included.
    pub fn held(&self) -> usize {
        self.running() + self.parked.len() + self.buffer.iter().map(VecDeque::len).sum::<usize>()
    }

    /// Deliveries that this desk knows of, or that a read under way may bring.
    pub fn accounted(&self) -> usize {
        self.held() + self.finished.len() + self.settling + self.reserved
    }

    /// Has every outcome been written?
    pub fn is_settled(&self) -> bool {
        self.running() == 0 && self.finished.is_empty() && self.settling == 0
    }

    /// Nothing held, nothing to write, nothing under way.
    pub fn is_empty(&self) -> bool {
        self.is_settled() && self.held() == 0 && self.reserved == 0
    }

    /// May it hold another job?
    pub fn has_room(&self) -> bool {
        self.held() < self.prefetch
    }

    /// May, and should, somebody wait for work?
    pub fn wants_to_wait(&self) -> bool {
        self.dry && !self.stopping && !self.recover && self.reserved == 0 && self.has_room()
    }

    /// A read of `places` jobs begins.
    pub fn reserve(&mut self, places: usize) {
        self.reserved += places;
    }

    /// That read has ended.
    pub fn unreserve(&mut self, places: usize) {
        self.reserved = self.reserved.saturating_sub(places);
    }

    /// Were the lanes empty when last asked?
    pub fn set_dry(&mut self, dry: bool) {
        self.dry = dry;
    }

    /// A connection broke: replies may have been lost, so read back what is ours.
    pub fn must_recover(&mut self) {
        self.recover = true;
        self.dry = false;
    }

    /// The lease holds until then. Nothing starts beyond it.
    pub fn extend_lease(&mut self, until_ms: i64) {
        self.lease_until_ms = until_ms;
    }

    /// The lease is lost: what has not started is somebody else's now. Runs go on; their outcomes will be refused.
    pub fn lose_lease(&mut self) -> usize {
        let held = self.held();
        self.buffer.iter_mut().for_each(VecDeque::clear);
        self.parked.clear();
        self.dry = false;
        self.lease_until_ms = i64::MIN;
        held
    }

    /// Take deliveries in. Known ones, as a recovery or a group made anew may bring, are passed over.
    pub fn receive(&mut self, deliveries: Vec<Delivery>, check_known: bool, now_ms: u64) {
        for Delivery { job, fault } in deliveries {
            let rises = self.rises(&job);
            if (check_known || !rises) && self.knows(&job) {
                continue;
            }
            match fault {
                Some(reason) => self.finish_unstarted(job, Outcome::Undecodable(reason), now_ms),
                None if job.header.deaths >= POISON_DEATHS => self.finish_unstarted(job, Outcome::Poison, now_ms),
                None => match self.buffer.get_mut(job.stream) {
                    Some(lane) if rises => lane.push_back(job),
                    Some(lane) => {
                        // Another request was answered first, as one whose bodies had to be read does.
                        let number = entry_number(&job.entry);
                        lane.insert(lane.partition_point(|other| entry_number(&other.entry) < number), job);
                    }
                    None => self.parked.push_back(job),
                },
            }
        }
        if self.stopping {
            self.give_back_unstarted(now_ms);
        }
    }

    fn rises(&mut self, job: &Job) -> bool {
        let number = entry_number(&job.entry);
        match self.newest.get_mut(job.stream) {
            Some(newest) if number > *newest => {
                *newest = number;
                true
            }
            _ => false,
        }
    }

    fn knows(&self, job: &Job) -> bool {
        let same = |known: &Job| known.stream == job.stream && known.entry == job.entry;
        self.runs.iter().flatten().any(|run| same(&run.job))
            || self.finished.iter().any(|finished| same(&finished.job))
            || self.parked.iter().any(same)
            || self.buffer.get(job.stream).is_some_and(|lane| lane.iter().any(same))
    }

    fn finish_unstarted(&mut self, job: Job, outcome: Outcome, now_ms: u64) {
        self.finished.push(Finished { job, outcome, started_ms: 0, finished_ms: now_ms, recorded: false });
    }

    /// Start what may start. Suspects are not in the answer: their start has to be recorded first, see [`Plan::vet`].
    pub fn hand_out(&mut self, now_ms: u64, monotonic_ms: i64, out: &mut Vec<Assignment>) {
        while !self.stopping && self.running() < self.concurrency && monotonic_ms < self.lease_until_ms {
            let Some(job) = self.next_job() else { break };
            let expire = job.envelope.expire_ms;
            if expire > 0 && job.header.tries == 0 && now_ms >= job.header.enqueued_ms.saturating_add(expire) {
                self.finish_unstarted(job, Outcome::Expired, now_ms);
                continue;
            }
            let suspect = job.header.is_suspect();
            let slot = self.free.pop().unwrap_or_else(|| {
                self.runs.push(None);
                self.runs.len() - 1
            });
            let stage = if suspect { Stage::Vetted } else { Stage::Out };
            let mut run = Run { job, stage, started_ms: now_ms, since_ms: monotonic_ms, recorded: false };
            if !suspect {
                out.push(assignment(slot, &mut run));
            }
            self.runs[slot] = Some(run);
        }
    }

    /// The next job in the order of service. Jobs on their last chance run one at a time, so that one which kills its
    /// process cannot take another with it.
    fn next_job(&mut self) -> Option<Job> {
        let last_chance = |job: &Job| job.header.deaths + 1 >= POISON_DEATHS;
        let occupied = self.runs.iter().flatten().any(|run| last_chance(&run.job));
        if !occupied && let Some(job) = self.parked.pop_front() {
            return Some(job);
        }
        for lane in 0..self.buffer.len() {
            while let Some(job) = self.buffer[lane].pop_front() {
                if occupied && last_chance(&job) {
                    self.parked.push_back(job);
                } else {
                    return Some(job);
                }
            }
        }
        None
    }

    /// The host is done with a run. False when there is no such run.
    pub fn complete(&mut self, slot: usize, outcome: Outcome, now_ms: u64) -> bool {
        let Some(run) = self.runs.get_mut(slot).and_then(Option::take) else {
            return false;
        };
        self.free.push(slot);
        self.finished.push(Finished {
            job: run.job,
            outcome,
            started_ms: run.started_ms,
            finished_ms: now_ms.max(run.started_ms),
            recorded: run.recorded,
        });
        true
    }

    /// The starts of suspects were recorded, or refused because they are not ours any more.
    pub fn vetted(&mut self, slots: &[usize], refused: &[usize], now_ms: u64, out: &mut Vec<Assignment>) {
        for (position, &slot) in slots.iter().enumerate() {
            let Some(run) = self.runs.get_mut(slot).and_then(Option::as_mut) else {
                continue;
            };
            if refused.contains(&position) {
                self.runs[slot] = None;
                self.free.push(slot);
            } else if self.stopping {
                run.recorded = true;
                self.complete(slot, Outcome::HandBack, now_ms);
            } else {
                run.recorded = true;
                run.stage = Stage::Out;
                run.started_ms = now_ms;
                out.push(assignment(slot, run));
            }
        }
    }

    /// What is to be done now, beside what is under way already.
    pub fn plan(&mut self, monotonic_ms: i64, under_way: UnderWay) -> Plan {
        if self.recover {
            // Alone: deliveries and outcomes that are under way at the same time would not be known when the answer comes.
            let recover = under_way == UnderWay::default();
            self.recover = !recover;
            return Plan { recover, ..Plan::default() };
        }
        let mut plan = Plan::default();
        if !under_way.outcomes {
            self.plan_outcomes(monotonic_ms, &mut plan);
        }
        if under_way.fetches < MOST_FETCHES && !self.stopping && !self.dry && monotonic_ms < self.lease_until_ms {
            let room = self.prefetch.saturating_sub(self.held() + self.reserved).min(BATCH);
            // Beside one that is under way another is only worth its while for a batch.
            let worthwhile = self.concurrency.div_ceil(2).min(BATCH);
            plan.fetch = if under_way.fetches == 0 || room >= worthwhile { room } else { 0 };
        }
        plan
    }

    fn plan_outcomes(&mut self, monotonic_ms: i64, plan: &mut Plan) {
        let take = batch_size(&self.finished);
        plan.settle = self.finished.drain(..take).collect();
        self.settling += take;
        for (slot, run) in self.runs.iter_mut().enumerate() {
            let Some(run) = run.as_mut().filter(|run| !run.recorded) else {
                continue;
            };
            let start = || Start {
                id: run.job.id.clone(),
                stream: run.job.stream,
                entry: run.job.entry.clone(),
                started_ms: run.started_ms,
                tries: u64::from(run.job.header.tries) + 1,
            };
            if run.stage == Stage::Vetted {
                // Vetting is repeated by whoever asks until it is answered, so it is marked only then.
                plan.vet.push((slot, start()));
            } else if monotonic_ms - run.since_ms >= RECORD_AFTER_MS {
                plan.record.push((slot, start()));
                run.recorded = true;
            } else {
                let due = run.since_ms + RECORD_AFTER_MS;
                plan.next_ms = Some(plan.next_ms.map_or(due, |next| next.min(due)));
            }
        }
    }

    /// Outcomes were written (or refused for good).
    pub fn settled(&mut self, count: usize) {
        self.settling = self.settling.saturating_sub(count);
    }

    /// Stop: nothing more starts, and what has not started goes back.
    pub fn stop(&mut self, now_ms: u64) {
        self.stopping = true;
        self.give_back_unstarted(now_ms);
    }

    /// Take a run back that the host has not seen yet.
    pub fn give_back(&mut self, slot: usize, now_ms: u64) {
        self.complete(slot, Outcome::HandBack, now_ms);
    }

    fn give_back_unstarted(&mut self, now_ms: u64) {
        let mut jobs: Vec<Job> = self.parked.drain(..).collect();
        for lane in &mut self.buffer {
            jobs.extend(lane.drain(..));
        }
        for job in jobs {
            self.finish_unstarted(job, Outcome::HandBack, now_ms);
        }
    }
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
    }
}
