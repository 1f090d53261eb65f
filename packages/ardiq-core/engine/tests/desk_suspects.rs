//! Jobs that were running when a process died: how they run again without harming other jobs, and
//! when one is condemned.
#![allow(clippy::unwrap_used, clippy::expect_used)] // In a test, a surprise is a failure.

#[path = "support/desks.rs"]
mod desks;

use ardiq_engine::protocol::entry::{ALONE, SUSPECT};
use ardiq_engine::protocol::state::StartMode;
use ardiq_engine::scripts::deliver::{Entry, Verdict};
use ardiq_engine::worker::desk::{Assignment, Desk, RECORD_AFTER_MS};
use ardiq_engine::worker::judge::{Outcome, judge};
use ardiq_engine::worker::quarantine::{CLEARED_AFTER_MS, HOPELESS_DEATHS, MOST_WAITING, POISON_DEATHS};
use desks::{
    LEASE_END, MONO, NOW, answer_vetting, desk, entry, hand_out, ids, outcomes, planned, planned_at, receive, succeed,
    suspect, suspect_with, vet,
};

/// A job with this many deaths waits separately.
const SUSPECT_FROM: u8 = POISON_DEATHS - 1;

fn in_stream(stream: usize, entry: Entry) -> Entry {
    Entry { stream, ..entry }
}

/// A run, and the mode with which its start was recorded.
struct Started {
    run: Assignment,
    mode: StartMode,
}

/// Pull, answer all vettings, and pull again. Returns the runs with their recorded modes.
fn start(desk: &mut Desk) -> Vec<Started> {
    let mut runs: Vec<Started> =
        hand_out(desk).into_iter().map(|run| Started { run, mode: StartMode::Plain }).collect();
    let modes: Vec<StartMode> = planned(desk).vet.into_iter().map(|(_, start)| start.mode).collect();
    let vetted = vet(desk);
    assert_eq!(vetted.len(), modes.len());
    runs.extend(vetted.into_iter().zip(modes).map(|(run, mode)| Started { run, mode }));
    runs
}

fn names(runs: &[Started]) -> Vec<(&str, StartMode)> {
    runs.iter().map(|one| (one.run.id.as_str(), one.mode)).collect()
}

#[test]
fn a_suspect_runs_only_after_its_start_was_recorded() {
    let mut desk = desk(2, 2);
    receive(&mut desk, [suspect(1, 0), entry(3, 2)]);
    assert_eq!(ids(&hand_out(&mut desk)), ["job2"], "an innocent does not wait");
    assert_eq!(desk.running(), 2, "a suspect has its place while it is being vetted");
    assert!(desk.take_news(), "the work loop is told");
    let plan = planned(&mut desk);
    assert_eq!((plan.vet.len(), plan.record.len()), (1, 0));
    let (slot, answered) = &plan.vet[0];
    assert_eq!((answered.id.as_str(), answered.entry.as_str()), ("job1", "1-0"));
    let later = planned_at(&mut desk, MONO + 1_000);
    assert_eq!(later.vet, plan.vet, "asked again until it is answered");
    assert_eq!(later.record.len(), 1, "never as a plain record: this is the innocent's");
    desk.vetted(&[*slot], std::slice::from_ref(answered), &[], NOW + 5);
    assert!(planned(&mut desk).vet.is_empty() && desk.can_start(MONO));
    let run = desk.next(NOW + 8, MONO + 8).unwrap();
    assert_eq!((run.id.as_str(), run.slot, run.body.as_slice()), ("job1", *slot, &b"args"[..]));
    assert!(desk.next(NOW, MONO).is_none() && planned_at(&mut desk, MONO + 8 + RECORD_AFTER_MS).record.is_empty());
    succeed(&mut desk, run.slot);
    let settled = planned(&mut desk).settle.remove(0);
    assert!(settled.recorded && settled.started_ms == NOW + 8, "it started when it was pulled");
}

#[test]
fn a_suspect_that_another_worker_owns_by_now_does_not_start() {
    let mut desk = desk(2, 2);
    receive(&mut desk, [suspect(1, 0), suspect(2, 1)]);
    assert!(hand_out(&mut desk).is_empty());
    answer_vetting(&mut desk, &[0]);
    assert_eq!(ids(&hand_out(&mut desk)), ["job2"]);
    assert_eq!((desk.running(), outcomes(&mut desk)), (1, vec![("job1".to_owned(), Outcome::Void)]));
}

