//! Jobs that were running when their worker died: what a start records, what a takeover counts, and
//! what is corrected if a worker that was declared dead is alive.
#![allow(clippy::unwrap_used, clippy::expect_used)] // In a test, a surprise is a failure.

mod support;

use ardiq_engine::protocol::entry::{ALONE, Header, SEPARATE_BODY, SUSPECT};
use ardiq_engine::protocol::state::StartMode;
use ardiq_engine::scripts::deliver::{Entry, Settlement, Verdict};
use ardiq_engine::scripts::look;
use ardiq_engine::scripts::produce::NewJob;
use ardiq_engine::scripts::upkeep::{self, Survivor};
use support::{LOW, Queue, RETURNED_LOW, TTL, done, header_of, job, patience, poison, result_of, settlement};

/// The nonce of `job`'s envelopes.
const NONCE: [u8; 8] = 1u64.to_be_bytes();

/// Deliver a job with this header to a worker.
async fn delivered_as(queue: &Queue, worker: &str, header: Header) -> Entry {
    let entry = queue.deliver("a", worker).await;
    let header = Header { enqueued_ms: header_of(&entry).enqueued_ms, ..header };
    queue.settle(&[settlement(&entry, Verdict::Back(header.encode().to_vec()))]).await;
    queue.take(worker, 1).await.remove(0)
}

/// The worker dies, and another one takes over its only job. Returns the new delivery.
async fn taken_over(queue: &Queue, dead: &str) -> Entry {
    queue.let_lease_end(dead).await;
    queue.sign_on("heir").await;
    assert_eq!(queue.reclaim("heir", 10, false).await.taken, 1);
    queue.take("heir", 1).await.remove(0)
}

/// The worker that runs these jobs, which were delivered as this entry, is alive.
async fn survive(queue: &Queue, entry: &str, jobs: &[(&str, [u8; 8])]) {
    let survivor =
        |(id, nonce): &(&str, [u8; 8])| Survivor { id: (*id).to_owned(), nonce: *nonce, entry: entry.into() };
    let runs: Vec<_> = jobs.iter().map(survivor).collect();
    upkeep::survive(&queue.link, &queue.keys, &runs, patience()).await.unwrap();
}

async fn letters(queue: &Queue) -> Vec<String> {
    let letters = look::dead(&queue.link, &queue.keys, 10, patience()).await.unwrap();
    letters.into_iter().map(|letter| letter.id).collect()
}

#[tokio::test]
async fn a_start_is_refused_to_a_worker_that_was_declared_dead() {
    let queue = Queue::start();
    let entry = queue.deliver("a", "w").await;
    queue.set_lease("w", -1).await;
    assert_eq!(queue.begin("w", &[&entry]).await, [0], "its work is being taken over");
    assert!(!queue.names().await.contains(&"running".to_owned()));
    let _: i64 = queue.ask("ZREM", (&queue.keys.workers, "w")).await;
    assert!(queue.begin("w", &[&entry]).await.is_empty(), "its lease was deleted, and the entry is still its own");
    let _: i64 = queue.ask("DEL", queue.keys.job("a")).await;
    assert_eq!(queue.begin("w", &[&entry]).await, [0], "nothing says that the entry is still its own");
    let record = format!("q12345678{} {}", entry.entry, "lane:low");
    let _: String = queue.ask("SET", (queue.keys.job("a"), record)).await;
    for late in [1, 0] {
        queue.set_lease("w", late).await;
        assert!(queue.begin("w", &[&entry]).await.is_empty(), "late, but not declared dead");
    }
}

#[tokio::test]
async fn a_start_is_recorded_with_its_mode_and_the_last_one_counts() {
    let queue = Queue::start();
    let entry = queue.deliver("a", "w").await;
    for (mode, recorded) in [(StartMode::Plain, "1"), (StartMode::Alone, "1 a"), (StartMode::Cleared, "1 c")] {
        assert!(queue.begin_as("w", &[&entry], mode).await.is_empty());
        let run: String = queue.ask("HGET", (&queue.keys.running, "a")).await;
        assert_eq!(run, format!("{} w 5 {recorded}", entry.entry));
    }
}

#[tokio::test]
async fn a_takeover_notes_whether_the_job_was_the_only_suspect_of_its_process() {
    for (mode, before, after) in [
        (StartMode::Plain, SUSPECT, SUSPECT),
        (StartMode::Plain, SUSPECT | ALONE | SEPARATE_BODY, SUSPECT | SEPARATE_BODY),
        (StartMode::Plain, 0, SUSPECT),
        (StartMode::Alone, SUSPECT, SUSPECT | ALONE),
        (StartMode::Alone, SUSPECT | ALONE | SEPARATE_BODY, SUSPECT | ALONE | SEPARATE_BODY),
        (StartMode::Alone, SEPARATE_BODY, SUSPECT | ALONE | SEPARATE_BODY),
    ] {
        let queue = Queue::start();
        let entry = delivered_as(&queue, "w", Header { tries: 2, deaths: 2, flags: before, ..Header::default() }).await;
        assert!(queue.begin_as("w", &[&entry], mode).await.is_empty());
        let header = header_of(&taken_over(&queue, "w").await);
        assert_eq!((header.tries, header.deaths, header.flags), (3, 3, after), "{mode:?} {before}");
    }
}

