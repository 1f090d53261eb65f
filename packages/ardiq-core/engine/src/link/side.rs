//! The additional connections. Each is opened when it is first needed, and again after it has
//! broken.

use std::sync::Arc;

use redis::RedisResult;
use tokio::sync::Mutex;
use tokio::time::timeout_at;

use super::dial::Attempt;
use super::wire::gone;
use super::{LONGEST_QUEUE, Link, Patience, Route, Wire};

/// An additional connection.
#[derive(Default)]
pub(super) struct Side {
    pub(super) wire: Option<Wire>,
    attempt: Attempt<Wire>,
}

impl Link {
    /// Whether a large value is being sent or received, and the connection is not silent.
    pub async fn is_transferring(&self) -> bool {
        self.large.lock().await.wire.as_ref().is_some_and(Wire::is_moving)
    }

    /// A connection for one try of one call. If it breaks, no other call is the reason.
    pub(super) async fn alone(&self, patience: Patience) -> RedisResult<Wire> {
        let dial = self.dialer.wire(false);
        timeout_at(patience.limit(LONGEST_QUEUE), dial).await.unwrap_or_else(|_| Err(gone().into()))
    }

    /// An additional connection, which is opened if necessary.
    pub(super) async fn side(&self, side: &Mutex<Side>, route: Route, patience: Patience) -> RedisResult<Wire> {
        let opening = async {
            let mut side = side.lock().await;
            if let Some(wire) = side.wire.clone().filter(|wire| !wire.is_closed()) {
                // With a large value, it would take long to distinguish a dropped connection from a
                // slow one.
                if route == Route::Subscriptions || !wire.is_stale() || wire.is_alive().await {
                    return Ok(wire);
                }
                wire.close();
                // A router may have dropped the main one as well.
                self.doubted.notify_one();
            }
            let dialer = Arc::clone(&self.dialer);
            let dial = async move {
                if route == Route::Subscriptions { dialer.listen().await } else { dialer.wire(false).await }
            };
            let wire = side.attempt.finish(dial).await?;
            let replaced = side.wire.replace(wire.clone()).is_some();
            if replaced && route == Route::Subscriptions {
                self.number.send_modify(|number| *number += 1);
            }
            Ok(wire)
        };
        timeout_at(patience.limit(LONGEST_QUEUE), opening).await.unwrap_or_else(|_| Err(gone().into()))
    }
}