#[test]
fn after_one_death_a_job_does_not_wait_for_others() {
    let mut desk = desk(4, 4);
    receive(&mut desk, (1..=3).map(|number| suspect(number, SUSPECT_FROM - 1)));
    let runs = start(&mut desk);
    assert_eq!(names(&runs), [("job1", StartMode::Plain), ("job2", StartMode::Plain), ("job3", StartMode::Plain)]);
}

#[test]
fn few_suspects_run_one_at_a_time_and_alone_while_innocents_go_on() {
    let mut desk = desk(4, 8);
    receive(&mut desk, [suspect(1, SUSPECT_FROM), suspect(2, SUSPECT_FROM), entry(3, 3), entry(3, 4)]);
    let runs = start(&mut desk);
    assert_eq!(names(&runs), [("job3", StartMode::Plain), ("job4", StartMode::Plain), ("job1", StartMode::Alone)]);
    assert_eq!((desk.held(), desk.running()), (4, 3));
    receive(&mut desk, [entry(3, 5)]);
    assert_eq!(names(&start(&mut desk)), [("job5", StartMode::Plain)], "others pass the one that waits");
    succeed(&mut desk, runs[0].run.slot);
    assert!(start(&mut desk).is_empty(), "a free place is not enough");
    succeed(&mut desk, runs[2].run.slot);
    assert_eq!(names(&start(&mut desk)), [("job2", StartMode::Alone)]);
}

#[test]
fn a_job_that_has_seen_a_death_does_not_start_beside_a_suspect_that_runs_alone() {
    let mut desk = desk(4, 8);
    receive(&mut desk, [suspect(1, SUSPECT_FROM), suspect(2, 1), entry(1, 3)]);
    let runs = start(&mut desk);
    assert_eq!(names(&runs), [("job3", StartMode::Plain), ("job1", StartMode::Alone)]);
    receive(&mut desk, [suspect(4, 1)]);
    assert!(start(&mut desk).is_empty(), "it may be the one that kills the process");
    succeed(&mut desk, runs[1].run.slot);
    let next = start(&mut desk);
    assert_eq!(names(&next), [("job2", StartMode::Alone)]);
    succeed(&mut desk, next[0].run.slot);
    assert_eq!(names(&start(&mut desk)), [("job4", StartMode::Alone)]);
}

#[test]
fn a_suspect_does_not_run_alone_beside_a_job_that_has_seen_a_death() {
    let mut desk = desk(4, 8);
    receive(&mut desk, [suspect(1, 1)]);
    let first = start(&mut desk);
    assert_eq!(names(&first), [("job1", StartMode::Plain)]);
    receive(&mut desk, [suspect(2, SUSPECT_FROM)]);
    assert!(start(&mut desk).is_empty());
    succeed(&mut desk, first[0].run.slot);
    assert_eq!(names(&start(&mut desk)), [("job2", StartMode::Alone)]);
}

#[test]
fn many_suspects_run_in_groups_of_a_quarter_until_few_are_left() {
    for (count, group) in [(1, 1), (4, 1), (5, 2), (8, 2), (9, 3), (16, 4), (64, 16)] {
        let mut desk = desk(64, 64);
        receive(&mut desk, (0..count).map(|number| suspect(number, SUSPECT_FROM)));
        let runs = start(&mut desk);
        let mode = if group == 1 { StartMode::Alone } else { StartMode::Plain };
        assert!(runs.iter().all(|one| one.mode == mode), "{count}");
        assert_eq!(runs.len(), group, "{count}");
    }
    let mut desk = desk(8, 8);
    receive(&mut desk, (1..=6).map(|number| suspect(number, SUSPECT_FROM)));
    let first = start(&mut desk);
    assert_eq!(names(&first), [("job1", StartMode::Plain), ("job2", StartMode::Plain)]);
    succeed(&mut desk, first[0].run.slot);
    let third = start(&mut desk);
    assert_eq!(names(&third), [("job3", StartMode::Plain)], "five are left");
    succeed(&mut desk, first[1].run.slot);
    assert!(start(&mut desk).is_empty(), "four are left, of which one runs that is not alone by its record");
    succeed(&mut desk, third[0].run.slot);
    for last in ["job4", "job5", "job6"] {
        let runs = start(&mut desk);
        assert_eq!(names(&runs), [(last, StartMode::Alone)]);
        succeed(&mut desk, runs[0].run.slot);
    }
}

