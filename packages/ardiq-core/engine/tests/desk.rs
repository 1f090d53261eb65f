//! Each decision of the desk. `desk_random.rs` checks what must be true in any order of events.
#![allow(clippy::unwrap_used, clippy::expect_used)] // In a test, a surprise is a failure.

#[path = "support/desks.rs"]
mod desks;

use ardiq_engine::protocol::entry::Header;
use ardiq_engine::scripts::deliver::{BATCH, Entry};
use ardiq_engine::worker::desk::{Assignment, Desk, Lost, RECORD_AFTER_MS};
use ardiq_engine::worker::judge::{Outcome, judge};
use desks::{
    LEASE_END, MONO, NOW, answer_vetting, busy_desk, deliveries, desk, entry, entry_with, hand_out, ids, outcomes,
    planned, planned_at, receive, succeed, suspect,
};

#[test]
fn higher_lanes_start_first_and_returned_work_before_new_work_whatever_came_first() {
    let mut desk = desk(3, 10);
    receive(&mut desk, [entry(3, 1), entry(2, 2), entry(1, 3), entry(0, 4), entry(1, 5)]);
    let first = hand_out(&mut desk);
    assert_eq!(ids(&first), ["job4", "job3", "job5"]);
    succeed(&mut desk, first[0].slot);
    assert_eq!(ids(&hand_out(&mut desk)), ["job2"]);
    succeed(&mut desk, first[1].slot);
    assert_eq!(ids(&hand_out(&mut desk)), ["job1"]);
}

#[test]
fn an_assignment_carries_the_call() {
    let mut desk = desk(1, 1);
    let header = Header { tries: 2, enqueued_ms: 77, ..Header::default() };
    receive(&mut desk, [entry_with(3, 1, header, 0)]);
    let [run] = <[Assignment; 1]>::try_from(hand_out(&mut desk)).unwrap();
    assert_eq!((run.name.as_str(), run.body.as_slice(), run.tries, run.enqueued_ms), ("task", &b"args"[..], 3, 77));
    assert_eq!((run.headers, run.stream), (vec![("trace".into(), "x".into())], 3));
}

#[test]
fn a_job_whose_time_has_passed_expires_only_before_its_first_try() {
    let mut desk = desk(4, 4);
    let fresh = Header { enqueued_ms: NOW - 100, ..Header::default() };
    receive(
        &mut desk,
        [
            entry_with(3, 1, fresh, 100),
            entry_with(3, 2, fresh, 101),
            entry_with(3, 3, Header { tries: 1, ..fresh }, 100),
            entry_with(3, 4, fresh, 0),
        ],
    );
    assert_eq!(ids(&hand_out(&mut desk)), ["job2", "job3", "job4"]);
    let plan = planned(&mut desk);
    assert_eq!((plan.settle[0].job.id.as_str(), &plan.settle[0].outcome), ("job1", &Outcome::Expired));
    assert_eq!((plan.settle[0].started_ms, plan.settle[0].recorded), (0, false));
    assert_eq!(plan.settle.len(), 1);
}

#[test]
fn expired_jobs_do_not_keep_the_ones_behind_them_from_starting() {
    let mut desk = desk(1, 50);
    let stale = Header { enqueued_ms: 1, ..Header::default() };
    receive(&mut desk, (0..40).map(|number| entry_with(1, number, stale, 5)).chain([entry(3, 99)]));
    assert_eq!(ids(&hand_out(&mut desk)), ["job99"]);
    assert_eq!(outcomes(&mut desk).len(), 40);
}

#[test]
fn an_entry_that_cannot_be_read_is_settled_and_blocks_nothing() {
    let mut desk = desk(2, 4);
    let cut = Entry { header: None, ..entry(1, 1) };
    let mut newer = entry(1, 2);
    newer.envelope[0] = 99;
    receive(&mut desk, [cut, newer, entry(3, 3)]);
    assert_eq!(ids(&hand_out(&mut desk)), ["job3"]);
    let settled = outcomes(&mut desk);
    for (position, reason) in [(0, "cut short"), (1, "version 99")] {
        let (_, outcome) = &settled[position];
        assert!(matches!(outcome, Outcome::Undecodable(text) if text.contains(reason)), "{settled:?}");
    }
    assert_eq!(settled.len(), 2);
}

#[test]
fn nothing_starts_and_nothing_is_asked_for_beyond_the_lease() {
    let mut desk = Desk::new(2, 4, 4);
    receive(&mut desk, [entry(3, 1)]);
    assert!(hand_out(&mut desk).is_empty(), "no lease yet");
    assert_eq!(planned(&mut desk).fetch, 0);
    let end = MONO + 10;
    desk.extend_lease(end);
    assert!(desk.next(NOW, end).is_none(), "the lease is over at its end");
    assert_eq!(planned_at(&mut desk, end).fetch, 0);
    assert!(desk.next(NOW, end - 1).is_some());
    assert_eq!(planned_at(&mut desk, end - 1).fetch, 1);
}

