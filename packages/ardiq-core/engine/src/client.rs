//! The producer's side: requests come in from mailboxes, run on the I/O thread, and their answers go back.

use std::collections::HashMap;
use std::future::{Future, ready};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::stream::{StreamExt, iter};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle};

use crate::clock::{Clock, monotonic_ms};
use crate::error::{Error, Result};
use crate::jobs::{self, JobRecord};
use crate::link::{Link, Patience, PushSink};
use crate::logs::Logs;
use crate::port::{Port, Ticket};
use crate::printable::text_of;
use crate::protocol::keys::{Keys, QUEUES};
use crate::protocol::record::ResultRecord;
use crate::results::Waiting;
use crate::runtime::Runtime;
use crate::scripts;
use crate::scripts::look::{self, QueueView};
use crate::scripts::produce::{self, Chunk, Fired};
use crate::server::Server;
use crate::submit::{Submission, answer, prepare};
use crate::{url, wait};

/// What comes back for a request.
#[derive(Debug)]
pub enum Answer {
    /// Job ids in order.
    Ids(Vec<String>),
    /// Job ids in order, and errors in place of those of jobs that were not accepted.
    SomeIds(Vec<Result<String>>),
    /// A number.
    Number(i64),
    /// A result, if there is one.
    Result(Option<Arc<ResultRecord>>),
    /// Jobs in order.
    Jobs(Vec<JobRecord>),
    /// Dead letters with their reasons.
    Dead(Vec<(JobRecord, String)>),
    /// Names.
    Names(Vec<String>),
    /// A queue in numbers.
    Queue(Box<QueueView>),
}

/// What all loops of one core share.
pub struct Shared {
    /// The way to the broker.
    pub link: Link,
    /// The queue's keys.
    pub keys: Arc<Keys>,
    /// Redis time.
    pub clock: Clock,
    /// Lines for the application's logging.
    pub logs: Arc<Logs>,
    /// Earliest due time announced by producers; a change wakes whoever promotes.
    pub wake: watch::Sender<u64>,
    /// What is known of the server.
    pub server: Server,
    /// Who waits for which result.
    pub waiting: Arc<Waiting>,
    /// Channel on which this process gets its results.
    pub push: String,
    tasks: Mutex<HashMap<(usize, Ticket), AbortHandle>>,
}

/// What a client has until it is closed. The fields are dropped in this order: first its tasks end, and with the last of
/// them the connection; the runtime goes on for other clients, if there are any.
struct Open {
    tasks: watch::Sender<()>,
    _runtime: Arc<Runtime>,
}

/// One queue as seen from one process.
pub struct Client {
    open: Mutex<Option<Open>>,
    handle: Handle,
    shared: Arc<Shared>,
    process: u32,
}

/// Calls of the enqueue script that one request has under way: together a thousand jobs.
const CHUNKS_UNDER_WAY: usize = 4;

/// How long closing may take to withdraw what callers have left in Redis.
const FAREWELL: Duration = Duration::from_millis(500);

/// Owes an answer to a mailbox; a request that is dropped unanswered is answered with [`Error::Closed`].
struct Debt {
    port: Arc<Port>,
    ticket: Ticket,
    paid: bool,
}

impl Debt {
    fn pay(mut self, answer: Result<Answer>) {
        self.paid = true;
        self.port.post((self.ticket, answer));
    }
}

impl Drop for Debt {
    fn drop(&mut self) {
        if !self.paid {
            self.port.post((self.ticket, Err(Error::Closed)));
        }
    }
}

impl Client {
    /// A client for `queue` with `lanes`, lowest first. Connects on first use.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a URL that cannot be used.
    pub fn new(url: &str, queue: &str, lanes: &[String], connect_limit: Duration) -> Result<Self> {
        let address = url::parse(url)?;
        // Made here, under the host's lock, and not by whichever thread comes first: see docs/adr/0021.
        scripts::compute_digests();
        monotonic_ms();
        let keys = Arc::new(Keys::new(queue, lanes));
        let runtime = Runtime::shared()?;
        let waiting = Arc::new(Waiting::default());
        let push = keys.push(&crate::submit::random_hex());
        let wake = watch::Sender::new(0);
        let sink = sink(Arc::clone(&waiting), push.clone(), keys.wake.clone(), wake.clone());
        let link = Link::new(address, Arc::clone(&keys), connect_limit, sink);
        let logs = Arc::clone(link.logs());
        let shared = Arc::new(Shared {
            link,
            keys,
            clock: Clock::default(),
            logs: Arc::clone(&logs),
            wake,
            server: Server::default(),
            waiting,
            push,
            tasks: Mutex::default(),
        });
        let keeper = Arc::clone(&shared);
        let handle = runtime.handle().clone();
        let open = Mutex::new(Some(Open { tasks: watch::Sender::new(()), _runtime: runtime }));
        let client = Self { open, handle, shared, process: std::process::id() };
        client.spawn(async move { keeper.link.keep().await });
        client.spawn(wait::withdraw(Arc::clone(&client.shared)));
        Ok(client)
    }

