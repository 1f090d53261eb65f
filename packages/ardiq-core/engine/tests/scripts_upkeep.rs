//! The scripts that maintain a queue: promote, renew, reclaim and leave.
#![allow(clippy::unwrap_used, clippy::expect_used)] // In a test, a surprise is a failure.

mod support;

use ardiq_engine::protocol::entry::{Header, SUSPECT};
use ardiq_engine::protocol::keys::Keys;
use ardiq_engine::scripts::deliver::{Entry, Verdict};
use ardiq_engine::scripts::produce::NewJob;
use ardiq_engine::scripts::upkeep::{self, Claim, Search};
use support::{
    HIGH, LOW, Queue, RETURNED_HIGH, RETURNED_LOW, TTL, again, back, done, header_of, job, patience, promote,
    settlement,
};

async fn consumers(queue: &Queue, stream: usize) -> Vec<String> {
    let infos: Vec<std::collections::HashMap<String, redis::Value>> =
        queue.ask("XINFO", ("CONSUMERS", &queue.keys.streams[stream], &queue.keys.queue)).await;
    infos.iter().map(|info| redis::from_redis_value(info["name"].clone()).unwrap()).collect()
}

async fn due(queue: &Queue, ids: &[&str]) {
    let jobs: Vec<NewJob> = ids.iter().map(|id| NewJob { delay_ms: 60_000, ..job(id) }).collect();
    queue.enqueue(&jobs).await;
    for (position, id) in ids.iter().enumerate() {
        let _: i64 = queue.ask("ZADD", (&queue.keys.due, position + 1, id)).await;
    }
}

#[tokio::test]
async fn promote_moves_what_is_due_in_order_and_says_when_the_next_is() {
    let queue = Queue::start();
    let idle = promote(&queue, 10).await;
    assert_eq!((idle.moved, idle.due_in_ms), (0, None));
    assert!(idle.now_ms > 0);
    due(&queue, &["a", "b"]).await;
    queue.enqueue(&[NewJob { delay_ms: 60_000, lane: 1, ..job("later") }]).await;
    let done = promote(&queue, 10).await;
    assert_eq!(done.moved, 2);
    assert!(done.due_in_ms.is_some_and(|ms| (1..=60_000).contains(&ms)));
    let entries = queue.take("w", 2).await;
    assert_eq!((entries[0].id.as_str(), entries[1].id.as_str()), ("a", "b"));
    assert_eq!((queue.kind("a").await, queue.kind("later").await), (Some('q'), Some('d')));
    assert_eq!(entries[0].envelope, job("a").envelope);
    let _: i64 = queue.ask("ZADD", (&queue.keys.due, 1, "later")).await;
    assert_eq!(promote(&queue, 10).await.due_in_ms, None);
    assert_eq!(queue.length(HIGH).await, 1, "each to its own lane");
    assert!(!queue.names().await.contains(&"due".to_owned()));
}

#[tokio::test]
async fn promote_moves_no_more_than_its_limit() {
    let queue = Queue::start();
    due(&queue, &["a", "b", "c"]).await;
    let first = promote(&queue, 2).await;
    assert_eq!((first.moved, first.due_in_ms, queue.length(LOW).await), (2, Some(0), 2));
    let second = promote(&queue, 2).await;
    assert_eq!((second.moved, second.due_in_ms, queue.length(LOW).await), (1, None, 3));
}

#[tokio::test]
async fn promote_drops_what_is_not_scheduled_any_more() {
    let queue = Queue::start();
    due(&queue, &["gone", "queued", "ok"]).await;
    let _: i64 = queue.ask("DEL", queue.keys.job("gone")).await;
    let _: String = queue.ask("SET", (queue.keys.job("queued"), "q123456781-0 lane:low")).await;
    assert_eq!(promote(&queue, 10).await.moved, 3);
    assert_eq!(queue.record("queued").await, Some(b"q123456781-0 lane:low".to_vec()), "left as it was");
    assert_eq!(queue.record("gone").await, None);
    let entries = queue.take("w", 1).await;
    assert_eq!(entries[0].id, "ok");
    assert_eq!((queue.ask::<i64>("ZCARD", &queue.keys.due).await, queue.length(LOW).await), (0, 1));
}