#[tokio::test]
async fn a_takeover_leaves_what_is_known_of_a_job_that_had_not_started() {
    let queue = Queue::start();
    let known = Header { tries: 3, deaths: 2, misses: 4, flags: SUSPECT | ALONE | SEPARATE_BODY, ..Header::default() };
    let entry = delivered_as(&queue, "w", known).await;
    let header = header_of(&taken_over(&queue, "w").await);
    assert_eq!(header, Header { enqueued_ms: header_of(&entry).enqueued_ms, ..known });
}

#[tokio::test]
async fn a_run_that_had_outlived_suspicion_is_counted_from_one_again() {
    let queue = Queue::start();
    let known = Header { tries: 5, deaths: 5, flags: SUSPECT | ALONE, ..Header::default() };
    let entry = delivered_as(&queue, "w", known).await;
    queue.begin_as("w", &[&entry], StartMode::Alone).await;
    queue.begin_as("w", &[&entry], StartMode::Cleared).await;
    let header = header_of(&taken_over(&queue, "w").await);
    assert_eq!((header.tries, header.deaths, header.flags), (6, 1, SUSPECT));
}

#[tokio::test]
async fn takeovers_from_workers_that_live_make_no_job_a_suspect_for_its_deaths() {
    let queue = Queue::start();
    let mut entry = queue.deliver("a", "worker0").await;
    for number in 0..4 {
        let (holder, heir) = (format!("worker{number}"), format!("worker{}", number + 1));
        queue.begin(&holder, &[&entry]).await;
        queue.let_lease_end(&holder).await;
        queue.sign_on(&heir).await;
        assert_eq!(queue.reclaim(&heir, 10, false).await.taken, 1);
        // The worker is alive, and says so.
        survive(&queue, &entry.entry, &[("a", NONCE)]).await;
        entry = queue.take(&heir, 1).await.remove(0);
        assert_eq!(header_of(&entry).deaths, 1, "only the last takeover may have been a death");
    }
    assert_eq!(header_of(&entry).tries, 4);
}

#[tokio::test]
async fn poison_is_dead_lettered_when_nothing_speaks_for_it() {
    let queue = Queue::start();
    queue.enqueue(&[NewJob { unique: Some("u".into()), ..job("a") }]).await;
    let entry = queue.take("w", 1).await.remove(0);
    queue.begin("w", &[&entry]).await;
    // A survival of another enqueue of this id, and one of another job.
    survive(&queue, "w", &[("a", 2u64.to_be_bytes()), ("b", NONCE)]).await;
    let over = Settlement { recorded: true, unique: Some("u".into()), ..poison(&entry, TTL) };
    assert!(queue.settle(&[over]).await.is_empty());
    assert_eq!((letters(&queue).await, queue.record("a").await), (vec!["a".to_owned()], Some(result_of(&entry))));
    let left = queue.names().await;
    assert!(!left.contains(&"running".to_owned()) && !left.contains(&"unique:u".to_owned()), "{left:?}");
    assert_eq!((queue.length(LOW).await, queue.pending(LOW).await), (0, 0));
}

#[tokio::test]
async fn poison_runs_again_with_fewer_deaths_when_a_worker_lives_that_was_taken_for_dead() {
    let queue = Queue::start();
    let known = Header { tries: 3, deaths: 3, misses: 1, flags: SUSPECT | ALONE, ..Header::default() };
    let entry = delivered_as(&queue, "w", known).await;
    survive(&queue, "w", &[("a", NONCE)]).await;
    assert!(queue.settle(&[poison(&entry, TTL)]).await.is_empty());
    assert_eq!((letters(&queue).await.len(), queue.kind("a").await), (0, Some('q')));
    let again = queue.take("w", 1).await.remove(0);
    let enqueued_ms = header_of(&entry).enqueued_ms;
    assert_eq!(header_of(&again), Header { deaths: 2, enqueued_ms, ..known });
    assert_eq!((&again.envelope, again.stream), (&entry.envelope, LOW));
    assert_eq!((queue.length(RETURNED_LOW).await, queue.pending(RETURNED_LOW).await), (0, 0));
    assert!(queue.settle(&[poison(&again, TTL)]).await.is_empty());
    assert_eq!(letters(&queue).await, ["a"], "a life counts once");
}

