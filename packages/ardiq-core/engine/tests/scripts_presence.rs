//! Unfinished jobs whose entry, due time or record was deleted from outside: their ids and
//! identities are free again, and callers are notified.
#![allow(clippy::unwrap_used, clippy::expect_used)] // In a test, a surprise is a failure.

mod support;

use ardiq_engine::protocol::record::{Outcome, ResultRecord};
use ardiq_engine::scripts::deliver::Start;
use ardiq_engine::scripts::look::{self, Seen};
use ardiq_engine::scripts::produce::NewJob;
use ardiq_engine::scripts::upkeep::{self, Part};
use support::{HIGH, LOW, Queue, RETURNED_LOW, TTL, again, back, done, job, job_of_call, patience, start_of};

/// The name and the value.
type Field = (Vec<u8>, Vec<u8>);

fn unique(id: &str) -> NewJob {
    NewJob { unique: Some("u".into()), ..job_of_call(id, 7) }
}

fn later(id: &str) -> NewJob {
    NewJob { delay_ms: 60_000, ..job(id) }
}

/// A stream that is created again within the same millisecond would repeat entry ids.
async fn delete_lanes(queue: &Queue) {
    let _: i64 = queue.ask("DEL", &queue.keys.streams).await;
    let deleted = queue.now_ms().await;
    while queue.now_ms().await == deleted {}
}

const WAITS: Seen = Seen::Unfinished { is_registered: true };

async fn wait(queue: &Queue, id: &str) -> Seen {
    look::wait(&queue.link, &queue.keys, id, "me", 60_000, patience()).await.unwrap()
}

/// Check one part of the queue completely. Returns the repairs.
async fn scrub(queue: &Queue, part: Part) -> Vec<(String, String)> {
    let (mut cursor, mut repairs) = ("0".to_owned(), Vec::new());
    loop {
        let done = upkeep::scrub(&queue.link, &queue.keys, part, &cursor, patience()).await.unwrap();
        repairs.extend(done.repairs);
        if done.cursor == "0" {
            repairs.sort();
            return repairs;
        }
        cursor = done.cursor;
    }
}

fn repair(kind: &str, what: &str) -> (String, String) {
    (kind.to_owned(), what.to_owned())
}

fn says_lost(record: &[u8], id: &str) -> bool {
    let result = ResultRecord::decode(record).unwrap();
    result.id == id && matches!(result.outcome, Outcome::Failure(text) if text.contains("lost"))
}

#[tokio::test]
async fn an_id_whose_entry_is_gone_can_be_used_again() {
    let queue = Queue::start();
    queue.enqueue(&[job("a"), unique("b")]).await;
    delete_lanes(&queue).await;
    queue.enqueue(&[job_of_call("a", 2)]).await;
    assert_eq!(queue.length(LOW).await, 1);
    assert!(queue.enqueue(&[unique("c")]).await.is_empty(), "the identity of a lost job is free");
    assert_eq!(queue.length(LOW).await, 2);
    assert!(queue.enqueue(&[job_of_call("a", 3)]).await.is_empty());
    assert_eq!(queue.length(LOW).await, 2, "an id in use is not taken twice");
}

#[tokio::test]
async fn a_job_whose_entry_was_deleted_under_its_worker_is_not_lost() {
    let queue = Queue::start();
    let entry = queue.deliver("a", "w").await;
    let _: i64 = queue.ask("XDEL", (&queue.keys.streams[LOW], &entry.entry)).await;
    queue.enqueue(&[job_of_call("a", 2)]).await;
    assert_eq!((queue.length(LOW).await, wait(&queue, "a").await), (0, WAITS), "its worker has it");
    queue.begin("w", &[&entry]).await;
    delete_lanes(&queue).await;
    assert_eq!(wait(&queue, "a").await, WAITS, "its start is known, and its outcome will count");
    assert_eq!(scrub(&queue, Part::Running).await, []);
    assert!(queue.settle(&[done(&entry, TTL)]).await.is_empty());
}

#[tokio::test]
async fn callers_of_a_job_whose_entry_is_gone_are_told() {
    let queue = Queue::start();
    queue.listen("me").await;
    queue.enqueue(&[job("a"), job("b"), job("c")]).await;
    for id in ["a", "b"] {
        assert_eq!(wait(&queue, id).await, WAITS);
    }
    delete_lanes(&queue).await;
    assert_eq!(wait(&queue, "a").await, WAITS, "one that has just come is taken to be there");
    let _: String = queue.ask("SET", (queue.keys.job("a"), "q123456781-1 lane:low")).await;
    let Seen::Result(lost) = wait(&queue, "a").await else { panic!("a caller that looks gets the result") };
    assert!(says_lost(&lost, "a"));
    assert_eq!(scrub(&queue, Part::Waiters).await, [repair("lost", "b")], "and so do waiting callers");
    let pushed = queue.pushes().await;
    assert_eq!(pushed.len(), 2, "{pushed:?}");
    assert!(pushed.iter().zip(["a", "b"]).all(|((_, message), id)| says_lost(&message[3..], id)));
    assert_eq!(scrub(&queue, Part::Records).await, [repair("lost", "c")]);
    assert_eq!(queue.names().await, ["ardiq:queues", "job:a", "job:b", "job:c", "lanes"]);
}

