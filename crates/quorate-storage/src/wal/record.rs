//! What stands inside the records of a batch: encoding from the port's types, and a decoder that is total.

use std::collections::BTreeSet;

use quorate_node::Entry;
use quorate_raft::{
    EntryId, EntryKind, EntryMeta, HardState, Index, Membership, NodeId, SnapshotMeta, Term,
};

use super::format::{self, Fields, Flaw, Raw};

/// Hard state and entries of a group; the entries replace everything from the first on.
pub(super) const SAVE: u8 = 1;
/// A snapshot is the state now.
pub(super) const INSTALL: u8 = 2;
/// The log starts later.
pub(super) const COMPACTED: u8 = 3;
/// What a group is at the start of a segment, but for the entries.
pub(super) const STATE: u8 = 4;
/// Entries that stand further back as well, copied forward; they replace nothing.
pub(super) const REWRITTEN: u8 = 5;

/// The record holds a hard state.
const HAS_HARD_STATE: u8 = 1;
/// The hard state holds a vote.
const HAS_VOTE: u8 = 2;
/// The record holds the start of the log.
const HAS_BASE: u8 = 4;

/// Entries of one save are cut into records of about this size, so that reading a few of them stays cheap.
pub(super) const RECORD_BYTES_TARGET: usize = 256 * 1024;

const HARD_STATE_BYTES: usize = 24;
const ENTRY_BYTES: usize = 20;
const FIRST_BYTES: usize = 8;
const META_BYTES: usize = 32;
const MEMBER_BYTES: usize = 8;

/// A record of the log, decoded.
#[derive(Clone, Debug)]
pub(super) enum Decoded<'a> {
    Save { hard_state: Option<HardState>, entries: Entries<'a> },
    Install { hard_state: HardState, base: SnapshotMeta },
    Compacted { base: SnapshotMeta },
    State { hard_state: HardState, base: Option<SnapshotMeta>, next: Index },
    Rewritten { entries: Entries<'a> },
}

/// Entries as they stand in a record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entries<'a> {
    pub first: Index,
    pub count: u32,
    table: &'a [u8],
    payloads: &'a [u8],
}

impl<'a> Entries<'a> {
    fn decode(fields: &mut Fields<'a>, count: u32) -> Result<Self, Flaw> {
        let first = Index(fields.u64()?);
        first.0.checked_add(u64::from(count)).ok_or("entries end behind the last index")?;
        let table_bytes = (count as usize).checked_mul(ENTRY_BYTES).ok_or("too many entries")?;
        let table = fields.take(table_bytes)?;
        let entries = Self { first, count, table, payloads: fields.0 };
        let mut total = 0_usize;
        let mut rows = Fields(table);
        for _ in 0..count {
            total = total.saturating_add(Row::decode(&mut rows)?.payload_bytes);
        }
        fields.0 = &[];
        if total == entries.payloads.len() { Ok(entries) } else { Err("lengths of entries") }
    }

    /// The entries, in order.
    pub(super) fn iter(self) -> impl Iterator<Item = (EntryMeta, &'a [u8])> {
        let (mut table, mut payloads) = (Fields(self.table), Fields(self.payloads));
        std::iter::from_fn(move || {
            let row = Row::decode(&mut table).ok()?;
            Some((row.meta, payloads.take(row.payload_bytes).ok()?))
        })
    }
}

struct Row {
    meta: EntryMeta,
    payload_bytes: usize,
}

impl Row {
    fn decode(fields: &mut Fields<'_>) -> Result<Self, Flaw> {
        let (term, bytes) = (Term(fields.u64()?), fields.u32()?);
        let payload_bytes = fields.u32()? as usize;
        let kind = match fields.u32()? {
            0 => EntryKind::Normal,
            1 => EntryKind::Noop,
            2 => EntryKind::Membership,
            _ => return Err("unknown kind of entry"),
        };
        Ok(Self { meta: EntryMeta { term, kind, bytes }, payload_bytes })
    }
}

fn kind_number(kind: EntryKind) -> u32 {
    match kind {
        EntryKind::Normal => 0,
        EntryKind::Noop => 1,
        EntryKind::Membership => 2,
    }
}

