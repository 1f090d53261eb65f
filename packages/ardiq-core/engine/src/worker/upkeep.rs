//! Every worker maintains the queue: it promotes due jobs and takes over the work of dead workers.
//! Neither needs a lock: each is one script call, and a second call finds nothing to do.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::State;
use crate::clock::{awake_ms, monotonic_ms};
use crate::error::{Error, Result};
use crate::link::Patience;
use crate::logs::{Level, LogThrottle};
use crate::printable::text_of;
use crate::protocol::entry::Header;
use crate::protocol::envelope::Envelope;
use crate::scripts::{look, upkeep};

/// Jobs that one promotion moves. It takes well under a millisecond of the server's time.
const PROMOTE_LIMIT: usize = 50;

/// Jobs that one reclaim moves.
const RECLAIM_LIMIT: usize = 100;

/// Longest sleep of the promoting loop. Earlier due times are announced.
const LONGEST_SLEEP: Duration = Duration::from_secs(5);

/// The same for a worker that cannot subscribe.
const LONGEST_UNSUBSCRIBED_SLEEP: Duration = Duration::from_secs(1);

/// Jobs that a log line names.
const NAMED: usize = 10;

/// How often the worker looks for dead workers.
const RECLAIM_PERIOD: Duration = Duration::from_secs(1);

/// Pause between finding an expired lease and declaring its worker dead. Delayed renewals can
/// arrive in between.
const SECOND_LOOK: Duration = Duration::from_millis(300);

/// Move jobs to their lanes when they are due.
pub async fn promote(state: Arc<State>) -> Result<()> {
    let (link, keys) = (&state.shared.link, &state.shared.keys);
    let mut announced = state.shared.earliest_due.subscribe();
    loop {
        announced.borrow_and_update();
        let done = upkeep::promote(link, keys, PROMOTE_LIMIT, Patience::Endless).await?;
        state.shared.clock.observe(done.now_ms);
        if let Some(step) = state.shared.clock.take_step() {
            let seconds = step / 1000;
            let message = format!(
                "the server's clock was moved by {seconds:+} s: schedules follow it, and delayed jobs start that much earlier or later"
            );
            state.log(Level::Warning, message);
        }
        if done.moved == PROMOTE_LIMIT {
            continue;
        }
        let longest = if link.is_subscribed_to(&keys.wake) { LONGEST_SLEEP } else { LONGEST_UNSUBSCRIBED_SLEEP };
        let pause = done.due_in_ms.map_or(longest, |ms| Duration::from_millis(ms).min(longest));
        let mut end = Instant::now() + pause;
        loop {
            tokio::select! {
                () = sleep_until(end) => break,
                changed = announced.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    let at = *announced.borrow_and_update();
                    let left = Duration::from_millis(at.saturating_sub(state.now_ms()));
                    end = end.min(Instant::now() + left);
                }
            }
        }
    }
}

/// Take over from workers whose lease has expired.
pub async fn reclaim(state: Arc<State>) -> Result<()> {
    let third = Duration::from_millis((state.settings.lease_ms / 3).max(1));
    let period = third.min(RECLAIM_PERIOD);
    let mut next_sweep = Instant::now();
    let (mut seen, refusals) = (Vec::new(), LogThrottle::default());
    loop {
        let sweep = Instant::now() >= next_sweep;
        if sweep {
            next_sweep = Instant::now() + third;
        }
        seen = match take_over(&state, &seen, sweep).await {
            // The workers of another user may have the permission.
            Err(error @ Error::Refused(_)) => {
                if refusals.is_due(monotonic_ms()) {
                    state.log(Level::Error, format!("the jobs of dead workers cannot be taken over: {error}"));
                }
                Vec::new()
            }
            done => done?,
        };
        sleep(if seen.is_empty() { period } else { period.min(SECOND_LOOK) }).await;
    }
}

/// Jobs as `task[id]`; as the id alone if the job has moved on.
async fn name(state: &State, ids: &[Vec<u8>]) -> Vec<String> {
    let (link, keys) = (&state.shared.link, &state.shared.keys);
    let found = look::lookup(link, keys, ids, Patience::within(link.connect_limit())).await.unwrap_or_default();
    let task = |position: usize| {
        let (_, envelope) = Header::split(&found.get(position)?.value)?;
        Envelope::decode(envelope).ok().map(|envelope| envelope.name)
    };
    ids.iter()
        .enumerate()
        .map(|(position, id)| format!("{}[{}]", task(position).unwrap_or_default(), text_of(id.clone())))
        .collect()
}

/// Take over all available work. Returns the workers to check again.
async fn take_over(state: &State, seen: &[upkeep::Expired], sweep: bool) -> Result<Vec<upkeep::Expired>> {
    let (link, keys) = (&state.shared.link, &state.shared.keys);
    let (mut victim, mut taken, mut started, mut named) = (String::new(), 0, 0, Vec::new());
    let expired = loop {
        let (worker, sent_ms) = (state.identity(), awake_ms());
        let expected_ms = state.pulse.expected(sent_ms);
        let search = upkeep::Search { asker: &worker, limit: RECLAIM_LIMIT, sweep, expected_ms, seen };
        let done = upkeep::reclaim(link, keys, search, Patience::Endless).await;
        let done = done.inspect_err(|_| state.pulse.failed(sent_ms))?;
        state.pulse.seen(done.now_ms, sent_ms);
        if done.aborts {
            state.aborts.notify_one();
        }
        if done.links {
            state.links.notify_one();
        }
        if done.victim.is_empty() {
            break done.expired;
        }
        victim = done.victim;
        taken += done.taken;
        started += done.started;
        named.extend(done.named);
        named.truncate(NAMED);
    };
    if taken > 0 {
        let jobs = if taken == 1 { "job" } else { "jobs" };
        let mut message = format!(
            "took over {taken} {jobs} ({started} started), most recently from worker {victim}, which no longer has \
             a lease"
        );
        if started > 0 {
            let named = name(state, &named).await;
            let more = started.saturating_sub(named.len() as u64);
            let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
            let _ = write!(message, ". These had started: {}{rest}", named.join(", "));
        }
        state.log(Level::Warning, message);
    }
    Ok(expired)
}
