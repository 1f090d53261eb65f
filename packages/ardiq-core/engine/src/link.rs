//! The link to the broker: one multiplexed connection, made anew whenever it breaks, and a second one for subscriptions once
//! there are any: a server cuts off a subscribed connection that large replies (32 MB by default) pile up for.
//!
//! Callers never see a connection. They call with a [`Patience`], and the link reconnects, loads scripts and tries again until
//! the call has succeeded, the patience is at its end, or the server has said no for good.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, PushInfo, PushKind, Value};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::error::{self, Error, Remedy, Result, remedy};
use crate::manners::Manners;
use crate::protocol::keys::Keys;
use crate::refusal::{Refusal, explain};
use crate::scripts::Script;
use crate::url::Address;

/// How long one command may take before its connection counts as broken.
pub const RESPONSE_LIMIT: Duration = Duration::from_secs(5);

/// How often a call is made again because a key that it met was set aside.
const MOST_MENDS: u32 = 3;

/// How long a call may queue behind others that make a connection.
const LONGEST_QUEUE: Duration = Duration::from_secs(3600);

/// Until when a call is tried again.
#[derive(Debug, Clone, Copy)]
pub enum Patience {
    /// Up to a moment.
    Until(Instant),
    /// As long as the engine lives.
    Endless,
}

impl Patience {
    /// From now on for `limit`.
    pub fn within(limit: Duration) -> Self {
        Self::Until(Instant::now() + limit)
    }

    fn limit(self, step: Duration) -> Instant {
        let step = Instant::now() + step;
        match self {
            Self::Until(end) => end.min(step),
            Self::Endless => step,
        }
    }

    pub(crate) fn is_over(self) -> bool {
        matches!(self, Self::Until(end) if Instant::now() >= end)
    }
}

/// Receives channel and message.
pub type PushSink = Arc<dyn Fn(&[u8], Vec<u8>) + Send + Sync>;

/// Short, growing, jittered pauses between tries.
pub fn backoff() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(20))
        .with_max_delay(Duration::from_millis(1000))
        .with_factor(2.0)
        .with_jitter()
        .without_max_times()
        .build()
}

#[derive(Clone)]
struct Session {
    number: u64,
    conn: MultiplexedConnection,
    /// Where messages come in; opened for the first subscription.
    ears: Option<MultiplexedConnection>,
}

/// Which connection a command is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Commands,
    Subscriptions,
}

struct Channel {
    name: String,
    /// Did the server take the subscription? Until then it may have been refused, or never been sent.
    confirmed: bool,
}

/// See the module.
pub struct Link {
    address: Address,
    pub(crate) keys: Arc<Keys>,
    connect_limit: Duration,
    session: tokio::sync::Mutex<Option<Session>>,
    number: watch::Sender<u64>,
    channels: Mutex<Vec<Channel>>,
    subscribing: tokio::sync::Mutex<()>,
    sink: PushSink,
    dropped: Arc<Notify>,
    pub(crate) manners: Manners,
}

impl Link {
    /// A link that connects on first use.
    pub fn new(address: Address, keys: Arc<Keys>, connect_limit: Duration, sink: PushSink) -> Self {
        Self {
            address,
            keys,
            connect_limit,
            session: tokio::sync::Mutex::new(None),
            number: watch::Sender::new(0),
            channels: Mutex::new(Vec::new()),
            subscribing: tokio::sync::Mutex::default(),
            sink,
            dropped: Arc::new(Notify::new()),
            manners: Manners::default(),
        }
    }

    /// The address without its secrets.
    pub fn shown(&self) -> &str {
        &self.address.shown
    }

    /// How long a connection attempt, and so a call, may take.
    pub fn connect_limit(&self) -> Duration {
        self.connect_limit
    }

    /// Counts connections: a change means that deliveries and messages may have been missed.
    pub fn sessions(&self) -> watch::Receiver<u64> {
        self.number.subscribe()
    }

    /// A connection of one's own, for reads that block.
    pub async fn dedicated(&self) -> Result<MultiplexedConnection> {
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(Some(self.connect_limit)).set_response_timeout(None);
        self.address
            .client
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .map_err(|error| self.unreachable(&error.to_string()))
    }

