//! Starts the loops of a worker, and restarts them after an error. The worker fails if a loop
//! panics, or cannot recover for a minute although the server is there and refuses nothing. So a
//! worker works, recovers, waits for the server, or reports that it has failed. It never stays up
//! without saying why it does no work.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{State, abort, idle, lease, news, notes, outage, release, scrub, unserved, upkeep, work};
use crate::clock::monotonic_ms;
use crate::error::{Error, Result};
use crate::link::backoff;
use crate::lock::lock;
use crate::logs::Level;

/// If a loop fails for this long without a success, the worker fails.
const LIMIT: Duration = Duration::from_secs(60);

/// Errors that are further apart than this are separate failures.
const SEPARATE: Duration = Duration::from_secs(10);

/// Start every loop.
pub fn run_all(state: &Arc<State>) {
    spawn(state, "work", work::run);
    spawn(state, "idle", idle::run);
    spawn(state, "renew", lease::renew);
    spawn(state, "watch", lease::watch);
    spawn(state, "outage", outage::run);
    spawn(state, "promote", upkeep::promote);
    spawn(state, "reclaim", upkeep::reclaim);
    spawn(state, "scrub", scrub::run);
    spawn(state, "unserved", unserved::run);
    spawn(state, "abort", abort::run);
    spawn(state, "release", release::run);
    spawn(state, "notes", notes::run);
    spawn(state, "news", news::run);
}

fn spawn<F>(state: &Arc<State>, name: &'static str, body: impl Fn(Arc<State>) -> F + Send + 'static)
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let supervised = Arc::clone(state);
    let task = tokio::spawn(async move {
        let state = supervised;
        let (mut pauses, mut failures) = (backoff(), Failures::default());
        loop {
            // Run it as a separate task, so that a panic is noticed here, and the other loops
            // continue until the worker fails.
            let run = tokio::spawn(body(Arc::clone(&state)));
            let guard = AbortOnDrop(run.abort_handle());
            let ended = run.await;
            drop(guard);
            let error = match ended {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error,
                Err(panic) => {
                    state.fail(format!("the {name} loop panicked: {panic}"));
                    return;
                }
            };
            match failures.add(&error, Instant::now()) {
                Reaction::GiveUp => {
                    state.fail(format!("the {name} loop could not recover: {error}"));
                    return;
                }
                Reaction::Wait if !state.refusals.is_due(monotonic_ms()) => {}
                Reaction::Wait => {
                    state.log(
                        Level::Error,
                        format!("Redis refuses what the {name} loop needs; it tries again: {error}"),
                    );
                }
                Reaction::Restart => {
                    state.log(Level::Error, format!("the {name} loop failed and is restarted: {error}"));
                }
            }
            if failures.is_first() {
                pauses = backoff();
            }
            sleep(pauses.next().unwrap_or(SEPARATE)).await;
        }
    });
    lock(&state.tasks).push(task.abort_handle());
}

/// What to do after an error of a loop.
#[derive(Debug, PartialEq, Eq)]
enum Reaction {
    Restart,
    /// Restart it, however long this takes: the server refuses commands, for example because a
    /// password was changed. As with an unreachable server, the worker keeps its outcomes.
    Wait,
    GiveUp,
}

/// Errors of a loop in a row.
#[derive(Debug, Default)]
struct Failures {
    last: Option<Instant>,
    /// When the first error that is not a refusal occurred.
    since: Option<Instant>,
    first: bool,
}

impl Failures {
    fn add(&mut self, error: &Error, now: Instant) -> Reaction {
        self.first = self.last.is_none_or(|last| now - last > SEPARATE);
        self.last = Some(now);
        // A key of the wrong type stays until somebody who may rename it does so.
        let is_refused =
            matches!(error, Error::Refused(_)) && (!error.is_about_this_call() || error.is_of_wrong_type());
        if self.first || is_refused {
            self.since = None;
        }
        if is_refused {
            return Reaction::Wait;
        }
        if now - *self.since.get_or_insert(now) > LIMIT { Reaction::GiveUp } else { Reaction::Restart }
    }

