//! Converts tuples to the engine's types and back. `_core.pyi` and `shapes.py` define the tuples.

use ardiq_engine::answer::Answer;
use ardiq_engine::graph::{Dependency, Parent};
use ardiq_engine::jobs::JobRecord;
use ardiq_engine::logs::Line;
use ardiq_engine::protocol::info::Info;
use ardiq_engine::protocol::record::{self, ResultRecord};
use ardiq_engine::scripts::bodies::{Input, Inputs};
use ardiq_engine::scripts::links::EdgeKind;
use ardiq_engine::scripts::look::QueueView;
use ardiq_engine::service::service;
use ardiq_engine::submit::{LARGE_BODY, Submission};
use ardiq_engine::worker::judge::{Fault, Outcome};
use bytes::Bytes;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};

use crate::error::raise;
use crate::notes;
use crate::schedules;

const SUCCESS: u8 = 0;
const FAILURE: u8 = 1;
const RETRY: u8 = 2;
const DEAD: u8 = 3;
const HAND_BACK: u8 = 4;
const UNKNOWN_TASK: u8 = 5;
const ABORTED: u8 = 6;

/// Export the constants for the outcomes.
pub fn register_outcomes(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("SUCCESS", SUCCESS)?;
    module.add("FAILURE", FAILURE)?;
    module.add("RETRY", RETRY)?;
    module.add("DEAD", DEAD)?;
    module.add("HAND_BACK", HAND_BACK)?;
    module.add("UNKNOWN_TASK", UNKNOWN_TASK)?;
    module.add("ABORTED", ABORTED)
}

pub fn tuple<'a, 'py>(item: &'a Bound<'py, PyAny>, length: usize, what: &str) -> PyResult<&'a Bound<'py, PyTuple>> {
    let tuple = item.cast::<PyTuple>().map_err(|_| PyTypeError::new_err(format!("{what} must be a tuple")))?;
    if tuple.len() == length {
        Ok(tuple)
    } else {
        Err(PyTypeError::new_err(format!("{what} must have {length} fields, not {}", tuple.len())))
    }
}

fn bytes(item: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    Ok(item.cast::<PyBytes>().map_err(|_| PyTypeError::new_err("bytes expected"))?.as_bytes().to_vec())
}

/// Large arguments are not copied: they stay in the caller's object until they have been sent. Then
/// the next call that holds the interpreter's lock releases the object.
fn body(item: &Bound<'_, PyAny>) -> PyResult<Bytes> {
    let bytes = item.cast::<PyBytes>().map_err(|_| PyTypeError::new_err("bytes expected"))?;
    if bytes.as_bytes().len() > LARGE_BODY {
        Ok(Bytes::from_owner(PyBackedBytes::from(bytes.clone())))
    } else {
        Ok(bytes.as_bytes().to_vec().into())
    }
}

/// Headers of a submission: a dict or None.
pub fn headers(item: &Bound<'_, PyAny>) -> PyResult<Vec<(String, String)>> {
    if item.is_none() {
        return Ok(Vec::new());
    }
    let dict = item.cast::<PyDict>().map_err(|_| PyTypeError::new_err("headers must be a dict"))?;
    dict.iter().map(|(key, value)| Ok((key.extract()?, value.extract()?))).collect()
}

/// A `Submission`.
pub fn submission(item: &Bound<'_, PyAny>) -> PyResult<Submission> {
    let fields = tuple(item, 9, "a submission")?;
    let unique = fields.get_borrowed_item(6)?;
    Ok(Submission {
        id: fields.get_borrowed_item(0)?.extract()?,
        name: fields.get_borrowed_item(1)?.extract()?,
        lane: fields.get_borrowed_item(2)?.extract()?,
        delay_ms: fields.get_borrowed_item(3)?.extract()?,
        due_ms: fields.get_borrowed_item(4)?.extract()?,
        expire_ms: fields.get_borrowed_item(5)?.extract()?,
        unique: if unique.is_none() { None } else { Some(bytes(&unique)?) },
        headers: headers(&fields.get_item(7)?)?,
        body: body(&fields.get_item(8)?)?,
    })
}

/// The first letter of a text.
fn letter(item: &Bound<'_, PyAny>) -> PyResult<char> {
    let text: String = item.extract()?;
    text.chars().next().ok_or_else(|| PyValueError::new_err("a letter expected"))
}

/// A job of a graph: a `Submission`, and the mode of its inputs or None.
pub fn node(item: &Bound<'_, PyAny>) -> PyResult<(Submission, Option<char>)> {
    let fields = tuple(item, 2, "a job of a graph")?;
    let mode = fields.get_borrowed_item(1)?;
    Ok((submission(&fields.get_item(0)?)?, if mode.is_none() { None } else { Some(letter(&mode)?) }))
}

