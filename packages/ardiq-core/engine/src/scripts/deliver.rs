//! Scripts that bring jobs to a worker and their outcomes back.

use redis::Value;

use super::{FETCH, SETTLE, START, reply};
use crate::error::{Error, Result};
use crate::link::{Link, Patience};
use crate::protocol::keys::Keys;

/// One stream entry as it was delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Position of its stream in `Keys::streams`.
    pub stream: usize,
    /// Entry id: the fence of this delivery.
    pub entry: String,
    /// Job id; empty when the entry was deleted by somebody else.
    pub id: String,
    /// Header and envelope.
    pub value: Vec<u8>,
}

/// What a fetch found.
#[derive(Debug, Default)]
pub struct Fetched {
    /// Redis time.
    pub now_ms: u64,
    /// Did the worker still hold its lease? If not, nothing was delivered.
    pub held: bool,
    /// Milliseconds until the next scheduled job, when known.
    pub due_in_ms: Option<u64>,
    /// Unfinished jobs of the queue, known when nothing was delivered.
    pub unfinished: Option<u64>,
    /// What was delivered.
    pub entries: Vec<Entry>,
}

/// What to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Work that nobody has.
    New,
    /// What this worker was sent, as after a lost reply.
    Own,
}

/// Deliver at most `count` jobs to `worker`.
pub async fn fetch(
    link: &Link,
    keys: &Keys,
    worker: &str,
    count: usize,
    source: Source,
    patience: Patience,
) -> Result<Fetched> {
    let mut names = vec![keys.workers.as_str(), keys.due.as_str()];
    names.extend(keys.streams.iter().map(String::as_str));
    let mut cmd = FETCH.call(&names, 4, 0);
    cmd.arg(&keys.queue).arg(worker).arg(count).arg(if source == Source::New { ">" } else { "0" });
    let mut items = reply::array(link.call(&FETCH, &cmd, patience).await?)?.into_iter();
    let [now, held, due_in, unfinished] = reply::head(&mut items)?;
    let mut fetched = Fetched {
        now_ms: u64::try_from(reply::int(&now)?).unwrap_or_default(),
        held: reply::int(&held)? == 1,
        due_in_ms: u64::try_from(reply::int(&due_in)?).ok(),
        unfinished: u64::try_from(reply::int(&unfinished)?).ok(),
        entries: Vec::with_capacity(count.min(1024)),
    };
    while let (Some(stream), Some(entries)) = (items.next(), items.next()) {
        let stream = usize::try_from(reply::int(&stream)?).unwrap_or_default();
        let mut parts = reply::array(entries)?.into_iter();
        while let (Some(entry), Some(id), Some(value)) = (parts.next(), parts.next(), parts.next()) {
            fetched.entries.push(Entry {
                stream,
                entry: reply::text(entry)?,
                id: reply::lossy_text(id)?,
                value: reply::bytes(value)?,
            });
        }
    }
    Ok(fetched)
}

/// Append entries in the form that XREADGROUP gives them.
pub fn read_entries(stream: usize, entries: Value, into: &mut Vec<Entry>) -> Result<()> {
    for item in reply::array(entries)? {
        let mut parts = reply::array(item)?.into_iter();
        let [entry, fields] = reply::head(&mut parts)?;
        // An entry that was deleted while pending comes without fields.
        let mut fields = reply::array(fields)?.into_iter();
        let (id, value) = match (fields.next(), fields.next()) {
            (Some(id), Some(value)) => (id, value),
            _ => (Value::BulkString(Vec::new()), Value::BulkString(Vec::new())),
        };
        into.push(Entry {
            stream,
            entry: reply::text(entry)?,
            id: reply::lossy_text(id)?,
            value: reply::bytes(value)?,
        });
    }
    Ok(())
}

/// A run that is to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// Job id.
    pub id: String,
    /// Entry id of the delivery.
    pub entry: String,
    /// Epoch milliseconds.
    pub started_ms: u64,
    /// Which try it is, from 1.
    pub tries: u64,
}