#[test]
fn a_lost_lease_drops_what_has_not_started_and_lets_runs_end() {
    let mut desk = busy_desk(1, 8);
    receive(&mut desk, [entry(3, 1)]);
    let runs = hand_out(&mut desk);
    receive(&mut desk, [entry(3, 2), suspect(3, 2)]);
    desk.set_dry(true);
    assert_eq!(desk.lose_lease(), Lost { held: 3, survived: vec![] }, "nothing is on record");
    assert_eq!((desk.held(), desk.running()), (1, 1));
    assert!(!desk.wants_to_wait(MONO));
    assert!(hand_out(&mut desk).is_empty() && planned(&mut desk).fetch == 0);
    desk.extend_lease(LEASE_END);
    assert_eq!(planned(&mut desk).fetch, 7, "the lanes are asked again");
    succeed(&mut desk, runs[0].slot);
    assert_eq!(outcomes(&mut desk).len(), 1, "its outcome is offered; the script decides");
}

#[test]
fn a_recovery_passes_over_what_is_known_and_takes_in_the_rest() {
    let mut desk = desk(2, 8);
    receive(&mut desk, [entry(3, 1), entry(3, 2), entry(3, 3), suspect(4, 2)]);
    let runs = hand_out(&mut desk);
    assert_eq!(ids(&runs), ["job1"]);
    succeed(&mut desk, runs[0].slot);
    desk.must_recover();
    assert!(!desk.wants_to_wait(MONO));
    let plan = planned(&mut desk);
    assert!(plan.recover && plan.fetch == 0 && plan.settle.is_empty(), "alone: what is in flight would not be known");
    let known = [entry(3, 1), entry(3, 2), entry(3, 3), suspect(4, 2)];
    let read_back = deliveries(known.into_iter().chain([entry(3, 9), entry(1, 2)]));
    assert_eq!(desk.receive(read_back, true, NOW), 2, "so many were new");
    assert_eq!(desk.held(), 5, "same number in another stream is another delivery");
    let plan = planned(&mut desk);
    assert!(!plan.recover, "asked once");
    assert_eq!(plan.settle.len(), 1);
}

#[test]
fn a_job_that_is_read_back_was_lost_unless_the_blocking_read_in_flight_brings_it() {
    let mut desk = desk(8, 8);
    receive(&mut desk, [entry(3, 1)]);
    let lost = |desk: &mut Desk, numbers: &[usize]| {
        desk.receive_back(deliveries(numbers.iter().map(|number| entry(3, *number))), NOW)
    };
    assert_eq!(lost(&mut desk, &[1, 2]), 1, "no read is in flight");
    desk.begin_blocking();
    assert_eq!(lost(&mut desk, &[1, 2, 3, 4]), 0, "one of two may still come");
    assert_eq!(lost(&mut desk, &[3, 4]), 0);
    assert_eq!(desk.held(), 4, "but they may start");
    // The job has run and is settled when the reply to the read arrives.
    let run = hand_out(&mut desk).remove(2);
    succeed(&mut desk, run.slot);
    assert_eq!((run.id.as_str(), outcomes(&mut desk).len()), ("job3", 1));
    desk.settled(1);
    let mut reply = deliveries([entry(3, 3), entry(1, 3)]);
    assert_eq!((desk.end_blocking(&mut reply), reply.len(), reply[0].job.stream), (1, 1, 1));
    desk.begin_blocking();
    assert_eq!(desk.end_blocking(&mut Vec::new()), 0, "reported once");
    assert_eq!(lost(&mut desk, &[5]), 1);
}

#[test]
fn a_recovery_knows_suspects_that_wait_too() {
    let mut desk = desk(4, 8);
    receive(&mut desk, [suspect(1, 2), suspect(2, 2)]);
    hand_out(&mut desk);
    assert_eq!(desk.receive(deliveries([suspect(1, 2), suspect(2, 2)]), true, NOW), 0);
    assert_eq!(desk.held(), 2);
}

