//! `Port`: a mailbox for requests and answers.

use std::sync::{Arc, OnceLock};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use ardiq_engine::client::Client;
use ardiq_engine::port::{Event, Port as Mailbox, Ticket};
use ardiq_engine::submit::Submission;
use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::convert;
use crate::error::raise;

/// How often a blocked thread looks whether a signal has come.
const SIGNAL_PERIOD: Duration = Duration::from_millis(50);

/// The thread that ends the interpreter, once it does.
static ENDING: OnceLock<ThreadId> = OnceLock::new();

/// The interpreter is about to end: other threads that are blocked in a mailbox stay there. They are daemon threads, for which
/// nobody waits, and one that came back would find no interpreter.
#[pyfunction]
pub fn interpreter_ends() {
    let _ = ENDING.set(thread::current().id());
}

/// Without the GIL: never return to an interpreter that somebody else is ending.
fn stay_if_ending() {
    while ENDING.get().is_some_and(|ending| *ending != thread::current().id()) {
        thread::park();
    }
}

/// A mailbox: requests go in without blocking, answers are drained.
#[pyclass(frozen, module = "ardiq_core._core")]
pub struct Port {
    client: Arc<Client>,
    mailbox: Arc<Mailbox>,
}

impl Port {
    pub fn new(client: Arc<Client>) -> PyResult<Self> {
        Ok(Self { client, mailbox: Arc::new(Mailbox::new().map_err(raise)?) })
    }
}

fn events(py: Python<'_>, events: Vec<Event>) -> PyResult<Bound<'_, PyList>> {
    let list = PyList::empty(py);
    for (ticket, answer) in events {
        let value = match answer {
            // An answer for which there is no memory must not take the others with it.
            Ok(answer) => {
                convert::answer(py, answer).unwrap_or_else(|error| error.into_value(py).into_bound(py).into_any())
            }
            Err(error) => raise(error).into_value(py).into_bound(py).into_any(),
        };
        list.append((ticket, value))?;
    }
    Ok(list)
}

#[pymethods]
impl Port {
    /// Readable when `drain` has something.
    fn fileno(&self) -> i32 {
        self.mailbox.fd()
    }

    fn drain<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        events(py, self.mailbox.drain())
    }

    /// Wait without the GIL until something has arrived, then drain; an empty list after `timeout_ms`.
    fn block<'py>(&self, py: Python<'py>, timeout_ms: u64) -> PyResult<Bound<'py, PyList>> {
        let end = Instant::now() + Duration::from_millis(timeout_ms);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let arrived = py.detach(|| {
                let arrived = self.mailbox.block(left.min(SIGNAL_PERIOD));
                stay_if_ending();
                arrived
            });
            if !arrived.is_empty() || left.is_zero() {
                return events(py, arrived);
            }
            py.check_signals()?;
        }
    }

    /// Answer: list[str], the job ids in order (of the existing job where one was found).
    // A list: to iterate over anything else PyO3 imports `operator` once, and a fork in the midst of that would leave a child
    // in which nobody ends it.
    fn enqueue(&self, ticket: Ticket, jobs: &Bound<'_, PyList>) -> PyResult<()> {
        let jobs = jobs.iter().map(|job| convert::submission(&job)).collect::<PyResult<Vec<Submission>>>()?;
        self.client.enqueue(&self.mailbox, ticket, jobs);
        Ok(())
    }

    /// Enqueue one occurrence of a schedule unless it, or a later one, has been fired. Answer: int, as in the stub.
    fn fire(&self, ticket: Ticket, schedule: String, fire_ms: u64, job: &Bound<'_, PyAny>) -> PyResult<()> {
        self.client.fire(&self.mailbox, ticket, schedule, fire_ms, convert::submission(job)?);
        Ok(())
    }

    /// Answer: int, the Redis time in epoch ms.
    fn clock(&self, ticket: Ticket) {
        self.client.clock(&self.mailbox, ticket);
    }

    /// Answer: ResultRecord; None when there is none now (timeout None) or none came in time.
    #[pyo3(signature = (ticket, job_id, timeout_ms))]
    fn result(&self, ticket: Ticket, job_id: String, timeout_ms: Option<u64>) {
        self.client.result(&self.mailbox, ticket, job_id, timeout_ms.map(Duration::from_millis));
    }

    /// Answer: list[JobRecord], in order.
    fn lookup(&self, ticket: Ticket, job_ids: Vec<String>) {
        self.client.lookup(&self.mailbox, ticket, job_ids);
    }

    /// The caller has given up: drop the wait behind `ticket`.
    fn forget(&self, ticket: Ticket) {
        self.client.forget(&self.mailbox, ticket);
    }

    /// Answer: int, the jobs that wait to start (ready and scheduled).
    fn depth(&self, ticket: Ticket) {
        self.client.depth(&self.mailbox, ticket);
    }

    /// Answer: list[str], names of all queues that this server has seen.
    fn queues(&self, ticket: Ticket) {
        self.client.queues(&self.mailbox, ticket);
    }

    /// Answer: dict, the queue in numbers.
    fn inspect(&self, ticket: Ticket) {
        self.client.inspect(&self.mailbox, ticket);
    }

    /// Answer: list[JobRecord] for state queued, scheduled, running; for `dead`: list[tuple[JobRecord, reason]].
    fn jobs(&self, ticket: Ticket, state: String, limit: usize) {
        self.client.jobs(&self.mailbox, ticket, state, limit);
    }
}
