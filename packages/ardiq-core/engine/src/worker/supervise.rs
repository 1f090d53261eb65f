//! Starts the loops of a worker, and restarts them after an error. The worker fails if a loop
//! panics or cannot recover for a minute. So a worker works, recovers, or reports that it has
//! failed. It never stays up without doing any work.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{State, idle, lease, outage, scrub, unserved, upkeep, work};
use crate::error::Result;
use crate::link::backoff;
use crate::lock::lock;
use crate::logs::Level;

/// If a loop fails for this long without a success, the worker fails.
const LIMIT: Duration = Duration::from_secs(60);

/// Errors that are further apart than this are separate failures.
const SEPARATE_BODY: Duration = Duration::from_secs(10);

/// Start every loop.
pub fn run_all(state: &Arc<State>) {
    spawn(state, "work", work::run);
    spawn(state, "idle", idle::run);
    spawn(state, "renew", lease::renew);
    spawn(state, "watch", lease::watch);
    spawn(state, "outage", outage::run);
    spawn(state, "promote", upkeep::promote);
    spawn(state, "reclaim", upkeep::reclaim);
    spawn(state, "scrub", scrub::run);
    spawn(state, "unserved", unserved::run);
}

fn spawn<F>(state: &Arc<State>, name: &'static str, body: impl Fn(Arc<State>) -> F + Send + 'static)
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let supervised = Arc::clone(state);
    let task = tokio::spawn(async move {
        let state = supervised;
        let (mut pauses, mut failing_since, mut last) = (backoff(), None, Instant::now());
        loop {
            // Run it as a separate task, so that a panic is noticed here, and the other loops
            // continue until the worker fails.
            let run = tokio::spawn(body(Arc::clone(&state)));
            let guard = AbortOnDrop(run.abort_handle());
            let ended = run.await;
            drop(guard);
            match ended {
                Ok(Ok(())) => return,
                Ok(Err(error)) => {
                    let now = Instant::now();
                    if now - last > SEPARATE_BODY {
                        failing_since = None;
                        pauses = backoff();
                    }
                    last = now;
                    let since = *failing_since.get_or_insert(now);
                    if now - since > LIMIT {
                        state.fail(format!("the {name} loop could not recover: {error}"));
                        return;
                    }
                    state.log(Level::Error, format!("the {name} loop failed and is restarted: {error}"));
                    lock(&state.desk).must_recover();
                    state.work.notify_one();
                    sleep(pauses.next().unwrap_or(SEPARATE_BODY)).await;
                }
                Err(panic) => {
                    state.fail(format!("the {name} loop panicked: {panic}"));
                    return;
                }
            }
        }
    });
    lock(&state.tasks).push(task.abort_handle());
}

struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
