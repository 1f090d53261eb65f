//! The one mapping from engine errors to Python exceptions.

use ardiq_engine::error::Error;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

static BROKER_ERROR: PyOnceLock<Py<PyType>> = PyOnceLock::new();

/// The exception for an engine error.
pub fn raise(error: Error) -> PyErr {
    match error {
        Error::Invalid(message) => PyValueError::new_err(message),
        Error::Unreachable { .. } | Error::Refused(_) | Error::Closed | Error::Protocol(_) => {
            Python::attach(|py| match BROKER_ERROR.import(py, "ardiq_core.errors", "BrokerError") {
                Ok(class) => PyErr::from_type(class.clone(), error.to_string()),
                Err(failure) => failure,
            })
        }
    }
}
