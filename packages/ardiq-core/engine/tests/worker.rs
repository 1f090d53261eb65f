//! A worker engine with a real server, from the client's request to the pushed result, and through
//! faults of the server.
#![allow(clippy::unwrap_used, clippy::expect_used)] // In a test, a surprise is a failure.

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use ardiq_engine::answer::Answer;
use ardiq_engine::error::Error;
use ardiq_engine::protocol::record::{Outcome as Value, ResultRecord};
use ardiq_engine::submit::Submission;
use ardiq_engine::worker::judge::Outcome;
use support::LIMIT;
use support::host::{Host, task, tasks, tell, value};
use support::server::Server;

/// How soon a worker must serve new jobs after a fault has ended.
const HEALED: Duration = Duration::from_secs(5);

fn stored_value(result: Option<Arc<ResultRecord>>) -> Vec<u8> {
    match result.map(|result| result.outcome.clone()) {
        Some(Value::Value(value)) => value,
        other => panic!("{other:?}"),
    }
}

/// A connection with subscriptions has a different type than one without.
fn cut_connections(server: &Server) {
    let cut = |kind: &str| tell::<i64>(server, &["CLIENT", "KILL", "TYPE", kind]);
    assert!(cut("normal") + cut("pubsub") > 0, "there was a connection to cut");
}

#[test]
fn a_client_that_was_told_the_time_knows_it_before_any_worker_has_fetched() {
    let server = Server::start(&[]);
    let host = Host::new(&server.url());
    assert_eq!(host.client.shared().clock.now_ms(), 0);
    let Ok(Answer::Number(told)) = host.ask(|client, mailbox, request| client.clock(mailbox, request)) else {
        panic!("the time was asked for");
    };
    let known = i64::try_from(host.client.shared().clock.now_ms()).unwrap();
    assert!((told..told + 60_000).contains(&known), "{known} is not {told} and what has passed since");
}

#[test]
fn a_job_runs_and_its_result_is_pushed_to_who_waits() {
    let server = Server::start(&[]);
    let host = Host::new(&server.url());
    let mut running = host.worker("w", 2, 4);
    assert_eq!(host.enqueue(vec![Submission { lane: 1, ..task("a") }]), ["a"]);
    let run = running.wait_for(1).remove(0);
    assert_eq!((run.id.as_str(), run.name.as_str(), run.tries, running.worker.lane(&run)), ("a", "echo", 1, "high"));
    let waiter = Arc::clone(&host.mailbox);
    host.client.result(&waiter, 1_000, "a".into(), Some(LIMIT));
    // The registration causes the push, so wait for it before the job ends.
    let end = Instant::now() + LIMIT;
    while !tell::<bool>(&server, &["HEXISTS", "ardiq:{q}:waiters", "a"]) {
        assert!(Instant::now() < end, "the caller was not registered");
        std::thread::yield_now();
    }
    running.complete(vec![(run.slot, value(&run))]);
    assert!(running.taken.is_empty());
    let [(1_000, Ok(Answer::Result(result)))] = &waiter.block(LIMIT)[..] else { panic!("no push came") };
    let result = result.as_ref().unwrap();
    assert_eq!((&result.outcome, result.tries, result.worker.as_str()), (&Value::Value(b"a".to_vec()), 1, "w"));
    running.stop();
    assert!(!tell::<bool>(
        &server,
        &["EXISTS", "ardiq:{q}:workers", "ardiq:{q}:running", "ardiq:{q}:waiters", "ardiq:{q}:pulse"]
    ));
}

#[test]
fn completing_a_run_gives_the_next_and_all_are_served() {
    let server = Server::start(&[]);
    let host = Host::new(&server.url());
    host.enqueue(tasks(300));
    let mut running = host.worker("w", 2, 8);
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < 300 {
        let runs = running.wait_for(1);
        assert!(runs.len() <= 2, "no more at once than allowed");
        for run in runs {
            assert!(seen.insert(run.id.clone()), "{} ran twice", run.id);
            running.complete(vec![(run.slot, value(&run))]);
        }
    }
    assert_eq!(stored_value(host.result("299", LIMIT)), b"299");
    running.stop();
}

#[test]
fn a_stop_returns_unstarted_jobs_without_spending_a_try() {
    let server = Server::start(&[]);
    let host = Host::new(&server.url());
    let mut first = host.worker("first", 2, 6);
    // It holds jobs ahead only after it has seen short runs.
    host.enqueue((100..150).map(|number| task(&number.to_string())).collect());
    first.serve("149");
    host.enqueue(tasks(10));
    let runs = first.wait_for(2);
    first.worker.begin_stop();
    first.worker.complete(vec![(runs[0].slot, value(&runs[0])), (runs[1].slot, Outcome::HandBack)]);
    first.stop();
    assert!(!host.log().iter().any(|line| line.message.contains("unsettled")), "it left nothing behind");
    let mut second = host.worker("second", 10, 10);
    let rest = second.wait_for(9);
    assert!(rest.iter().all(|run| run.tries == 1), "{rest:?}");
    second.worker.complete(rest.iter().map(|run| (run.slot, value(run))).collect());
    second.stop();
    assert_eq!(tell::<i64>(&server, &["XLEN", "ardiq:{q}:lane:low"]), 0);
    assert_eq!(tell::<i64>(&server, &["XLEN", "ardiq:{q}:returned:low"]), 0);
}

