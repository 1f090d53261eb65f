//! Waiting for a result: check, register in Redis, wait for the push, and unregister when no caller waits any more.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use crate::client::Shared;
use crate::error::{Error, Result};
use crate::link::Patience;
use crate::logs::Level;
use crate::protocol::record::ResultRecord;
use crate::results::{Place, Withdrawal};
use crate::scripts::look::{self, FORGET_LIMIT, Seen};

/// Longest wait for a result: ten years, so that no limit overflows a clock.
const LONGEST_WAIT: Duration = Duration::from_secs(10 * 365 * 86_400);

/// If a push is expected, callers check again after this time, then at growing intervals: the worker may not be allowed to
/// publish, and the registration in Redis may be gone.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
const LOOK_AGAIN_AT_MOST: Duration = Duration::from_secs(60);

/// The same intervals if no push is expected.
const POLL: Duration = Duration::from_millis(20);
const POLL_AT_MOST: Duration = Duration::from_secs(1);

/// How long a caller that gives up waits for a final check for the result.
const LAST_HOPE: Duration = Duration::from_millis(250);

/// How long withdrawals are gathered before they are sent.
const GATHERING: Duration = Duration::from_millis(20);

/// Withdrawal calls in flight at the same time.
const WITHDRAWALS: usize = 4;

type Found = Option<Arc<ResultRecord>>;

/// The result if there is one now.
pub async fn look_now(shared: &Shared, id: &str) -> Result<Found> {
    let patience = Patience::within(shared.link.connect_limit());
    let record = look::result(&shared.link, &shared.keys, id, patience).await?;
    if record.is_empty() { Ok(None) } else { read(&record).map(Some) }
}

fn read(record: &[u8]) -> Result<Arc<ResultRecord>> {
    ResultRecord::decode(record).map(Arc::new).map_err(Error::Protocol)
}

