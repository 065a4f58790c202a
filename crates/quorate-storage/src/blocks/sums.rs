//! The sums of data blocks: one sum block for 1016 of them, kept in two slots.
//!
//! A sum block covers neighbours that are not being written, so a torn write of it must not condemn them: each sync writes
//! the slot that does not hold the newest sums, with a higher generation. The older slot has the sums as of
//! the sync before. Blocks that were written since then don't match it, which is right: after a crash nobody
//! needs them (the tenant never overwrites what its last durable commit needs), and after a flipped bit in the newer
//! slot they are refused, never served unchecked.
//!
//! | Bytes | What |
//! |---|---|
//! | 0..4 | magic `QSM2` |
//! | 4..8 | group number |
//! | 8..12 | CRC32C of the file's salt and the block without these four bytes |
//! | 12..16 | zero |
//! | 16..24 | generation: the header's at the sync that wrote it |
//! | 24..32 | zero |
//! | 32..4096 | 1016 sums; 0 means the block was never written |
//!
//! A data block's sum is CRC32C of the file's salt and its number (eight bytes each, little-endian) followed by its bytes, so that a
//! block found in another's place, or left by another file, does not pass, and no value that a client stores looks like a sum
//! block; a sum that comes out as 0 is stored as `0xffff_ffff`.

use super::{
    header::{u32_at, u64_at},
    layout::{BLOCK_BYTES, SUMS_PER_GROUP},
};

const MAGIC: [u8; 4] = *b"QSM2";
const FIELDS_BYTES: usize = 32;
/// The sum of a block that was never written.
pub(crate) const NEVER_WRITTEN: u32 = 0;

/// The sums of one group, in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    /// The generation at which they were last written; 0 for never.
    pub(crate) generation: u64,
    /// The slot that holds them.
    pub(crate) slot: u8,
    /// Whether they changed since.
    pub(crate) dirty: bool,
    /// The other slot, when it holds neither sums nor nothing: torn by a crash, which is harmless, or decayed.
    pub(crate) damaged: Option<u8>,
    sums: Vec<u32>,
}

impl Group {
    /// A group of which nothing was ever written.
    pub(crate) fn empty() -> Self {
        // The first write goes to slot 0, the one that is not this.
        Self {
            generation: 0,
            slot: 1,
            dirty: false,
            damaged: None,
            sums: vec![NEVER_WRITTEN; usize::try_from(SUMS_PER_GROUP).unwrap_or(0)],
        }
    }

    /// The sum of data block `index`.
    fn sum(&self, index: usize) -> u32 {
        self.sums.get(index).copied().unwrap_or(NEVER_WRITTEN)
    }

    /// The sums of `count` data blocks from `index` on.
    pub(crate) fn copy(&self, index: usize, count: usize) -> Vec<u32> {
        (index..index + count).map(|at| self.sum(at)).collect()
    }

    /// Sets the sum of data block `index`.
    pub(crate) fn set(&mut self, index: usize, sum: u32) {
        if let Some(entry) = self.sums.get_mut(index) {
            self.dirty |= *entry != sum;
            *entry = sum;
        }
    }

    /// Forgets the blocks from `index` on.
    pub(crate) fn forget_from(&mut self, index: usize) {
        for at in index..self.sums.len() {
            self.set(at, NEVER_WRITTEN);
        }
    }

    /// The bytes of a sum block of `group` at `generation`.
    pub(crate) fn encode(&self, salt: u64, group: u32, generation: u64) -> Vec<u8> {
        let mut block = Vec::with_capacity(BLOCK_BYTES);
        block.extend_from_slice(&MAGIC);
        block.extend_from_slice(&group.to_le_bytes());
        block.extend_from_slice(&[0; 8]);
        block.extend_from_slice(&generation.to_le_bytes());
        block.resize(FIELDS_BYTES, 0);
        for sum in &self.sums {
            block.extend_from_slice(&sum.to_le_bytes());
        }
        let sum = checksum(salt, &block).to_le_bytes();
        if let Some(field) = block.get_mut(8..12) {
            field.copy_from_slice(&sum);
        }
        block
    }

