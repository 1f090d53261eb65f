//! A worker that is waiting for work.
#![allow(clippy::unwrap_used, clippy::expect_used)] // In a test, a surprise is a failure.

mod support;

use std::time::Instant;

use ardiq_engine::scripts::deliver::BATCH;
use ardiq_engine::submit::Submission;
use ardiq_engine::worker::judge::Outcome;
use support::LIMIT;
use support::host::{Host, Running, task, tasks, tell, value};
use support::server::Server;

/// Wait until a worker waits in a blocking read.
fn until_idle(server: &Server) {
    let end = Instant::now() + LIMIT;
    while !tell::<String>(server, &["INFO", "clients"]).contains("blocked_clients:1") {
        assert!(Instant::now() < end, "no worker waits");
        std::thread::yield_now();
    }
}

#[test]
fn a_worker_that_gets_single_jobs_waits_for_the_next_without_asking_in_between() {
    let server = Server::start(&[]);
    let host = Host::with_lanes(&server.url(), &["only".into()]);
    let mut running = host.worker("w", 10, 100);
    let mut serve = |number: usize| {
        until_idle(&server);
        let id = number.to_string();
        host.enqueue(vec![task(&id)]);
        running.serve(&id);
        assert!(host.result(&id, LIMIT).is_some());
    };
    serve(0);
    until_idle(&server);
    let _: () = tell(&server, &["CONFIG", "RESETSTAT"]);
    (1..=10).for_each(&mut serve);
    until_idle(&server);
    let statistics: String = tell(&server, &["INFO", "commandstats"]);
    assert!(statistics.contains("cmdstat_xreadgroup:calls=10,"), "one read brings each job: {statistics}");
    // A burst is still fetched in batches.
    host.enqueue(tasks(100));
    running.serve("99");
    running.stop();
    let statistics: String = tell(&server, &["INFO", "commandstats"]);
    let reads = statistics.split("cmdstat_xreadgroup:calls=").nth(1).and_then(|rest| rest.split(',').next());
    assert!(reads.unwrap().parse::<usize>().unwrap() < 40, "{statistics}");
}

#[test]
fn a_burst_over_several_lanes_that_finds_a_worker_idle_is_served_in_their_order() {
    let server = Server::start(&[]);
    let host = Host::new(&server.url());
    let mut running = host.worker("w", 1, 3);
    until_idle(&server);
    let lanes = [("first", 0), ("low", 0), ("high", 1), ("higher", 1), ("highest", 1)];
    host.enqueue(lanes.map(|(id, lane)| Submission { lane, ..task(id) }).into());
    let mut order = Vec::new();
    while order.len() < lanes.len() {
        let run = running.wait_for(1).remove(0);
        running.complete(vec![(run.slot, value(&run))]);
        order.push(run.id);
    }
    // Servers differ in which of the first two jobs a blocking read returns, or whether it returns
    // both. The rest is fetched.
    assert_eq!(order.last().map(String::as_str), Some("low"), "{order:?}");
    running.stop();
}

#[test]
fn a_worker_with_one_slot_takes_returned_work_and_leaves_the_rest_to_others() {
    let server = Server::start(&[]);
    let host = Host::with_lanes(&server.url(), &["only".into()]);
    let mut running = host.worker("w", 1, 1);
    until_idle(&server);
    host.enqueue(vec![task("alone")]);
    let alone = running.wait_for(1).remove(0);

    let mut leaving = host.worker("leaving", 1, 1);
    until_idle(&server);
    host.enqueue(vec![task("returned")]);
    let unfinished = leaving.wait_for(1).remove(0);
    leaving.worker.begin_stop();
    leaving.worker.complete(vec![(unfinished.slot, Outcome::HandBack)]);
    leaving.stop();
    host.enqueue(vec![task("new")]);

    running.complete(vec![(alone.slot, value(&alone))]);
    running.taken = running.wait_for(1);
    assert_eq!(running.taken[0].id, "returned");
    // A blocking read returns a job of each stream, but this worker has no slot for two.
    let delivered: Vec<u64> = host.client.shared().keys.streams.iter().map(|stream| pending(&server, stream)).collect();
    assert_eq!(delivered.iter().sum::<u64>(), 1, "{delivered:?}");
    running.serve("new");
    running.stop();
}

