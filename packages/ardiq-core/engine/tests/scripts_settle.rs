//! The script that commits outcomes. `scripts_zombie.rs` has the outcomes that it refuses.
#![allow(clippy::unwrap_used, clippy::expect_used)] // In a test, a surprise is a failure.

mod support;

use ardiq_engine::protocol::entry::Header;
use ardiq_engine::protocol::record::Location;
use ardiq_engine::scripts::bodies::Body;
use ardiq_engine::scripts::deliver::{BATCH, Entry, Settlement};
use ardiq_engine::scripts::look::{self, DeadLetter};
use ardiq_engine::scripts::produce::NewJob;
use support::{
    HIGH, LOW, Queue, RETURNED_HIGH, RETURNED_LOW, TTL, again, back, dead, done, header_of, job, patience, result_of,
    value_of,
};

async fn ttl(queue: &Queue, id: &str) -> i64 {
    queue.ask("PTTL", queue.keys.job(id)).await
}

#[tokio::test]
async fn a_result_replaces_the_record_and_the_entry_is_gone() {
    let queue = Queue::start();
    let entry = queue.deliver("a", "w").await;
    assert!(queue.settle(&[done(&entry, TTL)]).await.is_empty());
    assert_eq!(queue.record("a").await, Some(result_of(&entry)));
    assert!((1..=TTL).contains(&ttl(&queue, "a").await));
    assert_eq!((queue.length(LOW).await, queue.pending(LOW).await), (0, 0));
}

#[tokio::test]
async fn a_result_lives_as_long_as_its_job_says() {
    let queue = Queue::start();
    queue.enqueue(&[job("short"), job("ever"), job("none")]).await;
    let sent = queue.take("w", 3).await;
    assert!(queue.settle(&[done(&sent[0], 5_000), done(&sent[1], -1), done(&sent[2], 0)]).await.is_empty());
    let kept: i64 = queue.ask("PTTL", queue.keys.result("short")).await;
    assert!((1..=5_000).contains(&kept));
    assert!((1..=30_000).contains(&ttl(&queue, "short").await), "the record outlives it");
    assert_eq!((ttl(&queue, "ever").await, queue.kind("ever").await), (-1, Some('R')));
    assert!((1..=30_000).contains(&ttl(&queue, "none").await), "remembered for as long as a call may be tried again");
    let stone = queue.record("none").await.unwrap();
    assert_eq!(stone, [b"T", &result_of(&sent[2])[1..9]].concat());
    assert_eq!(Location::of(&stone), Some(Location::Finished { stored: false }));
}

#[tokio::test]
async fn a_recorded_start_goes_with_the_outcome() {
    let queue = Queue::start();
    queue.enqueue(&[job("done"), job("dead"), job("again"), job("back"), job("other")]).await;
    let sent = queue.take("w", 5).await;
    queue.begin("w", &sent.iter().collect::<Vec<_>>()).await;
    let batch = [done(&sent[0], TTL), dead(&sent[1], TTL), again(&sent[2], 60_000), back(&sent[3])];
    let batch = batch.map(|one| Settlement { recorded: true, ..one });
    assert!(queue.settle(&batch).await.is_empty());
    let running: Vec<String> = queue.ask("HKEYS", &queue.keys.running).await;
    assert_eq!(running, ["other"]);
}

#[tokio::test]
async fn a_dead_letter_is_a_result_and_keeps_its_bytes() {
    let queue = Queue::start();
    let entry = queue.deliver("a", "w").await;
    assert!(queue.settle(&[dead(&entry, 50_000)]).await.is_empty());
    let letters = look::dead(&queue.link, &queue.keys, 10, patience()).await.unwrap();
    assert_eq!(
        letters,
        [DeadLetter { id: "a".into(), record: result_of(&entry), value: value_of(&entry), body: Body::Missing }]
    );
    assert_eq!(queue.record("a").await, Some(result_of(&entry)));
    assert!((1..=50_000).contains(&ttl(&queue, "a").await));
    assert_eq!((queue.length(LOW).await, queue.pending(LOW).await), (0, 0));
}

