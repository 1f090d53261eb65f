//! Scripts that keep a queue in order.

use super::{LEAVE, MEND, PROMOTE, RECLAIM, RENEW, SCRUB, reply};
use crate::error::Result;
use crate::link::{Link, Patience};
use crate::protocol::keys::Keys;

/// What a promotion did.
#[derive(Debug, Clone, Copy)]
pub struct Promoted {
    /// Redis time.
    pub now_ms: u64,
    /// Jobs moved to their lanes.
    pub moved: usize,
    /// Milliseconds until the next scheduled job, when there is one.
    pub due_in_ms: Option<u64>,
}

/// Move at most `limit` due jobs to their lanes.
pub async fn promote(link: &Link, keys: &Keys, limit: usize, patience: Patience) -> Result<Promoted> {
    let mut cmd = PROMOTE.call(&[&keys.due], 4, 0);
    cmd.arg(&keys.base).arg(&keys.job).arg(limit).arg(&keys.aside);
    let mut items = reply::array(link.call(&PROMOTE, &cmd, patience).await?)?.into_iter();
    let [now, moved, due_in] = reply::head(&mut items)?;
    Ok(Promoted {
        now_ms: u64::try_from(reply::int(&now)?).unwrap_or_default(),
        moved: usize::try_from(reply::int(&moved)?).unwrap_or_default(),
        due_in_ms: u64::try_from(reply::int(&due_in)?).ok(),
    })
}

/// What a renewal said.
#[derive(Debug, Clone, Copy)]
pub struct Renewed {
    /// Redis time.
    pub now_ms: u64,
    /// Is the lease held?
    pub held: bool,
    /// Deliveries that are on the worker's account.
    pub delivered: usize,
}

/// Sign `worker` on (`first`) or extend its lease.
pub async fn renew(
    link: &Link,
    keys: &Keys,
    worker: &str,
    lease_ms: u64,
    info: &[u8],
    first: bool,
    patience: Patience,
) -> Result<Renewed> {
    let mut names = vec![keys.workers.as_str(), &keys.worker_info];
    names.extend(keys.streams.iter().map(String::as_str));
    let mut cmd = RENEW.call(&names, 5, info.len());
    cmd.arg(&keys.queue).arg(worker).arg(lease_ms).arg(info).arg(u8::from(first));
    if first {
        link.register(patience).await;
    }
    let mut items = reply::array(link.call(&RENEW, &cmd, patience).await?)?.into_iter();
    let [now, held, delivered] = reply::head(&mut items)?;
    Ok(Renewed {
        now_ms: u64::try_from(reply::int(&now)?).unwrap_or_default(),
        held: reply::int(&held)? == 1,
        delivered: usize::try_from(reply::int(&delivered)?).unwrap_or_default(),
    })
}

/// What a reclaim did.
#[derive(Debug, Clone)]
pub struct Reclaimed {
    /// The dead worker; empty when there was none.
    pub victim: String,
    /// Jobs made available again.
    pub taken: u64,
    /// Of these, the ones that had started.
    pub started: u64,
    /// Is there nothing left of that worker?
    pub finished: bool,
}

/// Take over at most `limit` jobs of one dead worker.
pub async fn reclaim(
    link: &Link,
    keys: &Keys,
    asker: &str,
    limit: usize,
    sweep: bool,
    patience: Patience,
) -> Result<Reclaimed> {
    let mut names = vec![keys.workers.as_str(), &keys.worker_info, &keys.running];
    names.extend(keys.streams.iter().map(String::as_str));
    let mut cmd = RECLAIM.call(&names, 6, 0);
    cmd.arg(&keys.base).arg(&keys.job).arg(&keys.queue).arg(asker).arg(limit).arg(u8::from(sweep));
    let mut items = reply::array(link.call(&RECLAIM, &cmd, patience).await?)?.into_iter();
    let [_now, victim, taken, started, finished] = reply::head(&mut items)?;
    Ok(Reclaimed {
        victim: reply::text(victim)?,
        taken: u64::try_from(reply::int(&taken)?).unwrap_or_default(),
        started: u64::try_from(reply::int(&started)?).unwrap_or_default(),
        finished: reply::int(&finished)? == 1,
    })
}

/// Sign `worker` off. Returns how many streams still had deliveries of it; others take these over at once.
pub async fn leave(link: &Link, keys: &Keys, worker: &str, patience: Patience) -> Result<i64> {
    let mut names = vec![keys.workers.as_str(), &keys.worker_info];
    names.extend(keys.streams.iter().map(String::as_str));
    let mut cmd = LEAVE.call(&names, 2, 0);
    cmd.arg(&keys.queue).arg(worker);
    reply::int(&link.call(&LEAVE, &cmd, patience).await?)
}

/// Set keys aside that hold something else than they should. Returns their names without the queue's prefix.
pub async fn mend(link: &Link, keys: &Keys, patience: Patience) -> Result<Vec<String>> {
    let (names, types): (Vec<&str>, Vec<&str>) = keys.types().into_iter().unzip();
    let mut cmd = MEND.call(&names, 2 + types.len(), 0);
    cmd.arg(&keys.base).arg(&keys.aside).arg(types);
    reply::array(link.call(&MEND, &cmd, patience).await?)?.into_iter().map(reply::text).collect()
}

/// A part of a queue that is looked over on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Callers that wait for results.
    Waiters,
    /// Recorded starts.
    Running,
    /// The due set.
    Due,
    /// What workers say about themselves.
    Workers,
    /// Entries that were delivered.
    Entries,
    /// Job records, identities and bodies: all keys of the server are gone through.
    Records,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Waiters => "waiters",
            Self::Running => "running",
            Self::Due => "due",
            Self::Workers => "workers",
            Self::Entries => "entries",
            Self::Records => "records",
        }
    }
}

/// Items that one scrub looks at: a few hundred microseconds of the server's time at most.
pub const SCRUB_LIMIT: usize = 100;

/// What a scrub found.
#[derive(Debug, Clone)]
pub struct Scrubbed {
    /// Where to go on; "0" when all was seen.
    pub cursor: String,
    /// Workers of the queue.
    pub workers: u64,
    /// What was repaired: the kind of repair, and what it was about.
    pub repairs: Vec<(String, String)>,
}

/// Look over a page of one part of the queue, and repair it.
pub async fn scrub(link: &Link, keys: &Keys, part: Part, cursor: &str, patience: Patience) -> Result<Scrubbed> {
    let mut names = vec![keys.due.as_str(), &keys.running, &keys.waiters, &keys.workers, &keys.worker_info];
    names.extend(keys.streams.iter().map(String::as_str));
    let mut cmd = SCRUB.call(&names, 9, 0);
    cmd.arg(&keys.base).arg(&keys.job).arg(&keys.unique).arg(&keys.body).arg(&keys.aside).arg(&keys.queue);
    cmd.arg(part.name()).arg(cursor).arg(SCRUB_LIMIT);
    let mut items = reply::array(link.call(&SCRUB, &cmd, patience).await?)?.into_iter();
    let [cursor, workers] = reply::head(&mut items)?;
    let mut repairs = Vec::new();
    while let (Some(repair), Some(what)) = (items.next(), items.next()) {
        repairs.push((reply::text(repair)?, reply::lossy(what)?));
    }
    let workers = u64::try_from(reply::int(&workers)?).unwrap_or_default();
    Ok(Scrubbed { cursor: reply::text(cursor)?, workers, repairs })
}
