//! Aborting jobs on the desk, in every stage.
#![allow(clippy::unwrap_used, clippy::expect_used)] // In a test, a surprise is a failure.

#[path = "support/desks.rs"]
mod desks;

use ardiq_engine::protocol::entry::{Header, SEPARATE_BODY};
use ardiq_engine::protocol::keys::Nonce;
use ardiq_engine::worker::desk::Desk;
use ardiq_engine::worker::judge::Outcome;
use desks::{
    MONO, NOW, answer_vetting, busy_desk, desk, entry, entry_with, hand_out, outcomes, planned, receive, succeed,
    suspect,
};

/// The nonce of every job here.
const NONCE: Nonce = [0; 8];

fn abort(desk: &mut Desk, ids: &[&str]) -> bool {
    let marked: Vec<(String, Nonce)> = ids.iter().map(|id| ((*id).to_owned(), NONCE)).collect();
    desk.abort(&marked, NOW)
}

fn returned(ids: &[&str]) -> Vec<(String, Outcome)> {
    ids.iter().map(|id| ((*id).to_owned(), Outcome::HandBack)).collect()
}

fn unfinished(desk: &Desk) -> Vec<String> {
    let mut ids: Vec<String> = desk.unfinished().into_iter().map(|(id, _)| id).collect();
    ids.sort();
    ids
}

#[test]
fn buffered_jobs_are_returned_and_the_others_stay_in_order() {
    let mut desk = busy_desk(1, 8);
    receive(&mut desk, (1..=5).map(|number| entry(3, number)));
    let slot = hand_out(&mut desk)[0].slot;
    assert_eq!(unfinished(&desk), ["job1", "job2", "job3", "job4", "job5"]);
    assert!(!abort(&mut desk, &["job2", "job4", "unknown"]), "the host has nothing to do");
    assert_eq!(outcomes(&mut desk), returned(&["job2", "job4"]));
    succeed(&mut desk, slot);
    for id in ["job3", "job5"] {
        let run = hand_out(&mut desk).remove(0);
        assert_eq!(run.id, id);
        succeed(&mut desk, run.slot);
    }
}

#[test]
fn a_job_of_another_enqueue_with_the_same_id_is_left_alone() {
    let mut desk = desk(1, 1);
    receive(&mut desk, [entry(3, 1)]);
    assert!(!desk.abort(&[("job1".into(), [7; 8])], NOW));
    assert_eq!(hand_out(&mut desk).len(), 1);
}

#[test]
fn jobs_in_quarantine_and_without_their_arguments_are_returned() {
    let mut desk = desk(1, 8);
    let incomplete = Header { flags: SEPARATE_BODY, ..Header::default() };
    receive(
        &mut desk,
        [suspect(1, 2), suspect(2, 2), entry_with(3, 3, incomplete, 0), entry_with(3, 4, incomplete, 0)],
    );
    assert_eq!(planned(&mut desk).read.len(), 2);
    assert!(!abort(&mut desk, &["job2", "job3"]));
    assert_eq!(outcomes(&mut desk), returned(&["job2", "job3"]));
    assert_eq!(unfinished(&desk), ["job1", "job4"]);
}

#[test]
fn the_host_is_told_once_about_a_run() {
    let mut desk = desk(2, 2);
    receive(&mut desk, [entry(3, 1), entry(3, 2)]);
    let slots: Vec<usize> = hand_out(&mut desk).iter().map(|run| run.slot).collect();
    assert!(abort(&mut desk, &["job1"]));
    assert_eq!(desk.take_aborts(), slots[..1]);
    assert!(!abort(&mut desk, &["job1"]), "the mark is announced again");
    assert!(desk.take_aborts().is_empty());
    assert_eq!(desk.running(), 2, "it runs until its host completes it");
    assert!(desk.complete(slots[0], Outcome::Aborted(String::new(), None), NOW, MONO));
    assert_eq!(outcomes(&mut desk), [("job1".to_owned(), Outcome::Aborted(String::new(), None))]);
}

#[test]
fn a_slot_that_another_run_has_by_now_is_not_returned() {
    let mut desk = desk(1, 2);
    receive(&mut desk, [entry(3, 1), entry(3, 2)]);
    let slot = hand_out(&mut desk)[0].slot;
    assert!(abort(&mut desk, &["job1"]));
    // The host completes the run before it asks which ones to abort.
    succeed(&mut desk, slot);
    assert_ne!(hand_out(&mut desk)[0].slot, slot, "no later run has this number");
    assert!(desk.take_aborts().is_empty());
}

#[test]
fn a_deferred_run_is_returned_and_must_not_begin() {
    let mut desk = desk(1, 1);
    desk.defer(["task".to_owned()].into());
    receive(&mut desk, [entry(3, 1)]);
    let slot = hand_out(&mut desk)[0].slot;
    assert!(abort(&mut desk, &["job1"]), "the host stops waiting for a thread");
    assert_eq!(desk.take_aborts(), [slot]);
    assert_eq!(outcomes(&mut desk), returned(&["job1"]));
    assert!(!desk.begin(slot, NOW, MONO));
    assert_eq!((desk.running(), unfinished(&desk).len()), (0, 0));
}

#[test]
fn a_suspect_whose_start_is_being_recorded_is_returned_afterwards() {
    let mut desk = desk(1, 1);
    receive(&mut desk, [suspect(1, 1)]);
    assert!(hand_out(&mut desk).is_empty());
    abort(&mut desk, &["job1"]);
    assert!(desk.take_aborts().is_empty(), "the host does not have it");
    answer_vetting(&mut desk, &[]);
    assert!(hand_out(&mut desk).is_empty());
    let settle = planned(&mut desk).settle;
    assert_eq!((settle.len(), &settle[0].outcome, settle[0].recorded), (1, &Outcome::HandBack, true));
}

#[test]
fn a_suspect_that_is_about_to_start_is_returned_with_its_recorded_start() {
    let mut desk = desk(1, 1);
    receive(&mut desk, [suspect(1, 1), suspect(2, 1)]);
    assert!(hand_out(&mut desk).is_empty());
    answer_vetting(&mut desk, &[]);
    assert!(!abort(&mut desk, &["job1"]));
    let settle = planned(&mut desk).settle;
    assert_eq!((settle.len(), &settle[0].outcome, settle[0].recorded), (1, &Outcome::HandBack, true));
    assert!(hand_out(&mut desk).is_empty(), "the next suspect is vetted first");
}

#[test]
fn a_run_under_a_lost_lease_is_cancelled_too() {
    let mut desk = desk(1, 1);
    receive(&mut desk, [entry(3, 1)]);
    let slot = hand_out(&mut desk)[0].slot;
    desk.lose_lease();
    assert!(abort(&mut desk, &["job1"]));
    assert_eq!(desk.take_aborts(), [slot]);
}
