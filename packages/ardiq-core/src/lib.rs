//! The Python binding of the engine. It converts tuples to the engine's types and back, and makes
//! no decisions.
//!
//! | file | class or role |
//! |---|---|
//! | `core` | `Core`: one queue as seen from one process |
//! | `mailbox` | `Mailbox`: sends requests, and holds their replies |
//! | `worker` | `Worker`: fetches jobs, passes them to the host, and commits their outcomes |
//! | `convert` | converts tuples to the engine's types and back |
//! | `notes` | the same for progress and events of jobs |
//! | `schedules` | converts schedules |
//! | `protocol` | the protocol as data |
//! | `error` | maps engine errors to exceptions |
//!
//! The engine's thread never takes the interpreter's lock. It fills queues and notifies their
//! owners, and Python empties the queues.

// The macros of PyO3 generate items that have the documentation of the Rust item.
#![allow(missing_docs)]

mod convert;
mod core;
mod error;
mod mailbox;
mod notes;
mod protocol;
mod schedules;
mod worker;

use pyo3::prelude::*;

/// Check that the engine can use `url`. Raises ValueError if not. The message never contains the
/// password.
#[pyfunction]
fn check_url(url: &str) -> PyResult<()> {
    ardiq_engine::url::parse(url).map(drop).map_err(error::raise)
}

#[pymodule]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", ardiq_engine::VERSION)?;
    convert::register_outcomes(module)?;
    module.add_function(wrap_pyfunction!(check_url, module)?)?;
    module.add_function(wrap_pyfunction!(protocol::protocol, module)?)?;
    module.add_function(wrap_pyfunction!(mailbox::interpreter_ends, module)?)?;
    module.add_class::<core::Core>()?;
    module.add_class::<mailbox::Mailbox>()?;
    module.add_class::<worker::Worker>()
}