    /// Has the server taken a subscription to this channel?
    pub fn hears(&self, channel: &str) -> bool {
        let channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        channels.iter().any(|known| known.confirmed && known.name == channel)
    }

    /// Subscribe, now and after every reconnect.
    pub async fn subscribe(&self, channel: &str, patience: Patience) -> Result<()> {
        if self.hears(channel) {
            return Ok(());
        }
        // One asks for all.
        let Ok(_asking) = timeout_at(patience.limit(LONGEST_QUEUE), self.subscribing.lock()).await else {
            return Err(self.unreachable("no subscription in time"));
        };
        if self.hears(channel) {
            return Ok(());
        }
        {
            let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
            // Entered first, so that a connection made meanwhile takes it up.
            if !channels.iter().any(|known| known.name == channel) {
                channels.push(Channel { name: channel.to_owned(), confirmed: false });
            }
        }
        let mut cmd = redis::cmd("SUBSCRIBE");
        cmd.arg(channel);
        self.send(None, &cmd, patience, Way::Subscriptions).await?;
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        channels.iter_mut().filter(|known| known.name == channel).for_each(|known| known.confirmed = true);
        Ok(())
    }

    /// Run a script.
    pub async fn call(&self, script: &'static Script, cmd: &Cmd, patience: Patience) -> Result<Value> {
        self.send(Some(script), cmd, patience, Way::Commands).await
    }

    /// Run a plain command.
    pub async fn command(&self, cmd: &Cmd, patience: Patience) -> Result<Value> {
        self.send(None, cmd, patience, Way::Commands).await
    }

    async fn send(&self, script: Option<&'static Script>, cmd: &Cmd, patience: Patience, way: Way) -> Result<Value> {
        let (mut pauses, mut mended) = (backoff(), 0);
        loop {
            let mut session = self.session(patience).await?;
            let (limit, mut broken) = (patience.limit(RESPONSE_LIMIT), true);
            let sent = timeout_at(limit, async {
                if way == Way::Commands {
                    return session.conn.send_packed_command(cmd).await;
                }
                broken = session.ears.is_some();
                let mut ears = self.ears(&session).await?;
                broken = true;
                ears.send_packed_command(cmd).await
            })
            .await;
            let fault = match sent {
                Ok(Ok(value)) => match value.extract_error() {
                    Ok(value) => return Ok(value),
                    Err(error) => Some(error),
                },
                Ok(Err(error)) => Some(error),
                Err(_) => None,
            };
            let (remedy, reason) = match fault {
                None => (Remedy::Reconnect, "no answer in time".to_owned()),
                Some(error) => match remedy(&error) {
                    Remedy::Mend if script.is_some() && mended < MOST_MENDS && self.mend(patience).await => {
                        mended += 1;
                        continue;
                    }
                    Remedy::GiveUp | Remedy::Mend => return Err(Error::Refused(Refusal::new(&error))),
                    remedy => (remedy, explain(&error)),
                },
            };
            match (remedy, script) {
                (Remedy::Load, Some(script)) => {
                    let mut load = redis::cmd("SCRIPT");
                    load.arg("LOAD").arg(script.text);
                    let loaded =
                        timeout_at(patience.limit(RESPONSE_LIMIT), session.conn.send_packed_command(&load)).await;
                    // A server that does not take scripts says so; any other fault shows when the call is made again.
                    if let Ok(Ok(Err(refusal))) = loaded.map(|sent| sent.map(|value| value.extract_error()))
                        && error::remedy(&refusal) == Remedy::GiveUp
                    {
                        return Err(Error::Refused(Refusal::new(&refusal)));
                    }
                    if !patience.is_over() {
                        continue;
                    }
                }
                (Remedy::Reconnect, _) if broken => self.discard(session.number, patience).await,
                // No second connection is to be had: the first one may be as good as ever.
                (Remedy::Reconnect | Remedy::Wait | Remedy::Load | Remedy::Mend | Remedy::GiveUp, _) => {}
            }
            if patience.is_over() {
                return Err(self.unreachable(&reason));
            }
            sleep_until(patience.limit(pauses.next().unwrap_or(RESPONSE_LIMIT))).await;
        }
    }

