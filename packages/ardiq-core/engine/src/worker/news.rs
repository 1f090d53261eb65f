//! Tells the processes that follow a job when its state has changed. They look it up then.

use std::sync::{Arc, Mutex};

use futures_util::future::try_join_all;
use tokio::sync::Notify;

use super::State;
use crate::clock::monotonic_ms;
use crate::commands;
use crate::error::{Error, Result};
use crate::link::Patience;
use crate::lock::lock;
use crate::logs::Level;
use crate::protocol::notes;

/// Jobs whose state has changed, and which some process follows.
#[derive(Default)]
pub(super) struct News {
    ids: Mutex<Vec<String>>,
    added: Notify,
}

impl State {
    /// The states of these jobs have changed.
    pub(super) fn have_changed<'a>(&self, ids: impl IntoIterator<Item = &'a str>) {
        if self.shared.audience.is_empty() {
            return;
        }
        let followed = ids.into_iter().filter(|id| self.shared.audience.includes(id));
        let followed: Vec<String> = followed.map(str::to_owned).collect();
        if !followed.is_empty() {
            lock(&self.news.ids).extend(followed);
            self.news.added.notify_one();
        }
    }
}

/// Messages in flight at the same time.
const IN_FLIGHT: usize = 100;

/// Send messages until the worker has stopped. Followers that miss one look for themselves after a
/// while.
pub async fn run(state: Arc<State>) -> Result<()> {
    let (link, keys) = (&state.shared.link, &state.shared.keys);
    let mut sessions = link.sessions();
    // Announcements that came before this connection were missed.
    sessions.mark_changed();
    loop {
        tokio::select! {
            () = state.news.added.notified() => {}
            changed = sessions.changed() => {
                changed.map_err(|_| Error::Closed)?;
                match link.command(&commands::publish(&keys.roll_call, notes::WHO), Patience::Endless).await {
                    // Announcements are also repeated unasked.
                    Err(Error::Refused(_)) => {}
                    asked => drop(asked?),
                }
            }
        }
        let ids = std::mem::take(&mut *lock(&state.news.ids));
        let messages = ids.iter().flat_map(|id| {
            let message = notes::News::changed(id);
            state.shared.audience.of(keys, id).into_iter().map(move |channel| commands::publish(&channel, &message))
        });
        let messages: Vec<_> = messages.collect();
        for page in messages.chunks(IN_FLIGHT) {
            match try_join_all(page.iter().map(|message| link.command(message, Patience::Endless))).await {
                Err(error @ Error::Refused(_)) => {
                    if state.refusals.is_due(monotonic_ms()) {
                        state.log(Level::Warning, format!("events of jobs arrive late: {error}"));
                    }
                }
                sent => drop(sent?),
            }
        }
    }
}
