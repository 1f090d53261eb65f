//! Desks and jobs for tests.
#![allow(dead_code)] // Not every test needs all of it.

use ardiq_engine::protocol::entry::{Header, SUSPECT};
use ardiq_engine::protocol::envelope::Envelope;
use ardiq_engine::scripts::deliver::{Entry, Start};
use ardiq_engine::worker::desk::{Assignment, Desk};
use ardiq_engine::worker::job::Delivery;
use ardiq_engine::worker::judge::Outcome;
use ardiq_engine::worker::plan::{InFlight, Plan};

/// The default Redis time and monotonic time of events.
pub const NOW: u64 = 10_000;
pub const MONO: i64 = 50;
pub const LEASE_END: i64 = 1_000;

pub fn entry_with(stream: usize, number: usize, header: Header, expire_ms: u64) -> Entry {
    let envelope = Envelope {
        name: "task".into(),
        body: b"args".to_vec(),
        headers: vec![("trace".into(), "x".into())],
        expire_ms,
        ..Envelope::default()
    };
    let (entry, id) = (format!("{number}-0"), format!("job{number}"));
    Entry { stream, entry, id, header: Some(header), envelope: envelope.encode() }
}

pub fn entry(stream: usize, number: usize) -> Entry {
    entry_with(stream, number, Header::default(), 0)
}

/// A job that was taken over from a dead worker, with this many deaths.
pub fn suspect(number: usize, deaths: u8) -> Entry {
    suspect_with(number, deaths, 0)
}

/// The same with additional flags.
pub fn suspect_with(number: usize, deaths: u8, flags: u8) -> Entry {
    let header = Header { tries: u32::from(deaths), deaths, flags: SUSPECT | flags, ..Header::default() };
    entry_with(0, number, header, 0)
}

pub fn desk(concurrency: usize, prefetch: usize) -> Desk {
    let mut desk = Desk::new(concurrency, prefetch, 4);
    desk.extend_lease(LEASE_END);
    desk
}

pub fn deliveries(entries: impl IntoIterator<Item = Entry>) -> Vec<Delivery> {
    entries.into_iter().map(Delivery::read).collect()
}

pub fn receive(desk: &mut Desk, entries: impl IntoIterator<Item = Entry>) {
    desk.receive(deliveries(entries), false, NOW);
}

/// All runs that may start.
pub fn hand_out(desk: &mut Desk) -> Vec<Assignment> {
    std::iter::from_fn(|| desk.next(NOW, MONO)).collect()
}

/// A desk whose runs have been short so far, so that it holds as many jobs ahead as it may.
pub fn busy_desk(concurrency: usize, prefetch: usize) -> Desk {
    let mut desk = desk(concurrency, prefetch);
    for number in 0..2 * prefetch {
        receive(&mut desk, [entry(3, 900_000 + number)]);
        let slot = hand_out(&mut desk)[0].slot;
        succeed(&mut desk, slot);
        outcomes(&mut desk);
        desk.settled(1);
    }
    desk
}

pub fn ids(assignments: &[Assignment]) -> Vec<&str> {
    assignments.iter().map(|one| one.id.as_str()).collect()
}

pub fn succeed(desk: &mut Desk, slot: usize) {
    assert!(desk.complete(slot, Outcome::Success(Vec::new(), None), NOW, MONO));
}

/// The plan when nothing is in flight.
pub fn planned_at(desk: &mut Desk, mono: i64) -> Plan {
    desk.plan(mono, InFlight::default())
}

pub fn planned(desk: &mut Desk) -> Plan {
    planned_at(desk, MONO)
}

/// Answer the vetting of all suspects. `refused` contains the positions that are refused.
pub fn answer_vetting(desk: &mut Desk, refused: &[usize]) {
    let (slots, starts): (Vec<usize>, Vec<Start>) = planned(desk).vet.into_iter().unzip();
    desk.vetted(&slots, &starts, refused, NOW);
}

/// Answer the vetting of all suspects. Returns the runs that may start then.
pub fn vet(desk: &mut Desk) -> Vec<Assignment> {
    answer_vetting(desk, &[]);
    hand_out(desk)
}

pub fn outcomes(desk: &mut Desk) -> Vec<(String, Outcome)> {
    planned(desk).settle.into_iter().map(|one| (one.job.id, one.outcome)).collect()
}
