//! Scripts about jobs that depend on others.

use redis::Cmd;

use super::produce::{Chunk, send_with_bodies};
use super::{LINK, RELEASE, RELINK, reply};
use crate::error::{Error, Result};
use crate::link::{Link, Patience};
use crate::protocol::keys::{Keys, LANE, LINKS};

/// How a child depends on a parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EdgeKind {
    /// The child runs after the parent has succeeded, with its output.
    Then,
    /// The same, without the output.
    After,
    /// The child runs if the parent fails.
    Otherwise,
    /// The child runs when the parent has ended.
    Finally,
    /// The parent is a member of a join, which fails with it.
    Member,
    /// The parent is a member of a join, which gets its result in any case.
    Collected,
}

impl EdgeKind {
    const ALL: [Self; 6] = [Self::Then, Self::After, Self::Otherwise, Self::Finally, Self::Member, Self::Collected];

    /// The letter in the protocol.
    pub fn letter(self) -> char {
        match self {
            Self::Then => 't',
            Self::After => 'a',
            Self::Otherwise => 'o',
            Self::Finally => 'f',
            Self::Member => 'm',
            Self::Collected => 'c',
        }
    }

    /// The kind with this letter.
    pub fn of(letter: char) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.letter() == letter)
    }
}

/// What a new job of a graph needs besides its call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Role {
    /// Whether it has parents.
    pub has_parents: bool,
    /// How its arguments are made of its inputs, if it has any. A letter that only hosts know.
    pub mode: Option<char>,
}

/// An edge between two jobs of a graph, or from a job of the queue to one of a graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// Id of the parent.
    pub parent: String,
    /// Id of the child.
    pub child: String,
    /// How the child depends on the parent.
    pub kind: EdgeKind,
    /// Position of the parent's output in the inputs of the child.
    pub position: u32,
}

/// A part of a graph, which is enqueued atomically.
#[derive(Debug, Clone, Default)]
pub struct Part {
    /// Its number, from 0.
    pub number: usize,
    /// How many parts the graph has.
    pub of: usize,
    /// New jobs. All parts have the same nonce.
    pub chunk: Chunk,
    /// One per job.
    pub roles: Vec<Role>,
    /// Edges between jobs of this part, of earlier parts, and of the queue.
    pub edges: Vec<Edge>,
    /// How long the other jobs wait for the next part in milliseconds.
    pub gate_ms: u64,
}

/// What became of a part of a graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Linked {
    /// It is enqueued. These jobs, by position, stand for new ones: they are unfinished, and have
    /// the id or the identity.
    Done(Vec<(usize, String)>),
    /// There is no job with this id, which is to be a parent.
    Unknown(String),
    /// This parent has ended, and its result is not there.
    Unstored(String),
    /// This job has failed, so a fallback for it comes too late.
    Failed(String),
    /// This unfinished job has the id or the identity of a new job with parents.
    Taken(String),
    /// The last part came too long ago: the graph has failed.
    Late,
}

/// The flag of a job with inputs, see `protocol::entry`.
fn flags(role: Role, has_separate_body: bool) -> u8 {
    use crate::protocol::entry::{INPUTS, SEPARATE_BODY};
    u8::from(role.mode.is_some()) * INPUTS + u8::from(has_separate_body) * SEPARATE_BODY
}

/// Enqueue a part of a graph. `ttl_ms` is the lifetime of results that the script writes.
pub async fn link(link: &Link, keys: &Keys, part: &Part, ttl_ms: i64, patience: Patience) -> Result<Linked> {
    let (cmd, bytes) = link_cmd(keys, part, ttl_ms);
    let answer = send_with_bodies(link, keys, &part.chunk, (&LINK, &cmd, bytes), patience).await?;
    let mut out = reply::array(answer)?.into_iter();
    let [_now, is_mute, what] = reply::head(&mut out)?;
    if reply::int(&is_mute)? == 1 {
        link.publishing_is_refused();
    }
    let what = reply::bytes(what)?;
    let mut id = || out.next().map_or_else(|| Ok(String::new()), reply::lossy);
    match &what[..] {
        b"unknown" => return Ok(Linked::Unknown(id()?)),
        b"unstored" => return Ok(Linked::Unstored(id()?)),
        b"failed" => return Ok(Linked::Failed(id()?)),
        b"taken" => return Ok(Linked::Taken(id()?)),
        b"late" => return Ok(Linked::Late),
        b"done" => {}
        other => return Err(Error::Protocol(format!("link returned {:?}", String::from_utf8_lossy(other)))),
    }
    let mut existing = Vec::new();
    while let (Some(position), Some(id)) = (out.next(), out.next()) {
        existing.push((usize::try_from(reply::int(&position)?).unwrap_or(usize::MAX), reply::text(id)?));
    }
    Ok(Linked::Done(existing))
}

