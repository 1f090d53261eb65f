//! The worker engine: fetches, hands out and settles for one event loop.
//!
//! | file | role |
//! |---|---|
//! | `job` | a delivered job, taken apart |
//! | `desk` | what is held and what to do next (no I/O) |
//! | `plan` | what the desk wants done |
//! | `judge` | from an outcome to what is written (no I/O) |
//! | `work` | the loop that settles, records starts and fetches |
//! | `idle` | the blocking read while there is no work |
//! | `lease` | signing on, renewing, signing off |
//! | `upkeep` | promoting due jobs, reclaiming from dead workers |
//! | `scrub` | repairing what a fault or a hand has broken |
//! | `supervise` | how all loops start, fail and start again |

pub mod desk;
mod idle;
pub mod job;
pub mod judge;
mod lease;
pub mod plan;
mod scrub;
mod supervise;
mod upkeep;
mod work;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::bell::Bell;
use crate::client::{Client, Shared};
use crate::clock::monotonic_ms;
use crate::error::{Error, Result};
use crate::logs::Level;
use desk::{Assignment, Desk};
use judge::Outcome;

/// How a worker is to behave.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Id of its first incarnation; host and process show in it.
    pub worker_id: String,
    /// Tasks that run at once.
    pub concurrency: usize,
    /// Tasks held, running ones included.
    pub prefetch: usize,
    /// The lease in milliseconds.
    pub lease_ms: u64,
    /// Default result TTL: 0 = not stored, negative = for ever.
    pub result_ttl_ms: i64,
    /// What it says about itself, besides numbers that change: host and process id.
    pub host: String,
}

/// What the host is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// log, drained, lost, stopped or failed.
    pub kind: &'static str,
    /// For people; the old id for `lost`.
    pub detail: String,
}

#[derive(Default)]
struct Inbox {
    assignments: Vec<Assignment>,
    notices: Vec<Notice>,
}

/// What the loops of one worker share.
struct State {
    shared: Arc<Shared>,
    settings: Settings,
    desk: Mutex<Desk>,
    inbox: Mutex<Inbox>,
    bell: Bell,
    identity: Mutex<String>,
    started_ms: Mutex<u64>,
    /// Rung when the work loop may have something to do.
    work: Notify,
    /// Rung when somebody may have to wait for jobs.
    idle: Notify,
    /// Rung when the lease was lost.
    lost: Notify,
    /// The connection that blocks, so that a stop can wake it.
    blocked: Mutex<Option<i64>>,
    burst: AtomicBool,
    stopping: AtomicBool,
    finishing: AtomicBool,
    ended: AtomicBool,
    tasks: Mutex<Vec<AbortHandle>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn identity(&self) -> String {
        lock(&self.identity).clone()
    }

    fn now_ms(&self) -> u64 {
        self.shared.clock.now_ms()
    }

    fn notify(&self, kind: &'static str, detail: impl Into<String>) {
        lock(&self.inbox).notices.push(Notice { kind, detail: detail.into() });
        self.bell.ring();
    }

    fn log(&self, level: Level, message: impl Into<String>) {
        self.shared.logs.push(level, "worker", message.into());
        self.notify("log", "");
    }

    /// Let the desk start what may start, and tell the host.
    fn hand_out(&self, desk: &mut Desk) {
        let mut inbox = lock(&self.inbox);
        desk.hand_out(self.now_ms(), monotonic_ms(), &mut inbox.assignments);
        if !inbox.assignments.is_empty() {
            self.bell.ring();
        }
    }

    fn fail(&self, reason: impl Into<String>) {
        if !self.ended.swap(true, Ordering::AcqRel) {
            self.notify("failed", reason);
        }
    }
}

/// Goes off when the runtime is ended under a worker: it must not stay alive and deaf.
struct Alarm {
    state: Arc<State>,
    /// Does it watch over the signing off? Until then another one watches.
    over_sign_off: bool,
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if self.over_sign_off || !self.state.finishing.load(Ordering::Acquire) {
            self.state.fail("the app's connection was closed while its worker ran");
        }
    }
}

/// See the module.
pub struct Worker {
    state: Arc<State>,
    handle: tokio::runtime::Handle,
}

