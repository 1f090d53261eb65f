//! A server whose memory is full refuses new work, but existing work can be finished.
#![allow(clippy::unwrap_used, clippy::expect_used)] // In a test, a surprise is a failure.

mod support;

use ardiq_engine::error::Error;
use ardiq_engine::link::Link;
use ardiq_engine::scripts::produce::{self, NewJob};
use ardiq_engine::scripts::{deliver, look};
use ardiq_engine::url;
use std::sync::Arc;
use support::{HIGH, LIMIT, LOW, Queue, TTL, again, back, call_of, dead, done, job, occurrence, patience, promote};

async fn set_memory(queue: &Queue, bytes: &str) {
    let _: String = queue.ask("CONFIG", ("SET", "maxmemory-policy", "noeviction", "maxmemory", bytes)).await;
}

#[tokio::test]
async fn with_full_memory_new_work_is_refused_and_the_rest_of_a_job_s_life_goes_on() {
    let queue = Queue::start();
    queue.enqueue(&[job("done"), job("dead"), job("again"), job("back"), job("left"), job("new")]).await;
    queue.enqueue(&[NewJob { delay_ms: 60_000, lane: 1, ..job("due") }]).await;
    let _: i64 = queue.ask("ZADD", (&queue.keys.due, 1, "due")).await;
    let mut sent = queue.take("w", 4).await;
    set_memory(&queue, "1").await;

    let refused = produce::enqueue(&queue.link, &queue.keys, &call_of(&[job("too much")]), patience()).await;
    assert!(matches!(&refused, Err(Error::Refused(no)) if no.code == "OOM"), "{refused:?}");
    let refused = produce::fire(&queue.link, &queue.keys, occurrence("tick", 1), &job("tick"), patience()).await;
    assert!(matches!(&refused, Err(Error::Refused(_))), "{refused:?}");
    assert_eq!((queue.record("too much").await, queue.record("tick").await), (None, None));

    assert!(queue.renew("w").await);
    assert_eq!(promote(&queue, 10).await.moved, 1);
    assert_eq!(queue.length(HIGH).await, 1);
    sent.extend(queue.fetch("w", 2).await.entries);
    assert_eq!((sent[4].id.as_str(), sent[5].id.as_str()), ("due", "left"));
    assert!(queue.begin("w", &[&sent[5]]).await.is_empty());
    look::wait(&queue.link, &queue.keys, "done", "me", 60_000, patience()).await.unwrap();
    let batch =
        [done(&sent[4], TTL), done(&sent[0], TTL), dead(&sent[1], TTL), again(&sent[2], 60_000), back(&sent[3])];
    assert!(queue.settle(&batch).await.is_empty());
    assert_eq!((queue.kind("done").await, queue.kind("dead").await), (Some('R'), Some('R')));
    assert_eq!((queue.kind("again").await, queue.length(LOW).await), (Some('d'), 2));
    queue.sign_on("heir").await;
    assert_eq!(queue.leave("w").await, 1);
    assert_eq!(queue.reclaim("heir", 10, true).await.taken, 1);
    assert_eq!(look::depth(&queue.link, &queue.keys, patience()).await.unwrap(), 4);

    set_memory(&queue, "0").await;
    assert!(queue.enqueue(&[job("too much")]).await.is_empty());
}

#[tokio::test]
async fn a_connection_can_be_made_while_the_memory_is_full() {
    let queue = Queue::start();
    let entry = queue.deliver("a", "w").await;
    set_memory(&queue, "1").await;
    let address = url::parse(&queue.server.url()).unwrap();
    let fresh = Link::new(address, Arc::clone(&queue.keys), LIMIT, Arc::new(|_, _| {}));
    let refused = deliver::settle(&fresh, &queue.keys, &[done(&entry, TTL)], TTL, patience()).await;
    assert!(refused.is_ok_and(|positions| positions.is_empty()));
    let answer = produce::enqueue(&fresh, &queue.keys, &call_of(&[job("b")]), patience()).await;
    assert!(matches!(&answer, Err(Error::Refused(_))), "{answer:?}");
}
