//! The names of all Redis keys and channels. No other file contains one.

/// Set of the names of all queues on a server. It is the only key without a queue's hash tag.
pub const QUEUES: &str = "ardiq:queues";

/// Prefix of all keys.
pub const PREFIX: &str = "ardiq:";

/// Prefix, after that of all keys or of a queue, of keys that had the wrong type and were set
/// aside.
pub const ASIDE: &str = "aside:";

/// The ACL pattern that matches all keys and channels.
pub const PATTERN: &str = "ardiq:*";

/// Prefix, within a queue, of the streams of work that was returned to the queue or taken over.
pub const RETURNED: &str = "returned:";

/// Prefix of the ids of the jobs that schedules create.
pub const OCCURRENCE: &str = "cron:";

/// Prefix, within a queue, of the streams of lanes.
pub const LANE: &str = "lane:";

/// Names, within a queue, of the keys that link jobs: the edges to children, the parents that a job
/// waits for, the inputs of a job, an output that several jobs need, and the gate of a graph that
/// is enqueued in parts.
pub const LINKS: &str = "children: parents: inputs: output: gate:";

/// Distinguishes one enqueue of an id from another.
pub type Nonce = [u8; 8];

/// The keys of one queue. They share a hash tag, so that they are in one cluster slot.
#[derive(Debug, Clone)]
pub struct Keys {
    /// The name of the queue, and of the consumer group.
    pub queue: String,
    /// Lanes, lowest first.
    pub lanes: Vec<String>,
    /// Prefix of all keys of the queue.
    pub base: String,
    /// Prefix of job records.
    pub job: String,
    /// Prefix of results that expire before the record of their job.
    pub result: String,
    /// Prefix of the keys that hold unique identities.
    pub unique: String,
    /// Prefix of bodies that are stored separately.
    pub body: String,
    /// Prefix of keys that had the wrong type and were set aside.
    pub aside: String,
    /// Prefix of the keys that count survivals: workers that were declared dead, but turned out to
    /// be alive.
    pub survivals: String,
    /// Prefix of the keys with the progress and the checkpoints of unfinished jobs.
    pub notes: String,
    /// Sorted set of scheduled jobs by due time.
    pub due: String,
    /// Hash of recorded runs by job id.
    pub running: String,
    /// Sorted set of workers by the end of their lease.
    pub workers: String,
    /// Time of the last call that checked leases.
    pub pulse: String,
    /// Hash of the descriptions that workers publish.
    pub worker_info: String,
    /// Hash of waiting callers by job id.
    pub waiters: String,
    /// Hash of jobs that a worker has and that are to be aborted, by job id.
    pub aborting: String,
    /// Hash of unfinished jobs that have children, by job id.
    pub linked: String,
    /// Hash of ended jobs whose children are being released.
    pub releasing: String,
    /// Hash of the last occurrences by schedule.
    pub cron: String,
    /// Hash of the schedules by name.
    pub schedules: String,
    /// Sorted set of static schedules by the time at which a worker last declared them.
    pub declared: String,
    /// Stream of dead letters.
    pub dead: String,
    /// Set of the lanes that were ever used.
    pub known_lanes: String,
    /// Channel on which earlier due times, requests to abort, children to release, changed
    /// schedules, and which jobs are followed are announced to workers.
    pub wake: String,
    /// Channel on which a worker that has connected asks which jobs are followed.
    pub roll_call: String,
    /// Lane streams, lowest first.
    pub lane_streams: Vec<String>,
    /// All streams in the order in which they are served: the highest lane first, and for each lane
    /// returned work first.
    pub streams: Vec<String>,
}

impl Keys {
    /// The keys of `queue` with `lanes`, lowest first.
    pub fn new(queue: &str, lanes: &[String]) -> Self {
        let base = format!("ardiq:{{{queue}}}:");
        let key = |name: &str| format!("{base}{name}");
        let stream = |kind: &str, lane: &String| format!("{base}{kind}{lane}");
        Self {
            queue: queue.to_owned(),
            lanes: lanes.to_vec(),
            job: key("job:"),
            result: key("result:"),
            unique: key("unique:"),
            body: key("body:"),
            aside: key(ASIDE),
            due: key("due"),
            running: key("running"),
            survivals: key("survivals:"),
            notes: key("notes:"),
            workers: key("workers"),
            pulse: key("pulse"),
            worker_info: key("worker-info"),
            waiters: key("waiters"),
            aborting: key("aborting"),
            linked: key("linked"),
            releasing: key("releasing"),
            cron: key("cron"),
            schedules: key("schedules"),
            declared: key("declared"),
            dead: key("dead"),
            known_lanes: key("lanes"),
            wake: key("wake"),
            roll_call: key("roll-call"),
            lane_streams: lanes.iter().map(|lane| stream(LANE, lane)).collect(),
            streams: lanes.iter().rev().flat_map(|lane| [stream(RETURNED, lane), stream(LANE, lane)]).collect(),
            base,
        }
    }