#[tokio::test]
async fn a_lease_is_taken_and_renewed_for_as_long_as_asked() {
    let queue = Queue::start();
    assert!(!queue.renew("w").await, "never signed on");
    assert_eq!(queue.lease("w").await, None);
    let before = queue.now_ms().await as i64;
    let claim = Claim { worker: "w", lease_ms: 5_000, info: b"who", first: true, expected_ms: queue.on_time().await };
    let renewed = upkeep::renew(&queue.link, &queue.keys, claim, patience()).await.unwrap();
    assert!(renewed.held);
    assert_eq!(queue.lease("w").await, Some(renewed.now_ms as i64 + 5_000));
    assert!(renewed.now_ms as i64 >= before);
    assert_eq!(queue.ask::<String>("HGET", (&queue.keys.worker_info, "w")).await, "who");
    assert!(queue.renew("w").await);
    assert!(queue.lease("w").await.unwrap() >= before + 60_000);
    assert_eq!(queue.ask::<String>("HGET", (&queue.keys.worker_info, "w")).await, "info");
    queue.let_lease_end("w").await;
    assert!(queue.renew("w").await, "late, but not declared dead");
}

#[tokio::test]
async fn a_renewal_counts_what_was_delivered_to_this_worker_alone() {
    let queue = Queue::start();
    queue.enqueue(&[job("a"), job("b"), job("c"), job("d")]).await;
    queue.take("other", 1).await;
    queue.take("w", 2).await;
    let renewed = queue.claim("w", false, queue.on_time().await).await;
    assert_eq!((renewed.held, renewed.delivered), (true, 2));
}

#[tokio::test]
async fn a_worker_whose_lease_was_deleted_renews_it_unless_its_work_was_taken_over() {
    let queue = Queue::start();
    queue.deliver("a", "w").await;
    let _: i64 = queue.ask("DEL", &queue.keys.workers).await;
    assert!(queue.renew("w").await);
    assert!(queue.lease("w").await.is_some());
    queue.let_lease_end("w").await;
    queue.sign_on("asker").await;
    assert_eq!(queue.reclaim("asker", 10, false).await.victim, "w");
    assert_eq!(queue.lease("w").await, None);
    assert!(!queue.renew("w").await, "taken over");
    queue.leave("asker").await;
    assert!(!queue.renew("asker").await, "signed off");
}

#[tokio::test]
async fn a_worker_whose_lease_was_deleted_signs_off_with_work_left() {
    let queue = Queue::start();
    queue.deliver("a", "w").await;
    queue.sign_on("w").await;
    let _: i64 = queue.ask("DEL", &queue.keys.workers).await;
    assert_eq!(queue.leave("w").await, 1);
    assert_eq!(queue.lease("w").await, Some(0));
}

#[tokio::test]
async fn a_worker_taken_for_dead_cannot_renew() {
    let queue = Queue::start();
    queue.sign_on("w").await;
    let _: i64 = queue.ask("ZADD", (&queue.keys.workers, -1, "w")).await;
    assert!(!queue.renew("w").await);
    assert_eq!(queue.lease("w").await, Some(-1));
}

#[tokio::test]
async fn reclaim_finds_no_dead_worker_while_all_live() {
    let queue = Queue::start();
    queue.deliver("a", "w").await;
    queue.sign_on("asker").await;
    for sweep in [false, true] {
        let found = queue.reclaim("asker", 10, sweep).await;
        assert_eq!((found.victim.as_str(), found.taken, found.started, found.finished), ("", 0, 0, true));
    }
    assert_eq!(queue.pending(LOW).await, 1);
}

