//! Maps engine errors to Python exceptions.

use ardiq_engine::error::Error;
use ardiq_engine::printable::printable;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyType;

/// The exception for an engine error. Its text is made printable: it may contain data from the
/// server, and it will be logged or shown on a terminal.
pub fn raise(error: Error) -> PyErr {
    let name = match &error {
        Error::Invalid(message) => return PyValueError::new_err(message.clone()),
        Error::NoResult { .. } => "ResultNotFoundError",
        Error::Unreachable { .. } => "BrokerUnreachableError",
        Error::Refused(_) => "BrokerRefusedError",
        Error::Unfit(_) => "BrokerUnfitError",
        Error::StaleRun => "StaleRunError",
        Error::Closed => "BrokerClosedError",
        Error::Protocol(_) => "BrokerDataError",
        Error::System { .. } => "SystemResourceError",
    };
    let text = printable(&error.to_string()).into_owned();
    Python::attach(|py| match (class(py, name), error) {
        (Ok(class), Error::System { errno: Some(errno), .. }) => PyErr::from_type(class, (errno, text)),
        (Ok(class), _) => PyErr::from_type(class, text),
        (Err(failure), _) => failure,
    })
}

/// The class is looked up every time. If another thread were filling a cache when the process
/// forks, the cache would stay half filled in the child.
fn class<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyType>> {
    Ok(py.import("ardiq_core.errors")?.getattr(name)?.cast_into()?)
}
