//! Notes of jobs: the script that stores them, and the scripts that keep or remove them.
#![allow(clippy::unwrap_used, clippy::expect_used)] // In a test, a surprise is a failure.

mod support;

use ardiq_engine::error::Error;
use ardiq_engine::protocol::entry::{Header, NOTES};
use ardiq_engine::protocol::notes::{News, Progress, Report};
use ardiq_engine::scripts::abort::{self, Abort};
use ardiq_engine::scripts::deliver::{Entry, Settlement, Verdict};
use ardiq_engine::scripts::notes::{self, Note};
use ardiq_engine::scripts::produce::NewJob;
use ardiq_engine::scripts::upkeep::{self, Part};
use support::{
    LOW, NO_ARGUMENTS, Queue, TTL, back, dead, done, header_of, job, job_of_call, note_of, patience, poison, promote,
    settlement,
};

const NONCE: [u8; 8] = 1u64.to_be_bytes();

/// Store notes. Returns the positions of those that were refused.
async fn store(queue: &Queue, notes: &[Note]) -> Vec<usize> {
    notes::note(&queue.link, &queue.keys, notes, patience()).await.unwrap()
}

async fn progress(queue: &Queue, id: &str) -> Option<Report> {
    notes::report(&queue.link, &queue.keys, id, patience()).await.unwrap()
}

async fn checkpoint(queue: &Queue, id: &str, nonce: [u8; 8]) -> Option<Vec<u8>> {
    notes::checkpoint(&queue.link, &queue.keys, id, nonce, patience()).await.unwrap()
}

fn saved(entry: &Entry, value: &[u8]) -> Note {
    Note { progress: None, checkpoint: Some(value.to_vec()), ..note_of(entry) }
}

async fn noted(queue: &Queue) -> Vec<String> {
    queue.names().await.into_iter().filter(|name| name.starts_with("notes:")).collect()
}

/// What a worker does with a job that has notes.
fn with_notes(one: Settlement) -> Settlement {
    Settlement { has_notes: true, ..one }
}

/// The job runs again, as a worker does it that knows of its notes.
fn retried(entry: &Entry, delay_ms: u64) -> Settlement {
    let header = header_of(entry);
    let header = Header { tries: header.tries + 1, flags: header.flags | NOTES, ..header };
    with_notes(settlement(entry, Verdict::Again(delay_ms, header.encode().to_vec())))
}

#[tokio::test]
async fn notes_are_stored_together_and_read_again() {
    let queue = Queue::start();
    queue.enqueue(&[job("a"), job("b"), job("c")]).await;
    let sent = queue.take("w", 3).await;
    let before = queue.now_ms().await;
    let only_progress = Note { checkpoint: None, ..note_of(&sent[1]) };
    assert!(store(&queue, &[note_of(&sent[0]), only_progress, saved(&sent[2], b"")]).await.is_empty());
    let report = progress(&queue, "a").await.unwrap();
    assert_eq!(report.progress, note_of(&sent[0]).progress.unwrap());
    assert!((before..before + 30_000).contains(&report.at_ms), "{} {before}", report.at_ms);
    assert_eq!(checkpoint(&queue, "a", NONCE).await, Some(b"value".to_vec()));
    assert!(progress(&queue, "b").await.is_some());
    assert_eq!(checkpoint(&queue, "b", NONCE).await, None);
    assert_eq!(progress(&queue, "c").await, None);
    assert_eq!(checkpoint(&queue, "c", NONCE).await, Some(Vec::new()), "an empty value is one");
    assert_eq!(progress(&queue, "unknown").await, None);
    let later = Progress { done: 4, ..Progress::default() };
    let newer = Note { progress: Some(later.clone()), checkpoint: None, ..note_of(&sent[0]) };
    assert!(store(&queue, &[newer]).await.is_empty());
    assert_eq!(progress(&queue, "a").await.unwrap().progress, later);
    assert_eq!(checkpoint(&queue, "a", NONCE).await, Some(b"value".to_vec()), "each is replaced by itself");
}

#[tokio::test]
async fn a_large_checkpoint_is_stored_and_read() {
    let queue = Queue::start();
    let entry = queue.deliver("a", "w").await;
    let value = vec![7; 1 << 20];
    assert!(store(&queue, &[saved(&entry, &value)]).await.is_empty());
    assert_eq!(checkpoint(&queue, "a", NONCE).await, Some(value));
}

