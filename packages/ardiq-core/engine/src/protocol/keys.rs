//! The names of all Redis keys and channels. Nothing else spells one.

/// Set of the names of all queues on a server; the only key outside a queue's hash tag.
pub const QUEUES: &str = "ardiq:queues";

/// The ACL pattern that matches all keys and channels.
pub const PATTERN: &str = "ardiq:*";

/// Prefix, within a queue, of the stream of work that was handed back or taken over.
pub const RETURNED: &str = "returned:";

/// Prefix, within a queue, of the stream of a lane.
pub const LANE: &str = "lane:";

/// Distinguishes one enqueue of an id from another.
pub type Nonce = [u8; 8];

/// The keys of one queue, all under one hash tag, so that they live in one cluster slot.
#[derive(Debug, Clone)]
pub struct Keys {
    /// The queue's name; also the name of the consumer group.
    pub queue: String,
    /// Lanes, lowest first.
    pub lanes: Vec<String>,
    /// What all keys of the queue begin with.
    pub base: String,
    /// Prefix of job records.
    pub job: String,
    /// Prefix of results that are kept for a shorter time than the job's record.
    pub result: String,
    /// Prefix of the keys that hold unique identities.
    pub unique: String,
    /// Prefix of the keys that hold arguments which are too large for a script.
    pub body: String,
    /// Prefix of keys that held something else than they should, and were moved out of the way.
    pub aside: String,
    /// Prefix of the keys that count deaths which were none.
    pub survivals: String,
    /// Sorted set of scheduled jobs by due time.
    pub due: String,
    /// Hash of recorded runs by job id.
    pub running: String,
    /// Sorted set of workers by lease deadline.
    pub workers: String,
    /// Time of the last call that judged leases.
    pub pulse: String,
    /// Hash of what workers say about themselves.
    pub worker_info: String,
    /// Hash of who waits for which result.
    pub waiters: String,
    /// Hash of the last fired occurrence by schedule.
    pub cron: String,
    /// Stream of dead letters.
    pub dead: String,
    /// Set of the lanes that were ever used.
    pub known_lanes: String,
    /// Channel on which earlier due times are announced to workers.
    pub wake: String,
    /// Lane streams, lowest first.
    pub lane_streams: Vec<String>,
    /// All streams in the order in which they are served: highest lane first, of each the returned work first.
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
            aside: key("aside:"),
            due: key("due"),
            running: key("running"),
            survivals: key("survivals:"),
            workers: key("workers"),
            pulse: key("pulse"),
            worker_info: key("worker-info"),
            waiters: key("waiters"),
            cron: key("cron"),
            dead: key("dead"),
            known_lanes: key("lanes"),
            wake: key("wake"),
            lane_streams: lanes.iter().map(|lane| stream(LANE, lane)).collect(),
            streams: lanes.iter().rev().flat_map(|lane| [stream(RETURNED, lane), stream(LANE, lane)]).collect(),
            base,
        }
    }

    /// The keys that every process of the queue knows, each with the type of what it holds.
    pub fn types(&self) -> Vec<(&str, &'static str)> {
        let mut types = vec![
            (self.due.as_str(), "zset"),
            (&self.workers, "zset"),
            (&self.running, "hash"),
            (&self.worker_info, "hash"),
            (&self.waiters, "hash"),
            (&self.cron, "hash"),
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

    /// A result that is kept for a shorter time than the job's record.
    pub fn result(&self, id: &str) -> String {
        format!("{}{id}", self.result)
    }

    /// Where the large arguments of one enqueue of a job are. Two enqueues of one id never share them.
    pub fn body(&self, id: &str, nonce: Nonce) -> String {
        format!("{}{id}:{:016x}", self.body, u64::from_be_bytes(nonce))
    }

    /// How many workers turned out to live that were taken for dead while they ran this job.
    pub fn survivals(&self, id: &str, nonce: Nonce) -> String {
        format!("{}{id}:{:016x}", self.survivals, u64::from_be_bytes(nonce))
    }

    /// Channel on which a process gets its results.
    pub fn push(&self, process: &str) -> String {
        format!("{}push:{process}", self.base)
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
