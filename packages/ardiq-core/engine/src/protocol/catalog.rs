//! The protocol as data: what the page docs/protocol.md shows and what tools may ask for. Every list here is compared, by
//! the tests below, with the code that acts on it. The tables are kept a row to a line.

use super::signature::Signature;
use super::{entry, envelope, record};
use crate::scripts::ALL;
use crate::scripts::deliver::BATCH;
use crate::scripts::produce::CHUNK;
use crate::submit::LARGE_BODY;

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
    ["ardiq:queues", "set", "names of all queues on the server", "for ever"],
    ["ardiq:{<queue>}:job:<id>", "string", "the job record: where the job is, in the end its result", "until the job has ended, then for the result's TTL"],
    ["ardiq:{<queue>}:result:<id>", "string", "the result of a job whose record is kept for longer than that, as in record `R`", "the result's TTL, below 30 s as a rule"],
    ["ardiq:{<queue>}:lane:<lane>", "stream", "work of a lane: entries of one field, its name the label, its value the envelope", "for ever; an entry until its job is settled"],
    ["ardiq:{<queue>}:returned:<lane>", "stream", "work of a lane that was handed back or taken over; served before `lane:`", "as `lane:`"],
    ["ardiq:{<queue>}:due", "sorted set", "scheduled jobs by due time in epoch ms", "a member until it is promoted"],
    ["ardiq:{<queue>}:running", "hash", "recorded starts by job id: `<entry id> <worker> <start ms> <tries>`, and ` a` for the only suspect of its process, ` c` for a run that has outlived suspicion", "a field until the job is settled or taken over"],
    ["ardiq:{<queue>}:workers", "sorted set", "workers by the end of their lease in epoch ms; -1 for one whose work is being taken over, 0 for one that left work behind", "a member until it signs off or is taken over"],
    ["ardiq:{<queue>}:pulse", "string", "epoch ms of the last call that judged leases", "until the last worker signs off"],
    ["ardiq:{<queue>}:worker-info", "hash", "what workers say about themselves, by worker", "as `workers`"],
    ["ardiq:{<queue>}:waiters", "hash", "who waits for a result, by job id: lines of `<channel> <epoch ms at which the wait ends>`", "a field until the result is sent or the callers have given up; what they could not withdraw goes with `scrub`"],
    ["ardiq:{<queue>}:cron", "hash", "the last occurrence that was fired, in epoch ms, by schedule", "for ever, a field per schedule"],
    ["ardiq:{<queue>}:dead", "stream", "dead letters: job id, result record, header and envelope, the body if it was kept apart", "for ever, about the last 100 000"],
    ["ardiq:{<queue>}:lanes", "set", "lanes that were ever used", "for ever"],
    ["ardiq:{<queue>}:unique:<digest>", "string", "id of the unfinished job that has this identity", "until that job has ended"],
    ["ardiq:{<queue>}:body:<id>:<nonce>", "string", "arguments of a job that are too large for a script; the nonce in hexadecimal", "a minute, and from the enqueue on until the job has ended"],
    ["ardiq:{<queue>}:aside:<name>", "any", "what a key of this name held although it should hold something else", "a week"],
    ["ardiq:{<queue>}:survivals:<id>:<nonce>", "string", "how many workers that were taken for dead while they ran the job turned out to live", "a day"],
    ["ardiq:{<queue>}:wake", "channel", "a due time in epoch ms that is earlier than all before it", "—"],
    ["ardiq:{<queue>}:push:<process>", "channel", "results for the callers of one process: length of the id (2 bytes), id, result record (nothing when it is large, see *Waiters*)", "—"],
];