#[test]
fn stop_returns_unstarted_jobs_and_later_ones() {
    let mut desk = desk(2, 8);
    receive(&mut desk, [suspect(1, 2), suspect(2, 2), entry(3, 3), entry(3, 4)]);
    let runs = hand_out(&mut desk);
    assert_eq!(ids(&runs), ["job3"]);
    assert_eq!(planned(&mut desk).vet.len(), 1);
    desk.stop(NOW);
    let mut back: Vec<String> = Vec::new();
    for (id, outcome) in outcomes(&mut desk) {
        assert_eq!(outcome, Outcome::HandBack);
        back.push(id);
    }
    back.sort();
    assert_eq!(back, ["job2", "job4"]);
    receive(&mut desk, [entry(3, 5)]);
    assert_eq!(outcomes(&mut desk), [("job5".into(), Outcome::HandBack)]);
    answer_vetting(&mut desk, &[]);
    let late = planned(&mut desk).settle.remove(0);
    assert!(hand_out(&mut desk).is_empty() && late.recorded, "the record of its start has to go with it");
    assert_eq!((late.job.id.as_str(), late.outcome), ("job1", Outcome::HandBack));
    assert!(!desk.wants_to_wait(MONO));
    assert_eq!((planned(&mut desk).fetch, desk.running()), (0, 1));
    assert!(desk.complete(runs[0].slot, Outcome::HandBack, NOW, MONO));
    assert_eq!(outcomes(&mut desk), [("job3".into(), Outcome::HandBack)]);
}

#[test]
fn only_a_run_that_lasts_is_recorded_and_only_once() {
    let mut desk = desk(2, 2);
    receive(&mut desk, [entry(3, 1)]);
    let runs = hand_out(&mut desk);
    let early = planned_at(&mut desk, MONO + RECORD_AFTER_MS - 1);
    assert_eq!((early.record.len(), early.next_ms), (0, Some(MONO + RECORD_AFTER_MS)));
    let due = planned_at(&mut desk, MONO + RECORD_AFTER_MS);
    let (slot, start) = &due.record[0];
    assert_eq!((*slot, start.tries, start.started_ms), (runs[0].slot, 1, NOW));
    let after = planned_at(&mut desk, MONO + 1_000);
    assert_eq!((after.record.len(), after.next_ms), (0, None));
    succeed(&mut desk, runs[0].slot);
    assert!(planned(&mut desk).settle[0].recorded);
    receive(&mut desk, [entry(3, 2)]);
    let short = hand_out(&mut desk);
    succeed(&mut desk, short[0].slot);
    let plan = planned_at(&mut desk, MONO + 1_000);
    assert!(!plan.settle[0].recorded && plan.record.is_empty(), "it settled first and costs nothing extra");
}

#[test]
fn outcomes_go_out_in_bounded_batches_and_count_until_they_are_written() {
    let many = BATCH + 7;
    let mut desk = desk(many, many);
    receive(&mut desk, (0..many).map(|number| entry(3, number)));
    for run in hand_out(&mut desk) {
        succeed(&mut desk, run.slot);
    }
    assert_eq!((planned(&mut desk).settle.len(), planned(&mut desk).settle.len()), (BATCH, 7));
    assert!(!desk.is_settled() && !desk.is_empty());
    desk.settled(BATCH);
    assert!(!desk.is_settled());
    desk.settled(7);
    assert!(desk.is_settled() && desk.is_empty());
    desk.reserve(1);
    assert!(desk.is_settled() && !desk.is_empty(), "a read in flight may still return something");
}

#[test]
fn a_run_is_completed_once() {
    let mut desk = desk(1, 1);
    receive(&mut desk, [entry(3, 1)]);
    let slot = hand_out(&mut desk)[0].slot;
    succeed(&mut desk, slot);
    assert!(!desk.complete(slot, Outcome::Retry(0), NOW, MONO));
    assert!(!desk.complete(99, Outcome::Retry(0), NOW, MONO));
    assert_eq!(outcomes(&mut desk).len(), 1);
}

#[test]
fn a_run_never_ends_before_it_began() {
    let mut desk = desk(1, 1);
    receive(&mut desk, [entry(3, 1)]);
    let slot = hand_out(&mut desk)[0].slot;
    assert!(desk.complete(slot, Outcome::Retry(0), NOW - 500, MONO));
    assert_eq!(planned(&mut desk).settle[0].finished_ms, NOW);
}

#[test]
fn what_was_delivered_under_a_lost_lease_hides_no_lost_delivery() {
    let mut desk = desk(4, 8);
    receive(&mut desk, [entry(3, 1), entry(3, 2), entry(3, 3)]);
    let runs = hand_out(&mut desk);
    succeed(&mut desk, runs[0].slot);
    let refused = planned(&mut desk).settle.into_iter().map(|one| judge(one, "w", 300)).collect();
    desk.put_off(refused, MONO + 10);
    succeed(&mut desk, runs[1].slot);
    assert_eq!(desk.delivered(), 3);
    desk.lose_lease();
    desk.extend_lease(LEASE_END);
    receive(&mut desk, [entry(3, 4)]);
    assert_eq!((desk.known(), desk.delivered()), (4, 1));
    succeed(&mut desk, runs[2].slot);
    assert_eq!((desk.known(), desk.delivered()), (4, 1), "the end of the last one");
}
