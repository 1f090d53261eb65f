//! Bodies that are stored separately: they arrive with their jobs and are deleted with them.
#![allow(clippy::unwrap_used, clippy::expect_used)] // In a test, a surprise is a failure.

mod support;

use ardiq_engine::error::Error;
use ardiq_engine::link::LARGE;
use ardiq_engine::protocol::entry::SEPARATE_BODY;
use ardiq_engine::scripts::ENQUEUE;
use ardiq_engine::scripts::bodies::{self, Body};
use ardiq_engine::scripts::deliver::{Entry, Settlement};
use ardiq_engine::scripts::look::{self, DeadLetter};
use ardiq_engine::scripts::produce::{self, NewJob};
use support::{
    LOW, Queue, RETURNED_LOW, TTL, again, back, dead, done, header_of, job, job_of_call, patience, promote, result_of,
    value_of,
};

const BODY: &[u8] = b"a body that is large";

fn job_with_body(id: &str, call: u64) -> NewJob {
    NewJob { body: BODY.into(), ..job_of_call(id, call) }
}

fn key(queue: &Queue, id: &str, call: u64) -> String {
    queue.keys.body(id, call.to_be_bytes())
}

fn with_body(one: Settlement) -> Settlement {
    Settlement { separate_body: Some(1u64.to_be_bytes()), ..one }
}

async fn bodies(queue: &Queue) -> Vec<String> {
    queue.names().await.into_iter().filter(|name| name.starts_with("body:")).collect()
}

async fn ttl(queue: &Queue, name: &str) -> i64 {
    queue.ask("PTTL", name).await
}

async fn delivered(queue: &Queue) -> Entry {
    queue.enqueue(&[job_with_body("a", 1)]).await;
    queue.take("w", 1).await.remove(0)
}

#[tokio::test]
async fn a_body_is_kept_under_a_key_of_its_own_for_as_long_as_its_job() {
    let queue = Queue::start();
    let entry = delivered(&queue).await;
    assert_eq!((header_of(&entry).flags, &entry.envelope), (SEPARATE_BODY, &job("a").envelope));
    let name = key(&queue, "a", 1);
    assert_eq!(ttl(&queue, &name).await, -1, "it does not expire");
    let read = bodies::bodies(&queue.link, &[name, key(&queue, "a", 2)], patience()).await.unwrap();
    assert_eq!(read, [Body::Read(BODY.to_vec()), Body::Missing]);
    assert!(queue.settle(&[with_body(done(&entry, TTL))]).await.is_empty());
    assert!(bodies(&queue).await.is_empty());
}

#[tokio::test]
async fn it_stays_while_the_job_is_returned_retried_delayed_and_taken_over() {
    let queue = Queue::start();
    let entry = delivered(&queue).await;
    assert!(queue.settle(&[with_body(back(&entry))]).await.is_empty());
    let entry = queue.fetch("w", 1).await.entries.remove(0);
    assert!(queue.settle(&[with_body(again(&entry, 60_000))]).await.is_empty());
    let _: i64 = queue.ask("ZADD", (&queue.keys.due, 1, "a")).await;
    assert_eq!(promote(&queue, 10).await.moved, 1);
    let entry = queue.fetch("w", 1).await.entries.remove(0);
    assert_eq!((header_of(&entry).tries, header_of(&entry).flags & SEPARATE_BODY), (1, SEPARATE_BODY));
    queue.let_lease_end("w").await;
    queue.sign_on("other").await;
    assert_eq!(queue.reclaim("other", 10, false).await.taken, 1);
    let entry = queue.fetch("other", 1).await.entries.remove(0);
    assert_eq!((entry.stream, header_of(&entry).flags & SEPARATE_BODY), (RETURNED_LOW, SEPARATE_BODY));
    assert_eq!(bodies(&queue).await.len(), 1);
    assert!(queue.settle(&[with_body(done(&entry, 0))]).await.is_empty());
    assert!(bodies(&queue).await.is_empty());
}

#[tokio::test]
async fn a_dead_letter_takes_it_along() {
    let queue = Queue::start();
    let entry = delivered(&queue).await;
    assert!(queue.settle(&[with_body(dead(&entry, TTL))]).await.is_empty());
    assert!(bodies(&queue).await.is_empty());
    let letters = look::dead(&queue.link, &queue.keys, 5, patience()).await.unwrap();
    let (record, value) = (result_of(&entry), value_of(&entry));
    assert_eq!(letters, [DeadLetter { id: "a".into(), record, value, body: Body::Read(BODY.to_vec()) }]);
}

#[tokio::test]
async fn a_large_body_of_a_dead_letter_is_read_on_its_own() {
    let queue = Queue::start();
    for (number, bytes) in [LARGE, LARGE + 1, 3_000_000].into_iter().enumerate() {
        let body = vec![0; bytes].into();
        queue.enqueue(&[NewJob { body, ..job_of_call(&number.to_string(), 1) }]).await;
        let entry = queue.take("w", 1).await.remove(0);
        assert!(queue.settle(&[with_body(dead(&entry, TTL))]).await.is_empty());
    }
    let lengths = async || {
        let letters = look::dead(&queue.link, &queue.keys, 5, patience()).await.unwrap();
        letters.into_iter().map(|letter| if let Body::Read(body) = letter.body { body.len() } else { 0 }).collect()
    };
    let all: Vec<usize> = lengths().await;
    assert_eq!(all, [3_000_000, LARGE + 1, LARGE]);
    let _: String = queue.ask("CONFIG", ("SET", "client-output-buffer-limit", "normal 1mb 1mb 0")).await;
    let all: Vec<usize> = lengths().await;
    assert_eq!(all, [0, LARGE + 1, LARGE], "one that cannot be read does not hide the others");
}

