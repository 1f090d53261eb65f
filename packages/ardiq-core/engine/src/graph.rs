//! Enqueues graphs: jobs that depend on each other, or on jobs of the queue. A small graph is one
//! call. A large one is sent in parts, and nothing of it runs before the last part has arrived.

use std::collections::{HashMap, HashSet};

use crate::answer::Answer;
use crate::commands;
use crate::error::{Error, Result};
use crate::link::Patience;
use crate::protocol::keys::Nonce;
use crate::refusal::Refusal;
use crate::scripts::links::{self, Edge, EdgeKind, Linked, Part, Role};
use crate::scripts::produce::{Chunk, NewJob, SLOW};
use crate::shared::Shared;
use crate::submit::{CHUNK_BYTES, Submission, fill, new_job, repeat_ms};

/// A parent of an edge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parent {
    /// The job at this position of the graph.
    Member(usize),
    /// A job of the queue.
    Existing(String),
}

/// An edge of a graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    /// The parent. A member of the graph comes before the child.
    pub parent: Parent,
    /// Position of the child.
    pub child: usize,
    /// How the child depends on it.
    pub kind: EdgeKind,
    /// Position of the parent's output in the inputs of the child.
    pub position: u32,
}

/// Jobs that depend on each other, or on jobs of the queue.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    /// The jobs, parents before children. Each with the mode of its inputs, if it has any.
    pub jobs: Vec<(Submission, Option<char>)>,
    /// Their edges.
    pub edges: Vec<Dependency>,
}

/// The most jobs in one call. A job costs more than one that stands alone.
const MOST_JOBS: usize = 40;

/// The most edges in one call.
const MOST_EDGES: usize = 80;

/// The jobs of a graph wait this long for its next part, at least.
const GATE_MS: u64 = 60_000;

/// The lifetime of results that no worker writes, at least.
const TTL_MS: i64 = 300_000;

/// Enqueue a graph. The answer is [`Answer::Ids`].
///
/// # Errors
/// [`Error::Invalid`] if a parent is unknown or its result is gone, or if a job has the id of
/// another.
pub async fn enqueue(shared: &Shared, graph: Graph) -> Result<Answer> {
    let mut nonce: Nonce = [0; 8];
    fill(&mut nonce)?;
    let (mut ids, parts) = prepare(graph, nonce, repeat_ms(shared.link.connect_limit()))?;
    let mut stand_ins: HashMap<String, String> = HashMap::new();
    let mut offset = 0;
    for mut part in parts {
        for edge in &mut part.edges {
            if let Some(id) = stand_ins.get(&edge.parent) {
                edge.parent.clone_from(id);
            }
        }
        let patience = Patience::for_upload(shared.link.connect_limit());
        let existing = match links::link(&shared.link, &shared.keys, &part, TTL_MS, patience).await {
            Ok(Linked::Done(existing)) => existing,
            other => {
                if part.number > 0 {
                    give_up(shared, nonce).await;
                }
                return Err(other.map_or_else(|error| error, |why| refused(&why)));
            }
        };
        for (position, id) in existing {
            if let Some(own) = ids.get_mut(offset + position) {
                stand_ins.insert(std::mem::replace(own, id.clone()), id);
            }
        }
        offset += part.chunk.jobs.len();
    }
    Ok(Answer::Ids(ids))
}

/// The jobs of the earlier parts need not wait for the next one any longer. If this does not reach
/// the server, they fail when their time is over.
async fn give_up(shared: &Shared, nonce: Nonce) {
    let [.., gate] = shared.keys.links("", nonce);
    let patience = Patience::within(shared.link.connect_limit());
    let _ = shared.link.command(&commands::remove(&gate), patience).await;
}

