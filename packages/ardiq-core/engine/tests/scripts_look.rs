//! The scripts that read: wait, lookup, depth, inspect and list.
#![allow(clippy::unwrap_used, clippy::expect_used)] // In a test, a surprise is a failure.

mod support;

use ardiq_engine::protocol::record::Location;
use ardiq_engine::scripts::look::{self, Found, QueueView, Seen};
use ardiq_engine::scripts::produce::NewJob;
use support::{Queue, TTL, back, dead, done, job, patience, result_of, value_of};

async fn wait(queue: &Queue, id: &str, channel: &str, ms: u64) -> Seen {
    look::wait(&queue.link, &queue.keys, id, channel, ms, patience()).await.unwrap()
}

/// The callers that wait for a job, and their deadlines.
async fn waiters(queue: &Queue, id: &str) -> Vec<(String, u64)> {
    let text: Option<String> = queue.ask("HGET", (&queue.keys.waiters, id)).await;
    let lines = text.unwrap_or_default();
    let pair = |line: &str| line.split_once(' ').map(|(channel, till)| (channel.to_owned(), till.parse().unwrap()));
    lines.lines().filter_map(pair).collect()
}

async fn lookup(queue: &Queue, ids: &[&str]) -> Vec<Found> {
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    look::lookup(&queue.link, &queue.keys, &ids, patience()).await.unwrap()
}

async fn depth(queue: &Queue) -> i64 {
    look::depth(&queue.link, &queue.keys, patience()).await.unwrap()
}

async fn ids(queue: &Queue, state: &str, most: usize) -> Vec<String> {
    let found = look::ids(&queue.link, &queue.keys, state.parse().unwrap(), most, patience()).await.unwrap();
    found.into_iter().map(|id| String::from_utf8(id).unwrap()).collect()
}

async fn inspect(queue: &Queue) -> QueueView {
    look::inspect(&queue.link, &queue.keys, patience()).await.unwrap()
}

fn later(id: &str) -> NewJob {
    NewJob { delay_ms: 60_000, ..job(id) }
}

#[tokio::test]
async fn wait_gives_a_result_at_once_and_leaves_no_word_for_it() {
    let queue = Queue::start();
    let entry = queue.deliver("a", "w").await;
    queue.settle(&[done(&entry, TTL)]).await;
    assert_eq!(wait(&queue, "a", "me", 60_000).await, Seen::Result(result_of(&entry)));
    assert_eq!(wait(&queue, "a", "me", 0).await, Seen::Result(result_of(&entry)));
    assert_eq!(waiters(&queue, "a").await, []);
}

#[tokio::test]
async fn wait_leaves_word_for_what_may_come_and_nothing_for_what_will_not() {
    let queue = Queue::start();
    queue.enqueue(&[job("queued"), later("scheduled")]).await;
    let entry = queue.deliver("untold", "w").await;
    assert_eq!(entry.id, "queued");
    let untold = queue.fetch("w", 1).await.entries.remove(0);
    queue.settle(&[done(&untold, 0)]).await;
    for (id, seen) in [("untold", Seen::Finished), ("unknown", Seen::Unknown)] {
        for ms in [0, 60_000] {
            assert_eq!(wait(&queue, id, "me", ms).await, seen, "{id}");
        }
    }
    assert!(!queue.names().await.contains(&"waiters".into()), "no trace is left of those");
    for id in ["queued", "scheduled"] {
        assert_eq!(wait(&queue, id, "me", 0).await, Seen::Unfinished { is_registered: false });
        assert_eq!(waiters(&queue, id).await, [], "only looked");
        assert_eq!(wait(&queue, id, "me", 60_000).await, Seen::Unfinished { is_registered: true });
        assert_eq!(waiters(&queue, id).await.len(), 1, "{id}: it may come yet");
    }
}

