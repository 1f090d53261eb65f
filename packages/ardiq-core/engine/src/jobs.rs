//! Jobs as people and programs look them up.

use crate::client::Shared;
use crate::error::Result;
use crate::link::Patience;
use crate::protocol::entry::Header;
use crate::protocol::envelope::Envelope;
use crate::protocol::keys::{LANE, RETURNED};
use crate::protocol::record::{Outcome, Place, ResultRecord};
use crate::scripts::look::{self, Found};

/// A snapshot of one job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobRecord {
    /// Job id.
    pub id: String,
    /// queued, scheduled, running, complete or not_found.
    pub status: &'static str,
    /// Task name; empty when complete or not found.
    pub name: String,
    /// Encoded arguments.
    pub body: Vec<u8>,
    /// Epoch milliseconds of the enqueue.
    pub enqueued_ms: u64,
    /// Starts so far, a running one included.
    pub tries: u64,
    /// Due time, when scheduled.
    pub due_ms: Option<u64>,
    /// Text that travels along.
    pub headers: Vec<(String, String)>,
    /// Its lane.
    pub lane: String,
    /// The worker that runs it.
    pub worker: Option<String>,
}

/// Look jobs up, in order.
pub async fn look_up(shared: &Shared, ids: &[String], patience: Patience) -> Result<Vec<JobRecord>> {
    let mut records = Vec::with_capacity(ids.len());
    for ids in ids.chunks(500) {
        let found = look::lookup(&shared.link, &shared.keys, ids, patience).await?;
        records.extend(ids.iter().zip(found).map(|(id, found)| snapshot(id, &found)));
    }
    Ok(records)
}

/// Some jobs in one state.
pub async fn list(shared: &Shared, state: &str, most: usize, patience: Patience) -> Result<Vec<JobRecord>> {
    let ids = look::ids(&shared.link, &shared.keys, state, most, patience).await?;
    let mut records = look_up(shared, &ids, patience).await?;
    // Between the two calls a job may have moved on.
    records.retain(|record| record.status == state);
    Ok(records)
}

/// Dead letters with their reasons, the newest first.
pub async fn dead(shared: &Shared, most: usize, patience: Patience) -> Result<Vec<(JobRecord, String)>> {
    let letters = look::dead(&shared.link, &shared.keys, most, patience).await?;
    Ok(letters
        .into_iter()
        .map(|(id, record, value)| {
            let mut job = JobRecord { id, status: "complete", ..JobRecord::default() };
            fill(&mut job, &value);
            let reason = match ResultRecord::decode(&record).map(|result| result.outcome) {
                Ok(Outcome::Failure(text)) => text,
                Ok(Outcome::Value(_)) => String::new(),
                Err(fault) => fault,
            };
            (job, reason)
        })
        .collect())
}

fn snapshot(id: &str, found: &Found) -> JobRecord {
    let mut job = JobRecord { id: id.to_owned(), status: "not_found", ..JobRecord::default() };
    match found.record.as_deref().and_then(Place::of) {
        Some(Place::Stream(stream)) => {
            job.status = "queued";
            job.lane = lane_of(stream);
            fill(&mut job, &found.value);
            if let Some(worker) = found.run.split(' ').nth(1) {
                job.status = "running";
                job.worker = Some(worker.to_owned());
                job.tries += 1;
            }
        }
        Some(Place::Due(stream, value)) => {
            job.status = "scheduled";
            job.lane = lane_of(stream);
            job.due_ms = found.due_ms;
            fill(&mut job, value);
        }
        Some(Place::Finished { stored: true }) => job.status = "complete",
        Some(Place::Finished { stored: false }) | None => {}
    }
    job
}

fn lane_of(stream: &str) -> String {
    stream.strip_prefix(LANE).or_else(|| stream.strip_prefix(RETURNED)).unwrap_or(stream).to_owned()
}

/// Take over what an entry value says; bytes that cannot be read are shown as the body, so that nothing is hidden.
fn fill(job: &mut JobRecord, value: &[u8]) {
    let Some((header, envelope)) = Header::split(value) else {
        return;
    };
    job.tries = u64::from(header.tries);
    job.enqueued_ms = header.enqueued_ms;
    match Envelope::decode(envelope) {
        Ok(envelope) => {
            job.name = envelope.name;
            job.body = envelope.body;
            job.headers = envelope.headers;
        }
        Err(_) => job.body = envelope.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value() -> Vec<u8> {
        let header = Header { tries: 1, enqueued_ms: 99, ..Header::default() };
        let envelope = Envelope { name: "add".into(), body: b"args".to_vec(), ..Envelope::default() };
        [&header.encode()[..], &envelope.encode()].concat()
    }

    fn found(record: Option<&[u8]>, value: Vec<u8>, run: &str) -> Found {
        Found { record: record.map(<[u8]>::to_vec), value, due_ms: Some(7), run: run.into() }
    }

    #[test]
    fn every_state_is_told_from_record_and_run() {
        let queued = snapshot("a", &found(Some(b"q12345678170-0 lane:low"), value(), ""));
        assert_eq!(
            (queued.status, queued.lane.as_str(), queued.tries, queued.name.as_str()),
            ("queued", "low", 1, "add")
        );
        let running = snapshot("a", &found(Some(b"q12345678170-0 lane:low"), value(), "170-0 w1 5 2"));
        assert_eq!((running.status, running.tries, running.worker.as_deref()), ("running", 2, Some("w1")));
        let record = [b"d12345678\x08lane:low", &value()[..]].concat();
        let scheduled = snapshot("a", &found(Some(&record), Vec::new(), ""));
        assert_eq!((scheduled.status, scheduled.due_ms, scheduled.enqueued_ms), ("scheduled", Some(7), 99));
        assert_eq!(snapshot("a", &found(Some(b"R12345678"), Vec::new(), "")).status, "complete");
        assert_eq!(snapshot("a", &found(Some(b"T12345678"), Vec::new(), "")).status, "not_found");
        assert_eq!(snapshot("a", &found(None, Vec::new(), "")).status, "not_found");
    }
}
