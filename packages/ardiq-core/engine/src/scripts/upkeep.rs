//! Scripts that maintain a queue: promotion, leases, takeovers and repairs.

use super::{LEAVE, MEND, PROMOTE, RECLAIM, RENEW, SCRUB, SURVIVE, reply};
use crate::error::Result;
use crate::link::{Link, Patience};
use crate::protocol::keys::{ASIDE, Keys, LANE, LINKS, Nonce, PREFIX, QUEUES, RETURNED};

/// The result of a promotion.
#[derive(Debug, Clone, Copy)]
pub struct Promoted {
    /// Redis time.
    pub now_ms: u64,
    /// Jobs moved to their lanes.
    pub moved: usize,
    /// Milliseconds until the next job is due, if any is scheduled.
    pub due_in_ms: Option<u64>,
}

/// Move at most `limit` due jobs to their lanes.
pub async fn promote(link: &Link, keys: &Keys, limit: usize, patience: Patience) -> Result<Promoted> {
    let mut cmd = PROMOTE.call(&[&keys.due, &keys.linked, &keys.releasing], 4, 0);
    cmd.arg(&keys.base).arg(&keys.job).arg(limit).arg(&keys.aside);
    let mut items = reply::array(link.call(&PROMOTE, &cmd, patience).await?)?.into_iter();
    let [now, moved, due_in] = reply::head(&mut items)?;
    Ok(Promoted {
        now_ms: u64::try_from(reply::int(&now)?).unwrap_or_default(),
        moved: usize::try_from(reply::int(&moved)?).unwrap_or_default(),
        due_in_ms: u64::try_from(reply::int(&due_in)?).ok(),
    })
}

/// The result of a renewal.
#[derive(Debug, Clone, Copy)]
pub struct Renewed {
    /// Redis time.
    pub now_ms: u64,
    /// Whether the worker holds the lease.
    pub held: bool,
    /// The number of the worker's pending deliveries.
    pub delivered: usize,
}

/// A worker's request for its lease.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// The worker's id.
    pub worker: &'a str,
    /// Length of the lease in milliseconds.
    pub lease_ms: u64,
    /// The description that the worker publishes about itself.
    pub info: &'a [u8],
    /// Whether the worker signs on. Otherwise, it extends its lease.
    pub first: bool,
    /// When the server should receive this call, see `lua/leases.lua`.
    pub expected_ms: i64,
}

/// Sign a worker on or extend its lease.
pub async fn renew(link: &Link, keys: &Keys, claim: Claim<'_>, patience: Patience) -> Result<Renewed> {
    let mut names = vec![keys.workers.as_str(), &keys.worker_info, &keys.pulse, &keys.waiters];
    names.extend(keys.streams.iter().map(String::as_str));
    let mut cmd = RENEW.call(&names, 7, claim.info.len());
    cmd.arg(&keys.queue).arg(claim.worker).arg(claim.lease_ms).arg(claim.info);
    cmd.arg(u8::from(claim.first)).arg(claim.expected_ms).arg(keys.push(""));
    if claim.first {
        link.register(patience).await;
    }
    let mut items = reply::array(link.call(&RENEW, &cmd, patience).await?)?.into_iter();
    let [now, held, delivered, is_mute] = reply::head(&mut items)?;
    if reply::int(&is_mute)? == 1 {
        link.publishing_is_refused();
    }
    Ok(Renewed {
        now_ms: u64::try_from(reply::int(&now)?).unwrap_or_default(),
        held: reply::int(&held)? == 1,
        delivered: usize::try_from(reply::int(&delivered)?).unwrap_or_default(),
    })
}

/// A worker and the end of its lease, as the server writes it.
pub type Expired = (Vec<u8>, Vec<u8>);

