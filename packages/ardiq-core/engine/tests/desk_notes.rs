//! Progress and checkpoints on the desk.
#![allow(clippy::unwrap_used, clippy::expect_used)] // In a test, a surprise is a failure.

#[path = "support/desks.rs"]
mod desks;

use ardiq_engine::error::Error;
use ardiq_engine::protocol::entry::{Header, NOTES, SEPARATE_BODY};
use ardiq_engine::protocol::notes::Progress;
use ardiq_engine::scripts::deliver::{Entry, Verdict};
use ardiq_engine::worker::desk::Desk;
use ardiq_engine::worker::job::Parts;
use ardiq_engine::worker::judge::{Outcome, judge};
use desks::{MONO, NOW, desk, entry, entry_with, hand_out, outcomes, planned, receive, succeed};

fn done(done: u64) -> Progress {
    Progress { done, ..Progress::default() }
}

fn noted(number: usize) -> Entry {
    entry_with(3, number, Header { flags: NOTES, ..Header::default() }, 0)
}

fn reports(desk: &mut Desk) -> Vec<(String, u64)> {
    desk.take_reports().into_iter().map(|one| (one.id, one.progress.unwrap().done)).collect()
}

#[test]
fn only_the_last_progress_of_each_run_is_sent() {
    let mut desk = desk(2, 2);
    receive(&mut desk, [entry(3, 1), entry(3, 2)]);
    let runs = hand_out(&mut desk);
    assert!(desk.report(runs[0].slot, done(1)), "the loop must be told");
    assert!(!desk.report(runs[0].slot, done(2)));
    assert!(desk.report(runs[1].slot, done(7)));
    assert_eq!(reports(&mut desk), [("job1".into(), 2), ("job2".into(), 7)]);
    assert_eq!(reports(&mut desk), [], "sent once");
    assert!(desk.report(runs[0].slot, done(3)), "told again");
}

#[test]
fn a_job_that_reported_is_settled_as_one_with_notes_and_others_are_not() {
    let mut desk = desk(3, 3);
    receive(&mut desk, [entry(3, 1), entry(3, 2), entry(3, 3)]);
    let runs = hand_out(&mut desk);
    desk.report(runs[0].slot, done(1));
    desk.take_reports();
    desk.begin_checkpoint(runs[1].slot, b"value".to_vec()).unwrap();
    succeed(&mut desk, runs[0].slot);
    assert!(desk.complete(runs[1].slot, Outcome::Retry(5), NOW, MONO));
    succeed(&mut desk, runs[2].slot);
    let settled: Vec<_> = planned(&mut desk).settle.into_iter().map(|one| judge(one, "w", 300)).collect();
    assert_eq!(settled.iter().map(|one| one.has_notes).collect::<Vec<_>>(), [true, true, false]);
    let Verdict::Again(5, header) = &settled[1].verdict else { unreachable!() };
    let (header, _) = Header::split(header).unwrap();
    assert_eq!((header.flags, header.tries), (NOTES, 1), "for the worker that gets it next");
}

#[test]
fn progress_that_was_not_sent_stays_with_the_outcome() {
    let mut desk = desk(1, 1);
    receive(&mut desk, [entry(3, 1)]);
    let slot = hand_out(&mut desk)[0].slot;
    desk.report(slot, done(9));
    assert!(desk.complete(slot, Outcome::HandBack, NOW, MONO));
    let finished = planned(&mut desk).settle.remove(0);
    assert!(finished.job.has_unsent_progress() && finished.job.header.has_notes());
}

#[test]
fn progress_that_may_not_have_arrived_goes_with_the_outcome_once_more() {
    for has_arrived in [false, true] {
        let mut desk = desk(1, 1);
        receive(&mut desk, [entry(3, 1)]);
        let slot = hand_out(&mut desk)[0].slot;
        desk.report(slot, done(9));
        desk.take_reports();
        if has_arrived {
            desk.have_arrived();
        }
        assert!(desk.complete(slot, Outcome::HandBack, NOW, MONO));
        let mut finished = planned(&mut desk).settle.remove(0);
        assert_eq!(finished.job.take_progress().is_some(), !has_arrived);
        assert_eq!(finished.job.take_progress(), None);
    }
}

