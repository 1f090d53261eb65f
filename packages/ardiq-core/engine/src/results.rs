//! Waits for results. A caller checks for the result, registers in Redis, and waits for the message
//! that carries the result. When no caller in this process still waits for a job, the process
//! withdraws its registration.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use crate::error::{Error, Result};
use crate::link::Patience;
use crate::logs::Level;
use crate::protocol::record::ResultRecord;
use crate::refusal::Subject;
use crate::scripts::look::{self, FORGET_LIMIT, Seen};
use crate::shared::Shared;
use crate::waiters::{Waiter, Withdrawal};

/// The longest wait for a result: ten years, so that no limit overflows a clock.
pub const LONGEST_WAIT: Duration = Duration::from_secs(10 * 365 * 86_400);

/// If a message is expected, the caller checks again after this time, and then at growing
/// intervals: the worker may not be allowed to publish, or the registration in Redis may be gone.
const CHECK_AFTER: Duration = Duration::from_secs(5);
const LONGEST_CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// The same intervals if no message is expected.
const POLL_AFTER: Duration = Duration::from_millis(20);
const LONGEST_POLL_INTERVAL: Duration = Duration::from_secs(1);

/// How long a caller that gives up waits for the final check for a result.
const FINAL_CHECK_LIMIT: Duration = Duration::from_millis(250);

/// How long withdrawals are gathered before they are sent.
const GATHERING: Duration = Duration::from_millis(20);

/// Withdrawal calls in flight at the same time.
const WITHDRAWALS: usize = 4;

type Found = Option<Arc<ResultRecord>>;

/// The result, if there is one now.
pub async fn get(shared: &Shared, id: &str) -> Result<Found> {
    let patience = Patience::within(shared.link.connect_limit());
    let record = look::result(&shared.link, &shared.keys, id, patience).await?;
    if record.is_empty() { Ok(None) } else { decode(&record).map(Some) }
}

fn decode(record: &[u8]) -> Result<Arc<ResultRecord>> {
    ResultRecord::decode(record).map(Arc::new).map_err(Error::Protocol)
}

