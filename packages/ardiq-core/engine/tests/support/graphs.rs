//! Graphs of jobs: how tests enqueue them, and how a simulated worker runs their jobs.

use std::collections::BTreeMap;

use ardiq_engine::protocol::entry::Header;
use ardiq_engine::protocol::envelope::Envelope;
use ardiq_engine::protocol::record::{Outcome, ResultRecord};
use ardiq_engine::scripts::bodies::{self, Input};
use ardiq_engine::scripts::deliver::{Entry, Settlement, Verdict};
use ardiq_engine::scripts::links::{self, Edge, EdgeKind, Linked, Part, Role};
use ardiq_engine::scripts::produce::{Chunk, NewJob};

use super::{Queue, TTL, job, patience, settlement};

/// A job of a graph from the enqueue `call`.
pub fn node(id: &str, call: u64) -> NewJob {
    let envelope = Envelope {
        nonce: call.to_be_bytes(),
        name: "task".into(),
        body: b"args".to_vec(),
        is_linked: true,
        ..Envelope::default()
    };
    NewJob { envelope: envelope.encode(), ..job(id) }
}

pub fn edge(parent: &str, child: &str, kind: EdgeKind, position: u32) -> Edge {
    Edge { parent: parent.into(), child: child.into(), kind, position }
}

/// The part of a graph with these jobs and edges. Jobs whose parents give them outputs, or whose
/// fallback they are, have inputs.
pub fn part(call: u64, jobs: Vec<NewJob>, edges: Vec<Edge>) -> Part {
    let has_inputs =
        |kind: EdgeKind| matches!(kind, EdgeKind::Then | EdgeKind::Member | EdgeKind::Collected | EdgeKind::Otherwise);
    let role = |job: &NewJob| {
        let to_job: Vec<EdgeKind> = edges.iter().filter(|edge| edge.child == job.id).map(|edge| edge.kind).collect();
        Role { has_parents: !to_job.is_empty(), mode: to_job.iter().any(|kind| has_inputs(*kind)).then_some('x') }
    };
    let roles = jobs.iter().map(role).collect();
    let chunk = Chunk { nonce: call.to_be_bytes(), jobs };
    Part { number: 0, of: 1, chunk, roles, edges, gate_ms: 60_000 }
}

impl Queue {
    pub async fn link(&self, part: &Part) -> Linked {
        links::link(&self.link, &self.keys, part, TTL, patience()).await.unwrap()
    }

    /// Release until nothing is left to release. Returns how many calls that took.
    pub async fn release_all(&self) -> usize {
        let mut calls = 1;
        while links::release(&self.link, &self.keys, TTL, patience()).await.unwrap() {
            calls += 1;
            assert!(calls < 10_000, "it never ends");
        }
        calls
    }

    pub async fn result(&self, id: &str) -> ResultRecord {
        ResultRecord::decode(&self.record(id).await.expect("a record")).unwrap_or_else(|why| panic!("{id}: {why}"))
    }

    /// The values that a delivered job gets from its parents, in order.
    pub async fn inputs(&self, entry: &Entry) -> Vec<Vec<u8>> {
        let nonce = entry.envelope[1..9].try_into().unwrap();
        let inputs = bodies::inputs(&self.link, &self.keys, &entry.id, nonce, patience()).await.unwrap();
        let values = inputs.expect("inputs").values.into_iter().map(|input| match input {
            Input::Value(value) => value,
            Input::Record(record) => match record.outcome {
                Outcome::Value(value) => value,
                Outcome::Failure(text) => text.into_bytes(),
            },
        });
        values.collect()
    }

    /// The keys that no job needs any more.
    pub async fn links_left(&self) -> Vec<String> {
        let kinds = ["children:", "parents:", "inputs:", "output:", "linked", "releasing", "body:", "unique:", "due"];
        self.names().await.into_iter().filter(|name| kinds.iter().any(|kind| name.starts_with(kind))).collect()
    }
}

/// The outcome of a run: a value, or an error.
pub fn ends(entry: &Entry, outcome: Outcome) -> Settlement {
    ends_within(entry, outcome, TTL)
}

pub fn ends_within(entry: &Entry, outcome: Outcome, ttl: i64) -> Settlement {
    let record = ResultRecord {
        outcome,
        tries: 1,
        enqueued_ms: 1,
        started_ms: 2,
        finished_ms: 3,
        id: entry.id.clone(),
        name: "task".into(),
        worker: "w".into(),
        aborted: false,
        error_type: None,
        traceback: None,
    };
    let nonce = entry.envelope[1..9].try_into().unwrap();
    settlement(entry, Verdict::Done(record.encode(nonce), ttl))
}

pub fn returns(entry: &Entry, value: &[u8]) -> Settlement {
    ends(entry, Outcome::Value(value.to_vec()))
}

pub fn fails(entry: &Entry) -> Settlement {
    ends(entry, Outcome::Failure("boom".into()))
}

pub fn retried(entry: &Entry) -> Settlement {
    let header = entry.header.unwrap();
    settlement(entry, Verdict::Again(0, Header { tries: header.tries + 1, ..header }.encode().to_vec()))
}

/// Random numbers that are the same in every run.
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// What may become of each job of a graph.
pub type Expected = BTreeMap<String, Vec<String>>;
