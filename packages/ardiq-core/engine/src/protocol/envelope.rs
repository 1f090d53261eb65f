//! The call, as the producer writes it: version byte, nonce, then msgpack. It never changes.

use super::pack::{Reader, Writer};

/// The version that this code writes. A worker moves a job with a higher version to the dead
/// letters.
pub const VERSION: u8 = 1;

/// Bytes before the msgpack part: version and nonce.
pub const PREFIX: usize = 9;

/// A call.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Envelope {
    /// Distinguishes a repeated enqueue from a new enqueue with the same job id.
    pub nonce: [u8; 8],
    /// Registered name of the task.
    pub name: String,
    /// Arguments, as the client's serializer wrote them.
    pub body: Vec<u8>,
    /// A job that has not started this many milliseconds after its enqueue is dropped; 0 = never.
    pub expire_ms: u64,
    /// Identity of a unique job, in hexadecimal.
    pub unique: Option<String>,
    /// Text that is passed along with the job.
    pub headers: Vec<(String, String)>,
    /// Milliseconds for which the enqueue may be repeated, if longer than the default; 0 = the
    /// default.
    pub repeat_ms: u64,
    /// Whether it was enqueued together with jobs that depend on each other. A space in front of
    /// the name says so: workers of earlier versions have no such task, and leave the job alone.
    pub is_linked: bool,
}

/// In front of the name of a job that was enqueued together with others.
const LINKED: char = ' ';

impl Envelope {
    /// Encode the call.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::with_capacity(PREFIX + 24 + self.name.len() + self.body.len());
        out.0.push(VERSION);
        out.0.extend_from_slice(&self.nonce);
        out.array(if self.repeat_ms > 0 { 6 } else { 5 });
        if self.is_linked {
            out.text(&format!("{LINKED}{}", self.name))
        } else {
            out.text(&self.name)
        };
        out.bytes(&self.body).uint(self.expire_ms);
        out.optional_text(self.unique.as_deref()).text_map(&self.headers);
        if self.repeat_ms > 0 {
            out.uint(self.repeat_ms);
        }
        out.0
    }

    /// Decode a call. Fields that a later version has added at the end of the array are ignored.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let version = *bytes.first().ok_or("the envelope is empty")?;
        if version != VERSION {
            return Err(format!(
                "the envelope has version {version}, but this worker reads version {VERSION}: upgrade the workers \
                 before the producers"
            ));
        }
        let nonce = bytes.get(1..PREFIX).and_then(|part| part.try_into().ok()).ok_or("the envelope is cut short")?;
        let mut reader = Reader::new(&bytes[PREFIX..]);
        let fields = reader.array()?;
        if fields < 5 {
            return Err(format!("the envelope has {fields} fields, 5 expected"));
        }
        let name = reader.text()?;
        Ok(Self {
            nonce,
            name: name.strip_prefix(LINKED).unwrap_or(name).to_owned(),
            is_linked: name.starts_with(LINKED),
            body: reader.bytes()?.to_vec(),
            expire_ms: reader.uint()?,
            unique: reader.optional(Reader::text)?.map(str::to_owned),
            headers: reader.text_map()?,
            repeat_ms: if fields > 5 { reader.uint()? } else { 0 },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Envelope {
        Envelope {
            nonce: *b"12345678",
            name: "add".into(),
            body: vec![1, 2, 3],
            expire_ms: 5,
            unique: Some("ab".into()),
            headers: vec![("trace".into(), "x".into())],
            repeat_ms: 70_000,
            is_linked: false,
        }
    }

    #[test]
    fn a_call_survives_the_wire() {
        assert_eq!(Envelope::decode(&sample().encode()), Ok(sample()));
    }

    #[test]
    fn a_name_that_no_task_has_marks_a_linked_call() {
        let call = Envelope { is_linked: true, ..sample() };
        assert_eq!(Envelope::decode(&call.encode()), Ok(call.clone()));
        assert!(call.encode().windows(4).any(|part| part == b" add"));
    }

    #[test]
    fn most_calls_do_without_the_last_field() {
        let call = Envelope { repeat_ms: 0, ..sample() };
        let bytes = call.encode();
        assert_eq!(bytes[PREFIX], 0x95);
        assert_eq!(Envelope::decode(&bytes), Ok(call));
    }

    #[test]
    fn a_newer_version_is_refused_with_advice() {
        let mut bytes = sample().encode();
        bytes[0] = VERSION + 1;
        assert!(Envelope::decode(&bytes).is_err_and(|reason| reason.contains("upgrade the workers")));
    }

    #[test]
    fn fields_added_later_are_passed_over() {
        let mut bytes = sample().encode();
        bytes[PREFIX] = 0x97;
        bytes.push(0xc0);
        assert_eq!(Envelope::decode(&bytes), Ok(sample()));
    }

    #[test]
    fn a_length_beyond_the_data_is_refused_before_allocation() {
        let bomb = [&[VERSION, 0, 0, 0, 0, 0, 0, 0, 0, 0x95, 0xdb, 0xff, 0xff, 0xff, 0xff][..], b"x"].concat();
        assert!(Envelope::decode(&bomb).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Envelope::decode(&bytes);
        }

        #[test]
        fn a_cut_envelope_is_an_error(cut in 0usize..35) {
            let bytes = sample().encode();
            prop_assert!(Envelope::decode(&bytes[..cut.min(bytes.len() - 1)]).is_err());
        }
    }
}
