//! The description that a worker publishes about itself, for people who inspect a queue.

use super::pack::{Reader, Writer};

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Info {
    /// Host name.
    pub host: String,
    /// Process id.
    pub pid: u64,
    /// The most tasks that it runs at the same time.
    pub concurrency: u64,
    /// The most jobs that it holds.
    pub prefetch: u64,
    /// Jobs that it held when it last renewed its lease.
    pub held: u64,
    /// How many of these jobs were running.
    pub running: u64,
    /// Time of its start in epoch milliseconds.
    pub started_ms: u64,
    /// Its version.
    pub version: String,
    /// The lanes that it serves, highest first. Empty if it does not say: workers of earlier
    /// versions do not.
    pub lanes: Vec<String>,
}

impl Info {
    /// Encode the description.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::with_capacity(64);
        out.array(9).text(&self.host).uint(self.pid).uint(self.concurrency).uint(self.prefetch);
        out.uint(self.held).uint(self.running).uint(self.started_ms).text(&self.version);
        out.array(u32::try_from(self.lanes.len()).unwrap_or_default());
        for lane in &self.lanes {
            out.text(lane);
        }
        out.0
    }

    /// Decode a description.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let mut reader = Reader::new(bytes);
        let fields = reader.array()?;
        if fields < 8 {
            return Err("the worker info is cut short".into());
        }
        let mut info = Self {
            host: reader.text()?.to_owned(),
            pid: reader.uint()?,
            concurrency: reader.uint()?,
            prefetch: reader.uint()?,
            held: reader.uint()?,
            running: reader.uint()?,
            started_ms: reader.uint()?,
            version: reader.text()?.to_owned(),
            lanes: Vec::new(),
        };
        if fields > 8 {
            for _ in 0..reader.array()? {
                info.lanes.push(reader.text()?.to_owned());
            }
        }
        Ok(info)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_worker_says_survives_the_wire() {
        let lanes = vec!["high".into(), "low".into()];
        let info =
            Info { host: "web-1".into(), pid: 42, concurrency: 16, version: "0.1.0".into(), lanes, ..Info::default() };
        assert_eq!(Info::decode(&info.encode()), Ok(info));
        assert!(Info::decode(b"\x98").is_err());
    }

    #[test]
    fn a_worker_that_names_no_lanes_can_be_read() {
        let info = Info { host: "web-1".into(), version: "0.1.0".into(), ..Info::default() };
        let mut older = info.encode();
        older[0] = 0x98;
        older.pop();
        assert_eq!(Info::decode(&older), Ok(info));
    }
}
