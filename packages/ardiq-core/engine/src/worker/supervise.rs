//! How the loops of a worker live: started alike, started again after an error, and the worker fails when one panics or
//! cannot get going for a minute. A worker works, or recovers, or says that it has failed: never alive and deaf.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{State, idle, lease, lock, outage, scrub, upkeep, work};
use crate::error::Result;
use crate::link::backoff;
use crate::logs::Level;

/// A loop that fails for so long without a success takes the worker down.
const LIMIT: Duration = Duration::from_secs(60);

/// Errors further apart than this are not one failure.
const APART: Duration = Duration::from_secs(10);

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
            // A task of its own, so that a panic is seen here and the others go on until the worker has been told.
            let run = tokio::spawn(body(Arc::clone(&state)));
            let guard = AbortOnDrop(run.abort_handle());
            let ended = run.await;
            drop(guard);
            match ended {
                Ok(Ok(())) => return,
                Ok(Err(error)) => {
                    let now = Instant::now();
                    if now - last > APART {
                        failing_since = None;
                        pauses = backoff();
                    }
                    last = now;
                    let since = *failing_since.get_or_insert(now);
                    if now - since > LIMIT {
                        state.fail(format!("the {name} loop could not recover: {error}"));
                        return;
                    }
                    state.log(Level::Error, format!("the {name} loop failed and starts again: {error}"));
                    lock(&state.desk).must_recover();
                    sleep(pauses.next().unwrap_or(APART)).await;
                }
                Err(panic) => {
                    if !state.ended.load(Ordering::Acquire) {
                        state.fail(format!("the {name} loop died: {panic}"));
                    }
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