    /// The keys whose names do not depend on a job, each with its type.
    pub fn types(&self) -> Vec<(&str, &'static str)> {
        let mut types = vec![
            (self.due.as_str(), "zset"),
            (&self.workers, "zset"),
            (&self.running, "hash"),
            (&self.worker_info, "hash"),
            (&self.waiters, "hash"),
            (&self.aborting, "hash"),
            (&self.linked, "hash"),
            (&self.releasing, "hash"),
            (&self.cron, "hash"),
            (&self.schedules, "hash"),
            (&self.declared, "zset"),
            (&self.dead, "stream"),
            (&self.known_lanes, "set"),
        ];
        types.extend(self.streams.iter().map(|stream| (stream.as_str(), "stream")));
        types
    }

    /// Record of a job.
    pub fn job(&self, id: &str) -> String {
        format!("{}{id}", self.job)
    }

    /// Key of a result that expires before the record of its job.
    pub fn result(&self, id: &str) -> String {
        format!("{}{id}", self.result)
    }

    /// Key of the body of one enqueue of a job. Two enqueues of the same id have different keys.
    pub fn body(&self, id: &str, nonce: Nonce) -> String {
        format!("{}{id}:{:016x}", self.body, u64::from_be_bytes(nonce))
    }

    /// Key of the number of workers that were declared dead while they ran this job, but turned out
    /// to be alive.
    pub fn survivals(&self, id: &str, nonce: Nonce) -> String {
        format!("{}{id}:{:016x}", self.survivals, u64::from_be_bytes(nonce))
    }

    /// The keys that link one job with others, in the order of [`LINKS`].
    pub fn links(&self, id: &str, nonce: Nonce) -> [String; 5] {
        let mut kinds = LINKS.split(' ');
        let mut next = || kinds.next().unwrap_or_default();
        let name = |kind: &str| format!("{}{kind}{id}:{:016x}", self.base, u64::from_be_bytes(nonce));
        let of_job = [name(next()), name(next()), name(next()), name(next())];
        let [children, parents, inputs, output] = of_job;
        [children, parents, inputs, output, format!("{}{}{:016x}", self.base, next(), u64::from_be_bytes(nonce))]
    }

    /// Hash of the output of a job, given as id and nonce, that several jobs need.
    pub fn output(&self, name: &str) -> String {
        format!("{}{}{name}", self.base, LINKS.split(' ').nth(3).unwrap_or_default())
    }

    /// Hash of the inputs of a job.
    pub fn inputs(&self, id: &str, nonce: Nonce) -> String {
        let [_, _, inputs, ..] = self.links(id, nonce);
        inputs
    }

    /// Key of the progress and the checkpoint of a job.
    pub fn notes(&self, id: &str, nonce: Nonce) -> String {
        format!("{}{id}:{:016x}", self.notes, u64::from_be_bytes(nonce))
    }

    /// Channel on which a process receives results, and news of the jobs that it follows.
    pub fn push(&self, process: &str) -> String {
        format!("{}push:{process}", self.base)
    }

    /// The stream of a lane, which need not be one of this process.
    pub fn lane_stream(&self, lane: &str) -> String {
        format!("{}{LANE}{lane}", self.base)
    }

    /// The id of the job of one occurrence of a schedule.
    pub fn occurrence(schedule: &str, fire_ms: u64) -> String {
        format!("{OCCURRENCE}{schedule}:{fire_ms}")
    }

    /// The lane that a position in `streams` belongs to.
    pub fn lane_of(&self, stream: usize) -> &str {
        let from_highest = stream / 2;
        self.lanes.iter().rev().nth(from_highest).map_or("", String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_keys_of_a_queue_share_one_hash_tag() {
        let keys = Keys::new("mail", &["low".into(), "high".into()]);
        for key in
            [&keys.due, &keys.running, &keys.workers, &keys.dead, &keys.job("a"), &keys.push("p"), &keys.streams[0]]
        {
            assert!(key.starts_with("ardiq:{mail}:"), "{key}");
        }
    }

    #[test]
    fn higher_lanes_and_returned_work_are_served_first() {
        let keys = Keys::new("q", &["low".into(), "high".into()]);
        let order: Vec<&str> = keys.streams.iter().map(|key| &key[keys.base.len()..]).collect();
        assert_eq!(order, ["returned:high", "lane:high", "returned:low", "lane:low"]);
        assert_eq!((keys.lane_of(1), keys.lane_of(2)), ("high", "low"));
    }
}
