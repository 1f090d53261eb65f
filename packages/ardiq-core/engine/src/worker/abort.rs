//! Aborts jobs that this worker has. A mark in Redis says which. If the job has not started, it is
//! returned to the queue, where its mark ends it. If it runs, the host cancels it.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use super::desk::Desk;
use super::job::Job;
use super::judge::Outcome;
use super::runs::Stage;
use super::{EventKind, State};
use crate::clock::monotonic_ms;
use crate::error::{Error, Result};
use crate::link::Patience;
use crate::lock::lock;
use crate::logs::{Level, LogThrottle};
use crate::protocol::keys::Nonce;
use crate::scripts::abort;

/// Check the marks whenever one is announced. At that moment, the job may be in a reply that this
/// worker has not received. So it also checks once a second while there are marks, when the search
/// for dead workers says so.
pub async fn run(state: Arc<State>) -> Result<()> {
    let (link, keys) = (&state.shared.link, &state.shared.keys);
    let mut announced = state.shared.aborts.subscribe();
    let refusals = LogThrottle::default();
    loop {
        tokio::select! {
            changed = announced.changed() => if changed.is_err() { return Ok(()) },
            () = state.aborts.notified() => {}
        }
        let held = lock(&state.desk).unfinished();
        match abort::marked(link, keys, held, Patience::Endless).await {
            Ok(marked) => apply(&state, &marked),
            Err(error @ Error::Refused(_)) => {
                if refusals.is_due(monotonic_ms()) {
                    state.log(Level::Error, format!("jobs that are to be aborted cannot be found: {error}"));
                }
            }
            Err(error) => return Err(error),
        }
    }
}

fn apply(state: &State, marked: &[(String, Nonce)]) {
    if marked.is_empty() {
        return;
    }
    let mut desk = lock(&state.desk);
    let has_runs = desk.abort(marked, state.now_ms());
    // Other jobs may start in place of those that were removed.
    state.offer(&desk);
    drop(desk);
    state.work.notify_one();
    if has_runs {
        state.emit(EventKind::Abort, "");
    }
}

impl Desk {
    /// The jobs that have no outcome yet.
    pub fn unfinished(&self) -> Vec<(String, Nonce)> {
        let waiting = self.buffer.iter().flatten().chain(self.quarantine.iter()).chain(self.incomplete.iter());
        let running = self.runs.iter().filter(|run| run.stage != Stage::Void).map(|run| &run.job);
        waiting.chain(running).map(|job| (job.id.clone(), job.envelope.nonce)).collect()
    }

    /// Abort these jobs: return those that have not started to the queue. Returns whether the host
    /// has to cancel runs, see [`Desk::take_aborts`].
    pub fn abort(&mut self, marked: &[(String, Nonce)], now_ms: u64) -> bool {
        let marked: HashSet<(&str, Nonce)> = marked.iter().map(|(id, nonce)| (id.as_str(), *nonce)).collect();
        let is_marked = |job: &Job| marked.contains(&(job.id.as_str(), job.envelope.nonce));
        let mut unstarted = self.quarantine.remove(is_marked);
        unstarted.extend(self.incomplete.remove_all(is_marked));
        for lane in self.buffer.iter_mut().filter(|lane| lane.iter().any(is_marked)) {
            let (removed, rest): (VecDeque<Job>, VecDeque<Job>) = lane.drain(..).partition(is_marked);
            unstarted.extend(removed);
            *lane = rest;
        }
        unstarted.extend(self.runs.abort(is_marked));
        for job in unstarted {
            self.finish_unstarted(job, Outcome::HandBack, now_ms);
        }
        self.runs.iter().any(|run| run.must_abort && !run.is_told)
    }

    /// The slots of runs that the host has to cancel. Each is returned once.
    pub fn take_aborts(&mut self) -> Vec<usize> {
        let mut slots = Vec::new();
        for (slot, run) in self.runs.iter_mut() {
            // The host does not have a run whose start is still being recorded.
            if run.must_abort && !run.is_told && run.stage != Stage::Vetted {
                run.is_told = true;
                slots.push(slot);
            }
        }
        slots
    }
}
