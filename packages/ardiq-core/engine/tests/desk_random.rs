//! What must hold at the desk in any order of events: never more running than allowed, never more held than allowed, and no
//! job lost or doubled.
#![allow(clippy::unwrap_used, clippy::expect_used)] // In a test a surprise is a failure.

use std::collections::{BTreeMap, BTreeSet};

use ardiq_engine::protocol::entry::{Header, SUSPECT};
use ardiq_engine::protocol::envelope::Envelope;
use ardiq_engine::scripts::deliver::Entry;
use ardiq_engine::worker::desk::{Assignment, Desk};
use ardiq_engine::worker::job::Delivery;
use ardiq_engine::worker::judge::{Outcome, POISON_DEATHS};
use ardiq_engine::worker::plan::UnderWay;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

const STREAMS: usize = 4;

/// One thing that happens; numbers choose among what is possible at that moment.
#[derive(Debug, Clone)]
enum Event {
    /// The server answers the open request with so many jobs of a kind.
    Receive {
        share: u8,
        kind: u8,
    },
    /// Deliveries that are known come again.
    Repeat,
    HandOut,
    Complete(u8),
    /// Ask what to do; answers come with later events.
    Plan,
    /// The oldest open batch of outcomes was written.
    Settled,
    /// The oldest open vetting is answered; bits choose which are refused.
    Vetted(u8),
    Recover,
    Pass(u8),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (any::<u8>(), any::<u8>()).prop_map(|(share, kind)| Event::Receive { share, kind }),
        1 => Just(Event::Repeat),
        4 => Just(Event::HandOut),
        6 => any::<u8>().prop_map(Event::Complete),
        6 => Just(Event::Plan),
        3 => Just(Event::Settled),
        3 => any::<u8>().prop_map(Event::Vetted),
        1 => Just(Event::Recover),
        2 => any::<u8>().prop_map(Event::Pass),
    ]
}

/// The world around the desk, and where it saw each job last.
struct World {
    desk: Desk,
    concurrency: usize,
    prefetch: usize,
    now: i64,
    next: usize,
    /// Places asked for and not yet answered.
    asked: usize,
    entries: BTreeMap<String, Entry>,
    running: BTreeMap<usize, String>,
    settled: BTreeSet<String>,
    dropped: BTreeSet<String>,
    batches: Vec<usize>,
    vetting: Option<Vec<(usize, String)>>,
    stopped: bool,
}

impl World {
    fn new(concurrency: usize, prefetch: usize) -> Self {
        let mut desk = Desk::new(concurrency, prefetch, STREAMS);
        desk.extend_lease(i64::MAX);
        Self {
            desk,
            concurrency,
            prefetch: prefetch.max(concurrency),
            now: 0,
            next: 0,
            asked: 0,
            entries: BTreeMap::new(),
            running: BTreeMap::new(),
            settled: BTreeSet::new(),
            dropped: BTreeSet::new(),
            batches: Vec::new(),
            vetting: None,
            stopped: false,
        }
    }

    fn make(&mut self, kind: u8) -> Entry {
        let number = self.next;
        self.next += 1;
        let (deaths, flags) = match kind % 8 {
            0 => (POISON_DEATHS, SUSPECT),
            1 => (POISON_DEATHS - 1, SUSPECT),
            2 => (0, SUSPECT),
            _ => (0, 0),
        };
        let header = Header { deaths, flags, enqueued_ms: 1, ..Header::default() };
        let expire_ms = u64::from(kind % 16 == 15);
        let mut envelope = Envelope { name: "task".into(), expire_ms, ..Envelope::default() }.encode();
        if kind % 16 == 14 {
            envelope.truncate(2);
        }
        let stream = usize::from(kind / 16) % STREAMS;
        let entry =
            Entry { stream, entry: format!("{number}-0"), id: number.to_string(), header: Some(header), envelope };
        self.entries.insert(entry.id.clone(), entry.clone());
        entry
    }

    fn begin(&mut self, assignments: Vec<Assignment>) -> Result<(), TestCaseError> {
        for one in assignments {
            prop_assert!(!self.stopped, "{} started after the stop", one.id);
            prop_assert!(!self.settled.contains(&one.id), "{} started after it was settled", one.id);
            prop_assert!(!self.running.values().any(|id| *id == one.id), "{} started twice", one.id);
            prop_assert!(self.running.insert(one.slot, one.id).is_none(), "a slot was given out twice");
        }
        Ok(())
    }

    fn plan(&mut self) -> Result<(), TestCaseError> {
        let plan = self.desk.plan(self.now, UnderWay::default());
        if !plan.settle.is_empty() {
            self.batches.push(plan.settle.len());
        }
        for one in plan.settle {
            prop_assert!(self.settled.insert(one.job.id.clone()), "{} was settled twice", one.job.id);
        }
        for (slot, start) in &plan.record {
            prop_assert_eq!(self.running.get(slot), Some(&start.id), "only what runs is recorded");
        }
        for (slot, start) in &plan.vet {
            prop_assert!(!self.running.contains_key(slot), "{} runs before it was vetted", start.id);
        }
        if self.vetting.is_none() && !plan.vet.is_empty() {
            self.vetting = Some(plan.vet.into_iter().map(|(slot, start)| (slot, start.id)).collect());
        }
        prop_assert!(!self.stopped || plan.fetch == 0, "nothing is asked for after the stop");
        self.desk.reserve(plan.fetch);
        self.asked += plan.fetch;
        prop_assert!(self.desk.held() + self.asked <= self.prefetch, "more was asked for than there is room");
        Ok(())
    }

