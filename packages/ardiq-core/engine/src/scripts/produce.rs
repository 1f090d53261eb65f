//! Scripts that enqueue jobs.

use bytes::Bytes;
use futures_util::future::try_join_all;
use redis::{Cmd, Value};
use tokio::time::sleep;

use super::{ENQUEUE, FIRE, Script, reply};
use crate::commands;
use crate::error::Result;
use crate::link::{LARGE, Link, Patience, backoff};
use crate::protocol::keys::{Keys, LANE, Nonce};

/// A job to enqueue, in the form that the script accepts.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// Job id.
    pub id: String,
    /// Whether the id was generated for this enqueue, so that no other job can have it.
    pub is_new: bool,
    /// Position of its lane, lowest first.
    pub lane: usize,
    /// Delay in milliseconds; 0 = none.
    pub delay_ms: u64,
    /// Due time in epoch milliseconds; 0 = none. It takes precedence over the delay.
    pub due_ms: u64,
    /// The identity of a unique job, in hexadecimal.
    pub unique: Option<String>,
    /// The encoded envelope.
    pub envelope: Vec<u8>,
    /// The body if it is stored separately. Otherwise empty, and the body is in the envelope.
    pub body: Bytes,
}

impl NewJob {
    fn has_separate_body(&self) -> bool {
        !self.body.is_empty()
    }

    fn is_plain(&self) -> bool {
        self.is_new && self.delay_ms == 0 && self.due_ms == 0 && self.unique.is_none() && !self.has_separate_body()
    }

    fn is_like(&self, other: &Self) -> bool {
        let options = |job: &Self| (job.is_new, job.lane, job.delay_ms, job.due_ms);
        options(self) == options(other)
            && self.unique == other.unique
            && !self.has_separate_body()
            && !other.has_separate_body()
    }
}

/// The maximum number of jobs in one call. They take about a millisecond of the server's time.
pub const CHUNK: usize = 250;

/// Jobs that are enqueued atomically.
#[derive(Debug, Clone, Default)]
pub struct Chunk {
    /// Distinguishes a repeated try of this call from another call. The envelopes contain it too.
    pub nonce: Nonce,
    /// At most [`CHUNK`].
    pub jobs: Vec<NewJob>,
}

/// A body that is sent ahead of its job expires after this time at the earliest.
const SHORTEST_BODY_TTL_MS: usize = 60_000;

/// Bytes per millisecond of a slow line. The first body of a call must not expire before the last
/// one has arrived.
pub(crate) const SLOW: usize = 64;

/// Enqueue jobs atomically. Returns, by position, the ids of unfinished jobs that hold the identity
/// of a new one.
///
/// Large bodies are sent ahead of the script, because Redis would copy them into Lua strings. The
/// script keeps the bodies of the jobs that it accepts, and the others expire. The body of an
/// earlier try is preserved. If a body expires before the script runs, everything is sent again.
pub async fn enqueue(link: &Link, keys: &Keys, chunk: &Chunk, patience: Patience) -> Result<Vec<(usize, String)>> {
    let (cmd, bytes) = enqueue_cmd(keys, chunk);
    let answer = send_with_bodies(link, keys, chunk, (&ENQUEUE, &cmd, bytes), patience).await?;
    let mut out = reply::array(answer)?.into_iter();
    let [_now, may_not_publish] = reply::head(&mut out)?;
    if reply::int(&may_not_publish)? == 1 {
        link.publishing_is_refused();
    }
    let mut existing = Vec::new();
    while let (Some(position), Some(id)) = (out.next(), out.next()) {
        existing.push((usize::try_from(reply::int(&position)?).unwrap_or(usize::MAX), reply::text(id)?));
    }
    Ok(existing)
}

