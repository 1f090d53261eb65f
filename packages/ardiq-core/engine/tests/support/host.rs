//! A worker engine and its host, which replaces the binding and an event loop.

use std::cell::Cell;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ardiq_engine::answer::Answer;
use ardiq_engine::client::Client;
use ardiq_engine::error::Error;
use ardiq_engine::logs::Line;
use ardiq_engine::mailbox::Mailbox;
use ardiq_engine::protocol::record::ResultRecord;
use ardiq_engine::submit::Submission;
use ardiq_engine::worker::desk::Assignment;
use ardiq_engine::worker::judge::Outcome;
use ardiq_engine::worker::{Event, EventKind, Settings, Worker};
use redis::FromRedisValue;
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use super::LIMIT;
use super::server::Server;

/// A client with its mailbox.
pub struct Host {
    pub client: Client,
    pub mailbox: Arc<Mailbox>,
    last_request: Cell<i64>,
}

impl Host {
    pub fn new(url: &str) -> Self {
        Self::with_lanes(url, &["low".into(), "high".into()])
    }

    pub fn with_lanes(url: &str, lanes: &[String]) -> Self {
        let client = Client::new(url, "q", lanes, Duration::from_secs(5)).unwrap();
        Self { client, mailbox: Arc::new(Mailbox::new().unwrap()), last_request: Cell::new(0) }
    }

    /// Make a request and wait for its answer.
    pub fn ask(&self, send: impl FnOnce(&Client, &Arc<Mailbox>, i64)) -> Result<Answer, Error> {
        let request = self.last_request.get() + 1;
        self.last_request.set(request);
        send(&self.client, &self.mailbox, request);
        let end = Instant::now() + LIMIT;
        while Instant::now() < end {
            for (found, answer) in self.mailbox.block(end.saturating_duration_since(Instant::now())) {
                if found == request {
                    return answer;
                }
            }
        }
        panic!("no answer in time");
    }

    pub fn enqueue(&self, jobs: Vec<Submission>) -> Vec<String> {
        match self.ask(|client, mailbox, request| client.enqueue(mailbox, request, jobs)) {
            Ok(Answer::Ids(ids)) => ids,
            other => panic!("{other:?}"),
        }
    }

    pub fn result(&self, id: &str, limit: Duration) -> Option<Arc<ResultRecord>> {
        match self.ask(|client, mailbox, request| client.result(mailbox, request, id.to_owned(), Some(limit))) {
            Ok(Answer::Result(result)) => result,
            other => panic!("{other:?}"),
        }
    }

    pub fn worker(&self, id: &str, concurrency: usize, prefetch: usize) -> Running {
        self.worker_with_lease(id, concurrency, prefetch, 3_000)
    }

    pub fn worker_with_lease(&self, id: &str, concurrency: usize, prefetch: usize, lease_ms: u64) -> Running {
        let settings = Settings {
            worker_id: id.into(),
            concurrency,
            prefetch,
            lease_ms,
            result_ttl_ms: 300_000,
            host: "here".into(),
        };
        let worker = Worker::new(&self.client, settings, false).unwrap();
        worker.start();
        let waiting = Builder::new_current_thread().enable_all().build().unwrap();
        Running { worker, waiting, taken: Vec::new(), events: Vec::new() }
    }

    pub fn log(&self) -> Vec<Line> {
        self.client.shared().logs.take()
    }

    /// Wait for the first line with `part`, and return it. The lines before it are gone.
    pub fn line(&self, part: &str) -> Line {
        let (end, mut seen) = (Instant::now() + LIMIT, Vec::new());
        loop {
            for line in self.log() {
                if line.message.contains(part) {
                    return line;
                }
                seen.push(line.message);
            }
            assert!(Instant::now() < end, "no line with {part:?}: {seen:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A worker, and what its host has taken from it.
pub struct Running {
    pub worker: Worker,
    waiting: Runtime,
    pub taken: Vec<Assignment>,
    pub events: Vec<Event>,
}

impl Running {
    pub fn take(&mut self) {
        self.events.extend(self.worker.take());
        self.pull();
    }

    /// Start all runs that may start.
    pub fn pull(&mut self) {
        self.taken.extend(std::iter::from_fn(|| self.worker.next()));
        self.worker.pulled();
    }

    /// Submit outcomes, and start the next runs.
    pub fn complete(&mut self, outcomes: Vec<(usize, Outcome)>) {
        self.worker.complete(outcomes);
        self.pull();
    }

    /// Take runs until this many have started.
    pub fn wait_for(&mut self, count: usize) -> Vec<Assignment> {
        self.until(|running| running.taken.len() >= count);
        std::mem::take(&mut self.taken)
    }

    pub fn wait_for_event(&mut self, kind: EventKind) {
        self.until(|running| running.events.iter().any(|event| event.kind == kind));
    }

    pub fn until(&mut self, happened: impl Fn(&Self) -> bool) {
        let end = Instant::now() + LIMIT;
        self.take();
        while !happened(self) {
            assert!(Instant::now() < end, "{:?} {:?}", self.taken, self.events);
            self.listen(end.saturating_duration_since(Instant::now()));
            self.take();
        }
    }

    /// Wait for a notification as an event loop would.
    pub fn listen(&self, limit: Duration) {
        self.waiting.block_on(async {
            // A second descriptor of the same socket. It is watched, but never read.
            let reader = std::os::unix::net::UnixStream::from(self.worker.as_fd().try_clone_to_owned().unwrap());
            let reader = UnixStream::from_std(reader).unwrap();
            let _ = timeout(limit, reader.readable()).await;
        });
    }

    /// Run all jobs until this one has run.
    pub fn serve(&mut self, id: &str) {
        let mut served = false;
        while !served {
            for run in self.wait_for(1) {
                served |= run.id == id;
                self.complete(vec![(run.slot, value(&run))]);
            }
        }
    }

    pub fn stop(mut self) {
        self.worker.finish_stop();
        self.wait_for_event(EventKind::Stopped);
    }
}

pub fn value(run: &Assignment) -> Outcome {
    Outcome::Success(run.body.clone(), None)
}

pub fn task(id: &str) -> Submission {
    Submission {
        id: Some(id.into()),
        name: "echo".into(),
        body: id.as_bytes().to_vec().into(),
        ..Submission::default()
    }
}

pub fn tasks(count: usize) -> Vec<Submission> {
    (0..count).map(|number| task(&number.to_string())).collect()
}

/// Run a command on a separate connection.
pub fn tell<T: FromRedisValue>(server: &Server, words: &[&str]) -> T {
    let mut connection = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    redis::cmd(words[0]).arg(&words[1..]).query(&mut connection).unwrap()
}
