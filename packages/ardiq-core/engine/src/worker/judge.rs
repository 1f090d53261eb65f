//! Turns the outcome of a run into what is written: one branch per outcome, no I/O.

use crate::protocol::entry::{Header, SUSPECT};
use crate::protocol::record::{self, ResultRecord};
use crate::scripts::deliver::{BATCH, BATCH_BYTES, GUARD_MS, Settlement, Verdict};

use super::job::Job;

/// A job is dead-lettered after this many deliveries to workers that cannot run it: they do not
/// know its task, or cannot read its arguments. They take eleven minutes in total, so that a
/// rolling deploy has time to finish, and a worker with a better connection can get the job.
pub const MISS_LIMIT: u8 = 12;

/// Longest pause before another try: a hundred years, like the longest delay of an enqueue.
const LONGEST_DELAY_MS: u64 = 100 * 366 * 86_400_000;

/// The minimum lifetime of the result of an aborted job, as in `lua/aborted.lua`.
const ABORTED_MS: i64 = 300_000;

/// Delay of a suspect for which the quarantine has no room.
const PUT_OFF_MS: u64 = 1000;

/// The outcome of a run, or of a job that was not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It returned; the encoded value.
    Success(Vec<u8>, Option<i64>),
    /// It failed for good.
    Failure(Fault, Option<i64>),
    /// It failed, and no worker can run it.
    Dead(Fault, Option<i64>),
    /// It was aborted; the text for the result.
    Aborted(String, Option<i64>),
    /// It failed and will be retried after this many milliseconds.
    Retry(u64),
    /// It did not finish and does not count as an attempt.
    HandBack,
    /// Its start was refused, although the lease is valid.
    Void,
    /// It is a suspect, and too many suspects already wait here.
    PutOff,
    /// This worker has no such task.
    UnknownTask,
    /// This worker cannot read its arguments, although it can do everything else.
    Unreadable(String),
    /// It expired before it started.
    Expired,
    /// Too many processes died while running it.
    Poison,
    /// Its envelope cannot be read.
    Undecodable(String),
}

/// The largest result that is written. A server accepts values of at most 512 MiB, and closes the
/// connection at larger ones.
const LARGEST_RESULT: usize = 256 << 20;

/// A batch of small outcomes is full after this many bytes, so that lease renewals do not wait long
/// behind it.
pub const SMALL_BATCH_BYTES: usize = 256 << 10;

/// How many of `finished` are sent together: up to [`BATCH`], and up to `most_bytes`.
pub fn batch_size(finished: &[Finished], most_bytes: usize) -> usize {
    let mut bytes = 0;
    let fits = |one: &&Finished| {
        let room = bytes < most_bytes;
        bytes += one.weight();
        room
    };
    finished.iter().take(BATCH).take_while(fits).count()
}

impl Outcome {
    /// Roughly how many bytes it takes to write it.
    fn size(&self) -> usize {
        match self {
            Self::Success(value, _) => value.len(),
            Self::Failure(fault, _) | Self::Dead(fault, _) => {
                fault.text.len() + fault.traceback.as_ref().map_or(0, String::len)
            }
            _ => 0,
        }
    }
}

/// A failure as shown to people.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fault {
    /// The result's value.
    pub text: String,
    /// Qualified name of the exception's type.
    pub error_type: Option<String>,
    /// Formatted traceback.
    pub traceback: Option<String>,
}

impl Fault {
    fn of(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }
}

/// A job with its outcome, ready to be settled.
#[derive(Debug)]
pub struct Finished {
    /// The job.
    pub job: Job,
    /// Its outcome.
    pub outcome: Outcome,
    /// Epoch milliseconds of its last start; 0 if it was not started.
    pub started_ms: u64,
    /// Epoch milliseconds of its end.
    pub finished_ms: u64,
    /// Whether its start was recorded.
    pub recorded: bool,
    /// Whether it was delivered under a lease that was lost.
    pub is_lost: bool,
}

impl Finished {
    /// About how many bytes the script that settles it handles. A dead letter contains the job's
    /// arguments, whose size is unknown here if they are stored separately, so it fills a batch.
    pub(super) fn weight(&self) -> usize {
        let header = self.job.header;
        let is_dead = match self.outcome {
            Outcome::Dead(..) | Outcome::Poison | Outcome::Undecodable(_) => true,
            Outcome::UnknownTask | Outcome::Unreadable(_) => header.misses >= MISS_LIMIT,
            _ => false,
        };
        if is_dead && header.has_separate_body() { BATCH_BYTES } else { self.outcome.size() }
    }
}

