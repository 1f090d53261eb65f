//! A worker engine on a real server, from the client's request to the pushed result, and through the server's mishaps.
#![allow(clippy::unwrap_used, clippy::expect_used)] // In a test a surprise is a failure.

mod support;

use std::cell::Cell;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ardiq_engine::client::{Answer, Client};
use ardiq_engine::error::Error;
use ardiq_engine::logs::Line;
use ardiq_engine::port::Port;
use ardiq_engine::protocol::record::{Outcome as Value, ResultRecord};
use ardiq_engine::submit::Submission;
use ardiq_engine::worker::desk::Assignment;
use ardiq_engine::worker::judge::Outcome;
use ardiq_engine::worker::{Notice, Settings, Worker};
use redis::FromRedisValue;
use support::LIMIT;
use support::server::Server;
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

/// How soon a worker has to serve new jobs when a fault has healed.
const HEALED: Duration = Duration::from_secs(5);

/// A client with its mailbox.
struct Host {
    client: Client,
    port: Arc<Port>,
    ticket: Cell<i64>,
}

impl Host {
    fn new(url: &str) -> Self {
        Self::with_lanes(url, &["low".into(), "high".into()])
    }

    fn with_lanes(url: &str, lanes: &[String]) -> Self {
        let client = Client::new(url, "q", lanes, Duration::from_secs(5)).unwrap();
        Self { client, port: Arc::new(Port::new().unwrap()), ticket: Cell::new(0) }
    }

    /// Make a request and wait for its answer.
    fn ask(&self, request: impl FnOnce(&Client, &Arc<Port>, i64)) -> Result<Answer, Error> {
        let ticket = self.ticket.get() + 1;
        self.ticket.set(ticket);
        request(&self.client, &self.port, ticket);
        let end = Instant::now() + LIMIT;
        while Instant::now() < end {
            for (found, answer) in self.port.block(end.saturating_duration_since(Instant::now())) {
                if found == ticket {
                    return answer;
                }
            }
        }
        panic!("no answer in time");
    }

    fn enqueue(&self, jobs: Vec<Submission>) -> Vec<String> {
        match self.ask(|client, port, ticket| client.enqueue(port, ticket, jobs)) {
            Ok(Answer::Ids(ids)) => ids,
            other => panic!("{other:?}"),
        }
    }

    fn result(&self, id: &str, limit: Duration) -> Option<Arc<ResultRecord>> {
        match self.ask(|client, port, ticket| client.result(port, ticket, id.to_owned(), Some(limit))) {
            Ok(Answer::Result(result)) => result,
            other => panic!("{other:?}"),
        }
    }

    fn worker(&self, id: &str, concurrency: usize, prefetch: usize) -> Running {
        let settings = Settings {
            worker_id: id.into(),
            concurrency,
            prefetch,
            lease_ms: 3_000,
            result_ttl_ms: 300_000,
            host: "here".into(),
        };
        let worker = Worker::new(&self.client, settings, false).unwrap();
        worker.start();
        let waiting = Builder::new_current_thread().enable_all().build().unwrap();
        Running { worker, waiting, taken: Vec::new(), notices: Vec::new() }
    }

    fn log(&self) -> Vec<Line> {
        self.client.shared().logs.take()
    }
}

/// A worker with what its host has taken from it.
struct Running {
    worker: Worker,
    waiting: Runtime,
    taken: Vec<Assignment>,
    notices: Vec<Notice>,
}

impl Running {
    fn take(&mut self) {
        let (assignments, notices) = self.worker.take();
        self.taken.extend(assignments);
        self.notices.extend(notices);
    }

    /// Take until this many runs wait to be completed.
    fn wait_for(&mut self, count: usize) -> Vec<Assignment> {
        self.until(|running| running.taken.len() >= count);
        std::mem::take(&mut self.taken)
    }

    fn wait_for_notice(&mut self, kind: &str) {
        self.until(|running| running.notices.iter().any(|notice| notice.kind == kind));
    }

    fn until(&mut self, happened: impl Fn(&Self) -> bool) {
        let end = Instant::now() + LIMIT;
        self.take();
        while !happened(self) {
            assert!(Instant::now() < end, "{:?} {:?}", self.taken, self.notices);
            self.listen(end.saturating_duration_since(Instant::now()));
            self.take();
        }
    }

    /// Wait for the bell as an event loop would.
    fn listen(&self, limit: Duration) {
        self.waiting.block_on(async {
            // A second descriptor of the same socket: it is listened to and never read.
            let ear = std::os::unix::net::UnixStream::from(self.worker.as_fd().try_clone_to_owned().unwrap());
            let ear = UnixStream::from_std(ear).unwrap();
            let _ = timeout(limit, ear.readable()).await;
        });
    }

    /// Run everything until this job has run.
    fn serve(&mut self, id: &str) {
        let mut served = false;
        while !served {
            for run in self.wait_for(1) {
                served |= run.id == id;
                self.taken.extend(self.worker.complete(vec![(run.slot, value(&run))]));
            }
        }
    }

