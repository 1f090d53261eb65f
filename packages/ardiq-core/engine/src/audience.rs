//! Which processes follow which jobs, as a worker knows it. Each of them says so every few seconds
//! on the wake channel, and nothing about it is kept in Redis.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::lock::lock;
use crate::protocol::keys::Keys;
use crate::protocol::notes::read_follow;

/// How long an announcement counts: three times as long as its period, because one may be lost.
const LIFETIME: Duration = Duration::from_secs(15);

/// The most followed jobs, and the most processes for each. Others have to look for themselves.
const MOST_JOBS: usize = 10_000;
const MOST_PROCESSES: usize = 64;

/// The longest name of a process.
const LONGEST_NAME: usize = 64;

/// Processes by job, each with the end of its announcement.
type Jobs = HashMap<String, Vec<(String, Instant)>>;

/// See the module.
#[derive(Debug, Default)]
pub struct Audience {
    /// So that nothing is locked while no job is followed.
    has_some: AtomicBool,
    jobs: Mutex<Jobs>,
}

impl Audience {
    /// Hear a message of the wake channel. Returns false if it is not such an announcement.
    pub fn hear(&self, message: &[u8]) -> bool {
        self.hear_at(message, Instant::now())
    }

    fn hear_at(&self, message: &[u8], now: Instant) -> bool {
        let Some(mut words) = read_follow(message) else { return false };
        let Some(process) = words.next().filter(|name| name.len() <= LONGEST_NAME) else { return true };
        let mut jobs = lock(&self.jobs);
        jobs.retain(|_, processes| {
            processes.retain(|(_, end)| *end > now);
            !processes.is_empty()
        });
        for id in words {
            if jobs.len() >= MOST_JOBS && !jobs.contains_key(id) {
                break;
            }
            let processes = jobs.entry(id.to_owned()).or_default();
            if let Some((_, end)) = processes.iter_mut().find(|(name, _)| name == process) {
                *end = now + LIFETIME;
            } else if processes.len() < MOST_PROCESSES {
                processes.push((process.to_owned(), now + LIFETIME));
            }
        }
        self.has_some.store(!jobs.is_empty(), Ordering::Release);
        true
    }

    /// Whether no job is followed. It may be true a little later than it could be.
    pub fn is_empty(&self) -> bool {
        !self.has_some.load(Ordering::Acquire)
    }

    /// Whether some process follows the job.
    pub fn includes(&self, id: &str) -> bool {
        !self.is_empty() && lock(&self.jobs).get(id).is_some_and(|processes| processes.iter().any(is_current))
    }

    /// The channels of the processes that follow the job.
    pub fn of(&self, keys: &Keys, id: &str) -> Vec<String> {
        if self.is_empty() {
            return Vec::new();
        }
        let jobs = lock(&self.jobs);
        let processes = jobs.get(id).into_iter().flatten().filter(|one| is_current(one));
        processes.map(|(name, _)| keys.push(name)).collect()
    }
}

fn is_current((_, end): &(String, Instant)) -> bool {
    *end > Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::notes::follow;

    #[test]
    fn a_worker_knows_who_follows_a_job() {
        let (audience, keys) = (Audience::default(), Keys::new("q", &["low".into()]));
        assert!(audience.is_empty() && !audience.includes("a"));
        assert!(audience.hear(follow("p", ["a", "b"]).as_bytes()));
        assert!(audience.hear(follow("p", ["a"]).as_bytes()) && audience.hear(follow("o", ["a"]).as_bytes()));
        assert_eq!(audience.of(&keys, "a"), ["ardiq:{q}:push:p", "ardiq:{q}:push:o"]);
        assert!(audience.includes("b") && !audience.includes("c"));
        assert!(!audience.hear(b"abort") && !audience.hear(b"170"));
    }

    #[test]
    fn an_announcement_that_is_not_repeated_ends() {
        let audience = Audience::default();
        let now = Instant::now();
        audience.hear_at(follow("p", ["a"]).as_bytes(), now);
        assert!(audience.includes("a"));
        audience.hear_at(follow("p", []).as_bytes(), now + LIFETIME);
        assert!(!audience.includes("a"));
        assert!(audience.is_empty());
    }

    #[test]
    fn announcements_cannot_fill_the_memory() {
        let audience = Audience::default();
        let ids: Vec<String> = (0..=MOST_JOBS).map(|number| number.to_string()).collect();
        audience.hear(follow("p", ids.iter().map(String::as_str)).as_bytes());
        assert!(audience.includes("0") && !audience.includes(&MOST_JOBS.to_string()));
        audience.hear(follow(&"p".repeat(LONGEST_NAME + 1), ["x"]).as_bytes());
        assert!(!audience.includes("x"));
    }
}