/// Decide what to write. `worker` and `default_ttl_ms` are those of the worker that settles the
/// job.
pub fn judge(finished: Finished, worker: &str, default_ttl_ms: i64) -> Settlement {
    let Finished { job, outcome, started_ms, finished_ms, recorded, is_lost } = finished;
    let header = job.header;
    let aborted = matches!(outcome, Outcome::Aborted(..));
    let result = |outcome: record::Outcome, fault: Fault| {
        let started = started_ms > 0;
        let record = ResultRecord {
            outcome,
            tries: u64::from(header.tries) + u64::from(started),
            enqueued_ms: header.enqueued_ms,
            started_ms,
            finished_ms,
            id: job.id.clone(),
            name: job.envelope.name.clone(),
            worker: worker.to_owned(),
            aborted,
            error_type: fault.error_type,
            traceback: fault.traceback,
        };
        record.encode(job.envelope.nonce)
    };
    let failed = |mut fault: Fault| {
        let text = std::mem::take(&mut fault.text);
        result(record::Outcome::Failure(text), fault)
    };
    let ttl = |own: Option<i64>| own.unwrap_or(default_ttl_ms);
    let verdict = match outcome {
        Outcome::Success(value, own) if value.len() > LARGEST_RESULT => {
            let text = format!(
                "the result takes {} bytes, more than the {LARGEST_RESULT} that can be stored; store it elsewhere and \
                 return a reference",
                value.len()
            );
            Verdict::Done(failed(Fault::of(text)), ttl(own))
        }
        Outcome::Success(value, own) => {
            Verdict::Done(result(record::Outcome::Value(value), Fault::default()), ttl(own))
        }
        Outcome::Failure(fault, own) => Verdict::Done(failed(fault), ttl(own)),
        Outcome::Aborted(text, own) => {
            let ttl = ttl(own);
            Verdict::Done(failed(Fault::of(text)), if ttl < 0 { ttl } else { ttl.max(ABORTED_MS) })
        }
        Outcome::Dead(fault, own) => Verdict::Dead(failed(fault), ttl(own)),
        Outcome::Expired => Verdict::Done(failed(Fault::of("expired")), default_ttl_ms),
        Outcome::Poison => {
            let text = format!("dead-lettered as poison: {} worker processes died while running it", header.deaths);
            Verdict::Poison(failed(Fault::of(text)), default_ttl_ms)
        }
        Outcome::Undecodable(reason) => {
            Verdict::Dead(failed(Fault::of(format!("undecodable job: {reason}"))), default_ttl_ms)
        }
        Outcome::Retry(delay_ms) => {
            let (tries, flags) = (header.tries.saturating_add(1), header.flags & !SUSPECT);
            // It has run, so deliveries in a row are counted from zero.
            let header = Header { tries, flags, misses: 0, ..header };
            Verdict::Again(delay_ms.min(LONGEST_DELAY_MS), header.encode().to_vec())
        }
        Outcome::HandBack => Verdict::Back(header.encode().to_vec()),
        Outcome::Void => Verdict::Void(header.encode().to_vec()),
        Outcome::PutOff => Verdict::Again(PUT_OFF_MS, header.encode().to_vec()),
        Outcome::UnknownTask if header.misses >= MISS_LIMIT => {
            let text = format!("no worker knows a task named {:?}", job.envelope.name);
            Verdict::Dead(failed(Fault::of(text)), default_ttl_ms)
        }
        Outcome::Unreadable(reason) if header.misses >= MISS_LIMIT => {
            let text = format!("no worker can read the arguments: {reason}");
            Verdict::Dead(failed(Fault::of(text)), default_ttl_ms)
        }
        Outcome::UnknownTask | Outcome::Unreadable(_) => {
            let header = Header { misses: header.misses + 1, ..header };
            Verdict::Again(1000 * u64::from(header.misses).pow(2), header.encode().to_vec())
        }
    };
    let (nonce, separate_body, has_notes) = (job.envelope.nonce, job.separate_body(), header.has_notes());
    // Other software may have written any number to Redis.
    let guard_ms = job.envelope.repeat_ms.clamp(GUARD_MS, LONGEST_DELAY_MS);
    Settlement {
        stream: job.stream,
        entry: job.entry,
        id: job.id,
        nonce,
        recorded,
        is_lost,
        has_inputs: header.has_inputs(),
        unique: job.envelope.unique,
        separate_body,
        has_notes,
        guard_ms,
        verdict,
    }
}