impl Worker {
    /// A worker on the client's queue. Does nothing before [`Worker::start`].
    ///
    /// # Errors
    /// [`Error::Closed`] when the client is closed; [`Error::Invalid`] when there are no file descriptors left.
    pub fn new(client: &Client, settings: Settings, burst: bool) -> Result<Self> {
        if client.is_closed() {
            return Err(Error::Closed);
        }
        let shared = Arc::clone(client.shared());
        let desk = Desk::new(settings.concurrency, settings.prefetch, shared.keys.streams.len());
        let state = Arc::new(State {
            identity: Mutex::new(settings.worker_id.clone()),
            shared,
            settings,
            desk: Mutex::new(desk),
            inbox: Mutex::default(),
            bell: Bell::new()?,
            started_ms: Mutex::default(),
            work: Notify::new(),
            idle: Notify::new(),
            lost: Notify::new(),
            blocked: Mutex::default(),
            burst: AtomicBool::new(burst),
            stopping: AtomicBool::new(false),
            finishing: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            tasks: Mutex::default(),
        });
        Ok(Self { state, handle: client.handle().clone() })
    }

    /// Sign on, then run all loops. What goes wrong comes as the notice `failed`.
    pub fn start(&self) {
        let state = Arc::clone(&self.state);
        let alarm = Alarm { state: Arc::clone(&state), over_sign_off: false };
        let task = self.handle.spawn(async move {
            if let Err(error) = lease::sign_on(&state).await {
                state.fail(error.to_string());
                return;
            }
            supervise::run_all(&state);
            // Lives as long as the runtime lets it, or until the worker has signed off.
            let _alarm = alarm;
            std::future::pending::<()>().await;
        });
        lock(&self.state.tasks).push(task.abort_handle());
    }

    /// The present incarnation.
    pub fn id(&self) -> String {
        self.state.identity()
    }

    /// Readable when [`Worker::take`] has something.
    pub fn fd(&self) -> std::os::fd::RawFd {
        self.state.bell.fd()
    }

    /// New runs and notices.
    pub fn take(&self) -> (Vec<Assignment>, Vec<Notice>) {
        self.state.bell.hush();
        let mut inbox = lock(&self.state.inbox);
        (std::mem::take(&mut inbox.assignments), std::mem::take(&mut inbox.notices))
    }

    /// Hand outcomes in and get what may start in their place.
    pub fn complete(&self, outcomes: Vec<(usize, Outcome)>) -> Vec<Assignment> {
        let now_ms = self.state.now_ms();
        let mut next = Vec::with_capacity(outcomes.len());
        {
            let mut desk = lock(&self.state.desk);
            for (slot, outcome) in outcomes {
                desk.complete(slot, outcome, now_ms);
            }
            desk.hand_out(now_ms, monotonic_ms(), &mut next);
        }
        self.state.work.notify_one();
        next
    }

    /// End when the queue is empty, or go on.
    pub fn set_burst(&self, burst: bool) {
        self.state.burst.store(burst, Ordering::Release);
        self.state.work.notify_one();
    }

    /// Name of the lane of an assignment.
    pub fn lane(&self, assignment: &Assignment) -> &str {
        self.state.shared.keys.lane_of(assignment.stream)
    }

    /// The Redis time.
    pub fn now_ms(&self) -> u64 {
        self.state.now_ms()
    }

    /// Fetch no more, and give back what has not started.
    ///
    /// The order matters: first the desk stops, so that whatever arrives from now on goes back too; then assignments that
    /// the host has not seen are taken from its inbox; then the blocked read is woken, so that it does not take a job
    /// that nobody would run.
    pub fn begin_stop(&self) {
        if self.state.stopping.swap(true, Ordering::AcqRel) {
            return;
        }
        let now_ms = self.state.now_ms();
        {
            let mut desk = lock(&self.state.desk);
            desk.stop(now_ms);
            for assignment in std::mem::take(&mut lock(&self.state.inbox).assignments) {
                desk.give_back(assignment.slot, now_ms);
            }
        }
        let state = Arc::clone(&self.state);
        self.handle.spawn(async move { idle::wake(&state).await });
        self.state.work.notify_one();
        self.state.idle.notify_one();
    }

    /// All runs are completed: settle, sign off, then the notice `stopped`. Gives up when the broker stays away.
    pub fn finish_stop(&self) {
        self.begin_stop();
        if self.state.finishing.swap(true, Ordering::AcqRel) {
            return;
        }
        let state = Arc::clone(&self.state);
        let alarm = Alarm { state: Arc::clone(&state), over_sign_off: true };
        self.handle.spawn(async move {
            let _alarm = alarm;
            lease::sign_off(&state).await;
        });
        self.state.work.notify_one();
    }
}

impl std::os::fd::AsFd for Worker {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.state.bell.as_fd()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        for task in lock(&self.state.tasks).drain(..) {
            task.abort();
        }
    }
}
