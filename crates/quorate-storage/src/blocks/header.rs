//! The header of a block file: its generation, its logical length, and the tenant's block 0.
//!
//! redb rewrites its own header block in place, and needs it after every crash. So that block travels inside ours, which
//! is never overwritten in place: each sync writes the slot that does *not* hold the newest durable header, and
//! writes it twice, in two blocks.
//!
//! - A crash in the middle damages at most the slot being written: the other one is whole, and is what it was before.
//! - A flipped bit damages one copy of one slot: the other copy is whole. Were there only one, a flip in the newest
//!   slot would look like a torn write and silently bring an older state back.
//!
//! | Bytes | What |
//! |---|---|
//! | 0..8 | magic `QRSTATE` 0x02 (the last byte is the format's version) |
//! | 8..12 | which block of the header this is, 0 to 3 |
//! | 12..16 | CRC32C of the block without these four bytes |
//! | 16..24 | generation |
//! | 24..32 | logical length in bytes |
//! | 32..40 | salt: drawn when the file is made, and in every sum of it |
//! | 40..64 | zero |
//! | 64..4096 | the first 4032 bytes of logical block 0 |
//!
//! Integers are little-endian.

use super::layout::{BLOCK_BYTES, HEADER_BLOCKS, LENGTH_BYTES_MAX};

const MAGIC: [u8; 8] = *b"QRSTATE\x02";
const FIELDS_BYTES: usize = 64;
/// How much of logical block 0 the header holds; redb uses 320 bytes of it.
pub(crate) const PAYLOAD_BYTES: usize = BLOCK_BYTES - FIELDS_BYTES;

/// What a header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Counts syncs; the larger of two valid headers is the newer.
    pub(crate) generation: u64,
    /// The tenant's length in bytes.
    pub(crate) length: u64,
    /// What the sums of this file are salted with.
    pub(crate) salt: u64,
    /// The start of the tenant's block 0.
    pub(crate) payload: Vec<u8>,
}

impl Header {
    /// The header of an empty file.
    pub(crate) fn new(salt: u64) -> Self {
        Self { generation: 1, length: 0, salt, payload: vec![0; PAYLOAD_BYTES] }
    }

    /// The slot that holds `generation`.
    pub(crate) fn slot(generation: u64) -> u8 {
        u8::from(generation % 2 == 1)
    }

    /// The numbers of the two blocks (of the header's four) that slot `slot` is written to.
    pub(crate) fn copies(slot: u8) -> [u8; 2] {
        [slot, slot + 2]
    }

    /// The bytes of block `number` of the header.
    pub(crate) fn encode(&self, number: u8) -> Vec<u8> {
        let mut block = Vec::with_capacity(BLOCK_BYTES);
        block.extend_from_slice(&MAGIC);
        block.extend_from_slice(&u32::from(number).to_le_bytes());
        block.extend_from_slice(&[0; 4]);
        block.extend_from_slice(&self.generation.to_le_bytes());
        block.extend_from_slice(&self.length.to_le_bytes());
        block.extend_from_slice(&self.salt.to_le_bytes());
        block.resize(FIELDS_BYTES, 0);
        block.extend_from_slice(&self.payload);
        block.resize(BLOCK_BYTES, 0);
        let sum = checksum(&block).to_le_bytes();
        if let Some(field) = block.get_mut(12..16) {
            field.copy_from_slice(&sum);
        }
        block
    }

    /// The header in block `number`, if it is whole.
    pub(crate) fn decode(block: &[u8], number: u8) -> Option<Self> {
        let whole = block.len() == BLOCK_BYTES
            && block.starts_with(&MAGIC)
            && u32_at(block, 8)? == u32::from(number)
            && u32_at(block, 12)? == checksum(block);
        let header = Self {
            generation: u64_at(block, 16)?,
            length: u64_at(block, 24)?,
            salt: u64_at(block, 32)?,
            payload: block.get(FIELDS_BYTES..)?.to_vec(),
        };
        let sane = header.generation >= 1
            && header.length <= LENGTH_BYTES_MAX
            && Self::copies(Self::slot(header.generation)).contains(&number);
        (whole && sane).then_some(header)
    }

    /// The newest whole header among the header's four blocks.
    pub(crate) fn newest(blocks: &[u8]) -> Option<Self> {
        let numbers = 0..u8::try_from(HEADER_BLOCKS).unwrap_or(0);
        let whole = numbers.zip(blocks.chunks(BLOCK_BYTES));
        whole
            .filter_map(|(number, block)| Self::decode(block, number))
            .max_by_key(|header| header.generation)
    }
}

/// CRC32C of a block whose own sum stands in bytes 12..16.
fn checksum(block: &[u8]) -> u32 {
    let (front, back) = (block.get(..12), block.get(16..));
    crc32c::crc32c_append(crc32c::crc32c(front.unwrap_or_default()), back.unwrap_or_default())
}

/// The little-endian `u32` at `offset`.
pub(super) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let field = bytes.get(offset..)?.first_chunk::<4>()?;
    Some(u32::from_le_bytes(*field))
}

/// The little-endian `u64` at `offset`.
pub(super) fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    let field = bytes.get(offset..)?.first_chunk::<8>()?;
    Some(u64::from_le_bytes(*field))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(generation: u64) -> Header {
        Header { generation, length: 8192 * generation, salt: 3, payload: vec![7; PAYLOAD_BYTES] }
    }

    /// The four blocks after generations `older` and `newer` were written.
    fn blocks(older: u64, newer: u64) -> Vec<u8> {
        let mut blocks = vec![0; BLOCK_BYTES * 4];
        for generation in [older, newer] {
            for number in Header::copies(Header::slot(generation)) {
                let start = usize::from(number) * BLOCK_BYTES;
                let bytes = header(generation).encode(number);
                blocks[start..start + BLOCK_BYTES].copy_from_slice(&bytes);
            }
        }
        blocks
    }

    #[test]
    fn the_newest_whole_header_wins() {
        assert_eq!(Header::newest(&blocks(4, 5)), Some(header(5)));
        assert_eq!(Header::newest(&blocks(4, 3)), Some(header(4)));
        assert_eq!(Header::newest(&vec![0; BLOCK_BYTES * 4]), None);
        assert_eq!(Header::newest(b"short"), None);
    }

    #[test]
    fn no_flipped_bit_brings_an_older_header_back() {
        let whole = blocks(8, 9);
        for bit in (0..whole.len() * 8).step_by(101) {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::newest(&flipped), Some(header(9)), "bit {bit}");
        }
    }

    #[test]
    fn a_torn_slot_leaves_the_one_before() {
        let mut torn = blocks(8, 9);
        for number in Header::copies(Header::slot(9)) {
            let start = usize::from(number) * BLOCK_BYTES;
            torn[start + 512..start + 1024].fill(0xa5);
        }
        assert_eq!(Header::newest(&torn), Some(header(8)));
    }
}