fn refused(why: &Linked) -> Error {
    match why {
        Linked::Unknown(id) => Error::Invalid(format!(
            "job {id:?} cannot be a parent: the queue has no such job, or its result has expired"
        )),
        Linked::Unstored(id) => Error::Invalid(format!(
            "job {id:?} cannot be a parent: it has ended, and its result was not stored or has expired; set \
             result_ttl_ms of its task"
        )),
        Linked::Failed(id) => Error::Invalid(format!(
            "job {id:?} has failed, so its arguments are not stored any more; add a fallback before that"
        )),
        Linked::Taken(id) => Error::Invalid(format!(
            "unfinished job {id:?} has this id, or makes the same call of a unique task; only the first jobs of a \
             workflow can be jobs that exist already: choose another task_id, or set unique=False for a job with \
             parents"
        )),
        Linked::Done(_) | Linked::Late => Error::Refused(Refusal {
            code: String::new(),
            text: "the parts of this workflow came too far apart, so it was given up: no job of it runs".into(),
        }),
    }
}

/// Give the jobs their ids, and divide the graph into parts.
fn prepare(graph: Graph, nonce: Nonce, repeat_ms: u64) -> Result<(Vec<String>, Vec<Part>)> {
    let Graph { jobs, edges } = graph;
    let mut random = vec![0; jobs.len() * 16];
    fill(&mut random)?;
    let sizes: Vec<usize> = jobs.iter().map(|(job, _)| job.size()).collect();
    let mut roles: Vec<Role> = jobs.iter().map(|(_, mode)| Role { has_parents: false, mode: *mode }).collect();
    let new: Vec<NewJob> = jobs
        .into_iter()
        .zip(random.chunks_exact(16))
        .map(|((job, _), random)| new_job(job, random, nonce, repeat_ms, true))
        .collect();
    let ids: Vec<String> = new.iter().map(|job| job.id.clone()).collect();
    let mut seen = HashSet::new();
    if let Some(twice) = ids.iter().find(|id| !seen.insert(id.as_str())) {
        return Err(Error::Invalid(format!("two jobs of this workflow have the id {twice:?}")));
    }
    let edges = edges
        .into_iter()
        .map(|Dependency { parent, child, kind, position }| {
            let parent = match parent {
                Parent::Member(at) if at < child => ids.get(at).cloned(),
                Parent::Member(_) => None,
                Parent::Existing(id) if seen.contains(id.as_str()) => None,
                Parent::Existing(id) => Some(id),
            };
            let (Some(parent), Some(role), Some(child)) = (parent, roles.get_mut(child), ids.get(child)) else {
                return Err(Error::Invalid(
                    "a job of this workflow depends on itself, or on one that comes later".into(),
                ));
            };
            role.has_parents = true;
            Ok(Edge { parent, child: child.clone(), kind, position })
        })
        .collect::<Result<Vec<Edge>>>()?;
    Ok((ids, divide(nonce, new, roles, edges, &sizes)))
}

fn divide(nonce: Nonce, jobs: Vec<NewJob>, roles: Vec<Role>, edges: Vec<Edge>, sizes: &[usize]) -> Vec<Part> {
    let bytes: usize = sizes.iter().sum();
    let new_part = || Part { chunk: Chunk { nonce, jobs: Vec::new() }, ..Part::default() };
    let mut parts = vec![new_part()];
    if jobs.len() <= MOST_JOBS && edges.len() <= MOST_EDGES && bytes <= CHUNK_BYTES {
        parts[0].chunk.jobs = jobs;
        parts[0].roles = roles;
        parts[0].edges = edges;
    } else {
        let mut room = CHUNK_BYTES;
        for ((job, role), size) in jobs.into_iter().zip(roles).zip(sizes) {
            if parts.last().is_some_and(|part| part.roles.len() == MOST_JOBS || *size > room && !part.roles.is_empty())
            {
                parts.push(new_part());
                room = CHUNK_BYTES;
            }
            room = room.saturating_sub(*size);
            if let Some(part) = parts.last_mut() {
                part.chunk.jobs.push(job);
                part.roles.push(role);
            }
        }
        parts.extend(edges.chunks(MOST_EDGES).map(|edges| Part { edges: edges.to_vec(), ..new_part() }));
    }
    let of = parts.len();
    // A slow line needs longer for large arguments.
    let gate_ms = GATE_MS + (bytes / SLOW) as u64;
    for (number, part) in parts.iter_mut().enumerate() {
        (part.number, part.of, part.gate_ms) = (number, of, gate_ms);
    }
    parts
}
