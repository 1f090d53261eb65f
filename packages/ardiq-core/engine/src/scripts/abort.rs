//! The script that aborts a job.

use super::{ABORT, reply};
use crate::commands;
use crate::error::{Error, Result};
use crate::link::{Link, Patience};
use crate::protocol::keys::{Keys, LINKS, Nonce};
use crate::protocol::record::PREFIX;

/// The outcome of a request to abort a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Abort {
    /// This call has ended the job as aborted.
    Aborted,
    /// A worker has the job, and was told to abort it.
    Asked,
    /// The job has ended.
    Ended,
    /// There is no such job, or its id belongs to a later one.
    Gone,
}

/// The nonce of a job, which distinguishes it from a later one with the same id. `None` if there is
/// no such job.
pub async fn nonce(link: &Link, keys: &Keys, id: &str, patience: Patience) -> Result<Option<Nonce>> {
    let start = match link.command(&commands::get_start(&keys.job(id), PREFIX), patience).await {
        Err(error) if error.is_of_wrong_type() => return Ok(None),
        start => reply::bytes(start?)?,
    };
    Ok(start.get(1..PREFIX).and_then(|nonce| nonce.try_into().ok()))
}

/// Abort a job, or ask the worker that has it to do so.
pub async fn abort(link: &Link, keys: &Keys, id: &str, nonce: Nonce, patience: Patience) -> Result<Abort> {
    let names = [&keys.due, &keys.running, &keys.waiters, &keys.aborting, &keys.linked, &keys.releasing];
    let names = names.map(String::as_str);
    let mut cmd = ABORT.call(&names, 10, id.len());
    cmd.arg(&keys.base).arg(&keys.job).arg(&keys.unique).arg(&keys.body).arg(&keys.notes).arg(LINKS);
    cmd.arg(&keys.wake).arg(&keys.queue).arg(id).arg(&nonce[..]);
    let mut items = reply::array(link.call(&ABORT, &cmd, patience).await?)?.into_iter();
    let [is_mute, what] = reply::head(&mut items)?;
    if reply::int(&is_mute)? == 1 {
        link.publishing_is_refused();
    }
    match &reply::bytes(what)?[..] {
        b"aborted" => Ok(Abort::Aborted),
        b"asked" => Ok(Abort::Asked),
        b"ended" => Ok(Abort::Ended),
        b"gone" => Ok(Abort::Gone),
        other => Err(Error::Protocol(format!("abort returned {:?}", String::from_utf8_lossy(other)))),
    }
}

/// Which of these jobs, held by one worker, are to be aborted.
pub async fn marked(
    link: &Link,
    keys: &Keys,
    jobs: Vec<(String, Nonce)>,
    patience: Patience,
) -> Result<Vec<(String, Nonce)>> {
    let mut found = Vec::new();
    for page in jobs.chunks(PAGE) {
        let ids: Vec<&str> = page.iter().map(|(id, _)| id.as_str()).collect();
        let marks = reply::array(link.command(&commands::fields(&keys.aborting, &ids), patience).await?)?;
        for (job, mark) in page.iter().zip(marks) {
            if mark != redis::Value::Nil && reply::bytes(mark)? == job.1 {
                found.push(job.clone());
            }
        }
    }
    Ok(found)
}

/// The maximum number of marks that one call reads.
const PAGE: usize = 500;
