//! The state that all requests and loops of one core share.

use std::sync::Arc;

use tokio::sync::watch;

use crate::audience::Audience;
use crate::clock::Clock;
use crate::commands;
use crate::error::{Error, Result};
use crate::followers::Followers;
use crate::link::{Link, Patience};
use crate::logs::Logs;
use crate::protocol::keys::Keys;
use crate::server::Server;
use crate::waiters::Waiters;

/// See the module.
pub struct Shared {
    /// The link to the broker.
    pub link: Link,
    /// The keys of the queue.
    pub keys: Arc<Keys>,
    /// The Redis time.
    pub clock: Clock,
    /// Log lines for the application.
    pub logs: Arc<Logs>,
    /// The last due time that a producer announced because it was the earliest. A change wakes the
    /// promoting loop.
    pub earliest_due: watch::Sender<u64>,
    /// Notifies the workers of this process that a job is to be aborted.
    pub aborts: watch::Sender<()>,
    /// Notifies the workers of this process that children are to be released.
    pub releases: watch::Sender<()>,
    /// Notifies the workers of this process that a schedule was changed.
    pub schedules: watch::Sender<()>,
    /// Whether the server is fit for use.
    pub server: Server,
    /// The callers that wait for results.
    pub waiters: Arc<Waiters>,
    /// The callers that follow jobs.
    pub followers: Arc<Followers>,
    /// Which processes follow which jobs, as far as the workers of this process know.
    pub audience: Arc<Audience>,
    /// The channel on which this process receives results and news.
    pub push_channel: String,
}

impl Shared {
    /// Read the Redis time in epoch milliseconds. From then on, the clock runs.
    ///
    /// # Errors
    /// If Redis cannot be reached, or refuses the command.
    pub async fn read_time(&self, patience: Patience) -> Result<i64> {
        let reply = self.link.command(&commands::time(), patience).await?;
        let (seconds, micros): (i64, i64) =
            redis::from_redis_value(reply).map_err(|error| Error::Protocol(error.to_string()))?;
        let now_ms = seconds.saturating_mul(1000).saturating_add(micros / 1000);
        self.clock.observe(u64::try_from(now_ms).unwrap_or_default());
        Ok(now_ms)
    }
}