#[tokio::test]
async fn the_word_about_one_job_is_bounded() {
    let queue = Queue::start();
    queue.enqueue(&[job("a")]).await;
    for number in 0..70 {
        let is_registered = number < 64;
        assert_eq!(wait(&queue, "a", &format!("p{number}"), 60_000).await, Seen::Unfinished { is_registered });
    }
    assert_eq!(waiters(&queue, "a").await.len(), 64);
    assert_eq!(wait(&queue, "a", "p3", 90_000).await, Seen::Unfinished { is_registered: true }, "it is there already");
}

#[tokio::test]
async fn forget_withdraws_the_word_of_one_process_and_says_what_has_ended() {
    let queue = Queue::start();
    queue.enqueue(&[job("alone"), job("shared"), job("others")]).await;
    for (id, channel) in [("alone", "me"), ("shared", "me"), ("shared", "other"), ("others", "other")] {
        wait(&queue, id, channel, 60_000).await;
    }
    let ended = queue.deliver("ended", "w").await;
    assert_eq!(ended.id, "alone");
    let all = ["alone", "shared", "others", "unknown"].map(str::to_owned);
    let forget = || look::forget(&queue.link, &queue.keys, "me", &all, patience());
    assert_eq!(forget().await.unwrap(), []);
    let left: Vec<String> = queue.ask("HKEYS", &queue.keys.waiters).await;
    assert_eq!(left.len(), 2, "{left:?}");
    for id in ["shared", "others"] {
        let channels: Vec<String> = waiters(&queue, id).await.into_iter().map(|(channel, _)| channel).collect();
        assert_eq!(channels, ["other"], "{id}");
    }
    queue.settle(&[done(&ended, TTL)]).await;
    assert_eq!(forget().await.unwrap(), [0]);
}

#[tokio::test]
async fn word_is_kept_per_channel_until_the_latest_of_its_deadlines() {
    let queue = Queue::start();
    queue.enqueue(&[job("a")]).await;
    let now = queue.now_ms().await;
    wait(&queue, "a", "one", 60_000).await;
    wait(&queue, "a", "two", 90_000).await;
    wait(&queue, "a", "one", 10).await;
    let found = waiters(&queue, "a").await;
    let channels: Vec<&str> = found.iter().map(|(channel, _)| channel.as_str()).collect();
    assert_eq!(channels, ["two", "one"]);
    assert!(found.iter().all(|(_, till)| *till >= now + 60_000), "{found:?} from {now}");
    wait(&queue, "a", "one", 120_000).await;
    let found = waiters(&queue, "a").await;
    let (_, till) = &found[1];
    assert!(*till >= now + 120_000);
}

#[tokio::test]
async fn callers_that_have_gone_are_dropped_when_another_caller_comes() {
    let queue = Queue::start();
    queue.enqueue(&[job("a")]).await;
    let _: i64 = queue.ask("HSET", (&queue.keys.waiters, "a", "gone 5\nhere 99999999999999\n")).await;
    wait(&queue, "a", "me", 60_000).await;
    let found = waiters(&queue, "a").await;
    let channels: Vec<&str> = found.iter().map(|(channel, _)| channel.as_str()).collect();
    assert_eq!(channels, ["here", "me"]);
}

#[tokio::test]
async fn lookup_distinguishes_every_state() {
    let queue = Queue::start();
    queue.enqueue(&[job("running"), job("done"), job("delivered"), job("queued")]).await;
    let now = queue.now_ms().await;
    queue.enqueue(&[NewJob { due_ms: now + 60_000, ..job("scheduled") }]).await;
    let sent = queue.take("w", 3).await;
    queue.begin("w", &[&sent[0]]).await;
    queue.settle(&[done(&sent[1], TTL)]).await;
    let all = ["running", "done", "delivered", "queued", "scheduled", "unknown"];
    let [running, done, delivered, queued, scheduled, unknown] =
        <[Found; 6]>::try_from(lookup(&queue, &all).await).unwrap();
    assert_eq!(running.run, format!("{} w 5 1", sent[0].entry));
    assert_eq!((&running.value, running.due_ms), (&value_of(&sent[0]), None));
    assert_eq!(done.record, Some(result_of(&sent[1])[..9].to_vec()), "the result itself is not read");
    assert!(done.value.is_empty() && done.run.is_empty());
    assert_eq!((&delivered.value, delivered.run.as_str()), (&value_of(&sent[2]), ""));
    assert!(queued.value.ends_with(&job("queued").envelope));
    let record = scheduled.record.unwrap();
    assert!(matches!(Location::of(&record), Some(Location::Due("lane:low", _))));
    assert_eq!((scheduled.due_ms, scheduled.value.len()), (Some(now + 60_000), 0));
    assert!(unknown.record.is_none() && unknown.value.is_empty() && unknown.run.is_empty());
    assert!(lookup(&queue, &[]).await.is_empty());
}

