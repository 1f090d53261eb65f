//! Counts the allocations that a job costs outside the connection. They are deterministic, so that
//! a higher number is a regression.
#![allow(clippy::unwrap_used, clippy::expect_used)] // In a test, a surprise is a failure.

mod support {
    pub mod desks;
}

use std::time::Duration;

use allocation_counter::measure;
use ardiq_engine::submit::{Submission, prepare};
use ardiq_engine::worker::job::Delivery;
use ardiq_engine::worker::judge::{Outcome, judge};
use ardiq_engine::worker::plan::InFlight;
use support::desks::{MONO, NOW, desk, entry};

const JOBS: usize = 200;

/// The allocations per job in `work`, which handles [`JOBS`] jobs.
fn each(work: impl FnOnce()) -> f64 {
    measure(work).count_total as f64 / JOBS as f64
}

#[test]
fn an_enqueue_makes_an_id_and_an_envelope() {
    let job = || Submission { name: "task".into(), body: b"args".to_vec().into(), ..Submission::default() };
    let jobs = std::iter::repeat_with(job).take(JOBS).collect();
    let count = each(|| assert_eq!(prepare(jobs, Duration::from_secs(5)).unwrap().len(), 1));
    assert!(count <= 2.1, "{count} allocations a job");
}

#[test]
fn a_job_is_taken_apart_handed_out_and_settled_with_a_dozen_allocations() {
    let mut desk = desk(JOBS, JOBS);
    let entries: Vec<_> = (1..=JOBS).map(|number| entry(1, number)).collect();
    let mut assignments = Vec::with_capacity(JOBS);
    let count = each(|| {
        desk.receive(entries.into_iter().map(Delivery::read).collect(), false, NOW);
        assignments.extend(std::iter::from_fn(|| desk.next(NOW, MONO)));
        for one in &assignments {
            desk.complete(one.slot, Outcome::Success(Vec::new(), None), NOW, MONO);
        }
        let plan = desk.plan(MONO, InFlight::default());
        let settled: Vec<_> = plan.settle.into_iter().map(|one| judge(one, "host:1:abcd", 300_000)).collect();
        assert_eq!(settled.len(), JOBS);
    });
    assert!(count <= 11.2, "{count} allocations a job");
}
