//! Outcomes that the server has not accepted so far, and when one of them is given up (no I/O). An
//! error reply does not show whether an outcome is at fault, because a proxy may send any error for
//! a while. Nor does it show that the outcome was not written.

use std::collections::HashMap;

use crate::error::Error;
use crate::scripts::deliver::Settlement;

/// An outcome is given up when it has failed this many times, each time in the same way, and each
/// time while another outcome would have been accepted.
const MOST_FAILURES: usize = 6;

/// The same for an outcome whose connections are cut: the link has tried several in each failure.
const MOST_CUTS: usize = 2;

#[derive(Debug, Default)]
struct Doubt {
    /// The error, without what differs from try to try.
    way: String,
    failures: usize,
}

/// See the module. Outcomes are known by their stream and entry id.
#[derive(Debug, Default)]
pub(super) struct Doubts(HashMap<(usize, String), Doubt>);

fn key(one: &Settlement) -> (usize, String) {
    (one.stream, one.entry.clone())
}

impl Doubts {
    /// A call with these outcomes ended with an error.
    pub fn tried(&mut self, batch: &[Settlement]) {
        for one in batch {
            self.0.entry(key(one)).or_default();
        }
    }

    /// A call with this outcome alone ended with an error, and another outcome would have been
    /// accepted. Returns whether to give this one up.
    pub fn failed_alone(&mut self, one: &Settlement, error: &Error) -> bool {
        let (way, most) = match error.is_broken() {
            true => (String::new(), MOST_CUTS),
            false => (error.to_string(), MOST_FAILURES),
        };
        let doubt = self.0.entry(key(one)).or_default();
        if doubt.way != way {
            *doubt = Doubt { way, failures: 0 };
        }
        doubt.failures += 1;
        let is_hopeless = doubt.failures >= most;
        if is_hopeless {
            doubt.failures = 0;
        }
        is_hopeless
    }

    /// Whether this outcome has failed alone, so that it must not be sent together with others.
    pub fn includes(&self, one: &Settlement) -> bool {
        self.0.get(&key(one)).is_some_and(|doubt| doubt.failures > 0)
    }

    /// The server has decided about this outcome. Returns whether an earlier call with it had ended
    /// with an error: that call may have written it.
    pub fn end(&mut self, one: &Settlement) -> bool {
        // Most of the time, all outcomes are accepted at once.
        !self.0.is_empty() && self.0.remove(&key(one)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::Refusal;
    use crate::scripts::deliver::{GUARD_MS, Verdict};

    fn outcome(entry: &str) -> Settlement {
        Settlement {
            has_inputs: false,
            stream: 0,
            entry: entry.into(),
            id: "a".into(),
            nonce: [0; 8],
            recorded: false,
            is_lost: false,
            unique: None,
            separate_body: None,
            has_notes: false,
            guard_ms: GUARD_MS,
            verdict: Verdict::Done(Vec::new(), 0),
        }
    }

    fn error(code: &str, text: &str) -> Error {
        Error::Refused(Refusal { code: code.into(), text: text.into() })
    }

    #[test]
    fn an_outcome_is_given_up_after_it_has_failed_often_in_the_same_way() {
        let (mut doubts, one, other) = (Doubts::default(), outcome("1-0"), outcome("2-0"));
        let large = error("ERR", "string exceeds maximum allowed size");
        for _ in 1..MOST_FAILURES {
            assert!(!doubts.failed_alone(&one, &large));
            assert!(!doubts.failed_alone(&other, &large));
        }
        assert!(!doubts.failed_alone(&other, &error("ERR", "index out of range")), "this is another error");
        assert!(doubts.failed_alone(&one, &large));
    }

    #[test]
    fn cut_connections_count_as_the_same_error_whatever_the_system_says() {
        let (mut doubts, one) = (Doubts::default(), outcome("1-0"));
        let texts = ["reset by peer", "broken pipe"];
        let given_up: Vec<bool> = texts.iter().map(|text| doubts.failed_alone(&one, &error("BROKEN", text))).collect();
        assert_eq!(given_up, [false, true]);
    }

    #[test]
    fn an_outcome_is_known_from_its_first_error_to_its_end() {
        let (mut doubts, one, other) = (Doubts::default(), outcome("1-0"), outcome("2-0"));
        doubts.tried(std::slice::from_ref(&one));
        assert!(!doubts.includes(&one), "the whole call may be at fault");
        doubts.failed_alone(&one, &Error::Protocol("+OK".into()));
        assert!(doubts.includes(&one) && !doubts.includes(&other));
        assert!(!doubts.end(&other));
        assert!(doubts.end(&one));
        assert!(!doubts.includes(&one) && !doubts.end(&one));
    }
}
