//! Scripts that deliver jobs to a worker and commit their outcomes.

use redis::Value;

use super::{FETCH, SETTLE, START, reply};
use crate::error::Result;
use crate::link::{Link, Patience};
use crate::protocol::entry::{HEADER, Header};
use crate::protocol::keys::{Keys, LINKS, Nonce};
use crate::protocol::record;
use crate::protocol::state::StartMode;

/// A stream entry, as it was delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Position of its stream in `Keys::streams`.
    pub stream: usize,
    /// Entry id: the fence of this delivery.
    pub entry: String,
    /// Job id. Empty if the entry was deleted from outside ArdiQ.
    pub id: String,
    /// The header, or `None` if the label is too short to contain one.
    pub header: Option<Header>,
    /// The envelope, as the producer wrote it.
    pub envelope: Vec<u8>,
}

impl Entry {
    fn read(stream: usize, entry: Value, label: Value, envelope: Value) -> Result<Self> {
        let (entry, mut label, envelope) = (reply::text(entry)?, reply::bytes(label)?, reply::bytes(envelope)?);
        let header = Header::split(&label).map(|(header, _)| header);
        if header.is_some() {
            label.drain(..HEADER);
        }
        // Other software may have written any bytes.
        let id = String::from_utf8(label).unwrap_or_else(|id| String::from_utf8_lossy(id.as_bytes()).into_owned());
        Ok(Self { stream, entry, id, header, envelope })
    }
}

/// The result of a fetch.
#[derive(Debug, Default)]
pub struct Fetched {
    /// Redis time.
    pub now_ms: u64,
    /// Whether the worker still held its lease. If not, nothing was delivered.
    pub held: bool,
    /// Milliseconds until the next job is due, if known.
    pub due_in_ms: Option<u64>,
    /// The number of unfinished jobs in the queue. Known only if nothing was delivered.
    pub unfinished: Option<u64>,
    /// The delivered entries.
    pub entries: Vec<Entry>,
    /// Where to continue if the worker may have more deliveries than were requested.
    pub next: Option<Cursor>,
}

/// Which entries to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// New work.
    New,
    /// This worker's own deliveries from this position on, for example after a reply was lost.
    Own(Cursor),
}

/// A position in a worker's deliveries: a stream, and the last entry of it that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    stream: usize,
    entry: String,
}

impl Default for Cursor {
    fn default() -> Self {
        Self { stream: 0, entry: "0".into() }
    }
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
    let mut cmd = FETCH.call(&names, 5, 0);
    cmd.arg(&keys.queue).arg(worker).arg(count);
    match &source {
        Source::New => cmd.arg(">"),
        Source::Own(from) => cmd.arg(&from.entry).arg(from.stream),
    };
    let mut items = reply::array(link.call(&FETCH, &cmd, patience).await?)?.into_iter();
    let [now, held, due_in, unfinished] = reply::head(&mut items)?;
    let mut fetched = Fetched {
        now_ms: u64::try_from(reply::int(&now)?).unwrap_or_default(),
        held: reply::int(&held)? == 1,
        due_in_ms: u64::try_from(reply::int(&due_in)?).ok(),
        unfinished: u64::try_from(reply::int(&unfinished)?).ok(),
        entries: Vec::with_capacity(count.min(BATCH)),
        next: None,
    };
    let (mut seen, mut last) = (0, None);
    while let (Some(stream), Some(entries)) = (items.next(), items.next()) {
        let stream = usize::try_from(reply::int(&stream)?).unwrap_or_default();
        let mut parts = reply::array(entries)?.into_iter();
        while let (Some(entry), Some(label), Some(envelope)) = (parts.next(), parts.next(), parts.next()) {
            seen += 1;
            if source != Source::New && seen == count {
                last = Some(Cursor { stream, entry: reply::text(entry.clone())? });
            }
            // An entry that was deleted after its delivery has no label. There is nothing to run.
            if label != Value::Nil {
                fetched.entries.push(Entry::read(stream, entry, label, envelope)?);
            }
        }
    }
    fetched.next = last;
    Ok(fetched)
}

/// Append entries in the form that XREADGROUP returns.
pub fn read_entries(stream: usize, entries: Value, into: &mut Vec<Entry>) -> Result<()> {
    for item in reply::array(entries)? {
        let mut parts = reply::array(item)?.into_iter();
        let [entry, fields] = reply::head(&mut parts)?;
        // An entry that was deleted while pending comes without fields.
        let mut fields = reply::array(fields)?.into_iter();
        let nothing = || Value::BulkString(Vec::new());
        let (label, envelope) = (fields.next().unwrap_or_else(nothing), fields.next().unwrap_or_else(nothing));
        into.push(Entry::read(stream, entry, label, envelope)?);
    }
    Ok(())
}

