//! The header that the protocol keeps in front of an envelope, in stream entries and records of scheduled jobs.

/// Length of the header in bytes.
pub const HEADER: usize = 13;

/// Flag: taken over from a dead worker, so its next start is recorded before it happens.
pub const SUSPECT: u8 = 1;

/// Flag: the arguments are not in the envelope but under a key of their own, see `Keys::body`.
pub const APART: u8 = 2;

/// Flag: when its process last died, no other suspect ran beside it.
pub const ALONE: u8 = 4;

/// What the protocol knows of a job besides the call itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Header {
    /// Starts that are spent.
    pub tries: u32,
    /// Worker deaths while it ran.
    pub deaths: u8,
    /// Deliveries to workers that did not know the task.
    pub misses: u8,
    /// See [`SUSPECT`], [`APART`] and [`ALONE`].
    pub flags: u8,
    /// Epoch milliseconds of the enqueue; 48 bits of it are kept.
    pub enqueued_ms: u64,
}

impl Header {
    /// The header in its 13 bytes. The upper half of the tries stands where the time would have zeros until the year 10889, so a
    /// job below 65,536 tries looks as it did when tries had 16 bits.
    pub fn encode(&self) -> [u8; HEADER] {
        let [high, upper, low, lower] = self.tries.to_be_bytes();
        let [_, _, enqueued @ ..] = self.enqueued_ms.to_be_bytes();
        let mut out = [0; HEADER];
        out[..5].copy_from_slice(&[low, lower, self.deaths, self.misses, self.flags]);
        out[5..7].copy_from_slice(&[high, upper]);
        out[7..].copy_from_slice(&enqueued);
        out
    }

    /// Take a header off what it stands in front of: the job id of an entry's label, or an envelope.
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

    /// Must the next start be recorded before it happens?
    pub fn is_suspect(&self) -> bool {
        self.flags & SUSPECT != 0
    }

    /// Are the arguments kept under a key of their own?
    pub fn is_apart(&self) -> bool {
        self.flags & APART != 0
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