#[test]
fn a_job_that_asks_for_it_is_tried_again() {
    let server = Server::start(&[]);
    let host = Host::new(&server.url());
    let mut running = host.worker("w", 1, 1);
    host.enqueue(vec![task("a")]);
    for (tries, delay_ms) in [(1, 0), (2, 30)] {
        let run = running.wait_for(1).remove(0);
        assert_eq!(run.tries, tries);
        running.worker.complete(vec![(run.slot, Outcome::Retry(delay_ms))]);
    }
    let run = running.wait_for(1).remove(0);
    running.worker.complete(vec![(run.slot, value(&run))]);
    assert_eq!(host.result("a", LIMIT).unwrap().tries, 3);
    running.stop();
}

#[test]
fn what_a_lost_reply_brought_is_read_back_after_a_reconnect() {
    let server = Server::start(&[]);
    let host = Host::new(&server.url());
    host.enqueue(tasks(400));
    let mut running = host.worker("w", 1, 1);
    let first = running.wait_for(1);
    // As if the worker had requested more than it may hold and the replies were lost: more than one
    // page of jobs.
    let lane = "ardiq:{q}:lane:low";
    let words = ["XREADGROUP", "GROUP", "q", "w", "COUNT", "1000", "STREAMS", lane, ">"];
    let _: redis::Value = tell(&server, &words);
    cut_connections(&server);
    running.taken = first;
    running.serve("399");
    host.line("read back jobs whose delivery was lost in transit: 399");
    running.stop();
    assert_eq!(tell::<i64>(&server, &["XLEN", lane]), 0);
}

/// A worker that was running before the fault serves a job that is enqueued after it.
fn serves_after(server: &mut Server, fault: impl Fn(&mut Server)) {
    let host = Host::new(&server.url());
    let mut running = host.worker("w", 2, 4);
    host.enqueue(vec![task("before")]);
    running.serve("before");
    assert_eq!(stored_value(host.result("before", LIMIT)), b"before");
    fault(server);
    let healed = Instant::now();
    host.enqueue(vec![task("after")]);
    running.serve("after");
    assert_eq!(stored_value(host.result("after", LIMIT)), b"after");
    let took = healed.elapsed();
    assert!(took < HEALED, "it took {took:?}");
    running.stop();
}

#[test]
fn after_flushall_new_jobs_are_served() {
    serves_after(&mut Server::start(&[]), |server| tell(server, &["FLUSHALL"]));
}

#[test]
fn after_the_groups_were_destroyed_new_jobs_are_served() {
    serves_after(&mut Server::start(&[]), |server| {
        for stream in ["lane:low", "returned:low", "lane:high", "returned:high"] {
            let _: i64 = tell(server, &["XGROUP", "DESTROY", &format!("ardiq:{{q}}:{stream}"), "q"]);
        }
    });
}

#[test]
fn after_the_streams_were_deleted_new_jobs_are_served() {
    serves_after(&mut Server::start(&[]), |server| {
        tell(server, &["DEL", "ardiq:{q}:lane:low", "ardiq:{q}:returned:low"])
    });
}

#[test]
fn after_all_scripts_and_connections_are_gone_new_jobs_are_served() {
    serves_after(&mut Server::start(&[]), |server| {
        let _: String = tell(server, &["SCRIPT", "FLUSH"]);
        cut_connections(server);
    });
}

#[test]
fn after_the_server_was_killed_and_came_back_empty_new_jobs_are_served() {
    serves_after(&mut Server::start(&[]), |server| {
        server.kill();
        server.revive();
    });
}

#[test]
fn a_server_that_is_killed_and_comes_back_with_its_file_has_lost_nothing() {
    let mut server = Server::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let host = Host::new(&server.url());
    let mut running = host.worker("w", 2, 4);
    host.enqueue(tasks(20));
    let runs = running.wait_for(2);
    server.kill();
    // These complete while the server is away, so the outcomes wait.
    running.complete(runs.iter().map(|run| (run.slot, value(run))).collect());
    let away = host.ask(|client, mailbox, request| client.enqueue(mailbox, request, vec![task("away")]));
    assert!(matches!(away, Err(Error::Unreachable { .. })), "{away:?}");
    server.revive();
    let healed = Instant::now();
    host.enqueue(vec![task("after")]);
    running.serve("after");
    assert!(healed.elapsed() < HEALED, "it took {:?}", healed.elapsed());
    for id in 0..20 {
        let id = id.to_string();
        assert_eq!(stored_value(host.result(&id, LIMIT)), id.as_bytes());
    }
    running.stop();
    for stream in ["ardiq:{q}:lane:low", "ardiq:{q}:returned:low"] {
        assert_eq!(tell::<i64>(&server, &["XLEN", stream]), 0);
    }
}
