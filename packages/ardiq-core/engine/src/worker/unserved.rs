//! Log lines about lanes in which jobs wait although no worker of the queue serves them.
//!
//! A producer cannot know this: a worker may start later. Every worker checks from time to time.
//! The more workers there are, the longer each one pauses.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::State;
use crate::error::{Error, Result};
use crate::link::Patience;
use crate::logs::Level;
use crate::protocol::info::Info;
use crate::scripts::look::{self, QueueView};
use crate::service::service;

/// Time before the first check: workers that start together have signed on by then.
const FIRST: Duration = Duration::from_secs(2);

/// Pause between two checks of a worker that is alone.
const PERIOD: Duration = Duration::from_secs(30);

/// This many workers share the checks of one.
const SHARED_BY: usize = 10;

/// Pause between two lines about the same lane.
const AGAIN: Duration = Duration::from_secs(600);

/// Run until the worker has stopped.
pub async fn run(state: Arc<State>) -> Result<()> {
    let (link, keys) = (&state.shared.link, &state.shared.keys);
    let mut told = HashMap::new();
    let mut pause = FIRST;
    loop {
        sleep(pause).await;
        pause = PERIOD;
        let view = match look::inspect(link, keys, Patience::Endless).await {
            // A user without permission to read all of the queue can still work.
            Err(Error::Refused(_)) => continue,
            view => view?,
        };
        pause *= u32::try_from(view.workers.len() / SHARED_BY).unwrap_or(1).max(1);
        for (lane, waiting) in unserved(&view) {
            let now = Instant::now();
            if told.get(&lane).is_some_and(|then| now - *then < AGAIN) {
                continue;
            }
            let queue = &keys.queue;
            let jobs = if waiting == 1 { "1 job is waiting".to_owned() } else { format!("{waiting} jobs are waiting") };
            let message = format!(
                "{jobs} in lane {lane:?}, which no worker of queue {queue} serves: add the lane to the \
                 `priorities` of a worker's app. To look at them: ardiq inspect queues --queue {queue}"
            );
            state.log(Level::Warning, message);
            told.insert(lane, now);
        }
    }
}

/// Lanes with jobs and without a worker, and the number of jobs.
fn unserved(view: &QueueView) -> Vec<(String, i64)> {
    let infos: Vec<Info> = view.workers.iter().map(|one| Info::decode(&one.info).unwrap_or_default()).collect();
    service(&view.lanes, &infos)
        .into_iter()
        .filter(|(lane, workers)| *workers == Some(0) && lane.entries > 0)
        .map(|(lane, _)| (lane.lane.clone(), lane.entries))
        .collect()
}
