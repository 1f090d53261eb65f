//! The lease: one per worker, for all that it holds, renewed from the I/O thread, so that a blocked event loop loses nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{State, idle, lock};
use crate::clock::monotonic_ms;
use crate::error::{Error, Result};
use crate::link::{Patience, RESPONSE_LIMIT};
use crate::logs::Level;
use crate::protocol::info::Info;
use crate::scripts::{self, upkeep};

/// Pause before a refused renewal is sent again.
const RENEW_AGAIN: Duration = Duration::from_millis(100);

/// How often a transfer is looked at that outlasts the time for signing off.
const SECOND: Duration = Duration::from_secs(1);

/// Check the server, subscribe to what concerns workers, and take the lease. Every step has its own time: together they may
/// take longer than one call may.
pub async fn sign_on(state: &Arc<State>) -> Result<()> {
    let link = &state.shared.link;
    let wake = state.shared.keys.wake.clone();
    let asked = Instant::now();
    // All of this comes with the connection, in as few round trips as it takes.
    link.reach(scripts::FOR_WORKERS, &wake).await?;
    let patience = || Patience::within(link.connect_limit());
    let facts = state.shared.server.check(link, patience()).await?;
    state.pulse.introduce(facts.uptime, asked.elapsed());
    for warning in facts.warnings() {
        state.log(Level::Warning, warning);
    }
    match link.subscribe(&wake, patience()).await {
        // It can work without: it looks for due jobs more often.
        Err(Error::Refused(refusal)) => {
            let message = format!("jobs that become due earlier than others may start a second late: {refusal}");
            state.log(Level::Warning, message);
        }
        other => other?,
    }
    extend(state, true, patience()).await?;
    // Only now is the Redis time known that the worker shows as the time of its start.
    *lock(&state.started_ms) = state.now_ms();
    extend(state, false, patience()).await.map(drop)
}

/// Take (`first`) or renew the lease. Returns whether it is held.
async fn extend(state: &State, first: bool, patience: Patience) -> Result<bool> {
    let settings = &state.settings;
    let (held, running) = {
        let desk = lock(&state.desk);
        (desk.held(), desk.running())
    };
    let info = Info {
        host: settings.host.clone(),
        pid: u64::from(std::process::id()),
        concurrency: settings.concurrency as u64,
        prefetch: settings.prefetch as u64,
        held: held as u64,
        running: running as u64,
        started_ms: *lock(&state.started_ms),
        version: crate::VERSION.to_owned(),
    };
    // The lease runs from the moment at which we asked, not from that of the answer.
    let asked_ms = monotonic_ms();
    let worker = state.identity();
    let (link, keys) = (&state.shared.link, &state.shared.keys);
    let (info, expected_ms) = (info.encode(), state.pulse.expected(asked_ms));
    let claim = upkeep::Claim { worker: &worker, lease_ms: settings.lease_ms, info: &info, first, expected_ms };
    let renewed = upkeep::renew(link, keys, claim, patience).await.inspect_err(|_| state.pulse.failed(asked_ms))?;
    state.pulse.seen(renewed.now_ms, asked_ms);
    state.shared.clock.observe(renewed.now_ms);
    if renewed.held {
        let mut desk = lock(&state.desk);
        desk.extend_lease(asked_ms + i64::try_from(settings.lease_ms).unwrap_or(i64::MAX / 2));
        if renewed.delivered > desk.known() {
            // A request in flight may bring the rest; if not, a reply was lost in a way that no broken connection told us of.
            desk.must_recover();
        }
        // Runs that waited for the lease to be renewed may start now.
        state.offer(&desk);
        drop(desk);
        state.work.notify_one();
    }
    Ok(renewed.held)
}