#[tokio::test]
async fn reclaim_spends_a_try_and_a_death_on_what_had_started_and_none_on_the_rest() {
    let queue = Queue::start();
    queue.enqueue(&[job("started"), job("waiting"), NewJob { lane: 1, ..job("high") }]).await;
    let sent = queue.take("dead", 3).await;
    queue.begin("dead", &[&sent[1]]).await;
    queue.let_lease_end("dead").await;
    queue.sign_on("heir").await;
    let done_ = queue.reclaim("heir", 10, false).await;
    assert_eq!((done_.victim.as_str(), done_.taken, done_.started, done_.finished), ("dead", 3, 1, true));
    assert_eq!(done_.named, [b"started"]);
    let found = queue.fetch("heir", 10).await.entries;
    let headers: Vec<(&str, Header)> = found.iter().map(|entry| (entry.id.as_str(), header_of(entry))).collect();
    let enqueued_ms = header_of(&sent[0]).enqueued_ms;
    let untouched = Header { flags: SUSPECT, enqueued_ms, ..Header::default() };
    let started = Header { tries: 1, deaths: 1, ..untouched };
    assert_eq!(headers, [("high", untouched), ("started", started), ("waiting", untouched)]);
    assert_eq!((found[1].stream, &found[1].envelope), (RETURNED_LOW, &sent[1].envelope));
    assert!(!queue.names().await.contains(&"running".to_owned()));
    assert_eq!(queue.lease("dead").await, None);
    assert!(!consumers(&queue, LOW).await.contains(&"dead".to_owned()));
    let infos: Vec<String> = queue.ask("HKEYS", &queue.keys.worker_info).await;
    assert_eq!(infos, ["heir"]);
}

#[tokio::test]
async fn a_dead_worker_is_taken_over_on_lanes_that_the_heir_does_not_serve() {
    let queue = Queue::start();
    queue.enqueue(&[job("low"), NewJob { lane: 1, ..job("high") }]).await;
    queue.take("dead", 2).await;
    queue.let_lease_end("dead").await;
    queue.sign_on("heir").await;
    let of_heir = Keys::new("q", &["low".into()]);
    let first = Search { asker: "heir", limit: 10, sweep: true, expected_ms: queue.on_time().await, seen: &[] };
    let seen = upkeep::reclaim(&queue.link, &of_heir, first, patience()).await.unwrap().expired;
    let second = Search { expected_ms: queue.on_time().await, seen: &seen, ..first };
    let found = upkeep::reclaim(&queue.link, &of_heir, second, patience()).await.unwrap();
    assert_eq!((found.victim.as_str(), found.taken, found.finished), ("dead", 2, true));
    assert_eq!((queue.length(RETURNED_HIGH).await, queue.length(RETURNED_LOW).await), (1, 1));
    assert_eq!((queue.pending(HIGH).await, consumers(&queue, HIGH).await.len()), (0, 0));
}

#[tokio::test]
async fn tries_are_counted_beyond_16_bits() {
    let queue = Queue::start();
    let many = Header { tries: 65_535, ..Header::default() };
    let entry = queue.deliver("a", "w1").await;
    let many = Header { enqueued_ms: header_of(&entry).enqueued_ms, ..many };
    queue.settle(&[settlement(&entry, Verdict::Back(many.encode().to_vec()))]).await;
    let entry = queue.fetch("w1", 1).await.entries.remove(0);
    queue.begin("w1", &[&entry]).await;
    queue.let_lease_end("w1").await;
    queue.sign_on("asker").await;
    assert_eq!(queue.reclaim("asker", 10, false).await.started, 1);
    let more = Header { tries: 65_536, deaths: 1, flags: SUSPECT, ..many };
    assert_eq!(header_of(&queue.take("w2", 1).await[0]), more);
}

#[tokio::test]
async fn a_job_taken_over_again_and_again_counts_every_death_up_to_what_the_header_holds() {
    let queue = Queue::start();
    let full = Header { tries: u32::MAX, deaths: u8::MAX, flags: SUSPECT, ..Header::default() };
    queue.sign_on("asker").await;
    queue.enqueue(&[job("a")]).await;
    for (deaths, worker) in ["w1", "w2"].into_iter().enumerate() {
        let entry = queue.take(worker, 1).await.remove(0);
        assert_eq!(usize::from(header_of(&entry).deaths), deaths);
        queue.begin(worker, &[&entry]).await;
        queue.let_lease_end(worker).await;
        assert_eq!(queue.reclaim("asker", 10, false).await.started, 1);
    }
    let entry = queue.take("w3", 1).await.remove(0);
    queue.settle(&[settlement(&entry, Verdict::Back(full.encode().to_vec()))]).await;
    let entry = queue.fetch("w3", 1).await.entries.remove(0);
    queue.begin("w3", &[&entry]).await;
    queue.let_lease_end("w3").await;
    queue.reclaim("asker", 10, false).await;
    assert_eq!(header_of(&queue.take("w4", 1).await[0]), full, "it does not start from nothing again");
}

