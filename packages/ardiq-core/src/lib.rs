//! The Python binding of the engine: shapes in, shapes out, nothing decided here.
//!
//! | file | class or role |
//! |---|---|
//! | `core` | `Core`: one queue as seen from one process |
//! | `port` | `Port`: a mailbox for requests and answers |
//! | `worker` | `Worker`: fetch, hand out, settle |
//! | `convert` | from tuples to engine types and back |
//! | `protocol` | the protocol as data |
//! | `error` | the one mapping from engine errors to exceptions |
//!
//! No thread of the engine ever takes the interpreter's lock: it fills queues and rings bells, and Python empties them.

// The macros of PyO3 write items whose documentation is that of the Rust item.
#![allow(missing_docs)]

mod convert;
mod core;
mod error;
mod port;
mod protocol;
mod worker;

use pyo3::prelude::*;

/// Raise ValueError, never showing the password, unless `url` is one that the engine can use.
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
    module.add_function(wrap_pyfunction!(port::interpreter_ends, module)?)?;
    module.add_class::<core::Core>()?;
    module.add_class::<port::Port>()?;
    module.add_class::<worker::Worker>()
}
