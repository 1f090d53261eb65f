//! Leases and the clock: time during which the server was away does not count against any lease,
//! and dead workers are still detected.
#![allow(clippy::unwrap_used, clippy::expect_used)] // In a test, a surprise is a failure.

mod support;

use ardiq_engine::scripts::upkeep::Expired;
use support::{LOW, Queue, RETURNED_LOW, job};

const SECOND: i64 = 1_000;
const HOUR: i64 = 3_600 * SECOND;

/// How long the workers are silent, in most tests.
const SILENCE: i64 = 70 * SECOND;

/// The longest time that a worker has to renew its lease after an absence.
const TRUCE: i64 = 10 * SECOND;

/// A queue with two workers whose leases are valid, and the time. The worker `other` has a job.
async fn two_workers() -> (Queue, i64) {
    let queue = Queue::start();
    queue.deliver("a", "other").await;
    queue.sign_on("asker").await;
    let now = queue.now_ms().await as i64;
    (queue, now)
}

async fn set_pulse(queue: &Queue, at_ms: i64) {
    let _: String = queue.ask("SET", (&queue.keys.pulse, at_ms)).await;
}

/// A worker called just now. The time is a little later, so that a slow machine does not look like
/// an absence.
async fn beat(queue: &Queue) {
    set_pulse(queue, queue.now_ms().await as i64 + 450).await;
}

/// Reclaim with a call that is expected right now.
async fn look(queue: &Queue, seen: &[Expired]) -> (String, Vec<Expired>) {
    let found = queue.look("asker", queue.on_time().await, seen).await;
    (found.victim, found.expired)
}

/// The expired leases that a call found.
fn expired(leases: &[(&str, i64)]) -> Vec<Expired> {
    leases.iter().map(|(worker, lease)| ((*worker).into(), lease.to_string().into())).collect()
}

/// The first call finds the dead worker, and the second takes over its work.
async fn takes_over(queue: &Queue, lease: i64) {
    let (victim, found) = look(queue, &[]).await;
    assert_eq!((victim.as_str(), &found), ("", &expired(&[("other", lease)])), "one look is not enough");
    assert_eq!(look(queue, &found).await, ("other".into(), vec![]));
    assert_eq!((queue.pending(LOW).await, queue.length(RETURNED_LOW).await), (0, 1));
    assert_eq!(queue.lease("other").await, None);
}

#[tokio::test]
async fn every_call_that_judges_leases_leaves_its_time() {
    let (queue, _) = two_workers().await;
    let pulse = async || queue.ask::<u64>("GET", &queue.keys.pulse).await;
    let expected = queue.on_time().await;
    let renewed = queue.claim("other", false, expected).await;
    assert_eq!(pulse().await, renewed.now_ms);
    let found = queue.look("asker", expected, &[]).await;
    assert_eq!(pulse().await, found.now_ms);
    let refused = queue.claim("stranger", false, expected).await;
    assert!(!refused.held && pulse().await == refused.now_ms);
}

#[tokio::test]
async fn while_the_server_was_away_no_worker_died() {
    let (queue, now) = two_workers().await;
    for (worker, lease) in [("other", now - 10 * SECOND), ("asker", now - 20 * SECOND), ("late", now - SILENCE)] {
        queue.set_lease(worker, lease).await;
    }
    set_pulse(&queue, now - SILENCE).await;
    let expected = now - SILENCE + 1;
    let found = queue.look("asker", expected, &[]).await;
    assert_eq!((found.victim.as_str(), found.expired.len()), ("", 0));
    let away = found.now_ms as i64 - expected;
    assert_eq!(queue.lease("other").await, Some(now - 10 * SECOND + away));
    assert_eq!(queue.lease("asker").await, Some(now - 20 * SECOND + away));
    let soonest = found.now_ms as i64 + TRUCE;
    assert_eq!(queue.lease("late").await, Some(soonest), "it gets time to find its way back");
    // The second worker does not repeat what the first one has done.
    queue.look("asker", now - SILENCE + 2, &[]).await;
    assert!(queue.lease("other").await.unwrap() < now - 10 * SECOND + away + 5 * SECOND);
    assert_eq!(queue.pending(LOW).await, 1);
}

