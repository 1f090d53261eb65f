//! Follows a job: its state and its progress, until it has ended.
//!
//! The workers send news of the jobs that are followed, see [`crate::followers`], and the end
//! arrives like any result. A message may be missed, and some changes are not announced: when a job
//! becomes due, or is taken over. So the caller also looks now and then.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use crate::answer::Answer;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::followers::Follower;
use crate::jobs;
use crate::link::Patience;
use crate::mailbox::{Mailbox, RequestId};
use crate::protocol::keys::Nonce;
use crate::protocol::notes::{News, Report};
use crate::protocol::record::{PREFIX, ResultRecord};
use crate::protocol::state::JobState;
use crate::results::{self, LONGEST_WAIT};
use crate::scripts::{look, notes};
use crate::shared::Shared;

/// The first look after a change comes after this time, and the next ones at growing intervals.
const LOOK_AFTER: Duration = Duration::from_secs(2);
const LONGEST_INTERVAL: Duration = Duration::from_secs(30);

/// The same if this process cannot receive messages.
const POLL_AFTER: Duration = Duration::from_millis(50);
const LONGEST_POLL_INTERVAL: Duration = Duration::from_secs(1);

/// How long after its due time a job usually stays scheduled until a worker promotes it.
const PROMOTION: Duration = Duration::from_millis(50);

/// How long a result that was sent may take to arrive.
const ARRIVAL: Duration = Duration::from_millis(250);

/// What is known about a job when something has changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobEvent {
    /// Its state.
    pub state: JobState,
    /// Number of starts, including that of the current run.
    pub tries: u64,
    /// Its last progress.
    pub report: Option<Report>,
    /// Its result, if it has ended with one.
    pub result: Option<Arc<ResultRecord>>,
    /// Whether this is the last event: the job has ended, or there is no such job.
    pub is_last: bool,
}

/// What a look has found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct View {
    event: JobEvent,
    nonce: Option<Nonce>,
    due_ms: Option<u64>,
}

impl View {
    fn is_open(&self) -> bool {
        !matches!(self.event.state, JobState::Complete | JobState::NotFound)
    }
}