impl State {
    /// The lease is gone: become a new incarnation. Only the first to notice does anything.
    pub(super) fn lease_lost(&self, old: &str) {
        let mut identity = lock(&self.identity);
        if *identity != old {
            return;
        }
        let number = old.rsplit_once('~').and_then(|(_, number)| number.parse::<u32>().ok()).unwrap_or(1);
        *identity = format!("{}~{}", self.settings.worker_id, number + 1);
        drop(identity);
        let lost = lock(&self.desk).lose_lease();
        let message = format!(
            "worker {old} lost its lease with {} jobs in hand: the outcomes of what it still runs may be refused",
            lost.held
        );
        lock(&self.survived).extend(lost.survived);
        self.log(Level::Warning, message);
        self.notify("lost", old);
        self.lost.notify_one();
    }
}

/// Renew at a third of the lease, and at once after a reconnect or a loss.
pub async fn renew(state: Arc<State>) -> Result<()> {
    let third = Duration::from_millis((state.settings.lease_ms / 3).max(1));
    let mut sessions = state.shared.link.sessions();
    let mut known = state.identity();
    loop {
        tokio::select! {
            // A refused renewal is tried again soon: the refusal may not last, and the lease does not either.
            () = sleep(if state.pulse.has_failed() { third.min(RENEW_AGAIN) } else { third }) => {}
            () = state.lost.notified() => {}
            _ = sessions.changed() => {}
        }
        let worker = state.identity();
        let first = worker != known;
        if extend(&state, first, Patience::Endless).await? {
            known = worker;
        } else {
            state.lease_lost(&worker);
            match state.shared.link.introduce(Patience::Endless).await {
                // If new data cannot be written, because memory or rights are lacking, work continues.
                Ok(()) | Err(Error::Refused(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let survived = lock(&state.survived).clone();
        if !survived.is_empty() {
            let told = upkeep::survive(&state.shared.link, &state.shared.keys, &survived, Patience::Endless).await;
            match told {
                Err(error @ Error::Refused(_)) => {
                    let count = survived.len();
                    let message = format!("it cannot be recorded that {count} runs outlived their lease: {error}");
                    state.log(Level::Warning, message);
                }
                told => told?,
            }
            lock(&state.survived).drain(..survived.len());
        }
    }
}

/// After every reconnect, read back what was sent to us: the answer that brought it may have been lost.
pub async fn watch(state: Arc<State>) -> Result<()> {
    let mut sessions = state.shared.link.sessions();
    sessions.borrow_and_update();
    while sessions.changed().await.is_ok() {
        lock(&state.desk).must_recover();
        state.work.notify_one();
    }
    Ok(())
}

/// Write what is left, give up the lease, and tell the host. While the broker is away this waits as long as a call may
/// take; then the lease is left to run out.
///
/// The order matters: outcomes before the lease, since without it they would be refused; the blocked read before the lease,
/// since it may still bring a job that has to go back.
pub async fn sign_off(state: &Arc<State>) {
    let link = &state.shared.link;
    let mut end = Instant::now() + link.connect_limit();
    while !lock(&state.desk).is_empty() {
        if Instant::now() >= end {
            // A large outcome takes as long as its transfer, while the server answers.
            let ping = redis::cmd("PING");
            if !link.is_transferring().await || link.command(&ping, Patience::within(RESPONSE_LIMIT)).await.is_err() {
                break;
            }
            end = Instant::now() + SECOND;
        }
        state.work.notify_one();
        // Again each time: a read that was about to be sent when it was woken blocks only now.
        idle::wake(state).await;
        sleep(Duration::from_millis(2)).await;
    }
    let unsettled = !lock(&state.desk).is_empty();
    for task in lock(&state.tasks).drain(..) {
        task.abort();
    }
    let keys = &state.shared.keys;
    let left = upkeep::leave(
        link,
        keys,
        &state.identity(),
        Patience::Until(end.max(Instant::now() + Duration::from_millis(500))),
    )
    .await;
    let mut detail = String::new();
    match left {
        Ok(0) if !unsettled => {}
        Ok(_) => state.log(Level::Warning, "stopped with unsettled work: others take it over now"),
        Err(error) => {
            detail = format!("stopped without signing off: {error}. Others take over when the lease ends");
            state.log(Level::Warning, detail.as_str());
        }
    }
    if !state.ended.swap(true, Ordering::AcqRel) {
        state.notify("stopped", detail);
    }
}