#[tokio::test]
async fn every_worker_that_lives_counts_and_no_more_deaths_are_taken_back_than_there_were() {
    for (lives, deaths) in [(2, 1), (3, 0), (4, 0)] {
        let queue = Queue::start();
        let entry = delivered_as(&queue, "w", Header { deaths: 3, flags: SUSPECT, ..Header::default() }).await;
        for life in 0..lives {
            // The reply was lost, so the call is repeated.
            survive(&queue, &format!("w{life}"), &[("a", NONCE)]).await;
            survive(&queue, &format!("w{life}"), &[("a", NONCE)]).await;
        }
        queue.settle(&[poison(&entry, TTL)]).await;
        assert_eq!(header_of(&queue.take("w", 1).await[0]).deaths, deaths);
        assert!(!queue.names().await.iter().any(|name| name.starts_with("survivals:")));
    }
}

#[tokio::test]
async fn poison_whose_bytes_are_gone_is_dead_lettered_whatever_lives() {
    let queue = Queue::start();
    let entry = queue.deliver("a", "w").await;
    survive(&queue, "w", &[("a", NONCE)]).await;
    let _: i64 = queue.ask("XDEL", (&queue.keys.streams[LOW], &entry.entry)).await;
    assert!(queue.settle(&[poison(&entry, TTL)]).await.is_empty());
    assert_eq!((letters(&queue).await, queue.record("a").await), (vec!["a".to_owned()], Some(result_of(&entry))));
}

#[tokio::test]
async fn an_unreadable_count_of_lives_starts_again() {
    for words in [["SET", "no number"], ["RPUSH", "1"], ["SET", "9223372036854775807"]] {
        let queue = Queue::start();
        let name = queue.keys.survivals("b", NONCE);
        let _: redis::Value = queue.ask(words[0], (&name, words[1])).await;
        queue.enqueue(&[job("a"), job("b"), job("c")]).await;
        survive(&queue, "w", &[("a", NONCE), ("b", NONCE), ("c", NONCE)]).await;
        for id in ["a", "b", "c"] {
            let lives: i64 = queue.ask("SCARD", queue.keys.survivals(id, NONCE)).await;
            assert_eq!(lives, 1, "{id} {words:?}");
        }
        // A key of the wrong type does not prevent poison from being dead-lettered.
        let entry = queue.take("w", 3).await.remove(1);
        let _: i64 = queue.ask("DEL", &name).await;
        let _: redis::Value = queue.ask(words[0], (&name, words[1])).await;
        assert!(queue.settle(&[poison(&entry, TTL)]).await.is_empty(), "{words:?}");
    }
}

#[tokio::test]
async fn that_a_worker_lives_is_forgotten_in_the_end() {
    let queue = Queue::start();
    let many: Vec<String> = (0..450).map(|number| number.to_string()).collect();
    let jobs: Vec<(&str, [u8; 8])> = many.iter().map(|id| (id.as_str(), NONCE)).collect();
    let records: Vec<(String, &str)> = many.iter().map(|id| (queue.keys.job(id), "q123456781-1 lane:low")).collect();
    let _: String = queue.ask("MSET", &records).await;
    survive(&queue, "w", &jobs).await;
    survive(&queue, "other", &jobs[..1]).await;
    let names: Vec<String> = queue.names().await;
    assert_eq!(names.iter().filter(|name| name.starts_with("survivals:")).count(), 450, "in several calls");
    let first = queue.keys.survivals("0", NONCE);
    assert_eq!(queue.ask::<i64>("SCARD", &first).await, 2);
    for id in ["0", "449"] {
        let ttl: i64 = queue.ask("PTTL", queue.keys.survivals(id, NONCE)).await;
        assert!((1..=86_400_000).contains(&ttl), "{ttl}");
    }
}

#[tokio::test]
async fn of_a_job_that_has_ended_or_is_gone_nothing_is_recorded() {
    let queue = Queue::start();
    queue.enqueue(&[job("stored"), job("forgotten"), job("open")]).await;
    let sent = queue.take("w", 3).await;
    queue.settle(&[done(&sent[0], TTL), done(&sent[1], 0)]).await;
    survive(&queue, "1-1", &[("stored", NONCE), ("forgotten", NONCE), ("open", NONCE), ("gone", NONCE)]).await;
    let names = queue.names().await;
    let survivals: Vec<&String> = names.iter().filter(|name| name.starts_with("survivals:")).collect();
    assert!(matches!(survivals[..], [name] if name.starts_with("survivals:open:")), "{survivals:?}");
}

