//! Scripts that bring jobs in.

use bytes::Bytes;
use futures_util::future::try_join_all;
use redis::{Cmd, Value};
use tokio::time::sleep;

use super::{ENQUEUE, FIRE, reply};
use crate::error::Result;
use crate::link::{LARGE, Link, Patience, backoff};
use crate::protocol::keys::{Keys, LANE};

/// One job on its way in.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// Job id.
    pub id: String,
    /// Was the id made for this very enqueue, so that nothing else can have it?
    pub is_new: bool,
    /// Position of its lane, lowest first.
    pub lane: usize,
    /// Milliseconds to wait; 0 = none.
    pub delay_ms: u64,
    /// Epoch milliseconds when due; 0 = not given. Wins over the delay.
    pub due_ms: u64,
    /// Identity, in hexadecimal.
    pub unique: Option<String>,
    /// The encoded envelope.
    pub envelope: Vec<u8>,
    /// The arguments, when they are kept apart from the envelope; else empty.
    pub body: Bytes,
}

impl NewJob {
    fn is_apart(&self) -> bool {
        !self.body.is_empty()
    }

    fn is_plain(&self) -> bool {
        self.is_new && self.delay_ms == 0 && self.due_ms == 0 && self.unique.is_none() && !self.is_apart()
    }

    fn is_like(&self, other: &Self) -> bool {
        let options = |job: &Self| (job.is_new, job.lane, job.delay_ms, job.due_ms);
        options(self) == options(other) && self.unique == other.unique && !self.is_apart() && !other.is_apart()
    }
}

/// Most jobs that one call carries: about a millisecond of the server's time.
pub const CHUNK: usize = 250;

/// Jobs that are accepted together.
#[derive(Debug, Clone, Default)]
pub struct Chunk {
    /// Tells a repeated try of this call from another call; the envelopes have it too.
    pub nonce: [u8; 8],
    /// At most [`CHUNK`].
    pub jobs: Vec<NewJob>,
}

/// The minimum time that a body waits for its job.
const BODY_WAITS_MS: usize = 60_000;

/// Bytes per millisecond of a slow line: the first body of a call waits for the last one.
const SLOW: usize = 64;

/// Enqueue jobs atomically. Returns position and id of the jobs that exist already under the same identity.
///
/// Large bodies are sent ahead of the script, because the script would have to copy them into Lua strings each time. It keeps
/// the bodies of the jobs that it accepts; the others expire. `NX` preserves the body of an earlier try. If a body expires
/// before the script runs, everything is sent again.
pub async fn enqueue(link: &Link, keys: &Keys, chunk: &Chunk, patience: Patience) -> Result<Vec<(usize, String)>> {
    let (cmd, bytes) = enqueue_cmd(keys, chunk);
    let mut pauses = backoff();
    let answer = loop {
        match send(link, keys, chunk, &cmd, bytes, patience).await {
            Err(error) if error.is_body_gone() && !patience.is_over() => sleep(pauses.next().unwrap_or_default()).await,
            other => break other?,
        }
    };
    let mut out = reply::array(answer)?.into_iter();
    let [_now, unheard] = reply::head(&mut out)?;
    if reply::int(&unheard)? == 1 {
        link.publishing_is_refused();
    }
    let mut existing = Vec::new();
    while let (Some(position), Some(id)) = (out.next(), out.next()) {
        existing.push((usize::try_from(reply::int(&position)?).unwrap_or(usize::MAX), reply::text(id)?));
    }
    Ok(existing)
}

/// The large bodies, and the call behind them: together in one round trip, unless the bodies are so large that they would
/// hold up other calls. Then they have arrived before the call is made.
async fn send(link: &Link, keys: &Keys, chunk: &Chunk, cmd: &Cmd, bytes: usize, patience: Patience) -> Result<Value> {
    let ahead_bytes: usize = chunk.jobs.iter().map(|job| job.body.len()).sum();
    let are_large = ahead_bytes > LARGE;
    let waits_ms = BODY_WAITS_MS + ahead_bytes / SLOW;
    let ahead = chunk.jobs.iter().filter(|job| job.is_apart()).map(|job| async move {
        let mut put = Cmd::with_capacity(6, job.body.len() + 256);
        put.arg("SET").arg(keys.body(&job.id, chunk.nonce)).arg(&job.body[..]).arg("NX").arg("PX").arg(waits_ms);
        if are_large { link.transfer(&put, patience).await } else { link.command(&put, patience).await }
    });
    let sent = async {
        let call = link.call_sized(&ENQUEUE, cmd, bytes, patience);
        if are_large {
            try_join_all(ahead).await?;
            call.await
        } else {
            let (ahead, answer) = tokio::join!(biased; try_join_all(ahead), call);
            ahead.and(answer)
        }
    };
    let ((), answer) = tokio::join!(biased; link.register(patience), sent);
    answer
}

/// The call of the script, and about how many bytes it has.
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
            let body = if first.is_apart() { keys.body(&first.id, chunk.nonce) } else { "-".to_owned() };
            cmd.arg(format!("{} {} {} {unique} {body}", first.lane, first.delay_ms, first.due_ms));
        }
        cmd.arg(run.len());
        for job in run {
            cmd.arg(&job.id).arg(&job.envelope);
        }
    }
    (cmd, bytes)
}

/// The outcome for an occurrence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Firing {
    /// It, or a later one, was fired before, or its job exists, or its identity is taken, or it has not come yet.
    #[default]
    Not = 0,
    /// Fired.
    Fired = 1,
    /// Fired, although a later one was fired before: the server's clock was set back since.
    FiredAgain = 2,
}

/// The result of `fire`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fired {
    /// Redis time.
    pub now_ms: u64,
    /// The outcome for the occurrence.
    pub how: Firing,
}

/// Enqueue one occurrence of a schedule.
pub async fn fire(
    link: &Link,
    keys: &Keys,
    schedule: &str,
    fire_ms: u64,
    job: &NewJob,
    patience: Patience,
) -> Result<Fired> {
    let lane = keys.lane_streams.get(job.lane).map_or("", String::as_str);
    let mut cmd = FIRE.call(&[&keys.cron, &keys.due, &keys.running, lane], 8, job.envelope.len());
    cmd.arg(&keys.base).arg(&keys.job).arg(&keys.unique).arg(schedule).arg(fire_ms);
    cmd.arg(&job.id).arg(job.unique.as_deref().unwrap_or("-")).arg(&job.envelope);
    let ((), fired) = tokio::join!(biased; link.register(patience), link.call(&FIRE, &cmd, patience));
    let [now, how] = reply::head(&mut reply::array(fired?)?.into_iter())?;
    let how = match reply::int(&how)? {
        1 => Firing::Fired,
        2 => Firing::FiredAgain,
        _ => Firing::Not,
    };
    Ok(Fired { now_ms: u64::try_from(reply::int(&now)?).unwrap_or_default(), how })
}