/// What `raw` says.
pub(super) fn decode<'a>(raw: &Raw<'a>) -> Result<Decoded<'a>, Flaw> {
    let mut fields = Fields(raw.body);
    let decoded = match raw.kind {
        SAVE => {
            let hard_state = if raw.flags & HAS_HARD_STATE == 0 {
                None
            } else {
                Some(decode_hard_state(&mut fields, raw.flags)?)
            };
            Decoded::Save { hard_state, entries: Entries::decode(&mut fields, raw.count)? }
        }
        INSTALL => Decoded::Install {
            hard_state: decode_hard_state(&mut fields, raw.flags)?,
            base: decode_meta(&mut fields)?,
        },
        COMPACTED => Decoded::Compacted { base: decode_meta(&mut fields)? },
        STATE => Decoded::State {
            hard_state: decode_hard_state(&mut fields, raw.flags)?,
            next: Index(fields.u64()?),
            base: if raw.flags & HAS_BASE == 0 { None } else { Some(decode_meta(&mut fields)?) },
        },
        REWRITTEN => Decoded::Rewritten { entries: Entries::decode(&mut fields, raw.count)? },
        _ => return Err("unknown kind of record"),
    };
    if fields.0.is_empty() { Ok(decoded) } else { Err("record is longer than its content") }
}

fn decode_hard_state(fields: &mut Fields<'_>, flags: u8) -> Result<HardState, Flaw> {
    let (term, vote, commit) = (Term(fields.u64()?), NodeId(fields.u64()?), Index(fields.u64()?));
    Ok(HardState { term, vote: (flags & HAS_VOTE != 0).then_some(vote), commit })
}

fn encode_hard_state(hard_state: &HardState, buffer: &mut Vec<u8>) {
    let vote = hard_state.vote.map_or(0, |vote| vote.0);
    for field in [hard_state.term.0, vote, hard_state.commit.0] {
        buffer.extend_from_slice(&field.to_le_bytes());
    }
}

fn hard_state_flags(hard_state: &HardState) -> u8 {
    if hard_state.vote.is_some() { HAS_HARD_STATE | HAS_VOTE } else { HAS_HARD_STATE }
}

fn decode_meta(fields: &mut Fields<'_>) -> Result<SnapshotMeta, Flaw> {
    let (index, term) = (Index(fields.u64()?), Term(fields.u64()?));
    if index.0 == u64::MAX {
        return Err("log starts behind the last index");
    }
    let (voters, outgoing, learners) = (fields.u32()?, fields.u32()?, fields.u32()?);
    let _reserved = fields.u32()?;
    let membership = Membership {
        voters: decode_members(fields, voters)?,
        voters_outgoing: decode_members(fields, outgoing)?,
        learners: decode_members(fields, learners)?,
    };
    Ok(SnapshotMeta { last: EntryId { term, index }, membership })
}

fn decode_members(fields: &mut Fields<'_>, count: u32) -> Result<BTreeSet<NodeId>, Flaw> {
    (0..count).map(|_| fields.u64().map(NodeId)).collect()
}

fn encode_meta(meta: &SnapshotMeta, buffer: &mut Vec<u8>) {
    let Membership { voters, voters_outgoing, learners } = &meta.membership;
    buffer.extend_from_slice(&meta.last.index.0.to_le_bytes());
    buffer.extend_from_slice(&meta.last.term.0.to_le_bytes());
    for count in [voters.len(), voters_outgoing.len(), learners.len(), 0] {
        buffer.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
    }
    for node in voters.iter().chain(voters_outgoing).chain(learners) {
        buffer.extend_from_slice(&node.0.to_le_bytes());
    }
}

fn meta_bytes(meta: &SnapshotMeta) -> usize {
    let Membership { voters, voters_outgoing, learners } = &meta.membership;
    META_BYTES + MEMBER_BYTES * (voters.len() + voters_outgoing.len() + learners.len())
}

/// What a record that fails its check seems to be: for an error's text, not to be relied on.
pub(super) fn guess_name(bytes: &[u8]) -> String {
    let Ok(head) = Fields(bytes).array::<{ format::RECORD_HEADER_BYTES }>() else {
        return "the end of the file".to_owned();
    };
    let [_, _, _, _, _, _, _, _, kind, flags, _, _, count @ .., _, _, _, _, _, _, _, _] = head;
    let mut behind = Fields(bytes.get(12..).unwrap_or_default());
    let group = behind.u32().and_then(|_| behind.u64()).unwrap_or_default();
    let skipped = if kind == SAVE && flags & HAS_HARD_STATE != 0 { HARD_STATE_BYTES } else { 0 };
    let first = behind.take(skipped).and_then(|_| behind.u64()).unwrap_or_default();
    match kind {
        SAVE | REWRITTEN => {
            let count = u32::from_le_bytes(count);
            format!("a record of group {group} with {count} entries from {first} on")
        }
        INSTALL | COMPACTED | STATE => format!("a state of group {group}"),
        _ => "nothing readable".to_owned(),
    }
}

