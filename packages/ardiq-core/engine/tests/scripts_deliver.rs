//! The scripts that deliver jobs to a worker: fetch and start.
#![allow(clippy::unwrap_used, clippy::expect_used)] // In a test, a surprise is a failure.

mod support;

use ardiq_engine::scripts::deliver::{self, Cursor, Entry, Source};
use ardiq_engine::scripts::produce::NewJob;
use support::{LOW, Queue, TTL, back, done, job, patience};

fn ids(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.id.as_str()).collect()
}

fn high(id: &str) -> NewJob {
    NewJob { lane: 1, ..job(id) }
}

#[tokio::test]
async fn nothing_is_delivered_without_a_lease() {
    let queue = Queue::start();
    queue.enqueue(&[job("a")]).await;
    let stranger = queue.fetch("stranger", 5).await;
    assert!(!stranger.held && stranger.entries.is_empty() && stranger.unfinished.is_none());
    assert!(stranger.now_ms > 0);
    queue.sign_on("w").await;
    let _: i64 = queue.ask("ZADD", (&queue.keys.workers, -1, "w")).await;
    let taken_for_dead = queue.fetch("w", 5).await;
    assert!(!taken_for_dead.held && taken_for_dead.entries.is_empty());
    assert!(!queue.fetch_own("w", 5).await.held);
    queue.let_lease_end("w").await;
    assert_eq!(queue.fetch("w", 5).await.entries.len(), 1, "late, but not declared dead");
}

#[tokio::test]
async fn the_group_is_made_when_it_is_missing_and_starts_at_the_beginning() {
    let queue = Queue::start();
    queue.enqueue(&[job("a"), job("b")]).await;
    assert_eq!(ids(&queue.take("w", 2).await), ["a", "b"], "accepted before any worker had been there");
    let _: i64 = queue.ask("XGROUP", ("DESTROY", &queue.keys.streams[LOW], &queue.keys.queue)).await;
    queue.enqueue(&[job("c")]).await;
    assert_eq!(ids(&queue.fetch("w", 5).await.entries), ["a", "b", "c"], "unfinished ones come again");
    let _: i64 = queue.ask("DEL", &queue.keys.streams[LOW]).await;
    assert_eq!(queue.fetch("w", 5).await.entries.len(), 0);
    queue.enqueue(&[job("d")]).await;
    assert_eq!(ids(&queue.fetch("w", 5).await.entries), ["d"], "after the stream was deleted");
}

#[tokio::test]
async fn a_stream_s_key_that_holds_something_else_is_set_aside() {
    let queue = Queue::start();
    queue.sign_on("w").await;
    let _: String = queue.ask("SET", (&queue.keys.streams[LOW], "not a stream")).await;
    assert!(queue.fetch("w", 1).await.entries.is_empty());
    assert_eq!(queue.ask::<String>("GET", format!("{}lane:low", queue.keys.aside)).await, "not a stream");
    queue.enqueue(&[job("a")]).await;
    assert_eq!(ids(&queue.fetch("w", 1).await.entries), ["a"]);
}

#[tokio::test]
async fn lanes_are_served_in_order_and_returned_work_before_new_work() {
    let queue = Queue::start();
    queue.enqueue(&[job("low1"), job("low2"), high("high1")]).await;
    let first = queue.take("w", 3).await;
    assert_eq!(ids(&first), ["high1", "low1", "low2"]);
    assert!(queue.settle(&[back(&first[0]), back(&first[2])]).await.is_empty());
    queue.enqueue(&[job("low3"), high("high2")]).await;
    assert_eq!(ids(&queue.fetch("w", 3).await.entries), ["high1", "high2", "low2"]);
    let rest = queue.fetch("w", 9).await;
    assert_eq!((ids(&rest.entries), rest.entries[0].stream), (vec!["low3"], LOW));
}

#[tokio::test]
async fn no_more_is_delivered_than_was_asked_for() {
    let queue = Queue::start();
    queue.enqueue(&[job("a"), job("b"), high("c")]).await;
    assert_eq!(ids(&queue.take("w", 2).await), ["c", "a"]);
    assert_eq!(queue.pending(LOW).await, 1);
}

#[tokio::test]
async fn the_next_due_time_comes_along_unless_the_batch_is_full() {
    let queue = Queue::start();
    queue.enqueue(&[job("a"), job("b")]).await;
    queue.sign_on("w").await;
    assert_eq!(queue.fetch("w", 5).await.due_in_ms, None, "none is scheduled");
    let now = queue.now_ms().await;
    queue.enqueue(&[job("c"), job("d"), NewJob { due_ms: now + 90_000, ..job("later") }]).await;
    assert_eq!(queue.fetch("w", 1).await.due_in_ms, None, "the batch is full");
    let due = queue.fetch("w", 2).await.due_in_ms.unwrap();
    assert!((1..=90_000).contains(&due), "{due}");
    let _: i64 = queue.ask("ZADD", (&queue.keys.due, 1, "later")).await;
    assert_eq!(queue.fetch("w", 2).await.due_in_ms, Some(0), "it is late");
}

