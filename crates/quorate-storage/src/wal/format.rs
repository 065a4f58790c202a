//! The frame of the log's bytes: segment headers, batch headers and footers, records, and how each is tied to the one before.
//!
//! Everything here is total: any bytes give a value or a [`Flaw`]. What stands inside records is [`super::record`]'s.
//! The byte-exact description is `docs/formats/wal.md`.

use crc32c::{crc32c, crc32c_append};

/// What a segment starts with.
pub(super) const SEGMENT_MAGIC: [u8; 8] = *b"QRTWLOG\0";
/// The version of the format that this code reads and writes.
pub(super) const VERSION: u32 = 2;
/// Length of a segment's header.
pub(super) const SEGMENT_HEADER_BYTES: usize = 72;
/// Where a segment's batches start: on a page of their own, so that no later write touches the header's.
pub(super) const DATA_START: u64 = 4096;
/// What a batch starts with.
pub(super) const BATCH_MAGIC: [u8; 4] = *b"QBAT";
/// Length of a batch's header.
pub(super) const BATCH_HEADER_BYTES: usize = 56;
/// What a batch's footer is known by.
pub(super) const FOOTER_MAGIC: [u8; 4] = *b"QEND";
/// Length of a batch's footer.
pub(super) const FOOTER_BYTES: usize = 16;
/// Length of a record's header.
pub(super) const RECORD_HEADER_BYTES: usize = 24;
/// Everything starts at a multiple of this.
pub(super) const ALIGN: usize = 8;

/// Which check failed.
pub(super) type Flaw = &'static str;

/// The header of a segment: which one it is, and where the one before ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub number: u64,
    pub size_bytes: u64,
    /// Number of the first batch in it.
    pub first_batch: u64,
    /// The opening of the log that made it.
    pub opening: u64,
    /// Where the batches of the segment before end; 0 in the first one.
    pub previous_end: u64,
    /// The chain there.
    pub chain: u32,
    /// Drawn anew for each use of the file, and in every batch: what anybody had stored does not know it.
    pub salt: u64,
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SEGMENT_HEADER_BYTES);
        bytes.extend_from_slice(&SEGMENT_MAGIC);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        for field in
            [self.number, self.size_bytes, self.first_batch, self.opening, self.previous_end]
        {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        bytes.extend_from_slice(&self.chain.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.salt.to_le_bytes());
        let crc = crc32c(bytes.get(12..).unwrap_or_default());
        set_u32(&mut bytes, 8, crc);
        bytes
    }

    pub(super) fn decode(image: &[u8]) -> Result<Self, Flaw> {
        let bytes = image.get(..SEGMENT_HEADER_BYTES).ok_or("segment header is cut off")?;
        let mut fields = Fields(bytes);
        if fields.take(8)? != SEGMENT_MAGIC.as_slice() {
            return Err("no segment magic");
        }
        let (crc, covered) = (fields.u32()?, fields.0);
        if crc != crc32c(covered) {
            return Err("segment header checksum");
        }
        if fields.u32()? != VERSION {
            return Err("unknown version of the log format");
        }
        let [number, size_bytes, first_batch, opening, previous_end] = fields.u64s()?;
        let (chain, _reserved, salt) = (fields.u32()?, fields.u32()?, fields.u64()?);
        Ok(Self { number, size_bytes, first_batch, opening, previous_end, chain, salt })
    }
}

/// The header of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BatchHeader {
    /// That of the segment's use.
    pub salt: u64,
    /// The segment it was written to: a recycled file shows its old batches with old numbers.
    pub segment: u64,
    /// Batches are numbered without gaps, from 1.
    pub batch: u64,
    /// All batches up to this number were durable when this one was written.
    pub synced: u64,
    /// The opening of the log that wrote it.
    pub opening: u64,
    /// Length of its records.
    pub records_bytes: u32,
    /// The chain before it.
    pub chain: u32,
}

impl BatchHeader {
    /// Appends the header to `buffer`; answers the chain behind it.
    pub(super) fn encode(&self, buffer: &mut Vec<u8>) -> u32 {
        let start = buffer.len();
        buffer.extend_from_slice(&BATCH_MAGIC);
        buffer.extend_from_slice(&[0; 4]);
        for field in [self.salt, self.segment, self.batch, self.synced, self.opening] {
            buffer.extend_from_slice(&field.to_le_bytes());
        }
        buffer.extend_from_slice(&self.records_bytes.to_le_bytes());
        buffer.extend_from_slice(&self.chain.to_le_bytes());
        let crc = crc32c(buffer.get(start + 8..).unwrap_or_default());
        set_u32(buffer, start + 4, crc);
        crc
    }

    /// The header at the start of `bytes`, and the chain behind it.
    pub(super) fn decode(bytes: &[u8]) -> Result<(Self, u32), Flaw> {
        let bytes = bytes.get(..BATCH_HEADER_BYTES).ok_or("batch header is cut off")?;
        let mut fields = Fields(bytes);
        if fields.take(4)? != BATCH_MAGIC.as_slice() {
            return Err("no batch magic");
        }
        let (crc, covered) = (fields.u32()?, fields.0);
        if crc != crc32c(covered) {
            return Err("batch header checksum");
        }
        let [salt, segment, batch, synced, opening] = fields.u64s()?;
        let (records_bytes, chain) = (fields.u32()?, fields.u32()?);
        Ok((Self { salt, segment, batch, synced, opening, records_bytes, chain }, crc))
    }
}