#[tokio::test]
async fn a_start_recorded_for_an_earlier_delivery_does_not_count() {
    let queue = Queue::start();
    let first = queue.deliver("a", "w").await;
    queue.begin("w", &[&first]).await;
    // Returned to the queue by a worker that did not know the record.
    queue.settle(&[back(&first)]).await;
    queue.take("w", 1).await;
    queue.let_lease_end("w").await;
    queue.sign_on("asker").await;
    let found = queue.reclaim("asker", 10, false).await;
    assert_eq!((found.taken, found.started), (1, 0));
}

#[tokio::test]
async fn reclaim_goes_on_page_by_page_and_the_dead_one_cannot_renew_meanwhile() {
    let queue = Queue::start();
    let jobs: Vec<NewJob> = (0..5).map(|number| job(&number.to_string())).collect();
    queue.enqueue(&jobs).await;
    queue.take("dead", 5).await;
    queue.let_lease_end("dead").await;
    queue.sign_on("heir").await;
    let pages = [queue.reclaim("heir", 2, false).await, queue.reclaim("heir", 2, false).await];
    for page in &pages {
        assert_eq!((page.victim.as_str(), page.taken, page.finished), ("dead", 2, false));
    }
    assert!(!queue.renew("dead").await);
    let last = queue.reclaim("heir", 2, false).await;
    assert_eq!((last.taken, last.finished, queue.lease("dead").await), (1, true, None));
    assert_eq!((queue.length(RETURNED_LOW).await, queue.length(LOW).await), (5, 0));
    assert!(queue.reclaim("heir", 2, false).await.victim.is_empty());
}

#[tokio::test]
async fn reclaim_leaves_alone_what_the_dead_one_had_settled_or_what_was_deleted() {
    let queue = Queue::start();
    queue.enqueue(&[job("moved"), job("deleted"), job("unknown")]).await;
    let sent = queue.take("dead", 3).await;
    queue.settle(&[again(&sent[0], 0)]).await;
    let _: i64 = queue.ask("XDEL", (&queue.keys.streams[LOW], &sent[1].entry)).await;
    let _: i64 = queue.ask("DEL", queue.keys.job("unknown")).await;
    queue.let_lease_end("dead").await;
    queue.sign_on("heir").await;
    let found = queue.reclaim("heir", 10, false).await;
    assert_eq!((found.taken, found.finished), (1, true), "the entry without a record is the job");
    assert_eq!((queue.length(LOW).await, queue.length(RETURNED_LOW).await, queue.pending(LOW).await), (1, 1, 0));
}

#[tokio::test]
async fn an_empty_dead_worker_is_removed() {
    let queue = Queue::start();
    let entry = queue.deliver("a", "dead").await;
    queue.settle(&[done(&entry, TTL)]).await;
    queue.let_lease_end("dead").await;
    queue.sign_on("asker").await;
    let found = queue.reclaim("asker", 10, false).await;
    assert_eq!((found.victim.as_str(), found.taken, found.finished), ("dead", 0, true));
    assert_eq!((queue.lease("dead").await, consumers(&queue, LOW).await.len()), (None, 0));
}

