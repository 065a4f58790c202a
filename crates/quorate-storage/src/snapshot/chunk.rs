//! One piece of a snapshot on its way.
//!
//! | Bytes | What |
//! |---|---|
//! | 0..4 | magic `QSN2` |
//! | 4..8 | CRC32C of everything behind these eight bytes |
//! | 8..12 | length of the payload |
//! | 12 | 1 when it is the last chunk, else 0 |
//! | 13..16 | zero |
//! | 16..24 | sequence number, from 0 |
//! | 24..28 | the CRC32C of the chunk before, 0 for the first |
//! | 28..32 | zero |
//! | 32..40 | salt: drawn by the sender for this transfer, the same in all of its chunks |
//! | 40.. | payload |
//!
//! Integers are little-endian.

use bytes::Bytes;

use super::CHUNK_BYTES_MAX;

const MAGIC: [u8; 4] = *b"QSN2";
/// Bytes before the payload.
pub(crate) const CHUNK_HEADER_BYTES: usize = 40;

/// One piece of a snapshot, encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Its place in the stream, from 0.
    pub sequence: u64,
    /// Whether the snapshot ends with it.
    pub last: bool,
    /// What travels and what the receiver is given.
    pub bytes: Bytes,
}

impl Chunk {
    pub(super) fn encode(
        salt: u64,
        (sequence, previous): (u64, u32),
        last: bool,
        payload: &[u8],
    ) -> Self {
        let mut bytes = Vec::with_capacity(CHUNK_HEADER_BYTES + payload.len());
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend_from_slice(&[u8::from(last), 0, 0, 0]);
        bytes.extend_from_slice(&sequence.to_le_bytes());
        bytes.extend_from_slice(&previous.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&salt.to_le_bytes());
        bytes.extend_from_slice(payload);
        let sum = crc32c::crc32c(bytes.get(8..).unwrap_or_default());
        if let Some(field) = bytes.get_mut(4..8) {
            field.copy_from_slice(&sum.to_le_bytes());
        }
        Self { sequence, last, bytes: bytes.into() }
    }
}

/// A chunk that passed its check.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decoded<'a> {
    pub(super) sequence: u64,
    pub(super) last: bool,
    pub(super) sum: u32,
    pub(super) previous: u32,
    pub(super) salt: u64,
    pub(super) payload: &'a [u8],
}

/// The length of the payload behind the header of a chunk; it is not checked yet but for its limit.
pub(super) fn payload_bytes(header: &[u8]) -> Result<usize, String> {
    let (Some(magic), Some(length)) = (header.first_chunk::<4>(), u32_at(header, 8)) else {
        return Err(format!("{} bytes are no chunk", header.len()));
    };
    if *magic != MAGIC {
        return Err(format!("no chunk starts with {magic:02x?}"));
    }
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > CHUNK_BYTES_MAX {
        return Err(format!("a payload of {length} bytes is over the limit of {CHUNK_BYTES_MAX}"));
    }
    Ok(length)
}

/// Checks one whole chunk.
pub(super) fn decode(bytes: &[u8]) -> Result<Decoded<'_>, String> {
    let length = payload_bytes(bytes)?;
    let payload = bytes.get(CHUNK_HEADER_BYTES..).unwrap_or_default();
    if payload.len() != length {
        return Err(format!("{} bytes of payload where {length} are named", payload.len()));
    }
    let sum = u32_at(bytes, 4).unwrap_or_default();
    let actual = crc32c::crc32c(bytes.get(8..).unwrap_or_default());
    if sum != actual {
        return Err(format!("its checksum is {actual:08x} where {sum:08x} is named"));
    }
    Ok(Decoded {
        sequence: u64_at(bytes, 16).unwrap_or_default(),
        last: bytes.get(12) == Some(&1),
        sum,
        previous: u32_at(bytes, 24).unwrap_or_default(),
        salt: u64_at(bytes, 32).unwrap_or_default(),
        payload,
    })
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let field = bytes.get(offset..)?.first_chunk::<4>()?;
    Some(u32::from_le_bytes(*field))
}

fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    let field = bytes.get(offset..)?.first_chunk::<8>()?;
    Some(u64::from_le_bytes(*field))
}

/// Where the stream stands: which chunk comes next, and what it must follow.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Chain {
    pub(super) next: u64,
    sum: u32,
    /// That of the first chunk; 0 before.
    salt: u64,
    pub(super) complete: bool,
}

impl Chain {
    /// The chain of a sender.
    pub(super) fn salted(salt: u64) -> Self {
        Self { salt, ..Self::default() }
    }

    /// Checks that `bytes` are the next chunk; the chain moves on only with [`Chain::follow`].
    pub(super) fn check<'a>(&self, bytes: &'a [u8]) -> Result<Decoded<'a>, String> {
        if self.complete {
            return Err("the snapshot is complete".into());
        }
        let chunk = decode(bytes)?;
        if chunk.sequence != self.next {
            return Err(format!("it is chunk {}", chunk.sequence));
        }
        if chunk.previous != self.sum || (self.next > 0 && chunk.salt != self.salt) {
            return Err("it follows another chunk: it is from another snapshot".into());
        }
        Ok(chunk)
    }

    pub(super) fn follow(&mut self, chunk: Decoded<'_>) {
        let Decoded { sum, salt, last: complete, .. } = chunk;
        *self = Self { next: self.next + 1, sum, salt, complete };
    }

    /// The chunk that comes next, with this payload.
    pub(super) fn append(&mut self, last: bool, payload: &[u8]) -> Chunk {
        let chunk = Chunk::encode(self.salt, (self.next, self.sum), last, payload);
        let sum = u32_at(&chunk.bytes, 4).unwrap_or_default();
        *self = Self { next: self.next + 1, sum, complete: last, ..*self };
        chunk
    }
}
