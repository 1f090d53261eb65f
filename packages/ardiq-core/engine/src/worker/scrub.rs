//! Repairs damage from server faults and manual changes, at a slow pace: records, identities,
//! bodies, notes, recorded starts and waiting callers whose counterparts are missing.
//!
//! Every worker goes through all parts of the queue, one page per call. The more workers there are,
//! the longer each one pauses, so that all of them together keep the pace. They share no state. If
//! another worker has made a repair, there is nothing to do.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::State;
use crate::error::{Error, Result};
use crate::link::Patience;
use crate::logs::Level;
use crate::scripts::upkeep::{self, Part};

/// Pause between two pages. A page keeps the server busy for a few tenths of a millisecond at most,
/// so all workers together use about a thousandth of its time.
const PACE: Duration = Duration::from_millis(200);

/// Pause between two passes through the small parts.
const SMALL_PERIOD: Duration = Duration::from_secs(5);

/// Pause between two passes through all keys of the server.
const LARGE_PERIOD: Duration = Duration::from_secs(60);

/// Number of repairs of one kind that a log line names.
const NAMED: usize = 5;

/// A part, the progress of the pass through it, and when it continues.
struct Pass {
    part: Part,
    period: Duration,
    cursor: String,
    next: Instant,
}

impl Pass {
    fn new(part: Part, period: Duration) -> Self {
        Self { part, period, cursor: "0".into(), next: Instant::now() }
    }
}

/// Run until the worker has stopped: go through all parts when it starts, then through each part
/// when it is due.
pub async fn run(state: Arc<State>) -> Result<()> {
    let (link, keys) = (&state.shared.link, &state.shared.keys);
    match upkeep::mend(link, keys, Patience::Endless).await {
        Ok(names) => link.tell_set_aside(&names),
        // A user without permission to repair can still work.
        Err(error @ Error::Refused(_)) => {
            state.log(Level::Warning, format!("keys of the wrong type cannot be set aside: {error}"));
        }
        Err(error) => return Err(error),
    }
    let mut passes = [
        Pass::new(Part::Running, SMALL_PERIOD),
        Pass::new(Part::Waiters, SMALL_PERIOD),
        Pass::new(Part::Due, SMALL_PERIOD),
        Pass::new(Part::Workers, SMALL_PERIOD),
        Pass::new(Part::Entries, SMALL_PERIOD),
        Pass::new(Part::Aborting, SMALL_PERIOD),
        Pass::new(Part::Linked, SMALL_PERIOD),
        Pass::new(Part::Records, LARGE_PERIOD),
    ];
    let mut refused = false;
    loop {
        for pass in &mut passes {
            if Instant::now() < pass.next {
                continue;
            }
            let done = match upkeep::scrub(link, keys, pass.part, &pass.cursor, Patience::Endless).await {
                Ok(done) => done,
                Err(error @ Error::Refused(_)) => {
                    if !std::mem::replace(&mut refused, true) {
                        state.log(Level::Warning, format!("the queue cannot be checked and repaired: {error}"));
                    }
                    pass.next = Instant::now() + LARGE_PERIOD;
                    continue;
                }
                Err(error) => return Err(error),
            };
            tell(&state, &done.repairs);
            let pace = PACE * u32::try_from(done.workers.clamp(1, 1000)).unwrap_or(1);
            let over = done.cursor == "0";
            pass.cursor = done.cursor;
            pass.next = Instant::now()
                + match (over, done.repairs.is_empty()) {
                    (true, _) => pass.period.max(pace),
                    (false, true) => pace,
                    // If there was something to repair, there may be more.
                    (false, false) => Duration::ZERO,
                };
        }
        let next = passes.iter().map(|pass| pass.next).min().unwrap_or_else(Instant::now);
        sleep_until(next).await;
        // Even if there is much to repair, the server serves others in between.
        sleep(Duration::from_millis(2)).await;
    }
}

/// Log the repairs, one line for each kind.
fn tell(state: &State, repairs: &[(String, String)]) {
    let mut kinds: Vec<&str> = repairs.iter().map(|(kind, _)| kind.as_str()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    for kind in kinds {
        let items: Vec<&str> =
            repairs.iter().filter(|(other, _)| other == kind).map(|(_, what)| what.as_str()).collect();
        if matches!(kind, "told" | "mark") {
            continue;
        }
        let named = items.iter().take(NAMED).map(|item| format!("{item:?}")).collect::<Vec<_>>().join(", ");
        let rest = if items.len() > NAMED { ", …" } else { "" };
        let level = if matches!(kind, "lost" | "aside") { Level::Error } else { Level::Warning };
        state.log(level, format!("repair: {} ({} in total): {named}{rest}", meaning(kind), items.len()));
    }
}

fn meaning(kind: &str) -> &str {
    match kind {
        "lost" => "queued jobs whose entry was deleted from Redis: they have failed, and their ids are free again",
        "due" => "scheduled jobs that were missing from the due set: they are due now, unless they wait for others",
        "undue" => "members of the due set that are not scheduled jobs",
        "start" => "recorded starts of runs that are over",
        "worker" => "workers whose lease was deleted from Redis: they have a minute to renew it",
        "stranded" => "jobs that were acknowledged without an outcome: they are queued again",
        "leftover" => "entries whose jobs are elsewhere",
        "identity" => "unique identities that no unfinished job holds",
        "body" => "arguments that no unfinished job needs: they expire in a minute",
        "parent" => "jobs that have ended without starting those that depend on them: these are decided now",
        "link" => "what links jobs that have ended",
        "notes" => "progress and checkpoints that no unfinished job needs: they were removed",
        "aside" => "keys of the wrong type: they were set aside for a week",
        other => other,
    }
}
