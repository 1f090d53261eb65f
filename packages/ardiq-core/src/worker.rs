//! `Worker`: fetch, hand out, settle.

use std::sync::Arc;

use ardiq_engine::client::Client;
use ardiq_engine::worker::desk::Assignment;
use ardiq_engine::worker::judge::Outcome;
use ardiq_engine::worker::{Settings, Worker as Engine};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString};

use crate::convert;
use crate::core::Core;
use crate::error::raise;

/// New runs, and notices as kind and detail.
type Taken<'py> = (Bound<'py, PyList>, Vec<(&'static str, String)>);

/// The engine that fetches, hands out and settles for one event loop.
#[pyclass(frozen, module = "ardiq_core._core")]
pub struct Worker {
    engine: Engine,
    /// Keeps the I/O thread alive for as long as the worker is.
    _client: Arc<Client>,
}

impl Worker {
    fn assignments<'py>(&self, py: Python<'py>, assignments: Vec<Assignment>) -> PyResult<Bound<'py, PyList>> {
        let list = PyList::empty(py);
        for one in assignments {
            let lane = PyString::intern(py, self.engine.lane(&one));
            list.append((
                one.slot,
                PyString::new(py, &one.id),
                PyString::intern(py, &one.name),
                PyBytes::new(py, &one.body),
                one.tries,
                one.enqueued_ms,
                convert::headers_or_none(py, &one.headers)?,
                lane,
            ))?;
        }
        Ok(list)
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
        Ok(Self { engine, _client: Arc::clone(&core.client) })
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

    fn take<'py>(&self, py: Python<'py>) -> PyResult<Taken<'py>> {
        let (assignments, notices) = self.engine.take();
        let notices = notices.into_iter().map(|notice| (notice.kind, notice.detail)).collect();
        Ok((self.assignments(py, assignments)?, notices))
    }

    /// Hand in finished runs and get what may start in their place. A list, for the reason that `Port::enqueue` has.
    fn complete<'py>(&self, py: Python<'py>, outcomes: &Bound<'py, PyList>) -> PyResult<Bound<'py, PyList>> {
        let outcomes =
            outcomes.iter().map(|one| convert::outcome(&one)).collect::<PyResult<Vec<(usize, Outcome)>>>()?;
        let next = self.engine.complete(outcomes);
        self.assignments(py, next)
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
