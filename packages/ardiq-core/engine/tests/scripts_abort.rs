//! Jobs that are to be aborted: the script that ends or marks them, and the scripts that respect a
//! mark.
#![allow(clippy::unwrap_used, clippy::expect_used)] // In a test, a surprise is a failure.

mod support;

use std::collections::BTreeMap;

use ardiq_engine::protocol::entry::Header;
use ardiq_engine::protocol::envelope::Envelope;
use ardiq_engine::protocol::record::{Outcome, ResultRecord};
use ardiq_engine::scripts::abort::{self, Abort};
use ardiq_engine::scripts::deliver::{self, Entry, Settlement};
use ardiq_engine::scripts::look::{self, Seen};
use ardiq_engine::scripts::produce::NewJob;
use ardiq_engine::scripts::upkeep::{self, Part};
use support::{
    LOW, Queue, RETURNED_LOW, TTL, again, back, dead, done, header_of, job, job_of_call, patience, poison, promote,
};

const NONCE: [u8; 8] = 1u64.to_be_bytes();

/// A job that holds a unique identity and has a separate body.
fn rich(id: &str) -> NewJob {
    let envelope = Envelope {
        nonce: NONCE,
        name: "task".into(),
        unique: Some("aa".into()),
        headers: vec![("trace".into(), "x".into())],
        ..Envelope::default()
    };
    NewJob { unique: Some("aa".into()), body: (&b"large"[..]).into(), envelope: envelope.encode(), ..job(id) }
}

/// What a worker does with a delivery.
type Verdict = fn(&Entry) -> Settlement;

async fn abort_it(queue: &Queue, id: &str) -> Abort {
    abort::abort(&queue.link, &queue.keys, id, NONCE, patience()).await.unwrap()
}

async fn result(queue: &Queue, id: &str) -> ResultRecord {
    let record = queue.record(id).await.unwrap();
    assert_eq!(record[1..9], NONCE);
    ResultRecord::decode(&record).unwrap()
}

async fn assert_aborted(queue: &Queue, id: &str) -> ResultRecord {
    let result = result(queue, id).await;
    assert_eq!((result.aborted, result.outcome.clone()), (true, Outcome::Failure("aborted".into())));
    assert_eq!((result.id.as_str(), result.name.as_str()), (id, "task"));
    let left: i64 = queue.ask("PTTL", queue.keys.job(id)).await;
    assert!((TTL - 10_000..=TTL).contains(&left), "kept for five minutes: {left}");
    result
}

/// The label of a job's entry: its header and its id.
fn label_of(entry: &Entry) -> Vec<u8> {
    [&header_of(entry).encode()[..], entry.id.as_bytes()].concat()
}

async fn wait_for(queue: &Queue, id: &str) {
    let seen = look::wait(&queue.link, &queue.keys, id, "me", 60_000, patience()).await.unwrap();
    assert_eq!(seen, Seen::Unfinished { is_registered: true });
}

async fn assert_told(queue: &Queue, id: &str) {
    let record = queue.record(id).await.unwrap();
    let message = [&u16::try_from(id.len()).unwrap().to_be_bytes()[..], id.as_bytes(), &record].concat();
    assert!(queue.pushes().await.contains(&("me".to_owned(), message)));
}

async fn marks(queue: &Queue) -> Vec<String> {
    queue.ask("HKEYS", &queue.keys.aborting).await
}

/// The keys that may stay when no job is left.
async fn leftovers(queue: &Queue) -> Vec<String> {
    let standing = ["lanes", "pulse", "workers", "worker-info", "job:a", "lane:low", "returned:low", "dead"];
    let more = ["lane:high", "returned:high", "ardiq:queues"];
    let all = queue.names().await;
    all.into_iter().filter(|name| !standing.contains(&name.as_str()) && !more.contains(&name.as_str())).collect()
}

#[tokio::test]
async fn a_queued_job_ends_at_once_and_leaves_nothing_behind() {
    let queue = Queue::start();
    queue.listen("me").await;
    queue.enqueue(&[job("first"), rich("a"), job("last")]).await;
    wait_for(&queue, "a").await;
    assert_eq!(abort_it(&queue, "a").await, Abort::Aborted);
    let result = assert_aborted(&queue, "a").await;
    assert_eq!((result.tries, result.started_ms, result.worker.as_str()), (0, 0, ""));
    assert!(result.enqueued_ms > 0 && result.finished_ms >= result.enqueued_ms);
    assert_told(&queue, "a").await;
    assert_eq!(abort_it(&queue, "a").await, Abort::Ended, "a second call finds it ended");
    let sent = queue.take("w", 2).await;
    assert_eq!([&*sent[0].id, &*sent[1].id], ["first", "last"]);
    assert!(queue.settle(&[done(&sent[0], 0), done(&sent[1], 0)]).await.is_empty());
    let expected: Vec<String> = vec!["job:first".into(), "job:last".into()];
    assert_eq!(leftovers(&queue).await, expected, "the tombstones of the others");
    assert_eq!((queue.length(LOW).await, queue.pending(LOW).await), (0, 0));
    assert!(queue.enqueue(&[NewJob { body: (&b"large"[..]).into(), ..rich("b") }]).await.is_empty(), "free again");
}

