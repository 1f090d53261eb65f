//! The scripts that enqueue jobs: enqueue and fire.
#![allow(clippy::unwrap_used, clippy::expect_used)] // In a test, a surprise is a failure.

mod support;

use ardiq_engine::protocol::keys::QUEUES;
use ardiq_engine::protocol::record::Location;
use ardiq_engine::scripts::deliver::Settlement;
use ardiq_engine::scripts::look;
use ardiq_engine::scripts::produce::{self, Firing, NewJob};
use support::{
    HIGH, LOW, NO_ARGUMENTS, Queue, RETURNED_LOW, TTL, done, header_of, job, job_of_call, occurrence, patience,
};

fn unique(id: &str, call: u64) -> NewJob {
    NewJob { unique: Some("ab12".into()), ..job_of_call(id, call) }
}

async fn due_at(queue: &Queue, id: &str) -> Option<u64> {
    queue.ask::<Option<f64>>("ZSCORE", (&queue.keys.due, id)).await.map(|at| at as u64)
}

#[tokio::test]
async fn a_job_goes_to_its_lane_and_its_record_says_where() {
    let queue = Queue::start();
    let before = queue.now_ms().await;
    let high = NewJob { lane: 1, ..job("b") };
    assert!(queue.enqueue(&[job("a"), high, job("c")]).await.is_empty());
    assert_eq!((queue.length(LOW).await, queue.length(HIGH).await, queue.length(RETURNED_LOW).await), (2, 1, 0));
    assert_eq!(Location::of(&queue.record("b").await.unwrap()), Some(Location::Stream("lane:high")));
    let entries = queue.take("w", 3).await;
    let order: Vec<&str> = entries.iter().map(|entry| entry.id.as_str()).collect();
    assert_eq!(order, ["b", "a", "c"], "in the order of their enqueue within a lane");
    let header = header_of(&entries[0]);
    assert!(header.enqueued_ms >= before && header.tries == 0 && header.deaths == 0 && !header.is_suspect());
    let record = queue.record("a").await.unwrap();
    assert_eq!(&record[9..9 + entries[1].entry.len()], entries[1].entry.as_bytes(), "the fence of the delivery");
}

#[tokio::test]
async fn lanes_are_known_again_after_the_server_was_emptied() {
    let queue = Queue::start();
    queue.enqueue(&[job("a")]).await;
    let _: String = queue.ask("FLUSHALL", NO_ARGUMENTS).await;
    queue.enqueue(&[job("b")]).await;
    assert_eq!(look::depth(&queue.link, &queue.keys, patience()).await.unwrap(), 1);
    queue.link.introduce(patience()).await.unwrap();
    assert!(queue.ask::<bool>("SISMEMBER", (QUEUES, &queue.keys.queue)).await);
}

#[tokio::test]
async fn the_set_of_queues_is_set_aside_if_it_holds_something_else() {
    let queue = Queue::start();
    let _: String = queue.ask("SET", (QUEUES, "odd")).await;
    queue.enqueue(&[job("a")]).await;
    assert!(queue.ask::<bool>("SISMEMBER", (QUEUES, &queue.keys.queue)).await);
    assert_eq!(queue.ask::<String>("GET", "ardiq:aside:queues").await, "odd");
    assert!(queue.ask::<i64>("PTTL", "ardiq:aside:queues").await > 0);
    let lines = queue.link.logs().take();
    let expected = "the key ardiq:queues had the wrong type, so it was renamed to ardiq:aside:queues";
    assert!(lines.len() == 1 && lines[0].message.starts_with(expected), "{lines:?}");
}

#[tokio::test]
async fn an_id_taken_by_an_unfinished_job_is_left_as_it_is() {
    let queue = Queue::start();
    queue.enqueue(&[job("queued"), NewJob { delay_ms: 60_000, ..job("scheduled") }]).await;
    let before = queue.snapshot().await;
    for other in [job_of_call("queued", 2), job_of_call("scheduled", 2)] {
        assert!(queue.enqueue(std::slice::from_ref(&other)).await.is_empty());
        assert!(queue.enqueue(&[NewJob { delay_ms: 1, ..other }]).await.is_empty());
    }
    assert_eq!(queue.length(LOW).await, 1);
    let after = queue.snapshot().await;
    let lane = &queue.keys.streams[LOW];
    for (key, bytes) in &before {
        assert!(key == lane || after[key] == *bytes, "{key} has changed");
    }
}

