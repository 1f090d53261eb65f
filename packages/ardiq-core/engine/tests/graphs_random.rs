//! Random graphs, run by two simulated workers with retries, crashes and aborts, compared with a
//! model of what must become of every job.
#![allow(clippy::unwrap_used, clippy::expect_used)] // In a test, a surprise is a failure.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use ardiq_engine::protocol::record::Outcome;
use ardiq_engine::scripts::deliver::Entry;
use ardiq_engine::scripts::links::{Edge, EdgeKind, Linked, Part};
use support::Queue;
use support::graphs::{Dice, edge, fails, node, part, retried, returns};

/// What one graph is, and how the runs of its jobs end.
struct Plan {
    ids: Vec<String>,
    edges: Vec<Edge>,
    fails: BTreeSet<String>,
}

const KINDS: [EdgeKind; 5] =
    [EdgeKind::Then, EdgeKind::After, EdgeKind::Finally, EdgeKind::Member, EdgeKind::Collected];

fn plan(dice: &mut Dice, seed: u64) -> Plan {
    let ids: Vec<String> = (0..2 + dice.below(9)).map(|n| format!("g{seed}-{n}")).collect();
    let mut edges = Vec::new();
    for child in 1..ids.len() {
        if dice.below(6) == 0 {
            let parent = dice.below(child as u64) as usize;
            edges.push(edge(&ids[parent], &ids[child], EdgeKind::Otherwise, 0));
            continue;
        }
        let mut position = 0;
        for parent in 0..child {
            if dice.below(3) == 0 {
                let kind = KINDS[dice.below(KINDS.len() as u64) as usize];
                edges.push(edge(&ids[parent], &ids[child], kind, position));
                position += 1;
            }
        }
    }
    let fails = ids.iter().filter(|_| dice.below(4) == 0).cloned().collect();
    Plan { ids, edges, fails }
}

/// The end of a job: its value, or the job that failed first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Value(String),
    Failed(String),
    Aborted,
}

/// Every end that each job may have, and whether it may run. A failed join may have its other
/// members aborted, and a job may fail because of any of its failed parents: that depends on which
/// comes first.
fn model(plan: &Plan) -> BTreeMap<String, BTreeSet<End>> {
    let mut all: BTreeMap<String, BTreeSet<End>> = BTreeMap::new();
    for id in &plan.ids {
        let own = if plan.fails.contains(id) { End::Failed(id.clone()) } else { End::Value(id.clone()) };
        let (mut ends, mut can_run) = (BTreeSet::new(), true);
        for edge in plan.edges.iter().filter(|edge| edge.child == *id) {
            let of_parent = &all[&edge.parent];
            let succeeds = of_parent.iter().any(|end| matches!(end, End::Value(_)));
            let failed = of_parent.iter().filter(|end| !matches!(end, End::Value(_)));
            match edge.kind {
                EdgeKind::Otherwise => {
                    ends.extend(of_parent.iter().filter(|end| matches!(end, End::Value(_))).cloned());
                    can_run &= failed.count() > 0;
                }
                EdgeKind::Then | EdgeKind::After | EdgeKind::Member => {
                    ends.extend(failed.map(|end| match end {
                        End::Aborted => End::Failed(edge.parent.clone()),
                        other => other.clone(),
                    }));
                    can_run &= succeeds;
                }
                EdgeKind::Finally | EdgeKind::Collected => {}
            }
        }
        if can_run {
            ends.insert(own);
        }
        let of_id: Vec<&Edge> = plan.edges.iter().filter(|edge| edge.parent == *id).collect();
        if of_id.len() == 1 && of_id[0].kind == EdgeKind::Member {
            ends.insert(End::Aborted);
        }
        all.insert(id.clone(), ends);
    }
    all
}

struct Sim<'a> {
    queue: &'a Queue,
    dice: Dice,
    workers: u64,
    runs: BTreeMap<String, u32>,
}

