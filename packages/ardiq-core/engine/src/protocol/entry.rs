//! The header in front of an envelope, in stream entries and in records of scheduled jobs.

/// Length of the header in bytes.
pub const HEADER: usize = 13;

/// Flag: the job was taken over from a dead worker, so its next start is recorded before it runs.
pub const SUSPECT: u8 = 1;

/// Flag: the body is stored separately, under its own key, see `Keys::body`.
pub const SEPARATE_BODY: u8 = 2;

/// Flag: no other suspect ran in the last process that died.
pub const ALONE: u8 = 4;

/// Flag: the job has inputs, which are stored separately, see `Keys::inputs`.
pub const INPUTS: u8 = 8;

/// Flag: the job waits for others.
pub const WAITS: u8 = 32;

/// Flag: an earlier run may have left notes: progress or a checkpoint, see `Keys::notes`.
pub const NOTES: u8 = 16;

/// The part of a job that scripts and workers change. The call itself never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Header {
    /// Number of attempts counted so far.
    pub tries: u32,
    /// Number of worker processes that died while they ran the job.
    pub deaths: u8,
    /// Number of deliveries in a row to workers that did not know the task or could not read the
    /// arguments.
    pub misses: u8,
    /// See [`SUSPECT`], [`SEPARATE_BODY`], [`ALONE`], [`INPUTS`], [`NOTES`] and [`WAITS`].
    pub flags: u8,
    /// Time of the enqueue in epoch milliseconds, of which 48 bits are stored.
    pub enqueued_ms: u64,
}

impl Header {
    /// The header in its 13 bytes. The upper half of the tries uses bytes of the time that would be
    /// zero until the year 10889. So a header with fewer than 65,536 tries is the same as in the
    /// time when tries had 16 bits.
    pub fn encode(&self) -> [u8; HEADER] {
        let [high, upper, low, lower] = self.tries.to_be_bytes();
        let [_, _, enqueued @ ..] = self.enqueued_ms.to_be_bytes();
        let mut out = [0; HEADER];
        out[..5].copy_from_slice(&[low, lower, self.deaths, self.misses, self.flags]);
        out[5..7].copy_from_slice(&[high, upper]);
        out[7..].copy_from_slice(&enqueued);
        out
    }

    /// Split a header from the bytes that follow it: the job id in the label of an entry, or an
    /// envelope.
    pub fn split(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (head, rest) = bytes.split_at_checked(HEADER)?;
        Some((
            Self {
                tries: u32::from_be_bytes([head[5], head[6], head[0], head[1]]),
                deaths: head[2],
                misses: head[3],
                flags: head[4],
                enqueued_ms: head[7..].iter().fold(0, |ms, byte| ms << 8 | u64::from(*byte)),
            },
            rest,
        ))
    }

    /// Whether the next start must be recorded before the job runs.
    pub fn is_suspect(&self) -> bool {
        self.flags & SUSPECT != 0
    }

    /// Whether the body is stored separately.
    pub fn has_separate_body(&self) -> bool {
        self.flags & SEPARATE_BODY != 0
    }

    /// Whether it has inputs: outputs of other jobs.
    pub fn has_inputs(&self) -> bool {
        self.flags & INPUTS != 0
    }

    /// Whether it waits for other jobs.
    pub fn waits(&self) -> bool {
        self.flags & WAITS != 0
    }

    /// Whether the job may have notes.
    pub fn has_notes(&self) -> bool {
        self.flags & NOTES != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_survives_the_wire() {
        let header = Header { tries: 300, deaths: 2, misses: 7, flags: SUSPECT, enqueued_ms: 1_700_000_000_123 };
        let value = [&header.encode()[..], b"call"].concat();
        assert_eq!(Header::split(&value), Some((header, &b"call"[..])));
        assert_eq!(Header::split(&value[..12]), None);
    }

    #[test]
    fn tries_beyond_16_bits_survive_and_few_tries_look_as_ever() {
        let header = Header { tries: 1_000_001, enqueued_ms: 1_700_000_000_123, ..Header::default() };
        assert_eq!(Header::split(&header.encode()), Some((header, &b""[..])));
        let few = Header { tries: 65_535, ..header }.encode();
        assert_eq!(few[..2], 65_535u16.to_be_bytes());
        assert_eq!(few[5..], header.enqueued_ms.to_be_bytes());
    }
}