/// The result, or `None` when it does not come within `limit`.
///
/// # Errors
/// [`Error::NoResult`] as soon as it is known that none will come.
pub async fn wait_for(shared: &Arc<Shared>, id: &str, limit: Duration) -> Result<Found> {
    let end = Instant::now() + limit.min(LONGEST_WAIT);
    let mut place = shared.waiting.enter(id);
    let mut sessions = shared.link.sessions();
    let mut patience = Patience::within(shared.link.connect_limit());
    let (mut push, mut poll) = (LOOK_AGAIN, POLL);
    let mut first = true;
    loop {
        let subscribed = subscribe(shared, patience).await?;
        sessions.borrow_and_update();
        let wait_ms = if subscribed { millis(end.saturating_duration_since(Instant::now())).max(1) } else { 0 };
        let expected = match look_and_leave_word(shared, id, &place, wait_ms, patience).await {
            Ok(Seen::Result(record)) => return read(&record).map(Some),
            Ok(Seen::Unfinished { word_left }) => word_left,
            Ok(seen) => return missed(shared, id, place, seen, first, patience).await,
            // A temporary refusal may end before our time is up.
            Err(Error::Refused(_)) if !first => false,
            Err(error) => return Err(error),
        };
        let pause = if expected { &mut push } else { &mut poll };
        let next = Instant::now() + *pause;
        *pause = (*pause * 2).min(if expected { LOOK_AGAIN_AT_MOST } else { POLL_AT_MOST });
        first = false;
        tokio::select! {
            arrived = &mut place.arrival => {
                if let Ok(Some(result)) = arrived {
                    return Ok(Some(result));
                }
                place = shared.waiting.enter(id);
                // It has come in time; reading it may take some.
                patience = Patience::Until(end.max(Instant::now() + shared.link.connect_limit()));
                continue;
            }
            () = sleep_until(end.min(next)) => if next >= end { return last_hope(shared, id, place).await },
            changed = sessions.changed() => if changed.is_err() { return Err(Error::Closed) },
        }
        // A broker that is away while we wait is no error before our own time is up.
        patience = Patience::Until(end.max(Instant::now() + Duration::from_millis(1)));
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Have results sent to us; false when we are not allowed to hear them.
async fn subscribe(shared: &Shared, patience: Patience) -> Result<bool> {
    match shared.link.subscribe(&shared.push, patience).await {
        Ok(()) => Ok(true),
        Err(Error::Refused(reason)) => {
            if shared.waiting.is_first_refusal() {
                let message = format!(
                    "results are not sent to this process, which checks for them at intervals instead: {reason}"
                );
                shared.logs.push(Level::Warning, "client", message);
            }
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

async fn look_and_leave_word(
    shared: &Shared,
    id: &str,
    place: &Place,
    wait_ms: u64,
    patience: Patience,
) -> Result<Seen> {
    let before = place.note_word(wait_ms > 0);
    let seen = look::wait(&shared.link, &shared.keys, id, &shared.push, wait_ms, patience).await?;
    place.note_word(match &seen {
        // The registration was removed when the result was sent.
        Seen::Result(_) => false,
        Seen::Unfinished { word_left } => *word_left || before,
        Seen::Finished | Seen::Unknown => before,
    });
    Ok(seen)
}

/// No result will come, unless it was sent to us while we looked.
async fn missed(
    shared: &Shared,
    id: &str,
    mut place: Place,
    seen: Seen,
    first: bool,
    patience: Patience,
) -> Result<Found> {
    if !first {
        // After the reply, everything that was sent before it has arrived.
        let _ = shared.link.probe(patience).await;
        if let Ok(Some(result)) = place.arrival.try_recv() {
            return Ok(Some(result));
        }
    }
    let why = match seen {
        Seen::Finished => "it has finished, and its result is not stored or has expired",
        _ => "Redis knows no such job: it was never enqueued, or its result has expired",
    };
    Err(Error::NoResult { id: id.to_owned(), why })
}

/// The time is up. The withdrawal also checks for a result.
async fn last_hope(shared: &Arc<Shared>, id: &str, place: Place) -> Result<Found> {
    let Some(hope) = place.give_up() else { return Ok(None) };
    let end = Instant::now() + LAST_HOPE;
    match timeout_at(end, hope).await {
        Ok(Ok(true)) => look_now(shared, id).await,
        _ => Ok(None),
    }
}

/// Withdraw the word of those who have given up, for as long as the client lives.
pub async fn withdraw(shared: Arc<Shared>) {
    loop {
        shared.waiting.there_is_word_over().await;
        // Where one gives up, others do.
        sleep(GATHERING).await;
        if let Some(some) = shared.waiting.withdrawal(FORGET_LIMIT * WITHDRAWALS) {
            withdraw_some(&shared, some, Patience::within(shared.link.connect_limit())).await;
        }
    }
}

/// Withdraw the remaining registrations when the client is closed. This takes at most `limit`, since they expire anyway.
pub async fn withdraw_rest(shared: Arc<Shared>, limit: Duration) {
    let patience = Patience::within(limit);
    let all = async {
        // Those who wait are just being told that the client is closed.
        while shared.waiting.is_awaited() {
            sleep(Duration::from_millis(1)).await;
        }
        while let Some(some) = shared.waiting.withdrawal(FORGET_LIMIT * WITHDRAWALS) {
            withdraw_some(&shared, some, patience).await;
        }
    };
    let _ = timeout(limit, all).await;
}

async fn withdraw_some(shared: &Shared, some: Withdrawal, patience: Patience) {
    let (link, keys, channel) = (&shared.link, &shared.keys, &shared.push);
    let calls = some.ids.chunks(FORGET_LIMIT).map(|ids| look::forget(link, keys, channel, ids, patience));
    let answers = join_all(calls).await;
    // `scrub` removes the entries of failed withdrawals.
    let of_call = |(number, ended): (usize, Result<Vec<usize>>)| {
        ended.unwrap_or_default().into_iter().map(move |position| number * FORGET_LIMIT + position)
    };
    let ended: Vec<usize> = answers.into_iter().enumerate().flat_map(of_call).collect();
    shared.waiting.withdrawn(some, &ended);
}
