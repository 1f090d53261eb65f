//! A worker whose work was taken over continues: everything that it does is refused and changes
//! nothing.
#![allow(clippy::unwrap_used, clippy::expect_used)] // In a test, a surprise is a failure.

mod support;

use ardiq_engine::scripts::deliver::{Entry, Settlement};
use support::{LOW, Queue, RETURNED_LOW, TTL, again, back, dead, done, job, poison, result_of};

/// Every outcome of a delivery.
fn everything(entry: &Entry) -> Vec<Settlement> {
    let plain = vec![done(entry, TTL), done(entry, 0), done(entry, -1), dead(entry, TTL), again(entry, 0)];
    let more = vec![again(entry, 60_000), back(entry), poison(entry, TTL)];
    let marked = |one: &Settlement| Settlement { recorded: true, unique: Some("u".into()), ..one.clone() };
    let all: Vec<Settlement> = plain.into_iter().chain(more).collect();
    all.iter().map(marked).chain(all.iter().cloned()).collect()
}

async fn refuses_everything(queue: &Queue, entry: &Entry) {
    let before = queue.snapshot().await;
    for one in everything(entry) {
        assert_eq!(queue.settle(std::slice::from_ref(&one)).await, [0], "{one:?}");
        assert_eq!(queue.snapshot().await, before, "{one:?}");
    }
    assert_eq!(queue.begin("zombie", &[entry]).await, [0]);
    assert_eq!(queue.snapshot().await, before);
}

/// A job that a worker has started, and that another worker has taken over.
async fn taken_over(queue: &Queue) -> Entry {
    let entry = queue.deliver("a", "zombie").await;
    queue.begin("zombie", &[&entry]).await;
    queue.let_lease_end("zombie").await;
    queue.sign_on("heir").await;
    assert_eq!(queue.reclaim("heir", 10, false).await.taken, 1);
    entry
}

#[tokio::test]
async fn nothing_counts_once_the_job_waits_for_another() {
    let queue = Queue::start();
    let stale = taken_over(&queue).await;
    refuses_everything(&queue, &stale).await;
    assert!(!queue.renew("zombie").await, "nor does it get its lease back");
    assert!(!queue.fetch_own("zombie", 5).await.held && !queue.fetch("zombie", 5).await.held);
}

#[tokio::test]
async fn nothing_counts_while_another_runs_the_job() {
    let queue = Queue::start();
    let stale = taken_over(&queue).await;
    let heirs = queue.take("heir", 1).await.remove(0);
    queue.begin("heir", &[&heirs]).await;
    refuses_everything(&queue, &stale).await;
    let over = Settlement { recorded: true, ..done(&heirs, TTL) };
    assert!(queue.settle(&[over]).await.is_empty(), "the rightful owner's outcome stands");
    assert_eq!(queue.record("a").await, Some(result_of(&heirs)));
    refuses_everything(&queue, &stale).await;
}

#[tokio::test]
async fn nothing_counts_when_the_job_is_scheduled_for_another_try() {
    let queue = Queue::start();
    let stale = taken_over(&queue).await;
    let heirs = queue.take("heir", 1).await.remove(0);
    assert!(queue.settle(&[again(&heirs, 60_000)]).await.is_empty());
    refuses_everything(&queue, &stale).await;
}

#[tokio::test]
async fn nothing_counts_twice_for_the_worker_itself_either() {
    let queue = Queue::start();
    let first = queue.deliver("a", "w").await;
    assert!(queue.settle(&[back(&first)]).await.is_empty());
    refuses_everything(&queue, &first).await;
    let second = queue.fetch("w", 1).await.entries.remove(0);
    assert!(queue.settle(&[again(&second, 0)]).await.is_empty());
    refuses_everything(&queue, &second).await;
    let third = queue.fetch("w", 1).await.entries.remove(0);
    assert!(queue.settle(&[done(&third, TTL)]).await.is_empty());
    refuses_everything(&queue, &third).await;
}

#[tokio::test]
async fn in_one_batch_the_refused_are_named_and_the_others_are_committed() {
    let queue = Queue::start();
    queue.enqueue(&[job("ours"), job("theirs"), job("retried"), job("moved")]).await;
    let sent = queue.take("w", 4).await;
    assert!(queue.settle(&[done(&sent[1], TTL), back(&sent[3])]).await.is_empty());
    let moved = queue.fetch("w", 1).await.entries.remove(0);
    assert_eq!(moved.stream, RETURNED_LOW);
    let batch = [
        done(&moved, TTL),
        done(&sent[0], TTL),
        dead(&sent[1], TTL),
        again(&sent[2], 60_000),
        done(&sent[3], TTL),
        done(&sent[0], 5),
    ];
    assert_eq!(queue.settle(&batch).await, [2, 4, 5], "by position over all streams; the same delivery counts once");
    assert_eq!(queue.record("ours").await, Some(result_of(&sent[0])));
    assert_eq!(queue.record("moved").await, Some(result_of(&moved)));
    assert_eq!(queue.kind("retried").await, Some('d'));
    assert_eq!((queue.length(LOW).await, queue.length(RETURNED_LOW).await), (0, 0));
}

#[tokio::test]
async fn what_has_no_bytes_left_cannot_be_tried_again() {
    let queue = Queue::start();
    queue.enqueue(&[job("again"), job("back"), job("done")]).await;
    let sent = queue.take("w", 3).await;
    let _: i64 = queue.ask("DEL", &queue.keys.streams[LOW]).await;
    assert_eq!(queue.settle(&[again(&sent[0], 5), back(&sent[1]), done(&sent[2], TTL)]).await, [0, 1]);
    assert_eq!(queue.kind("done").await, Some('R'), "its result is no less true");
}
