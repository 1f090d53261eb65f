//! Checks what must be true at the desk in any order of events: the limits for running and
//! requested jobs hold, suspects are separated, and no job is lost or runs twice.
#![allow(clippy::unwrap_used, clippy::expect_used)] // In a test, a surprise is a failure.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ardiq_engine::protocol::entry::{ALONE, Header, SUSPECT};
use ardiq_engine::protocol::envelope::Envelope;
use ardiq_engine::scripts::deliver::{Entry, Settlement, Start};
use ardiq_engine::scripts::upkeep::Survivor;
use ardiq_engine::worker::desk::Desk;
use ardiq_engine::worker::job::Delivery;
use ardiq_engine::worker::judge::{Outcome, judge};
use ardiq_engine::worker::plan::InFlight;
use ardiq_engine::worker::quarantine::{MOST_WAITING, POISON_DEATHS};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

const STREAMS: usize = 4;

/// The task whose runs are deferred.
const DEFERRED: &str = "deferred";

/// An event. Numbers select one of the possibilities at that moment.
#[derive(Debug, Clone)]
enum Event {
    /// The server answers the open request with this many jobs of a kind.
    Receive {
        share: u8,
        kind: u8,
    },
    /// Known deliveries are read back.
    Repeat,
    /// The host pulls a run.
    Pull,
    /// A deferred run starts.
    Begin(u8),
    Complete(u8),
    /// Ask for a plan. The replies arrive with later events.
    Plan,
    /// The oldest open batch of outcomes was written.
    Settled,
    /// The server refused it.
    PutOff,
    /// The oldest open vetting is answered. Bits select the starts that are refused.
    Vetted(u8),
    Recover,
    LoseLease,
    Pass(u8),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (any::<u8>(), any::<u8>()).prop_map(|(share, kind)| Event::Receive { share, kind }),
        2 => Just(Event::Repeat),
        16 => Just(Event::Pull),
        4 => any::<u8>().prop_map(Event::Begin),
        12 => any::<u8>().prop_map(Event::Complete),
        12 => Just(Event::Plan),
        6 => Just(Event::Settled),
        2 => Just(Event::PutOff),
        6 => any::<u8>().prop_map(Event::Vetted),
        2 => Just(Event::Recover),
        1 => Just(Event::LoseLease),
        4 => any::<u8>().prop_map(Event::Pass),
    ]
}

/// The environment of the desk, and where it last saw each job.
struct World {
    desk: Desk,
    concurrency: usize,
    prefetch: usize,
    now: i64,
    next: usize,
    /// Jobs that were requested and not delivered yet.
    asked: usize,
    entries: BTreeMap<String, Entry>,
    /// The runs that the host has, and whether they have started.
    running: BTreeMap<usize, (String, bool)>,
    /// Runs whose start is recorded, or being recorded.
    recorded: BTreeSet<String>,
    /// Jobs whose outcome was sent at least once.
    settled: BTreeSet<String>,
    /// Jobs that another worker turned out to own.
    refused: BTreeSet<String>,
    /// Jobs that had not started, or whose outcome was not written, when the lease was lost.
    lost: BTreeSet<String>,
    /// Runs that continued after the lease was lost.
    survived: BTreeSet<String>,
    batches: VecDeque<Vec<Settlement>>,
    put_off: BTreeSet<String>,
    vetting: Option<Vec<(usize, Start)>>,
    stopped: bool,
}

impl World {
    fn new(concurrency: usize, prefetch: usize) -> Self {
        let mut desk = Desk::new(concurrency, prefetch, STREAMS);
        desk.extend_lease(i64::MAX);
        desk.defer([DEFERRED.to_owned()].into());
        Self {
            desk,
            concurrency,
            prefetch: prefetch.max(concurrency),
            now: 0,
            next: 0,
            asked: 0,
            entries: BTreeMap::new(),
            running: BTreeMap::new(),
            recorded: BTreeSet::new(),
            settled: BTreeSet::new(),
            refused: BTreeSet::new(),
            lost: BTreeSet::new(),
            survived: BTreeSet::new(),
            batches: VecDeque::new(),
            put_off: BTreeSet::new(),
            vetting: None,
            stopped: false,
        }
    }

    fn make(&mut self, kind: u8) -> Entry {
        let number = self.next;
        self.next += 1;
        let (deaths, flags) = match kind % 8 {
            0 => (POISON_DEATHS, SUSPECT | ALONE),
            1 => (POISON_DEATHS, SUSPECT),
            2 | 3 => (POISON_DEATHS - 1, SUSPECT),
            4 => (0, SUSPECT),
            _ => (0, 0),
        };
        let header = Header { deaths, flags, enqueued_ms: 1, ..Header::default() };
        let expire_ms = u64::from(kind % 16 == 15);
        let name = if kind.is_multiple_of(3) { DEFERRED } else { "task" };
        let mut envelope = Envelope { name: name.into(), expire_ms, ..Envelope::default() }.encode();
        if kind % 16 == 14 {
            envelope.truncate(2);
        }
        let stream = usize::from(kind / 16) % STREAMS;
        let entry =
            Entry { stream, entry: format!("{number}-0"), id: number.to_string(), header: Some(header), envelope };
        self.entries.insert(entry.id.clone(), entry.clone());
        entry
    }

