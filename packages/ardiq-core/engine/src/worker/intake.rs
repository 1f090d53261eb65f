//! Sorts deliveries into the buffers in which their jobs wait to start.

use crate::scripts::deliver::entry_number;

use super::desk::Desk;
use super::job::{Delivery, Job};
use super::judge::Outcome;
use super::quarantine::{is_poison, is_suspected};

impl Desk {
    /// Add deliveries. Skip known ones, which a read-back or a group created again may return.
    /// Return how many were new.
    pub fn receive(&mut self, deliveries: Vec<Delivery>, check_known: bool, now_ms: u64) -> usize {
        let mut new = 0;
        for mut delivery in deliveries {
            delivery.job.received_ms = now_ms;
            let rises = self.rises(&delivery.job);
            if (check_known || !rises) && self.knows(&delivery.job) {
                continue;
            }
            new += 1;
            if delivery.fault.is_none() && delivery.job.is_incomplete() && !delivery.job.header.waits() {
                self.incomplete.add(delivery.job);
            } else {
                self.admit(delivery, rises, now_ms);
            }
        }
        if self.stopping {
            self.give_back_unstarted(now_ms);
        }
        new
    }

    /// Put a complete job where it waits to start.
    pub(super) fn admit(&mut self, Delivery { job, fault }: Delivery, rises: bool, now_ms: u64) {
        match fault {
            Some(reason) => self.finish_unstarted(job, Outcome::Undecodable(reason), now_ms),
            // A worker of an earlier version has queued it too early. `promote` lets it wait again.
            None if job.header.waits() => self.finish_unstarted(job, Outcome::PutOff, now_ms),
            None if is_poison(&job.header) => self.finish_unstarted(job, Outcome::Poison, now_ms),
            None if is_suspected(&job.header) => {
                if let Some(job) = self.quarantine.admit(job) {
                    self.finish_unstarted(job, Outcome::PutOff, now_ms);
                }
            }
            None => self.buffer_job(job, rises),
        }
    }

    fn buffer_job(&mut self, job: Job, rises: bool) {
        let Some(lane) = self.buffer.get_mut(job.stream) else { return };
        if rises {
            lane.push_back(job);
        } else {
            // Another request was answered first, or the arguments of this job had to be read.
            let number = entry_number(&job.entry);
            lane.insert(lane.partition_point(|other| entry_number(&other.entry) < number), job);
        }
    }

    fn rises(&mut self, job: &Job) -> bool {
        let number = entry_number(&job.entry);
        match self.newest.get_mut(job.stream) {
            Some(newest) if number > *newest => {
                *newest = number;
                true
            }
            _ => false,
        }
    }

    /// Whether the desk already holds this delivery.
    pub(super) fn knows(&self, job: &Job) -> bool {
        let same = |known: &Job| known.stream == job.stream && known.entry == job.entry;
        self.runs.iter().any(|run| same(&run.job))
            || self.finished.iter().chain(&self.finished_large).any(|finished| same(&finished.job))
            || self.settling_large.iter().any(|(stream, entry)| *stream == job.stream && *entry == job.entry)
            || self.put_off.iter().any(|one| one.stream == job.stream && one.entry == job.entry)
            || self.quarantine.any(same)
            || self.incomplete.any(same)
            || self.buffer.get(job.stream).is_some_and(|lane| lane.iter().any(same))
    }
}
