//! `protocol()`: the protocol as data.

use ardiq_engine::catalog::{self, Table};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

/// The protocol as data: the rows of each table, by the name of the table. A row is a dict of text
/// by column.
#[pyfunction]
pub fn protocol(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let tables = PyDict::new(py);
    for table in catalog::tables() {
        tables.set_item(table.name, rows(py, &table)?)?;
    }
    Ok(tables)
}

fn rows<'py>(py: Python<'py>, table: &Table) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for row in &table.rows {
        let dict = PyDict::new(py);
        for (column, cell) in table.columns.iter().zip(row) {
            dict.set_item(column, cell)?;
        }
        list.append(dict)?;
    }
    Ok(list)
}
