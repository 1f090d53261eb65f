//! When the desk asks for jobs, and for how many.
#![allow(clippy::unwrap_used, clippy::expect_used)] // In a test, a surprise is a failure.

#[path = "support/desks.rs"]
mod desks;

use ardiq_engine::scripts::deliver::BATCH;
use ardiq_engine::worker::desk::Desk;
use ardiq_engine::worker::judge::Outcome;
use ardiq_engine::worker::pace::{HOST_PATIENCE_MS, PATIENCE_MS};
use ardiq_engine::worker::plan::InFlight;
use desks::{
    MONO, NOW, busy_desk, desk, entry, hand_out, ids, outcomes, planned, planned_at, receive, succeed, suspect,
};

#[test]
fn no_more_than_the_concurrency_runs_and_no_more_than_the_prefetch_is_asked_for() {
    let mut desk = busy_desk(2, 5);
    assert_eq!(planned(&mut desk).fetch, 5);
    receive(&mut desk, (0..5).map(|number| entry(3, number)));
    assert_eq!(planned(&mut desk).fetch, 0);
    let runs = hand_out(&mut desk);
    assert_eq!((runs.len(), desk.running(), desk.held()), (2, 2, 5));
    succeed(&mut desk, runs[0].slot);
    assert_eq!((planned(&mut desk).fetch, desk.held()), (1, 4), "an outcome that waits to be written holds no place");
    desk.reserve(1);
    assert_eq!(planned(&mut desk).fetch, 0, "a place is promised once");
    desk.unreserve(1);
    assert_eq!(planned(&mut desk).fetch, 1);
}

#[test]
fn a_recovery_waits_for_what_is_in_flight_and_nothing_new_begins_before_it() {
    let (outcomes, fetch) =
        (InFlight { outcomes: true, ..InFlight::default() }, InFlight { fetches: 1, ..InFlight::default() });
    let mut desk = busy_desk(2, 4);
    receive(&mut desk, [entry(3, 1), entry(3, 2)]);
    let run = hand_out(&mut desk).remove(0);
    succeed(&mut desk, run.slot);
    let plan = desk.plan(MONO, outcomes);
    assert!(!plan.has_outcomes() && plan.fetch == 3, "jobs are asked for while outcomes are being written");
    desk.must_recover();
    for busy in [outcomes, fetch] {
        let plan = desk.plan(MONO, busy);
        assert!(!plan.recover && !plan.has_outcomes() && plan.fetch == 0);
    }
    assert!(planned(&mut desk).recover);
    assert_eq!(desk.plan(MONO, fetch).settle.len(), 1, "outcomes are written while jobs are being asked for");
}

#[test]
fn a_second_fetch_follows_the_first_when_there_is_room_for_a_batch() {
    let fetches = |fetches| InFlight { fetches, ..InFlight::default() };
    let mut desk = busy_desk(4, 8);
    let asked = desk.plan(MONO, fetches(0)).fetch;
    assert_eq!(asked, 8);
    desk.reserve(5);
    assert_eq!(desk.plan(MONO, fetches(1)).fetch, 3);
    desk.reserve(2);
    assert_eq!(desk.plan(MONO, fetches(1)).fetch, 0, "one place is not worth a request beside another");
    assert_eq!(desk.plan(MONO, fetches(0)).fetch, 1);
    desk.unreserve(7);
    assert_eq!(desk.plan(MONO, fetches(2)).fetch, 0, "two are enough");
}

#[test]
fn a_prefetch_like_the_concurrency_holds_nothing_ahead() {
    let mut desk = desk(2, 2);
    assert_eq!(planned(&mut desk).fetch, 2);
    receive(&mut desk, [entry(3, 1), entry(3, 2)]);
    assert_eq!(hand_out(&mut desk).len(), 2);
    assert_eq!(planned(&mut desk).fetch, 0);
    succeed(&mut desk, 0);
    assert_eq!(planned(&mut desk).fetch, 1);
}