/// The result, or `None` if there is none within `limit`.
///
/// # Errors
/// [`Error::NoResult`] as soon as it is known that no result can arrive.
pub async fn wait(shared: &Arc<Shared>, id: &str, limit: Duration) -> Result<Found> {
    let end = Instant::now() + limit.min(LONGEST_WAIT);
    let mut waiter = shared.waiters.add(id);
    let mut sessions = shared.link.sessions();
    let mut patience = Patience::within(shared.link.connect_limit());
    let (mut check_after, mut poll_after) = (CHECK_AFTER, POLL_AFTER);
    let mut first = true;
    loop {
        let subscribed = subscribe(shared, patience).await?;
        sessions.borrow_and_update();
        let wait_ms = millis(end.saturating_duration_since(Instant::now())).max(1);
        // A process that cannot subscribe registers too: a result that it misses is kept for it.
        let is_expected = match check_and_register(shared, id, &waiter, wait_ms, patience).await {
            Ok(Seen::Result(record)) => return decode(&record).map(Some),
            Ok(Seen::Unfinished { is_registered }) => is_registered && subscribed,
            Ok(Seen::Unannounced) => false,
            Ok(seen) => return no_result(shared, id, waiter, seen, first, patience).await,
            // A temporary refusal may end before the caller's time is up.
            Err(Error::Refused(reason)) if !first && reason.subject() == Subject::Server => false,
            Err(error) => return Err(error),
        };
        let (interval, longest) = if is_expected {
            (&mut check_after, LONGEST_CHECK_INTERVAL)
        } else {
            (&mut poll_after, LONGEST_POLL_INTERVAL)
        };
        let next = Instant::now() + *interval;
        *interval = (*interval * 2).min(longest);
        first = false;
        tokio::select! {
            arrived = &mut waiter.arrival => {
                if let Ok(Some(result)) = arrived {
                    return Ok(Some(result));
                }
                waiter = shared.waiters.add(id);
                // The result has arrived in time, but reading it may take a while.
                patience = Patience::Until(end.max(Instant::now() + shared.link.connect_limit()));
                continue;
            }
            () = sleep_until(end.min(next)) => if next >= end { return final_check(shared, id, waiter).await },
            changed = sessions.changed() => if changed.is_err() { return Err(Error::Closed) },
        }
        // An unreachable broker is no error before the caller's time is up.
        patience = Patience::Until(end.max(Instant::now() + Duration::from_millis(1)));
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Subscribe to this process's results. Returns false if this user may not.
pub(crate) async fn subscribe(shared: &Shared, patience: Patience) -> Result<bool> {
    match shared.link.subscribe(&shared.push_channel, patience).await {
        Ok(()) => Ok(true),
        Err(Error::Refused(reason)) => {
            if shared.waiters.is_first_refusal() {
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

async fn check_and_register(
    shared: &Shared,
    id: &str,
    waiter: &Waiter,
    wait_ms: u64,
    patience: Patience,
) -> Result<Seen> {
    let was_registered = waiter.set_registered(true);
    let seen = look::wait(&shared.link, &shared.keys, id, &shared.push_channel, wait_ms, patience).await?;
    waiter.set_registered(match &seen {
        // The registration was removed when the result was sent.
        Seen::Result(_) => false,
        Seen::Unfinished { is_registered } => *is_registered || was_registered,
        Seen::Unannounced => true,
        Seen::Finished | Seen::Unknown => was_registered,
    });
    Ok(seen)
}

/// No result can arrive, unless it was sent during the check.
async fn no_result(
    shared: &Shared,
    id: &str,
    mut waiter: Waiter,
    seen: Seen,
    first: bool,
    patience: Patience,
) -> Result<Found> {
    if !first {
        // After the reply, everything that was sent before it has arrived.
        let _ = shared.link.probe(patience).await;
        if let Ok(Some(result)) = waiter.arrival.try_recv() {
            return Ok(Some(result));
        }
    }
    let why = match seen {
        Seen::Finished => "it has finished, and its result is not stored or has expired",
        _ => "Redis has no such job: it was never enqueued, or its result has expired. Check the id and the queue",
    };
    Err(Error::NoResult { id: id.to_owned(), why })
}

/// The caller's time is up. The withdrawal of its registration also checks for a result.
async fn final_check(shared: &Arc<Shared>, id: &str, waiter: Waiter) -> Result<Found> {
    let Some(has_ended) = waiter.give_up() else { return Ok(None) };
    match timeout_at(Instant::now() + FINAL_CHECK_LIMIT, has_ended).await {
        Ok(Ok(true)) => get(shared, id).await,
        _ => Ok(None),
    }
}

/// Withdraw useless registrations, for as long as the client exists.
pub async fn withdraw(shared: Arc<Shared>) {
    loop {
        shared.waiters.until_useless().await;
        // Callers often give up together.
        sleep(GATHERING).await;
        if let Some(some) = shared.waiters.next_withdrawal(FORGET_LIMIT * WITHDRAWALS) {
            withdraw_some(&shared, some, Patience::within(shared.link.connect_limit())).await;
        }
    }
}

/// Withdraw the remaining registrations when the client is closed. This takes at most `limit`,
/// because they expire anyway.
pub async fn withdraw_rest(shared: Arc<Shared>, limit: Duration) {
    let patience = Patience::within(limit);
    let all = async {
        // The waiting callers are being notified that the client is closed.
        while shared.waiters.has_waiters() {
            sleep(Duration::from_millis(1)).await;
        }
        while let Some(some) = shared.waiters.next_withdrawal(FORGET_LIMIT * WITHDRAWALS) {
            withdraw_some(&shared, some, patience).await;
        }
    };
    let _ = timeout(limit, all).await;
}

async fn withdraw_some(shared: &Shared, some: Withdrawal, patience: Patience) {
    let (link, keys, channel) = (&shared.link, &shared.keys, &shared.push_channel);
    let calls = some.ids.chunks(FORGET_LIMIT).map(|ids| look::forget(link, keys, channel, ids, patience));
    let answers = join_all(calls).await;
    // `scrub` removes the registrations of failed withdrawals.
    let of_call = |(number, ended): (usize, Result<Vec<usize>>)| {
        ended.unwrap_or_default().into_iter().map(move |position| number * FORGET_LIMIT + position)
    };
    let ended: Vec<usize> = answers.into_iter().enumerate().flat_map(of_call).collect();
    shared.waiters.finish_withdrawal(some, &ended);
}
