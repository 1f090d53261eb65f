//! What runs report reaches Redis, the next attempt, and the processes that follow the job.
#![allow(clippy::unwrap_used, clippy::expect_used)] // In a test, a surprise is a failure.

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use ardiq_engine::answer::Answer;
use ardiq_engine::error::Error;
use ardiq_engine::events::JobEvent;
use ardiq_engine::protocol::notes::{Progress, Report};
use ardiq_engine::protocol::state::JobState;
use ardiq_engine::submit::Submission;
use ardiq_engine::worker::judge::Outcome;
use support::LIMIT;
use support::host::{Host, Running, task, tasks, tell, value};
use support::server::Server;

fn done(done: u64) -> Progress {
    Progress { done, total: Some(1_000), message: None }
}

fn progress(host: &Host, id: &str) -> Option<Report> {
    match host.ask(|client, mailbox, request| client.progress(mailbox, request, id.to_owned())) {
        Ok(Answer::Progress(report)) => report,
        other => panic!("{other:?}"),
    }
}

/// Wait until this progress is stored.
fn until_stored(host: &Host, id: &str, done: u64) {
    let end = Instant::now() + LIMIT;
    while progress(host, id).is_none_or(|report| report.progress.done != done) {
        assert!(Instant::now() < end, "{:?}", progress(host, id));
    }
}

fn save(host: &Host, running: &Running, slot: usize, value: &[u8]) -> Result<(), Error> {
    let (worker, value) = (&running.worker, value.to_vec());
    let answer =
        host.ask(|client, mailbox, request| client.store_checkpoint(mailbox, request, worker, slot, value.clone()));
    answer.map(|answer| assert!(matches!(answer, Answer::Number(1)), "{answer:?}"))
}

fn calls_of(server: &Server, command: &str) -> u64 {
    let stats: String = tell(server, &["INFO", "commandstats"]);
    let calls = stats
        .split(&format!("cmdstat_{command}:calls="))
        .nth(1)
        .map_or("0", |rest| rest.split(',').next().unwrap_or_default());
    calls.parse().unwrap()
}

fn names(server: &Server, pattern: &str) -> Vec<String> {
    let mut names: Vec<String> = tell(server, &["KEYS", pattern]);
    names.sort();
    names
}

/// Answers to one request, until the last event.
struct Events<'a> {
    host: &'a Host,
    request: i64,
    waiting: Vec<Result<JobEvent, Error>>,
}

impl<'a> Events<'a> {
    fn of(host: &'a Host, id: &str, request: i64) -> Self {
        host.client.follow(&host.mailbox, request, id.to_owned());
        Self { host, request, waiting: Vec::new() }
    }

    fn next(&mut self) -> Result<JobEvent, Error> {
        let end = Instant::now() + LIMIT;
        while self.waiting.is_empty() {
            assert!(Instant::now() < end, "no event in time");
            for (request, answer) in self.host.mailbox.block(end.saturating_duration_since(Instant::now())) {
                assert_eq!(request, self.request);
                self.waiting.push(answer.map(|answer| match answer {
                    Answer::Event(event) => *event,
                    other => panic!("{other:?}"),
                }));
            }
        }
        self.waiting.remove(0)
    }

    /// The next event that satisfies this.
    fn until(&mut self, is_wanted: impl Fn(&JobEvent) -> bool) -> JobEvent {
        loop {
            let event = self.next().unwrap();
            if is_wanted(&event) {
                return event;
            }
            assert!(!event.is_last, "{event:?}");
        }
    }
}

#[test]
fn a_hundred_thousand_reports_take_a_few_calls_and_the_last_one_arrives() {
    let server = Server::start(&[]);
    let host = Host::new(&server.url());
    let mut running = host.worker("w", 1, 1);
    host.enqueue(tasks(1));
    let run = running.wait_for(1).remove(0);
    let (before, began) = (calls_of(&server, "hset"), Instant::now());
    for number in 1..=100_000 {
        running.worker.report(run.slot, done(number));
    }
    until_stored(&host, "0", 100_000);
    // One of them records the start of the run, and the worker may describe itself.
    let most = 4 + began.elapsed().as_millis() as u64 / 100 + 2;
    let calls = calls_of(&server, "hset") - before;
    assert!(calls <= most, "{calls} calls in {:?}", began.elapsed());
    running.complete(vec![(run.slot, value(&run))]);
    assert!(host.result("0", LIMIT).is_some());
    assert_eq!((progress(&host, "0"), names(&server, "*notes*")), (None, Vec::new()));
    running.stop();
}

