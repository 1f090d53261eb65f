//! Logs that the server is unreachable, first soon and then rarely, and that it is back.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::State;
use crate::clock::monotonic_ms;
use crate::error::Result;
use crate::link::Trouble;
use crate::logs::{Level, LogThrottle};

/// Shorter outages are not logged.
const FIRST: Duration = Duration::from_secs(1);

/// How often a continuing outage is logged.
const AGAIN: Duration = Duration::from_secs(30);

/// Run until the worker has stopped.
pub async fn run(state: Arc<State>) -> Result<()> {
    let link = &state.shared.link;
    let (mut trouble, mut sessions) = (link.trouble(), link.sessions());
    sessions.borrow_and_update();
    let reconnects = LogThrottle::default();
    loop {
        // An outage comes first: a server that refuses writes may cost many connections.
        let began = tokio::select! {
            biased;
            began = trouble.wait_for(Option::is_some) => match began {
                Ok(trouble) => trouble.as_ref().map(|trouble| trouble.since),
                Err(_) => return Ok(()),
            },
            changed = sessions.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
                None
            }
        };
        let Some(since) = began else {
            // A server that refuses, such as a replica, may cost many connections.
            if reconnects.is_due(monotonic_ms()) {
                let reason =
                    link.last_trouble().map_or_else(String::new, |reason| format!(" after a failure: {reason}"));
                state.log(Level::Warning, format!("reconnected to {}{reason}", link.shown()));
            }
            continue;
        };
        let (mut next, mut is_told) = (since + FIRST, false);
        loop {
            tokio::select! {
                ended = trouble.wait_for(Option::is_none) => match ended {
                    Ok(_) => break,
                    Err(_) => return Ok(()),
                },
                () = sleep_until(next) => {}
            }
            let now = link.trouble().borrow().clone();
            if let Some(Trouble { reason, refuses_writes, .. }) = now {
                let what = if refuses_writes { "cannot write to" } else { "cannot reach" };
                let seconds = since.elapsed().as_secs();
                let message = format!("{what} Redis at {} ({seconds} s so far): {reason}; trying again", link.shown());
                state.log(Level::Warning, message);
                is_told = true;
            }
            next = Instant::now() + AGAIN;
        }
        if is_told {
            // One line is enough, even if there is also a new connection.
            sessions.borrow_and_update();
            let seconds = since.elapsed().as_secs();
            state.log(Level::Warning, format!("Redis at {} answers again after {seconds} s", link.shown()));
        }
    }
}
