//! A delivered job, decoded.

use crate::protocol::entry::Header;
use crate::protocol::envelope::Envelope;
use crate::protocol::notes::Progress;
use crate::scripts::bodies::Inputs;
use crate::scripts::deliver::Entry;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Job {
    /// Position of its stream in `Keys::streams`.
    pub stream: usize,
    /// Entry id: the fence of this delivery.
    pub entry: String,
    /// Job id.
    pub id: String,
    /// The part that the protocol changes.
    pub header: Header,
    /// The call.
    pub envelope: Envelope,
    /// Whether its start may be recorded: it was read back, or it is a suspect that did not begin.
    pub is_again: bool,
    /// Redis time at which it came to this worker.
    pub received_ms: u64,
    /// What earlier runs have left, and what this one reports.
    pub notes: Option<Box<Notes>>,
    /// Outputs of other jobs, if it has any.
    pub inputs: Option<Inputs>,
}

/// The notes of a job, as its worker knows them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Notes {
    /// The last checkpoint, encoded.
    pub checkpoint: Option<Vec<u8>>,
    /// The last progress, if it has not been sent yet.
    pub unsent: Option<Progress>,
    /// Progress that is being sent. The run may end before it has arrived.
    pub in_flight: Option<Progress>,
}

impl Job {
    /// The nonce of its enqueue, if its body is stored separately.
    pub fn separate_body(&self) -> Option<[u8; 8]> {
        self.header.has_separate_body().then_some(self.envelope.nonce)
    }

    /// Whether something must be read before it can start: its body, its inputs or its notes.
    pub fn is_incomplete(&self) -> bool {
        self.header.has_separate_body() || self.header.has_inputs() || self.header.has_notes()
    }

    /// Whether it has reported progress that has not been sent.
    pub fn has_unsent_progress(&self) -> bool {
        self.notes.as_ref().is_some_and(|notes| notes.unsent.is_some())
    }

    /// Take the progress that may not have arrived.
    pub fn take_progress(&mut self) -> Option<Progress> {
        let notes = self.notes.as_mut()?;
        let in_flight = notes.in_flight.take();
        notes.unsent.take().or(in_flight)
    }

    /// Its notes. There are none yet if it has reported nothing.
    pub fn notes_mut(&mut self) -> &mut Notes {
        self.notes.get_or_insert_default()
    }
}

/// What of a job is stored separately: `None` if it has no such part, `Some(None)` if it is
/// missing.
#[derive(Debug, Clone, Default)]
pub struct Parts {
    /// The arguments.
    pub body: Option<Option<Vec<u8>>>,
    /// The outputs of other jobs.
    pub inputs: Option<Option<Inputs>>,
    /// The last checkpoint of earlier runs, if there is one.
    pub checkpoint: Option<Vec<u8>>,
}

/// A job as it arrived. If the job cannot be decoded, the call is empty.
#[derive(Debug, Clone, Default)]
pub struct Delivery {
    /// The job.
    pub job: Job,
    /// Why it cannot be decoded, if so.
    pub fault: Option<String>,
}

impl Delivery {
    /// Decode an entry.
    pub fn read(entry: Entry) -> Self {
        let Entry { stream, entry, id, header, envelope } = entry;
        let mut job = Job { stream, entry, id, ..Job::default() };
        let Some(header) = header else {
            return Self { job, fault: Some("the entry's label is cut short".into()) };
        };
        job.header = header;
        let fault = match Envelope::decode(&envelope) {
            Ok(envelope) => {
                job.envelope = envelope;
                None
            }
            Err(reason) => {
                // The nonce comes before everything that a version may change.
                if let Some(nonce) = envelope.get(1..9).and_then(|nonce| nonce.try_into().ok()) {
                    job.envelope.nonce = nonce;
                }
                Some(reason)
            }
        };
        Self { job, fault }
    }

    /// What is stored separately has been read, or is missing.
    pub fn set_parts(&mut self, parts: Parts) {
        match parts.body {
            Some(Some(body)) => self.job.envelope.body = body,
            Some(None) => self.fault = Some("its arguments are missing from Redis".into()),
            None => {}
        }
        match parts.inputs {
            Some(Some(inputs)) => self.job.inputs = Some(inputs),
            Some(None) => self.fault = Some("the outputs of its parents are missing from Redis".into()),
            None => {}
        }
        if let Some(checkpoint) = parts.checkpoint {
            self.job.notes_mut().checkpoint = Some(checkpoint);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_keeps_its_identity() {
        let header = Some(Header { tries: 4, ..Header::default() });
        let mut entry =
            Entry { stream: 1, entry: "1-0".into(), id: "a".into(), header, envelope: b"\x63nonceABCrest".to_vec() };
        let Delivery { job, fault: reason } = Delivery::read(entry.clone());
        assert_eq!((job.id.as_str(), job.header.tries, &job.envelope.nonce), ("a", 4, b"nonceABC"));
        assert!(reason.is_some_and(|reason| reason.contains("version 99")));
        entry.header = None;
        assert!(Delivery::read(entry).fault.is_some_and(|reason| reason.contains("cut short")));
    }
}
