//! Aborts jobs. A job that no worker has ends in the script. Otherwise, the caller waits for the
//! result, like any caller, and repeats its request: the job may have returned to the queue.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::error::{Error, Result};
use crate::link::Patience;
use crate::results::{self, LONGEST_WAIT};
use crate::scripts::abort::{self, Abort};
use crate::shared::Shared;

/// How often the request is repeated.
const REPEAT: Duration = Duration::from_secs(1);

/// How long after the caller's time a check for the result may still take.
const FINAL_CHECK_LIMIT: Duration = Duration::from_millis(250);

/// Abort a job. Returns whether it has ended as aborted within `limit`.
pub async fn abort(shared: &Arc<Shared>, id: &str, limit: Duration) -> Result<bool> {
    let (link, keys) = (&shared.link, &shared.keys);
    let end = Instant::now() + limit.min(LONGEST_WAIT);
    let mut patience = Patience::within(link.connect_limit());
    let Some(nonce) = abort::nonce(link, keys, id, patience).await? else { return Ok(false) };
    let mut is_asked = false;
    loop {
        match abort::abort(link, keys, id, nonce, patience).await {
            Ok(Abort::Aborted) => return Ok(true),
            Ok(Abort::Gone) => return Ok(false),
            Ok(Abort::Ended) => return Ok(results::get(shared, id).await?.is_some_and(|result| result.aborted)),
            Ok(Abort::Asked) => is_asked = true,
            // The job is going to be aborted. An unreachable server is no error before the caller's
            // time is up, and then the job may still be running.
            Err(Error::Unreachable { .. }) if is_asked => {}
            Err(error) => return Err(error),
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let waiting = results::wait(shared, id, left.min(REPEAT));
        match timeout_at(end + FINAL_CHECK_LIMIT, waiting).await {
            Ok(Ok(Some(result))) => return Ok(result.aborted),
            // The next request finds out what has become of the job.
            Ok(Ok(None) | Err(Error::NoResult { .. } | Error::Unreachable { .. })) => {}
            Ok(Err(error)) => return Err(error),
            Err(_) => return Ok(false),
        }
        patience = Patience::Until(end.max(Instant::now() + FINAL_CHECK_LIMIT));
    }
}
