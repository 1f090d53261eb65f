//! A script does everything or nothing. For each command of a script, a user without permission for
//! that command calls the script. Either the data is unchanged, or the script has done everything
//! that it should.
#![allow(clippy::unwrap_used, clippy::expect_used)] // In a test, a surprise is a failure.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ardiq_engine::link::{Link, Patience};
use ardiq_engine::protocol::keys::Keys;
use ardiq_engine::protocol::schedule::Schedule;
use ardiq_engine::scripts::deliver::{self, Cursor, Entry, Source};
use ardiq_engine::scripts::links::{self, EdgeKind, Place};
use ardiq_engine::scripts::look::Seen;
use ardiq_engine::scripts::produce::{self, Chunk, NewJob};
use ardiq_engine::scripts::upkeep::{self, Claim, Part, Search};
use ardiq_engine::scripts::{ALL, abort, look, notes, schedules};
use ardiq_engine::url;
use bytes::Bytes;
use support::graphs::{edge, node, part};
use support::scene::{NONCE, set_scene};
use support::server::Server;
use support::{
    Queue, TTL, again, back, call_of, dead, done, job, note_of, occurrence, patience, poison, result_of, schedule,
    start_of, survivor,
};

/// The data that a refused call must not change. Queues and lanes are registered next to a call,
/// and a body that was sent ahead expires. The pulse records that a worker called, which is true.
async fn facts(queue: &Queue) -> BTreeMap<String, Vec<u8>> {
    let left_out = [":lanes", "ardiq:queues", ":pulse"];
    let all = queue.snapshot().await.into_iter();
    all.filter(|(name, _)| !left_out.iter().any(|end| name.ends_with(end)) && !name.contains(":body:")).collect()
}

/// The commands in a script's own text and in the prelude.
fn commands_of(script: &str) -> BTreeSet<String> {
    let text = ALL.iter().find(|one| one.name == script).unwrap().text;
    let mut found = BTreeSet::new();
    for opening in ["call('", "ask('", "look('", "add('", "page_of('"] {
        for rest in text.split(opening).skip(1) {
            found.insert(rest.split('\'').next().unwrap().to_owned());
        }
    }
    // Without it, no script runs.
    found.remove("TIME");
    found
}

