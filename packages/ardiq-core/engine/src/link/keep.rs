//! Maintains idle connections: messages only arrive while a connection is alive, and a router may drop one silently.

use tokio::time::{Instant, sleep};

use super::{Link, Patience, RESPONSE_LIMIT, Way};
use crate::error::Result;

impl Link {
    /// Something has not been answered since then.
    pub(super) fn doubt(&self, way: Way, since: Instant) {
        if way != Way::Large {
            self.outage.goes_on(since, "no answer");
            self.doubted.notify_one();
        }
    }

    /// Look after the connections. Never ends.
    pub async fn keep(&self) {
        tokio::join!(self.keep_subscribed(), self.keep_trusted());
    }

    /// Watch the connection for as long as somebody is subscribed: messages only flow while it lives.
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

    /// Replace a connection that is silent while a new one is answered, as after a router has forgotten it. A server that
    /// answers neither keeps the old one.
    async fn keep_trusted(&self) {
        let ping = redis::cmd("PING");
        loop {
            self.doubted.notified().await;
            // Without a session, or while one is being made, there is nothing to doubt.
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

    /// Ping both ways: that finds a broken connection, discards it and makes a new one. Messages published before have come
    /// in afterwards.
    pub async fn probe(&self, patience: Patience) -> Result<()> {
        let ping = redis::cmd("PING");
        self.send(None, &ping, patience, Way::Commands).await?;
        self.send(None, &ping, patience, Way::Subscriptions).await.map(drop)
    }
}
