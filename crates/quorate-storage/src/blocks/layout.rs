//! Where things lie in a block file: pure arithmetic.
//!
//! ```text
//! block 0..4       header: slot 0 copy a, slot 1 copy a, slot 0 copy b, slot 1 copy b
//! then, per group  sum slot 0, sum slot 1, 1016 data blocks
//! ```
//!
//! *Logical* offsets are what the tenant (redb) sees; its block 0 lives inside the header, its block `n >= 1` is data block
//! `(n - 1) % 1016` of group `(n - 1) / 1016`. *Physical* offsets are positions in the file and what errors name.

/// Unit of everything: of checksums, of reads and writes, of what a crash may tear.
pub(crate) const BLOCK_BYTES: usize = 4096;
/// [`BLOCK_BYTES`] as an offset.
pub(crate) const BLOCK: u64 = BLOCK_BYTES as u64;
/// Blocks of the header: two slots, two copies each.
pub(crate) const HEADER_BLOCKS: u64 = 4;
/// Sums in one sum block.
pub(crate) const SUMS_PER_GROUP: u64 = 1016;
/// Physical blocks in a group: two sum slots and the data.
const GROUP_BLOCKS: u64 = 2 + SUMS_PER_GROUP;
/// The largest logical length: 1 PiB, so that group numbers fit in 32 bits with room to spare.
pub(crate) const LENGTH_BYTES_MAX: u64 = 1 << 50;

/// The group of logical block `block >= 1`, and its place there.
pub(crate) fn place(block: u64) -> (u32, usize) {
    let index = block.saturating_sub(1);
    let group = u32::try_from(index / SUMS_PER_GROUP).unwrap_or(u32::MAX);
    (group, usize::try_from(index % SUMS_PER_GROUP).unwrap_or(0))
}

/// Where sum slot `slot` (0 or 1) of `group` lies.
pub(crate) fn sum_offset(group: u32, slot: u8) -> u64 {
    (HEADER_BLOCKS + u64::from(group) * GROUP_BLOCKS + u64::from(slot)) * BLOCK
}

/// Where logical block `block >= 1` lies.
pub(crate) fn data_offset(block: u64) -> u64 {
    let (group, index) = place(block);
    (HEADER_BLOCKS + u64::from(group) * GROUP_BLOCKS + 2 + index as u64) * BLOCK
}

/// How many blocks from `block >= 1` on lie next to each other in the file, up to the end of the group.
pub(crate) fn run_blocks(block: u64) -> u64 {
    SUMS_PER_GROUP - place(block).1 as u64
}

/// The size of a file whose logical length is `length`.
pub(crate) fn file_bytes(length: u64) -> u64 {
    let blocks = length.div_ceil(BLOCK);
    if blocks <= 1 { HEADER_BLOCKS * BLOCK } else { data_offset(blocks - 1) + BLOCK }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_and_sums_never_overlap() {
        let mut taken = std::collections::BTreeSet::new();
        taken.extend((0..HEADER_BLOCKS).map(|block| block * BLOCK));
        for group in 0..3 {
            assert!(taken.insert(sum_offset(group, 0)));
            assert!(taken.insert(sum_offset(group, 1)));
        }
        for block in 1..=3 * SUMS_PER_GROUP {
            assert!(taken.insert(data_offset(block)), "block {block}");
        }
        let end = taken.last().unwrap() + BLOCK;
        assert_eq!(taken.len() as u64 * BLOCK, end, "there are no holes");
        assert_eq!(file_bytes((1 + 3 * SUMS_PER_GROUP) * BLOCK), end);
    }

    #[test]
    fn runs_end_with_their_group() {
        assert_eq!(run_blocks(1), SUMS_PER_GROUP);
        assert_eq!(run_blocks(SUMS_PER_GROUP), 1);
        assert_eq!(run_blocks(SUMS_PER_GROUP + 1), SUMS_PER_GROUP);
        assert_eq!(place(SUMS_PER_GROUP + 1), (1, 0));
    }

    #[test]
    fn a_file_holds_its_header_at_least() {
        assert_eq!(file_bytes(0), 4 * BLOCK);
        assert_eq!(file_bytes(BLOCK), 4 * BLOCK);
        assert_eq!(file_bytes(2 * BLOCK), 7 * BLOCK);
    }
}