#[tokio::test]
async fn work_that_was_left_behind_spends_neither_a_try_nor_a_life() {
    let queue = Queue::start();
    let known = Header { tries: 3, deaths: 2, ..Header::default() };
    queue.enqueue(&[job("b"), job("c")]).await;
    let others = queue.take("w", 2).await;
    let entry = delivered_as(&queue, "w", known).await;
    queue.begin("w", &[&entry, &others[0], &others[1]]).await;
    assert!(queue.leave("w").await > 0);
    queue.sign_on("heir").await;
    // The score is kept from call to call.
    for _ in 0..3 {
        assert_eq!(queue.reclaim("heir", 1, false).await.taken, 1);
    }
    let again = queue.take("heir", 3).await;
    let mut headers: Vec<_> = again.iter().map(|one| (one.id.clone(), header_of(one))).collect();
    headers.sort_by(|(a, _), (b, _)| a.cmp(b));
    let (_, first) = &headers[0];
    assert_eq!(*first, Header { enqueued_ms: first.enqueued_ms, ..known });
    assert!(headers[1..].iter().all(|(_, header)| (header.tries, header.deaths) == (0, 0)), "{headers:?}");
    assert!(!queue.names().await.contains(&"running".to_owned()));
}

#[tokio::test]
async fn what_a_failed_worker_leaves_behind_counts_as_a_death() {
    let queue = Queue::start();
    let known = Header { tries: 3, deaths: 1, ..Header::default() };
    let entry = delivered_as(&queue, "w", known).await;
    queue.begin("w", &[&entry]).await;
    assert_eq!(upkeep::leave(&queue.link, &queue.keys, "w", true, patience()).await.unwrap(), 1);
    queue.sign_on("heir").await;
    assert_eq!(queue.reclaim("heir", 1, false).await.started, 1, "at once, without waiting for the lease");
    let again = header_of(&queue.take("heir", 1).await[0]);
    assert_eq!((again.tries, again.deaths), (4, 2));
}

/// What the record of a job may look like when its worker dies, and whether its entry still counts.
const RECORDS: [(&[&str], bool); 9] = [
    (&[], true),
    (&["DEL"], true),
    (&["SET", "q123"], true),
    (&["SET", ""], true),
    (&["SET", "q12345678not an entry"], true),
    (&["RPUSH", "x"], true),
    (&["SET", "q123456789-1 lane:low"], false),
    (&["SET", "R12345678\x01"], false),
    (&["SET", "T12345678"], false),
];

async fn damage(queue: &Queue, id: &str, words: &[&str]) {
    let name = queue.keys.job(id);
    let Some((command, values)) = words.split_first() else { return };
    let _: i64 = if *command == "RPUSH" { queue.ask("DEL", &name).await } else { 0 };
    let _: redis::Value = match values {
        [value] => queue.ask(command, (&name, value)).await,
        _ => queue.ask(command, &name).await,
    };
}

#[tokio::test]
async fn a_job_whose_record_is_damaged_runs_again_when_its_worker_dies() {
    for (words, counts) in RECORDS {
        let queue = Queue::start();
        let entry = queue.deliver("a", "w").await;
        queue.begin("w", &[&entry]).await;
        damage(&queue, "a", words).await;
        let before = if counts { None } else { queue.kind("a").await };
        queue.let_lease_end("w").await;
        queue.sign_on("heir").await;
        assert_eq!(queue.reclaim("heir", 10, false).await.taken, u64::from(counts), "{words:?}");
        let again = queue.fetch("heir", 1).await.entries;
        assert_eq!(again.len(), usize::from(counts), "{words:?}");
        if counts {
            assert!(queue.settle(&[done(&again[0], TTL)]).await.is_empty(), "{words:?}");
            assert_eq!(queue.kind("a").await, Some('R'), "{words:?}");
        } else {
            assert_eq!(queue.kind("a").await, before, "{words:?}");
        }
    }
}

#[tokio::test]
async fn a_delivery_whose_start_is_refused_ends() {
    for (words, counts) in RECORDS {
        let queue = Queue::start();
        let entry = queue.deliver("a", "w").await;
        damage(&queue, "a", words).await;
        let before = if counts { None } else { queue.kind("a").await };
        let void = settlement(&entry, Verdict::Void(header_of(&entry).encode().to_vec()));
        assert!(queue.settle(&[void]).await.is_empty(), "{words:?}");
        assert_eq!((queue.pending(LOW).await, queue.length(LOW).await), (0, 0), "{words:?}");
        assert_eq!(queue.length(RETURNED_LOW).await, u64::from(counts), "{words:?}");
        if counts {
            let again = queue.take("w", 1).await;
            assert!(queue.begin("w", &[&again[0]]).await.is_empty(), "{words:?}: its record is whole again");
        } else {
            assert_eq!(queue.kind("a").await, before, "{words:?}");
        }
    }
}
