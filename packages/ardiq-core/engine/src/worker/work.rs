//! The loop that carries out the desk's plans: it sends outcomes, records starts and fetches jobs.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::sleep;

use super::incomplete::Read;
use super::job::{Delivery, Parts};
use super::judge::Finished;
use super::plan::{InFlight, Plan};
use super::{EventKind, State};
use super::{notes, outcomes};
use crate::clock::monotonic_ms;
use crate::error::{Error, Result};
use crate::link::Patience;
use crate::lock::lock;
use crate::logs::Level;
use crate::scripts::deliver::{self, BATCH, Cursor, Entry, Fetched, Settlement, Source, Start};
use crate::scripts::{self, bodies};

/// Requests of one kind that are in flight, oldest first.
#[derive(Default)]
struct Requests<'a>(VecDeque<Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>>);

impl<'a> Requests<'a> {
    fn add(&mut self, request: impl Future<Output = Result<()>> + Send + 'a) {
        self.0.push_back(Box::pin(request));
    }

    /// Wait until one of them ends, and remove it. If there is none, wait forever.
    async fn next(&mut self) -> Result<()> {
        poll_fn(|context| {
            for position in 0..self.0.len() {
                if let Poll::Ready(done) = self.0[position].as_mut().poll(context) {
                    drop(self.0.remove(position));
                    return Poll::Ready(done);
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// Run until the worker has stopped. Outcomes and fetches are in flight at the same time: while one
/// reply is decoded, the server works on another request.
pub async fn run(state: Arc<State>) -> Result<()> {
    let (mut outcomes, mut fetches) = (Requests::default(), Requests::default());
    // These may take long, so nothing else waits for them.
    let (mut large, mut reads) = (Requests::default(), Requests::default());
    let mut recovery = Requests::default();
    lock(&state.desk).forget_reads();
    loop {
        let in_flight = InFlight {
            outcomes: !outcomes.0.is_empty(),
            large: !large.0.is_empty(),
            fetches: fetches.0.len(),
            reads: reads.0.len(),
            recovery: !recovery.0.is_empty(),
        };
        let mut plan = {
            let mut desk = lock(&state.desk);
            let plan = desk.plan(monotonic_ms(), in_flight);
            if in_flight.reads > 0 {
                // Jobs behind those whose arguments are being read may start by now.
                state.offer(&desk);
            }
            plan
        };
        let next_ms = plan.next_ms;
        if plan.recover {
            recovery.add(read_back(&state));
        }
        if plan.fetch > 0 {
            lock(&state.desk).reserve(plan.fetch);
            fetches.add(read_new(&state, plan.fetch));
        } else if fetches.0.is_empty() && recovery.0.is_empty() {
            state.idle.notify_one();
        }
        for read in plan.read.drain(..) {
            reads.add(read_job(&state, read));
        }
        if !(plan.large.is_empty() && plan.large_again.is_empty()) {
            let (finished, again) = (std::mem::take(&mut plan.large), std::mem::take(&mut plan.large_again));
            large.add(write_large(&state, finished, again));
        }
        if plan.has_outcomes() {
            outcomes.add(write(&state, plan));
        }
        let done = tokio::select! {
            biased; // outcomes go out first
            done = outcomes.next() => done,
            done = fetches.next() => done,
            done = recovery.next() => done,
            done = large.next() => done,
            done = reads.next() => done,
            () = state.work.notified() => Ok(()),
            () = until(next_ms) => Ok(()),
        };
        if done.is_err() {
            // Wait for all requests in flight. Otherwise, no worker would know about a job in an
            // unread reply. Poll all of them at the same time: one that is not polled may hold a
            // connection's lock that another needs.
            join_all([outcomes, fetches, recovery, large, reads].into_iter().flat_map(|requests| requests.0)).await;
            return done;
        }
    }
}

async fn until(monotonic: Option<i64>) {
    match monotonic {
        Some(at) => sleep(Duration::from_millis(u64::try_from(at - monotonic_ms()).unwrap_or(1).max(1))).await,
        None => std::future::pending().await,
    }
}

async fn write_large(state: &State, mut finished: Vec<Finished>, again: Vec<Settlement>) -> Result<()> {
    notes::send(state, notes::last(state, &mut finished)).await?;
    outcomes::write(state, finished, again).await
}

async fn write(state: &State, mut plan: Plan) -> Result<()> {
    let reports = notes::last(state, &mut plan.settle);
    // All are sent on one connection, in this order, before the first reply is awaited.
    let (noted, settled, recorded, vetted) = tokio::join!(
        biased;
        notes::send(state, reports),
        outcomes::write(state, plan.settle, plan.again),
        record_starts(state, plan.record),
        vet_starts(state, plan.vet),
    );
    settled.and(recorded).and(vetted).and(noted)
}

async fn record_starts(state: &State, runs: Vec<(usize, Start)>) -> Result<()> {
    if runs.is_empty() {
        return Ok(());
    }
    let starts: Vec<Start> = runs.into_iter().map(|(_, start)| start).collect();
    let worker = state.identity();
    // A run that this worker no longer owns is detected when it is settled.
    deliver::start(&state.shared.link, &state.shared.keys, &worker, &starts, Patience::Endless).await?;
    state.have_changed(starts.iter().map(|start| start.id.as_str()));
    Ok(())
}

async fn vet_starts(state: &State, runs: Vec<(usize, Start)>) -> Result<()> {
    if runs.is_empty() {
        return Ok(());
    }
    let (slots, starts): (Vec<usize>, Vec<Start>) = runs.into_iter().unzip();
    let worker = state.identity();
    let refused = deliver::start(&state.shared.link, &state.shared.keys, &worker, &starts, Patience::Endless).await?;
    state.have_changed(starts.iter().map(|start| start.id.as_str()));
    let mut desk = lock(&state.desk);
    desk.vetted(&slots, &starts, &refused, state.now_ms());
    state.offer(&desk);
    Ok(())
}

async fn read_back(state: &State) -> Result<()> {
    let done = read_pages_back(state).await;
    if done.is_err() {
        lock(&state.desk).must_recover();
    }
    done
}

/// Read in pages, because a worker may hold many.
async fn read_pages_back(state: &State) -> Result<()> {
    let worker = state.identity();
    let (link, keys) = (&state.shared.link, &state.shared.keys);
    let (mut lost, mut from) = (0, Some(Cursor::default()));
    while let Some(cursor) = from {
        let mut fetched = deliver::fetch(link, keys, &worker, BATCH, Source::Own(cursor), Patience::Endless).await?;
        let mut deliveries = read(state, std::mem::take(&mut fetched.entries));
        deliveries.iter_mut().for_each(|one| one.job.is_again = true);
        from = fetched.next.take();
        lost += take_in(state, &fetched, deliveries, 0, &worker);
    }
    log_read_back(state, lost);
    Ok(())
}

/// Log how many jobs were read back although no reply had brought them.
pub(super) fn log_read_back(state: &State, lost: usize) {
    if lost > 0 {
        state.log(Level::Warning, format!("read back jobs whose delivery was lost in transit: {lost}"));
    }
}

async fn read_new(state: &State, count: usize) -> Result<()> {
    let worker = state.identity();
    let (link, keys) = (&state.shared.link, &state.shared.keys);
    let fetched = deliver::fetch(link, keys, &worker, count, Source::New, Patience::Endless).await;
    let mut desk = lock(&state.desk);
    desk.unreserve(count);
    let mut fetched = fetched.inspect_err(|error| {
        // A refused call has delivered nothing.
        if !matches!(error, Error::Refused(_)) || error.is_broken() {
            desk.must_recover();
        }
    })?;
    drop(desk);
    let deliveries = read(state, std::mem::take(&mut fetched.entries));
    take_in(state, &fetched, deliveries, count, &worker);
    Ok(())
}

/// Decode entries before the desk is locked, because the thread of the event loop may be waiting
/// for it.
pub(super) fn read(state: &State, entries: Vec<Entry>) -> Vec<Delivery> {
    let deliveries: Vec<Delivery> = entries.into_iter().map(Delivery::read).collect();
    for Delivery { job, fault } in &deliveries {
        if let Some(reason) = fault {
            log_unreadable(state, job.stream, &job.id, reason);
        }
    }
    deliveries
}

fn log_unreadable(state: &State, stream: usize, id: &str, reason: &str) {
    let lane = state.shared.keys.lane_of(stream);
    let message =
        format!("an entry of lane {lane:?} (job {id:?}) cannot be read, so it becomes a dead letter: {reason}");
    state.log(Level::Error, message);
}

/// Read what of one job is stored separately.
async fn parts_of(state: &State, read: &Read) -> Result<Parts> {
    let (link, keys, mut parts) = (&state.shared.link, &state.shared.keys, Parts::default());
    if read.has_notes {
        parts.checkpoint = scripts::notes::checkpoint(link, keys, &read.id, read.nonce, Patience::Endless).await?;
    }
    if read.has_body {
        parts.body = Some(bodies::body(link, &keys.body(&read.id, read.nonce), Patience::Endless).await?);
    }
    if read.has_inputs {
        parts.inputs = Some(bodies::inputs(link, keys, &read.id, read.nonce, Patience::Endless).await?);
    }
    Ok(parts)
}

async fn read_job(state: &State, read: Read) -> Result<()> {
    let parts = match parts_of(state, &read).await {
        Ok(parts) => parts,
        Err(error) if error.is_about_this_call() || matches!(error, Error::Refused(_)) => {
            let reason = error.is_about_this_call().then(|| error.to_string());
            let limit = if reason.is_some() { ", for eleven minutes in total" } else { "" };
            let mut desk = lock(&state.desk);
            desk.put_job_off(&read, reason, state.now_ms());
            state.offer(&desk);
            drop(desk);
            if state.refusals.is_due(monotonic_ms()) {
                let what = match (read.has_body, read.has_inputs) {
                    (true, _) => "arguments",
                    (false, true) => "outputs of the parents",
                    (false, false) => "checkpoint",
                };
                let message = format!(
                    "the {what} of job {} cannot be read now, so it is returned to the queue{limit}: {error}",
                    read.id
                );
                state.log(Level::Warning, message);
            }
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let mut desk = lock(&state.desk);
    let fault = desk.complete_job(&read, parts, state.now_ms());
    state.offer(&desk);
    drop(desk);
    if let Some(reason) = fault {
        log_unreadable(state, read.stream, &read.id, &reason);
    }
    Ok(())
}

/// Add the jobs that were fetched. For jobs that were read back, which may be known, `asked` is 0:
/// returns how many of them had been lost.
fn take_in(state: &State, fetched: &Fetched, deliveries: Vec<Delivery>, asked: usize, worker: &str) -> usize {
    state.shared.clock.observe(fetched.now_ms);
    if !fetched.held {
        state.lease_is_unknown(worker);
        return 0;
    }
    if worker != state.identity() {
        // The lease was lost in the meantime: these jobs belong to the previous incarnation, and
        // other workers take them over.
        return 0;
    }
    let drained = fetched.unfinished == Some(0);
    let burst = state.burst.load(Ordering::Acquire);
    let mut desk = lock(&state.desk);
    let nothing_came = asked > 0 && drained && desk.held() == 0;
    if deliveries.len() < asked {
        // In burst mode, ask again after the outcomes that are in flight.
        let ask_again = burst && nothing_came && !desk.is_settled();
        desk.set_dry(!ask_again);
    }
    let mut lost = 0;
    if asked == 0 {
        lost = desk.receive_back(deliveries, state.now_ms());
    } else {
        desk.receive(deliveries, false, state.now_ms());
    }
    state.offer(&desk);
    let nothing_left = nothing_came && desk.is_settled();
    drop(desk);
    if nothing_left && burst {
        state.emit(EventKind::Drained, "");
    }
    lost
}
