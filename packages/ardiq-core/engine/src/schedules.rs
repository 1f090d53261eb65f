//! Schedules: changes and lists for clients, and what a worker's host needs to fire them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{StreamExt, iter};
use tokio::time::sleep;

use crate::answer::Answer;
use crate::client::Client;
use crate::commands;
use crate::error::{Error, Result};
use crate::jobs;
use crate::link::{Link, Patience};
use crate::logs::Level;
use crate::mailbox::{Mailbox, RequestId};
use crate::printable::text_of;
use crate::protocol::envelope::Envelope;
use crate::protocol::keys::{Keys, Nonce};
use crate::protocol::record::{Outcome, ResultRecord};
use crate::protocol::schedule::{Record, Schedule};
use crate::protocol::state::JobState;
use crate::results;
use crate::scripts::produce::{self, Mode, NewJob, Occurrence};
use crate::scripts::schedules::{self, Removed, Saved};
use crate::shared::Shared;
use crate::submit::{self, LARGE_BODY};

/// How often a worker checks for changes that it was not told of.
const CHECK_PERIOD: Duration = Duration::from_secs(5);

/// The same for a worker that cannot subscribe.
const UNSUBSCRIBED_CHECK_PERIOD: Duration = Duration::from_secs(1);

/// Results that a list reads at the same time.
const RESULTS_AT_ONCE: usize = 8;

/// The last job of a schedule.
#[derive(Debug, Clone)]
pub struct Last {
    /// Job id.
    pub id: String,
    /// Its occurrence, in epoch milliseconds.
    pub fire_ms: u64,
    /// Its state.
    pub state: JobState,
    /// Its result, if there is one.
    pub result: Option<Arc<ResultRecord>>,
}

impl Last {
    /// Whether the job succeeded, and the text of its failure. `None` if there is no result.
    pub fn outcome(&self) -> Option<(bool, Option<&str>)> {
        self.result.as_ref().map(|result| match &result.outcome {
            Outcome::Value(_) => (true, None),
            Outcome::Failure(text) => (false, Some(text.as_str())),
        })
    }
}

/// Schedules at one moment.
#[derive(Debug, Clone)]
pub struct Agenda {
    /// Revision of the last change. Empty if there was none.
    pub revision: Vec<u8>,
    /// Redis time.
    pub now_ms: u64,
    /// The schedules by name, and, if asked for, the last job of each.
    pub schedules: Vec<(Record, Option<Last>)>,
}

/// Read the schedules, or one. Those that cannot be decoded are logged and left out.
async fn read(shared: &Shared, name: Option<&str>, patience: Patience) -> Result<(Agenda, Vec<Option<u64>>)> {
    let (link, keys) = (&shared.link, &shared.keys);
    let mut found = BTreeMap::new();
    let mut page = schedules::page(link, keys, name, "0", patience).await?;
    // If there is a change while later pages are read, the next check finds another revision.
    let (revision, now_ms) = (std::mem::take(&mut page.revision), page.now_ms);
    shared.clock.observe(now_ms);
    loop {
        for stored in page.schedules {
            match Record::decode(&stored.name, &stored.record) {
                Ok(record) => drop(found.insert(stored.name, (record, stored.last_ms))),
                Err(fault) => {
                    let name = text_of(stored.name.into_bytes());
                    shared.logs.push(Level::Warning, "engine", format!("schedule '{name}' is left out: {fault}"));
                }
            }
        }
        if page.cursor == "0" {
            break;
        }
        page = schedules::page(link, keys, name, &page.cursor, patience).await?;
    }
    let (records, last_ms) = found.into_values().map(|(record, last_ms)| ((record, None), last_ms)).unzip();
    Ok((Agenda { revision, now_ms, schedules: records }, last_ms))
}

/// Wait until there has been a change since `known`, then read the schedules.
pub async fn watch(shared: &Shared, known: Option<Vec<u8>>) -> Result<Agenda> {
    let (link, keys) = (&shared.link, &shared.keys);
    let mut announced = shared.schedules.subscribe();
    let mut sessions = link.sessions();
    loop {
        announced.borrow_and_update();
        sessions.borrow_and_update();
        let Some(known) = &known else { break };
        if revision(link, keys).await? != *known {
            break;
        }
        let period = if link.is_subscribed_to(&keys.wake) { CHECK_PERIOD } else { UNSUBSCRIBED_CHECK_PERIOD };
        tokio::select! {
            changed = announced.changed() => if changed.is_err() { return Err(Error::Closed) },
            changed = sessions.changed() => if changed.is_err() { return Err(Error::Closed) },
            () = sleep(period) => {}
        }
    }
    read(shared, None, Patience::Endless).await.map(|(agenda, _)| agenda)
}