/// Send large bodies and a call that needs them. If a body expires before, send both again.
pub(super) async fn send_with_bodies(
    link: &Link,
    keys: &Keys,
    chunk: &Chunk,
    call: (&'static Script, &Cmd, usize),
    patience: Patience,
) -> Result<Value> {
    let mut pauses = backoff();
    loop {
        match send(link, keys, chunk, call, patience).await {
            Err(error) if error.is_body_gone() && !patience.is_over() => sleep(pauses.next().unwrap_or_default()).await,
            other => return other,
        }
    }
}

/// Send the large bodies, then the call. Both share a round trip, unless the bodies are so large
/// that they would delay other calls. Then the call is sent after the bodies have arrived.
async fn send(
    link: &Link,
    keys: &Keys,
    chunk: &Chunk,
    (script, cmd, bytes): (&'static Script, &Cmd, usize),
    patience: Patience,
) -> Result<Value> {
    let ahead_bytes: usize = chunk.jobs.iter().map(|job| job.body.len()).sum();
    let are_large = ahead_bytes > LARGE;
    let ttl_ms = SHORTEST_BODY_TTL_MS + ahead_bytes / SLOW;
    let ahead = chunk.jobs.iter().filter(|job| job.has_separate_body()).map(|job| async move {
        let put = commands::put_body(&keys.body(&job.id, chunk.nonce), &job.body, ttl_ms);
        if are_large { link.transfer(&put, patience).await } else { link.command(&put, patience).await }
    });
    let sent = async {
        let call = async |patience| link.call_sized(script, cmd, bytes, patience).await;
        if are_large {
            try_join_all(ahead).await?;
            call(patience.for_next_step()).await
        } else {
            let (ahead, answer) = tokio::join!(biased; try_join_all(ahead), call(patience));
            ahead.and(answer)
        }
    };
    let ((), answer) = tokio::join!(biased; link.register(patience), sent);
    answer
}

/// The call of the script, and roughly its size in bytes.
fn enqueue_cmd(keys: &Keys, chunk: &Chunk) -> (Cmd, usize) {
    let mut names = vec![keys.due.as_str(), &keys.known_lanes, &keys.running];
    names.extend(keys.lane_streams.iter().map(String::as_str));
    let bytes = chunk.jobs.iter().map(|job| job.envelope.len() + 64).sum();
    let mut cmd = ENQUEUE.call(&names, 8 + 2 * chunk.jobs.len(), bytes);
    cmd.arg(&keys.base).arg(&keys.job).arg(&keys.unique).arg(&keys.wake).arg(LANE).arg(&chunk.nonce);
    for run in chunk.jobs.chunk_by(NewJob::is_like) {
        let first = &run[0];
        if first.is_plain() {
            cmd.arg(first.lane);
        } else {
            let unique = first.unique.as_deref().unwrap_or("-");
            let body = if first.has_separate_body() { keys.body(&first.id, chunk.nonce) } else { "-".to_owned() };
            cmd.arg(format!("{} {} {} {unique} {body}", first.lane, first.delay_ms, first.due_ms));
        }
        cmd.arg(run.len());
        for job in run {
            cmd.arg(&job.id).arg(&job.envelope);
        }
    }
    (cmd, bytes)
}

/// The outcome of firing an occurrence of a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Firing {
    /// Not fired: this occurrence or a later one was fired before, its job is unfinished, its
    /// identity is held by another job, or it is not due yet.
    #[default]
    Not = 0,
    /// Fired.
    Fired = 1,
    /// Fired, although a later one was fired before, because the server's clock was set back in the
    /// meantime.
    FiredAgain = 2,
    /// Not fired: the schedule is paused, was changed, or is gone.
    Stale = 3,
}

/// The result of `fire`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fired {
    /// Redis time.
    pub now_ms: u64,
    /// The outcome.
    pub how: Firing,
    /// For [`Mode::ByHand`], the job that there is instead of a new one.
    pub holder: Option<String>,
}

/// What an occurrence depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Only on its time.
    #[default]
    Plain,
    /// Also on the job of the previous one, which must have ended.
    Coalesce,
    /// On nothing: a person asks for it.
    ByHand,
}

/// One occurrence of a schedule.
#[derive(Debug, Clone, Copy, Default)]
pub struct Occurrence<'a> {
    /// Name of the schedule.
    pub schedule: &'a str,
    /// When it is due, in epoch milliseconds.
    pub fire_ms: u64,
    /// Milliseconds until the next one.
    pub gap_ms: u64,
    /// The revision of a dynamic schedule. A static one has none.
    pub revision: Option<Nonce>,
    /// It is dropped if it is later than this many milliseconds.
    pub drift_ms: u64,
    /// What else it depends on.
    pub mode: Mode,
    /// Its lane, which need not be one of this process. `None`: that of the job.
    pub lane: Option<&'a str>,
}

/// Enqueue one occurrence of a schedule.
pub async fn fire(
    link: &Link,
    keys: &Keys,
    occurrence: Occurrence<'_>,
    job: &NewJob,
    patience: Patience,
) -> Result<Fired> {
    let lane = match occurrence.lane {
        Some(lane) => keys.lane_stream(lane),
        None => keys.lane_streams.get(job.lane).cloned().unwrap_or_default(),
    };
    let names = [keys.cron.as_str(), &keys.due, &keys.running, &lane, &keys.schedules];
    let mut cmd = FIRE.call(&names, 12, job.envelope.len());
    cmd.arg(&keys.base).arg(&keys.job).arg(&keys.unique).arg(occurrence.schedule);
    cmd.arg(occurrence.fire_ms)
        .arg(occurrence.gap_ms)
        .arg(&job.id)
        .arg(job.unique.as_deref().unwrap_or("-"))
        .arg(&job.envelope)
        .arg(occurrence.revision.as_ref().map_or(&[][..], |revision| &revision[..]))
        .arg(occurrence.drift_ms)
        .arg(match occurrence.mode {
            Mode::Plain => "-",
            Mode::Coalesce => "coalesce",
            Mode::ByHand => "hand",
        });
    let ((), fired) = tokio::join!(biased; link.register(patience), link.call(&FIRE, &cmd, patience));
    let mut items = reply::array(fired?)?.into_iter();
    let [now, how] = reply::head(&mut items)?;
    let how = match reply::int(&how)? {
        1 => Firing::Fired,
        2 => Firing::FiredAgain,
        3 => Firing::Stale,
        _ => Firing::Not,
    };
    let holder = items.next().map(reply::text).transpose()?;
    Ok(Fired { now_ms: u64::try_from(reply::int(&now)?).unwrap_or_default(), how, holder })
}