#[test]
fn a_prefetch_below_the_concurrency_is_raised_to_it() {
    assert_eq!(planned(&mut desk(4, 1)).fetch, 4);
}

#[test]
fn empty_lanes_are_waited_for_and_not_asked_again() {
    let mut desk = desk(2, 4);
    assert!(!desk.wants_to_wait(MONO), "ask before waiting");
    desk.set_dry(true);
    let plan = planned(&mut desk);
    assert!(desk.wants_to_wait(MONO) && !plan.has_outcomes() && plan.fetch == 0 && !plan.recover);
    desk.reserve(1);
    assert!(!desk.wants_to_wait(MONO), "one read waits at a time");
    desk.unreserve(1);
    receive(&mut desk, (0..4).map(|number| entry(3, number)));
    assert!(!desk.wants_to_wait(MONO), "a full desk wants nothing");
}

#[test]
fn a_desk_that_knows_nothing_of_its_runs_asks_for_those_that_can_start() {
    let mut desk = desk(3, 100);
    assert_eq!(planned(&mut desk).fetch, 3);
    assert!(desk.has_room(MONO));
    receive(&mut desk, (0..3).map(|number| entry(3, number)));
    assert!(!desk.has_room(MONO));
    assert_eq!((hand_out(&mut desk).len(), planned(&mut desk).fetch), (3, 0));
}

#[test]
fn short_runs_are_fetched_ahead_in_batches_and_none_ahead_of_long_ones() {
    let many = BATCH + 50;
    let mut desk = busy_desk(4, many);
    assert_eq!(planned(&mut desk).fetch, BATCH);
    desk.reserve(BATCH);
    assert_eq!(desk.plan(MONO, InFlight { fetches: 1, ..InFlight::default() }).fetch, many - BATCH);
    desk.unreserve(BATCH);
    desk.extend_lease(i64::MAX);
    // The same desk with runs of a minute.
    let mut now = MONO;
    for number in 0..40 {
        receive(&mut desk, [entry(3, number)]);
        let slot = desk.next(NOW, now).unwrap().slot;
        now += 60_000;
        assert!(desk.complete(slot, Outcome::Retry(0), NOW, now));
    }
    assert_eq!(planned_at(&mut desk, now).fetch, 4);
}

#[test]
fn after_a_pause_the_pace_has_to_be_found_anew() {
    let mut desk = busy_desk(2, 50);
    desk.extend_lease(i64::MAX);
    assert_eq!((planned(&mut desk).fetch, planned_at(&mut desk, MONO + 60_000).fetch), (50, 2));
}

#[test]
fn suspects_that_wait_take_no_room_from_others() {
    let mut desk = desk(2, 2);
    receive(&mut desk, (0..20).map(|number| suspect(number, 2)));
    assert_eq!((desk.held(), planned(&mut desk).fetch), (20, 2));
    desk.set_dry(true);
    assert!(desk.wants_to_wait(MONO));
    receive(&mut desk, [entry(1, 50)]);
    assert_eq!(planned(&mut desk).fetch, 0, "dry");
    desk.set_dry(false);
    assert_eq!(planned(&mut desk).fetch, 1);
}

/// A desk with one lane of buffered jobs, after the runs have turned out to be long.
fn stuck(prefetch: usize) -> Desk {
    stuck_with_slots(prefetch).0
}

fn stuck_with_slots(prefetch: usize) -> (Desk, [usize; 2]) {
    let mut desk = busy_desk(2, prefetch);
    desk.extend_lease(i64::MAX);
    receive(&mut desk, (0..5).map(|number| entry(1, number)).chain((5..prefetch).map(|number| entry(3, number))));
    let runs = hand_out(&mut desk);
    assert_eq!(ids(&runs), ["job0", "job1"]);
    (desk, [runs[0].slot, runs[1].slot])
}