#[tokio::test]
async fn a_dead_letter_whose_bytes_are_gone_is_still_one() {
    let queue = Queue::start();
    let entry = queue.deliver("a", "w").await;
    let _: i64 = queue.ask("XDEL", (&queue.keys.streams[LOW], &entry.entry)).await;
    assert!(queue.settle(&[dead(&entry, TTL)]).await.is_empty());
    let letters = look::dead(&queue.link, &queue.keys, 10, patience()).await.unwrap();
    let (record, value) = (result_of(&entry), Vec::new());
    assert_eq!(letters, [DeadLetter { id: "a".into(), record, value, body: Body::Missing }]);
}

#[tokio::test]
async fn a_retry_whose_bytes_are_gone_is_refused_and_frees_its_id() {
    let queue = Queue::start();
    let entry = queue.deliver("a", "w").await;
    let _: i64 = queue.ask("XDEL", (&queue.keys.streams[LOW], &entry.entry)).await;
    assert_eq!(queue.settle(&[again(&entry, 60_000)]).await, [0]);
    assert_eq!(queue.record("a").await.as_deref().and_then(Location::of), Some(Location::Finished { stored: true }));
    assert!(ttl(&queue, "a").await > 0, "its callers can read for a while that it was lost");
}

#[tokio::test]
async fn a_retry_with_a_delay_waits_in_the_due_set() {
    let queue = Queue::start();
    queue.listen(&queue.keys.wake).await;
    let entry = queue.deliver("a", "w").await;
    let now = queue.now_ms().await;
    assert!(queue.settle(&[again(&entry, 60_000)]).await.is_empty());
    let at: f64 = queue.ask("ZSCORE", (&queue.keys.due, "a")).await;
    assert!(at as u64 >= now + 60_000);
    let record = queue.record("a").await.unwrap();
    let Some(Location::Due("lane:low", value)) = Location::of(&record) else { panic!("{record:?}") };
    let (header, envelope) = Header::split(value).unwrap();
    assert_eq!((header.tries, envelope), (1, job("a").envelope.as_slice()));
    assert_eq!((queue.length(LOW).await, queue.pending(LOW).await), (0, 0));
    let told = queue.pushes().await;
    assert_eq!(told, [(queue.keys.wake.clone(), (at as u64).to_string().into_bytes())]);
}

#[tokio::test]
async fn a_retry_without_delay_goes_to_the_end_of_its_lane() {
    let queue = Queue::start();
    queue.enqueue(&[job("a"), job("b")]).await;
    let sent = queue.take("w", 1).await;
    assert!(queue.settle(&[again(&sent[0], 0)]).await.is_empty());
    let next = queue.fetch("w", 5).await.entries;
    let order: Vec<(&str, u32)> = next.iter().map(|entry| (entry.id.as_str(), header_of(entry).tries)).collect();
    assert_eq!(order, [("b", 0), ("a", 1)]);
    assert_eq!(next[1].stream, LOW);
    assert!(queue.settle(&[done(&next[1], TTL)]).await.is_empty(), "the new delivery stands");
}

#[tokio::test]
async fn returned_work_is_delivered_before_new_work_with_its_header() {
    let queue = Queue::start();
    queue.enqueue(&[job("a"), NewJob { lane: 1, ..job("b") }]).await;
    let sent = queue.take("w", 2).await;
    assert!(queue.settle(&[back(&sent[0]), back(&sent[1])]).await.is_empty());
    queue.enqueue(&[job("new")]).await;
    assert_eq!((queue.length(RETURNED_HIGH).await, queue.length(RETURNED_LOW).await), (1, 1));
    let next = queue.fetch("w", 2).await.entries;
    assert_eq!((next[0].id.as_str(), next[1].id.as_str()), ("b", "a"));
    assert_eq!(value_of(&next[1]), value_of(&sent[1]), "no try is spent");
    assert!(queue.settle(&[back(&next[0]), again(&next[1], 0)]).await.is_empty(), "from the returned streams too");
    assert_eq!((queue.length(RETURNED_HIGH).await, queue.length(HIGH).await), (1, 0));
    assert_eq!((queue.length(RETURNED_LOW).await, queue.length(LOW).await), (0, 2), "a retry goes to the lane");
}

