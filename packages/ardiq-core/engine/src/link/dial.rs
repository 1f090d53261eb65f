//! Makes connections: opens the stream, sends HELLO, and sends the commands with which every
//! connection begins.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, PushInfo, PushKind, RedisResult, Value};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::flow::{Flow, Watched};
use super::stream::{self, Stream, step};
use super::wire::{Wire, gone};
use super::{PushSink, RESPONSE_LIMIT};
use crate::commands;
use crate::error::{Remedy, remedy};
use crate::lock::lock;
use crate::scripts::Script;
use crate::url::Address;

struct Channel {
    name: String,
    /// Whether the server has accepted the subscription. If not, it was refused, or never sent.
    confirmed: bool,
}

/// See the module.
pub struct Dialer {
    pub address: Address,
    /// Limit of one step.
    limit: Duration,
    channels: Mutex<Vec<Channel>>,
    /// Scripts that were called here. Every new connection begins by loading them.
    scripts: Mutex<Vec<&'static Script>>,
    sink: PushSink,
    pub dropped: Arc<Notify>,
    /// Number of HELLO commands that were answered.
    greetings: AtomicU64,
}

/// The connection for calls, and the one for messages once there are subscriptions.
pub type Pair = (Wire, Option<Wire>);

impl Dialer {
    pub fn new(address: Address, limit: Duration, sink: PushSink) -> Self {
        Self {
            limit: address.connect_limit.unwrap_or(limit),
            address,
            channels: Mutex::default(),
            scripts: Mutex::default(),
            sink,
            dropped: Arc::default(),
            greetings: AtomicU64::new(0),
        }
    }

    /// Connect, and renew all subscriptions. The connections are opened at the same time. Nothing
    /// is written, so a process that only reads leaves no trace.
    pub async fn connect(&self) -> RedisResult<Pair> {
        let subscriber = async { if self.is_subscribed() { self.listen().await.map(Some) } else { Ok(None) } };
        let (main, subscriber) = tokio::try_join!(self.wire(true), subscriber)?;
        main.send_ahead(self.scripts()).await;
        Ok((main, subscriber))
    }

    /// Load the scripts that were requested so far.
    pub fn scripts(&self) -> redis::Pipeline {
        let mut loading = redis::pipe();
        for script in lock(&self.scripts).iter() {
            loading.add_command(script.load());
        }
        loading
    }

    /// A connection with all subscriptions.
    pub async fn listen(&self) -> RedisResult<Wire> {
        let subscriber = self.wire(true).await?;
        let names: Vec<String> = {
            let channels = lock(&self.channels);
            channels.iter().map(|known| known.name.clone()).collect()
        };
        // Send all of them at the same time, in one piece.
        let asked = names.iter().map(|name| {
            let subscriber = &subscriber;
            async move {
                let cmd = commands::subscribe(name);
                match step(self.limit, async { Ok(subscriber.send(&cmd).await) }).await? {
                    Ok(_) => self.confirm(name, true),
                    // The caller that needs it gets the error. Others can do without it. Even a
                    // permission that once existed may have been withdrawn.
                    Err(error) if remedy(&error) == Remedy::GiveUp => self.confirm(name, false),
                    Err(error) => return Err(error),
                }
                Ok(())
            }
        });
        futures_util::future::try_join_all(asked).await?;
        Ok(subscriber)
    }

    /// A connection on which HELLO was answered. With `receives_pushes`, incoming messages are
    /// passed on.
    pub async fn wire(&self, receives_pushes: bool) -> RedisResult<Wire> {
        let info = self.address.client.get_connection_info();
        let stream = stream::open(info.addr(), &self.address.trust, self.limit).await?;
        let mut config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        if receives_pushes {
            let (sink, dropped) = (Arc::clone(&self.sink), Arc::clone(&self.dropped));
            config = config.set_push_sender(move |push: PushInfo| -> Result<(), Infallible> {
                match push.kind {
                    PushKind::Message => {
                        if let [Value::BulkString(channel), Value::BulkString(message)] = &push.data[..] {
                            sink(channel, message.clone());
                        }
                    }
                    PushKind::Disconnection => dropped.notify_one(),
                    _ => {}
                }
                Ok(())
            });
        }
        let flow = Arc::new(Flow::new());
        let watched: Watched<Stream> = Watched::new(stream, Arc::clone(&flow));
        let asked = Instant::now();
        let hello = MultiplexedConnection::new_with_config(info.redis_settings(), watched, config);
        let (conn, driver) = step(self.limit, async { Ok(hello.await) }).await??;
        self.greetings.fetch_add(1, Ordering::Relaxed);
        let wire = Wire::new(conn, driver, flow, asked.elapsed(), self.address.silence.unwrap_or(RESPONSE_LIMIT));
        let mut name = redis::pipe();
        name.add_command(commands::set_client_name(&self.address.name));
        wire.send_ahead(name).await;
        Ok(wire)
    }

    /// Number of HELLO commands that were answered so far.
    pub fn greetings(&self) -> u64 {
        self.greetings.load(Ordering::Relaxed)
    }

    /// From now on, every new connection begins by loading this script.
    pub fn needs(&self, script: &'static Script) {
        let mut scripts = lock(&self.scripts);
        if !scripts.iter().any(|known| std::ptr::eq(*known, script)) {
            scripts.push(script);
        }
    }

    /// From now on, every connection for messages subscribes to this channel.
    pub fn wants(&self, channel: &str) {
        let mut channels = lock(&self.channels);
        if !channels.iter().any(|known| known.name == channel) {
            channels.push(Channel { name: channel.to_owned(), confirmed: false });
        }
    }

    /// Record whether the server accepted the subscription.
    pub fn confirm(&self, channel: &str, taken: bool) {
        let mut channels = lock(&self.channels);
        channels.iter_mut().filter(|known| known.name == channel).for_each(|known| known.confirmed = taken);
    }

    pub fn is_confirmed(&self, channel: &str) -> bool {
        let channels = lock(&self.channels);
        channels.iter().any(|known| known.confirmed && known.name == channel)
    }

    pub fn is_subscribed(&self) -> bool {
        !lock(&self.channels).is_empty()
    }
}

/// An attempt to connect, which continues even if its caller stops waiting. The next caller then
/// awaits it.
pub struct Attempt<T>(Option<JoinHandle<RedisResult<T>>>);

impl<T> Default for Attempt<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Send + 'static> Attempt<T> {
    /// Await the current attempt, or begin one. Cancelling this call does not cancel the attempt.
    pub async fn finish(&mut self, dial: impl Future<Output = RedisResult<T>> + Send + 'static) -> RedisResult<T> {
        let attempt = self.0.get_or_insert_with(|| tokio::spawn(dial));
        let ended = attempt.await;
        self.0 = None;
        ended.unwrap_or_else(|_| Err(gone().into()))
    }
}

impl<T> Drop for Attempt<T> {
    fn drop(&mut self) {
        if let Some(attempt) = &self.0 {
            attempt.abort();
        }
    }
}
