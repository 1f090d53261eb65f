//! Results that expire early, repeated enqueues after the end of the job, and large results for
//! waiting callers.
#![allow(clippy::unwrap_used, clippy::expect_used)] // In a test, a surprise is a failure.

mod support;

use std::time::{Duration, Instant};

use ardiq_engine::scripts::deliver::{Settlement, Verdict};
use ardiq_engine::scripts::look::{self, Seen};
use ardiq_engine::scripts::produce::{self, Firing, NewJob, Occurrence};
use support::{LIMIT, LOW, Queue, TTL, done, job, job_of_call, occurrence, patience, result_of, settlement};

async fn seen(queue: &Queue, id: &str) -> Seen {
    look::wait(&queue.link, &queue.keys, id, "me", 0, patience()).await.unwrap()
}

async fn ttl(queue: &Queue, key: String) -> i64 {
    queue.ask("PTTL", key).await
}

async fn until_gone(queue: &Queue, id: &str) {
    let end = Instant::now() + LIMIT;
    while seen(queue, id).await != Seen::Finished {
        assert!(Instant::now() < end, "{:?}", seen(queue, id).await);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn an_enqueue_that_is_repeated_after_a_short_result_has_ended_makes_no_second_job() {
    let queue = Queue::start();
    for (id, is_new) in [("own", false), ("made", true)] {
        let call = [NewJob { is_new, ..job(id) }];
        queue.enqueue(&call).await;
        let entry = queue.take("w", 1).await.remove(0);
        queue.settle(&[done(&entry, 100)]).await;
        assert_eq!(seen(&queue, id).await, Seen::Result(result_of(&entry)));
        until_gone(&queue, id).await;
        queue.enqueue(&call).await;
        assert_eq!(queue.length(LOW).await, 0, "{id} would run again");
        queue.enqueue(&[job_of_call(id, 2)]).await;
        assert_eq!(queue.length(LOW).await, 1, "another call is another run");
        let entry = queue.take("w", 1).await.remove(0);
        queue.settle(&[done(&entry, TTL)]).await;
    }
}

#[tokio::test]
async fn a_short_result_is_as_good_as_any_while_it_is_there_and_ends_with_its_run() {
    let queue = Queue::start();
    let entry = queue.deliver("a", "w").await;
    queue.settle(&[done(&entry, 20_000)]).await;
    let look_up = async || look::lookup(&queue.link, &queue.keys, &["a"], patience()).await.unwrap().remove(0);
    assert_eq!(look_up().await.record.unwrap()[0], b'R');
    queue.enqueue(&[job_of_call("a", 2)]).await;
    assert_eq!(seen(&queue, "a").await, Seen::Unfinished { is_registered: false });
    let entry = queue.take("w", 1).await.remove(0);
    queue.settle(&[done(&entry, 0)]).await;
    assert_eq!(seen(&queue, "a").await, Seen::Finished, "not the result of the run before");
    assert_eq!(look_up().await.record.unwrap()[0], b'T');
}

#[tokio::test]
async fn the_end_of_a_job_is_known_for_as_long_as_a_patient_producer_may_repeat_its_enqueue() {
    let queue = Queue::start();
    for (ttl_ms, kept_apart) in [(0, false), (40_000, true), (TTL, false)] {
        let id = format!("after-{ttl_ms}");
        let entry = queue.deliver(&id, "w").await;
        queue.settle(&[Settlement { guard_ms: 70_000, ..done(&entry, ttl_ms) }]).await;
        assert!(ttl(&queue, queue.keys.job(&id)).await > 60_000, "{id}");
        assert_eq!(ttl(&queue, queue.keys.result(&id)).await > 0, kept_apart, "{id}");
        assert_eq!(seen(&queue, &id).await == Seen::Finished, ttl_ms == 0, "{id}");
    }
}

#[tokio::test]
async fn of_a_large_result_callers_hear_that_it_is_there_and_it_stays_for_them() {
    let queue = Queue::start();
    queue.enqueue(&[job("kept"), job("short"), job("not kept"), job("unheard")]).await;
    queue.listen("me").await;
    let sent = queue.take("w", 4).await;
    for entry in &sent[..3] {
        look::wait(&queue.link, &queue.keys, &entry.id, "me", 60_000, patience()).await.unwrap();
    }
    let large = |position: usize| [&result_of(&sent[position])[..], &[b'x'; 70_000]].concat();
    let ttls = [TTL, 500, 0, 0];
    let batch: Vec<Settlement> =
        (0..4).map(|position| settlement(&sent[position], Verdict::Done(large(position), ttls[position]))).collect();
    queue.settle(&batch).await;
    let told: Vec<Vec<u8>> = queue.pushes().await.into_iter().map(|(_, message)| message).collect();
    assert_eq!(told, [&b"\x00\x04kept"[..], b"\x00\x05short", b"\x00\x08not kept"]);
    for (position, id) in ["kept", "short", "not kept"].into_iter().enumerate() {
        assert_eq!(seen(&queue, id).await, Seen::Result(large(position)), "{id}");
        assert!(ttl(&queue, queue.keys.job(id)).await > 10_000, "{id}: there is time to read it");
    }
    assert_eq!(seen(&queue, "unheard").await, Seen::Finished);
}

#[tokio::test]
async fn a_schedule_goes_on_after_the_clock_was_set_back() {
    let queue = Queue::start();
    let now = queue.now_ms().await;
    let fire = async |at: u64| {
        let job = job(&format!("cron:tick:{at}"));
        produce::fire(&queue.link, &queue.keys, occurrence("tick", at), &job, patience()).await.unwrap().how
    };
    let _: i64 = queue.ask("HSET", (&queue.keys.cron, "tick", now + 3_600_000)).await;
    assert_eq!(fire(now - 10).await, Firing::FiredAgain);
    assert_eq!(fire(now - 10).await, Firing::Not, "once, as ever");
    assert_eq!(fire(now - 20).await, Firing::Not);
    assert_eq!(fire(now).await, Firing::Fired);
    // As if it was fired before, and its job is still unfinished.
    let _: i64 = queue.ask("HSET", (&queue.keys.cron, "tick", now + 3_600_000)).await;
    assert_eq!(fire(now).await, Firing::Not, "its job is there");
    assert_eq!(queue.length(LOW).await, 2);
    let _: i64 = queue.ask("HSET", (&queue.keys.cron, "tick", now + 30_000)).await;
    assert_eq!(fire(now + 1).await, Firing::Not, "a small step back is waited for");
    let every_second = Occurrence { gap_ms: 1_000, ..occurrence("tick", now + 1) };
    let often = produce::fire(&queue.link, &queue.keys, every_second, &job("often"), patience()).await.unwrap();
    assert_eq!(often.how, Firing::FiredAgain, "a schedule is not silent for many of its occurrences");
    let _: i64 = queue.ask("HSET", (&queue.keys.cron, "tick", "rubbish")).await;
    assert_eq!(fire(now + 1).await, Firing::Fired);
}

#[tokio::test]
async fn an_occurrence_that_has_not_come_is_not_fired_for_a_worker_whose_clock_is_ahead() {
    let queue = Queue::start();
    let now = queue.now_ms().await;
    let fire = async |at: u64| {
        let job = job(&format!("cron:tick:{at}"));
        produce::fire(&queue.link, &queue.keys, occurrence("tick", at), &job, patience()).await.unwrap()
    };
    let fired = fire(now + 3_600_000).await;
    assert_eq!(fired.how, Firing::Not);
    assert!((now..now + 60_000).contains(&fired.now_ms), "and gets the time");
    assert_eq!(fire(now).await.how, Firing::Fired);
}
