//! Decides whether a large value is the reason why the connections that carry it break.

use super::{Link, Route, Session};
use crate::error::Error;
use crate::refusal::Refusal;

/// If this many connections in a row break while they carry a large value, and other calls work,
/// the value is the reason.
const MOST: usize = 8;

/// After this many of them, the value gets a connection of its own for each try: others on the
/// shared one may be the reason.
const SHARED: usize = 4;

/// The connections that broke while they carried one call.
#[derive(Default)]
pub(super) struct Cuts {
    count: usize,
    /// The main connection at the time of the first one.
    main: u64,
}

impl Cuts {
    pub fn add(&mut self, session: &Session) {
        if self.count == 0 {
            self.main = session.number;
        }
        self.count += 1;
    }

    /// The route of the next try.
    pub fn route(&self, route: Route) -> Route {
        if route == Route::Large && self.count >= SHARED { Route::Alone } else { route }
    }
}

impl Link {
    /// The error for a large value after too many cuts.
    pub(super) async fn verdict(&self, cuts: &Cuts, session: &Session, reason: &str) -> Option<Error> {
        if cuts.count < MOST {
            return None;
        }
        // If the main connection was cut too, or does not answer, the value may not be the reason.
        let others_work = session.number == cuts.main && session.wire.is_alive().await;
        let code = if others_work { "BROKEN" } else { "CUT" };
        let text = format!("each of {} connections that carried this value was cut: {reason}", cuts.count);
        Some(Error::Refused(Refusal { code: code.into(), text }))
    }
}
