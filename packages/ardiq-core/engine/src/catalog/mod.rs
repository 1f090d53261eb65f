//! The protocol as data, for the page docs/protocol.md and for tools. The tests below compare every
//! list with the code that uses it. Each row of a table is one line.

mod signature;

use crate::protocol::{entry, envelope, record};
use crate::scripts::ALL;
use crate::scripts::deliver::BATCH;
use crate::scripts::produce::CHUNK;
use crate::submit::LARGE_BODY;
use signature::Signature;

/// One kind of row: the names of its columns, and its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// What it lists.
    pub name: &'static str,
    /// Names of the columns.
    pub columns: &'static [&'static str],
    /// The rows, each with a cell per column.
    pub rows: Vec<Vec<String>>,
}

/// Name, type, meaning, lifetime. `<…>` stands for what varies.
#[rustfmt::skip]
pub static KEYS: &[[&str; 4]] = &[
    ["ardiq:queues", "set", "names of all queues on the server", "never expires"],
    ["ardiq:{<queue>}:job:<id>", "string", "the job record: where the job is; after the job has ended, its result", "until the job has ended, then for the result's TTL"],
    ["ardiq:{<queue>}:result:<id>", "string", "the result of a job whose record is kept for longer than the result; same form as record `R`", "the result's TTL, usually below 30 s"],
    ["ardiq:{<queue>}:lane:<lane>", "stream", "work of a lane; each entry has one field, whose name is the label and whose value is the envelope", "never expires; an entry stays until its outcome is committed"],
    ["ardiq:{<queue>}:returned:<lane>", "stream", "work of a lane that was returned or taken over; served before `lane:`", "as `lane:`"],
    ["ardiq:{<queue>}:due", "sorted set", "scheduled jobs by due time in epoch ms", "a member stays until it is promoted"],
    ["ardiq:{<queue>}:running", "hash", "recorded starts by job id: `<entry id> <worker> <start ms> <tries>`, then ` a` for the only job with a death in its process or ` c` for a run that was cleared of suspicion", "a field stays until the job's outcome is committed or the job is taken over"],
    ["ardiq:{<queue>}:workers", "sorted set", "workers by the end of their lease in epoch ms, plus a fraction for the extra time that it has had; -1: being taken over; 0, later -2: signed off with work left behind", "a member stays until the worker signs off or is taken over"],
    ["ardiq:{<queue>}:pulse", "string", "epoch ms of the last call that checked leases", "until the last worker signs off"],
    ["ardiq:{<queue>}:worker-info", "hash", "information that workers publish about themselves, by worker", "as `workers`"],
    ["ardiq:{<queue>}:waiters", "hash", "callers that wait for a result, by job id: lines of `<channel> <epoch ms at which the wait ends>`; in the field with the empty name, `- <epoch ms>`: until then, some worker cannot publish", "a field stays until the result is sent or the callers have given up; `scrub` removes lines that they could not remove"],
    ["ardiq:{<queue>}:aborting", "hash", "jobs that a worker has and that are to be aborted, by job id: the nonce of the enqueue", "a field stays until the job has ended"],
    ["ardiq:{<queue>}:linked", "hash", "unfinished jobs that have children, by job id: the nonce of the enqueue", "a field stays until the job has ended"],
    ["ardiq:{<queue>}:releasing", "hash", "ended parents whose children are not all released, by nonce and id: their outcome; and other work of `release`", "a field stays until that work is done"],
    ["ardiq:{<queue>}:children:<id>:<nonce>", "list", "the edges from a job to its children: kind, position of the input, nonce and id of the child", "an edge stays until the job has ended and the child was told"],
    ["ardiq:{<queue>}:parents:<id>:<nonce>", "set", "nonce and id of the parents that a waiting job still needs", "until the job is ready or has ended"],
    ["ardiq:{<queue>}:inputs:<id>:<nonce>", "hash", "outputs of its parents that a job gets as arguments, by position, and what else it needs to start", "until the job has ended"],
    ["ardiq:{<queue>}:output:<id>:<nonce>", "hash", "an output above 4 KiB that several jobs need, and how many still need it", "until the last of these jobs has ended"],
    ["ardiq:{<queue>}:gate:<nonce>", "string", "how many parts of a large workflow have arrived, or `open`", "a minute after each part, ten minutes after the last"],
    ["ardiq:{<queue>}:cron", "hash", "occurrences in epoch ms: in the field with the name of a schedule, the last one that was fired or skipped; in `<name> job`, the last one that became a job", "two fields per schedule; those of a dynamic schedule stay until it is removed, the others never expire"],
    ["ardiq:{<queue>}:schedules", "hash", "schedules by name: origin (`d` dynamic, `s` static), state (`a` active, `p` paused), revision (8 bytes), time of the last change (u48, epoch ms), plan; in the field with the empty name, the revision of the last change of a dynamic schedule", "a dynamic schedule stays until it is removed; a static one, unless it is paused, until no worker has declared it for two minutes"],
    ["ardiq:{<queue>}:declared", "sorted set", "static schedules by the epoch ms at which a worker last declared them", "as the static schedules in `schedules`"],
    ["ardiq:{<queue>}:dead", "stream", "dead letters: job id, result record, header and envelope, and the body if it was stored separately", "never expires; holds about the last 100,000"],
    ["ardiq:{<queue>}:lanes", "set", "lanes that were ever used", "never expires"],
    ["ardiq:{<queue>}:unique:<digest>", "string", "id of the unfinished job that has this identity", "until that job has ended"],
    ["ardiq:{<queue>}:body:<id>:<nonce>", "string", "arguments of a job that are too large for a script; the nonce in hexadecimal", "a minute before the enqueue; after it, until the job has ended"],
    ["ardiq:{<queue>}:aside:<name>", "any", "a former key `<name>` that had the wrong type", "a week"],
    ["ardiq:{<queue>}:survivals:<id>:<nonce>", "set", "entry ids of deliveries that were taken over although the worker that ran the job was alive", "a day"],
    ["ardiq:{<queue>}:notes:<id>:<nonce>", "hash", "what the runs of an unfinished job report: the fields `progress`, `reported` (when, in epoch ms) and `checkpoint` (a value, as the app's serializer wrote it)", "until the job has ended"],
    ["ardiq:{<queue>}:wake", "channel", "a due time in epoch ms, when it is earlier than all others; `abort`, when a job was added to `aborting`; `release`, when there is work in `releasing`; `schedules`, when a schedule was changed; `follow <process> <id> <id> …`, when a process begins to follow jobs, when a worker asks for it, and every 5 s", "—"],
    ["ardiq:{<queue>}:roll-call", "channel", "`who`, when a worker has connected: it asks which jobs are followed", "—"],
    ["ardiq:{<queue>}:push:<process>", "channel", "for the callers of one process: length of the id (2 bytes), id, then a result record (empty if it is large, see *Waiters*), or news of a job that the process follows: `E`, its state has changed; or `P`, nonce, epoch ms (6 bytes), progress", "—"],
];

