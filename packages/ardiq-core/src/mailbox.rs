//! `Mailbox`: sends requests, and holds their replies.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use ardiq_engine::answer::Answer;
use ardiq_engine::client::Client;
use ardiq_engine::error::Error;
use ardiq_engine::graph::Graph;
use ardiq_engine::mailbox::{LOGS, Mailbox as Replies, Reply, RequestId};
use ardiq_engine::protocol::schedule::Schedule;
use ardiq_engine::protocol::state::Listing;
use ardiq_engine::submit::Submission;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyList;

use crate::convert;
use crate::error::raise;
use crate::schedules;
use crate::worker::Worker;

/// How often a blocked thread checks for signals.
const SIGNAL_PERIOD: Duration = Duration::from_millis(50);

/// The thread that ends the interpreter.
static ENDING: OnceLock<ThreadId> = OnceLock::new();

/// Announce the end of the interpreter. Other threads that are blocked in a mailbox stay blocked.
/// They are daemon threads, so nothing waits for them, and the interpreter may be gone by the time
/// that they return to it.
#[pyfunction]
pub fn interpreter_ends() {
    let _ = ENDING.set(thread::current().id());
}

/// Never return if another thread is ending the interpreter. Call this without the GIL.
fn stay_if_ending() {
    while ENDING.get().is_some_and(|ending| *ending != thread::current().id()) {
        thread::park();
    }
}

/// The exception for an answer whose conversion panicked.
fn unreadable(panic: &(dyn Any + Send)) -> PyErr {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    raise(Error::Protocol(text.unwrap_or("its conversion failed").to_owned()))
}

/// Sends requests without blocking, and holds their replies until they are taken.
#[pyclass(frozen, module = "ardiq_core._core")]
pub struct Mailbox {
    client: Arc<Client>,
    replies: Arc<Replies>,
}

impl Mailbox {
    pub fn new(client: Arc<Client>, with_logs: bool) -> PyResult<Self> {
        let replies = Arc::new(Replies::new().map_err(raise)?);
        if with_logs {
            client.shared().logs.listen(&replies);
        }
        Ok(Self { client, replies })
    }

    fn convert<'py>(&self, py: Python<'py>, answer: Answer) -> PyResult<Bound<'py, PyAny>> {
        match answer {
            Answer::Logs => Ok(convert::log_lines(py, self.client.shared().logs.take())?.into_any()),
            answer => convert::answer(py, answer),
        }
    }

    /// The replies in the form that Python expects. If one of them cannot be converted, its caller
    /// receives the exception, and the others still receive theirs.
    fn to_list<'py>(&self, py: Python<'py>, replies: Vec<Reply>) -> PyResult<Bound<'py, PyList>> {
        let list = PyList::empty(py);
        for (request_id, answer) in replies {
            let value = answer.map_err(raise).and_then(|answer| {
                let converted = catch_unwind(AssertUnwindSafe(|| self.convert(py, answer)));
                converted.unwrap_or_else(|panic| Err(unreadable(&*panic)))
            });
            match value {
                Ok(value) => list.append((request_id, value))?,
                // No caller waits for log lines.
                Err(_) if request_id == LOGS => {}
                Err(error) => list.append((request_id, error.into_value(py)))?,
            }
        }
        Ok(list)
    }
}

#[pymethods]
impl Mailbox {
    /// A descriptor that is readable while replies are waiting.
    fn fileno(&self) -> i32 {
        self.replies.fd()
    }

