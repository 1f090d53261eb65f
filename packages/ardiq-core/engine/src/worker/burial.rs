//! Log lines about dead letters: which job it is, why no worker can run it, and how to look at it.

use super::State;
use crate::link::Patience;
use crate::logs::{Level, Subject};
use crate::protocol::record::{Location, Outcome, ResultRecord};
use crate::scripts::deliver::{Settlement, Verdict};
use crate::scripts::look;

/// Log the dead letters among settlements that the server has accepted.
pub async fn tell(state: &State, accepted: impl Iterator<Item = &Settlement>) {
    for one in accepted {
        let record = match &one.verdict {
            Verdict::Dead(record, _) => record,
            // If workers that were declared dead turned out to live, it runs again instead.
            Verdict::Poison(record, _) if is_finished(state, &one.id).await => record,
            _ => continue,
        };
        let Ok(result) = ResultRecord::decode(record) else { continue };
        let reason = reason(&result);
        let (id, task, queue) = (&one.id, &result.name, &state.shared.keys.queue);
        let message = format!(
            "{task}[{id}] is now a dead letter and will not run: {reason}. \
             Look at it with: ardiq inspect jobs --queue {queue} --state dead"
        );
        let subject = Subject { job_id: id.clone(), task: task.clone(), tries: result.tries, outcome: "dead" };
        state.shared.logs.push_about(Level::Error, "worker", message, Some(subject));
    }
}

/// Why, without what an exception of the application says: that may contain arguments.
fn reason(result: &ResultRecord) -> String {
    match (&result.error_type, &result.outcome) {
        (Some(error_type), _) => format!("its arguments cannot be decoded ({error_type})"),
        (None, Outcome::Failure(text)) => text.trim_start_matches("dead-lettered as poison: ").to_owned(),
        (None, Outcome::Value(_)) => String::new(),
    }
}

async fn is_finished(state: &State, id: &str) -> bool {
    let (link, keys) = (&state.shared.link, &state.shared.keys);
    let found = look::lookup(link, keys, &[id], Patience::within(link.connect_limit())).await;
    let record = found.ok().and_then(|mut found| found.pop()).and_then(|found| found.record);
    // If it cannot be read, the verdict counts. A record without a result may have expired already.
    record.is_none_or(|record| matches!(Location::of(&record), Some(Location::Finished { .. }) | None))
}
