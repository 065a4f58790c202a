//! A small set of slot numbers, compared and copied by value.

use super::OPEN_MAX;

const WORDS: usize = OPEN_MAX / 64;

/// A set of numbers below [`OPEN_MAX`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Bits([u64; WORDS]);

impl Bits {
    pub(super) fn has(&self, slot: usize) -> bool {
        self.0.get(slot / 64).is_some_and(|word| word >> (slot % 64) & 1 == 1)
    }

    pub(super) fn insert(&mut self, slot: usize) {
        if let Some(word) = self.0.get_mut(slot / 64) {
            *word |= 1 << (slot % 64);
        }
    }

    pub(super) fn remove(&mut self, slot: usize) {
        if let Some(word) = self.0.get_mut(slot / 64) {
            *word &= !(1 << (slot % 64));
        }
    }

    /// The lowest number that is not in the set.
    pub(super) fn first_free(&self) -> Option<usize> {
        (0..OPEN_MAX).find(|slot| !self.has(*slot))
    }
}