/// One call of a script. Returns whether it succeeded.
async fn call(link: &Link, keys: &Keys, sent: &[Entry], script: &str, variant: usize) -> bool {
    let patience = || Patience::within(support::LIMIT);
    match (script, variant) {
        ("enqueue", 0) => {
            let jobs = [NewJob { is_new: true, ..job("n1") }, NewJob { is_new: true, ..job("n2") }];
            produce::enqueue(link, keys, &call_of(&jobs), patience()).await.is_ok()
        }
        ("enqueue", 1) => {
            let body = Bytes::from_static(b"large");
            let jobs = vec![
                NewJob { unique: Some("v".into()), ..job("n3") },
                NewJob { delay_ms: 5, ..job("n4") },
                NewJob { lane: 1, ..job("a") },
                NewJob { body, ..job("n5") },
            ];
            let chunk = Chunk { nonce: call_of(&jobs).nonce, jobs };
            produce::enqueue(link, keys, &chunk, patience()).await.is_ok()
        }
        ("link", _) => {
            let jobs = vec![node("l1", 9), NewJob { unique: Some("w".into()), ..node("l2", 9) }];
            let edges = vec![edge("l1", "l2", EdgeKind::Then, 0), edge("later", "l2", EdgeKind::After, 1)];
            links::link(link, keys, &part(9, jobs, edges), TTL, patience()).await.is_ok()
        }
        ("release", _) => links::release(link, keys, TTL, patience()).await.is_ok(),
        ("relink", _) => links::relink(link, keys, &Place::default(), patience()).await.is_ok(),
        ("fire", _) => {
            let job = NewJob { unique: Some("w".into()), ..job("cron") };
            produce::fire(link, keys, occurrence("tick", 7), &job, patience()).await.is_ok()
        }
        ("schedule", variant) => {
            let plan = schedule(["new", "beat"][variant]);
            let plan = Schedule { every_ms: 7, ..plan };
            schedules::save(link, keys, &plan, *b"revision", patience()).await.is_ok()
        }
        ("unschedule", variant) => {
            schedules::remove(link, keys, ["beat", "gone"][variant], *b"revision", patience()).await.is_ok()
        }
        ("pause", _) => schedules::pause(link, keys, "beat", true, *b"revision", patience()).await.is_ok(),
        ("declare", _) => {
            let plans = [schedule("static"), schedule("beat"), schedule("other")];
            schedules::declare(link, keys, &plans, *b"revision", patience()).await.is_ok()
        }
        ("promote", _) => upkeep::promote(link, keys, 10, patience()).await.is_ok(),
        ("fetch", 0) => deliver::fetch(link, keys, "w", 10, Source::New, patience()).await.is_ok(),
        ("fetch", _) => deliver::fetch(link, keys, "w", 9, Source::Own(Cursor::default()), patience()).await.is_ok(),
        ("start", _) => deliver::start(link, keys, "w", &[start_of(&sent[2])], patience()).await.is_ok(),
        ("note", _) => {
            let notes = [note_of(&sent[1]), note_of(&sent[2])];
            notes::note(link, keys, &notes, patience()).await.is_ok()
        }
        ("settle", 0) => deliver::settle(link, keys, &[done(&sent[1], TTL)], TTL, patience()).await.is_ok(),
        ("settle", 1) => deliver::settle(link, keys, &[poison(&sent[1], TTL)], TTL, patience()).await.is_ok(),
        ("settle", 2) => deliver::settle(link, keys, &[poison(&sent[2], TTL)], TTL, patience()).await.is_ok(),
        ("settle", _) => {
            let mut batch = [dead(&sent[1], 0), again(&sent[2], 0), back(&sent[3]), done(&sent[0], 5)];
            (batch[0].recorded, batch[0].has_notes) = (true, true);
            batch.sort_by_key(|one| one.stream);
            deliver::settle(link, keys, &batch, TTL, patience()).await.is_ok()
        }
        ("abort", variant) => {
            let id = ["unique", "later", &sent[2].id, "lost"][variant];
            let nonce = if id == "lost" { *b"12345678" } else { NONCE };
            abort::abort(link, keys, id, nonce, patience()).await.is_ok()
        }
        ("renew", _) => {
            let claim = Claim { worker: "w", lease_ms: 99_000, info: b"new", first: false, expected_ms: i64::MAX };
            upkeep::renew(link, keys, claim, patience()).await.is_ok()
        }
        ("reclaim", _) => {
            let seen = [("dead".into(), "1".into())];
            let search = Search { asker: "w", limit: 10, sweep: true, expected_ms: i64::MAX, seen: &seen };
            upkeep::reclaim(link, keys, search, patience()).await.is_ok()
        }
        ("survive", _) => {
            let runs = [survivor("a", 1, "1-1"), survivor("b", 2, "2-1")];
            upkeep::survive(link, keys, &runs, patience()).await.is_ok()
        }
        ("leave", _) => upkeep::leave(link, keys, "w", false, patience()).await.is_ok(),
        ("forget", _) => {
            let ids = ["a".to_owned(), "b".to_owned(), "unknown".to_owned()];
            look::forget(link, keys, "me", &ids, patience()).await.is_ok()
        }
        ("wait", 2) => look::wait(link, keys, "undue", "you", 60_000, patience()).await.is_ok(),
        ("wait", 0) => look::wait(link, keys, "d", "me", 60_000, patience()).await.is_ok(),
        ("wait", _) => look::wait(link, keys, "lost", "you", 60_000, patience()).await.is_ok(),
        ("mend", _) => upkeep::mend(link, keys, patience()).await.is_ok(),
        ("scrub", part) => {
            let small = [Part::Waiters, Part::Running, Part::Due, Part::Workers];
            let parts = [&small[..], &[Part::Entries, Part::Records, Part::Aborting, Part::Linked]].concat();
            upkeep::scrub(link, keys, parts[part], "0", patience()).await.is_ok()
        }
        _ => panic!("no call of {script}"),
    }
}

/// Every script that writes, with the number of ways in which it is called here.
const SCRIPTS: [(&str, usize); 23] = [
    ("enqueue", 2),
    ("link", 1),
    ("release", 1),
    ("relink", 1),
    ("fire", 1),
    ("schedule", 2),
    ("unschedule", 2),
    ("pause", 1),
    ("declare", 1),
    ("promote", 1),
    ("fetch", 2),
    ("start", 1),
    ("note", 1),
    ("settle", 4),
    ("abort", 4),
    ("renew", 1),
    ("reclaim", 1),
    ("leave", 1),
    ("wait", 3),
    ("forget", 1),
    ("mend", 1),
    ("scrub", 8),
    ("survive", 1),
];

/// A user with these rights, and a link that signs on as that user.
async fn limited(queue: &Queue, rules: &[&str]) -> Link {
    let user = ["SETUSER", "limited", "reset", "on", ">pw", "~*"];
    let _: String = queue.ask("ACL", [&user[..], rules].concat()).await;
    let address = url::parse(&format!("{}?user=limited&pass=pw", queue.server.url())).unwrap();
    Link::new(address, Arc::clone(&queue.keys), support::LIMIT, Arc::new(|_: &[u8], _| {}))
}

