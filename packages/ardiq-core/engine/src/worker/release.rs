//! Releases the children of jobs that have ended, as far as that is not part of their settlement.
//! Every worker does this for the whole queue.

use std::sync::Arc;

use super::State;
use crate::clock::monotonic_ms;
use crate::error::{Error, Result};
use crate::link::Patience;
use crate::logs::{Level, LogThrottle};
use crate::scripts::links::{self, Place};

/// Release children whenever that is announced, and once a second while jobs depend on others, when
/// the search for dead workers says so. Then also check a page of the waiting jobs: a worker of an
/// earlier version may have settled a parent.
pub async fn run(state: Arc<State>) -> Result<()> {
    let mut announced = state.shared.releases.subscribe();
    let (mut place, refusals) = (Place::default(), LogThrottle::default());
    loop {
        let must_check = tokio::select! {
            changed = announced.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
                false
            }
            () = state.links.notified() => true,
        };
        match step(&state, &place, must_check).await {
            Ok(next) => place = next.unwrap_or(place),
            // The workers of another user may have the permission.
            Err(error @ Error::Refused(_)) => {
                if refusals.is_due(monotonic_ms()) {
                    state.log(Level::Error, format!("jobs that wait for others cannot be started: {error}"));
                }
            }
            Err(error) => return Err(error),
        }
    }
}

/// Returns where the next check continues, if this was one.
async fn step(state: &State, place: &Place, must_check: bool) -> Result<Option<Place>> {
    let (link, keys, ttl_ms) = (&state.shared.link, &state.shared.keys, state.settings.result_ttl_ms);
    while links::release(link, keys, ttl_ms, Patience::Endless).await? {}
    if !must_check {
        return Ok(None);
    }
    let (next, found) = links::relink(link, keys, place, Patience::Endless).await?;
    if !found.is_empty() {
        while links::release(link, keys, ttl_ms, Patience::Endless).await? {}
    }
    Ok(Some(next.unwrap_or_default()))
}