#[tokio::test]
async fn the_end_of_a_job_frees_its_identity_and_a_retry_does_not() {
    let queue = Queue::start();
    let held = |id: &str| NewJob { unique: Some(format!("u-{id}")), ..job(id) };
    queue.enqueue(&[held("done"), held("dead"), held("again"), held("back"), held("other")]).await;
    let sent = queue.take("w", 5).await;
    let _: String = queue.ask("SET", (format!("{}u-other", queue.keys.unique), "another")).await;
    let batch =
        [done(&sent[0], TTL), dead(&sent[1], TTL), again(&sent[2], 60_000), back(&sent[3]), done(&sent[4], TTL)];
    let batch = batch.map(|one| Settlement { unique: Some(format!("u-{}", one.id)), ..one });
    assert!(queue.settle(&batch).await.is_empty());
    let left: Vec<String> = queue.names().await.into_iter().filter(|name| name.starts_with("unique:")).collect();
    assert_eq!(left, ["unique:u-again", "unique:u-back", "unique:u-other"]);
}

#[tokio::test]
async fn who_waits_gets_the_result_once_even_if_it_is_not_stored() {
    let queue = Queue::start();
    queue.enqueue(&[job("a"), job("quiet"), job("dead"), job("again")]).await;
    let sent = queue.take("w", 4).await;
    for channel in ["one", "two"] {
        queue.listen(channel).await;
    }
    for (id, channel) in [("a", "one"), ("a", "two"), ("dead", "one"), ("again", "two")] {
        look::wait(&queue.link, &queue.keys, id, channel, 60_000, patience()).await.unwrap();
    }
    let batch = [done(&sent[0], 0), done(&sent[1], TTL), dead(&sent[2], TTL), again(&sent[3], 60_000)];
    assert!(queue.settle(&batch).await.is_empty());
    let message = |id: &str, position: usize| {
        [&(id.len() as u16).to_be_bytes()[..], id.as_bytes(), &result_of(&sent[position])].concat()
    };
    let mut pushed = queue.pushes().await;
    pushed.sort();
    let expected =
        [("one".into(), message("a", 0)), ("one".into(), message("dead", 2)), ("two".into(), message("a", 0))];
    assert_eq!(pushed, expected);
    let waiting: Vec<String> = queue.ask("HKEYS", &queue.keys.waiters).await;
    assert_eq!(waiting, ["again"], "a retrying job is still waited for");
}

#[tokio::test]
async fn the_delivery_of_a_group_that_was_made_anew_settles_once() {
    let queue = Queue::start();
    let entry = queue.deliver("a", "w").await;
    let _: i64 = queue.ask("XGROUP", ("DESTROY", &queue.keys.streams[LOW], &queue.keys.queue)).await;
    let second = queue.take("other", 1).await.remove(0);
    assert_eq!(second.entry, entry.entry, "the same entry at two workers");
    assert!(queue.settle(&[done(&second, TTL)]).await.is_empty());
    let stored = queue.snapshot().await;
    assert_eq!(queue.settle(&[dead(&entry, TTL)]).await, [0]);
    assert_eq!(queue.snapshot().await, stored);
}

#[tokio::test]
async fn an_outcome_is_committed_although_its_group_is_gone() {
    let queue = Queue::start();
    let entry = queue.deliver("a", "w").await;
    let _: i64 = queue.ask("XGROUP", ("DESTROY", &queue.keys.streams[LOW], &queue.keys.queue)).await;
    assert!(queue.settle(&[done(&entry, TTL)]).await.is_empty());
    assert_eq!((queue.kind("a").await, queue.length(LOW).await), (Some('R'), 0));
    assert!(queue.fetch("w", 5).await.entries.is_empty(), "and it is not delivered again");
}

#[tokio::test]
async fn a_full_batch_goes_out_by_one_call() {
    let queue = Queue::start();
    let jobs: Vec<NewJob> = (0..BATCH).map(|number| job(&number.to_string())).collect();
    queue.enqueue(&jobs).await;
    let sent = queue.take("w", BATCH).await;
    let batch: Vec<Settlement> = sent.iter().map(|entry| done(entry, TTL)).collect();
    assert!(queue.settle(&batch).await.is_empty());
    assert_eq!((queue.length(LOW).await, queue.pending(LOW).await), (0, 0));
}