    /// The newest sums in the two slots of `group`, or the slot at fault when there are none.
    pub(crate) fn newest(salt: u64, slots: &[u8], group: u32) -> Result<Self, u8> {
        let (first, second) = slots.split_at_checked(BLOCK_BYTES).ok_or(0_u8)?;
        let is_zero = |block: &[u8]| block.iter().all(|byte| *byte == 0);
        match (decode(salt, first, group, 0), decode(salt, second, group, 1)) {
            (Some(one), Some(other)) if one.generation < other.generation => Ok(other),
            (Some(one), Some(_)) => Ok(one),
            (Some(one), None) => Ok(Self { damaged: (!is_zero(second)).then_some(1), ..one }),
            (None, Some(other)) => Ok(Self { damaged: (!is_zero(first)).then_some(0), ..other }),
            // Nothing was ever synced here: at most the first write to slot 0 was torn.
            (None, None) if is_zero(second) => {
                Ok(Self { damaged: (!is_zero(first)).then_some(0), ..Self::empty() })
            }
            (None, None) => Err(u8::from(is_zero(first))),
        }
    }
}

fn decode(salt: u64, block: &[u8], group: u32, slot: u8) -> Option<Group> {
    let whole = block.len() == BLOCK_BYTES
        && block.starts_with(&MAGIC)
        && u32_at(block, 4)? == group
        && u32_at(block, 8)? == checksum(salt, block);
    let generation = u64_at(block, 16)?;
    let (sums, _) = block.get(FIELDS_BYTES..)?.as_chunks::<4>();
    let sums = sums.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect();
    whole.then_some(Group { generation, slot, dirty: false, damaged: None, sums })
}

/// CRC32C of the salt and a block whose own sum stands in bytes 8..12.
fn checksum(salt: u64, block: &[u8]) -> u32 {
    let (front, back) = (block.get(..8), block.get(12..));
    let salted = crc32c::crc32c_append(seed(salt), front.unwrap_or_default());
    crc32c::crc32c_append(salted, back.unwrap_or_default())
}

/// What every sum of a file continues.
fn seed(salt: u64) -> u32 {
    crc32c::crc32c(&salt.to_le_bytes())
}

/// The sum of the bytes of logical block `number`; never [`NEVER_WRITTEN`].
pub(crate) fn block_sum(salt: u64, number: u64, bytes: &[u8]) -> u32 {
    let placed = crc32c::crc32c_append(seed(salt), &number.to_le_bytes());
    match crc32c::crc32c_append(placed, bytes) {
        NEVER_WRITTEN => u32::MAX,
        sum => sum,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: u64 = 0x5a17;

    fn group(seed: u32) -> Group {
        let mut group = Group::empty();
        for index in 0..1016 {
            group.set(index as usize, seed + index);
        }
        group
    }

    fn slots(first: &[u8], second: &[u8]) -> Vec<u8> {
        [first, second].concat()
    }

    #[test]
    fn the_newer_slot_wins_and_a_torn_one_leaves_the_older() {
        let (older, newer) = (group(1).encode(SALT, 3, 5), group(1000).encode(SALT, 3, 6));
        let found = Group::newest(SALT, &slots(&older, &newer), 3).unwrap();
        assert_eq!((found.slot, found.generation, found.sum(1)), (1, 6, 1001));
        let mut torn = newer;
        torn[2048..].fill(0);
        let found = Group::newest(SALT, &slots(&older, &torn), 3).unwrap();
        assert_eq!((found.slot, found.generation, found.sum(1)), (0, 5, 2));
        assert_eq!(found.damaged, Some(1));
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        let whole = group(77).encode(SALT, 0, 2);
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(SALT, &flipped, 0, 0), None, "bit {bit}");
        }
    }

    #[test]
    fn an_unwritten_group_is_empty_but_two_bad_slots_are_not() {
        let (zero, bad) = (vec![0; BLOCK_BYTES], vec![9; BLOCK_BYTES]);
        assert_eq!(Group::newest(SALT, &slots(&zero, &zero), 0), Ok(Group::empty()));
        let torn = Group { damaged: Some(0), ..Group::empty() };
        assert_eq!(Group::newest(SALT, &slots(&bad, &zero), 0), Ok(torn));
        assert_eq!(Group::newest(SALT, &slots(&bad, &bad), 0), Err(0));
        assert_eq!(Group::newest(SALT, &slots(&zero, &bad), 0), Err(1));
        let of_another_file = group(1).encode(SALT + 1, 0, 9);
        assert_eq!(Group::newest(SALT, &slots(&of_another_file, &bad), 0), Err(0));
        let elsewhere = group(1).encode(SALT, 4, 9);
        assert_eq!(Group::newest(SALT, &slots(&elsewhere, &bad), 0), Err(0));
    }

    #[test]
    fn a_sum_depends_on_the_place_and_the_file() {
        let bytes = [3; BLOCK_BYTES];
        assert_ne!(block_sum(SALT, 1, &bytes), block_sum(SALT, 2, &bytes));
        assert_ne!(block_sum(SALT, 1, &bytes), block_sum(SALT + 1, 1, &bytes));
    }
}
