//! Sends outcomes to the server. They are kept and sent again for as long as this worker owns the
//! jobs. Only an outcome that the server will never accept is replaced, by a failure that says so.

use super::State;
use super::burial;
use super::judge::{Finished, judge, unwritable};
use crate::clock::monotonic_ms;
use crate::error::{Error, Result};
use crate::link::Patience;
use crate::lock::lock;
use crate::logs::Level;
use crate::protocol::record;
use crate::scripts::deliver::{self, GUARD_MS, Settlement, Verdict};
use crate::scripts::look;
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
    /// The outcomes themselves may be the reason.
    Theirs(Error),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ForNow(reason) => out.write_str(reason),
            Self::Theirs(error) => error.fmt(out),
        }
    }
}

/// Write the outcomes of a plan. Postpone those that cannot be written now.
pub async fn write(state: &State, finished: Vec<Finished>, again: Vec<Settlement>) -> Result<()> {
    if finished.is_empty() && again.is_empty() {
        return Ok(());
    }
    let (worker, ttl) = (state.identity(), state.settings.result_ttl_ms);
    // Outcomes that the server refuses must not delay the others.
    let (alone, mut batch): (Vec<_>, Vec<_>) = {
        let doubts = lock(&state.doubts);
        again.into_iter().partition(|one| doubts.includes(one))
    };
    let whole = batch.is_empty();
    batch.extend(finished.into_iter().map(|one| judge(one, &worker, ttl)));
    batch.sort_by_cached_key(|one| (one.stream, deliver::entry_number(&one.entry)));
    match send(state, &batch).await {
        Ok(()) => lock(&state.desk).settled(batch.len()),
        Err(Fault::ForNow(reason)) if whole => put_off(state, batch, &reason),
        Err(_) => one_by_one(state, batch).await,
    }
    one_by_one(state, alone).await;
    if state.phase().is_signing_off() {
        state.work.notify_one();
    }
    Ok(())
}

async fn one_by_one(state: &State, batch: Vec<Settlement>) {
    let (mut left, mut doubtful) = (Vec::new(), Vec::new());
    let mut reason = String::new();
    for one in batch {
        match send(state, std::slice::from_ref(&one)).await {
            Ok(()) => lock(&state.desk).settled(1),
            Err(Fault::Theirs(error)) if one.size() > 0 => doubtful.push((one, error)),
            // A job that returns to the queue has no result to replace. The worker keeps it and
            // tries again.
            Err(fault) => {
                reason = fault.to_string();
                left.push(one);
            }
        }
    }
    let is_about_them = match doubtful.first() {
        Some((one, _)) => accepts_another(state, one).await,
        None => false,
    };
    for (one, error) in doubtful {
        let why = error.to_string();
        if !(is_about_them && lock(&state.doubts).failed_alone(&one, &error)) {
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
            Err(fault) => {
                reason = fault.to_string();
                left.push(failed);
            }
        }
    }
    if !left.is_empty() {
        put_off(state, left, &reason);
    }
}

/// Whether the same call succeeds for an empty outcome. It changes nothing, because no entry has
/// this id. If it fails too, the error is not about the outcome.
async fn accepts_another(state: &State, one: &Settlement) -> bool {
    let (link, keys, ttl) = (&state.shared.link, &state.shared.keys, state.settings.result_ttl_ms);
    let empty = Settlement {
        has_inputs: false,
        stream: one.stream,
        entry: "0-1".into(),
        id: one.id.clone(),
        nonce: one.nonce,
        recorded: false,
        is_lost: false,
        unique: None,
        separate_body: None,
        has_notes: false,
        guard_ms: GUARD_MS,
        verdict: Verdict::Done(Vec::new(), ttl),
    };
    deliver::settle(link, keys, &[empty], ttl, Patience::Endless).await.is_ok_and(|refused| refused == [0])
}

