//! How the key space lies in the engine. Byte-exact in `docs/formats/kv.md`.
//!
//! | Table | Key | Value |
//! |---|---|---|
//! | `meta` | `schema` | 8 bytes big-endian: [`SCHEMA_VERSION`] |
//! | | `state` | [`State`]: applied entry, revisions, purge cursor |
//! | `rev` | main 8 bytes, sub 4 bytes, big-endian, then `t` if a deletion | protobuf `KeyValue`, byte for byte etcd's |
//! | `idx` | escaped user key, `00 00`, inverted main 8 bytes big-endian | [`Stamp`]: flags, sub, create revision, version, lease |
//! | `lease` | id, sign flipped, 8 bytes big-endian | protobuf `{1: ttl, 2: remaining_ttl}` |
//! | `lease_key` | lease id as above, user key | nothing |
//! | `alarm` | kind 4 bytes, member 8 bytes, big-endian | nothing |
//! | `member` | id 8 bytes, big-endian | data directory 8 bytes, big-endian |
//!
//! Why two tables for one change: `rev` is history in the order in which it was made (watches, hashes, purging), `idx`
//! finds the version of a key that was newest at some revision with one seek, since the newest comes first. The index
//! entry says all about a change but its value, so counting, comparing revisions, listing keys and superseding a key never
//! touch a value. Escaping keeps the order of keys and makes none a prefix of another: a zero byte becomes `00 FF`, and
//! `00 00` ends the key.
//!
//! Left out: a table of only the newest versions. It would save a range the step over old versions, at the price of a
//! third write for every change.

use std::fmt::Write as _;

use bytes::{Buf, Bytes};
use prost::encoding::{decode_varint, encode_varint};
use quorate_engine::Table;

use crate::{Applied, Error};

pub(crate) const META: Table = Table("meta");
pub(crate) const REV: Table = Table("rev");
pub(crate) const IDX: Table = Table("idx");
pub(crate) const LEASE: Table = Table("lease");
pub(crate) const LEASE_KEY: Table = Table("lease_key");
pub(crate) const ALARM: Table = Table("alarm");
pub(crate) const MEMBER: Table = Table("member");

/// Every table of the key space, as a snapshot must carry them.
pub const TABLES: [Table; 7] = [META, REV, IDX, LEASE, LEASE_KEY, ALARM, MEMBER];

/// The schema that is written.
pub(crate) const SCHEMA_VERSION: u64 = 1;
pub(crate) const SCHEMA_KEY: &[u8] = b"schema";
pub(crate) const STATE_KEY: &[u8] = b"state";

/// Ends the key of a deletion in `rev`; the same letter that etcd uses.
pub(crate) const TOMBSTONE_MARK: u8 = b't';
const TOMBSTONE_FLAG: u8 = 1;
/// How much of a key an error shows.
const KEY_SHOWN_BYTES_MAX: usize = 64;

/// Where a change stands in history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rev {
    /// The main revision: one for each transaction that changes something.
    pub main: i64,
    /// Counts the changes inside it, from 0.
    pub sub: u32,
}

/// What the index says about one change of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub rev: Rev,
    pub create_revision: i64,
    pub version: i64,
    pub lease: i64,
    pub tombstone: bool,
}

/// The replicated counters, and this member's purge cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State {
    pub applied: Applied,
    pub revision: i64,
    pub compact_revision: i64,
    /// The compaction that is being purged, or was last.
    pub purge_target: i64,
    /// The first change that the purge has not looked at.
    pub purge_next: Rev,
}

