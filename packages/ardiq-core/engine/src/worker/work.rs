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

use super::job::Delivery;
use super::outcomes;
use super::plan::{Plan, UnderWay};
use super::{State, lock};
use crate::clock::monotonic_ms;
use crate::error::Result;
use crate::link::Patience;
use crate::logs::Level;
use crate::scripts::deliver::{self, BATCH, Cursor, Fetched, Source, Start};

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

/// Run until the worker has stopped. Outcomes and fetches are in flight at the same time: while one reply is decoded,
/// the server works on another request.
pub async fn run(state: Arc<State>) -> Result<()> {
    let (mut outcomes, mut fetches) = (Requests::default(), Requests::default());
    loop {
        let under_way = UnderWay { outcomes: !outcomes.0.is_empty(), fetches: fetches.0.len() };
        let plan = lock(&state.desk).plan(monotonic_ms(), under_way);
        let next_ms = plan.next_ms;
        if plan.recover {
            read_back(&state).await?;
            continue;
        }
        if plan.fetch > 0 {
            lock(&state.desk).reserve(plan.fetch);
            fetches.add(read_new(&state, plan.fetch));
        } else if fetches.0.is_empty() {
            state.idle.notify_one();
        }
        if plan.has_outcomes() {
            outcomes.add(write(&state, plan));
        }
        let done = tokio::select! {
            biased; // outcomes go out first
            done = outcomes.next() => done,
            done = fetches.next() => done,
            () = state.work.notified() => Ok(()),
            () = until(next_ms) => Ok(()),
        };
        if done.is_err() {
            // Wait for all requests in flight: no worker would know of a job in an unread reply. Poll all of them at
            // the same time, since one that is not polled may hold the connection's lock that another waits for.
            join_all(outcomes.0.into_iter().chain(fetches.0)).await;
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

async fn write(state: &State, plan: Plan) -> Result<()> {
    // All are sent on one connection, in this order, before the first reply is awaited.
    let (settled, recorded, vetted) = tokio::join!(
        outcomes::write(state, plan.settle, plan.again),
        record_starts(state, plan.record),
        vet_starts(state, plan.vet),
    );
    settled.and(recorded).and(vetted)
}

async fn record_starts(state: &State, runs: Vec<(usize, Start)>) -> Result<()> {
    if runs.is_empty() {
        return Ok(());
    }
    let starts: Vec<Start> = runs.into_iter().map(|(_, start)| start).collect();
    let worker = state.identity();
    // A run that this worker no longer owns is detected when it is settled.
    deliver::start(&state.shared.link, &state.shared.keys, &worker, &starts, Patience::Endless).await.map(drop)
}

async fn vet_starts(state: &State, runs: Vec<(usize, Start)>) -> Result<()> {
    if runs.is_empty() {
        return Ok(());
    }
    let (slots, starts): (Vec<usize>, Vec<Start>) = runs.into_iter().unzip();
    let worker = state.identity();
    let refused = deliver::start(&state.shared.link, &state.shared.keys, &worker, &starts, Patience::Endless).await?;
    let mut desk = lock(&state.desk);
    desk.vetted(&slots, &starts, &refused, state.now_ms());
    state.offer(&desk);
    Ok(())
}

/// Read in pages, because a worker may hold many.
async fn read_back(state: &State) -> Result<()> {
    let worker = state.identity();
    let (link, keys) = (&state.shared.link, &state.shared.keys);
    let (mut found, mut from) = (0, Some(Cursor::default()));
    while let Some(cursor) = from {
        let fetched = deliver::fetch(link, keys, &worker, BATCH, Source::Own(cursor), Patience::Endless).await?;
        let (mut fetched, mut deliveries) = read(state, fetched, true).await?;
        deliveries.iter_mut().for_each(|one| one.job.is_again = true);
        from = fetched.next.take();
        found += take_in(state, &fetched, deliveries, 0, &worker);
    }
    if found > 0 {
        state.log(Level::Warning, format!("read back {found} jobs whose delivery had been lost in transit"));
    }
    Ok(())
}

async fn read_new(state: &State, count: usize) -> Result<()> {
    let worker = state.identity();
    let (link, keys) = (&state.shared.link, &state.shared.keys);
    let fetched = match deliver::fetch(link, keys, &worker, count, Source::New, Patience::Endless).await {
        Ok(fetched) => read(state, fetched, false).await,
        Err(error) => Err(error),
    };
    lock(&state.desk).unreserve(count);
    let (fetched, deliveries) = fetched?;
    take_in(state, &fetched, deliveries, count, &worker);
    Ok(())
}

/// Decode entries before the desk is locked, because the event loop's thread may need the desk. With `back`, the worker
/// may know the entries already, and their bodies are not transferred again.
async fn read(state: &State, mut fetched: Fetched, back: bool) -> Result<(Fetched, Vec<Delivery>)> {
    let mut deliveries = std::mem::take(&mut fetched.entries).into_iter().map(Delivery::read).collect::<Vec<_>>();
    if back {
        let desk = lock(&state.desk);
        deliveries.retain(|one| !desk.knows(&one.job));
    }
    add_bodies(state, &mut deliveries).await?;
    Ok((fetched, deliveries))
}

/// Read the bodies that are stored separately. Log the jobs that cannot be run because they have no body or cannot be
/// decoded.
pub(super) async fn add_bodies(state: &State, deliveries: &mut [Delivery]) -> Result<()> {
    let added = read_bodies(state, deliveries).await;
    for Delivery { job, fault } in deliveries.iter() {
        if let Some(reason) = fault {
            let lane = state.shared.keys.lane_of(job.stream);
            let message = format!(
                "an entry of lane {lane:?} cannot be read and becomes a dead letter: job {:?}: {reason}",
                job.id
            );
            state.log(Level::Error, message);
        }
    }
    added
}

async fn read_bodies(state: &State, deliveries: &mut [Delivery]) -> Result<()> {
    let waiting = deliveries.iter_mut().filter(|one| one.fault.is_none());
    let mut waiting: Vec<(String, &mut Delivery)> = waiting
        .filter_map(|one| one.job.apart().map(|nonce| (state.shared.keys.body(&one.job.id, nonce), one)))
        .collect();
    if waiting.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = waiting.iter_mut().map(|(name, _)| std::mem::take(name)).collect();
    let bodies = deliver::bodies(&state.shared.link, &names, Patience::Endless).await?;
    for ((_, delivery), body) in waiting.into_iter().zip(bodies) {
        delivery.set_body(body);
    }
    Ok(())
}

/// Add the jobs that were fetched. For jobs that were read back, which may be known, `asked` is 0. Returns how many
/// were new.
fn take_in(state: &State, fetched: &Fetched, deliveries: Vec<Delivery>, asked: usize, worker: &str) -> usize {
    state.shared.clock.observe(fetched.now_ms);
    if !fetched.held {
        // Nothing is requested without a lease. The renewing loop signs on again at once, and then work continues.
        state.lease_lost(worker);
        return 0;
    }
    if worker != state.identity() {
        // The lease was lost in the meantime: these jobs belong to the previous incarnation, and other workers take
        // them over.
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
    let new = desk.receive(deliveries, asked == 0, state.now_ms());
    state.offer(&desk);
    let nothing_left = nothing_came && desk.is_settled();
    drop(desk);
    if nothing_left && burst {
        state.notify("drained", "");
    }
    new
}