/// A start to record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// Job id.
    pub id: String,
    /// Position of its stream in `Keys::streams`.
    pub stream: usize,
    /// Entry id of the delivery.
    pub entry: String,
    /// The time of the start in epoch milliseconds.
    pub started_ms: u64,
    /// The number of the try, from 1.
    pub tries: u64,
    /// The mode, for the worker that takes the job over.
    pub mode: StartMode,
}

/// The maximum number of starts that one call records.
const STARTS: usize = 500;

/// Record starts. Returns the positions of the runs that this worker no longer owns.
pub async fn start(link: &Link, keys: &Keys, worker: &str, runs: &[Start], patience: Patience) -> Result<Vec<usize>> {
    let mut refused = Vec::new();
    for (page, runs) in runs.chunks(STARTS).enumerate() {
        let mut cmd = START.call(&[&keys.running, &keys.workers], 2 + 5 * runs.len(), 80 * runs.len());
        cmd.arg(&keys.job).arg(worker);
        for run in runs {
            let stream = keys.streams.get(run.stream).map_or("", |key| &key[keys.base.len()..]);
            cmd.arg(&run.id).arg(&run.entry).arg(stream).arg(run.started_ms).arg(format!(
                "{}{}",
                run.tries,
                run.mode.suffix()
            ));
        }
        let of_page = reply::positions(link.call(&START, &cmd, patience).await?)?;
        refused.extend(of_page.into_iter().map(|position| page * STARTS + position));
    }
    Ok(refused)
}

/// What to write for a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Finished: store this record for this many milliseconds (0: do not store it; negative: it
    /// never expires).
    Done(Vec<u8>, i64),
    /// As `Done`, and add a dead letter.
    Dead(Vec<u8>, i64),
    /// As `Dead`, unless workers that were declared dead while they ran the job turned out to be
    /// alive.
    Poison(Vec<u8>, i64),
    /// Run it again after this many milliseconds, with this header.
    Again(u64, Vec<u8>),
    /// Return it to the queue, with this header.
    Back(Vec<u8>),
    /// Its start was refused. Drop the delivery if the job has ended or is somewhere else, and
    /// otherwise return the job to the queue with this header.
    Void(Vec<u8>),
}

impl Verdict {
    /// Whether it ends the job.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Done(..) | Self::Dead(..) | Self::Poison(..))
    }

    /// The record or header to store.
    fn data(&self) -> &[u8] {
        match self {
            Self::Done(data, _)
            | Self::Dead(data, _)
            | Self::Poison(data, _)
            | Self::Again(_, data)
            | Self::Back(data)
            | Self::Void(data) => data,
        }
    }
}

/// A delivery with its verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// Position of its stream in `Keys::streams`.
    pub stream: usize,
    /// Entry id.
    pub entry: String,
    /// Job id.
    pub id: String,
    /// Nonce of its enqueue.
    pub nonce: Nonce,
    /// Whether its start was recorded.
    pub recorded: bool,
    /// Whether it was delivered under a lease that was lost.
    pub is_lost: bool,
    /// Whether it has inputs. They are deleted with the job.
    pub has_inputs: bool,
    /// The unique identity that it holds, in hexadecimal.
    pub unique: Option<String>,
    /// The nonce of its enqueue, if its body is stored separately. The body is deleted with the
    /// job.
    pub separate_body: Option<Nonce>,
    /// Whether it may have notes, which are removed with the job.
    pub has_notes: bool,
    /// For this many milliseconds after its end, its enqueue may be repeated. It is [`GUARD_MS`],
    /// unless the producer retries for longer.
    pub guard_ms: u64,
    /// What to write.
    pub verdict: Verdict,
}

/// After a job has ended, its record shows a repeated enqueue for this long that the job existed.
/// Results that expire earlier cost `settle` an additional command.
pub const GUARD_MS: u64 = 30_000;

impl Settlement {
    /// Roughly how many bytes it takes to write it.
    pub fn size(&self) -> usize {
        match &self.verdict {
            Verdict::Done(data, _) | Verdict::Dead(data, _) | Verdict::Poison(data, _) => data.len(),
            Verdict::Again(..) | Verdict::Back(_) | Verdict::Void(_) => 0,
        }
    }

    /// Roughly how many bytes the script handles. A dead letter contains the arguments, which may
    /// be large if they are stored separately, so it fills a batch.
    pub fn weight(&self) -> usize {
        match &self.verdict {
            Verdict::Dead(..) | Verdict::Poison(..) if self.separate_body.is_some() => BATCH_BYTES,
            _ => self.size(),
        }
    }