#[tokio::test]
async fn a_worker_that_lost_the_job_cannot_overwrite_the_notes_of_its_heir() {
    let queue = Queue::start();
    let stale = queue.deliver("a", "zombie").await;
    assert!(store(&queue, &[saved(&stale, b"first")]).await.is_empty());
    queue.let_lease_end("zombie").await;
    assert!(store(&queue, &[saved(&stale, b"second")]).await.is_empty(), "nobody has taken it over yet");
    queue.sign_on("heir").await;
    assert_eq!(queue.reclaim("heir", 10, false).await.taken, 1);
    assert_eq!(store(&queue, &[saved(&stale, b"late")]).await, [0]);
    assert_eq!(checkpoint(&queue, "a", NONCE).await, Some(b"second".to_vec()));
    let heirs = queue.take("heir", 1).await.remove(0);
    assert!(header_of(&heirs).has_notes(), "so that it reads them");
    assert!(store(&queue, &[saved(&heirs, b"third")]).await.is_empty());
    assert_eq!(store(&queue, &[note_of(&stale), saved(&heirs, b"fourth")]).await, [0], "the other one counts");
    assert_eq!(checkpoint(&queue, "a", NONCE).await, Some(b"fourth".to_vec()));
    assert!(queue.settle(&[with_notes(done(&heirs, TTL))]).await.is_empty());
    assert_eq!(store(&queue, &[note_of(&stale), note_of(&heirs)]).await, [0, 1]);
    assert_eq!(noted(&queue).await, [""; 0]);
}

#[tokio::test]
async fn every_takeover_keeps_the_notes_even_of_a_run_whose_start_was_not_recorded() {
    for (begins, signs_off) in [(true, false), (false, false), (true, true)] {
        let queue = Queue::start();
        queue.enqueue(&[job("a"), job("plain")]).await;
        let sent = queue.take("w", 2).await;
        if begins {
            queue.begin("w", &[&sent[0], &sent[1]]).await;
        }
        store(&queue, &[note_of(&sent[0])]).await;
        if signs_off {
            queue.leave("w").await;
        } else {
            queue.let_lease_end("w").await;
        }
        queue.sign_on("heir").await;
        assert_eq!(queue.reclaim("heir", 10, false).await.taken, 2);
        let mut heirs = queue.take("heir", 2).await;
        heirs.sort_by(|a, b| a.id.cmp(&b.id));
        let flagged: Vec<bool> = heirs.iter().map(|entry| header_of(entry).has_notes()).collect();
        assert_eq!(flagged, [true, false], "{begins} {signs_off}");
        assert!(checkpoint(&queue, "a", NONCE).await.is_some());
    }
}

#[tokio::test]
async fn notes_wait_with_the_job_for_its_next_attempt() {
    let queue = Queue::start();
    let entry = queue.deliver("a", "w").await;
    store(&queue, &[note_of(&entry)]).await;
    assert!(queue.settle(&[retried(&entry, 60_000)]).await.is_empty());
    assert!(progress(&queue, "a").await.is_some(), "while it is scheduled");
    let _: i64 = queue.ask("ZADD", (&queue.keys.due, 1, "a")).await;
    assert_eq!(promote(&queue, 10).await.moved, 1);
    let second = queue.take("w", 1).await.remove(0);
    assert_eq!((header_of(&second).has_notes(), header_of(&second).tries), (true, 1));
    assert!(queue.settle(&[with_notes(back(&second))]).await.is_empty());
    let third = queue.take("w", 1).await.remove(0);
    assert!(header_of(&third).has_notes());
    assert_eq!(checkpoint(&queue, "a", NONCE).await, Some(b"value".to_vec()));
    assert!(queue.settle(&[with_notes(done(&third, TTL))]).await.is_empty());
    assert_eq!((noted(&queue).await, progress(&queue, "a").await), (Vec::new(), None));
}

