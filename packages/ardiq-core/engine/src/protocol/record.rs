//! The job record: where a job is and, after it has ended, its result.

use super::pack::{Reader, Writer};

/// Kind byte of a result record.
pub const RESULT: u8 = b'R';

/// Bytes at the beginning of every record: kind and nonce.
pub const PREFIX: usize = 9;

/// The value or the failure of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The encoded return value.
    Value(Vec<u8>),
    /// What went wrong, as text for people.
    Failure(String),
}

/// The result of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultRecord {
    /// The value or the failure.
    pub outcome: Outcome,
    /// Number of tries.
    pub tries: u64,
    /// Epoch milliseconds of the enqueue.
    pub enqueued_ms: u64,
    /// Epoch milliseconds of the last start; 0 = never started.
    pub started_ms: u64,
    /// Epoch milliseconds of the end.
    pub finished_ms: u64,
    /// Job id.
    pub id: String,
    /// Name of the task.
    pub name: String,
    /// Worker that committed the result.
    pub worker: String,
    /// Whether the job was aborted.
    pub aborted: bool,
    /// Qualified name of the exception's type.
    pub error_type: Option<String>,
    /// Formatted traceback.
    pub traceback: Option<String>,
}

impl ResultRecord {
    /// Encode the record that is stored under the job's key.
    pub fn encode(&self, nonce: [u8; 8]) -> Vec<u8> {
        let mut out = Writer::with_capacity(96);
        out.0.push(RESULT);
        out.0.extend_from_slice(&nonce);
        out.array(11);
        match &self.outcome {
            Outcome::Value(value) => out.bytes(value),
            Outcome::Failure(text) => out.text(text),
        };
        out.uint(self.tries).uint(self.enqueued_ms).uint(self.started_ms).uint(self.finished_ms);
        out.text(&self.id).text(&self.name).text(&self.worker).boolean(self.aborted);
        out.optional_text(self.error_type.as_deref()).optional_text(self.traceback.as_deref());
        out.0
    }

    /// Decode a stored record.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the bytes.
    pub fn decode(record: &[u8]) -> Result<Self, String> {
        if record.first() != Some(&RESULT) || record.len() < PREFIX {
            return Err("the record is not a result".into());
        }
        let mut reader = Reader::new(&record[PREFIX..]);
        let fields = reader.array()?;
        if fields < 11 {
            return Err(format!("the result has {fields} fields, 11 expected"));
        }
        let outcome = if reader.at_text() {
            Outcome::Failure(reader.text()?.to_owned())
        } else {
            Outcome::Value(reader.bytes()?.to_vec())
        };
        Ok(Self {
            outcome,
            tries: reader.uint()?,
            enqueued_ms: reader.uint()?,
            started_ms: reader.uint()?,
            finished_ms: reader.uint()?,
            id: reader.text()?.to_owned(),
            name: reader.text()?.to_owned(),
            worker: reader.text()?.to_owned(),
            aborted: reader.boolean()?,
            error_type: reader.optional(Reader::text)?.map(str::to_owned),
            traceback: reader.optional(Reader::text)?.map(str::to_owned),
        })
    }
}

/// Where a job is, according to its record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location<'a> {
    /// In this stream, named without the queue's prefix.
    Stream(&'a str),
    /// In the due set, with its stream, and its header and envelope.
    Due(&'a str, &'a [u8]),
    /// Finished, with or without a stored result.
    Finished {
        /// Whether the record contains the result.
        stored: bool,
    },
}

impl<'a> Location<'a> {
    /// The location in a record. `None` if this version does not know the kind of record.
    pub fn of(record: &'a [u8]) -> Option<Self> {
        let rest = record.get(PREFIX..)?;
        match record[0] {
            b'q' => std::str::from_utf8(rest).ok()?.split_once(' ').map(|(_, stream)| Self::Stream(stream)),
            b'd' => {
                let (length, rest) = rest.split_first()?;
                let (stream, value) = rest.split_at_checked(usize::from(*length))?;
                Some(Self::Due(std::str::from_utf8(stream).ok()?, value))
            }
            RESULT => Some(Self::Finished { stored: true }),
            b'T' => Some(Self::Finished { stored: false }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample(outcome: Outcome) -> ResultRecord {
        ResultRecord {
            outcome,
            tries: 2,
            enqueued_ms: 1,
            started_ms: 2,
            finished_ms: 3,
            id: "a".into(),
            name: "add".into(),
            worker: "w".into(),
            aborted: false,
            error_type: Some("builtins.ValueError".into()),
            traceback: None,
        }
    }

    #[test]
    fn values_and_failures_are_told_apart() {
        for outcome in [Outcome::Value(b"x".to_vec()), Outcome::Failure("timed out after 10s".into())] {
            let record = sample(outcome);
            assert_eq!(ResultRecord::decode(&record.encode(*b"nonceABC")), Ok(record));
        }
    }

    #[test]
    fn every_kind_of_record_says_where_the_job_is() {
        assert_eq!(Location::of(b"q12345678170-0 lane:low"), Some(Location::Stream("lane:low")));
        assert_eq!(Location::of(b"d12345678\x03xyzvalue"), Some(Location::Due("xyz", b"value")));
        assert_eq!(Location::of(b"T12345678"), Some(Location::Finished { stored: false }));
        assert_eq!(Location::of(b"?12345678"), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_readers_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = Location::of(&bytes);
            let _ = ResultRecord::decode(&bytes);
        }
    }
}