    fn deaths_of(&self, id: &str) -> u8 {
        Delivery::read(self.entries[id].clone()).job.header.deaths
    }

    fn is_deferred(&self, id: &str) -> bool {
        Delivery::read(self.entries[id].clone()).job.envelope.name == DEFERRED
    }

    fn pull(&mut self) -> Result<bool, TestCaseError> {
        let Some(one) = self.desk.next(5, self.now) else { return Ok(false) };
        let known = |jobs: &BTreeSet<String>| jobs.contains(&one.id);
        prop_assert!(!self.stopped, "{} started after the stop", one.id);
        prop_assert!(!known(&self.settled), "{} started after it was settled", one.id);
        prop_assert!(!known(&self.lost) && !known(&self.refused), "{} is another worker's", one.id);
        prop_assert!(!self.running.values().any(|(id, _)| *id == one.id), "{} started twice", one.id);
        let begun = !self.is_deferred(&one.id);
        prop_assert!(self.running.insert(one.slot, (one.id, begun)).is_none(), "a slot was given out twice");
        Ok(true)
    }

    fn begin(&mut self, choice: u8) -> Result<(), TestCaseError> {
        let waiting: Vec<usize> = self.running.iter().filter(|(_, (_, begun))| !begun).map(|(slot, _)| *slot).collect();
        let Some(slot) = waiting.get(usize::from(choice) % waiting.len().max(1)).copied() else { return Ok(()) };
        let begins = self.desk.begin(slot, 5, self.now);
        let (id, begun) = self.running.get_mut(&slot).unwrap();
        prop_assert!(begins || self.stopped || self.lost.contains(id), "{id} did not begin");
        prop_assert!(!begins || !(self.stopped || self.lost.contains(id)), "{id} began although it is not ours");
        *begun = begins;
        if !begins {
            self.running.remove(&slot);
        }
        Ok(())
    }

    fn plan(&mut self) -> Result<(), TestCaseError> {
        let plan = self.desk.plan(self.now, InFlight::default());
        let mut batch = plan.again;
        for one in &batch {
            prop_assert!(self.put_off.remove(&one.id), "{} is sent again although it was taken", one.id);
        }
        for one in plan.settle {
            prop_assert!(self.settled.insert(one.job.id.clone()), "{} was settled twice", one.job.id);
            let started = self.recorded.contains(&one.job.id);
            prop_assert_eq!(one.recorded, started, "whether {} is on record", one.job.id);
            batch.push(judge(one, "w", 300));
        }
        if !batch.is_empty() {
            self.batches.push_back(batch);
        }
        for (slot, start) in &plan.record {
            prop_assert_eq!(self.running.get(slot), Some(&(start.id.clone(), true)), "only what runs is recorded");
            prop_assert!(self.recorded.insert(start.id.clone()), "{} was recorded twice", start.id);
        }
        for (slot, start) in &plan.vet {
            prop_assert!(!self.running.contains_key(slot), "{} runs before it was vetted", start.id);
        }
        if self.vetting.is_none() && !plan.vet.is_empty() {
            self.vetting = Some(plan.vet);
        }
        prop_assert!(!self.stopped || plan.fetch == 0, "nothing is asked for after the stop");
        self.desk.reserve(plan.fetch);
        self.asked += plan.fetch;
        prop_assert!(self.asked <= self.prefetch, "more was asked for than there is room");
        Ok(())
    }

    fn answer_vetting(&mut self, refused: u8) {
        let Some(asked) = self.vetting.take() else { return };
        let refused: Vec<usize> = (0..asked.len()).filter(|position| refused >> (position % 8) & 1 == 1).collect();
        for (position, (_, start)) in asked.iter().enumerate() {
            if self.lost.contains(&start.id) {
                continue;
            }
            if refused.contains(&position) {
                self.refused.insert(start.id.clone());
            } else {
                self.recorded.insert(start.id.clone());
            }
        }
        let (slots, starts): (Vec<usize>, Vec<Start>) = asked.into_iter().unzip();
        self.desk.vetted(&slots, &starts, &refused, 5);
    }

    fn complete(&mut self, choice: u8) -> Result<(), TestCaseError> {
        let begun: Vec<usize> = self.running.iter().filter(|(_, (_, begun))| *begun).map(|(slot, _)| *slot).collect();
        let Some(slot) = begun.get(usize::from(choice) % begun.len().max(1)).copied() else { return Ok(()) };
        self.running.remove(&slot);
        prop_assert!(self.desk.complete(slot, Outcome::Success(Vec::new(), None), 9, self.now));
        Ok(())
    }

