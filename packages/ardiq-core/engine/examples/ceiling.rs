//! The ceiling: the queue's scripts through the engine's link, without Python and the work loop. A
//! worker could reach at most this speed on this machine if everything else cost nothing.
//!
//!     ceiling URL enqueue JOBS
//!     ceiling URL drain JOBS [BATCH]
//!
//! Prints the elapsed seconds as a line of JSON.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ardiq_engine::link::{Link, Patience};
use ardiq_engine::protocol::keys::Keys;
use ardiq_engine::scripts::deliver::{self, Settlement, Source, Verdict};
use ardiq_engine::scripts::{produce, upkeep};
use ardiq_engine::submit::{Submission, prepare};
use ardiq_engine::url;
use ardiq_engine::worker::job::{Delivery, Job};
use ardiq_engine::worker::judge::{Finished, Outcome, judge};

const WORKER: &str = "ceiling";
const KEEP_MS: i64 = 300_000;
/// A worker with concurrency 100 holds this many.
const HELD: usize = 200;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, address, role, jobs, rest @ ..] = &arguments[..] else {
        return Err("usage: ceiling URL enqueue|drain JOBS [BATCH]".into());
    };
    let jobs: usize = jobs.parse()?;
    let batch = rest.first().map_or(Ok(HELD / 2), |batch| batch.parse())?;
    let keys = Arc::new(Keys::new("bench", &["default".into()]));
    let link = Link::new(url::parse(address)?, Arc::clone(&keys), Duration::from_secs(5), Arc::new(|_, _| {}));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let seconds = match role.as_str() {
        "enqueue" => runtime.block_on(enqueue(&link, &keys, jobs))?,
        "drain" => runtime.block_on(drain(&link, &keys, jobs, batch))?,
        other => return Err(format!("no role {other:?}").into()),
    };
    println!("{{\"seconds\": {seconds}}}");
    Ok(())
}

async fn enqueue(link: &Link, keys: &Keys, jobs: usize) -> Result<f64, Box<dyn Error>> {
    link.command(&redis::cmd("PING"), Patience::Endless).await?;
    let job = Submission { name: "noop".into(), body: vec![0x92, 0x90, 0x80].into(), ..Submission::default() };
    let started = Instant::now();
    let chunks = prepare(vec![job; jobs], link.connect_limit())?;
    for pair in chunks.chunks(2) {
        // The second one is in flight while the server works on the first.
        let (first, second) = tokio::join!(produce::enqueue(link, keys, &pair[0], Patience::Endless), async {
            if let Some(chunk) = pair.get(1) {
                produce::enqueue(link, keys, chunk, Patience::Endless).await
            } else {
                Ok(Vec::new())
            }
        },);
        first?;
        second?;
    }
    Ok(started.elapsed().as_secs_f64())
}

async fn drain(link: &Link, keys: &Keys, jobs: usize, batch: usize) -> Result<f64, Box<dyn Error>> {
    let claim = upkeep::Claim { worker: WORKER, lease_ms: 60_000, info: b"\x90", first: true, expected_ms: 0 };
    upkeep::renew(link, keys, claim, Patience::Endless).await?;
    let (mut settled, mut ready) = (0, Vec::new());
    let started = Instant::now();
    while settled < jobs {
        // Like a worker: outcomes and fetches are in flight at the same time.
        let (refused, fetched) = tokio::join!(
            settle(link, keys, &ready),
            deliver::fetch(link, keys, WORKER, batch, Source::New, Patience::Endless),
        );
        settled += ready.len() - refused?;
        ready = fetched?.entries.into_iter().map(|entry| outcome(Delivery::read(entry).job)).collect();
        if ready.is_empty() && settled < jobs {
            return Err(format!("{settled} of {jobs} jobs were there").into());
        }
    }
    Ok(started.elapsed().as_secs_f64())
}

fn outcome(job: Job) -> Settlement {
    let outcome = Outcome::Success(vec![0xc0], None);
    judge(Finished { job, outcome, started_ms: 1, finished_ms: 2, recorded: false, is_lost: false }, WORKER, KEEP_MS)
}

async fn settle(link: &Link, keys: &Keys, batch: &[Settlement]) -> Result<usize, Box<dyn Error>> {
    debug_assert!(batch.iter().all(|one| matches!(one.verdict, Verdict::Done(..))), "only successes here");
    if batch.is_empty() {
        return Ok(0);
    }
    Ok(deliver::settle(link, keys, batch, KEEP_MS, Patience::Endless).await?.len())
}