#[tokio::test]
async fn an_id_taken_by_a_finished_job_is_free_for_another_enqueue() {
    let queue = Queue::start();
    for (call, ttl) in [(1, TTL), (2, 0), (3, -1), (4, TTL)] {
        queue.enqueue(&[job_of_call("a", call)]).await;
        let entry = queue.take("w", 1).await.remove(0);
        assert!(queue.settle(&[done(&entry, ttl)]).await.is_empty());
    }
    queue.enqueue(&[NewJob { delay_ms: 60_000, ..job_of_call("a", 5) }]).await;
    assert_eq!(queue.kind("a").await, Some('d'));
    let ttl: i64 = queue.ask("PTTL", queue.keys.job("a")).await;
    assert_eq!(ttl, -1, "a new job does not run out with the old one's result");
}

#[tokio::test]
async fn a_call_that_is_tried_again_after_a_lost_reply_makes_one_job() {
    let queue = Queue::start();
    let delayed = NewJob { delay_ms: 60_000, ..job("delayed") };
    for _ in 0..3 {
        assert!(queue.enqueue(&[job("a"), delayed.clone()]).await.is_empty());
    }
    assert_eq!((queue.length(LOW).await, queue.ask::<i64>("ZCARD", &queue.keys.due).await), (1, 1));
    let entry = queue.take("w", 1).await.remove(0);
    queue.enqueue(&[job("a")]).await;
    assert_eq!(queue.length(LOW).await, 1, "delivered meanwhile");
    queue.settle(&[done(&entry, TTL)]).await;
    queue.enqueue(&[job("a")]).await;
    assert_eq!((queue.length(LOW).await, queue.kind("a").await), (0, Some('R')), "finished meanwhile");
}

#[tokio::test]
async fn a_call_that_is_tried_again_finds_its_job_finished_even_when_no_result_is_stored() {
    let queue = Queue::start();
    let entry = queue.deliver("a", "w").await;
    queue.settle(&[done(&entry, 0)]).await;
    queue.enqueue(&[job("a"), NewJob { delay_ms: 9, ..job("a") }]).await;
    assert_eq!((queue.length(LOW).await, queue.kind("a").await), (0, Some('T')));
    assert_eq!(due_at(&queue, "a").await, None);
}

#[tokio::test]
async fn an_id_that_a_call_has_twice_is_one_job_also_when_it_is_tried_again() {
    let queue = Queue::start();
    let twice = [job("a"), job("a"), NewJob { delay_ms: 60_000, ..job("a") }];
    queue.enqueue(&twice).await;
    assert_eq!(queue.length(LOW).await, 1);
    let entry = queue.take("w", 1).await.remove(0);
    queue.settle(&[done(&entry, TTL)]).await;
    queue.enqueue(&twice).await;
    assert_eq!((queue.length(LOW).await, queue.kind("a").await), (0, Some('R')));
}

#[tokio::test]
async fn many_jobs_with_new_ids_are_written_at_one_go_and_once_also_when_the_call_is_tried_again() {
    let queue = Queue::start();
    let jobs: Vec<NewJob> =
        (0..produce::CHUNK).map(|number| NewJob { is_new: true, ..job(&number.to_string()) }).collect();
    queue.enqueue(&jobs).await;
    let sent = queue.take("w", produce::CHUNK).await;
    let ids: Vec<&str> = sent.iter().map(|entry| entry.id.as_str()).collect();
    assert_eq!(ids, jobs.iter().map(|job| job.id.as_str()).collect::<Vec<_>>());
    let (record, last) = (queue.record("249").await.unwrap(), &sent[249]);
    assert_eq!(&record[9..9 + last.entry.len()], last.entry.as_bytes(), "the fence of the delivery");
    queue.settle(&[done(&sent[0], TTL)]).await;
    queue.enqueue(&jobs).await;
    assert_eq!((queue.length(LOW).await, queue.kind("0").await), (249, Some('R')));
}