#[tokio::test]
async fn every_end_of_a_job_removes_its_notes() {
    type Verdicts = fn(&Entry) -> Settlement;
    let ends: [Verdicts; 5] = [
        |entry| done(entry, TTL),
        |entry| done(entry, 0),
        |entry| done(entry, -1),
        |entry| dead(entry, TTL),
        |entry| poison(entry, TTL),
    ];
    let queue = Queue::start();
    for (number, end) in ends.into_iter().enumerate() {
        let entry = queue.deliver(&number.to_string(), "w").await;
        store(&queue, &[note_of(&entry)]).await;
        assert!(queue.settle(&[with_notes(end(&entry))]).await.is_empty());
        assert_eq!(noted(&queue).await, [""; 0], "{number}");
    }
}

#[tokio::test]
async fn the_end_of_a_job_whose_entry_was_deleted_removes_its_notes() {
    let queue = Queue::start();
    let entry = queue.deliver("a", "w").await;
    store(&queue, &[note_of(&entry)]).await;
    let _: i64 = queue.ask("XDEL", (&queue.keys.streams[LOW], &entry.entry)).await;
    assert_eq!(queue.settle(&[retried(&entry, 0)]).await, [0]);
    assert_eq!((queue.kind("a").await, noted(&queue).await), (Some('R'), Vec::new()));
}

#[tokio::test]
async fn an_aborted_job_leaves_no_notes_whatever_ends_it() {
    let abort = async |queue: &Queue| abort::abort(&queue.link, &queue.keys, "a", NONCE, patience()).await.unwrap();
    // While it is scheduled.
    let queue = Queue::start();
    let entry = queue.deliver("a", "w").await;
    store(&queue, &[note_of(&entry)]).await;
    queue.settle(&[retried(&entry, 60_000)]).await;
    assert_eq!((abort(&queue).await, noted(&queue).await), (Abort::Aborted, Vec::new()));
    // While a worker has it, which then wants to retry it, or dies.
    for dies in [false, true] {
        let queue = Queue::start();
        let entry = queue.deliver("a", "w").await;
        store(&queue, &[note_of(&entry)]).await;
        assert_eq!(abort(&queue).await, Abort::Asked);
        if dies {
            queue.let_lease_end("w").await;
            queue.sign_on("heir").await;
            queue.reclaim("heir", 10, false).await;
        } else {
            assert!(queue.settle(&[retried(&entry, 0)]).await.is_empty());
        }
        assert_eq!((queue.kind("a").await, noted(&queue).await), (Some('R'), Vec::new()), "{dies}");
    }
}

#[tokio::test]
async fn a_later_job_with_the_same_id_has_no_notes() {
    let queue = Queue::start();
    let first = queue.deliver("a", "w").await;
    store(&queue, &[note_of(&first)]).await;
    // A worker of an older version ends the job, and leaves its notes behind.
    queue.settle(&[done(&first, TTL)]).await;
    assert_eq!((progress(&queue, "a").await.is_some(), noted(&queue).await.len()), (true, 1));
    assert!(queue.enqueue(&[job_of_call("a", 2)]).await.is_empty());
    let second = queue.take("w", 1).await.remove(0);
    assert_eq!((progress(&queue, "a").await, header_of(&second).has_notes()), (None, false));
    assert_eq!(checkpoint(&queue, "a", 2u64.to_be_bytes()).await, None);
    assert_eq!(store(&queue, &[note_of(&first)]).await, [0], "and a run of the first cannot write");
    let done = upkeep::scrub(&queue.link, &queue.keys, Part::Records, "0", patience()).await.unwrap();
    assert_eq!(done.repairs, [("notes".to_owned(), "a:0000000000000001".to_owned())]);
    assert_eq!(noted(&queue).await, [""; 0]);
}

#[tokio::test]
async fn a_check_keeps_the_notes_of_unfinished_jobs_and_removes_all_others() {
    let queue = Queue::start();
    queue.enqueue(&[job("queued"), job("scheduled"), NewJob { lane: 1, ..job("lost") }]).await;
    let sent = queue.take("w", 3).await;
    store(&queue, &[note_of(&sent[0]), note_of(&sent[1]), note_of(&sent[2])]).await;
    let scheduled = sent.iter().find(|entry| entry.id == "scheduled").unwrap();
    queue.settle(&[retried(scheduled, 60_000)]).await;
    let _: i64 = queue.ask("DEL", queue.keys.job("lost")).await;
    let _: String = queue.ask("SET", (queue.keys.notes("odd", NONCE), "no hash")).await;
    let done = upkeep::scrub(&queue.link, &queue.keys, Part::Records, "0", patience()).await.unwrap();
    let mut removed: Vec<String> = done.repairs.into_iter().map(|(kind, what)| format!("{kind} {what}")).collect();
    removed.sort();
    assert_eq!(removed, ["notes lost:0000000000000001", "notes odd:0000000000000001"]);
    assert_eq!(noted(&queue).await, ["notes:queued:0000000000000001", "notes:scheduled:0000000000000001"]);
}