#[tokio::test]
async fn an_aborted_job_does_not_make_the_lag_of_its_stream_wrong() {
    let queue = Queue::start();
    queue.enqueue(&[job("stranded"), job("a"), job("b"), job("last")]).await;
    let stranded = queue.take("w", 1).await.remove(0);
    assert_eq!((abort_it(&queue, "a").await, abort_it(&queue, "b").await), (Abort::Aborted, Abort::Aborted));
    let last = queue.take("w", 1).await.remove(0);
    let groups: Vec<BTreeMap<String, redis::Value>> = queue.ask("XINFO", ("GROUPS", &queue.keys.streams[LOW])).await;
    assert_eq!(groups[0]["lag"], redis::Value::Int(0));
    // As many entries are stranded as were deleted: the next outcome must not delete them.
    let _: i64 = queue.ask("XACK", (&queue.keys.streams[LOW], "q", &stranded.entry)).await;
    queue.enqueue(&[job("next")]).await;
    assert!(queue.settle(&[done(&last, TTL)]).await.is_empty());
    assert_eq!(queue.length(LOW).await, 2, "the stranded one and the next one");
}

#[tokio::test]
async fn a_scheduled_job_ends_at_once_also_between_two_tries() {
    let queue = Queue::start();
    queue.listen("me").await;
    queue.enqueue(&[NewJob { delay_ms: 60_000, ..rich("a") }]).await;
    wait_for(&queue, "a").await;
    assert_eq!(abort_it(&queue, "a").await, Abort::Aborted);
    assert_aborted(&queue, "a").await;
    assert_told(&queue, "a").await;
    assert!(leftovers(&queue).await.is_empty(), "{:?}", leftovers(&queue).await);

    queue.enqueue(&[job("retried")]).await;
    let entry = queue.take("w", 1).await.remove(0);
    assert!(queue.settle(&[again(&entry, 60_000)]).await.is_empty());
    assert_eq!(abort_it(&queue, "retried").await, Abort::Aborted);
    assert_eq!(assert_aborted(&queue, "retried").await.tries, 1, "its first attempt");
    assert_eq!(promote(&queue, 10).await.due_in_ms, None);
}

#[tokio::test]
async fn a_job_that_a_worker_has_is_marked_and_announced() {
    let queue = Queue::start();
    queue.listen(&queue.keys.wake).await;
    let entry = queue.deliver("a", "w").await;
    for _ in 0..2 {
        assert_eq!(abort_it(&queue, "a").await, Abort::Asked);
    }
    assert_eq!(queue.pushes().await, [(queue.keys.wake.clone(), b"abort".to_vec())], "announced once");
    assert_eq!(marks(&queue).await, ["a"]);
    assert!(queue.reclaim("w", 10, false).await.aborts, "a worker that looks for dead ones learns of it");
    let held = vec![("b".to_owned(), NONCE), ("a".to_owned(), NONCE), ("a".to_owned(), [0; 8])];
    let found = abort::marked(&queue.link, &queue.keys, held, patience()).await.unwrap();
    assert_eq!(found, [("a".to_owned(), NONCE)]);
    assert!(queue.settle(&[done(&entry, TTL)]).await.is_empty(), "its outcome was already known, and counts");
    assert_eq!(queue.kind("a").await, Some('R'));
    assert!(marks(&queue).await.is_empty());
    assert!(!queue.reclaim("w", 10, false).await.aborts);
}

#[tokio::test]
async fn a_marked_job_never_runs_again() {
    let outcomes: [(Verdict, u64); 4] = [
        (back, 0),
        (|entry| Settlement { recorded: true, ..back(entry) }, 0),
        (|entry| again(entry, 0), 1),
        (|entry| again(entry, 60_000), 1),
    ];
    for (outcome, tries) in outcomes {
        let queue = Queue::start();
        queue.listen("me").await;
        queue.enqueue(&[rich("a")]).await;
        let entry = queue.take("w", 1).await.remove(0);
        queue.begin("w", &[&entry]).await;
        wait_for(&queue, "a").await;
        assert_eq!(abort_it(&queue, "a").await, Abort::Asked);
        let one = Settlement { unique: Some("aa".into()), separate_body: Some(NONCE), ..outcome(&entry) };
        let with_start = one.recorded;
        assert!(queue.settle(&[one]).await.is_empty());
        let result = assert_aborted(&queue, "a").await;
        assert_eq!((result.tries, result.started_ms), (tries, if with_start { 5 } else { 0 }));
        assert_told(&queue, "a").await;
        assert!(leftovers(&queue).await.is_empty(), "{:?}", leftovers(&queue).await);
        assert_eq!((queue.length(LOW).await, queue.length(RETURNED_LOW).await), (0, 0));
    }
}

