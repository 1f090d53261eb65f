//! Enqueues jobs: creates their ids, nonces and envelopes, and sends them in chunks.

use std::future::ready;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{StreamExt, iter};

use crate::answer::Answer;
use crate::error::{Error, Result};
use crate::link::Patience;
use crate::protocol::envelope::Envelope;
use crate::protocol::keys::Nonce;
use crate::scripts::deliver::GUARD_MS;
use crate::scripts::produce::{self, CHUNK, Chunk, NewJob};
use crate::shared::Shared;

/// A job to enqueue.
#[derive(Debug, Clone, Default)]
pub struct Submission {
    /// Job id. If `None`, a new id is generated.
    pub id: Option<String>,
    /// Task name.
    pub name: String,
    /// Position of the lane, lowest first.
    pub lane: usize,
    /// Delay in milliseconds; 0 = none.
    pub delay_ms: u64,
    /// Due time in epoch milliseconds; 0 = none.
    pub due_ms: u64,
    /// The longest time between enqueue and start in milliseconds; 0 = no limit.
    pub expire_ms: u64,
    /// The digest that identifies a unique job.
    pub unique: Option<Vec<u8>>,
    /// Text that is passed along with the job.
    pub headers: Vec<(String, String)>,
    /// Encoded arguments. Large ones may refer to the caller's memory.
    pub body: Bytes,
}

/// A chunk is full after this many bytes, so that no call keeps the server busy for long.
pub(crate) const CHUNK_BYTES: usize = 4 << 20;

/// Bodies that take more bytes are stored separately. Redis copies every argument of a script into
/// a Lua string and hashes it byte by byte. Above this size, that costs more than a key.
pub const LARGE_BODY: usize = 4096;

impl Submission {
    /// Roughly how many bytes it takes to send it.
    pub(crate) fn size(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.body.len() + headers + 128
    }

    fn is_large(&self) -> bool {
        self.body.len() > LARGE_BODY
    }

    /// Whether its body would have the same key as another body of the chunk: within a call, only
    /// the job id differs.
    fn collides(&self, chunk: &Chunk) -> bool {
        self.is_large() && self.id.as_ref().is_some_and(|id| chunk.jobs.iter().any(|other| other.id == *id))
    }
}

/// How late the last try of a call may arrive after the producer has given up.
const MARGIN: Duration = Duration::from_secs(10);

/// The `repeat` field for a producer that retries for `patience`. It is 0 unless it exceeds the
/// default.
pub(crate) fn repeat_ms(patience: Duration) -> u64 {
    let repeat_ms = u64::try_from((patience.saturating_add(MARGIN)).as_millis()).unwrap_or(u64::MAX);
    if repeat_ms > GUARD_MS { repeat_ms } else { 0 }
}

/// Chunks that are in flight at the same time: together a thousand jobs.
const CHUNKS_IN_FLIGHT: usize = 4;

/// Enqueue jobs. The answer is [`Answer::Ids`], or [`Answer::SomeIds`] if only some jobs were
/// accepted.
///
/// # Errors
/// If no job was accepted.
pub async fn enqueue(shared: &Shared, jobs: Vec<Submission>) -> Result<Answer> {
    let chunks = prepare(jobs, shared.link.connect_limit())?;
    let lengths: Vec<usize> = chunks.iter().map(|chunk| chunk.jobs.len()).collect();
    let has_failed = AtomicBool::new(false);
    // Chunks in flight share a round trip. After a failure, await the chunks in flight and send no
    // more.
    let accepted = iter(chunks)
        .take_while(|_| ready(!has_failed.load(Ordering::Relaxed)))
        .map(|chunk| send(shared, chunk))
        .buffered(CHUNKS_IN_FLIGHT)
        .inspect(|of_chunk| {
            has_failed.fetch_or(of_chunk.is_err(), Ordering::Relaxed);
        })
        .collect()
        .await;
    answer(accepted, &lengths)
}

/// Enqueue a chunk. Returns the ids of its jobs, or of the existing jobs that hold their
/// identities.
async fn send(shared: &Shared, chunk: Chunk) -> Result<Vec<String>> {
    // Each chunk has its own limit: with many chunks on a slow line, the server is still reachable.
    let patience = Patience::for_upload(shared.link.connect_limit());
    let existing = produce::enqueue(&shared.link, &shared.keys, &chunk, patience).await?;
    let mut ids: Vec<String> = chunk.jobs.into_iter().map(|job| job.id).collect();
    for (position, id) in existing {
        if let Some(own) = ids.get_mut(position) {
            *own = id;
        }
    }
    Ok(ids)
}

/// Divide jobs into chunks, each of which is enqueued atomically. The caller repeats a call whose
/// reply is lost for `patience`.
///
/// # Errors
/// If the operating system provides no random numbers.
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
            chunk.jobs.push(new_job(job, random, chunk.nonce, repeat_ms, false));
        }
    }
    Ok(chunks)
}

/// A random nonce.
///
/// # Errors
/// If the operating system provides no random numbers.
pub(crate) fn nonce() -> Result<Nonce> {
    let mut nonce = Nonce::default();
    fill(&mut nonce)?;
    Ok(nonce)
}

/// Fill a buffer with random bytes.
pub(crate) fn fill(random: &mut [u8]) -> Result<()> {
    getrandom::fill(random).map_err(|error| Error::System {
        errno: error.raw_os_error(),
        message: format!("no random numbers: {error}; check that this process may read /dev/urandom"),
    })
}

/// The job of a submission. `random` is for its id.
pub(crate) fn new_job(job: Submission, random: &[u8], nonce: Nonce, repeat_ms: u64, is_linked: bool) -> NewJob {
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
        is_linked,
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
    // Without a source of random numbers, the process id and the clock still distinguish processes.
    if getrandom::fill(&mut bytes).is_err() {
        let seed = (std::process::id(), crate::clock::monotonic_ms());
        bytes[..4].copy_from_slice(&seed.0.to_be_bytes());
        bytes[8..].copy_from_slice(&seed.1.to_be_bytes());
    }
    hex(&bytes)
}

/// Bytes in lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// Combine the results of chunks, which have `lengths` jobs. The last chunks may not have been
/// sent.
fn answer(accepted: Vec<Result<Vec<String>>>, lengths: &[usize]) -> Result<Answer> {
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
    fn a_large_body_is_separate_and_no_two_of_a_chunk_have_the_same_key() {
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
