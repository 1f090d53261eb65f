//! The worker engine: fetches jobs for one event loop, passes them to it, and settles them.
//!
//! | file | role |
//! |---|---|
//! | `job` | a delivered job, decoded |
//! | `desk` | which jobs are held, and what to do next (no I/O) |
//! | `runs` | from the buffer to the outcome (no I/O) |
//! | `slots` | runs by slot (no I/O) |
//! | `intake` | where delivered jobs wait to start (no I/O) |
//! | `incomplete` | jobs whose arguments are stored separately (no I/O) |
//! | `quarantine` | jobs that may have killed their process (no I/O) |
//! | `pace` | how many jobs are buffered (no I/O) |
//! | `readback` | which of the jobs that are read back had been lost (no I/O) |
//! | `plan` | what the desk asks for |
//! | `event` | what the host is told |
//! | `judge` | turns an outcome into what is written (no I/O) |
//! | `work` | the loop that settles, records starts and fetches |
//! | `outcomes` | writing outcomes, repeatedly if necessary |
//! | `doubts` | when an outcome is given up (no I/O) |
//! | `burial` | log lines about dead letters |
//! | `abort` | aborting jobs that this worker has |
//! | `notes` | progress and checkpoints of runs |
//! | `news` | telling the processes that follow a job |
//! | `idle` | the blocking read while there is no work |
//! | `lease` | signing on, renewing, signing off |
//! | `pulse` | when the server should receive the next call |
//! | `log` | log lines for the host |
//! | `outage` | log lines while the server is unreachable |
//! | `upkeep` | promoting due jobs, taking over from dead workers |
//! | `release` | starting jobs that wait for others |
//! | `unserved` | log lines about lanes that no worker serves |
//! | `scrub` | repairing damage from faults and manual changes |
//! | `phase` | the phases of a worker's life |
//! | `supervise` | how all loops start, fail and restart |

mod abort;
mod burial;
pub mod desk;
mod doubts;
mod event;
mod idle;
pub mod incomplete;
mod intake;
pub mod job;
pub mod judge;
mod lease;
mod log;
mod news;
mod notes;
mod outage;
mod outcomes;
pub mod pace;
mod phase;
pub mod plan;
pub mod pulse;
pub mod quarantine;
mod readback;
mod release;
mod runs;
mod scrub;
mod slots;
mod supervise;
mod unserved;
mod upkeep;
mod work;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::client::Client;
use crate::clock::monotonic_ms;
use crate::error::{Error, Result};
use crate::lock::lock;
use crate::logs::LogThrottle;
use crate::notifier::Notifier;
use crate::scripts::upkeep::Survivor;
use crate::shared::Shared;
use desk::{Assignment, Desk};
use doubts::Doubts;
use judge::Outcome;
use news::News;
use phase::Phase;
use pulse::Pulse;

pub use event::{Event, EventKind};

/// Settings of a worker.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Id of its first incarnation. It contains the host and the process id.
    pub worker_id: String,
    /// Tasks that run at once.
    pub concurrency: usize,
    /// Tasks held, running ones included.
    pub prefetch: usize,
    /// The lease in milliseconds.
    pub lease_ms: u64,
    /// Default result TTL: 0 = not stored, negative = never expires.
    pub result_ttl_ms: i64,
    /// The constant part of what it publishes about itself: host and process id.
    pub host: String,
}

