//! The lease: one per worker, for everything that it holds. The I/O thread renews it, so a blocked
//! event loop does not lose it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{EventKind, Phase, State, idle};
use crate::clock::{awake_ms, monotonic_ms};
use crate::commands;
use crate::error::{Error, Result};
use crate::link::{Patience, RESPONSE_LIMIT};
use crate::lock::lock;
use crate::logs::Level;
use crate::protocol::info::Info;
use crate::scripts;
use crate::scripts::upkeep::{self, Survivor};

/// Pause before a refused renewal is sent again.
const RENEW_AGAIN: Duration = Duration::from_millis(100);

/// A machine that resumes renews its leases within this time.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// How often to check whether a transfer that takes longer than the time for signing off still
/// moves.
const TRANSFER_CHECK: Duration = Duration::from_secs(1);

/// Check the server, subscribe to what concerns workers, and take the lease. Every step has its own
/// time: together they may take longer than one call may.
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
        // The worker can work without it: it then checks for due jobs more often.
        Err(Error::Refused(refusal)) => {
            let message = format!("jobs that become due earlier than others may start a second late: {refusal}");
            state.log(Level::Warning, message);
        }
        other => other?,
    }
    // The lease is the next step, with its own time.
    link.register(patience()).await;
    extend(state, true, patience()).await?;
    // The worker's start time is a Redis time, which is known only now.
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
        lanes: state.shared.keys.lanes.iter().rev().cloned().collect(),
    };
    // The lease counts from the time of the request, not of the reply.
    let (asked_ms, sent_ms) = (monotonic_ms(), awake_ms());
    let worker = state.identity();
    let (link, keys) = (&state.shared.link, &state.shared.keys);
    let (info, expected_ms) = (info.encode(), state.pulse.expected(sent_ms));
    let claim = upkeep::Claim { worker: &worker, lease_ms: settings.lease_ms, info: &info, first, expected_ms };
    let renewed = upkeep::renew(link, keys, claim, patience).await.inspect_err(|_| state.pulse.failed(sent_ms))?;
    state.pulse.seen(renewed.now_ms, sent_ms);
    state.shared.clock.observe(renewed.now_ms);
    if renewed.held {
        let mut desk = lock(&state.desk);
        desk.extend_lease(asked_ms + i64::try_from(settings.lease_ms).unwrap_or(i64::MAX / 2));
        if renewed.delivered > desk.delivered() {
            // A request in flight may return the rest. If there is none, a reply was lost although
            // no connection broke.
            desk.must_recover();
        }
        // Jobs that waited for the renewal may start now.
        state.offer(&desk);
        drop(desk);
        state.work.notify_one();
    }
    Ok(renewed.held)
}

impl State {
    /// The server does not know the lease: start and request nothing until a renewal has decided
    /// whether it is lost.
    pub(super) fn lease_is_unknown(&self, worker: &str) {
        if worker == self.identity() {
            lock(&self.desk).suspend_lease();
            self.lost.notify_one();
        }
    }

    /// The lease is lost: become a new incarnation. Only the first caller does anything.
    fn lease_lost(&self, old: &str) {
        let mut identity = lock(&self.identity);
        if *identity != old {
            return;
        }
        let number = old.rsplit_once('~').and_then(|(_, number)| number.parse::<u32>().ok()).unwrap_or(1);
        *identity = format!("{}~{}", self.settings.worker_id, number + 1);
        drop(identity);
        let lost = lock(&self.desk).lose_lease();
        let message = format!(
            "worker {old} lost its lease (jobs held: {}). The outcomes of jobs that are still running may be refused",
            lost.held
        );
        lock(&self.survived).extend(lost.survived);
        self.log(Level::Warning, message);
        self.emit(EventKind::Lost, old);
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
            // Retry a refused renewal soon: the refusal may be temporary, and the lease expires.
            () = pause(if state.pulse.has_failed() { third.min(RENEW_AGAIN) } else { third }) => {}
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
                // If the server refuses new data, for lack of memory or permission, work continues.
                Ok(()) | Err(Error::Refused(_)) => {}
                Err(error) => return Err(error),
            }
        }
        record_survivors(&state, Patience::Endless).await?;
    }
}

