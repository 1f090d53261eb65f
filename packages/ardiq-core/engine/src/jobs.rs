//! Reads the state of jobs, lists of jobs, and dead letters.

use crate::error::Result;
use crate::link::Patience;
use crate::printable::text_of;
use crate::protocol::entry::Header;
use crate::protocol::envelope::Envelope;
use crate::protocol::keys::{LANE, Nonce, RETURNED};
use crate::protocol::record::{Location, Outcome, ResultRecord};
use crate::protocol::state::{JobState, Listing};
use crate::scripts::bodies::{Body, bodies};
use crate::scripts::look::{self, DeadLetter, Found};
use crate::shared::Shared;

/// A snapshot of one job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobRecord {
    /// Job id.
    pub id: String,
    /// Its state.
    pub state: JobState,
    /// Task name. Empty if the job is complete or was not found.
    pub name: String,
    /// Encoded arguments.
    pub body: Vec<u8>,
    /// Whether the arguments exist but cannot be read.
    pub is_unreadable: bool,
    /// Epoch milliseconds of the enqueue.
    pub enqueued_ms: u64,
    /// Number of starts, including that of the current run.
    pub tries: u64,
    /// Due time in epoch milliseconds, if it is scheduled.
    pub due_ms: Option<u64>,
    /// Text that is passed along with the job.
    pub headers: Vec<(String, String)>,
    /// Its lane.
    pub lane: String,
    /// The worker that is running it.
    pub worker: Option<String>,
    /// Epoch milliseconds of the start, when running.
    pub started_ms: Option<u64>,
    /// Worker processes that died while they ran it.
    pub deaths: u8,
    /// Deliveries to workers that did not know its task or could not read its arguments.
    pub misses: u8,
    /// Ids of some of the jobs that it waits for.
    pub dependencies: Vec<String>,
    /// Ids of some of the jobs that wait for it.
    pub dependents: Vec<String>,
}

/// Read the state of jobs. Returns one record per id, in the order of the ids.
pub async fn look_up(shared: &Shared, ids: &[Vec<u8>], patience: Patience) -> Result<Vec<JobRecord>> {
    let mut records = Vec::with_capacity(ids.len());
    for ids in ids.chunks(500) {
        let mut page = snapshots(shared, ids, patience).await?;
        let gone = add_bodies(shared, &mut page, patience).await?;
        if !gone.is_empty() {
            // These jobs have ended in the meantime, and their bodies were deleted with them.
            let ids: Vec<Vec<u8>> = gone.iter().map(|&position| ids[position].clone()).collect();
            for (position, later) in gone.into_iter().zip(snapshots(shared, &ids, patience).await?) {
                page[position] = later;
            }
        }
        records.extend(page.into_iter().map(|(record, _)| record));
    }
    Ok(records)
}

/// A snapshot, and the key of its body if that is stored separately.
type Snapshot = (JobRecord, Option<String>);

async fn snapshots(shared: &Shared, ids: &[Vec<u8>], patience: Patience) -> Result<Vec<Snapshot>> {
    let found = look::lookup(&shared.link, &shared.keys, ids, patience).await?;
    let with_key = |(id, found): (&Vec<u8>, Found)| {
        let id = text_of(id.clone());
        let (record, nonce) = snapshot(&id, &found);
        (record, nonce.map(|nonce| shared.keys.body(&id, nonce)))
    };
    Ok(ids.iter().zip(found).map(with_key).collect())
}

/// Read the bodies that are stored separately. Returns the positions of the snapshots whose bodies
/// are missing.
async fn add_bodies(shared: &Shared, page: &mut [Snapshot], patience: Patience) -> Result<Vec<usize>> {
    let (positions, names): (Vec<usize>, Vec<String>) =
        page.iter().enumerate().filter_map(|(position, (_, name))| Some((position, name.clone()?))).unzip();
    let mut gone = Vec::new();
    for (position, body) in positions.into_iter().zip(bodies(&shared.link, &names, patience).await?) {
        match body {
            Body::Read(body) => page[position].0.body = body,
            Body::Missing => gone.push(position),
            Body::Unreadable => page[position].0.is_unreadable = true,
        }
    }
    Ok(gone)
}

/// Some jobs in one state.
pub async fn list(shared: &Shared, state: JobState, limit: usize, patience: Patience) -> Result<Vec<JobRecord>> {
    let ids = look::ids(&shared.link, &shared.keys, Listing::In(state), limit, patience).await?;
    let mut records = look_up(shared, &ids, patience).await?;
    // A job may have changed its state between the two calls.
    records.retain(|record| record.state == state);
    Ok(records)
}

/// Some dead letters with their reasons, the newest first.
pub async fn dead(shared: &Shared, limit: usize, patience: Patience) -> Result<Vec<(JobRecord, String)>> {
    let letters = look::dead(&shared.link, &shared.keys, limit, patience).await?;
    Ok(letters
        .into_iter()
        .map(|DeadLetter { id, record, value, body }| {
            let mut job = JobRecord { id, state: JobState::Complete, ..JobRecord::default() };
            fill(&mut job, &value);
            match body {
                Body::Read(body) => job.body = body,
                // It is in the envelope.
                Body::Missing => {}
                Body::Unreadable => job.is_unreadable = true,
            }
            let reason = match ResultRecord::decode(&record).map(|result| result.outcome) {
                Ok(Outcome::Failure(text)) => text,
                Ok(Outcome::Value(_)) => String::new(),
                Err(fault) => fault,
            };
            (job, reason)
        })
        .collect())
}