    /// Take all replies.
    fn drain<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        self.to_list(py, self.replies.drain())
    }

    /// Wait for a reply without holding the GIL, then take all. Returns an empty list after
    /// `timeout_ms`.
    fn block<'py>(&self, py: Python<'py>, timeout_ms: u64) -> PyResult<Bound<'py, PyList>> {
        let end = Instant::now() + Duration::from_millis(timeout_ms);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let arrived = py.detach(|| {
                let arrived = self.replies.block(left.min(SIGNAL_PERIOD));
                stay_if_ending();
                arrived
            });
            if !arrived.is_empty() || left.is_zero() {
                return self.to_list(py, arrived);
            }
            py.check_signals()?;
        }
    }

    /// Enqueue jobs. The answer is `list[str]`: the job ids, in order. See the stub.
    // It accepts only a list, because PyO3 imports `operator` to iterate over anything else. If
    // another thread forked the process during that import, the import would never end in the
    // child.
    fn enqueue(&self, request_id: RequestId, jobs: &Bound<'_, PyList>) -> PyResult<()> {
        let jobs = jobs.iter().map(|job| convert::submission(&job)).collect::<PyResult<Vec<Submission>>>()?;
        self.client.enqueue(&self.replies, request_id, jobs);
        Ok(())
    }

    /// Enqueue jobs that depend on each other. The answer is `list[str]`: the job ids, in order.
    /// See the stub.
    fn link(&self, request_id: RequestId, jobs: &Bound<'_, PyList>, edges: &Bound<'_, PyList>) -> PyResult<()> {
        let jobs = jobs.iter().map(|job| convert::node(&job)).collect::<PyResult<_>>()?;
        let edges = edges.iter().map(|edge| convert::edge(&edge)).collect::<PyResult<_>>()?;
        self.client.link(&self.replies, request_id, Graph { jobs, edges });
        Ok(())
    }

    /// Create a dynamic schedule, or replace the one of this name. The answer is an int: 1, or 0 if
    /// the name belongs to a static schedule.
    fn schedule(&self, request_id: RequestId, plan: &Bound<'_, PyAny>) -> PyResult<()> {
        self.client.schedule(&self.replies, request_id, schedules::plan(plan)?);
        Ok(())
    }

    /// Remove a schedule. The answer is an int: see the stub.
    fn unschedule(&self, request_id: RequestId, name: String) {
        self.client.unschedule(&self.replies, request_id, name);
    }

    /// Pause a schedule, or resume it. The answer is an int: 1, or 0 if there is no such schedule.
    fn pause(&self, request_id: RequestId, name: String, pauses: bool) {
        self.client.pause(&self.replies, request_id, name, pauses);
    }

    /// Publish static schedules. The answer is `list[str]`: the dynamic ones that they have
    /// replaced.
    fn declare(&self, request_id: RequestId, plans: &Bound<'_, PyList>) -> PyResult<()> {
        let plans = plans.iter().map(|plan| schedules::plan(&plan)).collect::<PyResult<Vec<Schedule>>>()?;
        self.client.declare(&self.replies, request_id, plans);
        Ok(())
    }

    /// Enqueue one occurrence of a schedule unless it, or a later one, was fired. The answer is an
    /// int: see the stub.
    fn fire(
        &self,
        request_id: RequestId,
        plan: &Bound<'_, PyAny>,
        revision: &[u8],
        fire_ms: u64,
        gap_ms: u64,
    ) -> PyResult<()> {
        let (plan, revision) = (schedules::plan(plan)?, schedules::revision(revision)?);
        self.client.fire(&self.replies, request_id, plan, revision, (fire_ms, gap_ms));
        Ok(())
    }

    /// Enqueue a job of a schedule now. The answer is `list[str]`: its id, or nothing.
    fn fire_now(&self, request_id: RequestId, name: String) {
        self.client.fire_now(&self.replies, request_id, name);
    }

    /// Wait until a schedule has changed. The answer is an `Agenda`.
    #[pyo3(signature = (request_id, revision))]
    fn watch(&self, request_id: RequestId, revision: Option<Vec<u8>>) {
        self.client.watch(&self.replies, request_id, revision);
    }

    /// Read the schedules, or one. The answer is an `Agenda`.
    #[pyo3(signature = (request_id, name))]
    fn schedules(&self, request_id: RequestId, name: Option<String>) {
        self.client.schedules(&self.replies, request_id, name);
    }

    /// Read the Redis time. The answer is an int, in epoch ms.
    fn clock(&self, request_id: RequestId) {
        self.client.clock(&self.replies, request_id);
    }

    /// Read a result, or wait for it. The answer is a `ResultRecord`, or None if there is none in
    /// time.
    #[pyo3(signature = (request_id, job_id, timeout_ms))]
    fn result(&self, request_id: RequestId, job_id: String, timeout_ms: Option<u64>) {
        self.client.result(&self.replies, request_id, job_id, timeout_ms.map(Duration::from_millis));
    }

    /// Read the state of jobs. The answer is `list[JobRecord]`, in order.
    fn lookup(&self, request_id: RequestId, job_ids: Vec<String>) {
        self.client.lookup(&self.replies, request_id, job_ids);
    }

    /// Read the progress of an unfinished job. The answer is a `ProgressRecord`, or None.
    fn progress(&self, request_id: RequestId, job_id: String) {
        self.client.progress(&self.replies, request_id, job_id);
    }

    /// Follow a job. There are several answers, each an `EventRecord`, up to the last one.
    fn follow(&self, request_id: RequestId, job_id: String) {
        self.client.follow(&self.replies, request_id, job_id);
    }

    /// Store a checkpoint of a run. The answer is an int, 1.
    fn checkpoint(&self, request_id: RequestId, worker: &Worker, slot: usize, value: PyBackedBytes) {
        self.client.store_checkpoint(&self.replies, request_id, &worker.engine, slot, value.to_vec());
    }

    /// Abort a job, and wait until it has ended. The answer is an int: 1 if it has ended as aborted
    /// in time, else 0.
    fn abort(&self, request_id: RequestId, job_id: String, timeout_ms: u64) {
        self.client.abort(&self.replies, request_id, job_id, Duration::from_millis(timeout_ms));
    }

    /// Cancel a request that waits.
    fn forget(&self, request_id: RequestId) {
        self.client.forget(&self.replies, request_id);
    }

    /// Count the jobs that are waiting to start. The answer is an int.
    fn depth(&self, request_id: RequestId) {
        self.client.depth(&self.replies, request_id);
    }

    /// List the names of all queues on this server. The answer is `list[str]`.
    fn queues(&self, request_id: RequestId) {
        self.client.queues(&self.replies, request_id);
    }

    /// Summarize the queue. The answer is a dict: see the stub.
    fn inspect(&self, request_id: RequestId) {
        self.client.inspect(&self.replies, request_id);
    }

    /// List jobs. The answer is `list[JobRecord]`; for the state `dead`,
    /// `list[tuple[JobRecord, str]]`.
    fn jobs(&self, request_id: RequestId, state: &str, limit: usize) -> PyResult<()> {
        let listing: Listing = state.parse().map_err(|error| raise(Error::Invalid(error)))?;
        self.client.jobs(&self.replies, request_id, listing, limit);
        Ok(())
    }
}