#[tokio::test]
async fn a_script_that_lacks_a_right_has_done_nothing_or_all_that_it_should() {
    let queue = Queue::start();
    for script in ALL {
        let _: String = queue.ask("SCRIPT", ("LOAD", script.text)).await;
    }
    let writing: BTreeSet<&str> =
        ALL.iter().filter(|one| !one.text.contains("flags=no-writes")).map(|one| one.name).collect();
    assert_eq!(SCRIPTS.iter().map(|(name, _)| *name).collect::<BTreeSet<_>>(), writing);
    let mut refused = BTreeSet::new();
    for (script, variants) in SCRIPTS {
        for variant in 0..variants {
            for command in commands_of(script) {
                let sent = set_scene(&queue).await;
                if script == "mend" {
                    let _: String = queue.ask("SET", (&queue.keys.cron, "no hash")).await;
                }
                let link = limited(&queue, &["&*", "+@all", &format!("-{}", command.to_lowercase())]).await;
                let before = facts(&queue).await;
                if call(&link, &queue.keys, &sent, script, variant).await {
                    continue;
                }
                refused.insert(script);
                let after = facts(&queue).await;
                let names = before.keys().chain(after.keys());
                let changed: Vec<&String> = names.filter(|name| before.get(*name) != after.get(*name)).collect();
                // Jobs that were delivered to a worker are pending, so it reads them back.
                assert!(changed.is_empty() || script == "fetch", "{script} {variant} without {command}: {changed:?}");
            }
        }
    }
    assert!(refused.len() >= 10, "{refused:?}");
}

#[tokio::test]
async fn a_user_who_may_not_publish_enqueues_and_settles_all_the_same_and_is_told_once() {
    let queue = Queue::start();
    let sent = set_scene(&queue).await;
    let link = limited(&queue, &["resetchannels", "+@all"]).await;
    for id in ["x", "y"] {
        let soon = NewJob { delay_ms: 1, ..job(id) };
        assert!(produce::enqueue(&link, &queue.keys, &call_of(&[soon]), patience()).await.is_ok());
    }
    assert_eq!(queue.ask::<i64>("ZCARD", &queue.keys.due).await, 7, "each was made once");
    let refused = deliver::settle(&link, &queue.keys, &[done(&sent[1], TTL)], TTL, patience()).await.unwrap();
    assert!(refused.is_empty(), "{refused:?}");
    assert_eq!(queue.kind("a").await, Some('R'));
    let waiting: Option<String> = queue.ask("HGET", (&queue.keys.waiters, "a")).await;
    assert_eq!(waiting, None, "waiting callers find the result when they check");
    let lines = link.logs().take();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].message.contains("ACL SETUSER <user> +publish &ardiq:{q}:*"), "{lines:?}");
}

#[tokio::test]
async fn results_that_a_worker_may_not_send_stay_until_the_callers_check() {
    let queue = Queue::start();
    let link = limited(&queue, &["resetchannels", "+@all"]).await;
    queue.enqueue(&[job("not kept"), job("short"), job("unheard")]).await;
    let sent = queue.take("w", 3).await;
    for entry in &sent[..2] {
        look::wait(&queue.link, &queue.keys, &entry.id, "me", 60_000, patience()).await.unwrap();
    }
    let batch = [done(&sent[0], 0), done(&sent[1], 1_500), done(&sent[2], 0)];
    assert!(deliver::settle(&link, &queue.keys, &batch, TTL, patience()).await.unwrap().is_empty());
    for entry in &sent[..2] {
        let seen = look::wait(&queue.link, &queue.keys, &entry.id, "me", 0, patience()).await.unwrap();
        assert_eq!(seen, Seen::Result(result_of(entry)), "{}", entry.id);
        let ttl: i64 = queue.ask("PTTL", queue.keys.job(&entry.id)).await;
        assert!(ttl > 60_000, "{}: callers check once a minute", entry.id);
    }
    let seen = look::wait(&queue.link, &queue.keys, "unheard", "me", 0, patience()).await.unwrap();
    assert_eq!(seen, Seen::Finished, "no caller waited for it");
}