/// A record to be written. Its size is known before it is encoded.
#[derive(Clone, Copy, Debug)]
pub(super) enum Plain<'a> {
    Save { hard_state: Option<HardState>, first: Index, entries: &'a [Entry] },
    Install { hard_state: HardState, base: &'a SnapshotMeta },
    Compacted { base: &'a SnapshotMeta },
    State { hard_state: HardState, base: Option<&'a SnapshotMeta>, next: Index },
    Rewritten { first: Index, entries: &'a [Entry] },
}

impl Plain<'_> {
    /// Kind, flags and count, as the header of the record holds them.
    pub(super) fn head(&self) -> (u8, u8, u32) {
        let count = |entries: &[Entry]| u32::try_from(entries.len()).unwrap_or(u32::MAX);
        match self {
            Self::Save { hard_state, entries, .. } => {
                (SAVE, hard_state.as_ref().map_or(0, hard_state_flags), count(entries))
            }
            Self::Install { hard_state, .. } => (INSTALL, hard_state_flags(hard_state), 0),
            Self::Compacted { .. } => (COMPACTED, 0, 0),
            Self::State { hard_state, base, .. } => {
                let base = if base.is_some() { HAS_BASE } else { 0 };
                (STATE, hard_state_flags(hard_state) | base, 0)
            }
            Self::Rewritten { entries, .. } => (REWRITTEN, 0, count(entries)),
        }
    }

    pub(super) fn body_bytes(&self) -> usize {
        match self {
            Self::Save { hard_state, entries, .. } => {
                let hard_state = if hard_state.is_some() { HARD_STATE_BYTES } else { 0 };
                hard_state + FIRST_BYTES + entries_bytes(entries)
            }
            Self::Install { base, .. } => HARD_STATE_BYTES + meta_bytes(base),
            Self::Compacted { base } => meta_bytes(base),
            Self::State { base, .. } => HARD_STATE_BYTES + FIRST_BYTES + base.map_or(0, meta_bytes),
            Self::Rewritten { entries, .. } => FIRST_BYTES + entries_bytes(entries),
        }
    }

    pub(super) fn encode(&self, buffer: &mut Vec<u8>) {
        match self {
            Self::Save { hard_state, first, entries } => {
                if let Some(hard_state) = hard_state {
                    encode_hard_state(hard_state, buffer);
                }
                encode_entries(*first, entries, buffer);
            }
            Self::Install { hard_state, base } => {
                encode_hard_state(hard_state, buffer);
                encode_meta(base, buffer);
            }
            Self::Compacted { base } => encode_meta(base, buffer),
            Self::State { hard_state, base, next } => {
                encode_hard_state(hard_state, buffer);
                buffer.extend_from_slice(&next.0.to_le_bytes());
                if let Some(base) = base {
                    encode_meta(base, buffer);
                }
            }
            Self::Rewritten { first, entries } => encode_entries(*first, entries, buffer),
        }
    }
}

fn entry_bytes(entry: &Entry) -> usize {
    ENTRY_BYTES + entry.payload.len()
}

fn entries_bytes(entries: &[Entry]) -> usize {
    entries.iter().map(entry_bytes).sum()
}

fn encode_entries(first: Index, entries: &[Entry], buffer: &mut Vec<u8>) {
    buffer.extend_from_slice(&first.0.to_le_bytes());
    for Entry { meta, payload } in entries {
        buffer.extend_from_slice(&meta.term.0.to_le_bytes());
        buffer.extend_from_slice(&meta.bytes.to_le_bytes());
        buffer.extend_from_slice(&u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes());
        buffer.extend_from_slice(&kind_number(meta.kind).to_le_bytes());
    }
    for entry in entries {
        buffer.extend_from_slice(&entry.payload);
    }
}

/// Splits `entries` behind the last one that still fits into a record of the target size, but not before the first.
pub(super) fn split_record(entries: &[Entry]) -> (&[Entry], &[Entry]) {
    let mut bytes = 0_usize;
    let fits = |entry: &&Entry| {
        bytes += entry_bytes(entry);
        bytes <= RECORD_BYTES_TARGET
    };
    let count = entries.iter().take_while(fits).count().max(1).min(entries.len());
    entries.split_at_checked(count).unwrap_or((entries, &[]))
}