    async fn session(&self, patience: Patience) -> Result<Session> {
        let locked = timeout_at(patience.limit(LONGEST_QUEUE), self.session.lock()).await;
        let Ok(mut held) = locked else {
            return Err(self.unreachable("no connection in time"));
        };
        if let Some(session) = held.as_ref() {
            return Ok(session.clone());
        }
        let mut pauses = backoff();
        loop {
            let attempt = timeout_at(patience.limit(self.connect_limit), self.connect()).await;
            let reason = match attempt {
                Ok(Ok((conn, ears))) => {
                    let number = *self.number.borrow() + 1;
                    let session = Session { number, conn, ears };
                    *held = Some(session.clone());
                    self.number.send_replace(number);
                    return Ok(session);
                }
                Ok(Err(error)) => match remedy(&error) {
                    Remedy::GiveUp | Remedy::Mend => return Err(Error::Refused(Refusal::new(&error))),
                    _ => explain(&error),
                },
                Err(_) => "no connection in time".to_owned(),
            };
            let pause = pauses.next().unwrap_or(RESPONSE_LIMIT);
            if matches!(patience, Patience::Until(end) if Instant::now() + pause >= end) {
                return Err(self.unreachable(&reason));
            }
            sleep(pause).await;
        }
    }

    /// Where messages come in, opened if need be.
    async fn ears(&self, session: &Session) -> redis::RedisResult<MultiplexedConnection> {
        if let Some(ears) = &session.ears {
            return Ok(ears.clone());
        }
        let mut held = self.session.lock().await;
        match held.as_mut().filter(|held| held.number == session.number) {
            Some(Session { ears: Some(ears), .. }) => Ok(ears.clone()),
            Some(held) => Ok(held.ears.insert(self.listen().await?).clone()),
            None => Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset).into()),
        }
    }

    /// Connect, and take up all subscriptions again. Nothing is written: whoever only looks leaves no trace.
    async fn connect(&self) -> redis::RedisResult<(MultiplexedConnection, Option<MultiplexedConnection>)> {
        let conn = self.open().await?;
        let ears = if self.subscribed() { Some(self.listen().await?) } else { None };
        Ok((conn, ears))
    }

    /// A connection with all subscriptions.
    async fn listen(&self) -> redis::RedisResult<MultiplexedConnection> {
        let mut ears = self.open().await?;
        let channels: Vec<(String, bool)> = {
            let channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
            channels.iter().map(|known| (known.name.clone(), known.confirmed)).collect()
        };
        for (name, confirmed) in channels {
            match ears.subscribe(name).await {
                // Whoever wants it is told; others can do without.
                Err(error) if !confirmed && remedy(&error) == Remedy::GiveUp => {}
                other => other?,
            }
        }
        Ok(ears)
    }

    async fn open(&self) -> redis::RedisResult<MultiplexedConnection> {
        let (sink, dropped) = (Arc::clone(&self.sink), Arc::clone(&self.dropped));
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.connect_limit))
            .set_response_timeout(None)
            .set_push_sender(move |push: PushInfo| -> std::result::Result<(), std::convert::Infallible> {
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
        self.address.client.get_multiplexed_async_connection_with_config(&config).await
    }

    fn subscribed(&self) -> bool {
        !self.channels.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Give a broken connection up, unless somebody has done so before.
    async fn discard(&self, number: u64, patience: Patience) {
        // Who is more patient may hold the lock for as long as the server is away.
        let locked = timeout_at(patience.limit(RESPONSE_LIMIT), self.session.lock()).await;
        if let Ok(mut held) = locked
            && held.as_ref().is_some_and(|session| session.number == number)
        {
            *held = None;
            // Whoever waits for a message must not wait for the next call to find the way back.
            self.dropped.notify_one();
        }
    }

    /// Watch the connection for as long as somebody is subscribed: messages only flow while it lives. Never ends.
    pub async fn keep(&self) {
        loop {
            tokio::select! {
                () = self.dropped.notified() => {}
                () = sleep(RESPONSE_LIMIT) => {}
            }
            if self.subscribed() {
                let _ = self.probe(Patience::Endless).await;
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

    fn unreachable(&self, reason: &str) -> Error {
        Error::Unreachable { address: self.address.shown.clone(), reason: reason.to_owned() }
    }
}