#[tokio::test]
async fn a_final_outcome_counts_and_removes_the_mark() {
    let outcomes: [Verdict; 3] = [|entry| done(entry, 0), |entry| dead(entry, TTL), |entry| poison(entry, TTL)];
    for outcome in outcomes {
        let queue = Queue::start();
        let entry = queue.deliver("a", "w").await;
        abort_it(&queue, "a").await;
        assert!(queue.settle(&[outcome(&entry)]).await.is_empty());
        assert!(marks(&queue).await.is_empty());
    }
}

#[tokio::test]
async fn a_delivery_that_is_dropped_leaves_the_mark_of_the_job() {
    let queue = Queue::start();
    let stale = queue.deliver("a", "zombie").await;
    queue.let_lease_end("zombie").await;
    queue.sign_on("heir").await;
    assert_eq!(queue.reclaim("heir", 10, false).await.taken, 1);
    queue.take("heir", 1).await;
    assert_eq!(abort_it(&queue, "a").await, Abort::Asked);
    for is_void in [true, false] {
        // The entry is copied by hand. The copy does not belong to the job.
        let copy = (&queue.keys.streams[LOW], "*", label_of(&stale), &stale.envelope);
        let _: String = queue.ask("XADD", copy).await;
        let copy = queue.take("heir", 1).await.remove(0);
        let void = support::settlement(&copy, deliver::Verdict::Void(header_of(&copy).encode().to_vec()));
        assert!(queue.settle(&[if is_void { void } else { dead(&copy, TTL) }]).await.is_empty());
        assert_eq!(marks(&queue).await, ["a"]);
    }
}

#[tokio::test]
async fn a_refused_outcome_leaves_the_mark_of_the_next_owner() {
    let queue = Queue::start();
    let stale = queue.deliver("a", "zombie").await;
    queue.let_lease_end("zombie").await;
    queue.sign_on("heir").await;
    assert_eq!(queue.reclaim("heir", 10, false).await.taken, 1);
    let heirs = queue.take("heir", 1).await.remove(0);
    assert_eq!(abort_it(&queue, "a").await, Abort::Asked);
    assert_eq!(queue.settle(&[done(&stale, TTL)]).await, [0]);
    assert_eq!(marks(&queue).await, ["a"]);
    assert!(queue.settle(&[back(&heirs)]).await.is_empty());
    assert_aborted(&queue, "a").await;
}

#[tokio::test]
async fn the_jobs_of_a_dead_worker_end_instead_of_running_again() {
    let queue = Queue::start();
    queue.listen("me").await;
    queue.enqueue(&[rich("a"), job("b"), job("c")]).await;
    let sent = queue.take("dead", 3).await;
    queue.begin("dead", &[&sent[0]]).await;
    wait_for(&queue, "a").await;
    assert_eq!((abort_it(&queue, "a").await, abort_it(&queue, "b").await), (Abort::Asked, Abort::Asked));
    queue.let_lease_end("dead").await;
    queue.sign_on("heir").await;
    let taken = queue.reclaim("heir", 10, false).await;
    assert_eq!((taken.taken, taken.started), (1, 1));
    let started = assert_aborted(&queue, "a").await;
    assert_eq!((started.tries, started.started_ms), (1, 5), "the run that died counts as an attempt");
    assert_eq!(assert_aborted(&queue, "b").await.tries, 0);
    assert_told(&queue, "a").await;
    assert!(marks(&queue).await.is_empty());
    assert_eq!(queue.take("heir", 1).await[0].id, "c");
}

