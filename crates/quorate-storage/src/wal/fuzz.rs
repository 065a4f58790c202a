//! Doors for fuzzing and for judges: what recovery does, on bytes that nobody checked before; and the best forgery of somebody who
//! knows the format and no salt.

use super::{
    format::{self, BatchHeader, DATA_START, Expected, Raw, SegmentHeader},
    index::LogIndex,
    recover,
};

/// How many segments ahead a forger looks.
const FORGED_SEGMENTS: u64 = 16;

/// Reads `image` as a segment, whatever it is, and answers how many good batches and records it starts with.
pub fn decode_segment(image: &[u8]) -> (u64, u64) {
    let (mut batches, mut records_seen) = (0, 0);
    let Ok(header) = SegmentHeader::decode(image) else { return (0, 0) };
    let SegmentHeader { number: segment, first_batch: batch, opening, chain, salt, .. } = header;
    let mut expected = Expected { salt, segment, batch, opening, chain };
    let mut at = usize::try_from(DATA_START).unwrap_or(usize::MAX);
    let mut records: Vec<Raw<'_>> = Vec::new();
    let mut index = LogIndex::default();
    while let Ok(read) = format::batch_at(image, at, &expected, &mut records) {
        for raw in &records {
            if recover::apply(&mut index, segment, raw).is_err() {
                return (batches, records_seen);
            }
            records_seen += 1;
        }
        batches += 1;
        at = read.end;
        let Some(batch) = read.header.batch.checked_add(1) else { break };
        expected = Expected { batch, opening: read.header.opening, chain: read.chain, ..expected };
    }
    (batches, records_seen)
}

/// Reads `bytes` as bodies of records, each behind its kind, flags, count, group and length (one byte each, the length
/// two), and replays them: past the checksums, which stop most random input. Answers how many fitted.
pub fn decode_records(mut bytes: &[u8]) -> u64 {
    let mut index = LogIndex::default();
    let mut fitting = 0;
    while let Some(([kind, flags, count, group, low, high], rest)) = bytes.split_first_chunk() {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (body, behind) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        let raw = Raw {
            kind: *kind % 6,
            flags: *flags,
            count: u32::from(*count),
            group: u64::from(*group % 3),
            body,
            offset: 0,
            bytes: length,
            seed: 0,
        };
        fitting += u64::from(recover::apply(&mut index, 1, &raw).is_ok());
        bytes = behind;
    }
    let _ = index.gap();
    fitting
}

/// Headers of batches that claim to stand in the segments from `segment` on, with a salt of 0, and that say of every batch that it is
/// durable: `bytes` of them, each segment's turn again and again. The first starts at byte `lead`.
pub fn forged_headers(segment: u64, (lead, bytes): (usize, usize)) -> Vec<u8> {
    let mut forged = vec![0; lead];
    for number in (segment..segment.saturating_add(FORGED_SEGMENTS)).cycle() {
        if forged.len() >= bytes {
            break;
        }
        let header = BatchHeader {
            salt: 0,
            segment: number,
            batch: u64::MAX,
            synced: u64::MAX,
            opening: 1,
            records_bytes: 0,
            chain: 0,
        };
        let _ = header.encode(&mut forged);
    }
    forged
}