#[tokio::test]
async fn a_job_that_was_acknowledged_by_hand_is_queued_again_with_its_notes() {
    let queue = Queue::start();
    queue.enqueue(&[job("a"), job("plain")]).await;
    let sent = queue.take("w", 2).await;
    store(&queue, &[note_of(&sent[0])]).await;
    for entry in &sent {
        let _: i64 = queue.ask("XACK", (&queue.keys.streams[LOW], &queue.keys.queue, &entry.entry)).await;
    }
    let mut cursor = "0".to_owned();
    loop {
        let done = upkeep::scrub(&queue.link, &queue.keys, Part::Entries, &cursor, patience()).await.unwrap();
        cursor = done.cursor;
        if cursor == "0" {
            break;
        }
    }
    let again = queue.take("w", 2).await;
    let flagged: Vec<(&str, bool)> = again.iter().map(|entry| (&*entry.id, header_of(entry).has_notes())).collect();
    assert_eq!(flagged, [("a", true), ("plain", false)]);
    assert_eq!(header_of(&again[1]), header_of(&sent[1]), "nothing else has changed");
}

#[tokio::test]
async fn a_key_of_another_type_is_replaced_and_does_not_stop_the_others() {
    let queue = Queue::start();
    queue.enqueue(&[job("a"), job("b")]).await;
    let sent = queue.take("w", 2).await;
    let _: String = queue.ask("SET", (queue.keys.notes("a", NONCE), "no hash")).await;
    assert_eq!((progress(&queue, "a").await, checkpoint(&queue, "a", NONCE).await), (None, None));
    assert!(store(&queue, &[note_of(&sent[0]), note_of(&sent[1])]).await.is_empty());
    assert!(progress(&queue, "a").await.is_some() && progress(&queue, "b").await.is_some());
}

#[tokio::test]
async fn followers_receive_the_progress_and_others_cost_no_message() {
    let queue = Queue::start();
    queue.listen("me").await;
    let entry = queue.deliver("a", "w").await;
    store(&queue, &[note_of(&entry)]).await;
    assert_eq!(queue.pushes().await, [], "no process follows it");
    store(&queue, &[Note { channels: vec!["other".into(), "me".into()], ..note_of(&entry) }]).await;
    let (channel, message) = queue.next_push().await;
    let report = progress(&queue, "a").await.unwrap();
    assert_eq!((channel.as_str(), News::read(&message)), ("me", Some(("a", News::Progress { nonce: NONCE, report }))));
}

#[tokio::test]
async fn a_full_server_refuses_notes_and_still_accepts_outcomes() {
    let queue = Queue::start();
    let entry = queue.deliver("a", "w").await;
    let _: String = queue.ask("CONFIG", ("SET", "maxmemory", 1)).await;
    let error = notes::note(&queue.link, &queue.keys, &[note_of(&entry)], patience()).await.unwrap_err();
    assert!(matches!(&error, Error::Refused(refusal) if refusal.code == "OOM"), "{error}");
    assert!(queue.settle(&[done(&entry, TTL)]).await.is_empty());
}

#[tokio::test]
async fn jobs_without_notes_cost_no_more_than_before() {
    let queue = Queue::start();
    queue.enqueue(&[job("a"), job("b"), job("c")]).await;
    let sent = queue.take("w", 3).await;
    let _: String = queue.ask("CONFIG", ("RESETSTAT",)).await;
    assert!(queue.settle(&[done(&sent[0], TTL), support::again(&sent[1], 0), back(&sent[2])]).await.is_empty());
    let stats: String = queue.ask("INFO", ("commandstats",)).await;
    for command in ["hset", "hget", "hmget", "unlink", "del", "publish"] {
        assert!(!stats.contains(&format!("cmdstat_{command}:")), "{command}: {stats}");
    }
    let _: String = queue.ask("PING", NO_ARGUMENTS).await;
}