#[tokio::test]
async fn a_short_absence_gives_a_short_truce() {
    let (queue, now) = two_workers().await;
    queue.set_lease("other", now - 1_900).await;
    set_pulse(&queue, now - 2_000).await;
    let found = queue.look("asker", now - 2_000, &[]).await;
    let away = found.now_ms as i64 - (now - 2_000);
    assert_eq!(queue.lease("other").await, Some(found.now_ms as i64 + (4 * away).min(TRUCE)));
}

#[tokio::test]
async fn absences_that_come_again_and_again_keep_no_dead_worker_alive() {
    let (queue, now) = two_workers().await;
    queue.set_lease("other", now + 3 * SECOND).await;
    let mut elapsed = 0;
    // Every three seconds, the server is away for one. That does not count, the others do.
    while queue.lease("other").await.is_some_and(|lease| lease > now) {
        elapsed += 3 * SECOND;
        assert!(elapsed < 30 * SECOND, "it never ends");
        let _: f64 = queue.ask("ZINCRBY", (&queue.keys.workers, -3 * SECOND, "other")).await;
        set_pulse(&queue, queue.now_ms().await as i64 - SECOND).await;
        queue.look("asker", queue.now_ms().await as i64 - SECOND, &[]).await;
    }
    queue.set_lease("other", now + 3 * SECOND).await;
    assert!(queue.renew("other").await);
    queue.set_lease("other", now - 500).await;
    set_pulse(&queue, now - SECOND).await;
    queue.look("asker", now - SECOND, &[]).await;
    assert!(queue.lease("other").await.unwrap() > now + 2 * SECOND, "after a renewal, it gets extra time again");
}

#[tokio::test]
async fn the_extra_time_of_a_lease_is_the_fraction_of_its_score() {
    let (queue, now) = two_workers().await;
    let score = async || queue.ask::<f64>("ZSCORE", (&queue.keys.workers, "other")).await;
    queue.set_lease("other", now - 50).await;
    set_pulse(&queue, now - 500).await;
    queue.look("asker", now - 500, &[]).await;
    let steps = score().await.fract() * 128.0;
    assert!((15.0..40.0).contains(&steps) && steps.fract() == 0.0, "above 1.5 s: {steps}");
    assert!(queue.renew("other").await);
    assert_eq!(score().await.fract(), 0.0);
    let _: i64 = queue.ask("ZADD", (&queue.keys.workers, "inf", "other")).await;
    set_pulse(&queue, now - 500).await;
    queue.look("asker", now - 500, &[]).await;
    assert!(score().await.is_finite());
}

#[tokio::test]
async fn a_renewal_after_an_absence_keeps_the_leases_of_the_others() {
    let (queue, now) = two_workers().await;
    queue.set_lease("other", now - 10 * SECOND).await;
    set_pulse(&queue, now - SILENCE).await;
    let renewed = queue.claim("asker", false, now - SILENCE).await;
    assert!(renewed.held);
    assert_eq!(queue.lease("asker").await, Some(renewed.now_ms as i64 + 60 * SECOND), "its own is new");
    let away = renewed.now_ms as i64 - (now - SILENCE);
    assert_eq!(queue.lease("other").await, Some(now - 10 * SECOND + away));
    assert_eq!(look(&queue, &[]).await, (String::new(), vec![]));
}

#[tokio::test]
async fn when_a_call_comes_as_expected_the_silence_was_the_others() {
    let (queue, now) = two_workers().await;
    queue.set_lease("other", now - 10 * SECOND).await;
    set_pulse(&queue, now - SILENCE).await;
    takes_over(&queue, now - 10 * SECOND).await;
}