#[tokio::test]
async fn a_scheduled_job_that_is_missing_from_the_due_set_is_due_now() {
    let queue = Queue::start();
    queue.enqueue(&[later("a"), later("b"), NewJob { unique: Some("u".into()), ..later("c") }]).await;
    let _: i64 = queue.ask("DEL", &queue.keys.due).await;
    assert_eq!(wait(&queue, "a").await, WAITS);
    queue.enqueue(&[job_of_call("b", 2)]).await;
    assert_eq!(queue.ask::<i64>("ZCARD", &queue.keys.due).await, 2);
    assert_eq!(scrub(&queue, Part::Records).await, [repair("due", "c")]);
    let _: i64 = queue.ask("ZADD", (&queue.keys.due, 9_999_999_999_999_u64, "missing")).await;
    assert_eq!(scrub(&queue, Part::Due).await, [repair("undue", "missing")]);
    assert_eq!(support::promote(&queue, 10).await.moved, 3);
}

#[tokio::test]
async fn a_recorded_start_goes_with_the_delivery() {
    let queue = Queue::start();
    queue.enqueue(&[job("retried"), job("back"), job("gone"), job("zombie's")]).await;
    let sent = queue.take("w", 4).await;
    queue.begin("w", &sent.iter().collect::<Vec<_>>()).await;
    let _: i64 = queue.ask("XDEL", (&queue.keys.streams[LOW], &sent[2].entry)).await;
    let mut batch = [again(&sent[0], 60_000), back(&sent[1]), again(&sent[2], 0)];
    batch.iter_mut().for_each(|one| one.recorded = true);
    assert_eq!(queue.settle(&batch).await, [2], "there was nothing left to run");
    assert!(says_lost(&queue.record("gone").await.unwrap(), "gone"));
    assert_eq!(queue.ask::<Vec<String>>("HKEYS", &queue.keys.running).await, ["zombie's"]);
    // The record is deleted. There is no job to take over, but the recorded start is removed.
    let _: i64 = queue.ask("DEL", queue.keys.job("zombie's")).await;
    queue.let_lease_end("w").await;
    queue.sign_on("heir").await;
    while !queue.reclaim("heir", 10, false).await.victim.is_empty() {}
    assert_eq!(queue.ask::<i64>("EXISTS", &queue.keys.running).await, 0);
    let _: i64 = queue.ask("HSET", (&queue.keys.running, "missing", "1-1 w 5 1", "retried", "1-1 w 5 1")).await;
    assert_eq!(scrub(&queue, Part::Running).await, [repair("start", "missing"), repair("start", "retried")]);
}

#[tokio::test]
async fn the_fence_tells_streams_apart() {
    let queue = Queue::start();
    let entry = queue.deliver("a", "w").await;
    // The same entry id in another stream, which can happen within one millisecond.
    let record = queue.record("a").await.unwrap();
    let moved = String::from_utf8_lossy(&record).replace("lane:low", "returned:low");
    let fields: Vec<(String, Vec<Field>)> =
        queue.ask("XRANGE", (&queue.keys.streams[LOW], &entry.entry, &entry.entry)).await;
    let (label, envelope) = fields[0].1[0].clone();
    let _: String = queue.ask("XADD", (&queue.keys.streams[RETURNED_LOW], &entry.entry, label, envelope)).await;
    let _: String = queue.ask("SET", (queue.keys.job("a"), moved.as_bytes())).await;
    let _: i64 = queue.ask("XACK", (&queue.keys.streams[LOW], &queue.keys.queue, &entry.entry)).await;
    let start = Start { started_ms: 5, ..start_of(&entry) };
    assert_eq!(start.stream, LOW);
    assert_eq!(queue.begin("w", &[&entry]).await, [0], "its start is not recorded");
    assert_eq!(queue.settle(&[done(&entry, TTL)]).await, [0], "and its outcome is refused");
    assert_eq!(queue.kind("a").await, Some('q'));
}

#[tokio::test]
async fn what_was_acknowledged_without_an_outcome_is_queued_again() {
    let queue = Queue::start();
    queue.enqueue(&[job("a"), job("b"), job("held"), job("new")]).await;
    let sent = queue.take("w", 3).await;
    for entry in &sent[..2] {
        let _: i64 = queue.ask("XACK", (&queue.keys.streams[LOW], &queue.keys.queue, &entry.entry)).await;
    }
    let _: i64 = queue.ask("DEL", queue.keys.job("b")).await;
    assert_eq!(scrub(&queue, Part::Entries).await, [repair("leftover", "b"), repair("stranded", "a")]);
    assert_eq!((queue.length(LOW).await, queue.length(RETURNED_LOW).await), (2, 1));
    assert_eq!(scrub(&queue, Part::Entries).await, [], "the entry that was not delivered yet is left alone");
    let next = queue.fetch("w", 1).await.entries.remove(0);
    assert_eq!(next.id, "a");
    assert!(queue.settle(&[done(&next, TTL)]).await.is_empty());
}

