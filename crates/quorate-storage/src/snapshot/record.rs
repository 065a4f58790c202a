//! What the payloads of all chunks, one behind the other, say.
//!
//! ```text
//! stream = head, then per table: table, pairs in key order; then end
//! head   = 0x00, version u32 = 1, index u64, term u64, length u32, header
//! table  = 0x01, length u8, name
//! pair   = 0x02, key length u32, value length u32, key, value
//! end    = 0x03, number of pairs u64, bytes of payload before this record u64, their CRC32C u32
//! ```
//!
//! Integers are little-endian. A record may cross chunks.

use bytes::{Buf, Bytes, BytesMut};

use super::{RECORD_BYTES_MAX, SnapshotHead};

const VERSION: u32 = 1;
const HEAD: u8 = 0;
const TABLE: u8 = 1;
const PAIR: u8 = 2;
const END: u8 = 3;
/// Bytes of a record before what has no fixed length.
const HEAD_BYTES: usize = 25;
const PAIR_BYTES: usize = 9;
const END_BYTES: usize = 21;

/// One record of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Record {
    /// What it is a snapshot of: the first record.
    Head(SnapshotHead),
    /// The pairs that follow are this table's.
    Table(String),
    /// A key and its value. Keys of a table ascend.
    Pair(Bytes, Bytes),
    /// The last record; what was read before agrees with it.
    End {
        /// How many pairs the snapshot has.
        pairs: u64,
    },
}

/// Counts what a stream holds, on both sides.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    pairs: u64,
    bytes: u64,
    sum: u32,
}

impl Totals {
    fn add(&mut self, record: &[u8]) {
        self.bytes += record.len() as u64;
        self.sum = crc32c::crc32c_append(self.sum, record);
        self.pairs += u64::from(record.first() == Some(&PAIR));
    }
}

/// Writes records into a buffer from which chunks are cut.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    pub(super) buffer: BytesMut,
    totals: Totals,
}

impl Encoder {
    pub(super) fn head(&mut self, head: &SnapshotHead) {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(&[HEAD]);
        self.buffer.extend_from_slice(&VERSION.to_le_bytes());
        self.buffer.extend_from_slice(&head.index.to_le_bytes());
        self.buffer.extend_from_slice(&head.term.to_le_bytes());
        self.length(head.header.len());
        self.buffer.extend_from_slice(&head.header);
        self.count(start);
    }

    pub(super) fn table(&mut self, name: &str) {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(&[TABLE, u8::try_from(name.len()).unwrap_or(u8::MAX)]);
        self.buffer.extend_from_slice(name.as_bytes());
        self.count(start);
    }

    pub(super) fn pair(&mut self, key: &[u8], value: &[u8]) {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(&[PAIR]);
        self.length(key.len());
        self.length(value.len());
        self.buffer.extend_from_slice(key);
        self.buffer.extend_from_slice(value);
        self.count(start);
    }

    pub(super) fn end(&mut self) {
        self.buffer.extend_from_slice(&[END]);
        self.buffer.extend_from_slice(&self.totals.pairs.to_le_bytes());
        self.buffer.extend_from_slice(&self.totals.bytes.to_le_bytes());
        self.buffer.extend_from_slice(&self.totals.sum.to_le_bytes());
    }

    fn length(&mut self, bytes: usize) {
        let length = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.buffer.extend_from_slice(&length.to_le_bytes());
    }

    fn count(&mut self, start: usize) {
        self.totals.add(self.buffer.get(start..).unwrap_or_default());
    }
}

/// Reads records from payloads as they come.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    buffer: BytesMut,
    totals: Totals,
    started: bool,
    in_table: bool,
    pub(super) ended: bool,
}

impl Decoder {
    pub(super) fn push(&mut self, payload: &[u8]) {
        self.buffer.extend_from_slice(payload);
    }

    /// Bytes of the stream before the record that comes next.
    pub(super) fn position(&self) -> u64 {
        self.totals.bytes
    }

    /// Whether bytes are left that belong to a record whose rest is not here.
    pub(super) fn has_rest(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// The next record, or `None` when more bytes are needed.
    pub(super) fn next(&mut self) -> Result<Option<Record>, String> {
        let Some(length) = record_bytes(&self.buffer)? else {
            return Ok(None);
        };
        if self.buffer.len() < length {
            return Ok(None);
        }
        let raw = self.buffer.split_to(length).freeze();
        self.check_order(raw.first().copied().unwrap_or_default())?;
        let before = self.totals;
        self.totals.add(&raw);
        let record = parse(raw, before)?;
        self.ended = matches!(record, Record::End { .. });
        Ok(Some(record))
    }

    fn check_order(&mut self, tag: u8) -> Result<(), String> {
        let fits = match tag {
            HEAD => !self.started,
            PAIR => self.started && self.in_table,
            _ => self.started,
        };
        self.started = true;
        self.in_table |= tag == TABLE;
        if !fits || self.ended {
            return Err(format!("a record of kind {tag} is out of place"));
        }
        Ok(())
    }
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<usize> {
    let field = bytes.get(offset..)?.first_chunk::<4>()?;
    usize::try_from(u32::from_le_bytes(*field)).ok()
}

/// The length of the record at the start of `bytes`, once enough of it is there to tell.
fn record_bytes(bytes: &[u8]) -> Result<Option<usize>, String> {
    let Some(tag) = bytes.first() else {
        return Ok(None);
    };
    let length = match *tag {
        HEAD => u32_at(bytes, 21).map(|header| HEAD_BYTES + header),
        TABLE => bytes.get(1).map(|name| 2 + usize::from(*name)),
        PAIR => u32_at(bytes, 1).zip(u32_at(bytes, 5)).map(|(key, value)| PAIR_BYTES + key + value),
        END => Some(END_BYTES),
        other => return Err(format!("no record is of kind {other}")),
    };
    match length {
        Some(bytes) if bytes > RECORD_BYTES_MAX => {
            Err(format!("a record of {bytes} bytes is over the limit of {RECORD_BYTES_MAX}"))
        }
        length => Ok(length),
    }
}

/// The record in `raw`, whose length is right. `before` counts what came before it.
fn parse(mut raw: Bytes, before: Totals) -> Result<Record, String> {
    match raw.get_u8() {
        HEAD => {
            let version = raw.get_u32_le();
            if version != VERSION {
                return Err(format!("snapshot format {version}; this program reads {VERSION}"));
            }
            let (index, term) = (raw.get_u64_le(), raw.get_u64_le());
            raw.advance(4);
            Ok(Record::Head(SnapshotHead { index, term, header: raw }))
        }
        TABLE => {
            raw.advance(1);
            let name = String::from_utf8(raw.to_vec());
            Ok(Record::Table(name.map_err(|_| "a table's name is not UTF-8".to_owned())?))
        }
        PAIR => {
            let key_bytes = usize::try_from(raw.get_u32_le()).unwrap_or(usize::MAX);
            raw.advance(4);
            let key = raw.split_to(key_bytes);
            Ok(Record::Pair(key, raw))
        }
        _ => {
            let (pairs, bytes, sum) = (raw.get_u64_le(), raw.get_u64_le(), raw.get_u32_le());
            if (pairs, bytes, sum) != (before.pairs, before.bytes, before.sum) {
                return Err(format!(
                    "{} pairs, {} bytes, sum {:08x} where {pairs}, {bytes}, {sum:08x} are named",
                    before.pairs, before.bytes, before.sum
                ));
            }
            Ok(Record::End { pairs })
        }
    }
}
