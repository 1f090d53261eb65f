//! The steps from the buffer to the outcome: pulls, deferred runs, and outcomes that have to wait.
#![allow(clippy::unwrap_used, clippy::expect_used)] // In a test, a surprise is a failure.

#[path = "support/desks.rs"]
mod desks;

use ardiq_engine::protocol::entry::{Header, SUSPECT};
use ardiq_engine::scripts::deliver::{BATCH, Settlement};
use ardiq_engine::scripts::upkeep::Survivor;
use ardiq_engine::worker::desk::{Desk, Lost, RECORD_AFTER_MS};
use ardiq_engine::worker::judge::{Finished, Outcome, judge};
use ardiq_engine::worker::plan::InFlight;
use desks::{
    LEASE_END, MONO, NOW, answer_vetting, busy_desk, deliveries, desk, entry, entry_with, hand_out, ids, outcomes,
    planned, planned_at, receive, succeed, suspect, vet,
};

/// A desk where every run is deferred.
fn deferring(concurrency: usize) -> Desk {
    let mut desk = desk(concurrency, concurrency);
    desk.defer(["task".to_owned()].into());
    desk
}

/// A desk with one deferred run, and the slot of the run.
fn deferred(header: Header, expire_ms: u64) -> (Desk, usize) {
    let mut desk = deferring(1);
    receive(&mut desk, [entry_with(3, 1, header, expire_ms)]);
    let slot = desk.next(NOW, MONO).unwrap().slot;
    (desk, slot)
}

/// The same with a job that was taken over from a dead worker. Its start is recorded.
fn deferred_suspect() -> (Desk, usize) {
    let mut desk = deferring(1);
    receive(&mut desk, [suspect(1, 1)]);
    assert!(desk.next(NOW, MONO).is_none());
    let slot = vet(&mut desk)[0].slot;
    (desk, slot)
}

fn settlements(finished: Vec<Finished>) -> Vec<Settlement> {
    finished.into_iter().map(|one| judge(one, "w", 300)).collect()
}

#[test]
fn a_pull_brings_one_run_and_as_many_as_there_are_places() {
    let mut desk = desk(2, 8);
    receive(&mut desk, [entry(3, 1), entry(3, 2), entry(3, 3)]);
    let first = desk.next(NOW, MONO).unwrap();
    assert_eq!((first.id.as_str(), desk.running(), desk.held()), ("job1", 1, 3));
    assert_eq!(desk.next(NOW, MONO).unwrap().id, "job2");
    assert!(desk.next(NOW, MONO).is_none() && !desk.can_start(MONO), "no place is left");
    succeed(&mut desk, first.slot);
    assert!(desk.can_start(MONO) && !desk.can_start(LEASE_END));
    assert_eq!(desk.next(NOW, MONO).unwrap().id, "job3");
    assert!(desk.next(NOW, MONO).is_none());
}

#[test]
fn a_job_in_a_higher_lane_that_comes_between_two_pulls_is_the_next() {
    let mut desk = desk(3, 8);
    receive(&mut desk, [entry(3, 1), entry(3, 2)]);
    assert_eq!(desk.next(NOW, MONO).unwrap().id, "job1");
    receive(&mut desk, [entry(1, 3)]);
    assert_eq!(ids(&hand_out(&mut desk)), ["job3", "job2"]);
}

#[test]
fn what_came_out_of_order_starts_in_order() {
    let mut desk = desk(4, 8);
    for number in [5, 9, 7, 6] {
        receive(&mut desk, [entry(3, number)]);
    }
    assert_eq!(ids(&hand_out(&mut desk)), ["job5", "job6", "job7", "job9"]);
}

#[test]
fn a_run_that_begins_tells_the_work_loop() {
    let mut desk = desk(1, 1);
    receive(&mut desk, [entry(3, 1)]);
    desk.take_news();
    assert!(desk.next(NOW, MONO).is_some());
    assert!(
        desk.take_news(),
        "its start is to be recorded in {RECORD_AFTER_MS} ms, and nothing else may happen until then"
    );
}

#[test]
fn a_run_that_waits_has_not_begun_until_it_begins() {
    let (mut desk, slot) = deferred(Header::default(), 0);
    let (later, beginning) = (MONO + 500, NOW + 500);
    assert_eq!(planned_at(&mut desk, later).record, [], "it is in line, and no death would be its own");
    assert_eq!((desk.running(), desk.held(), desk.known()), (1, 1, 1), "but it has a place");
    assert!(desk.begin(slot, beginning, later));
    assert_eq!(planned_at(&mut desk, later).next_ms, Some(later + RECORD_AFTER_MS));
    let plan = planned_at(&mut desk, later + RECORD_AFTER_MS);
    let (recorded, start) = &plan.record[0];
    assert_eq!((*recorded, start.started_ms), (slot, beginning));
    assert!(desk.begin(slot, NOW + 900, MONO + 900), "it has begun");
    succeed(&mut desk, slot);
    assert_eq!(planned(&mut desk).settle[0].started_ms, beginning);
}