    /// Whether it is the common case, for which the script needs no options.
    fn is_plain(&self, default_ttl_ms: i64) -> bool {
        matches!(self.verdict, Verdict::Done(_, ttl) if ttl == default_ttl_ms)
            && !self.recorded
            && !self.has_inputs
            && (self.guard_ms == GUARD_MS || default_ttl_ms < 0 || self.guard_ms <= default_ttl_ms.unsigned_abs())
            && self.unique.is_none()
            && self.separate_body.is_none()
            && !self.has_notes
    }
}

/// A batch of outcomes is full after this many bytes: the server does nothing else while a script
/// handles them.
pub const BATCH_BYTES: usize = 1 << 20;

/// The maximum number of settlements in one call, and of jobs that one call fetches. They take one
/// or two milliseconds of the server's time.
pub const BATCH: usize = 200;

/// Commit at most [`BATCH`] verdicts. Returns the positions of the settlements whose delivery was
/// no longer valid.
///
/// `batch` must be sorted by stream and entry (see [`entry_number`]): the script acknowledges
/// entries by stream, and deletes the oldest ones in one command.
pub async fn settle(
    link: &Link,
    keys: &Keys,
    batch: &[Settlement],
    default_ttl_ms: i64,
    patience: Patience,
) -> Result<Vec<usize>> {
    let mut names = vec![keys.due.as_str(), &keys.running, &keys.waiters, &keys.dead, &keys.aborting];
    names.extend([keys.linked.as_str(), &keys.releasing]);
    names.extend(keys.streams.iter().map(String::as_str));
    // The largest outcome decides which connection is used, not their number.
    let largest = batch.iter().map(Settlement::size).max().unwrap_or_default();
    let bytes = batch.iter().map(|one| one.entry.len() + one.id.len() + one.verdict.data().len() + 200).sum();
    let mut cmd = SETTLE.call(&names, 9 + 4 * batch.len(), bytes);
    cmd.arg(&keys.base).arg(&keys.job).arg(&keys.unique).arg(&keys.body).arg(&keys.wake).arg(&keys.queue);
    cmd.arg(default_ttl_ms).arg(&keys.result).arg(&keys.notes).arg(LINKS);
    for group in batch.chunk_by(|a, b| a.stream == b.stream) {
        cmd.arg(group[0].stream).arg(group.len());
        for one in group {
            let with_survivals_key;
            let (outcome, number, data) = match &one.verdict {
                Verdict::Done(record, ttl) => ('D', *ttl, record),
                Verdict::Dead(record, ttl) => ('X', *ttl, record),
                Verdict::Poison(record, ttl) => {
                    with_survivals_key = with_survivals(keys, &one.id, record);
                    ('P', *ttl, &with_survivals_key)
                }
                Verdict::Again(delay, header) => ('R', i64::try_from(*delay).unwrap_or(i64::MAX), header),
                Verdict::Back(header) => ('H', 0, header),
                Verdict::Void(header) => ('V', 0, header),
            };
            cmd.arg(&one.entry).arg(keys.job(&one.id));
            if one.is_plain(default_ttl_ms) {
                cmd.arg("");
            } else {
                let bits = u8::from(one.recorded) + 2 * u8::from(one.has_notes) + 4 * u8::from(one.has_inputs);
                let unique = one.unique.as_deref().unwrap_or("-");
                let body = one.separate_body.map_or_else(|| "-".to_owned(), |nonce| keys.body(&one.id, nonce));
                cmd.arg(format!("{outcome} {number} {bits} {} {unique} {body}", one.guard_ms));
            }
            cmd.arg(data);
        }
    }
    let mut out = reply::array(link.call_sized(&SETTLE, &cmd, largest, patience).await?)?;
    if out.last().is_some_and(|last| reply::int(last).is_ok_and(|last| last < 0)) {
        out.pop();
        link.publishing_is_refused();
    }
    reply::positions(Value::Array(out))
}

/// The record of a job that is considered poison, after the key that counts its survivals.
fn with_survivals(keys: &Keys, id: &str, record: &[u8]) -> Vec<u8> {
    let nonce = record.get(1..record::PREFIX).and_then(|nonce| nonce.try_into().ok()).unwrap_or_default();
    let key = keys.survivals(id, nonce);
    let length = u16::try_from(key.len()).unwrap_or_default().to_be_bytes();
    [&length[..], key.as_bytes(), record].concat()
}

/// An entry id as numbers. Entries are delivered in the order of these numbers.
pub fn entry_number(entry: &str) -> (u64, u64) {
    let (ms, number) = entry.split_once('-').unwrap_or_default();
    (ms.parse().unwrap_or_default(), number.parse().unwrap_or_default())
}
