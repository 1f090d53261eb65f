//! A queue with something of every kind.

use ardiq_engine::scripts::deliver::Entry;
use ardiq_engine::scripts::links::{EdgeKind, Linked};
use ardiq_engine::scripts::produce::NewJob;
use ardiq_engine::scripts::{look, schedules, upkeep};

use super::graphs::{edge, node, part};
use super::{HIGH, LOW, NO_ARGUMENTS, Queue, job, patience, schedule, survivor};

/// The nonce of every job that stands alone.
pub const NONCE: [u8; 8] = 1u64.to_be_bytes();

/// Create a queue with a job in every state and a dead worker. Returns the entries that worker `w`
/// holds.
pub async fn set_scene(queue: &Queue) -> Vec<Entry> {
    let _: String = queue.ask("FLUSHALL", NO_ARGUMENTS).await;
    let later = NewJob { delay_ms: 60_000, ..job("later") };
    let due = NewJob { delay_ms: 60_000, ..job("due") };
    let unique = NewJob { unique: Some("u".into()), ..job("unique") };
    let high = NewJob { lane: 1, ..job("high") };
    queue.enqueue(&[high, job("a"), job("b"), job("c"), job("d"), later, due, unique]).await;
    let _: i64 = queue.ask("ZADD", (&queue.keys.due, 1, "due")).await;
    let sent = queue.take("w", 5).await;
    queue.begin("w", &[&sent[1]]).await;
    let survived = [survivor(&sent[2].id, 1, "1-1")];
    upkeep::survive(&queue.link, &queue.keys, &survived, patience()).await.unwrap();
    queue.enqueue(&[job("of the dead")]).await;
    queue.take("dead", 1).await;
    queue.let_lease_end("dead").await;
    for id in ["a", "b", "c", "later"] {
        look::wait(&queue.link, &queue.keys, id, "me", 60_000, patience()).await.unwrap();
    }
    // A job without an entry, a start without a run, and an entry without an owner.
    queue.enqueue(&[NewJob { lane: 1, ..job("lost") }]).await;
    look::wait(&queue.link, &queue.keys, "lost", "me", 60_000, patience()).await.unwrap();
    let last: Vec<(String, Vec<Vec<u8>>)> =
        queue.ask("XREVRANGE", (&queue.keys.streams[HIGH], "+", "-", "COUNT", 1)).await;
    let (entry, _) = &last[0];
    let _: i64 = queue.ask("XDEL", (&queue.keys.streams[HIGH], entry)).await;
    let _: String = queue.ask("SET", (queue.keys.job("lost"), "q123456781-1 lane:high")).await;
    let _: i64 = queue.ask("HSET", (&queue.keys.running, "gone", "1-1 unknown 5 1")).await;
    let _: i64 = queue.ask("XACK", (&queue.keys.streams[LOW], &queue.keys.queue, &sent[4].entry)).await;
    // Notes of a job that has ended, and of one that has not.
    for key in [queue.keys.notes("gone", NONCE), queue.keys.notes("b", NONCE)] {
        let _: i64 = queue.ask("HSET", (key, "checkpoint", "1")).await;
    }
    // A scheduled job that is missing from the due set.
    queue.enqueue(&[NewJob { delay_ms: 60_000, ..job("undue") }]).await;
    let _: i64 = queue.ask("ZREM", (&queue.keys.due, "undue")).await;
    // A running parent with a child and a fallback, a job that waits for it alone, and an ended
    // parent with a child.
    let edges = [("child", EdgeKind::Then), ("fallback", EdgeKind::Otherwise)];
    let jobs = edges.iter().map(|(id, _)| node(id, 2)).collect();
    let edges = edges.iter().map(|(id, kind)| edge(&sent[1].id, id, *kind, 0)).collect();
    assert_eq!(queue.link(&part(2, jobs, edges)).await, Linked::Done(Vec::new()));
    let old = part(3, vec![node("orphan", 3)], vec![edge(&sent[0].id, "orphan", EdgeKind::Then, 0)]);
    assert_eq!(queue.link(&old).await, Linked::Done(Vec::new()));
    let ended = [&NONCE[..], b"ended"].concat();
    let outcome = b"\x94\xc3\xc3\xa5ended\xadR\0\0\0\0\0\0\0\x01\x9b\xc4\x01x";
    let _: i64 = queue.ask("HSET", (&queue.keys.releasing, &ended, &outcome[..])).await;
    let to_orphan = [b"t\0\0\0\0", &3u64.to_be_bytes()[..], b"orphan"].concat();
    let _: i64 = queue.ask("RPUSH", (&queue.keys.links("ended", NONCE)[0], to_orphan)).await;
    let parent = [&NONCE[..], &[0; 4], b"ended"].concat();
    let _: i64 = queue.ask("SADD", (&queue.keys.links("orphan", 3u64.to_be_bytes())[1], parent)).await;
    // Marks: of a job that a worker has, of one that the dead worker has, and of one that has
    // ended.
    for id in [sent[3].id.as_str(), "of the dead", "ended"] {
        let _: i64 = queue.ask("HSET", (&queue.keys.aborting, id, &NONCE[..])).await;
    }
    // Schedules: a dynamic one, one that a worker has declared, and one that none declares any
    // more.
    let (link, keys) = (&queue.link, &queue.keys);
    schedules::save(link, keys, &schedule("beat"), NONCE, patience()).await.unwrap();
    schedules::declare(link, keys, &[schedule("static"), schedule("gone")], NONCE, patience()).await.unwrap();
    let _: i64 = queue.ask("ZADD", (&keys.declared, 1, "gone")).await;
    sent
}
