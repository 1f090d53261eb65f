//! From what the caller gives to what the script takes: ids, nonces, envelopes, chunks.

use crate::error::{Error, Result};
use crate::protocol::envelope::Envelope;
use crate::scripts::produce::{CHUNK, NewJob};

/// A job as the caller gives it.
#[derive(Debug, Clone, Default)]
pub struct Submission {
    /// Job id; made here when missing.
    pub id: Option<String>,
    /// Task name.
    pub name: String,
    /// Position of the lane, lowest first.
    pub lane: usize,
    /// Milliseconds to wait; 0 = none.
    pub delay_ms: u64,
    /// Epoch milliseconds when due; 0 = not given.
    pub due_ms: u64,
    /// Milliseconds from enqueue to start; 0 = no limit.
    pub expire_ms: u64,
    /// Identity of a unique job.
    pub unique: Option<Vec<u8>>,
    /// Text that travels along.
    pub headers: Vec<(String, String)>,
    /// Encoded arguments.
    pub body: Vec<u8>,
}

/// Bytes after which a chunk is full, so that no call keeps the server busy for long.
const CHUNK_BYTES: usize = 4 << 20;

/// Make chunks that are enqueued atomically, each.
///
/// # Errors
/// When the operating system gives no random numbers.
pub fn prepare(jobs: Vec<Submission>) -> Result<Vec<Vec<NewJob>>> {
    let mut random = vec![0; jobs.len() * 24];
    getrandom::fill(&mut random).map_err(|error| Error::Invalid(format!("no random numbers: {error}")))?;
    let mut chunks = Vec::with_capacity(jobs.len() / CHUNK + 1);
    let mut chunk = Vec::with_capacity(jobs.len().min(CHUNK));
    let mut bytes = 0;
    for (job, random) in jobs.into_iter().zip(random.chunks_exact(24)) {
        let (id, nonce) = random.split_at(16);
        let mut own = [0; 8];
        own.copy_from_slice(nonce);
        let unique = job.unique.as_deref().map(hex);
        let envelope = Envelope {
            nonce: own,
            name: job.name,
            body: job.body,
            expire_ms: job.expire_ms,
            unique: unique.clone(),
            headers: job.headers,
        };
        let job = NewJob {
            id: job.id.unwrap_or_else(|| hex(id)),
            lane: job.lane,
            delay_ms: job.delay_ms,
            due_ms: job.due_ms,
            unique,
            envelope: envelope.encode(),
        };
        if chunk.len() == CHUNK || (bytes + job.envelope.len() > CHUNK_BYTES && !chunk.is_empty()) {
            chunks.push(std::mem::take(&mut chunk));
            bytes = 0;
        }
        bytes += job.envelope.len();
        chunk.push(job);
    }
    if !chunk.is_empty() {
        chunks.push(chunk);
    }
    Ok(chunks)
}

/// 32 random hexadecimal digits.
pub fn random_hex() -> String {
    let mut bytes = [0; 16];
    // Without an entropy source the address of a fresh allocation and the clock still tell processes apart.
    if getrandom::fill(&mut bytes).is_err() {
        let seed = (std::process::id(), crate::clock::monotonic_ms());
        bytes[..4].copy_from_slice(&seed.0.to_be_bytes());
        bytes[8..].copy_from_slice(&seed.1.to_be_bytes());
    }
    hex(&bytes)
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(body: usize) -> Submission {
        Submission { name: "t".into(), body: vec![0; body], ..Submission::default() }
    }

    #[test]
    fn chunks_are_bounded_in_number_and_bytes() {
        let sizes =
            |jobs: Vec<Submission>| prepare(jobs).map(|chunks| chunks.iter().map(Vec::len).collect::<Vec<_>>()).ok();
        assert_eq!(sizes(vec![job(10); 2500]), Some(vec![1000, 1000, 500]));
        assert_eq!(sizes(vec![job(1 << 20); 7]), Some(vec![3, 3, 1]));
        assert_eq!(sizes(Vec::new()), Some(Vec::new()));
    }

    #[test]
    fn ids_are_32_hexadecimal_digits_and_differ() {
        let Ok(chunks) = prepare(vec![job(1); 2]) else { unreachable!("the machine has an entropy source") };
        let (first, second) = (&chunks[0][0], &chunks[0][1]);
        assert!(first.id.len() == 32 && first.id.bytes().all(|digit| digit.is_ascii_hexdigit()));
        assert_ne!(first.id, second.id);
        assert_ne!(first.envelope[1..9], second.envelope[1..9]);
    }
}