/// Kind byte, what follows the nonce, meaning.
#[rustfmt::skip]
pub static RECORDS: &[[&str; 3]] = &[
    ["q", "`<entry id> <stream>`, the stream without the queue's prefix", "in a stream: waits for a worker, or one has it"],
    ["d", "length of the stream's name (1 byte), stream, header, envelope", "in the due set: waits for its time"],
    ["R", "the result, in msgpack", "finished, the result is stored"],
    ["T", "nothing", "finished, the result is not stored here: it is in `result:` when that has the same nonce; kept for as long as the enqueue may be repeated, 30 s at least"],
];

/// Form, field, type, meaning; in the order in which they are written.
#[rustfmt::skip]
pub static FORMS: &[[&str; 4]] = &[
    ["header", "tries, low half", "u16", "starts that are spent, their number modulo 65,536"],
    ["header", "deaths", "u8", "worker processes that died while it ran"],
    ["header", "misses", "u8", "deliveries to workers that did not know the task"],
    ["header", "flags", "u8", "bit 0: suspect, its next start is recorded before it happens; bit 1: the body is kept apart, under a key of its own; bit 2: no other suspect ran in the process that died last; the others are free"],
    ["header", "tries, high half", "u16", "the same, divided by 65,536"],
    ["header", "enqueued", "u48", "epoch ms of the enqueue"],
    ["envelope", "version", "u8", "1; a reader refuses a higher one with a dead letter"],
    ["envelope", "nonce", "8 bytes", "random; tells a repeated try of one enqueue from another enqueue with the same id"],
    ["envelope", "name", "text", "registered name of the task"],
    ["envelope", "body", "bytes", "the arguments, as the client's serializer wrote them; empty when they are kept apart"],
    ["envelope", "expire", "integer", "ms from the enqueue after which a job that has not started is dropped; 0 = never"],
    ["envelope", "unique", "text or nil", "identity of a unique job, in hexadecimal"],
    ["envelope", "headers", "map of text", "text that travels along"],
    ["envelope", "repeat", "integer", "ms for which the enqueue may be repeated; left out unless the producer is more patient than most"],
    ["result", "outcome", "bytes or text", "bytes: the encoded value; text: what went wrong"],
    ["result", "tries", "integer", "starts that it took"],
    ["result", "enqueued", "integer", "epoch ms"],
    ["result", "started", "integer", "epoch ms of the last start; 0 = never"],
    ["result", "finished", "integer", "epoch ms"],
    ["result", "id", "text", "job id"],
    ["result", "name", "text", "name of the task"],
    ["result", "worker", "text", "worker that settled it"],
    ["result", "aborted", "boolean", "ended by an abort"],
    ["result", "error type", "text or nil", "qualified name of the exception's type"],
    ["result", "traceback", "text or nil", "formatted traceback"],
];

/// State, how it is told.
#[rustfmt::skip]
pub static STATES: &[[&str; 2]] = &[
    ["queued", "record `q`, and no start recorded for this entry; a worker may have it already"],
    ["scheduled", "record `d`; the due time is its score in `due`"],
    ["running", "record `q`, and `running` has a start of this very entry"],
    ["complete", "record `R`, or record `T` with a result beside it"],
    ["not_found", "no record, or record `T` without a result beside it"],
];

/// Where a transition may begin besides a state: at a job that did not exist.
pub const NEW: &str = "—";

/// What makes a transition that no script makes: the time to live of a key.
pub const EXPIRY: &str = "TTL";

