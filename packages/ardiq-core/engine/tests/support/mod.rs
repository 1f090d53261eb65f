//! A separate server for each test, and helpers for the data on it.

// Every test file compiles this module and uses only a part of it. In a test, a surprise is a
// failure.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

pub mod graphs;
pub mod host;
pub mod scene;
pub mod server;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ardiq_engine::link::{Link, Patience};
use ardiq_engine::protocol::entry::{Header, INPUTS};
use ardiq_engine::protocol::envelope::Envelope;
use ardiq_engine::protocol::keys::Keys;
use ardiq_engine::protocol::notes::Progress;
use ardiq_engine::protocol::schedule::Schedule;
use ardiq_engine::protocol::state::StartMode;
use ardiq_engine::scripts::deliver::{self, Cursor, Entry, Fetched, GUARD_MS, Settlement, Source, Start, Verdict};
use ardiq_engine::scripts::notes::Note;
use ardiq_engine::scripts::produce::{self, Chunk, NewJob, Occurrence};
use ardiq_engine::scripts::upkeep::{self, Claim, Expired, Promoted, Reclaimed, Renewed, Search, Survivor};
use ardiq_engine::url;
use bytes::Bytes;
use redis::{FromRedisValue, ToRedisArgs};
use tokio::sync::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

use server::Server;

/// How long a test waits for an event. It is generous, because it only takes time if the test
/// fails.
pub const LIMIT: Duration = Duration::from_secs(30);

/// The positions of the streams of the two lanes.
pub const RETURNED_HIGH: usize = 0;
pub const HIGH: usize = 1;
pub const RETURNED_LOW: usize = 2;
pub const LOW: usize = 3;

/// For commands without arguments.
pub const NO_ARGUMENTS: &[&str; 0] = &[];

/// The default result TTL of the worker.
pub const TTL: i64 = 300_000;

/// The queue `q` with the lanes `low` and `high`, on a separate server.
pub struct Queue {
    pub link: Link,
    pub keys: Arc<Keys>,
    pub server: Server,
    pushed: Mutex<UnboundedReceiver<(String, Vec<u8>)>>,
}

impl Queue {
    pub fn start() -> Self {
        Self::on(Server::start(&[]))
    }

    pub fn on(server: Server) -> Self {
        let keys = Arc::new(Keys::new("q", &["low".into(), "high".into()]));
        let (sender, pushed) = unbounded_channel();
        let sink = Arc::new(move |channel: &[u8], message: Vec<u8>| {
            let _ = sender.send((String::from_utf8_lossy(channel).into_owned(), message));
        });
        let link = Link::new(url::parse(&server.url()).unwrap(), Arc::clone(&keys), LIMIT, sink);
        Self { link, keys, server, pushed: Mutex::new(pushed) }
    }