impl Default for State {
    /// An empty store: revision 1, nothing compacted (etcd point 1).
    fn default() -> Self {
        Self {
            applied: Applied::default(),
            revision: 1,
            compact_revision: -1,
            purge_target: 0,
            purge_next: Rev::default(),
        }
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct StateRecord {
    #[prost(uint64, tag = "1")]
    applied_index: u64,
    #[prost(uint64, tag = "2")]
    applied_term: u64,
    #[prost(int64, tag = "3")]
    revision: i64,
    #[prost(int64, tag = "4")]
    compact_revision: i64,
    #[prost(int64, tag = "5")]
    purge_target: i64,
    #[prost(int64, tag = "6")]
    purge_main: i64,
    #[prost(uint32, tag = "7")]
    purge_sub: u32,
}

impl State {
    pub(crate) fn encode(&self) -> Bytes {
        let record = StateRecord {
            applied_index: self.applied.index,
            applied_term: self.applied.term,
            revision: self.revision,
            compact_revision: self.compact_revision,
            purge_target: self.purge_target,
            purge_main: self.purge_next.main,
            purge_sub: self.purge_next.sub,
        };
        prost::Message::encode_to_vec(&record).into()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let record: StateRecord =
            prost::Message::decode(bytes).map_err(|_| malformed(META, "state", STATE_KEY))?;
        Ok(Self {
            applied: Applied { index: record.applied_index, term: record.applied_term },
            revision: record.revision,
            compact_revision: record.compact_revision,
            purge_target: record.purge_target,
            purge_next: Rev { main: record.purge_main, sub: record.purge_sub },
        })
    }
}

impl Stamp {
    /// What a key that never was is taken for: deleted before the first revision. Compares as 0 in everything.
    pub(crate) const ABSENT: Self = Self {
        rev: Rev { main: 0, sub: 0 },
        create_revision: 0,
        version: 0,
        lease: 0,
        tombstone: true,
    };

    /// A deletion at `rev`.
    pub(crate) const fn deletion(rev: Rev) -> Self {
        Self { rev, ..Self::ABSENT }
    }

    /// The value of an `idx` entry.
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(16);
        out.push(if self.tombstone { TOMBSTONE_FLAG } else { 0 });
        encode_varint(u64::from(self.rev.sub), &mut out);
        if !self.tombstone {
            for field in [self.create_revision, self.version, self.lease] {
                encode_varint(field.cast_unsigned(), &mut out);
            }
        }
        out.into()
    }

    /// Reads the value of an `idx` entry whose key says `main`.
    pub(crate) fn decode(main: i64, mut value: &[u8]) -> Option<Self> {
        let tombstone = is_tombstone(value);
        value = value.get(1..)?;
        let sub = u32::try_from(decode_varint(&mut value).ok()?).ok()?;
        let mut field = || -> Option<i64> {
            if tombstone { Some(0) } else { Some(decode_varint(&mut value).ok()?.cast_signed()) }
        };
        let (create_revision, version, lease) = (field()?, field()?, field()?);
        Some(Self { rev: Rev { main, sub }, create_revision, version, lease, tombstone })
    }

    /// Its key in `rev`.
    pub(crate) fn rev_key(&self) -> Vec<u8> {
        rev_key(self.rev, self.tombstone)
    }
}

/// Whether the value of an `idx` entry speaks of a deletion.
pub(crate) fn is_tombstone(value: &[u8]) -> bool {
    value.first().is_some_and(|flags| flags & TOMBSTONE_FLAG != 0)
}

/// A key of `rev`. Without the mark it is also the lower bound of that revision.
pub(crate) fn rev_key(rev: Rev, tombstone: bool) -> Vec<u8> {
    let mut key = Vec::with_capacity(13);
    key.extend_from_slice(&rev.main.to_be_bytes());
    key.extend_from_slice(&rev.sub.to_be_bytes());
    if tombstone {
        key.push(TOMBSTONE_MARK);
    }
    key
}

/// Takes a key of `rev` apart: where, and whether it is a deletion.
pub(crate) fn parse_rev_key(key: &[u8]) -> Result<(Rev, bool), Error> {
    let parse = |mut key: &[u8]| {
        let main = key.try_get_i64().ok()?;
        let sub = key.try_get_u32().ok()?;
        match key {
            [] => Some((Rev { main, sub }, false)),
            [TOMBSTONE_MARK] => Some((Rev { main, sub }, true)),
            _ => None,
        }
    };
    parse(key).ok_or_else(|| malformed(REV, "key", key))
}

/// The part of an `idx` key that all versions of `key` share.
pub(crate) fn index_prefix(key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(key.len() + 10);
    for &byte in key {
        out.push(byte);
        if byte == 0 {
            out.push(0xff);
        }
    }
    out.extend_from_slice(&[0, 0]);
    out
}

/// The `idx` key of the version behind `prefix` that was made at `main`, and the seek position for the newest version
/// at `main`.
pub(crate) fn index_key(mut prefix: Vec<u8>, main: i64) -> Vec<u8> {
    prefix.extend_from_slice(&(!main.cast_unsigned()).to_be_bytes());
    prefix
}

/// The smallest byte string behind all versions of `prefix`.
pub(crate) fn behind(mut prefix: Vec<u8>) -> Vec<u8> {
    if let Some(last) = prefix.last_mut() {
        *last = 1;
    }
    prefix
}

/// Takes an `idx` key apart into prefix and main revision.
pub(crate) fn parse_index_key(key: &[u8]) -> Result<(&[u8], i64), Error> {
    let (prefix, main) = key.split_last_chunk::<8>().ok_or_else(|| malformed(IDX, "key", key))?;
    Ok((prefix, (!u64::from_be_bytes(*main)).cast_signed()))
}

/// The user key behind an `idx` prefix.
pub(crate) fn user_key(prefix: &[u8]) -> Result<Bytes, Error> {
    let escaped = prefix.strip_suffix(&[0, 0]).ok_or_else(|| malformed(IDX, "key end", prefix))?;
    if !escaped.contains(&0) {
        return Ok(Bytes::copy_from_slice(escaped));
    }
    let mut out = Vec::with_capacity(escaped.len());
    let mut bytes = escaped.iter();
    while let Some(&byte) = bytes.next() {
        if byte == 0 && bytes.next() != Some(&0xff) {
            return Err(malformed(IDX, "escape", prefix));
        }
        out.push(byte);
    }
    Ok(out.into())
}

/// The key of a lease: signed order.
pub(crate) fn lease_key(id: i64) -> [u8; 8] {
    (id.cast_unsigned() ^ (1 << 63)).to_be_bytes()
}

/// The id in a key that begins with [`lease_key`], and what follows it.
pub(crate) fn parse_lease_key(key: &[u8]) -> Result<(i64, &[u8]), Error> {
    let (id, rest) = key.split_first_chunk::<8>().ok_or_else(|| malformed(LEASE, "key", key))?;
    Ok(((u64::from_be_bytes(*id) ^ (1 << 63)).cast_signed(), rest))
}

/// The `lease_key` entry that attaches `key` to a lease.
pub(crate) fn attachment_key(lease: i64, key: &[u8]) -> Bytes {
    [&lease_key(lease)[..], key].concat().into()
}

pub(crate) fn malformed(table: Table, what: &'static str, key: &[u8]) -> Error {
    let mut shown = String::new();
    for byte in key.iter().take(KEY_SHOWN_BYTES_MAX) {
        // Writing to a string does not fail.
        let _ = write!(shown, "{byte:02x}");
    }
    Error::Malformed { table: table.0, what, key: shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_keys_order_as_user_keys_then_newest_first() {
        let keys: [&[u8]; 6] = [b"\0", b"\0\0", b"a", b"a\0", b"a\0\x01", b"a\x01"];
        let entries: Vec<Vec<u8>> = keys
            .iter()
            .flat_map(|key| [9, 1].map(|main| index_key(index_prefix(key), main)))
            .collect();
        assert!(entries.is_sorted());
        for (entry, key) in entries.iter().step_by(2).zip(keys) {
            let (prefix, main) = parse_index_key(entry).unwrap();
            assert_eq!((user_key(prefix).unwrap(), main), (Bytes::from_static(key), 9));
            assert!(behind(prefix.to_vec()) > *entry);
        }
        assert!(behind(index_prefix(b"a")) < index_prefix(b"a\0"));
    }

    #[test]
    fn stamps_and_states_survive_their_encoding() {
        let rev = Rev { main: 7, sub: 300 };
        let put = Stamp { rev, create_revision: 5, version: 2, lease: -3, tombstone: false };
        let tombstone = Stamp { rev, create_revision: 0, version: 0, lease: 0, tombstone: true };
        for stamp in [put, tombstone] {
            assert_eq!(Stamp::decode(7, &stamp.encode()), Some(stamp));
            let parsed = parse_rev_key(&stamp.rev_key()).unwrap();
            assert_eq!(parsed, (rev, stamp.tombstone));
        }
        assert_eq!(Stamp::decode(7, &[0, 0x80]), None);
        let state = State { purge_next: rev, ..State::default() };
        assert_eq!(State::decode(&state.encode()).unwrap(), state);
    }

    #[test]
    fn lease_keys_order_as_signed_numbers() {
        let ids = [i64::MIN, -1, 0, 1, i64::MAX];
        assert!(ids.map(lease_key).is_sorted());
        assert_eq!(parse_lease_key(&attachment_key(-5, b"k")).unwrap(), (-5, &b"k"[..]));
    }
}
