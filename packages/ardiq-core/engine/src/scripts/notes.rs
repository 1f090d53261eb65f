//! The script that stores what runs report, and reads of it without a script.

use redis::Value;

use super::{NOTE, abort, reply};
use crate::commands;
use crate::error::Result;
use crate::link::{LARGE, Link, Patience};
use crate::protocol::keys::{Keys, Nonce};
use crate::protocol::notes::{CHECKPOINT, PROGRESS, Progress, REPORTED, Report};

/// What a run reports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Note {
    /// Job id.
    pub id: String,
    /// Nonce of its enqueue.
    pub nonce: Nonce,
    /// Position of its stream in `Keys::streams`.
    pub stream: usize,
    /// Entry id: the fence of its delivery.
    pub entry: String,
    /// Its progress.
    pub progress: Option<Progress>,
    /// Its checkpoint, encoded.
    pub checkpoint: Option<Vec<u8>>,
    /// The channels of the processes that follow the job.
    pub channels: Vec<String>,
}

/// The maximum number of notes in one call. They take a fraction of a millisecond of the server's
/// time.
pub const NOTES: usize = 100;

/// Store at most [`NOTES`] notes. Returns the positions of those whose delivery was no longer
/// valid.
pub async fn note(link: &Link, keys: &Keys, notes: &[Note], patience: Patience) -> Result<Vec<usize>> {
    let names: Vec<String> = notes.iter().flat_map(|one| [keys.job(&one.id), keys.notes(&one.id, one.nonce)]).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let checkpoints = notes.iter().filter_map(|one| one.checkpoint.as_ref());
    let bytes = checkpoints.map(Vec::len).max().unwrap_or_default();
    let mut cmd = NOTE.call(&names, 6 * notes.len(), bytes + 200 * notes.len());
    for one in notes {
        let stream = keys.streams.get(one.stream).map_or("", |key| &key[keys.base.len()..]);
        let checkpoint = one.checkpoint.as_ref().map_or_else(Vec::new, |value| [b"c", &value[..]].concat());
        cmd.arg(&one.id).arg(&one.entry).arg(stream);
        cmd.arg(one.progress.as_ref().map_or_else(Vec::new, Progress::encode)).arg(checkpoint);
        cmd.arg(one.channels.iter().flat_map(|channel| [channel.as_str(), " "]).collect::<String>());
    }
    reply::positions(link.call_sized(&NOTE, &cmd, bytes, patience).await?)
}

/// The last report of an unfinished job, if there is one.
pub async fn report(link: &Link, keys: &Keys, id: &str, patience: Patience) -> Result<Option<Report>> {
    match abort::nonce(link, keys, id, patience).await? {
        Some(nonce) => report_of(link, keys, id, nonce, patience).await,
        None => Ok(None),
    }
}

/// The last report of the job from this enqueue, if there is one.
pub async fn report_of(link: &Link, keys: &Keys, id: &str, nonce: Nonce, patience: Patience) -> Result<Option<Report>> {
    let read = commands::fields(&keys.notes(id, nonce), &[PROGRESS, REPORTED]);
    let fields = match link.command(&read, patience).await {
        Err(error) if error.is_of_wrong_type() => return Ok(None),
        fields => reply::array(fields?)?,
    };
    let mut fields = fields.into_iter();
    let (Some(progress @ Value::BulkString(_)), Some(at @ Value::BulkString(_))) = (fields.next(), fields.next())
    else {
        return Ok(None);
    };
    // Progress that a later version has written in another form is nothing to fail for.
    let at_ms = u64::try_from(reply::int(&at)?).unwrap_or_default();
    Ok(Progress::decode(&reply::bytes(progress)?).ok().map(|progress| Report { progress, at_ms }))
}

/// The last checkpoint of a job, if there is one.
pub async fn checkpoint(
    link: &Link,
    keys: &Keys,
    id: &str,
    nonce: Nonce,
    patience: Patience,
) -> Result<Option<Vec<u8>>> {
    let key = keys.notes(id, nonce);
    let length = match link.command(&commands::field_length(&key, CHECKPOINT), patience).await {
        Err(error) if error.is_of_wrong_type() => return Ok(None),
        length => usize::try_from(reply::int(&length?)?).unwrap_or_default(),
    };
    let read = commands::field(&key, CHECKPOINT);
    let value = if length > LARGE {
        // Nothing small waits behind it.
        link.transfer(&read, patience.for_transfer(length)).await
    } else {
        link.command(&read, patience).await
    };
    match value? {
        Value::Nil => Ok(None),
        value => reply::bytes(value).map(Some),
    }
}
