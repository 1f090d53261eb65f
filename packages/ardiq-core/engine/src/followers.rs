//! The callers of this process that follow jobs. All news arrive on the channel that also brings
//! results, however many jobs are followed.
//!
//! A process tells the workers which jobs it follows, and repeats that for as long as it does, see
//! [`crate::audience`]. So a caller that stops leaves nothing behind in Redis.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, timeout_at};

use crate::commands;
use crate::error::Error;
use crate::link::Patience;
use crate::lock::lock;
use crate::logs::Level;
use crate::protocol::notes::{News, follow};
use crate::shared::Shared;

/// How often the announcement is repeated. A worker that connects asks for it, but it may miss the
/// answer, or be older than this question.
const PERIOD: Duration = Duration::from_secs(5);

/// How long new followers are gathered before they are announced.
const GATHERING: Duration = Duration::from_millis(2);

/// Jobs in one announcement.
const MOST_IDS: usize = 200;

/// News that a caller has not taken. More are dropped, and the caller looks again later.
const MOST_NEWS: usize = 64;

#[derive(Default)]
struct Registry {
    last_number: u64,
    jobs: HashMap<String, Vec<(u64, mpsc::Sender<News>)>>,
    /// Jobs to announce now.
    new: Vec<String>,
}

/// See the module.
#[derive(Default)]
pub struct Followers {
    registry: Mutex<Registry>,
    added: Notify,
}

/// One caller. It is removed from the registry when it is dropped.
pub struct Follower {
    followers: Arc<Followers>,
    id: String,
    number: u64,
    news: mpsc::Receiver<News>,
}

impl Followers {
    /// Add a caller that follows a job.
    pub fn add(self: &Arc<Self>, id: &str) -> Follower {
        let (sender, news) = mpsc::channel(MOST_NEWS);
        let mut registry = lock(&self.registry);
        registry.last_number += 1;
        let number = registry.last_number;
        registry.jobs.entry(id.to_owned()).or_default().push((number, sender));
        drop(registry);
        Follower { followers: Arc::clone(self), id: id.to_owned(), number, news }
    }

    /// Pass the news in a message to all callers that follow the job. Returns false if the message
    /// is not about news.
    pub fn deliver(&self, message: &[u8]) -> bool {
        let Some((id, news)) = News::read(message) else { return false };
        for (_, caller) in lock(&self.registry).jobs.get(id).into_iter().flatten() {
            let _ = caller.try_send(news.clone());
        }
        true
    }

    /// Announce all jobs now: a worker does not know them yet.
    pub fn announce_all(&self) {
        let mut registry = lock(&self.registry);
        registry.new = registry.jobs.keys().cloned().collect();
        drop(registry);
        self.added.notify_one();
    }

    /// The jobs to announce: all, or only those of new callers.
    fn to_announce(&self, only_new: bool) -> Vec<String> {
        let mut registry = lock(&self.registry);
        let new = std::mem::take(&mut registry.new);
        if only_new { new } else { registry.jobs.keys().cloned().collect() }
    }
}

impl Follower {
    /// The next news.
    pub async fn next(&mut self) -> News {
        match self.news.recv().await {
            Some(news) => news,
            // The sender is in the registry until this is dropped.
            None => std::future::pending().await,
        }
    }

    /// The next news, if there are any now.
    pub fn try_next(&mut self) -> Option<News> {
        self.news.try_recv().ok()
    }

    /// Tell the workers about this caller now.
    pub fn announce(&self) {
        lock(&self.followers.registry).new.push(self.id.clone());
        self.followers.added.notify_one();
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut registry = lock(&self.followers.registry);
        if let Some(callers) = registry.jobs.get_mut(&self.id) {
            callers.retain(|(number, _)| *number != self.number);
            if callers.is_empty() {
                registry.jobs.remove(&self.id);
            }
        }
    }
}

/// Tell the workers which jobs this process follows, for as long as the client exists.
pub async fn announce(shared: Arc<Shared>) {
    let (link, wake) = (&shared.link, &shared.keys.wake);
    let process = shared.push_channel.strip_prefix(&shared.keys.push("")).unwrap_or_default();
    let mut is_first_refusal = true;
    // New followers must not put off the next time that all are announced: workers would forget
    // them.
    let mut next_full = Instant::now() + PERIOD;
    loop {
        let followers = &shared.followers;
        let is_new = if lock(&followers.registry).jobs.is_empty() {
            followers.added.notified().await;
            true
        } else {
            timeout_at(next_full, followers.added.notified()).await.is_ok()
        };
        sleep(GATHERING).await;
        let is_new = is_new && Instant::now() < next_full;
        if !is_new {
            next_full = Instant::now() + PERIOD;
        }
        for ids in followers.to_announce(is_new).chunks(MOST_IDS) {
            let message = follow(process, ids.iter().map(String::as_str));
            let patience = Patience::within(link.connect_limit());
            let sent = link.command(&commands::publish(wake, message.as_bytes()), patience).await;
            if let (Err(Error::Refused(reason)), true) = (sent, is_first_refusal) {
                is_first_refusal = false;
                let message = format!("workers do not send events to this process, which looks at intervals: {reason}");
                shared.logs.push(Level::Warning, "client", message);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn news_reach_all_callers_that_follow_the_job() {
        let followers = Arc::new(Followers::default());
        let (mut first, mut second, mut other) = (followers.add("a"), followers.add("a"), followers.add("b"));
        assert!(followers.deliver(&News::changed("a")));
        assert_eq!((first.next().await, second.next().await), (News::Changed, News::Changed));
        assert!(other.news.try_recv().is_err());
        assert!(!followers.deliver(b"\x00\x01aR12345678"), "a result");
    }

    #[test]
    fn a_caller_that_stops_leaves_nothing_behind() {
        let followers = Arc::new(Followers::default());
        let (first, second) = (followers.add("a"), followers.add("a"));
        first.announce();
        assert_eq!(followers.to_announce(true), ["a"]);
        assert!(followers.to_announce(true).is_empty(), "announced");
        drop(first);
        assert_eq!(followers.to_announce(false), ["a"]);
        drop(second);
        assert!(followers.to_announce(false).is_empty());
    }

    #[test]
    fn a_caller_that_takes_nothing_does_not_fill_the_memory() {
        let followers = Arc::new(Followers::default());
        let mut slow = followers.add("a");
        (0..2 * MOST_NEWS).for_each(|_| assert!(followers.deliver(&News::changed("a"))));
        assert_eq!(std::iter::from_fn(|| slow.news.try_recv().ok()).count(), MOST_NEWS);
    }
}
