//! The blocking read: while there is no work, one job wakes one worker. It has its own connection.
//! It is never cancelled once it has been sent, because no worker would know of a job that was
//! delivered to a cancelled read.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use redis::Value;
use tokio::time::{sleep, timeout};

use super::{State, work};
use crate::clock::monotonic_ms;
use crate::commands;
use crate::error::{Error, Remedy, Result, remedy};
use crate::link::{Patience, RESPONSE_LIMIT, Wire};
use crate::lock::lock;
use crate::logs::{Level, LogThrottle};
use crate::scripts::deliver::{Entry, read_entries};

/// How long one read blocks. A dead connection is noticed within this time.
const BLOCK: Duration = Duration::from_secs(2);

/// The same in burst mode, where the worker must notice that the queue is empty.
const BURST_BLOCK: Duration = Duration::from_millis(50);

/// Pause between two requests for jobs while the server refuses the connection for the blocking
/// read.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Run until the worker has stopped.
pub async fn run(state: Arc<State>) -> Result<()> {
    let mut conn: Option<Wire> = None;
    let refusals = LogThrottle::default();
    // If this loop was restarted, jobs may have arrived while no read was waiting for them.
    lock(&state.desk).set_dry(false);
    state.work.notify_one();
    loop {
        state.idle.notified().await;
        while lock(&state.desk).wants_to_wait(monotonic_ms()) {
            let ready = match conn.take() {
                Some(ready) => ready,
                None => match connect(&state).await {
                    // Without a connection of its own, it asks at intervals.
                    Err(error @ Error::Refused(_)) => {
                        if refusals.is_due(monotonic_ms()) {
                            let message = format!("new jobs are found up to a second late: {error}");
                            state.log(Level::Warning, message);
                        }
                        sleep(ASK_AGAIN).await;
                        lock(&state.desk).set_dry(false);
                        state.work.notify_one();
                        break;
                    }
                    connected => connected?,
                },
            };
            conn = wait(&state, ready).await?;
        }
    }
}

async fn connect(state: &State) -> Result<Wire> {
    let conn = state.shared.link.dedicated().await?;
    *lock(&state.blocked) = match timeout(RESPONSE_LIMIT, conn.send(&commands::client_id())).await {
        Ok(Ok(Value::Int(id))) => Some(id),
        _ => None,
    };
    Ok(conn)
}

/// One blocking read. Returns the connection if it can be used again.
async fn wait(state: &State, conn: Wire) -> Result<Option<Wire>> {
    let worker = state.identity();
    let burst = state.burst.load(Ordering::Acquire);
    let block = if burst { BURST_BLOCK } else { BLOCK };
    let read = commands::read_blocking(&state.shared.keys, &worker, block);
    lock(&state.desk).begin_blocking();
    let outcome = match timeout(block + RESPONSE_LIMIT, conn.send(&read)).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(remedy(&error)),
        Err(_) => Err(Remedy::Reconnect),
    };
    let (mut deliveries, outcome) = match outcome.map(|value| entries(state, value)) {
        Ok(Ok(entries)) => (work::read(state, entries), Ok(Ok(()))),
        Ok(Err(error)) => (Vec::new(), Ok(Err(error))),
        Err(remedy) => (Vec::new(), Err(remedy)),
    };
    let came = deliveries.len();
    let mut desk = lock(&state.desk);
    let lost = desk.end_blocking(&mut deliveries);
    work::log_read_back(state, lost);
    match outcome {
        Ok(Ok(())) => {
            let nothing_in_flight = desk.is_empty() && deliveries.len() == came;
            let in_vain = came == 0;
            if worker == state.identity() {
                desk.receive(deliveries, true, state.now_ms());
                state.offer(&desk);
            }
            // If nothing else is held, this job came alone: a job that was already queued would
            // have arrived while the job before it was still held, because that job's outcome is
            // sent after this read. Otherwise more jobs may be waiting, so fetch next. Also fetch
            // if there are several lanes, because a read returns one job of each and fetch keeps
            // their order; if the next read cannot begin at once; and in burst mode, which must
            // notice an empty queue.
            let came_alone = nothing_in_flight && state.shared.keys.lanes.len() == 1 && desk.has_room(monotonic_ms());
            desk.set_dry((in_vain || came_alone) && !burst);
            drop(desk);
            state.work.notify_one();
            Ok(Some(conn))
        }
        Ok(Err(error)) => {
            // The reply cannot be read, so its jobs are unknown.
            desk.must_recover();
            drop(desk);
            state.work.notify_one();
            Err(error)
        }
        Err(Remedy::Reconnect) => {
            *lock(&state.blocked) = None;
            desk.must_recover();
            drop(desk);
            state.work.notify_one();
            Ok(None)
        }
        Err(_) => {
            // The group is probably missing. The fetch script creates it.
            desk.set_dry(false);
            drop(desk);
            state.work.notify_one();
            Ok(Some(conn))
        }
    }
}

/// The reply is a map from stream to entries (RESP3), or pairs of them (RESP2).
fn entries(state: &State, value: Value) -> Result<Vec<Entry>> {
    let pairs: Vec<(Value, Value)> = match value {
        Value::Nil => Vec::new(),
        Value::Map(pairs) => pairs,
        Value::Array(items) => items
            .into_iter()
            .filter_map(|item| match item {
                Value::Array(pair) => <[Value; 2]>::try_from(pair).ok().map(|[stream, entries]| (stream, entries)),
                _ => None,
            })
            .collect(),
        other => return Err(Error::Protocol(format!("XREADGROUP answered {other:?}"))),
    };
    let mut found = Vec::new();
    for (stream, entries) in pairs {
        let name: String = redis::from_redis_value(stream).map_err(|error| Error::Protocol(error.to_string()))?;
        if let Some(position) = state.shared.keys.streams.iter().position(|key| *key == name) {
            read_entries(position, entries, &mut found)?;
        }
    }
    Ok(found)
}

/// End a blocked read now. If a job was about to arrive, the read still returns it.
pub async fn wake(state: &State) {
    let blocked = *lock(&state.blocked);
    if let Some(client) = blocked {
        // Without permission for this, the read ends when its time is up.
        let _ = state.shared.link.command(&commands::unblock(client), Patience::within(RESPONSE_LIMIT)).await;
    }
}
