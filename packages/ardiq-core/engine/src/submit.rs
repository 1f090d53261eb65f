//! From what the caller gives to what the script takes: ids, nonces, envelopes, chunks.

use std::time::Duration;

use bytes::Bytes;

use crate::client::Answer;
use crate::error::{Error, Result};
use crate::protocol::envelope::Envelope;
use crate::scripts::deliver::GUARD_MS;
use crate::scripts::produce::{CHUNK, Chunk, NewJob};

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
    /// Encoded arguments; large ones may stay where the caller has them.
    pub body: Bytes,
}

/// Bytes after which a chunk is full, so that no call keeps the server busy for long.
const CHUNK_BYTES: usize = 4 << 20;

/// Arguments that take more bytes are kept apart. A script makes a string of its own of whatever passes through it, and
/// computes its hash byte by byte: from here on that costs more than a key.
pub const LARGE_BODY: usize = 4096;

impl Submission {
    /// Roughly how many bytes are to be sent for it.
    fn size(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.body.len() + headers + 128
    }

    fn is_large(&self) -> bool {
        self.body.len() > LARGE_BODY
    }

    /// Would its body have the key of another one's? Those of a call differ by the job's id.
    fn collides(&self, chunk: &Chunk) -> bool {
        self.is_large() && self.id.as_ref().is_some_and(|id| chunk.jobs.iter().any(|other| other.id == *id))
    }
}

/// How late a repeated call may arrive, beyond the time for which it is tried.
const MARGIN: Duration = Duration::from_secs(10);

/// The `repeat` field for a producer that tries for `patience`: 0 unless it exceeds the default.
fn repeat_ms(patience: Duration) -> u64 {
    let repeat_ms = u64::try_from((patience.saturating_add(MARGIN)).as_millis()).unwrap_or(u64::MAX);
    if repeat_ms > GUARD_MS { repeat_ms } else { 0 }
}

/// Make chunks that are enqueued atomically, each; `patience` is how long the caller repeats a call whose answer is lost.
///
/// # Errors
/// When the operating system gives no random numbers.
pub fn prepare(jobs: Vec<Submission>, patience: Duration) -> Result<Vec<Chunk>> {
    let repeat_ms = repeat_ms(patience);
    let count = jobs.len();
    let mut random = vec![0; count * 16];
    fill(&mut random)?;
    let mut chunks: Vec<Chunk> = Vec::with_capacity(count / CHUNK + 1);
    let mut room = 0;
    for (position, (job, random)) in jobs.into_iter().zip(random.chunks_exact(16)).enumerate() {
        let size = job.size();
        if chunks.last().is_none_or(|chunk| chunk.jobs.len() == CHUNK || size > room || job.collides(chunk)) {
            let mut nonce = [0; 8];
            fill(&mut nonce)?;
            chunks.push(Chunk { nonce, jobs: Vec::with_capacity(CHUNK.min(count - position)) });
            room = CHUNK_BYTES;
        }
        room = room.saturating_sub(size);
        if let Some(chunk) = chunks.last_mut() {
            chunk.jobs.push(new_job(job, random, chunk.nonce, repeat_ms));
        }
    }
    Ok(chunks)
}

fn fill(random: &mut [u8]) -> Result<()> {
    getrandom::fill(random).map_err(|error| Error::Invalid(format!("no random numbers: {error}")))
}