#[test]
fn the_last_report_of_a_run_is_kept_for_the_next_attempt() {
    let server = Server::start(&[]);
    let host = Host::new(&server.url());
    let mut running = host.worker("w", 1, 1);
    host.enqueue(tasks(1));
    let run = running.wait_for(1).remove(0);
    running.worker.report(run.slot, done(1));
    until_stored(&host, "0", 1);
    running.worker.report(run.slot, done(2));
    running.worker.report(run.slot, done(3));
    running.complete(vec![(run.slot, Outcome::Retry(3_600_000))]);
    until_stored(&host, "0", 3);
    running.stop();
}

#[test]
fn a_checkpoint_is_there_for_every_next_attempt() {
    let server = Server::start(&[]);
    let host = Host::new(&server.url());
    let mut running = host.worker("w", 1, 1);
    host.enqueue(tasks(1));
    let first = running.wait_for(1).remove(0);
    assert_eq!(running.worker.checkpoint(first.slot).unwrap(), None);
    save(&host, &running, first.slot, b"one").unwrap();
    assert_eq!(running.worker.checkpoint(first.slot).unwrap(), Some(b"one".to_vec()));
    running.complete(vec![(first.slot, Outcome::Retry(0))]);
    let second = running.wait_for(1).remove(0);
    assert_eq!((second.tries, running.worker.checkpoint(second.slot).unwrap()), (2, Some(b"one".to_vec())));
    assert!(matches!(save(&host, &running, first.slot, b"stale"), Err(Error::StaleRun)));
    assert!(matches!(running.worker.checkpoint(first.slot), Err(Error::StaleRun)));
    save(&host, &running, second.slot, &vec![7; 200_000]).unwrap();
    running.worker.begin_stop();
    running.complete(vec![(second.slot, Outcome::HandBack)]);
    running.stop();
    let mut other = host.worker("v", 1, 1);
    let third = other.wait_for(1).remove(0);
    assert_eq!(third.tries, 2, "a return is no attempt");
    assert_eq!(other.worker.checkpoint(third.slot).unwrap(), Some(vec![7; 200_000]));
    other.complete(vec![(third.slot, value(&third))]);
    assert!(host.result("0", LIMIT).is_some());
    other.stop();
    assert_eq!(names(&server, "*notes*"), [""; 0]);
}

#[test]
fn a_crash_right_after_the_first_checkpoint_loses_nothing() {
    let server = Server::start(&[]);
    let (doomed, host) = (Host::new(&server.url()), Host::new(&server.url()));
    let mut dies = doomed.worker_with_lease("dies", 1, 1, 1_000);
    host.enqueue(vec![Submission { body: vec![1; 5_000].into(), ..task("0") }]);
    let run = dies.wait_for(1).remove(0);
    save(&doomed, &dies, run.slot, b"safe").unwrap();
    // As if the process were dead: nothing more comes from the worker, and its lease ends.
    drop(dies);
    let mut heir = host.worker_with_lease("heir", 1, 1, 1_000);
    let next = heir.wait_for(1).remove(0);
    assert_eq!(heir.worker.checkpoint(next.slot).unwrap(), Some(b"safe".to_vec()));
    assert_eq!(next.body, vec![1; 5_000], "its large arguments are there, too");
    heir.complete(vec![(next.slot, value(&next))]);
    assert!(host.result("0", LIMIT).is_some());
    heir.stop();
    assert_eq!(names(&server, "*notes*"), [""; 0]);
}