/// Kind byte, what follows the nonce, meaning.
#[rustfmt::skip]
pub static RECORDS: &[[&str; 3]] = &[
    ["q", "`<entry id> <stream>`, the stream without the queue's prefix", "in a stream: waiting for a worker, or held by one"],
    ["d", "length of the stream's name (1 byte), stream, header, envelope", "in the due set: waiting for its due time"],
    ["R", "the result, in msgpack", "finished, the result is stored"],
    ["T", "nothing", "finished; if the result is stored, it is in `result:`, with the same nonce; the record is kept for as long as the enqueue may be repeated, at least 30 s"],
];

/// Form, field, type, meaning; in the order in which the fields are written.
#[rustfmt::skip]
pub static FORMS: &[[&str; 4]] = &[
    ["header", "tries, low half", "u16", "attempts counted so far, modulo 65,536"],
    ["header", "deaths", "u8", "worker processes that died while it ran"],
    ["header", "misses", "u8", "deliveries in a row to workers that did not know the task or could not read the arguments"],
    ["header", "flags", "u8", "bit 0: suspect, so its next start is recorded before it runs; bit 1: separate, so the body is stored under its own key; bit 2: alone, so no other job with a death ran in the last process that died; bit 3: inputs, so outputs of other jobs are among its arguments; bit 4: noted, so an earlier run may have left notes; bit 5: waits, so it is not ready before its parents have ended; the other bits are unused"],
    ["header", "tries, high half", "u16", "attempts counted so far, divided by 65,536"],
    ["header", "enqueued", "u48", "epoch ms of the enqueue"],
    ["envelope", "version", "u8", "1; a reader moves a job with a higher version to the dead letters"],
    ["envelope", "nonce", "8 bytes", "random; distinguishes a repeated enqueue from a new enqueue with the same id"],
    ["envelope", "name", "text", "registered name of the task, after a space if the job was enqueued together with jobs that depend on each other"],
    ["envelope", "body", "bytes", "the arguments, as the client's serializer wrote them; empty if they are stored separately"],
    ["envelope", "expire", "integer", "ms from the enqueue after which a job that has not started fails with the value `expired`; 0 if it never expires"],
    ["envelope", "unique", "text or nil", "identity of a unique job, in hexadecimal"],
    ["envelope", "headers", "map of text", "text that is passed along with the job"],
    ["envelope", "repeat", "integer", "ms for which the enqueue may be repeated; omitted unless it is longer than the default"],
    ["progress", "done", "integer", "steps done"],
    ["progress", "total", "integer or nil", "steps in total, if known"],
    ["progress", "message", "text or nil", "what the task is doing, for people"],
    ["plan", "task", "text", "name of the task"],
    ["plan", "lane", "text", "lane of the jobs"],
    ["plan", "expression", "text or nil", "cron expression"],
    ["plan", "every", "integer", "period in ms, aligned to the epoch; 0 if there is an expression"],
    ["plan", "zone", "text", "name of the time zone of the expression"],
    ["plan", "coalesce", "boolean", "skip an occurrence while the job of the previous one is unfinished"],
    ["plan", "drift", "integer", "ms after which a late occurrence is dropped"],
    ["plan", "expire", "integer", "as in the envelope"],
    ["plan", "unique", "text or nil", "as in the envelope"],
    ["plan", "headers", "map of text", "as in the envelope"],
    ["plan", "body", "bytes", "the arguments, at most 4 KiB"],
    ["result", "outcome", "bytes or text", "bytes: the encoded value; text: what went wrong"],
    ["result", "tries", "integer", "number of tries"],
    ["result", "enqueued", "integer", "epoch ms"],
    ["result", "started", "integer", "epoch ms of the last start; 0 if it never started"],
    ["result", "finished", "integer", "epoch ms"],
    ["result", "id", "text", "job id"],
    ["result", "name", "text", "name of the task"],
    ["result", "worker", "text", "worker that committed the outcome"],
    ["result", "aborted", "boolean", "ended by an abort"],
    ["result", "error type", "text or nil", "qualified name of the exception's type"],
    ["result", "traceback", "text or nil", "formatted traceback"],
];