/// The result of a takeover.
#[derive(Debug, Clone)]
pub struct Reclaimed {
    /// Redis time.
    pub now_ms: u64,
    /// The dead worker, for people. Empty if there was none.
    pub victim: String,
    /// Jobs that were taken over.
    pub taken: u64,
    /// How many of these jobs had started.
    pub started: u64,
    /// The ids of some that had started.
    pub named: Vec<Vec<u8>>,
    /// Whether none of that worker's jobs are left.
    pub finished: bool,
    /// Whether jobs of the queue are to be aborted.
    pub aborts: bool,
    /// Whether jobs of the queue depend on others.
    pub links: bool,
    /// Workers whose lease has expired. They are declared dead if a later call finds the same lease
    /// expired.
    pub expired: Vec<Expired>,
}

/// The parameters of a takeover.
#[derive(Debug, Clone, Copy)]
pub struct Search<'a> {
    /// The calling worker.
    pub asker: &'a str,
    /// The maximum number of jobs to take over.
    pub limit: usize,
    /// Whether to look also for consumers that never signed on.
    pub sweep: bool,
    /// When the server should receive this call, see `lua/leases.lua`.
    pub expected_ms: i64,
    /// The expired leases that an earlier call returned.
    pub seen: &'a [Expired],
}

/// Take over jobs of one dead worker.
pub async fn reclaim(link: &Link, keys: &Keys, search: Search<'_>, patience: Patience) -> Result<Reclaimed> {
    let mut names = vec![keys.workers.as_str(), &keys.worker_info, &keys.running, &keys.pulse, &keys.known_lanes];
    names.extend([keys.waiters.as_str(), &keys.aborting, &keys.linked, &keys.releasing, &keys.due]);
    names.extend(keys.streams.iter().map(String::as_str));
    let mut cmd = RECLAIM.call(&names, 14 + 2 * search.seen.len(), 0);
    cmd.arg(&keys.base).arg(&keys.job).arg(&keys.unique).arg(&keys.body).arg(&keys.survivals).arg(&keys.notes);
    cmd.arg(&keys.queue).arg(search.asker).arg(search.limit);
    cmd.arg(u8::from(search.sweep)).arg(search.expected_ms).arg(RETURNED).arg(LANE).arg(LINKS);
    for (worker, lease) in search.seen {
        cmd.arg(worker).arg(lease);
    }
    let mut items = reply::array(link.call(&RECLAIM, &cmd, patience).await?)?.into_iter();
    let [now, victim, taken, started, finished, named, aborts, links] = reply::head(&mut items)?;
    let mut expired = Vec::new();
    while let (Some(worker), Some(lease)) = (items.next(), items.next()) {
        expired.push((reply::bytes(worker)?, reply::bytes(lease)?));
    }
    Ok(Reclaimed {
        now_ms: u64::try_from(reply::int(&now)?).unwrap_or_default(),
        victim: reply::lossy(victim)?,
        taken: u64::try_from(reply::int(&taken)?).unwrap_or_default(),
        started: u64::try_from(reply::int(&started)?).unwrap_or_default(),
        finished: reply::int(&finished)? == 1,
        aborts: reply::int(&aborts)? == 1,
        links: reply::int(&links)? == 1,
        named: reply::array(named)?.into_iter().map(reply::bytes).collect::<Result<_>>()?,
        expired,
    })
}

/// How long the server remembers that a worker was alive although it was declared dead.
const SURVIVAL_MS: u64 = 86_400_000;

/// The maximum number of jobs in one call of `survive`.
const SURVIVE_LIMIT: usize = 200;

/// A run that outlived the lease of its worker.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Survivor {
    /// Job id.
    pub id: String,
    /// Nonce of its enqueue.
    pub nonce: Nonce,
    /// Entry id of its delivery.
    pub entry: String,
}

/// Record that the worker that runs these jobs is alive, although it lost its lease.
pub async fn survive(link: &Link, keys: &Keys, runs: &[Survivor], patience: Patience) -> Result<()> {
    for chunk in runs.chunks(SURVIVE_LIMIT) {
        let names_of = |run: &Survivor| [keys.survivals(&run.id, run.nonce), keys.job(&run.id)];
        let names: Vec<String> = chunk.iter().flat_map(names_of).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut cmd = SURVIVE.call(&names, 1 + chunk.len(), 0);
        cmd.arg(SURVIVAL_MS);
        chunk.iter().for_each(|run| {
            cmd.arg(&run.entry);
        });
        link.call(&SURVIVE, &cmd, patience).await?;
    }
    Ok(())
}

