//! Jobs with large arguments and large outcomes: nothing else waits for them.
#![allow(clippy::unwrap_used, clippy::expect_used)] // In a test, a surprise is a failure.

#[path = "support/desks.rs"]
mod desks;

use ardiq_engine::link::LARGE;
use ardiq_engine::protocol::entry::{Header, SEPARATE_BODY};
use ardiq_engine::scripts::bodies::BODIES_IN_FLIGHT;
use ardiq_engine::scripts::deliver::Entry;
use ardiq_engine::worker::desk::Desk;
use ardiq_engine::worker::job::Parts;
use ardiq_engine::worker::judge::{MISS_LIMIT, Outcome, judge};
use ardiq_engine::worker::plan::InFlight;
use desks::{MONO, NOW, deliveries, desk, entry, entry_with, hand_out, ids, outcomes, planned, receive, succeed};

fn large(number: usize) -> Entry {
    entry_with(3, number, Header { flags: SEPARATE_BODY, ..Header::default() }, 0)
}

/// Arguments that were read.
fn body(bytes: Vec<u8>) -> Parts {
    Parts { body: Some(Some(bytes)), ..Parts::default() }
}

fn end_with(desk: &mut Desk, slot: usize, bytes: usize) {
    assert!(desk.complete(slot, Outcome::Success(vec![0; bytes], None), NOW, MONO));
}

const TRANSFER: InFlight = InFlight { outcomes: false, large: true, fetches: 0, reads: 0, recovery: false };

#[test]
fn jobs_keep_their_order_when_arguments_arrive_soon() {
    let mut desk = desk(1, 4);
    receive(&mut desk, [entry(3, 1), large(2), entry(3, 3)]);
    let reads = planned(&mut desk);
    assert_eq!(reads.next_ms, Some(MONO + 100), "to look whether the third has waited long enough");
    let slot = desk.next(NOW, MONO).unwrap().slot;
    succeed(&mut desk, slot);
    assert!(desk.next(NOW + 99, MONO).is_none());
    assert_eq!(desk.complete_job(&reads.read[0], body(Vec::new()), NOW), None);
    for id in ["job2", "job3"] {
        let run = desk.next(NOW + 99, MONO).unwrap();
        assert_eq!(run.id, id);
        succeed(&mut desk, run.slot);
    }
}

#[test]
fn a_job_starts_when_its_arguments_have_arrived_and_later_ones_do_not_wait_long() {
    let mut desk = desk(4, 4);
    receive(&mut desk, [large(1), entry(3, 2)]);
    assert_eq!(desk.next(NOW + 100, MONO).unwrap().id, "job2");
    let read = planned(&mut desk).read.remove(0);
    assert_eq!((read.id.as_str(), read.entry.as_str(), read.stream), ("job1", "1-0", 3));
    assert_eq!((desk.held(), planned(&mut desk).fetch, planned(&mut desk).read.len()), (2, 2, 0), "asked for once");
    assert_eq!(desk.complete_job(&read, body(b"large".to_vec()), NOW), None);
    let runs = hand_out(&mut desk);
    assert_eq!((ids(&runs), runs[0].body.as_slice()), (vec!["job1"], &b"large"[..]));
    assert_eq!(desk.complete_job(&read, body(b"large".to_vec()), NOW), None, "twice is once");
    assert!(hand_out(&mut desk).is_empty());
}

#[test]
fn a_bounded_number_of_arguments_is_read_at_the_same_time() {
    let many = BODIES_IN_FLIGHT + 3;
    let mut desk = desk(many, many);
    receive(&mut desk, (0..many).map(large));
    assert_eq!(planned(&mut desk).read.len(), BODIES_IN_FLIGHT);
    let reads = |reads| InFlight { reads, ..InFlight::default() };
    assert_eq!(desk.plan(MONO, reads(BODIES_IN_FLIGHT)).read.len(), 0);
    assert_eq!(desk.plan(MONO, reads(BODIES_IN_FLIGHT - 2)).read.len(), 2);
    desk.forget_reads();
    assert_eq!(planned(&mut desk).read.len(), BODIES_IN_FLIGHT, "after a failure of the loop");
}

#[test]
fn arguments_that_are_missing_condemn_their_job_and_those_that_cannot_be_read_do_not() {
    let mut desk = desk(3, 3);
    receive(&mut desk, [large(1), large(2), large(3)]);
    let reads = planned(&mut desk).read;
    assert!(
        desk.complete_job(&reads[0], Parts { body: Some(None), ..Parts::default() }, NOW).unwrap().contains("missing")
    );
    desk.put_job_off(&reads[1], None, NOW);
    desk.put_job_off(&reads[2], Some("a limit".into()), NOW);
    let ends = outcomes(&mut desk);
    assert!(matches!(&ends[..], [(id, Outcome::Undecodable(_))] if id == "job1"), "{ends:?}");
    // Only the second of these is counted, and makes the job a dead letter in the end.
    let back = [("job2".to_owned(), Outcome::PutOff), ("job3".to_owned(), Outcome::Unreadable("a limit".into()))];
    assert_eq!(outcomes(&mut desk), back);
}