#[tokio::test]
async fn nothing_is_left_behind_when_all_is_done() {
    let queue = Queue::start();
    let held = NewJob { unique: Some("u".into()), delay_ms: 60_000, ..job("held") };
    queue.enqueue(&[job("a"), NewJob { lane: 1, ..job("b") }, job("c"), job("d"), held]).await;
    let _: i64 = queue.ask("ZADD", (&queue.keys.due, 1, "held")).await;
    support::promote(&queue, 10).await;
    let sent = queue.take("w", 5).await;
    queue.begin("w", &sent.iter().collect::<Vec<_>>()).await;
    let over = |one: Settlement| Settlement { recorded: true, unique: Some("u".into()), ..one };
    let batch = [&back(&sent[0]), &again(&sent[1], 0), &back(&sent[2]), &done(&sent[3], 0), &done(&sent[4], 0)];
    assert!(queue.settle(&batch.map(|one| over(one.clone()))).await.is_empty());
    let rest = queue.take("w", 3).await;
    look::wait(&queue.link, &queue.keys, &rest[0].id, "gone", 60_000, patience()).await.unwrap();
    let mut batch: Vec<Settlement> = rest.iter().map(|entry| done(entry, 1)).collect();
    batch.sort_by_key(|one| one.stream);
    assert!(queue.settle(&batch).await.is_empty());
    assert_eq!(queue.leave("w").await, 0);
    let lasts = |name: &String| !name.starts_with("job:") && !name.starts_with("result:");
    let lasting: Vec<String> = queue.names().await.into_iter().filter(lasts).collect();
    assert_eq!(lasting, ["ardiq:queues", "lane:high", "lane:low", "lanes", "returned:high", "returned:low"]);
    for id in ["a", "b", "c", "d", "held"] {
        assert!(ttl(&queue, id).await <= 90_000 && ttl(&queue, id).await != -1, "{id} would stay for ever");
    }
    for stream in [RETURNED_HIGH, HIGH, RETURNED_LOW, LOW] {
        assert_eq!((queue.length(stream).await, queue.pending(stream).await), (0, 0));
        let consumers: Vec<redis::Value> =
            queue.ask("XINFO", ("CONSUMERS", &queue.keys.streams[stream], &queue.keys.queue)).await;
        assert!(consumers.is_empty(), "{consumers:?}");
    }
}

/// Ids of the entries that are in the low lane.
async fn left(queue: &Queue) -> Vec<String> {
    let entries: Vec<(String, Vec<Vec<u8>>)> = queue.ask("XRANGE", (&queue.keys.streams[LOW], "-", "+")).await;
    entries.into_iter().map(|(entry, _)| entry).collect()
}

/// A queue with this many jobs, of which this many are delivered.
async fn delivered(jobs: usize, sent: usize) -> (Queue, Vec<Entry>) {
    let queue = Queue::start();
    let jobs: Vec<NewJob> = (0..jobs).map(|number| job(&number.to_string())).collect();
    queue.enqueue(&jobs).await;
    let sent = queue.take("w", sent).await;
    (queue, sent)
}

fn names(entries: &[Entry]) -> Vec<String> {
    entries.iter().map(|one| one.entry.clone()).collect()
}

#[tokio::test]
async fn what_is_settled_is_deleted_and_nothing_else_whatever_is_still_pending() {
    let ways: [(&str, &[usize], &[usize]); 6] = [
        ("all", &[0, 1, 2, 3, 4, 5], &[]),
        ("the oldest", &[0, 1, 2], &[3, 4, 5]),
        ("the newest", &[3, 4, 5], &[0, 1, 2]),
        ("around one", &[0, 1, 3, 4, 5], &[2]),
        ("one", &[2], &[0, 1, 3, 4, 5]),
        ("every other", &[1, 3, 5], &[0, 2, 4]),
    ];
    for (which, settled, pending) in ways {
        let (queue, sent) = delivered(8, 6).await;
        let fresh = left(&queue).await[6..].to_vec();
        let batch: Vec<Settlement> = settled.iter().map(|&number| done(&sent[number], TTL)).collect();
        assert!(queue.settle(&batch).await.is_empty());
        let kept = pending.iter().map(|&number| sent[number].entry.clone()).chain(fresh);
        assert_eq!(left(&queue).await, kept.collect::<Vec<_>>(), "{which}");
        assert_eq!(queue.pending(LOW).await, pending.len() as i64, "{which}");
    }
}