fn link_cmd(keys: &Keys, part: &Part, ttl_ms: i64) -> (Cmd, usize) {
    let mut names = vec![keys.due.as_str(), &keys.known_lanes, &keys.running, &keys.waiters];
    names.extend([keys.linked.as_str(), &keys.releasing]);
    names.extend(keys.lane_streams.iter().map(String::as_str));
    let jobs = &part.chunk.jobs;
    let bytes = jobs.iter().map(|job| job.envelope.len() + 96).sum::<usize>() + 80 * part.edges.len();
    let mut cmd = LINK.call(&names, 14 + 3 * jobs.len() + 4 * part.edges.len(), bytes);
    cmd.arg(&keys.base).arg(&keys.job).arg(&keys.unique).arg(&keys.body).arg(&keys.result).arg(LINKS);
    cmd.arg(&keys.wake).arg(LANE).arg(&part.chunk.nonce).arg(part.number).arg(part.of).arg(part.gate_ms);
    cmd.arg(ttl_ms).arg(jobs.len());
    for (job, role) in jobs.iter().zip(&part.roles) {
        let unique = job.unique.as_deref().unwrap_or("-");
        let body = if job.body.is_empty() { "-".to_owned() } else { keys.body(&job.id, part.chunk.nonce) };
        let (parents, mode) = (u8::from(role.has_parents), role.mode.unwrap_or('-'));
        let flags = flags(*role, !job.body.is_empty());
        cmd.arg(&job.id);
        cmd.arg(format!("{} {parents} {} {} {flags} {unique} {mode} {body}", job.lane, job.delay_ms, job.due_ms));
        cmd.arg(&job.envelope);
    }
    for edge in &part.edges {
        cmd.arg(&edge.parent).arg(&edge.child).arg(edge.kind.letter().to_string()).arg(edge.position);
    }
    (cmd, bytes)
}

/// Release children of jobs that have ended. Returns whether there is more to do.
pub async fn release(link: &Link, keys: &Keys, ttl_ms: i64, patience: Patience) -> Result<bool> {
    let names = [&keys.due, &keys.running, &keys.waiters, &keys.aborting, &keys.linked, &keys.releasing];
    let mut cmd = RELEASE.call(&names.map(String::as_str), 9, 0);
    cmd.arg(&keys.base).arg(&keys.job).arg(&keys.unique).arg(&keys.body).arg(&keys.notes).arg(LINKS).arg(&keys.wake);
    cmd.arg(&keys.queue).arg(ttl_ms);
    let mut items = reply::array(link.call(&RELEASE, &cmd, patience).await?)?.into_iter();
    let [_now, has_more, is_mute] = reply::head(&mut items)?;
    if reply::int(&is_mute)? == 1 {
        link.publishing_is_refused();
    }
    Ok(reply::int(&has_more)? == 1)
}

/// A position in the jobs that wait for others, and in the parents of the first of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Position of the job.
    pub first: u64,
    /// Cursor in its parents.
    pub cursor: String,
}

impl Default for Place {
    fn default() -> Self {
        Self { first: 0, cursor: "0".into() }
    }
}

/// Jobs that one call checks.
const RELINK_LIMIT: usize = 50;

/// Check a page of the jobs that wait for others. Returns where to continue (`None` at the end),
/// and the parents that had ended without releasing their children.
pub async fn relink(
    link: &Link,
    keys: &Keys,
    place: &Place,
    patience: Patience,
) -> Result<(Option<Place>, Vec<String>)> {
    let names = [&keys.due, &keys.running, &keys.waiters, &keys.linked, &keys.releasing];
    let mut cmd = RELINK.call(&names.map(String::as_str), 9, 0);
    cmd.arg(&keys.base).arg(&keys.job).arg(&keys.unique).arg(&keys.body).arg(&keys.result).arg(LINKS);
    cmd.arg(place.first).arg(RELINK_LIMIT).arg(&place.cursor);
    let mut items = reply::array(link.call(&RELINK, &cmd, patience).await?)?.into_iter();
    let [_now, first, cursor] = reply::head(&mut items)?;
    let found = items.map(reply::lossy).collect::<Result<_>>()?;
    let cursor = reply::text(cursor)?;
    Ok((u64::try_from(reply::int(&first)?).ok().map(|first| Place { first, cursor }), found))
}
