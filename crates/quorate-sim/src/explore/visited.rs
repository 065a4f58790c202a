//! The set of worlds seen: 16 bytes a fingerprint, nothing else, in tables that are nearly full.
//!
//! Each shard is an array in order of fingerprints, with gaps: an element's home is where it would stand if all were spread
//! evenly, and it stands there or a little behind, never before. A search ends at the first gap or greater element, so it is
//! short even when six slots of seven are taken, and growing is one pass in order.
//!
//! Invariants, of each shard: elements rise; none stands before its home; there is no gap between an element and its home. A
//! zero is a gap; a fingerprint of zero counts as one.
//!
//! Each shard has a lock of its own: two threads seldom want the same one.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// How many tables share the load, by the first bits of the fingerprint. Each grows alone, so that growing needs little room.
const SHARDS_BITS: u32 = 8;
/// A shard grows when more than this many slots of 100 are taken.
const FULL_PERCENT: usize = 87;
/// By how much, in percent.
const GROWTH_PERCENT: usize = 10;
/// Slots of a new shard.
const SLOTS_MIN: usize = 64;
/// Slots behind the last home, for elements that are pushed back.
const SLACK: usize = 32;

/// A set of fingerprints.
#[derive(Debug)]
pub(super) struct Visited {
    shards: Vec<Mutex<Shard>>,
}

#[derive(Debug)]
struct Shard {
    slots: Vec<u128>,
    homes: usize,
    count: usize,
}

impl Visited {
    /// The empty set.
    pub(super) fn new() -> Self {
        let shard = |_| Mutex::new(Shard::new(SLOTS_MIN));
        Self { shards: (0..1_usize << SHARDS_BITS).map(shard).collect() }
    }

    /// Adds a fingerprint; says whether it is new.
    pub(super) fn insert(&self, print: u128) -> bool {
        let print = print.max(1);
        let shard = usize::try_from(print >> (128 - SHARDS_BITS)).unwrap_or(0);
        self.shards.get(shard).is_some_and(|shard| open(shard).insert(print))
    }

    /// How many bytes the tables take.
    pub(super) fn size_bytes(&self) -> usize {
        self.shards.iter().map(|shard| open(shard).slots.capacity() * size_of::<u128>()).sum()
    }
}

/// A shard for this thread alone. Nothing that is done with one can fail half way.
fn open(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shard {
    fn new(homes: usize) -> Self {
        Self { slots: vec![0; homes + SLACK], homes, count: 0 }
    }

    /// Where an element stands if nobody is in its way.
    fn home(&self, print: u128) -> usize {
        let rest = (print << SHARDS_BITS) >> 64;
        usize::try_from((rest * self.homes as u128) >> 64).unwrap_or(0)
    }

    fn insert(&mut self, print: u128) -> bool {
        let home = self.home(print);
        let after = self.slots.get(home..).unwrap_or_default();
        let Some(distance) = after.iter().position(|slot| *slot == 0 || *slot >= print) else {
            self.append(print);
            self.counted();
            return true;
        };
        let place = home + distance;
        if self.slots.get(place) == Some(&print) {
            return false;
        }
        self.put(place, print);
        self.counted();
        true
    }

    /// Puts an element at `place` and pushes back what stands from there to the next gap.
    fn put(&mut self, place: usize, print: u128) {
        let run = self.slots.get(place..).unwrap_or_default();
        let (gap, end) = (run.iter().position(|slot| *slot == 0), run.len());
        if gap.is_none() {
            self.append(0);
        }
        let length = gap.unwrap_or(end);
        self.slots.copy_within(place..place + length, place + 1);
        if let Some(slot) = self.slots.get_mut(place) {
            *slot = print;
        }
    }

    /// One more slot at the end; a vector left to itself would double.
    fn append(&mut self, print: u128) {
        if self.slots.len() == self.slots.capacity() {
            self.slots.reserve_exact(SLACK);
        }
        self.slots.push(print);
    }

    fn counted(&mut self) {
        self.count += 1;
        if self.count * 100 > self.homes * FULL_PERCENT {
            self.grow();
        }
    }

    fn grow(&mut self) {
        let mut wider = Self::new(self.homes + self.homes * GROWTH_PERCENT / 100);
        wider.count = self.count;
        let mut next = 0;
        for print in self.slots.iter().copied().filter(|slot| *slot != 0) {
            let place = wider.home(print).max(next);
            if place >= wider.slots.len() {
                wider.slots.resize(place + 1, 0);
            }
            if let Some(slot) = wider.slots.get_mut(place) {
                *slot = print;
            }
            next = place + 1;
        }
        *self = wider;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::Dice;

    fn check(prints: impl Iterator<Item = u128>) -> Visited {
        let (visited, mut naive) = (Visited::new(), BTreeSet::new());
        for print in prints {
            assert_eq!(visited.insert(print), naive.insert(print.max(1)), "{print:x}");
        }
        for shard in &visited.shards {
            let shard = open(shard);
            let held: Vec<u128> = shard.slots.iter().copied().filter(|slot| *slot != 0).collect();
            assert!(held.is_sorted());
            assert_eq!(held.len(), shard.count);
        }
        for print in &naive {
            assert!(!visited.insert(*print));
        }
        visited
    }

    #[test]
    fn holds_what_was_put_in_and_nothing_else() {
        let mut dice = Dice::new(3);
        let prints: Vec<u128> =
            (0..60_000).map(|_| u128::from(dice.draw()) << 64 | u128::from(dice.draw())).collect();
        let again: Vec<u128> = prints.iter().copied().step_by(3).collect();
        let visited = check(prints.into_iter().chain(again));
        let each = visited.size_bytes() / 60_000;
        assert!((16..24).contains(&each), "{each} bytes");
    }

    #[test]
    fn crowds_at_one_home_and_at_the_end_are_held() {
        check((0..500).chain((0..500).map(|low| u128::MAX - low)).chain(0..500));
    }
}
