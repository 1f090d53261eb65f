//! Scripts that read, and reads of results without a script.
//!
//! Scripts that only read are called by `EVALSHA_RO`, for which a user with read access to the keys
//! is enough: `EVALSHA` requires write access to the keys of any script.

use redis::{Arg, Cmd, Value};

use super::bodies::{Body, in_turn};
use super::{DEPTH, FORGET, INSPECT, LIST, LOOKUP, Script, WAIT, reply};
use crate::commands;
use crate::error::{Error, Result};
use crate::link::{LARGE, Link, Patience};
use crate::protocol::keys::{Keys, LANE, LINKS, RETURNED};
use crate::protocol::record::{PREFIX, RESULT};
use crate::protocol::state::Listing;

/// Run a script that only reads. If this user may only use `EVALSHA`, use that.
pub(super) async fn read(link: &Link, script: &'static Script, cmd: &Cmd, patience: Patience) -> Result<Value> {
    let first = match link.call(script, cmd, patience).await {
        Err(Error::Refused(first)) if first.text.to_ascii_lowercase().contains("evalsha_ro") => first,
        answer => return answer,
    };
    let mut other = Cmd::with_capacity(cmd.args_iter().len(), 0);
    other.arg("EVALSHA");
    for arg in cmd.args_iter().skip(1) {
        if let Arg::Simple(arg) = arg {
            other.arg(arg);
        }
    }
    match link.call(script, &other, patience).await {
        // The first refusal names the smaller permission.
        Err(Error::Refused(second)) if second.code == "NOPERM" && first.code == "NOPERM" => Err(Error::Refused(first)),
        answer => answer,
    }
}

/// The outcome of a waiting caller's check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// The result record.
    Result(Vec<u8>),
    /// The job is unfinished.
    Unfinished {
        /// Whether the result will be sent to the caller's channel. If not, because the caller only
        /// checked or too many callers wait already, the caller has to check again.
        is_registered: bool,
    },
    /// The job is unfinished. The caller is registered, but some worker cannot publish, so the
    /// caller has to check again.
    Unannounced,
    /// The job has finished, and its result is not stored.
    Finished,
    /// There is no such job.
    Unknown,
}

/// Read a job's result, or register that `channel` waits for it for `wait_ms` (0: only check).
pub async fn wait(link: &Link, keys: &Keys, id: &str, channel: &str, wait_ms: u64, patience: Patience) -> Result<Seen> {
    let (job, short_lived) = (keys.job(id), keys.result(id));
    let names = [&keys.waiters, &job, &keys.due, &keys.running, &short_lived, &keys.linked, &keys.releasing];
    let mut cmd = WAIT.call(&names.map(String::as_str), 4, id.len());
    cmd.arg(&keys.base).arg(id).arg(channel).arg(wait_ms);
    let answer = reply::bytes(link.call(&WAIT, &cmd, patience).await?)?;
    Ok(match &answer[..] {
        [] => Seen::Unknown,
        // It may have expired in the meantime.
        b"L" => match result(link, keys, id, patience).await? {
            record if record.is_empty() => Seen::Finished,
            record => Seen::Result(record),
        },
        [RESULT, ..] => Seen::Result(answer),
        b"T" => Seen::Finished,
        [_, b'?'] => Seen::Unannounced,
        [_, rest @ ..] => Seen::Unfinished { is_registered: rest == b"+" },
    })
}

/// The maximum number of registrations that one call of `forget` removes.
pub const FORGET_LIMIT: usize = 500;

/// Withdraw the registrations of `channel` for these jobs. Returns the positions of jobs that have
/// ended.
pub async fn forget(link: &Link, keys: &Keys, channel: &str, ids: &[String], patience: Patience) -> Result<Vec<usize>> {
    let mut cmd = FORGET.call(&[&keys.waiters], 2 + ids.len(), 40 * ids.len());
    cmd.arg(&keys.job).arg(channel).arg(ids);
    reply::positions(link.call(&FORGET, &cmd, patience).await?)
}

/// Read a job's result record without registering, as a user without write access may. Empty if
/// there is none.
pub async fn result(link: &Link, keys: &Keys, id: &str, patience: Patience) -> Result<Vec<u8>> {
    let record = get(link, &keys.job(id), patience).await?;
    Ok(match record.split_first() {
        Some((&RESULT, _)) => record,
        // It may be stored separately, if it belongs to the same run.
        Some((b'T', nonce)) => {
            let result = get(link, &keys.result(id), patience).await?;
            if result.get(1..PREFIX) == Some(nonce) { result } else { Vec::new() }
        }
        _ => Vec::new(),
    })
}

