//! When the desk asks for jobs, and for how many.
#![allow(clippy::unwrap_used, clippy::expect_used)] // In a test a surprise is a failure.

#[path = "support/desks.rs"]
mod desks;

use ardiq_engine::worker::plan::UnderWay;
use desks::{MONO, desk, entry, hand_out, receive, succeed};

#[test]
fn no_more_than_the_concurrency_runs_and_no_more_than_the_prefetch_is_asked_for() {
    let mut desk = desk(2, 5);
    assert_eq!(desk.plan(MONO, UnderWay::default()).fetch, 5);
    receive(&mut desk, (0..5).map(|number| entry(3, number)));
    assert_eq!(desk.plan(MONO, UnderWay::default()).fetch, 0);
    let runs = hand_out(&mut desk);
    assert_eq!((runs.len(), desk.running(), desk.held()), (2, 2, 5));
    succeed(&mut desk, runs[0].slot);
    assert_eq!(
        (desk.plan(MONO, UnderWay::default()).fetch, desk.held()),
        (1, 4),
        "an outcome that waits to be written holds no place"
    );
    desk.reserve(1);
    assert_eq!(desk.plan(MONO, UnderWay::default()).fetch, 0, "a place is promised once");
    desk.unreserve(1);
    assert_eq!(desk.plan(MONO, UnderWay::default()).fetch, 1);
}

#[test]
fn a_recovery_waits_for_what_is_under_way_and_nothing_new_begins_before_it() {
    let (outcomes, fetch) = (UnderWay { outcomes: true, fetches: 0 }, UnderWay { outcomes: false, fetches: 1 });
    let mut desk = desk(2, 4);
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
    assert!(desk.plan(MONO, UnderWay::default()).recover);
    assert_eq!(desk.plan(MONO, fetch).settle.len(), 1, "outcomes are written while jobs are being asked for");
}

#[test]
fn a_second_fetch_follows_the_first_when_there_is_room_for_a_batch() {
    let fetches = |fetches| UnderWay { outcomes: false, fetches };
    let mut desk = desk(4, 8);
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
    assert_eq!(desk.plan(MONO, UnderWay::default()).fetch, 2);
    receive(&mut desk, [entry(3, 1), entry(3, 2)]);
    assert_eq!(hand_out(&mut desk).len(), 2);
    assert_eq!(desk.plan(MONO, UnderWay::default()).fetch, 0);
    succeed(&mut desk, 0);
    assert_eq!(desk.plan(MONO, UnderWay::default()).fetch, 1);
}

#[test]
fn a_prefetch_below_the_concurrency_is_raised_to_it() {
    assert_eq!(desk(4, 1).plan(MONO, UnderWay::default()).fetch, 4);
}

#[test]
fn empty_lanes_are_waited_for_and_not_asked_again() {
    let mut desk = desk(2, 4);
    assert!(!desk.wants_to_wait(), "ask before waiting");
    desk.set_dry(true);
    let plan = desk.plan(MONO, UnderWay::default());
    assert!(desk.wants_to_wait() && !plan.has_outcomes() && plan.fetch == 0 && !plan.recover);
    desk.reserve(1);
    assert!(!desk.wants_to_wait(), "one read waits at a time");
    desk.unreserve(1);
    receive(&mut desk, (0..4).map(|number| entry(3, number)));
    assert!(!desk.wants_to_wait(), "a full desk wants nothing");
}