    fn answer_vetting(&mut self, refused: u8) -> Result<(), TestCaseError> {
        let Some(asked) = self.vetting.take() else { return Ok(()) };
        let refused: Vec<usize> = (0..asked.len()).filter(|position| refused >> (position % 8) & 1 == 1).collect();
        self.dropped.extend(refused.iter().map(|position| asked[*position].1.clone()));
        let slots: Vec<usize> = asked.into_iter().map(|(slot, _)| slot).collect();
        let mut out = Vec::new();
        self.desk.vetted(&slots, &refused, 5, &mut out);
        self.begin(out)
    }

    fn complete(&mut self, choice: u8) -> Result<(), TestCaseError> {
        let Some(slot) = self.running.keys().copied().nth(usize::from(choice) % self.running.len().max(1)) else {
            return Ok(());
        };
        self.running.remove(&slot);
        prop_assert!(self.desk.complete(slot, Outcome::Success(Vec::new(), None), 9));
        Ok(())
    }

    fn hand_out(&mut self) -> Result<(), TestCaseError> {
        let mut out = Vec::new();
        self.desk.hand_out(5, self.now, &mut out);
        self.begin(out)
    }

    fn happen(&mut self, event: &Event) -> Result<(), TestCaseError> {
        match *event {
            Event::Receive { share, kind } => {
                let count = self.asked * usize::from(share) / 255;
                let entries: Vec<Entry> =
                    (0..count).map(|n| self.make(kind.wrapping_add((n as u8).wrapping_mul(37)))).collect();
                self.desk.receive(entries.into_iter().map(Delivery::read).collect(), false, 5);
                self.desk.unreserve(self.asked);
                self.asked = 0;
            }
            Event::Repeat => {
                // What the server would send again: all that is neither settled nor taken over.
                let open = |id: &&String| !self.settled.contains(*id) && !self.dropped.contains(*id);
                let again =
                    self.entries.keys().filter(open).map(|id| Delivery::read(self.entries[id].clone())).collect();
                let held = self.desk.held();
                self.desk.receive(again, true, 5);
                prop_assert_eq!(self.desk.held(), held, "nothing new was sent");
            }
            Event::HandOut => self.hand_out()?,
            Event::Complete(choice) => self.complete(choice)?,
            Event::Plan => self.plan()?,
            Event::Settled => {
                if let Some(count) = (!self.batches.is_empty()).then(|| self.batches.remove(0)) {
                    self.desk.settled(count);
                }
            }
            Event::Vetted(refused) => self.answer_vetting(refused)?,
            Event::Recover => self.desk.must_recover(),
            Event::Pass(ms) => self.now += i64::from(ms % 16),
        }
        prop_assert!(self.desk.running() <= self.concurrency, "{} run at once", self.desk.running());
        prop_assert!(self.running.len() <= self.desk.running());
        prop_assert!(self.desk.held() <= self.prefetch, "{} are held", self.desk.held());
        let last_chances = self
            .running
            .values()
            .filter(|id| self.entries[*id].header.is_some_and(|header| header.deaths + 1 == POISON_DEATHS));
        prop_assert!(last_chances.count() <= 1, "two jobs on their last chance run at once");
        Ok(())
    }

    /// Let everything come to its end, with or without running what is left.
    fn finish(&mut self, stop: bool) -> Result<(), TestCaseError> {
        if stop {
            self.desk.stop(5);
            self.stopped = true;
        }
        self.desk.unreserve(self.asked);
        self.asked = 0;
        for _ in 0..4 * self.entries.len() + 8 {
            if !stop {
                self.hand_out()?;
            }
            self.desk.set_dry(true);
            self.plan()?;
            self.answer_vetting(0)?;
            self.complete(0)?;
            for count in self.batches.drain(..) {
                self.desk.settled(count);
            }
        }
        prop_assert!(self.desk.is_empty(), "something is left at the desk: {:?}", self.desk);
        let accounted: BTreeSet<String> = self.settled.union(&self.dropped).cloned().collect();
        prop_assert_eq!(accounted.len(), self.entries.len(), "a job was lost");
        prop_assert!(self.settled.is_disjoint(&self.dropped));
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn no_job_is_lost_or_doubled_and_no_limit_is_passed(
        concurrency in 1usize..6,
        ahead in 0usize..6,
        events in proptest::collection::vec(event(), 1..120),
        stop in any::<bool>(),
    ) {
        let mut world = World::new(concurrency, concurrency + ahead);
        for event in &events {
            world.happen(event)?;
        }
        world.finish(stop)?;
    }
}
