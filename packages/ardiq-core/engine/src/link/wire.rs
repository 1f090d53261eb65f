//! One connection to the server that many calls share, and how long a call waits on it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use redis::aio::MultiplexedConnection;
use redis::{Arg, Cmd, Pipeline, RedisResult, Value};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout, timeout_at};

use super::flow::Flow;
use super::patience::Patience;
use crate::commands;

/// After this much silence, and some round trips, a connection is checked: a router on the way may
/// have dropped it.
const DOUBT: Duration = Duration::from_millis(500);

/// A transfer that takes longer than this on the slowest line may outlast its caller's patience.
const NOTICEABLE: Duration = Duration::from_millis(250);

/// See the module.
#[derive(Clone)]
pub struct Wire {
    conn: MultiplexedConnection,
    flow: Arc<Flow>,
    driver: Arc<Driver>,
    /// Bytes of the calls that await a reply.
    in_flight: Arc<AtomicUsize>,
    round_trip: Duration,
    /// The connection is considered broken after this much silence.
    silence: Duration,
}

/// The task that reads and writes. It ends with the last clone of its wire.
struct Driver {
    task: AbortHandle,
    is_closed: AtomicBool,
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Why a call has no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Late {
    /// The connection is silent: it is broken.
    Silent,
    /// The caller's patience has ended.
    Over,
}

/// A call that awaits a reply.
struct InFlight<'a> {
    all: &'a AtomicUsize,
    bytes: usize,
}

impl<'a> InFlight<'a> {
    fn new(all: &'a AtomicUsize, cmd: &Cmd) -> Self {
        let length = |arg: Arg<&[u8]>| if let Arg::Simple(value) = arg { value.len() } else { 0 };
        let bytes = cmd.args_iter().map(length).sum();
        all.fetch_add(bytes, Ordering::Relaxed);
        Self { all, bytes }
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Wire {
    /// The wire needs a running `driver`, which is spawned here.
    pub fn new(
        conn: MultiplexedConnection,
        driver: impl Future<Output = ()> + Send + 'static,
        flow: Arc<Flow>,
        round_trip: Duration,
        silence: Duration,
    ) -> Self {
        let task = tokio::spawn(driver).abort_handle();
        let driver = Arc::new(Driver { task, is_closed: AtomicBool::new(false) });
        Self { conn, flow, driver, in_flight: Arc::default(), round_trip, silence }
    }

    /// Send a command and await its reply, however long that takes.
    pub async fn send(&self, cmd: &Cmd) -> RedisResult<Value> {
        self.conn.clone().send_packed_command(cmd).await?.extract_error()
    }

    /// Send commands before all later ones. Nothing waits for their replies, and the replies are
    /// ignored.
    pub async fn send_ahead(&self, pipeline: Pipeline) {
        if pipeline.is_empty() {
            return;
        }
        let mut conn = self.conn.clone();
        let mut answers = Box::pin(async move {
            let _ = conn.send_packed_commands(&pipeline, 0, pipeline.len()).await;
        });
        // The first poll sends them, so they arrive before everything that is sent later.
        if futures_util::future::poll_immediate(&mut answers).await.is_none() {
            tokio::spawn(answers);
        }
    }

    /// Send a command and await its reply while the connection is alive. `doubt` is called once if
    /// the connection becomes silent. When the caller's patience ends during a transfer,
    /// `is_reachable` decides whether the transfer goes on.
    pub async fn ask<'a>(
        &self,
        cmd: &Cmd,
        mut patience: Patience,
        doubt: impl Fn(Instant),
        is_reachable: impl Fn() -> BoxFuture<'a, bool>,
    ) -> Result<RedisResult<Value>, Late> {
        let _in_flight = InFlight::new(&self.in_flight, cmd);
        let mut answer = std::pin::pin!(self.send(cmd));
        let began = Instant::now();
        let mut doubted = false;
        loop {
            let quiet = self.flow.last().max(began);
            let grace = if doubted { self.silence } else { self.doubtful().min(self.silence) };
            let until = patience.cap(quiet + grace + self.allowance());
            if let Ok(answer) = timeout_at(until, &mut answer).await {
                return Ok(answer);
            }
            if patience.is_over() {
                if !matches!(patience, Patience::WhileMoving(_)) || self.allowance() < NOTICEABLE {
                    return Err(Late::Over);
                }
                tokio::select! {
                    answer = &mut answer => return Ok(answer),
                    reachable = is_reachable() => if !reachable { return Err(Late::Over) },
                }
                patience = Patience::WhileMoving(Instant::now() + self.silence);
            }
            let silent_for = self.flow.last().max(began).elapsed().saturating_sub(self.allowance());
            if silent_for >= self.silence {
                return Err(Late::Silent);
            }
            if !doubted && silent_for >= self.doubtful() {
                doubted = true;
                doubt(quiet);
            }
        }
    }

    fn allowance(&self) -> Duration {
        self.flow.allowance(self.in_flight.load(Ordering::Relaxed))
    }

    /// Whether calls wait for a reply and the connection is not silent.
    pub fn is_moving(&self) -> bool {
        let is_silent = self.flow.last().elapsed() >= self.silence + self.allowance();
        self.in_flight.load(Ordering::Relaxed) > 0 && !is_silent && !self.is_closed()
    }

    /// After this much silence, a call has the connection checked.
    fn doubtful(&self) -> Duration {
        DOUBT + 2 * self.round_trip
    }

    /// Whether it has been idle for so long that a router may have dropped it.
    pub fn is_stale(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed) == 0 && self.flow.last().elapsed() >= DOUBT
    }

    /// Whether it is answered soon.
    pub async fn is_alive(&self) -> bool {
        timeout(self.doubtful(), self.send(&commands::ping())).await.is_ok_and(|answer| answer.is_ok())
    }

    /// Close it. Callers that wait for a reply fail at once. Return whether it was open.
    pub fn close(&self) -> bool {
        self.driver.task.abort();
        !self.driver.is_closed.swap(true, Ordering::AcqRel)
    }

    /// Whether it has ended.
    pub fn is_closed(&self) -> bool {
        self.driver.is_closed.load(Ordering::Acquire) || self.driver.task.is_finished()
    }
}

/// The error of a connection that went away.
pub fn gone() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}
