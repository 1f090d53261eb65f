//! Jobs that depend on others: large graphs, repeated and interrupted calls, and repairs.
#![allow(clippy::unwrap_used, clippy::expect_used)] // In a test, a surprise is a failure.

mod support;

use ardiq_engine::protocol::record::Outcome;
use ardiq_engine::scripts::bodies;
use ardiq_engine::scripts::deliver::{Verdict, entry_number};
use ardiq_engine::scripts::links::{self, EdgeKind, Linked, Part, Place};
use ardiq_engine::scripts::look;
use ardiq_engine::scripts::produce::{Chunk, NewJob};
use ardiq_engine::scripts::upkeep::{self, Part as Scrubbed};
use support::graphs::{edge, fails, node, part, returns};
use support::{LOW, Queue, patience, promote};

fn pair(kind: EdgeKind) -> Part {
    part(1, vec![node("p", 1), node("c", 1)], vec![edge("p", "c", kind, 0)])
}

async fn outcome(queue: &Queue, id: &str) -> Outcome {
    queue.result(id).await.outcome
}

fn failed(text: &str) -> Outcome {
    Outcome::Failure(text.into())
}

async fn is_waiting(queue: &Queue, id: &str) -> bool {
    let due: Option<f64> = queue.ask("ZSCORE", (&queue.keys.due, id)).await;
    due == Some(253_402_300_799_999.5)
}

/// Settle the child, and check that nothing is left.
async fn run_child(queue: &Queue) -> Vec<Vec<u8>> {
    let child = queue.take("w", 1).await.remove(0);
    assert_eq!(child.id, "c");
    let has_inputs = child.header.unwrap().has_inputs();
    let inputs = if has_inputs { queue.inputs(&child).await } else { Vec::new() };
    assert!(queue.settle(&[returns(&child, b"child")]).await.is_empty());
    assert_eq!(queue.links_left().await, Vec::<String>::new());
    inputs
}