/// One record as it stands in a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Raw<'a> {
    pub kind: u8,
    pub flags: u8,
    pub count: u32,
    pub group: u64,
    pub body: &'a [u8],
    /// Where the record starts in the image it was read from.
    pub offset: usize,
    /// Its length with header and padding.
    pub bytes: usize,
    /// The chain before it.
    pub seed: u32,
}

/// The record at `offset` of `image`, which has to be tied to `seed`; and the chain behind it.
pub(super) fn record_at(image: &[u8], offset: usize, seed: u32) -> Result<(Raw<'_>, u32), Flaw> {
    let rest = image.get(offset..).ok_or("record is cut off")?;
    let mut fields = Fields(rest);
    let crc = fields.u32()?;
    let length = usize::try_from(fields.u32()?).map_err(|_| "record is too long")?;
    let bytes = record_bytes(length);
    let covered = rest.get(4..bytes).ok_or("record is cut off")?;
    if crc != crc32c_append(seed, covered) {
        return Err("record checksum");
    }
    let [kind, flags] = fields.array::<2>()?;
    let _reserved = fields.array::<2>()?;
    let (count, group) = (fields.u32()?, fields.u64()?);
    let body = fields.take(length)?;
    Ok((Raw { kind, flags, count, group, body, offset, bytes, seed }, crc))
}

/// Length of a record with a body of `body_bytes`.
pub(super) fn record_bytes(body_bytes: usize) -> usize {
    RECORD_HEADER_BYTES.saturating_add(body_bytes).saturating_add(ALIGN - 1) / ALIGN * ALIGN
}

/// What the next batch has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Expected {
    pub salt: u64,
    pub segment: u64,
    pub batch: u64,
    /// At least.
    pub opening: u64,
    pub chain: u32,
}

/// A batch that passed every check.
#[derive(Clone, Copy, Debug)]
pub(super) struct Batch {
    pub header: BatchHeader,
    pub end: usize,
    /// The chain behind it.
    pub chain: u32,
}

/// The batch at `offset` of `image`; its records go to `records`.
pub(super) fn batch_at<'a>(
    image: &'a [u8],
    offset: usize,
    expected: &Expected,
    records: &mut Vec<Raw<'a>>,
) -> Result<Batch, Flaw> {
    records.clear();
    let (header, mut chain) = BatchHeader::decode(image.get(offset..).unwrap_or_default())?;
    if header.salt != expected.salt
        || header.segment != expected.segment
        || header.batch != expected.batch
        || header.opening < expected.opening
        || header.chain != expected.chain
    {
        return Err("batch does not follow the one before");
    }
    let mut at = offset + BATCH_HEADER_BYTES;
    let length = usize::try_from(header.records_bytes).map_err(|_| "batch is too long")?;
    let records_end = at.checked_add(length).ok_or("batch is too long")?;
    while at < records_end {
        let (raw, next) = record_at(image, at, chain)?;
        at += raw.bytes;
        chain = next;
        records.push(raw);
    }
    if at != records_end {
        return Err("records end behind their batch");
    }
    let chain = footer_at(image, at, chain, records.len(), at + FOOTER_BYTES - offset)?;
    Ok(Batch { header, end: at + FOOTER_BYTES, chain })
}

fn footer_at(
    image: &[u8],
    offset: usize,
    seed: u32,
    records: usize,
    bytes: usize,
) -> Result<u32, Flaw> {
    let footer = image.get(offset..).and_then(|rest| rest.get(..FOOTER_BYTES));
    let mut fields = Fields(footer.ok_or("batch footer is cut off")?);
    let (crc, covered) = (fields.u32()?, fields.0);
    if crc != crc32c_append(seed, covered) {
        return Err("batch footer checksum");
    }
    let magic = fields.take(4)? == FOOTER_MAGIC.as_slice();
    let same = (fields.u32()? as usize, fields.u32()? as usize) == (records, bytes);
    if magic && same { Ok(crc) } else { Err("batch footer does not fit its batch") }
}

/// Writes one batch into a buffer that is used again and again.
#[derive(Debug, Default)]
pub(super) struct BatchWriter {
    buffer: Vec<u8>,
    chain: u32,
    records: u32,
}

impl BatchWriter {
    pub(super) fn start(&mut self, header: &BatchHeader) {
        self.buffer.clear();
        self.records = 0;
        self.chain = header.encode(&mut self.buffer);
    }

