//! A worker aborts the jobs that it has, whatever state they are in.
#![allow(clippy::unwrap_used, clippy::expect_used)] // In a test, a surprise is a failure.

mod support;

use std::time::Duration;

use ardiq_engine::answer::Answer;
use ardiq_engine::submit::Submission;
use ardiq_engine::worker::EventKind;
use ardiq_engine::worker::judge::Outcome;
use support::LIMIT;
use support::host::{Host, Running, task, tasks, tell, value};
use support::server::Server;

const NO_TIME: Duration = Duration::ZERO;

fn abort(host: &Host, id: &str, limit: Duration) -> bool {
    match host.ask(|client, mailbox, request| client.abort(mailbox, request, id.to_owned(), limit)) {
        Ok(Answer::Number(aborted)) => aborted == 1,
        other => panic!("{other:?}"),
    }
}

fn aborted() -> Outcome {
    Outcome::Aborted("aborted".into(), None)
}

/// Wait until the host has to cancel runs, and return their slots.
fn aborts(running: &mut Running) -> Vec<usize> {
    running.wait_for_event(EventKind::Abort);
    running.events.clear();
    running.worker.take_aborts()
}

#[test]
fn a_running_job_is_cancelled_by_its_host_and_its_caller_is_told() {
    let server = Server::start(&[]);
    let host = Host::new(&server.url());
    let mut running = host.worker("w", 2, 2);
    host.enqueue(tasks(2));
    let runs = running.wait_for(2);
    assert!(!abort(&host, "0", NO_TIME), "it still runs");
    assert_eq!(aborts(&mut running), [runs[0].slot]);
    assert!(running.worker.take_aborts().is_empty(), "only once");
    running.complete(vec![(runs[0].slot, aborted())]);
    assert!(abort(&host, "0", LIMIT));
    let result = host.result("0", LIMIT).unwrap();
    assert_eq!((result.aborted, result.tries, result.worker.as_str()), (true, 1, "w"));
    assert!(result.started_ms > 0);
    running.complete(vec![(runs[1].slot, value(&runs[1]))]);
    assert!(!abort(&host, "1", LIMIT), "it has ended otherwise");
    assert!(!abort(&host, "unknown", LIMIT));
    running.stop();
    assert_eq!(tell::<i64>(&server, &["EXISTS", "ardiq:{q}:aborting"]), 0);
}

#[test]
fn jobs_that_have_not_started_end_without_their_host() {
    let server = Server::start(&[]);
    let host = Host::new(&server.url());
    let mut running = host.worker("w", 1, 64);
    // Short runs first, so that the worker holds jobs ahead.
    host.enqueue((0..200).map(|number| task(&format!("short{number}"))).collect());
    running.serve("short199");
    host.enqueue(tasks(20));
    let first = running.wait_for(1).remove(0);
    let ids: Vec<String> = (1..20).map(|number| number.to_string()).collect();
    for id in &ids {
        assert!(abort(&host, id, LIMIT), "{id}");
    }
    running.complete(vec![(first.slot, value(&first))]);
    assert!(host.result("0", LIMIT).is_some_and(|result| !result.aborted));
    assert!(running.taken.is_empty() && running.events.iter().all(|event| event.kind != EventKind::Abort));
    running.stop();
}

#[test]
fn a_deferred_run_that_waits_must_not_begin() {
    let server = Server::start(&[]);
    let host = Host::new(&server.url());
    let mut running = host.worker("w", 1, 1);
    running.worker.defer(["echo".to_owned()]);
    host.enqueue(vec![task("a")]);
    let run = running.wait_for(1).remove(0);
    assert!(abort(&host, "a", LIMIT), "it ends although the host has it");
    assert_eq!(aborts(&mut running), [run.slot], "so that the host stops waiting for a thread");
    assert!(!running.worker.begin(run.slot));
    host.enqueue(vec![task("b")]);
    assert_eq!(running.wait_for(1)[0].id, "b", "its slot is free");
    running.worker.begin_stop();
    running.stop();
}

#[test]
fn a_run_that_fails_while_it_is_to_be_aborted_is_not_repeated() {
    let server = Server::start(&[]);
    let host = Host::new(&server.url());
    let mut running = host.worker("w", 1, 1);
    for (id, outcome) in [("retry", Outcome::Retry(60_000)), ("back", Outcome::HandBack)] {
        host.enqueue(vec![task(id)]);
        let run = running.wait_for(1).remove(0);
        assert!(!abort(&host, id, NO_TIME));
        running.complete(vec![(run.slot, outcome)]);
        assert!(abort(&host, id, LIMIT));
        assert!(host.result(id, LIMIT).is_some_and(|result| result.aborted));
    }
    running.stop();
}

#[test]
fn a_job_whose_worker_dies_is_aborted_when_its_lease_ends() {
    let server = Server::start(&[]);
    let (dying, host) = (Host::new(&server.url()), Host::new(&server.url()));
    let mut running = dying.worker_with_lease("dying", 1, 1, 1_000);
    host.enqueue(vec![task("a")]);
    running.wait_for(1);
    assert!(!abort(&host, "a", NO_TIME));
    drop(running);
    let heir = host.worker_with_lease("heir", 1, 1, 1_000);
    assert!(abort(&host, "a", LIMIT));
    assert_eq!(host.result("a", LIMIT).unwrap().worker, "");
    heir.stop();
}

#[test]
fn a_worker_that_cannot_subscribe_checks_by_itself() {
    let server = Server::start(&[]);
    let words = ["ACL", "SETUSER", "deaf", "on", ">pw", "~*", "+@all", "-subscribe"];
    assert_eq!(tell::<String>(&server, &words), "OK");
    let deaf = Host::new(&format!("{}?user=deaf&pass=pw", server.url()));
    let host = Host::new(&server.url());
    let mut running = deaf.worker_with_lease("w", 1, 1, 600_000);
    host.enqueue(vec![task("a")]);
    let run = running.wait_for(1).remove(0);
    assert!(!abort(&host, "a", NO_TIME));
    assert_eq!(aborts(&mut running), [run.slot]);
    running.complete(vec![(run.slot, aborted())]);
    assert!(abort(&host, "a", LIMIT));
    running.stop();
}

#[test]
fn a_new_run_under_the_same_id_is_not_aborted() {
    let server = Server::start(&[]);
    let host = Host::new(&server.url());
    let mut running = host.worker("w", 1, 1);
    host.enqueue(vec![task("a")]);
    let run = running.wait_for(1).remove(0);
    assert!(!abort(&host, "a", NO_TIME));
    assert_eq!(aborts(&mut running), [run.slot]);
    running.complete(vec![(run.slot, aborted())]);
    assert!(abort(&host, "a", LIMIT));
    host.enqueue(vec![Submission { unique: None, ..task("a") }]);
    let again = running.wait_for(1).remove(0);
    running.complete(vec![(again.slot, value(&again))]);
    assert!(host.result("a", LIMIT).is_some_and(|result| !result.aborted));
    running.stop();
}
