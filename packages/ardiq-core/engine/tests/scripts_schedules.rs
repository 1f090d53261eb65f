//! The scripts for schedules: schedule, unschedule, pause, declare, schedules, and what `fire` does
//! with them.
#![allow(clippy::unwrap_used, clippy::expect_used)] // In a test, a surprise is a failure.

mod support;

use ardiq_engine::protocol::keys::{Keys, Nonce};
use ardiq_engine::protocol::schedule::{Record, Schedule};
use ardiq_engine::scripts::produce::{self, Firing, Mode, NewJob, Occurrence};
use ardiq_engine::scripts::schedules::{self, Page, Removed, Saved};
use support::{HIGH, LOW, Queue, TTL, done, job_of_call, patience, schedule};

const FIRST: Nonce = *b"revision";
const SECOND: Nonce = *b"REVISION";
const GONE_MS: u64 = 120_000;

async fn save(queue: &Queue, schedule: &Schedule, revision: Nonce) -> Saved {
    schedules::save(&queue.link, &queue.keys, schedule, revision, patience()).await.unwrap()
}

async fn remove(queue: &Queue, name: &str) -> Removed {
    schedules::remove(&queue.link, &queue.keys, name, SECOND, patience()).await.unwrap()
}

async fn pause(queue: &Queue, name: &str, pauses: bool) -> bool {
    schedules::pause(&queue.link, &queue.keys, name, pauses, SECOND, patience()).await.unwrap()
}

async fn declare(queue: &Queue, names: &[&str]) -> Vec<String> {
    let plans: Vec<Schedule> = names.iter().map(|name| schedule(name)).collect();
    schedules::declare(&queue.link, &queue.keys, &plans, FIRST, patience()).await.unwrap()
}

async fn page(queue: &Queue, name: Option<&str>) -> Page {
    schedules::page(&queue.link, &queue.keys, name, "0", patience()).await.unwrap()
}

async fn record(queue: &Queue, name: &str) -> Option<Record> {
    let stored = page(queue, Some(name)).await.schedules.pop()?;
    Some(Record::decode(&stored.name, &stored.record).unwrap())
}

async fn names(queue: &Queue) -> Vec<String> {
    let mut names: Vec<String> = page(queue, None).await.schedules.into_iter().map(|one| one.name).collect();
    names.sort();
    names
}

/// Fire an occurrence with the id that it should have.
async fn fire_with(queue: &Queue, occurrence: Occurrence<'_>, job: NewJob) -> Firing {
    let id = Keys::occurrence(occurrence.schedule, occurrence.fire_ms);
    let job = NewJob { id, ..job };
    produce::fire(&queue.link, &queue.keys, occurrence, &job, patience()).await.unwrap().how
}

fn beat(fire_ms: u64, revision: Option<Nonce>) -> Occurrence<'static> {
    let (gap_ms, drift_ms, lane) = (3_600_000, 60_000, Some("low"));
    Occurrence { schedule: "beat", fire_ms, gap_ms, revision, drift_ms, lane, ..Occurrence::default() }
}

async fn fire(queue: &Queue, fire_ms: u64, revision: Option<Nonce>) -> Firing {
    fire_with(queue, beat(fire_ms, revision), job_of_call("", fire_ms)).await
}

/// Let the occurrences of the last minute be fired again, as if the schedule had existed for
/// longer.
async fn forget_last(queue: &Queue, name: &str) {
    let _: i64 = queue.ask("HDEL", (&queue.keys.cron, name)).await;
}

#[tokio::test]
async fn a_schedule_is_created_once_and_announced() {
    let queue = Queue::start();
    queue.listen(&queue.keys.wake).await;
    assert_eq!(page(&queue, None).await.revision, b"");
    let before = queue.now_ms().await;
    assert_eq!(save(&queue, &schedule("beat"), FIRST).await, Saved::Saved);
    let found = record(&queue, "beat").await.unwrap();
    assert_eq!((found.schedule, found.revision), (schedule("beat"), FIRST));
    assert!(!found.is_static && !found.is_paused && found.changed_ms >= before);
    assert_eq!(page(&queue, None).await.revision, FIRST);
    assert_eq!(save(&queue, &schedule("beat"), FIRST).await, Saved::Saved, "the call is repeated");
    assert_eq!(save(&queue, &schedule("beat"), SECOND).await, Saved::Kept, "the plan is the same");
    assert_eq!(record(&queue, "beat").await.unwrap().revision, FIRST);
    let told: Vec<Vec<u8>> = queue.pushes().await.into_iter().map(|(_, message)| message).collect();
    assert_eq!(told, [b"schedules"]);
    assert!(queue.ask::<bool>("SISMEMBER", (&queue.keys.known_lanes, "low")).await);
}