#[tokio::test]
async fn runs_of_jobs_that_are_alike_keep_their_order_and_their_positions() {
    let queue = Queue::start();
    queue.enqueue(&[unique("holder", 1)]).await;
    let low = |id: &str| job(id);
    let high = |id: &str| NewJob { lane: 1, ..job(id) };
    let later = |id: &str| NewJob { delay_ms: 60_000, ..job(id) };
    let jobs = [low("a"), low("b"), high("c"), high("d"), later("e"), later("f"), unique("g", 1), low("h")];
    assert_eq!(queue.enqueue(&jobs).await, [(6, "holder".to_owned())]);
    let order: Vec<String> = queue.take("w", 6).await.into_iter().map(|entry| entry.id).collect();
    assert_eq!(order, ["c", "d", "holder", "a", "b", "h"]);
    assert!(due_at(&queue, "e").await.is_some() && due_at(&queue, "f").await.is_some());
}

#[tokio::test]
async fn an_unfinished_job_holds_its_identity_and_its_id_is_given_for_others() {
    let queue = Queue::start();
    assert!(queue.enqueue(&[unique("first", 1)]).await.is_empty());
    let batch = [job("plain"), unique("second", 2), NewJob { delay_ms: 5, ..unique("third", 3) }];
    assert_eq!(queue.enqueue(&batch).await, [(1, "first".to_owned()), (2, "first".to_owned())]);
    assert_eq!((queue.record("second").await, queue.record("third").await, queue.length(LOW).await), (None, None, 2));
    assert!(queue.enqueue(&[unique("first", 1)]).await.is_empty(), "the holder itself, tried again");
    assert_eq!(queue.length(LOW).await, 2);
}

#[tokio::test]
async fn a_call_that_is_tried_again_after_its_job_has_ended_is_not_told_of_the_next_holder() {
    let queue = Queue::start();
    assert!(queue.enqueue(&[unique("first", 1)]).await.is_empty());
    let entry = queue.take("w", 1).await.remove(0);
    assert!(queue.settle(&[Settlement { unique: Some("ab12".into()), ..done(&entry, TTL) }]).await.is_empty());
    assert!(queue.enqueue(&[unique("second", 2)]).await.is_empty());
    assert!(queue.enqueue(&[unique("first", 1)]).await.is_empty(), "its own job has run");
    assert_eq!(queue.enqueue(&[unique("first", 3)]).await, [(0, "second".to_owned())], "another call");
    assert_eq!((queue.kind("first").await, queue.length(LOW).await), (Some('R'), 1));
}

#[tokio::test]
async fn a_scheduled_job_holds_its_identity_too() {
    let queue = Queue::start();
    queue.enqueue(&[NewJob { delay_ms: 60_000, ..unique("first", 1) }]).await;
    assert_eq!(queue.enqueue(&[unique("second", 2)]).await, [(0, "first".to_owned())]);
}

#[tokio::test]
async fn an_identity_held_by_nothing_unfinished_is_free() {
    let queue = Queue::start();
    queue.enqueue(&[unique("first", 1)]).await;
    let entry = queue.take("w", 1).await.remove(0);
    // Settled by a worker that did not know the identity: the key remains, and must not block.
    queue.settle(&[done(&entry, TTL)]).await;
    assert!(queue.enqueue(&[unique("second", 2)]).await.is_empty());
    let _: i64 = queue.ask("DEL", queue.keys.job("second")).await;
    assert!(queue.enqueue(&[unique("third", 3)]).await.is_empty());
    assert_eq!(queue.kind("third").await, Some('q'));
}

