//! Converts progress and the events of jobs. `_core.pyi` and `shapes.py` define the tuples.

use ardiq_engine::events::JobEvent;
use ardiq_engine::protocol::notes::Report;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::convert::result_record;

/// Progress, and when it was stored.
pub fn report<'py>(py: Python<'py>, report: &Report) -> PyResult<Bound<'py, PyTuple>> {
    let Report { progress, at_ms } = report;
    (progress.done, progress.total, progress.message.as_deref(), *at_ms).into_pyobject(py)
}

/// An event of a job.
pub fn event<'py>(py: Python<'py>, event: &JobEvent) -> PyResult<Bound<'py, PyTuple>> {
    let progress = event.report.as_ref().map(|one| report(py, one)).transpose()?;
    let result = event.result.as_ref().map(|result| result_record(py, result)).transpose()?;
    (event.state.name(), event.tries, progress, result, event.is_last).into_pyobject(py)
}
