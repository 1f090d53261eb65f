//! Which lanes of a queue are served, and in which order, by what its workers say about themselves.

use std::cmp::Reverse;

use crate::protocol::info::Info;
use crate::scripts::look::{LaneView, MOST_WORKERS};

/// The lanes in the order in which they are served, each with the number of workers that serve it.
///
/// The number is unknown if a worker does not say which lanes it serves, or if there may be more
/// workers than were read. Lanes that no worker names come last, by name.
pub fn service<'a>(lanes: &'a [LaneView], workers: &[Info]) -> Vec<(&'a LaneView, Option<usize>)> {
    let order = ladder(workers);
    let known = workers.len() < MOST_WORKERS && workers.iter().all(|worker| !worker.lanes.is_empty());
    let position = |lane: &LaneView| order.iter().position(|name| *name == lane.lane).unwrap_or(usize::MAX);
    let mut lanes: Vec<&LaneView> = lanes.iter().collect();
    lanes.sort_by(|a, b| position(a).cmp(&position(b)).then_with(|| a.lane.cmp(&b.lane)));
    let served = |lane: &LaneView| workers.iter().filter(|worker| worker.lanes.contains(&lane.lane)).count();
    lanes.into_iter().map(|lane| (lane, known.then(|| served(lane)))).collect()
}

/// The lanes of all workers in one order. The worker with the most lanes decides; others add theirs
/// where they have them.
fn ladder(workers: &[Info]) -> Vec<&str> {
    let mut lists: Vec<&Vec<String>> = workers.iter().map(|worker| &worker.lanes).collect();
    lists.sort_by_key(|lanes| (Reverse(lanes.len()), *lanes));
    lists.dedup();
    let mut order: Vec<&str> = Vec::new();
    for lanes in lists {
        let mut next = 0;
        for lane in lanes {
            match order.iter().position(|known| known == lane) {
                Some(known) => next = known + 1,
                None => {
                    order.insert(next, lane);
                    next += 1;
                }
            }
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lanes(names: &[&str]) -> Vec<LaneView> {
        names.iter().map(|name| LaneView { lane: (*name).into(), entries: 1, delivered: 0 }).collect()
    }

    fn worker(names: &[&str]) -> Info {
        Info { lanes: names.iter().map(|name| (*name).to_owned()).collect(), ..Info::default() }
    }

    fn served(names: &[&str], workers: &[Info]) -> Vec<(String, Option<usize>)> {
        service(&lanes(names), workers).into_iter().map(|(lane, workers)| (lane.lane.clone(), workers)).collect()
    }

    fn expected(lanes: &[(&str, Option<usize>)]) -> Vec<(String, Option<usize>)> {
        lanes.iter().map(|(lane, workers)| ((*lane).to_owned(), *workers)).collect()
    }

    #[test]
    fn lanes_come_in_the_order_of_the_workers_and_unserved_ones_last() {
        let workers = [worker(&["low"]), worker(&["high", "default", "low"]), worker(&["urgent", "high"])];
        assert_eq!(
            served(&["default", "lost", "low", "high", "urgent", "b"], &workers),
            expected(&[
                ("urgent", Some(1)),
                ("high", Some(2)),
                ("default", Some(1)),
                ("low", Some(2)),
                ("b", Some(0)),
                ("lost", Some(0)),
            ])
        );
        assert_eq!(served(&["low", "high"], &[]), expected(&[("high", Some(0)), ("low", Some(0))]));
    }

    #[test]
    fn a_worker_that_does_not_say_what_it_serves_may_serve_all() {
        let workers = [worker(&["high"]), worker(&[])];
        assert_eq!(served(&["low", "high"], &workers), expected(&[("high", None), ("low", None)]));
        let many = vec![worker(&["high"]); MOST_WORKERS];
        assert_eq!(served(&["low"], &many), expected(&[("low", None)]));
    }
}
