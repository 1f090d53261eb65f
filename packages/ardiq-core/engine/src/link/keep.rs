//! Maintains idle connections: messages only arrive while a connection is alive, and a router may
//! drop one silently.

use redis::{Cmd, RedisResult, Value};
use tokio::time::{Instant, sleep, timeout};

use super::wire::{Late, Wire};
use super::{Link, Patience, RESPONSE_LIMIT, Route};
use crate::commands;
use crate::error::Result;

impl Link {
    /// The time since which a call has not been answered.
    pub(super) fn doubt(&self, route: Route, since: Instant) {
        if !route.is_large() {
            self.outage.goes_on(since, "no answer");
            self.doubted.notify_one();
        }
    }

    /// Send a command on one connection, and have the connection checked while it does not answer.
    pub(super) async fn ask(
        &self,
        wire: &Wire,
        cmd: &Cmd,
        patience: Patience,
        route: Route,
    ) -> std::result::Result<RedisResult<Value>, Late> {
        wire.ask(cmd, patience, |since| self.doubt(route, since), || Box::pin(self.is_reachable())).await
    }

    /// Whether the server answers on a new connection.
    async fn is_reachable(&self) -> bool {
        timeout(RESPONSE_LIMIT, self.dialer.connect()).await.is_ok_and(|connected| connected.is_ok())
    }

    /// Maintain the connections. Never ends.
    pub async fn keep(&self) {
        tokio::join!(self.keep_subscribed(), self.keep_trusted());
    }

    /// Watch the connection while there are subscriptions: messages only arrive while it is alive.
    async fn keep_subscribed(&self) {
        loop {
            tokio::select! {
                () = self.dialer.dropped.notified() => {}
                () = sleep(RESPONSE_LIMIT) => {}
            }
            if self.dialer.is_subscribed() {
                let _ = self.probe(Patience::Endless).await;
            }
        }
    }

    /// Replace a connection that is silent while a new one works, for example after a router has
    /// dropped the old one. If the server answers on neither, keep the old one.
    async fn keep_trusted(&self) {
        let ping = commands::ping();
        loop {
            self.doubted.notified().await;
            // Without a session, or while one is being made, there is nothing to check.
            let session = self.main.try_lock().ok().and_then(|main| main.session.clone());
            let Some(session) = session else { continue };
            let connected = tokio::select! {
                biased;
                _ = session.wire.send(&ping) => continue,
                connected = self.dialer.connect() => connected,
            };
            if let Ok(pair) = connected {
                let mut main = self.main.lock().await;
                if main.session.as_ref().is_some_and(|held| held.number == session.number) {
                    self.install(&mut main, pair).await;
                }
            }
        }
    }

    /// Ping on the connection for calls and on the one for messages. This detects a broken
    /// connection, discards it and makes a new one. Messages that were published before the call
    /// have arrived when it returns.
    pub async fn probe(&self, patience: Patience) -> Result<()> {
        let ping = commands::ping();
        self.send(None, &ping, patience, Route::Commands).await?;
        self.send(None, &ping, patience, Route::Subscriptions).await.map(drop)
    }
}