#[tokio::test]
async fn another_plan_replaces_a_schedule_which_stays_paused() {
    let queue = Queue::start();
    save(&queue, &schedule("beat"), FIRST).await;
    assert!(pause(&queue, "beat", true).await);
    let other = Schedule { every_ms: 5, ..schedule("beat") };
    assert_eq!(save(&queue, &other, SECOND).await, Saved::Saved);
    let found = record(&queue, "beat").await.unwrap();
    assert_eq!((found.schedule, found.revision, found.is_paused), (other, SECOND, true));
}

#[tokio::test]
async fn only_the_present_revision_fires() {
    let queue = Queue::start();
    let now = queue.now_ms().await;
    assert_eq!(fire(&queue, now, Some(FIRST)).await, Firing::Stale, "there is no such schedule");
    save(&queue, &schedule("beat"), FIRST).await;
    forget_last(&queue, "beat").await;
    assert_eq!(fire(&queue, now, Some(SECOND)).await, Firing::Stale);
    assert_eq!(fire(&queue, now, Some(FIRST)).await, Firing::Fired);
    assert_eq!(fire(&queue, now, Some(FIRST)).await, Firing::Not, "another worker asks");
    save(&queue, &Schedule { every_ms: 5, ..schedule("beat") }, SECOND).await;
    assert_eq!(fire(&queue, now + 1, Some(FIRST)).await, Firing::Stale, "the worker has the old plan");
    assert_eq!(queue.length(LOW).await, 1);
    assert_eq!(page(&queue, Some("beat")).await.schedules[0].last_ms, Some(now));
}

#[tokio::test]
async fn occurrences_before_the_creation_or_the_resumption_are_not_fired() {
    let queue = Queue::start();
    save(&queue, &schedule("beat"), FIRST).await;
    let past = queue.now_ms().await - 1_000;
    assert_eq!(fire(&queue, past, Some(FIRST)).await, Firing::Not);
    forget_last(&queue, "beat").await;
    assert!(pause(&queue, "beat", true).await);
    assert_eq!(fire(&queue, past, Some(FIRST)).await, Firing::Stale, "it is paused");
    assert!(pause(&queue, "beat", false).await && pause(&queue, "beat", false).await);
    assert_eq!(fire(&queue, past, Some(FIRST)).await, Firing::Not);
    let soon = queue.now_ms().await + 500;
    assert_eq!(fire(&queue, soon, Some(FIRST)).await, Firing::Fired, "the revision is the same");
    assert!(!pause(&queue, "unknown", true).await);
}

#[tokio::test]
async fn an_occurrence_that_is_too_late_is_dropped_by_the_server_s_clock() {
    let queue = Queue::start();
    save(&queue, &schedule("beat"), FIRST).await;
    forget_last(&queue, "beat").await;
    let now = queue.now_ms().await;
    let late = Occurrence { drift_ms: 5_000, ..beat(now - 20_000, Some(FIRST)) };
    assert_eq!(fire_with(&queue, late, job_of_call("", 1)).await, Firing::Not);
    let in_time = Occurrence { drift_ms: 50_000, ..late };
    assert_eq!(fire_with(&queue, in_time, job_of_call("", 1)).await, Firing::Fired);
}

#[tokio::test]
async fn coalesced_occurrences_wait_for_the_job_of_the_last_one() {
    let queue = Queue::start();
    save(&queue, &schedule("beat"), FIRST).await;
    let now = queue.now_ms().await;
    let next = |n: u64| Occurrence { mode: Mode::Coalesce, ..beat(now + n, Some(FIRST)) };
    assert_eq!(fire_with(&queue, next(100), job_of_call("", 1)).await, Firing::Fired);
    assert_eq!(fire_with(&queue, next(200), job_of_call("", 2)).await, Firing::Not, "it is queued");
    let entry = queue.take("w", 1).await.remove(0);
    assert_eq!(fire_with(&queue, next(300), job_of_call("", 3)).await, Firing::Not, "a worker has it");
    assert_eq!(page(&queue, Some("beat")).await.schedules[0].last_ms, Some(now + 100), "skipped ones do not count");
    queue.settle(&[done(&entry, TTL)]).await;
    assert_eq!(fire_with(&queue, next(200), job_of_call("", 2)).await, Firing::Not, "it was skipped for good");
    assert_eq!(fire_with(&queue, next(400), job_of_call("", 4)).await, Firing::Fired);
}