#[tokio::test]
async fn a_delay_counts_from_now_a_due_time_wins_over_it_and_the_past_means_now() {
    let queue = Queue::start();
    let now = queue.now_ms().await;
    let with = |id: &str, delay_ms: u64, due_ms: u64| NewJob { delay_ms, due_ms, ..job(id) };
    let batch = [
        with("delayed", 60_000, 0),
        with("due", 0, now + 90_000),
        with("both", 60_000, now + 120_000),
        with("past", 0, 1),
        with("past both", 60_000, now.saturating_sub(1)),
    ];
    assert!(queue.enqueue(&batch).await.is_empty());
    let delayed = due_at(&queue, "delayed").await.unwrap();
    assert!((now + 60_000..now + 90_000).contains(&delayed), "{delayed} for {now}");
    assert_eq!(due_at(&queue, "due").await, Some(now + 90_000));
    assert_eq!(due_at(&queue, "both").await, Some(now + 120_000));
    assert_eq!(
        (queue.kind("past").await, queue.kind("past both").await, queue.length(LOW).await),
        (Some('q'), Some('q'), 2)
    );
    let record = queue.record("due").await.unwrap();
    let Some(Location::Due("lane:low", value)) = Location::of(&record) else { panic!("{record:?}") };
    assert!(value.ends_with(&job("due").envelope));
}

#[tokio::test]
async fn workers_are_told_of_a_due_time_only_when_it_is_the_earliest() {
    let queue = Queue::start();
    queue.listen(&queue.keys.wake).await;
    let now = queue.now_ms().await;
    let at = |id: &str, ms: u64| NewJob { due_ms: now + ms, ..job(id) };
    queue.enqueue(&[at("a", 90_000), at("b", 80_000)]).await;
    queue.enqueue(&[at("c", 85_000), at("a", 1_000)]).await;
    queue.enqueue(&[job("now")]).await;
    queue.enqueue(&[at("d", 70_000)]).await;
    let told: Vec<String> =
        queue.pushes().await.into_iter().map(|(_, message)| String::from_utf8(message).unwrap()).collect();
    assert_eq!(told, [(now + 80_000).to_string(), (now + 70_000).to_string()]);
}

#[tokio::test]
async fn a_whole_chunk_goes_in_by_one_call() {
    let queue = Queue::start();
    let jobs: Vec<NewJob> = (0..produce::CHUNK).map(|number| job(&number.to_string())).collect();
    assert!(queue.enqueue(&jobs).await.is_empty());
    assert_eq!(queue.length(LOW).await, produce::CHUNK as u64);
}

#[tokio::test]
async fn an_occurrence_is_fired_once_and_a_later_one_again() {
    let queue = Queue::start();
    let fire = async |schedule: &str, at: u64| {
        let job = NewJob { lane: 1, ..job(&format!("cron:{schedule}:{at}")) };
        produce::fire(&queue.link, &queue.keys, occurrence(schedule, at), &job, patience()).await.unwrap().how
            == Firing::Fired
    };
    assert!(fire("tick", 2_000).await);
    assert!(!fire("tick", 2_000).await, "this occurrence was fired before");
    assert!(!fire("tick", 1_000).await, "a later one was fired before");
    assert!(fire("tick", 3_000).await);
    assert!(fire("tock", 2_000).await, "schedules do not know each other");
    assert_eq!(queue.length(HIGH).await, 3);
    let entry = queue.take("w", 3).await.remove(0);
    assert_eq!((entry.id.as_str(), queue.kind(&entry.id).await), ("cron:tick:2000", Some('q')));
    assert!(queue.settle(&[done(&entry, TTL)]).await.is_empty());
    assert!(!fire("tick", 2_000).await, "nor when its run is over");
}

#[tokio::test]
async fn an_occurrence_is_passed_over_while_an_unfinished_job_holds_its_identity() {
    let queue = Queue::start();
    let fire = async |at: u64| {
        let job = unique(&format!("cron:tick:{at}"), at);
        produce::fire(&queue.link, &queue.keys, occurrence("tick", at), &job, patience()).await.unwrap().how
            == Firing::Fired
    };
    assert!(fire(1_000).await);
    assert!(!fire(2_000).await);
    assert_eq!((queue.length(LOW).await, queue.record("cron:tick:2000").await), (1, None));
    assert_eq!(queue.enqueue(&[unique("other", 1)]).await, [(0, "cron:tick:1000".to_owned())]);
    let entry = queue.take("w", 1).await.remove(0);
    queue.settle(&[done(&entry, TTL)]).await;
    assert!(!fire(2_000).await, "it is over and not made up for");
    assert!(fire(3_000).await);
}
