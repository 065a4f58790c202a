//! Worlds found and not yet looked into, as few bytes as is easy: numbers of seven bits a byte, the lowest first, in batches
//! that are handed from thread to thread and let go as soon as they are read.

/// How many worlds a batch holds: enough work to be worth a lock, little enough that no thread waits long for another one.
const BATCH_WORLDS: usize = 1024;

/// Lists of numbers.
#[derive(Debug, Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    lists: usize,
}

impl Batch {
    /// Appends a list of so many numbers to the last of these batches, or to a new one.
    pub(super) fn push(batches: &mut Vec<Self>, count: usize, numbers: impl Iterator<Item = u64>) {
        if batches.last().is_none_or(|batch| batch.lists >= BATCH_WORLDS) {
            if let Some(full) = batches.last_mut() {
                full.bytes.shrink_to_fit();
            }
            batches.push(Self::default());
        }
        let Some(batch) = batches.last_mut() else { return };
        batch.lists += 1;
        write(&mut batch.bytes, count as u64);
        for number in numbers {
            write(&mut batch.bytes, number);
        }
    }

    /// How many lists it holds.
    pub(super) fn len(&self) -> usize {
        self.lists
    }

    /// How many bytes it takes.
    pub(super) fn size_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// Reads it from the start.
    pub(super) fn reader(&self) -> Reader<'_> {
        Reader { bytes: self.bytes.iter() }
    }
}

/// What is left to read of a batch.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    bytes: std::slice::Iter<'a, u8>,
}

impl Reader<'_> {
    /// The next list; `false` if there is none.
    pub(super) fn pop(&mut self, numbers: &mut Vec<u64>) -> bool {
        numbers.clear();
        if self.bytes.as_slice().is_empty() {
            return false;
        }
        let count = read(&mut self.bytes);
        numbers.extend((0..count).map(|_| read(&mut self.bytes)));
        true
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
    fn gives_back_what_was_put_in_across_batches() {
        let mut dice = Dice::new(5);
        let lists: Vec<Vec<u64>> = (0..5 * BATCH_WORLDS / 2)
            .map(|_| (0..dice.below(9)).map(|_| dice.draw() >> dice.below(64)).collect())
            .collect();
        let (mut batches, mut taken) = (Vec::new(), Vec::new());
        for list in &lists {
            Batch::push(&mut batches, list.len(), list.iter().copied());
        }
        assert_eq!(batches.iter().map(Batch::len).collect::<Vec<_>>(), [1024, 1024, 512]);
        let mut expected = lists.iter();
        for batch in &batches {
            let mut reader = batch.reader();
            while reader.pop(&mut taken) {
                assert_eq!(Some(&taken), expected.next());
            }
        }
        assert_eq!(expected.next(), None);
    }
}
