//! Sends outcomes to the server. They are kept and sent again for as long as this worker owns the
//! jobs. Only an outcome that the server will never accept is replaced, by a failure that says so.

use super::State;
use super::burial;
use super::judge::{Finished, judge, unwritable};
use crate::clock::monotonic_ms;
use crate::error::Result;
use crate::link::Patience;
use crate::lock::lock;
use crate::logs::Level;
use crate::scripts::deliver::{self, Settlement};
use crate::scripts::upkeep::Survivor;

/// Pause before outcomes that the server refused are sent again.
const PAUSE_MS: i64 = 500;

/// A smaller outcome never is the reason why a connection breaks: no server has a lower limit.
const SMALLEST_LIMIT: usize = 1 << 20;

/// Why the server has not accepted some outcomes.
enum Fault {
    /// A temporary refusal: permission or memory is lacking, or the server is no longer the
    /// primary.
    ForNow(String),
    /// The outcomes themselves are the reason.
    Theirs(String),
}

/// Write the outcomes of a plan. Postpone those that cannot be written now.
pub async fn write(state: &State, finished: Vec<Finished>, again: Vec<Settlement>) -> Result<()> {
    if finished.is_empty() && again.is_empty() {
        return Ok(());
    }
    let (worker, ttl) = (state.identity(), state.settings.result_ttl_ms);
    let mut batch = again;
    let whole = batch.is_empty();
    batch.extend(finished.into_iter().map(|one| judge(one, &worker, ttl)));
    batch.sort_by_cached_key(|one| (one.stream, deliver::entry_number(&one.entry)));
    match send(state, &batch).await {
        Ok(()) => lock(&state.desk).settled(batch.len()),
        Err(Fault::ForNow(reason)) if whole => put_off(state, batch, &reason),
        // Outcomes that the server refuses must not delay the others.
        Err(_) => one_by_one(state, batch).await,
    }
    if state.phase().is_signing_off() {
        state.work.notify_one();
    }
    Ok(())
}

async fn one_by_one(state: &State, batch: Vec<Settlement>) {
    let mut left = Vec::new();
    let mut reason = String::new();
    for one in batch {
        let fault = match send(state, std::slice::from_ref(&one)).await {
            Ok(()) => {
                lock(&state.desk).settled(1);
                continue;
            }
            Err(fault) => fault,
        };
        let why = match fault {
            Fault::ForNow(why) => {
                reason = why;
                left.push(one);
                continue;
            }
            Fault::Theirs(why) => why,
        };
        if one.size() == 0 {
            // A job that returns to the queue has no result to replace. The worker keeps it and
            // tries again.
            reason = why;
            left.push(one);
            continue;
        }
        state.log(
            Level::Error,
            format!("the outcome of job {} cannot be stored, so the job is recorded as failed: {why}", one.id),
        );
        let failed = unwritable(one, &why);
        match send(state, std::slice::from_ref(&failed)).await {
            Ok(()) => lock(&state.desk).settled(1),
            Err(Fault::ForNow(why) | Fault::Theirs(why)) => {
                reason = why;
                left.push(failed);
            }
        }
    }
    if !left.is_empty() {
        put_off(state, left, &reason);
    }
}

fn put_off(state: &State, batch: Vec<Settlement>, reason: &str) {
    let (count, now_ms) = (batch.len(), monotonic_ms());
    lock(&state.desk).put_off(batch, now_ms + PAUSE_MS);
    if state.refusals.is_due(now_ms) {
        state.log(
            Level::Warning,
            format!("Redis refuses {count} outcomes, which are kept and sent again until it accepts them: {reason}"),
        );
    }
}

/// One try.
async fn send(state: &State, batch: &[Settlement]) -> std::result::Result<(), Fault> {
    let (link, keys, ttl) = (&state.shared.link, &state.shared.keys, state.settings.result_ttl_ms);
    let sessions = link.sessions();
    let before = *sessions.borrow();
    let refused = match deliver::settle(link, keys, batch, ttl, Patience::Endless).await {
        Ok(refused) => refused,
        // Written or not, it is harmless to send it again: an outcome that was written is refused
        // then.
        Err(error) if error.is_broken() && !matches!(batch, [one] if one.size() > SMALLEST_LIMIT) => {
            return Err(Fault::ForNow(error.to_string()));
        }
        Err(error) if error.is_about_this_call() => return Err(Fault::Theirs(error.to_string())),
        Err(error) => return Err(Fault::ForNow(error.to_string())),
    };
    let accepted = batch.iter().enumerate().filter(|(position, _)| !refused.contains(position)).map(|(_, one)| one);
    burial::tell(state, accepted).await;
    // After a reconnect, the first try may have been written although its reply was lost. The lease
    // is not lost then.
    let reconnected = before != 0 && *sessions.borrow() != before;
    for one in refused.iter().filter_map(|position| batch.get(*position)) {
        let id = &one.id;
        if one.recorded {
            // The worker that took the job over has counted a death, although this process is
            // alive.
            let (nonce, entry) = (one.nonce, one.entry.clone());
            lock(&state.survived).push(Survivor { id: id.clone(), nonce, entry });
            state.lost.notify_one();
        }
        if reconnected {
            state.log(
                Level::Info,
                format!("the outcome of job {id} was sent twice because the connection broke: it was already written, or another worker has the job"),
            );
        } else {
            state.log(
                Level::Warning,
                format!("the outcome of job {id} was refused: another worker has taken the job over"),
            );
        }
    }
    Ok(())
}