/// An edge of a graph: see the stub.
pub fn edge(item: &Bound<'_, PyAny>) -> PyResult<Dependency> {
    let fields = tuple(item, 4, "an edge")?;
    let parent = fields.get_borrowed_item(0)?;
    let kind = letter(&fields.get_item(2)?)?;
    Ok(Dependency {
        parent: match parent.extract::<usize>() {
            Ok(position) => Parent::Member(position),
            Err(_) => Parent::Existing(parent.extract()?),
        },
        child: fields.get_borrowed_item(1)?.extract()?,
        kind: EdgeKind::of(kind).ok_or_else(|| PyValueError::new_err(format!("no kind of edge is called {kind}")))?,
        position: fields.get_borrowed_item(3)?.extract()?,
    })
}

/// The inputs of a job: their mode, and a value or a `ResultRecord` each; None if it has none.
pub fn inputs<'py>(py: Python<'py>, inputs: Option<&Inputs>) -> PyResult<Bound<'py, PyAny>> {
    let Some(inputs) = inputs else { return Ok(py.None().into_bound(py)) };
    let values = inputs.values.iter().map(|input| match input {
        Input::Value(value) => Ok(new_bytes(py, value)?.into_any()),
        Input::Record(record) => Ok(result_record(py, record)?.into_any()),
    });
    let values = PyList::new(py, values.collect::<PyResult<Vec<_>>>()?)?;
    Ok((inputs.mode.to_string(), values).into_pyobject(py)?.into_any())
}

/// An `Outcome`: the slot, and the outcome of its run.
pub fn outcome(item: &Bound<'_, PyAny>) -> PyResult<(usize, Outcome)> {
    let fields = tuple(item, 6, "an outcome")?;
    let slot = fields.get_borrowed_item(0)?.extract()?;
    let value = fields.get_borrowed_item(2)?;
    let number: Option<i64> = fields.get_borrowed_item(3)?.extract()?;
    let fault = || -> PyResult<Fault> {
        Ok(Fault {
            text: value.extract()?,
            error_type: fields.get_borrowed_item(4)?.extract()?,
            traceback: fields.get_borrowed_item(5)?.extract()?,
        })
    };
    let outcome = match fields.get_borrowed_item(1)?.extract()? {
        SUCCESS => Outcome::Success(bytes(&value)?, number),
        FAILURE => Outcome::Failure(fault()?, number),
        DEAD => Outcome::Dead(fault()?, number),
        ABORTED => Outcome::Aborted(value.extract()?, number),
        RETRY => Outcome::Retry(u64::try_from(number.unwrap_or_default()).unwrap_or_default()),
        HAND_BACK => Outcome::HandBack,
        UNKNOWN_TASK => Outcome::UnknownTask,
        other => {
            return Err(PyValueError::new_err(format!("no outcome has the number {other}")));
        }
    };
    Ok((slot, outcome))
}

/// Headers as a dict, or None if there are none.
pub fn headers_or_none<'py>(py: Python<'py>, headers: &[(String, String)]) -> PyResult<Option<Bound<'py, PyDict>>> {
    if headers.is_empty() { Ok(None) } else { header_dict(py, headers).map(Some) }
}

pub fn header_dict<'py>(py: Python<'py>, headers: &[(String, String)]) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (key, value) in headers {
        dict.set_item(key, value)?;
    }
    Ok(dict)
}

/// The answer to a request, in the form that the stub documents for its method.
pub fn answer(py: Python<'_>, answer: Answer) -> PyResult<Bound<'_, PyAny>> {
    match answer {
        Answer::Ids(ids) => Ok(PyList::new(py, ids)?.into_any()),
        Answer::SomeIds(ids) => {
            let ids = ids.into_iter().map(|id| match id {
                Ok(id) => PyString::new(py, &id).into_any(),
                Err(error) => raise(error).into_value(py).into_bound(py).into_any(),
            });
            Ok(PyTuple::new(py, ids.collect::<Vec<_>>())?.into_any())
        }
        Answer::Names(names) => Ok(PyList::new(py, names)?.into_any()),
        Answer::Number(number) => Ok(number.into_pyobject(py)?.into_any()),
        Answer::Result(None) => Ok(py.None().into_bound(py)),
        Answer::Result(Some(result)) => Ok(result_record(py, &result)?.into_any()),
        Answer::Progress(None) => Ok(py.None().into_bound(py)),
        Answer::Progress(Some(report)) => Ok(notes::report(py, &report)?.into_any()),
        Answer::Event(event) => Ok(notes::event(py, &event)?.into_any()),
        Answer::Jobs(jobs) => {
            let jobs = jobs.iter().map(|job| job_record(py, job)).collect::<PyResult<Vec<_>>>()?;
            Ok(PyList::new(py, jobs)?.into_any())
        }
        Answer::Dead(letters) => {
            let letters = letters
                .iter()
                .map(|(job, reason)| (job_record(py, job)?, reason).into_pyobject(py))
                .collect::<PyResult<Vec<_>>>()?;
            Ok(PyList::new(py, letters)?.into_any())
        }
        Answer::Agenda(agenda) => Ok(schedules::agenda(py, &agenda)?.into_any()),
        Answer::Queue(view) => Ok(queue(py, &view)?.into_any()),
        // The mailbox takes the lines itself.
        Answer::Logs => Ok(py.None().into_bound(py)),
    }
}

/// Log lines, in the form that the stub documents for `take_logs`.
pub fn log_lines(py: Python<'_>, lines: Vec<Line>) -> PyResult<Bound<'_, PyList>> {
    let line = |line: Line| {
        let subject = line.subject.map(|one| (one.job_id, one.task, one.tries, one.outcome));
        (line.level as u8, line.logger, line.message, subject)
    };
    PyList::new(py, lines.into_iter().map(line))
}

/// Like `PyBytes::new`, but raises MemoryError instead of panicking.
pub fn new_bytes<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    PyBytes::new_with(py, bytes.len(), |room| {
        room.copy_from_slice(bytes);
        Ok(())
    })
}

pub fn result_record<'py>(py: Python<'py>, result: &ResultRecord) -> PyResult<Bound<'py, PyTuple>> {
    let (success, value) = match &result.outcome {
        record::Outcome::Value(value) => (true, new_bytes(py, value)?.into_any()),
        record::Outcome::Failure(text) => (false, PyString::new(py, text).into_any()),
    };
    let fields = [
        success.into_pyobject(py)?.to_owned().into_any(),
        value,
        result.tries.into_pyobject(py)?.into_any(),
        result.enqueued_ms.into_pyobject(py)?.into_any(),
        result.started_ms.into_pyobject(py)?.into_any(),
        result.finished_ms.into_pyobject(py)?.into_any(),
        PyString::new(py, &result.id).into_any(),
        PyString::new(py, &result.name).into_any(),
        PyString::new(py, &result.worker).into_any(),
        result.aborted.into_pyobject(py)?.to_owned().into_any(),
        result.error_type.as_deref().into_pyobject(py)?.into_any(),
        result.traceback.as_deref().into_pyobject(py)?.into_any(),
    ];
    PyTuple::new(py, fields)
}

