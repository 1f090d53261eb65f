//! Values that break every connection that carries them, because they exceed a limit of the server:
//! each job ends, each caller gets an error, and everything else works.
#![allow(clippy::unwrap_used, clippy::expect_used)] // In a test, a surprise is a failure.

mod support;

use std::time::{Duration, Instant};

use ardiq_engine::answer::Answer;
use ardiq_engine::error::Error;
use ardiq_engine::jobs::JobRecord;
use ardiq_engine::protocol::record::Outcome as Recorded;
use ardiq_engine::protocol::state::{JobState, Listing};
use ardiq_engine::submit::Submission;
use ardiq_engine::worker::judge::{MISS_LIMIT, Outcome};
use support::LIMIT;
use support::host::{Host, Running, task, tell, value};
use support::server::Server;

/// The server sends at most a megabyte in one reply.
fn server() -> Server {
    let server = Server::start(&["--client-output-buffer-limit", "normal 1mb 1mb 0"]);
    let mut connection = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    let mut set = redis::cmd("CONFIG");
    set.arg("SET").arg("min-string-size-avoid-copy-reply").arg(1 << 30);
    // Only Valkey 9 has this setting: it may send values around its buffer.
    let _ = set.query::<String>(&mut connection);
    server
}

const TOO_LARGE: usize = 3_000_000;
const ADVICE: &str = "client-output-buffer-limit";

fn large(id: &str, bytes: usize) -> Submission {
    Submission { body: vec![0; bytes].into(), ..task(id) }
}

/// Enqueue a job that so many workers could not run.
fn enqueue_after(host: &Host, server: &Server, job: Submission, misses: u8) {
    let id = host.enqueue(vec![Submission { delay_ms: 60_000, ..job }]).remove(0);
    // In the record: kind, nonce, length and name of the stream, and in the header tries and
    // deaths.
    let at = 1 + 8 + 1 + "lane:low".len() + 3;
    let misses = String::from_utf8(vec![misses]).unwrap();
    let _: i64 = tell(server, &["SETRANGE", &format!("ardiq:{{q}}:job:{id}"), &at.to_string(), &misses]);
    let _: i64 = tell(server, &["ZADD", "ardiq:{q}:due", "1", &id]);
}

fn job(host: &Host, id: &str) -> JobRecord {
    match host.ask(|client, mailbox, request| client.lookup(mailbox, request, vec![id.to_owned()])) {
        Ok(Answer::Jobs(mut jobs)) => jobs.remove(0),
        other => panic!("{other:?}"),
    }
}

fn dead(host: &Host) -> Vec<(JobRecord, String)> {
    match host.ask(|client, mailbox, request| client.jobs(mailbox, request, Listing::Dead, 9)) {
        Ok(Answer::Dead(letters)) => letters,
        other => panic!("{other:?}"),
    }
}

/// Run all jobs until something has happened.
fn serve_until(host: &Host, running: &mut Running, happened: impl Fn() -> bool) {
    let end = Instant::now() + LIMIT;
    while !happened() {
        running.take();
        let outcomes = running.taken.drain(..).map(|run| (run.slot, value(&run))).collect();
        running.complete(outcomes);
        assert!(Instant::now() < end, "{:?}", host.log());
        running.listen(Duration::from_millis(20));
    }
}

#[test]
fn a_job_whose_arguments_no_worker_can_read_becomes_a_dead_letter_that_says_why() {
    let server = server();
    let host = Host::new(&server.url());
    enqueue_after(&host, &server, large("last", TOO_LARGE), MISS_LIMIT);
    let mut running = host.worker("w", 4, 4);
    serve_until(&host, &mut running, || !dead(&host).is_empty());
    let (letter, reason) = dead(&host).remove(0);
    assert_eq!((letter.id.as_str(), letter.tries), ("last", 0));
    assert!(reason.starts_with("no worker can read the arguments: ") && reason.contains(ADVICE), "{reason}");
    assert!(letter.is_unreadable && letter.body.is_empty(), "the list comes without them");
    let result = host.result("last", LIMIT).unwrap();
    assert_eq!((result.tries, &result.outcome), (0, &Recorded::Failure(reason)));
    let _: String = tell(&server, &["CONFIG", "SET", "client-output-buffer-limit", "normal 0 0 0"]);
    let (letter, _) = dead(&host).remove(0);
    assert_eq!((letter.body.len(), letter.is_unreadable), (TOO_LARGE, false), "they are kept");
    running.stop();
}

