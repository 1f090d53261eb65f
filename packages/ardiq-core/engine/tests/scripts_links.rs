//! Jobs that depend on others: how graphs are enqueued, and what becomes of a child when its
//! parents end.
#![allow(clippy::unwrap_used, clippy::expect_used)] // In a test, a surprise is a failure.

mod support;

use ardiq_engine::protocol::record::Outcome;
use ardiq_engine::scripts::abort::{self, Abort};
use ardiq_engine::scripts::deliver::Verdict;
use ardiq_engine::scripts::links::{EdgeKind, Linked, Part};
use ardiq_engine::scripts::produce::NewJob;
use support::graphs::{edge, ends_within, fails, node, part, retried, returns};
use support::{LOW, Queue, back, job, patience, promote, settlement};

const ALL: [EdgeKind; 6] =
    [EdgeKind::Then, EdgeKind::After, EdgeKind::Otherwise, EdgeKind::Finally, EdgeKind::Member, EdgeKind::Collected];

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
async fn a_parent_that_returns_decides_about_each_kind_of_child() {
    for kind in ALL {
        let queue = Queue::start();
        assert_eq!(queue.link(&pair(kind)).await, Linked::Done(Vec::new()));
        assert!(is_waiting(&queue, "c").await);
        let parent = queue.take("w", 1).await.remove(0);
        assert_eq!(parent.id, "p");
        assert_eq!(queue.fetch("w", 1).await.entries.len(), 0, "the child waits");
        // A retry decides nothing.
        assert!(queue.settle(&[retried(&parent)]).await.is_empty());
        assert!(is_waiting(&queue, "c").await);
        let parent = queue.take("w", 1).await.remove(0);
        assert!(queue.settle(&[returns(&parent, b"value")]).await.is_empty());
        assert_eq!(queue.settle(&[returns(&parent, b"value")]).await, [0], "a repeated call changes nothing");
        let inputs = match kind {
            EdgeKind::Otherwise => {
                assert_eq!(outcome(&queue, "c").await, Outcome::Value(b"value".to_vec()));
                assert_eq!(queue.fetch("w", 1).await.entries.len(), 0, "it did not run");
                assert_eq!(queue.links_left().await, Vec::<String>::new());
                continue;
            }
            EdgeKind::After | EdgeKind::Finally => Vec::new(),
            EdgeKind::Then | EdgeKind::Member | EdgeKind::Collected => vec![b"value".to_vec()],
        };
        assert_eq!(run_child(&queue).await, inputs, "{kind:?}");
    }
}

/// How a parent ends without a value.
#[derive(Debug, Clone, Copy)]
enum End {
    Fails,
    DeadLettered,
    AbortedInQueue,
    Lost,
}