#[tokio::test]
async fn a_call_that_was_held_up_alone_moves_nothing() {
    let (queue, now) = two_workers().await;
    queue.set_lease("other", now - 10 * SECOND).await;
    beat(&queue).await;
    let found = queue.look("asker", now - SILENCE, &[]).await;
    assert_eq!(found.expired, expired(&[("other", now - 10 * SECOND)]), "others were heard meanwhile");
    takes_over(&queue, now - 10 * SECOND).await;
}

#[tokio::test]
async fn a_worker_that_starts_tells_an_absence_by_how_long_the_server_has_been_up() {
    for (expected, moves, why) in [
        (0, true, "it had to wait for the server"),
        (-SECOND, true, "the server has just been started"),
        (-SILENCE * 2, false, "the server was up all the time: all workers were gone"),
    ] {
        let (queue, now) = two_workers().await;
        queue.set_lease("other", now - 10 * SECOND).await;
        set_pulse(&queue, now - SILENCE).await;
        let renewed = queue.claim("fresh", true, expected).await;
        assert!(renewed.held);
        let silence = renewed.now_ms as i64 - (now - SILENCE);
        // The others may have been cut off, so they get some time to reconnect.
        let lease = if moves { now - 10 * SECOND + silence } else { renewed.now_ms as i64 + 3 * SECOND };
        assert_eq!(queue.lease("other").await, Some(lease), "{why}");
        assert_eq!(queue.lease("fresh").await, Some(renewed.now_ms as i64 + 60 * SECOND), "{why}");
    }
}

#[tokio::test]
async fn workers_that_start_and_die_one_after_the_other_do_not_keep_the_jobs_of_the_first() {
    let (queue, now) = two_workers().await;
    let (first, mut lease) = (now + SECOND, now + SECOND);
    for _ in 0..20 {
        queue.set_lease("other", lease).await;
        set_pulse(&queue, now - SECOND).await;
        queue.claim("fresh", true, -HOUR).await;
        let moved = queue.lease("other").await.unwrap();
        assert!((lease..=lease + 2 * SECOND).contains(&moved) && moved <= now + 5 * SECOND, "{}", moved - first);
        // Two seconds later.
        lease = moved - 2 * SECOND;
    }
    assert!(lease < now, "it runs out in the end");
}

#[tokio::test]
async fn a_pulse_in_the_future_that_no_clock_explains_moves_nothing() {
    let (queue, now) = two_workers().await;
    queue.set_lease("other", now + 30 * SECOND).await;
    for pulse in [now + HOUR, 100_000_000_000_000] {
        set_pulse(&queue, pulse).await;
        queue.look("asker", queue.now_ms().await as i64, &[]).await;
        assert!(queue.lease("other").await.unwrap() > now + 29 * SECOND, "a call that came on time");
        set_pulse(&queue, pulse).await;
        queue.claim("fresh", true, -HOUR).await;
        let left = queue.lease("other").await.unwrap() - now;
        assert!((3 * SECOND..HOUR).contains(&left), "one that cannot tell leaves time to renew: {left}");
        queue.set_lease("other", now + 30 * SECOND).await;
    }
    set_pulse(&queue, 0).await;
    queue.claim("fresh", true, 0).await;
    assert!(queue.lease("other").await.unwrap() < now + 25 * HOUR);
}

#[tokio::test]
async fn a_worker_that_starts_beside_others_moves_nothing() {
    let (queue, now) = two_workers().await;
    queue.set_lease("other", now - 10 * SECOND).await;
    for expected in [0, -1, -HOUR] {
        beat(&queue).await;
        assert!(queue.claim("fresh", true, expected).await.held);
        assert_eq!(queue.lease("other").await, Some(now - 10 * SECOND), "{expected}");
    }
}