#[test]
fn the_notes_of_a_run_that_is_over_are_those_of_no_later_run() {
    let mut desk = desk(1, 2);
    receive(&mut desk, [entry(3, 1), entry(3, 2)]);
    let old = hand_out(&mut desk)[0].slot;
    succeed(&mut desk, old);
    let new = hand_out(&mut desk)[0].slot;
    assert_ne!(new, old);
    assert!(!desk.report(old, done(1)));
    assert!(desk.begin_checkpoint(old, b"stale".to_vec()).is_none());
    desk.keep_checkpoint(old, b"stale".to_vec());
    assert!(matches!(desk.checkpoint(old), Err(Error::StaleRun)));
    assert!(matches!(desk.checkpoint(new), Ok(None)));
    assert_eq!(reports(&mut desk), []);
    assert!(!desk.begin(old, NOW, MONO) && !desk.complete(old, Outcome::HandBack, NOW, MONO), "and so is the rest");
    assert!(desk.elapsed_ms(old, MONO).is_none() && desk.elapsed_ms(new, MONO).is_some());
}

#[test]
fn a_run_that_has_not_started_reports_nothing() {
    let mut desk = desk(1, 1);
    desk.defer(["task".to_owned()].into());
    receive(&mut desk, [entry(3, 1)]);
    let slot = hand_out(&mut desk)[0].slot;
    assert!(!desk.report(slot, done(1)) && desk.begin_checkpoint(slot, Vec::new()).is_none());
    assert!(desk.begin(slot, NOW, MONO));
    assert!(desk.report(slot, done(1)));
}

#[test]
fn a_job_with_notes_starts_when_its_checkpoint_has_been_read() {
    let mut desk = desk(2, 2);
    let both = Header { flags: NOTES | SEPARATE_BODY, ..Header::default() };
    receive(&mut desk, [noted(1), entry_with(3, 2, both, 0)]);
    assert!(hand_out(&mut desk).is_empty());
    let reads = planned(&mut desk).read;
    let wanted: Vec<(bool, bool)> = reads.iter().map(|read| (read.has_body, read.has_notes)).collect();
    assert_eq!(wanted, [(false, true), (true, true)]);
    let parts = Parts { checkpoint: Some(b"value".to_vec()), ..Parts::default() };
    assert_eq!(desk.complete_job(&reads[0], parts, NOW), None, "its arguments are in the envelope");
    let parts = Parts { body: Some(Some(b"large".to_vec())), ..Parts::default() };
    assert_eq!(desk.complete_job(&reads[1], parts, NOW), None);
    let runs = hand_out(&mut desk);
    assert_eq!((runs[0].body.as_slice(), runs[1].body.as_slice()), (&b"args"[..], &b"large"[..]));
    assert_eq!(desk.checkpoint(runs[0].slot).unwrap(), Some(b"value".to_vec()));
    assert_eq!(desk.checkpoint(runs[1].slot).unwrap(), None);
    desk.begin_checkpoint(runs[0].slot, b"next".to_vec()).unwrap();
    assert_eq!(desk.checkpoint(runs[0].slot).unwrap(), Some(b"value".to_vec()), "it is not stored yet");
    desk.keep_checkpoint(runs[0].slot, b"next".to_vec());
    assert_eq!(desk.checkpoint(runs[0].slot).unwrap(), Some(b"next".to_vec()));
}

#[test]
fn a_checkpoint_that_cannot_be_read_now_returns_its_job() {
    let mut desk = desk(1, 1);
    receive(&mut desk, [noted(1)]);
    let read = planned(&mut desk).read.remove(0);
    desk.put_job_off(&read, None, NOW);
    assert_eq!(outcomes(&mut desk), [("job1".to_owned(), Outcome::PutOff)]);
    let parts = Parts { checkpoint: Some(b"late".to_vec()), ..Parts::default() };
    assert_eq!(desk.complete_job(&read, parts, NOW), None);
    assert!(hand_out(&mut desk).is_empty());
}