#[tokio::test]
async fn runs_whose_consumer_was_deleted_go_on_for_as_long_as_their_worker_lives() {
    let queue = Queue::start();
    queue.enqueue(&[job("ends"), job("dies"), job("not started")]).await;
    let sent = queue.take("w", 3).await;
    queue.begin("w", &[&sent[0], &sent[1]]).await;
    let _: i64 = queue.ask("XGROUP", ("DELCONSUMER", &queue.keys.streams[LOW], &queue.keys.queue, "w")).await;
    assert_eq!(scrub(&queue, Part::Entries).await, [repair("stranded", "not started")]);
    assert_eq!(scrub(&queue, Part::Running).await, [], "the recorded starts stay");
    let mut ended = done(&sent[0], TTL);
    ended.recorded = true;
    assert!(queue.settle(&[ended]).await.is_empty(), "its outcome counts");
    assert_eq!(queue.kind("ends").await, Some('R'));

    queue.let_lease_end("w").await;
    assert_eq!(scrub(&queue, Part::Entries).await, [], "the worker may still renew its lease");
    queue.sign_on("heir").await;
    while !queue.reclaim("heir", 10, false).await.victim.is_empty() {}
    assert_eq!(scrub(&queue, Part::Entries).await, [repair("stranded", "dies")]);
    assert_eq!(scrub(&queue, Part::Running).await, [repair("start", "dies")]);
    assert_eq!(queue.settle(&[done(&sent[1], TTL)]).await, [0]);
    let mut next: Vec<String> = queue.take("heir", 2).await.into_iter().map(|entry| entry.id).collect();
    next.sort();
    assert_eq!(next, ["dies", "not started"]);
}

#[tokio::test]
async fn identities_bodies_and_waiters_without_a_job_are_removed() {
    let queue = Queue::start();
    let body = NewJob { body: vec![7; 9].into(), ..job("large") };
    queue.enqueue(&[body]).await;
    queue.enqueue(&[unique("holder"), NewJob { lane: 1, ..job("high") }]).await;
    let _: String = queue.ask("SET", (format!("{}gone", queue.keys.unique), "missing")).await;
    let _: String = queue.ask("SET", (queue.keys.body("gone", [1; 8]), "body")).await;
    let _: String = queue.ask("SET", (queue.keys.job("short"), "q")).await;
    let _: i64 = queue.ask("LPUSH", (queue.keys.job("list"), "x")).await;
    let _: i64 = queue.ask("HSET", (&queue.keys.waiters, "late", "one 5\n", "unknown", "one 99999999999999\n")).await;
    let expected = [
        repair("aside", "job:list"),
        repair("aside", "job:short"),
        repair("body", "gone:0101010101010101"),
        repair("identity", "gone"),
    ];
    assert_eq!(scrub(&queue, Part::Records).await, expected);
    assert_eq!(scrub(&queue, Part::Waiters).await, [repair("told", "2")]);
    assert_eq!(queue.ask::<i64>("PTTL", queue.keys.body("large", 1_u64.to_be_bytes())).await, -1);
    assert_eq!((queue.length(LOW).await, queue.length(HIGH).await), (2, 1), "what is in order stays");
    for part in [Part::Records, Part::Waiters, Part::Running, Part::Due, Part::Workers, Part::Entries] {
        assert_eq!(scrub(&queue, part).await, [], "{part:?}");
    }
}

#[tokio::test]
async fn a_worker_whose_lease_was_deleted_gets_time_to_renew_it() {
    let queue = Queue::start();
    queue.deliver("a", "w").await;
    queue.sign_on("w").await;
    let _: i64 = queue.ask("DEL", &queue.keys.workers).await;
    assert_eq!(scrub(&queue, Part::Workers).await, [repair("worker", "w")]);
    let now = queue.now_ms().await as i64;
    assert!((now + 50_000..=now + 60_000).contains(&queue.lease("w").await.unwrap()));
    assert!(queue.renew("w").await);
    assert_eq!(scrub(&queue, Part::Workers).await, []);
}

#[tokio::test]
async fn many_callers_that_have_gone_are_forgotten_page_by_page() {
    let queue = Queue::start();
    let mut fill = redis::cmd("HSET");
    fill.arg(&queue.keys.waiters);
    for number in 0..2_000 {
        fill.arg(format!("job{number}")).arg("one 5\n");
    }
    queue.link.command(&fill, patience()).await.unwrap();
    let told = scrub(&queue, Part::Waiters).await;
    assert!(told.len() > 5, "{} pages", told.len());
    assert!(!queue.names().await.contains(&"waiters".to_owned()));
}