#[tokio::test]
async fn a_lane_that_this_worker_does_not_serve_gets_the_job() {
    let queue = Queue::start();
    save(&queue, &Schedule { lane: "other".into(), ..schedule("beat") }, FIRST).await;
    let soon = queue.now_ms().await + 500;
    let elsewhere = Occurrence { lane: Some("other"), ..beat(soon, Some(FIRST)) };
    assert_eq!(fire_with(&queue, elsewhere, job_of_call("", 1)).await, Firing::Fired);
    assert_eq!((queue.length(LOW).await, queue.length(HIGH).await), (0, 0));
    assert_eq!(queue.ask::<u64>("XLEN", queue.keys.lane_stream("other")).await, 1);
    assert!(queue.ask::<bool>("SISMEMBER", (&queue.keys.known_lanes, "other")).await);
}

#[tokio::test]
async fn a_removed_schedule_leaves_nothing_and_can_be_created_again() {
    let queue = Queue::start();
    save(&queue, &schedule("beat"), FIRST).await;
    save(&queue, &schedule("other"), SECOND).await;
    let soon = queue.now_ms().await + 500;
    assert_eq!(fire(&queue, soon, Some(FIRST)).await, Firing::Fired);
    assert_eq!(remove(&queue, "beat").await, Removed::Removed);
    assert_eq!(remove(&queue, "beat").await, Removed::Unknown);
    assert_eq!(fire(&queue, soon + 1, Some(FIRST)).await, Firing::Stale);
    let fields: Vec<String> = queue.ask("HKEYS", &queue.keys.cron).await;
    assert_eq!(fields, ["other"]);
    assert_eq!(remove(&queue, "other").await, Removed::Removed);
    let left = queue.names().await;
    assert!(!left.contains(&"schedules".to_owned()) && !left.contains(&"cron".to_owned()), "{left:?}");
    save(&queue, &schedule("beat"), SECOND).await;
    assert_eq!(fire(&queue, soon, Some(FIRST)).await, Firing::Stale, "a worker remembers the old one");
}

#[tokio::test]
async fn static_schedules_are_listed_while_a_worker_declares_them() {
    let queue = Queue::start();
    assert!(declare(&queue, &["a", "b"]).await.is_empty());
    let before = record(&queue, "a").await.unwrap();
    assert!(before.is_static && names(&queue).await == ["a", "b"]);
    schedules::declare(&queue.link, &queue.keys, &[schedule("a")], SECOND, patience()).await.unwrap();
    assert_eq!(record(&queue, "a").await, Some(before), "the plan is the same");
    let _: i64 = queue.ask("ZADD", (&queue.keys.declared, queue.now_ms().await - GONE_MS, "b")).await;
    assert_eq!(names(&queue).await, ["a"]);
    declare(&queue, &["a"]).await;
    assert_eq!(queue.ask::<Vec<String>>("HKEYS", &queue.keys.schedules).await, ["a"]);
    assert_eq!(queue.ask::<i64>("ZCARD", &queue.keys.declared).await, 1);
}

#[tokio::test]
async fn a_static_schedule_fires_unless_it_is_paused() {
    let queue = Queue::start();
    let now = queue.now_ms().await;
    assert_eq!(fire(&queue, now, None).await, Firing::Fired, "even if it was never declared");
    declare(&queue, &["beat"]).await;
    assert_eq!(fire(&queue, now + 1, None).await, Firing::Fired);
    assert!(pause(&queue, "beat", true).await);
    assert_eq!(fire(&queue, now + 2, None).await, Firing::Stale);
    declare(&queue, &["beat"]).await;
    assert_eq!(fire(&queue, now + 2, None).await, Firing::Stale, "a worker that starts does not resume it");
    let _: i64 = queue.ask("ZADD", (&queue.keys.declared, 1, "beat")).await;
    declare(&queue, &["other"]).await;
    assert_eq!(names(&queue).await, ["beat", "other"], "a paused one is not forgotten");
    assert!(pause(&queue, "beat", false).await);
    assert_eq!(names(&queue).await, ["other"], "it is not in the code of a worker");
    assert_eq!(fire(&queue, queue.now_ms().await + 500, None).await, Firing::Fired);
    declare(&queue, &["other"]).await;
    assert_eq!(queue.ask::<Vec<String>>("HKEYS", &queue.keys.schedules).await.len(), 2, "with the revision");
}