/// A string. Empty if there is none. A large one uses the connection for large values.
async fn get(link: &Link, key: &str, patience: Patience) -> Result<Vec<u8>> {
    // One byte more than a small value has.
    let value = bytes_or_nothing(link.command(&commands::get_start(key, LARGE + 1), patience).await)?;
    if value.len() <= LARGE {
        return Ok(value);
    }
    let length = reply::int(&link.command(&commands::length(key), patience).await?)?;
    let patience = patience.for_transfer(usize::try_from(length).unwrap_or_default());
    bytes_or_nothing(link.transfer(&commands::get(key), patience).await)
}

fn bytes_or_nothing(answer: Result<Value>) -> Result<Vec<u8>> {
    match answer {
        Ok(Value::Nil) => Ok(Vec::new()),
        Ok(value) => reply::bytes(value),
        Err(error) if error.is_of_wrong_type() => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// The data of one job.
#[derive(Debug, Clone)]
pub struct Found {
    /// The job record, if there is one.
    pub record: Option<Vec<u8>>,
    /// Header and envelope. Empty unless the job is in a stream.
    pub value: Vec<u8>,
    /// Due time in epoch milliseconds, if it is scheduled.
    pub due_ms: Option<u64>,
    /// `<entry> <worker> <start ms> <tries>`. Empty unless the job is running.
    pub run: String,
    /// Ids of some of the jobs that it waits for.
    pub parents: Vec<Vec<u8>>,
    /// Ids of some of the jobs that wait for it.
    pub children: Vec<Vec<u8>>,
}

/// Read the data of jobs, in the order of their ids.
pub async fn lookup(link: &Link, keys: &Keys, ids: &[impl AsRef<[u8]>], patience: Patience) -> Result<Vec<Found>> {
    let mut cmd = LOOKUP.read(&[&keys.due, &keys.running, &keys.linked], 4 + ids.len(), 40 * ids.len());
    cmd.arg(&keys.base).arg(&keys.job).arg(&keys.result).arg(LINKS);
    for id in ids {
        cmd.arg(id.as_ref());
    }
    reply::array(read(link, &LOOKUP, &cmd, patience).await?)?
        .into_iter()
        .map(|item| {
            let mut parts = reply::array(item)?.into_iter();
            let [record, value, due, run, parents, children] = reply::head(&mut parts)?;
            let ids = |ids| reply::array(ids)?.into_iter().map(reply::bytes).collect::<Result<_>>();
            Ok(Found {
                record: if record == Value::Nil { None } else { Some(reply::bytes(record)?) },
                value: reply::bytes(value)?,
                due_ms: reply::int(&due).ok().and_then(|ms| u64::try_from(ms).ok()),
                run: reply::lossy(run)?,
                parents: ids(parents)?,
                children: ids(children)?,
            })
        })
        .collect()
}

/// Count the jobs that are waiting to start.
pub async fn depth(link: &Link, keys: &Keys, patience: Patience) -> Result<i64> {
    let mut cmd = DEPTH.read(&[&keys.due, &keys.running, &keys.known_lanes], 3, 0);
    cmd.arg(&keys.base).arg(RETURNED).arg(LANE);
    reply::int(&read(link, &DEPTH, &cmd, patience).await?)
}

/// A worker, with the description that it publishes.
#[derive(Debug, Clone)]
pub struct WorkerView {
    /// Worker id.
    pub id: String,
    /// The end of its lease in epoch milliseconds.
    pub lease_ms: i64,
    /// Its info record.
    pub info: Vec<u8>,
}

/// The figures of a lane.
#[derive(Debug, Clone)]
pub struct LaneView {
    /// Its name.
    pub lane: String,
    /// Jobs in its streams, including delivered ones.
    pub entries: i64,
    /// Jobs delivered to workers.
    pub delivered: i64,
}

/// The most workers that `inspect` reads.
pub const MOST_WORKERS: usize = 1000;

/// The figures of a queue.
#[derive(Debug, Clone)]
pub struct QueueView {
    /// Redis time.
    pub now_ms: i64,
    /// Jobs in the due set.
    pub scheduled: i64,
    /// Jobs whose start is recorded.
    pub running: i64,
    /// Dead letters.
    pub dead: i64,
    /// Workers, at most [`MOST_WORKERS`].
    pub workers: Vec<WorkerView>,
    /// All lanes that were ever used.
    pub lanes: Vec<LaneView>,
}

/// Summarize a queue for people.
pub async fn inspect(link: &Link, keys: &Keys, patience: Patience) -> Result<QueueView> {
    let names = [keys.due.as_str(), &keys.running, &keys.dead, &keys.workers, &keys.worker_info, &keys.known_lanes];
    let mut cmd = INSPECT.read(&names, 4, 0);
    cmd.arg(&keys.base).arg(&keys.queue).arg(RETURNED).arg(LANE);
    let mut items = reply::array(read(link, &INSPECT, &cmd, patience).await?)?.into_iter();
    let [now, scheduled, running, dead, workers, lanes] = reply::head(&mut items)?;
    let workers = reply::array(workers)?.into_iter().map(|item| {
        let [id, lease, info] = reply::head(&mut reply::array(item)?.into_iter())?;
        Ok(WorkerView { id: reply::lossy(id)?, lease_ms: reply::int(&lease)?, info: reply::bytes(info)? })
    });
    let lanes = reply::array(lanes)?.into_iter().map(|item| {
        let [lane, entries, delivered] = reply::head(&mut reply::array(item)?.into_iter())?;
        Ok(LaneView { lane: reply::lossy(lane)?, entries: reply::int(&entries)?, delivered: reply::int(&delivered)? })
    });
    Ok(QueueView {
        now_ms: reply::int(&now)?,
        scheduled: reply::int(&scheduled)?,
        running: reply::int(&running)?,
        dead: reply::int(&dead)?,
        workers: workers.collect::<Result<_>>()?,
        lanes: lanes.collect::<Result<_>>()?,
    })
}

/// The maximum number of jobs that one call lists.
const PAGE: usize = 500;

/// Read pages of a list until there are enough items.
async fn list(link: &Link, keys: &Keys, listing: Listing, limit: usize, patience: Patience) -> Result<Vec<Value>> {
    let (mut found, mut cursor) = (Vec::new(), Value::BulkString(Vec::new()));
    while found.len() < limit {
        let mut cmd = LIST.read(&[&keys.due, &keys.running, &keys.dead, &keys.known_lanes], 6, 0);
        cmd.arg(&keys.base).arg(listing.name()).arg(PAGE.min(limit - found.len())).arg(reply::bytes(cursor)?);
        cmd.arg(RETURNED).arg(LANE);
        let mut items = reply::array(read(link, &LIST, &cmd, patience).await?)?.into_iter();
        [cursor] = reply::head(&mut items)?;
        found.extend(items);
        if cursor == Value::BulkString(Vec::new()) {
            break;
        }
    }
    found.truncate(limit);
    Ok(found)
}

/// The ids of some jobs. They are bytes, because other software may have written them.
pub async fn ids(link: &Link, keys: &Keys, listing: Listing, limit: usize, patience: Patience) -> Result<Vec<Vec<u8>>> {
    list(link, keys, listing, limit, patience).await?.into_iter().map(reply::bytes).collect()
}

/// A dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Job id.
    pub id: String,
    /// Its result record.
    pub record: Vec<u8>,
    /// Header and envelope. Empty if the entry was missing.
    pub value: Vec<u8>,
    /// Its body if that was stored separately.
    pub body: Body,
}

/// Some dead letters, the newest first.
pub async fn dead(link: &Link, keys: &Keys, limit: usize, patience: Patience) -> Result<Vec<DeadLetter>> {
    let (mut letters, mut large) = (Vec::new(), Vec::new());
    for item in list(link, keys, Listing::Dead, limit, patience).await? {
        let [id, record, value, body, entry] = reply::head(&mut reply::array(item)?.into_iter())?;
        let (body, entry) = (reply::bytes(body)?, reply::text(entry)?);
        if !entry.is_empty() {
            large.push((letters.len(), entry));
        }
        letters.push(DeadLetter {
            id: reply::lossy(id)?,
            record: reply::bytes(record)?,
            value: reply::bytes(value)?,
            body: if body.is_empty() { Body::Missing } else { Body::Read(body) },
        });
    }
    let bodies = in_turn(large.iter().map(|(_, entry)| large_body(link, keys, entry, patience))).await?;
    for ((position, _), body) in large.into_iter().zip(bodies) {
        letters[position].body = body;
    }
    Ok(letters)
}

/// The body of a dead letter that is too large for a page.
async fn large_body(link: &Link, keys: &Keys, entry: &str, patience: Patience) -> Result<Option<Vec<u8>>> {
    let entries = reply::array(link.transfer(&commands::entry(&keys.dead, entry), patience.for_transfer(0)).await?)?;
    // It may have been trimmed in the meantime.
    let Some(found) = entries.into_iter().next() else { return Ok(None) };
    let [_, fields] = reply::head(&mut reply::array(found)?.into_iter())?;
    let mut fields = reply::array(fields)?.into_iter();
    while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
        if reply::bytes(name)? == b"body" {
            return reply::bytes(value).map(Some);
        }
    }
    Ok(None)
}