#[tokio::test]
async fn when_the_clock_is_set_back_leases_go_with_it() {
    let (queue, now) = two_workers().await;
    for worker in ["asker", "other"] {
        queue.set_lease(worker, now + HOUR + 30 * SECOND).await;
    }
    queue.set_lease("dead", now + HOUR - 5 * SECOND).await;
    set_pulse(&queue, now + HOUR).await;
    let found = queue.look("asker", now + HOUR, &[]).await;
    let back = now + HOUR - found.now_ms as i64;
    for worker in ["asker", "other"] {
        assert_eq!(queue.lease(worker).await, Some(now + HOUR + 30 * SECOND - back));
    }
    assert_eq!(
        found.expired,
        expired(&[("dead", now + HOUR - 5 * SECOND - back)]),
        "no worker counts as alive for longer"
    );
    assert_eq!(look(&queue, &found.expired).await.0, "dead");
}

#[tokio::test]
async fn a_clock_set_back_is_counted_once_although_every_worker_notices() {
    let (queue, now) = two_workers().await;
    for worker in ["asker", "other", "third"] {
        queue.set_lease(worker, now + HOUR + 30 * SECOND).await;
    }
    set_pulse(&queue, now + HOUR).await;
    queue.look("asker", now + HOUR, &[]).await;
    let moved = queue.lease("other").await;
    // All workers received their last reply before the clock was set.
    assert!(queue.claim("third", false, now + HOUR).await.held);
    assert_eq!(queue.lease("other").await, moved);
    let found = queue.look("asker", now + HOUR, &[]).await;
    assert_eq!((found.victim.as_str(), found.expired.len(), queue.lease("other").await), ("", 0, moved));
}

#[tokio::test]
async fn a_clock_set_back_by_little_shortens_no_lease_twice() {
    let (queue, now) = two_workers().await;
    // Two seconds passed, and the clock was set back by one: the silence seems to be one second.
    queue.set_lease("other", now + 30 * SECOND).await;
    for _ in 0..20 {
        set_pulse(&queue, now - SECOND).await;
        queue.look("asker", now + SECOND, &[]).await;
    }
    assert!(queue.lease("other").await.unwrap() >= now + 28 * SECOND);
}

#[tokio::test]
async fn when_the_clock_is_set_forward_leases_go_with_it_once() {
    let (queue, now) = two_workers().await;
    let before = now - HOUR;
    for worker in ["asker", "other", "third"] {
        queue.set_lease(worker, before + 30 * SECOND).await;
    }
    set_pulse(&queue, before).await;
    let found = queue.look("asker", before + 5, &[]).await;
    let forward = found.now_ms as i64 - (before + 5);
    assert_eq!((found.victim.as_str(), found.expired.len()), ("", 0));
    assert_eq!(queue.lease("other").await, Some(before + 30 * SECOND + forward));
    assert!(queue.claim("third", false, before + 10).await.held);
    // The time between the two calls may count, because a worker cannot distinguish it from the
    // absence.
    assert!(queue.lease("other").await.unwrap() < before + 30 * SECOND + forward + 20 * SECOND);
}

#[tokio::test]
async fn a_lease_that_is_renewed_between_two_looks_is_not_taken() {
    let (queue, now) = two_workers().await;
    queue.set_lease("other", now - SECOND).await;
    let (_, found) = look(&queue, &[]).await;
    assert_eq!(found, expired(&[("other", now - SECOND)]));
    assert!(queue.renew("other").await, "its renewal had been held up");
    assert_eq!(look(&queue, &found).await, (String::new(), vec![]));
    // Another expired lease must again be found by two calls.
    queue.set_lease("other", now - 500).await;
    assert_eq!(look(&queue, &found).await, (String::new(), expired(&[("other", now - 500)])));
    takes_over(&queue, now - 500).await;
}

