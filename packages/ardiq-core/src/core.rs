//! `Core`: one queue as seen from one process.

use std::sync::Arc;
use std::time::Duration;

use ardiq_engine::client::Client;
use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::convert;
use crate::error::raise;
use crate::mailbox::Mailbox;

/// One queue as seen from one process: its connections, its subscription, and the I/O thread.
#[pyclass(frozen, module = "ardiq_core._core")]
pub struct Core {
    pub(crate) client: Arc<Client>,
}

#[pymethods]
impl Core {
    #[new]
    #[pyo3(signature = (*, url, queue, lanes, connect_timeout_ms = 5000, allow_eviction = false))]
    fn new(
        url: &str,
        queue: &str,
        lanes: Vec<String>,
        connect_timeout_ms: u64,
        allow_eviction: bool,
    ) -> PyResult<Self> {
        let client = Client::new(url, queue, &lanes, Duration::from_millis(connect_timeout_ms)).map_err(raise)?;
        if allow_eviction {
            client.shared().server.allow_eviction();
        }
        Ok(Self { client: Arc::new(client) })
    }

    #[getter]
    fn closed(&self) -> bool {
        self.client.is_closed()
    }

    /// A new mailbox for one event loop or one thread. With `with_logs`, it also takes log lines:
    /// see the stub.
    #[pyo3(signature = (*, with_logs = false))]
    fn mailbox(&self, with_logs: bool) -> PyResult<Mailbox> {
        Mailbox::new(Arc::clone(&self.client), with_logs)
    }

    /// Take the log lines of the engine: level as in `logging`, logger suffix, message, and the job
    /// that the line is about: id, task, tries, outcome.
    fn take_logs<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        convert::log_lines(py, self.client.shared().logs.take())
    }

    /// End all connections, and join the I/O thread if no other core uses it. This takes 2 s at
    /// most. Closing twice is harmless.
    fn close(&self, py: Python<'_>) {
        py.detach(|| self.client.close());
    }
}