#[test]
fn the_worst_suspects_run_alone_whatever_the_group() {
    let mut desk = desk(16, 16);
    let worst = POISON_DEATHS;
    receive(&mut desk, (1..=3).map(|number| suspect(number, worst)));
    receive(&mut desk, (4..=16).map(|number| suspect(number, SUSPECT_FROM)));
    let runs = start(&mut desk);
    assert_eq!(names(&runs), [("job1", StartMode::Alone)]);
    succeed(&mut desk, runs[0].run.slot);
    let runs = start(&mut desk);
    assert_eq!(names(&runs), [("job2", StartMode::Alone)]);
}

#[test]
fn beside_a_group_the_worst_do_not_start() {
    let mut desk = desk(16, 16);
    receive(&mut desk, (1..=2).map(|number| suspect(number, SUSPECT_FROM)));
    receive(&mut desk, [suspect(3, POISON_DEATHS)]);
    receive(&mut desk, (4..=9).map(|number| suspect(number, SUSPECT_FROM)));
    let runs = start(&mut desk);
    assert_eq!(names(&runs), [("job1", StartMode::Plain), ("job2", StartMode::Plain), ("job4", StartMode::Plain)]);
    for one in &runs {
        succeed(&mut desk, one.run.slot);
    }
    assert_eq!(names(&start(&mut desk)), [("job3", StartMode::Alone)]);
}

#[test]
fn suspects_start_in_the_order_of_service() {
    let mut desk = desk(1, 8);
    receive(
        &mut desk,
        [
            in_stream(2, suspect(1, SUSPECT_FROM)),
            in_stream(0, suspect(2, SUSPECT_FROM)),
            in_stream(2, suspect(3, SUSPECT_FROM)),
            in_stream(0, suspect(4, SUSPECT_FROM)),
            entry(1, 5),
            entry(3, 6),
        ],
    );
    let mut order = Vec::new();
    loop {
        let runs = start(&mut desk);
        let Some(Started { run, .. }) = runs.first() else { break };
        order.push(run.id.clone());
        succeed(&mut desk, run.slot);
    }
    assert_eq!(order, ["job2", "job4", "job5", "job1", "job3", "job6"]);
}

#[test]
fn a_job_is_condemned_only_when_it_was_the_only_suspect_or_after_many_deaths() {
    for (deaths, flags, condemned) in [
        (POISON_DEATHS - 1, ALONE, false),
        (POISON_DEATHS, 0, false),
        (POISON_DEATHS, ALONE, true),
        (HOPELESS_DEATHS - 1, 0, false),
        (HOPELESS_DEATHS - 1, ALONE, true),
        (HOPELESS_DEATHS, 0, true),
        (u8::MAX, 0, true),
    ] {
        let mut desk = desk(2, 4);
        receive(&mut desk, [suspect_with(1, deaths, flags), entry(3, 2)]);
        let settled = planned(&mut desk).settle;
        let runs = start(&mut desk);
        if !condemned {
            assert_eq!(names(&runs), [("job2", StartMode::Plain), ("job1", StartMode::Alone)], "{deaths} {flags}");
            continue;
        }
        assert_eq!((names(&runs), settled.len()), (vec![("job2", StartMode::Plain)], 1), "{deaths} {flags}");
        let settled = settled.into_iter().next().unwrap();
        assert_eq!((settled.job.id.as_str(), &settled.outcome, settled.recorded), ("job1", &Outcome::Poison, false));
        let Verdict::Poison(record, 300) = judge(settled, "w", 300).verdict else { panic!("no verdict of poison") };
        let text = format!("{deaths} worker processes died");
        assert!(record.windows(text.len()).any(|part| part == text.as_bytes()));
    }
}

#[test]
fn only_so_many_suspects_wait_and_more_are_put_off() {
    let mut desk = desk(2, 8);
    receive(&mut desk, (0..MOST_WAITING + 2).map(|number| suspect(number, SUSPECT_FROM)));
    assert_eq!(desk.held(), MOST_WAITING);
    let settled = planned(&mut desk).settle;
    let ids: Vec<&str> = settled.iter().map(|one| one.job.id.as_str()).collect();
    assert_eq!(ids, [format!("job{MOST_WAITING}"), format!("job{}", MOST_WAITING + 1)], "the last that came");
    for one in settled {
        let header = one.job.header;
        assert_eq!((&one.outcome, header.deaths, header.flags), (&Outcome::PutOff, SUSPECT_FROM, SUSPECT));
        assert_eq!(judge(one, "w", 300).verdict, Verdict::Again(1_000, header.encode().to_vec()), "no try is spent");
    }
    assert_eq!(hand_out(&mut desk).len(), 0);
    assert_eq!(desk.running(), 2);
    receive(&mut desk, [suspect(500, SUSPECT_FROM)]);
    assert_eq!((desk.held(), planned(&mut desk).settle.len()), (MOST_WAITING + 1, 0), "one that runs waits no more");
}

