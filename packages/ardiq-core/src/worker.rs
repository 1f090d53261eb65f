//! `Worker`: fetches jobs, passes them to the host, and commits their outcomes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use ardiq_engine::client::Client;
use ardiq_engine::lock::lock;
use ardiq_engine::printable::printable;
use ardiq_engine::protocol::notes::Progress;
use ardiq_engine::worker::desk::Assignment;
use ardiq_engine::worker::judge::Outcome;
use ardiq_engine::worker::{Settings, Worker as Engine};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};

use crate::convert;
use crate::core::Core;
use crate::error::raise;

/// The most names that are cached as Python strings, and the longest of these in bytes. Task names
/// are not interned: Python may never free an interned string, and anyone who can write to Redis
/// can invent names. The cache is cleared when it is full.
const CACHED_NAMES: usize = 1024;
const LONGEST_CACHED_NAME: usize = 256;

/// A cache of task names as Python strings. Callers hold the interpreter's lock while they lock it.
#[derive(Default)]
struct NameCache(Mutex<HashMap<String, Py<PyString>>>);

impl NameCache {
    fn get<'py>(&self, py: Python<'py>, name: &str) -> Bound<'py, PyString> {
        let mut cached = lock(&self.0);
        if let Some(known) = cached.get(name) {
            return known.bind(py).clone();
        }
        let text = PyString::new(py, name);
        if name.len() <= LONGEST_CACHED_NAME {
            if cached.len() >= CACHED_NAMES {
                cached.clear();
            }
            cached.insert(name.to_owned(), text.clone().unbind());
        }
        text
    }
}

/// The engine of one worker: fetches jobs, passes them to its host, and commits their outcomes.
#[pyclass(frozen, module = "ardiq_core._core")]
pub struct Worker {
    pub engine: Engine,
    names: NameCache,
    /// Keeps the I/O thread alive as long as the worker.
    _client: Arc<Client>,
}

impl Worker {
    fn assignment<'py>(&self, py: Python<'py>, one: &Assignment) -> PyResult<Bound<'py, PyTuple>> {
        // There are only a few lanes.
        let lane = PyString::intern(py, self.engine.lane(one));
        (
            one.slot,
            PyString::new(py, &one.id),
            self.names.get(py, &one.name),
            convert::new_bytes(py, &one.body)?,
            one.tries,
            one.enqueued_ms,
            convert::headers_or_none(py, &one.headers)?,
            lane,
            convert::inputs(py, one.inputs.as_ref())?,
        )
            .into_pyobject(py)
    }
}

#[pymethods]
impl Worker {
    #[new]
    #[pyo3(signature = (core, *, worker_id, concurrency, prefetch, lease_ms, result_ttl_ms, burst))]
    fn new(
        core: &Core,
        worker_id: String,
        concurrency: usize,
        prefetch: usize,
        lease_ms: u64,
        result_ttl_ms: i64,
        burst: bool,
    ) -> PyResult<Self> {
        let host = worker_id.split(':').next().unwrap_or_default().to_owned();
        let settings = Settings { worker_id, concurrency, prefetch, lease_ms, result_ttl_ms, host };
        let engine = Engine::new(&core.client, settings, burst).map_err(raise)?;
        Ok(Self { engine, names: NameCache::default(), _client: Arc::clone(&core.client) })
    }

    fn start(&self) {
        self.engine.start();
    }

    /// The id of the current incarnation. It changes when the lease is lost.
    #[getter]
    fn worker_id(&self) -> String {
        self.engine.id()
    }

    /// A descriptor that is readable when `take` may return events, or a job can start.
    fn fileno(&self) -> i32 {
        self.engine.fd()
    }

    /// Take the new events: kind and detail.
    fn take(&self) -> Vec<(&'static str, String)> {
        self.engine.take().into_iter().map(|event| (event.kind.name(), printable(&event.detail).into_owned())).collect()
    }

    /// The exception that says why the worker could not sign on, or None.
    fn sign_on_error<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.engine.sign_on_error().map(|error| raise(error).into_value(py).into_bound(py).into_any())
    }

    /// The next run, or None if there is none, or no free slot. It starts now, unless its task is
    /// deferred.
    fn next<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let Some(one) = self.engine.next() else { return Ok(None) };
        self.assignment(py, &one).map(Some).inspect_err(|_| {
            // There is no memory for it, so it cannot run here.
            self.engine.complete(vec![(one.slot, Outcome::HandBack)]);
        })
    }

    /// The host has called `next` for the last time for now.
    fn pulled(&self) {
        self.engine.pulled();
    }

    /// Runs of these tasks start with `begin`, not with `next`.
    fn defer(&self, tasks: Vec<String>) {
        self.engine.defer(tasks);
    }

    /// Start a deferred run. Returns false if it must not start. Then the run is over, and has no
    /// outcome.
    fn begin(&self, slot: usize) -> bool {
        self.engine.begin(slot)
    }

    /// How long a run has lasted; nothing when it has not started.
    fn elapsed_ms(&self, slot: usize) -> Option<i64> {
        self.engine.elapsed_ms(slot)
    }

    /// The slots of runs that are to be aborted. Each is returned once.
    fn take_aborts(&self) -> Vec<usize> {
        self.engine.take_aborts()
    }

    /// Report the progress of a run. The report of a run that is over is dropped.
    #[pyo3(signature = (slot, done, total=None, message=None))]
    fn report(&self, slot: usize, done: u64, total: Option<u64>, message: Option<String>) {
        self.engine.report(slot, Progress { done, total, message });
    }

    /// The last checkpoint of the job in this slot, or None.
    fn checkpoint<'py>(&self, py: Python<'py>, slot: usize) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let checkpoint = self.engine.checkpoint(slot).map_err(raise)?;
        checkpoint.map(|value| convert::new_bytes(py, &value)).transpose()
    }

    /// Submit the outcomes of finished runs. It accepts only a list, for the same reason as
    /// `Mailbox::enqueue`.
    fn complete(&self, outcomes: &Bound<'_, PyList>) -> PyResult<()> {
        let outcomes =
            outcomes.iter().map(|one| convert::outcome(&one)).collect::<PyResult<Vec<(usize, Outcome)>>>()?;
        self.engine.complete(outcomes);
        Ok(())
    }

    fn set_burst(&self, burst: bool) {
        self.engine.set_burst(burst);
    }

    /// Fetch no more jobs, and return those that have not started. Runs continue. Calling this
    /// twice is harmless.
    fn begin_stop(&self) {
        self.engine.begin_stop();
    }

    /// Write the remaining outcomes, sign off, then emit the event `stopped`. Call this when all
    /// runs are complete.
    fn finish_stop(&self) {
        self.engine.finish_stop();
    }

    /// The Redis time of the last reply, plus the time that has passed since by the monotonic
    /// clock.
    fn now_ms(&self) -> u64 {
        self.engine.now_ms()
    }
}
