//! Aborts jobs. A job that no worker has ends in the script. Otherwise, the caller waits for the
//! result, like any caller, and repeats its request: the job may have returned to the queue.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::link::Patience;
use crate::results::{self, LONGEST_WAIT};
use crate::scripts::abort::{self, Abort};
use crate::shared::Shared;

/// How often the request is repeated.
const REPEAT: Duration = Duration::from_secs(1);

/// Abort a job. Returns whether it has ended as aborted within `limit`.
pub async fn abort(shared: &Arc<Shared>, id: &str, limit: Duration) -> Result<bool> {
    let (link, keys) = (&shared.link, &shared.keys);
    let patience = || Patience::within(link.connect_limit());
    let end = Instant::now() + limit.min(LONGEST_WAIT);
    let Some(nonce) = abort::nonce(link, keys, id, patience()).await? else { return Ok(false) };
    loop {
        match abort::abort(link, keys, id, nonce, patience()).await? {
            Abort::Aborted => return Ok(true),
            Abort::Gone => return Ok(false),
            Abort::Ended => return Ok(results::get(shared, id).await?.is_some_and(|result| result.aborted)),
            Abort::Asked => {}
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        match results::wait(shared, id, left.min(REPEAT)).await {
            Ok(Some(result)) => return Ok(result.aborted),
            // The next request finds out what has become of the job.
            Ok(None) | Err(Error::NoResult { .. }) => {}
            Err(error) => return Err(error),
        }
    }
}