async fn look_at(shared: &Shared, id: &str, patience: Patience) -> Result<View> {
    let found = look::lookup(&shared.link, &shared.keys, &[id], patience).await?;
    let Some(found) = found.first() else { return Ok(View::default()) };
    let nonce = found.record.as_deref().and_then(|record| record.get(1..PREFIX)?.try_into().ok());
    let (job, _) = jobs::snapshot(id, found);
    let event = JobEvent { state: job.state, tries: job.tries, ..JobEvent::default() };
    let mut view = View { event, nonce, due_ms: job.due_ms };
    if let (true, Some(nonce)) = (view.is_open(), nonce) {
        view.event.report = notes::report_of(&shared.link, &shared.keys, id, nonce, patience).await?;
    }
    if view.due_ms.is_some() && shared.clock.now_ms() == 0 {
        // Only workers know the time without asking.
        match shared.read_time(patience).await {
            Ok(_) | Err(Error::Refused(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(view)
}

/// A report that is older than an earlier one by less than this has been overtaken by it. If it is
/// older by more, the clock of the server was set back.
const LATEST: u64 = 60_000;

/// The report that is known when there is another one.
fn later(known: Option<Report>, other: Option<Report>) -> Option<Report> {
    match (known, other) {
        (Some(known), Some(other)) if (1..LATEST).contains(&known.at_ms.saturating_sub(other.at_ms)) => Some(known),
        (known, other) => other.or(known),
    }
}

/// One caller, and what it has been told.
struct Following<'a, F> {
    shared: &'a Arc<Shared>,
    known: View,
    /// Progress of which the caller has not been told yet.
    heard: Option<Report>,
    tell: F,
    interval: Duration,
    can_listen: bool,
}

impl<F: FnMut(JobEvent) -> bool> Following<'_, F> {
    fn shortest_interval(&self) -> Duration {
        if self.can_listen { LOOK_AFTER } else { POLL_AFTER }
    }

    /// Whether the job that the caller follows is unfinished.
    fn is_same(&self, view: &View) -> bool {
        view.is_open() && self.known.nonce.is_none_or(|known| view.nonce == Some(known))
    }

    /// Returns whether this is a change for the caller.
    fn learn(&mut self, mut view: View) -> bool {
        // The reply to a look may overtake messages.
        let reports = [view.event.report.take(), self.heard.take()];
        view.event.report = reports.into_iter().fold(self.known.event.report.clone(), later);
        let has_changed = view.event != self.known.event;
        self.known = view;
        has_changed
    }

    /// Tell the caller what has changed. Returns whether it is still there.
    fn update(&mut self, view: View) -> bool {
        if !self.learn(view) {
            return true;
        }
        self.interval = self.shortest_interval();
        (self.tell)(self.known.event.clone())
    }

    /// When to look next.
    fn next_look(&mut self) -> Instant {
        let longest = if self.can_listen { LONGEST_INTERVAL } else { LONGEST_POLL_INTERVAL };
        let mut pause = self.interval;
        self.interval = (self.interval * 2).min(longest);
        let now_ms = self.shared.clock.now_ms();
        if let (Some(due_ms), 1..) = (self.known.due_ms, now_ms) {
            // If it is overdue, the looks become rarer: there may be no worker.
            pause = pause.min(Duration::from_millis(due_ms.abs_diff(now_ms)) + PROMOTION);
        }
        Instant::now() + pause.max(POLL_AFTER)
    }

    /// Hear a message about the progress of a run. Another job that has had the id may report it.
    fn hear(&mut self, nonce: Nonce, report: Report) {
        if self.known.nonce == Some(nonce) {
            self.heard = later(self.heard.take(), Some(report));
        }
    }

    fn last(&mut self, state: JobState, result: Option<Arc<ResultRecord>>) -> JobEvent {
        let tries = result.as_ref().map_or(self.known.event.tries, |result| result.tries);
        let report = later(self.known.event.report.take(), self.heard.take());
        JobEvent { state, tries, report, result, is_last: true }
    }

    /// The last event, after a wait for the result.
    fn end(&mut self, follower: &mut Follower, ended: Result<Option<Arc<ResultRecord>>>) -> Result<JobEvent> {
        // The run has sent its last progress ahead of the result.
        while let Some(news) = follower.try_next() {
            if let News::Progress { nonce, report } = news {
                self.hear(nonce, report);
            }
        }
        match ended {
            Ok(Some(result)) => Ok(self.last(JobState::Complete, Some(result))),
            Ok(None) | Err(Error::NoResult { .. }) => Ok(self.last(JobState::NotFound, None)),
            Err(error) => Err(error),
        }
    }
}

/// Waits for the end of a job, in a task of its own, because a future that nobody polls may
/// hold the lock of a connection that a look needs.
struct End(JoinHandle<Result<Option<Arc<ResultRecord>>>>);

impl End {
    fn of(shared: &Arc<Shared>, id: &str) -> Self {
        let (shared, id) = (Arc::clone(shared), id.to_owned());
        Self(tokio::spawn(async move { results::wait(&shared, &id, LONGEST_WAIT).await }))
    }

    /// The result, once. Cancelling this call loses nothing.
    async fn result(&mut self) -> Result<Option<Arc<ResultRecord>>> {
        (&mut self.0).await.unwrap_or(Err(Error::Closed))
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Follow a job. `tell` returns whether the caller is still there. Returns the last event.
///
/// # Errors
/// If Redis cannot be reached at the beginning, or refuses what this needs.
pub async fn follow(shared: &Arc<Shared>, id: &str, tell: impl FnMut(JobEvent) -> bool) -> Result<JobEvent> {
    let patience = Patience::within(shared.link.connect_limit());
    let mut sessions = shared.link.sessions();
    let mut follower = shared.followers.add(id);
    let can_listen = results::subscribe(shared, patience).await?;
    match shared.link.subscribe(&shared.keys.roll_call, patience).await {
        // The announcement is also repeated unasked.
        Err(Error::Refused(_)) => {}
        other => other?,
    }
    sessions.borrow_and_update();
    follower.announce();
    let interval = if can_listen { LOOK_AFTER } else { POLL_AFTER };
    let mut following = Following { shared, known: View::default(), heard: None, tell, interval, can_listen };
    let mut ended = End::of(shared, id);
    let mut view = Some(look_at(shared, id, patience).await?);
    let (mut next, mut must_look) = (Instant::now(), true);
    loop {
        match view.take() {
            Some(view) if following.is_same(&view) => {
                let is_there = following.update(view);
                if !is_there {
                    return Ok(JobEvent::default());
                }
            }
            Some(view) => {
                // It has ended, so the result has been sent, and arrives before the reply to a
                // ping.
                let _ = shared.link.probe(Patience::Endless).await;
                if let Ok(result) = timeout(ARRIVAL, ended.result()).await {
                    return following.end(&mut follower, result);
                }
                if view.is_open() {
                    // Another job has its id by now.
                    return Ok(following.last(JobState::NotFound, None));
                }
                ended = End::of(shared, id);
            }
            None => {}
        }
        if must_look {
            // When that is depends on what this look has found.
            next = following.next_look();
        }
        must_look = true;
        tokio::select! {
            biased;
            result = ended.result() => return following.end(&mut follower, result),
            changed = sessions.changed() => {
                if changed.is_err() {
                    return Err(Error::Closed);
                }
                follower.announce();
            }
            news = follower.next() => match news {
                News::Progress { nonce, report } => {
                    following.hear(nonce, report);
                    if following.known.event.state == JobState::Running {
                        must_look = false;
                        view = Some(following.known.clone());
                    }
                    // In any other state, the run that reports has just started.
                }
                News::Changed => {}
            },
            () = sleep_until(next) => {}
        }
        if must_look {
            view = match look_at(shared, id, Patience::Endless).await {
                Ok(view) => Some(view),
                // It may end before the job does.
                Err(Error::Refused(_)) => None,
                Err(error) => return Err(error),
            };
        }
    }
}

impl Client {
    /// Read the last report of an unfinished job. The answer is [`Answer::Progress`].
    pub fn progress(&self, mailbox: &Arc<Mailbox>, request: RequestId, id: String) {
        self.request(mailbox, request, |shared, patience| async move {
            notes::report(&shared.link, &shared.keys, &id, patience).await.map(Answer::Progress)
        });
    }

    /// Follow a job. There are several answers, each an [`Answer::Event`], up to the last event or
    /// an error. The caller may end this earlier with [`Client::forget`].
    pub fn follow(&self, mailbox: &Arc<Mailbox>, request: RequestId, id: String) {
        let owner = Arc::clone(mailbox);
        self.wait(mailbox, request, move |shared| async move {
            let tell = |event| {
                owner.post((request, Ok(Answer::Event(Box::new(event)))));
                // This function and the pending request have it, too.
                Arc::strong_count(&owner) > 2
            };
            follow(&shared, &id, tell).await.map(|last| Answer::Event(Box::new(last)))
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::notes::Progress;

    fn report(at_ms: u64, done: u64) -> Option<Report> {
        Some(Report { progress: Progress { done, ..Progress::default() }, at_ms })
    }

    #[test]
    fn a_report_that_was_overtaken_is_dropped_unless_the_clock_was_set_back() {
        let known = report(100_000, 5);
        assert_eq!(later(known.clone(), report(100_001, 6)), report(100_001, 6));
        assert_eq!(later(known.clone(), report(100_000, 6)), report(100_000, 6));
        assert_eq!(later(known.clone(), report(99_999, 4)), known);
        assert_eq!(later(known.clone(), report(30_000, 6)), report(30_000, 6));
        assert_eq!(later(known.clone(), None), known);
        assert_eq!(later(None, known.clone()), known);
    }
}
