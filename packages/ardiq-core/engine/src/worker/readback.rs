//! Which of the jobs that are read back had been lost: the reply to a blocking read that is in
//! flight may still bring some of them.

use super::desk::Desk;
use super::job::Delivery;

/// Stream and entry id of the jobs that were read back since the blocking read in flight began.
/// `None` if there is no such read.
pub(super) type ReadBack = Option<Vec<(usize, String)>>;

impl Desk {
    /// A blocking read begins.
    pub fn begin_blocking(&mut self) {
        self.reserve(1);
        self.read_back = Some(Vec::new());
    }

    /// The blocking read has ended. Remove from its reply the jobs that were read back in the
    /// meantime: the desk knows them, or they have run and are settled. Return how many jobs were
    /// read back that the reply does not contain. They had been lost.
    pub fn end_blocking(&mut self, reply: &mut Vec<Delivery>) -> usize {
        self.unreserve(1);
        let mut lost = self.read_back.take().unwrap_or_default();
        reply.retain(|one| {
            let same = |(stream, entry): &(usize, String)| *stream == one.job.stream && *entry == one.job.entry;
            let found = lost.iter().position(same);
            found.map(|position| lost.swap_remove(position)).is_none()
        });
        lost.len()
    }

    /// Add the jobs that were read back, without those that the desk knows. Return how many had
    /// been lost. While a blocking read is in flight, only its end shows whether they had.
    pub fn receive_back(&mut self, mut deliveries: Vec<Delivery>, now_ms: u64) -> usize {
        deliveries.retain(|one| !self.knows(&one.job));
        let mut lost = deliveries.len();
        if let Some(read_back) = &mut self.read_back {
            read_back.extend(deliveries.iter().map(|one| (one.job.stream, one.job.entry.clone())));
            lost = 0;
        }
        self.receive(deliveries, false, now_ms);
        lost
    }
}