#[test]
fn jobs_whose_arguments_are_on_their_way_are_known_go_back_at_a_stop_and_are_dropped_with_the_lease() {
    for stops in [true, false] {
        let mut desk = desk(2, 2);
        receive(&mut desk, [large(1)]);
        let read = planned(&mut desk).read.remove(0);
        assert_eq!(desk.receive(deliveries([large(1)]), true, NOW), 0, "known to a recovery");
        desk.must_recover();
        assert!(desk.plan(MONO, InFlight { reads: 1, ..InFlight::default() }).recover, "which does not wait for it");
        if stops {
            desk.stop(NOW);
            assert_eq!(outcomes(&mut desk), [("job1".to_owned(), Outcome::HandBack)]);
            desk.settled(1);
        } else {
            assert_eq!(desk.lose_lease().held, 1);
        }
        assert_eq!(desk.complete_job(&read, body(Vec::new()), NOW), None);
        assert!(desk.is_empty() && hand_out(&mut desk).is_empty());
    }
}

#[test]
fn small_outcomes_and_recoveries_do_not_wait_for_a_large_one() {
    let mut desk = desk(3, 3);
    receive(&mut desk, (1..=3).map(|number| entry(3, number)));
    let runs = hand_out(&mut desk);
    end_with(&mut desk, runs[0].slot, LARGE + 1);
    succeed(&mut desk, runs[1].slot);
    let plan = planned(&mut desk);
    assert_eq!((plan.large[0].job.id.as_str(), plan.settle[0].job.id.as_str()), ("job1", "job2"));
    desk.settled(1);
    end_with(&mut desk, runs[2].slot, LARGE + 1);
    let plan = desk.plan(MONO, TRANSFER);
    assert_eq!((plan.large.len(), plan.settle.len(), plan.fetch), (0, 0, 3), "one large one at a time");
    desk.must_recover();
    assert!(desk.plan(MONO, TRANSFER).recover);
    let recovering = InFlight { recovery: true, ..InFlight::default() };
    assert!(desk.plan(MONO, recovering).large.is_empty(), "nothing begins during a recovery");
    // The outcome was written during the recovery, whose reply may still include the job.
    desk.settled(1);
    assert_eq!(desk.receive(deliveries([entry(3, 1), entry(3, 3)]), true, NOW), 0);
    assert_eq!(planned(&mut desk).large[0].job.id, "job3");
    desk.settled(1);
    assert!(desk.is_empty());
}

#[test]
fn a_large_outcome_that_was_refused_is_sent_again_alone() {
    let mut desk = desk(2, 2);
    receive(&mut desk, [entry(3, 1), entry(3, 2)]);
    let runs = hand_out(&mut desk);
    end_with(&mut desk, runs[0].slot, LARGE + 1);
    succeed(&mut desk, runs[1].slot);
    let plan = planned(&mut desk);
    let refused = plan.large.into_iter().chain(plan.settle).map(|one| judge(one, "w", 0)).collect();
    desk.put_off(refused, MONO);
    assert!(desk.plan(MONO, InFlight { outcomes: true, ..TRANSFER }).again.is_empty());
    let plan = desk.plan(MONO, InFlight::default());
    assert_eq!((plan.large_again[0].id.as_str(), plan.again[0].id.as_str()), ("job1", "job2"));
    desk.settled(2);
    assert!(desk.is_settled());
}

#[test]
fn outcomes_that_cannot_be_written_leave_no_room_for_more_jobs_in_the_end() {
    let mut desk = desk(4, 4);
    let mut ran = 0;
    loop {
        let mut plan = planned(&mut desk);
        plan.settle.append(&mut plan.large);
        let refused = plan.settle.into_iter().map(|one| judge(one, "w", 0)).collect();
        desk.put_off(refused, MONO + 500);
        if plan.fetch == 0 {
            break;
        }
        receive(&mut desk, (ran..ran + plan.fetch).map(|number| entry(3, number)));
        ran += plan.fetch;
        for run in hand_out(&mut desk) {
            succeed(&mut desk, run.slot);
        }
        assert!(ran < 100, "outcomes pile up");
    }
    assert!(!desk.has_room(MONO) && ran >= 8, "{ran}");
    let again = desk.plan(MONO + 500, InFlight::default()).again.len();
    desk.settled(again);
    assert!(desk.has_room(MONO));
}

#[test]
fn every_dead_letter_with_separate_arguments_is_written_by_its_own_call() {
    let mut desk = desk(8, 8);
    let dead = Header { flags: SEPARATE_BODY, misses: MISS_LIMIT, ..Header::default() };
    receive(&mut desk, (0..4).map(|number| entry_with(3, number, dead, 0)));
    let reads = planned(&mut desk).read;
    desk.complete_job(&reads[0], Parts { body: Some(None), ..Parts::default() }, NOW);
    reads[1..].iter().for_each(|read| {
        desk.complete_job(read, body(Vec::new()), NOW);
    });
    for run in hand_out(&mut desk) {
        assert!(desk.complete(run.slot, Outcome::UnknownTask, NOW, MONO));
    }
    let mut calls = Vec::new();
    while !desk.is_empty() {
        let plan = planned(&mut desk);
        let batches = [plan.settle, plan.large];
        for batch in batches.into_iter().filter(|batch| !batch.is_empty()) {
            calls.push(batch.len());
            desk.settled(batch.len());
        }
    }
    assert_eq!(calls, [1, 1, 1, 1]);
}
