//! The one mapping from engine errors to Python exceptions.

use ardiq_engine::error::Error;
use ardiq_engine::printable::printable;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyType;

/// The exception for an engine error. Its text may quote the server, and will be logged or shown on a terminal.
pub fn raise(error: Error) -> PyErr {
    match error {
        Error::Invalid(message) => PyValueError::new_err(message),
        Error::Unreachable { .. } | Error::Refused(_) | Error::Closed | Error::Protocol(_) => {
            Python::attach(|py| match broker_error(py) {
                Ok(class) => PyErr::from_type(class, printable(&error.to_string()).into_owned()),
                Err(failure) => failure,
            })
        }
    }
}

/// Looked up anew each time: a cell that another thread is filling at the moment of a fork stays half filled in the child.
fn broker_error(py: Python<'_>) -> PyResult<Bound<'_, PyType>> {
    Ok(py.import("ardiq_core.errors")?.getattr("BrokerError")?.cast_into()?)
}