#[test]
fn a_run_that_never_waited_begins_once() {
    let mut desk = desk(1, 1);
    receive(&mut desk, [entry(3, 1)]);
    let slot = desk.next(NOW, MONO).unwrap().slot;
    assert!(desk.begin(slot, NOW + 7, MONO + 7) && !desk.begin(99, NOW, MONO));
    succeed(&mut desk, slot);
    assert_eq!(planned(&mut desk).settle[0].started_ms, NOW);
    assert!(!desk.begin(slot, NOW, MONO), "it is over");
}

#[test]
fn only_runs_of_deferred_tasks_wait() {
    let mut desk = desk(2, 2);
    desk.defer(["another task".to_owned()].into());
    receive(&mut desk, [entry(3, 1)]);
    let slot = desk.next(NOW, MONO).unwrap().slot;
    let plan = planned_at(&mut desk, MONO + RECORD_AFTER_MS);
    let (recorded, _) = &plan.record[0];
    assert_eq!(*recorded, slot);
}

#[test]
fn a_suspect_that_waits_takes_its_record_along_wherever_it_goes() {
    let (mut desk, slot) = deferred_suspect();
    assert!(desk.begin(slot, NOW + 9, MONO + 9));
    succeed(&mut desk, slot);
    let ended = planned(&mut desk).settle.remove(0);
    assert_eq!((ended.recorded, ended.started_ms), (true, NOW + 9));

    let (mut desk, slot) = deferred_suspect();
    assert!(!desk.begin(slot, NOW, LEASE_END));
    let back = planned(&mut desk).settle.remove(0);
    assert_eq!((back.outcome, back.recorded), (Outcome::HandBack, true), "the lease ran out");

    let (mut desk, slot) = deferred_suspect();
    desk.stop(NOW);
    let back = planned(&mut desk).settle.remove(0);
    assert_eq!((back.outcome, back.recorded), (Outcome::HandBack, true), "the worker stops");
    assert!(!desk.begin(slot, NOW, MONO));

    let (mut desk, slot) = deferred_suspect();
    assert_eq!(desk.lose_lease().survived.len(), 1, "the worker that takes it over counts a death");
    assert!(!desk.begin(slot, NOW, MONO) && desk.is_empty());

    let mut desk = deferring(1);
    let header = Header { flags: SUSPECT, enqueued_ms: NOW - 100, ..Header::default() };
    receive(&mut desk, [entry_with(0, 1, header, 101)]);
    hand_out(&mut desk);
    let slot = vet(&mut desk)[0].slot;
    assert!(!desk.begin(slot, NOW + 1, MONO + 1));
    let expired = planned(&mut desk).settle.remove(0);
    assert_eq!((expired.outcome, expired.recorded), (Outcome::Expired, true));
}

#[test]
fn a_run_that_expires_while_it_waits_does_not_begin() {
    let fresh = Header { enqueued_ms: NOW - 100, ..Header::default() };
    let (mut desk, slot) = deferred(fresh, 101);
    assert!(!desk.begin(slot, NOW + 1, MONO + 1));
    let plan = planned(&mut desk);
    assert_eq!((&plan.settle[0].outcome, plan.settle[0].started_ms), (&Outcome::Expired, 0));
    assert_eq!((plan.settle.len(), desk.running(), desk.held()), (1, 0, 0), "its place is free");
    let (mut desk, slot) = deferred(Header { tries: 1, ..fresh }, 101);
    assert!(desk.begin(slot, NOW + 1, MONO + 1), "only before its first try");
}

#[test]
fn a_run_that_waits_does_not_begin_beyond_the_lease_and_goes_back() {
    let (mut desk, slot) = deferred(Header::default(), 0);
    assert!(!desk.begin(slot, NOW, LEASE_END));
    assert_eq!(outcomes(&mut desk), [("job1".into(), Outcome::HandBack)]);
    assert!(!desk.begin(slot, NOW, MONO), "nor later, when the lease is renewed");
    assert_eq!((desk.running(), outcomes(&mut desk).len()), (0, 0));
}

#[test]
fn a_run_that_waits_when_the_lease_is_lost_is_another_workers() {
    let (mut desk, slot) = deferred(Header::default(), 0);
    assert_eq!(desk.lose_lease(), Lost { held: 1, survived: vec![] });
    desk.extend_lease(LEASE_END);
    assert!(!desk.begin(slot, NOW, MONO));
    assert!(outcomes(&mut desk).is_empty() && desk.is_empty());
}

