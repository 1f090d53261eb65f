//! The loop that does the desk's bidding: outcomes out, starts recorded, jobs in, in one round trip.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::sleep;

use super::desk::Plan;
use super::judge::{Finished, judge, unwritable};
use super::{State, lock};
use crate::clock::monotonic_ms;
use crate::error::Result;
use crate::link::Patience;
use crate::logs::Level;
use crate::scripts::deliver::{self, Fetched, Settlement, Source, Start};

/// Read back after a lost reply beyond what a worker may hold: a job for every lane that the blocked read brought.
const MARGIN: usize = 100;

/// Run until the worker has stopped.
pub async fn run(state: Arc<State>) -> Result<()> {
    loop {
        let plan = lock(&state.desk).plan(monotonic_ms());
        if !plan.is_idle() {
            carry_out(&state, plan).await?;
            continue;
        }
        state.idle.notify_one();
        match plan.next_ms {
            Some(at) => {
                let left = Duration::from_millis(u64::try_from(at - monotonic_ms()).unwrap_or(1).max(1));
                tokio::select! { () = state.work.notified() => {}, () = sleep(left) => {} }
            }
            None => state.work.notified().await,
        }
    }
}

async fn carry_out(state: &State, plan: Plan) -> Result<()> {
    let Plan { mut settle, record, vet, fetch, recover, .. } = plan;
    lock(&state.desk).reserve(fetch);
    // What is on its way out still counts as delivered: read back meanwhile, it would be taken for a lost reply and run again.
    let before = if recover { write_outcomes(state, std::mem::take(&mut settle)).await } else { Ok(()) };
    // All requests go out on one connection, in this order, before the first answer is awaited.
    let (settled, recorded, vetted, recovered, fetched) = tokio::join!(
        write_outcomes(state, settle),
        record_starts(state, record),
        vet_starts(state, vet),
        read_back(state, recover),
        read_new(state, fetch, recover),
    );
    lock(&state.desk).unreserve(fetch);
    before.and(settled).and(recorded).and(vetted).and(recovered).and(fetched)
}

/// Write outcomes until they are written; they are not given up while the engine lives.
async fn write_outcomes(state: &State, finished: Vec<Finished>) -> Result<()> {
    if finished.is_empty() {
        return Ok(());
    }
    let (worker, ttl, count) = (state.identity(), state.settings.result_ttl_ms, finished.len());
    let mut batch: Vec<Settlement> = finished.into_iter().map(|one| judge(one, &worker, ttl)).collect();
    batch.sort_by_cached_key(|one| (one.stream, deliver::entry_number(&one.entry)));
    let before = *state.shared.link.sessions().borrow();
    let refused = match deliver::settle(&state.shared.link, &state.shared.keys, &batch, ttl, Patience::Endless).await {
        Ok(refused) => refused,
        // One that the server will not take must not hold up the others.
        Err(_) => settle_one_by_one(state, &batch, ttl).await,
    };
    lock(&state.desk).settled(count);
    // After a reconnect the first try may have been written although its answer was lost: that is no lost lease.
    let reconnected = before != 0 && *state.shared.link.sessions().borrow() != before;
    let level = if reconnected { Level::Info } else { Level::Warning };
    for position in refused {
        if let Some(one) = batch.get(position) {
            state.log(
                level,
                format!("lost the lease of job {}: its outcome here was refused, another worker's stands", one.id),
            );
        }
    }
    if state.finishing.load(Ordering::Acquire) {
        state.work.notify_one();
    }
    Ok(())
}

async fn settle_one_by_one(state: &State, batch: &[Settlement], ttl: i64) -> Vec<usize> {
    let mut refused = Vec::new();
    for (position, one) in batch.iter().enumerate() {
        let alone = std::slice::from_ref(one);
        match deliver::settle(&state.shared.link, &state.shared.keys, alone, ttl, Patience::Endless).await {
            Ok(none) if none.is_empty() => {}
            Ok(_) => refused.push(position),
            Err(error) => {
                state.log(Level::Error, format!("the outcome of job {} cannot be written: {error}", one.id));
                let failed = unwritable(one.clone(), &error.to_string());
                let last =
                    deliver::settle(&state.shared.link, &state.shared.keys, &[failed], ttl, Patience::Endless).await;
                if last.is_err() {
                    refused.push(position);
                }
            }
        }
    }
    refused
}

async fn record_starts(state: &State, runs: Vec<(usize, Start)>) -> Result<()> {
    if runs.is_empty() {
        return Ok(());
    }
    let starts: Vec<Start> = runs.into_iter().map(|(_, start)| start).collect();
    let worker = state.identity();
    // A run that is not ours any more is found out when it is settled.
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
    let mut inbox = lock(&state.inbox);
    desk.vetted(&slots, &refused, state.now_ms(), &mut inbox.assignments);
    if !inbox.assignments.is_empty() {
        state.bell.ring();
    }
    Ok(())
}

async fn read_back(state: &State, recover: bool) -> Result<()> {
    if !recover {
        return Ok(());
    }
    let worker = state.identity();
    let (link, keys) = (&state.shared.link, &state.shared.keys);
    let mut count = state.settings.prefetch + MARGIN;
    loop {
        let fetched = deliver::fetch(link, keys, &worker, count, Source::Own, Patience::Endless).await?;
        let cut = fetched.entries.chunk_by(|a, b| a.stream == b.stream).any(|stream| stream.len() == count);
        take_in(state, fetched, 0, &worker, true);
        if !cut {
            return Ok(());
        }
        // Several replies were lost: what is known stands first, and what is missing behind it.
        count *= 2;
    }
}

async fn read_new(state: &State, count: usize, recovering: bool) -> Result<()> {
    if count == 0 {
        return Ok(());
    }
    let worker = state.identity();
    let (link, keys) = (&state.shared.link, &state.shared.keys);
    let fetched = deliver::fetch(link, keys, &worker, count, Source::New, Patience::Endless).await?;
    take_in(state, fetched, count, &worker, recovering);
    Ok(())
}

fn take_in(state: &State, fetched: Fetched, asked: usize, worker: &str, check_known: bool) {
    state.shared.clock.observe(fetched.now_ms);
    if !fetched.held {
        // Nothing is asked for without a lease; the renewing loop signs on anew at once, and sets things going again.
        state.lease_lost(worker);
        return;
    }
    if worker != state.identity() {
        // The lease was lost meanwhile: this was sent to whom we were, and others take it over.
        return;
    }
    let mut desk = lock(&state.desk);
    let (count, drained) = (fetched.entries.len(), fetched.unfinished == Some(0));
    // A fetch and a blocked read never have the same job; what is read back may be known, and what is fetched beside it too.
    desk.receive(fetched.entries, check_known, state.now_ms());
    if count < asked {
        desk.set_dry(true);
    }
    state.hand_out(&mut desk);
    let nothing_left = drained && desk.held() == 0 && desk.is_settled();
    drop(desk);
    if nothing_left && asked > 0 && state.burst.load(Ordering::Acquire) {
        state.notify("drained", "");
    }
}
