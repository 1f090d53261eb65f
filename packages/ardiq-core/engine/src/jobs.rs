//! Jobs as people and programs look them up.

use crate::client::Shared;
use crate::error::Result;
use crate::link::Patience;
use crate::printable::text_of;
use crate::protocol::entry::Header;
use crate::protocol::envelope::Envelope;
use crate::protocol::keys::{LANE, RETURNED};
use crate::protocol::record::{Outcome, Place, ResultRecord};
use crate::scripts::deliver::bodies;
use crate::scripts::look::{self, Found, Letter};

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
pub async fn look_up(shared: &Shared, ids: &[Vec<u8>], patience: Patience) -> Result<Vec<JobRecord>> {
    let mut records = Vec::with_capacity(ids.len());
    for ids in ids.chunks(500) {
        let mut page = snapshots(shared, ids, patience).await?;
        let gone = add_bodies(shared, &mut page, patience).await?;
        if !gone.is_empty() {
            // Those jobs have ended meanwhile, and their bodies with them.
            let ids: Vec<Vec<u8>> = gone.iter().map(|&position| ids[position].clone()).collect();
            for (position, later) in gone.into_iter().zip(snapshots(shared, &ids, patience).await?) {
                page[position] = later;
            }
        }
        records.extend(page.into_iter().map(|(record, _)| record));
    }
    Ok(records)
}

/// A snapshot, and the key of its body when that is kept apart.
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

/// Read the bodies that are kept apart; gives the positions of those that are not there.
async fn add_bodies(shared: &Shared, page: &mut [Snapshot], patience: Patience) -> Result<Vec<usize>> {
    let (positions, names): (Vec<usize>, Vec<String>) =
        page.iter().enumerate().filter_map(|(position, (_, name))| Some((position, name.clone()?))).unzip();
    let mut gone = Vec::new();
    for (position, body) in positions.into_iter().zip(bodies(&shared.link, &names, patience).await?) {
        match body {
            Some(body) => page[position].0.body = body,
            None => gone.push(position),
        }
    }
    Ok(gone)
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
        .map(|Letter { id, record, value, body }| {
            let mut job = JobRecord { id, status: "complete", ..JobRecord::default() };
            fill(&mut job, &value);
            if !body.is_empty() {
                job.body = body;
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

/// What a job's keys say, and the nonce of its enqueue when its body is kept apart.
fn snapshot(id: &str, found: &Found) -> (JobRecord, Option<[u8; 8]>) {
    let mut job = JobRecord { id: id.to_owned(), status: "not_found", ..JobRecord::default() };
    let mut apart = None;
    match found.record.as_deref().and_then(Place::of) {
        Some(Place::Stream(stream)) => {
            job.status = "queued";
            job.lane = lane_of(stream);
            apart = fill(&mut job, &found.value);
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
            apart = fill(&mut job, value);
        }
        Some(Place::Finished { stored: true }) => job.status = "complete",
        Some(Place::Finished { stored: false }) | None => {}
    }
    (job, apart)
}

fn lane_of(stream: &str) -> String {
    stream.strip_prefix(LANE).or_else(|| stream.strip_prefix(RETURNED)).unwrap_or(stream).to_owned()
}

/// Take over what header and envelope say; bytes that cannot be read are shown as the body, so that nothing is hidden. Gives
/// the nonce when the body is kept apart.
fn fill(job: &mut JobRecord, value: &[u8]) -> Option<[u8; 8]> {
    let (header, envelope) = Header::split(value)?;
    job.tries = u64::from(header.tries);
    job.enqueued_ms = header.enqueued_ms;
    match Envelope::decode(envelope) {
        Ok(envelope) => {
            job.name = envelope.name;
            job.body = envelope.body;
            job.headers = envelope.headers;
            header.is_apart().then_some(envelope.nonce)
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
    use crate::protocol::entry::APART;

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
        let snapshot = |id: &str, found: &Found| super::snapshot(id, found).0;
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

    #[test]
    fn of_a_body_that_is_kept_apart_the_key_is_told() {
        let header = Header { flags: APART, ..Header::default() };
        let value = [&header.encode()[..], &Envelope { nonce: *b"nonceABC", ..Envelope::default() }.encode()].concat();
        let record = [b"d12345678\x08lane:low", &value[..]].concat();
        for found in [found(Some(b"q12345678170-0 lane:low"), value, ""), found(Some(&record), Vec::new(), "")] {
            assert_eq!(snapshot("a", &found).1, Some(*b"nonceABC"));
        }
        assert_eq!(snapshot("a", &found(Some(b"q12345678170-0 lane:low"), super::tests::value(), "")).1, None);
    }
}
