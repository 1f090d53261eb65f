//! Runs by slot. The number of a slot identifies a run, also after its end: it is never given to
//! another run. Code of a task may outlive its run, and must not act for a later one.

use std::collections::VecDeque;

use super::runs::Run;

/// A slot number is an index, and above these bits the number of runs that the slot had before. A
/// worker runs at most a million tasks at the same time.
const INDEX_BITS: u32 = 24;

#[derive(Debug, Default)]
struct Slot {
    uses: usize,
    run: Option<Run>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Runs {
    slots: Vec<Slot>,
    free: Vec<usize>,
    pub ready: VecDeque<usize>,
}

fn number(index: usize, uses: usize) -> usize {
    index | uses << INDEX_BITS
}

fn index(number: usize) -> usize {
    number & ((1 << INDEX_BITS) - 1)
}

impl Runs {
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Run> {
        self.slots.iter().filter_map(|slot| slot.run.as_ref())
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (usize, &mut Run)> {
        let slots = self.slots.iter_mut().enumerate();
        slots.filter_map(|(index, slot)| Some((number(index, slot.uses), slot.run.as_mut()?)))
    }

    /// The numbers of the slots that have runs.
    pub fn numbers(&self) -> Vec<usize> {
        let occupied = self.slots.iter().enumerate().filter(|(_, slot)| slot.run.is_some());
        occupied.map(|(index, slot)| number(index, slot.uses)).collect()
    }

    pub fn get(&self, slot: usize) -> Option<&Run> {
        self.slots.get(index(slot)).filter(|known| number(index(slot), known.uses) == slot)?.run.as_ref()
    }

    pub fn get_mut(&mut self, slot: usize) -> Option<&mut Run> {
        self.slots.get_mut(index(slot)).filter(|known| number(index(slot), known.uses) == slot)?.run.as_mut()
    }

    pub fn add(&mut self, run: Run) -> usize {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() - 1
        });
        let slot = &mut self.slots[index];
        slot.run = Some(run);
        number(index, slot.uses)
    }

    pub fn remove(&mut self, slot: usize) -> Option<Run> {
        self.get(slot)?;
        let known = &mut self.slots[index(slot)];
        known.uses += 1;
        self.free.push(index(slot));
        known.run.take()
    }
}