fn put_off(state: &State, batch: Vec<Settlement>, reason: &str) {
    let (count, now_ms) = (batch.len(), monotonic_ms());
    lock(&state.desk).put_off(batch, now_ms + PAUSE_MS);
    if state.refusals.is_due(now_ms) {
        state.log(
            Level::Warning,
            format!(
                "Redis refuses outcomes ({count}). The worker keeps them and sends them again until Redis accepts \
                 them: {reason}"
            ),
        );
    }
}

/// One try.
async fn send(state: &State, batch: &[Settlement]) -> std::result::Result<(), Fault> {
    if batch.is_empty() {
        return Ok(());
    }
    let (link, keys, ttl) = (&state.shared.link, &state.shared.keys, state.settings.result_ttl_ms);
    let sessions = link.sessions();
    let before = *sessions.borrow();
    let refused = match deliver::settle(link, keys, batch, ttl, Patience::Endless).await {
        Ok(refused) => refused,
        Err(error) => {
            // Written or not, it is harmless to send it again: an outcome that was written is
            // refused then.
            lock(&state.doubts).tried(batch);
            let is_cut = error.is_broken() && !matches!(batch, [one] if one.size() > SMALLEST_LIMIT);
            let is_theirs = error.is_about_this_call() && !is_cut;
            return Err(if is_theirs { Fault::Theirs(error) } else { Fault::ForNow(error.to_string()) });
        }
    };
    let accepted = || batch.iter().enumerate().filter(|(position, _)| !refused.contains(position)).map(|(_, one)| one);
    // Callers are notified of the end of a job by its result.
    let unfinished = accepted().filter(|one| !one.verdict.is_final());
    state.have_changed(unfinished.map(|one| one.id.as_str()));
    burial::tell(state, accepted()).await;
    let tried: Vec<bool> = {
        let mut doubts = lock(&state.doubts);
        batch.iter().map(|one| doubts.end(one)).collect()
    };
    if refused.is_empty() {
        return Ok(());
    }
    // After a reconnect, the first try may have been written although its reply was lost. The lease
    // is not lost then.
    let reconnected = before != 0 && *sessions.borrow() != before;
    let rejected: Vec<&Settlement> = refused.iter().filter_map(|position| batch.get(*position)).collect();
    let gone = are_gone(state, &rejected).await;
    for ((one, is_gone), position) in rejected.into_iter().zip(gone).zip(refused) {
        let id = &one.id;
        if one.recorded && !is_gone {
            // The worker that took the job over has counted a death, although this process is
            // alive.
            let (nonce, entry) = (one.nonce, one.entry.clone());
            lock(&state.survived).push(Survivor { id: id.clone(), nonce, entry });
            state.lost.notify_one();
        }
        let (level, why) = if is_gone {
            let why = "was refused: Redis has no such job any more, so its data was deleted or its result has expired";
            (Level::Warning, why)
        } else if reconnected {
            let why = "was sent twice because the connection broke: it was already written, or another worker has \
                       the job";
            (Level::Info, why)
        } else if tried.get(position) == Some(&true) {
            let why = "was sent again after an error: it was already written, or another worker has the job";
            (Level::Info, why)
        } else {
            (Level::Warning, "was refused: another worker has taken the job over")
        };
        state.log(level, format!("the outcome of job {id} {why}"));
    }
    Ok(())
}

/// For each of these outcomes, whether the server has no record of its job. A later job may have
/// the same id.
async fn are_gone(state: &State, outcomes: &[&Settlement]) -> Vec<bool> {
    let (link, keys) = (&state.shared.link, &state.shared.keys);
    let ids: Vec<&str> = outcomes.iter().map(|one| one.id.as_str()).collect();
    let Ok(found) = look::lookup(link, keys, &ids, Patience::within(link.connect_limit())).await else {
        return vec![false; outcomes.len()];
    };
    let is_other =
        |one: &Settlement, record: &[u8]| record.get(1..record::PREFIX).is_some_and(|nonce| nonce != one.nonce);
    let pairs = outcomes.iter().zip(found);
    pairs.map(|(one, found)| found.record.is_none_or(|record| is_other(one, &record))).collect()
}