impl Sim<'_> {
    /// Take some work, and end it in one of the ways in which runs end.
    async fn step(&mut self, plan: &Plan) -> usize {
        let worker = format!("w{}", self.workers);
        self.queue.sign_on(&worker).await;
        let entries = self.queue.fetch(&worker, 1 + self.dice.below(4) as usize).await.entries;
        if !entries.is_empty() && self.dice.below(8) == 0 {
            // It dies after it has begun.
            let begun: Vec<&Entry> = entries.iter().collect();
            self.queue.begin(&worker, &begun).await;
            self.queue.let_lease_end(&worker).await;
            self.workers += 1;
            let next = format!("w{}", self.workers);
            self.queue.sign_on(&next).await;
            assert_eq!(self.queue.reclaim(&next, 10, false).await.taken, entries.len() as u64);
            return entries.len();
        }
        let mut batch = Vec::new();
        for entry in &entries {
            let header = entry.header.unwrap();
            if header.tries == 0 && self.dice.below(5) == 0 {
                batch.push(retried(entry));
                continue;
            }
            *self.runs.entry(entry.id.clone()).or_default() += 1;
            if header.has_inputs() {
                self.check_inputs(plan, entry).await;
            }
            batch.push(if plan.fails.contains(&entry.id) { fails(entry) } else { returns(entry, entry.id.as_bytes()) });
        }
        if !batch.is_empty() {
            batch.sort_by_key(|one| (one.stream, ardiq_engine::scripts::deliver::entry_number(&one.entry)));
            assert!(self.queue.settle(&batch).await.is_empty());
            if self.dice.below(4) == 0 {
                assert_eq!(self.queue.settle(&batch).await.len(), batch.len(), "a repeated call");
            }
        }
        self.queue.release_all().await;
        entries.len()
    }

    /// A job gets one input from each parent that gives one.
    async fn check_inputs(&self, plan: &Plan, entry: &Entry) {
        let inputs = self.queue.inputs(entry).await;
        let mut expected = Vec::new();
        for edge in plan.edges.iter().filter(|edge| edge.child == entry.id) {
            match edge.kind {
                EdgeKind::Otherwise => return,
                EdgeKind::Then | EdgeKind::Member | EdgeKind::Collected => {
                    let result = self.queue.result(&edge.parent).await;
                    expected.push(match result.outcome {
                        Outcome::Value(value) => value,
                        Outcome::Failure(text) => text.into_bytes(),
                    });
                }
                EdgeKind::After | EdgeKind::Finally => {}
            }
        }
        assert_eq!(inputs, expected, "{}", entry.id);
    }
}

/// A graph as one call, or in parts.
async fn enqueue(queue: &Queue, plan: &Plan, call: u64, in_parts: bool) {
    let jobs = plan.ids.iter().map(|id| node(id, call)).collect();
    let whole = part(call, jobs, plan.edges.clone());
    if !in_parts {
        assert_eq!(queue.link(&whole).await, Linked::Done(Vec::new()));
        return;
    }
    let Part { chunk, roles, edges, .. } = whole;
    let mut parts: Vec<Part> = Vec::new();
    for (job, role) in chunk.jobs.into_iter().zip(roles) {
        let mut one = part(call, vec![job], Vec::new());
        one.roles = vec![role];
        parts.push(one);
    }
    parts.extend(edges.chunks(3).map(|edges| part(call, Vec::new(), edges.to_vec())));
    let of = parts.len();
    for (number, mut one) in parts.into_iter().enumerate() {
        (one.number, one.of) = (number, of);
        assert_eq!(queue.fetch("early", 1).await.entries.len(), 0, "nothing runs before the last part");
        for _ in 0..1 + number % 2 {
            assert_eq!(queue.link(&one).await, Linked::Done(Vec::new()));
        }
    }
    queue.release_all().await;
}

async fn run_some(first: u64, count: u64) {
    let queue = Queue::start();
    queue.sign_on("early").await;
    for seed in first..first + count {
        let mut dice = Dice(seed);
        let plan = plan(&mut dice, seed);
        // A part of one job would be a graph of its own.
        let in_parts = seed % 3 == 0 && plan.ids.len() + plan.edges.len().div_ceil(3) > 1;
        enqueue(&queue, &plan, seed + 1, in_parts).await;
        let mut sim = Sim { queue: &queue, dice, workers: 0, runs: BTreeMap::new() };
        let mut idle = 0;
        while idle < 2 {
            idle = if sim.step(&plan).await == 0 { idle + 1 } else { 0 };
        }
        for (id, ends) in model(&plan) {
            let result = queue.result(&id).await;
            let end = match result.outcome {
                _ if result.aborted => End::Aborted,
                Outcome::Value(value) => End::Value(String::from_utf8(value).unwrap()),
                Outcome::Failure(text) => match text.strip_prefix("dependency failed: ") {
                    Some(root) => End::Failed(root.to_owned()),
                    None => End::Failed(id.clone()),
                },
            };
            assert!(ends.contains(&end), "graph {seed}, job {id}: {end:?} is none of {ends:?}\n{:?}", plan.edges);
            assert!(sim.runs.get(&id).copied().unwrap_or_default() <= 1, "graph {seed}: {id} ran twice");
        }
        assert_eq!(queue.links_left().await, Vec::<String>::new(), "graph {seed}");
        let _: i64 = queue.ask("DEL", plan.ids.iter().map(|id| queue.keys.job(id)).collect::<Vec<_>>()).await;
    }
}

#[tokio::test]
async fn a_thousand_random_graphs_end_as_the_model_says() {
    run_some(0, 500).await;
}

#[tokio::test]
async fn and_another_five_hundred() {
    run_some(500, 500).await;
}