    /// Appends a record whose body `body` writes.
    pub(super) fn record(
        &mut self,
        (kind, flags, count, group): (u8, u8, u32, u64),
        body: impl FnOnce(&mut Vec<u8>),
    ) -> Written {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(&[0; 8]);
        self.buffer.extend_from_slice(&[kind, flags, 0, 0]);
        self.buffer.extend_from_slice(&count.to_le_bytes());
        self.buffer.extend_from_slice(&group.to_le_bytes());
        body(&mut self.buffer);
        let length = self.buffer.len() - start - RECORD_HEADER_BYTES;
        self.buffer.resize(start + record_bytes(length), 0);
        set_u32(&mut self.buffer, start + 4, u32::try_from(length).unwrap_or(u32::MAX));
        let seed = self.chain;
        self.chain = crc32c_append(seed, self.buffer.get(start + 4..).unwrap_or_default());
        set_u32(&mut self.buffer, start, self.chain);
        self.records += 1;
        Written { offset: start, bytes: self.buffer.len() - start, seed }
    }

    /// Appends the footer; answers the batch and the chain behind it.
    pub(super) fn finish(&mut self) -> (&[u8], u32) {
        let start = self.buffer.len();
        let bytes = u32::try_from(start + FOOTER_BYTES).unwrap_or(u32::MAX);
        self.buffer.extend_from_slice(&[0; 4]);
        self.buffer.extend_from_slice(&FOOTER_MAGIC);
        self.buffer.extend_from_slice(&self.records.to_le_bytes());
        self.buffer.extend_from_slice(&bytes.to_le_bytes());
        self.chain = crc32c_append(self.chain, self.buffer.get(start + 4..).unwrap_or_default());
        set_u32(&mut self.buffer, start, self.chain);
        (&self.buffer, self.chain)
    }
}

/// Where in its batch a record was written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written {
    pub offset: usize,
    pub bytes: usize,
    pub seed: u32,
}

/// Reads little-endian fields from the front of bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn take(&mut self, bytes: usize) -> Result<&'a [u8], Flaw> {
        let (taken, rest) = self.0.split_at_checked(bytes).ok_or("field is cut off")?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Flaw> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or("field is cut off")?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Flaw> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, Flaw> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn u64s<const N: usize>(&mut self) -> Result<[u64; N], Flaw> {
        let mut numbers = [0; N];
        for number in &mut numbers {
            *number = self.u64()?;
        }
        Ok(numbers)
    }
}

fn set_u32(bytes: &mut [u8], offset: usize, value: u32) {
    if let Some(place) = bytes.get_mut(offset..offset + 4) {
        place.copy_from_slice(&value.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(writer: &mut BatchWriter) -> (Vec<u8>, Expected) {
        let body = b"thirteen chars";
        let header = BatchHeader {
            salt: 0x5a17,
            segment: 7,
            batch: 3,
            synced: 2,
            opening: 1,
            records_bytes: u32::try_from(record_bytes(body.len()) + record_bytes(0)).unwrap(),
            chain: 99,
        };
        writer.start(&header);
        writer.record((1, 0, 2, 5), |buffer| buffer.extend_from_slice(body));
        writer.record((2, 1, 0, 6), |_| {});
        (
            writer.finish().0.to_vec(),
            Expected { salt: 0x5a17, segment: 7, batch: 3, opening: 1, chain: 99 },
        )
    }

    #[test]
    fn a_batch_reads_back_as_written() {
        let (image, expected) = batch(&mut BatchWriter::default());
        let mut records = Vec::new();
        let read = batch_at(&image, 0, &expected, &mut records).unwrap();
        assert_eq!(read.end, image.len());
        assert_eq!(records.len(), 2);
        assert_eq!(records[0].body, b"thirteen chars");
        assert_eq!((records[1].kind, records[1].flags, records[1].group), (2, 1, 6));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_of_a_batch_is_noticed() {
        let (image, expected) = batch(&mut BatchWriter::default());
        let mut records = Vec::new();
        for at in 0..image.len() {
            for bit in 0..8 {
                let mut flipped = image.clone();
                flipped[at] ^= 1 << bit;
                assert!(batch_at(&flipped, 0, &expected, &mut Vec::new()).is_err(), "{at} {bit}");
            }
            assert!(batch_at(&image[..at], 0, &expected, &mut records).is_err());
        }
    }

    #[test]
    fn a_batch_of_another_place_is_refused() {
        let (image, expected) = batch(&mut BatchWriter::default());
        for wrong in [
            Expected { salt: 1, ..expected },
            Expected { segment: 8, ..expected },
            Expected { batch: 4, ..expected },
            Expected { opening: 2, ..expected },
            Expected { chain: 98, ..expected },
        ] {
            assert!(batch_at(&image, 0, &wrong, &mut Vec::new()).is_err());
        }
    }

    #[test]
    fn a_segment_header_reads_back_and_notices_every_flip() {
        let header = SegmentHeader {
            number: 4,
            size_bytes: 8192,
            first_batch: 17,
            opening: 2,
            previous_end: 8000,
            chain: 5,
            salt: 6,
        };
        let image = header.encode();
        assert_eq!(image.len(), SEGMENT_HEADER_BYTES);
        assert_eq!(SegmentHeader::decode(&image).unwrap(), header);
        for at in 0..image.len() {
            let mut flipped = image.clone();
            flipped[at] ^= 1;
            assert!(SegmentHeader::decode(&flipped).is_err(), "{at}");
        }
    }
}