/// The revision of the last change. Empty if there was none, or the key holds something else.
async fn revision(link: &Link, keys: &Keys) -> Result<Vec<u8>> {
    match link.command(&commands::field(&keys.schedules, ""), Patience::Endless).await {
        Ok(redis::Value::BulkString(revision)) => Ok(revision),
        Ok(_) => Ok(Vec::new()),
        Err(error) if error.is_of_wrong_type() => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Read the schedules, or one, with what has become of the last job of each.
pub async fn list(shared: &Shared, name: Option<&str>, patience: Patience) -> Result<Agenda> {
    let (mut agenda, last_ms) = read(shared, name, patience).await?;
    let names = agenda.schedules.iter().map(|(record, _)| record.schedule.name.as_str());
    let occurrences: Vec<(usize, u64, String)> = names
        .zip(last_ms)
        .enumerate()
        .filter_map(|(position, (name, at))| at.map(|at| (position, at, Keys::occurrence(name, at))))
        .collect();
    let ids: Vec<Vec<u8>> = occurrences.iter().map(|(_, _, id)| id.clone().into_bytes()).collect();
    let states = jobs::look_up(shared, &ids, patience).await?.into_iter().map(|job| job.state);
    let found: Vec<(usize, Last)> = iter(occurrences.into_iter().zip(states))
        .map(|((position, fire_ms, id), state)| async move {
            // A result that cannot be read must not hide the schedules.
            let has_ended = matches!(state, JobState::Complete);
            let result = if has_ended { results::get(shared, &id).await.unwrap_or_default() } else { None };
            (position, Last { id, fire_ms, state, result })
        })
        .buffered(RESULTS_AT_ONCE)
        .collect()
        .await;
    for (position, last) in found {
        agenda.schedules[position].1 = Some(last);
    }
    Ok(agenda)
}

/// The job of one occurrence of a schedule. Its arguments are in its envelope, whatever their size.
fn job_of(schedule: &Schedule, fire_ms: u64, patience: Duration) -> Result<NewJob> {
    let envelope = Envelope {
        nonce: submit::nonce()?,
        name: schedule.task.clone(),
        body: schedule.body.clone(),
        expire_ms: schedule.expire_ms,
        unique: schedule.unique.clone(),
        headers: schedule.headers.clone(),
        repeat_ms: submit::repeat_ms(patience),
        is_linked: false,
    };
    Ok(NewJob {
        id: Keys::occurrence(&schedule.name, fire_ms),
        is_new: false,
        lane: 0,
        delay_ms: 0,
        due_ms: 0,
        unique: schedule.unique.clone(),
        envelope: envelope.encode(),
        body: Bytes::new(),
    })
}

/// Fire one occurrence of a schedule.
async fn fire(
    shared: &Shared,
    schedule: &Schedule,
    revision: Option<Nonce>,
    (fire_ms, gap_ms): (u64, u64),
    by_hand: bool,
    patience: Patience,
) -> Result<produce::Fired> {
    let mode = match (by_hand, schedule.coalesce) {
        (true, _) => Mode::ByHand,
        (false, true) => Mode::Coalesce,
        (false, false) => Mode::Plain,
    };
    let occurrence = Occurrence {
        schedule: &schedule.name,
        fire_ms,
        gap_ms,
        revision,
        drift_ms: schedule.drift_ms,
        mode,
        lane: Some(&schedule.lane),
    };
    let job = job_of(schedule, fire_ms, shared.link.connect_limit())?;
    let fired = produce::fire(&shared.link, &shared.keys, occurrence, &job, patience).await?;
    shared.clock.observe(fired.now_ms);
    Ok(fired)
}

/// Fire a schedule now, whether it is paused or not. Returns the id of the job, or `None` if there
/// is no such schedule.
async fn fire_now(shared: &Shared, name: &str, patience: Patience) -> Result<Option<String>> {
    loop {
        let (agenda, _) = read(shared, Some(name), patience).await?;
        let Some((record, _)) = agenda.schedules.first() else { return Ok(None) };
        let at = (agenda.now_ms, 0);
        let fired = fire(shared, &record.schedule, Some(record.revision), at, true, patience).await?;
        match fired.how {
            // It was changed in between.
            produce::Firing::Stale if !patience.is_over() => {}
            produce::Firing::Stale => return Ok(None),
            _ => return Ok(Some(fired.holder.unwrap_or_else(|| Keys::occurrence(name, agenda.now_ms)))),
        }
    }
}

impl Client {
    /// Create a dynamic schedule, or replace the one of this name. The answer is
    /// [`Answer::Number`]: 1, or 0 if the name belongs to a static schedule.
    pub fn schedule(&self, mailbox: &Arc<Mailbox>, request: RequestId, schedule: Schedule) {
        self.request(mailbox, request, |shared, patience| async move {
            if schedule.body.len() > LARGE_BODY {
                return Err(Error::Invalid(format!(
                    "the arguments of a schedule have {} bytes, more than {LARGE_BODY}",
                    schedule.body.len()
                )));
            }
            shared.server.check_once(&shared.link, patience).await?;
            let saved = schedules::save(&shared.link, &shared.keys, &schedule, submit::nonce()?, patience).await?;
            Ok(Answer::Number((saved != Saved::Static).into()))
        });
    }

    /// Remove a dynamic schedule. The answer is [`Answer::Number`]: 1 if it was removed, 0 if there
    /// is no such schedule, -1 if it is a static one.
    pub fn unschedule(&self, mailbox: &Arc<Mailbox>, request: RequestId, name: String) {
        self.request(mailbox, request, |shared, patience| async move {
            let removed = schedules::remove(&shared.link, &shared.keys, &name, submit::nonce()?, patience).await?;
            Ok(Answer::Number(match removed {
                Removed::Removed => 1,
                Removed::Unknown => 0,
                Removed::Static => -1,
            }))
        });
    }

    /// Pause a schedule, or resume it. The answer is [`Answer::Number`]: 1, or 0 if there is no
    /// such schedule.
    pub fn pause(&self, mailbox: &Arc<Mailbox>, request: RequestId, name: String, pauses: bool) {
        self.request(mailbox, request, move |shared, patience| async move {
            let nonce = submit::nonce()?;
            let exists = schedules::pause(&shared.link, &shared.keys, &name, pauses, nonce, patience).await?;
            Ok(Answer::Number(exists.into()))
        });
    }

    /// Publish static schedules. The answer is [`Answer::Names`]: the dynamic schedules that they
    /// have replaced.
    pub fn declare(&self, mailbox: &Arc<Mailbox>, request: RequestId, declared: Vec<Schedule>) {
        self.request(mailbox, request, |shared, patience| async move {
            let nonce = submit::nonce()?;
            schedules::declare(&shared.link, &shared.keys, &declared, nonce, patience).await.map(Answer::Names)
        });
    }

    /// Enqueue one occurrence of a schedule. The next one is `gap_ms` later. A static schedule has
    /// no revision. The answer is [`Answer::Number`], a [`produce::Firing`].
    pub fn fire(
        &self,
        mailbox: &Arc<Mailbox>,
        request: RequestId,
        schedule: Schedule,
        revision: Option<Nonce>,
        (fire_ms, gap_ms): (u64, u64),
    ) {
        self.request(mailbox, request, move |shared, patience| async move {
            shared.server.check_once(&shared.link, patience).await?;
            let fired = fire(&shared, &schedule, revision, (fire_ms, gap_ms), false, patience).await?;
            Ok(Answer::Number(fired.how as i64))
        });
    }

    /// Enqueue a job of a schedule now. The answer is [`Answer::Names`]: the id of the job, or
    /// nothing if there is no such schedule.
    pub fn fire_now(&self, mailbox: &Arc<Mailbox>, request: RequestId, name: String) {
        self.request(mailbox, request, |shared, patience| async move {
            shared.server.check_once(&shared.link, patience).await?;
            fire_now(&shared, &name, patience).await.map(|id| Answer::Names(id.into_iter().collect()))
        });
    }

    /// Wait until a schedule has changed since `known`, or do not wait if it is `None`. The answer
    /// is [`Answer::Agenda`]. The caller may cancel this with [`Client::forget`].
    pub fn watch(&self, mailbox: &Arc<Mailbox>, request: RequestId, known: Option<Vec<u8>>) {
        self.wait(mailbox, request, |shared| async move {
            watch(&shared, known).await.map(|agenda| Answer::Agenda(Box::new(agenda)))
        });
    }

    /// Read the schedules, or one. The answer is [`Answer::Agenda`].
    pub fn schedules(&self, mailbox: &Arc<Mailbox>, request: RequestId, name: Option<String>) {
        self.request(mailbox, request, |shared, patience| async move {
            let agenda = list(&shared, name.as_deref(), patience).await?;
            Ok(Answer::Agenda(Box::new(agenda)))
        });
    }
}
