//! What runs report: progress and checkpoints.
//!
//! The host may report progress as often as it likes: the desk keeps the last one of each run, and
//! a loop sends all of them together, at most once in [`INTERVAL`]. Progress that is still unsent
//! when its run ends is sent ahead of the outcome. A checkpoint is sent at once, and the task
//! waits until it is stored.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::desk::Desk;
use super::job::Job;
use super::judge::{Finished, Outcome};
use super::runs::Stage;
use super::{State, Worker};
use futures_util::future::try_join_all;

use crate::answer::Answer;
use crate::client::Client;
use crate::clock::monotonic_ms;
use crate::error::{Error, Result};
use crate::link::Patience;
use crate::lock::lock;
use crate::logs::Level;
use crate::mailbox::{Mailbox, RequestId};
use crate::protocol::entry::NOTES;
use crate::protocol::notes::Progress;
use crate::scripts::notes::{self, Note};

/// The least time between two calls that send progress.
const INTERVAL: Duration = Duration::from_millis(100);

/// Send progress until the worker has stopped.
pub async fn run(state: Arc<State>) -> Result<()> {
    loop {
        state.reports.notified().await;
        let reports = lock(&state.desk).take_reports();
        send(&state, reports).await?;
        lock(&state.desk).have_arrived();
        sleep(INTERVAL).await;
    }
}

/// Store progress. It is dropped if the server refuses it, or if this worker no longer owns the
/// jobs.
pub(super) async fn send(state: &State, mut reports: Vec<Note>) -> Result<()> {
    let (link, keys) = (&state.shared.link, &state.shared.keys);
    for report in &mut reports {
        report.channels = state.shared.audience.of(keys, &report.id);
    }
    // All pages are sent before the first reply is awaited: what a run has reported goes ahead of
    // its outcome.
    let pages = reports.chunks(notes::NOTES).map(|page| async move {
        match notes::note(link, keys, page, Patience::Endless).await {
            Ok(_) => Ok(()),
            Err(error @ Error::Refused(_)) => {
                if state.refusals.is_due(monotonic_ms()) {
                    state.log(Level::Warning, format!("the progress of jobs cannot be stored: {error}"));
                }
                Ok(())
            }
            Err(error) => Err(error),
        }
    });
    try_join_all(pages).await.map(drop)
}

/// The progress of runs that have ended, unless it has certainly arrived. A later run of the job
/// keeps it. That of a job that ends with this run is only for those that follow the job.
pub(super) fn last(state: &State, finished: &mut [Finished]) -> Vec<Note> {
    let mut reports = Vec::new();
    for one in finished {
        let Some(progress) = one.job.take_progress() else { continue };
        let goes_on = matches!(one.outcome, Outcome::Retry(_) | Outcome::HandBack);
        if goes_on || state.shared.audience.includes(&one.job.id) {
            reports.push(Note { progress: Some(progress), ..note_of(&one.job) });
        }
    }
    reports
}

fn note_of(job: &Job) -> Note {
    Note {
        id: job.id.clone(),
        nonce: job.envelope.nonce,
        stream: job.stream,
        entry: job.entry.clone(),
        ..Note::default()
    }
}

impl Desk {
    fn running_job(&mut self, slot: usize) -> Option<&mut Job> {
        self.runs.get_mut(slot).filter(|run| run.stage == Stage::Out).map(|run| &mut run.job)
    }

    /// A run has reported progress. Returns whether it is the first one since progress was last
    /// sent. The report of a run that is over is dropped.
    pub fn report(&mut self, slot: usize, progress: Progress) -> bool {
        self.running_job(slot).is_some_and(|job| job.notes_mut().unsent.replace(progress).is_none())
    }

