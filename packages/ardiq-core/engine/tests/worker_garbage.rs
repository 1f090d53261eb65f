//! A worker among keys of the wrong type and unreadable entries, records and members: these are set
//! aside and logged, and everything else continues.
#![allow(clippy::unwrap_used, clippy::expect_used)] // In a test, a surprise is a failure.

mod support;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use ardiq_engine::answer::Answer;
use ardiq_engine::protocol::entry::Header;
use ardiq_engine::protocol::state::{JobState, Listing};
use ardiq_engine::submit::Submission;
use ardiq_engine::worker::EventKind;
use redis::Value;
use support::LIMIT;
use support::host::{Host, Running, task, tell, value};
use support::server::Server;

/// Run all jobs until this one has a result.
fn serve(host: &Host, running: &mut Running, id: &str) {
    let end = Instant::now() + LIMIT;
    loop {
        running.take();
        let outcomes = running.taken.drain(..).map(|run| (run.slot, value(&run))).collect();
        running.complete(outcomes);
        let looked = host.ask(|client, mailbox, request| client.result(mailbox, request, id.to_owned(), None));
        if matches!(looked, Ok(Answer::Result(Some(_)))) {
            return;
        }
        assert!(Instant::now() < end, "{id} has no result: {looked:?} {:?} {:?}", running.events, host.log());
        running.listen(Duration::from_millis(20));
    }
}

fn messages(host: &Host) -> String {
    host.log().iter().map(|line| line.message.clone() + "\n").collect()
}

#[test]
fn a_worker_goes_on_whatever_type_a_key_of_its_queue_has() {
    let server = Server::start(&[]);
    let host = Host::new(&server.url());
    let mut running = host.worker("w", 2, 4);
    let keys = host.client.shared().keys.clone();
    let names: Vec<&str> = keys.types().into_iter().map(|(name, _)| name).collect();
    for (number, name) in names.iter().enumerate() {
        for wrong in ["SET", "RPUSH"] {
            let id = format!("{number} {wrong}");
            host.enqueue(vec![task(&id), Submission { lane: 1, ..task(&format!("{id} high")) }]);
            // In one step, because the worker creates missing keys again.
            let script = "redis.call('DEL', KEYS[1]) return redis.call(ARGV[1], KEYS[1], 'odd')";
            let _: Value = tell(&server, &["EVAL", script, "1", name, wrong]);
            // A stream that is deleted and created again within a millisecond repeats entry ids.
            std::thread::sleep(Duration::from_millis(2));
            let after = format!("{id} after");
            host.enqueue(vec![
                Submission { delay_ms: 1, ..task(&format!("{id} later")) },
                Submission { lane: 1, ..task(&format!("{id} high after")) },
                task(&after),
            ]);
            for id in [&after, &format!("{id} later"), &format!("{id} high after")] {
                serve(&host, &mut running, id);
            }
        }
    }
    let _: Value = tell(&server, &["RPUSH", &keys.job("list"), "odd"]);
    let _: Value = tell(&server, &["RPUSH", &format!("{}u", keys.unique), "odd"]);
    host.enqueue(vec![task("list")]);
    serve(&host, &mut running, "list");
    assert!(running.events.iter().all(|event| event.kind != EventKind::Failed), "{:?}", running.events);
    let log = messages(&host);
    for name in names {
        // Schedules are not used here, and there are no dead letters. Only the start of a worker
        // would set these keys aside.
        let unused = [&keys.cron, &keys.dead].contains(&&name.to_owned());
        assert!(unused || log.contains(&format!("the key {name} had the wrong type")), "{name} is not told of: {log}");
    }
    running.stop();
}

#[test]
fn a_worker_that_starts_sets_aside_what_is_in_its_way() {
    let server = Server::start(&[]);
    let host = Host::new(&server.url());
    let keys = host.client.shared().keys.clone();
    let types = keys.types();
    for (name, _) in &types {
        let _: Value = tell(&server, &["SET", name, "odd"]);
    }
    let mut running = host.worker("w", 2, 4);
    host.enqueue(vec![task("a")]);
    serve(&host, &mut running, "a");
    let end = Instant::now() + LIMIT;
    let mut told = String::new();
    while !types.iter().all(|(name, _)| told.contains(&format!("the key {name} had the wrong type"))) {
        assert!(Instant::now() < end, "{told}");
        running.listen(Duration::from_millis(20));
        running.take();
        told += &messages(&host);
    }
    let aside: Vec<String> = tell(&server, &["KEYS", &format!("{}*", keys.aside)]);
    assert_eq!(aside.len(), types.len(), "{aside:?}");
    running.stop();
}