/// JobState, how to recognize it.
#[rustfmt::skip]
pub static STATES: &[[&str; 2]] = &[
    ["queued", "record `q`, and no start is recorded for its entry; a worker may already hold it"],
    ["scheduled", "record `d`; the due time is its score in `due`, or the job waits for others"],
    ["running", "record `q`, and `running` has a start of this entry"],
    ["complete", "record `R`, or record `T` and a result in `result:`"],
    ["not_found", "no record, or record `T` and no result in `result:`"],
];

/// A transition can also begin at a job that did not exist.
pub const NEW: &str = "—";

/// The cause of the only transition that no script makes: a key's time to live ends.
pub const EXPIRY: &str = "TTL";

/// From, to, by, when.
#[rustfmt::skip]
pub static TRANSITIONS: &[[&str; 4]] = &[
    [NEW, "queued", "enqueue", "without a delay, or with a due time that has passed"],
    [NEW, "scheduled", "enqueue", "with a delay, or with a due time in the future"],
    [NEW, "queued", "fire", "an occurrence of a schedule is due and was not fired yet, or the schedule is fired by hand"],
    ["complete", "queued", "enqueue", "the id is used again: a new run replaces the old result"],
    ["complete", "scheduled", "enqueue", "the same, with a delay or a due time in the future"],
    ["not_found", "queued", "enqueue", "the id is used again after a result that was not stored or has expired"],
    ["not_found", "scheduled", "enqueue", "the same, with a delay or a due time in the future"],
    [NEW, "queued", "link", "a job of a workflow that need not wait"],
    [NEW, "scheduled", "link", "it waits for other jobs, or for its due time"],
    [NEW, "complete", "link", "its parent had ended before, and that decides about it"],
    ["complete", "queued", "link", "the id is used again"],
    ["complete", "scheduled", "link", "the same, with parents or a due time in the future"],
    ["scheduled", "queued", "settle", "the last job that it waited for has ended"],
    ["scheduled", "queued", "release", "the same"],
    ["scheduled", "complete", "settle", "a job that it waited for has failed, or it is the fallback of one that has succeeded"],
    ["scheduled", "complete", "release", "the same"],
    ["scheduled", "complete", "relink", "it is not known how a job that it waited for has ended"],
    ["scheduled", "queued", "promote", "it is due"],
    ["queued", "queued", "fetch", "it is delivered to a worker, where its entry is pending"],
    ["queued", "running", "start", "its run has lasted 5 ms, or it is a suspect that is about to run"],
    ["queued", "complete", "settle", "it ended within 5 ms, or was not run: aborted, expired, poison, undecodable"],
    ["running", "complete", "settle", "it succeeded, failed for good, was aborted, or was dead-lettered"],
    ["queued", "not_found", "settle", "the same as for `complete`, with a result that is not stored"],
    ["running", "not_found", "settle", "the same as for `complete`, with a result that is not stored"],
    ["queued", "scheduled", "settle", "it failed within 5 ms and will be retried later, or the worker does not know its task or cannot read its arguments"],
    ["running", "scheduled", "settle", "it failed and will be retried later"],
    ["queued", "queued", "settle", "the worker returned it to the queue, or it is retried at once"],
    ["running", "queued", "settle", "the same"],
    ["queued", "queued", "reclaim", "the lease of its worker expired"],
    ["running", "queued", "reclaim", "the same; the run counts as an attempt, and a death is counted"],
    ["queued", "complete", "wait", "its entry was deleted by something other than ArdiQ: the job has failed, and its callers are notified"],
    ["queued", "complete", "scrub", "the same; or it was to be aborted, and its delivery had been acknowledged without an outcome"],
    ["scheduled", "complete", "promote", "its record is truncated"],
    ["queued", "complete", "abort", "it is aborted, and no worker has it"],
    ["scheduled", "complete", "abort", "it is aborted"],
    ["queued", "complete", "reclaim", "it was to be aborted, and the lease of its worker expired"],
    ["running", "complete", "reclaim", "the same"],
    ["complete", "not_found", EXPIRY, "the result has expired"],
];