/// State shared by the loops of one worker.
struct State {
    shared: Arc<Shared>,
    settings: Settings,
    desk: Mutex<Desk>,
    events: Mutex<Vec<Event>>,
    notifier: Notifier,
    identity: Mutex<String>,
    started_ms: Mutex<u64>,
    pulse: Pulse,
    /// When refusals were last logged.
    refusals: LogThrottle,
    /// Runs that continue although the lease under which they began is lost.
    survived: Mutex<Vec<Survivor>>,
    /// Outcomes that the server has not accepted so far.
    doubts: Mutex<Doubts>,
    /// Notified when the work loop may have something to do.
    work: Notify,
    /// Notified when the blocking read may have to start.
    idle: Notify,
    /// Notified when the lease was lost.
    lost: Notify,
    /// Notified when the search for dead workers finds that jobs are to be aborted.
    aborts: Notify,
    /// Notified when the search for dead workers finds that jobs depend on others.
    links: Notify,
    /// Notified when a run has reported progress.
    reports: Notify,
    /// Jobs whose state has changed and that some process follows.
    news: News,
    /// The connection that blocks, so that a stop can wake it.
    blocked: Mutex<Option<i64>>,
    burst: AtomicBool,
    phase: Mutex<Phase>,
    /// Why the worker could not sign on.
    refused: Mutex<Option<Error>>,
    tasks: Mutex<Vec<AbortHandle>>,
}

impl State {
    fn identity(&self) -> String {
        lock(&self.identity).clone()
    }

    fn now_ms(&self) -> u64 {
        self.shared.clock.now_ms()
    }

    fn emit(&self, kind: EventKind, detail: impl Into<String>) {
        lock(&self.events).push(Event { kind, detail: detail.into() });
        self.notifier.notify();
    }

    fn phase(&self) -> Phase {
        *lock(&self.phase)
    }

    /// Wake the host if there is a job that it may start.
    fn offer(&self, desk: &Desk) {
        if desk.can_start(monotonic_ms()) {
            self.notifier.notify();
        }
    }

    fn fail(&self, reason: impl Into<String>) {
        if lock(&self.phase).fail() {
            self.emit(EventKind::Failed, reason);
        }
    }

    fn stopped(&self, detail: String) {
        if lock(&self.phase).end() {
            self.emit(EventKind::Stopped, detail);
        }
    }
}

/// See the module.
pub struct Worker {
    state: Arc<State>,
    handle: tokio::runtime::Handle,
    process: u32,
}