fn job_record<'py>(py: Python<'py>, job: &JobRecord) -> PyResult<Bound<'py, PyTuple>> {
    let fields = [
        PyString::new(py, &job.id).into_any(),
        PyString::new(py, job.state.name()).into_any(),
        PyString::new(py, &job.name).into_any(),
        if job.is_unreadable { py.None().into_bound(py) } else { new_bytes(py, &job.body)?.into_any() },
        job.enqueued_ms.into_pyobject(py)?.into_any(),
        job.tries.into_pyobject(py)?.into_any(),
        job.due_ms.into_pyobject(py)?.into_any(),
        header_dict(py, &job.headers)?.into_any(),
        PyString::new(py, &job.lane).into_any(),
        job.worker.as_deref().into_pyobject(py)?.into_any(),
        job.started_ms.into_pyobject(py)?.into_any(),
        job.deaths.into_pyobject(py)?.into_any(),
        job.misses.into_pyobject(py)?.into_any(),
        PyList::new(py, &job.dependencies)?.into_any(),
        PyList::new(py, &job.dependents)?.into_any(),
    ];
    PyTuple::new(py, fields)
}

fn queue<'py>(py: Python<'py>, view: &QueueView) -> PyResult<Bound<'py, PyDict>> {
    // A worker of another version may describe itself in a way that we cannot read; it is listed
    // anyway.
    let infos: Vec<Info> = view.workers.iter().map(|one| Info::decode(&one.info).unwrap_or_default()).collect();
    // Anybody can write scores such as `-inf` to Redis, so no sum or difference may overflow.
    let entries = view.lanes.iter().fold(0, |sum: i64, lane| sum.saturating_add(lane.entries));
    let unfinished = entries.saturating_add(view.scheduled);
    let lanes = PyList::empty(py);
    for (lane, workers) in service(&view.lanes, &infos) {
        let dict = PyDict::new(py);
        dict.set_item("lane", &lane.lane)?;
        dict.set_item("waiting", lane.entries.saturating_sub(lane.delivered).max(0))?;
        dict.set_item("held", lane.delivered)?;
        dict.set_item("workers", workers)?;
        lanes.append(dict)?;
    }
    let workers = PyList::empty(py);
    for (worker, info) in view.workers.iter().zip(infos) {
        let dict = PyDict::new(py);
        dict.set_item("id", &worker.id)?;
        dict.set_item("host", info.host)?;
        dict.set_item("pid", info.pid)?;
        dict.set_item("concurrency", info.concurrency)?;
        dict.set_item("prefetch", info.prefetch)?;
        dict.set_item("held", info.held)?;
        dict.set_item("running", info.running)?;
        dict.set_item("started_ms", info.started_ms)?;
        dict.set_item("lease_left_ms", worker.lease_ms.saturating_sub(view.now_ms))?;
        dict.set_item("version", info.version)?;
        dict.set_item("lanes", info.lanes)?;
        workers.append(dict)?;
    }
    let dict = PyDict::new(py);
    dict.set_item("lanes", lanes)?;
    dict.set_item("scheduled", view.scheduled)?;
    dict.set_item("running", view.running)?;
    dict.set_item("dead", view.dead)?;
    dict.set_item("unfinished", unfinished)?;
    dict.set_item("waiting", unfinished.saturating_sub(view.running).max(0))?;
    dict.set_item("workers", workers)?;
    dict.set_item("now_ms", view.now_ms)?;
    Ok(dict)
}