    /// The progress to send now.
    pub fn take_reports(&mut self) -> Vec<Note> {
        let mut reports = Vec::new();
        for (_, run) in self.runs.iter_mut().filter(|(_, run)| run.stage == Stage::Out) {
            let Some(notes) = run.job.notes.as_mut() else { continue };
            let Some(progress) = notes.unsent.take() else { continue };
            notes.in_flight = Some(progress.clone());
            run.job.header.flags |= NOTES;
            reports.push(Note { progress: Some(progress), ..note_of(&run.job) });
        }
        reports
    }

    /// The reports that were taken last have arrived.
    pub fn have_arrived(&mut self) {
        for (_, run) in self.runs.iter_mut() {
            if let Some(notes) = run.job.notes.as_mut() {
                notes.in_flight = None;
            }
        }
    }

    /// A run stores a checkpoint. `None` if the run is over.
    ///
    /// From now on, the job counts as one with notes: if the reply is lost, they may be there.
    pub fn begin_checkpoint(&mut self, slot: usize, value: Vec<u8>) -> Option<Note> {
        let job = self.running_job(slot)?;
        job.header.flags |= NOTES;
        Some(Note { checkpoint: Some(value), ..note_of(job) })
    }

    /// The checkpoint is stored.
    pub fn keep_checkpoint(&mut self, slot: usize, value: Vec<u8>) {
        if let Some(job) = self.running_job(slot) {
            job.notes_mut().checkpoint = Some(value);
        }
    }

    /// The last checkpoint of the job, if there is one.
    ///
    /// # Errors
    /// [`Error::StaleRun`] if the run is over.
    pub fn checkpoint(&mut self, slot: usize) -> Result<Option<Vec<u8>>> {
        let job = self.running_job(slot).ok_or(Error::StaleRun)?;
        Ok(job.notes.as_ref().and_then(|notes| notes.checkpoint.clone()))
    }
}

impl Worker {
    /// A run reports progress. This never waits. The report of a run that is over is dropped.
    pub fn report(&self, slot: usize, progress: Progress) {
        if self.is_forked() {
            return;
        }
        let is_first = lock(&self.state.desk).report(slot, progress);
        if is_first {
            self.state.reports.notify_one();
        }
    }

    /// The last checkpoint of the job in this slot, of this run or an earlier one.
    ///
    /// # Errors
    /// [`Error::StaleRun`] if the run is over; [`Error::Closed`] in a process that the task has
    /// forked.
    pub fn checkpoint(&self, slot: usize) -> Result<Option<Vec<u8>>> {
        if self.is_forked() {
            return Err(Error::Closed);
        }
        lock(&self.state.desk).checkpoint(slot)
    }

    /// Whether a task has forked this process. The I/O thread does not exist here, and the
    /// connections belong to the worker.
    fn is_forked(&self) -> bool {
        self.process != std::process::id()
    }
}

impl Client {
    /// Store a checkpoint of the run in this slot of `worker`. The answer is [`Answer::Number`], 1,
    /// when it is stored, or [`Error::StaleRun`] if the run no longer owns its job.
    pub fn store_checkpoint(
        &self,
        mailbox: &Arc<Mailbox>,
        request: RequestId,
        worker: &Worker,
        slot: usize,
        value: Vec<u8>,
    ) {
        let (state, is_forked) = (Arc::clone(&worker.state), worker.is_forked());
        self.request(mailbox, request, move |_, patience| async move {
            if is_forked {
                return Err(Error::Closed);
            }
            store(&state, slot, value, patience).await.map(|()| Answer::Number(1))
        });
    }
}

async fn store(state: &State, slot: usize, value: Vec<u8>, patience: Patience) -> Result<()> {
    let note = lock(&state.desk).begin_checkpoint(slot, value).ok_or(Error::StaleRun)?;
    let patience = patience.for_transfer(note.checkpoint.as_ref().map_or(0, Vec::len));
    let mut notes = [note];
    let refused = notes::note(&state.shared.link, &state.shared.keys, &notes, patience).await?;
    if !refused.is_empty() {
        return Err(Error::StaleRun);
    }
    lock(&state.desk).keep_checkpoint(slot, notes[0].checkpoint.take().unwrap_or_default());
    Ok(())
}