#[tokio::test]
async fn outcomes_in_any_order_of_batches_leave_exactly_the_rest() {
    let (queue, mut open) = delivered(300, 300).await;
    // Every batch contains jobs from everywhere, as with tasks of different lengths.
    for step in [7, 3, 5, 2, 11, 1] {
        let batch: Vec<Settlement> = open.iter().step_by(step).map(|entry| done(entry, TTL)).collect();
        assert!(queue.settle(&batch).await.is_empty());
        open = open.into_iter().enumerate().filter(|(number, _)| number % step != 0).map(|(_, entry)| entry).collect();
        assert_eq!(left(&queue).await, names(&open));
    }
    assert!(open.is_empty());
}

#[tokio::test]
async fn what_a_group_made_anew_has_not_delivered_stays() {
    let (queue, sent) = delivered(6, 4).await;
    let all = left(&queue).await;
    let _: i64 = queue.ask("XGROUP", ("DESTROY", &queue.keys.streams[LOW], &queue.keys.queue)).await;
    let again = queue.fetch("w", 1).await.entries;
    assert_eq!(names(&again), all[..1], "the new group begins with the oldest");
    // One of these belongs to the new group, and those in between are not delivered.
    assert!(queue.settle(&[done(&sent[0], TTL), done(&sent[3], TTL)]).await.is_empty());
    assert_eq!(left(&queue).await, [&all[1..3], &all[4..]].concat());
}

#[tokio::test]
async fn entries_that_no_worker_holds_any_more_stay_for_the_scrub() {
    for way in ["XGROUP DELCONSUMER", "XACK"] {
        for deleted in [0, 1, 3] {
            let (queue, sent) = delivered(4, 2).await;
            let (stream, group) = (&queue.keys.streams[LOW], &queue.keys.queue);
            // An entry that is deleted before its delivery makes the group's lag unknown, or wrong.
            for _ in 0..deleted {
                let extra: String = queue.ask("XADD", (stream, "*", "label", "value")).await;
                let _: i64 = queue.ask("XDEL", (stream, extra)).await;
            }
            let own = queue.take("other", 2).await;
            let _: i64 = match way {
                "XACK" => queue.ask("XACK", (stream, group, names(&sent))).await,
                _ => queue.ask("XGROUP", ("DELCONSUMER", stream, group, "w")).await,
            };
            queue.enqueue(&[job("late")]).await;
            assert!(queue.settle(&[done(&own[0], TTL), done(&own[1], TTL)]).await.is_empty());
            assert_eq!(left(&queue).await[..2], names(&sent), "{way} {deleted}");
            assert_eq!(left(&queue).await.len(), 3, "{way} {deleted}");
        }
    }
}

#[tokio::test]
async fn settled_entries_go_by_one_trim_also_when_the_lag_is_wrong() {
    let (queue, sent) = delivered(3, 2).await;
    let stream = &queue.keys.streams[LOW];
    let extra: String = queue.ask("XADD", (stream, "*", "label", "value")).await;
    let _: i64 = queue.ask("XDEL", (stream, extra)).await;
    let rest = queue.take("w", 1).await;
    let _: () = queue.ask("CONFIG", "RESETSTAT").await;
    assert!(queue.settle(&[done(&sent[0], TTL), done(&sent[1], TTL)]).await.is_empty());
    queue.enqueue(&[job("late")]).await;
    queue.take("w", 1).await;
    assert!(queue.settle(&[done(&rest[0], TTL)]).await.is_empty());
    let stats: String = queue.ask("INFO", "commandstats").await;
    let calls = |name: &str| stats.split(&format!("cmdstat_{name}:calls=")).nth(1).map(|rest| rest.starts_with("2,"));
    assert_eq!((calls("xtrim"), calls("xdel")), (Some(true), None), "{stats}");
}