#[tokio::test]
async fn callers_learn_from_the_first_check_that_a_worker_may_not_send_results() {
    let queue = Queue::start();
    queue.enqueue(&[job("a")]).await;
    let link = limited(&queue, &["resetchannels", "+@all"]).await;
    let seen = async || look::wait(&queue.link, &queue.keys, "a", "me", 60_000, patience()).await.unwrap();
    assert_eq!(seen().await, Seen::Unfinished { is_registered: true });
    let claim = Claim { worker: "mute", lease_ms: 500, info: b"", first: true, expected_ms: 0 };
    upkeep::renew(&link, &queue.keys, claim, patience()).await.unwrap();
    let short = Claim { worker: "mute too", lease_ms: 1, ..claim };
    upkeep::renew(&link, &queue.keys, short, patience()).await.unwrap();
    assert_eq!(link.logs().take().len(), 1, "its operator learns of it at once");
    upkeep::scrub(&queue.link, &queue.keys, Part::Waiters, "0", patience()).await.unwrap();
    assert_eq!(seen().await, Seen::Unannounced);
    queue.claim("w", true, 0).await;
    assert_eq!(seen().await, Seen::Unannounced, "another worker may, but this one still may not");
    let end = std::time::Instant::now() + support::LIMIT;
    while seen().await != (Seen::Unfinished { is_registered: true }) {
        assert!(std::time::Instant::now() < end, "the worker is gone for longer than its lease");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    upkeep::scrub(&queue.link, &queue.keys, Part::Waiters, "0", patience()).await.unwrap();
    let fields: Vec<String> = queue.ask("HKEYS", &queue.keys.waiters).await;
    assert_eq!(fields, ["a"]);
}

#[tokio::test]
async fn the_last_worker_that_may_not_send_results_takes_the_word_of_it_along() {
    let queue = Queue::start();
    let link = limited(&queue, &["resetchannels", "+@all"]).await;
    let claim = Claim { worker: "mute", lease_ms: 60_000, info: b"", first: true, expected_ms: 0 };
    upkeep::renew(&link, &queue.keys, claim, patience()).await.unwrap();
    queue.sign_on("other").await;
    queue.leave("mute").await;
    assert!(queue.names().await.contains(&"waiters".to_owned()));
    queue.leave("other").await;
    assert!(!queue.names().await.contains(&"waiters".to_owned()));
}

#[tokio::test]
async fn a_result_stays_readable_when_its_worker_may_not_see_who_waits() {
    let queue = Queue::start();
    let entry = queue.deliver("a", "w").await;
    look::wait(&queue.link, &queue.keys, "a", "me", 60_000, patience()).await.unwrap();
    let link = limited(&queue, &["&*", "+@all", "-hget"]).await;
    deliver::settle(&link, &queue.keys, &[done(&entry, 0)], TTL, patience()).await.unwrap();
    let ttl: i64 = queue.ask("PTTL", queue.keys.job("a")).await;
    assert!(ttl > 60_000, "callers check once a minute, and {ttl} ms are left");
}

#[tokio::test]
async fn a_caller_without_the_right_to_register_checks_again() {
    let queue = Queue::start();
    queue.enqueue(&[job("a")]).await;
    let link = limited(&queue, &["&*", "+@all", "-hset"]).await;
    let seen = look::wait(&link, &queue.keys, "a", "me", 60_000, patience()).await.unwrap();
    assert_eq!(seen, Seen::Unfinished { is_registered: false });
}

/// A queue on a server whose configuration disables this command.
fn without(command: &str) -> Queue {
    Queue::on(Server::start(&["--rename-command", command, ""]))
}

#[tokio::test]
async fn a_disabled_command_that_a_script_needs_is_named() {
    let queue = without("XDEL");
    let jobs = call_of(&[job("a")]);
    let error = produce::enqueue(&queue.link, &queue.keys, &jobs, patience()).await.unwrap_err();
    let message = error.to_string();
    assert!(message.contains("unknown command 'xdel'") && message.contains("rename-command"), "{message}");
    assert!(!error.is_about_this_call(), "{message}");
}

#[tokio::test]
async fn a_server_that_disables_publish_is_used_all_the_same() {
    let queue = without("PUBLISH");
    let claim = Claim { worker: "w", lease_ms: 60_000, info: b"", first: true, expected_ms: 0 };
    assert!(upkeep::renew(&queue.link, &queue.keys, claim, patience()).await.unwrap().held);
    queue.enqueue(&[job("a")]).await;
    let sent = queue.take("w", 1).await;
    look::wait(&queue.link, &queue.keys, "a", "me", 60_000, patience()).await.unwrap();
    assert!(queue.settle(&[done(&sent[0], TTL)]).await.is_empty());
    let lines = queue.link.logs().take();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].message.contains("must not disable PUBLISH"), "{lines:?}");
}

#[tokio::test]
async fn an_error_reply_that_quotes_binary_arguments_names_the_disabled_command() {
    let queue = without("SET");
    let mut body = redis::cmd("SET");
    body.arg("a").arg(&[0xc1_u8; 200_000][..]);
    for _ in 0..2 {
        let error = queue.link.transfer(&body, patience()).await.unwrap_err();
        let message = error.to_string();
        assert!(message.contains("unknown command 'SET'") && message.contains("rename-command"), "{message}");
        assert!(!error.is_about_this_call(), "{message}");
    }
}