/// All tables, in the order of the page.
pub fn tables() -> Vec<Table> {
    vec![
        table("keys", &["name", "type", "meaning", "lifetime"], KEYS),
        table("records", &["kind", "after the nonce", "meaning"], RECORDS),
        table("forms", &["form", "field", "type", "meaning"], FORMS),
        table("states", &["state", "recognized by"], STATES),
        table("transitions", &["from", "to", "by", "when"], TRANSITIONS),
        scripts(),
        versions(),
    ]
}

fn table<const N: usize>(name: &'static str, columns: &'static [&'static str; N], rows: &[[&str; N]]) -> Table {
    let rows = rows.iter().map(|row| row.iter().map(|cell| (*cell).to_owned()).collect()).collect();
    Table { name, columns, rows }
}

fn scripts() -> Table {
    let rows = ALL
        .iter()
        .map(|script| Signature::of(script))
        .map(|head| vec![head.name, head.flags, head.purpose, head.keys, head.arguments, head.out, head.remarks]);
    Table {
        name: "scripts",
        columns: &["name", "flags", "purpose", "keys", "arguments", "out", "remarks"],
        rows: rows.collect(),
    }
}

fn versions() -> Table {
    let rows = [
        ("envelope version", u64::from(envelope::VERSION)),
        ("bytes of an envelope before its msgpack part", envelope::PREFIX as u64),
        ("bytes of a header", entry::HEADER as u64),
        ("bytes of a record before its body", record::PREFIX as u64),
        ("maximum number of jobs in one call of enqueue", CHUNK as u64),
        ("maximum number of jobs requested by one call of fetch, and of outcomes in one call of settle", BATCH as u64),
        ("bytes above which a body is stored separately", LARGE_BODY as u64),
    ];
    let rows = rows.iter().map(|(what, number)| vec![(*what).to_owned(), number.to_string()]);
    Table { name: "versions", columns: &["what", "number"], rows: rows.collect() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::protocol::entry::Header;
    use crate::protocol::envelope::Envelope;
    use crate::protocol::keys::{Keys, QUEUES};
    use crate::protocol::notes::Progress;
    use crate::protocol::record::{Location, Outcome, ResultRecord};
    use crate::protocol::schedule::Schedule;
    use crate::protocol::state::JobState;

    fn column<const N: usize>(rows: &[[&'static str; N]], index: usize) -> BTreeSet<&'static str> {
        rows.iter().map(|row| row[index]).collect()
    }

    fn fields(form: &str) -> Vec<&'static [&'static str; 4]> {
        FORMS.iter().filter(|row| row[0] == form).collect()
    }

    #[test]
    fn the_keys_are_those_that_the_code_spells() {
        let keys = Keys::new("<queue>", &["<lane>".into()]);
        let (one_job, result, push) = (keys.job("<id>"), keys.result("<id>"), keys.push("<process>"));
        let body = keys.body("<id>", [0; 8]).replace(&"0".repeat(16), "<nonce>");
        let noted = keys.notes("<id>", [0; 8]).replace(&"0".repeat(16), "<nonce>");
        // Destructured without `..`, so that a new key has to be added here, and then to the
        // catalog.
        #[rustfmt::skip]
        let Keys {
            queue: _, lanes: _, base: _, job: _, result: _, unique, body: _, aside, survivals: _, notes: _, due, running, workers, pulse, worker_info,
            waiters, aborting, linked, releasing, cron, schedules, declared, dead, known_lanes, wake, roll_call, lane_streams, streams,
        } = &keys;
        let survivals = keys.survivals("<id>", [0; 8]).replace(&"0".repeat(16), "<nonce>");
        let links = keys.links("<id>", [0; 8]).map(|name| name.replace(&"0".repeat(16), "<nonce>"));
        let (unique, aside) = (format!("{unique}<digest>"), format!("{aside}<name>"));
        let mut spelled =
            BTreeSet::from([QUEUES, &one_job, &push, &unique, &body, &aside, due, running, workers, worker_info]);
        spelled.extend([
            &survivals,
            &noted,
            result.as_str(),
            pulse,
            waiters.as_str(),
            aborting,
            cron,
            dead,
            known_lanes,
        ]);
        spelled.extend([wake.as_str(), roll_call, linked, releasing]);
        spelled.extend(links.iter().map(String::as_str));
        spelled.extend([schedules.as_str(), declared]);
        spelled.extend(lane_streams.iter().chain(streams).map(String::as_str));
        assert_eq!(column(KEYS, 0), spelled);
    }

    #[test]
    fn the_record_kinds_are_those_that_the_reader_knows() {
        let known: BTreeSet<String> = (0..=u8::MAX)
            .filter(|kind| Location::of(&[&[*kind][..], b"12345678\x011 x"].concat()).is_some())
            .map(|kind| char::from(kind).to_string())
            .collect();
        assert_eq!(column(RECORDS, 0).into_iter().map(str::to_owned).collect::<BTreeSet<_>>(), known);
    }

    #[test]
    fn the_header_has_the_bytes_that_its_fields_say() {
        let bits: usize =
            fields("header").iter().filter_map(|row| row[2].strip_prefix('u')?.parse::<usize>().ok()).sum();
        assert_eq!(bits / 8, Header::default().encode().len());
    }

    #[test]
    fn the_msgpack_forms_have_as_many_fields_as_are_written() {
        let array = |bytes: &[u8]| usize::from(bytes[envelope::PREFIX] & 0x0f);
        // Version and nonce come before the array.
        let longest = Envelope { repeat_ms: 1, ..Envelope::default() };
        assert_eq!(fields("envelope").len() - 2, array(&longest.encode()));
        assert_eq!(fields("plan").len(), usize::from(Schedule::default().encode_plan()[0] & 0x0f));
        let result = ResultRecord {
            outcome: Outcome::Value(Vec::new()),
            tries: 0,
            enqueued_ms: 0,
            started_ms: 0,
            finished_ms: 0,
            id: String::new(),
            name: String::new(),
            worker: String::new(),
            aborted: false,
            error_type: None,
            traceback: None,
        };
        assert_eq!(fields("result").len(), array(&result.encode([0; 8])));
        assert_eq!(fields("progress").len(), usize::from(Progress::default().encode()[0] & 0x0f));
    }

    #[test]
    fn the_states_are_those_that_the_code_knows() {
        assert_eq!(column(STATES, 0), JobState::ALL.into_iter().map(JobState::name).collect());
    }

    #[test]
    fn transitions_go_between_known_states_by_known_scripts() {
        let states = column(STATES, 0);
        let scripts: BTreeSet<&str> = ALL.iter().map(|script| script.name).collect();
        for [from, to, by, when] in TRANSITIONS {
            assert!(states.contains(from) || *from == NEW, "from {from}");
            assert!(states.contains(to), "to {to}");
            assert!(scripts.contains(by) || *by == EXPIRY, "by {by}");
            assert!(!when.is_empty());
        }
        assert_eq!(column(TRANSITIONS, 1), states, "every state can be reached");
    }

    #[test]
    fn every_script_that_writes_a_job_record_makes_a_transition() {
        let makes = column(TRANSITIONS, 2);
        for script in ALL {
            // After the prelude, which all scripts have.
            let own = script.text.split(&format!("-- {}: ", script.name)).nth(1).unwrap_or_default();
            let writes = own.contains("add_to_stream(base") || own.contains("'SET', job_key");
            assert!(!writes || makes.contains(script.name), "{} is missing", script.name);
        }
    }

    #[test]
    fn every_script_is_listed_and_every_row_has_its_cells() {
        for table in tables() {
            assert!(table.rows.iter().all(|row| row.len() == table.columns.len()), "{}", table.name);
            if table.name == "scripts" {
                let listed: Vec<&str> = table.rows.iter().map(|row| row[0].as_str()).collect();
                assert_eq!(listed, ALL.iter().map(|script| script.name).collect::<Vec<_>>());
            }
        }
    }
}