#[test]
fn a_run_that_waits_when_the_worker_stops_goes_back_once() {
    let (mut desk, slot) = deferred(Header::default(), 0);
    desk.stop(NOW);
    assert_eq!(outcomes(&mut desk), [("job1".into(), Outcome::HandBack)]);
    desk.settled(1);
    assert!(!desk.is_settled(), "the host has it yet");
    assert!(!desk.begin(slot, NOW, MONO));
    assert!(outcomes(&mut desk).is_empty() && desk.is_empty());
}

#[test]
fn of_a_run_that_was_taken_back_no_outcome_counts() {
    for stop in [true, false] {
        let (mut desk, slot) = deferred(Header::default(), 0);
        if stop {
            desk.stop(NOW);
            outcomes(&mut desk);
            desk.settled(1);
        } else {
            desk.lose_lease();
        }
        assert!(desk.complete(slot, Outcome::HandBack, NOW, MONO));
        assert!(outcomes(&mut desk).is_empty() && desk.is_empty());
    }
}

#[test]
fn a_stop_takes_the_record_of_a_vetted_run_with_it() {
    let mut desk = desk(1, 1);
    receive(&mut desk, [suspect(1, 1)]);
    assert!(hand_out(&mut desk).is_empty());
    answer_vetting(&mut desk, &[]);
    desk.stop(NOW);
    let back = planned(&mut desk).settle.remove(0);
    assert_eq!((back.job.id.as_str(), &back.outcome), ("job1", &Outcome::HandBack));
    assert!(back.recorded, "else it is shown as running from now on");
    assert!(hand_out(&mut desk).is_empty());
}

fn survivor(number: usize) -> Survivor {
    Survivor { id: format!("job{number}"), nonce: [0; 8], entry: format!("{number}-0") }
}

#[test]
fn a_start_that_is_refused_has_an_outcome() {
    let mut desk = desk(1, 1);
    receive(&mut desk, [suspect(1, 1)]);
    assert!(hand_out(&mut desk).is_empty());
    answer_vetting(&mut desk, &[0]);
    let void = planned(&mut desk).settle.remove(0);
    assert_eq!((void.outcome, void.recorded, desk.running()), (Outcome::Void, false, 0));
}

#[test]
fn a_lost_lease_names_the_runs_whose_deaths_will_be_counted() {
    let mut desk = desk(3, 3);
    receive(&mut desk, [entry(3, 1), entry(3, 2)]);
    let slot = hand_out(&mut desk)[0].slot;
    assert_eq!(planned_at(&mut desk, MONO + RECORD_AFTER_MS).record.len(), 2);
    receive(&mut desk, [entry(3, 3)]);
    hand_out(&mut desk);
    succeed(&mut desk, slot);
    let lost = desk.lose_lease();
    assert_eq!(lost, Lost { held: 2, survived: vec![survivor(2)] }, "neither the ended nor the unrecorded");
    assert_eq!((desk.known(), desk.delivered()), (3, 0), "the server counts none of them any more");
}

#[test]
fn a_lost_lease_names_vetted_runs_that_have_not_been_pulled() {
    let mut desk = desk(1, 1);
    receive(&mut desk, [suspect(1, 1)]);
    assert!(hand_out(&mut desk).is_empty());
    answer_vetting(&mut desk, &[]);
    assert_eq!(desk.lose_lease().survived, [survivor(1)], "its start is on record, and no worker died");
    desk.extend_lease(LEASE_END);
    assert!(hand_out(&mut desk).is_empty() && desk.is_empty());
}

#[test]
fn a_run_survives_only_the_lease_under_which_it_was_recorded() {
    let mut desk = desk(1, 1);
    receive(&mut desk, [entry(3, 1)]);
    hand_out(&mut desk);
    planned_at(&mut desk, MONO + RECORD_AFTER_MS);
    assert_eq!(desk.lose_lease().survived.len(), 1);
    desk.extend_lease(LEASE_END);
    assert_eq!(desk.lose_lease().survived, [], "the first takeover removed the record");
}

#[test]
fn a_suspect_that_was_being_vetted_when_the_lease_was_lost_never_starts() {
    let mut desk = desk(1, 1);
    receive(&mut desk, [suspect(1, 1)]);
    hand_out(&mut desk);
    let (slot, start) = planned(&mut desk).vet.remove(0);
    desk.lose_lease();
    desk.extend_lease(LEASE_END);
    assert_eq!((desk.held(), desk.running()), (0, 0), "it holds no place");
    // The slot has another suspect when the reply arrives.
    receive(&mut desk, [suspect(2, 1)]);
    hand_out(&mut desk);
    desk.vetted(&[slot], &[start], &[], NOW);
    assert!(hand_out(&mut desk).is_empty(), "the answer is not for the other one");
    assert_eq!(ids(&vet(&mut desk)), ["job2"]);
}