#[tokio::test]
async fn lookup_does_not_take_an_earlier_delivery_s_run_for_the_present_one() {
    let queue = Queue::start();
    let entry = queue.deliver("a", "w").await;
    queue.begin("w", &[&entry]).await;
    queue.settle(&[back(&entry)]).await;
    assert_eq!(lookup(&queue, &["a"]).await[0].run, "");
    let _: i64 = queue.ask("DEL", &queue.keys.streams).await;
    assert!(lookup(&queue, &["a"]).await[0].value.is_empty(), "its entry is gone");
}

#[tokio::test]
async fn depth_counts_what_waits_to_start() {
    let queue = Queue::start();
    assert_eq!(depth(&queue).await, 0);
    queue.enqueue(&[job("a"), NewJob { lane: 1, ..job("b") }, later("c"), job("d")]).await;
    assert_eq!(depth(&queue).await, 4);
    let sent = queue.take("w", 3).await;
    assert_eq!(depth(&queue).await, 4, "delivered and not started");
    queue.begin("w", &[&sent[0], &sent[1]]).await;
    assert_eq!(depth(&queue).await, 2);
    queue.settle(&[back(&sent[2])]).await;
    assert_eq!(depth(&queue).await, 2, "returned work waits too");
    let _: i64 = queue.ask("DEL", &queue.keys.streams).await;
    let _: i64 = queue.ask("DEL", &queue.keys.due).await;
    assert_eq!(depth(&queue).await, 0, "never below nothing");
}

#[tokio::test]
async fn inspect_shows_the_queue_in_numbers() {
    let queue = Queue::start();
    let empty = inspect(&queue).await;
    assert_eq!((empty.scheduled, empty.running, empty.dead, empty.workers.len()), (0, 0, 0, 0));
    assert_eq!(empty.lanes.len(), 0, "a caller that only reads leaves nothing behind");
    queue.enqueue(&[job("a"), job("b"), job("c"), NewJob { lane: 1, ..job("d") }, later("e")]).await;
    let sent = queue.take("w", 3).await;
    queue.begin("w", &[&sent[0]]).await;
    queue.settle(&[dead(&sent[1], TTL), back(&sent[2])]).await;
    let view = inspect(&queue).await;
    assert_eq!((view.scheduled, view.running, view.dead), (1, 1, 1));
    let worker = &view.workers[0];
    assert_eq!((worker.id.as_str(), worker.info.as_slice(), view.workers.len()), ("w", &b"info"[..], 1));
    assert!(worker.lease_ms > view.now_ms);
    let mut lanes: Vec<(&str, i64, i64)> =
        view.lanes.iter().map(|lane| (lane.lane.as_str(), lane.entries, lane.delivered)).collect();
    lanes.sort_unstable();
    assert_eq!(lanes, [("high", 1, 1), ("low", 2, 0)]);
}

#[tokio::test]
async fn inspect_shows_a_worker_that_said_nothing() {
    let queue = Queue::start();
    queue.sign_on("w").await;
    let _: i64 = queue.ask("DEL", &queue.keys.worker_info).await;
    assert!(inspect(&queue).await.workers[0].info.is_empty());
}