    /// Run a plain command.
    pub async fn ask<T: FromRedisValue>(&self, name: &str, args: impl ToRedisArgs) -> T {
        let mut cmd = redis::cmd(name);
        cmd.arg(args);
        let reply = self.link.command(&cmd, patience()).await.unwrap();
        redis::from_redis_value(reply).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub async fn now_ms(&self) -> u64 {
        let (seconds, micros): (u64, u64) = self.ask("TIME", NO_ARGUMENTS).await;
        seconds * 1000 + micros / 1000
    }

    pub async fn enqueue(&self, jobs: &[NewJob]) -> Vec<(usize, String)> {
        produce::enqueue(&self.link, &self.keys, &call_of(jobs), patience()).await.unwrap()
    }

    /// The expected time of a call that is made now. It is later than the call, so that a slow
    /// machine does not look like an absence.
    pub async fn on_time(&self) -> i64 {
        self.now_ms().await as i64 + 60_000
    }

    pub async fn claim(&self, worker: &str, first: bool, expected_ms: i64) -> Renewed {
        let claim = Claim { worker, lease_ms: 60_000, info: b"info", first, expected_ms };
        upkeep::renew(&self.link, &self.keys, claim, patience()).await.unwrap()
    }

    pub async fn sign_on(&self, worker: &str) {
        assert!(self.claim(worker, true, self.on_time().await).await.held);
    }

    pub async fn renew(&self, worker: &str) -> bool {
        self.claim(worker, false, self.on_time().await).await.held
    }

    pub async fn lease(&self, worker: &str) -> Option<i64> {
        self.ask::<Option<f64>>("ZSCORE", (&self.keys.workers, worker)).await.map(|at| at as i64)
    }

    pub async fn set_lease(&self, worker: &str, at_ms: i64) {
        let _: i64 = self.ask("ZADD", (&self.keys.workers, at_ms, worker)).await;
    }

    /// Make a worker's lease expire.
    pub async fn let_lease_end(&self, worker: &str) {
        self.set_lease(worker, 1).await;
    }

    pub async fn fetch(&self, worker: &str, count: usize) -> Fetched {
        deliver::fetch(&self.link, &self.keys, worker, count, Source::New, patience()).await.unwrap()
    }

    pub async fn fetch_own(&self, worker: &str, count: usize) -> Fetched {
        deliver::fetch(&self.link, &self.keys, worker, count, Source::Own(Cursor::default()), patience()).await.unwrap()
    }

    /// Sign on, and take exactly this many jobs.
    pub async fn take(&self, worker: &str, count: usize) -> Vec<Entry> {
        self.sign_on(worker).await;
        let entries = self.fetch(worker, count).await.entries;
        assert_eq!(entries.len(), count, "jobs that {worker} found");
        entries
    }

    /// Enqueue a plain job and have it delivered.
    pub async fn deliver(&self, id: &str, worker: &str) -> Entry {
        assert!(self.enqueue(&[job(id)]).await.is_empty());
        self.take(worker, 1).await.remove(0)
    }

    pub async fn begin(&self, worker: &str, entries: &[&Entry]) -> Vec<usize> {
        self.begin_as(worker, entries, StartMode::Plain).await
    }

    pub async fn begin_as(&self, worker: &str, entries: &[&Entry], mode: StartMode) -> Vec<usize> {
        let runs: Vec<Start> = entries.iter().map(|entry| Start { mode, ..start_of(entry) }).collect();
        deliver::start(&self.link, &self.keys, worker, &runs, patience()).await.unwrap()
    }

    pub async fn settle(&self, batch: &[Settlement]) -> Vec<usize> {
        deliver::settle(&self.link, &self.keys, batch, TTL, patience()).await.unwrap()
    }

    pub async fn look(&self, asker: &str, expected_ms: i64, seen: &[Expired]) -> Reclaimed {
        let search = Search { asker, limit: 10, sweep: false, expected_ms, seen };
        upkeep::reclaim(&self.link, &self.keys, search, patience()).await.unwrap()
    }

    /// Look for dead workers. If there are any, a second call takes over their work.
    pub async fn reclaim(&self, asker: &str, limit: usize, sweep: bool) -> Reclaimed {
        let first = Search { asker, limit, sweep, expected_ms: self.on_time().await, seen: &[] };
        let found = upkeep::reclaim(&self.link, &self.keys, first, patience()).await.unwrap();
        if !found.victim.is_empty() || found.expired.is_empty() {
            return found;
        }
        let second = Search { expected_ms: self.on_time().await, seen: &found.expired, ..first };
        upkeep::reclaim(&self.link, &self.keys, second, patience()).await.unwrap()
    }

    pub async fn leave(&self, worker: &str) -> i64 {
        upkeep::leave(&self.link, &self.keys, worker, false, patience()).await.unwrap()
    }

    pub async fn record(&self, id: &str) -> Option<Vec<u8>> {
        self.ask("GET", self.keys.job(id)).await
    }

    pub async fn kind(&self, id: &str) -> Option<char> {
        self.record(id).await.and_then(|record| record.first().copied().map(char::from))
    }

    pub async fn length(&self, stream: usize) -> u64 {
        self.ask("XLEN", &self.keys.streams[stream]).await
    }

    pub async fn pending(&self, stream: usize) -> i64 {
        let summary: redis::Value = self.ask("XPENDING", (&self.keys.streams[stream], &self.keys.queue)).await;
        match summary {
            redis::Value::Array(parts) => i64::from_redis_value(parts[0].clone()).unwrap(),
            other => panic!("XPENDING answered {other:?}"),
        }
    }

    /// All keys. Those of the queue are without its prefix.
    pub async fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.ask("KEYS", "*").await;
        for name in &mut names {
            if let Some(rest) = name.strip_prefix(&self.keys.base) {
                *name = rest.to_owned();
            }
        }
        names.sort();
        names
    }

    /// All data on the server.
    pub async fn snapshot(&self) -> BTreeMap<String, Vec<u8>> {
        let names: Vec<String> = self.ask("KEYS", "*").await;
        let mut all = BTreeMap::new();
        for name in names {
            let bytes = self.ask("DUMP", &name).await;
            all.insert(name, bytes);
        }
        all
    }

    pub async fn listen(&self, channel: &str) {
        self.link.subscribe(channel, patience()).await.unwrap();
    }

    /// The next message on a subscribed channel.
    pub async fn next_push(&self) -> (String, Vec<u8>) {
        timeout(LIMIT, self.pushed.lock().await.recv()).await.expect("a message in time").expect("the link lives")
    }

    /// Every message so far. Messages arrive before the reply to a later ping on the same
    /// connection.
    pub async fn pushes(&self) -> Vec<(String, Vec<u8>)> {
        self.link.probe(patience()).await.unwrap();
        let mut pushed = self.pushed.lock().await;
        std::iter::from_fn(|| pushed.try_recv().ok()).collect()
    }
}

