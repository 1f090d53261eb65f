//! The producer's side: requests come in from mailboxes and run on the I/O thread, and replies go
//! back to the mailboxes.

use std::collections::HashMap;
use std::future::Future;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle};

use crate::answer::Answer;
use crate::audience::Audience;
use crate::clock::{Clock, monotonic_ms};
use crate::error::{Error, Result};
use crate::followers::{self, Followers};
use crate::graph::{self, Graph};
use crate::link::{Link, Patience, PushSink};
use crate::lock::lock;
use crate::mailbox::{Mailbox, RequestId};
use crate::printable::text_of;
use crate::protocol::keys::{Keys, QUEUES};
use crate::protocol::state::Listing;
use crate::refusal::Refusal;
use crate::runtime::Runtime;
use crate::scripts::look;
use crate::server::Server;
use crate::shared::Shared;
use crate::submit::{self, Submission};
use crate::waiters::Waiters;
use crate::{abort, commands, jobs, results, scripts, url};

/// What a client owns until it is closed. The fields are dropped in this order: first its tasks
/// end, and with the last of them the connection. The runtime continues if other clients use it.
struct Open {
    tasks: watch::Sender<()>,
    _runtime: Arc<Runtime>,
}

/// Requests that their callers may cancel, by mailbox and request.
type Waits = Arc<Mutex<HashMap<(usize, RequestId), AbortHandle>>>;

/// One queue as seen from one process.
pub struct Client {
    open: Mutex<Option<Open>>,
    handle: Handle,
    shared: Arc<Shared>,
    waits: Waits,
    process: u32,
}

/// How long closing may take to withdraw the registrations of waiting callers.
const CLOSING_LIMIT: Duration = Duration::from_millis(500);

/// A request that has not been answered. If it is dropped, it is answered with [`Error::Closed`].
struct PendingRequest {
    mailbox: Arc<Mailbox>,
    id: RequestId,
    is_answered: bool,
}

impl PendingRequest {
    fn new(mailbox: &Arc<Mailbox>, id: RequestId) -> Self {
        Self { mailbox: Arc::clone(mailbox), id, is_answered: false }
    }

    fn answer(mut self, answer: Result<Answer>) {
        self.is_answered = true;
        self.mailbox.post((self.id, answer));
    }
}

impl Drop for PendingRequest {
    fn drop(&mut self) {
        if !self.is_answered {
            self.mailbox.post((self.id, Err(Error::Closed)));
        }
    }
}

impl Client {
    /// A client for `queue` with `lanes`, lowest first. It connects on first use.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a URL that cannot be used.
    pub fn new(url: &str, queue: &str, lanes: &[String], connect_limit: Duration) -> Result<Self> {
        let address = url::parse(url)?;
        // Initialize process-wide state here, under the host's lock, before a second thread can
        // exist: see docs/adr/0021.
        scripts::compute_digests();
        monotonic_ms();
        let keys = Arc::new(Keys::new(queue, lanes));
        let runtime = Runtime::shared()?;
        let waiters = Arc::new(Waiters::default());
        let push_channel = keys.push(&submit::random_hex());
        let (earliest_due, aborts, schedules) = (watch::Sender::new(0), watch::Sender::new(()), watch::Sender::new(()));
        let releases = watch::Sender::new(());
        let channels = (push_channel.clone(), keys.wake.clone(), keys.roll_call.clone());
        let (followers, audience) = (Arc::new(Followers::default()), Arc::new(Audience::default()));
        let heard = (Arc::clone(&followers), Arc::clone(&audience));
        let notices = Notices {
            earliest_due: earliest_due.clone(),
            aborts: aborts.clone(),
            releases: releases.clone(),
            schedules: schedules.clone(),
        };
        let sink = sink(Arc::clone(&waiters), heard, channels, notices);
        let link = Link::new(address, Arc::clone(&keys), connect_limit, sink);
        let logs = Arc::clone(link.logs());
        let shared = Arc::new(Shared {
            link,
            keys,
            clock: Clock::default(),
            logs,
            earliest_due,
            aborts,
            releases,
            schedules,
            server: Server::default(),
            waiters,
            followers,
            audience,
            push_channel,
        });
        let keeper = Arc::clone(&shared);
        let handle = runtime.handle().clone();
        let open = Mutex::new(Some(Open { tasks: watch::Sender::new(()), _runtime: runtime }));
        let client = Self { open, handle, shared, waits: Waits::default(), process: std::process::id() };
        client.spawn(async move { keeper.link.keep().await });
        client.spawn(results::withdraw(Arc::clone(&client.shared)));
        client.spawn(followers::announce(Arc::clone(&client.shared)));
        Ok(client)
    }

