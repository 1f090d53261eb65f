//! Repairs, at a slow pace: of records, identities, bodies, recorded starts and waiting callers that a fault of the server, or
//! somebody's hand, has left without what belongs to them.
//!
//! Every worker goes through all parts of the queue, a page a call. All workers together keep to the pace: each pauses longer
//! the more there are. Nothing is shared between them, and a repair that another has made is found to be made.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::State;
use crate::error::{Error, Result};
use crate::link::Patience;
use crate::logs::Level;
use crate::scripts::upkeep::{self, Part};

/// Pause between two pages: a page keeps the server busy for some tenths of a millisecond at most, so all workers together cost
/// it about a thousandth of its time.
const PACE: Duration = Duration::from_millis(200);

/// Pause between two passes through the parts that are small.
const SMALL_PERIOD: Duration = Duration::from_secs(5);

/// Pause between two passes through all keys of the server.
const LARGE_PERIOD: Duration = Duration::from_secs(60);

/// How many repairs of one kind a log line names.
const NAMED: usize = 5;

/// A part, how far the pass through it has come, and when it goes on.
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

/// Run until the worker has stopped: all parts at once when it starts, then each at its time.
pub async fn run(state: Arc<State>) -> Result<()> {
    let (link, keys) = (&state.shared.link, &state.shared.keys);
    match upkeep::mend(link, keys, Patience::Endless).await {
        Ok(names) => link.tell_set_aside(&names),
        // A user without the right to repair can still work.
        Err(error @ Error::Refused(_)) => {
            state.log(Level::Warning, format!("keys that hold something else than they should stay: {error}"));
        }
        Err(error) => return Err(error),
    }
    let mut passes = [
        Pass::new(Part::Running, SMALL_PERIOD),
        Pass::new(Part::Waiters, SMALL_PERIOD),
        Pass::new(Part::Due, SMALL_PERIOD),
        Pass::new(Part::Workers, SMALL_PERIOD),
        Pass::new(Part::Entries, SMALL_PERIOD),
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
                    // Where there is something to repair there may be more.
                    (false, false) => Duration::ZERO,
                };
        }
        let next = passes.iter().map(|pass| pass.next).min().unwrap_or_else(Instant::now);
        sleep_until(next).await;
        // However much is found, the server gets to others in between.
        sleep(Duration::from_millis(2)).await;
    }
}

/// Log repairs, a line for each kind.
fn tell(state: &State, repairs: &[(String, String)]) {
    let mut kinds: Vec<&str> = repairs.iter().map(|(kind, _)| kind.as_str()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    for kind in kinds {
        let items: Vec<&str> =
            repairs.iter().filter(|(other, _)| other == kind).map(|(_, what)| what.as_str()).collect();
        if kind == "told" {
            continue;
        }
        let named = items.iter().take(NAMED).map(|item| format!("{item:?}")).collect::<Vec<_>>().join(", ");
        let rest = if items.len() > NAMED { ", …" } else { "" };
        let level = if matches!(kind, "lost" | "aside") { Level::Error } else { Level::Warning };
        state.log(level, format!("repaired {} ({}): {named}{rest}", items.len(), meaning(kind)));
    }
}

fn meaning(kind: &str) -> &str {
    match kind {
        "lost" => "queued jobs whose entry was deleted from Redis: they have failed, and their ids are free again",
        "due" => "scheduled jobs that were missing from the due set: they are due now",
        "undue" => "members of the due set that are no scheduled jobs",
        "start" => "recorded starts of runs that are over",
        "worker" => "descriptions of workers that are gone",
        "stranded" => "jobs that were acknowledged without an outcome: they are queued again",
        "leftover" => "entries whose jobs are elsewhere",
        "identity" => "unique identities that no unfinished job holds",
        "body" => "arguments of no unfinished job: they expire in a minute",
        "aside" => "keys that held something else than they should: they were set aside for a week",
        other => other,
    }
}