    fn lose_lease(&mut self) -> Result<(), TestCaseError> {
        let held = self.desk.held();
        let lost = self.desk.lose_lease();
        prop_assert_eq!(lost.held, held);
        for Survivor { id, .. } in lost.survived {
            prop_assert!(self.recorded.contains(&id) && !self.settled.contains(&id), "{} has not been recorded", id);
            prop_assert!(self.survived.insert(id), "a life is counted once");
        }
        let runs: BTreeSet<&String> = self.running.values().filter(|(_, begun)| *begun).map(|(id, _)| id).collect();
        let gone = self.entries.keys().filter(|id| !self.settled.contains(*id) && !runs.contains(id));
        self.lost.extend(gone.cloned());
        self.desk.extend_lease(i64::MAX);
        Ok(())
    }

    fn happen(&mut self, event: &Event) -> Result<(), TestCaseError> {
        match *event {
            Event::Receive { share, kind } => {
                let count = self.asked * usize::from(share) / 255;
                let entries: Vec<Entry> =
                    (0..count).map(|n| self.make(kind.wrapping_add((n as u8).wrapping_mul(37)))).collect();
                let new = self.desk.receive(entries.into_iter().map(Delivery::read).collect(), false, 5);
                prop_assert_eq!(new, count);
                self.desk.unreserve(self.asked);
                self.asked = 0;
            }
            Event::Repeat => {
                // The server would return every job that is neither settled nor taken over.
                let open = |id: &&String| {
                    let written = self.settled.contains(*id) && !self.put_off.contains(*id);
                    !written && !self.lost.contains(*id)
                };
                let again =
                    self.entries.keys().filter(open).map(|id| Delivery::read(self.entries[id].clone())).collect();
                let held = self.desk.held();
                prop_assert_eq!(self.desk.receive_back(again, 5), 0, "nothing new was sent");
                prop_assert_eq!(self.desk.held(), held);
            }
            Event::Pull => {
                self.pull()?;
            }
            Event::Begin(choice) => self.begin(choice)?,
            Event::Complete(choice) => self.complete(choice)?,
            Event::Plan => self.plan()?,
            Event::Settled => {
                if let Some(batch) = self.batches.pop_front() {
                    self.desk.settled(batch.len());
                }
            }
            Event::PutOff => {
                if let Some(batch) = self.batches.pop_front() {
                    self.put_off.extend(batch.iter().map(|one| one.id.clone()));
                    self.desk.put_off(batch, self.now + 20);
                }
            }
            Event::Vetted(refused) => self.answer_vetting(refused),
            Event::Recover => self.desk.must_recover(),
            Event::LoseLease => self.lose_lease()?,
            Event::Pass(ms) => self.now += i64::from(ms),
        }
        prop_assert!(self.desk.running() <= self.concurrency, "{} run at once", self.desk.running());
        prop_assert!(self.running.len() <= self.desk.running());
        prop_assert!(self.desk.known() >= self.desk.held());
        let most = self.prefetch + self.concurrency + MOST_WAITING;
        prop_assert!(self.desk.held() <= most, "{} are held", self.desk.held());
        self.suspects_are_separate()
    }

    fn suspects_are_separate(&self) -> Result<(), TestCaseError> {
        let ours = self.running.values().filter(|(id, _)| !self.lost.contains(id) && !self.survived.contains(id));
        let deaths: Vec<u8> =
            ours.map(|(id, _)| self.deaths_of(id)).filter(|deaths| *deaths + 1 >= POISON_DEATHS).collect();
        let worst = deaths.iter().filter(|deaths| **deaths >= POISON_DEATHS).count();
        prop_assert!(worst == 0 || deaths.len() == 1, "a last proof beside another suspect: {:?}", deaths);
        let all = self.entries.keys().filter(|id| self.deaths_of(id) + 1 >= POISON_DEATHS).count();
        prop_assert!(deaths.len() <= all.div_ceil(4).max(1), "{} of {} suspects run at once", deaths.len(), all);
        Ok(())
    }

    /// Finish everything, with or without running the remaining jobs.
    fn finish(&mut self, stop: bool) -> Result<(), TestCaseError> {
        if stop {
            self.desk.stop(5);
            self.stopped = true;
        }
        self.desk.unreserve(self.asked);
        self.asked = 0;
        self.now += 1_000;
        for _ in 0..4 * self.entries.len() + 8 {
            while !stop && self.pull()? {}
            self.desk.set_dry(true);
            self.plan()?;
            self.answer_vetting(0);
            self.begin(0)?;
            self.complete(0)?;
            for batch in self.batches.drain(..) {
                self.desk.settled(batch.len());
            }
        }
        prop_assert!(self.desk.is_empty(), "something is left at the desk: {:?}", self.desk);
        let all: BTreeSet<&String> = self.settled.iter().chain(&self.lost).collect();
        prop_assert_eq!(all.len(), self.entries.len(), "a job was lost");
        prop_assert!(self.put_off.is_empty());
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn no_job_is_lost_or_doubled_and_no_limit_is_passed(
        concurrency in 1usize..6,
        ahead in 0usize..6,
        events in proptest::collection::vec(event(), 1..240),
        stop in any::<bool>(),
    ) {
        let mut world = World::new(concurrency, concurrency + ahead);
        for event in &events {
            world.happen(event)?;
        }
        world.finish(stop)?;
    }
}
