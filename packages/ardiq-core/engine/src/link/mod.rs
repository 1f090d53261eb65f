//! The link to the broker. Callers never see a connection. They pass a [`Patience`], and the link
//! connects, loads scripts and retries until the call succeeds, the patience ends, or the server
//! refuses the call permanently.
//!
//! | file | role |
//! |---|---|
//! | `patience` | how long a caller tries |
//! | `stream` | TCP, TLS and Unix streams |
//! | `flow` | distinguishes a slow transfer from a dead connection |
//! | `route` | which connection a command uses |
//! | `wire` | one connection that many calls share |
//! | `side` | the connections in addition to the main one |
//! | `cuts` | decides whether a large value is the reason why connections break |
//! | `dial` | how connections are made, and the commands with which they begin |
//! | `keep` | maintains the connections while they are idle |
//! | `outage` | since when the server has been unreachable |
//!
//! There are up to three connections, each opened when it is first needed. One carries the calls.
//! Large values have their own, so that nothing small waits behind them. A large value that several
//! of them could not carry is tried on another one, alone. Subscriptions have their own too,
//! because a server closes a subscribed connection when its output buffer grows too large (32 MB by
//! default).

mod cuts;
mod dial;
mod flow;
mod keep;
mod outage;
mod patience;
mod route;
mod side;
mod stream;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, ErrorKind, RedisError, Value};
use tokio::sync::{Mutex, Notify, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::commands;
use crate::error::{Error, Remedy, Result, remedy};
use crate::housekeeping::Housekeeping;
use crate::protocol::keys::Keys;
use crate::refusal::{Refusal, explain, is_not_text, not_text};
use crate::scripts::Script;
use crate::url::Address;
use cuts::Cuts;
use dial::{Attempt, Dialer, Pair};
use outage::Outage;
pub use outage::Trouble;
pub use patience::{Patience, backoff};
pub use route::LARGE;
use route::Route;
use side::Side;
use wire::Late;
pub use wire::Wire;

/// A connection on which a reply is awaited is considered broken after this much silence.
pub const RESPONSE_LIMIT: Duration = Duration::from_secs(5);

/// How often a call is repeated because one of its keys was set aside.
const MOST_MENDS: u32 = 3;

/// How long a call may wait for other calls that are making a connection.
const LONGEST_QUEUE: Duration = Duration::from_secs(3600);

/// Receives channel and message.
pub type PushSink = Arc<dyn Fn(&[u8], Vec<u8>) + Send + Sync>;

#[derive(Clone)]
struct Session {
    number: u64,
    wire: Wire,
}

#[derive(Default)]
struct Main {
    session: Option<Session>,
    attempt: Attempt<Pair>,
}

/// See the module.
pub struct Link {
    pub(crate) keys: Arc<Keys>,
    pub(crate) housekeeping: Housekeeping,
    dialer: Arc<Dialer>,
    connect_limit: Duration,
    main: Mutex<Main>,
    large: Mutex<Side>,
    subscriber: Mutex<Side>,
    number: watch::Sender<u64>,
    subscribing: Mutex<()>,
    doubted: Notify,
    outage: Outage,
}

impl Link {
    /// A link that connects on first use.
    pub fn new(address: Address, keys: Arc<Keys>, connect_limit: Duration, sink: PushSink) -> Self {
        Self {
            keys,
            housekeeping: Housekeeping::default(),
            dialer: Arc::new(Dialer::new(address, RESPONSE_LIMIT, sink)),
            connect_limit,
            main: Mutex::default(),
            large: Mutex::default(),
            subscriber: Mutex::default(),
            number: watch::Sender::new(0),
            subscribing: Mutex::default(),
            doubted: Notify::new(),
            outage: Outage::default(),
        }
    }

    /// The address without its secrets.
    pub fn shown(&self) -> &str {
        &self.dialer.address.shown
    }

    /// The last reason why the server was unreachable, if that was recent.
    pub fn last_trouble(&self) -> Option<String> {
        self.outage.last()
    }

    /// How long a call may try.
    pub fn connect_limit(&self) -> Duration {
        self.connect_limit
    }

    /// Counts connections. A change means that deliveries and messages may have been missed.
    pub fn sessions(&self) -> watch::Receiver<u64> {
        self.number.subscribe()
    }

    /// The reason why the server is unreachable, if it is.
    pub fn trouble(&self) -> watch::Receiver<Option<Trouble>> {
        self.outage.watch()
    }

    /// A separate connection, for blocking reads. Waits while the server is unreachable.
    pub async fn dedicated(&self) -> Result<Wire> {
        let (mut pauses, began) = (backoff(), Instant::now());
        loop {
            match self.dialer.wire(false).await.map_err(|error| self.failed(&error)) {
                Err(Error::Unreachable { reason, .. }) => self.outage.goes_on(began, &reason),
                ended => return ended,
            }
            sleep(pauses.next().unwrap_or(RESPONSE_LIMIT)).await;
        }
    }

    /// Connect, each step within the connection limit. From now on, every connection loads
    /// `scripts` and subscribes to `channel`.
    pub async fn reach(&self, scripts: &[&'static Script], channel: &str) -> Result<()> {
        scripts.iter().for_each(|script| self.dialer.needs(script));
        self.dialer.wants(channel);
        let known = *self.number.borrow();
        loop {
            let before = self.dialer.greetings();
            match self.session(Patience::within(self.connect_limit)).await {
                Err(Error::Unreachable { .. }) if self.dialer.greetings() != before => {}
                Ok(session) if session.number == known => {
                    // The connection was made before they were needed.
                    session.wire.send_ahead(self.dialer.scripts()).await;
                    return Ok(());
                }
                other => return other.map(drop),
            }
        }
    }

    /// Whether the server has accepted a subscription to this channel.
    pub fn is_subscribed_to(&self, channel: &str) -> bool {
        self.dialer.is_confirmed(channel)
    }

    /// Subscribe, now and after every reconnect.
    pub async fn subscribe(&self, channel: &str, patience: Patience) -> Result<()> {
        if self.is_subscribed_to(channel) {
            return Ok(());
        }
        // One caller subscribes, and the others wait for it.
        let Ok(_asking) = timeout_at(patience.limit(LONGEST_QUEUE), self.subscribing.lock()).await else {
            return Err(self.unreachable("no subscription in time"));
        };
        if self.is_subscribed_to(channel) {
            return Ok(());
        }
        // Added first, so that a connection made in the meantime subscribes as well.
        self.dialer.wants(channel);
        self.send(None, &commands::subscribe(channel), patience, Route::Subscriptions).await?;
        self.dialer.confirm(channel, true);
        Ok(())
    }

    /// Run a script.
    pub async fn call(&self, script: &'static Script, cmd: &Cmd, patience: Patience) -> Result<Value> {
        self.dialer.needs(script);
        self.send(Some(script), cmd, patience, Route::Commands).await
    }

    /// Run a script with about this many bytes of arguments.
    pub async fn call_sized(
        &self,
        script: &'static Script,
        cmd: &Cmd,
        bytes: usize,
        patience: Patience,
    ) -> Result<Value> {
        self.dialer.needs(script);
        self.send(Some(script), cmd, patience, Route::of(bytes)).await
    }

    /// Run a plain command.
    pub async fn command(&self, cmd: &Cmd, patience: Patience) -> Result<Value> {
        self.send(None, cmd, patience, Route::Commands).await
    }

    /// Run a plain command that sends or returns a large value.
    pub async fn transfer(&self, cmd: &Cmd, patience: Patience) -> Result<Value> {
        self.send(None, cmd, patience, Route::Large).await
    }

    async fn send(
        &self,
        script: Option<&'static Script>,
        cmd: &Cmd,
        patience: Patience,
        route: Route,
    ) -> Result<Value> {
        let mut pauses = backoff();
        let (mut cuts, mut told, mut mended) = (Cuts::default(), None, 0);
        loop {
            let route = cuts.route(route);
            let tried = Instant::now();
            let session = match self.session(patience).await {
                Err(Error::Unreachable { reason, .. }) => return Err(self.unreachable(&told.unwrap_or(reason))),
                session => session?,
            };
            let wire = match route {
                Route::Commands => Ok(session.wire.clone()),
                Route::Large => self.side(&self.large, route, patience).await,
                Route::Alone => self.alone(patience).await,
                Route::Subscriptions => self.side(&self.subscriber, route, patience).await,
            };
            if let (Route::Large | Route::Alone, Some(script), Ok(wire)) = (route, script, &wire) {
                // A NOSCRIPT reply would cost the whole transfer.
                wire.send_ahead(redis::pipe().add_command(script.load()).clone()).await;
            }
            let sent = match &wire {
                Ok(wire) => self.ask(wire, cmd, patience, route).await,
                Err(error) => Ok(Err(error.clone())),
            };
            let (remedy, reason) = match sent {
                Ok(Ok(value)) => {
                    self.outage.is_over(|| commands::is_write(cmd));
                    return Ok(value);
                }
                Ok(Err(error)) => match remedy(&error) {
                    Remedy::Mend if script.is_some() && mended < MOST_MENDS && self.mend(patience).await => {
                        mended += 1;
                        continue;
                    }
                    Remedy::GiveUp | Remedy::Mend => return Err(Error::Refused(Refusal::new(&error))),
                    _ if wire.is_ok() && is_not_text(&error) => return Err(Error::Refused(not_text(cmd))),
                    remedy => {
                        let reason = explain(&error);
                        // An error reply, such as READONLY from a former primary, came over a
                        // working connection.
                        let is_reply = matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension);
                        if wire.is_ok() && !is_reply {
                            cuts.add(&session);
                        }
                        // The server's last error is more useful than a timeout of the retry.
                        told = Some(reason.clone());
                        (remedy, reason)
                    }
                },
                Err(Late::Silent) => {
                    cuts.add(&session);
                    (Remedy::Reconnect, "no answer in time".to_owned())
                }
                Err(Late::Over) => {
                    // An impatient caller may be wrong about the connection, so check it.
                    self.doubt(route, tried);
                    return Err(self.unreachable(told.as_deref().unwrap_or("no answer in time")));
                }
            };
            match (remedy, script, &wire) {
                (Remedy::Load, Some(script), Ok(wire)) => {
                    // A server that refuses scripts says so. Any other fault appears when the call
                    // is repeated.
                    if let Ok(Err(error)) = self.ask(wire, &script.load(), patience, route).await
                        && crate::error::remedy(&error) == Remedy::GiveUp
                    {
                        return Err(Error::Refused(Refusal::new(&error)));
                    }
                    if !patience.is_over() {
                        continue;
                    }
                }
                (Remedy::Reconnect, _, Ok(wire)) => self.discard(route, session.number, wire, patience).await,
                // An additional connection cannot be made, but the main one may still work.
                _ => {}
            }
            if remedy == Remedy::Reconnect || remedy == Remedy::Wait {
                // How long a transfer took until it broke says nothing about the server.
                let since = if route.is_large() { Instant::now() } else { tried };
                self.outage.goes_on(since, &reason);
            }
            if let (true, Some(error)) = (route.is_large(), self.verdict(&cuts, &session, &reason).await) {
                return Err(error);
            }
            if patience.is_over() {
                return Err(self.unreachable(&reason));
            }
            sleep_until(patience.limit(pauses.next().unwrap_or(RESPONSE_LIMIT))).await;
        }
    }

    async fn session(&self, patience: Patience) -> Result<Session> {
        let locked = timeout_at(patience.limit(LONGEST_QUEUE), self.main.lock()).await;
        let Ok(mut main) = locked else {
            return Err(self.unreachable("no connection in time"));
        };
        if let Some(session) = main.session.as_ref().filter(|session| !session.wire.is_closed()) {
            return Ok(session.clone());
        }
        let (mut pauses, began) = (backoff(), Instant::now());
        loop {
            let dialer = Arc::clone(&self.dialer);
            let attempt = main.attempt.finish(async move { dialer.connect().await });
            let reason = match timeout_at(patience.limit(LONGEST_QUEUE), attempt).await {
                Ok(Ok(pair)) => return Ok(self.install(&mut main, pair).await),
                Ok(Err(error)) => match self.failed(&error) {
                    Error::Unreachable { reason, .. } => reason,
                    refused => return Err(refused),
                },
                Err(_) => "no connection in time".to_owned(),
            };
            self.outage.goes_on(began, &reason);
            let pause = pauses.next().unwrap_or(RESPONSE_LIMIT);
            let again = Instant::now() + pause;
            if patience.cap(again) < again {
                return Err(self.unreachable(&reason));
            }
            sleep(pause).await;
        }
    }

    async fn install(&self, main: &mut Main, (wire, subscriber): Pair) -> Session {
        let number = *self.number.borrow() + 1;
        let session = Session { number, wire };
        // If another caller is making this connection at the moment, theirs is used.
        if let (Some(subscriber), Ok(mut side)) = (subscriber, self.subscriber.try_lock()) {
            side.wire = Some(subscriber);
        }
        if let Some(old) = main.session.replace(session.clone()) {
            old.wire.close();
        }
        self.number.send_replace(number);
        session
    }

    /// Discard a broken connection, unless another caller has already done so. Callers that await a
    /// reply on it try again.
    async fn discard(&self, route: Route, number: u64, wire: &Wire, patience: Patience) {
        let was_open = wire.close();
        if route != Route::Commands {
            if route.is_large() && was_open {
                // The data that it carried may or may not have arrived.
                self.number.send_modify(|number| *number += 1);
            }
            return;
        }
        // A more patient caller may hold the lock for as long as the server is unreachable.
        let locked = timeout_at(patience.limit(RESPONSE_LIMIT), self.main.lock()).await;
        if let Ok(mut main) = locked
            && main.session.as_ref().is_some_and(|session| session.number == number)
        {
            main.session = None;
            // Callers that wait for a message must not depend on the next call to reconnect.
            self.dialer.dropped.notify_one();
        }
    }

    fn failed(&self, error: &RedisError) -> Error {
        match remedy(error) {
            Remedy::GiveUp | Remedy::Mend => Error::Refused(Refusal::new(error)),
            _ => self.unreachable(&explain(error)),
        }
    }

    fn unreachable(&self, reason: &str) -> Error {
        Error::Unreachable { address: self.shown().to_owned(), reason: reason.to_owned() }
    }
}