    /// The state that the worker engine builds on.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The runtime on which the tasks of this client run.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Whether it is closed, or belongs to the parent of this forked process.
    pub fn is_closed(&self) -> bool {
        self.process != std::process::id() || lock(&self.open).is_none()
    }

    /// End all connections. Every open request is answered with [`Error::Closed`].
    pub fn close(&self) {
        if self.process == std::process::id() {
            let open = lock(&self.open).take();
            if let Some(Open { tasks, _runtime }) = open {
                drop(tasks);
                self.withdraw_registrations();
            }
        }
    }

    fn withdraw_registrations(&self) {
        if self.shared.waiters.has_registrations() {
            let (done, is_done) = channel::<()>();
            let shared = Arc::clone(&self.shared);
            self.handle.spawn(async move {
                let _done = done;
                results::withdraw_rest(shared, CLOSING_LIMIT).await;
            });
            // The sender is dropped when the task has ended.
            let _ = is_done.recv_timeout(2 * CLOSING_LIMIT);
        }
    }

    /// Run `work` on the I/O thread until it has ended or the client is closed.
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> Option<JoinHandle<()>> {
        let mut open = lock(&self.open).as_ref()?.tasks.subscribe();
        Some(self.handle.spawn(async move {
            tokio::select! {
                () = work => {}
                _ = open.changed() => {}
            }
        }))
    }

    pub(crate) fn request<F>(
        &self,
        mailbox: &Arc<Mailbox>,
        request: RequestId,
        work: impl FnOnce(Arc<Shared>, Patience) -> F,
    ) where
        F: Future<Output = Result<Answer>> + Send + 'static,
    {
        let pending = PendingRequest::new(mailbox, request);
        if self.is_closed() {
            return;
        }
        let patience = Patience::within(self.shared.link.connect_limit());
        let work = work(Arc::clone(&self.shared), patience);
        self.spawn(async move { pending.answer(work.await) });
    }

    /// Enqueue jobs. The answer is [`Answer::Ids`], or [`Answer::SomeIds`] if only some jobs were
    /// accepted.
    pub fn enqueue(&self, mailbox: &Arc<Mailbox>, request: RequestId, jobs: Vec<Submission>) {
        self.request(mailbox, request, |shared, patience| async move {
            shared.server.check_once(&shared.link, patience).await?;
            submit::enqueue(&shared, jobs).await
        });
    }

    /// Enqueue jobs that depend on each other, or on jobs of the queue. The answer is
    /// [`Answer::Ids`].
    pub fn link(&self, mailbox: &Arc<Mailbox>, request: RequestId, graph: Graph) {
        self.request(mailbox, request, |shared, patience| async move {
            shared.server.check_once(&shared.link, patience).await?;
            graph::enqueue(&shared, graph).await
        });
    }

    /// Read the Redis time. The answer is [`Answer::Number`]. From then on, the client's clock
    /// runs.
    pub fn clock(&self, mailbox: &Arc<Mailbox>, request: RequestId) {
        self.request(mailbox, request, |shared, patience| async move {
            shared.read_time(patience).await.map(Answer::Number)
        });
    }

    /// Read a result, or wait for it if there is a `limit`. The answer is [`Answer::Result`].
    pub fn result(&self, mailbox: &Arc<Mailbox>, request: RequestId, id: String, limit: Option<Duration>) {
        self.wait(mailbox, request, |shared| async move {
            match limit {
                None => results::get(&shared, &id).await,
                Some(limit) => results::wait(&shared, &id, limit).await,
            }
            .map(Answer::Result)
        });
    }

    /// Abort a job, and wait until it has ended. The answer is [`Answer::Number`]: 1 if it has
    /// ended as aborted within `limit`, else 0.
    pub fn abort(&self, mailbox: &Arc<Mailbox>, request: RequestId, id: String, limit: Duration) {
        self.wait(mailbox, request, move |shared| async move {
            abort::abort(&shared, &id, limit).await.map(|aborted| Answer::Number(aborted.into()))
        });
    }

    /// Make a request that the caller may cancel with [`Client::forget`].
    pub(crate) fn wait<F>(&self, mailbox: &Arc<Mailbox>, request: RequestId, work: impl FnOnce(Arc<Shared>) -> F)
    where
        F: Future<Output = Result<Answer>> + Send + 'static,
    {
        let key = (Arc::as_ptr(mailbox) as usize, request);
        let pending = PendingRequest::new(mailbox, request);
        if self.is_closed() {
            return;
        }
        let (work, waits) = (work(Arc::clone(&self.shared)), Arc::clone(&self.waits));
        let task = self.spawn(async move {
            let answer = work.await;
            lock(&waits).remove(&key);
            pending.answer(answer);
        });
        if let Some(task) = task {
            let mut waits = lock(&self.waits);
            // The task may have ended already. Then nothing would remove its entry.
            if !task.is_finished() {
                waits.insert(key, task.abort_handle());
            }
        }
    }

