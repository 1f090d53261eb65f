//! Scripts that create, change and read schedules.

use redis::Value;

use super::look::read;
use super::{DECLARE, PAUSE, SCHEDULE, SCHEDULES, UNSCHEDULE, reply};
use crate::error::{Error, Result};
use crate::link::{Link, Patience};
use crate::protocol::keys::{Keys, Nonce, OCCURRENCE};
use crate::protocol::schedule::Schedule;

/// What has become of a request to create a dynamic schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Saved {
    /// It exists now.
    Saved,
    /// It existed with the same plan, and was left unchanged.
    Kept,
    /// Its name belongs to a schedule in the code of a worker.
    Static,
}

/// Create a dynamic schedule, or replace the one of this name.
pub async fn save(link: &Link, keys: &Keys, schedule: &Schedule, revision: Nonce, patience: Patience) -> Result<Saved> {
    let plan = schedule.encode_plan();
    let names = [keys.schedules.as_str(), &keys.cron, &keys.declared, &keys.known_lanes];
    let mut cmd = SCHEDULE.call(&names, 5, plan.len());
    cmd.arg(&keys.wake).arg(&schedule.name).arg(&revision[..]).arg(&schedule.lane).arg(plan);
    let ((), answer) = tokio::join!(biased; link.register(patience), link.call(&SCHEDULE, &cmd, patience));
    match &outcome(link, answer?)?[..] {
        b"saved" => Ok(Saved::Saved),
        b"kept" => Ok(Saved::Kept),
        b"static" => Ok(Saved::Static),
        other => Err(unexpected("schedule", other)),
    }
}

/// What has become of a request to remove a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removed {
    /// It is gone.
    Removed,
    /// There is no such schedule.
    Unknown,
    /// It is in the code of a worker.
    Static,
}

/// Remove a dynamic schedule, or what is left of a static one.
pub async fn remove(link: &Link, keys: &Keys, name: &str, revision: Nonce, patience: Patience) -> Result<Removed> {
    let mut cmd = UNSCHEDULE.call(&[&keys.schedules, &keys.cron, &keys.declared], 3, name.len());
    cmd.arg(&keys.wake).arg(name).arg(&revision[..]);
    let answer = link.call(&UNSCHEDULE, &cmd, patience).await?;
    match &outcome(link, answer)?[..] {
        b"removed" => Ok(Removed::Removed),
        b"unknown" => Ok(Removed::Unknown),
        b"static" => Ok(Removed::Static),
        other => Err(unexpected("unschedule", other)),
    }
}

/// Pause a schedule, or resume it. Returns whether there is such a schedule.
pub async fn pause(
    link: &Link,
    keys: &Keys,
    name: &str,
    pauses: bool,
    revision: Nonce,
    patience: Patience,
) -> Result<bool> {
    let mut cmd = PAUSE.call(&[&keys.schedules, &keys.cron, &keys.declared], 4, name.len());
    cmd.arg(&keys.wake).arg(name).arg(&revision[..]).arg(if pauses { "p" } else { "a" });
    let [is_mute, exists] = reply::head(&mut reply::array(link.call(&PAUSE, &cmd, patience).await?)?.into_iter())?;
    if reply::int(&is_mute)? == 1 {
        link.publishing_is_refused();
    }
    Ok(reply::int(&exists)? == 1)
}

/// The maximum number of schedules in one call of `declare` or `schedules`.
pub const PAGE: usize = 100;

/// Publish static schedules. Returns the names of dynamic schedules that they have replaced.
pub async fn declare(
    link: &Link,
    keys: &Keys,
    schedules: &[Schedule],
    revision: Nonce,
    patience: Patience,
) -> Result<Vec<String>> {
    let mut replaced = Vec::new();
    for page in schedules.chunks(PAGE) {
        let mut cmd = DECLARE.call(&[&keys.schedules, &keys.declared], 2 + 2 * page.len(), 128 * page.len());
        cmd.arg(&revision[..]).arg(PAGE);
        for schedule in page {
            cmd.arg(&schedule.name).arg(schedule.encode_plan());
        }
        let names = reply::array(link.call(&DECLARE, &cmd, patience).await?)?;
        replaced.extend(names.into_iter().map(reply::lossy).collect::<Result<Vec<_>>>()?);
    }
    Ok(replaced)
}

/// A schedule as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its name.
    pub name: String,
    /// Its record.
    pub record: Vec<u8>,
    /// The last occurrence that became a job, in epoch milliseconds.
    pub last_ms: Option<u64>,
}

/// Some schedules, and the state that they belong to.
#[derive(Debug, Clone)]
pub struct Page {
    /// Redis time.
    pub now_ms: u64,
    /// Revision of the last change. Empty if there was none.
    pub revision: Vec<u8>,
    /// Where to continue. "0" at the end.
    pub cursor: String,
    /// The schedules, some of them perhaps for the second time.
    pub schedules: Vec<Stored>,
}

/// Read one schedule, or a page of all.
pub async fn page(link: &Link, keys: &Keys, name: Option<&str>, cursor: &str, patience: Patience) -> Result<Page> {
    let mut cmd = SCHEDULES.read(&[&keys.schedules, &keys.cron, &keys.declared], 4, 0);
    cmd.arg(format!("{}{OCCURRENCE}", keys.job)).arg(name.unwrap_or_default()).arg(cursor).arg(PAGE);
    let mut items = reply::array(read(link, &SCHEDULES, &cmd, patience).await?)?.into_iter();
    let [now, revision, cursor] = reply::head(&mut items)?;
    let mut schedules = Vec::new();
    while let (Some(name), Some(record), Some(last)) = (items.next(), items.next(), items.next()) {
        let last_ms = reply::int(&last).ok().and_then(|ms| u64::try_from(ms).ok());
        schedules.push(Stored { name: reply::lossy(name)?, record: reply::bytes(record)?, last_ms });
    }
    Ok(Page {
        now_ms: u64::try_from(reply::int(&now)?).unwrap_or_default(),
        revision: reply::bytes(revision)?,
        cursor: reply::text(cursor)?,
        schedules,
    })
}

/// The outcome that a script returned, after whether its user lacks permission to publish.
fn outcome(link: &Link, answer: Value) -> Result<Vec<u8>> {
    let [is_mute, what] = reply::head(&mut reply::array(answer)?.into_iter())?;
    if reply::int(&is_mute)? == 1 {
        link.publishing_is_refused();
    }
    reply::bytes(what)
}

fn unexpected(script: &str, outcome: &[u8]) -> Error {
    Error::Protocol(format!("{script} returned {:?}", String::from_utf8_lossy(outcome)))
}
