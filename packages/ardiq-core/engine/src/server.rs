//! Checks whether the server is fit for use, from its own description of its version and
//! configuration.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::commands;
use crate::error::{Error, Result};
use crate::link::{Link, Patience};

/// The oldest version that supports the scripts. Valkey reports its own version here, 7.2 or later.
const OLDEST: (u32, u32) = (7, 0);

/// A server's description of itself. A server that provides none is assumed to be suitable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    version: String,
    maxmemory: u64,
    policy: String,
    append_only: Option<bool>,
    /// How long it has been up.
    pub uptime: Option<Duration>,
}

impl Facts {
    fn read(info: &str) -> Self {
        let field =
            |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
        Self {
            version: field("redis_version").unwrap_or_default().to_owned(),
            maxmemory: field("maxmemory").and_then(|bytes| bytes.parse().ok()).unwrap_or_default(),
            policy: field("maxmemory_policy").unwrap_or_default().to_owned(),
            append_only: field("aof_enabled").map(|enabled| enabled != "0"),
            uptime: field("uptime_in_seconds").and_then(|up| up.parse().ok()).map(Duration::from_secs),
        }
    }

    fn is_too_old(&self) -> bool {
        let mut parts = self.version.split('.').map_while(|part| part.parse::<u32>().ok());
        matches!((parts.next(), parts.next()), (Some(major), Some(minor)) if (major, minor) < OLDEST)
    }

    /// Describes the data that the server may evict when its memory is full, if any.
    fn eviction(&self) -> Option<String> {
        let policy = self.policy.as_str();
        if self.maxmemory == 0 || policy.is_empty() || policy == "noeviction" {
            return None;
        }
        // Accepted jobs have no TTL. Results have one, and so do the records that keep a repeated
        // enqueue from running twice.
        let lost = if policy.starts_with("volatile-") {
            "results, and the records that keep a repeated enqueue from running twice,"
        } else {
            "accepted jobs and results"
        };
        Some(format!("maxmemory-policy is {policy}, so {lost} can vanish when the server's memory is full"))
    }

    /// Why the server must not be used, if so.
    fn refusal(&self, allow_eviction: bool) -> Option<String> {
        if self.is_too_old() {
            let version = &self.version;
            return Some(format!("the server is version {version}, but ArdiQ needs Redis 7.0 or Valkey 7.2 or later"));
        }
        let eviction = self.eviction().filter(|_| !allow_eviction)?;
        Some(format!("{eviction}. Set maxmemory-policy to noeviction, or accept the loss with allow_eviction=True"))
    }

    /// Warnings for the server's operator.
    pub fn warnings(&self) -> Vec<String> {
        let no_file = (self.append_only == Some(false)).then(|| {
            "the server has no append-only file, so accepted jobs are lost if it crashes; set appendonly to yes"
                .to_owned()
        });
        self.eviction().into_iter().chain(no_file).collect()
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Server {
    allow_eviction: AtomicBool,
    /// The number of the connection whose server was found fit.
    fit: AtomicU64,
    checking: tokio::sync::Mutex<()>,
}

impl Server {
    /// Accept a server that evicts keys when its memory is full.
    pub fn allow_eviction(&self) {
        self.allow_eviction.store(true, Ordering::Relaxed);
    }

    /// Check the server before the first write on each connection.
    ///
    /// # Errors
    /// [`Error::Unfit`] if the server must not be used.
    pub async fn check_once(&self, link: &Link, patience: Patience) -> Result<()> {
        if self.is_known(link) {
            return Ok(());
        }
        // One caller checks, and the others wait for it.
        let _checking = self.checking.lock().await;
        if self.is_known(link) {
            return Ok(());
        }
        self.check(link, patience).await.map(drop)
    }

    fn is_known(&self, link: &Link) -> bool {
        let number = number_of(link);
        number > 0 && number == self.fit.load(Ordering::Relaxed)
    }

    /// Check the server now. A user without permission for that can still work.
    ///
    /// # Errors
    /// [`Error::Unfit`] if the server must not be used.
    pub async fn check(&self, link: &Link, patience: Patience) -> Result<Facts> {
        let facts = match link.command(&commands::info(), patience).await {
            Ok(reply) => {
                redis::from_redis_value::<String>(reply).map_or_else(|_| Facts::default(), |info| Facts::read(&info))
            }
            Err(Error::Refused(_)) => Facts::default(),
            Err(error) => return Err(error),
        };
        if let Some(reason) = facts.refusal(self.allow_eviction.load(Ordering::Relaxed)) {
            return Err(Error::Unfit(reason));
        }
        self.fit.store(number_of(link), Ordering::Relaxed);
        Ok(facts)
    }
}

/// The number of the current or last connection; 0 before the first.
fn number_of(link: &Link) -> u64 {
    *link.sessions().borrow()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(version: &str, maxmemory: &str, policy: &str) -> Facts {
        Facts::read(&format!(
            "# Server\r\nredis_version:{version}\r\n# Memory\r\nmaxmemory:{maxmemory}\r\nmaxmemory_human:1K\r\n\
             maxmemory_policy:{policy}\r\n# Persistence\r\naof_enabled:0\r\n"
        ))
    }

    #[test]
    fn a_server_that_evicts_keys_is_refused_unless_that_is_allowed() {
        let policies =
            ["allkeys-lru", "allkeys-lfu", "allkeys-random", "volatile-lru", "volatile-random", "volatile-ttl"];
        for policy in policies {
            let facts = facts("7.2.4", "100", policy);
            let refusal = facts.refusal(false).unwrap_or_default();
            assert!(refusal.contains(policy) && refusal.contains("allow_eviction=True"), "{refusal}");
            assert_eq!(facts.refusal(true), None);
            assert!(facts.warnings()[0].contains(policy));
        }
        for fit in [facts("7.2.4", "100", "noeviction"), facts("8.0.0", "0", "allkeys-lru"), Facts::default()] {
            assert_eq!(fit.refusal(false), None);
        }
    }

    #[test]
    fn a_server_that_is_too_old_is_always_refused() {
        for (version, old) in [("6.2.14", true), ("7.0.0", false), ("7.2.4", false), ("10.0.1", false), ("odd", false)]
        {
            assert_eq!(facts(version, "0", "noeviction").refusal(true).is_some(), old, "{version}");
        }
    }

    #[test]
    fn missing_persistence_is_a_warning() {
        assert!(facts("8.0.0", "0", "noeviction").warnings()[0].contains("append-only"));
        assert!(Facts::default().warnings().is_empty());
    }
}
