//! Workers that die, are declared dead, or hold jobs that others could run.
#![allow(clippy::unwrap_used, clippy::expect_used)] // In a test, a surprise is a failure.

mod support;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use ardiq_engine::protocol::record::Outcome as Value;
use ardiq_engine::worker::EventKind;
use ardiq_engine::worker::judge::Outcome;
use support::LIMIT;
use support::host::{Host, Running, task, tasks, tell, value};
use support::server::Server;

/// Long enough that nothing else happens during a test.
const LONG_LEASE: u64 = 120_000;

fn until(what: &str, mut happened: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !happened() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn is_recorded(server: &Server, id: &str) -> bool {
    tell(server, &["HEXISTS", "ardiq:{q}:running", id])
}

#[test]
fn a_run_that_lasts_is_recorded_although_nothing_else_happens() {
    let server = Server::start(&[]);
    let host = Host::new(&server.url());
    let mut running = host.worker_with_lease("w", 1, 1, LONG_LEASE);
    host.enqueue(vec![task("a")]);
    let run = running.wait_for(1).remove(0);
    let began = Instant::now();
    until("its start is not recorded", || is_recorded(&server, "a"));
    assert!(began.elapsed() < Duration::from_secs(10), "it took {:?}", began.elapsed());
    running.complete(vec![(run.slot, value(&run))]);
    assert!(host.result("a", LIMIT).is_some());
    until("the record of its start stays", || !is_recorded(&server, "a"));
    running.stop();
}

#[test]
fn a_deferred_run_is_recorded_when_it_begins() {
    let server = Server::start(&[]);
    let host = Host::new(&server.url());
    let mut running = host.worker_with_lease("w", 1, 1, LONG_LEASE);
    running.worker.defer(["echo".to_owned()]);
    host.enqueue(vec![task("a")]);
    let run = running.wait_for(1).remove(0);
    assert!(running.worker.begin(run.slot));
    until("its start is not recorded", || is_recorded(&server, "a"));
    running.complete(vec![(run.slot, value(&run))]);
    running.stop();
}

#[test]
fn a_deferred_run_that_has_not_begun_goes_back_when_the_worker_stops() {
    let server = Server::start(&[]);
    let host = Host::new(&server.url());
    let mut first = host.worker("first", 2, 2);
    first.worker.defer(["echo".to_owned()]);
    host.enqueue(tasks(2));
    let runs = first.wait_for(2);
    assert!(first.worker.begin(runs[0].slot));
    first.worker.begin_stop();
    assert!(!first.worker.begin(runs[1].slot), "nothing begins after the stop");
    first.worker.complete(vec![(runs[0].slot, value(&runs[0]))]);
    first.stop();
    let mut second = host.worker("second", 2, 2);
    let run = second.wait_for(1).remove(0);
    assert_eq!((run.id.as_str(), run.tries), ("1", 1));
    second.complete(vec![(run.slot, value(&run))]);
    second.stop();
}

#[test]
fn the_job_of_a_dead_worker_runs_elsewhere() {
    let server = Server::start(&[]);
    let host = Host::new(&server.url());
    host.enqueue(vec![task("a")]);
    let lane = "ardiq:{q}:lane:low";
    let _: String = tell(&server, &["XGROUP", "CREATE", lane, "q", "0"]);
    let _: redis::Value = tell(&server, &["XREADGROUP", "GROUP", "q", "dead", "STREAMS", lane, ">"]);
    let _: i64 = tell(&server, &["ZADD", "ardiq:{q}:workers", "1", "dead"]);
    let mut running = host.worker("w", 1, 1);
    running.serve("a");
    until("the dead one is still there", || {
        tell::<Option<String>>(&server, &["ZSCORE", "ardiq:{q}:workers", "dead"]).is_none()
    });
    running.stop();
}

#[test]
fn a_worker_that_was_taken_for_dead_says_that_its_runs_live() {
    let server = Server::start(&[]);
    let host = Host::new(&server.url());
    let mut running = host.worker("w", 1, 1);
    host.enqueue(vec![task("a")]);
    let run = running.wait_for(1).remove(0);
    until("its start is not recorded", || is_recorded(&server, "a"));
    let _: i64 = tell(&server, &["ZADD", "ardiq:{q}:workers", "-1", "w"]);
    running.wait_for_event(EventKind::Lost);
    assert_ne!(running.worker.id(), "w");
    until("nothing says that it lives", || {
        !tell::<Vec<String>>(&server, &["KEYS", "ardiq:{q}:survivals:a:*"]).is_empty()
    });
    // It takes over from itself, and counts a death. The outcome of the lost run does not end the
    // job.
    until("nothing was taken over", || tell::<i64>(&server, &["XLEN", "ardiq:{q}:returned:low"]) == 1);
    running.complete(vec![(run.slot, Outcome::Success(b"refused".to_vec(), None))]);
    let again = running.wait_for(1).remove(0);
    assert_eq!((again.id.as_str(), again.tries), ("a", 2));
    running.complete(vec![(again.slot, value(&again))]);
    assert_eq!(host.result("a", LIMIT).unwrap().tries, 2);
    running.stop();
}

#[test]
fn a_job_that_kills_its_worker_three_times_is_dead_lettered() {
    let server = Server::start(&[]);
    let host = Host::new(&server.url());
    host.enqueue(vec![task("a")]);
    for number in 1..=3 {
        let mut running = host.worker(&format!("w{number}"), 1, 1);
        let run = running.wait_for(1).remove(0);
        assert_eq!((run.id.as_str(), run.tries), ("a", number));
        until("its start is not recorded", || is_recorded(&server, "a"));
        // As if the process were dead: its connections are closed, and its lease expires.
        drop(running);
        let _: i64 = tell(&server, &["ZADD", "ardiq:{q}:workers", "1", &format!("w{number}")]);
    }
    let mut last = host.worker("last", 1, 1);
    let result = host.result("a", LIMIT).unwrap();
    assert!(matches!(&result.outcome, Value::Failure(text) if text.contains("poison")), "{:?}", result.outcome);
    last.take();
    assert!(last.taken.is_empty(), "it was not tried a fourth time");
    last.stop();
    let lines: Vec<String> = host.log().into_iter().map(|line| line.message).collect();
    let expected = "echo[a] is now a dead letter and will not run: 3 worker processes died while running it.";
    assert!(lines.iter().any(|line| line.starts_with(expected)), "{lines:?}");
}

/// Complete the runs of this worker until all of these jobs have run.
fn serve_all(running: &mut Running, mut left: BTreeSet<String>) {
    while !left.is_empty() {
        for run in running.wait_for(1) {
            left.remove(&run.id);
            running.complete(vec![(run.slot, value(&run))]);
        }
    }
}

#[test]
fn what_waits_behind_a_long_run_goes_to_an_idle_worker() {
    let server = Server::start(&[]);
    let host = Host::new(&server.url());
    let mut busy = host.worker_with_lease("busy", 1, 100, LONG_LEASE);
    host.enqueue(tasks(300));
    let mut left: BTreeSet<String> = (0..300).map(|number| number.to_string()).collect();
    // Its runs are short, so it holds many jobs ahead. Then a long one follows.
    let long = loop {
        let run = busy.wait_for(1).remove(0);
        left.remove(&run.id);
        if left.len() == 100 {
            break run;
        }
        busy.complete(vec![(run.slot, value(&run))]);
    };
    let mut idle = host.worker("idle", 4, 4);
    serve_all(&mut idle, left);
    busy.complete(vec![(long.slot, value(&long))]);
    assert!(host.result(&long.id, LIMIT).is_some());
    busy.stop();
    idle.stop();
}

#[test]
fn an_outcome_that_is_refused_after_a_takeover_counts_for_the_worker() {
    let server = Server::start(&[]);
    let host = Host::new(&server.url());
    let mut running = host.worker("w", 1, 1);
    host.enqueue(vec![task("a")]);
    let run = running.wait_for(1).remove(0);
    until("its start is not recorded", || is_recorded(&server, "a"));
    // What a takeover does, without notice to the worker: the delivery ends, and the job is
    // elsewhere, in a lane that this worker does not serve.
    let take_over = r"
        local entry = redis.call('XRANGE', KEYS[1], '-', '+')[1]
        local moved = redis.call('XADD', KEYS[2], '*', unpack(entry[2]))
        redis.call('SETRANGE', KEYS[3], 9, moved .. ' returned:other')
        redis.call('XACK', KEYS[1], 'q', entry[1])
        redis.call('XDEL', KEYS[1], entry[1])
        return { entry[1] }";
    let keys = ["ardiq:{q}:lane:low", "ardiq:{q}:returned:other", "ardiq:{q}:job:a"];
    let pending: Vec<String> = tell(&server, &["EVAL", take_over, "3", keys[0], keys[1], keys[2]]);
    running.complete(vec![(run.slot, Outcome::Success(b"refused".to_vec(), None))]);
    until("nothing says that it lives", || {
        !tell::<Vec<String>>(&server, &["KEYS", "ardiq:{q}:survivals:a:*"]).is_empty()
    });
    let name = tell::<Vec<String>>(&server, &["KEYS", "ardiq:{q}:survivals:a:*"]).remove(0);
    assert_eq!(tell::<Vec<String>>(&server, &["SMEMBERS", &name]), pending);
    running.stop();
}