#[tokio::test]
async fn only_the_job_that_was_meant_is_aborted() {
    let queue = Queue::start();
    let nonce = async |id: &str| abort::nonce(&queue.link, &queue.keys, id, patience()).await.unwrap();
    assert_eq!((nonce("a").await, abort_it(&queue, "a").await), (None, Abort::Gone), "unknown");
    queue.enqueue(&[job_of_call("a", 2)]).await;
    assert_eq!(nonce("a").await, Some(2u64.to_be_bytes()));
    assert_eq!(abort_it(&queue, "a").await, Abort::Gone, "a later job with the same id");
    assert_eq!(queue.kind("a").await, Some('q'));
    let entry = queue.take("w", 1).await.remove(0);
    assert!(queue.settle(&[done(&entry, TTL)]).await.is_empty());
    queue.enqueue(&[job("b")]).await;
    let other = queue.take("w", 1).await.remove(0);
    assert!(queue.settle(&[done(&other, 0)]).await.is_empty());
    assert_eq!(abort_it(&queue, "b").await, Abort::Ended, "finished without a result");
    let _: i64 = queue.ask("LPUSH", (queue.keys.job("list"), "x")).await;
    assert_eq!((nonce("list").await, abort_it(&queue, "list").await), (None, Abort::Gone), "not a job");
}

#[tokio::test]
async fn a_job_that_was_damaged_from_outside_ends_as_lost() {
    let queue = Queue::start();
    queue.enqueue(&[job("a")]).await;
    let _: i64 = queue.ask("DEL", &queue.keys.streams[LOW]).await;
    assert_eq!(abort_it(&queue, "a").await, Abort::Ended);
    assert!(!result(&queue, "a").await.aborted);

    let cut = [b"d", &NONCE[..], b"\x08lane:low"].concat();
    let _: String = queue.ask("SET", (queue.keys.job("cut"), cut)).await;
    assert_eq!(abort_it(&queue, "cut").await, Abort::Ended);

    // The entry of a job that a worker runs was deleted: the worker still has it.
    queue.enqueue(&[job("held")]).await;
    let held = queue.take("w", 1).await.remove(0);
    queue.begin("w", &[&held]).await;
    let _: i64 = queue.ask("XDEL", (&queue.keys.streams[LOW], &held.entry)).await;
    assert_eq!(abort_it(&queue, "held").await, Abort::Asked);
    assert_eq!(queue.settle(&[back(&held)]).await, [0], "there is nothing to run again");
    assert!(marks(&queue).await.is_empty());
}

#[tokio::test]
async fn a_job_of_a_later_version_is_aborted_without_being_read() {
    let queue = Queue::start();
    let mut newer = job("a");
    newer.envelope[0] = 99;
    queue.enqueue(&[newer]).await;
    assert_eq!(abort_it(&queue, "a").await, Abort::Aborted);
    let result = result(&queue, "a").await;
    assert_eq!((result.aborted, result.name.as_str()), (true, ""));
}

#[tokio::test]
async fn scrub_removes_marks_of_jobs_that_have_ended_and_ends_marked_jobs_that_are_stranded() {
    let queue = Queue::start();
    queue.enqueue(&[job("a"), job("b")]).await;
    let sent = queue.take("w", 2).await;
    abort_it(&queue, "a").await;
    let _: i64 = queue.ask("HSET", (&queue.keys.aborting, "gone", &NONCE[..])).await;
    let _: i64 = queue.ask("HSET", (&queue.keys.aborting, "b", &[0u8; 8][..])).await;
    let scrub = async |part| upkeep::scrub(&queue.link, &queue.keys, part, "0", patience()).await.unwrap();
    let mut repairs = scrub(Part::Aborting).await.repairs;
    repairs.sort();
    assert_eq!(repairs, [("mark".to_owned(), "b".to_owned()), ("mark".to_owned(), "gone".to_owned())]);
    assert_eq!(marks(&queue).await, ["a"]);

    let _: i64 = queue.ask("XACK", (&queue.keys.streams[LOW], "q", &sent[0].entry, &sent[1].entry)).await;
    // Streams are checked one per call.
    let mut cursor = "0".to_owned();
    loop {
        let page = upkeep::scrub(&queue.link, &queue.keys, Part::Entries, &cursor, patience()).await.unwrap();
        cursor = page.cursor;
        if cursor == "0" {
            break;
        }
    }
    assert_aborted(&queue, "a").await;
    assert_eq!((queue.kind("b").await, queue.length(RETURNED_LOW).await), (Some('q'), 1));
}

#[tokio::test]
async fn an_aborted_job_keeps_the_attempts_of_its_header() {
    let queue = Queue::start();
    let entry = queue.deliver("a", "w").await;
    let many = 70_000;
    let header = Header { tries: many, ..header_of(&entry) };
    let verdict = deliver::Verdict::Again(0, header.encode().to_vec());
    assert!(queue.settle(&[support::settlement(&entry, verdict)]).await.is_empty());
    assert_eq!(abort_it(&queue, "a").await, Abort::Aborted);
    assert_eq!(assert_aborted(&queue, "a").await.tries, u64::from(many));
}