/// Sign `worker` off. Returns how many streams still contain deliveries to it. Other workers take
/// these over at once.
pub async fn leave(link: &Link, keys: &Keys, worker: &str, has_failed: bool, patience: Patience) -> Result<i64> {
    let mut names = vec![keys.workers.as_str(), &keys.worker_info, &keys.pulse, &keys.waiters];
    names.extend(keys.streams.iter().map(String::as_str));
    let mut cmd = LEAVE.call(&names, 3, 0);
    cmd.arg(&keys.queue).arg(worker).arg(i64::from(has_failed));
    reply::int(&link.call(&LEAVE, &cmd, patience).await?)
}

/// Set keys of the wrong type aside. Returns their names without the queue's prefix.
pub async fn mend(link: &Link, keys: &Keys, patience: Patience) -> Result<Vec<String>> {
    let (names, types): (Vec<&str>, Vec<&str>) = keys.types().into_iter().unzip();
    let mut cmd = MEND.call(&names, 2 + types.len(), 0);
    cmd.arg(&keys.base).arg(&keys.aside).arg(types);
    reply::array(link.call(&MEND, &cmd, patience).await?)?.into_iter().map(reply::text).collect()
}

/// Set the set of queues aside if it has another type.
pub async fn mend_queues(link: &Link, patience: Patience) -> Result<Vec<String>> {
    let mut cmd = MEND.call(&[QUEUES], 3, 0);
    cmd.arg(PREFIX).arg(format!("{PREFIX}{ASIDE}")).arg("set");
    reply::array(link.call(&MEND, &cmd, patience).await?)?.into_iter().map(reply::text).collect()
}

/// A part of a queue that is checked separately.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Registrations of callers that wait for results.
    Waiters,
    /// Recorded starts.
    Running,
    /// The due set.
    Due,
    /// The descriptions that workers publish.
    Workers,
    /// Delivered entries.
    Entries,
    /// Jobs that are to be aborted.
    Aborting,
    /// Jobs with children.
    Linked,
    /// Job records, identities, bodies, notes and links. This part scans all keys of the server.
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
            Self::Aborting => "aborting",
            Self::Linked => "linked",
            Self::Records => "records",
        }
    }
}

/// Items that one call checks. They take a few hundred microseconds of the server's time at most.
pub const SCRUB_LIMIT: usize = 100;

/// The result of a check.
#[derive(Debug, Clone)]
pub struct Scrubbed {
    /// Where to continue. "0" at the end.
    pub cursor: String,
    /// Number of workers of the queue.
    pub workers: u64,
    /// The repairs: the kind of each, and the item that was repaired.
    pub repairs: Vec<(String, String)>,
}

/// Check a page of one part of the queue, and repair damage.
pub async fn scrub(link: &Link, keys: &Keys, part: Part, cursor: &str, patience: Patience) -> Result<Scrubbed> {
    let mut names = vec![keys.due.as_str(), &keys.running, &keys.waiters, &keys.workers, &keys.worker_info];
    names.extend([keys.aborting.as_str(), &keys.linked, &keys.releasing]);
    names.extend(keys.streams.iter().map(String::as_str));
    let mut cmd = SCRUB.call(&names, 10, 0);
    cmd.arg(&keys.base).arg(&keys.job).arg(&keys.unique).arg(&keys.body).arg(&keys.aside).arg(&keys.queue);
    cmd.arg(&keys.notes).arg(LINKS).arg(part.name()).arg(cursor).arg(SCRUB_LIMIT);
    let mut items = reply::array(link.call(&SCRUB, &cmd, patience).await?)?.into_iter();
    let [cursor, workers] = reply::head(&mut items)?;
    let mut repairs = Vec::new();
    while let (Some(repair), Some(what)) = (items.next(), items.next()) {
        repairs.push((reply::text(repair)?, reply::lossy(what)?));
    }
    let workers = u64::try_from(reply::int(&workers)?).unwrap_or_default();
    Ok(Scrubbed { cursor: reply::text(cursor)?, workers, repairs })
}