#[tokio::test]
async fn list_gives_some_jobs_in_each_state() {
    let queue = Queue::start();
    for state in ["queued", "scheduled", "running"] {
        assert!(ids(&queue, state, 10).await.is_empty(), "{state}");
    }
    queue.enqueue(&[job("a"), job("b"), job("c"), job("d"), later("e"), later("f")]).await;
    let sent = queue.take("w", 2).await;
    queue.begin("w", &[&sent[0], &sent[1]]).await;
    assert_eq!(ids(&queue, "queued", 10).await, ["c", "d"], "running ones stand in the lane too");
    assert_eq!(ids(&queue, "queued", 1).await, ["c"]);
    assert_eq!(ids(&queue, "scheduled", 10).await, ["e", "f"]);
    assert_eq!(ids(&queue, "scheduled", 1).await, ["e"]);
    let mut running = ids(&queue, "running", 10).await;
    running.sort();
    assert_eq!((running, ids(&queue, "running", 1).await.len()), (vec!["a".to_owned(), "b".to_owned()], 1));
}

#[tokio::test]
async fn list_gives_the_newest_dead_letters_first() {
    let queue = Queue::start();
    queue.enqueue(&[job("a"), job("b"), job("c")]).await;
    for entry in queue.take("w", 3).await {
        queue.settle(&[dead(&entry, TTL)]).await;
    }
    let letters = look::dead(&queue.link, &queue.keys, 2, patience()).await.unwrap();
    let order: Vec<&str> = letters.iter().map(|letter| letter.id.as_str()).collect();
    assert_eq!(order, ["c", "b"]);
}

#[tokio::test]
async fn reading_writes_nothing_and_works_on_a_replica() {
    let queue = Queue::start();
    assert_eq!(inspect(&queue).await.lanes.len(), 0);
    assert!(look::result(&queue.link, &queue.keys, "a", patience()).await.unwrap().is_empty());
    assert!(ids(&queue, "queued", 9).await.is_empty() && depth(&queue).await == 0);
    assert_eq!(queue.names().await, [""; 0], "nothing is registered by looking");
    queue.enqueue(&[job("a"), job("b"), later("c")]).await;
    let registered: Vec<String> = queue.ask("SMEMBERS", "ardiq:queues").await;
    assert_eq!(registered, ["q"]);
    let entry = queue.take("w", 1).await.remove(0);
    queue.settle(&[done(&entry, TTL)]).await;
    // It replicates a server that does not exist, and keeps its data.
    let _: String = queue.ask("REPLICAOF", ("127.0.0.1", "1")).await;
    assert_eq!(look::result(&queue.link, &queue.keys, "a", patience()).await.unwrap(), result_of(&entry));
    assert_eq!(
        (ids(&queue, "queued", 9).await, ids(&queue, "scheduled", 9).await),
        (vec!["b".into()], vec!["c".into()])
    );
    assert_eq!((inspect(&queue).await.workers.len(), depth(&queue).await), (1, 2));
    assert!(lookup(&queue, &["b"]).await[0].record.is_some());
}

#[tokio::test]
async fn a_long_list_is_read_in_pages() {
    let queue = Queue::start();
    let jobs: Vec<NewJob> = (0..1_200).map(|number| NewJob { lane: number % 2, ..job(&number.to_string()) }).collect();
    for page in jobs.chunks(200) {
        queue.enqueue(page).await;
    }
    queue.enqueue(&(0..200).map(|number| later(&format!("later {number}"))).collect::<Vec<_>>()).await;
    let sent = queue.take("w", 200).await;
    queue.begin("w", &sent.iter().collect::<Vec<_>>()).await;
    let all = ids(&queue, "queued", 1_000_000).await;
    let distinct: std::collections::BTreeSet<&String> = all.iter().collect();
    assert_eq!((all.len(), distinct.len()), (1_000, 1_000));
    assert_eq!(ids(&queue, "queued", 700).await, all[..700], "a shorter list is the beginning of a longer one");
    let started = ids(&queue, "running", 1_000_000).await;
    assert_eq!((started.len(), ids(&queue, "scheduled", 1_000_000).await.len()), (200, 200));
}