#[tokio::test]
async fn consumers_that_never_signed_on_are_found_only_by_a_sweep() {
    let queue = Queue::start();
    let entry: Entry = queue.deliver("a", "orphan").await;
    let _: i64 = queue.ask("ZREM", (&queue.keys.workers, "orphan")).await;
    let _: i64 = queue.ask("HDEL", (&queue.keys.worker_info, "orphan")).await;
    queue.sign_on("asker").await;
    assert_eq!(queue.reclaim("asker", 10, false).await.victim, "");
    assert_eq!(queue.lease("orphan").await, None);
    let swept = queue.reclaim("asker", 10, true).await;
    assert_eq!((swept.victim.as_str(), queue.lease("orphan").await), ("", Some(swept.now_ms as i64)), "it may live");
    while queue.now_ms().await <= swept.now_ms {}
    let found = queue.reclaim("asker", 10, false).await;
    assert_eq!((found.victim.as_str(), found.taken, found.finished), ("orphan", 1, true));
    assert_eq!(queue.settle(&[done(&entry, TTL)]).await, [0]);
}

#[tokio::test]
async fn a_sweep_leaves_time_to_renew_a_lease_that_was_deleted() {
    let queue = Queue::start();
    queue.deliver("a", "w").await;
    queue.sign_on("w").await;
    let _: i64 = queue.ask("DEL", &queue.keys.workers).await;
    queue.sign_on("asker").await;
    let swept = queue.reclaim("asker", 10, true).await;
    assert_eq!((swept.victim.as_str(), queue.lease("w").await), ("", Some(swept.now_ms as i64 + 60_000)));
    queue.let_lease_end("w").await;
    assert_eq!(queue.reclaim("asker", 10, false).await.victim, "w", "it did not");
}

#[tokio::test]
async fn a_worker_without_a_lease_takes_over_neither_from_others_nor_from_itself() {
    let queue = Queue::start();
    queue.deliver("a", "asker").await;
    queue.deliver("b", "other").await;
    for lease in [1, 0, -1] {
        queue.set_lease("asker", lease).await;
        for others in [2, 0, -1] {
            queue.set_lease("other", others).await;
            let found = queue.reclaim("asker", 10, true).await;
            assert_eq!((found.victim.as_str(), found.expired.len(), found.finished), ("", 0, true));
        }
    }
    let _: i64 = queue.ask("ZREM", (&queue.keys.workers, "asker")).await;
    assert_eq!(queue.reclaim("asker", 10, true).await.victim, "", "it has yet to sign on");
    assert_eq!((queue.pending(LOW).await, queue.lease("asker").await), (2, None));
    queue.sign_on("asker").await;
    assert_eq!(queue.reclaim("asker", 10, true).await.victim, "other");
    assert_eq!(queue.reclaim("asker", 10, true).await.victim, "");
    assert_eq!(queue.pending(LOW).await, 1, "its own");
}

#[tokio::test]
async fn a_worker_that_has_nothing_leaves_nothing() {
    let queue = Queue::start();
    let entry = queue.deliver("a", "w").await;
    queue.settle(&[done(&entry, TTL)]).await;
    assert_eq!(queue.leave("w").await, 0);
    assert_eq!((queue.lease("w").await, consumers(&queue, LOW).await.len()), (None, 0));
    assert!(!queue.names().await.contains(&"worker-info".to_owned()));
    assert_eq!(queue.leave("w").await, 0, "twice does no harm");
}

#[tokio::test]
async fn the_pulse_goes_with_the_last_worker() {
    let queue = Queue::start();
    queue.sign_on("first").await;
    queue.sign_on("last").await;
    queue.leave("first").await;
    assert!(queue.names().await.contains(&"pulse".to_owned()));
    queue.leave("last").await;
    let left = queue.names().await;
    assert!(!["pulse", "workers", "worker-info"].iter().any(|name| left.contains(&(*name).to_owned())), "{left:?}");
}

#[tokio::test]
async fn what_a_leaving_worker_still_has_is_taken_over_at_once() {
    let queue = Queue::start();
    queue.deliver("a", "w").await;
    assert_eq!(queue.leave("w").await, 1);
    assert_eq!(queue.lease("w").await, Some(0));
    queue.sign_on("heir").await;
    let expected = queue.on_time().await;
    assert_eq!(queue.look("heir", expected, &[]).await.taken, 1, "it said itself that it goes: one look is enough");
    assert_eq!(queue.leave("stranger").await, 0);
    assert_eq!(queue.lease("stranger").await, None, "signing off signs no worker on");
}