#[tokio::test]
async fn it_is_deleted_with_a_job_whose_entry_was_deleted_by_hand() {
    let queue = Queue::start();
    let entry = delivered(&queue).await;
    let _: i64 = queue.ask("XDEL", (&queue.keys.streams[LOW], &entry.entry)).await;
    assert_eq!(queue.settle(&[with_body(again(&entry, 5))]).await, [0]);
    assert!(bodies(&queue).await.is_empty());
}

#[tokio::test]
async fn a_stale_worker_cannot_take_it_away() {
    let queue = Queue::start();
    let entry = delivered(&queue).await;
    queue.let_lease_end("w").await;
    queue.sign_on("other").await;
    queue.reclaim("other", 10, false).await;
    assert_eq!(queue.settle(&[with_body(done(&entry, TTL))]).await, [0]);
    assert_eq!(bodies(&queue).await.len(), 1);
}

#[tokio::test]
async fn a_call_that_is_tried_again_keeps_the_body_of_its_unfinished_job_and_leaves_none_of_a_finished_one() {
    let queue = Queue::start();
    let delayed = NewJob { delay_ms: 60_000, ..job_with_body("delayed", 1) };
    for _ in 0..2 {
        assert!(queue.enqueue(&[job_with_body("a", 1), delayed.clone()]).await.is_empty());
    }
    assert_eq!(queue.length(LOW).await, 1);
    for id in ["a", "delayed"] {
        assert_eq!(ttl(&queue, &key(&queue, id, 1)).await, -1, "{id}");
    }
    let entry = queue.take("w", 1).await.remove(0);
    queue.settle(&[with_body(done(&entry, TTL))]).await;
    queue.enqueue(&[job_with_body("a", 1)]).await;
    assert_eq!(bodies(&queue).await, ["body:delayed:0000000000000001"]);
}

#[tokio::test]
async fn the_body_of_an_enqueue_that_makes_no_job_is_dropped_and_the_holders_stays() {
    let queue = Queue::start();
    let unique = |call| NewJob { unique: Some("u".into()), ..job_with_body("holder", call) };
    queue.enqueue(&[unique(1), job_with_body("taken", 1)]).await;
    let other = NewJob { id: "other".into(), ..unique(2) };
    assert_eq!(queue.enqueue(&[other]).await, [(0, "holder".into())]);
    queue.enqueue(&[job_with_body("taken", 3)]).await;
    assert_eq!(bodies(&queue).await, ["body:holder:0000000000000001", "body:taken:0000000000000001"]);
}

#[tokio::test]
async fn without_its_body_a_job_is_not_accepted() {
    let queue = Queue::start();
    queue.enqueue(&[job("first")]).await;
    let before = queue.snapshot().await;
    let (keys, lane) = (&queue.keys, &queue.keys.streams[LOW]);
    let mut cmd = redis::cmd("EVALSHA");
    cmd.arg(ENQUEUE.sha()).arg(3).arg(&keys.due).arg(&keys.known_lanes).arg(lane);
    cmd.arg(&keys.base).arg(&keys.job).arg(&keys.unique).arg(&keys.wake).arg("lane:").arg("12345678");
    cmd.arg("0 0 0 - nowhere").arg(1).arg("a").arg("\x01".to_owned() + "12345678rest");
    // Not through the link, because it would retry.
    let client = redis::Client::open(queue.server.url()).unwrap();
    let mut conn = client.get_multiplexed_async_connection().await.unwrap();
    let refused = cmd.query_async::<redis::Value>(&mut conn).await.unwrap_err();
    assert_eq!(refused.code(), Some("GONE"), "{refused}");
    assert_eq!(queue.snapshot().await, before);
}

#[tokio::test]
async fn a_body_whose_job_never_comes_runs_out_by_itself() {
    let queue = Queue::start();
    let name = key(&queue, "a", 1);
    let _: String = queue.ask("SET", (&name, BODY, "NX", "PX", 60_000)).await;
    queue.enqueue(&[job("a")]).await;
    assert!(ttl(&queue, &name).await > 0, "no job has claimed it");
    // The other way round: when the memory is full, neither is accepted.
    let _: String = queue.ask("CONFIG", ("SET", "maxmemory", 1)).await;
    let call = support::call_of(&[job_with_body("b", 1)]);
    let refused = produce::enqueue(&queue.link, &queue.keys, &call, patience()).await;
    assert!(matches!(refused, Err(Error::Refused(_))));
    let _: String = queue.ask("CONFIG", ("SET", "maxmemory", 0)).await;
    assert_eq!(bodies(&queue).await, ["body:a:0000000000000001"]);
}