/// From, to, by, when.
#[rustfmt::skip]
pub static TRANSITIONS: &[[&str; 4]] = &[
    [NEW, "queued", "enqueue", "no delay is asked for, or the time asked for has passed"],
    [NEW, "scheduled", "enqueue", "a delay or a time to come is asked for"],
    [NEW, "queued", "fire", "an occurrence of a schedule has come and was not fired yet"],
    ["complete", "queued", "enqueue", "the id is used again: a new run, and the old result is gone"],
    ["complete", "scheduled", "enqueue", "likewise, with a delay or a time to come"],
    ["not_found", "queued", "enqueue", "likewise, after a result that was not stored or has expired"],
    ["not_found", "scheduled", "enqueue", "likewise, with a delay or a time to come"],
    ["scheduled", "queued", "promote", "its time has come"],
    ["queued", "queued", "fetch", "delivered to a worker: the entry is pending there"],
    ["queued", "running", "start", "its run has lasted 5 ms, or it is a suspect and about to run"],
    ["queued", "complete", "settle", "it ended within 5 ms, or was not run: expired, poison, undecodable"],
    ["running", "complete", "settle", "it returned, failed for good, or was dead-lettered"],
    ["queued", "not_found", "settle", "as to `complete`, with a result that is not to be stored"],
    ["running", "not_found", "settle", "as to `complete`, with a result that is not to be stored"],
    ["queued", "scheduled", "settle", "it failed within 5 ms and is tried again later, or the worker does not know its task"],
    ["running", "scheduled", "settle", "it failed and is tried again later"],
    ["queued", "queued", "settle", "the worker stops and hands it back, or it is tried again at once"],
    ["running", "queued", "settle", "likewise"],
    ["queued", "queued", "reclaim", "the lease of the worker that had it ran out"],
    ["running", "queued", "reclaim", "likewise; a try is spent and a death counted"],
    ["queued", "complete", "wait", "its entry was deleted from outside: the job has failed, as its callers are told"],
    ["queued", "complete", "scrub", "likewise"],
    ["scheduled", "complete", "promote", "its record was cut short by somebody"],
    ["complete", "not_found", EXPIRY, "the result has been kept long enough"],
];

/// Everything, in the order of the page.
pub fn tables() -> Vec<Table> {
    vec![
        table("keys", &["name", "type", "meaning", "lifetime"], KEYS),
        table("records", &["kind", "after the nonce", "meaning"], RECORDS),
        table("forms", &["form", "field", "type", "meaning"], FORMS),
        table("states", &["state", "told by"], STATES),
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
        ("jobs in one call of enqueue, at most", CHUNK as u64),
        ("jobs asked for in one call of fetch, and outcomes in one call of settle, at most", BATCH as u64),
        ("bytes of a body above which it is kept apart", LARGE_BODY as u64),
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
    use crate::protocol::record::{Outcome, Place, ResultRecord};

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
        // Taken apart without `..`, so that a new key has to be entered here, and then in the catalogue.
        #[rustfmt::skip]
        let Keys {
            queue: _, lanes: _, base: _, job: _, result: _, unique, body: _, aside, survivals: _, due, running, workers, pulse, worker_info,
            waiters, cron, dead, known_lanes, wake, lane_streams, streams,
        } = &keys;
        let survivals = keys.survivals("<id>", [0; 8]).replace(&"0".repeat(16), "<nonce>");
        let (unique, aside) = (format!("{unique}<digest>"), format!("{aside}<name>"));
        let mut spelled =
            BTreeSet::from([QUEUES, &one_job, &push, &unique, &body, &aside, due, running, workers, worker_info]);
        spelled.extend([&survivals, result.as_str(), pulse, waiters.as_str(), cron, dead, known_lanes, wake]);
        spelled.extend(lane_streams.iter().chain(streams).map(String::as_str));
        assert_eq!(column(KEYS, 0), spelled);
    }

    #[test]
    fn the_record_kinds_are_those_that_the_reader_knows() {
        let known: BTreeSet<String> = (0..=u8::MAX)
            .filter(|kind| Place::of(&[&[*kind][..], b"12345678\x011 x"].concat()).is_some())
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
        // Version and nonce stand before the array.
        let longest = Envelope { repeat_ms: 1, ..Envelope::default() };
        assert_eq!(fields("envelope").len() - 2, array(&longest.encode()));
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
            // Past the prelude, which all have.
            let own = script.text.split(&format!("-- {}: ", script.name)).nth(1).unwrap_or_default();
            let writes = own.contains("place(base") || own.contains("place(ARGV") || own.contains("'SET', job_key");
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