#[tokio::test]
async fn a_parent_that_does_not_return_decides_about_each_kind_of_child() {
    for end in [End::Fails, End::DeadLettered, End::AbortedInQueue, End::Lost] {
        for kind in ALL {
            let queue = Queue::start();
            assert_eq!(queue.link(&pair(kind)).await, Linked::Done(Vec::new()));
            match end {
                End::Fails => {
                    let parent = queue.take("w", 1).await.remove(0);
                    assert!(queue.settle(&[fails(&parent)]).await.is_empty());
                }
                End::DeadLettered => {
                    let parent = queue.take("w", 1).await.remove(0);
                    let Verdict::Done(record, ttl) = fails(&parent).verdict else { panic!("another verdict") };
                    assert!(queue.settle(&[settlement(&parent, Verdict::Dead(record, ttl))]).await.is_empty());
                }
                End::AbortedInQueue => {
                    let ended = abort::abort(&queue.link, &queue.keys, "p", 1u64.to_be_bytes(), patience()).await;
                    assert_eq!(ended.unwrap(), Abort::Aborted);
                }
                End::Lost => {
                    let parent = queue.take("w", 1).await.remove(0);
                    let _: i64 = queue.ask("XDEL", (&queue.keys.streams[LOW], &parent.entry)).await;
                    assert_eq!(queue.settle(&[retried(&parent)]).await, [0]);
                }
            }
            queue.release_all().await;
            match kind {
                EdgeKind::Then | EdgeKind::After | EdgeKind::Member => {
                    assert_eq!(outcome(&queue, "c").await, failed("dependency failed: p"), "{kind:?} {end:?}");
                    assert_eq!(queue.fetch("w", 1).await.entries.len(), 0);
                    assert_eq!(queue.links_left().await, Vec::<String>::new(), "{kind:?} {end:?}");
                }
                EdgeKind::Otherwise | EdgeKind::Finally => {
                    assert_eq!(run_child(&queue).await, Vec::<Vec<u8>>::new(), "{kind:?} {end:?}");
                }
                EdgeKind::Collected => assert_eq!(run_child(&queue).await.len(), 1, "{end:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_failure_goes_through_a_chain_and_names_its_root() {
    let queue = Queue::start();
    let ids: Vec<String> = (0..12).map(|n| format!("j{n}")).collect();
    let jobs = ids.iter().map(|id| node(id, 1)).collect();
    let edges = ids.windows(2).map(|two| edge(&two[0], &two[1], EdgeKind::Then, 0)).collect();
    assert_eq!(queue.link(&part(1, jobs, edges)).await, Linked::Done(Vec::new()));
    let first = queue.take("w", 1).await.remove(0);
    assert!(queue.settle(&[returns(&first, b"0")]).await.is_empty());
    let second = queue.take("w", 1).await.remove(0);
    assert_eq!(queue.inputs(&second).await, [b"0"]);
    assert!(queue.settle(&[fails(&second)]).await.is_empty());
    for id in &ids[2..] {
        assert_eq!(outcome(&queue, id).await, failed("dependency failed: j1"));
    }
    assert_eq!(queue.links_left().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_join_runs_once_with_all_outputs_in_order() {
    let queue = Queue::start();
    let members = ["a", "b", "c"];
    let mut jobs: Vec<NewJob> = members.iter().map(|id| node(id, 1)).collect();
    jobs.push(node("join", 1));
    let edges = members.iter().zip(0..).map(|(id, n)| edge(id, "join", EdgeKind::Member, n)).collect();
    queue.link(&part(1, jobs, edges)).await;
    let taken = queue.take("w", 3).await;
    for entry in taken.iter().rev() {
        assert!(queue.settle(&[returns(entry, entry.id.as_bytes())]).await.is_empty());
    }
    let join = queue.take("w", 1).await.remove(0);
    assert_eq!((join.id.as_str(), queue.inputs(&join).await), ("join", vec![b"a".into(), b"b".into(), b"c".into()]));
    // It is returned, and taken over: its inputs stay.
    assert!(queue.settle(&[back(&join)]).await.is_empty());
    let join = queue.take("w", 1).await.remove(0);
    queue.begin("w", &[&join]).await;
    queue.let_lease_end("w").await;
    queue.sign_on("other").await;
    assert_eq!(queue.reclaim("other", 10, false).await.taken, 1);
    let join = queue.take("other", 1).await.remove(0);
    assert_eq!(queue.inputs(&join).await.len(), 3);
    assert!(queue.settle(&[returns(&join, b"all")]).await.is_empty());
    assert_eq!(queue.links_left().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_failed_member_fails_its_join_at_once_and_members_that_nobody_has_are_aborted() {
    let queue = Queue::start();
    let members: Vec<String> = (0..120).map(|n| format!("m{n}")).collect();
    let mut jobs: Vec<NewJob> = members[..99].iter().map(|id| node(id, 1)).collect();
    jobs.push(node("join", 1));
    let edges = members[..99].iter().zip(0..).map(|(id, n)| edge(id, "join", EdgeKind::Member, n)).collect();
    queue.link(&part(1, jobs, edges)).await;
    let taken = queue.take("w", 2).await;
    assert!(queue.settle(&[fails(&taken[0])]).await.is_empty());
    assert_eq!(outcome(&queue, "join").await, failed("dependency failed: m0"));
    queue.release_all().await;
    assert!(queue.result("m50").await.aborted);
    assert!(queue.settle(&[returns(&taken[1], b"late")]).await.is_empty(), "one that a worker has goes on");
    assert_eq!(queue.fetch("w", 10).await.entries.len(), 0);
    assert_eq!(queue.links_left().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_child_of_a_job_that_exists_is_decided_by_its_state_or_its_result() {
    for kind in ALL {
        let queue = Queue::start();
        let child = || part(2, vec![node("c", 2)], vec![edge("p", "c", kind, 0)]);
        assert_eq!(queue.link(&child()).await, Linked::Unknown("p".into()), "nothing is known about it");
        assert_eq!(queue.record("c").await, None);
        // It runs.
        queue.enqueue(&[job("p")]).await;
        assert_eq!(queue.link(&child()).await, Linked::Done(Vec::new()));
        assert_eq!(queue.link(&child()).await, Linked::Done(Vec::new()), "a repeated call");
        let parent = queue.take("w", 1).await.remove(0);
        assert!(queue.settle(&[returns(&parent, b"value")]).await.is_empty());
        let ends_at_once = kind == EdgeKind::Otherwise;
        if ends_at_once {
            assert_eq!(outcome(&queue, "c").await, Outcome::Value(b"value".to_vec()));
        } else {
            run_child(&queue).await;
        }
        // It has ended: another child is decided at once.
        let late = part(3, vec![node("c", 3)], vec![edge("p", "c", kind, 0)]);
        assert_eq!(queue.link(&late).await, Linked::Done(Vec::new()));
        if ends_at_once {
            assert_eq!(outcome(&queue, "c").await, Outcome::Value(b"value".to_vec()));
        } else {
            run_child(&queue).await;
        }
        assert_eq!(queue.links_left().await, Vec::<String>::new());
        // Its result was not stored.
        queue.enqueue(&[job("q")]).await;
        let other = queue.take("w", 1).await.remove(0);
        assert!(queue.settle(&[ends_within(&other, Outcome::Value(b"x".to_vec()), 0)]).await.is_empty());
        let orphan = part(4, vec![node("d", 4)], vec![edge("q", "d", kind, 0)]);
        assert_eq!(queue.link(&orphan).await, Linked::Unstored("q".into()));
    }
}

#[tokio::test]
async fn an_output_is_kept_for_its_children_whatever_its_ttl_and_shared_if_it_is_large() {
    let queue = Queue::start();
    let large = vec![7; 10_000];
    let children = ["c1", "c2", "c3"];
    let mut jobs = vec![node("p", 1)];
    jobs.extend(children.iter().map(|id| node(id, 1)));
    let edges = children.iter().map(|id| edge("p", id, EdgeKind::Then, 0)).collect();
    queue.link(&part(1, jobs, edges)).await;
    let parent = queue.take("w", 1).await.remove(0);
    assert!(queue.settle(&[ends_within(&parent, Outcome::Value(large.clone()), 0)]).await.is_empty());
    let outputs = || async { queue.names().await.into_iter().filter(|name| name.starts_with("output:")).count() };
    for entry in queue.take("w", 3).await {
        assert_eq!(outputs().await, 1, "one copy for all");
        assert_eq!(queue.inputs(&entry).await, [&large[..]]);
        assert!(queue.settle(&[returns(&entry, b"")]).await.is_empty());
        queue.release_all().await;
    }
    assert_eq!(queue.links_left().await, Vec::<String>::new(), "the last reader has removed it");
}

#[tokio::test]
async fn a_fallback_gets_the_inputs_of_the_job_that_it_replaces() {
    for is_first_to_fail in [false, true] {
        let queue = Queue::start();
        let jobs = ["a", "b", "c"].map(|id| node(id, 1)).to_vec();
        let edges = vec![edge("a", "b", EdgeKind::Then, 0), edge("b", "c", EdgeKind::Otherwise, 0)];
        queue.link(&part(1, jobs, edges)).await;
        let first = queue.take("w", 1).await.remove(0);
        if is_first_to_fail {
            assert!(queue.settle(&[fails(&first)]).await.is_empty());
            assert_eq!(outcome(&queue, "b").await, failed("dependency failed: a"));
            assert_eq!(run_child(&queue).await, Vec::<Vec<u8>>::new());
        } else {
            assert!(queue.settle(&[returns(&first, b"out")]).await.is_empty());
            let second = queue.take("w", 1).await.remove(0);
            assert!(queue.settle(&[fails(&second)]).await.is_empty());
            assert_eq!(run_child(&queue).await, [b"out"]);
        }
    }
}

#[tokio::test]
async fn delays_expiry_and_abort_of_a_child() {
    let queue = Queue::start();
    let delayed = NewJob { delay_ms: 3_600_000, ..node("c", 1) };
    queue.link(&part(1, vec![node("p", 1), delayed], vec![edge("p", "c", EdgeKind::After, 0)])).await;
    let parent = queue.take("w", 1).await.remove(0);
    assert!(queue.settle(&[returns(&parent, b"")]).await.is_empty());
    let due: f64 = queue.ask("ZSCORE", (&queue.keys.due, "c")).await;
    let left = due - queue.now_ms().await as f64;
    assert!((3_500_000.0..=3_600_000.0).contains(&left), "the delay counts from now: {left}");
    let _: i64 = queue.ask("ZADD", (&queue.keys.due, 1, "c")).await;
    promote(&queue, 10).await;
    let child = queue.take("w", 1).await.remove(0);
    assert!(!child.header.unwrap().waits());
    assert!(queue.settle(&[returns(&child, b"")]).await.is_empty());
    // Aborting a child ends it and what depends on it, and leaves its parent alone.
    let jobs = ["p", "c", "d"].map(|id| node(id, 5)).to_vec();
    let edges = vec![edge("p", "c", EdgeKind::Then, 0), edge("c", "d", EdgeKind::Then, 0)];
    queue.link(&part(5, jobs, edges)).await;
    let ended = abort::abort(&queue.link, &queue.keys, "c", 5u64.to_be_bytes(), patience()).await;
    assert_eq!(ended.unwrap(), Abort::Aborted);
    queue.release_all().await;
    assert!(queue.result("c").await.aborted);
    assert_eq!(outcome(&queue, "d").await, failed("dependency failed: c"));
    let parent = queue.take("w", 1).await.remove(0);
    assert!(queue.settle(&[returns(&parent, b"")]).await.is_empty());
    assert_eq!(queue.links_left().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_fallback_for_a_job_that_has_failed_is_refused_before_anything_is_written() {
    let queue = Queue::start();
    queue.enqueue(&[job("p")]).await;
    let parent = queue.take("w", 1).await.remove(0);
    assert!(queue.settle(&[fails(&parent)]).await.is_empty());
    let late = part(2, vec![node("c", 2)], vec![edge("p", "c", EdgeKind::Otherwise, 0)]);
    assert_eq!(queue.link(&late).await, Linked::Failed("p".into()));
    assert_eq!(queue.record("c").await, None);
    assert_eq!(queue.links_left().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_shared_output_is_stored_again_when_its_only_reader_ends_in_the_same_call() {
    let queue = Queue::start();
    queue.enqueue(&[job("p"), job("q")]).await;
    let parents = queue.take("w", 2).await;
    assert!(queue.settle(&[returns(&parents[0], &[7; 10_000]), fails(&parents[1])]).await.is_empty());
    let edges = vec![
        edge("p", "c1", EdgeKind::Member, 0),
        edge("q", "c1", EdgeKind::Member, 1),
        edge("p", "c2", EdgeKind::Then, 0),
    ];
    assert_eq!(queue.link(&part(3, vec![node("c1", 3), node("c2", 3)], edges)).await, Linked::Done(Vec::new()));
    assert_eq!(outcome(&queue, "c1").await, failed("dependency failed: q"));
    let child = queue.take("w", 1).await.remove(0);
    assert_eq!(queue.inputs(&child).await, [vec![7; 10_000]]);
    assert!(queue.settle(&[returns(&child, b"x")]).await.is_empty());
    assert_eq!(queue.links_left().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_part_that_comes_after_its_join_has_failed_withdraws_its_members() {
    let queue = Queue::start();
    queue.enqueue(&[job("q")]).await;
    let failed_one = queue.take("w", 1).await.remove(0);
    assert!(queue.settle(&[fails(&failed_one)]).await.is_empty());
    let parts = |number, of, jobs, edges| Part { number, of, gate_ms: 60_000, ..part(5, jobs, edges) };
    let jobs = vec![node("m", 5), node("join", 5)];
    assert_eq!(queue.link(&parts(0, 3, jobs, Vec::new())).await, Linked::Done(Vec::new()));
    let first = vec![edge("q", "join", EdgeKind::Member, 0)];
    assert_eq!(queue.link(&parts(1, 3, Vec::new(), first)).await, Linked::Done(Vec::new()));
    assert_eq!(outcome(&queue, "join").await, failed("dependency failed: q"));
    queue.release_all().await;
    let second = vec![edge("m", "join", EdgeKind::Member, 1)];
    assert_eq!(queue.link(&parts(2, 3, Vec::new(), second)).await, Linked::Done(Vec::new()));
    queue.release_all().await;
    assert_eq!(queue.fetch("w", 1).await.entries.len(), 0, "the member was withdrawn");
    assert_eq!(queue.links_left().await, Vec::<String>::new());
}