#[test]
fn known_are_all_deliveries_until_they_are_settled_and_none_that_are_only_asked_for() {
    let mut desk = busy_desk(1, 8);
    desk.reserve(5);
    assert_eq!(desk.known(), 0, "an answer that is lost would never be missed");
    receive(&mut desk, [entry(3, 1), entry(3, 2), entry(3, 3), suspect(4, 2)]);
    desk.unreserve(5);
    assert!(hand_out(&mut desk).is_empty());
    assert_eq!(desk.known(), 4);
    let running = vet(&mut desk);
    assert_eq!(desk.known(), 4);
    assert!(desk.complete(running[0].slot, Outcome::Retry(0), NOW, MONO));
    assert_eq!((desk.held(), desk.known()), (3, 4));
    let finished = planned(&mut desk).settle;
    assert_eq!((finished.len(), desk.known()), (1, 4), "while it is being written");
    desk.put_off(settlements(finished), MONO + 10);
    assert_eq!(desk.known(), 4);
    assert_eq!(planned_at(&mut desk, MONO + 10).again.len(), 1);
    assert_eq!(desk.known(), 4);
    desk.settled(1);
    assert_eq!(desk.known(), 3);
}

#[test]
fn outcomes_that_the_server_would_not_take_are_sent_again_when_their_time_has_come() {
    let mut desk = desk(2, 2);
    receive(&mut desk, [entry(3, 1), entry(3, 2)]);
    let runs = hand_out(&mut desk);
    succeed(&mut desk, runs[0].slot);
    let refused = settlements(planned(&mut desk).settle);
    desk.put_off(refused.clone(), MONO + 500);
    assert!(!desk.is_settled() && !desk.is_empty());
    // Other outcomes are written in the meantime.
    succeed(&mut desk, runs[1].slot);
    let plan = planned_at(&mut desk, MONO + 499);
    assert_eq!((plan.settle.len(), plan.again.len(), plan.next_ms), (1, 0, Some(MONO + 500)));
    desk.settled(1);
    let busy = desk.plan(MONO + 500, InFlight { outcomes: true, ..InFlight::default() });
    assert!(busy.again.is_empty(), "one batch at a time");
    let plan = planned_at(&mut desk, MONO + 500);
    assert!(plan.again == refused && plan.has_outcomes());
    assert!(!desk.is_settled());
    assert!(planned_at(&mut desk, MONO + 501).again.is_empty(), "it is on its way");
    desk.settled(1);
    assert!(desk.is_settled() && desk.is_empty());
}

#[test]
fn outcomes_that_are_put_off_go_out_in_batches_and_are_known_to_a_recovery() {
    let many = BATCH + 7;
    let mut desk = desk(many, many);
    receive(&mut desk, (0..many).map(|number| entry(3, number)));
    for run in hand_out(&mut desk) {
        succeed(&mut desk, run.slot);
    }
    for _ in 0..2 {
        let refused = settlements(planned(&mut desk).settle);
        desk.put_off(refused, MONO + 10);
    }
    assert_eq!(desk.receive(deliveries([entry(3, 0), entry(3, many - 1), entry(3, many)]), true, NOW), 1);
    assert_eq!(planned_at(&mut desk, MONO + 10).again.len(), BATCH);
    assert_eq!(planned_at(&mut desk, MONO + 10).again.len(), 7);
    assert_eq!(desk.known(), many + 1);
}

#[test]
fn a_lost_lease_keeps_outcomes_that_were_put_off() {
    let mut desk = desk(1, 1);
    receive(&mut desk, [entry(3, 1)]);
    let slot = hand_out(&mut desk)[0].slot;
    succeed(&mut desk, slot);
    let refused = settlements(planned(&mut desk).settle);
    desk.put_off(refused, MONO + 10);
    desk.lose_lease();
    assert_eq!(planned_at(&mut desk, MONO + 10).again.len(), 1, "the script decides whether it still counts");
}

#[test]
fn a_job_that_was_read_back_may_be_on_record_whatever_becomes_of_it() {
    let again = |number| {
        let mut delivery = deliveries([entry(3, number)]);
        delivery[0].job.is_again = true;
        delivery
    };
    let mut desk = desk(1, 2);
    for number in [1, 2] {
        assert_eq!(desk.receive(again(number), true, NOW), 1);
    }
    let slot = hand_out(&mut desk)[0].slot;
    succeed(&mut desk, slot);
    desk.stop(NOW);
    let recorded: Vec<bool> = planned(&mut desk).settle.iter().map(|one| one.recorded).collect();
    assert_eq!(recorded, [true, true], "one that ended and one that goes back");
}
