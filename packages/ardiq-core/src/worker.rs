//! `Worker`: fetch, hand out, settle.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use ardiq_engine::client::Client;
use ardiq_engine::printable::printable;
use ardiq_engine::worker::desk::Assignment;
use ardiq_engine::worker::judge::Outcome;
use ardiq_engine::worker::{Settings, Worker as Engine};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString, PyTuple};

use crate::convert;
use crate::core::Core;
use crate::error::raise;

/// Names that are kept as Python strings, and the longest of these in bytes. Python never forgets an interned string, and anyone
/// who can write to Redis can make up names: so names are kept here instead, in a cache that begins again when it is full.
const KEPT_NAMES: usize = 1024;
const LONGEST_KEPT_NAME: usize = 256;

/// Python strings of task names. Only locked by callers that hold the interpreter's lock.
#[derive(Default)]
struct Names(Mutex<HashMap<String, Py<PyString>>>);

impl Names {
    fn get<'py>(&self, py: Python<'py>, name: &str) -> Bound<'py, PyString> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = kept.get(name) {
            return known.bind(py).clone();
        }
        let text = PyString::new(py, name);
        if name.len() <= LONGEST_KEPT_NAME {
            if kept.len() >= KEPT_NAMES {
                kept.clear();
            }
            kept.insert(name.to_owned(), text.clone().unbind());
        }
        text
    }
}

/// The engine that fetches, hands out and settles for one event loop.
#[pyclass(frozen, module = "ardiq_core._core")]
pub struct Worker {
    engine: Engine,
    names: Names,
    /// Keeps the I/O thread alive for as long as the worker is.
    _client: Arc<Client>,
}

impl Worker {
    fn assignment<'py>(&self, py: Python<'py>, one: &Assignment) -> PyResult<Bound<'py, PyTuple>> {
        // One of the app's own lanes: few.
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
        Ok(Self { engine, names: Names::default(), _client: Arc::clone(&core.client) })
    }

    fn start(&self) {
        self.engine.start();
    }

    /// The present incarnation: changes after a lost lease.
    #[getter]
    fn worker_id(&self) -> String {
        self.engine.id()
    }

    /// Readable when `take` has something.
    fn fileno(&self) -> i32 {
        self.engine.fd()
    }

    fn take(&self) -> Vec<(&'static str, String)> {
        self.engine.take().into_iter().map(|notice| (notice.kind, printable(&notice.detail).into_owned())).collect()
    }

    /// The next run, which begins now unless its task is deferred; nothing when there is none or no place for it.
    fn next<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let Some(one) = self.engine.next() else { return Ok(None) };
        self.assignment(py, &one).map(Some).inspect_err(|_| {
            // There was no memory for it, so it cannot run here.
            self.engine.complete(vec![(one.slot, Outcome::HandBack)]);
        })
    }

    /// The host has pulled what it could.
    fn pulled(&self) {
        self.engine.pulled();
    }

    /// Runs of these tasks begin with `begin`, not when they are pulled.
    fn defer(&self, tasks: Vec<String>) {
        self.engine.defer(tasks);
    }

    /// A deferred run begins; when it may not, it is over without an outcome.
    fn begin(&self, slot: usize) -> bool {
        self.engine.begin(slot)
    }

    /// Hand in finished runs. A list, for the reason that `Port::enqueue` has.
    fn complete(&self, outcomes: &Bound<'_, PyList>) -> PyResult<()> {
        let outcomes =
            outcomes.iter().map(|one| convert::outcome(&one)).collect::<PyResult<Vec<(usize, Outcome)>>>()?;
        self.engine.complete(outcomes);
        Ok(())
    }

    fn set_burst(&self, burst: bool) {
        self.engine.set_burst(burst);
    }

    /// Fetch no more and give back what has not started; running work goes on. Twice is harmless.
    fn begin_stop(&self) {
        self.engine.begin_stop();
    }

    /// Call when all runs are completed: settle, sign off, then the notice `stopped`.
    fn finish_stop(&self) {
        self.engine.finish_stop();
    }

    /// The Redis time, by the last answer and the monotonic clock since.
    fn now_ms(&self) -> u64 {
        self.engine.now_ms()
    }
}