fn new_job(job: Submission, random: &[u8], nonce: [u8; 8], repeat_ms: u64) -> NewJob {
    let unique = job.unique.as_deref().map(hex);
    let (inside, body) = if job.is_large() { (Vec::new(), job.body) } else { (job.body.into(), Bytes::new()) };
    let envelope = Envelope {
        nonce,
        name: job.name,
        body: inside,
        expire_ms: job.expire_ms,
        unique: unique.clone(),
        headers: job.headers,
        repeat_ms,
    };
    NewJob {
        is_new: job.id.is_none(),
        id: job.id.unwrap_or_else(|| hex(random)),
        lane: job.lane,
        delay_ms: job.delay_ms,
        due_ms: job.due_ms,
        unique,
        envelope: envelope.encode(),
        body,
    }
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

/// The answer to an enqueue whose chunks, of so many jobs each, were accepted or not. The last chunks may not have been sent.
pub fn answer(accepted: Vec<Result<Vec<String>>>, lengths: &[usize]) -> Result<Answer> {
    let Some(fault) = accepted.iter().find_map(|of_chunk| of_chunk.as_ref().err().cloned()) else {
        let mut ids = Vec::with_capacity(lengths.iter().sum());
        accepted.into_iter().flatten().for_each(|mut of_chunk| ids.append(&mut of_chunk));
        return Ok(Answer::Ids(ids));
    };
    if accepted.iter().all(Result::is_err) {
        return Err(fault);
    }
    let mut chunks = accepted.into_iter();
    let mut ids = Vec::with_capacity(lengths.iter().sum());
    for length in lengths {
        match chunks.next() {
            Some(Ok(of_chunk)) => ids.extend(of_chunk.into_iter().map(Ok)),
            Some(Err(error)) => ids.extend(std::iter::repeat_n(Err(error), *length)),
            None => ids.extend(std::iter::repeat_n(Err(fault.clone()), *length)),
        }
    }
    Ok(Answer::SomeIds(ids))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    fn job(body: usize) -> Submission {
        Submission { name: "t".into(), body: vec![0; body].into(), ..Submission::default() }
    }

    #[test]
    fn chunks_are_bounded_in_number_and_bytes() {
        let sizes = |jobs: Vec<Submission>| {
            prepare(jobs, PATIENCE).map(|chunks| chunks.iter().map(|chunk| chunk.jobs.len()).collect::<Vec<_>>()).ok()
        };
        assert_eq!(sizes(vec![job(10); 600]), Some(vec![250, 250, 100]));
        assert_eq!(sizes(vec![job(1 << 20); 7]), Some(vec![3, 3, 1]));
        assert_eq!(sizes(Vec::new()), Some(Vec::new()));
    }

    #[test]
    fn a_large_body_stands_apart_and_no_two_of_a_chunk_have_one_key() {
        let of = |id: &str, body: usize| Submission { id: Some(id.into()), ..job(body) };
        let jobs = vec![of("a", LARGE_BODY), of("a", LARGE_BODY + 1), of("b", 1 << 16), of("a", 1 << 16)];
        let Ok(chunks) = prepare(jobs, PATIENCE) else { unreachable!("the machine has an entropy source") };
        let sizes: Vec<Vec<usize>> =
            chunks.iter().map(|chunk| chunk.jobs.iter().map(|job| job.body.len()).collect()).collect();
        assert_eq!(sizes, [vec![0], vec![LARGE_BODY + 1, 1 << 16], vec![1 << 16]]);
        assert!(chunks[1].jobs[0].envelope.len() < 100 && chunks[0].jobs[0].envelope.len() > LARGE_BODY);
    }

    #[test]
    fn only_a_patient_producer_says_for_how_long_it_repeats_a_call() {
        let said = |seconds| {
            let chunks = prepare(vec![job(1)], Duration::from_secs(seconds)).unwrap_or_default();
            Envelope::decode(&chunks[0].jobs[0].envelope).map(|envelope| envelope.repeat_ms)
        };
        assert_eq!((said(5), said(20), said(60)), (Ok(0), Ok(0), Ok(70_000)));
    }

    #[test]
    fn ids_are_32_hexadecimal_digits_and_differ_and_each_chunk_has_its_nonce() {
        let Ok(chunks) = prepare(vec![job(1); CHUNK + 1], PATIENCE) else {
            unreachable!("the machine has an entropy source")
        };
        let [first, second] = &chunks[..] else { panic!("{} chunks", chunks.len()) };
        let (a, b) = (&first.jobs[0], &first.jobs[1]);
        assert!(a.id.len() == 32 && a.id.bytes().all(|digit| digit.is_ascii_hexdigit()));
        assert_ne!(a.id, b.id);
        assert_ne!(first.nonce, second.nonce);
        assert_eq!(a.envelope[1..9], first.nonce);
        assert_eq!(b.envelope[1..9], first.nonce);
        assert_eq!(second.jobs[0].envelope[1..9], second.nonce);
    }
}
