//! The one error type of the engine. The binding maps each variant to one Python exception.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::refusal::{Refusal, Subject};

/// An error that the engine returns to its caller.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The broker did not answer in time, or the connection was lost and did not come back in time.
    #[error(
        "cannot reach Redis at {address}: {reason}. Check that the server is running and that the URL (redis_url or $ARDIQ_REDIS_URL) is correct"
    )]
    Unreachable {
        /// The server's address, without credentials.
        address: String,
        /// The last error.
        reason: String,
    },
    /// The broker answered with an error. Repeating the call at once would not help.
    #[error("Redis refused the command: {0}")]
    Refused(Refusal),
    /// An argument cannot be used.
    #[error("{0}")]
    Invalid(String),
    /// The server could lose jobs, or is too old.
    #[error("this Redis server cannot be used: {0}")]
    Unfit(String),
    /// The caller waits for a result that cannot arrive.
    #[error("there is no result of job {id:?} to wait for: {why}")]
    NoResult {
        /// Id of the job.
        id: String,
        /// Why no result can arrive.
        why: &'static str,
    },
    /// A run no longer owns its job.
    #[error(
        "this run no longer owns its job: it has ended or was abandoned, or another worker has taken the job over. Stop working on the job: the outcome of this run does not count"
    )]
    StaleRun,
    /// The operating system refused a file descriptor, a thread or random numbers.
    #[error("{message}")]
    System {
        /// Number of the system's error, if it has one.
        errno: Option<i32>,
        /// What could not be had, why, and what to do about it.
        message: String,
    },
    /// The engine has been closed.
    #[error("this connection has been closed. Create a new app; no app can be used once its process has begun to exit")]
    Closed,
    /// The broker holds data that this version cannot read.
    #[error("Redis holds data that this version cannot read: {0}")]
    Protocol(String),
}

impl Error {
    /// Whether the same call would fail again even if the server, the network or our permissions
    /// changed. If not, a patient caller keeps its data and tries again after a pause.
    pub fn is_about_this_call(&self) -> bool {
        match self {
            Self::Refused(refusal) => refusal.subject() == Subject::Call,
            Self::Invalid(_) | Self::Protocol(_) | Self::NoResult { .. } | Self::StaleRun => true,
            Self::Unreachable { .. } | Self::Unfit(_) | Self::System { .. } | Self::Closed => false,
        }
    }

    /// Whether a key of the call has the wrong type.
    pub fn is_of_wrong_type(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.code == "WRONGTYPE")
    }

    /// Whether every connection that carried the call was cut, while other calls worked.
    pub fn is_broken(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.code == "BROKEN")
    }

    /// Whether a body that was sent ahead of the script is missing.
    pub fn is_body_gone(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.code == "GONE")
    }
}

/// The result of an engine function.
pub type Result<T> = std::result::Result<T, Error>;

/// What to do after a failed command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// The connection is broken: make a new one, then try again.
    Reconnect,
    /// The server is temporarily unable to answer, for example while it loads its data: wait, then
    /// try again.
    Wait,
    /// The script is not in the server's cache: load it, then try again.
    Load,
    /// A key has the wrong type: set it aside, then try again.
    Mend,
    /// Repeating the call would return the same error.
    GiveUp,
}

/// Decide what to do after a failed command. It is a pure function, so that every case has a test.
pub fn remedy(error: &RedisError) -> Remedy {
    match error.kind() {
        ErrorKind::Server(ServerErrorKind::NoScript) => Remedy::Load,
        ErrorKind::Server(
            ServerErrorKind::BusyLoading
            | ServerErrorKind::TryAgain
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::MasterDown,
        ) => Remedy::Wait,
        // The server was a primary when we connected and is a replica now. The address may lead to
        // the new primary.
        ErrorKind::Server(ServerErrorKind::ReadOnly) => Remedy::Reconnect,
        ErrorKind::Io | ErrorKind::Parse => Remedy::Reconnect,
        _ if error.is_io_error() || error.is_connection_dropped() || error.is_timeout() => Remedy::Reconnect,
        _ => match error.code() {
            Some("BUSY" | "MISCONF" | "NOREPLICAS") => Remedy::Wait,
            Some("WRONGTYPE") => Remedy::Mend,
            _ if error.to_string().contains("max number of clients") => Remedy::Reconnect,
            _ => Remedy::GiveUp,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(line: &str) -> RedisError {
        let reply = format!("-{line}\r\n");
        let value = redis::parse_redis_value(reply.as_bytes()).and_then(|value| value.extract_error());
        value.err().unwrap_or_else(|| unreachable!("an error reply parses to an error"))
    }

    #[test]
    fn every_error_reply_has_its_remedy() {
        let cases = [
            ("NOSCRIPT No matching script", Remedy::Load),
            ("LOADING Redis is loading the dataset in memory", Remedy::Wait),
            ("MASTERDOWN Link with MASTER is down", Remedy::Wait),
            ("BUSY Redis is busy running a script", Remedy::Wait),
            ("MISCONF Redis is configured to save RDB snapshots", Remedy::Wait),
            // Our own code: repeating the call alone would fail, so the caller sends the body again
            // as well.
            ("GONE the body that was sent ahead", Remedy::GiveUp),
            ("READONLY You can't write against a read only replica", Remedy::Reconnect),
            ("ERR max number of clients reached", Remedy::Reconnect),
            ("OOM command not allowed when used memory > 'maxmemory'", Remedy::GiveUp),
            ("WRONGTYPE Operation against a key", Remedy::Mend),
        ];
        for (line, expected) in cases {
            assert_eq!(remedy(&server(line)), expected, "{line}");
        }
    }

    #[test]
    fn a_broken_socket_calls_for_a_new_connection() {
        let error = RedisError::from(std::io::Error::from(std::io::ErrorKind::BrokenPipe));
        assert_eq!(remedy(&error), Remedy::Reconnect);
    }
}