/// The jobs of a stream that a worker holds.
fn pending(server: &Server, stream: &str) -> u64 {
    let (count, ..): (u64, redis::Value, redis::Value, redis::Value) = tell(server, &["XPENDING", stream, "q"]);
    count
}

/// From now on, the server keeps a list of all commands.
fn keep_commands(server: &Server) {
    let _: String = tell(server, &["CONFIG", "SET", "slowlog-max-len", "1000000"]);
    let _: String = tell(server, &["CONFIG", "SET", "slowlog-log-slower-than", "0"]);
}

/// How often the worker has read its deliveries back since then.
fn read_backs(server: &Server) -> usize {
    type Command = (i64, i64, i64, Vec<Vec<u8>>, Vec<u8>, Vec<u8>);
    let commands: Vec<Command> = tell(server, &["SLOWLOG", "GET", "-1"]);
    let most = BATCH.to_string();
    let arguments = ["q", "w", most.as_str(), "0"].map(str::as_bytes);
    commands.iter().filter(|(_, _, _, words, ..)| words.windows(4).any(|part| part == arguments)).count()
}

/// Serve a job, and return whether the log says that its delivery had been lost.
fn is_reported_lost(host: &Host, mut running: Running, id: &str) -> bool {
    running.serve(id);
    assert!(host.result(id, LIMIT).is_some());
    running.stop();
    host.log().iter().any(|line| line.message.contains("delivery was lost"))
}

#[test]
fn a_loop_that_is_refused_while_the_worker_waits_loses_no_delivery() {
    let server = Server::start(&[]);
    let host = Host::with_lanes(&server.url(), &["only".into()]);
    // No renewal falls into this test.
    let running = host.worker_with_lease("w", 1, 1, 120_000);
    until_idle(&server);
    keep_commands(&server);
    let _: String = tell(&server, &["ACL", "SETUSER", "default", "-zrangebyscore"]);
    host.enqueue(vec![Submission { delay_ms: 1, ..task("late") }]);
    host.line("Redis refuses what the promote loop needs");
    let _: String = tell(&server, &["ACL", "SETUSER", "default", "+zrangebyscore"]);
    assert!(!is_reported_lost(&host, running, "late"));
    assert_eq!(read_backs(&server), 0, "promoting delivers nothing");
}

#[test]
fn a_refused_request_for_jobs_loses_no_delivery() {
    let server = Server::start(&[]);
    let host = Host::with_lanes(&server.url(), &["only".into()]);
    let mut running = host.worker_with_lease("w", 1, 1, 120_000);
    host.enqueue(tasks(2));
    let run = running.wait_for(1).remove(0);
    keep_commands(&server);
    let _: String = tell(&server, &["ACL", "SETUSER", "default", "-xreadgroup"]);
    running.complete(vec![(run.slot, value(&run))]);
    host.line("Redis refuses what the work loop needs");
    let _: String = tell(&server, &["ACL", "SETUSER", "default", "+xreadgroup"]);
    assert!(!is_reported_lost(&host, running, "1"));
    assert_eq!(read_backs(&server), 0, "a refused request delivers nothing");
}

#[test]
fn a_job_that_the_waiting_read_brings_after_a_reconnect_was_not_lost() {
    let server = Server::start(&[]);
    let host = Host::with_lanes(&server.url(), &["only".into()]);
    let running = host.worker_with_lease("w", 1, 1, 120_000);
    until_idle(&server);
    keep_commands(&server);
    let clients: String = tell(&server, &["CLIENT", "LIST"]);
    for client in clients.lines() {
        let field = |name: &str| client.split(' ').find_map(|field| field.strip_prefix(name)).unwrap();
        if !field("flags=").contains('b') {
            let _: i64 = tell(&server, &["CLIENT", "KILL", "ID", field("id=")]);
        }
    }
    host.line("reconnected to");
    let end = Instant::now() + LIMIT;
    while read_backs(&server) == 0 {
        assert!(Instant::now() < end, "nothing was read back");
    }
    host.enqueue(vec![task("a")]);
    assert!(!is_reported_lost(&host, running, "a"));
    assert_eq!(read_backs(&server), 1, "one reconnect");
}