    fn stop(mut self) {
        self.worker.finish_stop();
        self.wait_for_notice("stopped");
    }
}

fn value(run: &Assignment) -> Outcome {
    Outcome::Success(run.body.clone(), None)
}

fn task(id: &str) -> Submission {
    Submission {
        id: Some(id.into()),
        name: "echo".into(),
        body: id.as_bytes().to_vec().into(),
        ..Submission::default()
    }
}

fn tasks(count: usize) -> Vec<Submission> {
    (0..count).map(|number| task(&number.to_string())).collect()
}

/// A command on a connection of its own.
fn tell<T: FromRedisValue>(server: &Server, words: &[&str]) -> T {
    let mut connection = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    redis::cmd(words[0]).arg(&words[1..]).query(&mut connection).unwrap()
}

fn stored_value(result: Option<Arc<ResultRecord>>) -> Vec<u8> {
    match result.map(|result| result.outcome.clone()) {
        Some(Value::Value(value)) => value,
        other => panic!("{other:?}"),
    }
}

/// A connection with subscriptions counts as another type than one without.
fn cut_connections(server: &Server) {
    let cut = |kind: &str| tell::<i64>(server, &["CLIENT", "KILL", "TYPE", kind]);
    assert!(cut("normal") + cut("pubsub") > 0, "there was a connection to cut");
}

#[test]
fn a_client_that_was_told_the_time_knows_it_before_any_worker_has_fetched() {
    let server = Server::start(&[]);
    let host = Host::new(&server.url());
    assert_eq!(host.client.shared().clock.now_ms(), 0);
    let Ok(Answer::Number(told)) = host.ask(|client, port, ticket| client.clock(port, ticket)) else {
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
    let waiter = Arc::clone(&host.port);
    host.client.result(&waiter, 1_000, "a".into(), Some(LIMIT));
    // The word that was left is what makes the push: wait until it stands before the job ends.
    let end = Instant::now() + LIMIT;
    while !tell::<bool>(&server, &["HEXISTS", "ardiq:{q}:waiters", "a"]) {
        assert!(Instant::now() < end, "no word was left");
        std::thread::yield_now();
    }
    assert!(running.worker.complete(vec![(run.slot, value(&run))]).is_empty());
    let [(1_000, Ok(Answer::Result(result)))] = &waiter.block(LIMIT)[..] else { panic!("no push came") };
    let result = result.as_ref().unwrap();
    assert_eq!((&result.outcome, result.tries, result.worker.as_str()), (&Value::Value(b"a".to_vec()), 1, "w"));
    running.stop();
    assert!(!tell::<bool>(&server, &["EXISTS", "ardiq:{q}:workers", "ardiq:{q}:running", "ardiq:{q}:waiters"]));
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
            let next = running.worker.complete(vec![(run.slot, value(&run))]);
            running.taken.extend(next);
        }
    }
    assert_eq!(stored_value(host.result("299", LIMIT)), b"299");
    running.stop();
}

/// Wait until a worker waits in a blocking read.
fn until_idle(server: &Server) {
    let end = Instant::now() + LIMIT;
    while !tell::<String>(server, &["INFO", "clients"]).contains("blocked_clients:1") {
        assert!(Instant::now() < end, "nobody waits");
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
    // A burst is fetched in batches all the same.
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
    let mut running = host.worker("w", 1, 2);
    until_idle(&server);
    let lanes = [("first", 0), ("low", 0), ("high", 1), ("higher", 1), ("highest", 1)];
    host.enqueue(lanes.map(|(id, lane)| Submission { lane, ..task(id) }).into());
    let mut order = Vec::new();
    while order.len() < lanes.len() {
        let run = running.wait_for(1).remove(0);
        running.taken.extend(running.worker.complete(vec![(run.slot, value(&run))]));
        order.push(run.id);
    }
    assert_eq!(order, ["first", "high", "higher", "highest", "low"]);
    running.stop();
}

#[test]
fn a_stop_hands_back_what_has_not_started_without_spending_a_try() {
    let server = Server::start(&[]);
    let host = Host::new(&server.url());
    host.enqueue(tasks(10));
    let mut first = host.worker("first", 2, 6);
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
    // As if the worker had asked for more than it may hold, and the answers had not come: more than one page of them.
    let lane = "ardiq:{q}:lane:low";
    let words = ["XREADGROUP", "GROUP", "q", "w", "COUNT", "1000", "STREAMS", lane, ">"];
    let _: redis::Value = tell(&server, &words);
    cut_connections(&server);
    running.taken = first;
    running.serve("399");
    running.stop();
    assert_eq!(tell::<i64>(&server, &["XLEN", lane]), 0);
}

/// A worker that ran before the fault serves a job that is enqueued after it.
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
    // Completed while the server is away: the outcomes wait.
    let next = running.worker.complete(runs.iter().map(|run| (run.slot, value(run))).collect());
    running.taken.extend(next);
    let away = host.ask(|client, port, ticket| client.enqueue(port, ticket, vec![task("away")]));
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