#[test]
fn jobs_that_wait_too_long_behind_the_runs_of_a_full_desk_are_returned() {
    let mut desk = stuck(10);
    planned(&mut desk);
    let early = planned_at(&mut desk, MONO + PATIENCE_MS - 1);
    assert_eq!((early.settle.len(), early.next_ms), (0, Some(MONO + PATIENCE_MS)));
    let due = planned_at(&mut desk, MONO + PATIENCE_MS);
    let back: Vec<&str> = due.settle.iter().map(|one| one.job.id.as_str()).collect();
    assert_eq!(back, ["job5", "job6", "job7", "job8", "job9", "job2", "job3", "job4"], "all of them");
    assert!(due.settle.iter().all(|one| one.outcome == Outcome::HandBack && one.started_ms == 0 && !one.recorded));
    assert_eq!((desk.held(), due.fetch), (2, 0), "and no others are fetched in their place");
    assert_eq!(planned_at(&mut desk, MONO + 10 * PATIENCE_MS).settle.len(), 0);
}

#[test]
fn of_jobs_that_wait_those_that_are_likely_to_start_soon_stay() {
    let (mut desk, mut slots) = stuck_with_slots(100);
    planned(&mut desk);
    let back = planned_at(&mut desk, MONO + PATIENCE_MS).settle.len();
    assert_eq!((back, desk.held()), (89, 11), "two hundred runs ended 300 ms ago: nine");
    // The jobs that are served first are kept.
    for (position, id) in [(0, "job2"), (1, "job3"), (0, "job4"), (0, "job5")] {
        assert!(desk.complete(slots[position], Outcome::Retry(0), NOW, MONO + PATIENCE_MS));
        let next = desk.next(NOW, MONO + PATIENCE_MS).unwrap();
        assert_eq!(next.id, id);
        slots[position] = next.slot;
    }
}

#[test]
fn what_is_kept_is_looked_at_again() {
    let mut desk = stuck(100);
    let mut now = MONO;
    while desk.held() > 2 {
        let next = planned_at(&mut desk, now).next_ms;
        assert!(
            next.is_some_and(|next| next > now),
            "{} jobs wait for good behind runs that may last",
            desk.held() - 2
        );
        now = next.unwrap();
    }
    assert!(now < MONO + 20 * PATIENCE_MS, "{now}");
}

#[test]
fn a_run_that_began_lately_gives_those_behind_it_their_time() {
    let (mut desk, [first, _]) = stuck_with_slots(10);
    planned(&mut desk);
    let later = MONO + PATIENCE_MS - 1;
    assert!(desk.complete(first, Outcome::Retry(0), NOW, later));
    assert_eq!(desk.next(NOW, later).unwrap().id, "job2");
    assert_eq!(planned_at(&mut desk, later).settle.len(), 1, "the outcome");
    let plan = planned_at(&mut desk, later + PATIENCE_MS - 1);
    assert_eq!((plan.settle.len(), plan.next_ms), (0, Some(later + PATIENCE_MS)));
}

#[test]
fn jobs_that_wait_for_a_host_that_is_held_up_are_returned() {
    let mut desk = desk(2, 2);
    receive(&mut desk, [entry(3, 1), entry(3, 2)]);
    let end = MONO + HOST_PATIENCE_MS;
    assert_eq!(planned(&mut desk).next_ms, Some(end));
    assert_eq!(planned_at(&mut desk, end - 1).settle.len(), 0, "an event loop may well be held up for a moment");
    let due = planned_at(&mut desk, end);
    assert!(due.settle.len() == 2 && due.settle.iter().all(|one| one.outcome == Outcome::HandBack));
    desk.extend_lease(i64::MAX);
    assert!(desk.next(NOW, end).is_none());
}

#[test]
fn a_worker_that_stops_hands_everything_back_itself() {
    let mut desk = stuck(10);
    planned(&mut desk);
    desk.stop(NOW);
    assert_eq!(outcomes(&mut desk).len(), 8);
    assert!(planned_at(&mut desk, MONO + PATIENCE_MS).settle.is_empty());
}