#[test]
fn a_worker_whose_job_was_taken_over_is_told_so() {
    let server = Server::start(&[]);
    let (first, second) = (Host::new(&server.url()), Host::new(&server.url()));
    let mut zombie = first.worker("zombie", 1, 1);
    first.enqueue(tasks(1));
    let stale = zombie.wait_for(1).remove(0);
    save(&first, &zombie, stale.slot, b"old").unwrap();
    // Its lease is taken away, as if it had been frozen for longer than that.
    let mut heir = second.worker("heir", 1, 1);
    tell::<i64>(&server, &["ZADD", "ardiq:{q}:workers", "XX", "-1", "zombie"]);
    let run = heir.wait_for(1).remove(0);
    save(&second, &heir, run.slot, b"new").unwrap();
    assert!(matches!(save(&first, &zombie, stale.slot, b"late"), Err(Error::StaleRun)));
    heir.complete(vec![(run.slot, Outcome::Retry(3_600_000))]);
    let stored: Vec<String> = names(&server, "*notes:0:*");
    let checkpoint: String = tell(&server, &["HGET", &stored[0], "checkpoint"]);
    assert_eq!(checkpoint, "new");
    zombie.complete(vec![(stale.slot, value(&stale))]);
    heir.stop();
    zombie.stop();
}

#[test]
fn events_follow_a_job_from_the_queue_to_its_end() {
    let server = Server::start(&[]);
    let (caller, host) = (Host::new(&server.url()), Host::new(&server.url()));
    // A worker that is there already hears at once that the job is followed.
    let mut running = host.worker("w", 1, 1);
    host.enqueue(vec![task("other")]);
    let other = running.wait_for(1).remove(0);
    host.enqueue(tasks(1));
    let mut events = Events::of(&caller, "0", 1);
    let first = events.next().unwrap();
    assert_eq!((first.state, first.tries, first.report), (JobState::Queued, 0, None));
    running.complete(vec![(other.slot, value(&other))]);
    let run = running.wait_for(1).remove(0);
    assert_eq!(events.until(|event| event.state == JobState::Running).tries, 1);
    running.worker.report(run.slot, done(500));
    let reported = events.until(|event| event.report.is_some());
    assert_eq!(reported.report.unwrap().progress, done(500));
    running.complete(vec![(run.slot, Outcome::Retry(2_000))]);
    let scheduled = events.until(|event| event.state == JobState::Scheduled);
    assert_eq!(scheduled.report.unwrap().progress, done(500), "the last known");
    let run = running.wait_for(1).remove(0);
    assert_eq!(events.until(|event| event.state == JobState::Running).tries, 2);
    running.worker.report(run.slot, done(1_000));
    running.complete(vec![(run.slot, value(&run))]);
    let last = events.until(|event| event.is_last);
    assert_eq!((last.state, last.tries), (JobState::Complete, 2));
    assert_eq!(last.report.unwrap().progress, done(1_000), "sent ahead of the result");
    assert_eq!(last.result.unwrap().id, "0");
    running.stop();
    assert!(names(&server, "*waiters*").is_empty());
}

#[test]
fn a_worker_that_starts_later_learns_at_once_which_jobs_are_followed() {
    let server = Server::start(&[]);
    let (caller, host) = (Host::new(&server.url()), Host::new(&server.url()));
    host.enqueue(tasks(1));
    let mut events = Events::of(&caller, "0", 1);
    assert_eq!(events.next().unwrap().state, JobState::Queued);
    let until_published = |messages| {
        // Without the question, the next announcement comes after five seconds.
        let end = Instant::now() + Duration::from_secs(4);
        while calls_of(&server, "publish") < messages {
            assert!(Instant::now() < end, "{}", calls_of(&server, "publish"));
        }
    };
    until_published(1);
    let mut running = host.worker("w", 1, 1);
    let run = running.wait_for(1).remove(0);
    // The question and the answer.
    until_published(3);
    running.worker.report(run.slot, done(1));
    events.until(|event| event.report.is_some());
    running.worker.report(run.slot, done(2));
    running.complete(vec![(run.slot, value(&run))]);
    let last = events.until(|event| event.is_last);
    assert_eq!(last.report.unwrap().progress, done(2));
    running.stop();
}