#[tokio::test]
async fn the_number_of_unfinished_jobs_comes_only_when_nothing_was_found() {
    let queue = Queue::start();
    queue.sign_on("w").await;
    assert_eq!(queue.fetch("w", 5).await.unfinished, Some(0));
    queue.enqueue(&[job("a"), NewJob { delay_ms: 60_000, ..job("later") }]).await;
    let found = queue.fetch("w", 5).await;
    assert_eq!((found.entries.len(), found.unfinished), (1, None));
    assert_eq!(queue.fetch("w", 5).await.unfinished, Some(2), "delivered and scheduled ones are unfinished");
    assert_eq!(queue.fetch_own("w", 5).await.unfinished, None);
    queue.settle(&[done(&found.entries[0], TTL)]).await;
    assert_eq!(queue.fetch_own("w", 5).await.unfinished, Some(1));
}

#[tokio::test]
async fn what_was_sent_before_can_be_read_again_without_new_work() {
    let queue = Queue::start();
    queue.enqueue(&[job("a"), high("b")]).await;
    let sent = queue.take("w", 2).await;
    queue.enqueue(&[job("new")]).await;
    queue.sign_on("other").await;
    assert_eq!(queue.fetch_own("w", 5).await.entries, sent);
    assert!(queue.fetch_own("other", 5).await.entries.is_empty(), "others have none of it");
    queue.settle(&[done(&sent[0], TTL)]).await;
    assert_eq!(ids(&queue.fetch_own("w", 5).await.entries), ["a"]);
    assert_eq!(ids(&queue.fetch("w", 5).await.entries), ["new"]);
}

#[tokio::test]
async fn what_was_deleted_while_pending_is_acknowledged_and_not_run() {
    let queue = Queue::start();
    queue.enqueue(&[job("a"), job("b")]).await;
    let sent = queue.take("w", 2).await;
    let _: i64 = queue.ask("XDEL", (&queue.keys.streams[LOW], &sent[0].entry)).await;
    assert_eq!(ids(&queue.fetch_own("w", 5).await.entries), ["b"]);
    assert_eq!(queue.pending(LOW).await, 1);
}

#[tokio::test]
async fn a_start_is_recorded_with_its_delivery_and_its_worker() {
    let queue = Queue::start();
    let entry = queue.deliver("a", "w").await;
    assert!(queue.begin("w", &[&entry]).await.is_empty());
    let run: String = queue.ask("HGET", (&queue.keys.running, "a")).await;
    assert_eq!(run, format!("{} w 5 1", entry.entry));
}

#[tokio::test]
async fn the_start_of_what_is_not_ours_any_more_is_refused_and_the_others_are_recorded() {
    let queue = Queue::start();
    queue.enqueue(&[job("settled"), job("moved"), job("ours"), job("unrecorded")]).await;
    let sent = queue.take("w", 4).await;
    queue.settle(&[done(&sent[0], TTL), back(&sent[1])]).await;
    let _: i64 = queue.ask("DEL", queue.keys.job("unrecorded")).await;
    let all: Vec<&Entry> = sent.iter().collect();
    assert_eq!(queue.begin("w", &all).await, [0, 1]);
    let mut running: Vec<String> = queue.ask("HKEYS", &queue.keys.running).await;
    running.sort_unstable();
    assert_eq!(running, ["ours", "unrecorded"], "a job whose record was deleted runs too");
    assert_eq!(queue.begin("w", &all[..2]).await, [0, 1], "none is left to record");
}

#[tokio::test]
async fn any_number_of_runs_can_be_recorded_at_once() {
    const MANY: usize = 5_000;
    let queue = Queue::start();
    for chunk in (0..MANY).map(|number| job(&number.to_string())).collect::<Vec<_>>().chunks(1_000) {
        queue.enqueue(chunk).await;
    }
    let sent = queue.take("w", MANY).await;
    assert!(queue.begin("w", &sent.iter().collect::<Vec<_>>()).await.is_empty());
    assert_eq!(queue.ask::<usize>("HLEN", &queue.keys.running).await, MANY);
}

#[tokio::test]
async fn a_worker_s_own_deliveries_are_read_back_page_by_page() {
    let queue = Queue::start();
    let high = NewJob { lane: 1, ..job("high") };
    queue.enqueue(&[high, job("a"), job("b"), job("c"), job("d")]).await;
    let sent = queue.take("w", 5).await;
    let _: i64 = queue.ask("XDEL", (&queue.keys.streams[LOW], &sent[2].entry)).await;
    let (mut from, mut pages) = (Some(Cursor::default()), Vec::new());
    while let Some(cursor) = from {
        let own = Source::Own(cursor);
        let page = deliver::fetch(&queue.link, &queue.keys, "w", 2, own, patience()).await.unwrap();
        pages.push(ids(&page.entries).join(" "));
        from = page.next;
    }
    assert_eq!(pages, ["high a", "c", "d"], "what was deleted counts for the page, and is not run");
}