impl Worker {
    /// A worker on the client's queue. It does nothing before [`Worker::start`].
    ///
    /// # Errors
    /// [`Error::Closed`] when the client is closed; [`Error::System`] when there are no file
    /// descriptors left.
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
            events: Mutex::default(),
            pulse: Pulse::default(),
            refusals: LogThrottle::default(),
            survived: Mutex::default(),
            doubts: Mutex::default(),
            notifier: Notifier::new()?,
            started_ms: Mutex::default(),
            work: Notify::new(),
            idle: Notify::new(),
            lost: Notify::new(),
            aborts: Notify::new(),
            links: Notify::new(),
            reports: Notify::new(),
            news: News::default(),
            blocked: Mutex::default(),
            burst: AtomicBool::new(burst),
            phase: Mutex::default(),
            refused: Mutex::default(),
            tasks: Mutex::default(),
        });
        state.shared.logs.listen(&state);
        Ok(Self { state, handle: client.handle().clone(), process: std::process::id() })
    }

    /// Sign on, then run all loops. Failures arrive as the event `failed`.
    pub fn start(&self) {
        let state = Arc::clone(&self.state);
        let alarm = supervise::Alarm { state: Arc::clone(&state), covers_sign_off: false };
        let task = self.handle.spawn(async move {
            if let Err(error) = lease::sign_on(&state).await {
                *lock(&state.refused) = Some(error.clone());
                state.fail(error.to_string());
                return;
            }
            supervise::run_all(&state);
            // Lives until the runtime ends or the worker has signed off.
            let _alarm = alarm;
            std::future::pending::<()>().await;
        });
        lock(&self.state.tasks).push(task.abort_handle());
    }

    /// Why the worker could not sign on, if it could not.
    pub fn sign_on_error(&self) -> Option<Error> {
        lock(&self.state.refused).clone()
    }

    /// The current incarnation.
    pub fn id(&self) -> String {
        self.state.identity()
    }

    /// Readable when [`Worker::take`] has something.
    pub fn fd(&self) -> std::os::fd::RawFd {
        self.state.notifier.fd()
    }

    /// Return new events. The descriptor is readable again when there are more, or when a job can
    /// start.
    pub fn take(&self) -> Vec<Event> {
        self.state.notifier.reset();
        std::mem::take(&mut *lock(&self.state.events))
    }

    /// The next run. It starts now, unless its task is deferred.
    pub fn next(&self) -> Option<Assignment> {
        let monotonic_ms = monotonic_ms();
        let mut desk = lock(&self.state.desk);
        desk.next(self.state.shared.clock.at_ms(monotonic_ms), monotonic_ms)
    }

    /// The host has pulled all the jobs that it could. The runs that started are recorded if they
    /// last.
    pub fn pulled(&self) {
        if lock(&self.state.desk).take_news() {
            self.state.work.notify_one();
        }
    }

    /// Runs of these tasks start when the host says so, not when it pulls them.
    pub fn defer(&self, tasks: impl IntoIterator<Item = String>) {
        lock(&self.state.desk).defer(tasks.into_iter().collect());
    }

    /// Start a deferred run. If this returns false, the run must not start, and it is over without
    /// an outcome.
    pub fn begin(&self, slot: usize) -> bool {
        let monotonic_ms = monotonic_ms();
        let mut desk = lock(&self.state.desk);
        let begins = desk.begin(slot, self.state.shared.clock.at_ms(monotonic_ms), monotonic_ms);
        let news = desk.take_news();
        if !begins {
            self.state.offer(&desk);
        }
        drop(desk);
        if begins || news {
            // Its start may have to be recorded.
            self.state.work.notify_one();
        }
        begins
    }

    /// How long a run has lasted. `None` if there is no such run, or it has not started.
    pub fn elapsed_ms(&self, slot: usize) -> Option<i64> {
        lock(&self.state.desk).elapsed_ms(slot, monotonic_ms())
    }

    /// The slots of runs that are to be aborted. Each is returned once.
    pub fn take_aborts(&self) -> Vec<usize> {
        lock(&self.state.desk).take_aborts()
    }

    /// Accept outcomes. Their slots become free for other runs.
    pub fn complete(&self, outcomes: Vec<(usize, Outcome)>) {
        let monotonic_ms = monotonic_ms();
        let now_ms = self.state.shared.clock.at_ms(monotonic_ms);
        let mut desk = lock(&self.state.desk);
        for (slot, outcome) in outcomes {
            desk.complete(slot, outcome, now_ms, monotonic_ms);
        }
        desk.take_news();
        drop(desk);
        self.state.work.notify_one();
    }

    /// Whether to end when the queue is empty.
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

    /// Stop fetching, and return the jobs that have not started.
    ///
    /// The order matters. The desk stops first, so that later arrivals are returned too. Then the
    /// blocked read is woken, so that it does not take a job that no host would run.
    pub fn begin_stop(&self) {
        if !lock(&self.state.phase).begin_stop() {
            return;
        }
        lock(&self.state.desk).stop(self.state.now_ms());
        let state = Arc::clone(&self.state);
        self.handle.spawn(async move { idle::wake(&state).await });
        self.state.work.notify_one();
        self.state.idle.notify_one();
    }

    /// All runs are complete: settle, sign off, then emit the event `stopped`. Gives up if the
    /// broker stays unreachable.
    pub fn finish_stop(&self) {
        self.begin_stop();
        if !lock(&self.state.phase).sign_off() {
            return;
        }
        let state = Arc::clone(&self.state);
        let alarm = supervise::Alarm { state: Arc::clone(&state), covers_sign_off: true };
        self.handle.spawn(async move {
            let _alarm = alarm;
            lease::sign_off(&state).await;
        });
        self.state.work.notify_one();
    }
}

impl std::os::fd::AsFd for Worker {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.state.notifier.as_fd()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        for task in lock(&self.state.tasks).drain(..) {
            task.abort();
        }
    }
}