/// Like `sleep`, but the time that the machine is suspended counts too: the lease expires
/// meanwhile.
async fn pause(time: Duration) {
    let end_ms = monotonic_ms() + i64::try_from(time.as_millis()).unwrap_or(i64::MAX / 2);
    while let Ok(left_ms @ 1..) = u64::try_from(end_ms - monotonic_ms()) {
        sleep(Duration::from_millis(left_ms).min(LONGEST_SLEEP)).await;
    }
}

/// Record that runs outlived their lease, so that the worker that took them over counts no death.
async fn record_survivors(state: &State, patience: Patience) -> Result<()> {
    let survived = lock(&state.survived).clone();
    if survived.is_empty() {
        return Ok(());
    }
    match upkeep::survive(&state.shared.link, &state.shared.keys, &survived, patience).await {
        Err(error @ Error::Refused(_)) => {
            let count = survived.len();
            let message =
                format!("cannot record which runs outlived the lease ({count}), so each can count as a death: {error}");
            state.log(Level::Warning, message);
        }
        told => told?,
    }
    // The sign-off and a renewal may do this at the same time.
    let told: HashSet<Survivor> = survived.into_iter().collect();
    lock(&state.survived).retain(|one| !told.contains(one));
    Ok(())
}

/// After every reconnect, read this worker's deliveries back: the reply that contained them may
/// have been lost.
pub async fn watch(state: Arc<State>) -> Result<()> {
    let mut sessions = state.shared.link.sessions();
    sessions.borrow_and_update();
    while sessions.changed().await.is_ok() {
        lock(&state.desk).must_recover();
        state.work.notify_one();
    }
    Ok(())
}

/// Write the remaining outcomes, give up the lease, and notify the host. While the broker is
/// unreachable, this waits for as long as a call may take. Then the lease is left to expire.
///
/// The order matters. Outcomes come before the lease, because they would be refused without it. The
/// blocked read also comes before the lease, because it may still return a job that has to go back
/// to the queue.
pub async fn sign_off(state: &Arc<State>) {
    let link = &state.shared.link;
    let mut end = Instant::now() + link.connect_limit();
    while !lock(&state.desk).is_empty() {
        if Instant::now() >= end {
            // A large outcome may take as long as its transfer, as long as the server responds.
            let ping = commands::ping();
            if !link.is_transferring().await || link.command(&ping, Patience::within(RESPONSE_LIMIT)).await.is_err() {
                break;
            }
            end = Instant::now() + TRANSFER_CHECK;
            state.emit(EventKind::Settling, "");
        }
        state.work.notify_one();
        // Repeat this every time: a read that was about to be sent during the previous wake-up
        // blocks only now.
        idle::wake(state).await;
        sleep(Duration::from_millis(2)).await;
    }
    let unsettled = !lock(&state.desk).is_empty();
    for task in lock(&state.tasks).drain(..) {
        task.abort();
    }
    let patience = Patience::Until(end.max(Instant::now() + Duration::from_millis(500)));
    if let Err(error) = record_survivors(state, patience).await {
        let message = format!("could not record which runs outlived the lease, so each can count as a death: {error}");
        state.log(Level::Warning, message);
    }
    let has_failed = state.phase() == Phase::SigningOffAfterFailure;
    let left = upkeep::leave(link, &state.shared.keys, &state.identity(), has_failed, patience).await;
    let mut detail = String::new();
    match left {
        Ok(0) if !unsettled => {}
        Ok(_) => state.log(Level::Warning, "stopped with unsettled work: other workers take it over now"),
        Err(error) => {
            detail = format!("stopped without signing off: {error}. Other workers take over when the lease ends");
            state.log(Level::Warning, detail.as_str());
        }
    }
    state.stopped(detail);
}
