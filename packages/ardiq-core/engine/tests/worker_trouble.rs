//! Trouble that people must see in the log: dead letters, processes that died with jobs, lanes
//! without a worker.
#![allow(clippy::unwrap_used, clippy::expect_used)] // In a test a surprise is a failure.

mod support;

use std::time::{Duration, Instant};

use ardiq_engine::client::Client;
use ardiq_engine::logs::Subject;
use ardiq_engine::submit::Submission;
use ardiq_engine::worker::judge::{Fault, Outcome};
use support::LIMIT;
use support::host::{Host, task, tasks, tell, value};
use support::server::Server;

#[test]
fn a_dead_letter_is_logged_with_its_job_its_reason_and_the_command_that_shows_it() {
    let server = Server::start(&[]);
    let host = Host::new(&server.url());
    let mut running = host.worker("w", 1, 1);
    host.enqueue(vec![task("a")]);
    let run = running.wait_for(1).remove(0);
    let fault = Fault { text: "secret arguments".into(), error_type: Some("ValueError".into()), ..Fault::default() };
    running.complete(vec![(run.slot, Outcome::Dead(fault, None))]);
    let found = host.line("dead letter");
    let expected = "echo[a] is now a dead letter and will not run: its arguments cannot be decoded (ValueError). \
                    Look at it with: ardiq inspect jobs --queue q --state dead";
    assert_eq!(found.message, expected);
    assert_eq!(found.subject, Some(Subject { job_id: "a".into(), task: "echo".into(), tries: 1, outcome: "dead" }));
    running.stop();
}

#[test]
fn a_refused_dead_letter_is_not_logged_as_one() {
    let server = Server::start(&[]);
    let host = Host::new(&server.url());
    let mut running = host.worker("w", 1, 1);
    host.enqueue(vec![task("a")]);
    let run = running.wait_for(1).remove(0);
    // As if another worker had taken it over and finished it.
    let script = "local entry = redis.call('XRANGE', KEYS[1], '-', '+')[1][1] \
                  return redis.call('XACK', KEYS[1], 'q', entry) + redis.call('DEL', KEYS[2])";
    let words = ["EVAL", script, "2", "ardiq:{q}:lane:low", "ardiq:{q}:job:a"];
    assert_eq!(tell::<i64>(&server, &words), 2);
    running.complete(vec![(run.slot, Outcome::Dead(Fault::default(), None))]);
    let mut refused = false;
    let end = Instant::now() + LIMIT;
    while !refused {
        for line in host.log() {
            assert!(!line.message.contains("dead letter"), "{}", line.message);
            refused |= line.message.contains("was refused");
        }
        assert!(Instant::now() < end, "the outcome was not refused");
    }
    running.stop();
}

#[test]
fn an_outcome_whose_job_is_gone_is_not_called_taken_over() {
    let server = Server::start(&[]);
    let host = Host::new(&server.url());
    let mut running = host.worker("w", 2, 2);
    host.enqueue(vec![task("a"), task("b")]);
    let runs = running.wait_for(2);
    let end = Instant::now() + LIMIT;
    while tell::<i64>(&server, &["HLEN", "ardiq:{q}:running"]) < 2 {
        assert!(Instant::now() < end, "the starts are not recorded");
        std::thread::sleep(Duration::from_millis(5));
    }
    let _: String = tell(&server, &["FLUSHALL"]);
    host.enqueue(vec![task("b")]); // another job with that id
    running.complete(runs.iter().map(|run| (run.slot, value(run))).collect());
    let mut said = Vec::new();
    while said.len() < 2 {
        assert!(Instant::now() < end + LIMIT, "{said:?}");
        said.extend(host.log().into_iter().filter(|line| line.message.contains("the outcome of job ")));
        std::thread::sleep(Duration::from_millis(5));
    }
    for message in said.into_iter().map(|line| line.message) {
        assert!(message.contains("was refused: Redis has no such job any more"), "{message}");
    }
    running.until(|running| !running.taken.is_empty());
    let run = running.taken.remove(0);
    running.complete(vec![(run.slot, value(&run))]);
    assert!(host.result("b", LIMIT).is_some());
    let survivals: Vec<String> = tell(&server, &["KEYS", "ardiq:{q}:survivals:*"]);
    assert!(survivals.is_empty(), "{survivals:?}");
    running.stop();
}

#[test]
fn a_takeover_names_some_of_the_jobs_that_ran_in_the_dead_process() {
    let server = Server::start(&[]);
    let host = Host::new(&server.url());
    let mut dying = host.worker_with_lease("dying", 12, 12, 900);
    host.enqueue(tasks(12));
    dying.wait_for(12);
    let end = Instant::now() + LIMIT;
    while tell::<i64>(&server, &["HLEN", "ardiq:{q}:running"]) < 12 {
        assert!(Instant::now() < end, "the starts are not recorded");
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(dying);
    let heir = host.worker("heir", 1, 1);
    let found = host.line("took over").message;
    assert!(found.contains("12 jobs (12 started), most recently from worker dying"), "{found}");
    let named = found.split("These had started: ").nth(1).unwrap();
    assert_eq!(named.matches("echo[").count(), 10, "{named}");
    assert!(named.ends_with("] and 2 more"), "{named}");
    heir.worker.finish_stop();
}

#[test]
fn a_worker_logs_lanes_with_jobs_that_no_worker_serves() {
    let server = Server::start(&[]);
    let producer = Host::with_lanes(&server.url(), &["low".into(), "urgent".into(), "later".into()]);
    producer.enqueue(vec![Submission { lane: 1, ..task("a") }, Submission { lane: 1, ..task("b") }]);
    let other = Host::with_lanes(&server.url(), &["later".into()]);
    let elsewhere = other.worker("elsewhere", 1, 1);
    let host = Host::with_lanes(&server.url(), &["low".into()]);
    let running = host.worker("w", 1, 1);
    let found = host.line("no worker of queue").message;
    assert!(found.starts_with("2 jobs are waiting in lane \"urgent\", which no worker of queue q serves"), "{found}");
    assert!(!host.log().iter().any(|line| line.message.contains("later")), "another worker serves it");
    for worker in [running, elsewhere] {
        worker.stop();
    }
}

#[test]
fn a_server_that_refuses_writes_is_one_outage_until_it_accepts_one() {
    let faults = [
        (["CONFIG", "SET", "min-replicas-to-write", "1"], ["CONFIG", "SET", "min-replicas-to-write", "0"]),
        (["REPLICAOF", "127.0.0.1", "1", ""], ["REPLICAOF", "NO", "ONE", ""]),
    ];
    for (begin, end) in faults {
        let words = |words: [&'static str; 4]| words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>();
        let server = Server::start(&[]);
        let host = Host::new(&server.url());
        let mut running = host.worker_with_lease("w", 1, 1, 900);
        host.enqueue(vec![task("a")]);
        running.wait_for(1);
        let _: String = tell(&server, &words(begin));

        let first = host.line("Redis at").message;
        assert!(first.starts_with("cannot write to Redis at"), "{first}");
        // The server answers those who only read.
        for _ in 0..5 {
            host.ask(Client::depth).unwrap();
        }
        assert!(host.client.shared().link.trouble().borrow().is_some(), "{begin:?}");
        let _: String = tell(&server, &words(end));
        let last = host.line("Redis at").message;
        assert!(last.contains("answers again"), "{last}");
        running.stop();
    }
}