/// The snapshot of a job, and the nonce of its enqueue if its body is stored separately.
pub(crate) fn snapshot(id: &str, found: &Found) -> (JobRecord, Option<Nonce>) {
    let names = |ids: &[Vec<u8>]| ids.iter().cloned().map(text_of).collect();
    let (dependencies, dependents) = (names(&found.parents), names(&found.children));
    let mut job = JobRecord { id: id.to_owned(), dependencies, dependents, ..JobRecord::default() };
    let mut separate_body = None;
    match found.record.as_deref().and_then(Location::of) {
        Some(Location::Stream(stream)) => {
            job.state = JobState::Queued;
            job.lane = lane_of(stream);
            separate_body = fill(&mut job, &found.value);
            let mut run = found.run.split(' ').skip(1);
            if let Some(worker) = run.next() {
                job.state = JobState::Running;
                job.worker = Some(worker.to_owned());
                job.started_ms = run.next().and_then(|started| started.parse().ok());
                job.tries += 1;
            }
        }
        Some(Location::Due(stream, value)) => {
            job.state = JobState::Scheduled;
            job.lane = lane_of(stream);
            let waits = Header::split(value).is_some_and(|(header, _)| header.waits());
            job.due_ms = found.due_ms.filter(|_| !waits);
            separate_body = fill(&mut job, value);
        }
        Some(Location::Finished { stored: true }) => job.state = JobState::Complete,
        Some(Location::Finished { stored: false }) | None => {}
    }
    (job, separate_body)
}

fn lane_of(stream: &str) -> String {
    stream.strip_prefix(LANE).or_else(|| stream.strip_prefix(RETURNED)).unwrap_or(stream).to_owned()
}

/// Copy the fields of header and envelope. An envelope that cannot be read becomes the body, so
/// that nothing is hidden. Returns the nonce if the body is stored separately.
fn fill(job: &mut JobRecord, value: &[u8]) -> Option<Nonce> {
    let (header, envelope) = Header::split(value)?;
    job.tries = u64::from(header.tries);
    job.enqueued_ms = header.enqueued_ms;
    (job.deaths, job.misses) = (header.deaths, header.misses);
    match Envelope::decode(envelope) {
        Ok(envelope) => {
            job.name = envelope.name;
            job.body = envelope.body;
            job.headers = envelope.headers;
            header.has_separate_body().then_some(envelope.nonce)
        }
        Err(_) => {
            job.body = envelope.to_vec();
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::entry::SEPARATE_BODY;

    fn value() -> Vec<u8> {
        let header = Header { tries: 1, deaths: 2, misses: 3, enqueued_ms: 99, ..Header::default() };
        let envelope = Envelope { name: "add".into(), body: b"args".to_vec(), ..Envelope::default() };
        [&header.encode()[..], &envelope.encode()].concat()
    }

    fn found(record: Option<&[u8]>, value: Vec<u8>, run: &str) -> Found {
        Found {
            record: record.map(<[u8]>::to_vec),
            value,
            due_ms: Some(7),
            run: run.into(),
            parents: Vec::new(),
            children: Vec::new(),
        }
    }

    #[test]
    fn every_state_is_recognized_from_record_and_run() {
        let snapshot = |id: &str, found: &Found| super::snapshot(id, found).0;
        let queued = snapshot("a", &found(Some(b"q12345678170-0 lane:low"), value(), ""));
        assert_eq!(
            (queued.state, queued.lane.as_str(), queued.tries, queued.name.as_str()),
            (JobState::Queued, "low", 1, "add")
        );
        let running = snapshot("a", &found(Some(b"q12345678170-0 lane:low"), value(), "170-0 w1 5 2"));
        assert_eq!((running.state, running.tries, running.worker.as_deref()), (JobState::Running, 2, Some("w1")));
        assert_eq!((running.started_ms, running.deaths, running.misses), (Some(5), 2, 3));
        assert_eq!(queued.started_ms, None);
        let record = [b"d12345678\x08lane:low", &value()[..]].concat();
        let scheduled = snapshot("a", &found(Some(&record), Vec::new(), ""));
        assert_eq!((scheduled.state, scheduled.due_ms, scheduled.enqueued_ms), (JobState::Scheduled, Some(7), 99));
        assert_eq!(snapshot("a", &found(Some(b"R12345678"), Vec::new(), "")).state, JobState::Complete);
        assert_eq!(snapshot("a", &found(Some(b"T12345678"), Vec::new(), "")).state, JobState::NotFound);
        assert_eq!(snapshot("a", &found(None, Vec::new(), "")).state, JobState::NotFound);
    }

    #[test]
    fn a_snapshot_names_the_key_of_a_separate_body() {
        let header = Header { flags: SEPARATE_BODY, ..Header::default() };
        let value = [&header.encode()[..], &Envelope { nonce: *b"nonceABC", ..Envelope::default() }.encode()].concat();
        let record = [b"d12345678\x08lane:low", &value[..]].concat();
        for found in [found(Some(b"q12345678170-0 lane:low"), value, ""), found(Some(&record), Vec::new(), "")] {
            assert_eq!(snapshot("a", &found).1, Some(*b"nonceABC"));
        }
        assert_eq!(snapshot("a", &found(Some(b"q12345678170-0 lane:low"), super::tests::value(), "")).1, None);
    }
}