    /// Whether the last error came long after the one before.
    fn is_first(&self) -> bool {
        self.first
    }
}

/// Fails the worker if the runtime ends while the worker is running: it must not stay up without
/// doing any work.
pub(super) struct Alarm {
    pub state: Arc<State>,
    /// Whether it covers the sign-off. Until then, another alarm is responsible.
    pub covers_sign_off: bool,
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if self.covers_sign_off || !self.state.phase().is_signing_off() {
            self.state.fail("the app's connection was closed while its worker was running");
        }
    }
}

struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
#[path = "../../tests/support/server.rs"]
// The test below needs only a part of it. In a test, a surprise is a failure.
#[allow(dead_code, clippy::unwrap_used, clippy::expect_used)]
mod server;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::{Assignment, EventKind, Settings, Worker};
    use super::server::Server;
    use super::*;
    use crate::client::Client;
    use crate::mailbox::Mailbox;
    use crate::refusal::Refusal;
    use crate::submit::Submission;

    fn after(failures: &mut Failures, error: &Error, seconds: &[u64]) -> Option<Reaction> {
        let start = Instant::now();
        seconds.iter().map(|second| failures.add(error, start + Duration::from_secs(*second))).last()
    }

    #[test]
    fn a_loop_that_fails_for_a_minute_gives_up_and_one_that_fails_now_and_then_does_not() {
        let error = Error::Protocol("garbage".into());
        let all = |step: usize| (0..=70).step_by(step).collect::<Vec<u64>>();
        assert_eq!(after(&mut Failures::default(), &error, &all(1)), Some(Reaction::GiveUp));
        assert_eq!(after(&mut Failures::default(), &error, &all(35)), Some(Reaction::Restart));
    }

    #[test]
    fn refusals_are_waited_for_however_long_they_last() {
        let refused = Error::Refused(Refusal::ours("the password was changed"));
        let hours: Vec<u64> = (0..10_000).collect();
        assert_eq!(after(&mut Failures::default(), &refused, &hours), Some(Reaction::Wait));
    }

    fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let end = std::time::Instant::now() + LIMIT;
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(std::time::Instant::now() < end, "{what}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    #[test]
    fn a_loop_that_panics_fails_the_worker_which_signs_off_and_leaves_its_jobs_to_others() {
        let server = Server::start(&[]);
        let client = Client::new(&server.url(), "q", &["only".into()], Duration::from_secs(1)).unwrap();
        let worker = |id: &str| {
            let settings = Settings {
                worker_id: id.into(),
                concurrency: 1,
                prefetch: 1,
                // It does not end during the test.
                lease_ms: 600_000,
                result_ttl_ms: 0,
                host: "here".into(),
            };
            let worker = Worker::new(&client, settings, false).unwrap();
            worker.start();
            worker
        };
        let next = |worker: &Worker| -> Assignment {
            until("no job came", || {
                worker.take();
                worker.next()
            })
        };
        let mailbox = Arc::new(Mailbox::new().unwrap());
        client.enqueue(&mailbox, 1, vec![Submission { id: Some("a".into()), ..Submission::default() }]);
        let failing = worker("failing");
        assert_eq!(next(&failing).id, "a");

        let _runtime = failing.handle.enter();
        spawn(&failing.state, "clumsy", |_| async { panic!("the test panics on purpose") });
        let detail = until("it does not fail", || {
            failing.take().into_iter().find(|event| event.kind == EventKind::Failed).map(|event| event.detail)
        });
        assert!(detail.contains("the clumsy loop panicked"), "{detail}");
        // Its run gets no outcome, so the sign-off waits for as long as a call may take.
        failing.finish_stop();
        let heir = worker("heir");
        assert_eq!(next(&heir).id, "a");
    }
}