#[tokio::test]
async fn names_of_static_schedules_are_taken_and_theirs_is_the_right_to_a_name() {
    let queue = Queue::start();
    declare(&queue, &["beat"]).await;
    assert_eq!(save(&queue, &schedule("beat"), SECOND).await, Saved::Static);
    assert_eq!(remove(&queue, "beat").await, Removed::Static);
    let _: i64 = queue.ask("ZADD", (&queue.keys.declared, 1, "beat")).await;
    assert_eq!(save(&queue, &schedule("beat"), SECOND).await, Saved::Saved, "it went from the code");
    assert!(!record(&queue, "beat").await.unwrap().is_static);
    assert_eq!(declare(&queue, &["beat"]).await, ["beat"], "it came back");
    assert!(record(&queue, "beat").await.unwrap().is_static);
    assert_eq!(fire(&queue, queue.now_ms().await + 500, Some(SECOND)).await, Firing::Stale);
    let _: i64 = queue.ask("ZADD", (&queue.keys.declared, 1, "beat")).await;
    assert_eq!(remove(&queue, "beat").await, Removed::Removed, "what is left of it");
}

#[tokio::test]
async fn a_person_can_fire_a_paused_schedule_and_its_occurrences_do_not_change() {
    let queue = Queue::start();
    save(&queue, &schedule("beat"), FIRST).await;
    let at: Option<u64> = queue.ask("HGET", (&queue.keys.cron, "beat")).await;
    pause(&queue, "beat", true).await;
    let now = queue.now_ms().await;
    let by_hand = Occurrence { mode: Mode::ByHand, gap_ms: 0, ..beat(now, Some(FIRST)) };
    assert_eq!(fire_with(&queue, by_hand, job_of_call("", 1)).await, Firing::Fired);
    let job = NewJob { id: Keys::occurrence("beat", now), ..job_of_call("", 2) };
    let again = produce::fire(&queue.link, &queue.keys, by_hand, &job, patience()).await.unwrap();
    assert_eq!((again.how, again.holder), (Firing::Not, Some(job.id.clone())), "the call is repeated");
    assert_eq!(queue.ask::<Option<u64>>("HGET", (&queue.keys.cron, "beat")).await, at);
    assert_eq!(page(&queue, Some("beat")).await.schedules[0].last_ms, Some(now));
    let entry = queue.take("w", 1).await.remove(0);
    queue.settle(&[done(&entry, TTL)]).await;
    let again = produce::fire(&queue.link, &queue.keys, by_hand, &job, patience()).await.unwrap();
    assert_eq!((again.how, again.holder), (Firing::Not, Some(job.id)), "and its job has ended");
    assert_eq!(queue.length(LOW).await, 0);
}

#[tokio::test]
async fn what_a_worker_of_an_earlier_version_fired_is_the_last_job() {
    let queue = Queue::start();
    declare(&queue, &["beat"]).await;
    let now = queue.now_ms().await;
    assert_eq!(fire(&queue, now, None).await, Firing::Fired);
    let id = Keys::occurrence("beat", now + 60_000);
    queue.enqueue(&[job_of_call(&id, 9)]).await;
    let _: i64 = queue.ask("HSET", (&queue.keys.cron, "beat", now + 60_000)).await;
    assert_eq!(page(&queue, Some("beat")).await.schedules[0].last_ms, Some(now + 60_000));
}

#[tokio::test]
async fn many_schedules_are_read_in_pages() {
    let queue = Queue::start();
    // A small hash is read in one piece.
    for number in 0..(7 * schedules::PAGE) {
        save(&queue, &schedule(&format!("beat-{number}")), FIRST).await;
    }
    let (mut seen, mut cursor, mut pages) = (std::collections::BTreeSet::new(), "0".to_owned(), 0);
    loop {
        let page = schedules::page(&queue.link, &queue.keys, None, &cursor, patience()).await.unwrap();
        assert!(page.schedules.len() <= 2 * schedules::PAGE, "{}", page.schedules.len());
        seen.extend(page.schedules.into_iter().map(|one| one.name));
        (cursor, pages) = (page.cursor, pages + 1);
        if cursor == "0" {
            break;
        }
    }
    assert_eq!(seen.len(), 7 * schedules::PAGE);
    assert!(pages > 1);
}

#[tokio::test]
async fn a_key_of_the_wrong_type_is_set_aside_and_firing_goes_on() {
    let queue = Queue::start();
    let _: String = queue.ask("SET", (&queue.keys.schedules, "odd")).await;
    assert_eq!(fire(&queue, queue.now_ms().await, None).await, Firing::Fired);
    assert!(names(&queue).await.is_empty());
    assert_eq!(save(&queue, &schedule("other"), FIRST).await, Saved::Saved);
    assert_eq!(names(&queue).await, ["other"]);
    assert_eq!(queue.ask::<String>("GET", format!("{}schedules", queue.keys.aside)).await, "odd");
}
