//! A schedule as Redis keeps it: who created it, whether it is paused, its revision, and its plan:
//! when it fires, and the call that each occurrence makes.

use super::keys::Nonce;
use super::pack::{Reader, Writer};

/// Bytes in front of the plan: origin, state, revision and time of the last change.
pub const PREFIX: usize = 16;

const STATIC: u8 = b's';
const DYNAMIC: u8 = b'd';
const PAUSED: u8 = b'p';
const ACTIVE: u8 = b'a';

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Schedule {
    /// Its name. It is the field of the record, and not part of it.
    pub name: String,
    /// Registered name of the task.
    pub task: String,
    /// Lane of the jobs.
    pub lane: String,
    /// Cron expression. `None` if the schedule has a period.
    pub spec: Option<String>,
    /// Period in milliseconds, aligned to the epoch; 0 if there is an expression.
    pub every_ms: u64,
    /// Time zone of the expression.
    pub zone: String,
    /// Whether to skip an occurrence while the job of the previous one is unfinished.
    pub coalesce: bool,
    /// An occurrence that is later than this many milliseconds is dropped.
    pub drift_ms: u64,
    /// A job that has not started this many milliseconds after it was fired is dropped; 0 = never.
    pub expire_ms: u64,
    /// Identity of a unique job, in hexadecimal.
    pub unique: Option<String>,
    /// Text that is passed along with each job.
    pub headers: Vec<(String, String)>,
    /// Arguments, as the client's serializer wrote them.
    pub body: Vec<u8>,
}

impl Schedule {
    /// Encode the plan.
    pub fn encode_plan(&self) -> Vec<u8> {
        let mut out = Writer::with_capacity(64 + self.task.len() + self.body.len());
        out.array(11).text(&self.task).text(&self.lane).optional_text(self.spec.as_deref()).uint(self.every_ms);
        out.text(&self.zone).boolean(self.coalesce).uint(self.drift_ms).uint(self.expire_ms);
        out.optional_text(self.unique.as_deref()).text_map(&self.headers).bytes(&self.body);
        out.0
    }

    fn decode_plan(name: &str, bytes: &[u8]) -> Result<Self, String> {
        let mut reader = Reader::new(bytes);
        let fields = reader.array()?;
        if fields < 11 {
            return Err(format!("the plan has {fields} fields, 11 expected"));
        }
        Ok(Self {
            name: name.to_owned(),
            task: reader.text()?.to_owned(),
            lane: reader.text()?.to_owned(),
            spec: reader.optional(Reader::text)?.map(str::to_owned),
            every_ms: reader.uint()?,
            zone: reader.text()?.to_owned(),
            coalesce: reader.boolean()?,
            drift_ms: reader.uint()?,
            expire_ms: reader.uint()?,
            unique: reader.optional(Reader::text)?.map(str::to_owned),
            headers: reader.text_map()?,
            body: reader.bytes()?.to_vec(),
        })
    }
}

/// A schedule with what the server knows about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The schedule.
    pub schedule: Schedule,
    /// Whether it is in the code of a worker. Otherwise, a client has created it.
    pub is_static: bool,
    /// Whether it is paused.
    pub is_paused: bool,
    /// Distinguishes it from earlier and later schedules with its name.
    pub revision: Nonce,
    /// When it was created, replaced, paused or resumed, in epoch milliseconds.
    pub changed_ms: u64,
}

impl Record {
    /// Decode a record. Fields that a later version has added at the end of the plan are ignored.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the bytes.
    pub fn decode(name: &str, bytes: &[u8]) -> Result<Self, String> {
        let Some((head, plan)) = bytes.split_at_checked(PREFIX) else { return Err("the schedule is cut short".into()) };
        let (is_static, is_paused) = match (head[0], head[1]) {
            (origin @ (STATIC | DYNAMIC), state @ (PAUSED | ACTIVE)) => (origin == STATIC, state == PAUSED),
            _ => return Err("the schedule is of a kind that this version does not know".into()),
        };
        let changed_ms = head[10..].iter().fold(0, |sum, byte| (sum << 8) | u64::from(*byte));
        let revision = head[2..10].try_into().unwrap_or_default();
        Ok(Self { schedule: Schedule::decode_plan(name, plan)?, is_static, is_paused, revision, changed_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Schedule {
        Schedule {
            name: "report".into(),
            task: "make".into(),
            lane: "low".into(),
            spec: Some("0 3 * * *".into()),
            every_ms: 0,
            zone: "Europe/Berlin".into(),
            coalesce: true,
            drift_ms: 60_000,
            expire_ms: 5,
            unique: Some("ab".into()),
            headers: vec![("trace".into(), "x".into())],
            body: vec![1, 2, 3],
        }
    }

    fn bytes(head: &[u8]) -> Vec<u8> {
        [head, b"revision", &[0, 0, 0, 0, 1, 2], &sample().encode_plan()].concat()
    }

    #[test]
    fn a_schedule_survives_the_wire() {
        for (head, is_static, is_paused) in
            [(b"da", false, false), (b"dp", false, true), (b"sa", true, false), (b"sp", true, true)]
        {
            let expected = Record { schedule: sample(), is_static, is_paused, revision: *b"revision", changed_ms: 258 };
            assert_eq!(Record::decode("report", &bytes(head)), Ok(expected));
        }
    }

    #[test]
    fn kinds_of_a_later_version_are_refused_and_their_fields_are_passed_over() {
        assert!(Record::decode("report", &bytes(b"xa")).is_err());
        assert!(Record::decode("report", &bytes(b"dx")).is_err());
        let mut longer = bytes(b"da");
        longer[PREFIX] = 0x9c;
        longer.push(0xc0);
        assert_eq!(Record::decode("report", &longer).map(|record| record.schedule), Ok(sample()));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Record::decode("x", &bytes);
        }

        #[test]
        fn a_cut_record_is_an_error(cut in 0usize..90) {
            let bytes = bytes(b"da");
            prop_assert!(Record::decode("report", &bytes[..cut.min(bytes.len() - 1)]).is_err());
        }
    }
}
