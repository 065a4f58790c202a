//! The worlds found and not yet looked into, first in, first out, as few bytes as is easy: numbers of seven bits a byte, the
//! lowest first, in chunks that are let go as soon as they are read.

use std::collections::VecDeque;

/// A chunk is closed when it is at least this long.
const CHUNK_BYTES: usize = 1 << 20;

/// A queue of lists of numbers.
#[derive(Debug, Default)]
pub(super) struct Frontier {
    chunks: VecDeque<Vec<u8>>,
    /// How much of the first chunk was read.
    read: usize,
}

impl Frontier {
    /// Appends a list of so many numbers.
    pub(super) fn push(&mut self, count: usize, numbers: impl Iterator<Item = u64>) {
        if self.chunks.back().is_none_or(|chunk| chunk.len() >= CHUNK_BYTES) {
            self.chunks.push_back(Vec::with_capacity(CHUNK_BYTES + (CHUNK_BYTES >> 6)));
        }
        let Some(chunk) = self.chunks.back_mut() else { return };
        write(chunk, count as u64);
        for number in numbers {
            write(chunk, number);
        }
    }

    /// Takes the oldest list; `false` if there is none.
    pub(super) fn pop(&mut self, numbers: &mut Vec<u64>) -> bool {
        numbers.clear();
        if self.chunks.front().is_some_and(|chunk| self.read >= chunk.len()) {
            self.chunks.pop_front();
            self.read = 0;
        }
        let Some(chunk) = self.chunks.front() else { return false };
        let mut bytes = chunk.get(self.read..).unwrap_or_default().iter();
        let before = bytes.len();
        let count = read(&mut bytes);
        numbers.extend((0..count).map(|_| read(&mut bytes)));
        self.read += before - bytes.len();
        true
    }

    /// How many bytes it takes.
    pub(super) fn size_bytes(&self) -> usize {
        self.chunks.iter().map(Vec::capacity).sum()
    }
}

fn write(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(u8::try_from(number & 0x7f).unwrap_or(0) | 0x80);
        number >>= 7;
    }
    out.push(u8::try_from(number).unwrap_or(0));
}

fn read(bytes: &mut std::slice::Iter<'_, u8>) -> u64 {
    let (mut number, mut shift) = (0, 0);
    for byte in bytes {
        number |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            break;
        }
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dice;

    #[test]
    fn gives_back_what_was_put_in_across_chunks() {
        let mut dice = Dice::new(5);
        let lists: Vec<Vec<u64>> = (0..60_000)
            .map(|_| (0..dice.below(9)).map(|_| dice.draw() >> dice.below(64)).collect())
            .collect();
        let (mut frontier, mut taken) = (Frontier::default(), Vec::new());
        for list in &lists {
            frontier.push(list.len(), list.iter().copied());
        }
        assert!(frontier.chunks.len() > 1);
        for list in &lists {
            assert!(frontier.pop(&mut taken));
            assert_eq!(&taken, list);
        }
        assert!(!frontier.pop(&mut taken));
    }
}