#[test]
fn a_job_whose_arguments_cannot_be_read_comes_back_and_others_run_meanwhile() {
    let server = server();
    let host = Host::new(&server.url());
    host.enqueue(vec![large("bad", TOO_LARGE), large("fine", 500_000), task("small")]);
    let mut running = host.worker("w", 4, 4);
    serve_until(&host, &mut running, || job(&host, "bad").misses > 0);
    assert_eq!(job(&host, "bad").tries, 0, "no try is spent");
    for id in ["fine", "small"] {
        assert!(matches!(host.result(id, LIMIT).unwrap().outcome, Recorded::Value(_)), "{id}");
    }
    // Now every connection is good enough.
    let _: String = tell(&server, &["CONFIG", "SET", "client-output-buffer-limit", "normal 0 0 0"]);
    assert!(!job(&host, "bad").is_unreadable);
    serve_until(&host, &mut running, || job(&host, "bad").state == JobState::Complete);
    assert!(dead(&host).is_empty());
    running.stop();
}

#[test]
fn readable_arguments_beside_many_unreadable_ones_are_read() {
    let server = server();
    let host = Host::new(&server.url());
    for number in 0..8 {
        host.enqueue(vec![large(&format!("bad{number}"), TOO_LARGE)]);
    }
    enqueue_after(&host, &server, large("fine", 500_000), MISS_LIMIT);
    let mut running = host.worker("w", 16, 16);
    let ended = || matches!(job(&host, "fine").state, JobState::Complete);
    serve_until(&host, &mut running, ended);
    assert!(matches!(host.result("fine", LIMIT).unwrap().outcome, Recorded::Value(_)), "{:?}", dead(&host));
    running.stop();
}

#[test]
fn a_result_that_cannot_be_read_is_an_error_with_advice_long_before_the_wait_ends() {
    let server = server();
    let host = Host::new(&server.url());
    host.enqueue(vec![task("a")]);
    let mut running = host.worker("w", 1, 1);
    let run = running.wait_for(1).remove(0);
    let waiting = std::thread::spawn({
        let host = Host::new(&server.url());
        move || {
            let ask = |limit| {
                let began = Instant::now();
                let answer = host.ask(|client, mailbox, request| client.result(mailbox, request, "a".into(), limit));
                (answer, began.elapsed())
            };
            [ask(Some(LIMIT)), ask(Some(LIMIT)), ask(None)]
        }
    });
    let end = Instant::now() + LIMIT;
    while tell::<i64>(&server, &["HLEN", "ardiq:{q}:waiters"]) == 0 {
        assert!(Instant::now() < end, "nothing waits");
        std::thread::sleep(Duration::from_millis(5));
    }
    running.complete(vec![(run.slot, Outcome::Success(vec![0; TOO_LARGE], None))]);
    for (answer, took) in waiting.join().unwrap() {
        let Err(error @ Error::Refused(_)) = answer else { panic!("{answer:?}") };
        assert!(error.to_string().contains(ADVICE), "{error}");
        assert!(took < LIMIT / 2, "{took:?}");
    }
    running.stop();
}

#[test]
fn a_waiting_job_is_shown_without_arguments_that_cannot_be_read() {
    let server = server();
    let host = Host::new(&server.url());
    host.enqueue(vec![large("bad", TOO_LARGE), large("fine", 500_000)]);
    let listing = Listing::In(JobState::Queued);
    let answer = host.ask(|client, mailbox, request| client.jobs(mailbox, request, listing, 9));
    let Ok(Answer::Jobs(jobs)) = answer else { panic!("{answer:?}") };
    let seen: Vec<_> = jobs.iter().map(|job| (job.id.as_str(), job.is_unreadable, job.body.len())).collect();
    assert_eq!(seen, [("bad", true, 0), ("fine", false, 500_000)]);
    assert!(job(&host, "bad").is_unreadable);
}