#[test]
fn a_follower_notices_when_a_job_becomes_due() {
    let server = Server::start(&[]);
    let (caller, host) = (Host::new(&server.url()), Host::new(&server.url()));
    // No worker can tell that the job was promoted, and none has room for it.
    let mut running = host.worker("w", 1, 1);
    host.enqueue(vec![task("other")]);
    let other = running.wait_for(1).remove(0);
    let began = Instant::now();
    host.enqueue(vec![Submission { delay_ms: 3_500, ..task("0") }]);
    let mut events = Events::of(&caller, "0", 1);
    assert_eq!(events.next().unwrap().state, JobState::Scheduled);
    assert_eq!(events.next().unwrap().state, JobState::Queued);
    // The other looks come after 2 s and after 6 s.
    assert!(began.elapsed() < Duration::from_millis(5_500), "{:?}", began.elapsed());
    running.complete(vec![(other.slot, value(&other))]);
    running.serve("0");
    assert!(events.until(|event| event.is_last).result.is_some());
    running.stop();
}

#[test]
fn events_of_a_job_that_has_ended_or_is_unknown_end_at_once() {
    let server = Server::start(&[]);
    let host = Host::new(&server.url());
    let mut running = host.worker("w", 1, 1);
    host.enqueue(tasks(1));
    running.serve("0");
    assert!(host.result("0", LIMIT).is_some());
    let ended = Events::of(&host, "0", 101).next().unwrap();
    assert_eq!((ended.state, ended.is_last, ended.result.is_some()), (JobState::Complete, true, true));
    let unknown = Events::of(&host, "unknown", 102).next().unwrap();
    assert_eq!((unknown.state, unknown.is_last, unknown.result), (JobState::NotFound, true, None));
    running.stop();
}

#[test]
fn a_caller_that_stops_leaves_nothing_behind() {
    let server = Server::start(&[]);
    let host = Host::new(&server.url());
    host.enqueue(tasks(2));
    let before = names(&server, "*");
    assert_eq!(Events::of(&host, "0", 101).next().unwrap().state, JobState::Queued);
    host.client.forget(&host.mailbox, 101);
    // Another caller, whose mailbox is gone.
    let caller = Host::new(&server.url());
    assert_eq!(Events::of(&caller, "1", 102).next().unwrap().state, JobState::Queued);
    let end = Instant::now() + LIMIT;
    // This begins after the first event.
    while !tell::<bool>(&server, &["HEXISTS", "ardiq:{q}:waiters", "1"]) {
        assert!(Instant::now() < end, "it does not wait for the result");
    }
    drop(caller);
    while names(&server, "*") != before {
        assert!(Instant::now() < end, "{:?}", names(&server, "*"));
    }
}

#[test]
fn events_go_on_after_the_connections_were_cut() {
    let server = Server::start(&[]);
    let (caller, host) = (Host::new(&server.url()), Host::new(&server.url()));
    host.enqueue(tasks(1));
    let mut events = Events::of(&caller, "0", 1);
    assert_eq!(events.next().unwrap().state, JobState::Queued);
    let mut running = host.worker("w", 1, 1);
    let run = running.wait_for(1).remove(0);
    events.until(|event| event.state == JobState::Running);
    let _: i64 = tell(&server, &["CLIENT", "KILL", "TYPE", "normal"]);
    let _: i64 = tell(&server, &["CLIENT", "KILL", "TYPE", "pubsub"]);
    running.worker.report(run.slot, done(7));
    let report = events.until(|event| event.report.is_some()).report.unwrap();
    assert_eq!(report.progress, done(7));
    running.complete(vec![(run.slot, value(&run))]);
    assert!(events.until(|event| event.is_last).result.is_some());
    running.stop();
}

#[test]
fn a_mailbox_without_an_owner_ends_its_events() {
    let server = Server::start(&[]);
    let host = Host::new(&server.url());
    host.enqueue(tasks(1));
    let mailbox = Arc::new(ardiq_engine::mailbox::Mailbox::new().unwrap());
    let watched = Arc::downgrade(&mailbox);
    host.client.follow(&mailbox, 1, "0".into());
    assert_eq!(mailbox.block(LIMIT).len(), 1);
    drop(mailbox);
    let mut running = host.worker("w", 1, 1);
    let run = running.wait_for(1).remove(0);
    let end = Instant::now() + LIMIT;
    while watched.strong_count() > 0 {
        assert!(Instant::now() < end, "it is still followed");
        std::thread::yield_now();
    }
    running.complete(vec![(run.slot, value(&run))]);
    running.stop();
}