pub fn patience() -> Patience {
    Patience::within(LIMIT)
}

fn nonce(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

/// A plain job for the low lane, from its first enqueue.
pub fn job(id: &str) -> NewJob {
    job_of_call(id, 1)
}

/// A job from the enqueue `call`.
pub fn job_of_call(id: &str, call: u64) -> NewJob {
    let envelope = Envelope { nonce: nonce(call), name: "task".into(), body: b"args".to_vec(), ..Envelope::default() };
    NewJob {
        id: id.into(),
        is_new: false,
        lane: 0,
        delay_ms: 0,
        due_ms: 0,
        unique: None,
        envelope: envelope.encode(),
        body: Bytes::new(),
    }
}

/// One call. It has the nonce of the first job.
pub fn call_of(jobs: &[NewJob]) -> Chunk {
    Chunk { nonce: jobs[0].envelope[1..9].try_into().unwrap(), jobs: jobs.to_vec() }
}

pub fn header_of(entry: &Entry) -> Header {
    entry.header.unwrap()
}

/// Header and envelope, as in the record of a scheduled job.
pub fn value_of(entry: &Entry) -> Vec<u8> {
    [&header_of(entry).encode()[..], &entry.envelope].concat()
}

/// A result record with the nonce of the job's enqueue.
pub fn result_of(entry: &Entry) -> Vec<u8> {
    [b"R", &entry.envelope[1..9], b"result"].concat()
}

fn header_flags(entry: &Entry) -> u8 {
    entry.header.map_or(0, |header| header.flags)
}

pub fn settlement(entry: &Entry, verdict: Verdict) -> Settlement {
    let (stream, id) = (entry.stream, entry.id.clone());
    let (recorded, unique, separate_body, guard_ms) = (false, None, None, GUARD_MS);
    let nonce = entry.envelope.get(1..9).and_then(|nonce| nonce.try_into().ok()).unwrap_or_default();
    Settlement {
        stream,
        entry: entry.entry.clone(),
        id,
        nonce,
        recorded,
        is_lost: false,
        has_inputs: header_flags(entry) & INPUTS != 0,
        unique,
        separate_body,
        has_notes: false,
        guard_ms,
        verdict,
    }
}

pub fn done(entry: &Entry, ttl: i64) -> Settlement {
    settlement(entry, Verdict::Done(result_of(entry), ttl))
}

pub fn dead(entry: &Entry, ttl: i64) -> Settlement {
    settlement(entry, Verdict::Dead(result_of(entry), ttl))
}

pub fn poison(entry: &Entry, ttl: i64) -> Settlement {
    settlement(entry, Verdict::Poison(result_of(entry), ttl))
}

pub fn again(entry: &Entry, delay_ms: u64) -> Settlement {
    let header = header_of(entry);
    let header = Header { tries: header.tries + 1, ..header };
    settlement(entry, Verdict::Again(delay_ms, header.encode().to_vec()))
}

/// A run of a job from the enqueue `call` that outlived the lease of this worker.
pub fn survivor(id: &str, call: u64, entry: &str) -> Survivor {
    Survivor { id: id.into(), nonce: nonce(call), entry: entry.into() }
}

pub fn start_of(entry: &Entry) -> Start {
    Start {
        id: entry.id.clone(),
        stream: entry.stream,
        entry: entry.entry.clone(),
        started_ms: 5,
        tries: 1,
        mode: StartMode::Plain,
    }
}

/// A note with progress and a checkpoint.
pub fn note_of(entry: &Entry) -> Note {
    Note {
        id: entry.id.clone(),
        nonce: entry.envelope[1..9].try_into().unwrap(),
        stream: entry.stream,
        entry: entry.entry.clone(),
        progress: Some(Progress { done: 3, total: Some(10), message: Some("reading".into()) }),
        checkpoint: Some(b"value".to_vec()),
        channels: Vec::new(),
    }
}

pub fn back(entry: &Entry) -> Settlement {
    settlement(entry, Verdict::Back(header_of(entry).encode().to_vec()))
}

/// An occurrence of a schedule that is due every hour.
pub fn occurrence(schedule: &str, fire_ms: u64) -> Occurrence<'_> {
    Occurrence { schedule, fire_ms, gap_ms: 3_600_000, drift_ms: u64::MAX >> 11, ..Occurrence::default() }
}

/// An hourly schedule for the low lane.
pub fn schedule(name: &str) -> Schedule {
    Schedule {
        name: name.into(),
        task: "task".into(),
        lane: "low".into(),
        every_ms: 3_600_000,
        zone: "UTC".into(),
        drift_ms: 60_000,
        body: b"args".to_vec(),
        ..Schedule::default()
    }
}

pub async fn promote(queue: &Queue, limit: usize) -> Promoted {
    upkeep::promote(&queue.link, &queue.keys, limit, patience()).await.unwrap()
}
