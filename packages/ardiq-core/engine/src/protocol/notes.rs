//! What a run reports: the form of its progress, and the messages about jobs that are followed.

use super::keys::Nonce;
use super::pack::{Reader, Writer};

/// Names of the fields in the hash of a job's notes.
pub const PROGRESS: &str = "progress";
/// The time of the last report, in epoch milliseconds.
pub const REPORTED: &str = "reported";
/// The last checkpoint, encoded.
pub const CHECKPOINT: &str = "checkpoint";

/// How far a run has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Steps done.
    pub done: u64,
    /// Steps in total, if known.
    pub total: Option<u64>,
    /// What it is doing, for people.
    pub message: Option<String>,
}

impl Progress {
    /// Encode the progress.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::with_capacity(32);
        out.array(3).uint(self.done).optional_uint(self.total).optional_text(self.message.as_deref());
        out.0
    }

    /// Decode the progress. A later version may add fields.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let mut reader = Reader::new(bytes);
        if reader.array()? < 3 {
            return Err("the progress is cut short".into());
        }
        Ok(Self {
            done: reader.uint()?,
            total: reader.optional(Reader::uint)?,
            message: reader.optional(Reader::text)?.map(str::to_owned),
        })
    }
}

/// Progress, and when it was stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// The progress.
    pub progress: Progress,
    /// Epoch milliseconds by the Redis clock.
    pub at_ms: u64,
}

/// News of a job, for a process that follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// Its state has changed: look it up.
    Changed,
    /// Its run has reported progress.
    Progress {
        /// Nonce of its enqueue.
        nonce: Nonce,
        /// The progress.
        report: Report,
    },
}

/// What a message about a changed state has in place of a result record.
const CHANGED: u8 = b'E';

/// What a message about progress begins with in place of a result record.
const REPORT: u8 = b'P';

impl News {
    /// The message that the state of a job has changed. The script `note` writes the other kind.
    pub fn changed(id: &str) -> Vec<u8> {
        let length = u16::try_from(id.len()).unwrap_or_default().to_be_bytes();
        [&length[..], id.as_bytes(), &[CHANGED]].concat()
    }

    /// Read a message: the job id and the news. `None` if it is about a result, or cannot be read.
    pub fn read(message: &[u8]) -> Option<(&str, Self)> {
        let (length, rest) = message.split_first_chunk::<2>()?;
        let (id, news) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        let id = std::str::from_utf8(id).ok()?;
        match news.split_first()? {
            (&CHANGED, _) => Some((id, Self::Changed)),
            (&REPORT, rest) => {
                let (nonce, rest) = rest.split_first_chunk::<8>()?;
                let (at, progress) = rest.split_first_chunk::<6>()?;
                let at_ms = at.iter().fold(0, |ms, byte| ms << 8 | u64::from(*byte));
                let report = Report { progress: Progress::decode(progress).ok()?, at_ms };
                Some((id, Self::Progress { nonce: *nonce, report }))
            }
            _ => None,
        }
    }
}

/// The word that begins an announcement of followed jobs on the wake channel.
const FOLLOW: &str = "follow ";

/// The announcement that a process follows these jobs, for the workers.
pub fn follow<'a>(process: &str, ids: impl IntoIterator<Item = &'a str>) -> String {
    let mut out = format!("{FOLLOW}{process}");
    for id in ids {
        out.push(' ');
        out.push_str(id);
    }
    out
}

/// The question of a worker that has connected: which process follows which jobs?
pub const WHO: &[u8] = b"who";

/// Read such an announcement: the process, then the ids.
pub fn read_follow(message: &[u8]) -> Option<impl Iterator<Item = &str>> {
    let rest = std::str::from_utf8(message).ok()?.strip_prefix(FOLLOW)?;
    Some(rest.split(' ').filter(|word| !word.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_survives_the_wire() {
        let progress = Progress { done: 3, total: Some(1 << 40), message: Some("reading".into()) };
        assert_eq!(Progress::decode(&progress.encode()), Ok(progress));
        assert_eq!(Progress::decode(&Progress::default().encode()), Ok(Progress::default()));
        assert!(Progress::decode(b"\x92\x01\x02").is_err_and(|fault| fault.contains("cut short")));
    }

    #[test]
    fn news_are_told_apart_from_results() {
        assert_eq!(News::read(&News::changed("a")), Some(("a", News::Changed)));
        let report = Report { progress: Progress { done: 7, ..Progress::default() }, at_ms: 1_700_000_000_123 };
        let message =
            [&b"\x00\x01aPnonceABC"[..], &report.at_ms.to_be_bytes()[2..], &report.progress.encode()].concat();
        let news = News::Progress { nonce: *b"nonceABC", report };
        assert_eq!(News::read(&message), Some(("a", news)));
        for other in [&b"\x00\x01aR12345678"[..], b"\x00\x01a", b"\x00\x09a", b"", &message[..12]] {
            assert_eq!(News::read(other), None);
        }
    }

    #[test]
    fn an_announcement_names_the_process_and_its_jobs() {
        let message = follow("p", ["a", "b"]);
        assert_eq!(read_follow(message.as_bytes()).map(Iterator::collect), Some(vec!["p", "a", "b"]));
        assert!(read_follow(b"1700").is_none() && read_follow(b"abort").is_none());
    }
}
