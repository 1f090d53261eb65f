//! Converts schedules. `shapes.py` defines the tuples.

use ardiq_engine::protocol::keys::Nonce;
use ardiq_engine::protocol::schedule::{Record, Schedule};
use ardiq_engine::schedules::{Agenda, Last};
use ardiq_engine::submit::hex;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};

use crate::convert::{header_dict, headers, new_bytes, tuple};

/// A `Plan`.
pub fn plan(item: &Bound<'_, PyAny>) -> PyResult<Schedule> {
    let fields = tuple(item, 12, "a plan")?;
    let unique: Option<Vec<u8>> = fields.get_borrowed_item(9)?.extract()?;
    Ok(Schedule {
        name: fields.get_borrowed_item(0)?.extract()?,
        task: fields.get_borrowed_item(1)?.extract()?,
        lane: fields.get_borrowed_item(2)?.extract()?,
        spec: fields.get_borrowed_item(3)?.extract()?,
        every_ms: fields.get_borrowed_item(4)?.extract()?,
        zone: fields.get_borrowed_item(5)?.extract()?,
        coalesce: fields.get_borrowed_item(6)?.extract()?,
        drift_ms: fields.get_borrowed_item(7)?.extract()?,
        expire_ms: fields.get_borrowed_item(8)?.extract()?,
        unique: unique.map(|digest| hex(&digest)),
        headers: headers(&fields.get_item(10)?)?,
        body: bytes(&fields.get_item(11)?)?,
    })
}

fn bytes(item: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    Ok(item.cast::<PyBytes>().map_err(|_| PyTypeError::new_err("bytes expected"))?.as_bytes().to_vec())
}

/// The revision of a dynamic schedule; empty for a static one.
pub fn revision(bytes: &[u8]) -> PyResult<Option<Nonce>> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let nonce = bytes.try_into().map_err(|_| PyValueError::new_err("a revision has 8 bytes"))?;
    Ok(Some(nonce))
}

/// An `Agenda`.
pub fn agenda<'py>(py: Python<'py>, agenda: &Agenda) -> PyResult<Bound<'py, PyTuple>> {
    let schedules = agenda.schedules.iter().map(|(record, last)| scheduled(py, record, last.as_ref()));
    let schedules = PyList::new(py, schedules.collect::<PyResult<Vec<_>>>()?)?;
    (new_bytes(py, &agenda.revision)?, agenda.now_ms, schedules).into_pyobject(py)
}

fn scheduled<'py>(py: Python<'py>, record: &Record, last: Option<&Last>) -> PyResult<Bound<'py, PyTuple>> {
    let (plan, revision) = (plan_of(py, &record.schedule)?, new_bytes(py, &record.revision)?);
    let last = last.map(|last| last_job(py, last)).transpose()?;
    (plan, revision, record.is_static, record.is_paused, record.changed_ms, last).into_pyobject(py)
}

fn last_job<'py>(py: Python<'py>, last: &Last) -> PyResult<Bound<'py, PyTuple>> {
    let (success, error) = last.outcome().unzip();
    (&last.id, last.fire_ms, last.state.name(), success, error.flatten()).into_pyobject(py)
}

fn plan_of<'py>(py: Python<'py>, schedule: &Schedule) -> PyResult<Bound<'py, PyTuple>> {
    let unique = schedule.unique.as_deref().map(|digest| new_bytes(py, &unhex(digest))).transpose()?;
    let fields = (
        &schedule.name,
        &schedule.task,
        &schedule.lane,
        schedule.spec.as_deref(),
        schedule.every_ms,
        &schedule.zone,
        schedule.coalesce,
        schedule.drift_ms,
        schedule.expire_ms,
        unique,
        header_dict(py, &schedule.headers)?,
        new_bytes(py, &schedule.body)?,
    );
    fields.into_pyobject(py)
}

/// The bytes of a digest. Anything else becomes zeros, which no job has as its identity.
fn unhex(digits: &str) -> Vec<u8> {
    let pairs = digits.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap_or_default());
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap_or_default()).collect()
}