/// Record runs. Returns the positions of those that are not this worker's any more.
pub async fn start(link: &Link, keys: &Keys, worker: &str, runs: &[Start], patience: Patience) -> Result<Vec<usize>> {
    let mut cmd = START.call(&[&keys.running], 2 + 4 * runs.len(), 64 * runs.len());
    cmd.arg(&keys.job).arg(worker);
    for run in runs {
        cmd.arg(&run.id).arg(&run.entry).arg(run.started_ms).arg(run.tries);
    }
    positions(link.call(&START, &cmd, patience).await?)
}

/// What becomes of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Finished: store this record for so many milliseconds (0: not; negative: for ever).
    Done(Vec<u8>, i64),
    /// Finished without hope: as `Done`, and kept among the dead letters.
    Dead(Vec<u8>, i64),
    /// To be tried again after so many milliseconds, with this header.
    Again(u64, Vec<u8>),
    /// Handed back, with this header.
    Back(Vec<u8>),
}

/// One delivery with its verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// Position of its stream in `Keys::streams`.
    pub stream: usize,
    /// Entry id.
    pub entry: String,
    /// Job id.
    pub id: String,
    /// Was its start recorded?
    pub recorded: bool,
    /// Identity that it holds, in hexadecimal.
    pub unique: Option<String>,
    /// What becomes of it.
    pub verdict: Verdict,
}

/// Most settlements that one call carries.
pub const BATCH: usize = 500;

/// Commit at most [`BATCH`] verdicts. Returns the settlements, by position, whose delivery did not stand any more.
///
/// `batch` must be ordered by stream and entry (see [`entry_number`]): the script acknowledges per stream, and deletes what
/// is oldest at one go.
pub async fn settle(
    link: &Link,
    keys: &Keys,
    batch: &[Settlement],
    default_ttl_ms: i64,
    patience: Patience,
) -> Result<Vec<usize>> {
    let mut names = vec![keys.due.as_str(), &keys.running, &keys.waiters, &keys.dead];
    names.extend(keys.streams.iter().map(String::as_str));
    let bytes = batch.iter().map(|one| one.entry.len() + one.id.len() + 200).sum();
    let mut cmd = SETTLE.call(&names, 6 + 4 * batch.len(), bytes);
    cmd.arg(&keys.base).arg(&keys.job).arg(&keys.unique).arg(&keys.wake).arg(&keys.queue).arg(default_ttl_ms);
    for group in batch.chunk_by(|a, b| a.stream == b.stream) {
        cmd.arg(group[0].stream).arg(group.len());
        for one in group {
            let (outcome, number, data) = match &one.verdict {
                Verdict::Done(record, ttl) => ('D', *ttl, record),
                Verdict::Dead(record, ttl) => ('X', *ttl, record),
                Verdict::Again(delay, header) => ('R', i64::try_from(*delay).unwrap_or(i64::MAX), header),
                Verdict::Back(header) => ('H', 0, header),
            };
            cmd.arg(&one.entry).arg(&one.id);
            if outcome == 'D' && number == default_ttl_ms && !one.recorded && one.unique.is_none() {
                cmd.arg("");
            } else {
                let unique = one.unique.as_deref().unwrap_or("-");
                cmd.arg(format!("{outcome} {number} {} {unique}", u8::from(one.recorded)));
            }
            cmd.arg(data);
        }
    }
    positions(link.call(&SETTLE, &cmd, patience).await?)
}

/// An entry id as numbers, in whose order entries are delivered.
pub fn entry_number(entry: &str) -> (u64, u64) {
    let (ms, number) = entry.split_once('-').unwrap_or_default();
    (ms.parse().unwrap_or_default(), number.parse().unwrap_or_default())
}

fn positions(value: Value) -> Result<Vec<usize>> {
    reply::array(value)?
        .iter()
        .map(|item| usize::try_from(reply::int(item)?).map_err(|_| Error::Protocol("a negative position".into())))
        .collect()
}
