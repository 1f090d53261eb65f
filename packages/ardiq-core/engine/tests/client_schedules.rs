//! Schedules as clients and the host of a worker see them.
#![allow(clippy::unwrap_used, clippy::expect_used)] // In a test, a surprise is a failure.

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use ardiq_engine::answer::Answer;
use ardiq_engine::error::Error;
use ardiq_engine::mailbox::Mailbox;
use ardiq_engine::protocol::schedule::Schedule;
use ardiq_engine::protocol::state::JobState;
use ardiq_engine::schedules::Agenda;
use ardiq_engine::submit::LARGE_BODY;
use support::host::Host;
use support::server::Server;
use support::{LIMIT, schedule};

fn number(answer: Result<Answer, Error>) -> i64 {
    match answer {
        Ok(Answer::Number(number)) => number,
        other => panic!("{other:?}"),
    }
}

fn names(answer: Result<Answer, Error>) -> Vec<String> {
    match answer {
        Ok(Answer::Names(names)) => names,
        other => panic!("{other:?}"),
    }
}

fn agenda(answer: Result<Answer, Error>) -> Agenda {
    match answer {
        Ok(Answer::Agenda(agenda)) => *agenda,
        other => panic!("{other:?}"),
    }
}

fn save(host: &Host, schedule: Schedule) -> i64 {
    number(host.ask(|client, mailbox, request| client.schedule(mailbox, request, schedule)))
}

fn list(host: &Host, name: Option<&str>) -> Agenda {
    agenda(host.ask(|client, mailbox, request| client.schedules(mailbox, request, name.map(str::to_owned))))
}

fn watch(host: &Host, known: Option<Vec<u8>>) -> Agenda {
    agenda(host.ask(|client, mailbox, request| client.watch(mailbox, request, known)))
}

/// The answer that arrives next in a mailbox.
fn next_answer(mailbox: &Arc<Mailbox>) -> Option<Result<Answer, Error>> {
    let end = Instant::now() + LIMIT;
    while Instant::now() < end {
        if let Some((_, answer)) = mailbox.block(Duration::from_millis(100)).into_iter().next() {
            return Some(answer);
        }
    }
    None
}

#[test]
fn a_watch_is_answered_at_once_without_a_revision_and_else_after_a_change() {
    let server = Server::start(&[]);
    let (host, other) = (Host::new(&server.url()), Host::new(&server.url()));
    let first = watch(&host, None);
    assert!(first.revision.is_empty() && first.schedules.is_empty() && first.now_ms > 0);
    let mailbox = Arc::new(Mailbox::new().unwrap());
    host.client.watch(&mailbox, 7, Some(first.revision));
    assert!(mailbox.block(Duration::from_millis(200)).is_empty(), "nothing has changed");
    assert_eq!(save(&other, schedule("beat")), 1);
    // This process is not subscribed, because it has no worker, so it checks at intervals.
    let second = agenda(next_answer(&mailbox).unwrap());
    assert_eq!(second.schedules[0].0.schedule, schedule("beat"));
    host.client.watch(&mailbox, 8, Some(second.revision));
    host.client.forget(&mailbox, 8);
    assert!(matches!(next_answer(&mailbox), Some(Err(Error::Closed))), "the caller has cancelled it");
}

#[test]
fn a_change_is_announced_to_a_process_with_a_worker() {
    let server = Server::start(&[]);
    let (host, other) = (Host::new(&server.url()), Host::new(&server.url()));
    let running = host.worker("w", 1, 1);
    let known = watch(&host, None).revision;
    let mailbox = Arc::new(Mailbox::new().unwrap());
    host.client.watch(&mailbox, 1, Some(known));
    let began = Instant::now();
    assert_eq!(save(&other, schedule("beat")), 1);
    assert_eq!(agenda(next_answer(&mailbox).unwrap()).schedules.len(), 1);
    assert!(began.elapsed() < Duration::from_secs(4), "before the next check: {:?}", began.elapsed());
    drop(running);
}

#[test]
fn the_last_job_of_a_schedule_is_listed_with_its_outcome() {
    let server = Server::start(&[]);
    let host = Host::new(&server.url());
    assert_eq!(save(&host, schedule("beat")), 1);
    assert!(list(&host, Some("beat")).schedules[0].1.is_none());
    let fire = || names(host.ask(|client, mailbox, request| client.fire_now(mailbox, request, "beat".into())));
    let id = fire().remove(0);
    assert!(id.starts_with("cron:beat:"));
    let last = list(&host, None).schedules.remove(0).1.unwrap();
    assert_eq!((last.id.as_str(), last.state, last.outcome()), (id.as_str(), JobState::Queued, None));
    assert_eq!(number(host.ask(|client, mailbox, request| client.abort(mailbox, request, id.clone(), LIMIT))), 1);
    let last = list(&host, Some("beat")).schedules.remove(0).1.unwrap();
    assert_eq!((last.state, last.outcome()), (JobState::Complete, Some((false, Some("aborted")))));
    assert!(list(&host, Some("unknown")).schedules.is_empty());
    assert!(names(host.ask(|client, mailbox, request| client.fire_now(mailbox, request, "unknown".into()))).is_empty());
}

#[test]
fn a_schedule_is_fired_paused_and_removed() {
    let server = Server::start(&[]);
    let host = Host::new(&server.url());
    assert_eq!(save(&host, schedule("beat")), 1);
    let found = list(&host, None);
    let (record, at) = (found.schedules[0].0.clone(), (found.now_ms + 500, 1_000));
    let fire = || {
        let schedule = record.schedule.clone();
        number(host.ask(|client, mailbox, request| client.fire(mailbox, request, schedule, Some(record.revision), at)))
    };
    assert_eq!((fire(), fire()), (1, 0));
    let pause =
        |pauses| number(host.ask(|client, mailbox, request| client.pause(mailbox, request, "beat".into(), pauses)));
    assert_eq!(pause(true), 1);
    assert_eq!(fire(), 3);
    assert_eq!(pause(false), 1);
    let remove = || number(host.ask(|client, mailbox, request| client.unschedule(mailbox, request, "beat".into())));
    assert_eq!((remove(), remove(), pause(true)), (1, 0, 0));
    let declare =
        || names(host.ask(|client, mailbox, request| client.declare(mailbox, request, vec![schedule("beat")])));
    assert!(declare().is_empty());
    assert_eq!((remove(), save(&host, schedule("beat"))), (-1, 0), "it is in the code");
}

#[test]
fn large_arguments_are_refused() {
    let server = Server::start(&[]);
    let host = Host::new(&server.url());
    let large = |bytes| Schedule { body: vec![0; bytes], ..schedule("beat") };
    let refused = host.ask(|client, mailbox, request| client.schedule(mailbox, request, large(LARGE_BODY + 1)));
    assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
    assert_eq!(save(&host, large(LARGE_BODY)), 1);
}