#[test]
fn a_run_that_outlives_suspicion_is_recorded_so_and_has_no_deaths_when_it_ends() {
    let mut desk = desk(4, 4);
    desk.extend_lease(i64::MAX);
    receive(&mut desk, [suspect(1, SUSPECT_FROM), suspect(2, SUSPECT_FROM)]);
    let run = start(&mut desk).remove(0).run;
    let due = MONO + CLEARED_AFTER_MS;
    let early = planned_at(&mut desk, due - 1);
    assert_eq!((early.record.len(), early.next_ms), (0, Some(due)));
    assert!(hand_out(&mut desk).is_empty(), "the other waits");
    let plan = planned_at(&mut desk, due);
    let (slot, record) = &plan.record[0];
    assert_eq!((*slot, record.id.as_str(), record.mode, record.tries), (run.slot, "job1", StartMode::Cleared, 3));
    assert_eq!((plan.record.len(), planned_at(&mut desk, due + 1).record.len()), (1, 0), "once");
    assert_eq!(names(&start(&mut desk)), [("job2", StartMode::Alone)], "it is not one of the suspects any more");
    assert!(desk.complete(run.slot, Outcome::Retry(0), NOW, due + 2));
    let ended = planned_at(&mut desk, due + 2).settle.remove(0);
    assert_eq!((ended.job.header.deaths, ended.job.header.tries, ended.recorded), (0, 2, true));
}

#[test]
fn a_run_that_ends_before_keeps_its_deaths() {
    let mut desk = desk(1, 1);
    receive(&mut desk, [suspect(1, SUSPECT_FROM)]);
    let run = start(&mut desk).remove(0).run;
    assert!(desk.complete(run.slot, Outcome::HandBack, NOW, MONO + CLEARED_AFTER_MS - 1));
    assert_eq!(planned(&mut desk).settle[0].job.header.deaths, SUSPECT_FROM);
}

#[test]
fn a_single_death_is_forgotten_too_after_that_time() {
    let mut desk = desk(1, 1);
    receive(&mut desk, [suspect(1, 1)]);
    start(&mut desk);
    let plan = planned_at(&mut desk, MONO + CLEARED_AFTER_MS);
    let (_, record) = &plan.record[0];
    assert_eq!(record.mode, StartMode::Cleared);
}

#[test]
fn an_innocent_run_is_recorded_once_however_long_it_lasts() {
    let mut desk = desk(1, 1);
    receive(&mut desk, [entry(3, 1)]);
    hand_out(&mut desk);
    let plan = planned_at(&mut desk, MONO + RECORD_AFTER_MS);
    let (_, record) = &plan.record[0];
    assert_eq!(record.mode, StartMode::Plain);
    let plan = planned_at(&mut desk, MONO + CLEARED_AFTER_MS);
    assert_eq!((plan.record.len(), plan.next_ms), (0, None));
}

/// Its job runs in another worker now. But if it kills this process, the other suspects here must
/// not be blamed.
#[test]
fn beside_a_suspect_that_was_taken_over_another_starts_but_not_as_the_only_one() {
    let mut desk = desk(4, 4);
    receive(&mut desk, [suspect(1, SUSPECT_FROM)]);
    let run = start(&mut desk).remove(0).run;
    assert_eq!(desk.lose_lease().survived.len(), 1);
    desk.extend_lease(LEASE_END);
    receive(&mut desk, [suspect(2, SUSPECT_FROM)]);
    let second = start(&mut desk);
    assert_eq!(names(&second), [("job2", StartMode::Plain)]);
    succeed(&mut desk, run.slot);
    succeed(&mut desk, second[0].run.slot);
    receive(&mut desk, [suspect(3, SUSPECT_FROM)]);
    assert_eq!(names(&start(&mut desk)), [("job3", StartMode::Alone)]);
}

#[test]
fn suspects_that_wait_go_with_the_lease() {
    let mut desk = desk(4, 8);
    receive(&mut desk, [suspect(1, SUSPECT_FROM), suspect(2, SUSPECT_FROM)]);
    assert!(hand_out(&mut desk).is_empty());
    assert_eq!((desk.held(), desk.running()), (2, 1));
    let lost = desk.lose_lease();
    assert_eq!((lost.held, lost.survived.len(), desk.held()), (2, 0, 0));
}