/// What to write instead of a result that the server refuses, for example because it exceeds a
/// limit: the job has run, and must not run again.
pub fn unwritable(settlement: Settlement, reason: &str) -> Settlement {
    let verdict = match settlement.verdict {
        Verdict::Done(record, ttl) | Verdict::Dead(record, ttl) | Verdict::Poison(record, ttl) => {
            let nonce = record.get(1..record::PREFIX).and_then(|nonce| nonce.try_into().ok()).unwrap_or_default();
            let text = format!("the result could not be stored: {reason}");
            let result = ResultRecord::decode(&record).map(|result| ResultRecord {
                outcome: record::Outcome::Failure(text),
                traceback: None,
                ..result
            });
            Verdict::Done(result.map_or(record, |result| result.encode(nonce)), ttl)
        }
        other => other,
    };
    Settlement { verdict, ..settlement }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::entry::SEPARATE_BODY;
    use crate::protocol::envelope::Envelope;

    fn finished(outcome: Outcome, header: Header) -> Finished {
        let envelope = Envelope { name: "add".into(), unique: Some("ab".into()), ..Envelope::default() };
        let job = Job { stream: 1, entry: "1-0".into(), id: "a".into(), header, envelope, ..Job::default() };
        Finished { job, outcome, started_ms: 20, finished_ms: 30, recorded: true, is_lost: false }
    }

    fn verdict(outcome: Outcome, header: Header) -> Verdict {
        judge(finished(outcome, header), "w", 300).verdict
    }

    fn stored(record: &[u8]) -> ResultRecord {
        ResultRecord::decode(record).unwrap_or_else(|fault| unreachable!("{fault}"))
    }

    fn again(header: Header, delay_ms: u64) -> Verdict {
        Verdict::Again(delay_ms, header.encode().to_vec())
    }

    #[test]
    fn a_value_is_stored_with_its_own_time_to_live_or_the_workers() {
        let header = Header { tries: 1, enqueued_ms: 10, ..Header::default() };
        let Verdict::Done(record, 300) = verdict(Outcome::Success(b"v".to_vec(), None), header) else { unreachable!() };
        let result = stored(&record);
        assert_eq!((result.tries, result.enqueued_ms, result.started_ms, result.finished_ms), (2, 10, 20, 30));
        assert_eq!(result.outcome, record::Outcome::Value(b"v".to_vec()));
        assert!(matches!(verdict(Outcome::Success(Vec::new(), Some(-1)), header), Verdict::Done(_, -1)));
    }

    #[test]
    fn a_value_that_no_server_takes_is_a_failure() {
        let value = vec![0; LARGEST_RESULT + 1];
        let Verdict::Done(record, 7) = verdict(Outcome::Success(value, Some(7)), Header::default()) else {
            unreachable!()
        };
        let record::Outcome::Failure(text) = stored(&record).outcome else { unreachable!() };
        assert!(text.starts_with("the result takes 268435457 bytes"), "{text}");
    }

    #[test]
    fn a_batch_is_bounded_in_number_and_bytes() {
        let of = |count: usize, bytes: usize| {
            let one = || finished(Outcome::Success(vec![0; bytes], None), Header::default());
            batch_size(&std::iter::repeat_with(one).take(count).collect::<Vec<_>>(), BATCH_BYTES)
        };
        assert_eq!((of(0, 0), of(BATCH + 1, 0), of(3, BATCH_BYTES), of(9, BATCH_BYTES / 4)), (0, BATCH, 1, 4));
    }

    #[test]
    fn a_retry_spends_a_try_and_a_hand_back_does_not() {
        let header = Header { tries: 1, deaths: 1, ..Header::default() };
        assert_eq!(verdict(Outcome::Retry(5), header), again(Header { tries: 2, ..header }, 5));
        assert_eq!(verdict(Outcome::HandBack, header), Verdict::Back(header.encode().to_vec()));
        let longest = verdict(Outcome::Retry(u64::MAX), header);
        assert!(matches!(longest, Verdict::Again(LONGEST_DELAY_MS, _)));
    }

    #[test]
    fn a_body_that_is_stored_separately_stays_with_the_job_until_it_ends() {
        let header = Header { flags: SUSPECT | SEPARATE_BODY, ..Header::default() };
        let kept = judge(finished(Outcome::Retry(5), header), "w", 300);
        let Verdict::Again(5, bytes) = kept.verdict else { unreachable!() };
        assert_eq!(
            bytes,
            Header { tries: 1, flags: SEPARATE_BODY, ..header }.encode(),
            "no suspect any more, and its body is still separate"
        );
        assert_eq!(kept.separate_body, Some([0; 8]));
        assert_eq!(judge(finished(Outcome::HandBack, Header::default()), "w", 300).separate_body, None);
    }

    #[test]
    fn an_unknown_task_waits_longer_each_time_and_is_dead_lettered_in_the_end() {
        let header = Header::default();
        assert_eq!(verdict(Outcome::UnknownTask, header), again(Header { misses: 1, ..header }, 1000));
        let later = Header { misses: 3, ..header };
        assert_eq!(verdict(Outcome::UnknownTask, later), again(Header { misses: 4, ..header }, 16_000));
        let last = Header { misses: MISS_LIMIT, ..header };
        assert!(matches!(verdict(Outcome::UnknownTask, last), Verdict::Dead(record, _) if record.len() > 20));
        assert_eq!(verdict(Outcome::Retry(5), last), again(Header { tries: 1, ..header }, 5), "in a row");
    }

    #[test]
    fn arguments_that_no_worker_can_read_are_tried_for_as_long_as_an_unknown_task() {
        let unreadable = || Outcome::Unreadable("a limit".into());
        let header = Header { tries: 1, misses: 3, flags: SEPARATE_BODY, ..Header::default() };
        assert_eq!(verdict(unreadable(), header), again(Header { misses: 4, ..header }, 16_000), "and spend no try");
        let last = Header { misses: MISS_LIMIT, ..header };
        let Verdict::Dead(record, 300) = verdict(unreadable(), last) else { unreachable!() };
        let text = record::Outcome::Failure("no worker can read the arguments: a limit".into());
        assert_eq!(stored(&record).outcome, text);
        assert_eq!(finished(unreadable(), last).weight(), BATCH_BYTES, "a dead letter with its arguments");
    }

    #[test]
    fn what_cannot_be_run_is_dead_lettered_with_a_reason() {
        for (outcome, reason) in [
            (Outcome::Poison, "poison: 3 worker"),
            (Outcome::Undecodable("cut short".into()), "undecodable job: cut short"),
            (Outcome::Dead(Fault::of("bad arguments"), None), "bad arguments"),
        ] {
            let (Verdict::Dead(record, 300) | Verdict::Poison(record, 300)) =
                verdict(outcome, Header { deaths: 3, ..Header::default() })
            else {
                unreachable!()
            };
            assert!(matches!(stored(&record).outcome, record::Outcome::Failure(text) if text.contains(reason)));
        }
    }

    #[test]
    fn a_result_that_the_server_refuses_becomes_a_failure_of_the_same_job() {
        let settlement = judge(finished(Outcome::Success(vec![0; 100], Some(7)), Header::default()), "w", 300);
        let Verdict::Done(record, 7) = unwritable(settlement, "too large").verdict else { unreachable!() };
        let result = stored(&record);
        assert_eq!((result.id.as_str(), result.started_ms), ("a", 20));
        assert!(matches!(result.outcome, record::Outcome::Failure(text) if text.ends_with("too large")));
    }

    #[test]
    fn an_expired_job_fails_without_a_try() {
        let mut expired = finished(Outcome::Expired, Header::default());
        expired.started_ms = 0;
        let settlement = judge(expired, "w", 300);
        assert!(settlement.recorded && settlement.unique.as_deref() == Some("ab"));
        let Verdict::Done(record, 300) = settlement.verdict else { unreachable!() };
        assert_eq!((stored(&record).tries, stored(&record).outcome), (0, record::Outcome::Failure("expired".into())));
    }
}