#[tokio::test]
async fn a_graph_in_parts_fails_if_its_producer_stops() {
    let queue = Queue::start();
    let whole = part(1, vec![node("a", 1), node("b", 1)], vec![edge("a", "b", EdgeKind::Then, 0)]);
    let jobs = Part { of: 2, edges: Vec::new(), ..whole.clone() };
    let chunk = Chunk { nonce: whole.chunk.nonce, jobs: Vec::new() };
    let edges = Part { number: 1, of: 2, chunk, roles: Vec::new(), ..whole.clone() };
    assert_eq!(queue.link(&jobs).await, Linked::Done(Vec::new()));
    queue.sign_on("w").await;
    assert_eq!(queue.fetch("w", 1).await.entries.len(), 0, "it waits for the rest");
    assert_eq!(links::relink(&queue.link, &queue.keys, &Place::default(), patience()).await.unwrap().1.len(), 0);
    let gate = &queue.keys.links("", 1u64.to_be_bytes())[4];
    let left: i64 = queue.ask("PTTL", gate).await;
    assert!((50_000..=60_000).contains(&left), "a minute: {left}");
    let _: i64 = queue.ask("DEL", gate).await;
    assert_eq!(queue.link(&edges).await, Linked::Late);
    let found = links::relink(&queue.link, &queue.keys, &Place::default(), patience()).await.unwrap().1;
    assert_eq!(found, [" "]);
    queue.release_all().await;
    for id in ["a", "b"] {
        let Outcome::Failure(text) = outcome(&queue, id).await else { panic!("it has failed") };
        assert!(text.contains("the workflow was lost"), "{text}");
    }
    assert_eq!(queue.links_left().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_child_is_found_although_its_parent_did_not_release_it() {
    for has_result in [true, false] {
        let queue = Queue::start();
        queue.link(&pair(EdgeKind::Then)).await;
        let parent = queue.take("w", 1).await.remove(0);
        // What a worker of an earlier version does.
        let Verdict::Done(record, _) = returns(&parent, b"value").verdict else { panic!("another verdict") };
        let _: i64 = queue.ask("XACK", (&queue.keys.streams[LOW], "q", &parent.entry)).await;
        let _: i64 = queue.ask("XDEL", (&queue.keys.streams[LOW], &parent.entry)).await;
        if has_result {
            let _: String = queue.ask("SET", (queue.keys.job("p"), &record, "PX", 60_000)).await;
        } else {
            let _: i64 = queue.ask("DEL", queue.keys.job("p")).await;
        }
        let (next, found) = links::relink(&queue.link, &queue.keys, &Place::default(), patience()).await.unwrap();
        assert_eq!((next, found), (None, vec!["p".to_owned()]));
        queue.release_all().await;
        if has_result {
            assert_eq!(run_child(&queue).await, [b"value"]);
        } else {
            assert_eq!(outcome(&queue, "c").await, failed("dependency failed: p"));
            assert_eq!(queue.links_left().await, Vec::<String>::new());
        }
    }
}

#[tokio::test]
async fn a_child_whose_edge_or_parents_were_deleted_fails_and_one_missing_from_the_due_set_waits_on() {
    let queue = Queue::start();
    queue.link(&pair(EdgeKind::Then)).await;
    let _: i64 = queue.ask("ZREM", (&queue.keys.due, "c")).await;
    let repairs = upkeep::scrub(&queue.link, &queue.keys, Scrubbed::Records, "0", patience()).await.unwrap().repairs;
    assert!(repairs.contains(&("due".into(), "c".into())), "{repairs:?}");
    assert!(is_waiting(&queue, "c").await);
    let _: i64 = queue.ask("DEL", &queue.keys.links("c", 1u64.to_be_bytes())[1]).await;
    links::relink(&queue.link, &queue.keys, &Place::default(), patience()).await.unwrap();
    assert_eq!(outcome(&queue, "c").await, failed("dependency failed: c"));
}

#[tokio::test]
async fn lookup_names_parents_and_children() {
    let queue = Queue::start();
    let jobs = ["a", "b", "join"].map(|id| node(id, 1)).to_vec();
    let edges = vec![edge("a", "join", EdgeKind::Member, 0), edge("b", "join", EdgeKind::Member, 1)];
    queue.link(&part(1, jobs, edges)).await;
    let found = look::lookup(&queue.link, &queue.keys, &["a", "join"], patience()).await.unwrap();
    assert_eq!((&found[0].parents, &found[0].children), (&Vec::new(), &vec![b"join".to_vec()]));
    assert_eq!((&found[1].parents, &found[1].children), (&vec![b"a".to_vec(), b"b".to_vec()], &Vec::new()));
}

#[tokio::test]
async fn one_parent_can_give_several_inputs() {
    let queue = Queue::start();
    let edges = vec![edge("p", "c", EdgeKind::Member, 0), edge("p", "c", EdgeKind::Member, 1)];
    queue.link(&part(1, vec![node("p", 1), node("c", 1)], edges)).await;
    let parent = queue.take("w", 1).await.remove(0);
    assert!(queue.settle(&[returns(&parent, b"v")]).await.is_empty());
    assert_eq!(run_child(&queue).await, [b"v", b"v"]);
}

#[tokio::test]
async fn work_in_releasing_is_done_however_much_there_is() {
    let queue = Queue::start();
    // Two hundred parents with two children each: more than one call of settle may release.
    for group in 0..2u64 {
        let mut jobs = Vec::new();
        let mut edges = Vec::new();
        for n in 0..100 {
            let parent = format!("p{group}-{n}");
            jobs.push(node(&parent, group + 1));
            for child in 0..2 {
                let id = format!("c{group}-{n}-{child}");
                jobs.push(node(&id, group + 1));
                edges.push(edge(&parent, &id, EdgeKind::Then, 0));
            }
        }
        assert_eq!(queue.link(&part(group + 1, jobs, edges)).await, Linked::Done(Vec::new()));
    }
    let mut batch: Vec<_> = queue.take("w", 200).await.iter().map(fails).collect();
    batch.sort_by_key(|one| (one.stream, entry_number(&one.entry)));
    assert!(queue.settle(&batch).await.is_empty());
    queue.release_all().await;
    assert_eq!(outcome(&queue, "c1-99-1").await, failed("dependency failed: p1-99"));
    assert_eq!(queue.links_left().await, Vec::<String>::new());
}

#[tokio::test]
async fn shared_inputs_of_a_large_join_are_freed() {
    let queue = Queue::start();
    let members = 120;
    let mut jobs: Vec<NewJob> = (0..members).map(|n| node(&format!("m{n}"), 1)).collect();
    jobs.extend(["x", "y"].map(|id| node(id, 1)));
    let mut edges = Vec::new();
    for (n, member) in (0..members).zip(0..) {
        for join in ["x", "y"] {
            edges.push(edge(&format!("m{n}"), join, EdgeKind::Member, member));
        }
    }
    queue.link(&part(1, jobs, edges)).await;
    let large = vec![5; 5000];
    for entry in queue.take("w", members).await {
        assert!(queue.settle(&[returns(&entry, &large)]).await.is_empty());
    }
    queue.release_all().await;
    for join in queue.take("w", 2).await {
        assert_eq!(queue.inputs(&join).await.len(), members);
        assert!(queue.settle(&[returns(&join, b"")]).await.is_empty());
        queue.release_all().await;
    }
    assert_eq!(queue.links_left().await, Vec::<String>::new());
}

#[tokio::test]
async fn equal_identities_in_one_graph_are_one_job() {
    let queue = Queue::start();
    let unique = |id: &str| NewJob { unique: Some("aa".into()), ..node(id, 1) };
    let edges = vec![edge("a", "join", EdgeKind::Member, 0), edge("b", "join", EdgeKind::Member, 1)];
    let graph = part(1, vec![unique("a"), unique("b"), node("join", 1)], edges);
    assert_eq!(queue.link(&graph).await, Linked::Done(vec![(1, "a".into())]));
    assert_eq!(queue.link(&graph).await, Linked::Done(vec![(1, "a".into())]), "a repeated call says the same");
    let only = queue.take("w", 1).await.remove(0);
    assert_eq!(queue.fetch("w", 1).await.entries.len(), 0);
    assert!(queue.settle(&[returns(&only, b"v")]).await.is_empty());
    let join = queue.take("w", 1).await.remove(0);
    assert_eq!(queue.inputs(&join).await, [b"v", b"v"]);
}

#[tokio::test]
async fn a_job_that_waits_is_not_run_early_by_damage() {
    let queue = Queue::start();
    queue.link(&pair(EdgeKind::Then)).await;
    let _: i64 = queue.ask("ZADD", (&queue.keys.due, 1, "c")).await;
    promote(&queue, 10).await;
    assert!(is_waiting(&queue, "c").await);
    let parent = queue.take("w", 1).await.remove(0);
    assert!(queue.settle(&[returns(&parent, b"v")]).await.is_empty());
    let child = queue.take("w", 1).await.remove(0);
    let inputs = queue.keys.inputs("c", 1u64.to_be_bytes());
    let _: i64 = queue.ask("HDEL", (&inputs, "0")).await;
    let read = bodies::inputs(&queue.link, &queue.keys, "c", 1u64.to_be_bytes(), patience()).await.unwrap();
    assert_eq!(read, None, "it never runs without them");
    assert!(queue.settle(&[fails(&child)]).await.is_empty());
    assert_eq!(queue.links_left().await, Vec::<String>::new());
}