    /// Cancel a request that waits.
    pub fn forget(&self, mailbox: &Arc<Mailbox>, request: RequestId) {
        let key = (Arc::as_ptr(mailbox) as usize, request);
        let task = lock(&self.waits).remove(&key);
        if let Some(task) = task {
            task.abort();
        }
    }

    /// Read the state of some jobs. The answer is [`Answer::Jobs`].
    pub fn lookup(&self, mailbox: &Arc<Mailbox>, request: RequestId, ids: Vec<String>) {
        self.request(mailbox, request, |shared, patience| async move {
            let ids: Vec<Vec<u8>> = ids.into_iter().map(String::into_bytes).collect();
            jobs::look_up(&shared, &ids, patience).await.map(Answer::Jobs)
        });
    }

    /// Count the jobs that are waiting to start. The answer is [`Answer::Number`].
    pub fn depth(&self, mailbox: &Arc<Mailbox>, request: RequestId) {
        self.request(mailbox, request, |shared, patience| async move {
            look::depth(&shared.link, &shared.keys, patience).await.map(Answer::Number)
        });
    }

    /// List the names of all queues. The answer is [`Answer::Names`].
    pub fn queues(&self, mailbox: &Arc<Mailbox>, request: RequestId) {
        self.request(mailbox, request, |shared, patience| async move {
            let named = |error| match error {
                Error::Refused(Refusal { code, text }) if code == "WRONGTYPE" => {
                    Error::Refused(Refusal { code, text: format!("{text}: {QUEUES}") })
                }
                error => error,
            };
            let reply = shared.link.command(&commands::members(QUEUES), patience).await.map_err(named)?;
            // Other software may have written a name that is not text.
            let names: Vec<Vec<u8>> =
                redis::from_redis_value(reply).map_err(|error| Error::Protocol(error.to_string()))?;
            let mut names: Vec<String> = names.into_iter().map(text_of).collect();
            names.sort();
            Ok(Answer::Names(names))
        });
    }

    /// Summarize the queue. The answer is [`Answer::Queue`].
    pub fn inspect(&self, mailbox: &Arc<Mailbox>, request: RequestId) {
        self.request(mailbox, request, |shared, patience| async move {
            look::inspect(&shared.link, &shared.keys, patience).await.map(|view| Answer::Queue(Box::new(view)))
        });
    }

    /// List some jobs. The answer is [`Answer::Jobs`], or [`Answer::Dead`] for dead letters.
    pub fn jobs(&self, mailbox: &Arc<Mailbox>, request: RequestId, listing: Listing, limit: usize) {
        self.request(mailbox, request, move |shared, patience| async move {
            match listing {
                Listing::Dead => jobs::dead(&shared, limit, patience).await.map(Answer::Dead),
                Listing::In(state) => jobs::list(&shared, state, limit, patience).await.map(Answer::Jobs),
            }
        });
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.close();
    }
}

/// What the workers of this process are told.
struct Notices {
    earliest_due: watch::Sender<u64>,
    aborts: watch::Sender<()>,
    releases: watch::Sender<()>,
    schedules: watch::Sender<()>,
}

fn sink(
    waiters: Arc<Waiters>,
    (followers, audience): (Arc<Followers>, Arc<Audience>),
    (push, wake, roll_call): (String, String, String),
    notices: Notices,
) -> PushSink {
    Arc::new(move |channel, message| {
        if channel == push.as_bytes() {
            // If the message cannot be read, its callers check for the result. A later version may
            // have written it.
            if !followers.deliver(&message) {
                let _ = waiters.deliver(&message);
            }
        } else if channel == roll_call.as_bytes() {
            followers.announce_all();
        } else if channel == wake.as_bytes() && message == b"abort" {
            notices.aborts.send_replace(());
        } else if channel == wake.as_bytes() && message == b"release" {
            notices.releases.send_replace(());
        } else if channel == wake.as_bytes() && message == b"schedules" {
            notices.schedules.send_replace(());
        } else if channel == wake.as_bytes() && !audience.hear(&message) {
            let due_ms = std::str::from_utf8(&message).ok().and_then(|text| text.parse().ok());
            notices.earliest_due.send_replace(due_ms.unwrap_or_default());
        }
    })
}