    /// What the worker engine builds on.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Where tasks of this client run.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Has it been closed, or is this a forked child that only inherited it?
    pub fn is_closed(&self) -> bool {
        self.process != std::process::id() || self.open.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// End all connections; answers every open request with [`Error::Closed`].
    pub fn close(&self) {
        if self.process == std::process::id() {
            let open = self.open.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(Open { tasks, _runtime }) = open {
                drop(tasks);
                self.take_leave();
            }
        }
    }

    /// Withdraw what callers have left in Redis, if anything.
    fn take_leave(&self) {
        if self.shared.waiting.has_word() {
            let (done, is_done) = channel::<()>();
            let shared = Arc::clone(&self.shared);
            self.handle.spawn(async move {
                let _done = done;
                wait::withdraw_rest(shared, FAREWELL).await;
            });
            // The sender's end is dropped when it is done.
            let _ = is_done.recv_timeout(2 * FAREWELL);
        }
    }

    /// Run `work` on the I/O thread until it is done or the client is closed.
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> Option<JoinHandle<()>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner).as_ref()?.tasks.subscribe();
        Some(self.handle.spawn(async move {
            tokio::select! {
                () = work => {}
                _ = open.changed() => {}
            }
        }))
    }

    fn request<F>(&self, port: &Arc<Port>, ticket: Ticket, work: impl FnOnce(Arc<Shared>, Patience) -> F)
    where
        F: Future<Output = Result<Answer>> + Send + 'static,
    {
        let debt = Debt { port: Arc::clone(port), ticket, paid: false };
        if self.is_closed() {
            return;
        }
        let patience = Patience::within(self.shared.link.connect_limit());
        let work = work(Arc::clone(&self.shared), patience);
        self.spawn(async move { debt.pay(work.await) });
    }

    /// Accept jobs; answers [`Answer::Ids`], or [`Answer::SomeIds`] if only some were accepted.
    pub fn enqueue(&self, port: &Arc<Port>, ticket: Ticket, jobs: Vec<Submission>) {
        self.request(port, ticket, |shared, patience| async move {
            shared.server.check_once(&shared.link, patience).await?;
            let chunks = prepare(jobs, shared.link.connect_limit())?;
            let lengths: Vec<usize> = chunks.iter().map(|chunk| chunk.jobs.len()).collect();
            let has_failed = AtomicBool::new(false);
            // Several in flight share a round trip. After a failure, those in flight are awaited and no more are sent.
            let accepted = iter(chunks)
                .take_while(|_| ready(!has_failed.load(Ordering::Relaxed)))
                .map(|chunk| accept(&shared, chunk))
                .buffered(CHUNKS_UNDER_WAY)
                .inspect(|of_chunk| {
                    has_failed.fetch_or(of_chunk.is_err(), Ordering::Relaxed);
                })
                .collect()
                .await;
            answer(accepted, &lengths)
        });
    }

    /// Enqueue one occurrence of a schedule; answers [`Answer::Number`], of [`produce::Firing`].
    pub fn fire(&self, port: &Arc<Port>, ticket: Ticket, schedule: String, fire_ms: u64, job: Submission) {
        self.request(port, ticket, move |shared, patience| async move {
            shared.server.check_once(&shared.link, patience).await?;
            let mut fired = Fired::default();
            for job in prepare(vec![job], shared.link.connect_limit())?.iter().flat_map(|chunk| &chunk.jobs) {
                fired = produce::fire(&shared.link, &shared.keys, &schedule, fire_ms, job, patience).await?;
            }
            shared.clock.observe(fired.now_ms);
            Ok(Answer::Number(fired.how as i64))
        });
    }

    /// The Redis time; answers [`Answer::Number`]. From then on the client's clock runs.
    pub fn clock(&self, port: &Arc<Port>, ticket: Ticket) {
        self.request(port, ticket, |shared, patience| async move {
            let reply = shared.link.command(&redis::cmd("TIME"), patience).await?;
            let (seconds, micros): (i64, i64) =
                redis::from_redis_value(reply).map_err(|error| Error::Protocol(error.to_string()))?;
            let now_ms = seconds * 1000 + micros / 1000;
            shared.clock.observe(u64::try_from(now_ms).unwrap_or_default());
            Ok(Answer::Number(now_ms))
        });
    }

    /// A result: now, or within `limit` when given; answers [`Answer::Result`].
    pub fn result(&self, port: &Arc<Port>, ticket: Ticket, id: String, limit: Option<Duration>) {
        let key = (Arc::as_ptr(port) as usize, ticket);
        let debt = Debt { port: Arc::clone(port), ticket, paid: false };
        if self.is_closed() {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let task = self.spawn(async move {
            let answer = match limit {
                None => wait::look_now(&shared, &id).await,
                Some(limit) => wait::wait_for(&shared, &id, limit).await,
            };
            shared.tasks.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
            debt.pay(answer.map(Answer::Result));
        });
        if limit.is_some()
            && let Some(task) = task
        {
            let mut tasks = self.shared.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            // It may have ended before it was entered; then it must not be entered at all.
            if !task.is_finished() {
                tasks.insert(key, task.abort_handle());
            }
        }
    }

    /// Give up a wait.
    pub fn forget(&self, port: &Arc<Port>, ticket: Ticket) {
        let key = (Arc::as_ptr(port) as usize, ticket);
        let task = self.shared.tasks.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        if let Some(task) = task {
            task.abort();
        }
    }

    /// What is known of some jobs; answers [`Answer::Jobs`].
    pub fn lookup(&self, port: &Arc<Port>, ticket: Ticket, ids: Vec<String>) {
        self.request(port, ticket, |shared, patience| async move {
            let ids: Vec<Vec<u8>> = ids.into_iter().map(String::into_bytes).collect();
            jobs::look_up(&shared, &ids, patience).await.map(Answer::Jobs)
        });
    }

    /// Jobs that wait to start; answers [`Answer::Number`].
    pub fn depth(&self, port: &Arc<Port>, ticket: Ticket) {
        self.request(port, ticket, |shared, patience| async move {
            look::depth(&shared.link, &shared.keys, patience).await.map(Answer::Number)
        });
    }

    /// Names of all queues; answers [`Answer::Names`].
    pub fn queues(&self, port: &Arc<Port>, ticket: Ticket) {
        self.request(port, ticket, |shared, patience| async move {
            let mut cmd = redis::cmd("SMEMBERS");
            cmd.arg(QUEUES);
            let reply = shared.link.command(&cmd, patience).await?;
            // Somebody else may have written a name that is no text.
            let names: Vec<Vec<u8>> =
                redis::from_redis_value(reply).map_err(|error| Error::Protocol(error.to_string()))?;
            let mut names: Vec<String> = names.into_iter().map(text_of).collect();
            names.sort();
            Ok(Answer::Names(names))
        });
    }

    /// The queue in numbers; answers [`Answer::Queue`].
    pub fn inspect(&self, port: &Arc<Port>, ticket: Ticket) {
        self.request(port, ticket, |shared, patience| async move {
            look::inspect(&shared.link, &shared.keys, patience).await.map(|view| Answer::Queue(Box::new(view)))
        });
    }

    /// Some jobs in one state; answers [`Answer::Jobs`], for `dead` [`Answer::Dead`].
    pub fn jobs(&self, port: &Arc<Port>, ticket: Ticket, state: String, most: usize) {
        self.request(port, ticket, move |shared, patience| async move {
            match state.as_str() {
                "dead" => jobs::dead(&shared, most, patience).await.map(Answer::Dead),
                "queued" | "scheduled" | "running" => {
                    jobs::list(&shared, &state, most, patience).await.map(Answer::Jobs)
                }
                _ => Err(Error::Invalid(format!("no state {state:?}; ask for queued, scheduled, running or dead"))),
            }
        });
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.close();
    }
}

fn sink(waiting: Arc<Waiting>, push: String, wake: String, due: watch::Sender<u64>) -> PushSink {
    Arc::new(move |channel, message| {
        if channel == push.as_bytes() {
            // Whoever waits for what cannot be read looks for it; a later version's record may look so.
            let _ = waiting.deliver(&message);
        } else if channel == wake.as_bytes() {
            let at = std::str::from_utf8(&message).ok().and_then(|text| text.parse().ok());
            due.send_replace(at.unwrap_or_default());
        }
    })
}

/// Enqueue a chunk; gives the ids of its jobs, or of those that exist in their place.
async fn accept(shared: &Shared, chunk: Chunk) -> Result<Vec<String>> {
    // For each chunk: many of them on a slow line are no server that is out of reach.
    let patience = Patience::within(shared.link.connect_limit());
    let existing = produce::enqueue(&shared.link, &shared.keys, &chunk, patience).await?;
    let mut ids: Vec<String> = chunk.jobs.into_iter().map(|job| job.id).collect();
    for (position, id) in existing {
        if let Some(own) = ids.get_mut(position) {
            *own = id;
        }
    }
    Ok(ids)
}
