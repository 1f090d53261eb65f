//! Maps engine errors to Python exceptions.

use ardiq_engine::error::Error;
use ardiq_engine::printable::printable;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyType;

/// The exception for an engine error. Its text is made printable: it may contain data from the
/// server, and it will be logged or shown on a terminal.
pub fn raise(error: Error) -> PyErr {
    match error {
        Error::Invalid(message) => PyValueError::new_err(message),
        Error::NoResult { .. } => of_class("ResultNotFoundError", &error),
        Error::Unreachable { .. } | Error::Refused(_) | Error::Unfit(_) | Error::Closed | Error::Protocol(_) => {
            of_class("BrokerError", &error)
        }
    }
}

fn of_class(name: &str, error: &Error) -> PyErr {
    Python::attach(|py| match class(py, name) {
        Ok(class) => PyErr::from_type(class, printable(&error.to_string()).into_owned()),
        Err(failure) => failure,
    })
}

/// The class is looked up every time. If another thread were filling a cache when the process
/// forks, the cache would stay half filled in the child.
fn class<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyType>> {
    Ok(py.import("ardiq_core.errors")?.getattr(name)?.cast_into()?)
}