#[tokio::test]
async fn two_dead_workers_that_were_found_together_are_both_taken_over_after_one_more_look() {
    let (queue, now) = two_workers().await;
    queue.enqueue(&[job("b")]).await;
    queue.take("second", 1).await;
    queue.set_lease("other", now - 2 * SECOND).await;
    queue.set_lease("second", now - SECOND).await;
    let (victim, found) = look(&queue, &[]).await;
    assert_eq!((victim.as_str(), found.len()), ("", 2));
    assert_eq!(look(&queue, &found).await, ("other".into(), vec![]));
    assert_eq!(look(&queue, &found).await, ("second".into(), vec![]));
    assert_eq!(look(&queue, &found).await, (String::new(), vec![]));
    assert_eq!((queue.pending(LOW).await, queue.length(RETURNED_LOW).await), (0, 2));
}

#[tokio::test]
async fn a_worker_that_is_found_later_does_not_keep_the_first_from_being_taken_over() {
    let (queue, now) = two_workers().await;
    queue.set_lease("other", now - SECOND).await;
    let (_, found) = look(&queue, &[]).await;
    queue.set_lease("earlier", now - 5 * SECOND).await;
    assert_eq!(look(&queue, &found).await, ("other".into(), expired(&[("earlier", now - 5 * SECOND)])));
}

#[tokio::test]
async fn a_lease_that_had_run_out_before_the_absence_stays_run_out() {
    let (queue, now) = two_workers().await;
    queue.set_lease("other", now - SILENCE - 10 * SECOND).await;
    set_pulse(&queue, now - SILENCE).await;
    let found = queue.look("asker", now - SILENCE, &[]).await;
    assert_eq!(found.expired, expired(&[("other", now - SILENCE - 10 * SECOND)]));
    takes_over(&queue, now - SILENCE - 10 * SECOND).await;
}

#[tokio::test]
async fn who_was_taken_for_dead_or_has_left_stays_so_through_every_absence() {
    for lease in [0, -1] {
        for (pulse, expected) in [(-SILENCE, -SILENCE), (HOUR, HOUR)] {
            let (queue, now) = two_workers().await;
            queue.set_lease("asker", now + HOUR + 60 * SECOND).await;
            queue.set_lease("other", lease).await;
            set_pulse(&queue, now + pulse).await;
            let found = queue.look("asker", now + expected, &[]).await;
            assert_eq!((found.victim.as_str(), found.taken), ("other", 1), "at the first look");
        }
    }
}

#[tokio::test]
async fn without_an_earlier_pulse_nothing_is_moved() {
    for expected in [0, 1, -1] {
        let (queue, now) = two_workers().await;
        queue.set_lease("other", now - SECOND).await;
        let _: i64 = queue.ask("DEL", &queue.keys.pulse).await;
        let found = queue.look("asker", expected, &[]).await;
        assert_eq!(found.expired, expired(&[("other", now - SECOND)]), "{expected}");
    }
}

#[tokio::test]
async fn an_unreadable_pulse_is_replaced() {
    for words in [&["SET", "no time"][..], &["SET", ""], &["RPUSH", "1"], &["SADD", "1"]] {
        let (queue, now) = two_workers().await;
        queue.set_lease("other", now - SECOND).await;
        let _: i64 = queue.ask("DEL", &queue.keys.pulse).await;
        let _: redis::Value = queue.ask(words[0], (&queue.keys.pulse, words[1])).await;
        takes_over(&queue, now - SECOND).await;
        assert!(queue.ask::<i64>("GET", &queue.keys.pulse).await >= now);
    }
}

#[tokio::test]
async fn a_call_that_arrives_after_the_last_worker_has_left_leaves_nothing_behind() {
    let queue = Queue::start();
    queue.sign_on("w").await;
    queue.leave("w").await;
    let before = queue.names().await;
    assert!(!before.contains(&"pulse".to_owned()), "{before:?}");
    assert!(!queue.renew("w").await);
    assert_eq!(queue.names().await, before);
    queue.reclaim("w", 10, false).await;
    assert_eq!(queue.names().await, before);
}