#[test]
fn unreadable_entries_members_and_fields_hold_up_nothing() {
    let server = Server::start(&[]);
    let host = Host::new(&server.url());
    let keys = host.client.shared().keys.clone();
    host.enqueue(vec![task("innocent")]);
    let header = String::from_utf8(Header::default().encode().to_vec()).unwrap();
    let of_innocent = format!("{header}innocent");
    for stream in &keys.streams {
        for fields in [
            &["", ""][..],
            &["x", "y"],
            &["innocent", "not its label"],
            &["a", "b", "c", "d", "e", "f"],
            &[&header[..12], "envelope"],
            &[&header, ""],
            &[&of_innocent, ""],
            &[&of_innocent, "no envelope at all, whatever its first byte may say"],
        ] {
            let words = [&["XADD", stream, "*"], fields].concat();
            let _: String = tell(&server, &words);
        }
        // Not text.
        let mut connection = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
        let odd: &[u8] = b"\xff\xfe\0\0\0\0\0\0\0\0\0\0\0\xff";
        redis::cmd("XADD").arg(stream).arg("*").arg(odd).arg(odd).exec(&mut connection).unwrap();
    }
    for words in [
        &["ZADD", &keys.due, "1", "missing", "2", "", "99999999999999", "far"][..],
        &["SET", &keys.job("cut"), "d12345678\u{8}lane"],
        &["ZADD", &keys.due, "1", "cut"],
        &["SET", &keys.job("empty"), "d"],
        &["ZADD", &keys.due, "1", "empty"],
        &["HSET", &keys.running, "missing", "", "innocent", "what is this", "", "1-1 w"],
        &["HSET", &keys.waiters, "missing", "", "innocent", "no line", "x", "channel 99999999999999\n"],
        &["HSET", &keys.worker_info, "missing", "no info"],
        &["HSET", &keys.cron, "tick", "no time"],
        &["XADD", &keys.dead, "*", "no", "letter"],
        &["SADD", &keys.known_lanes, "", "no lane"],
        &["ZADD", &keys.workers, "5", "", "7", "missing"],
        &["SET", &keys.job("strange"), "q"],
        &["SET", &keys.job("stranger"), "q12345678no place"],
        &["SET", &keys.job("strangest"), "q1234567899999999999999999999999-1 lane:low"],
    ] {
        let _: Value = tell(&server, words);
    }
    let no_text: &[u8] = b"\xff";
    let mut connection = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    redis::cmd("ZADD").arg(&keys.workers).arg(6).arg(no_text).exec(&mut connection).unwrap();
    let mut running = host.worker("w", 2, 100);
    serve(&host, &mut running, "innocent");
    for id in ["strange", "stranger", "strangest", "cut", "missing"] {
        host.enqueue(vec![task(id)]);
        serve(&host, &mut running, id);
    }
    let end = Instant::now() + LIMIT;
    // All unknown workers are declared dead, whatever their names.
    while tell::<u64>(&server, &["ZCARD", &keys.workers]) > 1 {
        assert!(Instant::now() < end, "{}", messages(&host));
        running.listen(Duration::from_millis(20));
        running.take();
    }
    let lengths = || keys.streams.iter().map(|stream| tell::<u64>(&server, &["XLEN", stream])).sum::<u64>();
    while lengths() > 0 {
        assert!(Instant::now() < end, "{} entries are left", lengths());
        serve(&host, &mut running, "innocent");
        running.listen(Duration::from_millis(20));
    }
    assert!(running.events.iter().all(|event| event.kind != EventKind::Failed), "{:?}", running.events);
    let Ok(Answer::Dead(dead)) =
        host.ask(|client, mailbox, request| client.jobs(mailbox, request, Listing::Dead, 1000))
    else {
        panic!("dead letters cannot be listed")
    };
    assert_eq!(dead.len(), 9 * keys.streams.len());
    let reasons: BTreeSet<&str> = dead.iter().map(|(_, reason)| reason.split(':').next().unwrap()).collect();
    assert_eq!(reasons, BTreeSet::from(["undecodable job"]));
    for state in [JobState::Queued, JobState::Scheduled, JobState::Running] {
        let listed = host.ask(|client, mailbox, request| client.jobs(mailbox, request, Listing::In(state), 1000));
        assert!(matches!(listed, Ok(Answer::Jobs(_))), "{state:?}: {listed:?}");
    }
    assert!(matches!(host.ask(|client, mailbox, request| client.inspect(mailbox, request)), Ok(Answer::Queue(_))));
    let log = messages(&host);
    assert!(log.matches("cannot be read").count() >= 9 * keys.streams.len(), "{log}");
    running.stop();
}
